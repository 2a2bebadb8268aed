//! config.md#process and #user: who the payload is, and the arguments, environment, directory,
//! descriptors and standard streams that it is given.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use serde_json::json;

use crate::case::Group;
use crate::trial::status_field;
use crate::{ensure, equal};

pub fn group() -> Group {
    let mut group = Group::new("process", "config.md#process");
    arguments(&mut group);
    environment(&mut group);
    home(&mut group);
    directory(&mut group);
    user(&mut group);
    umask(&mut group);
    streams(&mut group);
    odd_streams(&mut group);
    descriptors(&mut group);
    passed_descriptors(&mut group);
    endings(&mut group);
    group
}

fn arguments(group: &mut Group) {
    // (name, argument): printed back with a marker on both sides.
    for (name, word) in [
        ("spaces", "two words  and  more"),
        ("a_newline", "first\nsecond"),
        ("nothing", ""),
        ("utf8", "höhe ∑ 漢字 🦀"),
        ("quotes", "it's \"quoted\" \\ here"),
        ("shell_characters", "$HOME `id` $(id) * ; & | > <"),
        ("tabs_and_controls", "\t\u{1}\u{7f}"),
    ] {
        group.add(format!("an_argument_with_{name}_arrives_unchanged"), move |t| {
            t.args(&["/bin/printf", "[%s]", word]);
            equal!(t.run()?.ok()?.stdout, format!("[{word}]"), "the argument");
            Ok(())
        });
    }
    group.add("args_0_is_looked_up_in_path", |t| {
        t.args(&["id", "-u"]);
        equal!(t.run()?.ok()?.stdout, "0\n", "output");
        Ok(())
    });
    group.add("the_path_of_the_container_decides_the_lookup", |t| {
        fs::create_dir_all(t.rootfs().join("special"))?;
        fs::write(t.rootfs().join("special/id"), "#!/bin/sh\necho special\n")?;
        fs::set_permissions(t.rootfs().join("special/id"), fs::Permissions::from_mode(0o755))?;
        t.set("/process/env", json!(["PATH=/special:/bin"]));
        t.args(&["id"]);
        equal!(t.run()?.ok()?.stdout, "special\n", "output");
        Ok(())
    });
    group.add("a_script_with_an_interpreter_runs", |t| {
        fs::write(t.rootfs().join("script"), "#!/bin/sh\necho script $1\n")?;
        fs::set_permissions(t.rootfs().join("script"), fs::Permissions::from_mode(0o755))?;
        t.args(&["/script", "argument"]);
        equal!(t.run()?.ok()?.stdout, "script argument\n", "output");
        Ok(())
    });
    group.add("two_thousand_arguments_arrive", |t| {
        let mut words: Vec<String> = ["/bin/sh", "-c", "echo $#", "sh"].map(String::from).to_vec();
        words.extend((0..2000).map(|index| format!("argument-{index}")));
        t.set("/process/args", json!(words));
        equal!(t.run()?.ok()?.stdout, "2000\n", "count");
        Ok(())
    });
}

fn environment(group: &mut Group) {
    group.add("the_environment_is_the_configured_one", |t| {
        t.set("/process/env", json!(["PATH=/bin", "A=1", "B=two words", "C="]));
        t.args(&["/bin/env"]);
        let out = t.run()?.ok()?.stdout;
        let mut lines: Vec<&str> = out.lines().filter(|line| !line.starts_with("HOME=")).collect();
        lines.sort_unstable();
        equal!(lines, ["A=1", "B=two words", "C=", "PATH=/bin"], "environment");
        Ok(())
    });
    group.add("the_callers_environment_does_not_leak", |t| {
        t.args(&["/bin/env"]);
        t.write_config()?;
        let (bundle, id) = (t.bundle.display().to_string(), t.id.clone());
        let done = t.call(&["run", "--bundle", &bundle, &id]).env("LEAK", "yes").go()?.ok()?;
        ensure!(!done.stdout.contains("LEAK"), "{}", done.stdout);
        Ok(())
    });
    group.add("a_large_environment_arrives", |t| {
        let value = "x".repeat(100_000);
        t.set("/process/env", json!(["PATH=/bin", format!("BIG={value}")]));
        equal!(t.run_sh("echo ${#BIG}")?, "100000\n", "length");
        Ok(())
    });
    group.add("many_variables_arrive", |t| {
        let mut list = vec!["PATH=/bin".to_string()];
        list.extend((0..1000).map(|index| format!("V{index}=value-{index}")));
        t.set("/process/env", json!(list));
        equal!(t.run_sh("env | grep -c ^V[0-9]")?, "1000\n", "variables");
        Ok(())
    });
    group.add("a_value_with_equals_signs_and_newlines_arrives", |t| {
        t.set("/process/env", json!(["PATH=/bin", "V=a=b\nc=d"]));
        equal!(t.run_sh("printf '%s' \"$V\"")?, "a=b\nc=d", "value");
        Ok(())
    });
    group.citing("engine contract");
    group.add("home_is_set_from_the_passwd_file_when_absent", |t| {
        t.set("/process/user", json!({"uid": 1000, "gid": 1000}));
        equal!(t.run_sh("echo $HOME")?, "/home\n", "HOME");
        Ok(())
    });
}

