//! One call of a runtime under ptrace(2), with one of its system calls disturbed: made to fail with an
//! error, or used as the moment of a SIGKILL; or with a file of the kernel's missing. Counts the calls of the runtime and of its child apart.
//! The child is let go when it becomes the payload; knows nothing of what the runtime is doing.

use std::collections::BTreeMap;
use std::fs;
use std::io::IoSliceMut;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use syscalls::Sysno;

use crate::call::{Done, Live};
use crate::case::{Outcome, fail};

/// A call that takes longer than this hangs; undisturbed it takes some ten milliseconds under ptrace.
const LIMIT: Duration = Duration::from_secs(10);

/// `op` of `struct ptrace_syscall_info`, ptrace(2).
const ENTRY: u8 = 1;
const EXIT: u8 = 2;

/// Calls whose man pages say that they always succeed or never return.
const UNFAILING: [Sysno; 13] = [
    Sysno::exit,
    Sysno::exit_group,
    Sysno::rt_sigreturn,
    Sysno::restart_syscall,
    Sysno::umask,
    Sysno::getpid,
    Sysno::getppid,
    Sysno::gettid,
    Sysno::getuid,
    Sysno::geteuid,
    Sysno::getgid,
    Sysno::getegid,
    Sysno::set_tid_address,
];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// The process that the caller started.
    Runtime,
    /// Whatever it starts, until that executes something.
    Child,
}

#[derive(Clone, Copy, Debug)]
pub enum Disturbance {
    Fail(Errno),
    Kill { runtime: bool, child: bool },
}

/// Which call is disturbed: the `number`th of `role`, from 0.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    pub role: Role,
    pub number: usize,
    pub what: Disturbance,
}

