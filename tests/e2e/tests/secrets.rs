//! No token and no private key is to be found in anything that the engine keeps, shows or publishes,
//! nor in what the launcher and the sidecars say, print or are started with.
//!
//! The search knows a secret in many forms, and is itself proved on planted ones.
#![forbid(unsafe_code)]
// Set-up that fails is a failed test: here a panic is the message.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use claude_bottle::engine::docker::Docker;
use claude_bottle::engine::{ContainerSpec, Engine};
use e2e::bottle::{Launcher, exec, names, nothing_left};
use e2e::raw::{Events, shown};
use e2e::scene::{LABEL, TOKEN_ENV, labelled};
use e2e::{Scene, environment};
use serde_json::{Value, json};
use testbed::https::Origin;
use testbed::pki::Ca;

#[tokio::test(flavor = "multi_thread")]
async fn a_launch_leaves_no_secret_with_the_engine() {
    let environment = environment().unwrap_or_else(|error| panic!("{error}"));
    let engine = Docker::connect(None, false).unwrap();
    let scene = Box::pin(Scene::start(&engine, &environment.images)).await.unwrap();
    let token = scene.api.token.clone();
    let key = std::fs::read_to_string(&scene.git_hosts[0].identity).unwrap();
    let secrets = Secrets::of(&token, &key);
    let path = scene.write_manifest(&scene.manifest()).unwrap();
    let (container, instance) = names("secrets");
    let mut search = Search { secrets: &secrets, places: 0 };

    let mut events = Events::listen().await;
    let uses = "set -e; curl -sS http://cred-proxy:9099/api/whoami; echo; \
        curl -sS -o /dev/null -w '%{http_code}\\n' http://cred-proxy:9099/nowhere; \
        git clone --quiet git@git:demo.git /tmp/clone; ssh-add -l; echo ready; cat";
    let manifest = path.display().to_string();
    let running = Launcher::new(&environment)
        .env("CLAUDE_BOTTLE_CONTAINER", &container)
        .env(TOKEN_ENV, &token)
        .env("RUST_LOG", "trace")
        .args(["--manifest", &manifest, "--yes", "-v", "start", "demo", "--", "bash", "-c", uses])
        .spawn();
    running.says("ready").await;

    // All that the engine tells of the bottle and the scene.
    let mut images = Vec::new();
    let mut sidecars = 0;
    for label in [format!("claude-bottle.instance={instance}"), format!("{LABEL}={}", scene.run)] {
        for found in engine.containers(Some(&label)).await.unwrap() {
            let (id, name) = (&found.id.0, &found.name);
            let inspected = shown(&format!("/containers/{id}/json")).await;
            let facts: Value = serde_json::from_slice(&inspected).unwrap();
            assert_eq!(facts["Id"], id.as_str());
            images.push(facts["Image"].as_str().unwrap().to_owned());
            search.finds_none(&format!("inspect of {name}"), &inspected);
            let logs = shown(&format!("/containers/{id}/logs?stdout=1&stderr=1")).await;
            search.finds_none(&format!("logs of {name}"), &logs);
            let role = found.labels.get("claude-bottle.role").map_or("", String::as_str);
            if ["ssh-gate", "cred-proxy"].contains(&role) {
                assert!(!logs.is_empty(), "{name} said something");
                let files = shown(&format!("/containers/{id}/export")).await;
                assert!(files.len() > 1 << 20, "{name} holds at least its binary");
                search.finds_none(&format!("files of {name}"), &files);
                sidecars += 1;
            }
            if label.contains(&instance) {
                let top = shown(&format!("/containers/{id}/top?ps_args=-eo%20pid,args")).await;
                search.finds_none(&format!("processes of {name}"), &top);
                let top: Value = serde_json::from_slice(&top).unwrap();
                for process in top["Processes"].as_array().unwrap() {
                    let pid = process[0].as_str().unwrap();
                    for file in ["environ", "cmdline"] {
                        // As root all of them can be read, and one that has just ended cannot.
                        let content = std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
                        search.finds_none(&format!("{file} of {process} in {name}"), &content);
                    }
                }
            }
        }
        for found in engine.networks(Some(&label)).await.unwrap() {
            let inspected = shown(&format!("/networks/{}", found.id.0)).await;
            search.finds_none(&format!("inspect of {}", found.name), &inspected);
        }
    }
    assert_eq!(sidecars, 2);
    images.sort();
    images.dedup();
    for image in images {
        search.finds_none(&image, &shown(&format!("/images/{image}/json")).await);
        search.finds_none(&image, &shown(&format!("/images/{image}/history")).await);
    }

    // All that the agent can read, as itself and as its container's root.
    let raw = [token.as_str()].into_iter().chain(key.lines().filter(|line| !line.starts_with("-----")));
    let patterns = raw.collect::<Vec<_>>().join("\n") + "\n";
    let grep = "cat >/dev/shm/patterns; set --; for pid in /proc/[0-9]*; do set -- $@ $pid/environ $pid/cmdline; done; \
        grep -rslaFf /dev/shm/patterns --exclude-dir=proc --exclude-dir=sys --exclude=patterns / $@; rm /dev/shm/patterns";
    for user in ["node", "0:0"] {
        let done = exec(&engine, &container, user, grep, patterns.as_bytes()).await.unwrap();
        assert_eq!(done.said, "", "files that {user} finds a secret in");
    }

    let ran = running.end().await.expect_code(0);
    assert!(ran.stdout.contains("\"authorized\":true") && ran.stdout.contains("404\n"), "{}", ran.stdout);
    assert!(ran.stdout.contains("ED25519"), "the key was there: {}", ran.stdout);
    search.finds_none("the launcher's stdout", ran.stdout.as_bytes());
    search.finds_none("the launcher's stderr", ran.stderr.as_bytes());
    let mut published = String::new();
    // Other tests' events come as well, and without end.
    let until = Instant::now() + Duration::from_secs(5);
    while let Some(event) = events.next("", Duration::from_secs(1)).await
        && Instant::now() < until
    {
        published.push_str(&event);
    }
    assert!(published.contains("exec_create") && published.contains(&instance), "{published}");
    search.finds_none("the engine's events", published.as_bytes());
    assert!(search.places > 40, "{}", search.places);

    nothing_left(&engine, &instance).await.unwrap();
    let label = format!("{LABEL}={}", scene.run);
    Box::pin(scene.remove(&engine)).await.unwrap();
    assert_eq!(labelled(&engine, &label).await.unwrap(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_at_trace_level_says_no_token() {
    let environment = environment().unwrap_or_else(|error| panic!("{error}"));
    let token = "lone-token-2f9d4b60c7a15e83";
    let ca = Ca::new();
    let origin = Origin::start(&ca.server(&["127.0.0.1"])).await;
    let route = |path: &str, auth: Value| {
        json!({
            "path": path, "upstream": format!("https://{}", origin.addr()), "auth": auth,
            "token_env": "T", "allow_private_upstream": true,
        })
    };
    let bundle = json!({
        "version": 1, "tokens": { "T": token }, "ca": [ca.pem()], "lifeline": true,
        "table": { "routes": [
            route("/bearer/", json!({ "scheme": "bearer" })),
            route("/basic/", json!({ "scheme": "basic", "username": "git" })),
        ] },
    });
    let mut proxy = Command::new(environment.sidecars.join("cred-proxy"))
        .args(["--stdin-bundle", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
        .env("RUST_LOG", "trace")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = proxy.stdin.take().unwrap();
    stdin.write_all(format!("{bundle}\n").as_bytes()).unwrap();
    let mut stdout = BufReader::new(proxy.stdout.take().unwrap());
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    let ready: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line:?}"));
    let addr: std::net::SocketAddr = ready["listeners"][0].as_str().unwrap().parse().unwrap();
    let mut answers = Vec::new();
    let get = |path| format!("GET {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n");
    // The last one is logged below the level that is the default.
    for request in [get("/bearer/x"), get("/basic/x"), get("/nowhere"), "no request\r\n\r\n".to_owned()] {
        let mut stream = std::net::TcpStream::connect(addr).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        stream.read_to_end(&mut answers).unwrap();
    }
    let environ = std::fs::read(format!("/proc/{}/environ", proxy.id())).unwrap_or_default();
    // A lost lifeline drains it.
    drop(stdin);
    stdout.read_to_string(&mut line).unwrap();
    let mut log = String::new();
    proxy.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    assert_eq!(proxy.wait().unwrap().code(), Some(0));

    let received = format!("{:?}", origin.requests());
    let basic = STANDARD.encode(format!("git:{token}"));
    assert!(received.contains(token) && received.contains(&basic), "the origin has it: {received}");
    assert!(log.contains("\"level\":\"debug\""), "it said all that it can: {log}");
    let secrets = Secrets::of(token, "");
    let mut search = Search { secrets: &secrets, places: 0 };
    search.finds_none("the log", log.as_bytes());
    search.finds_none("stdout", line.as_bytes());
    search.finds_none("the answers", &answers);
    search.finds_none("the environment", &environ);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_search_finds_what_is_planted() {
    let environment = environment().unwrap_or_else(|error| panic!("{error}"));
    let engine = Docker::connect(None, false).unwrap();
    let token = "lone-token-7c01aa52d9f3e846";
    let key = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQ\nAAAEC5wt2x\n-----END";
    let secrets = Secrets::of(token, key);
    let padded = |before: &str| format!("{before}{token} and more");
    let url_safe = |text: String| URL_SAFE_NO_PAD.encode(text);
    for (what, text) in [
        ("raw", padded("")),
        ("base64", STANDARD.encode(padded(""))),
        ("base64, one on", STANDARD.encode(padded("a"))),
        ("base64, two on", STANDARD.encode(padded("ab"))),
        ("base64, user:token", STANDARD.encode(format!("git:{token}"))),
        ("url-safe", url_safe(padded("\u{fe}"))),
        ("hexadecimal", token.bytes().map(|byte| format!("{byte:02x}")).collect()),
        ("key", "..AAAEC5wt2x..".to_owned()),
    ] {
        assert!(secrets.found_in(text.as_bytes()).is_some(), "{what}: {text}");
    }
    assert_eq!(secrets.found_in(b"lone-token-and nothing else, b3BlbnNz"), None);

    // In a container's environment, as a launcher that knew no better would hand it over.
    let (name, instance) = names("planted");
    let label = "claude-bottle.e2e-planted";
    let spec = ContainerSpec {
        command: vec!["sleep".to_owned(), "600".to_owned()],
        env: BTreeMap::from([("AUTH".to_owned(), STANDARD.encode(format!("git:{token}")))]),
        labels: BTreeMap::from([(label.to_owned(), instance.clone())]),
        ..ContainerSpec::new(&name, &environment.images.agent)
    };
    let mut events = Events::listen().await;
    let id = engine.create_container(&spec).await.unwrap();
    engine.start(&id).await.unwrap();
    let planted = format!("echo {token}");
    exec(&engine, &id.0, "node", &planted, b"").await.unwrap();
    let inspected = shown(&format!("/containers/{}/json", id.0)).await;
    let facts: Value = serde_json::from_slice(&inspected).unwrap();
    let environ = std::fs::read(format!("/proc/{}/environ", facts["State"]["Pid"])).unwrap();
    // Other tests' containers have theirs in the same stream.
    let event = loop {
        let event = events.next(&id.0, Duration::from_secs(10)).await.unwrap();
        if event.contains("exec_create") {
            break event;
        }
    };
    engine.remove_container(&id).await.unwrap();
    assert!(secrets.found_in(&inspected).is_some(), "docker inspect shows it");
    assert!(secrets.found_in(&environ).is_some(), "/proc shows it");
    assert!(secrets.found_in(event.as_bytes()).is_some(), "docker events publish it: {event}");
    assert_eq!(labelled(&engine, &format!("{label}={instance}")).await.unwrap(), Vec::<String>::new());
}

/// A search through many places.
struct Search<'a> {
    secrets: &'a Secrets,
    places: usize,
}

impl Search<'_> {
    #[track_caller]
    fn finds_none(&mut self, place: &str, content: &[u8]) {
        self.places += 1;
        if let Some(form) = self.secrets.found_in(content) {
            panic!("{place} holds {form}");
        }
    }
}

/// Secrets in all the forms in which they could be found.
struct Secrets(Vec<(String, Vec<u8>)>);

impl Secrets {
    /// A token, and a private key in OpenSSH's form.
    fn of(token: &str, key: &str) -> Self {
        let mut forms = Self(Vec::new());
        forms.add("the token", token.as_bytes());
        let body: Vec<&str> = key.lines().filter(|line| !line.starts_with("-----")).collect();
        // The first line is the same for all keys.
        for line in body.iter().skip(1) {
            forms.0.push(("a line of the private key".to_owned(), line.as_bytes().to_vec()));
        }
        // Ed25519's secret, before the public key that the file repeats.
        let blob = STANDARD.decode(body.concat()).unwrap_or_default();
        if let Some(seed) = blob.get(161..193) {
            forms.add("the private key's seed", seed);
        }
        forms
    }

    fn add(&mut self, what: &str, secret: &[u8]) {
        self.0.push((format!("{what}, raw"), secret.to_vec()));
        let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        self.0.push((format!("{what}, hexadecimal"), hex.into_bytes()));
        // Wherever the secret stands in what was encoded, its inner characters are one of three.
        for before in 0..3 {
            let text = [&vec![0; before][..], secret].concat();
            let inner = |encoded: String| {
                let end = encoded.len() - usize::from(!text.len().is_multiple_of(3));
                encoded.as_bytes()[[0, 2, 3][before]..end].to_vec()
            };
            self.0.push((format!("{what}, base64 from {before}"), inner(STANDARD_NO_PAD.encode(&text))));
            self.0.push((format!("{what}, url-safe from {before}"), inner(URL_SAFE_NO_PAD.encode(&text))));
        }
    }

    /// The first form that is in there.
    fn found_in(&self, content: &[u8]) -> Option<&str> {
        let holds = |form: &[u8]| {
            let (first, rest) = (form[0], form.len());
            let starts = content.iter().enumerate().filter(|(_, byte)| **byte == first);
            starts.map(|(at, _)| at).any(|at| content.get(at..at + rest) == Some(form))
        };
        self.0.iter().find(|(_, form)| !form.is_empty() && holds(form)).map(|(what, _)| what.as_str())
    }
}
