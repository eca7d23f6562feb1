//! curl uploads, waits for a 100, keeps its connection, and is told what the proxy does not speak.

#![allow(clippy::unwrap_used, reason = "a helper of a test is a test")]

mod scene;

use std::{path::Path, process::Stdio};

use http::{HeaderValue, Response};
use http_body_util::BodyExt;
use scene::{
    Scene, bundle,
    program::{curl, ran},
    route,
};
use serde_json::json;
use tempfile::NamedTempFile;
use testbed::{
    https::{Content, Origin, RawOrigin, Script, Then, full},
    pki::Ca,
    tcp::pattern,
};

#[tokio::test]
async fn an_upload_that_waits_is_continued_once_and_arrives_whole() {
    let (origin, scene) = echo().await;
    let (content, file) = content(300_000);
    let arguments = ["--verbose", "--expect100-timeout", "30", "--header", "Expect: 100-continue"];
    let upload = ["--upload-file", path(&file), &format!("http://{}/a/x", scene.addr)];
    let answer = ran(curl(&[&arguments[..], &upload].concat())).await.well();
    assert!(answer.out == content);
    assert_eq!(answer.err.matches("< HTTP/1.1 100 Continue").count(), 1, "{}", answer.err);
    let request = origin.take().remove(0);
    assert!(request.body_complete && request.body_bytes == 300_000);
    assert_eq!(request.fields["content-length"], "300000");
    assert!(!request.fields.contains_key("expect"));
}

#[tokio::test]
async fn an_upload_of_unknown_length_comes_from_a_pipe() {
    let (origin, scene) = echo().await;
    let (content, file) = content(20_000_000);
    let mut cat = std::process::Command::new("cat").arg(path(&file)).stdout(Stdio::piped()).spawn().unwrap();
    let mut upload = curl(&["--upload-file", "-", &format!("http://{}/a/x", scene.addr)]);
    upload.stdin(cat.stdout.take().unwrap());
    let answer = ran(upload).await.well();
    assert!(cat.wait().unwrap().success());
    assert!(answer.out == content);
    let request = origin.take().remove(0);
    assert!(request.body_complete && request.body_bytes == 20_000_000);
    assert_eq!(request.fields["transfer-encoding"], "chunked");
    assert!(!request.fields.contains_key("content-length"));
}

#[tokio::test]
async fn what_is_refused_is_not_sent_on() {
    let (origin, scene) = echo().await;
    let (_, file) = content(300_000);
    let url = format!("http://{}/a/x", scene.addr);
    for (what, arguments, status, word) in [
        (
            "an expectation nobody knows",
            &["--header", "Expect: 200-ok", "-T", path(&file)][..],
            "417",
            "expectation",
        ),
        ("HTTP/1.0", &["--http1.0"], "505", "version"),
        ("HTTP/1.0 with content", &["--http1.0", "-T", path(&file)], "505", "version"),
        ("a method of its own", &["--request", "PURGE"], "405", "method_not_allowed"),
        ("a name that is not the proxy's", &["--header", "Host: api.example.com"], "421", "misdirected"),
    ] {
        let told = ["--write-out", "\n%{http_code} %header{x-cred-proxy}", &url];
        let answer = ran(curl(&[arguments, &told].concat())).await.well();
        assert!(answer.text().ends_with(&format!("\n{status} {word}")), "{what}: {}", answer.text());
        assert!(answer.text().contains(&format!("\"reason\":\"{word}\"")), "{what}: {}", answer.text());
    }
    // The preface of HTTP/2 is no request: the connection ends, and the next one is served.
    let refused = ran(curl(&["--http2-prior-knowledge", &url])).await;
    assert!(!refused.status.success() && refused.out.is_empty() && !refused.err.is_empty(), "{refused:?}");
    assert_eq!(origin.connections(), 0);
    ran(curl(&["--fail", &url])).await.well();
}

