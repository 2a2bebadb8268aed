//! The image that every engine runs: busybox in one layer, made on the spot. One archive is both an OCI
//! layout and what `docker save` writes, because docker before 25 reads only its own form.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::bundle;
use crate::case::{Outcome, fail};

/// The image's name in every engine's store.
pub const NAME: &str = "localhost/busybox:latest";

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// A blob in the layout: what a descriptor says of it.
struct Blob {
    digest: String,
    size: u64,
}

impl Blob {
    fn descriptor(&self, kind: &str) -> Value {
        json!({"mediaType": kind, "digest": format!("sha256:{}", self.digest), "size": self.size})
    }

    fn path(&self) -> String {
        format!("blobs/sha256/{}", self.digest)
    }
}

/// Writes the archive; `place` is a directory for its parts, gone afterwards.
pub fn make(place: &Path, archive: &Path) -> Outcome {
    let rootfs = place.join("rootfs");
    let layout = place.join("layout");
    bundle::make_rootfs(&rootfs)?;
    fs::create_dir_all(layout.join("blobs/sha256"))?;
    let layer_tar = place.join("layer.tar");
    tar(&rootfs, &layer_tar)?;
    let layer = keep(&layout, &fs::read(&layer_tar)?)?;
    let config = json!({
        "architecture": architecture(), "os": "linux", "created": "1970-01-01T00:00:00Z",
        "config": {"Env": ["PATH=/bin:/usr/bin"], "Cmd": ["sleep", "1000"], "WorkingDir": "/"},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", layer.digest)]},
        "history": [{"created": "1970-01-01T00:00:00Z", "created_by": "tar"}],
    });
    let config = keep(&layout, config.to_string().as_bytes())?;
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": config.descriptor(CONFIG), "layers": [layer.descriptor(LAYER)],
    });
    let manifest = keep(&layout, manifest.to_string().as_bytes())?;
    let mut entry = manifest.descriptor(MANIFEST);
    entry["annotations"] = json!({"io.containerd.image.name": NAME, "org.opencontainers.image.ref.name": NAME});
    fs::write(layout.join("index.json"), json!({"schemaVersion": 2, "manifests": [entry]}).to_string())?;
    fs::write(layout.join("oci-layout"), json!({"imageLayoutVersion": "1.0.0"}).to_string())?;
    let docker = json!([{"Config": config.path(), "RepoTags": [NAME], "Layers": [layer.path()]}]);
    fs::write(layout.join("manifest.json"), docker.to_string())?;
    tar(&layout, archive)?;
    Ok(fs::remove_dir_all(place)?)
}

fn tar(directory: &Path, archive: &Path) -> Outcome {
    let mut command = Command::new("tar");
    command.args(["--sort=name", "--numeric-owner", "--owner=0", "--group=0", "-C"]).arg(directory);
    let status = command.arg("-cf").arg(archive).arg(".").stdin(Stdio::null()).status()?;
    if status.success() { Ok(()) } else { fail(format!("tar {}: {status}", archive.display())) }
}

/// Stores a blob under its digest.
fn keep(layout: &Path, content: &[u8]) -> Outcome<Blob> {
    let draft = layout.join("draft");
    fs::write(&draft, content)?;
    let output = Command::new("sha256sum").arg(&draft).output()?;
    let said = String::from_utf8(output.stdout)?;
    let digest = said.split(' ').next().unwrap_or_default().to_string();
    if digest.len() != 64 {
        return fail(format!("sha256sum said: {said}"));
    }
    let blob = Blob { digest, size: content.len() as u64 };
    fs::rename(&draft, layout.join(blob.path()))?;
    Ok(blob)
}

/// The name that images give this machine.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
