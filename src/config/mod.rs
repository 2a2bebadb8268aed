//! PARSE: a bundle's config.json to a [`Config`], with all findings at once.
//!
//! Makes no system call besides reading the bundle; knows nothing of the host.

pub mod mount_options;
mod types;

pub use types::*;
