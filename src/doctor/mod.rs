//! What the host offers and lacks, what each lack costs, and the command that mends it. Reads only: it makes
//! no container, mounts nothing and changes nothing.
//!
//! Each check is a function to a [`Finding`]; the order is that in which a container meets them.

mod host;
mod kernel;

use serde_json::{Value, json};

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// All is as it should be.
    Good,
    /// Containers run, but slower or without something that some of them ask for.
    Costs,
    /// No container can be made, or not by this user.
    Fails,
}

impl Weight {
    fn word(self) -> &'static str {
        match self {
            Weight::Good => "ok",
            Weight::Costs => "costs",
            Weight::Fails => "FAILS",
        }
    }
}

/// What one check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub check: &'static str,
    pub weight: Weight,
    /// What is there.
    pub found: String,
    /// What the lack costs; empty when all is good.
    pub cost: String,
    /// The command, or the change, that mends it; empty where there is none.
    pub cure: String,
}

impl Finding {
    fn good(check: &'static str, found: impl Into<String>) -> Finding {
        Finding { check, weight: Weight::Good, found: found.into(), cost: String::new(), cure: String::new() }
    }

    fn costs(
        check: &'static str,
        found: impl Into<String>,
        cost: impl Into<String>,
        cure: impl Into<String>,
    ) -> Finding {
        Finding { check, weight: Weight::Costs, found: found.into(), cost: cost.into(), cure: cure.into() }
    }

    fn fails(
        check: &'static str,
        found: impl Into<String>,
        cost: impl Into<String>,
        cure: impl Into<String>,
    ) -> Finding {
        Finding { check, weight: Weight::Fails, found: found.into(), cost: cost.into(), cure: cure.into() }
    }
}

/// All checks.
#[must_use]
pub fn examine() -> Vec<Finding> {
    vec![
        kernel::calls(),
        kernel::seccomp(),
        host::user(),
        host::binary(),
        host::cgroups(),
        host::controllers(),
        host::bpffs(),
        host::mounts(),
        kernel::user_namespaces(),
        host::id_map_helpers(),
        host::service_manager(),
        kernel::security_modules(),
    ]
}

/// Whether containers can be made at all.
#[must_use]
pub fn is_fit(findings: &[Finding]) -> bool {
    findings.iter().all(|finding| finding.weight != Weight::Fails)
}

/// One finding a paragraph.
#[must_use]
pub fn to_text(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        text += &format!("{:<6} {:<20} {}\n", finding.weight.word(), finding.check, finding.found);
        for (word, line) in [("cost", &finding.cost), ("cure", &finding.cure)] {
            if !line.is_empty() {
                text += &format!("{:>27}  {word}: {line}\n", "");
            }
        }
    }
    text
}

#[must_use]
pub fn to_json(findings: &[Finding]) -> Value {
    let one = |finding: &Finding| {
        json!({
            "check": finding.check, "state": finding.weight.word().to_lowercase(), "found": finding.found,
            "cost": finding.cost, "cure": finding.cure,
        })
    };
    json!({"fit": is_fit(findings), "checks": findings.iter().map(one).collect::<Vec<_>>()})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_costs_says_so_and_only_what_fails_makes_unfit() {
        let mut findings = vec![Finding::good("a", "x"), Finding::costs("b", "y", "0.1 ms", "mount it")];
        assert!(is_fit(&findings));
        assert!(to_text(&findings).contains("cure: mount it"));
        findings.push(Finding::fails("c", "z", "nothing runs", ""));
        assert!(!is_fit(&findings));
        assert_eq!(to_json(&findings)["checks"][2]["state"], "fails");
    }

    #[test]
    fn every_lack_on_this_host_has_its_cost() {
        let findings = examine();
        assert_eq!(findings.len(), 12);
        for finding in findings {
            assert!(!finding.found.is_empty(), "{finding:?}");
            assert_eq!(finding.cost.is_empty(), finding.weight == Weight::Good, "{finding:?}");
        }
    }
}
