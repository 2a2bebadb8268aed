use std::path::Path;

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::config::{self, Config, parse_config};

const FULL: &str = include_str!("testdata/full.json");

/// The files of a directory of testdata, by name.
fn files(dir: &str) -> Vec<(String, String)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config/testdata").join(dir);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(&dir).expect("testdata") {
        let path = entry.expect("testdata").path();
        let name = path.file_name().expect("name").to_string_lossy().into_owned();
        if name.ends_with(".json") {
            files.push((name, std::fs::read_to_string(&path).expect("testdata")));
        }
    }
    files.sort();
    files
}

fn refusal(text: &str) -> String {
    parse_config("config.json", text).expect_err("must be refused").to_string()
}

#[test]
fn the_specifications_good_configs_load() {
    let good = files("runtime-spec/good");
    assert_eq!(good.len(), 9);
    for (name, text) in good {
        let config = parse_config(&name, &text).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(compare(&text, &CONFIG), [], "{name}");
        assert!(!config.oci_version.is_empty());
    }
}

#[test]
fn the_specifications_bad_configs_are_refused() {
    let bad = files("runtime-spec/bad");
    assert_eq!(bad.len(), 5);
    for (name, text) in bad {
        let parsed = parse_config("config.json", &text);
        match (&*name, parsed) {
            // Not Linux's: an unknown property like any other.
            ("freebsd-vnet-disable.json", parsed) => assert!(parsed.is_ok()),
            ("linux-hugepage.json", Ok(config)) => {
                let (findings, _) = config::check(&config);
                let pointers: Vec<_> = findings.iter().map(|f| &*f.pointer).collect();
                assert_eq!(pointers, ["/process", "/linux/resources/hugepageLimits/0/pageSize"]);
            }
            ("invalid-json.json", Err(e)) => {
                assert_eq!(e.to_string(), "config.json: not JSON: key must be a string at line 1 column 2");
            }
            ("linux-netdevice.json", Err(e)) => {
                assert_eq!(e.to_string(), "config.json: /linux/netDevices/eth0/name: 23 found, a string expected");
            }
            ("linux-rdma.json", Err(e)) => assert_eq!(
                e.to_string(),
                "config.json: /linux/resources/rdma/mlx5_1/hcaHandles: \"not a uint32\" found, \
                 an integer from 0 to 4294967295 expected"
            ),
            (name, parsed) => panic!("{name}: {parsed:?}"),
        }
    }
}

#[test]
fn what_engines_write_loads_without_a_finding() {
    let engines = files("engines");
    assert_eq!(engines.len(), 6);
    for (name, text) in engines.into_iter().chain([("full.json".to_owned(), FULL.to_owned())]) {
        let config = parse_config(&name, &text).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(compare(&text, &CONFIG), [], "{name}");
        let (findings, _) = config::check(&config);
        assert_eq!(findings, [], "{name}");
    }
}

#[test]
fn null_is_absent_and_not_zero() {
    let config = parse_config(
        "c",
        r#"{"ociVersion":"1.3.0","mounts":null,"linux":{"seccomp":null,"resources":{"pids":{"limit":null}}},
            "process":{"cwd":"/","oomScoreAdj":null,"user":null}}"#,
    )
    .expect("nulls load");
    let process = config.process.expect("process");
    assert_eq!((process.oom_score_adj, process.user.uid), (None, 0));
    assert!(config.linux.seccomp.is_none());
    assert_eq!(config.linux.resources.and_then(|r| r.pids).map(|p| p.limit), Some(None));
    let zero = parse_config("c", r#"{"ociVersion":"1.3.0","linux":{"resources":{"pids":{"limit":0}}}}"#).expect("zero");
    assert_eq!(zero.linux.resources.and_then(|r| r.pids).and_then(|p| p.limit), Some(0));
}

