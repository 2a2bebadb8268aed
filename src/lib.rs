//! xebec: an OCI container runtime, as a library.
//!
//! The modules stand in the order in which a container passes them.
#![deny(unsafe_code)]

pub mod config;
pub mod error;
pub mod features;
mod hint;
pub mod spec;

pub use error::{Error, Kind, Result};
