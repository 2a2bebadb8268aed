//! The systemd driver (--systemd-cgroup): cgroupsPath as SLICE:PREFIX:NAME, a transient scope around the
//! container, and systemd's word for it. Each sandbox boots a systemd of its own (`crate::systemd`).

use std::fs;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use serde_json::json;

use crate::call::eventually;
use crate::case::{Group, Outcome, skip};
use crate::mode::{Mode, RUNTIME_DIR, USER};
use crate::systemd::{BUS, manager_cgroup};
use crate::trial::{Trial, alive};
use crate::{ensure, equal, proc};

const SCOPE: &str = "xbt-trial-1.scope";

pub fn group() -> Group {
    let mut group = Group::new("systemd", "engine contract");
    units(&mut group);
    endings(&mut group);
    names(&mut group);
    reloads(&mut group);
    limits(&mut group);
    annotations(&mut group);
    connections(&mut group);
    of_a_user(&mut group);
    group
}

/// Where PID 1 is no systemd, as in all other sandboxes.
pub fn absent() -> Group {
    let mut group = Group::new("no_systemd", "runtime.md#errors");
    group.add("the_systemd_driver_says_so_and_leaves_nothing", |t| {
        t.set("/linux/cgroupsPath", json!("system.slice:xbt:trial-1"));
        t.write_config()?;
        let (id, bundle) = (t.id.clone(), t.bundle.display().to_string());
        let done = t.call(&["--systemd-cgroup", "create", "--bundle", &bundle, &id]).go()?.refused()?;
        ensure!(!done.stderr.trim().is_empty(), "the refusal says nothing");
        t.expect_unknown()
    });
    group
}

fn booted() -> Outcome {
    if crate::systemd::is_booted() { Ok(()) } else { skip("requires systemd and --cgroup-view v2") }
}

fn controller(name: &str) -> Outcome {
    booted()?;
    let list = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers")?;
    if list.split_whitespace().any(|word| word == name) { Ok(()) } else { skip(format!("requires controller {name}")) }
}

fn of_user(t: &Trial) -> Outcome {
    booted()?;
    if t.mode == Mode::User { Ok(()) } else { skip("requires an ordinary user as the caller (--as-user)") }
}

/// Asks the service manager of whoever calls the runtime.
fn systemctl(t: &Trial, words: &[&str]) -> Outcome<String> {
    let mut command = Command::new("systemctl");
    if t.mode == Mode::User {
        command.arg("--user").uid(USER).gid(USER).env("XDG_RUNTIME_DIR", RUNTIME_DIR);
    }
    let done = command.args(words).output()?;
    eprintln!("$ systemctl {}\n{}", words.join(" "), String::from_utf8_lossy(&done.stderr).trim_end());
    Ok(String::from_utf8(done.stdout)?)
}

/// One property of a unit.
fn property(t: &Trial, unit: &str, name: &str) -> Outcome<String> {
    Ok(systemctl(t, &["show", "--value", "-p", name, "--", unit])?.trim().to_owned())
}

/// Where units without a slice of their own are.
fn home_slice(t: &Trial) -> &'static str {
    if t.mode == Mode::User { "user.slice" } else { "system.slice" }
}

/// The cgroup of the trial's scope.
fn scope_path(t: &Trial) -> String {
    format!("{}/{}/{SCOPE}", manager_cgroup(t.mode), home_slice(t))
}

/// No unit of ours is left, in whatever state.
fn expect_no_units(t: &Trial) -> Outcome {
    let mut left = String::new();
    let none = eventually(t.limit(Duration::from_secs(2)), || {
        let all = systemctl(t, &["list-units", "--all", "--plain", "--no-legend", "--type=scope,slice"])?;
        left = all.lines().filter(|line| line.contains("xbt")).collect::<Vec<_>>().join("\n");
        Ok(left.is_empty())
    })?;
    ensure!(none, "units are left: {left}");
    Ok(())
}

fn cgroup_of(pid: i32) -> Outcome<String> {
    Ok(proc::cgroup(pid, "")?.unwrap_or_default())
}

fn exec(t: &mut Trial, script: &str) -> Outcome<String> {
    let id = t.id.clone();
    Ok(t.call(&["exec", &id, "/bin/sh", "-c", script]).go()?.stdout)
}

