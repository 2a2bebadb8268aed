//! OCI seccomp profiles compiled to small, fast BPF filters.
#![deny(unsafe_code)]

mod action;
mod arch;
pub mod bpf;
mod diff;
mod emit;
mod explain;
mod filter;
mod hash;
mod load;
mod mux;
mod order;
mod parse;
mod profile;
mod rules;
#[allow(unsafe_code)]
mod sys;
mod table;
mod tree;

pub use action::Action;
pub use arch::Arch;
pub use diff::{Difference, diff};
pub use explain::{Explanation, Reason, explain};
pub use filter::{Error, Filter, Options, Warning, compile};
pub use load::{Errno, load};
pub use parse::Finding;
pub use profile::{Arg, Profile, Rule, Text};
pub use table::{syscall_name, syscall_number, syscalls};
