//! Seccomp profiles made by the runtime: recorded from a container, and the default of `spec`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use crate::call::{Done, eventually};
use crate::case::{Group, Outcome, skip};
use crate::endtoend::profile::{names, without};
use crate::trial::{Trial, as_words, status_field};
use crate::{ensure, equal};

pub fn group() -> Group {
    let mut group = Group::new("profiles", "engine contract");
    recorded(&mut group);
    recorded_with_others(&mut group);
    merged(&mut group);
    refused(&mut group);
    asked(&mut group);
    shown(&mut group);
    default_of_spec(&mut group);
    group
}

fn requires_verb(t: &mut Trial) -> Outcome {
    if !t.call(&["seccomp", "--help"]).go()?.stdout.contains("record") {
        return skip("requires the verb `seccomp`, which this runtime lacks");
    }
    Ok(())
}

/// A case for runtimes that have the verb.
fn add(group: &mut Group, name: &str, body: impl Fn(&mut Trial) -> Outcome + Send + Sync + 'static) {
    group.add(name, move |t| {
        requires_verb(t)?;
        // What one run makes there the next does not find.
        t.mount("/tmp", "tmpfs", "tmpfs", &[]);
        body(t)
    });
}

fn output(t: &Trial) -> PathBuf {
    t.scratch.join("recorded.json")
}

/// The line that records the configured container.
fn record_words(t: &Trial, options: &[&str]) -> Vec<String> {
    let (output, bundle) = (output(t).display().to_string(), t.bundle.display().to_string());
    let words = ["seccomp", "record", "--output", &output, "--bundle", &bundle];
    words.into_iter().chain(options.iter().copied()).chain([t.id.as_str()]).map(str::to_owned).collect()
}

fn record(t: &mut Trial, options: &[&str]) -> Outcome<Done> {
    t.write_config()?;
    let words = record_words(t, options);
    t.call(&as_words(&words)).go()
}

/// Waits until the container, which somebody else starts, runs.
fn runs(t: &mut Trial) -> Outcome {
    let id = t.id.clone();
    let running =
        eventually(Duration::from_secs(20), || Ok(t.call(&["state", &id]).go()?.stdout.contains("\"running\"")))?;
    ensure!(running, "the container does not run");
    Ok(())
}

fn profile(t: &Trial) -> Outcome<Value> {
    Ok(serde_json::from_str(&fs::read_to_string(output(t))?)?)
}

