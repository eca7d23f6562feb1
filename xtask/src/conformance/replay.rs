//! One case against one server: what it answered, what its origin saw, and whether it then still works.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::corpus::{Case, Expected, Input, Part};
use super::origin::Arrived;
use super::servers::{Kind, Server, TOKEN};

/// The result of a case.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// Each step that was sent.
    pub steps: Vec<Step>,
    /// What the origin saw.
    pub arrived: Vec<Arrived>,
    /// What should not have been: a token at the client, a request too many, a socket to another host.
    pub broken: Vec<String>,
}

/// The answer to a step.
#[derive(Debug, Clone, Default)]
pub struct Step {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Whether the server closed.
    pub closed: bool,
}

impl Step {
    /// The statuses in it, interim ones included.
    pub fn statuses(&self) -> Vec<u16> {
        let text = String::from_utf8_lossy(&self.bytes);
        let status = |line: &str| {
            let rest = line.strip_prefix("HTTP/1.")?;
            rest.get(2..5)?.parse().ok()
        };
        // A status line may stand right behind the content before it.
        let at = text.match_indices("HTTP/1.").filter_map(|(at, _)| status(&text[at..]));
        at.collect()
    }

    /// The first final status, else the first.
    pub fn status(&self) -> Option<u16> {
        let all = self.statuses();
        all.iter().copied().find(|status| *status >= 200).or(all.first().copied())
    }

    /// Whether its first answer has this field.
    pub fn has_field(&self, name: &str) -> bool {
        let head = String::from_utf8_lossy(&self.bytes).into_owned();
        let head = head.split("\r\n\r\n").next().unwrap_or_default();
        head.lines()
            .skip(1)
            .any(|line| line.split(':').next().is_some_and(|own| own.eq_ignore_ascii_case(name)))
    }

    /// What follows its first head.
    pub fn body(&self) -> &[u8] {
        let end = self.bytes.windows(4).position(|window| window == b"\r\n\r\n");
        end.map_or(&[], |end| &self.bytes[end + 4..])
    }
}

/// Replays a case, then asks whether the next clean request works.
pub async fn replay(case: &Case, server: &Server) -> Outcome {
    server.origin.take();
    let mut outcome = Outcome::default();
    match &case.input {
        Input::Request(steps) => {
            let give_host = !matches!(case.expected, Expected::Words(_));
            requests(steps, give_host, server, &mut outcome).await;
        }
        Input::Response(bytes) => {
            server.origin.answer_with(Some(bytes.clone()));
            let get = Part { bytes: b"GET /x HTTP/1.1\r\nHost: {{HOST}}\r\n\r\n".to_vec(), delay: 0 };
            requests(&[vec![get]], false, server, &mut outcome).await;
            server.origin.answer_with(None);
        }
    }
    outcome.broken = broken(&outcome, server);
    let get = format!(
        "GET {}/clean HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
        server.kind.prefix(),
        server.addr
    );
    let mut clean = Outcome::default();
    let part = Part { bytes: get.into_bytes(), delay: 0 };
    exchange(&[vec![part]], server, &mut clean).await;
    if clean.steps.first().and_then(Step::status) != Some(200) {
        outcome.broken.push("the next clean request fails".to_owned());
    }
    outcome
}

async fn requests(steps: &[Vec<Part>], give_host: bool, server: &Server, outcome: &mut Outcome) {
    let fitted: Vec<Vec<Part>> = steps
        .iter()
        .map(|parts| {
            let part = |(n, part): (usize, &Part)| Part {
                bytes: if n == 0 { fit(&part.bytes, give_host, server) } else { filled(&part.bytes, server) },
                delay: part.delay,
            };
            parts.iter().enumerate().map(part).collect()
        })
        .collect();
    exchange(&fitted, server, outcome).await;
    // What is still on its way to the origin is seen, too.
    tokio::time::sleep(Duration::from_millis(30)).await;
    outcome.arrived = server.origin.take();
}

async fn exchange(steps: &[Vec<Part>], server: &Server, outcome: &mut Outcome) {
    let Ok(mut stream) = TcpStream::connect(server.addr).await else { return };
    let _ = stream.set_nodelay(true);
    for parts in steps {
        for part in parts {
            let sent = timeout(Duration::from_secs(3), stream.write_all(&part.bytes)).await;
            tokio::time::sleep(Duration::from_millis(part.delay.min(1500))).await;
            if !matches!(sent, Ok(Ok(()))) {
                break;
            }
        }
        let step = read(&mut stream).await;
        let closed = step.closed;
        outcome.steps.push(step);
        if closed {
            return;
        }
    }
}

