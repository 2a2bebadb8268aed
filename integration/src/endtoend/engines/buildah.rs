//! buildah, which runs the RUN steps of a build in the runtime: as root, and as an ordinary user.

use std::fs;
use std::path::PathBuf;

use crate::call::Done;
use crate::case::Outcome;
use crate::ensure;
use crate::trial::Trial;

use super::image;
use super::session::{Operations, Session, ends_with, perform, unmount_storage};
use super::user::User;

const OPERATIONS: Operations<Buildah> = &[
    ("load the image", load),
    ("bud: a Containerfile with RUN steps", build),
    ("bud: a RUN step that fails", build_fails),
    ("from, run, commit", by_hand),
];

/// The steps need what an ordinary build needs: a shell, files of earlier steps, a user, an environment.
const CONTAINERFILE: &str = "FROM localhost/busybox:latest
ENV WORD=from-the-environment
COPY greeting /greeting
RUN cat /greeting >/made && echo $WORD >>/made && id -u >>/made
RUN test -s /made && ! test -e /no/such/file
USER 1000
RUN id -u >/tmp/user && ps >/tmp/processes
WORKDIR /tmp/deeper
RUN pwd >/tmp/directory
";

pub fn as_root(t: &mut Trial) -> Outcome {
    let session = Session::begin(t, "buildah")?;
    let home = session.home.clone();
    let mut engine = Buildah { session, user: None, home };
    perform(&mut engine, OPERATIONS)?;
    unmount_storage(&engine.home.join("root/overlay"))
}

pub fn rootless(t: &mut Trial) -> Outcome {
    let session = Session::begin(t, "buildah, rootless")?;
    let user = User::make(&session)?;
    let home = user.home.clone();
    let mut engine = Buildah { session, user: Some(user), home };
    perform(&mut engine, OPERATIONS)?;
    engine.user.map_or(Ok(()), User::remove)
}

struct Buildah {
    session: Session,
    /// Whom buildah runs as, other than root.
    user: Option<User>,
    /// For buildah's files.
    home: PathBuf,
}

impl AsMut<Session> for Buildah {
    fn as_mut(&mut self) -> &mut Session {
        &mut self.session
    }
}

impl Buildah {
    fn buildah(&mut self, words: &[&str]) -> Outcome<Done> {
        let place = |name: &str| self.home.join(name).display().to_string();
        let mut all = self.user.as_ref().map(User::prefix).unwrap_or_default();
        all.extend(["buildah", "--root", &place("root"), "--runroot", &place("runroot")].map(String::from));
        all.extend(words.iter().map(|word| word.to_string()));
        self.session.program(&all.iter().map(String::as_str).collect::<Vec<_>>()).go()
    }

    /// `bud` of a Containerfile in a directory of its own.
    fn build(&mut self, tag: &str, text: &str) -> Outcome<Done> {
        let context = self.home.join(tag);
        fs::create_dir(&context)?;
        fs::write(context.join("Containerfile"), text)?;
        fs::write(context.join("greeting"), "hello\n")?;
        let (context, runtime) = (context.display().to_string(), self.session.runtime.display().to_string());
        let limits = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=10000:10000"];
        let how = ["bud", "--isolation", "oci", "--runtime", &runtime, "--network", "none", "--pull=never"];
        self.buildah(&[&how[..], &limits, &["--tag", tag, &context]].concat())
    }

    /// A file of an image, read through a container that is never run.
    fn file(&mut self, image: &str, path: &str) -> Outcome<String> {
        let container = self.buildah(&["from", "--pull=never", image])?.ok()?.stdout.trim().to_string();
        // Only the user's own namespace may look at what the user has mounted.
        let script = format!(
            "cat $(buildah --root {0}/root --runroot {0}/runroot mount {container}){path}",
            self.home.display()
        );
        let mut all = self.user.as_ref().map(User::prefix).unwrap_or_default();
        let unshare: &[&str] = if self.user.is_some() { &["buildah", "unshare"] } else { &[] };
        all.extend([unshare, &["sh", "-c", &script]].concat().iter().map(|word| word.to_string()));
        let text = self.session.program(&all.iter().map(String::as_str).collect::<Vec<_>>()).go()?.ok()?.stdout;
        self.buildah(&["rm", &container])?.ok()?;
        Ok(text)
    }
}

fn load(engine: &mut Buildah) -> Outcome {
    let archive = format!("docker-archive:{}", engine.session.image.display());
    engine.buildah(&["pull", &archive])?.ok()?;
    let names = engine.buildah(&["images", "--format", "{{.Name}}:{{.Tag}}"])?.ok()?.stdout;
    ensure!(names.lines().any(|name| name == image::NAME), "the images are: {names}");
    Ok(())
}

fn build(engine: &mut Buildah) -> Outcome {
    engine.build("built", CONTAINERFILE)?.ok()?;
    for (path, wanted) in
        [("/made", "hello\nfrom-the-environment\n0\n"), ("/tmp/user", "1000\n"), ("/tmp/directory", "/tmp/deeper\n")]
    {
        let found = engine.file("localhost/built", path)?;
        ensure!(found == wanted, "{path} in the image is: {found}");
    }
    Ok(())
}

fn build_fails(engine: &mut Buildah) -> Outcome {
    let done = ends_with(engine.build("broken", "FROM localhost/busybox:latest\nRUN echo here && exit 9\n")?, 9)?;
    ensure!(done.stdout.contains("here"), "the step said: {}", done.stdout);
    Ok(())
}

fn by_hand(engine: &mut Buildah) -> Outcome {
    let container = engine.buildah(&["from", "--pull=never", image::NAME])?.ok()?.stdout.trim().to_string();
    let runtime = engine.session.runtime.display().to_string();
    let run = ["run", "--isolation", "oci", "--runtime", &runtime, "--network", "none", &container, "--"];
    let done = engine.buildah(&[&run[..], &["sh", "-c", "echo by hand | tee /tmp/by-hand"]].concat())?.ok()?;
    ensure!(done.stdout == "by hand\n", "the step said: {}", done.stdout);
    engine.buildah(&["commit", &container, "localhost/by-hand"])?.ok()?;
    engine.buildah(&["rm", &container])?.ok()?;
    let found = engine.file("localhost/by-hand", "/tmp/by-hand")?;
    ensure!(found == "by hand\n", "the file in the image is: {found}");
    Ok(())
}
