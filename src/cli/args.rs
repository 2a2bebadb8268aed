//! What a command line can say: one owned struct a verb, for both parsers.
//!
//! Parses words into values; opens nothing and asks the host nothing.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::seccomp::args::Seccomp;
use super::value;

/// A whole command line.
#[derive(Debug, Clone, PartialEq)]
pub struct Invocation {
    pub global: Global,
    pub command: Command,
}

/// The verb, with everything said after it.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    Create(Create),
    Start(One),
    Run(Run),
    State(One),
    Kill(Kill),
    Delete(Delete),
    List(List),
    Ps(Ps),
    Exec(Box<Exec>),
    Pause(One),
    Resume(One),
    Update(Box<Update>),
    Events(Events),
    Seccomp(Box<Seccomp>),
    Spec(Spec),
    Features(NoArgs),
    Plan(Plan),
    Doctor(Doctor),
    MountNamespace(MountNamespace),
    Completion(Completion),
    Man(Man),
    /// `--version`.
    Version,
}

impl Command {
    /// The verb as written on the command line.
    pub fn name(&self) -> &'static str {
        match self {
            Command::Create(_) => "create",
            Command::Start(_) => "start",
            Command::Run(_) => "run",
            Command::State(_) => "state",
            Command::Kill(_) => "kill",
            Command::Delete(_) => "delete",
            Command::List(_) => "list",
            Command::Ps(_) => "ps",
            Command::Exec(_) => "exec",
            Command::Pause(_) => "pause",
            Command::Resume(_) => "resume",
            Command::Update(_) => "update",
            Command::Events(_) => "events",
            Command::Seccomp(_) => "seccomp",
            Command::Spec(_) => "spec",
            Command::Features(_) => "features",
            Command::Plan(_) => "plan",
            Command::Doctor(_) => "doctor",
            Command::MountNamespace(_) => "mountns",
            Command::Completion(_) => "completion",
            Command::Man(_) => "man",
            Command::Version => "--version",
        }
    }
}

/// Options that stand before the verb.
#[derive(Debug, Clone, Default, PartialEq, Args)]
pub struct Global {
    /// Directory of the containers' state [default: /run/xebec, or one of the user's own when rootless]
    #[arg(long, value_name = "DIR", value_parser = value::path())]
    pub root: Option<PathBuf>,
    /// Where warnings and errors are recorded: a file, journald:IDENTIFIER or syslog:IDENTIFIER
    #[arg(long, value_name = "TARGET", value_parser = value::log_target())]
    pub log: Option<LogTarget>,
    /// Form of the records in --log
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,
    /// Record debugging messages too; the same as --log-level debug
    #[arg(long)]
    pub debug: bool,
    /// The least severe messages that are recorded
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<Level>,
    /// Let systemd make the cgroup; the same as --cgroup-manager systemd
    #[arg(long)]
    pub systemd_cgroup: bool,
    /// Who makes the cgroup
    #[arg(long, value_name = "MANAGER")]
    pub cgroup_manager: Option<CgroupManager>,
    /// Whether to work without privileges: true, false, or auto to go by the user's
    #[arg(long, value_name = "BOOL", default_value = "auto", value_parser = value::rootless)]
    pub rootless: Rootless,
}

impl Global {
    /// The least severe level that is recorded.
    pub fn level(&self) -> Level {
        self.log_level.unwrap_or(if self.debug { Level::Debug } else { Level::Warning })
    }

    /// Who makes the cgroup: `--cgroup-manager` before `--systemd-cgroup`.
    pub fn manager(&self) -> CgroupManager {
        let implied = if self.systemd_cgroup { CgroupManager::Systemd } else { CgroupManager::Cgroupfs };
        self.cgroup_manager.unwrap_or(implied)
    }
}

/// Where `--log` records go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogTarget {
    /// Appended to, made when absent.
    File(PathBuf),
    /// The journal's socket, under this SYSLOG_IDENTIFIER.
    Journald(String),
    /// /dev/log, under this tag.
    Syslog(String),
}

/// The form of a record in `--log`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

/// How severe a message is; the most severe comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Level {
    Error,
    #[value(alias = "warn")]
    Warning,
    Info,
    Debug,
}

/// Who makes and removes the container's cgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CgroupManager {
    Cgroupfs,
    Systemd,
    Disabled,
}

/// Whether to work without privileges.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Rootless {
    #[default]
    Auto,
    Yes,
    No,
}

