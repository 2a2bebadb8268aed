//! Reading a cgroup's statistics, from v2 and from v1 hierarchies.
//!
//! Each kind of statistic comes from where its controller is. Nothing is written.

use std::collections::BTreeMap;

use rustix::io::Errno;

use super::dir::Dir;
use super::record::Record;
use super::stats::{
    BlkioEntry, BlkioStats, CpuStats, CpusetStats, HugetlbStats, MemoryEntry, MemoryStats, PidsStats, Pressure,
    PressureLine, Stats,
};
use crate::error::{Error, Result};

impl Record {
    /// The container's statistics now. An error if its cgroup is gone.
    pub fn stats(&self) -> Result<Stats> {
        let open =
            |path: &String| Dir::open(path).map_err(|errno| Error::sys("cgroup", format!("open({path:?})"), errno));
        let v2 = self.v2.as_ref().map(open).transpose()?;
        let mut v1 = Vec::with_capacity(self.v1.len());
        for (controllers, path) in &self.v1 {
            v1.push((controllers.as_str(), open(path)?));
        }
        let v1 = |name: &str| v1.iter().find(|(all, _)| all.split(',').any(|c| c == name)).map(|(_, dir)| dir);
        let v2 = v2.as_ref();
        let cpuset = v1("cpuset").map(cpuset_v1).transpose()?;
        Ok(Stats {
            cpu: cpu(v1("cpu"), v1("cpuacct"), v2)?,
            cpuset: cpuset.unwrap_or_default(),
            memory: memory(v1("memory"), v2)?,
            pids: v1("pids").or(v2).map(pids).transpose()?.unwrap_or_default(),
            blkio: blkio(v1("blkio"), v2)?,
            hugetlb: hugetlb(v1("hugetlb"), v2)?,
        })
    }
}

/// A file's text; `None` where the kernel does not have the file.
fn text(dir: &Dir, file: &str) -> Result<Option<String>> {
    match dir.read_list(file) {
        Ok(text) => Ok(Some(text)),
        // EOPNOTSUPP: pressure is switched off, or swap accounting is.
        Err(Errno::NOENT | Errno::OPNOTSUPP) => Ok(None),
        Err(errno) => Err(Error::sys("cgroup", format!("read({:?})", dir.join(file)), errno)),
    }
}

/// A file of one number; `max` is the largest there is, an absent file is 0.
fn number(dir: &Dir, file: &str) -> Result<u64> {
    Ok(text(dir, file)?.map_or(0, |text| parse(text.trim())))
}

fn parse(word: &str) -> u64 {
    if word == "max" { u64::MAX } else { word.parse().unwrap_or(0) }
}

/// A file of lines `key number`.
fn table(dir: &Dir, file: &str) -> Result<BTreeMap<String, u64>> {
    Ok(key_values(&text(dir, file)?.unwrap_or_default()))
}

/// Lines `key number`.
pub fn key_values(text: &str) -> BTreeMap<String, u64> {
    let line = |line: &str| line.split_once(' ').map(|(key, value)| (key.to_owned(), parse(value.trim())));
    text.lines().filter_map(line).collect()
}

fn pressure(v2: Option<&Dir>, file: &str) -> Result<Option<Pressure>> {
    let Some(text) = v2.map(|dir| text(dir, file)).transpose()?.flatten() else { return Ok(None) };
    let mut pressure = Pressure::default();
    for line in text.lines() {
        let mut words = line.split(' ');
        let side = match words.next() {
            Some("some") => &mut pressure.some,
            Some("full") => &mut pressure.full,
            _ => continue,
        };
        *side = pressure_line(words);
    }
    Ok(Some(pressure))
}

fn pressure_line<'a>(words: impl Iterator<Item = &'a str>) -> PressureLine {
    let mut line = PressureLine::default();
    for (key, value) in words.filter_map(|word| word.split_once('=')) {
        match key {
            "avg10" => line.avg10 = value.parse().unwrap_or(0.0),
            "avg60" => line.avg60 = value.parse().unwrap_or(0.0),
            "avg300" => line.avg300 = value.parse().unwrap_or(0.0),
            "total" => line.total = parse(value),
            _ => {}
        }
    }
    line
}

