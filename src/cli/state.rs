//! `xebec state` and `xebec list`.

use std::fmt::Write;

use serde_json::{Map, Value};
use xebec::state::{self, State};
use xebec::{Error, Result};

use super::args::{Global, List, ListFormat, One};
use super::{print, settings};

/// Prints one container's state as JSON.
#[inline(never)]
pub fn run(global: &Global, args: &One) -> Result<u8> {
    let state = state::state(&settings::root(global)?, &settings::id(&args.id)?)?;
    print(&pretty(&Value::Object(object(&state)?))?)
}

/// Prints all containers.
#[inline(never)]
pub fn list(global: &Global, args: &List) -> Result<u8> {
    let states = state::list(&settings::root(global)?)?;
    let text = match (args.quiet, args.format) {
        (true, _) => states.iter().map(|state| format!("{}\n", state.id)).collect(),
        (false, ListFormat::Json) => {
            let all = states.iter().map(|state| object(state).map(Value::Object)).collect::<Result<Vec<_>>>()?;
            format!("{}\n", Value::Array(all))
        }
        (false, ListFormat::Table) => table(&states),
    };
    print(&text)
}

fn object(state: &State) -> Result<Map<String, Value>> {
    let mut map = match serde_json::to_value(state) {
        Ok(Value::Object(map)) => map,
        _ => return Err(Error::invalid("state", "cannot be written as JSON")),
    };
    map.insert("owner".into(), owner(state.owner).into());
    Ok(map)
}

fn pretty(value: &Value) -> Result<String> {
    serde_json::to_string_pretty(value).map(|text| text + "\n").map_err(|e| Error::invalid("state", e.to_string()))
}

/// The user's name, or the number of one without a name.
fn owner(uid: u32) -> String {
    if uid == 0 {
        return "root".to_owned();
    }
    let user = nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(uid));
    user.ok().flatten().map_or_else(|| format!("#{uid}"), |user| user.name)
}

/// runc's columns.
fn table(states: &[State]) -> String {
    let mut rows = vec![["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned)];
    rows.extend(states.iter().map(|s| {
        [
            s.id.clone(),
            s.pid.to_string(),
            s.status.as_str().to_owned(),
            s.bundle.clone(),
            s.created.clone(),
            owner(s.owner),
        ]
    }));
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0).max(11);
    let widths: [usize; 6] = std::array::from_fn(width);
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        // Writing to a String cannot fail.
        writeln!(text, "{}", cells.collect::<Vec<_>>().join(" ").trim_end()).ok();
    }
    text
}
