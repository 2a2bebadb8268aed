//! The words of a step: for `xebec plan`, and for the error of a child that failed in it.

use std::ffi::CStr;

use serde_json::{Value, json};

use crate::config::words::{HOOKS_STDERR, HOOKS_STDOUT};
use crate::sys::Call;
use crate::sys::mount::MountAttr;

use super::step::{FileSystem, MountStep, MountWhat, Step};
use super::{HookStep, NetworkMaker, Plan};

fn text(s: &CStr) -> String {
    s.to_string_lossy().into_owned()
}

impl Step {
    /// The config item that the step comes from, with the path it concerns.
    #[must_use]
    pub fn item(&self, plan: &Plan) -> String {
        let hook = |hooks: &[HookStep], n: usize| hooks.get(n).map_or_else(String::new, |hook| hook.item.clone());
        match self {
            Step::OomScoreAdj(_) => "process.oomScoreAdj".into(),
            Step::UserNamespaceRoot => "linux.uidMappings".into(),
            Step::Undumpable | Step::Session | Step::Ready | Step::JoinContainer { .. } | Step::Outlive => {
                plan.verb.into()
            }
            Step::AwaitPlacement => "cgroup".into(),
            Step::Affinity(_) => "process.execCPUAffinity".into(),
            Step::Join { kind, slot, .. } => {
                let index = plan.namespaces.joins.get(*slot).map_or(0, |join| join.index);
                format!("linux.namespaces[{index}] {kind}")
            }
            Step::CgroupNamespace { .. } => "linux.namespaces cgroup".into(),
            Step::TimeNamespace { .. } => "linux.timeOffsets".into(),
            Step::Keyring(_) => "session keyring".into(),
            Step::Loopback | Step::Network => "linux.namespaces network".into(),
            Step::NetDevices => "linux.netDevices".into(),
            Step::Hostname(_) => "hostname".into(),
            Step::Domainname(_) => "domainname".into(),
            Step::HostPropagation { .. } | Step::RootPropagation { .. } => "linux.rootfsPropagation".into(),
            Step::Rootfs { path, .. } | Step::CloneRootfs { path, .. } | Step::RootDirectory(path) => {
                format!("root.path {}", text(path))
            }
            Step::SmallNamespace => format!("mount namespace {}", crate::mountns::PIN),
            Step::Mount(mount) => match mount.index {
                Some(index) => format!("mounts[{index}] {}", text(&mount.destination)),
                None => format!("{} {}", super::notify::ITEM, text(&mount.destination)),
            },
            Step::LateReadonly { mount, path, .. } => format!("mounts[{mount}] {}", text(path)),
            Step::WorkingDirectory(path) | Step::Chdir(path) | Step::CheckDirectory(path) => {
                format!("process.cwd {}", text(path))
            }
            Step::Device(device) => match device.index {
                Some(index) => format!("linux.devices[{index}] {}", text(&device.path)),
                None => format!("default device {}", text(&device.path)),
            },
            Step::DevLink { path, .. } => format!("default link {}", text(path)),
            Step::Console { .. } => "process.terminal".into(),
            Step::Sysctl { name, .. } => format!("linux.sysctl {name}"),
            Step::RuntimeHooks { .. } => "hooks".into(),
            Step::CreateContainerHook(n) => hook(&plan.hooks.create_container, *n),
            Step::StartContainerHook(n) => hook(&plan.hooks.start_container, *n),
            Step::RootReadonly => "root.readonly".into(),
            Step::ReadonlyPath { index, path } => format!("linux.readonlyPaths[{index}] {}", text(path)),
            Step::MaskedPath { index, path } => format!("linux.maskedPaths[{index}] {}", text(path)),
            Step::PivotRoot | Step::MoveRoot | Step::Chroot => "root.path".into(),
            Step::Scheduler(_) => "process.scheduler".into(),
            Step::IoPriority(_) => "process.ioPriority".into(),
            Step::MemoryPolicy { .. } => "linux.memoryPolicy".into(),
            Step::Personality(_) => "linux.personality".into(),
            Step::Rlimit { index, name, .. } => format!("process.rlimits[{index}] {name}"),
            Step::StdioOwner { .. } => "standard streams".into(),
            Step::Umask(_) => "process.user.umask".into(),
            Step::NoNewPrivileges => "process.noNewPrivileges".into(),
            Step::User(_) => "process.user".into(),
            Step::Home { .. } => "process.env HOME".into(),
            Step::FindProgram | Step::Exec => {
                format!("process.args[0] {:?}", plan.exec.args.first().map_or_else(String::new, |s| text(s)))
            }
            Step::ExecLabel { apparmor: true, .. } => "process.apparmorProfile".into(),
            Step::ExecLabel { apparmor: false, .. } => "process.selinuxLabel".into(),
            Step::Seccomp => "linux.seccomp".into(),
            Step::DropHandles | Step::CloseFiles => "file descriptors".into(),
        }
    }

