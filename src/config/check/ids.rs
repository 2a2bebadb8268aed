//! CHECK of id mappings: the rules by which the kernel takes a uid_map or
//! gid_map (user_namespaces(7)).

use std::fmt;

use super::Report;
use crate::config::IdMapping;

/// Lines the kernel takes since 4.15 (UID_GID_MAP_MAX_EXTENTS).
const MAX_MAPPINGS: usize = 340;

/// The kernel takes the lines in one write of less than a page (user_namespaces(7)); no page is smaller.
const PAGE: usize = 4096;

pub(super) fn mappings(at: fmt::Arguments<'_>, report: &mut Report, list: &[IdMapping]) {
    if list.is_empty() {
        return;
    }
    if list.len() > MAX_MAPPINGS {
        report.find(at, format_args!("{} mappings found, at most {MAX_MAPPINGS} expected", list.len()));
    }
    let text: usize = list.iter().map(|m| format!("{} {} {}\n", m.container_id, m.host_id, m.size).len()).sum();
    if list.len() <= MAX_MAPPINGS && text >= PAGE {
        report.find(at, format_args!("{text} bytes as text, less than {PAGE} expected"));
    }
    for (i, mapping) in list.iter().enumerate() {
        if mapping.size == 0 {
            report.find(format_args!("{at}/{i}/size"), "0 found, 1 or more expected");
        }
        for (name, first) in [("containerID", mapping.container_id), ("hostID", mapping.host_id)] {
            if first.checked_add(mapping.size).is_none() {
                let what = format_args!("{first} with size {} goes beyond 4294967294", mapping.size);
                report.find(format_args!("{at}/{i}/{name}"), what);
            }
        }
    }
    overlaps(at, report, list, "containerID", |mapping| mapping.container_id);
    overlaps(at, report, list, "hostID", |mapping| mapping.host_id);
}

/// Sorted by their first id, only neighbours can overlap first.
fn overlaps(at: fmt::Arguments<'_>, report: &mut Report, list: &[IdMapping], name: &str, first: fn(&IdMapping) -> u32) {
    let mut order: Vec<_> = list.iter().enumerate().filter(|(_, mapping)| mapping.size > 0).collect();
    order.sort_by_key(|(_, mapping)| first(mapping));
    for pair in order.windows(2) {
        let ((_, low), (i, high)) = (pair[0], pair[1]);
        if u64::from(first(low)) + u64::from(low.size) > u64::from(first(high)) {
            let what = format_args!("{} is mapped twice", first(high));
            report.find(format_args!("{at}/{i}/{name}"), what);
        }
    }
}

/// Does the mapping give `id` of the container an id on the host?
pub(super) fn maps(list: &[IdMapping], id: u32) -> bool {
    list.iter().any(|m| id.checked_sub(m.container_id).is_some_and(|offset| offset < m.size))
}
