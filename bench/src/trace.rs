//! Follows a process and all its children by ptrace(2) and counts what they ask of the kernel, or their
//! instructions. What lives on when the traced process has ended (the container of `create`) is let go.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use nix::errno::Errno;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill, raise};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// What one call of a runtime cost.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    pub system_calls: u64,
    pub execs: u64,
    pub clones: u64,
    /// What write(2) and its like took.
    pub bytes_written: u64,
    pub page_faults: u64,
    /// Of the largest process, in KiB.
    pub peak_rss: u64,
    pub instructions: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Everything but instructions.
    Calls,
    /// One stop for each instruction in user space.
    Instructions,
}

/// Which code of one program was reached, as distances from the program's first byte in memory.
#[derive(Debug)]
pub struct Reached {
    program: (u64, u64),
    seen: HashSet<u64>,
    /// In the order of the first time.
    pub places: Vec<u64>,
}

impl Reached {
    /// Of this file, whichever mount it is run from.
    pub fn of(program: &Path) -> std::io::Result<Reached> {
        let program = fs::metadata(program).map(|meta| (meta.dev(), meta.ino()))?;
        Ok(Reached { program, seen: HashSet::new(), places: Vec::new() })
    }

    /// Where the process has the program, if that is what it runs.
    fn base(&self, pid: Pid) -> Option<u64> {
        let meta = fs::metadata(format!("/proc/{pid}/exe")).ok()?;
        let maps = fs::read_to_string(format!("/proc/{pid}/maps")).ok()?;
        let first = maps.split('-').next().and_then(|text| u64::from_str_radix(text, 16).ok())?;
        ((meta.dev(), meta.ino()) == self.program).then_some(first)
    }

    fn note(&mut self, place: u64) {
        if self.seen.insert(place) {
            self.places.push(place);
        }
    }
}

/// The stage that stops and then becomes the traced program: `PROGRAM [ARG]…`.
pub fn become_traced(words: &[String]) -> Result<ExitCode, String> {
    let (program, rest) = words.split_first().ok_or("--traced is for bench's own use")?;
    raise(Signal::SIGSTOP).map_err(|errno| format!("raise: {errno}"))?;
    Err(format!("{program}: {}", Command::new(program).args(rest).exec()))
}

/// A tracee, as far as it has come.
#[derive(Default)]
struct Tracee {
    in_call: bool,
    faults_before: u64,
    /// Where the program lies whose code is noted.
    base: Option<u64>,
}

struct Tracer<'a> {
    mode: Mode,
    reached: Option<&'a mut Reached>,
    main: Pid,
    tracees: BTreeMap<Pid, Tracee>,
    /// Counting begins with the exec of the traced program.
    counting: bool,
    cost: Cost,
}

/// Runs the command of [`become_traced`] to its end; it must succeed. Stepping, notes the code in `reached`.
pub fn count(command: &mut Command, mode: Mode, reached: Option<&mut Reached>) -> Result<Cost, String> {
    let failed = |what: &str, errno: Errno| format!("{what}: {errno}");
    let child = command.spawn().map_err(|error| format!("cannot start: {error}"))?;
    let main = Pid::from_raw(child.id() as i32);
    match waitpid(main, Some(WaitPidFlag::WUNTRACED)) {
        Ok(WaitStatus::Stopped(..)) => {}
        other => return Err(format!("the traced copy did not stop: {other:?}")),
    }
    let follow = Options::PTRACE_O_TRACEFORK | Options::PTRACE_O_TRACEVFORK | Options::PTRACE_O_TRACECLONE;
    let more = Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_TRACEEXEC | Options::PTRACE_O_TRACEEXIT;
    ptrace::seize(main, follow | more).map_err(|errno| failed("ptrace(PTRACE_SEIZE)", errno))?;
    kill(main, Signal::SIGCONT).map_err(|errno| failed("kill", errno))?;
    let mut tracer = Tracer {
        mode,
        reached,
        main,
        tracees: BTreeMap::from([(main, Tracee::default())]),
        counting: false,
        cost: Cost::default(),
    };
    let status = tracer.follow().map_err(|errno| failed("ptrace", errno))?;
    if status == 0 { Ok(tracer.cost) } else { Err(format!("exit status {status}")) }
}