/// What `create` and `run` share.
#[derive(Debug, Clone, Default, PartialEq, Args)]
pub struct Create {
    /// The container's name: at most 255 of [A-Za-z0-9_+.-], unique under --root
    #[arg(value_name = "ID")]
    pub id: String,
    /// The bundle's directory [default: the working directory]
    #[arg(short, long, value_name = "DIR", value_parser = value::path())]
    pub bundle: Option<PathBuf>,
    /// The config file, instead of the bundle's config.json
    #[arg(short = 'f', long, value_name = "FILE", value_parser = value::path())]
    pub config: Option<PathBuf>,
    /// Unix socket that gets the terminal's controlling end
    #[arg(long, value_name = "SOCKET", value_parser = value::path())]
    pub console_socket: Option<PathBuf>,
    /// Unix socket that gets a pidfd of the container's first process
    #[arg(long, value_name = "SOCKET", value_parser = value::path())]
    pub pidfd_socket: Option<PathBuf>,
    /// File that gets the pid of the container's first process
    #[arg(long, value_name = "FILE", value_parser = value::path())]
    pub pid_file: Option<PathBuf>,
    /// Do not use pivot_root: only for roots it cannot work on, and less safe
    #[arg(long)]
    pub no_pivot: bool,
    /// Keep the caller's session keyring
    #[arg(long)]
    pub no_new_keyring: bool,
    /// Pass N descriptors on, from 3 upwards, beside stdin, stdout and stderr
    #[arg(long, value_name = "N", default_value = "0", hide_default_value = true, value_parser = value::preserve_fds)]
    pub preserve_fds: u32,
    /// Record where the time goes: a picture when FILE ends in .svg, otherwise a trace for Perfetto
    #[arg(long, value_name = "FILE", value_parser = value::path())]
    pub timings: Option<PathBuf>,
}

#[derive(Debug, Clone, Default, PartialEq, Args)]
pub struct Run {
    #[command(flatten)]
    pub create: Create,
    /// Leave the container running and return
    #[arg(short, long)]
    pub detach: bool,
    /// Do not delete the container when it has ended
    #[arg(long)]
    pub keep: bool,
    /// Do not become the parent of processes that the container's first process leaves behind
    #[arg(long)]
    pub no_subreaper: bool,
}

/// A verb that takes a container and nothing else.
#[derive(Debug, Clone, Default, PartialEq, Args)]
pub struct One {
    /// The container
    #[arg(value_name = "ID")]
    pub id: String,
}

/// A verb that takes nothing.
#[derive(Debug, Clone, Default, PartialEq, Args)]
pub struct NoArgs {}

#[derive(Debug, Clone, PartialEq, Args)]
pub struct Kill {
    /// The container
    #[arg(value_name = "ID")]
    pub id: String,
    /// Signal: TERM, SIGTERM, 15, RTMIN+3, in either case
    #[arg(value_name = "SIGNAL", default_value = "TERM", value_parser = value::signal)]
    pub signal: i32,
    /// Send it to every process of the container
    #[arg(short, long)]
    pub all: bool,
    /// ID is a regular expression: every container it matches
    #[arg(short, long)]
    pub regex: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Args)]
pub struct Delete {
    /// The container
    #[arg(value_name = "ID")]
    pub id: String,
    /// Kill it first if it runs; no error if there is none
    #[arg(short, long)]
    pub force: bool,
    /// ID is a regular expression: every container it matches
    #[arg(short, long)]
    pub regex: bool,
}

/// Form of a listing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum ListFormat {
    #[default]
    Table,
    Json,
}

#[derive(Debug, Clone, Default, PartialEq, Args)]
pub struct List {
    /// Form of the listing
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub format: ListFormat,
    /// Only the ids
    #[arg(short, long)]
    pub quiet: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Args)]
pub struct Ps {
    /// Form of the listing; json gives the pids only
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub format: ListFormat,
    /// The container
    #[arg(value_name = "ID")]
    pub id: String,
    /// Options for ps(1) [default: -ef]
    #[arg(value_name = "PS-OPTION", trailing_var_arg = true, allow_hyphen_values = true)]
    pub options: Vec<OsString>,
}

/// `--user` of `exec`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User {
    pub uid: u32,
    pub gid: Option<u32>,
}

