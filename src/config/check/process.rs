//! CHECK of `process` (config.md, "Process"), of config.json or a process.json.

use super::Report;
use crate::config::finding::quoted;
use crate::config::words::{self, capability};
use crate::config::{Capabilities, Process, Scheduler, Text, User};

pub(super) fn check(at: &str, report: &mut Report, process: &Process<'_>) {
    report.absolute(format_args!("{at}/cwd"), &process.cwd);
    match process.args.first() {
        None => report.find(format_args!("{at}/args"), "at least one entry is required"),
        Some(program) if program.is_empty() => {
            report.find(format_args!("{at}/args/0"), "\"\" found, a program expected");
        }
        Some(_) => {}
    }
    report.c_texts(format_args!("{at}/args"), process.args.iter().map(|t| &**t));
    environment(at, report, &process.env);
    user(at, report, &process.user);
    if let Some(capabilities) = &process.capabilities {
        self::capabilities(at, report, capabilities);
    }
    rlimits(at, report, process);
    console(at, report, process);
    for (name, label) in [("apparmorProfile", &process.apparmor_profile), ("selinuxLabel", &process.selinux_label)] {
        report.c_text(format_args!("{at}/{name}"), label.as_deref().unwrap_or_default());
    }
    if let Some(adj) = process.oom_score_adj.filter(|adj| !(-1000..=1000).contains(adj)) {
        report.find(format_args!("{at}/oomScoreAdj"), format_args!("{adj} found, -1000 to 1000 expected"));
    }
    if let Some(scheduler) = &process.scheduler {
        self::scheduler(&format!("{at}/scheduler"), report, scheduler);
    }
    io_priority(at, report, process);
    affinity(at, report, process);
}

