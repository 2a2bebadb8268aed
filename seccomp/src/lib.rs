//! OCI seccomp profiles (`linux.seccomp` of runtime-spec 1.3.0) compiled to
//! small, fast BPF filters, without libseccomp.
//!
//! ```
//! use xebec_seccomp::{Action, Arch, Options, Profile, bpf, compile};
//!
//! let json = r#"{
//!     "defaultAction": "SCMP_ACT_ERRNO",
//!     "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
//!     "syscalls": [
//!         { "names": ["read", "write", "exit_group"], "action": "SCMP_ACT_ALLOW" },
//!         { "names": ["personality"], "action": "SCMP_ACT_ALLOW",
//!           "args": [{ "index": 0, "value": 8, "op": "SCMP_CMP_EQ" }] }
//!     ]
//! }"#;
//! let profile: Profile = serde_json::from_str(json)?;
//! let options = Options { native: Arch::X86_64, ..Options::default() };
//! let filter = compile(&profile, &options)?;
//!
//! // Ask the program without the kernel:
//! let call = bpf::Call::new(Arch::X86_64, 135, [8, 0, 0, 0, 0, 0]);
//! let answer = bpf::run(&filter.program, &call, false)?;
//! assert_eq!(Action::from_value(answer.value), Action::Allow);
//!
//! // Between fork and execve, after no_new_privs or with CAP_SYS_ADMIN:
//! // let listener = xebec_seccomp::load(&filter)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What to call
//!
//! | | |
//! |---|---|
//! | [`Profile`] | the JSON object, borrowed from its text; `#[serde(borrow)] Option<Profile<'a>>` embeds it |
//! | [`Profile::check`] | everything in it the spec does not allow, with JSON pointers |
//! | [`compile`] | to a [`Filter`]; pure |
//! | [`load`] | a filter into the kernel: one seccomp(2), no allocation, never no_new_privs |
//! | [`explain`], [`diff`], [`show`] | which rule decides a call, what two profiles treat differently, the decisions as text |
//! | [`notify`] | what an agent of `SCMP_ACT_NOTIFY` needs to watch calls |
//! | [`bpf`] | the kernel's verifier, an interpreter and a disassembler for any seccomp program |
//!
//! Decisions are those of libseccomp 2.5.4 driven by runc, ENOSYS answers for
//! newer calls included. The README tells what wins when rules meet, where the
//! two differ, and how that is tested.
//!
//! # How it works
//!
//! `profile` (the words) -> `parse` (their values, all findings) -> `rules`
//! (numbers per ABI, rules merged, one list of ranges for each AUDIT_ARCH) ->
//! `tree` (a balanced tree over the ranges, a graph of tests for arguments) ->
//! `emit` (instructions from the last to the first) -> `load`. Everything
//! before `load` is pure; `sys` holds the only unsafe code.
#![deny(unsafe_code)]

mod action;
mod arch;
pub mod bpf;
mod diff;
mod emit;
mod explain;
mod filter;
mod groups;
mod hash;
mod load;
mod mux;
pub mod notify;
mod order;
mod parse;
mod profile;
mod rules;
mod show;
mod slots;
#[allow(unsafe_code)]
mod sys;
mod table;
mod tree;

pub use action::Action;
pub use arch::Arch;
pub use diff::{Difference, diff};
pub use explain::{Explanation, Reason, explain};
pub use filter::{Error, Filter, Options, Warning, compile};
pub use groups::groups;
pub use load::{Errno, load};
pub use parse::{Finding, flag_names, operator_names};
pub use profile::{Arg, Profile, Rule, Text};
pub use show::show;
pub use table::{syscall_name, syscall_number, syscalls};
