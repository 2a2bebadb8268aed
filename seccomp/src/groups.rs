//! Groups of system calls with names of systemd (systemd.exec(5),
//! SystemCallFilter=), for those who write profiles. The compiler does not know
//! them: the spec has no groups.
//!
//! groups.txt is what `systemd-analyze syscall-filter` of Debian's systemd 252
//! prints: a line a group, its name first.

const GROUPS: &str = include_str!("groups.txt");

/// Every group with what is in it, system calls and other groups (`@name`).
///
/// ```
/// let swap = xebec_seccomp::groups().find(|group| group.0 == "@swap");
/// assert_eq!(swap.unwrap().1, ["swapoff", "swapon"]);
/// ```
pub fn groups() -> impl Iterator<Item = (&'static str, Vec<&'static str>)> {
    GROUPS.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        Some((words.next()?, words.collect()))
    })
}