/// A file of the scope's cgroup; the limits are the scope's, whatever lies below.
fn scope_file(t: &Trial, file: &str) -> Outcome<String> {
    Ok(fs::read_to_string(format!("/sys/fs/cgroup{}/{file}", scope_path(t)))?.trim().to_owned())
}

fn units(group: &mut Group) {
    // Not the runtime's doing, and what all others rest on: the host's /tmp, /var and /etc are the sandbox's, too.
    group.add("the_sandbox_has_no_units_of_the_host_to_start", |t| {
        booted()?;
        for unit in ["sysinit.target", "systemd-tmpfiles-setup.service", "polkit.service", "multi-user.target"] {
            equal!(property(t, unit, "LoadState")?, "not-found", "{unit}");
        }
        Ok(())
    });
    group.add("a_container_is_a_scope_with_its_processes", |t| {
        booted()?;
        t.create()?;
        let pid = t.pid()?;
        ensure!(cgroup_of(pid)?.starts_with(&scope_path(t)), "{}", cgroup_of(pid)?);
        equal!(property(t, SCOPE, "ActiveState")?, "active", "the unit before start");
        equal!(property(t, SCOPE, "Delegate")?, "yes", "Delegate");
        equal!(property(t, SCOPE, "Transient")?, "yes", "Transient");
        t.args(&["/bin/true"]);
        t.start()?;
        t.wait_for_end()?;
        t.delete()?;
        expect_no_units(t)
    });
    group.add("exec_enters_the_scope", |t| {
        booted()?;
        t.sleeper()?;
        let id = t.id.clone();
        t.call(&["exec", "--detach", &id, "/bin/sleep", "1000"]).go()?.ok()?;
        let status = systemctl(t, &["status", "--no-pager", SCOPE])?;
        equal!(status.matches("sleep 1000").count(), 2, "processes that systemd counts in:\n{status}");
        Ok(())
    });
    group.add("the_cgroup_namespace_begins_at_the_container", |t| {
        booted()?;
        equal!(t.run_sh("cat /proc/self/cgroup | grep ^0:")?.trim(), "0::/", "own cgroup");
        Ok(())
    });
    group.add("without_a_cgroup_namespace_it_is_in_the_scope_too", |t| {
        booted()?;
        t.drop_namespace("cgroup");
        let own = t.run_sh("cat /proc/self/cgroup | grep ^0:")?;
        ensure!(own.starts_with(&format!("0::{}", scope_path(t))), "{own}");
        Ok(())
    });
    group.add("in_a_user_namespace", |t| {
        booted()?;
        t.use_user_namespace()?;
        equal!(t.run_sh("id -u")?.trim(), "0", "user");
        expect_no_units(t)
    });
    group.add("pause_stops_every_process_until_resume", |t| {
        booted()?;
        t.sleeper()?;
        let (id, pid) = (t.id.clone(), t.pid()?);
        let frozen = || -> Outcome<String> {
            Ok(fs::read_to_string(format!("/sys/fs/cgroup{}/cgroup.events", cgroup_of(pid)?))?)
        };
        t.call(&["pause", &id]).go()?.ok()?;
        equal!(t.status()?, "paused", "status");
        systemctl(t, &["daemon-reload"])?;
        ensure!(frozen()?.contains("frozen 1"), "after daemon-reload: {}", frozen()?);
        t.call(&["resume", &id]).go()?.ok()?;
        ensure!(frozen()?.contains("frozen 0"), "{}", frozen()?);
        equal!(t.status()?, "running", "status");
        Ok(())
    });
}

