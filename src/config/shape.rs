//! The shape of config.json as data, and the walk that finds every departure
//! from it at once.
//!
//! Only read when the typed parse has failed: `types` stops at the first fault,
//! users want all of them. Tests hold the two in step, both ways.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::Text;
use super::finding::{Finding, quoted, token};

/// What a value may be.
#[derive(Debug)]
pub enum Shape {
    Bool,
    /// A string, and what to call it.
    Text(&'static str),
    /// An integer in this range.
    Int {
        min: i64,
        max: u64,
    },
    List(&'static Shape),
    /// An object with any property names.
    Map(&'static Shape),
    /// An object with these properties; others are ignored.
    Object(&'static [Property]),
}

/// One property of an object.
#[derive(Debug)]
pub struct Property {
    name: &'static str,
    required: bool,
    shape: Shape,
}

/// A property that the specification calls REQUIRED.
const fn must(name: &'static str, shape: Shape) -> Property {
    Property { name, required: true, shape }
}

/// An optional property; `null` counts as absent.
const fn may(name: &'static str, shape: Shape) -> Property {
    Property { name, required: false, shape }
}

const BOOL: Shape = Shape::Bool;
const TEXT: Shape = Shape::Text("a string");
const PATH: Shape = Shape::Text("a path");
const TEXTS: Shape = Shape::List(&TEXT);
const TEXT_MAP: Shape = Shape::Map(&TEXT);
const U16: Shape = Shape::Int { min: 0, max: u16::MAX as u64 };
const U32: Shape = Shape::Int { min: 0, max: u32::MAX as u64 };
const U64: Shape = Shape::Int { min: 0, max: u64::MAX };
const I32: Shape = Shape::Int { min: i32::MIN as i64, max: i32::MAX as u64 };
const I64: Shape = Shape::Int { min: i64::MIN, max: i64::MAX as u64 };

/// config.json.
pub static CONFIG: Shape = Shape::Object(&[
    must("ociVersion", Shape::Text("a version such as \"1.3.0\"")),
    may("root", Shape::Object(&[must("path", PATH), may("readonly", BOOL)])),
    may("mounts", Shape::List(&MOUNT)),
    may("process", PROCESS),
    may("hostname", TEXT),
    may("domainname", TEXT),
    may("hooks", HOOKS),
    may("annotations", TEXT_MAP),
    may("linux", LINUX),
]);

const MOUNT: Shape = Shape::Object(&[
    must("destination", Shape::Text("an absolute path")),
    may("type", TEXT),
    may("source", TEXT),
    may("options", TEXTS),
    may("uidMappings", ID_MAPPINGS),
    may("gidMappings", ID_MAPPINGS),
]);

const ID_MAPPINGS: Shape =
    Shape::List(&Shape::Object(&[must("containerID", U32), must("hostID", U32), must("size", U32)]));

/// `process`, and the whole of a process.json.
pub const PROCESS: Shape = Shape::Object(&[
    must("cwd", Shape::Text("an absolute path")),
    may("terminal", BOOL),
    may("consoleSize", Shape::Object(&[must("height", U64), must("width", U64)])),
    may("user", USER),
    may("args", TEXTS),
    may("env", TEXTS),
    may("capabilities", CAPABILITIES),
    may("rlimits", Shape::List(&Shape::Object(&[must("type", TEXT), must("soft", U64), must("hard", U64)]))),
    may("noNewPrivileges", BOOL),
    may("apparmorProfile", TEXT),
    may("oomScoreAdj", I32),
    may("scheduler", SCHEDULER),
    may("selinuxLabel", TEXT),
    may("ioPriority", Shape::Object(&[must("class", TEXT), may("priority", I32)])),
    may("execCPUAffinity", Shape::Object(&[may("initial", TEXT), may("final", TEXT)])),
]);

const USER: Shape =
    Shape::Object(&[may("uid", U32), may("gid", U32), may("umask", U32), may("additionalGids", Shape::List(&U32))]);

const CAPABILITIES: Shape = Shape::Object(&[
    may("bounding", TEXTS),
    may("effective", TEXTS),
    may("inheritable", TEXTS),
    may("permitted", TEXTS),
    may("ambient", TEXTS),
]);

const SCHEDULER: Shape = Shape::Object(&[
    must("policy", TEXT),
    may("nice", I32),
    may("priority", I32),
    may("flags", TEXTS),
    may("runtime", U64),
    may("deadline", U64),
    may("period", U64),
]);

const HOOKS: Shape = Shape::Object(&[
    may("prestart", HOOK_LIST),
    may("createRuntime", HOOK_LIST),
    may("createContainer", HOOK_LIST),
    may("startContainer", HOOK_LIST),
    may("poststart", HOOK_LIST),
    may("poststop", HOOK_LIST),
]);

const HOOK_LIST: Shape = Shape::List(&Shape::Object(&[
    must("path", Shape::Text("an absolute path")),
    may("args", TEXTS),
    may("env", TEXTS),
    may("timeout", I64),
]));

const LINUX: Shape = Shape::Object(&[
    may("namespaces", Shape::List(&Shape::Object(&[must("type", TEXT), may("path", TEXT)]))),
    may("uidMappings", ID_MAPPINGS),
    may("gidMappings", ID_MAPPINGS),
    may("timeOffsets", Shape::Map(&Shape::Object(&[may("secs", I64), may("nanosecs", U32)]))),
    may("devices", Shape::List(&DEVICE)),
    may("netDevices", Shape::Map(&Shape::Object(&[may("name", TEXT)]))),
    may("cgroupsPath", TEXT),
    may("resources", RESOURCES),
    may("intelRdt", INTEL_RDT),
    may("memoryPolicy", Shape::Object(&[must("mode", TEXT), may("nodes", TEXT), may("flags", TEXTS)])),
    may("sysctl", TEXT_MAP),
    may("seccomp", SECCOMP),
    may("rootfsPropagation", TEXT),
    may("maskedPaths", TEXTS),
    may("readonlyPaths", TEXTS),
    may("mountLabel", TEXT),
    may("personality", Shape::Object(&[must("domain", TEXT), may("flags", TEXTS)])),
]);

/// `xebec_seccomp::Profile::check` judges what is REQUIRED here.
pub const SECCOMP: Shape = Shape::Object(&[
    may("defaultAction", TEXT),
    may("defaultErrnoRet", U64),
    may("architectures", TEXTS),
    may("flags", TEXTS),
    may("listenerPath", TEXT),
    may("listenerMetadata", TEXT),
    may("syscalls", Shape::List(&SECCOMP_RULE)),
]);

const SECCOMP_RULE: Shape = Shape::Object(&[
    may("names", TEXTS),
    may("action", TEXT),
    may("errnoRet", U64),
    may("args", Shape::List(&SECCOMP_ARG)),
]);

const SECCOMP_ARG: Shape =
    Shape::Object(&[may("index", U64), may("value", U64), may("valueTwo", U64), may("op", TEXT)]);

const DEVICE: Shape = Shape::Object(&[
    must("type", TEXT),
    must("path", Shape::Text("an absolute path")),
    may("major", I64),
    may("minor", I64),
    may("fileMode", U32),
    may("uid", U32),
    may("gid", U32),
]);

const INTEL_RDT: Shape = Shape::Object(&[
    may("closID", TEXT),
    may("schemata", TEXTS),
    may("l3CacheSchema", TEXT),
    may("memBwSchema", TEXT),
    may("enableMonitoring", BOOL),
]);

/// `linux.resources`, and the whole of a resources.json.
pub const RESOURCES: Shape = Shape::Object(&[
    may("devices", Shape::List(&DEVICE_CGROUP)),
    may("memory", MEMORY),
    may("cpu", CPU),
    may("pids", Shape::Object(&[may("limit", I64)])),
    may("blockIO", BLOCK_IO),
    may("hugepageLimits", Shape::List(&Shape::Object(&[must("pageSize", TEXT), must("limit", U64)]))),
    may("network", NETWORK),
    may("rdma", Shape::Map(&Shape::Object(&[may("hcaHandles", U32), may("hcaObjects", U32)]))),
    may("unified", TEXT_MAP),
]);

const DEVICE_CGROUP: Shape =
    Shape::Object(&[must("allow", BOOL), may("type", TEXT), may("major", I64), may("minor", I64), may("access", TEXT)]);

const MEMORY: Shape = Shape::Object(&[
    may("limit", I64),
    may("reservation", I64),
    may("swap", I64),
    may("kernel", I64),
    may("kernelTCP", I64),
    may("swappiness", U64),
    may("disableOOMKiller", BOOL),
    may("useHierarchy", BOOL),
    may("checkBeforeUpdate", BOOL),
]);

const CPU: Shape = Shape::Object(&[
    may("shares", U64),
    may("quota", I64),
    may("burst", U64),
    may("period", U64),
    may("realtimeRuntime", I64),
    may("realtimePeriod", U64),
    may("cpus", TEXT),
    may("mems", TEXT),
    may("idle", I64),
]);

const BLOCK_IO: Shape = Shape::Object(&[
    may("weight", U16),
    may("leafWeight", U16),
    may("weightDevice", Shape::List(&WEIGHT_DEVICE)),
    may("throttleReadBpsDevice", THROTTLES),
    may("throttleWriteBpsDevice", THROTTLES),
    may("throttleReadIOPSDevice", THROTTLES),
    may("throttleWriteIOPSDevice", THROTTLES),
]);

const WEIGHT_DEVICE: Shape =
    Shape::Object(&[must("major", I64), must("minor", I64), may("weight", U16), may("leafWeight", U16)]);

const THROTTLES: Shape = Shape::List(&Shape::Object(&[must("major", I64), must("minor", I64), must("rate", U64)]));

const NETWORK: Shape = Shape::Object(&[
    may("classID", U32),
    may("priorities", Shape::List(&Shape::Object(&[must("name", TEXT), must("priority", U32)]))),
]);

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Shape::Bool => f.write_str("true or false"),
            Shape::Text(what) => f.write_str(what),
            Shape::Int { min, max } => write!(f, "an integer from {min} to {max}"),
            Shape::List(_) => f.write_str("a list"),
            Shape::Map(_) | Shape::Object(_) => f.write_str("an object"),
        }
    }
}

/// Every place at which `text` is not of `shape`; a fault of the JSON itself
/// ends the walk and comes last, with its line and column.
pub fn compare(text: &str, shape: &'static Shape) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut json = serde_json::Deserializer::from_str(text);
    let walk = Walk { shape, nullable: false, at: &Place::Root, findings: &mut findings };
    if let Err(e) = walk.deserialize(&mut json).and_then(|()| json.end()) {
        findings.push(Finding { pointer: String::new(), what: format!("not JSON: {e}") });
    }
    findings
}

/// Where the walk is: written out as a JSON pointer only when something is found.
enum Place<'a> {
    Root,
    Name(&'a Place<'a>, &'a str),
    Index(&'a Place<'a>, usize),
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Root => Ok(()),
            Place::Name(parent, name) => write!(f, "{parent}/{}", token(name)),
            Place::Index(parent, index) => write!(f, "{parent}/{index}"),
        }
    }
}