#[test]
fn all_findings_come_at_once_on_one_line() {
    let text = r#"{"root":[],"process":{"args":"sh","user":{"uid":-1,"gid":"0"},"terminal":1},
        "linux":{"sysctl":{"a/b~c":1},"namespaces":[{"type":"pid"},{"path":"/x\ny"},3]}}"#;
    assert_eq!(
        refusal(text),
        "config.json: 10 findings: /root: a list found, an object expected; \
         /process/args: \"sh\" found, a list expected; \
         /process/user/uid: -1 found, an integer from 0 to 4294967295 expected; \
         /process/user/gid: \"0\" found, an integer from 0 to 4294967295 expected; \
         /process/terminal: 1 found, true or false expected; \
         /process/cwd: required, an absolute path was expected; \
         /linux/sysctl/a~1b~0c: 1 found, a string expected; \
         /linux/namespaces/1/type: required, a string was expected; \
         /linux/namespaces/2: 3 found, an object expected; \
         /ociVersion: required, a version such as \"1.3.0\" was expected"
    );
}

#[test]
fn json_that_is_none_is_placed_by_line_and_column() {
    assert_eq!(refusal(""), "config.json: not JSON: EOF while parsing a value at line 1 column 0");
    assert_eq!(
        refusal("{\"ociVersion\":\"1.3.0\",\n \"root\" {}}"),
        "config.json: not JSON: expected `:` at line 2 column 9"
    );
    assert_eq!(
        refusal("{\"ociVersion\":\"1.3.0\"} x"),
        "config.json: not JSON: trailing characters at line 1 column 24"
    );
    // What was found before the fault is still told.
    assert_eq!(
        refusal("{\"ociVersion\":1,\n"),
        "config.json: 2 findings: /ociVersion: 1 found, a version such as \"1.3.0\" expected; \
         not JSON: EOF while parsing a value at line 2 column 0"
    );
}

