//! CHECK of `mounts` (config.md, "Mounts").

use std::fmt;

use super::{Report, ids};
use crate::config::Mount;
use crate::config::finding::quoted;
use crate::config::mount_options::{Effect, mount_option};

/// The pointer of a mount, written out only when something is found there.
#[derive(Clone, Copy)]
struct At(usize);

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/mounts/{}", self.0)
    }
}

/// What a mount's options come to, as far as the rules below need it.
#[derive(Default)]
struct Asked {
    bind: bool,
    remount: bool,
    idmap: bool,
    tmpcopyup: bool,
    /// Index of the first option that is the file system's own.
    own: Option<usize>,
}

pub(super) fn check(report: &mut Report, i: usize, mount: &Mount<'_>, user_namespace: bool) {
    let at = At(i);
    destination(report, at, &mount.destination);
    for (name, text) in [("type", &mount.kind), ("source", &mount.source)] {
        report.c_text(format_args!("{at}/{name}"), text.as_deref().unwrap_or_default());
    }
    report.c_texts(format_args!("{at}/options"), mount.options.iter().map(|t| &**t));
    let asked = asked(mount);
    kind(report, at, mount, &asked);
    idmap(report, at, mount, &asked, user_namespace);
}

fn destination(report: &mut Report, at: At, destination: &str) {
    report.c_text(format_args!("{at}/destination"), destination);
    if destination.is_empty() {
        report.find(format_args!("{at}/destination"), "\"\" found, an absolute path expected");
    } else if !destination.starts_with('/') {
        let what = format_args!("{} is relative, which is deprecated; it is taken from /", quoted(destination));
        report.warn(format_args!("{at}/destination"), what);
    }
}

fn asked(mount: &Mount<'_>) -> Asked {
    let mut asked = Asked::default();
    for (i, option) in mount.options.iter().enumerate() {
        match mount_option(option) {
            Some(Effect::Bind | Effect::Rbind) => asked.bind = true,
            Some(Effect::Remount) => asked.remount = true,
            Some(Effect::Idmap | Effect::Ridmap) => asked.idmap = true,
            Some(Effect::TmpCopyUp) => asked.tmpcopyup = true,
            Some(_) => {}
            None => asked.own = asked.own.or(Some(i)),
        }
    }
    asked
}

/// A bind mount needs a source, any other a type.
fn kind(report: &mut Report, at: At, mount: &Mount<'_>, asked: &Asked) {
    let kind = mount.kind.as_deref().unwrap_or_default();
    let by_type = !asked.bind && kind == "bind";
    if by_type {
        // crun does the same; runc 1.1 fails with ENODEV.
        report.warn(format_args!("{at}/type"), "\"bind\" without the option bind or rbind is taken as bind");
    }
    if asked.bind || by_type {
        if mount.source.as_deref().unwrap_or_default().is_empty() {
            report.find(format_args!("{at}/source"), "required for a bind mount, a path was expected");
        }
        if let Some(i) = asked.own {
            let what = format_args!("{} belongs to a file system; a bind mount ignores it", quoted(&mount.options[i]));
            report.warn(format_args!("{at}/options/{i}"), what);
        }
    } else if kind.is_empty() && !asked.remount {
        report.find(format_args!("{at}/type"), "required unless the options have bind or rbind");
    }
    if asked.tmpcopyup && kind != "tmpfs" {
        report.warn(format_args!("{at}/options"), "tmpcopyup is for tmpfs; it is ignored");
    }
}

/// config.md, "Mounts", `uidMappings` and the option `idmap`.
fn idmap(report: &mut Report, at: At, mount: &Mount<'_>, asked: &Asked, user_namespace: bool) {
    let (uids, gids) = (&mount.uid_mappings, &mount.gid_mappings);
    ids::mappings(format_args!("{at}/uidMappings"), report, uids);
    ids::mappings(format_args!("{at}/gidMappings"), report, gids);
    match (uids.is_empty(), gids.is_empty()) {
        (false, true) => report.find(format_args!("{at}/gidMappings"), "required along with uidMappings"),
        (true, false) => report.find(format_args!("{at}/uidMappings"), "required along with gidMappings"),
        (true, true) if asked.idmap && !user_namespace => {
            let what = "idmap takes uidMappings and gidMappings, or a user namespace whose mappings it can use";
            report.find(format_args!("{at}/options"), what);
        }
        (false, false) if !asked.idmap => {
            report.warn(format_args!("{at}/options"), "mappings without the option idmap or ridmap are taken as idmap");
        }
        _ => {}
    }
}
