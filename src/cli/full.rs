//! The whole command line, by clap: every verb, help, completions and manual pages.
//!
//! clap's start grows with what it is told, so only the verb that is asked for is
//! described in full; help and the pages describe them all.

use std::ffi::OsString;

use clap::builder::ArgAction;
use clap::error::ErrorKind;
use clap::{Arg, ArgMatches, Args, FromArgMatches};

use super::args::{self, Command, Global, Invocation};
use super::leading::Leading;
use super::seccomp::args::Seccomp;
use super::value;

/// What came of a command line.
#[derive(Debug, PartialEq)]
pub enum Parsed {
    Run(Box<Invocation>),
    /// Help was asked for: text for stdout.
    Print(String),
    /// The line is wrong: one line that says how.
    Wrong(String),
}

/// A verb as clap knows it.
struct Verb {
    name: &'static str,
    about: &'static str,
    /// Not in the list that help shows.
    hidden: bool,
    describe: fn(clap::Command) -> clap::Command,
    read: fn(&ArgMatches) -> Result<Command, clap::Error>,
}

const fn verb<T: Args>(
    name: &'static str,
    about: &'static str,
    read: fn(&ArgMatches) -> Result<Command, clap::Error>,
) -> Verb {
    Verb { name, about, hidden: false, describe: T::augment_args, read }
}

const VERBS: [Verb; 21] = [
    verb::<args::Create>("create", "Make a container from a bundle; `start` lets its program run", |m| {
        args::Create::from_arg_matches(m).map(Command::Create)
    }),
    verb::<args::One>("start", "Let a created container's program run", |m| {
        args::One::from_arg_matches(m).map(Command::Start)
    }),
    verb::<args::Run>("run", "Make a container, run its program, and delete it when it has ended", |m| {
        args::Run::from_arg_matches(m).map(Command::Run)
    }),
    verb::<args::One>("state", "Print a container's state as JSON", |m| {
        args::One::from_arg_matches(m).map(Command::State)
    }),
    verb::<args::Kill>("kill", "Send a signal to a container", |m| args::Kill::from_arg_matches(m).map(Command::Kill)),
    verb::<args::Delete>("delete", "Remove what a stopped container holds", |m| {
        args::Delete::from_arg_matches(m).map(Command::Delete)
    }),
    verb::<args::List>("list", "List the containers under --root", |m| {
        args::List::from_arg_matches(m).map(Command::List)
    }),
    verb::<args::Ps>("ps", "List a container's processes", |m| args::Ps::from_arg_matches(m).map(Command::Ps)),
    verb::<args::Exec>("exec", "Run another program in a container", |m| {
        args::Exec::from_arg_matches(m).map(|exec| Command::Exec(Box::new(exec)))
    }),
    verb::<args::One>("pause", "Freeze a container's processes", |m| {
        args::One::from_arg_matches(m).map(Command::Pause)
    }),
    verb::<args::One>("resume", "Let a paused container's processes go on", |m| {
        args::One::from_arg_matches(m).map(Command::Resume)
    }),
    verb::<args::Update>("update", "Change a container's resource limits", |m| {
        args::Update::from_arg_matches(m).map(|update| Command::Update(Box::new(update)))
    }),
    verb::<args::Events>("events", "Print a container's resource use and out-of-memory events", |m| {
        args::Events::from_arg_matches(m).map(Command::Events)
    }),
    verb::<Seccomp>("seccomp", "Look into seccomp profiles", |m| {
        Seccomp::from_arg_matches(m).map(|seccomp| Command::Seccomp(Box::new(seccomp)))
    }),
    verb::<args::Spec>("spec", "Write a config.json to start from", |m| {
        args::Spec::from_arg_matches(m).map(Command::Spec)
    }),
    verb::<args::NoArgs>("features", "Print what this runtime supports, as JSON", |m| {
        args::NoArgs::from_arg_matches(m).map(Command::Features)
    }),
    verb::<args::Plan>("plan", "Print the steps that `create` would take, and take none", |m| {
        args::Plan::from_arg_matches(m).map(Command::Plan)
    }),
    verb::<args::Doctor>("doctor", "Print what this host offers and lacks, what that costs, and what mends it", |m| {
        args::Doctor::from_arg_matches(m).map(Command::Doctor)
    }),
    verb::<args::MountNamespace>(
        "mountns",
        "Keep an empty mount namespace, which containers are made from instead of from all mounts of the host",
        |m| args::MountNamespace::from_arg_matches(m).map(Command::MountNamespace),
    ),
    Verb {
        hidden: true,
        ..verb::<args::Completion>("completion", "Write completions for a shell to stdout", |m| {
            args::Completion::from_arg_matches(m).map(Command::Completion)
        })
    },
    Verb {
        hidden: true,
        ..verb::<args::Man>("man", "Write the manual pages into a directory", |m| {
            args::Man::from_arg_matches(m).map(Command::Man)
        })
    },
];

