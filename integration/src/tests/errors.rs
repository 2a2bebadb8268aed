//! Bad input: bundles, configurations, programs and ids that have to be refused, and leave nothing.

use std::fs;

use serde_json::json;

use crate::case::{Group, Outcome};
use crate::trial::Trial;
use crate::{ensure, equal};

pub fn group() -> Group {
    let mut group = Group::new("errors", "runtime.md#create");
    bundles(&mut group);
    root_paths(&mut group);
    texts(&mut group);
    large_texts(&mut group);
    values(&mut group);
    versions_and_paths(&mut group);
    programs(&mut group);
    interpreters(&mut group);
    ids(&mut group);
    accepted_ids(&mut group);
    aftermath(&mut group);
    messages(&mut group);
    group
}

fn bundles(group: &mut Group) {
    group.add("a_bundle_that_does_not_exist_is_refused", |t| {
        let id = t.id.clone();
        t.call(&["create", "--bundle", "/no/such/bundle", &id]).go()?.refused()?;
        t.expect_unknown()
    });
    group.add("a_bundle_without_config_json_is_refused", |t| {
        let (id, bundle) = (t.id.clone(), t.bundle.display().to_string());
        let done = t.call(&["create", "--bundle", &bundle, &id]).go()?.refused()?;
        ensure!(done.stderr.contains("config.json"), "stderr does not name the file: {}", done.stderr);
        t.expect_unknown()
    });
    group.add("a_bundle_that_is_a_file_is_refused", |t| {
        let (id, file) = (t.id.clone(), t.scratch.join("file"));
        fs::write(&file, "x")?;
        t.call(&["create", "--bundle", &file.display().to_string(), &id]).go()?.refused()?;
        t.expect_unknown()
    });
    group.add("a_config_json_that_is_a_directory_is_refused", |t| {
        fs::create_dir(t.bundle.join("config.json"))?;
        let (id, bundle) = (t.id.clone(), t.bundle.display().to_string());
        t.call(&["create", "--bundle", &bundle, &id]).go()?.refused()?;
        t.expect_unknown()
    });
    group.citing("config.md#root");
    group.add("a_missing_root_is_refused", |t| {
        t.remove("/root");
        t.run_refused()?;
        Ok(())
    });
    group.add("a_root_path_that_does_not_exist_is_refused", |t| {
        t.set("/root/path", json!("no-such-directory"));
        let done = t.run_refused()?;
        ensure!(
            done.stderr.contains("no-such-directory") || done.stderr.contains("o such file"),
            "stderr: {}",
            done.stderr
        );
        Ok(())
    });
}

fn root_paths(group: &mut Group) {
    group.add("a_root_path_that_is_a_file_is_refused", |t| {
        fs::write(t.bundle.join("file"), "x")?;
        t.set("/root/path", json!("file"));
        t.run_refused()?;
        Ok(())
    });
    group.add("an_empty_root_path_is_refused", |t| {
        t.set("/root/path", json!(""));
        t.run_refused()?;
        Ok(())
    });
}

/// `create` with this text for a config.json.
fn create_text(t: &mut Trial, text: &str) -> Outcome {
    fs::write(t.bundle.join("config.json"), text)?;
    let (id, bundle) = (t.id.clone(), t.bundle.display().to_string());
    let done = t.call(&["create", "--bundle", &bundle, &id]).go()?.refused()?;
    ensure!(!done.stderr.trim().is_empty(), "the refusal says nothing");
    t.expect_unknown()
}

fn texts(group: &mut Group) {
    group.citing("config.md");
    for (name, text) in [
        ("an_empty_file", ""),
        ("broken_json", "{\"ociVersion\": \"1.0.2\", "),
        ("json_with_a_trailing_comma", "{\"ociVersion\": \"1.0.2\",}"),
        ("an_array", "[]"),
        ("a_string", "\"config\""),
        ("a_number", "17"),
        ("bytes_that_are_no_text", "\u{0}\u{1}\u{2}"),
    ] {
        group.add(format!("{name}_is_refused"), move |t| create_text(t, text));
    }
    group.add("a_file_cut_in_the_middle_is_refused", |t| {
        let text = serde_json::to_string(&t.config)?;
        create_text(t, &text[..text.len() / 2])
    });
    group.add("unknown_properties_are_ignored", |t| {
        t.set("/noSuchProperty", json!({"a": [1, 2, 3]}));
        t.set("/linux/noSuchProperty", json!(true));
        t.set("/process/noSuchProperty", json!("x"));
        equal!(t.run_sh("echo here")?, "here\n", "output");
        Ok(())
    });
    group.add("spaces_and_newlines_do_not_matter", |t| {
        t.sh("echo here");
        fs::write(
            t.bundle.join("config.json"),
            serde_json::to_string_pretty(&t.adapted(&t.config))?.replace('\n', "\r\n\t"),
        )?;
        let (id, bundle) = (t.id.clone(), t.bundle.display().to_string());
        equal!(t.call(&["run", "--bundle", &bundle, &id]).go()?.ok()?.stdout, "here\n", "output");
        Ok(())
    });
    group.add("escapes_in_strings_are_decoded", |t| {
        t.args(&["/bin/echo", "PLACE"]);
        let text = serde_json::to_string(&t.adapted(&t.config))?.replace("PLACE", "\\u0041\\n\\u00e9\\ud83e\\udd80");
        fs::write(t.bundle.join("config.json"), text)?;
        let (id, bundle) = (t.id.clone(), t.bundle.display().to_string());
        equal!(t.call(&["run", "--bundle", &bundle, &id]).go()?.ok()?.stdout, "A\né🦀\n", "output");
        Ok(())
    });
}