fn endings(group: &mut Group) {
    group.add("a_hundred_containers_in_a_row_leave_no_unit", |t| {
        booted()?;
        // On an emulated machine a container takes seconds.
        let second = Duration::from_secs(1);
        let rounds = if t.limit(second) > second { 25 } else { 100 };
        for _ in 0..rounds {
            t.args(&["/bin/true"]);
            t.run()?.ok()?;
        }
        let all = systemctl(t, &["list-units", "--all", "--plain", "--no-legend"])?;
        ensure!(!all.contains("xbt-trial"), "{all}");
        Ok(())
    });
    group.add("a_failed_create_leaves_no_unit", |t| {
        booted()?;
        t.args(&["/no/such/program"]);
        t.create_with(&[])?.refused()?;
        t.expect_unknown()?;
        expect_no_units(t)
    });
    let why = "runtime.md#delete: deleting deletes the resources that were created during create";
    group.add_beyond_peers(why, "delete_force_removes_what_a_killed_create_left", |t| {
        booted()?;
        t.args(&["/bin/sleep", "1000"]);
        t.write_config()?;
        let (id, bundle) = (t.id.clone(), t.bundle.display().to_string());
        // The kills are spread over what one takes here.
        let whole = t.call(&["create", "--bundle", &bundle, &id]).go()?.ok()?.took;
        t.call(&["delete", "--force", &id]).go()?.ok()?;
        for round in 0..25 {
            let mut live = t.call(&["create", "--bundle", &bundle, &id]).spawn()?;
            sleep(whole * round / 25);
            live.child.kill()?;
            live.child.wait()?;
            t.call(&["delete", "--force", &id]).go()?.ok()?;
            expect_no_units(t)?;
        }
        Ok(())
    });
    group.add("a_kill_ends_all_of_it_and_delete_removes_the_unit", |t| {
        booted()?;
        t.drop_namespace("pid");
        t.sh("sleep 1000 & sleep 1000");
        t.create_started()?;
        let id = t.id.clone();
        t.call(&["delete", "--force", &id]).go()?.ok()?;
        expect_no_units(t)
    });
    group.add("kill_all_reaches_every_process_of_the_scope", |t| {
        booted()?;
        t.drop_namespace("pid");
        t.sh("sleep 1000 & echo $! > /out/pid; sleep 1000");
        t.create_started()?;
        let second = t.wait_for_file(t.rootfs().join("out/pid"))?;
        let id = t.id.clone();
        t.call(&["kill", "--all", &id, "KILL"]).go()?.ok()?;
        t.wait_for_status("stopped")?;
        let ended = eventually(t.limit(Duration::from_secs(2)), || Ok(!alive(second.trim())))?;
        ensure!(ended, "process {second} lives");
        t.delete()?;
        expect_no_units(t)
    });
    group.add("a_scope_that_systemd_stops_is_a_stopped_container", |t| {
        booted()?;
        t.sleeper()?;
        let pid = t.pid()?;
        // sleep as PID 1 ignores SIGTERM: systemd kills after the scope's time, so help it.
        systemctl(t, &["kill", "--signal=SIGKILL", SCOPE])?;
        systemctl(t, &["stop", SCOPE])?;
        ensure!(!alive(pid), "process {pid} lives");
        t.wait_for_status("stopped")?;
        t.delete()?;
        expect_no_units(t)
    });
    group.add("an_oom_kill_leaves_no_failed_unit", |t| {
        controller("memory")?;
        t.set("/linux/resources/memory", json!({"limit": 16 << 20, "swap": 16 << 20}));
        t.sh("head -c 24000000 /dev/zero | tail");
        t.create_started()?;
        t.wait_for_end()?;
        t.delete()?;
        expect_no_units(t)
    });
}

