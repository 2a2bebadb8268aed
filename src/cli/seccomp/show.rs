//! `xebec seccomp show`: the decisions of a profile, and its program.

use xebec::{Error, Result};

use super::args::Show;
use super::profile::{Source, options};
use crate::cli::print;

pub fn run(args: &Show) -> Result<u8> {
    let source = Source::read(&args.profile, &args.container.cap)?;
    let profile = source.profile()?;
    let options = options();
    if let Some(arch) = args.arch {
        let listed = profile.architectures.iter().any(|name| **name == *arch.spec_name());
        if arch != options.native && !listed {
            let text = format!("{} is not among the profile's architectures: its calls are killed", arch.spec_name());
            return Err(Error::invalid(source.name(), text));
        }
    }
    let text = xebec_seccomp::show(&profile, &options, args.arch).map_err(|error| source.refusal(&error))?;
    print(&source.words(&text))
}
