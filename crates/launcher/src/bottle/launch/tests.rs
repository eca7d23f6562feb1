//! What a launch creates, and what a failing one leaves behind: on an engine that keeps its objects
//! in memory and refuses, forgets to answer, delays or loses the nth call for every n.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use ::sidecar::token::Token;
use zeroize::Zeroizing;

use super::*;
use crate::bottle::session::{SessionError, launched as settled, objects};
use crate::bottle::teardown::Left;
use crate::bottle::testing::{KEY, TOKEN, engine, keyed, planned};
use crate::engine::recording::{Answer, Recording};
use crate::plan::Names;

#[derive(Debug)]
struct Unwatched;

impl Watch for Unwatched {
    fn begins(&self, _: &str) {}
    fn ended(&self, _: &str, _: Duration) {}
}

/// What a launch of the planned bottle needs.
struct Stage {
    plan: Plan,
    secrets: Secrets,
    ground: Ground,
    launcher: LauncherId,
    interrupt: CancellationToken,
    pending: Pending,
}

impl Stage {
    fn new() -> Self {
        let secrets = Secrets {
            keys: BTreeMap::from([("/k".into(), keyed())]),
            tokens: BTreeMap::from([("CRED_PROXY_TOKEN_0".to_owned(), Token::parse(TOKEN.into()).unwrap())]),
            env: BTreeMap::from([("NODE_ENV".to_owned(), Zeroizing::new("development".to_owned()))]),
            ..Secrets::default()
        };
        Self {
            plan: planned(),
            secrets,
            ground: Ground::default(),
            launcher: LauncherId::own(),
            interrupt: CancellationToken::new(),
            pending: Pending::default(),
        }
    }

    fn means(&self) -> Means<'_> {
        Means {
            secrets: &self.secrets,
            ground: &self.ground,
            launcher: &self.launcher,
            interrupt: &self.interrupt,
            watch: &Unwatched,
            unproved: false,
            pending: &self.pending,
        }
    }

    async fn launch(&self, engine: &Recording) -> Result<Bottle, Failed> {
        launch(engine, &self.plan, self.means()).await
    }
}