#[tokio::test]
async fn an_offer_of_http2_is_not_taken_up_nor_passed_on() {
    let (origin, scene) = echo().await;
    let told = ["--http2", "--write-out", "%{http_version}", &format!("http://{}/a/x", scene.addr)];
    assert_eq!(ran(curl(&told)).await.well().text(), "1.1");
    let request = origin.take().remove(0);
    for name in ["upgrade", "http2-settings", "connection"] {
        assert!(!request.fields.contains_key(name), "{name}");
    }
}

#[tokio::test]
async fn an_early_refusal_of_the_upstreams_stops_the_upload() {
    let ca = Ca::new();
    let (_, file) = content(50_000_000);
    for (status, reason) in [(413, "Payload Too Large"), (401, "Unauthorized")] {
        let answer = format!("HTTP/1.1 {status} {reason}\r\nContent-Length: 3\r\n\r\nno!");
        let script = Script { bytes: answer.into(), then: Then::Stall };
        let origin = RawOrigin::start(&ca.server(&["127.0.0.1"]), script).await;
        let scene = Scene::start(&bundle(&[route("/a/", origin.addr(), &json!({}))], &ca), &[]);
        for expect in ["Expect:", "Expect: 100-continue"] {
            let told = ["--write-out", "\n%{http_code} %{size_upload}", "--header", expect];
            let upload = ["--upload-file", path(&file), &format!("http://{}/a/x", scene.addr)];
            let answer = ran(curl(&[&told[..], &upload].concat())).await.well().text();
            let sent = answer.strip_prefix(&format!("no!\n{status} ")).expect(&answer);
            assert!(sent.parse::<u64>().unwrap() < 50_000_000, "{expect} {answer}");
        }
        assert_eq!(origin.requests().len(), 2);
    }
}

#[tokio::test]
async fn one_connection_serves_two_requests_and_a_head_has_no_content() {
    let ca = Ca::new();
    let origin = Origin::answering(&ca.server(&["127.0.0.1"]), |_| async {
        let mut answer = Response::new(full("twelve bytes"));
        answer.headers_mut().insert("etag", HeaderValue::from_static("\"e\""));
        answer
    })
    .await;
    let scene = Scene::start(&bundle(&[route("/a/", origin.addr(), &json!({}))], &ca), &[]);
    let (first, second) = (format!("http://{}/a/x", scene.addr), format!("http://{}/a/y?q=%20", scene.addr));
    let twice = ran(curl(&["--write-out", " %{num_connects}\n", &first, &second])).await.well();
    assert_eq!(twice.text(), "twelve bytes 1\ntwelve bytes 0\n");
    let targets: Vec<_> = origin.take().into_iter().map(|request| request.target).collect();
    assert_eq!((targets, origin.connections()), (vec!["/x".to_owned(), "/y?q=%20".to_owned()], 1));

    let head = ran(curl(&["--head", &first])).await.well().text().to_lowercase();
    assert!(head.starts_with("http/1.1 200 ok\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    assert!(head.contains("\r\ncontent-length: 12\r\n") && head.contains("\r\netag: \"e\"\r\n"), "{head}");
}

/// An origin that sends content back, behind a proxy with one route, `/a/`.
async fn echo() -> (Origin, Scene) {
    let ca = Ca::new();
    let origin = Origin::answering(&ca.server(&["127.0.0.1"]), |request: http::Request<Content>| async {
        Response::new(full(request.into_body().collect().await.unwrap().to_bytes()))
    })
    .await;
    let scene = Scene::start(&bundle(&[route("/a/", origin.addr(), &json!({}))], &ca), &[]);
    (origin, scene)
}

fn content(length: usize) -> (Vec<u8>, NamedTempFile) {
    let (content, file) = (pattern(length), NamedTempFile::new().unwrap());
    std::fs::write(file.path(), &content).unwrap();
    (content, file)
}

fn path(file: &NamedTempFile) -> &str {
    Path::to_str(file.path()).unwrap()
}