impl Tracer<'_> {
    /// Until the main process has ended: its exit status.
    fn follow(&mut self) -> Result<i32, Errno> {
        loop {
            let event = match waitpid(None, Some(WaitPidFlag::__WALL)) {
                Err(Errno::EINTR) => continue,
                other => other?,
            };
            match event {
                WaitStatus::Exited(pid, status) if pid == self.main => return self.let_go().map(|()| status),
                WaitStatus::Signaled(pid, signal, _) if pid == self.main => {
                    return self.let_go().map(|()| 128 + signal as i32);
                }
                WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, ..) => {
                    self.tracees.remove(&pid);
                }
                WaitStatus::PtraceSyscall(pid) => {
                    self.system_call(pid)?;
                    self.go_on(pid, None)?;
                }
                WaitStatus::PtraceEvent(pid, signal, event) => self.event(pid, signal, event)?,
                // One instruction more, or one whole system call.
                WaitStatus::Stopped(pid, Signal::SIGTRAP) => {
                    self.cost.instructions += u64::from(self.counting);
                    self.note(pid)?;
                    self.go_on(pid, None)?;
                }
                WaitStatus::Stopped(pid, signal) => self.go_on(pid, Some(signal))?,
                _ => {}
            }
        }
    }

    /// A tracee that is killed meanwhile is told of by waitpid.
    fn go_on(&self, pid: Pid, signal: Option<Signal>) -> Result<(), Errno> {
        let stepping = self.mode == Mode::Instructions && self.counting;
        let gone = if stepping { ptrace::step(pid, signal) } else { ptrace::syscall(pid, signal) };
        if gone == Err(Errno::ESRCH) { Ok(()) } else { gone }
    }

    fn event(&mut self, pid: Pid, signal: Signal, event: i32) -> Result<(), Errno> {
        use nix::libc::PTRACE_EVENT_VFORK;
        use nix::libc::{
            PTRACE_EVENT_CLONE, PTRACE_EVENT_EXEC, PTRACE_EVENT_EXIT, PTRACE_EVENT_FORK, PTRACE_EVENT_STOP,
        };
        match event {
            PTRACE_EVENT_FORK | PTRACE_EVENT_VFORK | PTRACE_EVENT_CLONE => {
                self.cost.clones += u64::from(self.counting);
                let base = self.tracees.get(&pid).and_then(|tracee| tracee.base);
                // The new one may have been seen already.
                self.tracees.entry(Pid::from_raw(ptrace::getevent(pid)? as i32)).or_default().base = base;
            }
            PTRACE_EVENT_EXEC if !self.counting => {
                // The traced program's own start: what came before was ours.
                self.counting = true;
                let faults = page_faults(pid);
                let tracee = self.tracees.entry(pid).or_default();
                (tracee.in_call, tracee.faults_before) = (true, faults);
                self.cost.execs = 1;
                self.find_program(pid);
            }
            PTRACE_EVENT_EXEC => {
                self.cost.execs += 1;
                self.find_program(pid);
            }
            PTRACE_EVENT_EXIT => self.leave(pid),
            PTRACE_EVENT_STOP => {
                // A child's first stop; or a stopping signal, which the group's end will lift.
                self.tracees.entry(pid).or_default();
                if signal != Signal::SIGTRAP {
                    kill(pid, Signal::SIGCONT)?;
                }
            }
            _ => {}
        }
        self.go_on(pid, None)
    }

    fn find_program(&mut self, pid: Pid) {
        let base = self.reached.as_ref().and_then(|reached| reached.base(pid));
        self.tracees.entry(pid).or_default().base = base;
    }

    fn note(&mut self, pid: Pid) -> Result<(), Errno> {
        let Some(reached) = &mut self.reached else { return Ok(()) };
        if let Some(base) = self.tracees.get(&pid).and_then(|tracee| tracee.base) {
            match instruction_pointer(pid) {
                Err(Errno::ESRCH) => {}
                place => reached.note(place?.wrapping_sub(base)),
            }
        }
        Ok(())
    }

    /// Entry and exit of a system call come in turn.
    fn system_call(&mut self, pid: Pid) -> Result<(), Errno> {
        let Some(tracee) = self.tracees.get_mut(&pid) else { return Ok(()) };
        tracee.in_call = !tracee.in_call;
        if !self.counting {
            return Ok(());
        }
        let (number, answer) = registers(pid)?;
        if tracee.in_call {
            self.cost.system_calls += 1;
            if EXECS.contains(&number) {
                // The memory of before is gone after it.
                self.cost.peak_rss = self.cost.peak_rss.max(peak_rss(pid));
            }
        } else if WRITES.contains(&number) && answer > 0 {
            self.cost.bytes_written += answer as u64;
        }
        Ok(())
    }

    /// The last look at a process.
    fn leave(&mut self, pid: Pid) {
        let before = self.tracees.get(&pid).map_or(0, |tracee| tracee.faults_before);
        self.cost.page_faults += page_faults(pid).saturating_sub(before);
        self.cost.peak_rss = self.cost.peak_rss.max(peak_rss(pid));
    }

    /// Looks at those that live on, and detaches.
    fn let_go(&mut self) -> Result<(), Errno> {
        let left: Vec<Pid> = self.tracees.keys().copied().filter(|pid| *pid != self.main).collect();
        for pid in left {
            if ptrace::interrupt(pid).is_err() {
                continue;
            }
            match waitpid(pid, Some(WaitPidFlag::__WALL))? {
                WaitStatus::Exited(..) | WaitStatus::Signaled(..) => {}
                _ => {
                    self.leave(pid);
                    ptrace::detach(pid, None)?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(target_arch = "x86_64")]
const EXECS: [i64; 2] = [59, 322];
/// write, pwrite64, writev, pwritev, sendto, sendmsg, pwritev2, and the copies inside the kernel.
#[cfg(target_arch = "x86_64")]
const WRITES: [i64; 10] = [1, 18, 20, 296, 44, 46, 328, 40, 326, 275];
#[cfg(not(target_arch = "x86_64"))]
const EXECS: [i64; 2] = [221, 281];
#[cfg(not(target_arch = "x86_64"))]
const WRITES: [i64; 10] = [64, 68, 66, 70, 206, 211, 287, 71, 285, 76];

/// Number and answer of the system call.
#[cfg(target_arch = "x86_64")]
fn registers(pid: Pid) -> Result<(i64, i64), Errno> {
    let registers = ptrace::getregs(pid)?;
    Ok((registers.orig_rax as i64, registers.rax as i64))
}

#[cfg(target_arch = "x86_64")]
fn instruction_pointer(pid: Pid) -> Result<u64, Errno> {
    ptrace::getregs(pid).map(|registers| registers.rip)
}

#[cfg(not(target_arch = "x86_64"))]
fn instruction_pointer(pid: Pid) -> Result<u64, Errno> {
    ptrace::getregset::<ptrace::regset::NT_PRSTATUS>(pid).map(|registers| registers.pc)
}

/// The same where the calling convention has the number in x8 (aarch64).
#[cfg(not(target_arch = "x86_64"))]
fn registers(pid: Pid) -> Result<(i64, i64), Errno> {
    let registers = ptrace::getregset::<ptrace::regset::NT_PRSTATUS>(pid)?;
    Ok((registers.regs[8] as i64, registers.regs[0] as i64))
}

/// VmHWM of proc(5), in KiB; 0 for a process that has none any more.
fn peak_rss(pid: Pid) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|text| text.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

/// Minor and major ones of a thread (proc(5)): /proc/TID/stat itself has those of all its process.
fn page_faults(thread: Pid) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{thread}/task/{thread}/stat")).unwrap_or_default();
    // The name, in parentheses, may hold blanks.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let number = |at: usize| fields.get(at).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    number(7) + number(9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_counts_are_those_of_this_thread() {
        let own = nix::unistd::gettid();
        let others = std::thread::spawn(nix::unistd::gettid).join().expect("a thread");
        assert_eq!(page_faults(others), 0, "it has ended");
        let before = page_faults(own);
        let fresh = vec![1u8; 4 << 20];
        assert!(std::hint::black_box(&fresh).len() == 4 << 20 && page_faults(own) > before);
        assert!(peak_rss(own) > 4 << 10);
    }
}
