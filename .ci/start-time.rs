//! How long `PROGRAM ARGS` takes from spawn to reaped, in microseconds: p10 and median.
//!
//! `start-time N PROGRAM [ARGS...]`; built with `rustc -O`. Several commands are
//! separated by `--` and run in turn, so that noise meets all of them alike.

use std::env;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let Some((rounds, rest)) = args.split_first().and_then(|(n, rest)| Some((n.parse::<usize>().ok()?, rest))) else {
        eprintln!("usage: start-time N PROGRAM [ARGS...] [-- PROGRAM [ARGS...]]...");
        return ExitCode::FAILURE;
    };
    let commands: Vec<&[String]> = rest.split(|a| a == "--").filter(|c| !c.is_empty()).collect();
    let mut samples = vec![Vec::with_capacity(rounds); commands.len()];
    for round in 0..rounds + 10 {
        for (command, samples) in commands.iter().zip(&mut samples) {
            let mut child = Command::new(&command[0]);
            child.args(&command[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            let begun = Instant::now();
            match child.status() {
                Ok(status) if status.success() => {}
                other => {
                    eprintln!("start-time: {}: {other:?}", command.join(" "));
                    return ExitCode::FAILURE;
                }
            }
            // The first ten rounds fill the caches and are not counted.
            if round >= 10 {
                samples.push(begun.elapsed().as_nanos() as f64 / 1000.0);
            }
        }
    }
    for (command, samples) in commands.iter().zip(&mut samples) {
        samples.sort_by(f64::total_cmp);
        let (p10, median) = (samples[rounds / 10], samples[rounds / 2]);
        println!("{}: {median:.0} us (median of {rounds}; p10 {p10:.0})", command.join(" "));
    }
    ExitCode::SUCCESS
}
