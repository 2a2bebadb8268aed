//! Processes: the runtime's binary in their reach, descriptors, working directories, ids, capabilities.

use std::ffi::CString;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::statvfs::{FsFlags, statvfs};
use serde_json::json;

use crate::case::{Group, Outcome, skip};
use crate::hosttree::Snapshot;
use crate::mode::Mode;
use crate::trial::{Trial, status_field};
use crate::{ensure, equal};

pub fn add(group: &mut Group) {
    own_binary(group);
    working_directories(group);
    identities(group);
    joined_namespaces(group);
    same_user(group);
    propagation(group);
}

/// A copy of the runtime that an attack may spoil, in place of the real one.
fn expendable_runtime(t: &mut Trial) -> Outcome<(PathBuf, Snapshot)> {
    let copy = t.scratch.join("runtime");
    fs::copy(&t.runtime, &copy)?;
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755))?;
    t.runtime = copy.clone();
    t.hand_over()?;
    let before = Snapshot::of(&copy, &[])?;
    Ok((copy, before))
}

/// Holds on to every program that is not the image's as soon as it sees one, and writes to it once it can.
///
/// ETXTBSY lasts as long as the program runs: so the first descriptor is kept and opened again through procfs.
const THIEF: &str = r#"
echo ready > /out/ready
while ! test -e /out/over; do
    for exe in /proc/[0-9]*/exe; do
        case "$(readlink $exe)" in */bin/busybox|"") continue;; esac
        { exec 9<$exe; } 2>/dev/null || continue
        case "$(readlink /proc/self/fd/9)" in */bin/busybox) continue;; esac
        readlink /proc/self/fd/9 >> /out/caught
        n=0
        while test $n -lt 50; do
            n=$((n+1))
            { echo spoiled >> /proc/self/fd/9; } 2>>/out/refused && echo spoiled > /out/spoiled
            mount -o remount,rw /proc/self/fd/9 2>/dev/null
            usleep 500
        done
        exec 9<&-
    done
done
"#;

/// CVE-2019-5736: what a container reaches through /proc/PID/exe must not be the host's file, writable.
fn own_binary(group: &mut Group) {
    group.add("cve_2019_5736_the_executable_of_init_cannot_be_written", |t| {
        t.args(&["/bin/true"]);
        t.create()?;
        let exe = format!("/proc/{}/exe", t.pid()?);
        let path = CString::new(exe.as_str()).map_err(|e| std::io::Error::other(e.to_string()))?;
        let read_only = statvfs(path.as_c_str()).map_err(std::io::Error::from)?.flags().contains(FsFlags::ST_RDONLY);
        // A copy in memory has no name that could be opened for writing by the host's path.
        let copy = fs::read_link(&exe)?.to_string_lossy().contains("memfd:");
        ensure!(read_only || copy, "{exe} lies on a writable mount");
        Ok(())
    });
    group.add("cve_2019_5736_a_thief_in_the_container_cannot_write_the_runtime_during_execs", |t| {
        let (copy, before) = expendable_runtime(t)?;
        robbed_container(t)?;
        let id = t.id.clone();
        for program in ["/bin/true", "/bin/self", "/bin/script", "/proc/self/exe"].iter().cycle().take(40) {
            // What the kernel makes of it is not the question; `spec` keeps the runtime busy where it is what runs.
            t.call(&["exec", "--cwd", "/out", &id, program, "spec"]).go()?;
        }
        expect_whole(t, &copy, &before)
    });
    group.add("cve_2019_5736_a_thief_in_a_shared_pid_namespace_cannot_write_the_runtime_during_runs", |t| {
        let (copy, before) = expendable_runtime(t)?;
        robbed_container(t)?;
        let pid = t.pid()?;
        t.switch_id("trial-2");
        t.drop_namespace("pid");
        t.push("/linux/namespaces", json!({"type": "pid", "path": format!("/proc/{pid}/ns/pid")}));
        let joins_user = t.mode != Mode::Root;
        if joins_user {
            t.push("/linux/namespaces", json!({"type": "user", "path": format!("/proc/{pid}/ns/user")}));
        }
        for program in ["/bin/true", "/bin/self", "/bin/script", "/proc/self/exe"].iter().cycle().take(20) {
            t.args(&[program, "spec"]);
            t.run_with(&[])?;
        }
        expect_whole(t, &copy, &before)
    });
}

