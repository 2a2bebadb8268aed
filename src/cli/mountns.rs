//! `xebec mountns`: the small mount namespace that containers are made from on hosts with many mounts.

use xebec::{Result, mountns};

use super::args::{MountNamespace, MountNamespaceAction};

#[inline(never)]
pub fn run(args: &MountNamespace) -> Result<u8> {
    match args.action {
        MountNamespaceAction::Pin => mountns::pin()?,
        MountNamespaceAction::Unpin => mountns::unpin()?,
    }
    Ok(0)
}
