use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::*;
use crate::engine::{EngineInfo, Image, Network, NetworkId, ObjectKind, Product};
use crate::host::{Proxy, TakenBy, proxy};
use crate::images::BuiltImage;
use crate::manifest::parse;
use crate::plan::references;
use crate::secrets::check;

const MANIFEST: &str = r#"{ "bottles": { "dev": {
    "image": "img:1", "env": { "NODE_ENV": "development", "EDITOR": { "from_host": "EDITOR" } },
    "ssh": [
      { "Host": "github", "Hostname": "github.com", "IdentityFile": "~/.ssh/a",
        "KnownHostKey": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJfzG0mGkZ9SQxHnsUJm7eNUWWgmyVVWs9PqTXhL2xPq" },
      { "Host": "lab", "Hostname": "git.lab.example", "Port": "2222", "IdentityFile": "~/.ssh/a" } ],
    "cred_proxy": { "routes": [ { "path": "/api/", "upstream": "https://api.example.com/v1",
        "auth": { "scheme": "bearer" }, "token": { "env": "API_TOKEN" } } ] },
    "hosts": { "git.lab.example": "10.1.2.3" },
    "limits": { "memory": "4GiB", "cpus": 2, "pids": 1024 }
  }, "bare": {} },
  "agents": { "reviewer": { "bottle": "dev", "prompt": "x", "command": ["claude"] }, "idle": { "bottle": "bare" } } }"#;

fn built(binary: Binary) -> BuiltImage {
    let name = binary.name();
    BuiltImage {
        pieces: std::sync::Arc::default(),
        config_digest: format!("sha256:{name}"),
        manifest_digest: String::new(),
        tag: format!("localhost/claude-bottle/{name}:0123456789ab"),
    }
}

fn host() -> Host {
    Host {
        engine: Some(EngineInfo {
            product: Product::Docker,
            version: "20.10.24".into(),
            api: "1.41".into(),
            arch: "x86_64".into(),
            runtimes: vec!["runc".into()],
            local: true,
        }),
        image: Some(Image { id: "sha256:abc".into(), user: Some("dev".into()), working_dir: None }),
        images: Binary::ALL.map(|binary| (binary, built(binary))).into(),
        ..Host::default()
    }
}

fn network(name: &str, internal: bool) -> Network {
    Network {
        id: NetworkId("n1".into()),
        name: name.into(),
        internal,
        subnets: Vec::new(),
        labels: BTreeMap::new(),
    }
}

fn made_of(text: &str, agent: &str, change: impl FnOnce(&mut Request, &mut Host)) -> Result<Plan, PlanError> {
    let manifest = parse("m", text).unwrap();
    let settings = Settings::read(|_| None).unwrap();
    let mut request = Request { manifest: "m".into(), agent: agent.into(), command: None, settings };
    let mut host = host();
    change(&mut request, &mut host);
    let found = check(&references(&manifest, agent).unwrap_or_default(), |_| false);
    plan(&manifest, &request, &host, &found)
}

fn make(agent: &str, change: impl FnOnce(&mut Request, &mut Host)) -> Result<Plan, PlanError> {
    made_of(MANIFEST, agent, change)
}

fn json_of(plan: &Plan) -> Value {
    serde_json::to_value(plan).unwrap()
}