/// A container with all rights there are, in which [`THIEF`] waits.
fn robbed_container(t: &mut Trial) -> Outcome {
    let bin = t.rootfs().join("bin");
    symlink("/proc/self/exe", bin.join("self"))?;
    fs::write(bin.join("script"), "#!/proc/self/exe spec\n")?;
    fs::set_permissions(bin.join("script"), fs::Permissions::from_mode(0o755))?;
    t.capabilities(&["CAP_SYS_PTRACE", "CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER"]);
    t.sh(THIEF);
    t.create_started()?;
    t.wait_for_file(t.rootfs().join("out/ready"))?;
    Ok(())
}

fn expect_whole(t: &mut Trial, copy: &Path, before: &Snapshot) -> Outcome {
    fs::write(t.rootfs().join("out/over"), "")?;
    let read = |name: &str| fs::read_to_string(t.rootfs().join("out").join(name)).unwrap_or_default();
    eprintln!("# caught: {:?}; writes refused: {}", read("caught"), read("refused").lines().count());
    ensure!(!t.rootfs().join("out/spoiled").exists(), "the thief could write to {}", read("caught"));
    let changes = before.changes(&Snapshot::of(copy, &[])?);
    ensure!(changes.is_empty(), "the runtime's binary has changed: {changes:?}");
    Ok(())
}

/// A caller that has twenty directories of the host open, from 3 on.
const LEAK: &str = "n=3; while test $n -lt 23; do eval \"exec $n</\"; n=$((n+1)); done";

/// CVE-2024-21626: a working directory through a descriptor that somebody has open.
///
/// Debian's runc 1.1.5 has the fix, so no runtime at hand fails these.
fn working_directories(group: &mut Group) {
    for (verb, leak) in [("run", false), ("run", true), ("create", true), ("exec", true), ("exec", false)] {
        let caller = if leak { "_of_a_caller_that_leaks_twenty" } else { "" };
        let name = format!("cve_2024_21626_no_cwd_through_a_descriptor{caller}_leads_out_of_{verb}");
        group.add(name, move |t| {
            fs::write(t.scratch.join("host-only"), "")?;
            let host = t.scratch.join("host-only").display().to_string();
            // From a directory of the host, enough dots lead to the host's root.
            let look = format!(
                "test -e ../../../../../../../../../..{host} && echo escaped; test -e ./run && echo escaped; true"
            );
            if verb == "exec" {
                t.sleeper()?;
            }
            for number in 3..=50 {
                let cwd = format!("/proc/self/fd/{number}");
                let before = if leak { LEAK } else { ":" };
                let (id, bundle) = (t.id.clone(), t.bundle.display().to_string());
                let mut said = String::new();
                match verb {
                    "exec" => {
                        let words = ["exec", "--cwd", &cwd, &id, "/bin/sh", "-c", &look];
                        said += &t.call_after(before, &words).go()?.stdout;
                    }
                    _ => {
                        t.set("/process/cwd", json!(cwd));
                        t.sh(&look);
                        t.write_config()?;
                        let live = t.call_after(before, &[verb, "--bundle", &bundle, &id]).spawn()?;
                        let stdout = live.stdout.clone();
                        let made = live.wait()?.succeeded();
                        if verb == "create" && made {
                            t.call(&["start", &id]).go()?;
                            t.wait_for_end()?;
                            t.call(&["delete", "--force", &id]).go()?;
                        }
                        said += &fs::read_to_string(stdout)?;
                    }
                }
                ensure!(!said.contains("escaped"), "{cwd}: the payload sees the host's files");
            }
            Ok(())
        });
    }
    group.add("cve_2024_21626_a_cwd_of_the_image_that_links_to_a_descriptor_does_not_lead_out", |t| {
        fs::write(t.scratch.join("host-only"), "")?;
        let host = t.scratch.join("host-only").display().to_string();
        for number in 3..=30 {
            let link = t.rootfs().join("here");
            super::clear(&link)?;
            symlink(format!("/proc/self/fd/{number}"), &link)?;
            t.set("/process/cwd", json!("/here"));
            t.sh(&format!("test -e ../../../../../../../../../..{host} && echo escaped; true"));
            let done = t.run_with(&[])?;
            ensure!(!done.stdout.contains("escaped"), "descriptor {number}: the payload sees the host's files");
        }
        Ok(())
    });
}

