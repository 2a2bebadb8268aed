//! The engines' profile file (archMap, includes, excludes) made into `linux.seccomp`, as an engine
//! does it for one container on one host.

use serde_json::{Map, Value, json};
use xebec::config::Finding;
use xebec_seccomp::Arch;

/// What rules depend on.
#[derive(Debug)]
pub struct Host<'a> {
    pub native: Arch,
    pub caps: &'a [String],
    /// The running kernel's version and patchlevel.
    pub kernel: (u64, u64),
}

/// Whether an object is an engine's file rather than `linux.seccomp`.
pub fn is_engine_file(object: &Map<String, Value>) -> bool {
    let conditional = |rule: &Value| ["includes", "excludes", "name"].iter().any(|key| rule.get(key).is_some());
    object.contains_key("archMap") || list(object.get("syscalls")).iter().any(conditional)
}

/// `linux.seccomp`, and for each of its rules the rule's place in the file.
pub fn resolve(file: &Map<String, Value>, host: &Host<'_>) -> Result<(Value, Vec<usize>), Vec<Finding>> {
    let mut findings = Vec::new();
    let mut profile = file.clone();
    profile.remove("archMap");
    if file.contains_key("archMap") {
        if !list(file.get("architectures")).is_empty() {
            findings.push(finding("/archMap", "stands beside architectures, of which only one may be used"));
        }
        profile.insert("architectures".to_owned(), json!(architectures(file, host.native)));
    }
    named_errno(file, "/defaultErrno", "defaultErrno", "defaultErrnoRet", &mut findings);
    let (mut rules, mut places) = (Vec::new(), Vec::new());
    for (place, rule) in list(file.get("syscalls")).iter().enumerate() {
        let at = format!("/syscalls/{place}");
        let Some(rule) = rule.as_object() else {
            findings.push(finding(&at, "expected an object"));
            continue;
        };
        named_errno(rule, &format!("{at}/errno"), "errno", "errnoRet", &mut findings);
        if applies(rule, &at, host, &mut findings) {
            rules.push(plain(rule, &at, &mut findings));
            places.push(place);
        }
    }
    profile.insert("syscalls".to_owned(), Value::Array(rules));
    if findings.is_empty() { Ok((Value::Object(profile), places)) } else { Err(findings) }
}

/// The native architecture with those that archMap names below it.
fn architectures(file: &Map<String, Value>, native: Arch) -> Vec<String> {
    let own = native.spec_name();
    let entry = list(file.get("archMap")).iter().find(|entry| entry["architecture"] == own);
    let others = entry.map(|entry| texts(&entry["subArchitectures"])).unwrap_or_default();
    std::iter::once(own.to_owned()).chain(others).collect()
}

/// Some files name the errno beside its number; the name alone says nothing to `linux.seccomp`.
fn named_errno(object: &Map<String, Value>, at: &str, name: &str, number: &str, findings: &mut Vec<Finding>) {
    let given = |key: &str| object.get(key).is_some_and(|value| !value.is_null() && value != "");
    if given(name) && !given(number) {
        findings.push(finding(at, &format!("needs {number}, the number, beside it")));
    }
}

fn applies(rule: &Map<String, Value>, at: &str, host: &Host<'_>, findings: &mut Vec<Finding>) -> bool {
    let (includes, excludes) = (&rule.get("includes"), &rule.get("excludes"));
    let of = |side: &Option<&Value>, key: &str| side.map(|side| texts(&side[key])).unwrap_or_default();
    let is_here = |name: &String| goarch(host.native).contains(&name.as_str());
    let has = |cap: &String| host.caps.contains(cap);
    let arches = of(includes, "arches");
    let mut since = |side: &Option<&Value>, key: &str| -> Option<bool> {
        let text = side.and_then(|side| side.get("minKernel")).and_then(Value::as_str)?;
        let version = text.split_once('.').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
        if version.is_none() {
            findings.push(finding(&format!("{at}/{key}/minKernel"), &format!("{text:?} is not VERSION.PATCHLEVEL")));
        }
        version.map(|version: (u64, u64)| host.kernel >= version)
    };
    let included = since(includes, "includes").unwrap_or(true)
        && (arches.is_empty() || arches.iter().any(is_here))
        && of(includes, "caps").iter().all(has);
    let excluded = since(excludes, "excludes").unwrap_or(false)
        || of(excludes, "arches").iter().any(is_here)
        || of(excludes, "caps").iter().any(has);
    included && !excluded
}

