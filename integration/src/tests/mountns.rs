//! `mountns pin`: containers made from an empty mount namespace. What the rest of the suite asks of a container holds there,
//! too (`--mountns`); here is what is the verb's own, and what could go wrong with it.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::call::Done;
use crate::case::{Group, Outcome, fail, skip};
use crate::mode::Mode;
use crate::mountinfo;
use crate::options::View;
use crate::trial::Trial;
use crate::{ensure, equal};

const DIRECTORY: &str = "/run/xebec-mountns";
const PIN: &str = "/run/xebec-mountns/pin";

pub fn group() -> Group {
    let mut group = Group::new("mountns", "engine contract");
    verb(&mut group);
    containers(&mut group);
    group
}

/// Skips for runtimes without the verb, and where it is not for the caller.
fn mountns(t: &mut Trial, action: &str) -> Outcome<Done> {
    if t.mode == Mode::User {
        return skip("requires root as the caller: mounts of the host are root's");
    }
    let done = t.bare_call(&["mountns", action]).go()?;
    let unknown = ["unknown command", "No help topic", "unrecognized", "not defined"];
    if unknown.iter().any(|text| done.stderr.contains(text) || done.stdout.contains(text)) {
        return skip("requires `mountns`, which this runtime lacks");
    }
    Ok(done)
}

fn pin(t: &mut Trial) -> Outcome {
    mountns(t, "pin")?.ok()?;
    Ok(())
}

/// On cgroup v1 a `cgroup` mount would keep the container's mounts a copy of the host's.
fn without_cgroup_mount(t: &mut Trial) {
    if let (View::Host, Some(mounts)) = (t.view, t.config["mounts"].as_array_mut()) {
        mounts.retain(|mount| mount["type"] != "cgroup");
    }
}

/// A test with the namespace pinned, which leaves none.
fn pinned(group: &mut Group, name: &str, body: fn(&mut Trial) -> Outcome) {
    group.add(name, move |t| {
        pin(t)?;
        without_cgroup_mount(t);
        let done = body(t);
        mountns(t, "unpin")?.ok()?;
        done
    });
}