/// An engine of the test's own.
fn address() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("test:{}:{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

async fn launched(engine: &Recording) -> Result<Bottle, Failed> {
    Stage::new().launch(engine).await
}

#[tokio::test]
async fn a_bottle_is_what_the_plan_says() {
    let engine = engine(Recording::new());
    let bottle = launched(&engine).await.unwrap();
    assert!(bottle.warnings.is_empty(), "{:?}", bottle.warnings);

    let network = engine.created_network("claude-bottle-int-dev").unwrap();
    assert!(network.internal);
    assert_eq!(network.options["com.docker.network.bridge.inhibit_ipv4"], "true");
    let gate = engine.created("claude-bottle-ssh-gate-dev").unwrap();
    assert!(gate.read_only && gate.cap_add.is_empty() && gate.env.is_empty() && gate.healthcheck);
    assert_eq!(gate.command[..2], ["--stdin-bundle", "--bind"]);
    assert_eq!(gate.extra_hosts["git.corp.example"].to_string(), "10.1.2.3");
    let agent = engine.created("claude-bottle-dev").unwrap();
    assert_eq!(
        (agent.user.as_deref(), agent.dns.as_slice()),
        (Some("node"), ["127.0.0.1".into()].as_slice())
    );
    assert!(agent.cap_add.is_empty() && !agent.stdin && !agent.healthcheck);
    assert_eq!(agent.extra_hosts.keys().collect::<Vec<_>>(), ["cred-proxy", "ssh-gate"]);

    let runs = engine.runs();
    let add = runs.iter().find(|run| run.spec.command[0] == "ssh-add").unwrap();
    assert_eq!(add.spec.command, ["ssh-add", "-q", "-H", KNOWN, "-h", "github.com", "-"]);
    assert_eq!(add.stdin, KEY.as_bytes());
    assert!(!engine.put_into("claude-bottle-dev").is_empty());

    let swept = teardown(&engine, &bottle.scope).await;
    assert!(swept.left.is_empty());
    assert_eq!((swept.containers.len(), swept.networks.len()), (3, 2));
    assert_eq!(engine.leftovers(), Vec::<String>::new());
}

const KNOWN: &str = "/etc/claude-bottle/known_hosts";

#[tokio::test]
async fn a_token_goes_to_its_proxy_over_stdin_and_nowhere_else() {
    let engine = engine(Recording::new());
    let _bottle = launched(&engine).await.unwrap();
    let told = String::from_utf8(engine.stdin_of("claude-bottle-cred-proxy-dev")).unwrap();
    assert!(told.contains(TOKEN) && told.ends_with('\n'));
    assert!(!String::from_utf8(engine.stdin_of("claude-bottle-ssh-gate-dev")).unwrap().contains(TOKEN));
    for name in ["claude-bottle-dev", "claude-bottle-cred-proxy-dev", "claude-bottle-ssh-gate-dev"] {
        assert!(!format!("{:?}", engine.created(name)).contains(TOKEN), "{name}");
    }
    assert!(!format!("{:?} {:?}", engine.runs(), engine.calls()).contains(TOKEN));
    for file in engine.put_into("claude-bottle-dev") {
        assert!(!String::from_utf8_lossy(&file.contents).contains("PRIVATE"), "{}", file.path);
    }
}

#[tokio::test]
async fn a_launch_takes_no_call_that_it_does_not_need() {
    let warm = engine(Recording::new());
    let bottle = launched(&warm).await.unwrap();
    teardown(&warm, &bottle.scope).await;
    let before = warm.calls().len();
    launched(&warm).await.unwrap();
    let calls = warm.calls().split_off(before);
    // With three containers: create, start and perhaps attach, connect; the seal; the files; the execs.
    assert!(calls.len() <= 32, "{} calls:\n{}", calls.len(), calls.join("\n"));
    assert!(!calls.iter().any(|call| call.starts_with("load image")), "the engine has the images");
}

/// Launches, and tears down what was launched, on an engine whose nth call fails; whether the whole
/// took more than n calls.
async fn leaves_nothing(recording: Recording, n: usize) -> bool {
    let engine = engine(recording);
    match launched(&engine).await {
        Ok(bottle) => {
            let swept = teardown(&engine, &bottle.scope).await;
            assert!(swept.left.is_empty(), "call {n}: {:?}", swept.left);
        }
        Err(failed) => assert!(failed.swept.left.is_empty(), "call {n}: {:?}", failed.swept.left),
    }
    let calls = engine.calls();
    assert_eq!(engine.leftovers(), Vec::<String>::new(), "call {n}: {:?}", calls.get(n));
    calls.len() > n
}

#[tokio::test(start_paused = true)]
async fn refusing_any_call_leaves_nothing_behind() {
    let mut n = 0;
    while leaves_nothing(Recording::refusing(n), n).await {
        n += 1;
    }
    assert!(n > 25, "a launch and its teardown are more than {n} calls");
}

#[tokio::test(start_paused = true)]
async fn losing_any_answer_leaves_nothing_behind() {
    let mut n = 0;
    while leaves_nothing(Recording::losing(n), n).await {
        n += 1;
    }
    assert!(n > 25, "a launch and its teardown are more than {n} calls");
}

#[tokio::test(start_paused = true)]
async fn what_is_created_after_its_deadline_is_removed() {
    let total = {
        let engine = engine(Recording::new());
        launched(&engine).await.unwrap();
        engine.calls().len()
    };
    for n in 0..total {
        let engine = engine(Recording::late(n, Duration::from_secs(3)));
        let failed = match launched(&engine).await {
            Ok(bottle) => {
                teardown(&engine, &bottle.scope).await;
                continue;
            }
            Err(failed) => failed,
        };
        assert_eq!(engine.leftovers(), Vec::<String>::new(), "{:?}", engine.calls().get(n));
        // What could not be created late, for lack of what was removed meanwhile, is waited for in vain.
        let late = |left: &Left| matches!(left, Left::Late(_));
        assert!(failed.swept.left.iter().all(late), "{:?}: {:?}", engine.calls().get(n), failed.swept.left);
    }
}

#[tokio::test(start_paused = true)]
async fn what_may_still_appear_is_named() {
    let calls = {
        let engine = engine(Recording::new());
        launched(&engine).await.unwrap();
        engine.calls()
    };
    let created = |call: &String| call.starts_with("create ");
    assert!(calls.iter().filter(|call| created(call)).count() >= 6, "{calls:?}");
    for (n, call) in calls.iter().enumerate().filter(|(_, call)| created(call)) {
        let engine = engine(Recording::late(n, Duration::from_secs(600)));
        let failed = launched(&engine).await.unwrap_err();
        let name = call.rsplit(' ').next().unwrap();
        let said: Vec<_> = failed.swept.left.iter().map(|left| (left.to_string(), left.remedy())).collect();
        assert!(
            said.iter().any(|(text, remedy)| text.contains(name) && remedy.ends_with(name)),
            "{call}: {said:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn of_several_creations_that_were_not_answered_each_is_removed_or_named() {
    let calls = {
        let engine = engine(Recording::new());
        launched(&engine).await.unwrap();
        engine.calls()
    };
    let created: Vec<_> =
        calls.iter().map(String::as_str).filter(|call| call.starts_with("create ")).collect();
    let pairs =
        created.iter().enumerate().flat_map(|(n, one)| created[n + 1..].iter().map(|two| [*one, *two]));
    for pair in pairs {
        for after in [3, 600] {
            let engine = engine(Recording::late_calls(&pair, Duration::from_secs(after)));
            let failed = launched(&engine).await.unwrap_err();
            tokio::time::sleep(Duration::from_secs(1000)).await;
            let said = format!("{:?}", failed.swept.left);
            for name in engine.leftovers() {
                assert!(
                    said.contains(&name),
                    "{pair:?} after {after} s: {name} is left, and named nowhere: {said}"
                );
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn containers_that_others_prune_are_made_again() {
    let calls = {
        let engine = engine(Recording::new());
        launched(&engine).await.unwrap();
        engine.calls()
    };
    for (n, call) in calls.iter().enumerate() {
        let engine = engine(Recording::vanishing(n));
        let bottle = launched(&engine).await.unwrap_or_else(|failed| panic!("{call}: {}", failed.error));
        assert!(engine.leftovers().len() >= 5, "{call}: {:?}", engine.leftovers());
        teardown(&engine, &bottle.scope).await;
        assert_eq!(engine.leftovers(), Vec::<String>::new(), "{call}");
    }
}

#[tokio::test(start_paused = true)]
async fn networks_that_others_prune_are_made_again() {
    let calls = {
        let engine = engine(Recording::new());
        launched(&engine).await.unwrap();
        engine.calls()
    };
    for (n, call) in calls.iter().enumerate() {
        let engine = engine(Recording::vanishing_networks(n));
        let mut stage = Stage::new();
        let mut plan = stage.plan.clone();
        std::mem::swap(&mut plan, &mut stage.plan);
        let bottle = settled(&engine, &address(), &mut plan, None, stage.means(), |_| {})
            .await
            .unwrap_or_else(|error| panic!("{call}: {error}"));
        teardown(&engine, &bottle.scope).await;
        assert_eq!(engine.leftovers(), Vec::<String>::new(), "{call}");
    }
}

#[tokio::test]
async fn a_sidecar_that_is_not_ready_is_walked_back_with_its_words() {
    let said = Answer { stdout: Vec::new(), stderr: b"ssh-gate: no table\n".to_vec(), exit_code: 78 };
    let engine = engine(Recording::new().with_failing("ssh-gate", said));
    let failed = launched(&engine).await.unwrap_err();
    assert_eq!(failed.error.to_string(), "the sidecar ssh-gate did not become ready: ssh-gate: no table");
    assert!(matches!(failed.error, LaunchError::NotReady { .. }));
    assert_eq!(engine.leftovers(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_sidecar_that_does_not_read_its_bundle_is_not_waited_for_without_end() {
    let deaf = || engine(Recording::new().with_deaf("cred-proxy"));
    let engine = deaf();
    let failed = tokio::time::timeout(Duration::from_secs(60), launched(&engine)).await;
    let failed = failed.expect("the launch waits without end").unwrap_err();
    assert!(matches!(failed.error, LaunchError::NotReady { .. }), "{}", failed.error);
    assert_eq!(engine.leftovers(), Vec::<String>::new());

    let (engine, stage) = (deaf(), Stage::new());
    let interrupted = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        stage.interrupt.cancel();
    };
    let both = async { tokio::join!(stage.launch(&engine), interrupted).0 };
    let failed = tokio::time::timeout(Duration::from_secs(3), both).await;
    let failed = failed.expect("a signal does not end the wait").unwrap_err();
    assert!(matches!(failed.error, LaunchError::Interrupted), "{}", failed.error);
    assert_eq!(engine.leftovers(), Vec::<String>::new());
}

#[tokio::test]
async fn a_readiness_line_with_another_name_or_without_listeners_is_refused() {
    let line = |name: &str, listeners: &str| {
        format!(
            "{{\"event\":\"ready\",\"name\":\"{name}\",\"version\":\"1\",\"listeners\":{listeners},\"admin\":null}}\n"
        )
    };
    for (line, expected) in [
        (line("ssh-gate", "[]"), "it listens on [] instead of"),
        (line("ssh-gate", "[\"0.0.0.0:30000\"]"), "instead of"),
        (line("egress-proxy", "[]"), "it reports the name \"egress-proxy\""),
        ("{\"event\":\"ready\"}\n".to_owned(), "instead of a readiness line"),
        ("hello\n".to_owned(), "\"hello\" instead of a readiness line"),
    ] {
        let said = Answer { stdout: line.into_bytes(), ..Answer::default() };
        let engine = engine(Recording::new().with_failing("ssh-gate", said));
        let error = launched(&engine).await.unwrap_err().error;
        assert!(matches!(error, LaunchError::NotReady { .. }), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(engine.leftovers(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn another_launchers_bottle_of_the_same_name_is_not_touched() {
    let engine = engine(Recording::new());
    let _theirs = launched(&engine).await.unwrap();
    let stage = Stage { launcher: "elsewhere:b:1:0:1:1".parse().unwrap(), ..Stage::new() };
    let failed = stage.launch(&engine).await.unwrap_err();
    assert!(matches!(failed.error.race(), Some(Race::Name(_))), "{}", failed.error);
    assert_eq!(engine.leftovers().len(), 5, "{:?}", engine.leftovers());
}

#[tokio::test]
async fn a_name_lost_to_a_race_changes_names_and_nothing_that_was_agreed_to() {
    let engine = engine(Recording::new());
    let mut bottles = Vec::new();
    for n in 0..4 {
        let stage = Stage { launcher: format!("elsewhere:b:1:0:{n}:1").parse().unwrap(), ..Stage::new() };
        let mut plan = stage.plan.clone();
        bottles.push(settled(&engine, &address(), &mut plan, None, stage.means(), |_| {}).await.unwrap());
        assert_eq!(plan.hash, stage.plan.hash);
        let instance = bottles[n].scope.instance.clone();
        assert!(if n == 0 { instance == "dev" } else { instance.starts_with("dev-") }, "{instance}");
        let agent = engine.created(&format!("claude-bottle-{instance}")).unwrap();
        assert_eq!(agent.labels["claude-bottle.plan"], stage.plan.hash);
        assert_eq!(agent.image, "sha256:agent");
    }
    assert_eq!(engine.leftovers().len(), 20);
}

#[tokio::test]
async fn a_pinned_name_that_is_lost_is_an_error() {
    let engine = engine(Recording::new());
    let _theirs = launched(&engine).await.unwrap();
    let stage = Stage { launcher: "elsewhere:b:1:0:1:1".parse().unwrap(), ..Stage::new() };
    let mut plan = stage.plan.clone();
    let lost = settled(&engine, &address(), &mut plan, Some("claude-bottle-dev"), stage.means(), |_| {})
        .await
        .unwrap_err();
    assert!(matches!(lost, SessionError::Name(_)), "{lost}");
    assert_eq!(engine.leftovers().len(), 5);
}

#[tokio::test]
async fn an_image_that_vanished_is_an_error() {
    let engine = Recording::new();
    let failed = launched(&engine).await.unwrap_err();
    assert!(failed.error.race().is_none(), "{}", failed.error);
    assert!(
        failed.error.to_string().contains("the engine does not have the image img:1"),
        "{}",
        failed.error
    );
    assert_eq!(engine.leftovers(), Vec::<String>::new());
}

#[tokio::test]
async fn an_engine_that_warns_about_its_networks_is_refused() {
    let warning = "Network driver options are not supported";
    let engine = engine(Recording::new().with_network_warning(warning));
    let stage = Stage::new();
    let failed = stage.launch(&engine).await.unwrap_err();
    assert!(failed.error.to_string().contains(warning), "{}", failed.error);
    assert!(failed.error.hint().unwrap().contains("--unproved-engine"));
    assert_eq!(engine.leftovers(), Vec::<String>::new());

    let bottle = launch(&engine, &stage.plan, Means { unproved: true, ..stage.means() }).await.unwrap();
    assert!(bottle.doubts.iter().any(|doubt| doubt.contains(warning)), "{:?}", bottle.doubts);
}

#[tokio::test]
async fn a_seal_that_fails_says_what_it_printed() {
    let engine =
        engine(Recording::new()).with_runs(|run| match run.spec.command.iter().any(|word| word == "seal") {
            true => Answer {
                stderr: b"bottle-guest: a default route is left\n".to_vec(),
                exit_code: 1,
                ..Answer::default()
            },
            false => crate::bottle::testing::answer(run),
        });
    let failed = launched(&engine).await.unwrap_err();
    let said = failed.error.to_string();
    assert!(said.contains("a default route is left") && said.contains("exit 1"), "{said}");
    assert_eq!(engine.leftovers(), Vec::<String>::new());
}

#[tokio::test]
async fn an_interrupted_launch_is_walked_back() {
    let engine = engine(Recording::new());
    let stage = Stage::new();
    stage.interrupt.cancel();
    let failed = stage.launch(&engine).await.unwrap_err();
    assert!(matches!(failed.error, LaunchError::Interrupted));
    assert_eq!(engine.leftovers(), Vec::<String>::new());
}

#[test]
fn the_objects_of_a_plan_are_those_that_a_launch_creates() {
    let plan = planned();
    let names = Names::pick("dev", None, &BTreeMap::new()).unwrap();
    let named: Vec<_> = objects(&plan).into_iter().map(|object| object.name).collect();
    assert_eq!(
        named,
        [
            names.agent.clone(),
            "claude-bottle-ssh-gate-dev".into(),
            "claude-bottle-cred-proxy-dev".into(),
            names.seal(),
            names.internal(),
            names.egress()
        ]
    );
}

#[tokio::test]
async fn launches_at_once_take_different_names_without_asking_the_engine_twice() {
    let engine = engine(Recording::new());
    let address = address();
    let launch = |n: usize| {
        let (engine, address) = (&engine, &address);
        async move {
            let stage = Stage { launcher: format!("h:b:1:0:{n}:1").parse().unwrap(), ..Stage::new() };
            let mut plan = stage.plan.clone();
            settled(engine, address, &mut plan, None, stage.means(), |_| {}).await.unwrap()
        }
    };
    let bottles = join_all((0..8).map(launch)).await;
    let mut instances: Vec<_> = bottles.iter().map(|bottle| bottle.scope.instance.as_str()).collect();
    instances.sort_unstable();
    let expected = ["dev", "dev-2", "dev-3", "dev-4", "dev-5", "dev-6", "dev-7", "dev-8"];
    assert_eq!(instances, expected);
    // A launch that lost its name would look again which are taken. A network may be asked for twice: two
    // launches can meet on a subnet.
    let calls = engine.calls();
    assert_eq!(calls.iter().filter(|call| *call == "list networks").count(), 8, "{calls:?}");
}