/// The rule without what only engines read. `name` is from before `names`.
fn plain(rule: &Map<String, Value>, at: &str, findings: &mut Vec<Finding>) -> Value {
    let mut rule = rule.clone();
    for key in ["comment", "includes", "excludes", "errno"] {
        rule.remove(key);
    }
    if let Some(name) = rule.remove("name").filter(|name| name != "") {
        if !list(rule.get("names")).is_empty() {
            findings.push(finding(&format!("{at}/name"), "stands beside names, of which only one may be used"));
        }
        rule.insert("names".to_owned(), json!([name]));
    }
    Value::Object(rule)
}

/// What engines, written in Go, call an architecture.
fn goarch(arch: Arch) -> &'static [&'static str] {
    match arch {
        Arch::X86_64 => &["amd64"],
        Arch::X86 => &["386", "x86"],
        Arch::X32 => &["x32", "amd64p32"],
        Arch::Aarch64 => &["arm64"],
        Arch::Arm => &["arm"],
        Arch::Riscv64 => &["riscv64"],
        Arch::Loongarch64 => &["loong64"],
        Arch::S390x => &["s390x"],
        Arch::Ppc64le => &["ppc64le"],
        Arch::Ppc64 => &["ppc64"],
        Arch::Ppc => &["ppc"],
        Arch::Mips => &["mips"],
        Arch::Mipsel => &["mipsle"],
        Arch::Mips64 => &["mips64"],
        Arch::Mipsel64 => &["mips64le"],
        Arch::Mips64n32 => &["mips64p32"],
        Arch::Mipsel64n32 => &["mips64p32le"],
    }
}

fn list(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn texts(value: &Value) -> Vec<String> {
    list(Some(value)).iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn finding(pointer: &str, what: &str) -> Finding {
    Finding { pointer: pointer.to_owned(), what: what.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(file: Value, caps: &[&str], native: Arch) -> Result<(Value, Vec<usize>), Vec<Finding>> {
        let caps: Vec<String> = caps.iter().map(|cap| (*cap).to_owned()).collect();
        let file = file.as_object().expect("an object").clone();
        resolve(&file, &Host { native, caps: &caps, kernel: (5, 10) })
    }

    fn rules(includes: Value, excludes: Value, caps: &[&str]) -> usize {
        let file = json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
            {"names": ["bpf"], "action": "SCMP_ACT_ALLOW", "includes": includes, "excludes": excludes}]});
        resolved(file, caps, Arch::X86_64).expect("a profile").1.len()
    }

    #[test]
    fn rules_depend_on_capabilities_architecture_and_kernel() {
        let admin = ["CAP_SYS_ADMIN"];
        assert_eq!(rules(json!({"caps": admin}), json!({}), &admin), 1);
        assert_eq!(rules(json!({"caps": admin}), json!({}), &[]), 0);
        assert_eq!(rules(json!({}), json!({"caps": admin}), &admin), 0);
        assert_eq!(rules(json!({}), json!({"caps": admin}), &[]), 1);
        assert_eq!(rules(json!({"arches": ["arm64", "amd64"]}), json!(null), &[]), 1);
        assert_eq!(rules(json!({"arches": ["arm64"]}), json!(null), &[]), 0);
        assert_eq!(rules(json!(null), json!({"arches": ["amd64"]}), &[]), 0);
        assert_eq!(rules(json!({"minKernel": "4.8"}), json!({}), &[]), 1);
        assert_eq!(rules(json!({"minKernel": "5.11"}), json!({}), &[]), 0);
        assert_eq!(rules(json!({}), json!({"minKernel": "5.10"}), &[]), 0);
    }

    #[test]
    fn the_native_entry_of_the_map_gives_the_architectures() {
        let map = json!([{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}]);
        let file = json!({"defaultAction": "SCMP_ACT_ALLOW", "archMap": map});
        let (profile, _) = resolved(file.clone(), &[], Arch::X86_64).expect("a profile");
        assert_eq!(profile["architectures"], json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]));
        let (profile, _) = resolved(file, &[], Arch::Riscv64).expect("a profile");
        assert_eq!(profile["architectures"], json!(["SCMP_ARCH_RISCV64"]));
    }

    #[test]
    fn what_the_format_forbids_is_told_with_its_place() {
        let file = json!({"defaultErrno": "ENOSYS", "archMap": [], "architectures": ["SCMP_ARCH_X86"], "syscalls": [
            {"name": "read", "names": ["write"]}, {"names": ["bpf"], "includes": {"minKernel": "five"}}, 7,
            {"names": ["acct"], "errno": "EPERM"}]});
        let findings = resolved(file, &[], Arch::X86_64).expect_err("findings");
        let places: Vec<&str> = findings.iter().map(|finding| finding.pointer.as_str()).collect();
        let expected = [
            "/archMap",
            "/defaultErrno",
            "/syscalls/0/name",
            "/syscalls/1/includes/minKernel",
            "/syscalls/2",
            "/syscalls/3/errno",
        ];
        assert_eq!(places, expected);
    }
}
