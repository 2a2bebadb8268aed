//! The child's story: from clone3 to execve, one step of the plan after the other.
//!
//! Runs in the parent's memory beside it, or on a copy. It neither allocates nor sets errno nor prints nor
//! panics; a failure travels to the parent as a [`wire::Record`], and the
//! parent, which holds the same plan, finds the words.

mod copyup;
mod devices;
mod filter;
pub mod hook;
mod identity;
pub(crate) mod inroot;
mod mounts;
pub mod wire;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, openat};
use rustix::io::{Errno, retry_on_intr};
use rustix::process::{DumpableBehavior, Signal, set_dumpable_behavior, set_parent_process_death_signal, setsid};

use crate::plan::Plan;
use crate::plan::step::Step;
use crate::sys::mount::{MountAttr, mount_setattr};
use crate::sys::process::StringVector;
use crate::sys::stamps::Stamps;
use crate::sys::{Call, During, Fail, Outcome, network, process, settings};

use hook::{Ending, Prepared};
use wire::{Kind, Record};

/// CLONE_NEWTIME of sched.h.
const NEW_TIME: u64 = 0x80;

/// The child's tools, made by the parent, and what the child acquires on its way.
#[derive(Debug)]
pub struct Scene {
    pub plan: Arc<Plan>,
    /// To the parent, until `start`.
    pub channel: BorrowedFd<'static>,
    /// What `start` writes to, and what it reads from; `None` in `run`, where the channel serves.
    pub gate: Option<Gate>,
    /// A handle of the runtime's /proc.
    pub proc: BorrowedFd<'static>,
    /// The namespaces to join, in the order of `plan.namespaces.joins`.
    pub joins: Vec<u32>,
    /// Trees that the parent made, in the order of their slots.
    pub trees: Vec<u32>,
    /// The small mount namespace that ours is made from.
    pub mountns: Option<u32>,
    pub console_socket: Option<u32>,
    /// The network namespace comes through the channel, instead of from clone3.
    pub network_comes: bool,
    pub argv: StringVector,
    pub envp: StringVector,
    pub create_container: Vec<Prepared>,
    pub start_container: Vec<Prepared>,
    /// Files that their output goes to.
    pub hook_output: Vec<u32>,
    /// Every fd that must stay open.
    pub keep: Vec<u32>,
    /// How many fds from 3 on go to the program.
    pub preserve_fds: u32,
    /// The root file system's mount.
    pub root: Option<OwnedFd>,
    /// Where the last node or link was made.
    pub parent: inroot::Parent,
    /// Mounts that become read-only late; room for all of them.
    pub late: Vec<OwnedFd>,
    /// The first mask of a directory, which the others are clones of.
    pub empty_dir: Option<OwnedFd>,
    /// What masks files.
    pub null: Null,
    /// Which candidate args[0] is.
    pub program: usize,
    pub cwd_as_user: bool,
    /// The caller's.
    pub umask: Mode,
    /// Where the begin of each step is noted for `--timings`.
    pub stamps: Option<Arc<Stamps>>,
}

/// The host's /dev/null, which masks files.
#[derive(Debug)]
pub enum Null {
    /// To be cloned for each mask.
    OnHost,
    /// Cloned before the host's mounts were left.
    Detached(OwnedFd),
    /// That, on the first file that it masks.
    Attached(OwnedFd),
}

/// The two fifos between the child and `start`, and the socket for a seccomp listener.
#[derive(Debug)]
pub struct Gate {
    pub start: BorrowedFd<'static>,
    pub report: BorrowedFd<'static>,
    /// Bound, and listened on by the child.
    pub listener: Option<BorrowedFd<'static>>,
}

impl Scene {
    /// Forgets the fds that a child with this very memory has opened or closed: their numbers
    /// mean nothing here.
    pub fn disown(&mut self) {
        std::mem::forget(self.root.take());
        std::mem::forget(self.empty_dir.take());
        self.late.drain(..).for_each(std::mem::forget);
        self.parent.disown();
    }

