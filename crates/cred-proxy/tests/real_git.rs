//! git clones, pushes and fetches over smart HTTP, and never holds the credential.

#![allow(clippy::unwrap_used, reason = "a helper of a test is a test")]

mod scene;

use std::{io::Read, path::PathBuf};

use http::{HeaderValue, StatusCode};
use scene::{
    SOON, Scene, assert_no_token, bundle, get,
    program::{Ran, Running, program, ran},
    route,
};
use serde_json::json;
use tempfile::TempDir;
use testbed::{
    cgi::Cgi,
    eventually,
    https::{Content, Origin, Recorded, text},
    pki::Ca,
    raw,
};
use tokio::{process::Command, sync::Semaphore};

#[tokio::test]
async fn a_hundred_megabytes_are_pushed_in_chunks_and_fetched_again() {
    let host = GitHost::start().await;
    let scene = host.proxied(&[]);
    let here = Home::new();
    let url = format!("http://{}/git/project.git", scene.addr);
    // Random bytes cannot be compressed: git need not try.
    here.git(&["clone", "--quiet", "-c", "core.compression=0", &url, "here"]).await.well();
    let mut random = std::fs::File::open("/dev/urandom").unwrap().take(100_000_000);
    let mut big = std::fs::File::create(here.path("here/big")).unwrap();
    std::io::copy(&mut random, &mut big).unwrap();
    here.git(&["-C", "here", "add", "big"]).await.well();
    here.git(&["-C", "here", "commit", "--quiet", "-m", "big"]).await.well();
    here.git(&["-C", "here", "push", "--quiet", "origin", "HEAD:main"]).await.well();
    // More than http.postBuffer: of a length that git does not know beforehand.
    let pushed = host.origin.take();
    let pushed = pushed.iter().max_by_key(|request| request.body_bytes).unwrap();
    assert!(pushed.target.ends_with("/project.git/git-receive-pack"), "{}", pushed.target);
    assert!(pushed.body_bytes > 100_000_000 && pushed.body_complete);
    assert_eq!(pushed.fields["transfer-encoding"], "chunked");

    let there = Home::new();
    there.git(&["clone", "--quiet", &url, "there"]).await.well();
    for home in [(&here, "here"), (&there, "there")].map(|(home, name)| home.path(name)) {
        let fsck = here.git(&["-C", home.to_str().unwrap(), "fsck", "--full", "--strict"]).await.well();
        assert_eq!(fsck.text(), "");
    }
    let hash = ["-C", "here", "rev-parse", "HEAD", "HEAD:big"];
    let (ours, theirs) =
        (here.git(&hash).await.well(), there.git(&["-C", "there", hash[2], hash[3], hash[4]]).await.well());
    assert_eq!(ours.text(), theirs.text());
    assert!(std::fs::read(here.path("here/big")).unwrap() == std::fs::read(there.path("there/big")).unwrap());
    for home in [&here, &there] {
        let trace = home.trace();
        assert!(trace.contains("Send header: POST /git/project.git/git-"), "{trace}");
        assert!(!trace.to_lowercase().contains("authorization"), "{trace}");
        assert_no_token(&trace);
    }
}

#[tokio::test]
async fn the_hosts_own_name_is_used_through_insteadof() {
    let host = GitHost::start().await;
    let scene = host.proxied(&[]);
    let home = Home::new();
    let base = format!("url.http://{}/git/.insteadOf", scene.addr);
    let project = format!("{NAME}project.git");
    home.git(&["config", "--global", &base, NAME]).await.well();
    home.git(&["clone", "--quiet", &project, "here"]).await.well();
    home.commit("here", "first").await;
    home.git(&["-C", "here", "push", "--quiet", "origin", "HEAD:main"]).await.well();
    // In an agent's environment the same stands in variables.
    let (other, variables) = (Home::new(), [("COUNT", "1"), ("KEY_0", &base), ("VALUE_0", NAME)]);
    let mut clone = other.command(&["clone", "--quiet", &project, "again"]);
    clone.envs(variables.map(|(name, value)| (format!("GIT_CONFIG_{name}"), value)));
    ran(clone).await.well();
    assert_eq!(std::fs::read_to_string(other.path("again/first")).unwrap(), "first");
    // What stands in the checkout is the name that the user wrote.
    for config in [home.path("here/.git/config"), other.path("again/.git/config")] {
        let config = std::fs::read_to_string(config).unwrap();
        assert!(config.contains(&format!("url = {project}\n")), "{config}");
    }
}