    /// The call as written, as far as the step and the record's `index` tell.
    #[must_use]
    pub fn call_as_written(&self, plan: &Plan, call: Call, index: u16) -> String {
        let name = call.name();
        let quoted = |s: &CStr| format!("{name}({:?})", text(s));
        match (self, call) {
            (Step::Mount(mount), _) => mount_call(mount, call, index),
            (
                Step::Rootfs { path, .. }
                | Step::CloneRootfs { path, .. }
                | Step::RootDirectory(path)
                | Step::Join { path, .. },
                _,
            ) => quoted(path),
            (Step::Sysctl { path, value, .. }, Call::Write) => {
                format!("write(\"/proc/{}\", {:?})", text(path), text(value))
            }
            (Step::Sysctl { path, .. }, _) => format!("{name}(\"/proc/{}\")", text(path)),
            (Step::OomScoreAdj(value), Call::Write) => {
                format!("write(\"/proc/self/oom_score_adj\", {:?})", text(value))
            }
            (Step::TimeNamespace { offsets }, Call::Write) => {
                format!("write(\"/proc/self/timens_offsets\", {:?})", text(offsets))
            }
            (Step::Device(device), Call::Mknodat) => {
                format!("mknodat({:?}, {:o}, {}:{})", text(&device.path), device.mode, device.major, device.minor)
            }
            (Step::Device(device), Call::VerifyDevice) => {
                format!("what is there already is not the device {}:{}", device.major, device.minor)
            }
            (Step::DevLink { path, target, .. }, Call::Symlinkat) => {
                format!("symlinkat({:?}, {:?})", text(target), text(path))
            }
            (Step::Rlimit { name: limit, soft, hard, .. }, _) => format!("prlimit({limit}, {soft}, {hard})"),
            (Step::Chdir(path) | Step::WorkingDirectory(path) | Step::CheckDirectory(path), _) => quoted(path),
            (Step::ReadonlyPath { path, .. } | Step::MaskedPath { path, .. }, Call::Openat2) => quoted(path),
            (Step::FindProgram, Call::Lookup) => format!(
                "exec: {:?}: executable file not found in $PATH",
                plan.exec.args.first().map_or_else(String::new, |s| text(s))
            ),
            (Step::FindProgram | Step::Exec, _) => {
                plan.exec.candidates.get(usize::from(index)).map_or_else(|| name.into(), |path| quoted(path))
            }
            _ => name.to_owned(),
        }
    }

