//! xebec: an OCI container runtime, as a library.
//!
//! The modules stand in the order in which a container passes them.
#![deny(unsafe_code)]

pub mod cgroup;
pub mod config;
pub mod error;
pub mod features;
mod hint;
pub mod host;
pub mod init;
pub mod plan;
pub mod spawn;
pub mod spec;
pub mod state;
pub mod sys;
pub mod teardown;

pub use error::{Error, Kind, Result};
