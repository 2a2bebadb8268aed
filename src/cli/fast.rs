//! The hot verbs' command lines, read without describing a whole program first.
//!
//! Gives up (`None`) on whatever it does not know: clap then reads the line from its
//! beginning, and it is clap that finds fault. What is read here clap reads alike; a
//! property test holds both to that.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::ValueEnum;
use lexopt::{Arg, Parser};

use super::args::{Command, Create, Delete, Exec, Global, Invocation, Kill, One, Run};
use super::value;

/// The words after the program's name, when they are a hot verb with known options.
pub fn parse(words: &[OsString]) -> Option<Invocation> {
    let mut parser = Parser::from_args(words);
    let mut global = Global::default();
    let verb = loop {
        // clap takes no verb after `--`.
        if parser.try_raw_args()?.peek() == Some(OsStr::new("--")) {
            return None;
        }
        match next(&mut parser)?? {
            Word::Value(verb) => break verb,
            Word::Option(name) if name == "version" || name == "v" => return version(global, &mut parser),
            Word::Option(name) => global_option(&mut global, &name, &mut parser)?,
        }
    };
    let command = match verb.to_str()? {
        "create" => Command::Create(read_run(&mut parser, false)?.create),
        "run" => Command::Run(read_run(&mut parser, true)?),
        "start" => Command::Start(read_one(&mut parser)?),
        "state" => Command::State(read_one(&mut parser)?),
        "kill" => Command::Kill(read_kill(&mut parser)?),
        "delete" => Command::Delete(read_delete(&mut parser)?),
        "exec" => Command::Exec(Box::new(read_exec(&mut parser)?)),
        _ => return None,
    };
    Some(Invocation { global, command })
}

/// One step of the line. An option's name is owned, so that the parser is free to give its
/// value; a short option's name is one letter.
enum Word {
    Option(String),
    Value(OsString),
}

fn next(parser: &mut Parser) -> Option<Option<Word>> {
    Some(match parser.next().ok()? {
        None => None,
        Some(Arg::Short(letter)) => Some(Word::Option(letter.to_string())),
        // `--b` is not `-b`.
        Some(Arg::Long(name)) if name.chars().count() < 2 => return None,
        Some(Arg::Long(name)) => Some(Word::Option(name.to_owned())),
        Some(Arg::Value(value)) if value.is_empty() => return None,
        Some(Arg::Value(value)) => Some(Word::Value(value)),
    })
}

/// A flag is there, or says `=false`; a short one is just there.
fn flag(name: &str, parser: &mut Parser) -> Option<bool> {
    match (name.len() > 1).then(|| parser.optional_value()).flatten() {
        Some(word) => value::boolean(word.to_str()?).ok(),
        None => Some(true),
    }
}

fn word(parser: &mut Parser) -> Option<OsString> {
    parser.value().ok().filter(|word| !word.is_empty())
}

fn text(parser: &mut Parser) -> Option<String> {
    word(parser)?.into_string().ok()
}

fn path(parser: &mut Parser) -> Option<Option<PathBuf>> {
    word(parser).map(|word| Some(PathBuf::from(word)))
}

fn choice<T: ValueEnum>(parser: &mut Parser) -> Option<T> {
    T::from_str(&text(parser)?, false).ok()
}

/// Remembers a positional word, of which a verb takes one.
fn only(slot: &mut String, value: OsString) -> Option<()> {
    if !slot.is_empty() {
        return None;
    }
    *slot = value.into_string().ok()?;
    Some(())
}

fn given(id: &str) -> Option<()> {
    (!id.is_empty()).then_some(())
}

fn version(global: Global, parser: &mut Parser) -> Option<Invocation> {
    match next(parser)? {
        None => Some(Invocation { global, command: Command::Version }),
        Some(_) => None,
    }
}

fn global_option(global: &mut Global, name: &str, parser: &mut Parser) -> Option<()> {
    match name {
        "root" => global.root = path(parser)?,
        "log" => global.log = Some(value::parse_log_target(&word(parser)?).ok()?),
        "log-format" => global.log_format = choice(parser)?,
        "log-level" => global.log_level = Some(choice(parser)?),
        "debug" => global.debug = flag(name, parser)?,
        "systemd-cgroup" => global.systemd_cgroup = flag(name, parser)?,
        "cgroup-manager" => global.cgroup_manager = Some(choice(parser)?),
        "rootless" => global.rootless = value::rootless(&text(parser)?).ok()?,
        _ => return None,
    }
    Some(())
}

