//! From the command line to the sandbox and back: the front prepares and prints; a copy of this program
//! measures, in mount, PID, cgroup and network namespaces of its own, which end with it.

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, CpuSet, sched_getaffinity, sched_setaffinity, unshare};
use nix::sys::prctl::set_child_subreaper;
use nix::unistd::Pid;
use xebec_integration::options::View;
use xebec_integration::{leftovers, peers, sandbox};

use crate::bundle::Kit;
use crate::contender::{Contender, FLOOR};
use crate::measure::{self, Limits};
use crate::options::Options;
use crate::results::{Failure, Results};
use crate::{alike, cases, compare, counts, gate, machine, markdown, memory, order, svg, table};

/// The stage of this copy, and the directory that the stages share.
const STAGE: &str = "XEBEC_BENCH_STAGE";
const WORK: &str = "XEBEC_BENCH_WORK";

const FLOOR_PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/floor"));

/// How many CPUs everything is held to: parent and child may work at the same time, no more.
const CPUS: usize = 2;

pub fn enter(options: &Options, words: &[String]) -> Result<ExitCode, String> {
    let work = PathBuf::from(env::var(WORK).unwrap_or_default());
    let next = |stage: &str| {
        let mut command = Command::new("/proc/self/exe");
        command.args(words).env(STAGE, stage);
        command
    };
    let code = |done: std::io::Result<u8>| done.map(ExitCode::from).map_err(|error| format!("the sandbox: {error}"));
    match env::var(STAGE).as_deref() {
        Ok("outer") => code(sandbox::isolate(View::V2, &name_of(&work), || become_stage(next("init")))),
        Ok("init") => code(sandbox::begin_init(View::V2).and_then(|()| sandbox::serve(|| become_stage(next("body"))))),
        Ok(_) => body(options, &work),
        Err(_) => front(options, next("outer")),
    }
}

/// A fresh copy of the program instead of the fork: what is measured is not to share this one's memory.
fn become_stage(mut command: Command) -> u8 {
    eprintln!("xebec-bench: execve: {}", command.exec());
    3
}

fn front(options: &Options, outer: Command) -> Result<ExitCode, String> {
    if options.list {
        for case in cases::selected(&options.cases) {
            println!("{:<26} {}", case.name, case.title);
        }
        if memory::is_selected(&options.cases) {
            println!("{:<26} limit on runtime and container together", memory::CASE);
        }
        return Ok(ExitCode::SUCCESS);
    }
    // Not after minutes of measuring.
    for path in options.json.iter().chain(&options.markdown) {
        let directory = path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    }
    let results = match &options.read {
        Some(path) => Results::read(path)?,
        None => in_sandbox(options, outer)?,
    };
    if let Some(limits) = &options.gate {
        return gate::judge(&results, limits, options.write);
    }
    if options.order.is_some() {
        return Ok(ExitCode::SUCCESS);
    }
    table::print(&results);
    if let Some(path) = &options.json {
        results.write(path)?;
    }
    if let Some(directory) = &options.svg {
        svg::write(&results, directory)?;
    }
    if let Some(path) = &options.markdown {
        markdown::write(&results, path)?;
    }
    let slower = match &options.compare {
        Some(old) => compare::print(&Results::read(old)?, &results),
        None => false,
    };
    // A case that failed has been told, and counts: silence is never a pass.
    Ok(ExitCode::from(u8::from(slower || (results.series.is_empty() && results.memory.is_empty()))))
}