fn verb(group: &mut Group) {
    group.add("pin_and_unpin_may_be_said_twice_and_leave_nothing", |t| {
        mountns(t, "unpin")?.ok()?;
        let before = fs::read_to_string("/proc/self/mountinfo")?;
        for _ in 0..2 {
            pin(t)?;
            ensure!(Path::new(PIN).exists(), "{PIN} is not there");
        }
        for _ in 0..2 {
            mountns(t, "unpin")?.ok()?;
            equal!(fs::read_to_string("/proc/self/mountinfo")?, before, "the mounts after unpin");
            ensure!(!Path::new(DIRECTORY).exists(), "{DIRECTORY} is left");
        }
        Ok(())
    });
    group.add("where_run_is_shared_unpin_leaves_nothing_in_other_mount_namespaces", |t| {
        mountns(t, "unpin")?.ok()?;
        let none: Option<&str> = None;
        mount(none, "/run", none, MsFlags::MS_SHARED, none)?;
        // A peer that is there before: it says what it sees for each line that it reads.
        let look = "while read -r go; do cat /proc/self/mountinfo; echo end; done";
        let mut peer = Command::new("unshare")
            .args(["-m", "--propagation", "unchanged", "sh", "-c", look])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (Some(mut ask), Some(answer)) = (peer.stdin.take(), peer.stdout.take()) else { return fail("no pipes") };
        let mut lines = BufReader::new(answer).lines();
        let mut seen = || -> Outcome<String> {
            ask.write_all(b"go\n")?;
            let mut text = String::new();
            for line in lines.by_ref() {
                match line? {
                    line if line == "end" => break,
                    line => text += &(line + "\n"),
                }
            }
            Ok(text)
        };
        ensure!(seen()?.contains(" /run "), "the peer sees nothing");
        pin(t)?;
        let meanwhile = seen()?;
        mountns(t, "unpin")?.ok()?;
        let afterwards = seen()?;
        peer.kill()?;
        peer.wait()?;
        mount(none, "/run", none, MsFlags::MS_PRIVATE, none)?;
        ensure!(!meanwhile.contains(" - nsfs "), "the file of the namespace is there: {meanwhile}");
        ensure!(meanwhile.contains(DIRECTORY), "the peer is none: {meanwhile}");
        ensure!(!afterwards.contains(DIRECTORY), "a mount is left there: {afterwards}");
        ensure!(!fs::read_to_string("/proc/self/mountinfo")?.contains(DIRECTORY), "a mount is left");
        Ok(())
    });
    group.add("what_a_killed_pin_leaves_does_no_harm", |t| {
        mountns(t, "unpin")?.ok()?;
        fs::create_dir(DIRECTORY)?;
        mount(Some("xebec"), DIRECTORY, Some("tmpfs"), MsFlags::empty(), None::<&str>)?;
        fs::write(PIN, "")?;
        t.run()?.ok()?;
        pin(t)?;
        t.run()?.ok()?;
        mountns(t, "unpin")?.ok()?;
        ensure!(!fs::read_to_string("/proc/self/mountinfo")?.contains(DIRECTORY), "a mount is left");
        Ok(())
    });
    group.add("what_is_no_mount_namespace_is_refused_in_one_line", |t| {
        mountns(t, "unpin")?.ok()?;
        if t.mode != Mode::Root {
            return skip("a container with a user namespace is made from a copy of the host's mounts");
        }
        without_cgroup_mount(t);
        fs::create_dir(DIRECTORY)?;
        std::os::unix::fs::symlink("/proc/self/ns/mnt", PIN)?;
        t.run()?.refused()?;
        fs::remove_file(PIN)?;
        fs::write(PIN, "")?;
        mount(Some("/proc/self/ns/net"), PIN, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
        let done = t.run()?.refused()?;
        ensure!(done.stderr.contains(PIN) && done.stderr.contains("xebec mountns unpin"), "{}", done.stderr);
        mountns(t, "unpin")?;
        // What is no mount of ours is the administrator's.
        fs::remove_dir_all(DIRECTORY)
            .or_else(|error| if Path::new(DIRECTORY).exists() { Err(error) } else { Ok(()) })?;
        Ok(())
    });
}

/// Mount points inside, with their options but without what is numbered anew each time.
fn inside(t: &mut Trial) -> Outcome<Vec<String>> {
    let text = t.run_sh("cat /proc/self/mountinfo")?;
    let mounts = mountinfo::parse(&text);
    let mut lines: Vec<String> =
        mounts.iter().map(|mount| format!("{} {:?} {}", mount.point, mount.options, mount.propagation.len())).collect();
    // The kernel sorts by numbers, which it gives again.
    lines.sort();
    Ok(lines)
}

fn containers(group: &mut Group) {
    group.add("a_container_has_the_same_mounts_either_way", |t| {
        let source = t.scratch.join("bound");
        fs::create_dir(&source)?;
        t.mount("/bound", "bind", &source, &["rbind", "ro", "nosuid"]);
        without_cgroup_mount(t);
        mountns(t, "unpin")?.ok()?;
        let copied = inside(t)?;
        pin(t)?;
        let made = inside(t)?;
        mountns(t, "unpin")?.ok()?;
        equal!(made, copied, "the mounts inside");
        Ok(())
    });
    pinned(group, "the_plan_says_from_which_namespace_the_container_is_made", |t| {
        t.write_config()?;
        let bundle = t.bundle.display().to_string();
        let plan = t.bare_call(&["plan", "--bundle", &bundle]).go()?.ok()?.stdout;
        equal!(plan.contains(PIN), t.mode == Mode::Root, "{PIN} in the plan: {plan}");
        Ok(())
    });
    pinned(group, "nothing_of_a_container_reaches_the_namespace_that_all_share", |t| {
        let before = seen_in_pinned()?;
        ensure!(before.lines().count() <= 2, "more than the empty root, and what it lies on: {before}");
        ensure!(before.lines().all(|line| !line.contains(" shared:")), "it must not be shared: {before}");
        t.mount("/mnt", "tmpfs", "tmpfs", &["rshared"]);
        t.capabilities(&["CAP_SYS_ADMIN"]);
        t.sh("mount -t tmpfs inside /tmp && exec sleep 1000");
        t.create_started()?;
        equal!(seen_in_pinned()?, before, "the mounts of the namespace that all share");
        Ok(())
    });
    pinned(group, "mounts_of_the_host_reach_a_container_that_has_them_as_a_slave_and_not_the_other_way", |t| {
        let none: Option<&str> = None;
        let source = t.scratch.join("shared");
        fs::create_dir_all(source.join("later"))?;
        mount(Some(&source), &source, none, MsFlags::MS_BIND, none)?;
        mount(none, &source, none, MsFlags::MS_SHARED, none)?;
        t.mount("/mnt", "bind", &source, &["rbind", "rslave"]);
        t.capabilities(&["CAP_SYS_ADMIN"]);
        t.sh("mkdir -p /mnt/own && mount -t tmpfs inside /mnt/own && exec sleep 1000");
        t.create_started()?;
        let pid = t.pid()?;
        let its = || fs::read_to_string(format!("/proc/{pid}/mountinfo"));
        ensure!(
            crate::call::eventually(t.limit(std::time::Duration::from_secs(5)), || Ok(its()?.contains("/mnt/own")))?,
            "no mount inside"
        );
        ensure!(
            !fs::read_to_string("/proc/self/mountinfo")?.contains("shared/own"),
            "a mount of the container's on the host"
        );
        mount(Some("later"), &source.join("later"), Some("tmpfs"), MsFlags::empty(), none)?;
        let arrived = its()?.contains("/mnt/later");
        umount2(&source, MntFlags::MNT_DETACH)?;
        ensure!(arrived, "the host's later mount is not there");
        Ok(())
    });
    pinned(group, "chroot_leads_to_nothing_but_the_containers_root", |t| {
        t.capabilities(&["CAP_SYS_CHROOT", "CAP_SYS_ADMIN"]);
        fs::write(t.rootfs().join("mark"), "")?;
        // chroot(2) below the working directory, then up: the way out of a root that is not the mount namespace's.
        let up = "../".repeat(12);
        let script = format!("mkdir -p /jail; exec chroot /jail/.. /bin/busybox sh -c 'cd {up}; ls -a {up}'");
        let seen = t.run_sh(&script)?;
        ensure!(seen.lines().any(|line| line == "mark"), "not the container's root: {seen}");
        let old = t.run_sh("grep -c ' / / ' /proc/self/mountinfo; mount -t tmpfs x /mnt; umount -l / 2>&1; ls /")?;
        ensure!(old.contains("mark"), "below the root lies something else: {old}");
        Ok(())
    });
    pinned(group, "a_container_outlives_unpin", |t| {
        t.sleeper()?;
        mountns(t, "unpin")?.ok()?;
        let id = t.id.clone();
        let said = t.call(&["exec", &id, "/bin/echo", "here"]).go()?.ok()?.stdout;
        equal!(said.trim(), "here", "exec after unpin");
        Ok(())
    });
}

/// What a process in the pinned namespace would see.
fn seen_in_pinned() -> Outcome<String> {
    let pinned = fs::File::open(PIN)?;
    let inside = crate::sys::fork(move || match nix::sched::setns(&pinned, nix::sched::CloneFlags::CLONE_NEWNS) {
        Ok(()) => loop {
            nix::unistd::pause();
        },
        Err(_) => 1,
    })?;
    let own = fs::read_link("/proc/self/ns/mnt")?;
    let there = crate::call::eventually(std::time::Duration::from_secs(5), || {
        Ok(fs::read_link(format!("/proc/{inside}/ns/mnt"))? != own)
    })?;
    let text = fs::read_to_string(format!("/proc/{inside}/mountinfo"))?;
    nix::sys::signal::kill(inside, nix::sys::signal::Signal::SIGKILL)?;
    nix::sys::wait::waitpid(inside, None)?;
    ensure!(there, "setns into {PIN} did not work");
    Ok(text)
}
