//! Limits as systemd's properties, so that what systemd writes again agrees with the container's.
//!
//! Pure. The values come from the writes that the plan makes for cgroup v2: each is also
//! written by ourselves, exactly; here it is told to systemd in its own units.

use std::fmt;

use crate::cgroup::values::{Write, Writes};

/// "No limit" in systemd's 64-bit properties.
const INFINITY: u64 = u64::MAX;

/// A property of a unit, as org.freedesktop.systemd1(5) has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Property {
    pub name: String,
    pub value: Value,
    /// The first version of systemd that takes it; 0 for those that all have.
    pub since: u32,
}

/// A value with its D-Bus type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// `b`
    Bool(bool),
    /// `i`
    I32(i32),
    /// `u`
    U32(u32),
    /// `t`
    U64(u64),
    /// `s`
    Text(String),
    /// `as`
    Texts(Vec<String>),
    /// `ay`
    Bytes(Vec<u8>),
    /// `au`
    Numbers(Vec<u32>),
}

impl Property {
    /// A property that every version has.
    pub fn new(name: &str, value: Value) -> Property {
        Property { name: name.to_owned(), value, since: 0 }
    }

    fn since(mut self, version: u32) -> Property {
        self.since = version;
        self
    }
}

impl fmt::Display for Property {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "property {} ", self.name)?;
        match &self.value {
            Value::Bool(on) => write!(f, "{on}")?,
            Value::I32(number) => write!(f, "{number}")?,
            Value::U32(number) => write!(f, "{number}")?,
            Value::U64(INFINITY) => write!(f, "infinity")?,
            Value::U64(number) => write!(f, "{number}")?,
            Value::Text(text) => write!(f, "{text:?}")?,
            Value::Texts(texts) => write!(f, "{texts:?}")?,
            Value::Bytes(bytes) => {
                write!(f, "0x")?;
                bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
            }
            Value::Numbers(numbers) => write!(f, "{numbers:?}")?,
        }
        match self.since {
            0 => Ok(()),
            version => write!(f, " (systemd {version})"),
        }
    }
}

/// What systemd is told of `writes`.
///
/// A value that systemd has no property for, or cannot take, is left out: the kernel keeps
/// it, since systemd writes only files of properties. Later values of a file win, `unified` last.
#[must_use]
pub fn of_writes(writes: &Writes) -> Vec<Property> {
    let mut properties: Vec<Property> = Vec::new();
    for property in writes.list.iter().flat_map(of_write) {
        properties.retain(|earlier| earlier.name != property.name);
        properties.push(property);
    }
    properties
}

fn of_write(write: &Write) -> Vec<Property> {
    let bytes = |name: &str| one(name, limit(&write.value));
    match write.file.as_str() {
        "memory.min" => bytes("MemoryMin"),
        "memory.low" => bytes("MemoryLow"),
        "memory.high" => bytes("MemoryHigh"),
        "memory.max" => bytes("MemoryMax"),
        "memory.swap.max" => bytes("MemorySwapMax"),
        "memory.zswap.max" => bytes("MemoryZSwapMax").into_iter().map(|p| p.since(253)).collect(),
        // 0 is out of systemd's range; 1, the least it takes, is what it may go back to.
        "pids.max" => one("TasksMax", limit(&write.value).map(|n| n.max(1))),
        "cpu.weight" => one("CPUWeight", write.value.parse().ok()),
        "cpu.idle" if write.value == "1" => one("CPUWeight", Some(0)).into_iter().map(|p| p.since(252)).collect(),
        "cpu.max" => cpu_quota(&write.value),
        "cpuset.cpus" => cpu_list("AllowedCPUs", &write.value),
        "cpuset.mems" => cpu_list("AllowedMemoryNodes", &write.value),
        "io.weight" => one("IOWeight", io_weight(&write.value)),
        "io.bfq.weight" => one("IOWeight", write.or.as_ref().and_then(|(_, value)| io_weight(value))),
        _ => Vec::new(),
    }
}

fn one(name: &str, value: Option<u64>) -> Vec<Property> {
    value.map(|value| Property::new(name, Value::U64(value))).into_iter().collect()
}

fn limit(value: &str) -> Option<u64> {
    if value == "max" { Some(INFINITY) } else { value.parse().ok() }
}

/// `500` or `default 500`; weights of single devices have no property that we use.
fn io_weight(value: &str) -> Option<u64> {
    value.strip_prefix("default ").unwrap_or(value).parse().ok()
}

/// `QUOTA PERIOD` in microseconds.
///
/// systemd keeps the quota as whole percents of a CPU (10 ms a second); it is rounded up, as
/// runc does, so that a reload never takes time away.
fn cpu_quota(value: &str) -> Vec<Property> {
    const PERCENT: u64 = 10_000;
    let mut words = value.split(' ');
    let quota = words.next().and_then(limit);
    let period: u64 = words.next().and_then(|word| word.parse().ok()).unwrap_or(100_000);
    let per_second = quota.map(|quota| match quota {
        INFINITY => INFINITY,
        quota => {
            let exact = u128::from(quota) * 1_000_000 / u128::from(period.max(1));
            u64::try_from(exact).unwrap_or(INFINITY - PERCENT).div_ceil(PERCENT).saturating_mul(PERCENT)
        }
    });
    let mut properties = one("CPUQuotaPerSecUSec", per_second);
    // systemd clamps the period to what the kernel takes: 1 ms to 1 s.
    properties.extend(one("CPUQuotaPeriodUSec", Some(period)).into_iter().map(|p| p.since(242)));
    properties
}

