//! The bundle: a directory and the text of its config.json (bundle.md).
//!
//! The one place of `config` that makes system calls, and only to read.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::{Config, parse_config};
use crate::error::{Error, Result};
use crate::sys::process::realpath;

/// A bundle whose config.json has been read and not yet judged.
#[derive(Debug, Clone)]
pub struct Bundle {
    dir: PathBuf,
    name: String,
    text: String,
}

impl Bundle {
    /// Reads the bundle at `dir`; its config is `config` where given (relative
    /// to the current directory, `--config`), config.json in `dir` otherwise.
    ///
    /// # Errors
    /// The directory or the file is missing, is not of its kind, or cannot be read.
    pub fn load(dir: &Path, config: Option<&Path>) -> Result<Bundle> {
        let item = format!("bundle {}", dir.display());
        let real = realpath(dir).map_err(|errno| {
            Error::sys(&item, format!("realpath({:?})", dir.display()), errno)
                .hint("--bundle names the directory that holds config.json")
        })?;
        let (path, name) = match config {
            Some(path) => (path.to_owned(), path.display().to_string()),
            None => (real.join("config.json"), "config.json".to_owned()),
        };
        let item = if config.is_some() { format!("config {name}") } else { item };
        let text = read_text(&item, &path).map_err(|error| match error.errno() {
            Some(Errno::NOENT) => error.hint("`xebec spec` writes a config to start from"),
            _ => error,
        })?;
        Ok(Bundle { dir: real, name, text })
    }

    /// A bundle at `dir` (absolute) whose config is not read from a file.
    #[must_use]
    pub fn from_text(dir: PathBuf, text: String) -> Bundle {
        Bundle { dir, name: "config.json".to_owned(), text }
    }

    /// A bundle at `dir` (absolute) with the ecosystem's type as its config.
    ///
    /// # Errors
    /// The specification holds something that JSON cannot express.
    pub fn from_spec(dir: PathBuf, spec: &oci_spec::runtime::Spec) -> Result<Bundle> {
        let text = serde_json::to_string(spec).map_err(|e| Error::invalid("config", e.to_string()))?;
        Ok(Bundle::from_text(dir, text))
    }

    /// The bundle's directory: absolute, without symbolic links.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What errors call the config's file: `config.json`, or `--config`'s path.
    #[must_use]
    pub fn config_name(&self) -> &str {
        &self.name
    }

    /// The text of the config's file.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The config, of the right shape but not yet checked (`config::check`).
    ///
    /// # Errors
    /// All places at which the text is not what the specification says.
    pub fn config(&self) -> Result<Config<'_>> {
        parse_config(&self.name, &self.text)
    }
}

/// The text of a regular file, config.json or another. O_NONBLOCK: opening a fifo must not hang.
pub fn read_text(item: &str, path: &Path) -> Result<String> {
    let open = || OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
    let mut file: File = open().map_err(|e| failed(item, "open", path, &e))?;
    let metadata = file.metadata().map_err(|e| failed(item, "fstat", path, &e))?;
    if !metadata.is_file() {
        return Err(Error::invalid(item, format!("{} is not a regular file", path.display())));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0).saturating_add(1));
    file.read_to_end(&mut bytes).map_err(|e| failed(item, "read", path, &e))?;
    String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        Error::invalid(item, format!("{} is not UTF-8 at byte {at}", path.display()))
    })
}

/// `call` on `path` failed.
fn failed(item: &str, call: &str, path: &Path, error: &io::Error) -> Error {
    let errno = error.raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error);
    Error::sys(item, format_args!("{call}({:?})", path.display().to_string()), errno)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn refusal(dir: &Path, config: Option<&Path>) -> String {
        Bundle::load(dir, config).expect_err("must be refused").to_string()
    }

    #[test]
    fn a_bundle_is_its_canonical_directory_and_the_text() {
        let tmp = tempfile::tempdir().expect("tempdir");
        let dir = tmp.path().join("b");
        fs::create_dir(&dir).expect("mkdir");
        fs::write(dir.join("config.json"), r#"{"ociVersion":"1.3.0"}"#).expect("write");
        std::os::unix::fs::symlink(&dir, tmp.path().join("link")).expect("symlink");
        let bundle = Bundle::load(&tmp.path().join("link/../link"), None).expect("load");
        assert_eq!(bundle.dir(), dir.canonicalize().expect("canonicalize"));
        assert_eq!(&*bundle.config().expect("config").oci_version, "1.3.0");
        let other = tmp.path().join("other.json");
        fs::write(&other, r#"{"ociVersion":"1.0.0"}"#).expect("write");
        let bundle = Bundle::load(&dir, Some(&other)).expect("load");
        assert_eq!(&*bundle.config().expect("config").oci_version, "1.0.0");
        assert_eq!(bundle.config_name(), other.display().to_string());
    }

    #[test]
    fn what_cannot_be_read_is_named_with_call_errno_and_hint() {
        let tmp = tempfile::tempdir().expect("tempdir");
        let dir = tmp.path().canonicalize().expect("canonicalize");
        let at = dir.display();
        assert_eq!(
            refusal(&dir.join("none"), None),
            format!(
                "bundle {at}/none: realpath(\"{at}/none\"): no such file or directory (ENOENT); \
                 hint: --bundle names the directory that holds config.json"
            )
        );
        assert_eq!(
            refusal(&dir, None),
            format!(
                "bundle {at}: open(\"{at}/config.json\"): no such file or directory (ENOENT); \
                 hint: `xebec spec` writes a config to start from"
            )
        );
        fs::write(dir.join("file"), "").expect("write");
        assert!(refusal(&dir.join("file"), None).contains("not a directory (ENOTDIR)"));
        fs::create_dir(dir.join("config.json")).expect("mkdir");
        assert_eq!(refusal(&dir, None), format!("bundle {at}: {at}/config.json is not a regular file"));
    }

    #[test]
    fn a_fifo_is_refused_and_does_not_hang() {
        let tmp = tempfile::tempdir().expect("tempdir");
        let fifo = tmp.path().join("config.json");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::from_bits_truncate(0o600)).expect("mkfifo");
        assert!(refusal(tmp.path(), None).ends_with("config.json is not a regular file"));
    }

    #[test]
    fn text_that_is_not_utf8_is_refused_with_its_place() {
        let tmp = tempfile::tempdir().expect("tempdir");
        fs::write(tmp.path().join("config.json"), b"{\"a\":\"\xff\"}").expect("write");
        assert!(refusal(tmp.path(), None).ends_with("config.json is not UTF-8 at byte 6"));
    }

    #[test]
    fn a_bundle_can_be_made_from_the_ecosystems_type() {
        let spec = oci_spec::runtime::Spec::default();
        let bundle = Bundle::from_spec(PathBuf::from("/b"), &spec).expect("from_spec");
        let config = bundle.config().expect("config");
        assert_eq!(config.mounts.len(), spec.mounts().as_ref().expect("mounts").len());
    }
}
