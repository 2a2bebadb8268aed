//! A runtime installed under the name `runc`, watched the way Inspektor Gadget watches for containers:
//! fanotify(7) on the binary, the words of the process that executes it, then the pid file in the bundle
//! at the moment the engine reads it. What such a tool does not recognise does not exist for it.

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use nix::fcntl::AT_FDCWD;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::fanotify::{
    EventFFlags, Fanotify, FanotifyEvent, FanotifyResponse, InitFlags, MarkFlags, MaskFlags, Response,
};

use crate::case::{Outcome, Stop};
use crate::trial::{Trial, has_controller};
use crate::{ensure, equal};

use super::containerd::{ctr, start_daemon};
use super::image;
use super::session::{Operations, Session, perform, remove_cgroups};

const OPERATIONS: Operations<Watched> = &[
    ("a container runs while it is watched", |watched| watched.run.clone().map_err(Stop::Fail)),
    ("its start is recognised by its words", recognised),
    ("the bundle is named by the id", bundle_name),
    ("the pid file did not exist before", absent_before),
    ("the pid file is digits and nothing else", digits),
    ("its process is in a mount namespace of its own", mount_namespace),
];

const ID: &str = "watched";

pub fn test(t: &mut Trial) -> Outcome {
    let mut session = Session::begin(t, "runc by name")?;
    let runtime = session.runtime.with_file_name("runc");
    if session.runtime != runtime {
        fs::rename(&session.runtime, &runtime)?;
        session.runtime = runtime;
    }
    let (daemon, socket) = start_daemon(&mut session, "")?;
    let archive = session.image.display().to_string();
    ctr(&mut session, &socket, &["images", "import", &archive]).go()?.ok()?;
    let (run, seen) = run_watched(&mut session, &socket)?;
    let mut watched = Watched { session, run, seen };
    let done = perform(&mut watched, OPERATIONS);
    daemon.end()?;
    done.and_then(|()| remove_cgroups(&["default"]))
}

struct Watched {
    session: Session,
    /// What became of the container.
    run: Result<(), String>,
    seen: Option<Start>,
}

impl AsMut<Session> for Watched {
    fn as_mut(&mut self) -> &mut Session {
        &mut self.session
    }
}

/// A container's start, as the watcher has recognised it.
#[derive(Debug)]
struct Start {
    bundle: PathBuf,
    pid_file: PathBuf,
    id: String,
    absent_before: bool,
    /// What the engine was about to read, and whether its process had left our mount namespace then.
    pid: Option<(String, bool)>,
}

fn run_watched(session: &mut Session, socket: &Path) -> Outcome<(Result<(), String>, Option<Start>)> {
    let flags = InitFlags::FAN_CLASS_CONTENT | InitFlags::FAN_CLOEXEC;
    let group = Fanotify::init(flags, EventFFlags::O_RDONLY | EventFFlags::O_CLOEXEC)?;
    group.mark(MarkFlags::FAN_MARK_ADD, MaskFlags::FAN_OPEN_EXEC_PERM, AT_FDCWD, Some(&session.runtime))?;
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let watcher = scope.spawn(|| watch(group, &stop));
        let runtime = session.runtime.display().to_string();
        let shares: &[&str] = if has_controller("cpu") { &[] } else { &["--cpu-shares", "0"] };
        let words = [&["run", "--rm", "--runc-binary", &runtime], shares, &[image::NAME, ID, "echo", "here"]].concat();
        let done = ctr(session, socket, &words).go();
        stop.store(true, Ordering::Relaxed);
        let seen = watcher.join().map_err(|_| Stop::Fail("the watcher has panicked".into()))??;
        let done = done?;
        let run =
            if done.stdout == "here\n" { Ok(()) } else { Err(format!("it says: {}{}", done.stdout, done.stderr)) };
        Ok((run, seen))
    })
}