/// The walk at one value.
struct Walk<'w> {
    shape: &'static Shape,
    nullable: bool,
    at: &'w Place<'w>,
    findings: &'w mut Vec<Finding>,
}

impl Walk<'_> {
    fn find(&mut self, what: String) {
        self.findings.push(Finding { pointer: self.at.to_string(), what });
    }

    fn mismatch(&mut self, found: impl fmt::Display) {
        self.find(format!("{found} found, {} expected", self.shape));
    }

    /// Walks the properties of an object with a fixed set of them.
    fn properties<'de, A: MapAccess<'de>>(self, properties: &'static [Property], mut map: A) -> Result<(), A::Error> {
        let mut seen = vec![false; properties.len()];
        while let Some(name) = map.next_key::<Text<'de>>()? {
            let Some(i) = properties.iter().position(|p| p.name == &*name) else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            let at = Place::Name(self.at, &name);
            if std::mem::replace(&mut seen[i], true) {
                self.findings.push(Finding { pointer: at.to_string(), what: "given twice".to_owned() });
            }
            let Property { required, shape, .. } = &properties[i];
            map.next_value_seed(Walk { shape, nullable: !required, at: &at, findings: self.findings })?;
        }
        for (property, _) in properties.iter().zip(seen).filter(|(property, seen)| property.required && !seen) {
            let at = Place::Name(self.at, property.name);
            let what = format!("required, {} was expected", property.shape);
            Walk { at: &at, findings: self.findings, ..self }.find(what);
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        d.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.shape)
    }

    fn visit_unit<E>(mut self) -> Result<(), E> {
        if !self.nullable {
            self.mismatch("null");
        }
        Ok(())
    }

    fn visit_bool<E>(mut self, found: bool) -> Result<(), E> {
        if !matches!(self.shape, Shape::Bool) {
            self.mismatch(found);
        }
        Ok(())
    }

    fn visit_u64<E>(mut self, found: u64) -> Result<(), E> {
        if !matches!(*self.shape, Shape::Int { max, .. } if found <= max) {
            self.mismatch(found);
        }
        Ok(())
    }

    fn visit_i64<E>(mut self, found: i64) -> Result<(), E> {
        if !matches!(*self.shape, Shape::Int { min, .. } if found >= min) {
            self.mismatch(found);
        }
        Ok(())
    }

    fn visit_f64<E>(mut self, found: f64) -> Result<(), E> {
        self.mismatch(found);
        Ok(())
    }

    fn visit_str<E>(mut self, found: &str) -> Result<(), E> {
        if !matches!(self.shape, Shape::Text(_)) {
            self.mismatch(quoted(found));
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<(), A::Error> {
        let Shape::List(shape) = self.shape else {
            self.mismatch("a list");
            while list.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(());
        };
        for index in 0.. {
            let at = Place::Index(self.at, index);
            let walk = Walk { shape, nullable: false, at: &at, findings: self.findings };
            if list.next_element_seed(walk)?.is_none() {
                break;
            }
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        match self.shape {
            Shape::Object(properties) => self.properties(properties, map),
            Shape::Map(shape) => {
                while let Some(name) = map.next_key::<Text<'de>>()? {
                    let at = Place::Name(self.at, &name);
                    map.next_value_seed(Walk { shape, nullable: false, at: &at, findings: self.findings })?;
                }
                Ok(())
            }
            _ => {
                self.mismatch("an object");
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(())
            }
        }
    }
}

#[cfg(test)]
#[path = "shape_tests.rs"]
mod tests;
