//! `xebec plan`: what `create` would do, without doing anything.

use xebec::Result;
use xebec::config::{self, Bundle, Findings};
use xebec::spawn::{self, Options};

use super::args::{Global, Plan, PlanFormat};
use super::{print, settings};

#[inline(never)]
pub fn run(global: &Global, args: &Plan) -> Result<u8> {
    let bundle = Bundle::load(args.bundle.as_deref().unwrap_or(".".as_ref()), None)?;
    let config = bundle.config()?;
    let (findings, warnings) = config::check(&config);
    Findings(&findings).refuse(bundle.config_name())?;
    let options = Options {
        rootless: settings::is_rootless(global),
        cgroup_driver: settings::driver(global),
        ..Options::default()
    };
    let mut plan = spawn::plan(&config, &bundle, &settings::id("ID")?, &options)?;
    plan.warnings.extend(warnings.iter().map(ToString::to_string));
    match args.format {
        PlanFormat::Text => print(&plan.to_text()),
        PlanFormat::Json => print(&format!("{:#}\n", plan.to_json())),
    }
}