/// environ(7) strings are `name=value`. runc 1.1 refuses others, crun passes
/// them on, and so do we, with a warning.
fn environment(at: &str, report: &mut Report, env: &[Text<'_>]) {
    for (i, variable) in env.iter().enumerate() {
        report.c_text(format_args!("{at}/env/{i}"), variable);
        if variable.find('=').is_none_or(|at| at == 0) {
            report.warn(
                format_args!("{at}/env/{i}"),
                format_args!("{} is not of the form NAME=VALUE; it is passed on as it is", quoted(variable)),
            );
        }
    }
}

/// 4294967295 is -1 to the kernel: "leave unchanged" in setresuid(2).
fn user(at: &str, report: &mut Report, user: &User) {
    let ids = [("uid".to_owned(), user.uid), ("gid".to_owned(), user.gid)];
    let groups = user.additional_gids.iter().enumerate().map(|(i, gid)| (format!("additionalGids/{i}"), *gid));
    for (name, _) in ids.into_iter().chain(groups).filter(|(_, id)| *id == u32::MAX) {
        report.find(format_args!("{at}/user/{name}"), "4294967295 found, which is no id (it is -1 to the kernel)");
    }
    if let Some(umask) = user.umask.filter(|umask| *umask > 0o777) {
        report.find(format_args!("{at}/user/umask"), format_args!("{umask} found, at most 511 (octal 777) expected"));
    }
}

/// Unknown or ungrantable capabilities are warnings (config.md, "Linux
/// Process"), one for each set: `runc spec` of 1.1 alone has three such names.
fn capabilities(at: &str, report: &mut Report, sets: &Capabilities<'_>) {
    let named = [
        ("bounding", &sets.bounding),
        ("effective", &sets.effective),
        ("inheritable", &sets.inheritable),
        ("permitted", &sets.permitted),
        ("ambient", &sets.ambient),
    ];
    let mut warn = |set: &str, names: Vec<String>, what: &str| {
        if !names.is_empty() {
            report.warn(format_args!("{at}/capabilities/{set}"), format_args!("{}: ignored, {what}", names.join(", ")));
        }
    };
    for (set, names) in named {
        let unknown = names.iter().filter(|name| capability(name).is_none()).map(|name| quoted(name));
        warn(set, unknown.collect(), "not known to xebec");
    }
    // capabilities(7): effective is within permitted, ambient within both
    // permitted and inheritable; the kernel refuses anything beyond.
    let beyond = sets.effective.iter().filter(|name| !sets.permitted.contains(name));
    warn("effective", beyond.map(|name| quoted(name)).collect(), "not permitted");
    let granted = |name: &Text<'_>| sets.permitted.contains(name) && sets.inheritable.contains(name);
    let beyond = sets.ambient.iter().filter(|name| !granted(name));
    warn("ambient", beyond.map(|name| quoted(name)).collect(), "not both permitted and inheritable");
}

fn rlimits(at: &str, report: &mut Report, process: &Process<'_>) {
    let at = format!("{at}/rlimits");
    for (i, limit) in process.rlimits.iter().enumerate() {
        report.word(format_args!("{at}/{i}/type"), words::RLIMITS, &limit.kind);
        if limit.soft > limit.hard {
            let what = format_args!("{} found, at most the hard limit {} expected", limit.soft, limit.hard);
            report.find(format_args!("{at}/{i}/soft"), what);
        }
    }
    super::unlike(report, &at, "/type", process.rlimits.iter().map(|limit| &*limit.kind));
}

/// The size is ignored without a terminal; struct winsize has 16-bit fields.
fn console(at: &str, report: &mut Report, process: &Process<'_>) {
    let Some(size) = process.console_size.filter(|_| process.terminal) else { return };
    for (name, value) in [("height", size.height), ("width", size.width)] {
        if value > u64::from(u16::MAX) {
            report.find(format_args!("{at}/consoleSize/{name}"), format_args!("{value} found, at most 65535 expected"));
        }
    }
}

/// The rules of sched_setattr(2) (kernel/sched/syscalls.c).
fn scheduler(at: &str, report: &mut Report, scheduler: &Scheduler<'_>) {
    if &*scheduler.policy == "SCHED_ISO" {
        report.find(format_args!("{at}/policy"), "SCHED_ISO is reserved by Linux and was never implemented");
        return;
    }
    let policy = report.word(format_args!("{at}/policy"), words::SCHEDULER_POLICIES, &scheduler.policy);
    for (i, flag) in scheduler.flags.iter().enumerate() {
        report.word(format_args!("{at}/flags/{i}"), words::SCHEDULER_FLAGS, flag);
    }
    if !(-20..=19).contains(&scheduler.nice) {
        report.find(format_args!("{at}/nice"), format_args!("{} found, -20 to 19 expected", scheduler.nice));
    }
    // With KEEP_PARAMS the kernel takes none of the values below from us.
    let keeps = scheduler.flags.iter().any(|flag| &**flag == "SCHED_FLAG_KEEP_PARAMS");
    if policy.is_none() || keeps {
        return;
    }
    let name = &*scheduler.policy;
    let priority = scheduler.priority;
    if matches!(name, "SCHED_FIFO" | "SCHED_RR") {
        if !(1..=99).contains(&priority) {
            report.find(format_args!("{at}/priority"), format_args!("{priority} found, 1 to 99 expected with {name}"));
        }
    } else if priority != 0 {
        report.find(format_args!("{at}/priority"), format_args!("{priority} found, 0 expected with {name}"));
    }
    if name == "SCHED_DEADLINE" {
        deadline(at, report, scheduler);
        return;
    }
    let times = [("runtime", scheduler.runtime), ("deadline", scheduler.deadline), ("period", scheduler.period)];
    for (property, _) in times.into_iter().filter(|(_, nanoseconds)| *nanoseconds != 0) {
        report.find(format_args!("{at}/{property}"), format_args!("belongs to SCHED_DEADLINE, not to {name}"));
    }
}

/// runtime <= deadline <= period, the runtime at least 1024 ns (sched(7)).
fn deadline(at: &str, report: &mut Report, s: &Scheduler<'_>) {
    let period = if s.period == 0 { s.deadline } else { s.period };
    if s.runtime < 1024 || s.runtime > s.deadline {
        let what = format_args!("{} found, 1024 ns to the deadline ({} ns) expected", s.runtime, s.deadline);
        report.find(format_args!("{at}/runtime"), what);
    }
    if s.deadline == 0 || s.deadline > period || s.deadline >= 1 << 63 {
        let what = format_args!("{} found, 1 ns to the period ({period} ns) expected", s.deadline);
        report.find(format_args!("{at}/deadline"), what);
    }
    if s.period >= 1 << 63 {
        report.find(format_args!("{at}/period"), format_args!("{} found, less than 2^63 ns expected", s.period));
    }
}

fn io_priority(at: &str, report: &mut Report, process: &Process<'_>) {
    let Some(io) = &process.io_priority else { return };
    report.word(format_args!("{at}/ioPriority/class"), words::IO_PRIORITY_CLASSES, &io.class);
    if !(0..=7).contains(&io.priority) {
        report.find(format_args!("{at}/ioPriority/priority"), format_args!("{} found, 0 to 7 expected", io.priority));
    }
}

fn affinity(at: &str, report: &mut Report, process: &Process<'_>) {
    let Some(affinity) = &process.exec_cpu_affinity else { return };
    for (name, list) in [("initial", &affinity.initial), ("final", &affinity.final_)] {
        let Some(list) = list.as_deref().filter(|list| words::ranges(list).is_none()) else { continue };
        let what = format_args!("{} found, a list of CPUs such as \"0-3,7\" expected", quoted(list));
        report.find(format_args!("{at}/execCPUAffinity/{name}"), what);
    }
}
