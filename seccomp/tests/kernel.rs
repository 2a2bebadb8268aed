//! Filters in the running kernel, each in a child of its own.

mod generate;
mod oracle;

use generate::{OPS, args, cases};
use oracle::{arg, rule};
use proptest::prelude::*;
use std::os::fd::{AsRawFd, OwnedFd};
use xebec_seccomp::bpf::{self, Call};
use xebec_seccomp::{Arch, Errno, Filter, Options, Profile, compile, load};

/// Runs `body` in a forked child and gives its wait status. The child must not
/// allocate: other threads of the test may hold the allocator's lock.
fn in_child(body: impl FnOnce() -> i32) -> i32 {
    // SAFETY: the child only runs `body`, which makes bare system calls, and _exit.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork");
    if pid == 0 {
        let code = body();
        // SAFETY: ends the child without running the parent's exit handlers.
        unsafe { libc::_exit(code) }
    }
    let mut status = 0;
    // SAFETY: status is valid for a write; pid is our own child.
    let waited = unsafe { libc::waitpid(pid, &raw mut status, 0) };
    assert_eq!(waited, pid);
    status
}

/// Loads after no_new_privs, which the crate leaves to its caller.
fn load_in_child(filter: &Filter) -> Result<Option<OwnedFd>, Errno> {
    // SAFETY: prctl with plain numbers.
    unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    load(filter)
}

/// A raw call; gives minus errno on failure.
fn call(number: libc::c_long, args: [u64; 3]) -> i64 {
    // SAFETY: the tests only pass calls and arguments that touch no memory.
    let result = unsafe { libc::syscall(number, args[0], args[1], args[2]) };
    if result < 0 {
        // SAFETY: errno of this thread.
        return -i64::from(unsafe { *libc::__errno_location() });
    }
    result
}

fn filter_of(default: &str, rules: Vec<xebec_seccomp::Rule<'_>>) -> Filter {
    let profile = Profile { default_action: Some(default.into()), syscalls: rules, ..Profile::default() };
    compile(&profile, &Options::default()).expect("compiles")
}

fn exited(status: i32, code: i32) -> bool {
    libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == code
}

#[test]
fn the_engines_default_profile_loads_and_judges() {
    let json = oracle::engine_profile(Arch::X86_64, &[]);
    let profile: Profile<'_> = serde_json::from_str(&json).expect("a profile");
    let filter = compile(&profile, &Options::default()).expect("compiles");
    let status = in_child(|| {
        if load_in_child(&filter).is_err() {
            return 1;
        }
        if call(libc::SYS_getppid, [0; 3]) <= 0 {
            return 2;
        }
        if call(libc::SYS_personality, [0xffff_ffff, 0, 0]) < 0 {
            return 3;
        }
        // 0xffffffff is allowed, a higher word must not slip through.
        if call(libc::SYS_personality, [0x1_0000_0008, 0, 0]) != -38 {
            return 4;
        }
        // Without CAP_AUDIT_WRITE: an audit socket (16, _, 9) is EINVAL.
        if call(libc::SYS_socket, [16, 3, 9]) != -22 {
            return 5;
        }
        if call(libc::SYS_kexec_load, [0; 3]) != -1 {
            return 6;
        }
        0
    });
    assert!(exited(status, 0), "status {status:#x}");
}

#[test]
fn every_action_does_in_the_kernel_what_its_name_says() {
    let getppid = |action| filter_of("SCMP_ACT_ALLOW", vec![rule(&["getppid"], action, vec![])]);
    let try_it = |filter: &Filter| {
        in_child(|| {
            if load_in_child(filter).is_err() {
                return 101;
            }
            let result = call(libc::SYS_getppid, [0; 3]);
            if result >= 0 { 0 } else { -result as i32 }
        })
    };
    let signalled = |status| libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGSYS;
    assert!(signalled(try_it(&getppid("SCMP_ACT_KILL"))));
    assert!(signalled(try_it(&getppid("SCMP_ACT_KILL_THREAD"))));
    assert!(signalled(try_it(&getppid("SCMP_ACT_KILL_PROCESS"))));
    assert!(signalled(try_it(&getppid("SCMP_ACT_TRAP"))));
    assert!(exited(try_it(&getppid("SCMP_ACT_ERRNO")), libc::EPERM));
    // Without a tracer the call fails with ENOSYS (seccomp(2)).
    assert!(exited(try_it(&getppid("SCMP_ACT_TRACE")), libc::ENOSYS));
    assert!(exited(try_it(&getppid("SCMP_ACT_LOG")), 0));
    let allow = filter_of("SCMP_ACT_ERRNO", vec![rule(&["getppid", "exit_group"], "SCMP_ACT_ALLOW", vec![])]);
    assert!(exited(try_it(&allow), 0));
}

