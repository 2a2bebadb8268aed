//! Kubernetes' side of containerd: its CRI plugin, asked as a kubelet asks it, with pods on a CNI bridge
//! and an image from a registry on loopback.

use std::fs;
use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use crate::call::eventually;
use crate::case::{Outcome, Stop, fail};
use crate::trial::{Trial, has_controller, requires_controller};
use crate::{ensure, equal};

use super::containerd::start_daemon;
use super::rpc::{Answer, Client};
use super::session::{Daemon, LIMIT, Operations, Session, perform, remove_cgroups};

const OPERATIONS: Operations<Cri> = &[
    ("pull from a registry", pull),
    ("run a pod sandbox", sandbox),
    ("two containers in the pod", containers),
    ("the containers share the pod's namespaces", sharing),
    ("exec sync, with its exit status", exec_sync),
    ("exec sync with a timeout", exec_timeout),
    ("logs", logs),
    ("a port of the pod is reachable", port),
    ("update of the limits", update),
    ("a program that is not there", missing),
    ("stop a container", stop),
    ("stop and remove the pod", remove),
];

const REGISTRY: &str = "127.0.0.1:5000";
const IMAGE: &str = "127.0.0.1:5000/busybox:latest";
const PORT: u16 = 8080;

pub fn test(t: &mut Trial) -> Outcome {
    let mut session = Session::begin(t, "containerd CRI")?;
    let registry = start_registry(&mut session)?;
    configure_network(&session)?;
    let plugin = configuration(&session);
    let (daemon, socket) = start_daemon(&mut session, &plugin)?;
    let client = Client::new(&session, socket)?;
    let mut engine = Cri { session, client, pod: String::new(), first: String::new(), second: String::new() };
    let done = perform(&mut engine, OPERATIONS);
    daemon.end()?;
    registry.end()?;
    done.and_then(|()| remove_cgroups(&["k8s.io"]))
}

struct Cri {
    session: Session,
    client: Client,
    /// Ids, as far as there are any yet.
    pod: String,
    first: String,
    second: String,
}

impl AsMut<Session> for Cri {
    fn as_mut(&mut self) -> &mut Session {
        &mut self.session
    }
}

/// Debian's docker-registry with the image in it.
fn start_registry(session: &mut Session) -> Outcome<Daemon> {
    let (config, data) = (session.home.join("registry.yml"), session.home.join("registry"));
    let text = format!(
        "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {REGISTRY}\n",
        data.display()
    );
    fs::write(&config, text)?;
    let mut daemon = Daemon::start(session.program(&["docker-registry", "serve", &config.display().to_string()]))?;
    daemon.wait_until(|| Ok(TcpStream::connect(REGISTRY).is_ok()))?;
    let source = format!("docker-archive:{}", session.image.display());
    let target = format!("docker://{IMAGE}");
    let words = ["skopeo", "--insecure-policy", "copy", "--dest-tls-verify=false", &source, &target];
    session.program(&words).go()?.ok()?;
    Ok(daemon)
}

/// A bridge in the sandbox's network namespace, addresses from a range for documentation (RFC 5737).
fn configure_network(session: &Session) -> Outcome {
    let directory = session.home.join("cni");
    fs::create_dir(&directory)?;
    let text = format!(
        r#"{{"cniVersion": "0.4.0", "name": "pods", "plugins": [{{"type": "bridge", "bridge": "pods", "isGateway": true,
        "ipam": {{"type": "host-local", "ranges": [[{{"subnet": "198.51.100.0/24"}}]], "dataDir": "{}"}}}}]}}"#,
        session.home.join("ipam").display()
    );
    Ok(fs::write(directory.join("pods.conflist"), text)?)
}

