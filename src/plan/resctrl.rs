//! `linux.intelRdt` to what the parent does in the resctrl file system (config-linux.md, "IntelRdt").

use crate::config::Config;

/// The control group of a container in resctrl.
#[derive(Debug, PartialEq, Eq)]
pub struct Resctrl {
    /// Its directory below the root: `.` for the default group.
    pub group: String,
    /// Named by closID: it outlives the container.
    pub shared: bool,
    /// closID without a schema: somebody must have made it.
    pub must_exist: bool,
    /// What goes into `schemata`, in order.
    pub lines: Vec<String>,
    /// How many of the lines a group that is there already must agree with.
    pub compared: usize,
    /// The directory of the container's monitoring group, below the root.
    pub monitor: Option<String>,
}

/// Plans the group of container `id`.
pub fn plan_resctrl(config: &Config<'_>, id: &str) -> Option<Resctrl> {
    let rdt = config.linux.intel_rdt.as_ref()?;
    // What Go writes for an absent string is an empty one.
    let given = |text: &Option<crate::config::Text<'_>>| text.as_deref().filter(|s| !s.is_empty()).map(str::to_owned);
    let clos = given(&rdt.clos_id);
    let mut lines: Vec<String> = given(&rdt.l3_cache_schema).into_iter().chain(given(&rdt.mem_bw_schema)).collect();
    let compared = lines.len();
    lines.extend(rdt.schemata.iter().map(ToString::to_string));
    let group = match clos.as_deref() {
        Some("/") => ".",
        Some(name) => name,
        None => id,
    };
    Some(Resctrl {
        group: group.to_owned(),
        shared: clos.is_some(),
        must_exist: clos.is_some() && lines.is_empty(),
        lines,
        compared,
        monitor: rdt.enable_monitoring.then(|| format!("{group}/mon_groups/{id}")),
    })
}

impl Resctrl {
    /// The lines of the printed plan.
    #[must_use]
    pub fn acts(&self) -> Vec<String> {
        let group = &self.group;
        let mut acts = vec![if self.must_exist || group == "." {
            format!("use resctrl group {group}")
        } else {
            format!("make or use resctrl group {group}")
        }];
        acts.extend(self.lines.iter().map(|line| format!("write {group}/schemata {line}")));
        acts.extend(self.monitor.iter().map(|monitor| format!("make resctrl group {monitor}")));
        acts.push(format!("write {group}/tasks"));
        acts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(rdt: &str) -> Resctrl {
        let text = format!(r#"{{"ociVersion":"1.3.0","linux":{{"intelRdt":{rdt}}}}}"#);
        let config: Config<'_> = serde_json::from_str(&text).expect("a config");
        plan_resctrl(&config, "c1").expect("a group")
    }

    #[test]
    fn without_a_clos_id_the_group_has_the_containers_name_and_ends_with_it() {
        let group = planned(r#"{"enableMonitoring":true}"#);
        assert_eq!((&*group.group, group.shared, group.must_exist), ("c1", false, false));
        assert_eq!(group.monitor.as_deref(), Some("c1/mon_groups/c1"));
        assert_eq!(group.lines, [""; 0]);
    }

    #[test]
    fn a_clos_id_alone_must_name_a_group_that_exists() {
        assert!(planned(r#"{"closID":"gold"}"#).must_exist);
        assert!(!planned(r#"{"closID":"gold","schemata":["L2:0=1"]}"#).must_exist);
    }

    #[test]
    fn the_slash_is_the_default_group() {
        let group = planned(r#"{"closID":"/","enableMonitoring":true}"#);
        assert_eq!((&*group.group, group.monitor.as_deref()), (".", Some("./mon_groups/c1")));
    }

    #[test]
    fn schemata_are_written_after_cache_and_bandwidth() {
        let group = planned(r#"{"schemata":["L2:0=1","L3:0=f"],"memBwSchema":"MB:0=20","l3CacheSchema":"L3:0=7"}"#);
        assert_eq!(group.lines, ["L3:0=7", "MB:0=20", "L2:0=1", "L3:0=f"]);
        assert_eq!(group.compared, 2);
    }
}
