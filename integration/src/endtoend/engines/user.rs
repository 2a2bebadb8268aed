//! An ordinary user, known only in the sandbox: an entry in passwd(5) and group(5), ranges in subuid(5)
//! and subgid(5), a home, a runtime directory, and a cgroup of its own, as systemd delegates one.

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::case::Outcome;

use super::session::{Session, remove_cgroups};

const NAME: &str = "xbtuser";
const ID: u32 = 61_234;
const FIRST_SUBORDINATE: u32 = 700_000;
const CGROUP: &str = "/sys/fs/cgroup/xbtuser";

pub struct User {
    pub home: PathBuf,
    covered: Vec<&'static str>,
}

impl User {
    pub fn make(session: &Session) -> Outcome<User> {
        let home = session.home.join("user");
        let mut user = User { home: home.clone(), covered: Vec::new() };
        fs::create_dir_all(home.join("run"))?;
        for directory in [&home, &home.join("run")] {
            chown(directory, Some(ID), Some(ID))?;
        }
        let range = format!("{NAME}:{FIRST_SUBORDINATE}:65536\n");
        let passwd = format!("{NAME}:x:{ID}:{ID}::{}:/bin/sh\n", home.display());
        for (path, line) in [
            ("/etc/passwd", passwd),
            ("/etc/group", format!("{NAME}:x:{ID}:\n")),
            ("/etc/subuid", range.clone()),
            ("/etc/subgid", range),
        ] {
            user.cover(&session.home, path, &line)?;
        }
        delegate_cgroup()?;
        Ok(user)
    }

    /// Puts a copy with one more line over a file of /etc, in this mount namespace only.
    fn cover(&mut self, place: &Path, path: &'static str, line: &str) -> Outcome {
        let copy = place.join(path.trim_start_matches('/').replace('/', "-"));
        fs::write(&copy, fs::read_to_string(path)? + line)?;
        mount(Some(&copy), path, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
        self.covered.push(path);
        Ok(())
    }

    /// What to put before a command so that it runs as this user: in the delegated cgroup, with an
    /// environment as after a login.
    pub fn prefix(&self) -> Vec<String> {
        let home = self.home.display();
        let script = format!(
            "echo $$ >{CGROUP}/session/cgroup.procs && cd {home} && exec env HOME={home} USER={NAME} \
             XDG_RUNTIME_DIR={home}/run setpriv --reuid {ID} --regid {ID} --clear-groups -- \"$@\""
        );
        ["sh", "-c", &script, "sh"].map(String::from).to_vec()
    }

    pub fn remove(self) -> Outcome {
        for path in self.covered {
            umount2(path, MntFlags::empty())?;
        }
        remove_cgroups(&["xbtuser/session", "xbtuser"])
    }
}

/// Whoever delegates hands over these files and no others (cgroups(7), "delegation").
fn delegate_cgroup() -> Outcome {
    let session = Path::new(CGROUP).join("session");
    fs::create_dir_all(&session)?;
    for directory in [Path::new(CGROUP), &session] {
        chown(directory, Some(ID), Some(ID))?;
        for file in ["cgroup.procs", "cgroup.subtree_control", "cgroup.threads"] {
            chown(directory.join(file), Some(ID), Some(ID))?;
        }
    }
    Ok(())
}