#[test]
fn notify_gives_a_listener_that_closes_on_exec() {
    let filter = filter_of("SCMP_ACT_ALLOW", vec![rule(&["getppid"], "SCMP_ACT_NOTIFY", vec![])]);
    assert!(filter.uses_notify);
    let status = in_child(|| match load_in_child(&filter) {
        Ok(Some(listener)) => {
            // SAFETY: fcntl on a descriptor this process owns.
            let flags = unsafe { libc::fcntl(listener.as_raw_fd(), libc::F_GETFD) };
            if flags & libc::FD_CLOEXEC != 0 { 0 } else { 2 }
        }
        _ => 1,
    });
    assert!(exited(status, 0), "status {status:#x}");
}

#[test]
fn every_flag_and_flags_together_are_taken_by_the_kernel() {
    let names = ["TSYNC", "LOG", "SPEC_ALLOW", "WAIT_KILLABLE_RECV"];
    for action in ["SCMP_ACT_ERRNO", "SCMP_ACT_NOTIFY"] {
        for set in 0..16 {
            let flags: Vec<String> = (0..4)
                .filter(|bit| set & (1 << bit) != 0)
                .map(|bit| format!("SECCOMP_FILTER_FLAG_{}", names[bit]))
                .collect();
            let profile = Profile {
                default_action: Some("SCMP_ACT_ALLOW".into()),
                flags: Some(flags.iter().map(|f| f.as_str().into()).collect()),
                syscalls: vec![rule(&["getppid"], action, vec![])],
                ..Profile::default()
            };
            let filter = compile(&profile, &Options::default()).expect("compiles");
            let status = in_child(|| match load_in_child(&filter) {
                Ok(listener) => i32::from(listener.is_some() != filter.uses_notify),
                Err(errno) => errno.0,
            });
            assert!(exited(status, 0), "{action} {flags:?}: status {status:#x}");
        }
    }
}

#[test]
fn loading_never_sets_no_new_privs() {
    let filter = filter_of("SCMP_ACT_ALLOW", vec![rule(&["getppid"], "SCMP_ACT_ERRNO", vec![])]);
    let status = in_child(|| {
        // Root may load without no_new_privs; anybody else gets EACCES.
        let loaded = load(&filter);
        // SAFETY: prctl with plain numbers.
        let set = unsafe { libc::prctl(libc::PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) };
        match loaded {
            Ok(None) | Err(Errno(libc::EACCES)) => set,
            _ => 100,
        }
    });
    assert!(exited(status, 0), "status {status:#x}");
}