/// What containerd is told: the runtime by `BinaryName`, and what a restricted machine needs.
fn configuration(session: &Session) -> String {
    let plugin = r#"plugins."io.containerd.grpc.v1.cri""#;
    format!(
        "[{plugin}]\n  restrict_oom_score_adj = true\n  sandbox_image = \"{IMAGE}\"\n  disable_cgroup = {}\n\
         [{plugin}.cni]\n  bin_dir = \"/usr/lib/cni\"\n  conf_dir = \"{}\"\n\
         [{plugin}.containerd]\n  default_runtime_name = \"tested\"\n\
         [{plugin}.containerd.runtimes.tested]\n  runtime_type = \"io.containerd.runc.v2\"\n\
         [{plugin}.containerd.runtimes.tested.options]\n  BinaryName = \"{}\"\n",
        // The plugin asks for shares of the CPU for every pod.
        !has_controller("cpu"),
        session.home.join("cni").display(),
        session.runtime.display(),
    )
}

impl Cri {
    fn runtime(&mut self, method: &str, request: &str) -> Outcome<Answer> {
        self.client.call(&mut self.session, "Runtime", method, request)
    }

    fn pod_config(&self) -> String {
        let logs = self.session.home.join("logs");
        format!(
            r#"metadata {{ name: "pod" uid: "1" namespace: "tests" }} hostname: "pod-host" log_directory: "{}"
            linux {{ security_context {{ namespace_options {{ pid: POD }} }} }}"#,
            logs.display()
        )
    }

    /// Creates and starts a container that runs a shell script.
    fn start_container(&mut self, name: &str, command: &[&str]) -> Outcome<String> {
        let words = command.iter().map(|word| format!("command: {word:?} ")).collect::<String>();
        let request = format!(
            r#"pod_sandbox_id: "{}" config {{ metadata {{ name: "{name}" }} image {{ image: "{IMAGE}" }} {words}
            log_path: "{name}.log" linux {{ security_context {{ namespace_options {{ pid: POD }} }} }} }}
            sandbox_config {{ {} }}"#,
            self.pod,
            self.pod_config()
        );
        let id = self.runtime("CreateContainer", &request)?.field("container_id");
        self.runtime("StartContainer", &format!("container_id: {id:?}"))?;
        Ok(id)
    }

    /// ExecSync of a shell script: its exit status and its output.
    fn exec(&mut self, id: &str, script: &str) -> Outcome<(i32, String)> {
        let request = format!(r#"container_id: {id:?} cmd: "sh" cmd: "-c" cmd: {script:?} timeout: 30"#);
        let answer = self.runtime("ExecSync", &request)?;
        let code = answer.field("exit_code");
        Ok((if code.is_empty() { 0 } else { code.parse()? }, answer.field("stdout")))
    }

    fn state(&mut self, id: &str) -> Outcome<(String, String)> {
        let answer = self.runtime("ContainerStatus", &format!("container_id: {id:?}"))?;
        Ok((answer.field("state"), answer.field("exit_code")))
    }
}

