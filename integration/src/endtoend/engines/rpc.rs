//! A call of Kubernetes' container runtime interface, without a client for it, which Debian lacks: protoc
//! turns text into the request and the answer into text, curl carries them (gRPC is a POST over HTTP/2
//! with five bytes before the message and the status in the trailers).

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;

use crate::case::{Outcome, Stop, fail};

use super::session::Session;

const INTERFACE: &str = include_str!("../../../data/cri/runtime.proto");

pub struct Client {
    socket: PathBuf,
    place: PathBuf,
}

/// The answer, in protobuf's text format.
pub struct Answer(String);

impl Client {
    pub fn new(session: &Session, socket: PathBuf) -> Outcome<Client> {
        let place = session.home.join("rpc");
        fs::create_dir(&place)?;
        fs::write(place.join("runtime.proto"), INTERFACE)?;
        Ok(Client { socket, place })
    }

    /// Calls `method` of `service` (`Runtime` or `Image`) with a request in text format.
    pub fn call(&self, session: &mut Session, service: &str, method: &str, request: &str) -> Outcome<Answer> {
        let message = self.protoc(session, &format!("--encode=runtime.v1.{method}Request"), request.as_bytes())?;
        let [sent, received, headers] = ["sent", "received", "headers"].map(|name| self.place.join(name));
        let length = u32::try_from(message.len()).map_err(|error| Stop::Fail(error.to_string()))?;
        fs::write(&sent, [&[0][..], &length.to_be_bytes(), &message].concat())?;
        let url = format!("http://cri/runtime.v1.{service}Service/{method}");
        let words = [
            "curl",
            "--silent",
            "--show-error",
            "--http2-prior-knowledge",
            "--max-time",
            "50",
            "--unix-socket",
            &self.socket.display().to_string(),
            "--header",
            "content-type: application/grpc",
            "--header",
            "te: trailers",
            "--data-binary",
            &format!("@{}", sent.display()),
            "--output",
            &received.display().to_string(),
            "--dump-header",
            &headers.display().to_string(),
            &url,
        ];
        // A call that fails has no body, and then curl writes no file.
        fs::write(&received, "")?;
        session.program(&words).go()?.ok()?;
        let said = fs::read_to_string(&headers)?;
        if !said.lines().any(|line| line.trim() == "grpc-status: 0") {
            let message = said.lines().find_map(|line| line.strip_prefix("grpc-message: ")).unwrap_or(&said);
            return fail(format!("{method}: {}", message.replace("%22", "\"").replace("%0A", " ").trim()));
        }
        let answer = fs::read(&received)?;
        let text =
            self.protoc(session, &format!("--decode=runtime.v1.{method}Response"), answer.get(5..).unwrap_or(&[]))?;
        Ok(Answer(String::from_utf8(text)?))
    }

    fn protoc(&self, session: &mut Session, mode: &str, input: &[u8]) -> Outcome<Vec<u8>> {
        let file = self.place.join("input");
        fs::write(&file, input)?;
        let path = format!("--proto_path={}", self.place.display());
        let mut call = session.program(&["protoc", &path, mode, "runtime.proto"]);
        // Messages are bytes, and a call's outputs are kept as text.
        let output = call.command.stdin(Stdio::from(fs::File::open(&file)?)).output()?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        fail(format!("protoc {mode}: {}", String::from_utf8_lossy(&output.stderr)))
    }
}

impl Answer {
    /// The first field of this name, at any depth; strings without quotes and escapes. A field that has
    /// its default value is not sent: that reads as the empty string.
    pub fn field(&self, name: &str) -> String {
        let found = self.0.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(": "));
        let text = found.unwrap_or_default().trim_matches('"');
        text.replace("\\n", "\n").replace("\\\"", "\"").replace("\\'", "'")
    }
}
