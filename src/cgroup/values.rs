//! What v1 and v2 share in turning config values into writes.
//!
//! Pure: no system call, no knowledge of the host.

use std::fmt;

use crate::config::{Memory, Resources};
use crate::error::{Error, Result};

/// One value for one interface file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// The config item, for messages.
    pub item: String,
    /// The controller that the file belongs to.
    pub controller: String,
    /// The interface file.
    pub file: String,
    /// What is written, in one write(2).
    pub value: String,
    /// Another file and value, for where `file` is absent.
    pub or: Option<(String, String)>,
    /// The value sets no limit: where the file is absent it holds anyway.
    pub harmless: bool,
    /// From `unified`: the file decides, not the list of controllers.
    pub unified: bool,
    /// Refuse the write if this file reads at least this number (checkBeforeUpdate).
    pub not_below: Option<(&'static str, i64)>,
}

impl Write {
    /// `value` into `file` of `controller`, for `item`.
    pub fn new(item: impl Into<String>, controller: &str, file: impl Into<String>, value: impl ToString) -> Write {
        Write {
            item: item.into(),
            controller: controller.to_owned(),
            file: file.into(),
            value: value.to_string(),
            or: None,
            harmless: false,
            unified: false,
            not_below: None,
        }
    }

    /// Names the file for where the first is absent.
    #[must_use]
    pub fn or(mut self, file: &str, value: impl ToString) -> Write {
        self.or = Some((file.to_owned(), value.to_string()));
        self
    }

    /// Says whether the value sets no limit.
    #[must_use]
    pub fn harmless(mut self, harmless: bool) -> Write {
        self.harmless = harmless;
        self
    }

    /// Marks a value of `unified`.
    #[must_use]
    pub fn unified(mut self) -> Write {
        self.unified = true;
        self
    }

    /// Refuses the write while `file` reads `limit` or more.
    #[must_use]
    pub fn not_below_usage(mut self, file: &'static str, limit: Option<i64>) -> Write {
        self.not_below = limit.map(|limit| (file, limit));
        self
    }
}

impl fmt::Display for Write {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "write {} {:?}", self.file, self.value)?;
        if let Some((file, value)) = &self.or {
            write!(f, " or {file} {value:?}")?;
        }
        if let Some((file, limit)) = self.not_below {
            write!(f, " unless {file} >= {limit}")?;
        }
        write!(f, " ({})", self.item)
    }
}

/// The writes of one hierarchy, and what came up while planning them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Writes {
    /// In order.
    pub list: Vec<Write>,
    /// Controllers to switch on where that is possible, beside those of real limits.
    pub wants: Vec<String>,
    /// Values that will have no effect.
    pub warnings: Vec<String>,
}

impl Writes {
    /// Appends a write.
    pub fn push(&mut self, write: Write) {
        self.list.push(write);
    }

    /// Asks for a controller without insisting.
    pub fn want(&mut self, controller: &str) {
        if controller != "cgroup" && !self.wants.iter().any(|c| c == controller) {
            self.wants.push(controller.to_owned());
        }
    }

    /// Notes a value without effect.
    pub fn warn(&mut self, text: impl Into<String>) {
        self.warnings.push(text.into());
    }

    /// The controllers without which a limit would not hold.
    #[must_use]
    pub fn needs(&self) -> Vec<&str> {
        let mut needs: Vec<&str> =
            self.list.iter().filter(|w| !w.harmless && !w.unified).map(|w| w.controller.as_str()).collect();
        needs.sort_unstable();
        needs.dedup();
        needs
    }
}

/// -1 as `max`, other numbers from 0 as they are.
pub fn bytes_or_max(item: &str, value: i64) -> Result<String> {
    match value {
        -1 => Ok("max".to_owned()),
        0.. => Ok(value.to_string()),
        _ => Err(Error::invalid(item, format!("{value} is neither a limit nor -1"))),
    }
}

/// A device number.
pub fn non_negative(item: &str, value: i64) -> Result<u32> {
    u32::try_from(value).map_err(|_| Error::invalid(item, format!("{value} is not a device number")))
}

/// The swap limit alone. The config has memory and swap together, as cgroup v1
/// counts them. An unlimited memory with no word on swap means unlimited swap.
pub fn swap_of(memory: &Memory) -> Result<Option<i64>> {
    let item = "linux.resources.memory.swap";
    let limit = memory.limit.filter(|limit| *limit != 0);
    match (memory.swap.unwrap_or(0), limit) {
        (0, Some(-1)) => Ok(Some(-1)),
        (0, _) => Ok(None),
        (-1, _) => Ok(Some(-1)),
        (total, _) if total < -1 => Err(Error::invalid(item, format!("{total} is neither a limit nor -1"))),
        (total, None | Some(-1)) => {
            let text = format!("{total} is memory and swap together and needs a memory limit beside it");
            Err(Error::invalid(item, text))
        }
        (total, Some(limit)) if total < limit => {
            let text = format!("{total} is memory and swap together and must not be below the limit of {limit}");
            Err(Error::invalid(item, text))
        }
        (total, Some(limit)) => Ok(Some(total.saturating_sub(limit))),
    }
}

/// A page size as it stands in the names of hugetlb's files.
pub fn hugepage_file(index: usize, size: &str) -> Result<&str> {
    let digits = size.trim_end_matches("B").trim_end_matches(['K', 'M', 'G', 'T']);
    let unit = &size[digits.len()..];
    if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) && matches!(unit, "KB" | "MB" | "GB" | "TB") {
        return Ok(size);
    }
    let item = format!("linux.resources.hugepageLimits[{index}].pageSize");
    Err(Error::invalid(item, format!("{size:?} is not a size such as 64KB, 2MB or 1GB")))
}

/// A list of CPUs or memory nodes; empty means unset.
pub fn list(out: &mut Writes, item: &str, file: &str, value: Option<&str>) -> Result<()> {
    let Some(value) = value.map(str::trim).filter(|value| !value.is_empty()) else { return Ok(()) };
    if !value.bytes().all(|b| b.is_ascii_digit() || matches!(b, b',' | b'-' | b' ' | b':' | b'/')) {
        return Err(Error::invalid(item, format!("{value:?} is not a list such as 0-3,7")));
    }
    out.push(Write::new(item, "cpuset", file, value));
    Ok(())
}

/// `linux.resources.rdma`: the same files on v1 and v2.
pub fn plan_rdma(resources: &Resources<'_>, out: &mut Writes) -> Result<()> {
    for (device, rdma) in &resources.rdma {
        let item = format!("linux.resources.rdma.{device}");
        if device.is_empty() || device.contains(char::is_whitespace) {
            return Err(Error::invalid(item, "is not a name of a device"));
        }
        let mut value = device.to_string();
        for (key, number) in [("hca_handle", rdma.hca_handles), ("hca_object", rdma.hca_objects)] {
            if let Some(number) = number {
                value.push_str(&format!(" {key}={number}"));
            }
        }
        if !value.contains('=') {
            return Err(Error::invalid(item, "needs hcaHandles or hcaObjects"));
        }
        out.push(Write::new(item, "rdma", "rdma.max", value));
    }
    Ok(())
}