#[tokio::test]
async fn who_may_only_fetch_cannot_push() {
    let host = GitHost::start().await;
    let scene = host.proxied(&[]);
    let home = Home::new();
    let url = format!("http://{}/reader/project.git", scene.addr);
    home.git(&["clone", "--quiet", &url, "here"]).await.well();
    home.commit("here", "first").await;
    let push = home.git(&["-C", "here", "push", "--quiet", "origin", "HEAD:main"]).await;
    assert!(!push.status.success() && push.err.contains("HTTP 403"), "{}", push.err);
    assert!(
        host.origin
            .requests()
            .iter()
            .all(|request| !request.target.ends_with("git-receive-pack") || request.method == "GET")
    );
    assert_eq!(host.tip().await, "");
}

#[tokio::test]
async fn without_the_proxy_the_host_lets_nobody_in() {
    let host = GitHost::start().await;
    let home = Home::new();
    let url = format!("https://{}/project.git", host.origin.addr());
    let ran = home.git(&["-c", "http.sslVerify=false", "clone", &url, "here"]).await;
    assert!(!ran.status.success() && ran.err.contains("could not read Username"), "{}", ran.err);
}

#[tokio::test]
async fn a_drain_lets_a_push_finish() {
    let host = GitHost::start().await;
    let mut scene = host.proxied(&[]);
    let (home, push) = host.push_that_waits(&scene).await;
    scene.signal("TERM");
    eventually(SOON, || async { raw::ask(scene.admin, get("/readyz")).await.is_ok_and(|a| a.status == 503) })
        .await;
    host.gate.add_permits(100);
    push.ended().await.well();
    assert!(scene.exit().await.success());
    let tip = home.git(&["-C", "here", "rev-parse", "HEAD"]).await.well().text();
    assert_eq!(host.tip().await, tip);
}

#[tokio::test]
async fn a_second_signal_cuts_a_push() {
    let host = GitHost::start().await;
    let mut scene = host.proxied(&["--drain-timeout", "10m"]);
    let (_home, push) = host.push_that_waits(&scene).await;
    scene.signal("TERM");
    eventually(SOON, || async { raw::ask(scene.admin, get("/readyz")).await.is_ok_and(|a| a.status == 503) })
        .await;
    scene.signal("TERM");
    assert!(!scene.exit().await.success());
    let ran = push.ended().await;
    assert!(!ran.status.success() && !ran.err.is_empty());
    assert_eq!(host.tip().await, "");
}

/// A host of one repository, `project.git`, that wants the credential of the route.
struct GitHost {
    repositories: TempDir,
    ca: Ca,
    origin: Origin,
    /// A push takes one before it is begun.
    gate: std::sync::Arc<Semaphore>,
}

/// A user's home, with nothing in it but what a test does.
struct Home(TempDir);