/// Verbs of the peers that are not here, and what that means to whoever asks for one.
const ABSENT: [(&str, &str); 3] = [
    ("checkpoint", "this version saves no containers"),
    ("restore", "this version restores no containers"),
    ("mounts", "this version changes no mounts of a container that runs"),
];

/// Every verb in full, as help, completions and manual pages show them.
pub fn describe() -> clap::Command {
    VERBS.iter().fold(root(), |root, verb| root.subcommand(in_full(verb)))
}

/// A verb with its options, under its own description rather than that of their struct.
fn in_full(verb: &Verb) -> clap::Command {
    (verb.describe)(stub(verb)).about(verb.about).long_about(None)
}

fn root() -> clap::Command {
    let root = clap::Command::new("xebec")
        .subcommand_required(true)
        .disable_version_flag(true)
        .args_override_self(true)
        .arg(Arg::new("version").short('v').long("version").action(ArgAction::SetTrue).help("Print the version"));
    Global::augment_args(root).long_about(None).about("xebec runs containers by the OCI runtime specification")
}

fn stub(verb: &Verb) -> clap::Command {
    clap::Command::new(verb.name).about(verb.about).hide(verb.hidden).args_override_self(true)
}

/// The words after the program's name, understood.
#[inline(never)]
pub fn parse(words: &[OsString], leading: &Leading) -> Parsed {
    let asked = leading.verb.and_then(|at| words[at].to_str());
    // `checkpoint --help` too: podman takes a success for support.
    if let Some((verb, why)) = ABSENT.iter().find(|(verb, _)| Some(*verb) == asked) {
        return Parsed::Wrong(format!("{verb}: not there yet: {why}; {}", see(None)));
    }
    let mut tree = VERBS
        .iter()
        .fold(root(), |root, verb| root.subcommand(if Some(verb.name) == asked { in_full(verb) } else { stub(verb) }));
    tree = as_go(tree).subcommand_required(false).no_binary_name(true);
    match tree.try_get_matches_from(one_dash(words, leading)) {
        Ok(matches) => read(&matches, words),
        Err(error) if error.kind() == ErrorKind::DisplayHelp => Parsed::Print(help(asked, words)),
        Err(error) => Parsed::Wrong(one_line(&error, asked)),
    }
}

fn read(matches: &ArgMatches, words: &[OsString]) -> Parsed {
    let invocation = Global::from_arg_matches(matches).and_then(|global| {
        if matches.get_flag("version") {
            return Ok(Some(Invocation { global, command: Command::Version }));
        }
        let Some((name, matches)) = matches.subcommand() else { return Ok(None) };
        let Some(verb) = VERBS.iter().find(|verb| verb.name == name) else { return Ok(None) };
        Ok(Some(Invocation { global, command: (verb.read)(matches)? }))
    });
    match invocation {
        Ok(Some(invocation)) => Parsed::Run(Box::new(invocation)),
        Ok(None) if words.is_empty() => Parsed::Wrong(format!("no verb given; {}", see(None))),
        Ok(None) => Parsed::Wrong(format!("no verb among the arguments; {}", see(None))),
        Err(error) => Parsed::Wrong(one_line(&error, None)),
    }
}

/// Reads flags as Go's flag package does, which callers are written for: `--flag=false`
/// is a flag too, and an option's value may begin with a dash.
fn as_go(command: clap::Command) -> clap::Command {
    let command = command.mut_args(|arg| match arg.get_action() {
        ArgAction::SetTrue => arg
            .action(ArgAction::Set)
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .default_value("false")
            .value_parser(value::boolean),
        ArgAction::Set | ArgAction::Append if !arg.is_positional() => arg.allow_hyphen_values(true),
        _ => arg,
    });
    command.mut_subcommands(|verb| as_go(verb.args_override_self(true).arg_required_else_help(false)))
}

/// go-runc says `-no-subreaper`, with one dash.
fn one_dash(words: &[OsString], leading: &Leading) -> Vec<OsString> {
    let is_run = leading.verb.is_some_and(|at| words[at] == "run");
    let double = |word: &OsString| match word.to_str() {
        Some(text) if is_run && (text == "-no-subreaper" || text.starts_with("-no-subreaper=")) => {
            OsString::from(format!("-{text}"))
        }
        _ => word.clone(),
    };
    words.iter().map(double).collect()
}

/// Help from the plain tree, whose flags are not bent for Go's callers.
fn help(asked: Option<&str>, words: &[OsString]) -> String {
    let topic = match asked {
        // `help VERB`: the word after it.
        Some("help") => words.iter().rev().find_map(|word| word.to_str()).filter(|word| *word != "help"),
        other => other,
    };
    let mut tree = describe();
    tree.build();
    let Some(verb) = topic.and_then(|name| tree.find_subcommand_mut(name)) else {
        return tree.render_help().to_string();
    };
    // `seccomp show --help`: the verb below the verb.
    let is_below = |word: &&str| *word != "help" && verb.find_subcommand(word).is_some();
    let below = words.iter().filter_map(|word| word.to_str()).find(is_below);
    match below.and_then(|name| verb.find_subcommand_mut(name)) {
        Some(below) => below.render_help().to_string(),
        None => verb.render_help().to_string(),
    }
}

