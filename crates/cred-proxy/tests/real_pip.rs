//! pip downloads from an index that wants a token, which pip never holds.

#![allow(clippy::unwrap_used, reason = "a helper of a test is a test")]

mod scene;

use http::{Response, StatusCode};
use scene::{
    Scene, TOKEN, bundle,
    program::{python_program, ran},
    route,
};
use serde_json::json;
use tempfile::TempDir;
use testbed::{
    https::{Content, Origin, full, text},
    pki::Ca,
};

#[tokio::test]
async fn a_package_comes_from_an_index_behind_a_header() {
    let (ca, folder) = (Ca::new(), TempDir::new().unwrap());
    let wheel = wheel(&folder).await;
    let answer = wheel.clone();
    let origin = Origin::answering(&ca.server(&["127.0.0.1"]), move |request: http::Request<Content>| {
        let wheel = answer.clone();
        async move {
            if request.headers().get("private-token").is_none_or(|token| token != TOKEN) {
                return text(StatusCode::UNAUTHORIZED, "who are you?");
            }
            match request.uri().path() {
                "/simple/demo/" => {
                    let page = format!("<!DOCTYPE html><a href=\"../../files/{WHEEL}\">{WHEEL}</a>");
                    Response::builder().header("content-type", "text/html").body(full(page)).unwrap()
                }
                path if path == format!("/files/{WHEEL}") => Response::new(full(wheel)),
                _ => text(StatusCode::NOT_FOUND, ""),
            }
        }
    })
    .await;
    let header = json!({"auth": {"scheme": "header", "name": "private-token"}});
    let scene = Scene::start(&bundle(&[route("/pypi/", origin.addr(), &header)], &ca), &[]);
    let mut pip = python_program(folder.path());
    pip.args(["-m", "pip", "--disable-pip-version-check", "--no-cache-dir", "download", "--no-deps", "demo"]);
    pip.env("PIP_INDEX_URL", format!("http://{}/pypi/simple/", scene.addr));
    pip.current_dir(folder.path());
    ran(pip).await.well();
    assert!(std::fs::read(folder.path().join(WHEEL)).unwrap() == wheel);
    let targets: Vec<String> = origin.take().into_iter().map(|request| request.target).collect();
    assert_eq!(targets, ["/simple/demo/".to_owned(), format!("/files/{WHEEL}")]);
}

/// The smallest package that pip takes.
async fn wheel(folder: &TempDir) -> Vec<u8> {
    let made = folder.path().join("made");
    let about = made.join("demo-1.0.dist-info");
    std::fs::create_dir_all(&about).unwrap();
    std::fs::write(made.join("demo.py"), "").unwrap();
    std::fs::write(about.join("METADATA"), "Metadata-Version: 2.1\nName: demo\nVersion: 1.0\n").unwrap();
    std::fs::write(about.join("WHEEL"), "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        .unwrap();
    std::fs::write(about.join("RECORD"), "").unwrap();
    let mut zip = python_program(&made);
    zip.args(["-m", "zipfile", "-c", WHEEL, "demo.py", "demo-1.0.dist-info"]);
    ran(zip).await.well();
    std::fs::read(made.join(WHEEL)).unwrap()
}

const WHEEL: &str = "demo-1.0-py3-none-any.whl";