fn names(group: &mut Group) {
    group.add("a_slice_with_dashes_is_nested", |t| {
        booted()?;
        t.set("/linux/cgroupsPath", json!("xa-b-c.slice:p:name"));
        t.sleeper()?;
        let path = cgroup_of(t.pid()?)?;
        let place = format!("{}/xa.slice/xa-b.slice/xa-b-c.slice/p-name.scope", manager_cgroup(t.mode));
        ensure!(path.starts_with(&place), "{path}");
        equal!(property(t, "p-name.scope", "Slice")?, "xa-b-c.slice", "Slice");
        Ok(())
    });
    group.add("without_a_slice_it_is_the_managers", |t| {
        booted()?;
        t.set("/linux/cgroupsPath", json!(":xbt:trial-1"));
        t.sleeper()?;
        equal!(property(t, SCOPE, "Slice")?, home_slice(t), "Slice");
        Ok(())
    });
    group.add("without_a_path_the_unit_is_named_after_the_container", |t| {
        booted()?;
        t.remove("/linux/cgroupsPath");
        t.sleeper()?;
        let path = cgroup_of(t.pid()?)?;
        let home = format!("{}/{}/", manager_cgroup(t.mode), home_slice(t));
        ensure!(path.starts_with(&home) && path.contains("-trial-1.scope"), "{path}");
        Ok(())
    });
    group.add("a_path_that_names_no_unit_is_refused", |t| {
        booted()?;
        for path in ["/a/b", "a:b", "m:p:c", "a--b.slice:p:c", "a/b.slice:p:c", "system.slice:../p:c", "x.slice:p:a/b"]
        {
            t.set("/linux/cgroupsPath", json!(path));
            t.run_refused()?;
        }
        equal!(
            systemctl(t, &["list-units", "--all", "--plain", "--no-legend", "--type=scope"])?.lines().count(),
            1,
            "scopes"
        );
        Ok(())
    });
    group.add("a_name_in_use_is_refused_and_its_container_untouched", |t| {
        booted()?;
        t.sleeper()?;
        let pid = t.pid()?;
        let other = t.another_id("other");
        let bundle = t.bundle.display().to_string();
        t.call(&["create", "--bundle", &bundle, &other]).go()?.refused()?;
        t.call(&["delete", "--force", &other]).go()?.ok()?;
        ensure!(alive(pid), "process {pid} is gone");
        equal!(property(t, SCOPE, "ActiveState")?, "active", "the unit");
        equal!(t.status()?, "running", "status");
        Ok(())
    });
}

/// What must hold before and after systemd has read its configuration again.
fn across_reloads(t: &mut Trial, mut holds: impl FnMut(&mut Trial) -> Outcome) -> Outcome {
    holds(t)?;
    for verb in ["daemon-reload", "daemon-reexec", "daemon-reload"] {
        systemctl(t, &[verb])?;
        holds(t)?;
    }
    Ok(())
}

fn reloads(group: &mut Group) {
    let node = |path: &str, major: u32, minor: u32| json!({"path": path, "type": "c", "major": major, "minor": minor});
    group.add("a_daemon_reload_changes_no_access_to_devices", move |t| {
        booted()?;
        t.push("/linux/devices", node("/dev/allowed", 1, 11));
        t.push("/linux/devices", node("/dev/denied", 10, 229));
        t.push(
            "/linux/resources/devices",
            json!({"allow": true, "type": "c", "major": 1, "minor": 11, "access": "rw"}),
        );
        t.sleeper()?;
        across_reloads(t, |t| {
            let said = exec(
                t,
                ": >/dev/allowed && echo open; : 2>&1 <>/dev/denied; echo x >/dev/null && cat /dev/denied 2>&1",
            )?;
            ensure!(said.contains("open"), "an allowed device: {said}");
            ensure!(said.contains("Operation not permitted"), "a denied device: {said}");
            Ok(())
        })
    });
    // Character major 240 is for local use (devices.txt): no driver, so an allowed open says ENXIO.
    group.add("a_daemon_reload_keeps_a_device_that_the_host_has_no_node_of", move |t| {
        booted()?;
        t.push("/linux/devices", node("/dev/local", 240, 5));
        t.push(
            "/linux/resources/devices",
            json!({"allow": true, "type": "c", "major": 240, "minor": 5, "access": "rwm"}),
        );
        t.sleeper()?;
        across_reloads(t, |t| {
            let said = exec(t, "cat /dev/local 2>&1")?;
            ensure!(said.contains("No such device or address"), "{said}");
            Ok(())
        })
    });
}

