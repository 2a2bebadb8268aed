//! The first thing that create does: an id becomes a directory, locked, and nobody else's.

use std::path::Path;

use rustix::fs::{Access, AtFlags, CWD, Mode, accessat, mkdirat};
use rustix::io::Errno;

use crate::error::{Error, Kind, Result};

use super::{Container, ContainerId, directory, item};

impl Container {
    /// Takes the id for a new container, locked; the id must be free.
    ///
    /// A delete may take the new directory for that of a killed create before it is locked, and another create
    /// may follow: what was made is looked at again under the lock.
    pub fn claim(root: &Path, id: &ContainerId) -> Result<Container> {
        loop {
            Container::make_directory(root, id)?;
            let locked = Container::open(root, id).and_then(|container| container.lock().map(|()| container));
            match locked {
                Err(error) if error.kind() == Kind::NoSuchContainer => {}
                Ok(container) if container.has_record()? => return Err(exists(id, root)),
                other => return other,
            }
        }
    }

    fn make_directory(root: &Path, id: &ContainerId) -> Result<()> {
        let path = root.join(id.as_str());
        let mode = Mode::from_raw_mode(0o711);
        let made = match mkdirat(CWD, &path, mode) {
            Err(Errno::NOENT) => {
                make_root(root)?;
                mkdirat(CWD, &path, mode)
            }
            other => other,
        };
        match made {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) => Err(exists(id, root)),
            Err(errno) => Err(Error::sys(item(id), format!("mkdirat({:?})", path.display()), errno)),
        }
    }

    fn has_record(&self) -> Result<bool> {
        match accessat(&self.dir, "state.json", Access::EXISTS, AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(self.failed("faccessat", "state.json", errno)),
        }
    }
}

fn exists(id: &ContainerId, root: &Path) -> Error {
    Error::new(Kind::Exists, item(id), "a container with this id exists already")
        .hint(format!("choose another id, or delete it first ({})", directory(root, id)))
}

/// Makes --root where it is missing: mode 0711, so that nobody else lists the containers.
fn make_root(root: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o711).create(root);
    made.map_err(|e| {
        let errno = Errno::from_io_error(&e).unwrap_or(Errno::IO);
        Error::sys("--root", format!("mkdir({:?})", root.display()), errno)
            .hint("choose a directory that you may write with --root")
    })
}
