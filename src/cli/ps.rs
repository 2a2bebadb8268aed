//! `xebec ps`: the container's processes.

use std::ffi::OsString;
use std::process::Command;

use xebec::state::Container;
use xebec::{Error, Result};

use super::args::{Global, ListFormat, Ps};
use super::{io_error, print, settings};

#[inline(never)]
pub fn run(global: &Global, args: &Ps) -> Result<u8> {
    let container = Container::open(&settings::root(global)?, &settings::id(&args.id)?)?;
    let text = container.record_text()?;
    let record = container.finished(&text)?;
    let mut pids = record.cgroup.procs()?;
    if record.cgroup.is_none() {
        let (_, init) = container.status(&record.cgroup)?;
        pids.extend(init.map(|init| init.pid.as_raw_nonzero().get().unsigned_abs()));
    }
    match args.format {
        ListFormat::Json => {
            let text = serde_json::to_string(&pids).map_err(|e| Error::invalid("ps", e.to_string()))?;
            print(&(text + "\n"))
        }
        ListFormat::Table => print(&table(&pids, &args.options)?),
    }
}

/// The lines of ps(1) that are about the container, by the column named PID.
fn table(pids: &[u32], options: &[OsString]) -> Result<String> {
    let mut ps = Command::new("ps");
    if options.is_empty() {
        ps.arg("-ef");
    } else {
        ps.args(options);
    }
    let output = ps.output().map_err(|error| io_error("ps", "execve(\"ps\")", &error).hint("install procps"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(Error::invalid("ps", format!("ps failed: {said}")));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines = text.lines();
    let header = lines.next().unwrap_or_default();
    let column = header.split_ascii_whitespace().position(|name| name == "PID");
    let column = column.ok_or_else(|| Error::invalid("ps", "the options leave out the column PID"))?;
    let ours = |line: &&str| {
        let pid = line.split_ascii_whitespace().nth(column).and_then(|field| field.parse().ok());
        pid.is_some_and(|pid: u32| pids.contains(&pid))
    };
    let kept = std::iter::once(header).chain(lines.filter(ours));
    Ok(kept.map(|line| format!("{line}\n")).collect())
}
