//! `xebec update`.

use std::io::Read;
use std::path::Path;

use xebec::config::check::check_resources;
use xebec::config::{BlockIo, Cpu, Findings, Memory, Pids, Resources, Text, parse_resources};
use xebec::{Result, state};

use super::args::{Global, Update};
use super::log::Log;
use super::{io_error, settings};

#[inline(never)]
pub fn run(global: &Global, log: &Log, args: &Update) -> Result<u8> {
    let (root, id) = (settings::root(global)?, settings::id(&args.id)?);
    let (name, text) = match &args.resources {
        Some(path) => (format!("--resources {}", path.display()), Some(read(path)?)),
        None => ("update".to_owned(), None),
    };
    let resources = match &text {
        Some(text) => parse_resources(&name, text)?,
        None => flags(args),
    };
    let (findings, warnings) = check_resources(&resources);
    Findings(&findings).refuse(&name)?;
    let mut warnings: Vec<String> = warnings.iter().map(|warning| format!("{name}: {warning}")).collect();
    if text.is_none() {
        let dropped =
            [("--kernel-memory", args.kernel_memory), ("--kernel-memory-tcp", args.kernel_memory_tcp)].into_iter();
        let told = |(flag, _)| format!("{flag} has no effect: the kernel has given this limit up");
        warnings.extend(dropped.filter(|(_, limit)| limit.is_some()).map(told));
    }
    // The schemas are no resources: as in runc they count beside a file too. They come
    // first, because the likeliest refusal is that the container has none.
    let schemata = [&args.l3_cache_schema, &args.mem_bw_schema].map(|schema| schema.as_deref().unwrap_or_default());
    let schemata: Vec<&str> = schemata.into_iter().filter(|schema| !schema.is_empty()).collect();
    if !schemata.is_empty() {
        state::update_schemata(&root, &id, &schemata)?;
    }
    warnings.extend(xebec::update(&root, &id, &resources)?);
    log.warn(&warnings);
    Ok(0)
}

/// The file, which may be a pipe; `-` is stdin.
fn read(path: &Path) -> Result<String> {
    let mut text = String::new();
    let read = match path.as_os_str() == "-" {
        true => std::io::stdin().lock().read_to_string(&mut text).map(drop),
        false => std::fs::File::open(path).and_then(|mut file| file.read_to_string(&mut text)).map(drop),
    };
    let shown = path.display().to_string();
    read.map_err(|error| io_error("--resources", &format!("read({shown:?})"), &error)).map(|()| text)
}

/// The single options as the object that they stand for.
fn flags(args: &Update) -> Resources<'_> {
    let text = |list: &'_ Option<String>| list.clone().map(|list| Text(list.into()));
    Resources {
        memory: Some(Memory {
            limit: args.memory,
            reservation: args.memory_reservation,
            swap: args.memory_swap,
            ..Memory::default()
        }),
        cpu: Some(Cpu {
            shares: args.cpu_share,
            quota: args.cpu_quota,
            burst: args.cpu_burst,
            period: args.cpu_period,
            realtime_runtime: args.cpu_rt_runtime,
            realtime_period: args.cpu_rt_period,
            cpus: text(&args.cpuset_cpus),
            mems: text(&args.cpuset_mems),
            idle: args.cpu_idle,
        }),
        pids: Some(Pids { limit: args.pids_limit }),
        block_io: Some(BlockIo { weight: args.blkio_weight, ..BlockIo::default() }),
        ..Resources::default()
    }
}