fn recorded(group: &mut Group) {
    add(group, "a_recorded_container_runs_again_under_its_profile_and_not_without_one_call_of_it", |t| {
        t.sh("mkdir /tmp/x && echo made && exit 7");
        equal!(record(t, &[])?.code, Some(7), "the container's exit status");
        let profile = profile(t)?;
        for call in ["execve", "exit_group"] {
            ensure!(names(&profile).contains(&call), "{call} is not in the profile: {profile}");
        }
        ensure!(!names(&profile).contains(&"mount"), "what was not called is in the profile: {profile}");
        t.set("/linux/seccomp", profile.clone());
        let again = t.run()?;
        equal!((again.code, again.stdout.as_str()), (Some(7), "made\n"), "the same under the profile");
        t.set("/linux/seccomp", without(&profile, "mkdir")?);
        let less = t.run()?;
        equal!(less.code, Some(1), "without mkdir: {}", less.stderr);
        ensure!(less.stderr.contains("Operation not permitted"), "{}", less.stderr);
        t.set("/linux/seccomp", without(&profile, "execve")?);
        t.run()?.refused().map(drop)
    });
    add(group, "calls_of_forked_children_are_recorded", |t| {
        t.sh("(sh -c 'rmdir /tmp/none; mkfifo /tmp/fifo') & wait; true");
        record(t, &[])?.ok()?;
        let profile = profile(t)?;
        for call in ["rmdir", "wait4"] {
            ensure!(names(&profile).contains(&call), "{call} is not in the profile: {profile}");
        }
        Ok(())
    });
    add(group, "the_filter_of_the_config_is_not_in_force_while_it_is_recorded", |t| {
        t.set(
            "/linux/seccomp",
            json!({"defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}]}),
        );
        t.sh("mkdir /tmp/x");
        record(t, &[])?.ok()?;
        ensure!(names(&profile(t)?).contains(&"mkdir"), "mkdir is not recorded");
        Ok(())
    });
    add(group, "a_container_without_no_new_privileges_is_recorded", |t| {
        t.set("/process/noNewPrivileges", json!(false));
        t.sh("mkdir /tmp/x");
        record(t, &[])?.ok()?;
        t.set("/linux/seccomp", profile(t)?);
        t.run()?.ok().map(drop)
    });
    add(group, "a_program_that_is_not_there_leaves_no_profile", |t| {
        t.args(&["/no/such/program"]);
        record(t, &[])?.refused()?;
        ensure!(!output(t).exists(), "a profile was written");
        t.expect_unknown()
    });
}

/// ELF32 with one segment: `getpid(); exit(9)` by int 0x80.
const TINY_I386: &[u8] = &[
    0x7f, b'E', b'L', b'F', 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, // identification: 32 bits, little endian
    2, 0, 3, 0, 1, 0, 0, 0, 0x54, 0x80, 4, 8, 0x34, 0, 0, 0, // executable, i386, entry 0x8048054, headers at 0x34
    0, 0, 0, 0, 0, 0, 0, 0, 0x34, 0, 0x20, 0, 1, 0, 0, 0, 0, 0, 0, 0, // one program header
    1, 0, 0, 0, 0, 0, 0, 0, 0, 0x80, 4, 8, 0, 0x80, 4, 8, // PT_LOAD of the file at 0x8048000
    0x68, 0, 0, 0, 0x68, 0, 0, 0, 5, 0, 0, 0, 0, 0x10, 0, 0, // 0x68 bytes, readable and executable
    0xb8, 20, 0, 0, 0, 0xcd, 0x80, // mov eax, 20; int 0x80
    0xb8, 1, 0, 0, 0, 0xbb, 9, 0, 0, 0, 0xcd, 0x80, 0x90, // mov eax, 1; mov ebx, 9; int 0x80
];

fn use_i386_program(t: &mut Trial, text: &[u8]) -> Outcome {
    if cfg!(not(target_arch = "x86_64")) {
        return skip("requires an x86_64 host: the program is for i386");
    }
    let program = t.rootfs().join("tiny");
    fs::write(&program, text)?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    t.args(&["/tiny"]);
    if t.run()?.code != Some(9) {
        return skip("requires a kernel that runs i386 programs");
    }
    Ok(())
}

fn recorded_with_others(group: &mut Group) {
    add(group, "calls_of_another_architecture_are_recorded_with_it", |t| {
        use_i386_program(t, TINY_I386)?;
        equal!(record(t, &[])?.code, Some(9), "exit status");
        let profile = profile(t)?;
        equal!(
            profile["architectures"],
            json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]),
            "the architectures of execve and of the program"
        );
        let mut found = names(&profile);
        found.sort_unstable();
        equal!(found, ["execve", "exit", "getpid"], "every call of it and no other");
        t.set("/linux/seccomp", profile);
        equal!(t.run()?.code, Some(9), "exit status under the profile");
        fs::remove_file(output(t))?;
        let other = record(t, &["--arch", "x86_64"])?;
        ensure!(!matches!(other.code, Some(0 | 9)), "a program of an architecture left out: {:?}", other.code);
        Ok(())
    });
    add(group, "a_number_without_a_name_is_told_and_left_out", |t| {
        let mut program = TINY_I386.to_vec();
        program[0x55..0x57].copy_from_slice(&9999u16.to_le_bytes());
        use_i386_program(t, &program)?;
        let done = record(t, &[])?;
        ensure!(done.stderr.contains("call 9999 of x86 has no name"), "{}", done.stderr);
        let profile = profile(t)?;
        let mut found = names(&profile);
        found.sort_unstable();
        equal!(found, ["execve", "exit"], "the calls with a name");
        Ok(())
    });
    add(group, "a_recording_that_breaks_off_leaves_no_profile", |t| {
        t.sh("echo > /out/up; while :; do sleep 0.05; done");
        t.write_config()?;
        let words = record_words(t, &[]);
        let live = t.call(&as_words(&words)).spawn()?;
        // Before that its filter may not be in force yet.
        let up = t.rootfs().join("out/up");
        ensure!(eventually(Duration::from_secs(20), || Ok(up.exists()))?, "the program does not run");
        // The process that notes is the first that the command has started.
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", live.pid()))?;
        let first = children.split_whitespace().filter_map(|pid| pid.parse().ok()).min();
        let Some(noting) = first else { return crate::case::fail("the command has no children") };
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(noting), nix::sys::signal::Signal::SIGKILL)?;
        let id = t.id.clone();
        // Without an answer the container's calls fail, and it may have ended by itself.
        t.call(&["kill", &id, "KILL"]).go()?;
        let done = live.wait()?.refused()?;
        ensure!(done.stderr.contains("not all calls were noted"), "{}", done.stderr);
        ensure!(!output(t).exists(), "a profile was written");
        t.expect_unknown()
    });
    add(group, "what_exec_calls_is_recorded_too", |t| {
        t.sh("echo up > /out/up; while [ ! -e /tmp/end ]; do sleep 0.05; done");
        t.write_config()?;
        let words = record_words(t, &[]);
        let live = t.call(&as_words(&words)).spawn()?;
        // Running, and past its execve, which the recording holds for a while: until then init is undumpable.
        runs(t)?;
        t.wait_for_file(t.rootfs().join("out/up"))?;
        let id = t.id.clone();
        t.call(&["exec", &id, "/bin/sh", "-c", "mkdir /tmp/from-exec; touch /tmp/end"]).go()?.ok()?;
        live.wait()?.ok()?;
        ensure!(names(&profile(t)?).contains(&"mkdir"), "mkdir, which only exec called, is not recorded");
        Ok(())
    });
    add(group, "signals_reach_a_container_that_is_recorded", |t| {
        t.sh("trap 'rmdir /tmp/none; exit 5' TERM; echo up > /out/up; while :; do sleep 0.05; done");
        t.write_config()?;
        let words = record_words(t, &[]);
        let live = t.call(&as_words(&words)).spawn()?;
        runs(t)?;
        // The trap is set.
        t.wait_for_file(t.rootfs().join("out/up"))?;
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(live.pid()), nix::sys::signal::Signal::SIGTERM)?;
        equal!(live.wait()?.code, Some(5), "exit status of the trap");
        ensure!(names(&profile(t)?).contains(&"rmdir"), "the trap's call is not recorded");
        t.expect_unknown()
    });
}

