//! /proc/PID/mountinfo as tests ask about it, see proc_pid_mountinfo(5).

use crate::case::{Outcome, fail};
use crate::trial::Trial;

/// One line of the table.
#[derive(Clone, Debug)]
pub struct Mount {
    pub point: String,
    /// Options of this mount point.
    pub options: Vec<String>,
    /// Propagation: `shared:N`, `master:N`, `unbindable`.
    pub propagation: Vec<String>,
    pub kind: String,
    pub source: String,
    /// Options of the file system itself.
    pub super_options: Vec<String>,
}

impl Mount {
    pub fn has(&self, option: &str) -> bool {
        self.options.iter().any(|word| word == option)
    }

    pub fn super_has(&self, option: &str) -> bool {
        self.super_options.iter().any(|word| word == option)
    }

    pub fn propagates(&self, kind: &str) -> bool {
        self.propagation.iter().any(|word| word.split(':').next() == Some(kind))
    }
}

/// Parses a whole table; lines that do not fit are left out.
pub fn parse(table: &str) -> Vec<Mount> {
    table.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<Mount> {
    let (front, back) = line.split_once(" - ")?;
    let words: Vec<&str> = front.split(' ').collect();
    let mut tail = back.splitn(3, ' ');
    let list = |text: &str| text.split(',').map(str::to_string).collect::<Vec<_>>();
    Some(Mount {
        point: words.get(4)?.to_string(),
        options: list(words.get(5)?),
        propagation: words[6..].iter().map(|word| word.to_string()).collect(),
        kind: tail.next()?.to_string(),
        source: tail.next()?.to_string(),
        super_options: list(tail.next()?),
    })
}

/// Runs the container and returns its mount table.
pub fn of_container(t: &mut Trial) -> Outcome<Vec<Mount>> {
    Ok(parse(&t.run_sh("cat /proc/self/mountinfo")?))
}

/// The topmost mount at a point.
pub fn at<'a>(mounts: &'a [Mount], point: &str) -> Outcome<&'a Mount> {
    match mounts.iter().rev().find(|mount| mount.point == point) {
        Some(mount) => Ok(mount),
        None => fail(format!("nothing is mounted at {point}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_with_two_optional_fields_is_parsed() {
        let line = "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 shared:7 - ext3 /dev/root rw,errors=continue";
        let found = &parse(line)[0];
        assert_eq!((found.point.as_str(), found.kind.as_str(), found.source.as_str()), ("/mnt2", "ext3", "/dev/root"));
        assert!(found.has("noatime") && found.super_has("errors=continue"));
        assert!(found.propagates("master") && found.propagates("shared") && !found.propagates("unbindable"));
    }

    #[test]
    fn a_line_without_optional_fields_is_parsed() {
        assert!(parse("1 2 0:1 / /proc ro - proc proc rw")[0].propagation.is_empty());
    }
}