#[test]
fn a_64_bit_comparison_holds_in_the_kernel_at_its_edges() {
    let value = 0x1_0000_0005;
    type Op = (&'static str, fn(u64, u64) -> bool);
    let ops: [Op; 6] = [
        ("SCMP_CMP_NE", |a, b| a != b),
        ("SCMP_CMP_LT", |a, b| a < b),
        ("SCMP_CMP_LE", |a, b| a <= b),
        ("SCMP_CMP_EQ", |a, b| a == b),
        ("SCMP_CMP_GE", |a, b| a >= b),
        ("SCMP_CMP_GT", |a, b| a > b),
    ];
    let tried = [0, 4, 5, 6, 0x1_0000_0004, value, 0x1_0000_0006, 0x2_0000_0005, u64::MAX];
    for (op, expected) in ops {
        let filter =
            filter_of("SCMP_ACT_ALLOW", vec![rule(&["getppid"], "SCMP_ACT_ERRNO", vec![arg(1, op, value, 0)])]);
        let status = in_child(|| {
            if load_in_child(&filter).is_err() {
                return 100;
            }
            for (at, tried) in tried.iter().enumerate() {
                let refused = call(libc::SYS_getppid, [0, *tried, 0]) < 0;
                if refused != expected(*tried, value) {
                    return at as i32 + 1;
                }
            }
            0
        });
        assert!(exited(status, 0), "{op}: status {status:#x}");
    }
}

/// A call of the 32-bit ABI from this 64-bit process.
#[cfg(target_arch = "x86_64")]
fn call_32bit(number: u32, first: u64, second: u64) -> i32 {
    let result: i32;
    // SAFETY: the tests only pass calls and arguments that touch no memory;
    // rbx, which the compiler may hold, is exchanged and put back.
    unsafe {
        std::arch::asm!(
            "xchg {first}, rbx",
            "int 0x80",
            "xchg {first}, rbx",
            first = inout(reg) first => _,
            inlateout("eax") number as i32 => result,
            in("rcx") second,
            // The kernel clears r8 to r11 on the way through this gate.
            out("r8") _, out("r9") _, out("r10") _, out("r11") _,
        );
    }
    result
}

#[cfg(target_arch = "x86_64")]
#[test]
fn calls_of_the_other_two_abis_meet_their_own_rules() {
    let mut profile = Profile {
        default_action: Some("SCMP_ACT_ALLOW".into()),
        architectures: vec!["SCMP_ARCH_X86".into(), "SCMP_ARCH_X32".into()],
        ..Profile::default()
    };
    profile.syscalls.push(rule(&["getppid", "socket"], "SCMP_ACT_ERRNO", vec![arg(1, "SCMP_CMP_EQ", 7, 0)]));
    let filter = compile(&profile, &Options::default()).expect("compiles");
    let status = in_child(|| {
        if load_in_child(&filter).is_err() {
            return 100;
        }
        // getppid is 64 there; only the low half of an argument counts.
        if call_32bit(64, 0, 6) <= 0 || call_32bit(64, 0, 7) != -1 {
            return 1;
        }
        // socketcall (102) with SYS_SOCKET (1) and the rule's second argument.
        if call_32bit(102, 1, 7) != -1 {
            return 2;
        }
        // getppid of x32: 110, with bit 30. A kernel without x32 would say
        // ENOSYS, the filter is asked first.
        if call(0x4000_0000 | libc::SYS_getppid, [0, 0xf_0000_0007, 0]) != -1 {
            return 3;
        }
        0
    });
    assert!(exited(status, 0), "status {status:#x}");
    // Without the ABI in the profile its first call ends the thread.
    profile.architectures.clear();
    let filter = compile(&profile, &Options::default()).expect("compiles");
    for x32 in [false, true] {
        let status = in_child(|| {
            if load_in_child(&filter).is_err() {
                return 100;
            }
            if x32 {
                call(0x4000_0000 | libc::SYS_getppid, [0; 3]);
            } else {
                call_32bit(64, 0, 0);
            }
            0
        });
        assert!(libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGSYS);
    }
}

proptest! {
    #![proptest_config(cases(60))]

    #[test]
    fn the_kernel_decides_as_the_interpreter(
        rules in prop::collection::vec(args(&OPS), 1..6),
        tried in prop::collection::vec(prop::array::uniform3(generate::value()), 24),
    ) {
        let rules: Vec<_> =
            rules.into_iter().map(|args| rule(&["getppid"], "SCMP_ACT_ERRNO", args)).collect();
        let filter = filter_of("SCMP_ACT_ALLOW", rules);
        let expected: Vec<bool> = tried
            .iter()
            .map(|[a, b, c]| {
                let call =
                    Call::new(Arch::native(), libc::SYS_getppid as u32, [*a, *b, *c, 0, 0, 0]);
                bpf::execute(&filter.program, &call, false).value != 0x7fff_0000
            })
            .collect();
        let status = in_child(|| {
            if load_in_child(&filter).is_err() {
                return 100;
            }
            for (at, (tried, expected)) in tried.iter().zip(&expected).enumerate() {
                if (call6(libc::SYS_getppid, *tried) < 0) != *expected {
                    return at as i32 + 1;
                }
            }
            0
        });
        prop_assert!(exited(status, 0), "status {:#x}", status);
    }
}

/// [`call`] with the arguments a rule may look at beyond the third as zeros.
fn call6(number: libc::c_long, args: [u64; 3]) -> i64 {
    // SAFETY: the tests only pass calls that ignore their arguments.
    let result = unsafe { libc::syscall(number, args[0], args[1], args[2], 0u64, 0u64, 0u64) };
    if result < 0 { -1 } else { result }
}
