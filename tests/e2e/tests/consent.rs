//! Before the user's yes nothing secret is read, the plan shows what will run, and after the
//! hand-over the launcher holds no secret.
#![forbid(unsafe_code)]
// Set-up that fails is a failed test: here a panic is the message.
#![allow(clippy::unwrap_used)]

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use e2e::lone::{Lone, begin, nothing_remains};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use serde_json::{Value, json};

/// The paths that someone opened since it began.
struct Opened(std::os::fd::OwnedFd);

impl Opened {
    fn of(paths: &[&Path]) -> Self {
        let watch = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).unwrap();
        for path in paths {
            inotify::add_watch(&watch, *path, WatchFlags::OPEN | WatchFlags::ACCESS).unwrap();
        }
        Self(watch)
    }

    fn any(&self) -> bool {
        let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
        inotify::Reader::new(&self.0, &mut buffer).next().is_ok()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_no_leaves_key_and_token_unread() {
    let (environment, engine) = begin();
    let lone = Lone::new(&environment, "unread");
    let token = lone.folder().join("token");
    fs::write(&token, "a-token-in-a-file\n").unwrap();
    let mut manifest = lone.manifest();
    manifest["bottles"]["lone"]["cred_proxy"]["routes"][0]["token"] = json!({ "file": token });
    lone.write(&manifest);
    let (key, token) = (lone.key(), token.as_path());
    let start = |answer: &str| {
        let launcher = lone.launcher().args(["start", &lone.agent, "--", "true"]);
        launcher.on_terminal().stdin(answer).run()
    };

    let opened = Opened::of(&[&key, token]);
    lone.launcher().args(["start", "--dry-run", &lone.agent]).run().await.expect_code(0);
    start("n\n").await.expect_code(1);
    assert!(!opened.any(), "read before consent");
    start("y\n").await.expect_code(0);
    assert!(opened.any(), "the watch sees who reads");
    nothing_remains(&engine, &lone).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn quiet_still_shows_the_plan_that_is_asked_about() {
    let (environment, engine) = begin();
    let lone = Lone::new(&environment, "quiet");
    let ask = lone.launcher().args(["start", "-q", &lone.agent, "--", "true"]);
    let asked = ask.on_terminal().stdin("n\n").run().await.expect_code(1);
    let (plan, _) = asked.stdout.split_once("launch this bottle? [y/N]").unwrap();
    assert!(plan.contains("ssh-gate:30000 -> git.lone.invalid:22"), "{plan}");
    let agreed = lone.bash("true").run().await.expect_code(0);
    assert_eq!(agreed.stderr, "", "nothing is asked");
    nothing_remains(&engine, &lone).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_file_name_steers_the_terminal_or_forges_a_line() {
    let (environment, _) = begin();
    let lone = Lone::new(&environment, "escape");
    let name = "key\u{1b}[2A\u{1b}[2K\nwarning    none\u{9b}\u{202e}";
    fs::copy(lone.key(), lone.folder().join(name)).unwrap();
    let mut manifest = lone.manifest();
    manifest["bottles"]["lone"]["ssh"][0]["IdentityFile"] = json!(name);
    lone.write(&manifest);
    let steers = |text: &str| {
        text.contains(['\u{1b}', '\u{9b}', '\u{202e}'])
            || text.lines().any(|line| line.starts_with("warning    none"))
    };
    let dry = || lone.launcher().args(["start", "--dry-run", &lone.agent]);
    let text = dry().run().await.expect_code(0).stdout;
    assert!(text.contains("(present;") && !steers(&text), "{text}");
    let json = dry().args(["--format", "json"]).run().await.expect_code(0).stdout;
    assert!(!steers(&json), "{json}");
    let plan: Value = serde_json::from_str(&json).unwrap();
    assert!(plan["ssh"][0]["identity"].as_str().unwrap().ends_with(name), "JSON loses nothing");
    fs::remove_file(lone.folder().join(name)).unwrap();
    let error = lone.bash("true").run().await.expect_code(66).stderr;
    assert!(error.starts_with("error: ssh host git") && !steers(&error), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn once_the_command_runs_the_launcher_holds_no_secret_and_dumps_no_core() {
    let (environment, engine) = begin();
    let lone = Lone::new(&environment, "wiped");
    let file = lone.folder().join("token");
    let token = "wiped-token-5e0f7a9c31";
    fs::write(&file, format!("{token}\n")).unwrap();
    let mut manifest = lone.manifest();
    manifest["bottles"]["lone"]["cred_proxy"]["routes"][0]["token"] = json!({ "file": file });
    manifest["bottles"]["lone"]["env"] = json!({ "PLANTED": "planted-in-the-plan-77" });
    lone.write(&manifest);
    let key = fs::read_to_string(lone.key()).unwrap();
    // The fourth line of an unencrypted Ed25519 key holds its seed (PROTOCOL.key).
    let seed = key.lines().nth(4).unwrap();

    let running = lone.bash("echo ready; cat").spawn();
    running.says("ready").await;
    let (pid, memory) = (running.pid(), memory_of(running.pid()));
    let holds = |secret: &str| memory.windows(secret.len()).any(|window| window == secret.as_bytes());
    assert!(holds("planted-in-the-plan-77"), "the search finds what the plan holds");
    assert!(!holds(token), "a token is left in memory");
    assert!(!holds(seed), "a key is left in memory");
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"], "{core}");
    running.end().await.expect_code(0);
    nothing_remains(&engine, &lone).await;
}

/// All memory of a process that it can write to.
fn memory_of(pid: u32) -> Vec<u8> {
    let memory = File::open(format!("/proc/{pid}/mem")).unwrap();
    let mut all = Vec::new();
    for line in fs::read_to_string(format!("/proc/{pid}/maps")).unwrap().lines() {
        let mut fields = line.split_whitespace();
        let (range, rights) = (fields.next().unwrap(), fields.next().unwrap());
        let (begin, end) = range.split_once('-').unwrap();
        let at = |text: &str| u64::from_str_radix(text, 16).unwrap();
        if rights.starts_with("rw") {
            let mut piece = vec![0; usize::try_from(at(end) - at(begin)).unwrap()];
            // Some special areas cannot be read.
            if memory.read_exact_at(&mut piece, at(begin)).is_ok() {
                all.extend_from_slice(&piece);
            }
        }
    }
    all
}