/// What is wrong with the kernel that a runtime meets.
#[derive(Clone, Copy, Debug)]
pub enum Trouble {
    Once(Fault),
    /// A system call that always answers so, by a seccomp filter that is there before the runtime.
    NoCall(Sysno, Errno),
    /// A file of this name that nobody finds.
    NoFile(&'static str),
}

/// What became of a disturbed call.
#[derive(Debug)]
pub struct Traced {
    pub done: Done,
    /// The disturbed system call when it came that far.
    pub hit: Option<Sysno>,
    /// Calls of the runtime and of the child.
    pub calls: [usize; 2],
    /// The child has become the payload.
    pub executed: bool,
}

struct Task {
    role: Role,
    /// The error that the call this task is in has to return.
    answer: Option<Errno>,
}

pub struct Tracer {
    root: Pid,
    /// The shell that waited for the tracer has become the runtime.
    begun: bool,
    tasks: BTreeMap<Pid, Task>,
    trouble: Option<Trouble>,
    hit: Option<Sysno>,
    calls: [usize; 2],
    executed: bool,
    ended: Option<ExitStatus>,
}

const OPTIONS: Options = Options::PTRACE_O_TRACESYSGOOD
    .union(Options::PTRACE_O_TRACECLONE)
    .union(Options::PTRACE_O_TRACEFORK)
    .union(Options::PTRACE_O_TRACEVFORK)
    .union(Options::PTRACE_O_TRACEEXEC)
    .union(Options::PTRACE_O_EXITKILL);

/// The script before the runtime's `exec` that lets the tracer come in time.
pub const WAIT_FOR_TRACER: &str = "kill -STOP $$";

/// Follows a call that began with [`WAIT_FOR_TRACER`] to its end. `joined` is a process that was there
/// before and counts as the child, as the first process of a created container does for `start`.
pub fn trace(live: &Live, joined: Option<i32>, trouble: Option<Trouble>, hit: &mut Option<Sysno>) -> Outcome<Traced> {
    let root = Pid::from_raw(live.pid());
    match waitpid(root, Some(WaitPidFlag::WUNTRACED))? {
        WaitStatus::Stopped(_, Signal::SIGSTOP) => {}
        other => return fail(format!("the shell before the runtime did not stop: {other:?}")),
    }
    ptrace::seize(root, OPTIONS)?;
    let mut tracer = Tracer {
        root,
        begun: false,
        tasks: BTreeMap::from([(root, Task { role: Role::Runtime, answer: None })]),
        trouble,
        hit: None,
        calls: [0; 2],
        executed: false,
        ended: None,
    };
    if let Some(pid) = joined.map(Pid::from_raw) {
        ptrace::seize(pid, OPTIONS)?;
        tracer.tasks.insert(pid, Task { role: Role::Child, answer: None });
        ptrace::interrupt(pid)?;
    }
    kill(root, Signal::SIGCONT)?;
    let in_time = tracer.follow()?;
    *hit = tracer.hit;
    let done = live.finish(tracer.ended);
    if !in_time {
        return fail(format!("`{}` did not end within {LIMIT:?}: a hang; stderr: {}", done.words, done.stderr.trim()));
    }
    Ok(Traced { done, hit: tracer.hit, calls: tracer.calls, executed: tracer.executed })
}

impl Tracer {
    /// Until every traced process has ended or been let go; false when that took too long.
    fn follow(&mut self) -> Outcome<bool> {
        let deadline = Instant::now() + LIMIT;
        let mut idle = 0;
        // Not until the known tasks are gone: a new child is traced before it is heard of.
        loop {
            match waitpid(None, Some(WaitPidFlag::__WALL | WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) if Instant::now() > deadline => {
                    self.end_all()?;
                    return Ok(false);
                }
                Ok(WaitStatus::StillAlive) => {
                    idle += 1;
                    if idle > 50 {
                        sleep(Duration::from_micros(100));
                    }
                }
                Ok(status) => {
                    idle = 0;
                    self.react(status)?;
                }
                Err(Errno::ECHILD) => return Ok(true),
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    fn react(&mut self, status: WaitStatus) -> Outcome {
        let result = match status {
            WaitStatus::Exited(pid, code) => self.end(pid, ExitStatus::from_raw(code << 8)),
            WaitStatus::Signaled(pid, signal, _) => self.end(pid, ExitStatus::from_raw(signal as i32)),
            WaitStatus::Stopped(pid, signal) => self.resume(pid, Some(signal)),
            WaitStatus::PtraceSyscall(pid) => self.system_call(pid),
            WaitStatus::PtraceEvent(pid, _, event) if event == ptrace::Event::PTRACE_EVENT_EXEC as i32 => {
                self.exec(pid)
            }
            WaitStatus::PtraceEvent(pid, ..) => self.resume(pid, None),
            other => return fail(format!("waitpid said {other:?}")),
        };
        match result {
            // Killed while it was stopped: its end is reported next.
            Err(Errno::ESRCH) => Ok(()),
            other => Ok(other?),
        }
    }

    /// A task that was not heard of before is a thread of the runtime or belongs to the child.
    fn learn(&mut self, pid: Pid) -> &mut Task {
        let root = self.root;
        self.tasks.entry(pid).or_insert_with(|| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let thread = status.lines().any(|line| line == format!("Tgid:\t{root}"));
            Task { role: if thread { Role::Runtime } else { Role::Child }, answer: None }
        })
    }

    fn end(&mut self, pid: Pid, status: ExitStatus) -> nix::Result<()> {
        self.tasks.remove(&pid);
        if pid != self.root {
            return Ok(());
        }
        self.ended = Some(status);
        // What outlives the runtime is let go at its next stop.
        for other in self.tasks.keys() {
            match ptrace::interrupt(*other) {
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    fn exec(&mut self, pid: Pid) -> nix::Result<()> {
        if pid == self.root {
            self.begun = true;
            return self.resume(pid, None);
        }
        // A hook or the payload: from here on it is not the runtime's code.
        self.executed = true;
        self.let_go(pid, None)
    }

    fn let_go(&mut self, pid: Pid, signal: Option<Signal>) -> nix::Result<()> {
        self.tasks.remove(&pid);
        ptrace::detach(pid, signal)
    }

    fn resume(&mut self, pid: Pid, signal: Option<Signal>) -> nix::Result<()> {
        self.learn(pid);
        if self.ended.is_some() {
            return self.let_go(pid, signal);
        }
        ptrace::syscall(pid, signal)
    }

    fn system_call(&mut self, pid: Pid) -> nix::Result<()> {
        let operation = ptrace::syscall_info(pid)?.op;
        let begun = self.begun;
        let task = self.learn(pid);
        let role = task.role;
        if operation == EXIT
            && let Some(errno) = task.answer.take()
        {
            let mut registers = ptrace::getregs(pid)?;
            registers.rax = (-(errno as i64)) as u64;
            ptrace::setregs(pid, registers)?;
        }
        if operation == ENTRY && begun {
            let number = self.calls[role as usize];
            self.calls[role as usize] += 1;
            match self.trouble {
                Some(Trouble::Once(fault)) if fault.role == role && fault.number == number => {
                    self.disturb(pid, fault.what)?;
                }
                Some(Trouble::NoFile(name)) if opens(pid, name)? => {
                    self.disturb(pid, Disturbance::Fail(Errno::ENOENT))?
                }
                _ => {}
            }
        }
        self.resume(pid, None)
    }

    fn disturb(&mut self, pid: Pid, what: Disturbance) -> nix::Result<()> {
        let mut registers = ptrace::getregs(pid)?;
        let call = Sysno::new(registers.orig_rax as usize);
        self.hit = call;
        match what {
            Disturbance::Fail(_) if call.is_some_and(|call| UNFAILING.contains(&call)) => {}
            Disturbance::Fail(errno) => {
                // close(2) releases the descriptor whatever it answers; everything else does nothing,
                // for no call has this number.
                if call != Some(Sysno::close) {
                    registers.orig_rax = u64::MAX;
                    ptrace::setregs(pid, registers)?;
                }
                self.learn(pid).answer = Some(errno);
            }
            Disturbance::Kill { runtime, child } => {
                for (pid, task) in &self.tasks {
                    let wanted = if task.role == Role::Runtime { runtime } else { child };
                    if wanted {
                        kill(*pid, Signal::SIGKILL)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Ends a hang, so that the next attempt begins with nothing.
    fn end_all(&mut self) -> Outcome {
        for pid in self.tasks.keys() {
            match kill(*pid, Signal::SIGKILL) {
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        while !self.tasks.is_empty() {
            match waitpid(None, Some(WaitPidFlag::__WALL)) {
                Ok(WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, ..)) => {
                    self.tasks.remove(&pid);
                }
                Ok(_) => {}
                Err(Errno::ECHILD) => break,
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }
}

/// Is the call that this task is in an open of a file by just this name?
fn opens(pid: Pid, name: &str) -> nix::Result<bool> {
    let registers = ptrace::getregs(pid)?;
    let call = Sysno::new(registers.orig_rax as usize);
    if !matches!(call, Some(Sysno::openat | Sysno::openat2)) {
        return Ok(false);
    }
    let mut path = vec![0; name.len() + 1];
    let there = RemoteIoVec { base: registers.rsi as usize, len: path.len() };
    match process_vm_readv(pid, &mut [IoSliceMut::new(&mut path)], &[there]) {
        Ok(_) => Ok(path.strip_suffix(&[0]) == Some(name.as_bytes())),
        // A path that is shorter and ends with its page.
        Err(Errno::EFAULT) => Ok(false),
        Err(errno) => Err(errno),
    }
}