#[derive(Debug, Clone, Default, PartialEq, Args)]
pub struct Exec {
    /// The container
    #[arg(value_name = "ID")]
    pub id: String,
    /// The program and its arguments, unless --process gives them
    #[arg(value_name = "COMMAND", trailing_var_arg = true)]
    pub command: Vec<String>,
    /// JSON file with the whole process object, as in config.json
    #[arg(short, long, value_name = "FILE", value_parser = value::path())]
    pub process: Option<PathBuf>,
    /// Unix socket that gets the terminal's controlling end
    #[arg(long, value_name = "SOCKET", value_parser = value::path())]
    pub console_socket: Option<PathBuf>,
    /// Unix socket that gets a pidfd of the process
    #[arg(long, value_name = "SOCKET", value_parser = value::path())]
    pub pidfd_socket: Option<PathBuf>,
    /// Working directory inside the container
    #[arg(long, value_name = "DIR")]
    pub cwd: Option<String>,
    /// Set an environment variable (NAME=VALUE); may be repeated
    #[arg(short, long, value_name = "ENV")]
    pub env: Vec<String>,
    /// Give the process a terminal
    #[arg(short, long)]
    pub tty: bool,
    /// User id, and group id after a colon
    #[arg(short, long, value_name = "UID[:GID]", value_parser = value::user)]
    pub user: Option<User>,
    /// Add a group id; may be repeated
    #[arg(short = 'g', long, value_name = "GID", value_parser = value::id)]
    pub additional_gids: Vec<u32>,
    /// Return once the process runs
    #[arg(short, long)]
    pub detach: bool,
    /// File that gets the pid of the process
    #[arg(long, value_name = "FILE", value_parser = value::path())]
    pub pid_file: Option<PathBuf>,
    /// SELinux label
    #[arg(long, value_name = "LABEL")]
    pub process_label: Option<String>,
    /// AppArmor profile
    #[arg(long, value_name = "PROFILE")]
    pub apparmor: Option<String>,
    /// Forbid gaining privileges
    #[arg(long)]
    pub no_new_privs: bool,
    /// Add a capability; may be repeated
    #[arg(short, long, value_name = "CAPABILITY")]
    pub cap: Vec<String>,
    /// Pass N descriptors on, from 3 upwards, beside stdin, stdout and stderr
    #[arg(long, value_name = "N", default_value = "0", hide_default_value = true, value_parser = value::preserve_fds)]
    pub preserve_fds: u32,
    /// Cgroup below the container's; on v1 CONTROLLER[,CONTROLLER]:PATH, may be repeated
    #[arg(long, value_name = "PATH")]
    pub cgroup: Vec<String>,
    /// Join a paused container too
    #[arg(long)]
    pub ignore_paused: bool,
    /// Record where the time goes: a picture when FILE ends in .svg, otherwise a trace for Perfetto
    #[arg(long, value_name = "FILE", value_parser = value::path())]
    pub timings: Option<PathBuf>,
}

#[derive(Debug, Clone, Default, PartialEq, Args)]
pub struct Update {
    /// The container
    #[arg(value_name = "ID")]
    pub id: String,
    /// JSON file with a linux.resources object, or - for stdin; other options are then ignored
    #[arg(short, long, value_name = "FILE", value_parser = value::path())]
    pub resources: Option<PathBuf>,
    /// Weight of block I/O, 10 to 1000
    #[arg(long, value_name = "WEIGHT", value_parser = value::number::<u16>())]
    pub blkio_weight: Option<u16>,
    /// CPU period in microseconds
    #[arg(long, value_name = "MICROSECONDS", value_parser = value::number::<u64>())]
    pub cpu_period: Option<u64>,
    /// CPU time in a period, in microseconds; -1 for no limit
    #[arg(long, value_name = "MICROSECONDS", value_parser = value::number::<i64>())]
    pub cpu_quota: Option<i64>,
    /// CPU time saved up for bursts, in microseconds
    #[arg(long, value_name = "MICROSECONDS", value_parser = value::number::<u64>())]
    pub cpu_burst: Option<u64>,
    /// Relative share of CPU time, 2 to 262144
    #[arg(long, value_name = "SHARES", value_parser = value::number::<u64>())]
    pub cpu_share: Option<u64>,
    /// Real-time CPU period in microseconds (cgroup v1)
    #[arg(long, value_name = "MICROSECONDS", value_parser = value::number::<u64>())]
    pub cpu_rt_period: Option<u64>,
    /// Real-time CPU time in a period, in microseconds (cgroup v1)
    #[arg(long, value_name = "MICROSECONDS", value_parser = value::number::<i64>())]
    pub cpu_rt_runtime: Option<i64>,
    /// 1 makes the container's processes run only when the CPU is idle
    #[arg(long, value_name = "0|1", value_parser = value::number::<i64>())]
    pub cpu_idle: Option<i64>,
    /// CPUs the container may use, such as 0-2,5
    #[arg(long, value_name = "LIST")]
    pub cpuset_cpus: Option<String>,
    /// Memory nodes the container may use
    #[arg(long, value_name = "LIST")]
    pub cpuset_mems: Option<String>,
    /// Memory limit in bytes, or with a suffix b, k, m, g, t; -1 for no limit
    #[arg(long, value_name = "BYTES", value_parser = value::bytes)]
    pub memory: Option<i64>,
    /// Memory that reclaim tries to leave it, in bytes or with a suffix
    #[arg(long, value_name = "BYTES", value_parser = value::bytes)]
    pub memory_reservation: Option<i64>,
    /// Limit of memory and swap together, in bytes or with a suffix; -1 for no limit
    #[arg(long, value_name = "BYTES", value_parser = value::bytes)]
    pub memory_swap: Option<i64>,
    /// Accepted and without effect: kernels have dropped this limit
    #[arg(long, value_name = "BYTES", hide = true, value_parser = value::bytes)]
    pub kernel_memory: Option<i64>,
    /// Accepted and without effect: kernels have dropped this limit
    #[arg(long, value_name = "BYTES", hide = true, value_parser = value::bytes)]
    pub kernel_memory_tcp: Option<i64>,
    /// Number of processes and threads; -1 for no limit
    #[arg(long, value_name = "N", value_parser = value::number::<i64>())]
    pub pids_limit: Option<i64>,
    /// Intel RDT: schema of the L3 cache
    #[arg(long, value_name = "SCHEMA")]
    pub l3_cache_schema: Option<String>,
    /// Intel RDT: schema of memory bandwidth
    #[arg(long, value_name = "SCHEMA")]
    pub mem_bw_schema: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Args)]
