//! Annotations `org.systemd.property.NAME`: further properties of the unit, from a list of harmless ones.
//!
//! Pure. Whoever writes the config of a container must not get a command run or a unit of the
//! host started or stopped by it (CVE-2024-3154: ExecStopPost), so what is not listed is refused.

use crate::config::StringMap;
use crate::config::words::SYSTEMD_PROPERTY as PREFIX;
use crate::error::{Error, Result};

use super::property::{Property, Value};

/// The names that are taken, with their D-Bus types.
///
/// Left out on purpose: Exec*, everything that pulls in or stops other units (Wants, Requires,
/// BindsTo, Conflicts, OnFailure, …), BPFProgram and IPIngressFilterPath (files of the host),
/// and what the driver itself decides (Slice, Delegate, PIDs, Description).
const ALLOWED: [(&str, char); 38] = [
    ("After", 'a'),
    ("AllowedCPUs", 'y'),
    ("AllowedMemoryNodes", 'y'),
    ("Before", 'a'),
    ("CollectMode", 's'),
    ("CPUAccounting", 'b'),
    ("CPUQuotaPerSecUSec", 't'),
    ("CPUQuotaPeriodUSec", 't'),
    ("CPUWeight", 't'),
    ("DefaultDependencies", 'b'),
    ("FinalKillSignal", 'i'),
    ("IOAccounting", 'b'),
    ("IOWeight", 't'),
    ("IPAccounting", 'b'),
    ("KillMode", 's'),
    ("KillSignal", 'i'),
    ("ManagedOOMMemoryPressure", 's'),
    ("ManagedOOMMemoryPressureLimit", 'u'),
    ("ManagedOOMPreference", 's'),
    ("ManagedOOMSwap", 's'),
    ("MemoryAccounting", 'b'),
    ("MemoryHigh", 't'),
    ("MemoryLow", 't'),
    ("MemoryMax", 't'),
    ("MemoryMin", 't'),
    ("MemorySwapMax", 't'),
    ("MemoryZSwapMax", 't'),
    ("OOMPolicy", 's'),
    ("PartOf", 'a'),
    ("RuntimeMaxUSec", 't'),
    ("SendSIGHUP", 'b'),
    ("SendSIGKILL", 'b'),
    ("StartupCPUWeight", 't'),
    ("StartupIOWeight", 't'),
    ("TasksAccounting", 'b'),
    ("TasksMax", 't'),
    ("TimeoutStopUSec", 't'),
    ("WatchdogSignal", 'i'),
];

/// The properties that the annotations ask for, in the order of their names.
pub fn plan_annotations(annotations: &StringMap<'_>) -> Result<Vec<Property>> {
    let named = annotations.iter().filter_map(|(key, value)| Some((key.strip_prefix(PREFIX)?, &**value)));
    named.map(|(name, text)| plan_one(name, text)).collect()
}

fn plan_one(name: &str, text: &str) -> Result<Property> {
    let item = format!("annotations {PREFIX}{name}");
    // As in runc, seconds may be given for microseconds.
    let (full, unit) = match name.strip_suffix("Sec").filter(|_| !name.ends_with("USec")) {
        Some(stem) => (format!("{stem}USec"), 1_000_000.0),
        None => (name.to_owned(), 1.0),
    };
    let Some((_, kind)) = ALLOWED.iter().find(|(allowed, _)| *allowed == full) else {
        return Err(Error::invalid(item, "is not among the properties that a container may set")
            .hint("the list is in docs/cgroups.md; what runs commands or touches other units is never on it"));
    };
    let value = match (kind, unit == 1.0) {
        ('t', false) => {
            word(text, "t", "double").parse().ok().and_then(|seconds| microseconds(seconds, unit)).map(Value::U64)
        }
        _ => parse(*kind, text.trim()),
    };
    let value = value.ok_or_else(|| {
        let wanted = match kind {
            'b' => "true or false",
            's' => "a quoted string such as 'stop'",
            'a' => "a list of quoted strings such as ['a.service']",
            'y' => "a list of bytes such as [byte 0x03]",
            _ => "a number such as uint64 5",
        };
        Error::invalid(&item, format!("{text:?} found, {wanted} expected (GVariant text)"))
    })?;
    Ok(Property { name: full, value, since: 0 })
}

fn microseconds(seconds: f64, unit: f64) -> Option<u64> {
    let product = seconds * unit;
    (product >= 0.0 && product < u64::MAX as f64).then_some(product as u64)
}

/// One value of GVariant's text format, of a type that is known.
fn parse(kind: char, text: &str) -> Option<Value> {
    match kind {
        'b' => text.parse().ok().map(Value::Bool),
        'i' => word(text, "i", "int32").parse().ok().map(Value::I32),
        'u' => word(text, "u", "uint32").parse().ok().map(Value::U32),
        't' => word(text, "t", "uint64").parse().ok().map(Value::U64),
        's' => quoted(text).map(Value::Text),
        'a' => list(text)?.into_iter().map(quoted).collect::<Option<_>>().map(Value::Texts),
        'y' => list(text)?.into_iter().map(byte).collect::<Option<_>>().map(Value::Bytes),
        _ => None,
    }
}