    /// The root's handle; ENOENT before there is one cannot happen in a valid plan.
    fn root(&self) -> Outcome<BorrowedFd<'static>> {
        match &self.root {
            Some(root) => Ok(process::borrow(process::number(root.as_fd()))),
            None => Err(Errno::NOENT).during(Call::OpenTree),
        }
    }
}

/// What a failing step adds to its error.
#[derive(Debug)]
pub struct Trouble {
    pub index: u16,
    detail: [u8; 200],
    detail_len: usize,
}

impl Trouble {
    fn new() -> Trouble {
        Trouble { index: 0, detail: [0; 200], detail_len: 0 }
    }

    fn detail(&self) -> &[u8] {
        &self.detail[..self.detail_len]
    }

    /// What the kernel says about a file system context (fsopen(2)): `e tmpfs: Bad value for 'size'`.
    fn read_kernel_message(&mut self, context: BorrowedFd<'_>) {
        self.detail_len = rustix::io::read(context, &mut self.detail[..]).unwrap_or(0);
    }
}

/// The whole life of the child before the program; returns only to exit with this status.
pub fn run(scene: &mut Scene) -> i32 {
    if let Err(fail) = prepare(scene) {
        return report(scene, &Record::failed(wire::BEFORE_STEPS, 0, fail, &[]), false);
    }
    let plan = Arc::clone(&scene.plan);
    let mut started = false;
    for (number, step) in plan.steps.iter().enumerate() {
        if let Some(stamps) = &scene.stamps {
            stamps.set(number);
        }
        let mut trouble = Trouble::new();
        if let Err(fail) = perform(scene, step, &mut trouble) {
            let record = Record::failed(number, trouble.index, fail, trouble.detail());
            return report(scene, &record, started);
        }
        started |= matches!(step, Step::Ready);
    }
    0
}

/// Dies with the parent until the container is on record; keeps only the fds it needs.
fn prepare(scene: &mut Scene) -> Outcome {
    set_parent_process_death_signal(Some(Signal::KILL)).during(Call::Prctl)?;
    process::close_all_but(&mut scene.keep).during(Call::CloseRange)?;
    process::reset_signals().during(Call::Sigaction)?;
    // What is made has exactly the mode that is asked for; `Umask` ends this.
    scene.umask = rustix::process::umask(Mode::empty());
    Ok(())
}

/// Sends an error to whoever waits for us: `create` or `run` on the channel, `start` on the fifo.
fn report(scene: &Scene, record: &Record, started: bool) -> i32 {
    let sent = match &scene.gate {
        Some(gate) if started => rustix::io::write(gate.report, &record.to_bytes()).map(drop),
        _ => wire::send(scene.channel, record),
    };
    // Nobody is left to tell when the parent is gone too.
    if sent.is_ok() { 1 } else { 2 }
}