/// Answers the kernel's questions until it is told to stop. Whoever is asked about waits meanwhile; when
/// the group's descriptor is closed the kernel lets everything through.
fn watch(group: Fanotify, stop: &AtomicBool) -> Outcome<Option<Start>> {
    let mut start = None;
    while !stop.load(Ordering::Relaxed) {
        let mut fds = [PollFd::new(group.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, PollTimeout::from(100u8))? == 0 {
            continue;
        }
        for event in group.read_events()? {
            let looked = look(&group, &event, &mut start);
            if let Some(fd) = event.fd() {
                group.write_response(FanotifyResponse::new(fd, Response::FAN_ALLOW))?;
            }
            looked?;
        }
    }
    Ok(start)
}

fn look(group: &Fanotify, event: &FanotifyEvent, start: &mut Option<Start>) -> Outcome {
    if event.mask().contains(MaskFlags::FAN_OPEN_EXEC_PERM) {
        // The words are those from before this execve: so what is seen is the runtime that executes
        // itself once more, which is how these tools know it.
        let found = recognise(event.pid());
        if let (None, Some(found)) = (start.as_ref(), found) {
            let mask = MaskFlags::FAN_ACCESS_PERM | MaskFlags::FAN_EVENT_ON_CHILD;
            group.mark(MarkFlags::FAN_MARK_ADD, mask, AT_FDCWD, Some(&found.bundle))?;
            *start = Some(found);
        }
        return Ok(());
    }
    let (Some(start), Some(fd)) = (start.as_mut(), event.fd()) else {
        return Ok(());
    };
    let own: OwnedFd = fd.as_fd().try_clone_to_owned()?;
    let path = fs::read_link(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&own)))?;
    if path == start.pid_file && start.pid.is_none() {
        let mut text = String::new();
        File::from(own).read_to_string(&mut text)?;
        let outside = fs::read_link("/proc/self/ns/mnt")?;
        let inside = fs::read_link(format!("/proc/{}/ns/mnt", text.trim()));
        start.pid = Some((text, inside.is_ok_and(|inside| inside != outside)));
    }
    Ok(())
}

/// `… create … --bundle PATH … --pid-file PATH … ID`, each a word of its own.
fn recognise(pid: i32) -> Option<Start> {
    let text = fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
    let words: Vec<&str> = text.trim_end_matches('\0').split('\0').collect();
    words.iter().find(|word| **word == "create")?;
    let after = |option: &str| words.iter().skip_while(|word| **word != option).nth(1).map(PathBuf::from);
    let (bundle, pid_file) = (after("--bundle")?, after("--pid-file")?);
    let absent_before = !pid_file.exists();
    Some(Start { bundle, pid_file, id: words.last()?.to_string(), absent_before, pid: None })
}

impl Watched {
    fn start(&self) -> Outcome<&Start> {
        self.seen.as_ref().ok_or_else(|| Stop::Fail("no start was recognised".into()))
    }

    fn pid(&self) -> Outcome<&(String, bool)> {
        self.start()?.pid.as_ref().ok_or_else(|| Stop::Fail("nobody has read the pid file".into()))
    }
}

fn recognised(watched: &mut Watched) -> Outcome {
    watched.start().map(drop)
}

fn bundle_name(watched: &mut Watched) -> Outcome {
    let start = watched.start()?;
    let name = start.bundle.file_name().unwrap_or_default().to_string_lossy().into_owned();
    equal!((name.as_str(), start.id.as_str()), (ID, ID), "the bundle's name and the last word");
    Ok(())
}

fn absent_before(watched: &mut Watched) -> Outcome {
    ensure!(watched.start()?.absent_before, "it was there when create began");
    Ok(())
}

fn digits(watched: &mut Watched) -> Outcome {
    let (text, _) = watched.pid()?;
    ensure!(!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()), "the pid file holds {text:?}");
    Ok(())
}

fn mount_namespace(watched: &mut Watched) -> Outcome {
    let (text, own) = watched.pid()?;
    ensure!(*own, "process {text} is in the caller's");
    Ok(())
}