impl GitHost {
    async fn start() -> Self {
        let (repositories, ca) = (TempDir::new().unwrap(), Ca::new());
        let mut init = program("git", repositories.path());
        init.args(["init", "--quiet", "--bare", "--initial-branch=main", "project.git"]);
        ran(init).await.well();
        let gate = std::sync::Arc::new(Semaphore::new(100));
        let (git, open) = (Cgi::git(repositories.path()), gate.clone());
        let origin = Origin::answering(&ca.server(&["127.0.0.1"]), move |request: http::Request<Content>| {
            let (git, open) = (git.clone(), open.clone());
            async move {
                if request.headers().get("authorization").is_none_or(|credential| credential != BASIC) {
                    let mut answer = text(StatusCode::UNAUTHORIZED, "who are you?");
                    answer
                        .headers_mut()
                        .insert("www-authenticate", HeaderValue::from_static("Basic realm=\"git\""));
                    return answer;
                }
                if request.method() == "POST" && request.uri().path().ends_with("/git-receive-pack") {
                    open.acquire().await.unwrap().forget();
                }
                git.answer(request).await
            }
        })
        .await;
        Self { repositories, ca, origin, gate }
    }

    /// A proxy in front of it, that trusts it by a `--ca-file`.
    fn proxied(&self, arguments: &[&str]) -> Scene {
        let ca_file = self.repositories.path().join("ca.pem");
        std::fs::write(&ca_file, self.ca.pem()).unwrap();
        let basic = json!({"scheme": "basic", "username": "git"});
        let reads = json!([{"methods": ["GET"], "path": "/*/info/refs"},
            {"methods": ["POST"], "path": "/*/git-upload-pack"}]);
        let routes = [
            route("/git/", self.origin.addr(), &json!({"auth": basic})),
            route("/reader/", self.origin.addr(), &json!({"auth": basic, "allow": reads})),
        ];
        let mut bundle = bundle(&routes, &self.ca);
        bundle["ca"] = json!([]);
        Scene::start(&bundle, &[&["--ca-file", ca_file.to_str().unwrap()], arguments].concat())
    }

    /// A push whose content has reached the host, which does not answer yet.
    async fn push_that_waits(&self, scene: &Scene) -> (Home, Running) {
        let home = Home::new();
        let url = format!("http://{}/git/project.git", scene.addr);
        home.git(&["clone", "--quiet", &url, "here"]).await.well();
        home.commit("here", "first").await;
        self.gate.forget_permits(100);
        let push = Running::start(home.command(&["-C", "here", "push", "--quiet", "origin", "HEAD:main"]));
        let is_push = |request: &Recorded| request.target.ends_with("project.git/git-receive-pack");
        eventually(SOON, || async { self.origin.requests().iter().any(is_push) }).await;
        (home, push)
    }

    /// What `main` points to.
    async fn tip(&self) -> String {
        let mut git = program("git", self.repositories.path());
        git.args(["-C", "project.git", "for-each-ref", "--format=%(objectname)", "refs/heads/main"]);
        ran(git).await.well().text()
    }
}

impl Home {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut git = program("git", self.0.path());
        git.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_TERMINAL_PROMPT", "0");
        for who in ["AUTHOR", "COMMITTER"] {
            git.env(format!("GIT_{who}_NAME"), "t").env(format!("GIT_{who}_EMAIL"), "t@test");
        }
        // Every field that git sends and receives, credentials too.
        git.env("GIT_TRACE_CURL", self.path("trace")).env("GIT_TRACE_CURL_NO_DATA", "1");
        git.env("GIT_TRACE_REDACT", "0").args(arguments);
        git
    }

    async fn git(&self, arguments: &[&str]) -> Ran {
        ran(self.command(arguments)).await
    }

    async fn commit(&self, checkout: &str, name: &str) {
        std::fs::write(self.path(checkout).join(name), name).unwrap();
        self.git(&["-C", checkout, "add", name]).await.well();
        self.git(&["-C", checkout, "commit", "--quiet", "-m", name]).await.well();
    }

    fn trace(&self) -> String {
        std::fs::read_to_string(self.path("trace")).unwrap_or_default()
    }
}

/// What the user calls the host.
const NAME: &str = "https://git.example.com/";

/// `git` and the scene's token.
const BASIC: &str = "Basic Z2l0OnRvay1zM2NyZXQvMDErMjM=";