const STRICT: &str =
    "engine contract: the user that was asked for, or an error; both cut numbers to 32 bits and take signs";

fn identities(group: &mut Group) {
    group.add("cve_2022_29162_exec_with_a_capability_leaves_the_inheritable_set_empty", |t| {
        t.set("/process/capabilities/inheritable", json!([]));
        t.set("/process/capabilities/ambient", json!([]));
        t.sleeper()?;
        let id = t.id.clone();
        let done = t.call(&["exec", "--cap", "CAP_NET_RAW", &id, "/bin/cat", "/proc/self/status"]).go()?.ok()?;
        equal!(status_field(&done.stdout, "CapInh")?, "0000000000000000", "CapInh");
        let effective = u64::from_str_radix(status_field(&done.stdout, "CapEff")?, 16)?;
        ensure!(effective >> 13 & 1 == 1, "CAP_NET_RAW is not effective: {effective:x}");
        Ok(())
    });
    for (word, ids) in [
        ("1", "1 "),
        ("1:", ""),
        ("01", "1 "),
        ("1:2", "1 2"),
        ("4294967295", ""),
        ("4294967296", ""),
        ("4294967297:0", ""),
        ("18446744073709551616", ""),
        ("-1", ""),
        ("+1", ""),
        ("0x1", ""),
        ("1e3", ""),
        (" 1", ""),
        ("1:0x1", ""),
        ("1:4294967296", ""),
        ("x", ""),
        ("root", ""),
        ("test", ""),
        (":", ""),
        (":1", ""),
        ("", ""),
        ("::", ""),
        ("1:2:3", ""),
    ] {
        let spelled: String = word.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        let name = format!("cve_2026_30892_exec_as_{}{spelled}_is_exactly_that_or_refused", sign_of(word));
        let body = move |t: &mut Trial| -> Outcome {
            t.sleeper()?;
            let id = t.id.clone();
            let done = t.call(&["exec", "-u", word, &id, "/bin/sh", "-c", "echo $(id -u) $(id -g)"]).go()?;
            if done.succeeded() {
                ensure!(!ids.is_empty() && done.stdout.starts_with(ids), "`-u {word}` ran as {}", done.stdout.trim());
            } else {
                ensure!(done.stdout.is_empty(), "refused, and ran: {}", done.stdout.trim());
            }
            Ok(())
        };
        match word {
            "4294967296" | "4294967297:0" | "+1" | "1:4294967296" => group.add_beyond_peers(STRICT, name, body),
            _ => group.add(name, body),
        }
    }
    for (word, name) in [("..", "two_dots"), ("../..", "more_dots"), ("a/../../..", "hidden_dots"), ("", "nothing")] {
        group.add(format!("exec_into_a_cgroup_by_{name}_stays_below_the_containers"), move |t| {
            t.sleeper()?;
            let id = t.id.clone();
            let look = "cat /proc/self/cgroup";
            let done = t.call(&["exec", "--cgroup", word, &id, "/bin/sh", "-c", look]).go()?;
            // The container's cgroup namespace begins at its own cgroup: what lies outside begins with dots.
            ensure!(!done.stdout.contains(".."), "the process is in {}", done.stdout.trim());
            Ok(())
        });
    }
    let why =
        "engine contract: a process of the container is in its cgroup; runc 1.1.5 and crun 1.8.1 follow dots out of it";
    group.add_beyond_peers(why, "exec_into_a_cgroup_whose_name_only_begins_alike_is_refused", |t| {
        t.sleeper()?;
        let (id, alike) = (t.id.clone(), format!("{}/{}-alike", t.cgroup_base(), t.id));
        let place = Path::new("/sys/fs/cgroup").join(&alike[1..]);
        if t.view == crate::options::View::Host {
            return skip("requires the private view of cgroup v2");
        }
        fs::create_dir(&place)?;
        let mut said = String::new();
        for word in [alike.clone(), format!("/../{id}-alike"), format!("../{id}-alike"), format!("/{id}-alike")] {
            let done = t.call(&["exec", "--cgroup", &word, &id, "/bin/cat", "/proc/self/cgroup"]).go()?;
            said += &done.stdout;
        }
        fs::remove_dir(&place)?;
        ensure!(!said.contains("alike"), "a process is in the other cgroup: {said}");
        Ok(())
    });
}

