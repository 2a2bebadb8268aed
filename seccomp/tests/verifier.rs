//! The verifier against the running kernel: both must take or refuse the same
//! programs.

use proptest::prelude::*;
use proptest::sample::select;
use xebec_seccomp::bpf::{self, Call, Instruction, MAX_INSTRUCTIONS, Rejected};
use xebec_seccomp::{Arch, Errno, Filter, load};

const ALLOW: Instruction = op(0x06, 0, 0, 0x7fff_0000);

const fn op(code: u16, jt: u8, jf: u8, k: u32) -> Instruction {
    Instruction { code, jt, jf, k }
}

/// Whether the kernel takes the program; asked in a child that ends at once,
/// so that no filter outlives the question.
fn kernel_takes(program: &[Instruction]) -> bool {
    let filter = Filter { program: program.to_vec(), flags: 0, uses_notify: false, warnings: Vec::new() };
    // SAFETY: the child makes bare system calls and allocates nothing.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork");
    if pid == 0 {
        // SAFETY: prctl with plain numbers.
        unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
        let code = match load(&filter) {
            Ok(_) => 0,
            Err(Errno(errno)) => errno,
        };
        // SAFETY: ends the child without running the parent's exit handlers.
        unsafe { libc::_exit(code) }
    }
    let mut status = 0;
    // SAFETY: status is valid for a write; pid is our own child.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    // A filter that ends the child, or will not let it exit, was loaded.
    let refused = libc::WIFEXITED(status) && libc::WEXITSTATUS(status) != 0;
    if refused {
        assert_eq!(libc::WEXITSTATUS(status), libc::EINVAL, "refused for another reason");
    }
    !refused
}

#[test]
fn each_rule_of_the_kernel_is_a_rule_of_the_verifier() {
    let cases: [(&[Instruction], Result<(), Rejected>); 19] = [
        (&[ALLOW], Ok(())),
        (&[], Err(Rejected::Length(0))),
        (&[op(0x20, 0, 0, 0)], Err(Rejected::End)),
        (&[op(0x20, 0, 0, 60), ALLOW], Ok(())),
        (&[op(0x20, 0, 0, 64), ALLOW], Err(Rejected::Load(0))),
        (&[op(0x20, 0, 0, 2), ALLOW], Err(Rejected::Load(0))),
        // A half word and a byte: not for seccomp.
        (&[op(0x28, 0, 0, 0), ALLOW], Err(Rejected::Operation(0))),
        (&[op(0x30, 0, 0, 0), ALLOW], Err(Rejected::Operation(0))),
        (&[op(0x05, 0, 0, 1), ALLOW], Err(Rejected::Jump(0))),
        (&[op(0x05, 0, 0, 0), ALLOW], Ok(())),
        (&[op(0x15, 0, 1, 0), ALLOW], Err(Rejected::Jump(0))),
        (&[op(0x15, 1, 0, 0), ALLOW, ALLOW], Ok(())),
        (&[op(0x34, 0, 0, 0), ALLOW], Err(Rejected::Division(0))),
        (&[op(0x64, 0, 0, 32), ALLOW], Err(Rejected::Shift(0))),
        (&[op(0x94, 0, 0, 2), ALLOW], Err(Rejected::Operation(0))),
        (&[op(0x60, 0, 0, 3), ALLOW], Err(Rejected::Cell(0))),
        (&[op(0x02, 0, 0, 3), op(0x60, 0, 0, 3), ALLOW], Ok(())),
        (&[op(0x02, 0, 0, 16), ALLOW], Err(Rejected::Cell(0))),
        (&[op(0x15, 0, 1, 0), op(0x02, 0, 0, 3), op(0x60, 0, 0, 3), ALLOW], Err(Rejected::Cell(2))),
    ];
    for (program, expected) in cases {
        assert_eq!(bpf::verify(program), expected, "{program:?}");
        assert_eq!(kernel_takes(program), expected.is_ok(), "{program:?}");
    }
}

#[test]
fn the_longest_program_is_4096_instructions() {
    let mut program = vec![ALLOW; MAX_INSTRUCTIONS];
    assert!(bpf::verify(&program).is_ok() && kernel_takes(&program));
    program.push(ALLOW);
    assert_eq!(bpf::verify(&program), Err(Rejected::Length(4097)));
    assert!(!kernel_takes(&program));
}

#[test]
fn every_word_of_a_call_is_where_the_kernel_puts_it() {
    let call = Call {
        nr: 1,
        arch: Arch::X86_64.audit(),
        instruction_pointer: 0x0300_0000_0002,
        args: [0x5_0000_0004, 0x7_0000_0006, 0, 0, 0, 0xf_0000_000e],
    };
    let word = |offset, big| {
        let program = [op(0x20, 0, 0, offset), op(0x16, 0, 0, 0)];
        bpf::run(&program, &call, big).expect("verified").value
    };
    let little = [0, 4, 8, 12, 16, 20, 24, 28, 56, 60].map(|o| word(o, false));
    assert_eq!(little, [1, 0xc000_003e, 2, 0x300, 4, 5, 6, 7, 0xe, 0xf]);
    let big = [0, 4, 8, 12, 16, 20, 56, 60].map(|o| word(o, true));
    assert_eq!(big, [1, 0xc000_003e, 0x300, 2, 5, 4, 0xf, 0xe]);
}

fn instruction() -> impl Strategy<Value = Instruction> {
    let known = select(vec![
        0x20u16, 0x06, 0x16, 0x54, 0x05, 0x15, 0x25, 0x35, 0x45, 0x1d, 0x2d, 0x80, 0x81, 0x00, 0x01, 0x60, 0x61, 0x02,
        0x03, 0x07, 0x87, 0x04, 0x0c, 0x14, 0x24, 0x34, 0x3c, 0x44, 0x64, 0x6c, 0x74, 0xa4, 0xac, 0x84, 0x94, 0x28,
        0x40, 0xb1,
    ]);
    let code = prop_oneof![9 => known, 1 => any::<u16>()];
    let k = prop_oneof![6 => 0..5u32, 2 => select(vec![16, 31, 32, 60, 64]), 1 => any::<u32>()];
    (code, 0..4u8, 0..4u8, k).prop_map(|(code, jt, jf, k)| op(code, jt, jf, k))
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 400,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn random_programs_are_judged_as_the_kernel_judges(
        mut program in prop::collection::vec(instruction(), 0..7),
    ) {
        program.extend([ALLOW; 4]);
        prop_assert_eq!(bpf::verify(&program).is_ok(), kernel_takes(&program), "{:?}", program);
        if bpf::verify(&program).is_ok() {
            // Whatever is verified ends with an answer.
            let call = Call::new(Arch::X86_64, 3, [1; 6]);
            prop_assert!(bpf::execute(&program, &call, false).steps as usize <= program.len());
        }
    }
}
