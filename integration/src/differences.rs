//! What a container with fewer rights cannot do: every test of the suite that does not hold there, with the reason.
//!
//! A listed test is run all the same. When it fails, it counts as skipped, with its reason; when it passes, the list
//! is out of date, and that is a failure. docs/rootless.md holds the same reasons, and a test keeps them together.

use crate::mode::Mode;

/// Tests that differ for one reason.
#[derive(Debug)]
pub struct Difference {
    pub modes: &'static [Mode],
    /// What the kernel or the specification says, in one sentence.
    pub why: &'static str,
    /// Names of tests; a trailing `*` stands for any ending.
    pub tests: &'static [&'static str],
}

pub const DIFFERENCES: &[Difference] = &[];

/// Why this test does not hold in this mode; `None` where it must pass.
pub fn reason(mode: Mode, test: &str) -> Option<&'static str> {
    let found = DIFFERENCES.iter().find(|difference| {
        difference.modes.contains(&mode) && difference.tests.iter().any(|pattern| matches(pattern, test))
    });
    found.map(|difference| difference.why)
}

fn matches(pattern: &str, test: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => test.starts_with(start),
        None => test == pattern,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pattern_names_a_test_and_none_is_listed_twice() {
        let names: Vec<String> = crate::tests::all().into_iter().map(|case| case.name).collect();
        for mode in [Mode::UserNamespace, Mode::User] {
            let patterns: Vec<&str> = DIFFERENCES
                .iter()
                .filter(|difference| difference.modes.contains(&mode))
                .flat_map(|difference| difference.tests.iter().copied())
                .collect();
            for pattern in &patterns {
                assert!(names.iter().any(|name| matches(pattern, name)), "{pattern} names no test");
            }
            for name in &names {
                let times = patterns.iter().filter(|pattern| matches(pattern, name)).count();
                assert!(times <= 1, "{name} is listed {times} times for {}", mode.word());
            }
        }
    }

    #[test]
    fn the_documentation_gives_every_reason() {
        let text = include_str!("../../docs/rootless.md").split_whitespace().collect::<Vec<_>>().join(" ");
        for difference in DIFFERENCES {
            assert!(text.contains(difference.why), "docs/rootless.md does not say: {}", difference.why);
        }
    }
}
