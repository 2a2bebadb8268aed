//! ACT: a unit made around a container's first process, told of new limits, and stopped.
//!
//! Each of these waits for systemd's job and says how it ended.

use serde::{Deserialize, Serialize};

use super::UnitPlan;
use super::bus::{Bus, Refused};
use super::property::{Property, Value};
use super::wire::{Address, Body};
use crate::error::{Error, Kind, Result};

const NAME: &str = "org.freedesktop.systemd1";
const PATH: &str = "/org/freedesktop/systemd1";
const MANAGER: Address = Address { destination: NAME, path: PATH, interface: "org.freedesktop.systemd1.Manager" };
const PROPERTIES: Address = Address { destination: NAME, path: PATH, interface: "org.freedesktop.DBus.Properties" };
const PEER: Address = Address { destination: NAME, path: PATH, interface: "org.freedesktop.DBus.Peer" };

/// What state.json keeps of a unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unit {
    pub name: String,
    /// Of the user's service manager, not the system's.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub user: bool,
    /// Its cgroup, where the container's is one below it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top: Option<String>,
}

/// Where the user's service manager keeps its units: the cgroup that slices count from.
pub fn probe_user_manager() -> Result<String> {
    Ok(manager_property(&mut Bus::connect(true)?, "ControlGroup")?)
}

/// Has the unit made, with process `pid` in it, and waits until it is there.
pub fn start(bus: &mut Bus, plan: &UnitPlan, pid: u32) -> Result<()> {
    let pids = Property::new("PIDs", Value::Numbers(vec![pid]));
    let version = version_for(bus, &plan.properties)?;
    let mut body = Body::default();
    body.text(&plan.name.unit);
    // A stop of an earlier unit of this name may still be queued.
    body.text("replace");
    let pids = Some(&pids).filter(|_| !plan.name.is_slice());
    body.properties(known(&plan.properties, version).chain(pids));
    // No auxiliary units: a(sa(sv)).
    body.array(8, |_| ());
    let unit = plan.name.unit.as_str();
    let mut answer = bus.call(MANAGER, "StartTransientUnit", "ssa(sv)a(sa(sv))", &body)?;
    if matches!(&answer, Err(refused) if refused.name.ends_with(".UnitExists")) {
        // Left by somebody who did not have it collected; a living one stays, and the answer with it.
        reset_failed(bus, unit)?;
        answer = bus.call(MANAGER, "StartTransientUnit", "ssa(sv)a(sa(sv))", &body)?;
    }
    match answer {
        Ok(answer) => finish(bus, "StartTransientUnit", unit, &answer.body().text().unwrap_or_default()),
        Err(refused) => Err(refusal("StartTransientUnit", unit, refused)),
    }
}

/// Tells systemd of new limits, until the next boot; when this returns it has written them.
pub fn set_properties(bus: &mut Bus, unit: &str, properties: &[Property]) -> Result<()> {
    let version = version_for(bus, properties)?;
    let mut body = Body::default();
    body.text(unit);
    body.bool(true);
    body.properties(known(properties, version));
    bus.call(MANAGER, "SetUnitProperties", "sba(sv)", &body)?
        .map_err(|refused| refusal("SetUnitProperties", unit, refused))?;
    // It answers before it writes, and writes before it takes the next message.
    let pong = bus.call(PEER, "Ping", "", &Body::default())?;
    pong.map(drop).map_err(|refused| refusal("Ping", unit, refused))
}

/// Has the unit stopped and forgotten; one that is not there is fine. Its processes are dead already.
pub fn stop(unit: &Unit) -> Result<()> {
    // Without a manager there is no unit: a user's goes with the last session.
    let Some(mut bus) = Bus::try_connect(unit.user)? else { return Ok(()) };
    let mut body = Body::default();
    body.text(&unit.name);
    body.text("replace");
    match bus.call(MANAGER, "StopUnit", "ss", &body)? {
        Err(refused) if is_absent(&refused) => return Ok(()),
        Err(refused) => return Err(refusal("StopUnit", &unit.name, refused)),
        Ok(answer) => finish(&mut bus, "StopUnit", &unit.name, &answer.body().text().unwrap_or_default())?,
    }
    reset_failed(&mut bus, &unit.name)
}

/// A failed unit keeps its name until this.
fn reset_failed(bus: &mut Bus, unit: &str) -> Result<()> {
    let mut body = Body::default();
    body.text(unit);
    match bus.call(MANAGER, "ResetFailedUnit", "s", &body)? {
        Err(refused) if !is_absent(&refused) => Err(refusal("ResetFailedUnit", unit, refused)),
        _ => Ok(()),
    }
}

fn is_absent(refused: &Refused) -> bool {
    refused.name.ends_with(".NoSuchUnit")
}

/// The job's end, as org.freedesktop.systemd1(5) has its results.
fn finish(bus: &mut Bus, call: &str, unit: &str, job: &str) -> Result<()> {
    let result = bus.job_result(job)?;
    let error = |hint: String| {
        Err(Error::new(Kind::System, "systemd", format!("{call}({unit:?}): the job ended as {result:?}")).hint(hint))
    };
    match result.as_str() {
        "done" => Ok(()),
        "canceled" => error("another job for the unit took its place; is somebody stopping it?".into()),
        "timeout" => error("systemd gave up waiting for the unit".into()),
        "dependency" => error("a unit that it needs, such as its slice, could not be started".into()),
        _ => error(format!("systemd's reason is in its log: journalctl -b _PID=1 UNIT={unit}")),
    }
}

fn refusal(call: &str, unit: &str, refused: Refused) -> Error {
    let error = Error::new(Kind::System, "systemd", format!("{call}({unit:?}): {}", refused.text));
    match refused.name.rsplit('.').next().unwrap_or("") {
        "UnitExists" => error.hint("is it another container's? choose another name in linux.cgroupsPath"),
        "AccessDenied" | "InteractiveAuthorizationRequired" => {
            error.hint("only root may have units of the system's manager; --rootless true uses the user's")
        }
        "PropertyReadOnly" | "UnknownProperty" => error.hint("this systemd may be too old for it"),
        "TransactionIsDestructive" => error.hint("is the system shutting down?"),
        _ => error.hint(refused.name),
    }
}

/// systemd's version, asked for only if a property depends on it.
fn version_for(bus: &mut Bus, properties: &[Property]) -> Result<u32> {
    if properties.iter().all(|property| property.since == 0) {
        return Ok(0);
    }
    let text = manager_property(bus, "Version")?;
    let digits: String = text.chars().skip_while(|c| !c.is_ascii_digit()).take_while(char::is_ascii_digit).collect();
    digits.parse().map_err(|_| Error::new(Kind::System, "systemd", format!("Version is {text:?}, a number expected")))
}

fn known(properties: &[Property], version: u32) -> impl Iterator<Item = &Property> {
    properties.iter().filter(move |property| property.since <= version)
}

fn manager_property(bus: &mut Bus, name: &str) -> Result<String> {
    let mut body = Body::default();
    body.text(MANAGER.interface);
    body.text(name);
    let answer = bus.call(PROPERTIES, "Get", "ss", &body)?.map_err(|refused| refusal("Get", name, refused))?;
    let text = answer.body().text_variant();
    text.ok_or_else(|| Error::new(Kind::System, "systemd", format!("{name} is not a text")))
}