fn cpu(cpu: Option<&Dir>, cpuacct: Option<&Dir>, v2: Option<&Dir>) -> Result<CpuStats> {
    let mut stats = CpuStats { psi: pressure(v2, "cpu.pressure")?, ..CpuStats::default() };
    if let Some(dir) = cpuacct {
        let numbers = |file: &str| -> Result<Vec<u64>> {
            Ok(text(dir, file)?.unwrap_or_default().split_whitespace().map(parse).collect())
        };
        stats.usage.total = number(dir, "cpuacct.usage")?;
        stats.usage.kernel = number(dir, "cpuacct.usage_sys")?;
        stats.usage.user = number(dir, "cpuacct.usage_user")?;
        stats.usage.percpu = numbers("cpuacct.usage_percpu")?;
        stats.usage.percpu_kernel = numbers("cpuacct.usage_percpu_sys")?;
        stats.usage.percpu_user = numbers("cpuacct.usage_percpu_user")?;
    }
    let table_of = |dir: &Dir| table(dir, "cpu.stat");
    let own = v2.map(table_of).transpose()?.unwrap_or_default();
    let get = |table: &BTreeMap<String, u64>, key: &str| table.get(key).copied().unwrap_or(0);
    if cpuacct.is_none() {
        stats.usage.total = get(&own, "usage_usec") * 1000;
        stats.usage.kernel = get(&own, "system_usec") * 1000;
        stats.usage.user = get(&own, "user_usec") * 1000;
    }
    let (throttled, time) = match cpu {
        Some(dir) => {
            let v1 = table_of(dir)?;
            let time = get(&v1, "throttled_time");
            (v1, time)
        }
        None => {
            let time = get(&own, "throttled_usec") * 1000;
            (own, time)
        }
    };
    stats.throttling.periods = get(&throttled, "nr_periods");
    stats.throttling.throttled_periods = get(&throttled, "nr_throttled");
    stats.throttling.throttled_time = time;
    Ok(stats)
}

fn cpuset_v1(dir: &Dir) -> Result<CpusetStats> {
    let get = |file: &str| number(dir, &format!("cpuset.{file}"));
    let list = |file: &str| -> Result<Vec<u64>> { Ok(expand(&text(dir, file)?.unwrap_or_default())) };
    let level = text(dir, "cpuset.sched_relax_domain_level")?;
    Ok(CpusetStats {
        cpus: list("cpuset.cpus")?,
        cpu_exclusive: get("cpu_exclusive")?,
        mems: list("cpuset.mems")?,
        mem_hardwall: get("mem_hardwall")?,
        mem_exclusive: get("mem_exclusive")?,
        memory_migrate: get("memory_migrate")?,
        memory_spread_page: get("memory_spread_page")?,
        memory_spread_slab: get("memory_spread_slab")?,
        memory_pressure: get("memory_pressure")?,
        sched_load_balance: get("sched_load_balance")?,
        sched_relax_domain_level: level.and_then(|text| text.trim().parse().ok()).unwrap_or(0),
    })
}

/// `0-2,7` as its numbers.
fn expand(list: &str) -> Vec<u64> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse::<u64>().ok()?..=last.parse::<u64>().ok()?)
    };
    list.trim().split(',').filter_map(range).flatten().collect()
}

fn memory(v1: Option<&Dir>, v2: Option<&Dir>) -> Result<MemoryStats> {
    let psi = pressure(v2, "memory.pressure")?;
    let mut stats = match (v1, v2) {
        (Some(dir), _) => memory_v1(dir)?,
        (None, Some(dir)) => memory_v2(dir)?,
        (None, None) => MemoryStats::default(),
    };
    stats.psi = psi;
    Ok(stats)
}