#[test]
fn the_plan_stands_as_documented() {
    let plan = make("reviewer", |_, _| {}).unwrap();
    let json = json_of(&plan);
    assert_eq!(json["version"], 1);
    assert_eq!(json["mode"], "attached");
    assert_eq!(json["engine"]["api"], "1.41");
    assert_eq!(json["image"], json!({"name": "img:1", "id": "sha256:abc", "derived": null}));
    let networks: Vec<_> = json["networks"].as_array().unwrap().iter().map(|one| &one["name"]).collect();
    assert_eq!(networks, ["claude-bottle-int-reviewer", "claude-bottle-egr-reviewer"]);
    let gate = &json["sidecars"][0];
    assert_eq!(gate["name"], "claude-bottle-ssh-gate-reviewer");
    assert_eq!(
        gate["forwards"],
        json!([
            {"listen": 30000, "upstream": "github.com:22", "alias": "github", "protocol": "ssh"},
            {"listen": 30001, "upstream": "git.lab.example:2222", "alias": "lab", "protocol": "ssh"}
        ])
    );
    assert_eq!(gate["hardening"]["sysctls"]["net.ipv4.ip_forward"], "0");
    assert_eq!(json["sidecars"][1]["routes"][0]["token_env"], "CRED_PROXY_TOKEN_0");
    assert_eq!(json["sidecars"][1]["routes"][0]["ca_digests"], json!([]));
    assert_eq!(json["agent_container"]["user"], "dev");
    assert_eq!(json["agent_container"]["held_by_agent"], json!(["EDITOR"]));
    assert_eq!(
        json["agent_container"]["limits"],
        json!({"memory": 4_294_967_296_u64, "cpus": 2.0, "pids": 1024})
    );
    assert_eq!(json["hosts"], json!({"git.lab.example": "10.1.2.3"}));
    assert_eq!(json["upstream_proxy"], Value::Null);
    assert_eq!(json["ssh"][0]["host_key"], "pinned");
    assert_eq!(json["ssh"][1]["host_key"], "accept-new");
    assert_eq!(json["ssh"][1]["state"], "missing");
    assert_eq!(
        json["credentials"],
        json!([{"route": "/api/", "upstream": "https://api.example.com/v1",
            "token": "CRED_PROXY_TOKEN_0", "source": "env:API_TOKEN", "state": "missing"}])
    );
    let reach: Vec<_> = plan.reachability.iter().map(|r| (r.to.as_str(), r.verdict)).collect();
    let expected = [
        ("ssh-gate:30000", "forward"),
        ("ssh-gate:30001", "forward"),
        ("cred-proxy:9099", "forward"),
        ("*", "refuse"),
    ];
    assert_eq!(reach, expected);
}

#[test]
fn a_bare_bottle_has_no_sidecar_and_no_way_out() {
    let plan = make("idle", |_, _| {}).unwrap();
    assert!(plan.sidecars.is_empty());
    assert_eq!(plan.networks.len(), 1);
    assert_eq!(plan.reachability.len(), 1);
}