pub struct Events {
    /// The container
    #[arg(value_name = "ID")]
    pub id: String,
    /// Time between two samples, such as 5s or 1m30s
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = value::interval)]
    pub interval: Duration,
    /// Print one sample and return
    #[arg(long)]
    pub stats: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Args)]
pub struct Spec {
    /// Directory that gets config.json [default: the working directory]
    #[arg(short, long, value_name = "DIR", value_parser = value::path())]
    pub bundle: Option<PathBuf>,
    /// A config for running without privileges, mapping the calling user to root
    #[arg(long)]
    pub rootless: bool,
    /// File that gets the config, - for stdout
    #[arg(short, long, value_name = "FILE", value_parser = value::path())]
    pub file: Option<PathBuf>,
    /// Filter system calls: `default` is like the engines' default profile
    #[arg(long, value_name = "PROFILE")]
    pub seccomp: Option<SpecSeccomp>,
    /// Allow a system call or a group such as @keyring too; may be repeated
    #[arg(long, value_name = "NAME", requires = "seccomp")]
    pub seccomp_allow: Vec<String>,
    /// Do not allow a system call or a group; stronger than --seccomp-allow; may be repeated
    #[arg(long, value_name = "NAME", requires = "seccomp")]
    pub seccomp_deny: Vec<String>,
}

/// The profiles that `spec` has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SpecSeccomp {
    Default,
}

/// Form of a plan.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum PlanFormat {
    #[default]
    Text,
    Json,
}

#[derive(Debug, Clone, Default, PartialEq, Args)]
pub struct Plan {
    /// The bundle's directory [default: the working directory]
    #[arg(short, long, value_name = "DIR", value_parser = value::path())]
    pub bundle: Option<PathBuf>,
    /// Form of the plan
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub format: PlanFormat,
}

#[derive(Debug, Clone, Default, PartialEq, Args)]
pub struct Doctor {
    /// Form of the report
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub format: PlanFormat,
}

#[derive(Debug, Clone, PartialEq, Args)]
pub struct MountNamespace {
    /// Make it and keep it until the host is shut down, or remove it
    #[arg(value_name = "ACTION")]
    pub action: MountNamespaceAction,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum MountNamespaceAction {
    Pin,
    Unpin,
}

#[derive(Debug, Clone, PartialEq, Args)]
pub struct Completion {
    /// The shell to write completions for
    #[arg(value_name = "SHELL")]
    pub shell: clap_complete::Shell,
}

#[derive(Debug, Clone, Default, PartialEq, Args)]
pub struct Man {
    /// Directory that gets a manual page for each verb
    #[arg(value_name = "DIR", value_parser = value::path())]
    pub dir: PathBuf,
}
