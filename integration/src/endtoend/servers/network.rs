//! The wire between the test and a container: a veth pair from the test's own network namespace into
//! the container's. iproute2 and util-linux do it, as they would for an administrator; the sandbox's
//! network namespace takes everything with it.

use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::mount::{MntFlags, umount2};

use crate::case::{Outcome, fail};

/// The address of the server, in a range for documentation (RFC 5737).
pub const SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const CLIENT: &str = "192.0.2.1/24";
const SERVER_LINK: &str = "192.0.2.2/24";
/// Whom the server sees as its client's network.
pub const NETWORK: &str = "192.0.2.0/24";

const OUTSIDE: &str = "veth-test";

/// A network namespace kept by a bind mount, as CNI plugins hand it to a runtime.
pub fn make_namespace(path: &Path) -> Outcome<PathBuf> {
    File::create(path)?;
    let keep = format!("--net={}", path.display());
    command(&["unshare", &keep, "/bin/true"])?;
    Ok(path.to_path_buf())
}

pub fn remove_namespace(path: &Path) -> Outcome {
    umount2(path, MntFlags::empty())?;
    Ok(fs::remove_file(path)?)
}

/// Joins the network namespace at `inside` to the caller's.
pub fn connect(inside: &Path) -> Outcome {
    let inside = inside.display().to_string();
    let enter = format!("--net={inside}");
    let ip = |words: &[&str]| command(&[&["ip"], words].concat());
    let ip_inside = |words: &[&str]| command(&[&["nsenter", &enter, "ip"], words].concat());
    ip(&["link", "set", "lo", "up"])?;
    ip(&["link", "add", OUTSIDE, "type", "veth", "peer", "name", "eth0", "netns", &inside])?;
    ip(&["address", "add", CLIENT, "dev", OUTSIDE])?;
    ip(&["link", "set", OUTSIDE, "up"])?;
    ip_inside(&["link", "set", "lo", "up"])?;
    ip_inside(&["address", "add", SERVER_LINK, "dev", "eth0"])?;
    ip_inside(&["link", "set", "eth0", "up"])
}

/// Takes the pair away where the namespace has not taken it already.
pub fn disconnect() -> Outcome {
    // Fails when the dying namespace has taken it meanwhile; what counts is asked below.
    drop(command(&["ip", "link", "delete", OUTSIDE]));
    if link_exists() {
        return fail(format!("{OUTSIDE} cannot be removed"));
    }
    Ok(())
}

fn link_exists() -> bool {
    command(&["ip", "link", "show", OUTSIDE]).is_ok()
}

fn command(words: &[&str]) -> Outcome {
    let output = Command::new(words[0]).args(&words[1..]).stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    fail(format!("`{}`: {}: {}", words.join(" "), output.status, said.trim()))
}