fn merged(group: &mut Group) {
    add(group, "merging_adds_only_what_the_profile_does_not_allow", |t| {
        t.sh("mkdir /tmp/x");
        record(t, &[])?.ok()?;
        let first = profile(t)?;
        let output = output(t).display().to_string();
        record(t, &["--merge", &output])?.ok()?;
        equal!(profile(t)?, first, "the profile after the same once more");
        t.sh("mkdir /tmp/x; rmdir /tmp/x");
        record(t, &["--merge", &output])?.ok()?;
        let more = profile(t)?;
        let added: Vec<&str> = names(&more).into_iter().filter(|name| !names(&first).contains(name)).collect();
        ensure!(added.contains(&"rmdir"), "rmdir is not among what was added: {added:?}");
        t.set("/linux/seccomp", more);
        t.run()?.ok().map(drop)
    });
    add(group, "a_rule_that_refuses_a_recorded_call_gives_way", |t| {
        t.sh("mkdir /tmp/x");
        let base = t.scratch.join("base.json");
        let rule = json!({"names": ["mkdir", "mount"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13});
        fs::write(&base, json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}).to_string())?;
        record(t, &["--merge", &base.display().to_string()])?.ok()?;
        let profile = profile(t)?;
        equal!(profile["syscalls"][0]["names"], json!(["mount"]), "what is still refused");
        t.set("/linux/seccomp", profile);
        t.run()?.ok().map(drop)
    });
}

fn refused(group: &mut Group) {
    add(group, "a_profile_that_is_there_is_not_written_over", |t| {
        fs::write(output(t), "{}")?;
        t.sh("true");
        let done = record(t, &[])?.refused()?;
        ensure!(done.stderr.contains("exists already"), "{}", done.stderr);
        equal!(fs::read_to_string(output(t))?, "{}", "the file");
        Ok(())
    });
}

