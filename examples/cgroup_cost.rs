//! What a container's cgroup costs: create, device filter and removal, in microseconds.
//!
//! Run it as root in private mount and cgroup namespaces, with `-- ROUNDS KIND`; KIND
//! is `bare` (no device filter), `devices` or `limits` (memory, pids, cpu, cpuset). The
//! median and the tenth percentile of each phase, and of them all, are printed.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use xebec::cgroup::{Options, plan_cgroup, probe_layout};
use xebec::config::Config;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let rounds: usize = args.next().map_or(Ok(1), |n| n.parse())?;
    let resources = match args.next().as_deref() {
        None | Some("bare") => r#"{"devices":[{"allow":true,"access":"rwm"}]}"#,
        Some("devices") => r#"{"devices":[{"allow":false,"access":"rwm"}]}"#,
        Some("limits") => {
            r#"{"memory":{"limit":67108864},"pids":{"limit":100},"cpu":{"shares":512,"quota":50000,"period":100000,"cpus":"0"}}"#
        }
        Some(other) => return Err(format!("{other}: not a kind").into()),
    };
    let text = format!(r#"{{"ociVersion":"1.3.0","linux":{{"resources":{resources}}}}}"#);
    let config: Config<'_> = serde_json::from_str(&text)?;
    let mut phases: [(&str, Vec<Duration>); 7] =
        ["probe", "plan", "claim", "create", "apply", "remove", "all"].map(|name| (name, Vec::with_capacity(rounds)));
    for round in 0..rounds {
        let begun = Instant::now();
        let mut clock = begun;
        let mut lap = |phase: usize| {
            phases[phase].1.push(clock.elapsed());
            clock = Instant::now();
        };
        let layout = probe_layout()?;
        lap(0);
        let id = format!("xebec-cost-{}-{round}", std::process::id());
        let plan = plan_cgroup(&id, &config, &layout, &Options::default())?;
        lap(1);
        let claim = plan.claim()?;
        lap(2);
        let cgroup = claim.create()?;
        lap(3);
        cgroup.apply()?;
        lap(4);
        let record = plan.record();
        record.kill_all(Signal::KILL)?;
        record.remove()?;
        lap(5);
        phases[6].1.push(begun.elapsed());
    }
    for (name, mut times) in phases {
        times.sort_unstable();
        let at = |share: usize| times[(times.len() * share / 100).min(times.len() - 1)].as_nanos() as f64 / 1000.0;
        println!("{name:8} p10 {:8.1} median {:8.1} us", at(10), at(50));
    }
    Ok(())
}