/// Does one step. The order and the arguments are the plan's.
fn perform(scene: &mut Scene, step: &Step, trouble: &mut Trouble) -> Outcome {
    match step {
        Step::OomScoreAdj(value) => identity::write_proc(scene.proc, c"self/oom_score_adj", value.to_bytes(), true),
        Step::Undumpable => set_dumpable_behavior(DumpableBehavior::NotDumpable).during(Call::Prctl),
        Step::AwaitPlacement => wire::expect_byte(scene.channel, wire::PLACED).during(Call::ParentGone),
        Step::Outlive => {
            // It may have died before it was to be our death: when we were born into a frozen cgroup.
            wire::check_open(scene.channel).during(Call::ParentGone)?;
            wire::send(scene.channel, &Record::note(Kind::Ready)).during(Call::ParentGone)?;
            set_parent_process_death_signal(None).during(Call::Prctl)
        }
        Step::JoinContainer { namespaces, become_root } => join_container(scene, *namespaces, *become_root),
        Step::UserNamespaceRoot | Step::Join { .. } | Step::CgroupNamespace { .. } | Step::TimeNamespace { .. } => {
            enter_namespace(scene, step)
        }
        Step::Session => setsid().map(drop).during(Call::Setsid),
        Step::Keyring(name) => match settings::join_session_keyring(name) {
            // A kernel without keyrings has nothing to keep apart (CONFIG_KEYS).
            Ok(_) | Err(Errno::NOSYS) => Ok(()),
            Err(errno) => Err(errno).during(Call::Keyctl),
        },
        Step::Loopback => network::bring_loopback_up().map(drop),
        Step::Network => enter_network(scene),
        Step::NetDevices => wire::expect_byte(scene.channel, wire::EQUIPPED).during(Call::ParentGone),
        Step::Hostname(name) => rustix::system::sethostname(name.to_bytes()).during(Call::Sethostname),
        Step::Domainname(name) => settings::setdomainname(name.to_bytes()).during(Call::Setdomainname),
        Step::RuntimeHooks { dumpable: false } => await_hooks(scene),
        Step::RuntimeHooks { dumpable: true } => {
            set_dumpable_behavior(DumpableBehavior::Dumpable).during(Call::Prctl)?;
            await_hooks(scene)?;
            set_dumpable_behavior(DumpableBehavior::NotDumpable).during(Call::Prctl)
        }
        Step::CreateContainerHook(n) => {
            rustix::process::umask(scene.umask);
            let ran = run_hook(scene.create_container.get(*n), trouble);
            rustix::process::umask(Mode::empty());
            ran
        }
        Step::StartContainerHook(n) => run_hook(scene.start_container.get(*n), trouble),
        Step::Ready => become_ready(scene),
        Step::DropHandles => drop_handles(scene),
        Step::CloseFiles => close_files(scene),
        Step::Seccomp => filter::load(scene),
        Step::Exec => execute(scene, trouble),
        _ if is_file_system_step(step) => perform_file_system(scene, step, trouble),
        _ => perform_process(scene, step, trouble),
    }
}

fn is_file_system_step(step: &Step) -> bool {
    use Step::*;
    matches!(
        step,
        HostPropagation { .. }
            | Rootfs { .. }
            | CloneRootfs { .. }
            | SmallNamespace
            | RootDirectory(_)
            | Mount(_)
            | WorkingDirectory(_)
            | Device(_)
            | DevLink { .. }
            | Console { .. }
            | Sysctl { .. }
            | LateReadonly { .. }
            | RootReadonly
            | ReadonlyPath { .. }
            | MaskedPath { .. }
            | PivotRoot
            | MoveRoot
            | Chroot
            | RootPropagation { .. }
    )
}

fn perform_file_system(scene: &mut Scene, step: &Step, trouble: &mut Trouble) -> Outcome {
    let readonly = MountAttr { set: libc::MOUNT_ATTR_RDONLY, ..MountAttr::default() };
    match step {
        Step::HostPropagation { flags, .. } | Step::RootPropagation { flags, .. } => mounts::set_propagation(*flags),
        Step::Rootfs { path, isolate_parent } => mounts::mount_root(scene, path, *isolate_parent),
        Step::CloneRootfs { path, flags, null, .. } => mounts::clone_root(scene, path, *flags, *null),
        Step::SmallNamespace => mounts::enter_small_namespace(scene),
        Step::RootDirectory(path) => mounts::open_root(scene, path),
        Step::Mount(mount) => mounts::perform(scene, mount, trouble),
        Step::WorkingDirectory(path) => inroot::open_or_make(scene.root()?, path, inroot::Make::Directory).map(drop),
        Step::Device(device) => devices::make_node(scene, device),
        Step::DevLink { path, target, replace } => devices::make_link(scene, path, target, *replace),
        Step::Console { bind, size } => devices::open_console(scene, *bind, *size),
        Step::Sysctl { path, value, .. } => identity::write_proc(scene.proc, path, value.to_bytes(), false),
        Step::LateReadonly { slot, .. } => match scene.late.get(*slot) {
            Some(tree) => mount_setattr(tree.as_fd(), false, &readonly).during(Call::MountSetattr),
            None => Err(Errno::NOENT).during(Call::MountSetattr),
        },
        Step::RootReadonly => mount_setattr(scene.root()?, false, &readonly).during(Call::MountSetattr),
        Step::ReadonlyPath { path, .. } => devices::make_readonly(scene.root()?, path),
        Step::MaskedPath { path, .. } => devices::mask(scene, path),
        Step::PivotRoot => mounts::pivot(scene),
        Step::MoveRoot => mounts::move_root(scene),
        Step::Chroot => mounts::change_root(scene),
        _ => Err(Errno::NOSYS).during(Call::Mount),
    }
}

