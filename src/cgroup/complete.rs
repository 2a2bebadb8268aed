//! What an update does not name and yet depends on, read from the kernel.
//!
//! Some files hold two values of the config, and some limits only make sense beside
//! another one. Reads only; the update's plan decides and writes.

use rustix::io::Errno;

use super::dir::Dir;
use super::record::Record;
use crate::config::Resources;
use crate::error::{Error, Result};

/// cgroup v1 rounds "no limit" down to a page: 2^63 less a page of any size.
const UNLIMITED: u64 = 1 << 62;

impl Record {
    /// Fills in, for [`super::plan_update`], what `resources` leaves as it is: the memory
    /// limit beside a limit of memory and swap together, and of cpu.max's quota and period
    /// the one that is not given.
    ///
    /// # Errors
    /// A file that is there cannot be read.
    pub fn complete(&self, resources: &mut Resources<'_>) -> Result<()> {
        if let Some(memory) = &mut resources.memory
            && matches!((memory.limit, memory.swap), (None | Some(0), Some(1..)))
        {
            memory.limit = self.memory_limit()?;
        }
        if let Some(cpu) = &mut resources.cpu
            && self.v1_of("cpu").is_none()
            && let (quota, period) = (cpu.quota.filter(|n| *n != 0), cpu.period.filter(|n| *n != 0))
            && quota.is_some() != period.is_some()
            && let Some(text) = self.own_text(self.v2.as_deref(), "cpu.max")?
        {
            let (now_quota, now_period) = cpu_max(&text);
            (cpu.quota, cpu.period) = (quota.or(now_quota), period.or(now_period));
        }
        Ok(())
    }

    fn memory_limit(&self) -> Result<Option<i64>> {
        let text = match self.v1_of("memory") {
            Some(path) => self.own_text(Some(path), "memory.limit_in_bytes")?,
            None => self.own_text(self.v2.as_deref(), "memory.max")?,
        };
        Ok(text.and_then(|text| limit(&text)))
    }

    fn v1_of(&self, controller: &str) -> Option<&str> {
        let has = |(all, _): &&(String, String)| all.split(',').any(|c| c == controller);
        self.v1.iter().find(has).map(|(_, path)| path.as_str())
    }

    /// `None` where the controller is not on: nothing is limited there.
    fn own_text(&self, path: Option<&str>, file: &str) -> Result<Option<String>> {
        let Some(path) = path else { return Ok(None) };
        let text = Dir::open(path).and_then(|dir| dir.read(file));
        match text {
            Ok(text) => Ok(Some(text)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(Error::sys("cgroup", format!("read(\"{path}/{file}\")"), errno)),
        }
    }
}

/// `max` and v1's largest number are -1.
fn limit(text: &str) -> Option<i64> {
    match text.trim() {
        "max" => Some(-1),
        digits => digits.parse().ok().map(|n: u64| if n >= UNLIMITED { -1 } else { n.cast_signed() }),
    }
}

/// `50000 100000`, or `max 100000`.
fn cpu_max(text: &str) -> (Option<i64>, Option<u64>) {
    let mut words = text.split_whitespace();
    (words.next().and_then(limit), words.next().and_then(|period| period.parse().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_named_stays_as_it_is() {
        let dir = tempfile::tempdir().expect("a directory");
        let write = |file: &str, text: &str| std::fs::write(dir.path().join(file), text).expect("written");
        write("memory.max", "4096\n");
        write("cpu.max", "20000 50000\n");
        let record = Record { v2: dir.path().to_str().map(str::to_owned), ..Record::default() };
        let completed = |text: &str| {
            let mut resources: Resources<'_> = serde_json::from_str(text).expect("resources");
            record.complete(&mut resources).expect("read");
            let cpu = resources.cpu.unwrap_or_default();
            (resources.memory.unwrap_or_default().limit, cpu.quota, cpu.period)
        };
        assert_eq!(completed(r#"{"memory":{"swap":8192}}"#), (Some(4096), None, None));
        assert_eq!(completed(r#"{"memory":{"swap":-1}}"#), (None, None, None));
        assert_eq!(completed(r#"{"memory":{"limit":1,"swap":8192}}"#), (Some(1), None, None));
        assert_eq!(completed(r#"{"cpu":{"period":100000}}"#), (None, Some(20000), Some(100_000)));
        assert_eq!(completed(r#"{"cpu":{"quota":-1,"period":0}}"#), (None, Some(-1), Some(50000)));
        assert_eq!(completed(r#"{"cpu":{"shares":2}}"#), (None, None, None));
        write("cpu.max", "max 50000\n");
        assert_eq!(completed(r#"{"cpu":{"period":100000}}"#), (None, Some(-1), Some(100_000)));
        std::fs::remove_file(dir.path().join("memory.max")).expect("removed");
        assert_eq!(completed(r#"{"memory":{"swap":8192}}"#), (None, None, None));
    }

    #[test]
    fn no_limit_is_told_in_two_ways() {
        assert_eq!(
            (limit("max\n"), limit("9223372036854771712\n"), limit("7\n"), limit("")),
            (Some(-1), Some(-1), Some(7), None)
        );
    }
}