fn home(group: &mut Group) {
    group.add("a_configured_home_is_kept", |t| {
        t.push("/process/env", json!("HOME=/elsewhere"));
        equal!(t.run_sh("echo $HOME")?, "/elsewhere\n", "HOME");
        Ok(())
    });
}

fn directory(group: &mut Group) {
    group.citing("config.md#process");
    group.add("cwd_is_applied", |t| {
        t.set("/process/cwd", json!("/usr/bin"));
        equal!(t.run_sh("pwd")?, "/usr/bin\n", "directory");
        Ok(())
    });
    group.add("cwd_may_be_on_a_mount", |t| {
        t.mount("/mnt", "tmpfs", "tmpfs", &[]);
        t.set("/process/cwd", json!("/mnt"));
        equal!(t.run_sh("pwd")?, "/mnt\n", "directory");
        Ok(())
    });
    group.add("a_cwd_of_the_user_only_is_reached", |t| {
        let home = t.rootfs().join("home");
        std::os::unix::fs::chown(&home, Some(1000), Some(1000))?;
        fs::set_permissions(&home, fs::Permissions::from_mode(0o700))?;
        t.set("/process/user", json!({"uid": 1000, "gid": 1000}));
        t.set("/process/cwd", json!("/home"));
        equal!(t.run_sh("pwd")?, "/home\n", "directory");
        Ok(())
    });
    group.add("a_cwd_that_is_a_file_is_refused", |t| {
        t.set("/process/cwd", json!("/etc/passwd"));
        t.run_refused()?;
        Ok(())
    });
    group.add("a_cwd_through_proc_self_fd_does_not_reach_the_host", |t| {
        // CVE-2024-21626: a leaked descriptor of a host directory as the working directory.
        for descriptor in 3..12 {
            t.set("/process/cwd", json!(format!("/proc/self/fd/{descriptor}")));
            t.sh("ls ../../../../etc/passwd ../../../run/xbt 2>/dev/null; echo payload-has-run");
            let done = t.run()?;
            ensure!(
                !done.stdout.contains("/run/xbt") && !done.stdout.contains("bundle"),
                "the host shows: {}",
                done.stdout
            );
        }
        Ok(())
    });
}

