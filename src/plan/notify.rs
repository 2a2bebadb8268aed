//! sd_notify(3) for the container: where it finds a socket to say READY=1 to.

use std::ffi::CString;

use crate::error::Result;
use crate::sys::mount::MountAttr;

use super::cstring;
use super::step::{MountStep, MountWhat};

/// The config item that errors and the printed plan name.
pub const ITEM: &str = "NOTIFY_SOCKET";

/// Binds the host directory `source`, in which `start` will make the socket, below the container's /run.
///
/// The directory and not the socket: the socket is not there yet when the mounts are made.
pub fn plan_mount(source: &str) -> Result<MountStep> {
    let set = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOEXEC;
    Ok(MountStep {
        index: None,
        destination: c"/run/notify".to_owned(),
        what: MountWhat::Bind { source: cstring(ITEM, source)?, recursive: false },
        attr: MountAttr { set, ..MountAttr::default() },
        recursive_attr: MountAttr::default(),
        propagation: Vec::new(),
        exact_destination: false,
        late_readonly: false,
    })
}

/// Tells the program; what the config says is for another place.
pub fn set_env(env: &mut Vec<CString>) {
    env.retain(|entry| !entry.as_bytes().starts_with(b"NOTIFY_SOCKET="));
    env.push(c"NOTIFY_SOCKET=/run/notify/notify.sock".to_owned());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_is_there_once() {
        let mut env = vec![c"NOTIFY_SOCKET=/host".to_owned(), c"A=b".to_owned()];
        set_env(&mut env);
        assert_eq!(env, [c"A=b".to_owned(), c"NOTIFY_SOCKET=/run/notify/notify.sock".to_owned()]);
    }
}