fn memory_v1(dir: &Dir) -> Result<MemoryStats> {
    let entry = |name: &str| -> Result<MemoryEntry> {
        Ok(MemoryEntry {
            limit: number(dir, &format!("{name}.limit_in_bytes"))?,
            usage: number(dir, &format!("{name}.usage_in_bytes"))?,
            max: number(dir, &format!("{name}.max_usage_in_bytes"))?,
            failcnt: number(dir, &format!("{name}.failcnt"))?,
        })
    };
    let raw = table(dir, "memory.stat")?;
    Ok(MemoryStats {
        cache: raw.get("cache").copied().unwrap_or(0),
        usage: entry("memory")?,
        swap: entry("memory.memsw")?,
        kernel: entry("memory.kmem")?,
        kernel_tcp: entry("memory.kmem.tcp")?,
        raw,
        ..MemoryStats::default()
    })
}

/// cgroup v2 counts swap alone; callers know memory and swap together.
fn memory_v2(dir: &Dir) -> Result<MemoryStats> {
    let raw = table(dir, "memory.stat")?;
    let usage = MemoryEntry {
        limit: number(dir, "memory.max")?,
        usage: number(dir, "memory.current")?,
        max: number(dir, "memory.peak")?,
        failcnt: 0,
    };
    let mut swap = MemoryEntry::default();
    if text(dir, "memory.swap.current")?.is_some() {
        swap.usage = number(dir, "memory.swap.current")?.saturating_add(usage.usage);
        swap.limit = number(dir, "memory.swap.max")?.saturating_add(usage.limit);
    }
    Ok(MemoryStats {
        cache: raw.get("file").copied().unwrap_or(0),
        usage,
        swap,
        raw,
        event_count: table(dir, "memory.events")?,
        ..MemoryStats::default()
    })
}

/// The same files on v1 and v2.
fn pids(dir: &Dir) -> Result<PidsStats> {
    let limit = number(dir, "pids.max")?;
    Ok(PidsStats { current: number(dir, "pids.current")?, limit: if limit == u64::MAX { 0 } else { limit } })
}

fn blkio(v1: Option<&Dir>, v2: Option<&Dir>) -> Result<BlkioStats> {
    let mut stats = BlkioStats { psi: pressure(v2, "io.pressure")?, ..BlkioStats::default() };
    match (v1, v2) {
        (Some(dir), _) => {
            let read = |name: &str| text(dir, &format!("blkio.throttle.{name}_recursive"));
            stats.bytes = blkio_v1(&read("io_service_bytes")?.unwrap_or_default());
            stats.operations = blkio_v1(&read("io_serviced")?.unwrap_or_default());
        }
        (None, Some(dir)) => io_stat(&text(dir, "io.stat")?.unwrap_or_default(), &mut stats),
        (None, None) => {}
    }
    Ok(stats)
}

/// Lines `8:0 Read 4096`; the sum over all devices has no device and is left out.
fn blkio_v1(text: &str) -> Vec<BlkioEntry> {
    let entry = |line: &str| {
        let mut words = line.split_whitespace();
        let (major, minor) = words.next()?.split_once(':')?;
        let (op, value) = (words.next()?.to_owned(), parse(words.next()?));
        Some(BlkioEntry { major: major.parse().ok()?, minor: minor.parse().ok()?, op, value })
    };
    text.lines().filter_map(entry).collect()
}

/// Lines `8:0 rbytes=4096 wbytes=0 rios=1 wios=0 ...`.
fn io_stat(text: &str, stats: &mut BlkioStats) {
    for line in text.lines() {
        let mut words = line.split(' ');
        let Some((major, minor)) = words.next().and_then(|device| device.split_once(':')) else { continue };
        let (Ok(major), Ok(minor)) = (major.parse(), minor.parse()) else { continue };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let (list, op) = match key {
                "rbytes" => (&mut stats.bytes, "Read"),
                "wbytes" => (&mut stats.bytes, "Write"),
                "rios" => (&mut stats.operations, "Read"),
                "wios" => (&mut stats.operations, "Write"),
                _ => continue,
            };
            list.push(BlkioEntry { major, minor, op: op.to_owned(), value: parse(value) });
        }
    }
}

