//! What a container's cgroup has used: the types, field for field those of runc's
//! `events --stats`, so that callers of runc parse them.
//!
//! Read-only. A file that the kernel does not have leaves its fields at 0.

use std::collections::BTreeMap;

use serde::Serialize;

// serde hands over a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn zero(n: &u64) -> bool {
    *n == 0
}

macro_rules! stats {
    ($($(#[$meta:meta])* $name:ident { $($(#[$fmeta:meta])* $field:ident: $ty:ty),* $(,)? })*) => {$(
        $(#[$meta])*
        #[derive(Debug, Clone, Default, PartialEq, Serialize)]
        pub struct $name { $($(#[$fmeta])* pub $field: $ty,)* }
    )*};
}

stats! {
    /// Everything about one container at one moment.
    Stats {
        /// CPU time.
        cpu: CpuStats,
        /// cgroup v1's cpuset; all 0 on cgroup v2.
        cpuset: CpusetStats,
        /// Memory.
        memory: MemoryStats,
        /// Tasks.
        pids: PidsStats,
        /// Block I/O.
        blkio: BlkioStats,
        /// Huge pages by page size.
        hugetlb: BTreeMap<String, HugetlbStats>,
    }

    /// CPU time in nanoseconds.
    CpuStats {
        /// Time used.
        usage: CpuUsage,
        /// Time waited for the quota.
        throttling: Throttling,
        /// Pressure.
        #[serde(skip_serializing_if = "Option::is_none")] psi: Option<Pressure>,
    }

    /// CPU time used, in nanoseconds.
    CpuUsage {
        /// In all.
        #[serde(skip_serializing_if = "zero")] total: u64,
        /// By CPU (cgroup v1).
        #[serde(skip_serializing_if = "Vec::is_empty")] percpu: Vec<u64>,
        /// By CPU in the kernel (cgroup v1).
        #[serde(skip_serializing_if = "Vec::is_empty")] percpu_kernel: Vec<u64>,
        /// By CPU in user mode (cgroup v1).
        #[serde(skip_serializing_if = "Vec::is_empty")] percpu_user: Vec<u64>,
        /// In the kernel.
        kernel: u64,
        /// In user mode.
        user: u64,
    }

    /// How the quota took effect.
    Throttling {
        /// Periods that have passed.
        #[serde(skip_serializing_if = "zero")] periods: u64,
        /// Periods in which the quota ran out.
        #[serde(skip_serializing_if = "zero", rename = "throttledPeriods")] throttled_periods: u64,
        /// Nanoseconds waited.
        #[serde(skip_serializing_if = "zero", rename = "throttledTime")] throttled_time: u64,
    }

    /// The files of cgroup v1's cpuset of the same names.
    CpusetStats {
        #[allow(missing_docs)] #[serde(skip_serializing_if = "Vec::is_empty")] cpus: Vec<u64>,
        #[allow(missing_docs)] cpu_exclusive: u64,
        #[allow(missing_docs)] #[serde(skip_serializing_if = "Vec::is_empty")] mems: Vec<u64>,
        #[allow(missing_docs)] mem_hardwall: u64,
        #[allow(missing_docs)] mem_exclusive: u64,
        #[allow(missing_docs)] memory_migrate: u64,
        #[allow(missing_docs)] memory_spread_page: u64,
        #[allow(missing_docs)] memory_spread_slab: u64,
        #[allow(missing_docs)] memory_pressure: u64,
        #[allow(missing_docs)] sched_load_balance: u64,
        #[allow(missing_docs)] sched_relax_domain_level: i64,
    }

    /// Memory in bytes.
    MemoryStats {
        /// Page cache.
        #[serde(skip_serializing_if = "zero")] cache: u64,
        /// Memory.
        usage: MemoryEntry,
        /// Memory and swap together.
        swap: MemoryEntry,
        /// Kernel memory (cgroup v1).
        kernel: MemoryEntry,
        /// Kernel TCP buffers (cgroup v1).
        #[serde(rename = "kernelTCP")] kernel_tcp: MemoryEntry,
        /// memory.stat as it is.
        #[serde(skip_serializing_if = "BTreeMap::is_empty")] raw: BTreeMap<String, u64>,
        /// Pressure.
        #[serde(skip_serializing_if = "Option::is_none")] psi: Option<Pressure>,
        /// memory.events as it is (cgroup v2).
        event_count: BTreeMap<String, u64>,
    }

    /// One sort of memory, in bytes; no limit is a very large number.
    MemoryEntry {
        /// The limit.
        limit: u64,
        /// In use now.
        #[serde(skip_serializing_if = "zero")] usage: u64,
        /// The most that was in use.
        #[serde(skip_serializing_if = "zero")] max: u64,
        /// How often the limit was reached (cgroup v1).
        failcnt: u64,
    }

    /// Tasks.
    PidsStats {
        /// How many there are.
        #[serde(skip_serializing_if = "zero")] current: u64,
        /// How many there may be; 0 for no limit.
        #[serde(skip_serializing_if = "zero")] limit: u64,
    }

    /// Block I/O.
    BlkioStats {
        /// Bytes.
        #[serde(skip_serializing_if = "Vec::is_empty", rename = "ioServiceBytesRecursive")] bytes: Vec<BlkioEntry>,
        /// Operations.
        #[serde(skip_serializing_if = "Vec::is_empty", rename = "ioServicedRecursive")] operations: Vec<BlkioEntry>,
        /// Pressure.
        #[serde(skip_serializing_if = "Option::is_none")] psi: Option<Pressure>,
    }

    /// One device and one kind of operation.
    BlkioEntry {
        /// Device number.
        #[serde(skip_serializing_if = "zero")] major: u64,
        /// Device number.
        #[serde(skip_serializing_if = "zero")] minor: u64,
        /// `Read`, `Write` and others.
        op: String,
        /// Bytes or operations.
        #[serde(skip_serializing_if = "zero")] value: u64,
    }

    /// Huge pages of one size, in bytes.
    HugetlbStats {
        /// In use.
        #[serde(skip_serializing_if = "zero")] usage: u64,
        /// The most that was in use (cgroup v1).
        #[serde(skip_serializing_if = "zero")] max: u64,
        /// How often the limit was reached.
        failcnt: u64,
    }

    /// Pressure stall information (Documentation/accounting/psi.rst).
    Pressure {
        /// Some tasks waited.
        some: PressureLine,
        /// All tasks waited.
        full: PressureLine,
    }

    /// Shares of time in percent, and the sum in microseconds.
    PressureLine {
        #[allow(missing_docs)] avg10: f64,
        #[allow(missing_docs)] avg60: f64,
        #[allow(missing_docs)] avg300: f64,
        #[allow(missing_docs)] total: u64,
    }
}