    /// One line of the printed plan: the act and its arguments.
    #[must_use]
    pub fn act(&self, plan: &Plan) -> String {
        match self {
            Step::OomScoreAdj(value) => format!("write /proc/self/oom_score_adj {}", text(value)),
            Step::UserNamespaceRoot => "wait for the id maps; become 0:0 in the user namespace".into(),
            Step::Undumpable => "prctl PR_SET_DUMPABLE 0".into(),
            Step::Join { kind, path, .. } => format!("setns {kind} {}", text(path)),
            Step::CgroupNamespace { wait: false } => "unshare cgroup".into(),
            Step::CgroupNamespace { wait: true } => "wait for the place in the cgroup; unshare cgroup".into(),
            Step::TimeNamespace { offsets } => format!("unshare time {}", text(offsets).trim_end().replace('\n', ", ")),
            Step::Session => "setsid".into(),
            Step::Keyring(name) => format!("keyctl JOIN_SESSION_KEYRING {}", text(name)),
            Step::Loopback => "lo up".into(),
            Step::Network => "enter the one that was made meanwhile, lo up".into(),
            Step::NetDevices => "wait for the network devices".into(),
            Step::Hostname(name) => format!("sethostname {}", text(name)),
            Step::Domainname(name) => format!("setdomainname {}", text(name)),
            Step::HostPropagation { word, .. } => format!("mount_setattr / {word}"),
            Step::Rootfs { path, isolate_parent } => {
                format!("bind {} on itself{}", text(path), if *isolate_parent { ", parent mount private" } else { "" })
            }
            Step::CloneRootfs { path, word, null, .. } => {
                format!("clone {} {word}{}", text(path), if *null { ", and /dev/null" } else { "" })
            }
            Step::SmallNamespace => "setns; unshare mount; the clone becomes what is on /".into(),
            Step::RootDirectory(path) => format!("open {}", text(path)),
            Step::Mount(mount) => mount_act(mount),
            Step::WorkingDirectory(path) => format!("mkdir -p {}", text(path)),
            Step::Device(d) => format!(
                "{} {} {:o} {}:{} owner {}:{}",
                if d.bind { "bind node" } else { "mknod" },
                text(&d.path),
                d.mode,
                d.major,
                d.minor,
                d.uid,
                d.gid
            ),
            Step::DevLink { path, target, .. } => format!("symlink {} -> {}", text(path), text(target)),
            Step::JoinContainer { namespaces, .. } => format!("setns pidfd of init, {namespaces:#x}"),
            Step::AwaitPlacement => "wait for the place in cgroup v1".into(),
            Step::Outlive => "prctl PR_SET_PDEATHSIG 0".into(),
            Step::Affinity(mask) => {
                let cpus: u32 = mask.iter().map(|word| word.count_ones()).sum();
                format!("sched_setaffinity {cpus} CPUs")
            }
            Step::Console { size, .. } => match size {
                Some((rows, columns)) => format!("terminal {columns}x{rows}, bound on /dev/console, as stdio"),
                None => "terminal, bound on /dev/console, as stdio".into(),
            },
            Step::Sysctl { path, value, .. } => format!("write /proc/{} {}", text(path), text(value)),
            Step::RuntimeHooks { dumpable: false } => "wait while the runtime's hooks run".into(),
            Step::RuntimeHooks { dumpable: true } => "wait, dumpable, while the runtime's hooks run".into(),
            Step::CreateContainerHook(_) | Step::StartContainerHook(_) => format!("run {}", self.item(plan)),
            Step::LateReadonly { path, .. } => format!("mount_setattr {} ro", text(path)),
            Step::RootReadonly => "mount_setattr / ro".into(),
            Step::ReadonlyPath { path, .. } => format!("read-only {}", text(path)),
            Step::MaskedPath { path, .. } => format!("mask {}", text(path)),
            Step::PivotRoot => "pivot_root".into(),
            Step::MoveRoot => "move the root to /, chroot".into(),
            Step::Chroot => "chroot".into(),
            Step::RootPropagation { word, .. } => format!("mount_setattr / {word}"),
            Step::Scheduler(a) => format!("sched_setattr policy {} nice {} priority {}", a.policy, a.nice, a.priority),
            Step::IoPriority(value) => format!("ioprio_set class {} level {}", value >> 13, value & 7),
            Step::MemoryPolicy { mode, .. } => format!("set_mempolicy {mode:#x}"),
            Step::Personality(persona) => format!("personality {persona:#x}"),
            Step::Rlimit { name, soft, hard, .. } => format!("prlimit {name} {soft} {hard}"),
            Step::StdioOwner { uid } => format!("fchown terminals and pipes of 0, 1, 2 to {uid}"),
            Step::Umask(Some(mask)) => format!("umask {mask:04o}"),
            Step::Umask(None) => "umask of the caller".into(),
            Step::NoNewPrivileges => "prctl PR_SET_NO_NEW_PRIVS".into(),
            Step::Chdir(path) => format!("chdir {}", text(path)),
            Step::CheckDirectory(_) => "getcwd must lie below the root".into(),
            Step::User(c) => format!(
                "become {}:{} groups {:?}; bounding {:#x} permitted {:#x} effective {:#x} inheritable {:#x} ambient {:#x}",
                c.uid,
                c.gid,
                c.groups.iter().flatten().map(|gid| gid.as_raw()).collect::<Vec<_>>(),
                c.bounding,
                c.sets.permitted,
                c.sets.effective,
                c.sets.inheritable,
                c.ambient
            ),
            Step::Home { uid } => format!("set HOME of uid {uid} from /etc/passwd"),
            Step::FindProgram => format!("find {}", plan.exec.args.first().map_or_else(String::new, |s| text(s))),
            Step::Ready => "report ready; wait for start".into(),
            Step::ExecLabel { label, .. } => format!("write /proc/self/attr/exec {}", text(label)),
            Step::DropHandles => "close every handle of the host".into(),
            Step::CloseFiles => "close all but stdio and the preserved".into(),
            Step::Seccomp => {
                let length = plan.seccomp.get().map_or(0, |filter| filter.program.len());
                format!("seccomp filter of {length} instructions")
            }
            Step::Exec => {
                let args: Vec<String> = plan.exec.args.iter().map(|s| format!("{:?}", text(s))).collect();
                format!("execve [{}]", args.join(", "))
            }
        }
    }
}