fn large_texts(group: &mut Group) {
    group.add("a_config_of_a_megabyte_is_read", |t| {
        t.set("/annotations/big", json!("x".repeat(1 << 20)));
        equal!(t.run_sh("echo here")?, "here\n", "output");
        Ok(())
    });
}

fn values(group: &mut Group) {
    group.citing("config.md");
    for (name, pointer, value) in [
        ("args_that_are_a_string", "/process/args", json!("/bin/true")),
        ("a_uid_that_is_a_string", "/process/user/uid", json!("root")),
        ("env_that_is_an_object", "/process/env", json!({"A": "1"})),
        ("a_terminal_that_is_a_string", "/process/terminal", json!("yes")),
        ("mounts_that_are_an_object", "/mounts", json!({"destination": "/mnt"})),
        ("a_namespace_list_of_strings", "/linux/namespaces", json!(["pid", "mount"])),
        ("a_hostname_that_is_a_number", "/hostname", json!(5)),
        ("a_readonly_that_is_a_number", "/root/readonly", json!(1)),
        ("rlimits_that_are_an_object", "/process/rlimits", json!({"type": "RLIMIT_NOFILE"})),
        ("masked_paths_that_are_a_string", "/linux/maskedPaths", json!("/proc/kcore")),
    ] {
        group.add(format!("{name}_are_refused").replace("_are_refused", "_is_a_type_error"), move |t| {
            t.set(pointer, value.clone());
            if pointer != "/process/args" {
                t.sh("echo payload-has-run");
            }
            t.expect_refusal()?;
            Ok(())
        });
    }
    group.add("a_missing_oci_version_is_refused", |t| {
        t.remove("/ociVersion");
        t.run_refused()?;
        Ok(())
    });
}

fn versions_and_paths(group: &mut Group) {
    group.add("an_oci_version_that_is_no_version_is_refused", |t| {
        t.set("/ociVersion", json!("latest"));
        t.run_refused()?;
        Ok(())
    });
    for version in ["1.0.0", "1.0.2", "1.0.2-dev"] {
        group.add(format!("oci_version_{version}_is_accepted"), move |t| {
            t.set("/ociVersion", json!(version));
            equal!(t.run_sh("echo here")?, "here\n", "output");
            Ok(())
        });
    }
    for version in ["1.1.0", "1.2.1", "1.3.0"] {
        group.add(format!("oci_version_{version}_is_accepted"), move |t| {
            t.set("/ociVersion", json!(version));
            equal!(t.run_sh("echo here")?, "here\n", "output");
            Ok(())
        });
    }
    group.citing("config-linux.md#user-namespace-mappings");
    group.add("overlapping_mappings_are_refused", |t| {
        t.use_user_namespace()?;
        t.push("/linux/uidMappings", json!({"containerID": 5, "hostID": 300_000, "size": 10}));
        t.run_refused()?;
        Ok(())
    });
    group.citing("config.md#process");
    group.add("empty_args_are_refused", |t| {
        t.args(&[]);
        t.expect_refusal()?;
        Ok(())
    });
    group.add("missing_args_are_refused", |t| {
        t.remove("/process/args");
        t.expect_refusal()?;
        Ok(())
    });
    group.add("a_relative_cwd_is_refused", |t| {
        t.set("/process/cwd", json!("tmp"));
        t.run_refused()?;
        Ok(())
    });
    group.add("an_empty_cwd_is_refused", |t| {
        t.set("/process/cwd", json!(""));
        t.run_refused()?;
        Ok(())
    });
    group.citing("config-linux.md#namespaces");
    group.add("a_root_without_a_mount_namespace_is_refused", |t| {
        t.drop_namespace("mount");
        t.run_refused()?;
        Ok(())
    });
}

fn programs(group: &mut Group) {
    group.citing("engine contract");
    for (name, words, needles) in [
        (
            "a_missing_program_in_path",
            ["no-such-program"].as_slice(),
            ["executable file not found in", "no such file or directory"].as_slice(),
        ),
        (
            "a_missing_absolute_program",
            &["/no/such/program"],
            &["executable file not found in", "no such file or directory"],
        ),
        ("a_program_that_is_not_executable", &["/etc/passwd"], &["permission denied", "operation not permitted"]),
        (
            "a_program_that_is_a_directory",
            &["/etc"],
            &["permission denied", "operation not permitted", "is a directory"],
        ),
    ] {
        group.add(format!("{name}_is_worded_for_engines"), move |t| {
            t.args(words);
            let done = t.expect_refusal()?;
            let text = done.stderr.to_lowercase();
            ensure!(needles.iter().any(|needle| text.contains(needle)), "stderr: {}", done.stderr);
            Ok(())
        });
    }
    group.add("an_empty_program_name_is_refused", |t| {
        t.args(&[""]);
        t.expect_refusal()?;
        Ok(())
    });
    group.add("a_program_of_another_format_is_refused", |t| {
        use std::os::unix::fs::PermissionsExt;
        fs::write(t.rootfs().join("odd"), [0x7f, b'E', b'L', b'F', 1, 2, 3])?;
        fs::set_permissions(t.rootfs().join("odd"), fs::Permissions::from_mode(0o755))?;
        t.args(&["/odd"]);
        let done = t.run()?;
        // The format is seen at execve, after start: the payload's own failure.
        ensure!(!done.succeeded(), "run exited 0");
        Ok(())
    });
}