/// A list such as `0-3,8` as a set of bits, the first in the first byte's lowest bit.
fn cpu_list(name: &str, list: &str) -> Vec<Property> {
    bits(list).map(|bits| Property::new(name, Value::Bytes(bits)).since(244)).into_iter().collect()
}

/// More than any kernel has (NR_CPUS is 8192 at most).
const MOST_BITS: usize = 1 << 16;

fn bits(list: &str) -> Option<Vec<u8>> {
    let mut bits = Vec::new();
    let number = |text: &str| text.trim().parse::<usize>().ok().filter(|n| *n < MOST_BITS);
    for part in list.split(',') {
        // `0-30:2/8`: of each eight the first two (cpuset's bitmap_parselist).
        let (range, (used, group)) = match part.split_once(':') {
            None => (part, (1, 1)),
            Some((range, stride)) => {
                (range, stride.split_once('/').map(|(u, g)| (number(u), number(g))).and_then(both)?)
            }
        };
        let (first, last) =
            both(range.split_once('-').map_or((number(range), number(range)), |(a, b)| (number(a), number(b))))?;
        for n in (first..=last).filter(|n| group != 0 && (n - first) % group < used) {
            let at = n / 8;
            if bits.len() <= at {
                bits.resize(at + 1, 0u8);
            }
            bits[at] |= 1 << (n % 8);
        }
    }
    Some(bits)
}

fn both((a, b): (Option<usize>, Option<usize>)) -> Option<(usize, usize)> {
    Some((a?, b?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::v2;
    use crate::config::Resources;

    fn told(resources: &str) -> String {
        let resources: Resources<'_> = serde_json::from_str(resources).unwrap();
        let mut writes = Writes::default();
        v2::plan_writes(&resources, &|_| true, &mut writes).unwrap();
        v2::plan_unified(&resources, &mut writes).unwrap();
        let lines: Vec<String> = of_writes(&writes).iter().map(|p| p.to_string().replace("property ", "")).collect();
        lines.join("; ")
    }

    #[test]
    fn every_limit_that_systemd_knows_is_told_in_its_units() {
        for (resources, want) in [
            ("{}", ""),
            (
                r#"{"memory":{"limit":4096,"reservation":2048,"swap":6144}}"#,
                "MemorySwapMax 2048; MemoryMax 4096; MemoryLow 2048",
            ),
            (r#"{"memory":{"limit":-1}}"#, "MemorySwapMax infinity; MemoryMax infinity"),
            (r#"{"pids":{"limit":7}}"#, "TasksMax 7"),
            (r#"{"pids":{"limit":-1}}"#, "TasksMax infinity"),
            (r#"{"pids":{"limit":0}}"#, "TasksMax 1"),
            (r#"{"cpu":{"shares":1024}}"#, "CPUWeight 100"),
            (r#"{"cpu":{"idle":1}}"#, "CPUWeight 0 (systemd 252)"),
            (r#"{"cpu":{"idle":0,"shares":2}}"#, "CPUWeight 1"),
            (r#"{"cpu":{"quota":20000}}"#, "CPUQuotaPerSecUSec 200000; CPUQuotaPeriodUSec 100000 (systemd 242)"),
            (
                r#"{"cpu":{"quota":12345,"period":50000}}"#,
                "CPUQuotaPerSecUSec 250000; CPUQuotaPeriodUSec 50000 (systemd 242)",
            ),
            (r#"{"cpu":{"quota":-1}}"#, "CPUQuotaPerSecUSec infinity; CPUQuotaPeriodUSec 100000 (systemd 242)"),
            (
                r#"{"cpu":{"cpus":"0-2,9","mems":"0"}}"#,
                "AllowedCPUs 0x0702 (systemd 244); AllowedMemoryNodes 0x01 (systemd 244)",
            ),
            (r#"{"blockIO":{"weight":500,"weightDevice":[{"major":8,"minor":0,"weight":10}]}}"#, "IOWeight 4950"),
            (
                r#"{"memory":{"limit":4096},"unified":{"memory.max":"max","memory.high":"9","memory.min":"1","pids.max":"3",
                    "io.weight":"default 7","cpu.weight":"5","memory.zswap.max":"0","hugetlb.2MB.max":"1","cpu.weight.nice":"1"}}"#,
                "CPUWeight 5; IOWeight 7; MemoryHigh 9; MemoryMax infinity; MemoryMin 1; MemoryZSwapMax 0 (systemd 253); TasksMax 3",
            ),
        ] {
            assert_eq!(told(resources), want, "{resources}");
        }
    }

    #[test]
    fn lists_of_cpus_become_bits_as_the_kernel_reads_them() {
        for (list, want) in [
            ("0", Some(vec![1])),
            ("7,8", Some(vec![0x80, 1])),
            ("0-15:2/4", Some(vec![0x33, 0x33])),
            (" 1 - 2 ", Some(vec![6])),
            ("1024", Some([vec![0; 128], vec![1]].concat())),
            ("3-1", Some(vec![])),
            ("0-3:1/0", Some(vec![])),
            ("x", None),
            ("1-", None),
            ("0-3:1", None),
            ("99999999999", None),
            ("70000", None),
        ] {
            assert_eq!(bits(list), want, "{list:?}");
        }
    }
}