fn mount_call(mount: &MountStep, call: Call, index: u16) -> String {
    let name = call.name();
    match (&mount.what, call) {
        (MountWhat::Bind { source, .. }, Call::OpenTree) => format!("{name}({:?})", text(source)),
        (MountWhat::Tree(tree), Call::OpenTree) => format!("{name}({:?})", text(&tree.source)),
        (MountWhat::New(fs), Call::Fsopen | Call::Fsmount) => format!("{name}({:?})", text(&fs.kind)),
        (MountWhat::New(fs), Call::Fsconfig) => match fs.options.get(usize::from(index)) {
            Some((key, Some(value))) => format!("{name}({:?}, {:?})", text(key), text(value)),
            Some((key, None)) => format!("{name}({:?})", text(key)),
            None => format!("{name}({:?}, FSCONFIG_CMD_CREATE)", text(&fs.kind)),
        },
        (MountWhat::CgroupV1 { hierarchies, .. }, Call::OpenTree) => match hierarchies.get(usize::from(index)) {
            Some(hierarchy) => format!("{name}({:?})", text(&hierarchy.source)),
            None => name.to_owned(),
        },
        (_, Call::VerifyDir) => "the destination must be a directory, not a link".to_owned(),
        (_, Call::Openat2 | Call::Mkdirat | Call::MoveMount | Call::Openat) => {
            format!("{name}({:?})", text(&mount.destination))
        }
        _ => name.to_owned(),
    }
}