fn asked(group: &mut Group) {
    add(group, "test_and_diff_answer_by_exit_status", |t| {
        let path = |name: &str| t.scratch.join(name).display().to_string();
        let (first, second) = (path("a.json"), path("b.json"));
        let arg = json!([{"index": 0, "value": 8, "op": "SCMP_CMP_EQ"}]);
        let rule = |args: &Value| json!({"names": ["personality"], "action": "SCMP_ACT_ALLOW", "args": args});
        fs::write(&first, json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [rule(&arg)]}).to_string())?;
        fs::write(&second, json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [rule(&json!([]))]}).to_string())?;
        for (words, code, says) in [
            (vec!["test", &first, "personality", "8"], 0, "allow: rule /syscalls/0"),
            (vec!["test", &first, "personality", "0x9"], 2, "errno 1: no rule matches"),
            (vec!["test", &first, "no_such_call"], 1, ""),
            (vec!["diff", &first, &first], 0, ""),
            (vec!["diff", &first, &second], 2, "not rule /syscalls/0 if args[0] == 0x8"),
            (vec!["show", &first], 0, "allow if args[0] == 0x8  (/syscalls/0)"),
        ] {
            let done = t.call(&[vec!["seccomp"], words.clone()].concat()).go()?;
            equal!(done.code, Some(code), "exit status of {words:?}");
            ensure!(done.stdout.contains(says), "{words:?} says {}", done.stdout);
        }
        Ok(())
    });
}

fn shown(group: &mut Group) {
    add(group, "show_of_one_architecture_leaves_out_the_others_decisions", |t| {
        let file = t.scratch.join("p.json");
        let rule = json!({"names": ["personality"], "action": "SCMP_ACT_ERRNO", "errnoRet": 77});
        let all = json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"], "syscalls": [rule]});
        fs::write(&file, all.to_string())?;
        let file = file.display().to_string();
        // 135 is personality on x86_64, 136 on x86.
        let refused = |line: &str, number: &str| line.trim_start().starts_with(number) && line.contains("errno 77");
        let decisions = |text: &str, number: &str| text.lines().any(|line| refused(line, number));
        for (arch, has) in [(None, [true, true]), (Some("x86_64"), [true, false]), (Some("x86"), [false, true])] {
            let mut words = vec!["seccomp", "show", &*file];
            words.extend(arch.iter().flat_map(|arch| ["--arch", arch]));
            let text = t.call(&words).go()?.ok()?.stdout;
            // The program comes last and is whole.
            let tree = text.rsplit_once("\n\n").map_or("", |(tree, _)| tree);
            equal!([decisions(tree, "135"), decisions(tree, "136")], has, "x86_64 and x86 in {arch:?}: {text}");
        }
        let done = t.call(&["seccomp", "test", "--arch", "x86", &file, "personality", "8"]).go()?;
        equal!(done.code, Some(2), "exit status of test");
        ensure!(done.stdout.starts_with("x86 personality [136]"), "{}", done.stdout);
        t.call(&["seccomp", "show", "--arch", "no_such", &file]).go()?.refused().map(drop)
    });
    add(group, "a_name_that_nobody_knows_is_told_once_and_ignored", |t| {
        t.set("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["no_such_call"], "action": "SCMP_ACT_ERRNO"}]}));
        t.sh("echo ran");
        let done = t.run()?.ok()?;
        equal!(done.stdout, "ran\n", "output");
        equal!(done.stderr.matches("no_such_call").count(), 1, "times that it is named in {}", done.stderr);
        Ok(())
    });
}

fn default_of_spec(group: &mut Group) {
    add(group, "a_container_of_spec_with_the_default_profile_runs_filtered", |t| {
        let text =
            t.call(&["spec", "--seccomp", "default", "--seccomp-deny", "@network-io", "--file", "-"]).go()?.ok()?;
        let config: Value = serde_json::from_str(&text.stdout)?;
        t.set("/linux/seccomp", config["linux"]["seccomp"].clone());
        let out = t.run_sh("cat /proc/self/status; mkdir /tmp/x && (sleep 0.01 & wait) && echo fine; mount -t tmpfs t /mnt 2>&1; nc -w1 127.0.0.1 9 2>&1; true")?;
        equal!(status_field(&out, "Seccomp")?, "2", "seccomp mode");
        ensure!(out.contains("fine"), "{out}");
        for refused in ["mount: permission denied", "socket: Operation not permitted"] {
            ensure!(out.contains(refused), "no {refused:?}: {out}");
        }
        Ok(())
    });
}