fn sign_of(word: &str) -> &'static str {
    match word.chars().next() {
        Some('-') => "minus",
        Some('+') => "plus",
        Some(' ') => "space",
        _ => "",
    }
}

/// Looks through every process that appears, as its tracer or by its links in procfs, for a file of the host.
const LOOKOUT: &str = r#"
echo ready > /out/ready
while ! test -e /out/over; do
    for p in /proc/[0-9]*; do
        for way in root cwd fd/3 fd/4 fd/5 fd/6 fd/7 fd/8 fd/9 fd/10; do
            test -e $p/$way/HOST && echo "$p/$way" >> /out/escaped
            test -e $p/$way/../../../../../..HOST && echo "$p/$way/.." >> /out/escaped
        done
        : $((looks+=1))
    done
    echo $looks > /out/looks
done
"#;

/// Hazard: init joins a PID namespace in which an attacker waits, with handles of the host in its hands.
fn joined_namespaces(group: &mut Group) {
    for (verb, rounds) in [("run", 25), ("exec", 40)] {
        group.add(format!("a_lookout_in_a_joined_pid_namespace_sees_nothing_of_the_host_during_{verb}"), move |t| {
            let host = t.scratch.join("host-only");
            fs::write(&host, "")?;
            // Not CAP_SYS_PTRACE: who has that traces whatever comes into its sight (docs/threat-model.md).
            t.capabilities(&["CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_SYS_ADMIN", "CAP_FOWNER", "CAP_SETUID"]);
            t.sh(&LOOKOUT.replace("HOST", &host.display().to_string()));
            t.create_started()?;
            t.wait_for_file(t.rootfs().join("out/ready"))?;
            let (id, pid) = (t.id.clone(), t.pid()?);
            if verb == "run" {
                t.switch_id("trial-2");
                t.drop_namespace("pid");
                t.push("/linux/namespaces", json!({"type": "pid", "path": format!("/proc/{pid}/ns/pid")}));
                if t.mode != Mode::Root {
                    t.push("/linux/namespaces", json!({"type": "user", "path": format!("/proc/{pid}/ns/user")}));
                }
                t.sh("echo ran");
            }
            let mut ran = 0;
            for _ in 0..rounds {
                let done = match verb {
                    "run" => t.run_with(&[])?,
                    _ => t.call(&["exec", &id, "/bin/echo", "ran"]).go()?,
                };
                ran += usize::from(done.stdout.contains("ran"));
            }
            fs::write(t.rootfs().join("out/over"), "")?;
            let escaped = fs::read_to_string(t.rootfs().join("out/escaped")).unwrap_or_default();
            ensure!(escaped.is_empty(), "the host's files were seen through {escaped}");
            ensure!(ran > 0 || t.mode != Mode::Root, "nothing ran that could be looked at");
            Ok(())
        });
    }
}