fn user(group: &mut Group) {
    group.citing("config.md#posix-platform-user");
    for (uid, gid) in [(0, 0), (1000, 1001), (65_534, 65_534u32), (4_000_000_000u32, 4_000_000_001u32)] {
        group.add(format!("uid_{uid}_and_gid_{gid}_are_applied"), move |t| {
            t.set("/process/user", json!({"uid": uid, "gid": gid}));
            let out = t.run_sh("cat /proc/self/status")?;
            equal!(status_field(&out, "Uid")?, format!("{uid}\t{uid}\t{uid}\t{uid}"), "uids");
            equal!(status_field(&out, "Gid")?, format!("{gid}\t{gid}\t{gid}\t{gid}"), "gids");
            Ok(())
        });
    }
    group.add("additional_gids_are_applied", |t| {
        t.set("/process/user", json!({"uid": 1000, "gid": 1000, "additionalGids": [5, 6, 70_000]}));
        let out = t.run_sh("cat /proc/self/status")?;
        let mut groups: Vec<u32> =
            status_field(&out, "Groups")?.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        groups.retain(|group| *group != 1000);
        equal!(groups, [5, 6, 70_000], "groups");
        Ok(())
    });
    group.add("the_callers_groups_do_not_leak", |t| {
        t.set("/process/user", json!({"uid": 1000, "gid": 1000}));
        let out = t.run_sh("cat /proc/self/status")?;
        let groups = status_field(&out, "Groups")?;
        ensure!(groups.is_empty() || groups == "1000", "groups are {groups}");
        Ok(())
    });
    group.add("an_unprivileged_user_has_no_effective_capabilities", |t| {
        t.set("/process/user", json!({"uid": 1000, "gid": 1000}));
        for set in ["ambient", "inheritable"] {
            t.set(&format!("/process/capabilities/{set}"), json!([]));
        }
        let out = t.run_sh("cat /proc/self/status")?;
        equal!(u64::from_str_radix(status_field(&out, "CapEff")?, 16).ok(), Some(0), "CapEff after execve");
        Ok(())
    });
}

fn umask(group: &mut Group) {
    for mask in [0o000, 0o022, 0o027, 0o077] {
        group.add(format!("umask_{mask:03o}_is_applied"), move |t| {
            t.set("/process/user/umask", json!(mask));
            equal!(t.run_sh("umask")?, format!("{:04o}\n", mask), "umask");
            Ok(())
        });
    }
}

fn streams(group: &mut Group) {
    group.citing("runtime-linux.md#file-descriptors");
    group.add("stdout_and_stderr_stay_apart", |t| {
        t.sh("echo out; echo err >&2");
        let done = t.run()?.ok()?;
        equal!((done.stdout.as_str(), done.stderr.as_str()), ("out\n", "err\n"), "streams");
        Ok(())
    });
    group.add("stdin_reaches_the_payload", |t| {
        t.args(&["/bin/cat"]);
        t.write_config()?;
        let (bundle, id) = (t.bundle.display().to_string(), t.id.clone());
        let text = "line\n".repeat(5000);
        equal!(t.call(&["run", "--bundle", &bundle, &id]).stdin(&text).go()?.ok()?.stdout, text, "output");
        Ok(())
    });
    group.add("stdin_of_create_is_the_payloads", |t| {
        t.sh("cat > /out/copy");
        t.write_config()?;
        let (bundle, id) = (t.bundle.display().to_string(), t.id.clone());
        t.call(&["create", "--bundle", &bundle, &id]).stdin("given to create\n").go()?.ok()?;
        t.start()?;
        t.wait_for_status("stopped")?;
        equal!(fs::read_to_string(t.rootfs().join("out/copy"))?, "given to create\n", "stdin");
        Ok(())
    });
}

fn odd_streams(group: &mut Group) {
    group.add("stdout_may_be_a_pipe", |t| {
        t.sh("seq 1 20000");
        t.write_config()?;
        let (bundle, id) = (t.bundle.display().to_string(), t.id.clone());
        let mut command = t.call(&["run", "--bundle", &bundle, &id]).command;
        let output = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).output()?;
        equal!(output.stdout.iter().filter(|byte| **byte == b'\n').count(), 20_000, "lines through the pipe");
        Ok(())
    });
    group.add("a_closed_stdin_is_survived", |t| {
        t.sh("echo fine");
        t.write_config()?;
        let (bundle, id) = (t.bundle.display().to_string(), t.id.clone());
        equal!(t.call_after("exec <&-", &["run", "--bundle", &bundle, &id]).go()?.ok()?.stdout, "fine\n", "output");
        Ok(())
    });
}

