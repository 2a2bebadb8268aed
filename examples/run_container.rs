//! Runs a container through the library: `run_container BUNDLE ID`, as root.

use std::path::PathBuf;

use xebec::spawn::RunOptions;
use xebec::{Bundle, ContainerId, Options};

fn main() -> xebec::Result<()> {
    let mut args = std::env::args().skip(1);
    let (Some(bundle), Some(id)) = (args.next(), args.next()) else {
        eprintln!("usage: run_container BUNDLE ID");
        std::process::exit(2);
    };
    let bundle = Bundle::load(bundle.as_ref(), None)?;
    let id = ContainerId::new(&id)?;
    let options = Options { root: PathBuf::from("/run/xebec-example"), ..Options::default() };
    // The binary that creates a container must not be writable through /proc/PID/exe (CVE-2019-5736).
    xebec::spawn::own_exe::protect()?;
    let exit = xebec::run(&bundle, &id, &options, RunOptions::default())?;
    exit.warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
    std::process::exit(exit.status);
}