fn limits(group: &mut Group) {
    group.add("systemd_knows_the_limits_and_the_kernel_has_them", |t| {
        ["memory", "pids", "cpu", "cpuset"].into_iter().try_for_each(controller)?;
        t.set("/linux/resources/memory", json!({"limit": 64 << 20, "reservation": 32 << 20, "swap": 96 << 20}));
        t.set("/linux/resources/pids", json!({"limit": 77}));
        t.set(
            "/linux/resources/cpu",
            json!({"shares": 2, "quota": 25_000, "period": 50_000, "cpus": "0-1", "mems": "0"}),
        );
        t.set("/linux/resources/unified", json!({"memory.high": "50331648"}));
        t.sleeper()?;
        across_reloads(t, |t| {
            for (name, value) in [
                ("MemoryMax", "67108864"),
                ("MemoryLow", "33554432"),
                ("MemorySwapMax", "33554432"),
                ("MemoryHigh", "50331648"),
                ("TasksMax", "77"),
                ("CPUWeight", "1"),
                ("CPUQuotaPerSecUSec", "500ms"),
                ("CPUQuotaPeriodUSec", "50ms"),
                ("AllowedCPUs", "0-1"),
                ("AllowedMemoryNodes", "0"),
            ] {
                equal!(property(t, SCOPE, name)?, value, "{name}");
            }
            for (file, value) in [
                ("memory.max", "67108864"),
                ("memory.low", "33554432"),
                ("memory.swap.max", "33554432"),
                ("memory.high", "50331648"),
                ("pids.max", "77"),
                ("cpu.weight", "1"),
                ("cpu.max", "25000 50000"),
                ("cpuset.cpus", "0-1"),
                ("cpuset.mems", "0"),
            ] {
                equal!(scope_file(t, file)?, value, "{file}");
            }
            Ok(())
        })
    });
    group.add("a_container_without_a_limit_of_processes_has_none", |t| {
        controller("pids")?;
        t.sleeper()?;
        let pid = t.pid()?;
        across_reloads(t, |_| {
            equal!(
                fs::read_to_string(format!("/sys/fs/cgroup{}/pids.max", cgroup_of(pid)?))?.trim(),
                "max",
                "pids.max"
            );
            Ok(())
        })
    });
    group.add("an_update_is_not_undone_by_a_daemon_reload", |t| {
        ["memory", "pids", "cpu"].into_iter().try_for_each(controller)?;
        t.set("/linux/resources/memory", json!({"limit": 64 << 20}));
        t.set("/linux/resources/pids", json!({"limit": 77}));
        t.sleeper()?;
        let id = t.id.clone();
        let resources =
            json!({"memory": {"limit": 48 << 20, "swap": 48 << 20}, "pids": {"limit": 33}, "cpu": {"quota": 30_000}});
        t.call(&["update", "--resources", "-", &id]).stdin(resources.to_string()).go()?.ok()?;
        across_reloads(t, |t| {
            equal!(property(t, SCOPE, "MemoryMax")?, "50331648", "MemoryMax");
            equal!(property(t, SCOPE, "TasksMax")?, "33", "TasksMax");
            equal!(property(t, SCOPE, "CPUQuotaPerSecUSec")?, "300ms", "CPUQuotaPerSecUSec");
            equal!(scope_file(t, "memory.max")?, "50331648", "memory.max");
            equal!(scope_file(t, "pids.max")?, "33", "pids.max");
            equal!(scope_file(t, "cpu.max")?, "30000 100000", "cpu.max");
            Ok(())
        })
    });
    group.add("what_systemd_has_no_property_for_is_written_to_the_cgroup", |t| {
        controller("hugetlb")?;
        t.set("/linux/resources/hugepageLimits", json!([{"pageSize": "2MB", "limit": 4 << 20}]));
        t.sleeper()?;
        let pid = t.pid()?;
        across_reloads(t, |_| {
            let path = format!("/sys/fs/cgroup{}/hugetlb.2MB.max", cgroup_of(pid)?);
            equal!(fs::read_to_string(path)?.trim(), "4194304", "hugetlb.2MB.max");
            Ok(())
        })
    });
}

fn annotations(group: &mut Group) {
    group.add("a_property_of_an_annotation_is_the_units", |t| {
        booted()?;
        t.set("/annotations", json!({"org.systemd.property.TimeoutStopUSec": "uint64 7000000"}));
        t.sleeper()?;
        equal!(property(t, SCOPE, "TimeoutStopUSec")?, "7s", "TimeoutStopUSec");
        Ok(())
    });
    group.add_beyond_peers(
        "runtime.md#lifecycle: no step of it runs what an annotation says (CVE-2024-3154)",
        "an_annotation_runs_no_command_of_the_host",
        |t| {
            booted()?;
            let mark: PathBuf = t.scratch.join("ran");
            // StartTransientUnit's a(sasb), in GVariant text: what the published exploit sent.
            let command = format!("[('/bin/busybox', ['touch', '{}'], false)]", mark.display());
            t.set("/annotations", json!({"org.systemd.property.ExecStopPost": command}));
            t.run_refused()?;
            ensure!(!mark.exists(), "the command ran as root of the host");
            Ok(())
        },
    );
    group.add("the_subgroup_of_an_annotation_is_the_containers_cgroup", |t| {
        booted()?;
        t.set("/annotations", json!({"run.oci.systemd.subgroup": "inner"}));
        t.sleeper()?;
        equal!(cgroup_of(t.pid()?)?, format!("{}/inner", scope_path(t)), "cgroup");
        let id = t.id.clone();
        t.call(&["delete", "--force", &id]).go()?.ok()?;
        expect_no_units(t)
    });
}

