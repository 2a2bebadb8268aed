//! `xebec doctor`: what the host offers and lacks.

use xebec::{Result, doctor};

use super::args::{Doctor, PlanFormat};
use super::print;

/// 0 when containers can be made, whatever that costs; 1 when something fails.
#[inline(never)]
pub fn run(args: &Doctor) -> Result<u8> {
    let findings = doctor::examine();
    match args.format {
        PlanFormat::Text => print(&doctor::to_text(&findings))?,
        PlanFormat::Json => print(&format!("{:#}\n", doctor::to_json(&findings)))?,
    };
    Ok(u8::from(!doctor::is_fit(&findings)))
}