fn hugetlb(v1: Option<&Dir>, v2: Option<&Dir>) -> Result<BTreeMap<String, HugetlbStats>> {
    let mut all = BTreeMap::new();
    for size in page_sizes() {
        let rsvd = |plain: &str| format!("hugetlb.{size}.rsvd.{plain}");
        let plain = |plain: &str| format!("hugetlb.{size}.{plain}");
        let stats = match (v1, v2) {
            (Some(dir), _) => {
                let there = text(dir, &rsvd("usage_in_bytes"))?.is_some();
                let file = |name: &str| if there { rsvd(name) } else { plain(name) };
                HugetlbStats {
                    usage: number(dir, &file("usage_in_bytes"))?,
                    max: number(dir, &file("max_usage_in_bytes"))?,
                    failcnt: number(dir, &file("failcnt"))?,
                }
            }
            (None, Some(dir)) => {
                let Some(usage) = text(dir, &plain("current"))? else { continue };
                let reserved = text(dir, &rsvd("current"))?.unwrap_or(usage);
                let failcnt = table(dir, &plain("events"))?.get("max").copied().unwrap_or(0);
                HugetlbStats { usage: parse(reserved.trim()), max: 0, failcnt }
            }
            (None, None) => continue,
        };
        all.insert(size, stats);
    }
    Ok(all)
}

/// The kernel's huge page sizes in the words of hugetlb's files: `2MB`, `1GB`.
fn page_sizes() -> Vec<String> {
    // Absent on kernels without huge pages: nothing to report then.
    let Ok(entries) = std::fs::read_dir("/sys/kernel/mm/hugepages") else { return Vec::new() };
    let size = |name: &str| {
        let kilobytes: u64 = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
        Some(match kilobytes {
            n if n >= 1 << 20 && n % (1 << 20) == 0 => format!("{}GB", n >> 20),
            n if n >= 1 << 10 && n % (1 << 10) == 0 => format!("{}MB", n >> 10),
            n => format!("{n}KB"),
        })
    };
    entries.flatten().filter_map(|entry| size(&entry.file_name().to_string_lossy())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_texts_become_numbers() {
        assert_eq!(expand("0-2,7\n"), [0, 1, 2, 7]);
        assert!(expand("\n").is_empty());
        assert_eq!((parse("max"), parse("7"), parse("x")), (u64::MAX, 7, 0));
        let line = pressure_line("avg10=1.50 avg60=0.20 avg300=0.00 total=77".split(' '));
        assert_eq!((line.avg10, line.avg60, line.total), (1.5, 0.2, 77));
        let mut io = BlkioStats::default();
        io_stat("8:16 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=9\n254:0 \n", &mut io);
        let flat = |list: &[BlkioEntry]| -> Vec<String> {
            list.iter().map(|e| format!("{}:{} {} {}", e.major, e.minor, e.op, e.value)).collect()
        };
        assert_eq!(flat(&io.bytes), ["8:16 Read 10", "8:16 Write 20"]);
        assert_eq!(flat(&io.operations), ["8:16 Read 1", "8:16 Write 2"]);
        assert_eq!(flat(&blkio_v1("8:0 Read 5\n8:0 Total 5\nTotal 5\n")), ["8:0 Read 5", "8:0 Total 5"]);
    }

    #[test]
    fn the_json_has_runcs_names() {
        let mut stats = Stats::default();
        stats.memory.usage.limit = 9;
        stats.cpu.throttling.throttled_periods = 3;
        let text = serde_json::to_string(&stats).unwrap();
        assert!(
            text.starts_with(r#"{"cpu":{"usage":{"kernel":0,"user":0},"throttling":{"throttledPeriods":3}},"cpuset":"#),
            "{text}"
        );
        assert!(text.contains(r#""usage":{"limit":9,"failcnt":0}"#), "{text}");
        assert!(text.contains(r#""kernelTCP":{"#) && text.ends_with(r#""pids":{},"blkio":{},"hugetlb":{}}"#), "{text}");
    }
}