/// clap's message, without its usage and tips, as one line.
fn one_line(error: &clap::Error, asked: Option<&str>) -> String {
    let text = error.to_string();
    let first = text.split("\n\n").next().unwrap_or(&text);
    let first = first.strip_prefix("error: ").unwrap_or(first);
    let words: Vec<&str> = first.split_whitespace().collect();
    format!("{}; {}", words.join(" "), see(asked))
}

fn see(asked: Option<&str>) -> String {
    match asked.filter(|asked| VERBS.iter().any(|verb| verb.name == *asked)) {
        Some(verb) => format!("see `xebec {verb} --help`"),
        None => "see `xebec --help`".to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::leading::leading;

    pub fn parsed(line: &str) -> Parsed {
        let words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        parse(&words, &leading(&words))
    }

    fn command(line: &str) -> Command {
        match parsed(line) {
            Parsed::Run(invocation) => invocation.command,
            other => panic!("{line}: {other:?}"),
        }
    }

    fn wrong(line: &str) -> String {
        match parsed(line) {
            Parsed::Wrong(message) => message,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn clap_finds_no_fault_with_the_tree() {
        describe().debug_assert();
    }

    #[test]
    fn every_line_that_engines_write_is_understood() {
        for line in [
            "--root /r --log /b/log.json --log-format json create --bundle /b --pid-file /b/init.pid ID",
            "--root /r --log /b/log.json --log-format=json create --bundle /b --console-socket /s --no-pivot --no-new-keyring --preserve-fds 2 ID",
            "--debug --systemd-cgroup --rootless=true start ID",
            "exec --process /tmp/p --console-socket /s --detach --pid-file /b/e.pid ID",
            "kill ID 15",
            "kill --all ID 9",
            "pause ID",
            "resume ID",
            "ps --format json ID",
            "update --resources=- ID",
            "update --resources - ID",
            "delete --force ID",
            "features",
            "list --format=json",
            "events --stats ID",
            "events --interval=5s ID",
            "run -no-subreaper --bundle /b ID",
            "create ID --bundle /b",
            "state ID",
            "--version",
            "update --pids-limit -1 --cpu-quota -1 --memory-swap=-1 ID",
        ] {
            assert!(matches!(parsed(line), Parsed::Run(_)), "{line}: {:?}", parsed(line));
        }
    }

    #[test]
    fn exec_takes_its_command_as_it_stands() {
        let Command::Exec(exec) = command("exec -t --env A=-b ID sh -c -t -- --env") else { panic!("not exec") };
        assert!(exec.tty);
        assert_eq!(exec.env, ["A=-b"]);
        assert_eq!(exec.command, ["sh", "-c", "-t", "--", "--env"]);
        let Command::Exec(exec) = command("exec ID -- -x") else { panic!("not exec") };
        assert_eq!(exec.command, ["-x"]);
    }

    #[test]
    fn ps_passes_its_options_on() {
        let Command::Ps(ps) = command("ps --format table ID -o pid,comm -e") else { panic!("not ps") };
        assert_eq!(ps.options, ["-o", "pid,comm", "-e"]);
    }

    #[test]
    fn booleans_may_be_given_as_go_writes_them_and_the_last_one_counts() {
        let Command::Run(run) = command("run --detach=false -d=true --keep=1 --no-subreaper=F ID") else {
            panic!("not run")
        };
        assert!(run.detach && run.keep && !run.no_subreaper);
        assert!(wrong("run --detach=maybe ID").contains("maybe"));
    }

    #[test]
    fn a_wrong_line_gives_one_line_that_says_what_and_where_to_look() {
        assert_eq!(
            wrong("create"),
            "the following required arguments were not provided: <ID>; see `xebec create --help`"
        );
        assert_eq!(wrong("create --bogus ID"), "unexpected argument '--bogus' found; see `xebec create --help`");
        assert_eq!(wrong(""), "no verb given; see `xebec --help`");
        assert_eq!(
            wrong("restore --bundle B ID"),
            "restore: not there yet: this version restores no containers; see `xebec --help`"
        );
        for line in
            ["checkpoint --help", "frobnicate", "kill ID NOSUCH", "create A B", "--rootless maybe list", "state"]
        {
            assert_eq!(wrong(line).lines().count(), 1, "{line}");
        }
    }

    #[test]
    fn help_is_printed_for_the_program_and_for_each_verb() {
        let help = |line: &str| match parsed(line) {
            Parsed::Print(text) => text,
            other => panic!("{line}: {other:?}"),
        };
        assert!(help("--help").contains("create"));
        for verb in &VERBS {
            let text = help(&format!("{} --help", verb.name));
            assert!(text.contains(verb.about), "{}: {text}", verb.name);
            assert_eq!(text, help(&format!("help {}", verb.name)));
            assert!(!text.contains("=<"), "flags are shown plainly: {text}");
        }
    }
}
