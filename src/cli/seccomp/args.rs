//! What a line of `xebec seccomp` can say.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use xebec_seccomp::Arch;

use crate::cli::args::Create;
use crate::cli::value;

#[derive(Debug, Clone, PartialEq, Args)]
pub struct Seccomp {
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Debug, Clone, PartialEq, Subcommand)]
pub enum Verb {
    /// Print what a profile decides, and the BPF program that decides it
    Show(Show),
    /// Say what a profile answers to one system call, and by which rule
    Test(Test),
    /// List the system calls that two profiles treat differently
    Diff(Diff),
    /// Run a container and write the profile of the system calls it made
    Record(Box<Record>),
}

/// A profile that an engine's file depends on a container for.
#[derive(Debug, Clone, Default, PartialEq, Args)]
pub struct Container {
    /// Capability of the container that an engine's file is read for; may be repeated
    #[arg(short, long, value_name = "CAPABILITY", value_parser = value::capability)]
    pub cap: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Args)]
pub struct Show {
    /// The profile: a linux.seccomp object, a config.json, a bundle or an engine's file; - for stdin
    #[arg(value_name = "PROFILE", value_parser = value::path())]
    pub profile: PathBuf,
    /// Only this architecture, such as x86_64
    #[arg(short, long, value_name = "ARCH", value_parser = value::arch)]
    pub arch: Option<Arch>,
    #[command(flatten)]
    pub container: Container,
}

#[derive(Debug, Clone, Default, PartialEq, Args)]
pub struct Test {
    /// The profile: a linux.seccomp object, a config.json, a bundle or an engine's file; - for stdin
    #[arg(value_name = "PROFILE", value_parser = value::path())]
    pub profile: PathBuf,
    /// The system call's name or number
    #[arg(value_name = "SYSCALL")]
    pub call: String,
    /// Its arguments: decimal, hexadecimal (0x) or negative; those left out are 0
    #[arg(value_name = "ARG", num_args = 0..=6, allow_negative_numbers = true, value_parser = value::word)]
    pub args: Vec<u64>,
    /// The architecture of the caller, such as x86 [default: this host's]
    #[arg(short, long, value_name = "ARCH", value_parser = value::arch)]
    pub arch: Option<Arch>,
    #[command(flatten)]
    pub container: Container,
}

#[derive(Debug, Clone, Default, PartialEq, Args)]
pub struct Diff {
    /// The first profile
    #[arg(value_name = "FIRST", value_parser = value::path())]
    pub first: PathBuf,
    /// The second profile
    #[arg(value_name = "SECOND", value_parser = value::path())]
    pub second: PathBuf,
    /// Only this architecture, such as x86_64
    #[arg(short, long, value_name = "ARCH", value_parser = value::arch)]
    pub arch: Option<Arch>,
    #[command(flatten)]
    pub container: Container,
}

#[derive(Debug, Clone, Default, PartialEq, Args)]
pub struct Record {
    #[command(flatten)]
    pub create: Create,
    /// File that gets the profile; one that is there stays, unless it is --merge's
    #[arg(short, long, value_name = "FILE", default_value = "seccomp.json", value_parser = value::path())]
    pub output: PathBuf,
    /// Profile to add to what it does not allow
    #[arg(short, long, value_name = "PROFILE", value_parser = value::path())]
    pub merge: Option<PathBuf>,
    /// Architecture that may be used beside the host's own [default: all that it may run]; may be repeated
    #[arg(short, long, value_name = "ARCH", value_parser = value::arch)]
    pub arch: Vec<Arch>,
    #[command(flatten)]
    pub container: Container,
}