#[test]
fn a_property_given_twice_is_refused_but_unknown_ones_are_ignored() {
    assert_eq!(refusal(r#"{"ociVersion":"1.3.0","ociVersion":"1.0.0"}"#), "config.json: /ociVersion: given twice");
    assert_eq!(
        refusal(r#"{"ociVersion":"1.3.0","process":{"cwd":"/","cwd":"/x"}}"#),
        "config.json: /process/cwd: given twice"
    );
    parse_config("c", r#"{"ociVersion":"1.3.0","x":1,"x":1e999,"linux":{"y":[{}]}}"#).expect("unknown properties");
}

#[test]
fn a_list_is_no_object() {
    assert_eq!(
        refusal(r#"{"ociVersion":"1.3.0","root":["rootfs",true],"process":{"cwd":"/","user":[]}}"#),
        "config.json: 2 findings: /root: a list found, an object expected; \
         /process/user: a list found, an object expected"
    );
}

#[test]
fn numbers_have_the_range_of_their_kernel_type() {
    let with = |property: &str, value: &str| {
        let memory = format!(r#"{{"ociVersion":"1.3.0","linux":{{"resources":{{{property}:{value}}}}}}}"#);
        parse_config("c", &memory).map(|_| ()).map_err(|e| e.to_string())
    };
    let limit = |value: &str| with("\"memory\"", &format!(r#"{{"limit":{value}}}"#));
    assert_eq!(limit("9223372036854775807"), Ok(()));
    assert_eq!(limit("-9223372036854775808"), Ok(()));
    for bad in ["9223372036854775808", "1.5", "1e3", "\"5\"", "-0", "99999999999999999999"] {
        let error = limit(bad).expect_err(bad);
        assert!(error.contains("an integer from -9223372036854775808 to 9223372036854775807 expected"), "{error}");
    }
    assert!(with("\"blockIO\"", r#"{"weight":65536}"#).is_err());
    assert!(with("\"hugepageLimits\"", r#"[{"pageSize":"2MB","limit":18446744073709551615}]"#).is_ok());
}

/// The names that serde knows a struct's properties by.
struct Names;

impl<'de> Deserializer<'de> for Names {
    type Error = serde::de::value::Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
        Err(serde::de::Error::custom("not a struct"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Self::Error> {
        Err(serde::de::Error::custom(fields.join(" ")))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

/// The shape at a path of property names; `*` is an entry of a list or a map.
fn at(path: &str) -> &'static Shape {
    path.split('/').filter(|step| !step.is_empty()).fold(&CONFIG, |shape, step| match shape {
        Shape::List(entry) | Shape::Map(entry) if step == "*" => entry,
        Shape::Object(properties) => &properties.iter().find(|p| p.name == step).expect(path).shape,
        _ => panic!("{path}: no {step}"),
    })
}

#[test]
fn the_shape_has_exactly_the_properties_of_the_types() {
    macro_rules! same {
        ($($path:literal: $type:ident,)*) => {$(
            let known = config::$type::deserialize(Names).expect_err("names").to_string();
            let Shape::Object(properties) = at($path) else { panic!("{} is no object", $path) };
            let mut known: Vec<_> = known.split(' ').collect();
            let mut shape: Vec<_> = properties.iter().map(|p| p.name).collect();
            known.sort_unstable();
            shape.sort_unstable();
            assert_eq!(shape, known, "{}", $path);
        )*};
    }
    same! {
        "": Config, "root": Root, "mounts/*": Mount, "mounts/*/uidMappings/*": IdMapping, "process": Process,
        "process/consoleSize": ConsoleSize, "process/user": User, "process/capabilities": Capabilities,
        "process/rlimits/*": Rlimit, "process/scheduler": Scheduler, "process/ioPriority": IoPriority,
        "process/execCPUAffinity": ExecCpuAffinity, "hooks": Hooks, "hooks/poststop/*": Hook, "linux": Linux,
        "linux/namespaces/*": Namespace, "linux/timeOffsets/*": TimeOffset, "linux/devices/*": Device,
        "linux/netDevices/*": NetDevice, "linux/resources": Resources, "linux/resources/devices/*": DeviceCgroup,
        "linux/resources/memory": Memory, "linux/resources/cpu": Cpu, "linux/resources/pids": Pids,
        "linux/resources/blockIO": BlockIo, "linux/resources/blockIO/weightDevice/*": WeightDevice,
        "linux/resources/blockIO/throttleReadBpsDevice/*": ThrottleDevice,
        "linux/resources/hugepageLimits/*": HugepageLimit, "linux/resources/network": Network,
        "linux/resources/network/priorities/*": InterfacePriority, "linux/resources/rdma/*": Rdma,
        "linux/intelRdt": IntelRdt, "linux/memoryPolicy": MemoryPolicy, "linux/personality": Personality,
    }
}

/// How many values a JSON document has, itself included.
fn size(value: &Value) -> usize {
    1 + match value {
        Value::Array(list) => list.iter().map(size).sum(),
        Value::Object(map) => map.values().map(size).sum(),
        _ => 0,
    }
}

/// Does `change` to the `n`th value of the document, in depth-first order.
/// `Some(None)` from `change` takes the value out of its parent.
fn mutate(value: &mut Value, n: &mut usize, change: &mut dyn FnMut(&mut Value) -> bool) -> bool {
    if *n == 0 {
        *n = usize::MAX;
        return change(value);
    }
    *n -= 1;
    match value {
        Value::Array(list) => {
            let gone = list.iter_mut().position(|entry| *n != usize::MAX && mutate(entry, n, change));
            gone.map(|i| list.remove(i));
        }
        Value::Object(map) => {
            let gone = map.iter_mut().find_map(|(k, v)| (*n != usize::MAX && mutate(v, n, change)).then(|| k.clone()));
            gone.map(|k| map.remove(&k));
        }
        _ => {}
    }
    false
}

#[derive(Debug, Clone)]
enum Change {
    Replace(Value),
    Remove,
    Rename,
    Wrap,
}

fn change() -> impl Strategy<Value = Change> {
    let values = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        prop::sample::select(vec![0i64, 1, -1, 255, 65_535, 65_536, 4_294_967_295, 4_294_967_296])
            .prop_map(Value::from),
        any::<f32>().prop_map(Value::from),
        "[a-z/~\u{1}\u{e9}\"]{0,4}".prop_map(Value::from),
        Just(serde_json::json!([])),
        Just(serde_json::json!({})),
        Just(serde_json::json!([null, {}, "x", 1])),
        Just(serde_json::json!({"type": "x", "path": 1, "": null})),
    ];
    prop_oneof![
        4 => values.prop_map(Change::Replace),
        2 => Just(Change::Remove),
        1 => Just(Change::Rename),
        1 => Just(Change::Wrap),
    ]
}

fn apply(change: &Change, value: &mut Value) -> bool {
    match change {
        Change::Replace(with) => *value = with.clone(),
        Change::Remove => return true,
        Change::Rename => {
            if let Value::Object(map) = value
                && let Some(first) = map.keys().next().cloned()
            {
                let moved = map.remove(&first).unwrap_or_default();
                map.insert(format!("{first}X"), moved);
            }
        }
        Change::Wrap => *value = Value::Array(vec![value.take()]),
    }
    false
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    /// serde refuses a text exactly when the walk finds something in it.
    #[test]
    fn the_typed_parse_and_the_shape_agree(
        changes in prop::collection::vec((any::<prop::sample::Index>(), change()), 1..4),
        cut in prop::option::weighted(0.1, any::<prop::sample::Index>()),
    ) {
        let mut value: Value = serde_json::from_str(FULL).expect("full.json");
        for (index, change) in &changes {
            let mut n = index.index(size(&value));
            mutate(&mut value, &mut n, &mut |value| apply(change, value));
        }
        let mut text = value.to_string();
        if let Some(cut) = cut {
            let at = cut.index(text.len());
            text = text.chars().take(at).collect();
        }
        judge(&value, &text);
        let typed = serde_json::from_str::<Config<'_>>(&text);
        let found = compare(&text, &CONFIG);
        prop_assert_eq!(typed.is_err(), !found.is_empty(), "{:?}\n{:?}\n{}", typed.err(), found, text);
    }
}

/// Judges a config that parses: it must not panic, and what it finds must point
/// into the document, or at what an object of it lacks.
fn judge(value: &Value, text: &str) {
    let Ok(config) = serde_json::from_str::<Config<'_>>(text) else { return };
    let (findings, warnings) = config::check(&config);
    let pointers = findings.iter().map(|f| &f.pointer).chain(warnings.iter().map(|w| &w.pointer));
    for pointer in pointers {
        let (parent, _) = pointer.rsplit_once('/').expect("a pointer");
        assert!(value.pointer(parent).is_some(), "{pointer} leads nowhere in {text}");
    }
}

/// One value at a time, exhaustively: every kind and every edge of a number's range.
#[test]
fn the_typed_parse_and_the_shape_agree_on_every_single_change() {
    let full: Value = serde_json::from_str(FULL).expect("full.json");
    let edges = "null true \"\" \"x\" [] {} [null] [[]] {\"a\":null} 1.5 1e3 -0 0 1 -1 65535 65536 2147483647 2147483648 \
        -2147483648 -2147483649 4294967295 4294967296 9223372036854775807 9223372036854775808 -9223372036854775808 \
        18446744073709551615 18446744073709551616";
    let mut changes: Vec<Change> = vec![Change::Remove, Change::Rename, Change::Wrap];
    changes.extend(edges.split_whitespace().map(|e| Change::Replace(serde_json::from_str(e).expect(e))));
    let mut refused = 0;
    for index in 0..size(&full) {
        for change in &changes {
            let mut value = full.clone();
            mutate(&mut value, &mut { index }, &mut |value| apply(change, value));
            let text = value.to_string();
            let typed = serde_json::from_str::<Config<'_>>(&text);
            let found = compare(&text, &CONFIG);
            assert_eq!(typed.is_err(), !found.is_empty(), "{change:?}: {:?}\n{found:?}\n{text}", typed.err());
            refused += usize::from(typed.is_err());
            judge(&value, &text);
        }
    }
    assert!(refused > size(&full) * changes.len() / 3, "only {refused} of the changes were faults");
}

/// The pointers of all properties that hold values, `*` for any entry.
fn leaves(shape: &Shape, at: &str, found: &mut Vec<String>) {
    match shape {
        Shape::Object(properties) => {
            properties.iter().for_each(|p| leaves(&p.shape, &format!("{at}/{}", p.name), found))
        }
        Shape::List(entry) | Shape::Map(entry) if matches!(entry, Shape::Object(_)) => {
            leaves(entry, &format!("{at}/*"), found);
        }
        _ => found.push(at.to_owned()),
    }
}

#[test]
fn docs_have_a_row_for_every_property() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/config-support.md");
    let docs = std::fs::read_to_string(docs).expect("docs/config-support.md");
    let rows: Vec<&str> = docs.lines().filter(|line| line.starts_with("| `/")).collect();
    let mut known = Vec::new();
    leaves(&CONFIG, "", &mut known);
    for pointer in known {
        let word = format!("`{pointer}`");
        assert!(rows.iter().any(|row| row.contains(&word)), "no row for {word}");
    }
}