fn descriptors(group: &mut Group) {
    const LIST: &str = "ls /proc/self/fd | tr '\\n' ' '";
    group.add("only_the_standard_streams_are_open", |t| {
        // ls holds the directory itself as its first free descriptor.
        equal!(t.run_sh(LIST)?, "0 1 2 3 ", "open descriptors");
        Ok(())
    });
    group.citing("engine contract");
    for number in [3, 4, 8, 15, 200] {
        group.add(format!("descriptor_{number}_of_the_caller_is_not_inherited"), move |t| {
            t.sh(LIST);
            t.write_config()?;
            let (bundle, id) = (t.bundle.display().to_string(), t.id.clone());
            let script = format!("bash -c 'exec {number}</etc/passwd; exec \"$@\"' bash \"$@\"; exit");
            let done = t.call_after(&script, &["run", "--bundle", &bundle, &id]).go()?.ok()?;
            equal!(done.stdout, "0 1 2 3 ", "open descriptors");
            Ok(())
        });
    }
    group.add("preserve_fds_passes_that_many", |t| {
        t.sh("cat <&3; cat <&4; ls /proc/self/fd | tr '\\n' ' '");
        fs::write(t.scratch.join("three"), "three\n")?;
        fs::write(t.scratch.join("four"), "four\n")?;
        t.write_config()?;
        let (bundle, id) = (t.bundle.display().to_string(), t.id.clone());
        let script = format!("exec 3<{0}/three 4<{0}/four 5</etc/passwd", t.scratch.display());
        let done = t.call_after(&script, &["run", "--preserve-fds", "2", "--bundle", &bundle, &id]).go()?.ok()?;
        equal!(done.stdout, "three\nfour\n0 1 2 3 4 5 ", "what the payload sees");
        Ok(())
    });
}

fn passed_descriptors(group: &mut Group) {
    group.add("preserve_fds_works_across_create_and_start", |t| {
        t.sh("cat <&3 > /out/copy");
        fs::write(t.scratch.join("three"), "three\n")?;
        t.write_config()?;
        let (bundle, id) = (t.bundle.display().to_string(), t.id.clone());
        let script = format!("exec 3<{}/three", t.scratch.display());
        t.call_after(&script, &["create", "--preserve-fds=1", "--bundle", &bundle, &id]).go()?.ok()?;
        t.start()?;
        t.wait_for_status("stopped")?;
        equal!(fs::read_to_string(t.rootfs().join("out/copy"))?, "three\n", "content");
        Ok(())
    });
    group.add("listen_fds_are_passed_on", |t| {
        t.sh("cat <&3; echo $LISTEN_FDS $LISTEN_PID");
        fs::write(t.scratch.join("three"), "three\n")?;
        t.write_config()?;
        let (bundle, id) = (t.bundle.display().to_string(), t.id.clone());
        let script = format!("exec 3<{}/three; export LISTEN_FDS=1 LISTEN_PID=$$", t.scratch.display());
        let done = t.call_after(&script, &["run", "--bundle", &bundle, &id]).go()?.ok()?;
        equal!(done.stdout, "three\n1 1\n", "descriptor, LISTEN_FDS and LISTEN_PID");
        Ok(())
    });
}

fn endings(group: &mut Group) {
    group.citing("engine contract");
    for code in [0, 1, 42, 126, 255] {
        group.add(format!("run_exits_with_the_payloads_status_{code}"), move |t| {
            t.sh(&format!("exit {code}"));
            equal!(t.run()?.code, Some(code), "exit status of run");
            Ok(())
        });
    }
    for (signal, number) in [("KILL", 9), ("TERM", 15), ("ABRT", 6)] {
        group.add(format!("run_exits_with_128_and_the_number_of_{signal}"), move |t| {
            // PID 1 ignores what it has no handler for, so the payload shares the host's PID namespace.
            t.drop_namespace("pid");
            t.sh(&format!("kill -{signal} $$; sleep 5"));
            equal!(t.run()?.code, Some(128 + number), "exit status of run");
            Ok(())
        });
    }
    group.add("short_lived_payloads_do_not_hang_run", |t| {
        t.args(&["/bin/true"]);
        for _ in 0..10 {
            t.run()?.ok()?;
        }
        Ok(())
    });
    group.add("short_lived_payloads_do_not_hang_start", |t| {
        t.args(&["/bin/true"]);
        for _ in 0..5 {
            t.create_started()?;
            t.wait_for_status("stopped")?;
            t.delete()?;
        }
        Ok(())
    });
    group.add("children_of_the_payload_end_with_it", |t| {
        t.sh("sleep 1000 & sleep 1000 & exit 0");
        t.run()?.ok()?;
        Ok(())
    });
}