fn connections(group: &mut Group) {
    let why = "runtime.md#errors: an error is generated, which a caller can wait for";
    group.add_beyond_peers(why, "a_bus_that_never_answers_is_given_up", |t| {
        booted()?;
        let silent = t.scratch.join("silent");
        let listener = UnixListener::bind(&silent)?;
        t.write_config()?;
        let (id, bundle) = (t.id.clone(), t.bundle.display().to_string());
        let mut call = t.call(&["create", "--bundle", &bundle, &id]);
        call = call.env(bus_variable(t), format!("unix:path={}", silent.display()));
        call.limit = t.limit(Duration::from_secs(50));
        let done = call.go()?.refused()?;
        ensure!(!done.stderr.trim().is_empty(), "the refusal says nothing");
        drop(listener);
        let id = t.id.clone();
        t.call(&["delete", "--force", &id]).go()?.ok()?;
        expect_no_units(t)
    });
    group.add("the_message_bus_of_the_environment_is_used", |t| {
        booted()?;
        if !Path::new(BUS).exists() {
            return skip("requires dbus-daemon");
        }
        t.args(&["/bin/echo", "by bus"]);
        t.write_config()?;
        let (id, bundle) = (t.id.clone(), t.bundle.display().to_string());
        let socket = if t.mode == Mode::User { format!("{RUNTIME_DIR}/bus") } else { SYSTEM_BUS.to_owned() };
        let call = t.call(&["run", "--bundle", &bundle, &id]);
        let done = call.env(bus_variable(t), format!("unix:path={socket}")).go()?.ok()?;
        equal!(done.stdout, "by bus\n", "stdout");
        expect_no_units(t)
    });
}

const SYSTEM_BUS: &str = "/run/dbus/system_bus_socket";

fn bus_variable(t: &Trial) -> &'static str {
    if t.mode == Mode::User { "DBUS_SESSION_BUS_ADDRESS" } else { "DBUS_SYSTEM_BUS_ADDRESS" }
}

/// What only the service manager of an ordinary user has to show.
fn of_a_user(group: &mut Group) {
    group.add("a_users_manager_serves_without_a_bus", |t| {
        of_user(t)?;
        fs::remove_file(format!("{RUNTIME_DIR}/bus"))?;
        t.sleeper()?;
        equal!(property(t, SCOPE, "ActiveState")?, "active", "the unit");
        let id = t.id.clone();
        t.call(&["delete", "--force", &id]).go()?.ok()?;
        expect_no_units(t)
    });
    // Only root may move a process between the two cgroups. The manager asks the system's, over the system's bus;
    // exec, which the manager has no part in, has to say what it takes.
    group.add("a_login_session_outside_the_users_manager_gets_a_scope_too", |t| {
        of_user(t)?;
        if !Path::new(BUS).exists() {
            return skip("requires dbus-daemon");
        }
        let own = PathBuf::from(format!("/sys/fs/cgroup{}", cgroup_of(std::process::id() as i32)?));
        let session = PathBuf::from(format!("/sys/fs/cgroup/user.slice/user-{USER}.slice/session-1.scope"));
        fs::create_dir(&session)?;
        fs::write(session.join("cgroup.procs"), "0")?;
        t.sleeper()?;
        let place = cgroup_of(t.pid()?)?;
        let id = t.id.clone();
        let further = t.call(&["exec", &id, "/bin/true"]).go()?;
        t.call(&["delete", "--force", &id]).go()?.ok()?;
        fs::write(own.join("cgroup.procs"), "0")?;
        fs::remove_dir(&session)?;
        ensure!(place.starts_with(&scope_path(t)), "{place}");
        ensure!(further.refused()?.stderr.contains("ermission denied"), "exec says nothing of rights");
        expect_no_units(t)
    });
}