fn read_run(parser: &mut Parser, is_run: bool) -> Option<Run> {
    let mut run = Run::default();
    while let Some(word) = next(parser)? {
        match word {
            Word::Value(id) => only(&mut run.create.id, id)?,
            Word::Option(name) if is_run => match &*name {
                "d" | "detach" => run.detach = flag(&name, parser)?,
                "keep" => run.keep = flag(&name, parser)?,
                "no-subreaper" => run.no_subreaper = flag(&name, parser)?,
                _ => create_option(&mut run.create, &name, parser)?,
            },
            Word::Option(name) => create_option(&mut run.create, &name, parser)?,
        }
    }
    given(&run.create.id).map(|()| run)
}

fn create_option(create: &mut Create, name: &str, parser: &mut Parser) -> Option<()> {
    match name {
        "b" | "bundle" => create.bundle = path(parser)?,
        "f" | "config" => create.config = path(parser)?,
        "console-socket" => create.console_socket = path(parser)?,
        "pidfd-socket" => create.pidfd_socket = path(parser)?,
        "pid-file" => create.pid_file = path(parser)?,
        "no-pivot" => create.no_pivot = flag(name, parser)?,
        "no-new-keyring" => create.no_new_keyring = flag(name, parser)?,
        "timings" => create.timings = path(parser)?,
        "preserve-fds" => create.preserve_fds = value::preserve_fds(&text(parser)?).ok()?,
        _ => return None,
    }
    Some(())
}

fn read_one(parser: &mut Parser) -> Option<One> {
    let mut one = One::default();
    while let Some(word) = next(parser)? {
        match word {
            Word::Value(id) => only(&mut one.id, id)?,
            Word::Option(_) => return None,
        }
    }
    given(&one.id).map(|()| one)
}

fn read_kill(parser: &mut Parser) -> Option<Kill> {
    let mut kill = Kill { id: String::new(), signal: libc::SIGTERM, all: false, regex: false };
    let mut signal = String::new();
    while let Some(word) = next(parser)? {
        match word {
            Word::Value(id) if kill.id.is_empty() => only(&mut kill.id, id)?,
            Word::Value(word) => only(&mut signal, word)?,
            Word::Option(name) => match &*name {
                "a" | "all" => kill.all = flag(&name, parser)?,
                "r" | "regex" => kill.regex = flag(&name, parser)?,
                _ => return None,
            },
        }
    }
    if !signal.is_empty() {
        kill.signal = value::signal(&signal).ok()?;
    }
    given(&kill.id).map(|()| kill)
}

fn read_delete(parser: &mut Parser) -> Option<Delete> {
    let mut delete = Delete::default();
    while let Some(word) = next(parser)? {
        match word {
            Word::Value(id) => only(&mut delete.id, id)?,
            Word::Option(name) => match &*name {
                "f" | "force" => delete.force = flag(&name, parser)?,
                "r" | "regex" => delete.regex = flag(&name, parser)?,
                _ => return None,
            },
        }
    }
    given(&delete.id).map(|()| delete)
}

fn read_exec(parser: &mut Parser) -> Option<Exec> {
    let mut exec = Exec::default();
    while let Some(word) = next(parser)? {
        match word {
            Word::Value(id) if exec.id.is_empty() => only(&mut exec.id, id)?,
            // From the command's first word on everything is the command's.
            Word::Value(first) => {
                exec.command.push(first.into_string().ok()?);
                for word in parser.raw_args().ok()? {
                    exec.command.push(word.into_string().ok()?);
                }
            }
            Word::Option(name) => exec_option(&mut exec, &name, parser)?,
        }
    }
    given(&exec.id).map(|()| exec)
}

fn exec_option(exec: &mut Exec, name: &str, parser: &mut Parser) -> Option<()> {
    match name {
        "p" | "process" => exec.process = path(parser)?,
        "console-socket" => exec.console_socket = path(parser)?,
        "pidfd-socket" => exec.pidfd_socket = path(parser)?,
        "pid-file" => exec.pid_file = path(parser)?,
        "cwd" => exec.cwd = Some(text(parser)?),
        "e" | "env" => exec.env.push(text(parser)?),
        "t" | "tty" => exec.tty = flag(name, parser)?,
        "d" | "detach" => exec.detach = flag(name, parser)?,
        "u" | "user" => exec.user = Some(value::user(&text(parser)?).ok()?),
        "g" | "additional-gids" => exec.additional_gids.push(value::id(&text(parser)?).ok()?),
        "process-label" => exec.process_label = Some(text(parser)?),
        "apparmor" => exec.apparmor = Some(text(parser)?),
        "no-new-privs" => exec.no_new_privs = flag(name, parser)?,
        "c" | "cap" => exec.cap.push(text(parser)?),
        "preserve-fds" => exec.preserve_fds = value::preserve_fds(&text(parser)?).ok()?,
        "timings" => exec.timings = path(parser)?,
        "cgroup" => exec.cgroup.push(text(parser)?),
        "ignore-paused" => exec.ignore_paused = flag(name, parser)?,
        _ => return None,
    }
    Some(())
}
