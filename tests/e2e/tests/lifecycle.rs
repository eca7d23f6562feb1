//! The life of an attached bottle: CMD is joined as if it ran here, and when it ends, by whatever
//! end, the bottle is gone.
#![forbid(unsafe_code)]
// Set-up that fails is a failed test: here a panic is the message.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::time::Duration;

use claude_bottle::engine::Engine;
use e2e::bottle::{Launcher, Ran, nothing_left};
use e2e::lone::{Lone, among_orphans, begin, nothing_remains};
use serde_json::Value;
use sha2::{Digest, Sha256};
use testbed::{eventually, eventually_some};

/// How long the engine may take to show what has been asked of it: it also serves other tests.
const SOON: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn the_exit_code_of_cmd_is_the_launchers() {
    let (environment, engine) = begin();
    let lone = Lone::new(&environment, "codes");
    for (script, code) in
        [("true", 0), ("exit 7", 7), ("exit 255", 255), ("kill -TERM $$", 143), ("kill -KILL $$", 137)]
    {
        let ran = lone.bash(script).run().await.expect_code(code);
        assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("", ""), "{script}");
        nothing_remains(&engine, &lone).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cmd_that_cannot_be_run_is_an_error_in_the_engines_words() {
    let (environment, engine) = begin();
    let lone = Lone::new(&environment, "cannot");
    for command in ["/nonexistent", "/etc/passwd", "/etc", "no-such-program"] {
        let ran = lone.start(&[command]).run().await;
        assert!(matches!(ran.code(), Some(126 | 127)), "{command}: {ran:?}");
        assert_eq!(ran.stdout, "");
        assert!(ran.stderr.starts_with("error: ") && ran.stderr.contains(command), "{}", ran.stderr);
        assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
        nothing_remains(&engine, &lone).await;
    }
    // The same words from a CMD that could be run are its own.
    let says = "echo 'OCI runtime exec failed: so it says'; exit 3";
    let ran = lone.bash(says).run().await.expect_code(3);
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("OCI runtime exec failed: so it says\n", ""));
    nothing_remains(&engine, &lone).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stdout_and_stderr_are_kept_apart_and_stdout_is_cmds_alone() {
    let (environment, engine) = begin();
    let lone = Lone::new(&environment, "apart");
    let script = "for n in 1 2 3; do echo out $n; echo err $n >&2; done";
    let ran = lone.bash(script).run().await.expect_code(0);
    assert_eq!(ran.stdout, "out 1\nout 2\nout 3\n");
    assert_eq!(ran.stderr, "err 1\nerr 2\nerr 3\n");
    // Without -q the plan is told, on stderr.
    let told = lone.launcher().args(["start", "--yes", &lone.agent, "--", "bash", "-c", script]);
    let ran = told.run().await.expect_code(0);
    assert_eq!(ran.stdout, "out 1\nout 2\nout 3\n");
    assert!(ran.stderr.contains("ssh-gate:30000") && ran.stderr.contains("err 3\n"), "{}", ran.stderr);
    nothing_remains(&engine, &lone).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stdin_reaches_cmd_whole_and_so_does_its_end() {
    let (environment, engine) = begin();
    let lone = Lone::new(&environment, "stdin");
    let bytes = noise(1 << 20);
    let expected = format!("1048576\n{}\n", sha256(&bytes));
    let script = "tee /tmp/in | wc -c; sha256sum </tmp/in | cut -d' ' -f1";
    let ran = lone.bash(script).stdin(bytes).run().await.expect_code(0);
    assert_eq!(ran.stdout, expected);
    nothing_remains(&engine, &lone).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cmd_that_ends_is_not_held_by_an_open_stdin() {
    let (environment, engine) = begin();
    let lone = Lone::new(&environment, "open");
    let mut running = lone.bash("read line; echo got $line; exit 5").spawn();
    let stdin = running.stdin.take().unwrap();
    let to = tokio::spawn(async move {
        let mut stdin = stdin;
        tokio::io::AsyncWriteExt::write_all(&mut stdin, b"a line\n").await.unwrap();
        stdin
    });
    let still_open = to.await.unwrap();
    let ran = running.end().await.expect_code(5);
    assert_eq!(ran.stdout, "got a line\n");
    drop(still_open);
    nothing_remains(&engine, &lone).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_megabytes_of_output_arrive_whole() {
    let (environment, engine) = begin();
    let lone = Lone::new(&environment, "large");
    let script = "head -c 7864320 /dev/urandom | base64 -w0 >/tmp/out; cat /tmp/out; sha256sum /tmp/out >&2";
    let ran = lone.bash(script).run().await.expect_code(0);
    assert_eq!(ran.stdout.len(), 10 << 20);
    assert_eq!(ran.stderr.split(' ').next().unwrap(), sha256(ran.stdout.as_bytes()));
    nothing_remains(&engine, &lone).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_has_read_enough_ends_the_bottle() {
    let (environment, engine) = begin();
    let lone = Lone::new(&environment, "head");
    // As `claude-bottle ... | head -n 1` in a shell; its stderr tells how the launcher ended.
    let mut shell = tokio::process::Command::new("bash");
    shell
        .args(["-c", r#""$@" </dev/null | head -n 1; echo "ended ${PIPESTATUS[0]}""#, "bash"])
        .arg(&environment.bin)
        .args(["start", "--yes", "-q", &lone.agent, "--", "yes", "again"])
        .env("CLAUDE_BOTTLE_MANIFEST", lone.path())
        .env(e2e::lone::TOKEN_ENV, &lone.token)
        .kill_on_drop(true);
    let ended = tokio::time::timeout(SOON, shell.output()).await.expect("it ends").unwrap();
    // 128 + SIGPIPE, as a program that was killed by it.
    assert_eq!(String::from_utf8_lossy(&ended.stdout), "again\nended 141\n");
    assert_eq!(String::from_utf8_lossy(&ended.stderr), "");
    nothing_remains(&engine, &lone).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_during_cmd_tears_down_and_is_130() {
    let (environment, engine) = begin();
    let lone = Lone::new(&environment, "during");
    for signal in ["INT", "TERM", "HUP"] {
        let running = lone.bash("echo ready; trap '' INT TERM HUP; sleep 600 & wait").spawn();
        running.says("ready").await;
        running.signal(signal);
        let ran = running.end().await.expect_code(130);
        assert_eq!(ran.stderr, "", "{signal}");
        nothing_remains(&engine, &lone).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_during_the_launch_tears_down_and_is_130() {
    let (environment, engine) = begin();
    let lone = Lone::new(&environment, "early");
    let start = || {
        let command = ["start", "--yes", &lone.agent, "--", "sleep", "600"];
        lone.launcher().args(command).spawn()
    };
    // Once the plan has been told, once it has made something, once the agent is made.
    for (moment, signal) in [("plan", "INT"), ("network", "TERM"), ("agent", "HUP")] {
        let running = start();
        running.complains("plan       sha256:").await;
        eventually(SOON, || async {
            let role = |labels: &std::collections::BTreeMap<String, String>| {
                labels.get("claude-bottle.role").is_some_and(|role| role == moment)
            };
            moment == "plan"
                || engine.networks(Some(&lone.label())).await.unwrap().iter().any(|one| role(&one.labels))
                || engine.containers(Some(&lone.label())).await.unwrap().iter().any(|one| role(&one.labels))
        })
        .await;
        running.signal(signal);
        let ran = running.end().await.expect_code(130);
        // On a busy machine CMD may run by then, and its end is no error.
        let told = ran.stderr.ends_with("error: interrupted\n");
        assert!(told || moment == "agent", "{moment}: {}", ran.stderr);
        assert_eq!(ran.stderr.matches("error: ").count(), usize::from(told), "{}", ran.stderr);
        nothing_remains(&engine, &lone).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_at_the_question_is_130_and_nothing_was_created() {
    let (environment, engine) = begin();
    let lone = Lone::new(&environment, "question");
    let running = lone.launcher().args(["start", &lone.agent, "--", "true"]).on_terminal().spawn();
    running.says("launch this bottle? [y/N]").await;
    // Ctrl-C, which the terminal makes SIGINT of.
    let mut running = running;
    let mut stdin = running.stdin.take().unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut stdin, b"\x03").await.unwrap();
    let ran = running.end().await.expect_code(130);
    assert!(ran.stdout.contains("error: interrupted"), "{}", ran.stdout);
    nothing_remains(&engine, &lone).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_bottle_is_listed_and_stopped_from_elsewhere() {
    let (environment, engine) = begin();
    let lone = Lone::new(&environment, "listed");
    let instance = &lone.agent;
    let container = format!("claude-bottle-{instance}");
    for name in [instance, &container] {
        let running = lone.bash("echo ready; cat").spawn();
        running.says("ready").await;

        let listed = listed(&lone).await;
        assert_eq!(listed.len(), 1);
        let bottle = &listed[0];
        let keys: BTreeSet<_> = bottle.as_object().unwrap().keys().map(String::as_str).collect();
        let expected = [
            "name", "instance", "agent", "status", "started", "mode", "verified", "warnings", "ports",
            "sidecars",
        ];
        assert_eq!(keys, BTreeSet::from(expected));
        for (key, value) in [
            ("name", container.as_str()),
            ("instance", instance),
            ("agent", instance),
            ("status", "running"),
            ("mode", "attached"),
        ] {
            assert_eq!(bottle[key], value);
        }
        assert!(bottle["started"].as_str().unwrap().ends_with('Z'), "{bottle}");
        let sidecars: BTreeSet<_> = bottle["sidecars"]
            .as_array()
            .unwrap()
            .iter()
            .map(|sidecar| ["role", "name", "status"].map(|key| sidecar[key].as_str().unwrap().to_owned()))
            .collect();
        let sidecar =
            |role: &str| [role.to_owned(), format!("claude-bottle-{role}-{instance}"), "running".to_owned()];
        assert_eq!(sidecars, BTreeSet::from([sidecar("cred-proxy"), sidecar("ssh-gate")]));
        let table = lone.launcher().args(["list"]).run().await.expect_code(0);
        let row = table.stdout.lines().find(|line| line.contains(&container)).unwrap();
        assert!(table.stdout.starts_with("NAME") && row.contains("running"), "{}", table.stdout);

        let stopped = lone.launcher().args(["stop", name]).run().await.expect_code(0);
        assert_eq!((stopped.stdout.as_str(), stopped.stderr.as_str()), ("", ""));
        // Its launcher was asked to end it.
        running.end().await.expect_code(130);
        nothing_remains(&engine, &lone).await;
    }
    let again = lone.launcher().args(["stop", instance, "nosuch"]).run().await.expect_code(0);
    assert!(again.stderr.contains(instance.as_str()) && again.stderr.contains("nosuch"), "{}", again.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn bottles_of_one_agent_at_once_have_names_and_subnets_of_their_own() {
    let (environment, engine) = begin();
    let lone = Lone::new(&environment, "eight");
    let running: Vec<_> = (0..8).map(|_| lone.bash("echo ready; cat; echo $SSH_AUTH_SOCK").spawn()).collect();
    for one in &running {
        one.says("ready").await;
    }
    let names: BTreeSet<_> =
        listed(&lone).await.iter().map(|bottle| bottle["instance"].as_str().unwrap().to_owned()).collect();
    assert_eq!(names.len(), 8, "{names:?}");
    for name in &names {
        let is_numbered =
            |rest: &str| rest.strip_prefix('-').is_some_and(|n| matches!(n.parse(), Ok(2..=99)));
        let rest = name.strip_prefix(lone.agent.as_str());
        assert!(rest.is_some_and(|rest| rest.is_empty() || is_numbered(rest)), "{name}");
    }
    let networks = engine.networks(Some(&lone.label())).await.unwrap();
    let subnets: BTreeSet<_> = networks.iter().flat_map(|network| &network.subnets).collect();
    assert_eq!((networks.len(), subnets.len()), (16, 16), "{networks:?}");
    // Ending one leaves the others.
    let mut left = 8;
    for one in running {
        let ran = one.end().await.expect_code(0);
        assert_eq!(ran.stdout, "ready\n/run/claude-bottle-agent-public.sock\n");
        left -= 1;
        assert_eq!(listed(&lone).await.len(), left);
    }
    for instance in names {
        nothing_left(&engine, &instance).await.unwrap();
    }
    nothing_remains(&engine, &lone).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pinned_name_that_is_taken_is_an_error_with_its_remedy() {
    let (environment, engine) = begin();
    let lone = Lone::new(&environment, "pinned");
    let name = format!("pinned-{}", lone.agent);
    let pinned = |launcher: Launcher| launcher.env("CLAUDE_BOTTLE_CONTAINER", &name);
    let first = pinned(lone.bash("echo ready; cat")).spawn();
    first.says("ready").await;
    assert_eq!(listed(&lone).await[0]["name"], name.as_str());

    let second = pinned(lone.bash("true")).run().await;
    refused(&second, 69, &format!("CLAUDE_BOTTLE_CONTAINER: the container {name} exists already"));
    assert!(
        second
            .stderr
            .ends_with(&format!("hint: remove it with `docker rm -f {name}`, or unset the override\n")),
        "{}",
        second.stderr
    );
    assert_eq!(listed(&lone).await.len(), 1, "the first one's is not touched");
    first.end().await.expect_code(0);
    nothing_remains(&engine, &lone).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_launcher_that_dies_drains_its_sidecars_and_the_agent_waits_for_cleanup() {
    let (environment, engine) = begin();
    let _turn = among_orphans().await;
    let lone = Lone::new(&environment, "dies");
    let running = lone.bash("echo ready; sleep 600").spawn();
    running.says("ready").await;
    running.signal("KILL");
    assert_eq!(running.end().await.code(), None);
    for role in ["ssh-gate", "cred-proxy"] {
        let name = format!("claude-bottle-{role}-{}", lone.agent);
        let code = eventually_some(SOON, || async {
            let sidecar = engine.container(&name).await.unwrap().expect("nobody removes it");
            sidecar.exit_code.filter(|_| sidecar.status == "exited")
        })
        .await;
        assert_eq!(code, 0, "{role} drained");
    }
    let bottle = &listed(&lone).await[0];
    assert_eq!((&bottle["status"], &bottle["sidecars"][0]["status"]), (&"running".into(), &"exited".into()));
    let cleaned = lone.launcher().args(["cleanup"]).run().await.expect_code(0);
    assert!(
        cleaned.stdout.contains(&format!("removed container claude-bottle-{}\n", lone.agent)),
        "{cleaned:?}"
    );
    nothing_remains(&engine, &lone).await;
}

/// What `list` shows of an agent's bottles.
async fn listed(lone: &Lone) -> Vec<Value> {
    let ran = lone.launcher().args(["list", "--format", "json"]).run().await.expect_code(0);
    let all: Vec<Value> = serde_json::from_str(&ran.stdout).unwrap();
    all.into_iter().filter(|bottle| bottle["agent"] == lone.agent.as_str()).collect()
}

#[track_caller]
fn refused(ran: &Ran, code: i32, error: &str) {
    assert_eq!(ran.code(), Some(code), "{ran:?}");
    assert!(ran.stderr.contains(&format!("error: {error}")), "{}", ran.stderr);
}

/// Bytes that no carrier could make up, the same each time.
fn noise(size: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let step = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    std::iter::repeat_with(step).take(size).collect()
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