fn mount_act(mount: &MountStep) -> String {
    let mut line = match &mount.what {
        MountWhat::Bind { source, recursive } => {
            format!("{} {}", if *recursive { "rbind" } else { "bind" }, text(source))
        }
        MountWhat::Tree(tree) => {
            let word = if tree.recursive { "rbind" } else { "bind" };
            let map = tree.map.as_ref().map_or_else(String::new, |map| {
                let which = if map.recursive { "all ids" } else { "ids" };
                format!(" with {which} mapped ({} and {} lines)", map.uid.len(), map.gid.len())
            });
            format!("{word} {} (cloned by the parent){map}", text(&tree.source))
        }
        MountWhat::New(fs) => file_system_act(fs),
        MountWhat::Remount => "remount".to_owned(),
        MountWhat::CgroupV1 { hierarchies, .. } => {
            let names: Vec<String> = hierarchies.iter().map(|h| text(&h.name)).collect();
            format!("cgroup v1 [{}]", names.join(" "))
        }
    };
    line.push_str(&format!(" on {}", text(&mount.destination)));
    for (word, attr) in [("", &mount.attr), ("recursively ", &mount.recursive_attr)] {
        let names = attr_names(attr);
        if !names.is_empty() {
            line.push_str(&format!(" {word}{names}"));
        }
    }
    for (flags, recursive) in &mount.propagation {
        let word = match *flags {
            libc::MS_SHARED => "shared",
            libc::MS_SLAVE => "slave",
            libc::MS_PRIVATE => "private",
            _ => "unbindable",
        };
        line.push_str(&format!(" {}{word}", if *recursive { "r" } else { "" }));
    }
    if mount.late_readonly { line + " (ro later)" } else { line }
}

fn file_system_act(fs: &FileSystem) -> String {
    let option = |(key, value): &(std::ffi::CString, Option<std::ffi::CString>)| match value {
        Some(value) => format!("{}={}", text(key), text(value)),
        None => text(key),
    };
    let options: Vec<String> = fs.options.iter().map(option).collect();
    let copy = if fs.copy_up { " with a copy of what was there" } else { "" };
    match options.is_empty() {
        true => format!("new {}{copy}", text(&fs.kind)),
        false => format!("new {}({}){copy}", text(&fs.kind), options.join(",")),
    }
}

fn attr_names(attr: &MountAttr) -> String {
    const NAMES: &[(u64, &str, &str)] = &[
        (libc::MOUNT_ATTR_RDONLY, "ro", "rw"),
        (libc::MOUNT_ATTR_NOSUID, "nosuid", "suid"),
        (libc::MOUNT_ATTR_NODEV, "nodev", "dev"),
        (libc::MOUNT_ATTR_NOEXEC, "noexec", "exec"),
        (libc::MOUNT_ATTR_NODIRATIME, "nodiratime", "diratime"),
        (libc::MOUNT_ATTR_NOSYMFOLLOW, "nosymfollow", "symfollow"),
    ];
    let mut words = Vec::new();
    for &(bit, on, off) in NAMES {
        if attr.set & bit != 0 {
            words.push(on);
        } else if attr.clear & bit != 0 {
            words.push(off);
        }
    }
    if attr.clear & libc::MOUNT_ATTR__ATIME == libc::MOUNT_ATTR__ATIME {
        words.push(match attr.set & libc::MOUNT_ATTR__ATIME {
            libc::MOUNT_ATTR_NOATIME => "noatime",
            libc::MOUNT_ATTR_STRICTATIME => "strictatime",
            _ => "relatime",
        });
    }
    words.join(",")
}