/// Reads until the server closes, or has answered and is quiet, or stays silent.
async fn read(stream: &mut TcpStream) -> Step {
    let mut step = Step::default();
    let end = Instant::now() + Duration::from_secs(6);
    while Instant::now() < end {
        let patience = if step.bytes.is_empty() { SILENCE } else { QUIET };
        match timeout(patience, stream.read_buf(&mut step.bytes)).await {
            Ok(Ok(1..)) => {}
            Ok(_) => {
                step.closed = true;
                break;
            }
            Err(_) => break,
        }
    }
    step
}

/// Placeholders filled in, our route's prefix before the path, and a Host where there is none
/// if `give_host`: for that alone every server would refuse llhttp's requests.
fn fit(bytes: &[u8], give_host: bool, server: &Server) -> Vec<u8> {
    let mut bytes = filled(bytes, server);
    let start = bytes.iter().take_while(|b| matches!(b, b'\r' | b'\n')).count();
    let Some(space) = bytes[start..].iter().position(|b| *b == b' ').map(|at| start + at + 1) else {
        return bytes;
    };
    let target = &bytes[space..];
    let authority = target.strip_prefix(b"http://").map(|rest| {
        let end = rest.iter().position(|b| matches!(b, b'/' | b'?' | b' ' | b'\r' | b'\n'));
        (7 + end.unwrap_or(rest.len()), end.is_some_and(|end| rest[end] != b'/'))
    });
    let prefix = server.kind.prefix().as_bytes();
    match authority {
        Some((_, true)) | None if !target.starts_with(b"/") => {}
        Some((at, false)) => drop(bytes.splice(space + at..space + at, prefix.iter().copied())),
        _ => drop(bytes.splice(space..space, prefix.iter().copied())),
    }
    let lower = bytes.to_ascii_lowercase();
    let has_host =
        lower.windows(6).any(|window| window == b"\nhost:" || window == b"\rhost:" || window == b" host:");
    let line =
        bytes[start..].windows(11).position(|w| w.starts_with(b" HTTP/1.1\r\n")).map(|at| start + at + 11);
    if let (true, false, Some(line)) = (give_host, has_host, line) {
        let host = format!("Host: {}\r\n", server.addr);
        bytes.splice(line..line, host.into_bytes());
    }
    bytes
}

fn filled(bytes: &[u8], server: &Server) -> Vec<u8> {
    let port = server.addr.port().to_string();
    let values =
        [("{{HOST}}", server.addr.to_string()), ("{{HOSTNAME}}", "127.0.0.1".to_owned()), ("{{PORT}}", port)];
    let mut bytes = bytes.to_vec();
    for (name, value) in values {
        while let Some(at) = bytes.windows(name.len()).position(|window| window == name.as_bytes()) {
            bytes.splice(at..at + name.len(), value.bytes());
        }
    }
    bytes
}

/// Whatever is answered, and however: none of these.
fn broken(outcome: &Outcome, server: &Server) -> Vec<String> {
    let mut broken = Vec::new();
    let seen: Vec<u8> = outcome.steps.iter().flat_map(|step| step.bytes.clone()).collect();
    let seen = String::from_utf8_lossy(&seen).into_owned();
    if server.kind == Kind::Ours {
        let forms = [TOKEN, "tok-conformance", "dG9rLWNvbmZvcm1hbmNl"];
        broken.extend(
            forms.iter().find(|form| seen.contains(*form)).map(|_| "the token reached the client".to_owned()),
        );
        let one = |arrived: &&Arrived| {
            arrived.fields("authorization").collect::<Vec<_>>() == [format!("Bearer {TOKEN}")]
        };
        if !outcome.arrived.iter().all(|arrived| one(&arrived)) {
            broken.push("a request reached the origin without exactly our credential".to_owned());
        }
        broken.extend(
            server.foreign_sockets().into_iter().map(|socket| format!("a socket to another host: {socket}")),
        );
    }
    let answers = outcome.steps.iter().flat_map(Step::statuses).filter(|status| *status >= 200).count();
    let complete = outcome.arrived.iter().filter(|arrived| arrived.complete).count();
    if complete > answers || outcome.arrived.len() > answers + 1 {
        broken.push(format!("{} requests at the origin for {answers} answers", outcome.arrived.len()));
    }
    broken.extend(
        outcome
            .arrived
            .iter()
            .filter_map(|arrived| arrived.fault)
            .map(|fault| format!("the origin was sent {fault}")),
    );
    broken
}

/// Behind an answer: long enough for another one, or for the end of the connection.
const QUIET: Duration = Duration::from_millis(350);

/// Without an answer: long enough on a busy machine.
const SILENCE: Duration = Duration::from_secs(2);