/// The directory's last name, which the sandbox's cgroup gets too.
fn name_of(work: &Path) -> String {
    work.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn in_sandbox(options: &Options, mut outer: Command) -> Result<Results, String> {
    if !nix::unistd::geteuid().is_root() {
        return Err("needs root: it makes namespaces, mounts and cgroups".into());
    }
    let work = env::temp_dir().join(format!("xebec-bench-{}", std::process::id()));
    let failed = |error: std::io::Error| format!("{}: {error}", work.display());
    fs::create_dir_all(&work).map_err(failed)?;
    fs::set_permissions(&work, fs::Permissions::from_mode(0o755)).map_err(failed)?;
    let outcome = prepare_tools(options, &work).and_then(|()| {
        let status = outer.env(WORK, &work).status().map_err(failed)?;
        match status.success() {
            true => Results::read(&work.join("results.json")),
            false => Err(format!("the measuring copy ended with {status}")),
        }
    });
    if let Some(directory) = sandbox::own_cgroup_directory(&name_of(&work)) {
        leftovers::remove_cgroup(&directory);
    }
    fs::remove_dir_all(&work).map_err(failed)?;
    outcome
}

/// The floor, and the library that crun may need.
fn prepare_tools(options: &Options, work: &Path) -> Result<(), String> {
    let floor = work.join(FLOOR);
    fs::write(&floor, FLOOR_PROGRAM)
        .and_then(|()| fs::set_permissions(&floor, fs::Permissions::from_mode(0o755)))
        .map_err(|error| format!("{}: {error}", floor.display()))?;
    let paths: Vec<PathBuf> = options.runtimes.iter().map(|(_, path)| path.clone()).collect();
    peers::prepare_preload(&paths, work).map(drop)
}

/// Inside: measures, and leaves the results in a file.
fn body(options: &Options, work: &Path) -> Result<ExitCode, String> {
    set_child_subreaper(true).map_err(|errno| format!("prctl(PR_SET_CHILD_SUBREAPER): {errno}"))?;
    let kit = Kit::make(work)?;
    fs::create_dir("/sys/fs/cgroup/bench").map_err(|error| format!("/sys/fs/cgroup/bench: {error}"))?;
    make_network(&kit.netns)?;
    let bpffs = mount_bpffs()?;
    let mut contenders = contenders(options, work)?;
    let unlike = match contenders.as_slice() {
        [floor, first, ..] if floor.is_floor => alike::check(floor, first, &kit).err(),
        _ => None,
    };
    if unlike.is_some() {
        contenders.remove(0);
    }
    let mut results = Results {
        contenders: contenders.iter().map(|one| one.name.clone()).collect(),
        sizes: contenders
            .iter()
            .filter_map(|one| Some((one.name.clone(), fs::metadata(&one.program).ok()?.len())))
            .collect(),
        ..Results::default()
    };
    let contender = FLOOR.to_string();
    results.failures.extend(unlike.map(|message| Failure { case: "alike".into(), contender, message }));
    if let Some(path) = &options.order {
        let first = contenders.iter().find(|one| !one.is_floor).ok_or("no runtime to order")?;
        order::write(first, &kit, path)?;
    } else {
        fill(&mut results, &contenders, &kit, options, work, bpffs)?;
    }
    umount2(&kit.netns, MntFlags::MNT_DETACH).map_err(|errno| format!("{}: {errno}", kit.netns.display()))?;
    results.write(&work.join("results.json"))?;
    Ok(ExitCode::SUCCESS)
}

/// Counts and measures.
fn fill(
    results: &mut Results,
    contenders: &[Contender],
    kit: &Kit,
    options: &Options,
    work: &Path,
    bpffs: bool,
) -> Result<(), String> {
    if options.gate.is_some() || options.counts {
        counts::count_all(contenders, kit, options.gate.is_some(), results)?;
    }
    if options.gate.is_none() {
        let pinned = pin();
        let priority = take_priority();
        results.machine = machine::describe(&pinned, priority, bpffs);
        let limits = Limits { rounds: options.rounds, seconds: options.seconds };
        if memory::is_selected(&options.cases) {
            eprintln!("{}", memory::CASE);
            memory::measure(contenders, kit, results);
        }
        for case in cases::selected(&options.cases) {
            eprintln!("{}", case.name);
            let contenders =
                if case.readonly_binary { on_readonly_mounts(contenders, work)? } else { contenders.to_vec() };
            measure::measure(&case, &contenders, kit, &limits, results)?;
        }
    }
    Ok(())
}

fn contenders(options: &Options, work: &Path) -> Result<Vec<Contender>, String> {
    let library = Some(work.join("memlock.so")).filter(|path| path.exists());
    let contender = |name: &str, program: PathBuf, is_floor: bool| Contender {
        name: name.into(),
        preload: library.clone().filter(|_| !is_floor && peers::is_crun(&program)),
        program,
        is_floor,
        root: PathBuf::from(format!("/run/bench/{name}")),
        errors: PathBuf::from(format!("/run/bench/{name}.stderr")),
    };
    let mut all = Vec::new();
    if options.floor && options.gate.is_none() && !FLOOR_PROGRAM.is_empty() {
        all.push(contender(FLOOR, work.join(FLOOR), true));
    }
    all.extend(options.runtimes.iter().map(|(name, path)| contender(name, path.clone(), false)));
    for one in &all {
        fs::create_dir_all(&one.root).map_err(|error| format!("{}: {error}", one.root.display()))?;
    }
    Ok(all)
}

/// The same programs, each seen through a read-only bind mount.
fn on_readonly_mounts(contenders: &[Contender], work: &Path) -> Result<Vec<Contender>, String> {
    let none: Option<&str> = None;
    let mut moved = Vec::new();
    for one in contenders {
        let place = work.join(format!("readonly-{}", one.name));
        let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", place.display());
        fs::write(&place, "").map_err(|error| failed(&error))?;
        mount(Some(&one.program), &place, none, MsFlags::MS_BIND, none).map_err(|errno| failed(&errno))?;
        let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        mount(none, &place, none, flags, none).map_err(|errno| failed(&errno))?;
        moved.push(Contender { program: place, ..one.clone() });
    }
    Ok(moved)
}

/// A network namespace bound to `file`: made by a thread that ends, so that we stay where we are.
fn make_network(file: &Path) -> Result<(), String> {
    let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
    fs::write(file, "").map_err(|error| failed(&error))?;
    let place = file.to_path_buf();
    let made = std::thread::spawn(move || {
        let none: Option<&str> = None;
        unshare(CloneFlags::CLONE_NEWNET)?;
        mount(Some("/proc/thread-self/ns/net"), &place, none, MsFlags::MS_BIND, none)
    });
    made.join().map_err(|_| failed(&"the thread panicked"))?.map_err(|errno| failed(&errno))
}

/// bpffs as systemd mounts it on real hosts, but private: device programs are kept there.
fn mount_bpffs() -> Result<bool, String> {
    let none: Option<&str> = None;
    let place = Path::new("/sys/fs/bpf");
    if !place.is_dir() {
        return Ok(false);
    }
    mount(Some("bpf"), place, Some("bpf"), MsFlags::empty(), none)
        .map_err(|errno| format!("{}: {errno}", place.display()))?;
    Ok(true)
}

/// Holds this process and all it starts to the first CPUs that it may use.
fn pin() -> Vec<usize> {
    let own = Pid::from_raw(0);
    let Ok(allowed) = sched_getaffinity(own) else { return Vec::new() };
    let first: Vec<usize> = (0..CpuSet::count()).filter(|cpu| allowed.is_set(*cpu) == Ok(true)).take(CPUS).collect();
    let mut set = CpuSet::new();
    let pinned = first.iter().try_for_each(|cpu| set.set(*cpu)).and_then(|()| sched_setaffinity(own, &set));
    if pinned.is_ok() { first } else { Vec::new() }
}

/// A real-time priority for this process and all it starts, where that is allowed.
fn take_priority() -> bool {
    let own = std::process::id().to_string();
    let status = Command::new("chrt").args(["-f", "-p", "10", &own]).status();
    status.is_ok_and(|status| status.success())
}
