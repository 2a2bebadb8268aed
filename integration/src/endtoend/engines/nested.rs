//! xebec inside a container of an engine, as root with all rights and as root with an engine's usual ones: what is
//! bound into the engine's container, and what the innermost container has to say.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use serde_json::{Value, json};

use crate::call::Done;
use crate::case::Outcome;
use crate::endtoend::settings::Settings;
use crate::equal;

use super::image;
use super::session::Session;

const SAYS: &str = "inner as 0 with pid 1\n";

/// The words after an engine's `run` for a container with these rights that runs one of the two bundles.
pub fn words(session: &Session, rights: &[&str], bundle: &str) -> Outcome<Vec<String>> {
    let place = session.home.join("nested");
    if !place.exists() {
        furnish(&place)?;
    }
    let (volume, bundle) = (format!("{}:/nested:ro", place.display()), format!("/nested/{bundle}"));
    let before = ["--rm", "--tmpfs", "/run", "--volume", &volume];
    // With the usual rights cgroups are read-only: the inner container has none of its own.
    let rootless = if bundle.ends_with("usual") { "--rootless=true" } else { "--rootless=auto" };
    let command = ["/nested/xebec", "--root", "/run/xebec", rootless, "run", "--bundle", &bundle, "inner"];
    let all = before.iter().chain(rights).chain(&[image::NAME]).chain(&command);
    Ok(all.map(ToString::to_string).collect())
}

/// A directory with the runtime, a root file system and two bundles, for everybody to read.
fn furnish(place: &Path) -> Outcome {
    let rootfs = place.join("rootfs");
    for directory in ["bin", "proc", "dev"] {
        fs::create_dir_all(rootfs.join(directory))?;
    }
    fs::copy("/bin/busybox", rootfs.join("bin/busybox"))?;
    for name in ["sh", "id"] {
        symlink("busybox", rootfs.join("bin").join(name))?;
    }
    // The runtime under test, whatever the engine uses.
    let runtime = Settings::inherited()?.runtimes.into_iter().next().map(|(_, path)| path).unwrap_or_default();
    fs::copy(runtime, place.join("xebec"))?;
    for (name, user_namespace) in [("privileged", false), ("usual", true)] {
        let bundle = place.join(name);
        fs::create_dir(&bundle)?;
        fs::write(bundle.join("config.json"), config(user_namespace).to_string())?;
    }
    for path in [&rootfs.join("bin/busybox"), &place.join("xebec")] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

fn config(user_namespace: bool) -> Value {
    let mut linux = json!({"namespaces": [{"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}]});
    if user_namespace {
        linux["namespaces"].as_array_mut().into_iter().for_each(|list| list.push(json!({"type": "user"})));
        for maps in ["uidMappings", "gidMappings"] {
            // No line may reach over the end of one of the engine's own, whose root is a line of its own.
            linux[maps] =
                json!([{"containerID": 0, "hostID": 0, "size": 1}, {"containerID": 1, "hostID": 1, "size": 999}]);
        }
    }
    json!({
        "ociVersion": "1.0.2",
        "process": {"cwd": "/", "args": ["/bin/sh", "-c", "echo inner as $(id -u) with pid $$"], "env": ["PATH=/bin"],
                    "user": {"uid": 0, "gid": 0}},
        "root": {"path": "/nested/rootfs", "readonly": true},
        "hostname": "inner",
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"},
                   {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]}],
        "linux": linux
    })
}

pub fn judge(done: Done) -> Outcome {
    equal!(done.ok()?.stdout, SAYS, "what the innermost container says");
    Ok(())
}
