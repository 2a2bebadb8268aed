//! Start-up benchmarks for OCI container runtimes, beside the floor: a program that does by hand what a safe
//! runtime must do for the same bundle.
//!
//! `cases` says what is measured, `contender` how a runtime is called, `measure` takes the times in turn,
//! `counts` counts what does not depend on the machine's mood, `results` holds it all; the rest prints.
//! Everything runs in a sandbox of its own (`stage`).
#![deny(unsafe_code)]

mod alike;
mod bundle;
mod cases;
mod compare;
mod contender;
mod counts;
mod gate;
mod machine;
mod markdown;
mod measure;
mod memory;
mod options;
mod order;
mod results;
mod stage;
mod statistics;
mod svg;
mod table;
mod trace;

use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let done = match words.first().map(String::as_str) {
        Some("--traced") => trace::become_traced(&words[1..]),
        _ => options::parse(&words).and_then(|options| stage::enter(&options, &words)),
    };
    done.unwrap_or_else(|message| {
        eprintln!("xebec-bench: {message}");
        ExitCode::from(2)
    })
}