#[test]
fn whatever_changes_a_launch_changes_the_json_and_the_hash() {
    let first = make("reviewer", |_, _| {}).unwrap();
    let unhashed = |plan: &Plan| {
        let mut json = json_of(plan);
        json.as_object_mut().unwrap().remove("hash");
        json
    };
    let differs = |what: &str, other: &Plan| {
        assert_ne!(unhashed(&first), unhashed(other), "{what}: the JSON is the same");
        assert_ne!(first.hash, other.hash, "{what}: the hash is the same");
    };
    for (from, to) in [
        (r#""image": "img:1""#, r#""image": "img:2""#),
        (r#""NODE_ENV": "development""#, r#""NODE_ENV": "production""#),
        (r#"{ "from_host": "EDITOR" }"#, r#"{ "from_host": "VISUAL" }"#),
        (r#""Host": "github""#, r#""Host": "gh""#),
        ("github.com", "github.example"),
        (r#""Port": "2222""#, r#""Port": "2223""#),
        (r#""Hostname": "github.com","#, r#""Hostname": "github.com", "User": "me","#),
        ("~/.ssh/a\" } ]", "~/.ssh/b\" } ]"),
        ("IJfzG0mGkZ9SQxHnsUJm7eNUWWgmyVVWs9PqTXhL2xPq", "IJfzG0mGkZ9SQxHnsUJm7eNUWWgmyVVWs9PqTXhL2xPr"),
        (r#""path": "/api/""#, r#""path": "/v2/""#),
        ("https://api.example.com/v1", "https://api.example.com/v2"),
        (r#""scheme": "bearer""#, r#""scheme": "basic", "username": "u""#),
        (r#""env": "API_TOKEN""#, r#""env": "OTHER_TOKEN""#),
        (r#""env": "API_TOKEN" }"#, r#""env": "API_TOKEN" }, "redact": false"#),
        (r#""env": "API_TOKEN" }"#, r#""env": "API_TOKEN" }, "cookies": true"#),
        (r#""env": "API_TOKEN" }"#, r#""env": "API_TOKEN" }, "allow_private_upstream": true"#),
        (r#""env": "API_TOKEN" }"#, r#""env": "API_TOKEN" }, "allow": []"#),
        ("10.1.2.3", "10.1.2.4"),
        (r#""memory": "4GiB""#, r#""memory": "5GiB""#),
        (r#""cpus": 2"#, r#""cpus": 2.000000001"#),
        (r#""pids": 1024"#, r#""pids": 1025"#),
        (r#""prompt": "x""#, r#""prompt": "y""#),
        (r#""command": ["claude"]"#, r#""command": ["claude", "-c"]"#),
        (r#""limits""#, r#""user": "other", "limits""#),
    ] {
        assert!(MANIFEST.contains(from), "{from}");
        differs(to, &made_of(&MANIFEST.replace(from, to), "reviewer", |_, _| {}).unwrap());
    }
    let change = |what: &str, change: &dyn Fn(&mut Request, &mut Host)| {
        differs(what, &make("reviewer", |request, host| change(request, host)).unwrap());
    };
    change("image id", &|_, host| host.image.as_mut().unwrap().id = "sha256:moved".into());
    change("a sidecar", &|_, host| {
        host.images.get_mut(&Binary::SshGate).unwrap().config_digest = "sha256:other".into();
    });
    change("the guest", &|_, host| {
        host.images.get_mut(&Binary::Guest).unwrap().config_digest = "sha256:other".into();
    });
    change("the proxy", &|_, host| host.proxy = through("http://proxy.example:3128"));
    change("the MTU", &|_, host| host.ground.mtu = Some(1300));
    change("the command", &|request, _| request.command = Some(vec!["sh".into()]));
    change("the home", &|request, _| request.settings.container_home = Some("/srv".into()));
    change("cred-proxy's port", &|request, _| request.settings.cred_proxy_port = 9000);
    change("the runtime", &|request, host| {
        request.settings.runtime = Runtime::Runsc;
        host.engine.as_mut().unwrap().runtimes.push("runsc".into());
    });
}

fn through(url: &str) -> Option<Proxy> {
    proxy(Some(url), |_| None).unwrap()
}

#[test]
fn a_routes_certificate_is_in_the_plan_by_its_digest() {
    let plan_with = |name: &str| {
        let path = format!("{}/tests/data/ca-{name}.pem", env!("CARGO_MANIFEST_DIR"));
        let token = r#""token": { "env": "API_TOKEN" }"#;
        let text = MANIFEST.replace(token, &format!("{token}, \"ca_file\": {path:?}"));
        made_of(&text, "reviewer", |_, _| {}).unwrap()
    };
    let (one, other) = (plan_with("one"), plan_with("other"));
    let digests = |plan: &Plan| json_of(plan)["sidecars"][1]["routes"][0]["ca_digests"].clone();
    assert!(digests(&one)[0].as_str().unwrap().starts_with("sha256:"));
    assert_ne!(digests(&one), digests(&other));
    assert_ne!(one.hash, other.hash);
}

#[test]
fn the_hash_is_of_what_is_done_not_of_names_and_states() {
    let first = make("reviewer", |_, _| {}).unwrap();
    let manifest = parse("m", MANIFEST).unwrap();
    let renamed = make("reviewer", |request, host| {
        let by = TakenBy { kind: ObjectKind::Network, ours: true };
        host.taken.insert("claude-bottle-int-reviewer".into(), by);
        host.engine = None;
        request.manifest = "elsewhere".into();
    })
    .unwrap();
    assert_eq!((first.instance.as_str(), renamed.instance.as_str()), ("reviewer", "reviewer-2"));
    assert_eq!(first.hash, renamed.hash);
    let request = Request {
        manifest: "m".into(),
        agent: "reviewer".into(),
        command: None,
        settings: Settings::read(|_| None).unwrap(),
    };
    let found = check(&references(&manifest, "reviewer").unwrap(), |_| true);
    assert_eq!(plan(&manifest, &request, &host(), &found).unwrap().hash, first.hash);
}

#[test]
fn another_name_after_a_race_changes_names_only() {
    let mut plan = make("reviewer", |_, _| {}).unwrap();
    let before = plan.clone();
    let by = TakenBy { kind: ObjectKind::Container, ours: true };
    plan.rename(Names::pick("reviewer", None, &[("claude-bottle-reviewer".to_owned(), by)].into()).unwrap());
    let text = json_of(&plan).to_string();
    assert!(!text.contains("-reviewer\""), "{text}");
    assert_eq!(text.replace("reviewer-2\"", "reviewer\""), json_of(&before).to_string());
}

#[test]
fn what_a_careful_reader_should_know_is_said() {
    let plan = make("reviewer", |_, host| {
        host.known_names = BTreeSet::from(["github.com".to_owned(), "git.lab.example".to_owned()]);
        host.proxy = through("http://ada:secret@127.0.0.1:3128");
        host.engine.as_mut().unwrap().product = Product::Podman;
    })
    .unwrap();
    let said = plan.warnings.join("\n");
    for expected in [
        "lab has no KnownHostKey",
        "not bound to any host",
        "/api/ has no `allow`",
        "EDITOR is held by the agent",
        "github.com is in this machine's /etc/hosts",
        "127.0.0.1:3128 is a loopback address",
        "podman is not proved to isolate",
    ] {
        assert!(said.contains(expected), "{expected}: {said}");
    }
    assert!(!said.contains("git.lab.example is in"), "it is in `hosts`: {said}");
    let all = format!("{}{}", json_of(&plan), plan.lines().as_str());
    assert!(!all.contains("secret") && !all.contains("ada:"), "{all}");
}

#[test]
fn what_has_no_effect_is_said() {
    let text = MANIFEST
        .replace(r#""EDITOR": {"#, r#""SSH_AUTH_SOCK": "/mine", "EDITOR": {"#)
        .replace(r#""hosts""#, r#""egress": { "allow": ["docs.example"] }, "hosts""#);
    let plan = made_of(&text, "reviewer", |_, _| {}).unwrap();
    let said = plan.warnings.join("\n");
    for expected in ["env.SSH_AUTH_SOCK has no effect", "egress.allow has no effect"] {
        assert!(said.contains(expected), "{expected}: {said}");
    }
    assert_eq!(json_of(&plan)["egress"]["allow"], json!(["docs.example"]));
}

#[test]
fn the_rules_of_a_route_stand_in_the_plan_and_still_its_warning() {
    let token = r#""token": { "env": "API_TOKEN" }"#;
    let allow = format!(r#"{token}, "allow": [ {{ "methods": ["GET", "HEAD"], "path": "/user/**" }} ]"#);
    let plan = made_of(&MANIFEST.replace(token, &allow), "reviewer", |_, _| {}).unwrap();
    let rules = json!([{"methods": ["GET", "HEAD"], "path": "/user/**"}]);
    assert_eq!(json_of(&plan)["sidecars"][1]["routes"][0]["allow"], rules);
    assert!(plan.lines().as_str().contains("only GET HEAD /user/**"), "{}", plan.lines().as_str());
    assert!(!plan.warnings.join("\n").contains("has no `allow`"));
}

#[test]
fn no_name_forges_a_line_of_the_plan() {
    let name = "k\u{1b}[2A\nwarning    none";
    let text = MANIFEST.replace("\"~/.ssh/a\"", &serde_json::to_string(name).unwrap());
    let plan = made_of(&text, "reviewer", |_, _| {}).unwrap();
    let lines = plan.lines();
    assert!(lines.as_str().contains("k\\u{1b}[2A\\nwarning    none"), "{}", lines.as_str());
    assert!(!lines.as_str().contains('\u{1b}') && !lines.as_str().contains("\nwarning    none"));
}

#[test]
fn what_cannot_be_planned_says_why() {
    assert!(matches!(make("unknown", |_, _| {}), Err(PlanError::NoAgent { .. })));
    let root = make("reviewer", |_, host| {
        host.image = Some(Image { id: "i".into(), user: Some("0:0".into()), working_dir: None });
    });
    assert_eq!(root.unwrap().agent_container.user, "node");
    let gone = make("reviewer", |request, _| request.settings.runtime = Runtime::Runsc);
    assert_eq!(gone.unwrap_err(), PlanError::NoRuntime("runsc"));
    let pinned = make("reviewer", |request, host| {
        request.settings.container = Some("mine".into());
        let by = TakenBy { kind: ObjectKind::Network, ours: true };
        host.taken.insert("claude-bottle-int-mine".into(), by);
    })
    .unwrap_err();
    assert_eq!(
        pinned.to_string(),
        "CLAUDE_BOTTLE_CONTAINER: the network claude-bottle-int-mine exists already"
    );
    assert!(pinned.hint().unwrap().contains("docker network rm claude-bottle-int-mine"));
    let foreign = make("reviewer", |request, host| {
        request.settings.container = Some("mine".into());
        host.taken.insert("mine".into(), TakenBy { kind: ObjectKind::Container, ours: false });
    });
    let hint = foreign.unwrap_err().hint().unwrap();
    assert!(!hint.contains("docker rm"), "never a command that removes what is not ours: {hint}");
}

#[test]
fn auto_is_runc_and_the_plan_says_why() {
    let plan = make("reviewer", |_, host| {
        host.engine.as_mut().unwrap().runtimes.push("runsc".into());
    })
    .unwrap();
    assert_eq!(plan.runtime, "runc");
    assert!(plan.warnings.iter().any(|warning| warning.contains("runc is used")), "{:?}", plan.warnings);
}

#[test]
fn an_external_network_is_joined_and_must_be_there() {
    let ssh = r#""ssh": [ {"Host":"a","Hostname":"h","IdentityFile":"k"} ]"#;
    let bare = format!("\"bare\": {{ \"egress_network\": \"mine\", {ssh} }}");
    let text = MANIFEST.replace("\"bare\": {}", &bare);
    let missing = made_of(&text, "idle", |_, _| {}).unwrap_err();
    assert_eq!(missing, PlanError::NoNetwork { bottle: "bare".into(), name: "mine".into() });
    let plan = made_of(&text, "idle", |_, host| host.egress_network = Some(network("mine", true))).unwrap();
    assert!(plan.networks[1].external);
    assert_eq!(plan.external_network(), Some((NetworkId("n1".into()), "mine")));
    assert!(plan.warnings.iter().any(|warning| warning.contains("only hosts on that network")));
    let moved = |id: &str| {
        made_of(&text, "idle", |_, host| {
            host.egress_network = Some(Network { id: NetworkId(id.into()), ..network("mine", true) });
        })
    };
    assert_ne!(plan.hash, moved("n2").unwrap().hash);
}

#[test]
fn a_variable_that_the_bottle_sets_itself_has_no_effect_and_that_is_said() {
    let replaced = |name: &str, agent: &str| {
        let text = MANIFEST.replace("\"NODE_ENV\"", &format!("{name:?}"));
        assert_ne!(text, MANIFEST);
        let plan = made_of(&text, agent, |_, _| {}).unwrap();
        plan.warnings.iter().any(|warning| warning.contains(name) && warning.contains("has no effect"))
    };
    assert!(replaced("SSH_AUTH_SOCK", "reviewer") && replaced("CLAUDE_BOTTLE_PROMPT_FILE", "reviewer"));
    assert!(!replaced("OTHER", "reviewer"));
}
