//! What is measured: the list of cases, each a kind of container and what is done with it.

/// How the container differs from the one that `xebec spec` describes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// The engines' default profile.
    pub seccomp: bool,
    /// A network namespace given by path, as in a Kubernetes pod, instead of a new one.
    pub joined_network: bool,
    /// No cgroup namespace.
    pub host_cgroup: bool,
    pub user_namespace: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// `run` to its end.
    Run,
    /// create, start, wait as an engine does, delete: each, and together.
    Lifecycle,
    /// `exec` in a container that waits.
    Exec,
    /// `state` and `kill` of a container that waits.
    Attend,
    Features,
    /// `run`, this many at a time: containers per second.
    Parallel(usize),
}

#[derive(Clone, Debug)]
pub struct Case {
    pub name: String,
    pub title: &'static str,
    pub action: Action,
    pub shape: Shape,
    /// Mounts that the host has beyond its own.
    pub mounts: usize,
    /// Containers are made from an empty mount namespace, by runtimes that can (`xebec mountns pin`).
    pub mountns: bool,
    /// The runtime's file lies on a read-only mount, as docs/install.md advises.
    pub readonly_binary: bool,
}

const FILTERED: Shape = Shape { seccomp: true, joined_network: false, host_cgroup: false, user_namespace: false };

const SHAPES: [(&str, &str, Shape); 5] = [
    ("", "plain", Shape { seccomp: false, ..FILTERED }),
    ("_seccomp", "docker's profile", FILTERED),
    ("_joined_network", "docker's profile, network joined", Shape { joined_network: true, ..FILTERED }),
    ("_host_cgroup", "docker's profile, no cgroup namespace", Shape { host_cgroup: true, ..FILTERED }),
    ("_user_namespace", "docker's profile, user namespace", Shape { user_namespace: true, ..FILTERED }),
];

pub fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    for (word, action) in [("run", Action::Run), ("lifecycle", Action::Lifecycle), ("exec", Action::Exec)] {
        for (suffix, title, shape) in SHAPES {
            cases.push(case(format!("{word}{suffix}"), title, action, shape));
        }
    }
    let readonly =
        case("run_readonly_binary".into(), "docker's profile, binary on a read-only mount", Action::Run, FILTERED);
    cases.push(Case { readonly_binary: true, ..readonly });
    for (mounts, title) in [
        (0, "docker's profile"),
        (500, "docker's profile, 500 more host mounts"),
        (2000, "docker's profile, 2000 more host mounts"),
    ] {
        let with = case(format!("run_{mounts}_mounts"), title, Action::Run, FILTERED);
        cases.push(Case { mounts, ..with });
    }
    let title = "docker's profile, 2000 more host mounts, an empty mount namespace to start from";
    let with = case("run_2000_mounts_mountns".into(), title, Action::Run, FILTERED);
    cases.push(Case { mounts: 2000, mountns: true, ..with });
    for (at_once, title) in
        [(1, "1 at a time"), (2, "2 at a time"), (4, "4 at a time"), (8, "8 at a time"), (16, "16 at a time")]
    {
        cases.push(case(format!("parallel_{at_once}"), title, Action::Parallel(at_once), FILTERED));
    }
    cases.push(case("attend".into(), "docker's profile", Action::Attend, FILTERED));
    cases.push(case("features".into(), "", Action::Features, FILTERED));
    cases
}

fn case(name: String, title: &'static str, action: Action, shape: Shape) -> Case {
    Case { name, title, action, shape, mounts: 0, mountns: false, readonly_binary: false }
}

/// Those whose name contains one of the words; all where there are none.
pub fn selected(words: &[String]) -> Vec<Case> {
    let wanted = |case: &Case| words.is_empty() || words.iter().any(|word| case.name.contains(word.as_str()));
    all().into_iter().filter(wanted).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_are_unique() {
        let names: std::collections::BTreeSet<_> = super::all().into_iter().map(|case| case.name).collect();
        assert_eq!(names.len(), super::all().len());
    }
}
