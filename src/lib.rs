//! xebec: an OCI container runtime, as a library.
//!
//! The modules stand in the order in which a container passes them; what most
//! callers need is re-exported here. Nothing prints and nothing exits: errors
//! are values.
//!
//! ```no_run
//! use xebec::{Bundle, ContainerId, Options};
//!
//! # fn main() -> xebec::Result<()> {
//! let bundle = Bundle::load("/bundles/hello".as_ref(), None)?;
//! let id = ContainerId::new("hello")?;
//! let options = Options { root: "/run/xebec".into(), ..Options::default() };
//! let created = xebec::create(&bundle, &id, &options)?;
//! xebec::start(&options.root, &id)?;
//! println!("{} runs as {}", created.id, created.pid);
//! # Ok(())
//! # }
//! ```
#![deny(unsafe_code)]

pub mod cgroup;
pub mod config;
pub mod doctor;
pub mod error;
pub mod exec;
pub mod features;
mod hint;
pub mod host;
pub mod init;
pub mod mountns;
pub mod plan;
pub mod spawn;
pub mod spec;
pub mod state;
pub mod sys;
pub mod teardown;
pub mod timings;

pub use config::Bundle;
pub use error::{Error, Kind, Result};
pub use exec::exec;
pub use spawn::{Options, create, run, start};
pub use state::{ContainerId, State, list, pause, resume, state, update};
pub use teardown::{delete, kill};