fn pull(engine: &mut Cri) -> Outcome {
    let request = format!(r#"image {{ image: "{IMAGE}" }}"#);
    let answer = engine.client.call(&mut engine.session, "Image", "PullImage", &request)?;
    ensure!(answer.field("image_ref").starts_with("sha256:"), "no reference to an image");
    Ok(())
}

fn sandbox(engine: &mut Cri) -> Outcome {
    let request = format!("config {{ {} }}", engine.pod_config());
    engine.pod = engine.runtime("RunPodSandbox", &request)?.field("pod_sandbox_id");
    ensure!(!engine.pod.is_empty(), "no id");
    Ok(())
}

fn containers(engine: &mut Cri) -> Outcome {
    let serve = "echo first is up; while :; do echo from the pod | nc -l -p 8080; done";
    engine.first = engine.start_container("first", &["sh", "-c", serve])?;
    engine.second =
        engine.start_container("second", &["sh", "-c", "trap 'exit 3' TERM; while :; do sleep 0.1; done"])?;
    for id in [engine.first.clone(), engine.second.clone()] {
        equal!(engine.state(&id)?.0, "CONTAINER_RUNNING", "the state");
    }
    Ok(())
}

fn sharing(engine: &mut Cri) -> Outcome {
    let (first, second) = (engine.first.clone(), engine.second.clone());
    for (namespace, shared) in [("net", true), ("ipc", true), ("uts", true), ("pid", true), ("mnt", false)] {
        let script = format!("readlink /proc/self/ns/{namespace}");
        let same = engine.exec(&first, &script)? == engine.exec(&second, &script)?;
        ensure!(same == shared, "namespace {namespace}: shared is {same}");
    }
    equal!(engine.exec(&second, "hostname")?.1, "pod-host\n", "the host name");
    Ok(())
}

fn exec_sync(engine: &mut Cri) -> Outcome {
    let id = engine.first.clone();
    equal!(engine.exec(&id, "echo from exec; exit 9")?, (9, "from exec\n".to_string()), "status and output");
    Ok(())
}

fn exec_timeout(engine: &mut Cri) -> Outcome {
    let request = format!(r#"container_id: {:?} cmd: "sleep" cmd: "50" timeout: 1"#, engine.first);
    match engine.runtime("ExecSync", &request) {
        Err(Stop::Fail(message)) if message.contains("timeout") => Ok(()),
        Err(stop) => Err(stop),
        Ok(_) => fail("it ended well"),
    }
}

fn logs(engine: &mut Cri) -> Outcome {
    let text = fs::read_to_string(engine.session.home.join("logs/first.log"))?;
    ensure!(text.lines().any(|line| line.ends_with("stdout F first is up")), "the log is: {text}");
    Ok(())
}

fn port(engine: &mut Cri) -> Outcome {
    let status = engine.runtime("PodSandboxStatus", &format!("pod_sandbox_id: {:?}", engine.pod))?;
    let ip = status.field("ip");
    let Ok(address) = format!("{ip}:{PORT}").parse::<SocketAddr>() else {
        return fail(format!("the pod's address is {ip:?}"));
    };
    let mut heard = String::new();
    let answered = eventually(LIMIT, || {
        heard.clear();
        let Ok(mut stream) = TcpStream::connect_timeout(&address, Duration::from_secs(5)) else {
            return Ok(false);
        };
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        Ok(stream.read_to_string(&mut heard).is_ok() && heard == "from the pod\n")
    })?;
    ensure!(answered, "{address} says {heard:?}");
    Ok(())
}

fn update(engine: &mut Cri) -> Outcome {
    requires_controller("memory")?;
    let id = engine.first.clone();
    let request = format!("container_id: {id:?} linux {{ memory_limit_in_bytes: {} }}", 64 << 20);
    engine.runtime("UpdateContainerResources", &request)?;
    equal!(engine.exec(&id, "cat /sys/fs/cgroup/memory.max")?.1, format!("{}\n", 64 << 20), "memory.max");
    Ok(())
}

fn missing(engine: &mut Cri) -> Outcome {
    match engine.start_container("missing", &["/no/such/program"]) {
        Err(Stop::Fail(message)) if message.to_lowercase().contains("no such file") => Ok(()),
        Err(stop) => Err(stop),
        Ok(id) => fail(format!("container {id} runs")),
    }
}

fn stop(engine: &mut Cri) -> Outcome {
    let id = engine.second.clone();
    engine.runtime("StopContainer", &format!("container_id: {id:?} timeout: 20"))?;
    equal!(engine.state(&id)?, ("CONTAINER_EXITED".to_string(), "3".to_string()), "the state");
    engine.runtime("RemoveContainer", &format!("container_id: {id:?}"))?;
    ensure!(engine.state(&id).is_err(), "the container is still known");
    Ok(())
}

fn remove(engine: &mut Cri) -> Outcome {
    let request = format!("pod_sandbox_id: {:?}", engine.pod);
    engine.runtime("StopPodSandbox", &request)?;
    engine.runtime("RemovePodSandbox", &request)?;
    let state = Path::new("/run/containerd/runc/k8s.io");
    let left = fs::read_dir(state).map(|entries| entries.count()).unwrap_or(0);
    equal!(left, 0, "containers that the runtime remembers");
    Ok(())
}
