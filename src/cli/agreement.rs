//! Both parsers say the same: the property test between `fast` and `full`.

use std::ffi::OsString;

use proptest::prelude::*;

use super::args::{Command, Invocation};
use super::leading::leading;
use super::{fast, full};

fn by_clap(words: &[OsString]) -> Option<Invocation> {
    match full::parse(words, &leading(words)) {
        full::Parsed::Run(invocation) => Some(*invocation),
        full::Parsed::Print(_) | full::Parsed::Wrong(_) => None,
    }
}

fn words(line: &[String]) -> Vec<OsString> {
    line.iter().map(OsString::from).collect()
}

const FLAGS: [&str; 15] = [
    "debug",
    "systemd-cgroup",
    "no-pivot",
    "no-new-keyring",
    "detach",
    "keep",
    "no-subreaper",
    "all",
    "regex",
    "force",
    "tty",
    "no-new-privs",
    "ignore-paused",
    "version",
    "help",
];

const VALUED: [&str; 23] = [
    "timings",
    "root",
    "log",
    "log-format",
    "log-level",
    "cgroup-manager",
    "rootless",
    "bundle",
    "config",
    "console-socket",
    "pidfd-socket",
    "pid-file",
    "preserve-fds",
    "process",
    "cwd",
    "env",
    "user",
    "additional-gids",
    "process-label",
    "apparmor",
    "cap",
    "cgroup",
    "interval",
];

const VALUES: [&str; 24] = [
    "x",
    "/a/b",
    "-x",
    "--",
    "-",
    "",
    "json",
    "text",
    "true",
    "false",
    "1",
    "0",
    "3",
    "auto",
    "systemd",
    "debug",
    "warn",
    "A=b=c",
    "1000:5",
    "-1",
    "TERM",
    "sigrtmin+2",
    "journald:x",
    "run",
];

const VERBS: [&str; 12] =
    ["create", "start", "run", "state", "kill", "delete", "exec", "list", "help", "update", "nonsense", "ps"];

/// One or two words: anything that might stand on a command line.
fn piece() -> impl Strategy<Value = Vec<String>> {
    let flag = prop::sample::select(&FLAGS[..]);
    let valued = || prop::sample::select(&VALUED[..]);
    let value = || prop::sample::select(&VALUES[..]);
    let letter = || prop::sample::select(&['b', 'f', 'd', 'a', 'r', 't', 'e', 'u', 'g', 'c', 'p', 'v', 'h', 'x'][..]);
    prop_oneof![
        4 => value().prop_map(|v| vec![v.to_string()]),
        3 => prop::sample::select(&VERBS[..]).prop_map(|v| vec![v.to_string()]),
        3 => flag.clone().prop_map(|f| vec![format!("--{f}")]),
        1 => (flag, value()).prop_map(|(f, v)| vec![format!("--{f}={v}")]),
        4 => (valued(), value()).prop_map(|(o, v)| vec![format!("--{o}"), v.to_string()]),
        2 => (valued(), value()).prop_map(|(o, v)| vec![format!("--{o}={v}")]),
        2 => (letter(), letter()).prop_map(|(a, b)| vec![format!("-{a}{b}")]),
        1 => (letter(), value()).prop_map(|(a, v)| vec![format!("-{a}={v}")]),
        2 => (letter(), value()).prop_map(|(a, v)| vec![format!("-{a}"), v.to_string()]),
        1 => letter().prop_map(|a| vec![format!("--{a}")]),
        1 => (letter(), value()).prop_map(|(a, v)| vec![format!("--{a}={v}")]),
        1 => Just(vec!["-no-subreaper".to_string()]),
    ]
}