fn interpreters(group: &mut Group) {
    group.add("a_missing_interpreter_is_refused", |t| {
        use std::os::unix::fs::PermissionsExt;
        fs::write(t.rootfs().join("script"), "#!/no/such/interpreter\n")?;
        fs::set_permissions(t.rootfs().join("script"), fs::Permissions::from_mode(0o755))?;
        t.args(&["/script"]);
        ensure!(!t.run()?.succeeded(), "run exited 0");
        Ok(())
    });
}

fn ids(group: &mut Group) {
    group.citing("runtime.md#create");
    for (name, id) in
        [("a_slash", "a/b"), ("dots_that_lead_up", "../escape"), ("two_dots", ".."), ("a_leading_slash", "/absolute")]
    {
        group.add(format!("an_id_with_{name}_is_refused"), move |t| {
            t.write_config()?;
            let bundle = t.bundle.display().to_string();
            t.call(&["create", "--bundle", &bundle, id]).go()?.refused()?;
            ensure!(!t.root.join("../escape").exists(), "something was made outside --root");
            Ok(())
        });
    }
    for (name, id) in [
        ("a_space", "a b"),
        ("a_star", "a*"),
        ("a_letter_outside_ascii", "ü"),
        ("a_newline", "a\nb"),
        ("nothing", ""),
        ("one_dot", "."),
    ] {
        group.add(format!("an_id_of_{name}_is_refused"), move |t| {
            t.write_config()?;
            let bundle = t.bundle.display().to_string();
            t.another_id(if id.is_empty() || id == "." { "unused" } else { id });
            t.call(&["create", "--bundle", &bundle, id]).go()?.refused()?;
            Ok(())
        });
    }
}

fn accepted_ids(group: &mut Group) {
    for id in ["with.dots", "with_underscores", "with-dashes", "With+Plus", "0123", "a.b-c_d+E9"] {
        group.add(format!("the_id_{id}_is_accepted"), move |t| {
            t.switch_id(id);
            t.create()?;
            equal!(t.state()?["id"], json!(id), "id");
            Ok(())
        });
    }
    group.add("an_id_of_64_characters_is_accepted", |t| {
        t.switch_id(&"a1".repeat(32));
        t.create_started()?;
        Ok(())
    });
}

fn aftermath(group: &mut Group) {
    group.citing("runtime.md#errors");
    for (name, pointer, value) in [
        (
            "mount",
            "/mounts/-",
            json!({"destination": "/mnt", "type": "bind", "source": "/no/such/source", "options": ["bind"]}),
        ),
        ("device", "/linux/devices/-", json!({"path": "/etc/passwd/device", "type": "c", "major": 1, "minor": 3})),
        ("sysctl", "/linux/sysctl", json!({"net.ipv4.no_such_key": "1"})),
        ("rootfs", "/root/path", json!("no-such-directory")),
        ("program", "/process/args", json!(["/no/such/program"])),
    ] {
        group.add(format!("after_a_failed_{name}_the_same_id_works"), move |t| {
            let good = t.config.clone();
            t.set(pointer, value.clone());
            t.create_with(&[])?.refused()?;
            t.expect_unknown()?;
            t.config = good;
            equal!(t.run_sh("echo here")?, "here\n", "output");
            Ok(())
        });
    }
    group.add("a_refused_verb_leaves_the_other_container_running", |t| {
        t.sleeper()?;
        let pid = t.pid()?;
        for words in [["kill", "no-such-id"], ["delete", "no-such-id"], ["start", "no-such-id"]] {
            t.call(&words).go()?.refused()?;
        }
        equal!((t.status()?.as_str(), t.pid()?), ("running", pid), "status and pid");
        Ok(())
    });
}

fn messages(group: &mut Group) {
    group.citing("engine contract");
    group.add("the_error_names_the_missing_mount_source", |t| {
        t.mount("/mnt", "bind", "/no/such/source", &["bind"]);
        let done = t.run_refused()?;
        ensure!(done.stderr.contains("/no/such/source"), "stderr: {}", done.stderr);
        Ok(())
    });
    group.add("the_error_is_one_line", |t| {
        t.set("/root/path", json!("no-such-directory"));
        let done = t.create_with(&[])?.refused()?;
        equal!(done.stderr.trim().lines().count(), 1, "lines on stderr");
        Ok(())
    });
}
