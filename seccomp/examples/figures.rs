//! Figures of one run: cold compile time, instructions, load time and steps a
//! call, against libseccomp with and without OPTIMIZE=2. Every time is taken
//! in a fresh process (first call, cold caches); the median of the runs is
//! printed, with the 10th percentile before it.
//!
//! `cargo run --release -p xebec-seccomp --example figures [RUNS]`

#[path = "../tests/oracle/mod.rs"]
mod oracle;

use std::process::Command;
use std::time::Instant;
use xebec_seccomp::bpf::{self, Call, Instruction};
use xebec_seccomp::{Arch, Filter, Options, Profile, compile, load};

/// (name, argument for the child)
const WAYS: [(&str, &str); 3] = [("xebec-seccomp", "own"), ("libseccomp", "1"), ("libseccomp OPTIMIZE=2", "2")];

fn main() {
    let mut args = std::env::args().skip(1);
    match args.next().as_deref() {
        Some("--once") => once(&args.next().expect("a way")),
        runs => report(runs.and_then(|r| r.parse().ok()).unwrap_or(101)),
    }
}

fn profile_text() -> String {
    oracle::engine_profile(Arch::X86_64, &oracle::DOCKER_CAPS)
}

/// One cold measurement: compile, load, 1000 calls; printed as one line.
fn once(way: &str) {
    let text = std::env::var("FIGURES_PROFILE").expect("the parent gives the profile");
    let profile: Profile<'_> = serde_json::from_str(&text).expect("a profile");
    let start = Instant::now();
    let filter = match way {
        "own" => compile(&profile, &Options::default()).expect("compiles"),
        level => Filter {
            program: oracle::oracle(&profile, Arch::X86_64, level.parse().expect("a level"))
                .expect("libseccomp compiles"),
            flags: 0,
            uses_notify: false,
            warnings: Vec::new(),
        },
    };
    let compiled = start.elapsed();
    // SAFETY: prctl with plain numbers; needed to load without privilege.
    unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    let start = Instant::now();
    load(&filter).expect("loads");
    let loaded = start.elapsed();
    let per_call = |number: libc::c_long, argument: libc::c_long| {
        let start = Instant::now();
        for _ in 0..1000 {
            // SAFETY: the calls measured take numbers only.
            unsafe { libc::syscall(number, argument, 0, 0) };
        }
        start.elapsed().as_nanos() / 1000
    };
    let allowed = per_call(libc::SYS_getppid, 0);
    // personality is judged by its argument, so no bitmap can shorten it.
    let judged = per_call(libc::SYS_personality, 0xffff_ffff);
    // Refused by default, which a list knows only at its end.
    let refused = per_call(libc::SYS_add_key, 0);
    println!("{} {} {allowed} {judged} {refused}", compiled.as_nanos(), loaded.as_nanos());
}

fn report(runs: usize) {
    let text = profile_text();
    let profile: Profile<'_> = serde_json::from_str(&text).expect("a profile");
    let own = std::env::current_exe().expect("own path");
    let mut samples: Vec<[Vec<u128>; 5]> = vec![Default::default(); WAYS.len()];
    // Interleaved, so that a busy moment hits all alike.
    for _ in 0..runs {
        for (way, samples) in WAYS.iter().zip(&mut samples) {
            let output = Command::new(&own)
                .args(["--once", way.1])
                .env("FIGURES_PROFILE", &text)
                .output()
                .expect("running the child");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            let line = String::from_utf8(output.stdout).expect("numbers");
            for (value, list) in line.split_whitespace().zip(samples) {
                list.push(value.parse().expect("a number"));
            }
        }
    }
    println!("p10 / median of {runs} processes each; docker's profile for x86_64, x86, x32");
    for ((name, way), samples) in WAYS.iter().zip(&mut samples) {
        let program = match *way {
            "own" => compile(&profile, &Options::default()).expect("compiles").program,
            level => {
                oracle::oracle(&profile, Arch::X86_64, level.parse().expect("a level")).expect("libseccomp compiles")
            }
        };
        let figure = |list: &mut Vec<u128>, unit: f64| {
            list.sort_unstable();
            let at = |part: usize| list[list.len() * part / 10] as f64 / unit;
            format!("{:8.2} / {:8.2}", at(1), at(5))
        };
        let steps_of =
            |nr: libc::c_long| bpf::execute(&program, &Call::new(Arch::X86_64, nr as u32, [0; 6]), false).steps;
        println!("{name}:");
        println!("  compile us       {}", figure(&mut samples[0], 1000.0));
        println!("  load us          {}", figure(&mut samples[1], 1000.0));
        println!("  allowed call ns  {}", figure(&mut samples[2], 1.0));
        println!("  judged call ns   {}, {} steps", figure(&mut samples[3], 1.0), steps_of(libc::SYS_personality));
        println!("  refused call ns  {}, {} steps", figure(&mut samples[4], 1.0), steps_of(libc::SYS_add_key));
        println!("  instructions     {}", program.len());
        println!("  steps a number   {:.1} average, {} at most", steps(&program).0, steps(&program).1);
    }
}

/// Instructions executed over x86_64's numbers 0 to 470.
fn steps(program: &[Instruction]) -> (f64, u32) {
    let all: Vec<u32> =
        (0..471).map(|nr| bpf::execute(program, &Call::new(Arch::X86_64, nr, [0; 6]), false).steps).collect();
    let sum: u32 = all.iter().sum();
    (f64::from(sum) / all.len() as f64, all.into_iter().max().unwrap_or(0))
}