/// A verb that both parsers know, with options it has, correctly written.
fn good_line() -> impl Strategy<Value = Vec<String>> {
    let global = prop::collection::vec(
        prop::sample::select(
            &[
                "--root /r",
                "--root=-r",
                "--log /l",
                "--log=syslog:x",
                "--log-format json",
                "--log-format=text",
                "--debug",
                "--debug=false",
                "--log-level info",
                "--log-level=warn",
                "--systemd-cgroup",
                "--cgroup-manager disabled",
                "--rootless=true",
                "--rootless auto",
            ][..],
        ),
        0..4,
    );
    let of = |verb: &'static str, ids: &'static str, options: &'static [&'static str]| {
        (
            Just(verb),
            Just(ids),
            prop::collection::vec(prop::sample::select(options), 0..5),
            any::<prop::sample::Index>(),
        )
    };
    const CREATE: &[&str] = &[
        "--bundle /b",
        "-b /b",
        "-b=/b",
        "-b/b",
        "--config=/c",
        "-f /c",
        "--console-socket /s",
        "--pidfd-socket=/s",
        "--pid-file -p",
        "--no-pivot",
        "--no-new-keyring=true",
        "--preserve-fds 4",
    ];
    const RUN: &[&str] =
        &["--bundle=/b", "-d", "-df /c", "--detach=0", "--keep", "--no-subreaper", "--pid-file=/p", "--preserve-fds=0"];
    const EXEC: &[&str] = &[
        "-t",
        "-dt",
        "-te A=b",
        "--env=C=d",
        "--cwd /x",
        "--user 0:0",
        "-u1",
        "-g 5",
        "--additional-gids=6",
        "--process /p",
        "-p/p",
        "--process-label=l",
        "--apparmor a",
        "--no-new-privs",
        "-c CAP_KILL",
        "--cap=X",
        "--preserve-fds 1",
        "--cgroup /sub",
        "--ignore-paused",
        "--pid-file /p",
        "--detach",
    ];
    let verb = prop_oneof![
        of("create", "ID", CREATE),
        of("run", "ID", RUN),
        of("kill", "ID", &["--all", "-a", "-r", "--regex=false"]),
        of("kill", "ID KILL", &["--all", "-ar", "--regex=true"]),
        of("delete", "ID", &["--force", "-f", "-fr", "--regex"]),
        of("start", "ID", &[""]),
        of("state", "ID", &[""]),
        of("exec", "ID sh -c -x --env -- -t", EXEC),
        of("exec", "ID", EXEC),
    ];
    (global, verb).prop_map(|(global, (verb, ids, options, place))| {
        let mut rest: Vec<&str> = options;
        // A command ends the options, so exec's id and command stand last.
        let place = if verb == "exec" { rest.len() } else { place.index(rest.len() + 1) };
        rest.insert(place, ids);
        let line = [global.join(" "), verb.to_string(), rest.join(" ")].join(" ");
        line.split_whitespace().map(str::to_owned).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_the_fast_parser_reads_clap_reads_alike(line in prop::collection::vec(piece(), 0..7)) {
        let words = words(&line.concat());
        if let Some(invocation) = fast::parse(&words) {
            prop_assert_eq!(Some(invocation), by_clap(&words));
        }
    }

    #[test]
    fn lines_with_a_hot_verb_are_read_alike(
        before in prop::collection::vec(piece(), 0..2),
        verb in prop::sample::select(&VERBS[..7]),
        after in prop::collection::vec(piece(), 0..5),
    ) {
        let words = words(&[before.concat(), vec![verb.to_string()], after.concat()].concat());
        if let Some(invocation) = fast::parse(&words) {
            prop_assert_eq!(Some(invocation), by_clap(&words));
        }
    }

    #[test]
    fn good_lines_take_the_fast_way_and_are_read_alike(line in good_line()) {
        let words = words(&line);
        let fast = fast::parse(&words);
        prop_assert!(fast.is_some(), "given up: {:?}", line);
        prop_assert_eq!(fast, by_clap(&words));
    }
}

#[test]
fn wrong_lines_are_wrong_to_both() {
    for line in
        ["", "create", "create A B", "kill ID 99", "exec", "delete --force=x A", "-- create A", "start --debug A"]
    {
        let words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        assert_eq!(fast::parse(&words), None, "{line}");
        assert_eq!(by_clap(&words), None, "{line}");
    }
}

#[test]
fn version_takes_the_fast_way() {
    let words = [OsString::from("--version")];
    assert!(matches!(fast::parse(&words), Some(Invocation { command: Command::Version, .. })));
}