/// Hazard: a host's user has the id that the container's program gets, and init has it already while it waits for its
/// start: with all that the runtime had opened, and in xebec with the runtime's memory.
fn same_user(group: &mut Group) {
    const LOOK: &str = r#"
        grep -q "^Uid:.$(id -u)" /proc/PID/status && echo same user
        (: <> /proc/PID/mem) 2>/dev/null && echo memory
        (: < /proc/PID/environ) 2>/dev/null && echo environment
        for way in root cwd exe fd/0; do test -e /proc/PID/$way && echo $way; done
        true"#;
    for (inside, who) in [(1000, "user"), (0, "root")] {
        group.add(
            format!("a_user_of_the_hosts_with_the_id_of_the_containers_{who}_cannot_trace_init_before_start"),
            move |t| {
                if t.mode != Mode::UserNamespace && inside == 0 {
                    return skip(
                        "requires a user namespace whose root is nobody else: neither the host, nor the caller",
                    );
                }
                t.set("/process/user", json!({"uid": inside, "gid": inside}));
                t.capabilities(&[]);
                t.sh("echo ran");
                t.create()?;
                let host_id = if t.mode == Mode::Root { inside } else { t.host_id(inside) };
                let mut neighbour = Command::new("/bin/sh");
                neighbour.args(["-c", &LOOK.replace("PID", &t.pid()?.to_string())]).uid(host_id).gid(host_id);
                let seen = match neighbour.output() {
                    Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                        return skip("requires that user");
                    }
                    seen => seen?,
                };
                let seen =
                    format!("{}{}", String::from_utf8_lossy(&seen.stdout), String::from_utf8_lossy(&seen.stderr));
                equal!(seen.as_str(), "same user\n", "what it reaches of init");
                Ok(())
            },
        );
    }
}

/// Hazard: a container without a mount namespace of its own changes the propagation of the host's `/`.
fn propagation(group: &mut Group) {
    for wanted in [None, Some("private"), Some("slave"), Some("unbindable"), Some("rprivate")] {
        let word = wanted.unwrap_or("no");
        let name = format!("without_a_mount_namespace_{word}_propagation_leaves_the_hosts_root_as_it_is");
        group.add(name, move |t| {
            let none: Option<&str> = None;
            nix::mount::mount(none, "/", none, nix::mount::MsFlags::MS_SHARED, none)?;
            let own = || -> Outcome<String> {
                let table = fs::read_to_string("/proc/self/mountinfo")?;
                let root = table.lines().find(|line| line.split(' ').nth(4) == Some("/"));
                Ok(root.unwrap_or_default().to_string())
            };
            let before = own()?;
            ensure!(before.contains("shared:"), "the sandbox's root is not shared: {before}");
            t.drop_namespace("mount");
            t.set("/mounts", json!([]));
            t.remove("/linux/maskedPaths");
            t.remove("/linux/readonlyPaths");
            t.remove("/linux/rootfsPropagation");
            if let Some(wanted) = wanted {
                t.set("/linux/rootfsPropagation", json!(wanted));
            }
            t.sh("true");
            let done = t.run_with(&[])?;
            let after = own()?;
            nix::mount::mount(none, "/", none, nix::mount::MsFlags::MS_PRIVATE, none)?;
            equal!(after, before, "the host's root in mountinfo");
            // A user namespace takes a mount namespace of its own.
            let due = wanted.is_none() && t.mode == Mode::Root;
            ensure!(!due || done.succeeded(), "without any propagation: {}", done.stderr);
            Ok(())
        });
    }
}