fn perform_process(scene: &mut Scene, step: &Step, trouble: &mut Trouble) -> Outcome {
    match step {
        Step::Scheduler(attr) => settings::sched_setattr(attr).during(Call::SchedSetattr),
        Step::Affinity(mask) => settings::sched_setaffinity(mask).during(Call::SchedSetaffinity),
        Step::IoPriority(value) => settings::ioprio_set(*value).during(Call::IoprioSet),
        Step::MemoryPolicy { mode, nodes } => settings::set_mempolicy(*mode, nodes).during(Call::SetMempolicy),
        Step::Personality(persona) => settings::personality(*persona).during(Call::Personality),
        Step::Rlimit { resource, soft, hard, .. } => settings::prlimit(*resource, *soft, *hard).during(Call::Prlimit),
        Step::StdioOwner { uid } => identity::own_stdio(*uid),
        Step::Umask(mask) => {
            rustix::process::umask(mask.map_or(scene.umask, Mode::from_raw_mode));
            Ok(())
        }
        Step::NoNewPrivileges => rustix::thread::set_no_new_privs(true).during(Call::Prctl),
        Step::Chdir(path) => identity::change_directory(scene, path),
        Step::User(credentials) => identity::become_user(credentials),
        Step::CheckDirectory(path) => match scene.cwd_as_user {
            true => identity::check_directory(path),
            false => identity::verify_directory(),
        },
        Step::Home { uid } => {
            identity::set_home(scene, *uid);
            Ok(())
        }
        Step::FindProgram => identity::find_program(scene, trouble),
        Step::ExecLabel { apparmor, label } => {
            let path = if *apparmor { c"self/attr/apparmor/exec" } else { c"self/attr/exec" };
            identity::write_proc(scene.proc, path, label.to_bytes(), true)
        }
        _ => Err(Errno::NOSYS).during(Call::Prctl),
    }
}

fn enter_namespace(scene: &mut Scene, step: &Step) -> Outcome {
    match step {
        Step::UserNamespaceRoot => {
            wire::expect_byte(scene.channel, wire::MAPPED).during(Call::ParentGone)?;
            identity::become_root()
        }
        Step::Join { flag, slot, .. } => {
            let Some(&fd) = scene.joins.get(*slot) else { return Err(Errno::BADF).during(Call::Setns) };
            settings::setns(process::borrow(fd), *flag).during(Call::Setns)
        }
        Step::CgroupNamespace { wait } => {
            if *wait {
                wire::expect_byte(scene.channel, wire::PLACED).during(Call::ParentGone)?;
            }
            settings::unshare(libc::CLONE_NEWCGROUP as u64).during(Call::Unshare)
        }
        Step::TimeNamespace { offsets } => {
            settings::unshare(NEW_TIME).during(Call::Unshare)?;
            if !offsets.is_empty() {
                identity::write_proc(scene.proc, c"self/timens_offsets", offsets.to_bytes(), true)?;
            }
            enter_time_namespace(scene)
        }
        _ => Err(Errno::NOSYS).during(Call::Setns),
    }
}

/// unshare(2) makes a time namespace for later children only. Newer kernels enter it at execve(2) too (6.2 does,
/// 5.19 does not); on older ones the program would silently run outside. setns(2) enters it on all that have it (5.6).
fn enter_time_namespace(scene: &Scene) -> Outcome {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let made = openat(scene.proc, c"self/ns/time_for_children", flags, Mode::empty()).during(Call::Openat)?;
    settings::setns(made.as_fd(), NEW_TIME).during(Call::Setns)
}

/// All namespaces in one call; setns(2) checks our rights in the user namespace first.
fn join_container(scene: &Scene, namespaces: u64, become_root: bool) -> Outcome {
    let Some(&pidfd) = scene.joins.first() else { return Err(Errno::BADF).during(Call::Setns) };
    if namespaces != 0 {
        settings::setns(process::borrow(pidfd), namespaces).during(Call::Setns)?;
    }
    if become_root { identity::become_root() } else { Ok(()) }
}

