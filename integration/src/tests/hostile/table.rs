//! docs/cves.md and the tests, held together.

#![cfg(test)]

const TABLE: &str = include_str!("../../../../docs/cves.md");

/// Every name of a test that the table gives, written as `group.name` or `group.begin*`.
fn named() -> impl Iterator<Item = &'static str> {
    let groups: Vec<&str> = [
        "hostile",
        "mounts",
        "idmaps",
        "privileges",
        "rootless",
        "systemd",
        "errors",
        "rootfs",
        "exec",
        "callers",
        "devices",
        "process",
        "stage",
        "exec_options",
        "insight",
        "notify",
        "seccomp_notify",
        "signals",
        "terminal",
    ]
    .to_vec();
    TABLE.split('`').skip(1).step_by(2).filter(move |word| {
        word.split_once('.').is_some_and(|(group, rest)| groups.contains(&group) && !rest.ends_with("rs"))
    })
}

fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => pattern == name,
    }
}

#[test]
fn every_test_of_the_table_exists() {
    let names: Vec<String> = crate::tests::all().into_iter().map(|case| case.name).collect();
    let mut count = 0;
    for pattern in named() {
        assert!(names.iter().any(|name| matches(pattern, name)), "docs/cves.md names {pattern}, which no test has");
        count += 1;
    }
    assert!(count > 20, "docs/cves.md names only {count} tests");
}

#[test]
fn every_hostile_test_is_in_the_table() {
    for case in super::group().cases {
        assert!(named().any(|pattern| matches(pattern, &case.name)), "docs/cves.md does not name {}", case.name);
    }
}

#[test]
fn every_id_of_a_test_is_a_row() {
    for case in super::group().cases {
        let words: Vec<&str> = case.name.trim_start_matches("hostile.").split('_').collect();
        if let ["cve", year, number, ..] = words[..] {
            assert!(TABLE.contains(&format!("CVE-{year}-{number}")), "docs/cves.md has no row for {}", case.name);
        }
    }
}
