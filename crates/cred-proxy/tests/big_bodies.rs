//! A body of any size passes through a few kilobytes of memory, and arrives as it was sent.
//!
//! The size is 1 GiB each way for the release build that `cargo xtask test` names in
//! `CLAUDE_BOTTLE_SIDECAR_DIR`, and 64 MiB for the debug build of a bare `cargo test`.
//! `CRED_PROXY_TEST_BODY` (bytes) sets another.

#![allow(clippy::unwrap_used, reason = "a helper of a test is a test")]

mod scene;

use std::{io::Read, path::PathBuf, sync::LazyLock};

use bytes::Bytes;
use http::{Method, Response, StatusCode};
use http_body_util::BodyExt;
use scene::{SOON, Scene, bundle, command, command_of, get, route};
use serde_json::json;
use testbed::{
    https::{AnswerBody, Content, Origin, channel, text},
    pki::Ca,
};
use tokio::{io::AsyncReadExt, time::timeout};

#[tokio::test]
async fn memory_stays_flat_and_every_byte_is_in_its_place() {
    let (build, size) = build_and_size();
    let ca = Ca::new();
    let origin = Origin::answering(&ca.server(&["127.0.0.1"]), move |request| answer(request, size)).await;
    for redact in [true, false] {
        let stdin = bundle(&[route("/a/", origin.addr(), &json!({"redact": redact}))], &ca);
        let args =
            ["--stdin-bundle", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--max-body", "100GiB"];
        let mut proxy = build.as_ref().map_or_else(|| command(&args), |binary| command_of(binary, &args));
        proxy.env("RUST_LOG", "info");
        let scene = Scene::spawn(proxy, &format!("{stdin}\n"));
        assert_eq!(scene.get("/a/x?idle").await.status, 200);
        let idle = peak(&scene);
        upload(&scene, size).await;
        let up = peak(&scene);
        download(&scene, size).await;
        let down = peak(&scene);
        println!("redact {redact}: idle {idle} KiB, after {size} bytes up {up} KiB, and down {down} KiB");
        assert!(down - idle <= MOST_KIB, "redact {redact}: {idle} KiB idle, {up} up, {down} down");
    }
}

/// Counts what comes, and sends as much.
async fn answer(request: http::Request<Content>, size: u64) -> Response<AnswerBody> {
    if request.method() == Method::PUT {
        let (mut incoming, mut place) = (request.into_body(), Place::default());
        while let Some(frame) = incoming.frame().await {
            if !place.holds(&frame.unwrap().into_data().unwrap()) {
                return text(StatusCode::CONFLICT, &format!("wrong after {} bytes", place.at));
            }
        }
        return text(StatusCode::OK, &place.at.to_string());
    }
    if request.uri().query().is_some() {
        return text(StatusCode::OK, "ok");
    }
    let (send, content) = channel();
    tokio::spawn(async move {
        for piece in pieces(size) {
            if send.send(Ok(piece)).await.is_err() {
                return;
            }
        }
    });
    let mut answer = Response::new(content);
    answer.headers_mut().insert("content-length", size.into());
    answer
}

async fn upload(scene: &Scene, size: u64) {
    let mut client = scene.client().await;
    client.send(format!("PUT /a/up HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size}\r\n\r\n")).await;
    for piece in pieces(size) {
        client.send(piece).await;
    }
    let answer = client.answer().await.unwrap();
    assert_eq!((answer.status, answer.text()), (200, size.to_string()));
}

async fn download(scene: &Scene, size: u64) {
    let mut client = scene.client().await;
    client.send(get("/a/down")).await;
    let mut stream = client.into_stream();
    let (mut buffer, mut head, mut place) = (vec![0; 1 << 18], Vec::new(), Place::default());
    while place.at < size {
        let length = timeout(SOON, stream.read(&mut buffer)).await.unwrap().unwrap();
        assert!(length > 0, "cut after {} bytes", place.at);
        if place.at > 0 {
            assert!(place.holds(&buffer[..length]), "wrong after {} bytes", place.at);
            continue;
        }
        head.extend(&buffer[..length]);
        if let Some(end) = head.windows(4).position(|window| window == b"\r\n\r\n") {
            let text = String::from_utf8_lossy(&head[..end]).into_owned();
            assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
            assert!(text.to_lowercase().contains(&format!("\r\ncontent-length: {size}")), "{text}");
            assert!(place.holds(&head[end + 4..]));
        }
    }
    assert_eq!(place.at, size);
}

/// How far content has come that repeats every [`PERIOD`] bytes.
#[derive(Default)]
struct Place {
    at: u64,
}

impl Place {
    /// Whether this is what comes next.
    fn holds(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            let from = usize::try_from(self.at % PERIOD as u64).unwrap();
            let length = bytes.len().min(PERIOD - from);
            if bytes[..length] != PATTERN[from..from + length] {
                return false;
            }
            self.at += length as u64;
            bytes = &bytes[length..];
        }
        true
    }
}

/// The whole content, a period at a time.
fn pieces(size: u64) -> impl Iterator<Item = Bytes> {
    let period = PERIOD as u64;
    (0..size.div_ceil(period)).map(move |n| {
        let length = usize::try_from((size - n * period).min(period)).unwrap();
        Bytes::from_static(&PATTERN[..length])
    })
}

/// Which build, if not the one beside this test, and how many bytes.
fn build_and_size() -> (Option<PathBuf>, u64) {
    let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let build = variable("CLAUDE_BOTTLE_SIDECAR_DIR").map(|folder| PathBuf::from(folder).join("cred-proxy"));
    let usual = if build.is_some() { 1 << 30 } else { 64 << 20 };
    let size = variable("CRED_PROXY_TEST_BODY").map_or(usual, |bytes| bytes.parse().unwrap());
    (build, size)
}

/// The most memory that the proxy ever had, in KiB.
fn peak(scene: &Scene) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", scene.pid())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    peak.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Random bytes, so that a piece at another place shows: not one of its lengths divides a prime.
static PATTERN: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut bytes = vec![0; PERIOD];
    std::fs::File::open("/dev/urandom").unwrap().read_exact(&mut bytes).unwrap();
    bytes
});

const PERIOD: usize = 131_071;

/// What a body may cost over an idle proxy.
const MOST_KIB: u64 = 8 * 1024;