/// A number behind its optional type: `uint64 5`, `@t 5`, `5`.
fn word<'t>(text: &'t str, code: &str, keyword: &str) -> &'t str {
    let (kind, number) = text.trim().split_once(' ').unwrap_or(("", text.trim()));
    if kind == keyword || kind.strip_prefix('@') == Some(code) { number.trim() } else { text }
}

/// Text between equal quotes. What would need an escape is in none of these properties.
fn quoted(text: &str) -> Option<String> {
    let text = text.trim();
    let inner = ['\'', '"'].iter().find_map(|quote| text.strip_prefix(*quote)?.strip_suffix(*quote))?;
    (!inner.contains(['\'', '"', '\\', '\0'])).then(|| inner.to_owned())
}

fn list(text: &str) -> Option<Vec<&str>> {
    let inner = text.strip_prefix('[')?.strip_suffix(']')?;
    Some(if inner.trim().is_empty() { Vec::new() } else { inner.split(',').map(str::trim).collect() })
}

fn byte(text: &str) -> Option<u8> {
    let number = word(text, "y", "byte");
    match number.strip_prefix("0x") {
        Some(digits) => u8::from_str_radix(digits, 16).ok(),
        None => number.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(name: &str, text: &str) -> String {
        match plan_one(name, text) {
            Ok(property) => property.to_string(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_listed_property_is_taken_with_its_type() {
        for (name, text, want) in [
            ("CollectMode", "'inactive-or-failed'", "CollectMode \"inactive-or-failed\""),
            ("CollectMode", "\"inactive\"", "CollectMode \"inactive\""),
            ("DefaultDependencies", "true", "DefaultDependencies true"),
            ("MemoryHigh", "uint64 4096", "MemoryHigh 4096"),
            ("MemoryHigh", "@t 4096", "MemoryHigh 4096"),
            ("MemoryHigh", "4096", "MemoryHigh 4096"),
            ("TimeoutStopUSec", "uint64 123456789", "TimeoutStopUSec 123456789"),
            ("TimeoutStopSec", "1.5", "TimeoutStopUSec 1500000"),
            ("RuntimeMaxSec", "double 2", "RuntimeMaxUSec 2000000"),
            ("KillSignal", "10", "KillSignal 10"),
            ("ManagedOOMMemoryPressureLimit", "uint32 7", "ManagedOOMMemoryPressureLimit 7"),
            ("After", "['a.service', 'b.service']", "After [\"a.service\", \"b.service\"]"),
            ("After", "[]", "After []"),
            ("AllowedCPUs", "[byte 0x03, 1]", "AllowedCPUs 0x0301"),
        ] {
            assert_eq!(planned(name, text), format!("property {want}"), "{name} {text}");
        }
    }

    /// CVE-2024-3154: an annotation of a container ran commands as root of the host.
    #[test]
    fn a_property_that_runs_something_or_touches_other_units_is_refused() {
        for name in [
            "ExecStopPost",
            "ExecStart",
            "ExecStop",
            "OnFailure",
            "OnSuccess",
            "Wants",
            "Requires",
            "Requisite",
            "BindsTo",
            "Conflicts",
            "Upholds",
            "PropagatesStopTo",
            "JoinsNamespaceOf",
            "SuccessAction",
            "FailureAction",
            "BPFProgram",
            "IPIngressFilterPath",
            "Delegate",
            "Slice",
            "PIDs",
            "Description",
            "DeviceAllow",
            "DevicePolicy",
            "Sec",
            "USec",
            "",
        ] {
            let got = planned(name, "'x'");
            assert!(got.starts_with(&format!("annotations {PREFIX}{name}: is not among")), "{got}");
        }
    }

    #[test]
    fn a_value_of_another_type_is_refused() {
        for (name, text) in [
            ("MemoryHigh", "'4096'"),
            ("MemoryHigh", "int32 5"),
            ("MemoryHigh", "-1"),
            ("MemoryHigh", ""),
            ("CollectMode", "inactive"),
            ("CollectMode", "'a"),
            ("CollectMode", "'a\\'b'"),
            ("CollectMode", "'"),
            ("After", "'a.service'"),
            ("After", "['a.service'"),
            ("After", "[1]"),
            ("AllowedCPUs", "[256]"),
            ("DefaultDependencies", "1"),
            ("TimeoutStopSec", "-1"),
            ("TimeoutStopSec", "inf"),
            ("TimeoutStopSec", "nan"),
        ] {
            let got = planned(name, text);
            assert!(got.contains(" found, ") && got.contains("expected (GVariant text)"), "{name} {text}: {got}");
        }
    }
}