/// The network namespace that the parent has made beside us. Where it could not it is clone3's, or made now.
fn enter_network(scene: &Scene) -> Outcome {
    let namespace = match (scene.network_comes, &scene.plan.namespaces.maps) {
        (true, _) => wire::expect_fd(scene.channel, wire::NETWORK).during(Call::ParentGone)?,
        (false, Some(_)) => return network::make_namespace().map(drop),
        (false, None) => return network::bring_loopback_up().map(drop),
    };
    settings::setns(namespace.as_fd(), libc::CLONE_NEWNET as u64).during(Call::Setns)
}

fn await_hooks(scene: &Scene) -> Outcome {
    wire::send(scene.channel, &Record::note(Kind::Hooks)).during(Call::ParentGone)?;
    wire::expect_byte(scene.channel, wire::HOOKED).during(Call::ParentGone)
}

fn run_hook(hook: Option<&Prepared>, trouble: &mut Trouble) -> Outcome {
    let Some(hook) = hook else { return Err(Errno::NOENT).during(Call::HookStatus) };
    match hook::run(hook, process::own_pid())? {
        Ending::Success => Ok(()),
        Ending::Timeout => Err(Errno::TIMEDOUT).during(Call::HookTimeout),
        Ending::Failure(status, output) => {
            trouble.index = status as u16;
            trouble.detail_len = hook::tail(&output, &mut trouble.detail).len();
            Err(Errno::CANCELED).during(Call::HookStatus)
        }
    }
}

/// Everything but the program is in place: outlive the parent, say so, wait for `start`.
fn become_ready(scene: &mut Scene) -> Outcome {
    wire::expect_byte(scene.channel, wire::GO).during(Call::ParentGone)?;
    set_parent_process_death_signal(None).during(Call::Prctl)?;
    wire::send(scene.channel, &Record::note(Kind::Ready)).during(Call::ParentGone)?;
    match &scene.gate {
        None => wire::expect_byte(scene.channel, wire::START).during(Call::ParentGone),
        Some(gate) => {
            let mut byte = [0u8; 1];
            match retry_on_intr(|| rustix::io::read(gate.start, &mut byte)) {
                Ok(1) if byte[0] == wire::START => Ok(()),
                Ok(_) => Err(Errno::PROTO).during(Call::Read),
                Err(errno) => Err(errno).during(Call::Read),
            }
        }
    }
}

/// Closes what leads out of the container; what is left are the channel, the fifos, and where startContainer
/// hooks write to.
fn drop_handles(scene: &mut Scene) -> Outcome {
    let numbers = [process::number(scene.proc)];
    let done = if scene.start_container.is_empty() { &*scene.hook_output } else { &[] };
    let apart = scene.mountns.iter().chain(&scene.console_socket);
    let numbers = numbers.iter().chain(&scene.joins).chain(&scene.trees).chain(apart).chain(done);
    for &fd in numbers {
        process::close_one(fd).during(Call::CloseRange)?;
    }
    scene.root = None;
    scene.parent.close();
    scene.empty_dir = None;
    scene.null = Null::OnHost;
    scene.late.clear();
    Ok(())
}

/// Leaves nothing of ours open for the program.
fn close_files(scene: &Scene) -> Outcome {
    process::cloexec_from(3 + scene.preserve_fds).during(Call::CloseRange)?;
    for fd in 3..3 + scene.preserve_fds {
        process::keep_over_exec(fd).during(Call::CloseRange)?;
    }
    match &scene.gate {
        // From here on the container counts as running: the kernel closes the rest in no
        // certain order at execve, and `start` must not return before this end is gone.
        Some(gate) => process::close_one(process::number(gate.start)).during(Call::CloseRange),
        None => Ok(()),
    }
}

/// execve(2); returns only its failure.
fn execute(scene: &mut Scene, trouble: &mut Trouble) -> Outcome {
    trouble.index = scene.program as u16;
    let Some(path) = scene.plan.exec.candidates.get(scene.program) else {
        return Err(Errno::NOENT).during(Call::Execve);
    };
    let errno = process::execve(path, &scene.argv, &scene.envp);
    Err(Fail { call: Call::Execve, errno })
}