/// Who acts in a line of the printed plan.
type Line = (&'static str, String, String);

impl Plan {
    /// The lines of `xebec plan`: actor, config item, act.
    fn lines(&self) -> Vec<Line> {
        let parent = |item: &str, act: String| ("parent", item.to_owned(), act);
        let early: &[&str] = match (self.namespaces.network, self.namespaces.is_new("user")) {
            (NetworkMaker::Clone, _) => &[],
            (NetworkMaker::Parent, false) => &["network"],
            (NetworkMaker::Parent, true) => &["user", "network"],
        };
        let mut lines = Vec::new();
        let maps = self.namespaces.maps.as_ref().map(|maps| {
            let act = format!("write uid_map ({} lines) and gid_map ({} lines)", maps.uid.len(), maps.gid.len());
            parent("linux.uidMappings", act)
        });
        let (early_maps, maps) = if early.contains(&"user") { (maps, None) } else { (None, maps) };
        if !early.is_empty() {
            lines.push(parent("linux.namespaces", format!("begin new [{}], beside what follows", early.join(" "))));
        }
        lines.extend(early_maps);
        lines.push(parent("state", "claim the id, lock, write state.json and config.json".into()));
        for join in &self.namespaces.joins {
            lines.push(parent(
                &format!("linux.namespaces[{}] {}", join.index, join.kind),
                format!("open {}", text(&join.path)),
            ));
        }
        let output = &self.hooks.output;
        for (key, path) in [(HOOKS_STDOUT, &output.stdout), (HOOKS_STDERR, &output.stderr)] {
            lines.extend(path.iter().map(|path| parent(&format!("annotations {key}"), format!("append to {path}"))));
        }
        let cgroup =
            || self.cgroup.to_string().lines().map(|line| parent("linux.resources", line.to_owned())).collect();
        // A unit is made around the child.
        let (before, after): (Vec<Line>, Vec<Line>) =
            if self.cgroup.unit.is_some() { (Vec::new(), cgroup()) } else { (cgroup(), Vec::new()) };
        let into = if before.is_empty() { "" } else { " into the cgroup" };
        lines.extend(before);
        let kinds = self.namespaces.new_kinds();
        let later = |kind: &str| match kind {
            "cgroup" | "time" => true,
            "mount" => self.namespaces.small_mounts,
            kind => early.contains(&kind),
        };
        let at_clone: Vec<&str> = kinds.iter().copied().filter(|kind| !later(kind)).collect();
        if self.namespaces.has("user") && self.steps.iter().any(|step| matches!(step, Step::Rlimit { .. })) {
            lines.push(parent("process.rlimits", "raise our own hard limits that are lower, until clone3".into()));
        }
        lines.push(parent("linux.namespaces", format!("clone3 new [{}]{into}", at_clone.join(" "))));
        lines.extend(maps);
        lines.extend(after);
        for act in self.resctrl.iter().flat_map(super::Resctrl::acts) {
            lines.push(parent("linux.intelRdt", act));
        }
        if let Some(score) = self.oom_score_adj {
            lines.push(parent("process.oomScoreAdj", format!("write oom_score_adj {score}")));
        }
        for (host, inside) in &self.net_devices {
            lines.push(parent(
                &format!("linux.netDevices {host}"),
                format!("move into the network namespace as {inside}"),
            ));
        }
        for step in &self.steps {
            if matches!(step, Step::RuntimeHooks { .. }) {
                for hook in &self.hooks.runtime {
                    lines.push(parent(&hook.item, format!("run {}", text(&hook.path))));
                }
            }
            lines.push(("child", step.item(self), step.act(self)));
        }
        lines
    }

    /// The plan for people: a numbered line each step.
    #[must_use]
    pub fn to_text(&self) -> String {
        let lines = self.lines();
        let width = lines.iter().map(|(_, item, _)| item.chars().count()).max().unwrap_or(0).min(44);
        let mut out = String::new();
        for (n, (actor, item, act)) in lines.iter().enumerate() {
            out.push_str(&format!("{:>3} {actor:6} {item:width$}  {act}\n", n + 1));
        }
        for warning in self.all_warnings() {
            out.push_str(&format!("warning: {warning}\n"));
        }
        out
    }

    /// The plan for programs: `{"steps": [{"actor", "item", "act"}], "warnings": []}`.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let step = |(actor, item, act): Line| json!({"actor": actor, "item": item, "act": act});
        let steps: Vec<Value> = self.lines().into_iter().map(step).collect();
        json!({"steps": steps, "warnings": self.all_warnings()})
    }
}
