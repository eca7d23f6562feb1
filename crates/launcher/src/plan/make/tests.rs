use super::*;
use crate::engine::{EngineInfo, Image, NetworkId};
use crate::manifest::parse;

const MANIFEST: &str = r#"{ "bottles": { "dev": {
    "image": "img:1", "env": { "NODE_ENV": "development", "EDITOR": { "from_host": "EDITOR" } },
    "ssh": [
      { "Host": "github", "Hostname": "github.com", "IdentityFile": "~/.ssh/a",
        "KnownHostKey": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJfzG0mGkZ9SQxHnsUJm7eNUWWgmyVVWs9PqTXhL2xPq" },
      { "Host": "lab", "Hostname": "git.lab.example", "Port": "2222", "IdentityFile": "~/.ssh/a" } ],
    "cred_proxy": { "routes": [ { "path": "/api/", "upstream": "https://api.example.com/v1",
        "auth": { "scheme": "bearer" }, "token": { "env": "API_TOKEN" } } ] }
  }, "bare": {} },
  "agents": { "reviewer": { "bottle": "dev", "prompt": "x", "command": ["claude"] }, "idle": { "bottle": "bare" } } }"#;

fn built(name: &str) -> BuiltImage {
    BuiltImage {
        archive: bytes::Bytes::new(),
        config_digest: format!("sha256:{name}"),
        manifest_digest: String::new(),
        tag: format!("localhost/claude-bottle/{name}:0123456789ab"),
    }
}

fn host() -> Host {
    Host {
        engine: Some(EngineInfo {
            version: "20.10.24".into(),
            api: "1.41".into(),
            arch: "x86_64".into(),
            runtimes: vec!["runc".into()],
            local: true,
        }),
        image: Some(Image { id: "sha256:abc".into(), user: Some("dev".into()), working_dir: None }),
        images: ["bottle-guest", "ssh-gate", "cred-proxy"].map(|name| (name, built(name))).into(),
        ..Host::default()
    }
}

fn make(agent: &str, change: impl FnOnce(&mut Request, &mut Host)) -> Result<Plan, PlanError> {
    let settings = Settings::read(|_| None).unwrap();
    let mut request = Request { agent: agent.into(), command: None, settings };
    let mut host = host();
    change(&mut request, &mut host);
    plan(&parse("m", MANIFEST).unwrap(), &request, &host)
}

#[test]
fn the_plan_stands_as_documented() {
    let plan = make("reviewer", |_, _| {}).unwrap();
    let json = serde_json::to_value(&plan).unwrap();
    assert_eq!(json["version"], 1);
    assert_eq!(json["mode"], "attached");
    assert_eq!(json["engine"]["api"], "1.41");
    assert_eq!(json["image"], serde_json::json!({"name": "img:1", "id": "sha256:abc", "derived": null}));
    assert_eq!(
        json["networks"],
        serde_json::json!([
            {"name": "claude-bottle-int-reviewer", "internal": true, "subnet": null, "external": false},
            {"name": "claude-bottle-egr-reviewer", "internal": false, "subnet": null, "external": false}
        ])
    );
    let gate = &json["sidecars"][0];
    assert_eq!(gate["name"], "claude-bottle-ssh-gate-reviewer");
    assert_eq!(
        gate["forwards"],
        serde_json::json!([
            {"listen": 30000, "upstream": "github.com:22", "alias": "github", "protocol": "ssh"},
            {"listen": 30001, "upstream": "git.lab.example:2222", "alias": "lab", "protocol": "ssh"}
        ])
    );
    assert_eq!(gate["hardening"]["sysctls"]["net.ipv4.ip_forward"], "0");
    assert_eq!(json["sidecars"][1]["routes"][0]["token_env"], "CRED_PROXY_TOKEN_0");
    assert_eq!(json["agent_container"]["user"], "dev");
    assert_eq!(json["agent_container"]["held_by_agent"], serde_json::json!(["EDITOR"]));
    assert_eq!(json["ssh"][0]["host_key"], "pinned");
    assert_eq!(json["ssh"][1]["host_key"], "accept-new");
    assert_eq!(
        json["credentials"],
        serde_json::json!([{"route": "/api/", "upstream": "https://api.example.com/v1",
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
fn the_hash_is_of_what_is_done_not_of_names_and_states() {
    let first = make("reviewer", |_, _| {}).unwrap();
    let renamed = make("reviewer", |_, host| {
        host.taken.insert("claude-bottle-reviewer".into());
        host.present.insert("env:API_TOKEN".into());
        host.engine = None;
    })
    .unwrap();
    assert_eq!((first.instance.as_str(), renamed.instance.as_str()), ("reviewer", "reviewer-2"));
    assert_eq!(first.hash, renamed.hash);
    let other = make("reviewer", |request, _| request.command = Some(vec!["sh".into()])).unwrap();
    assert_ne!(first.hash, other.hash);
}

#[test]
fn what_a_careful_reader_should_know_is_said() {
    let said = make("reviewer", |_, _| {}).unwrap().warnings.join("\n");
    for expected in
        ["lab has no KnownHostKey", "bound to no host", "/api/ has no `allow`", "EDITOR is held by the agent"]
    {
        assert!(said.contains(expected), "{expected}: {said}");
    }
}

#[test]
fn the_rules_of_a_route_stand_in_the_plan_and_still_its_warning() {
    let allow =
        r#""token": { "env": "API_TOKEN" }, "allow": [ { "methods": ["GET", "HEAD"], "path": "/user/**" } ]"#;
    let manifest = MANIFEST.replace(r#""token": { "env": "API_TOKEN" }"#, allow);
    let settings = Settings::read(|_| None).unwrap();
    let request = Request { agent: "reviewer".into(), command: None, settings };
    let plan = plan(&parse("m", &manifest).unwrap(), &request, &host()).unwrap();
    let rules = serde_json::json!([{"methods": ["GET", "HEAD"], "path": "/user/**"}]);
    assert_eq!(serde_json::to_value(&plan).unwrap()["sidecars"][1]["routes"][0]["allow"], rules);
    assert!(plan.to_string().contains("only GET HEAD /user/**"), "{plan}");
    assert!(!plan.warnings.join("\n").contains("has no `allow`"));
}

#[test]
fn what_cannot_be_planned_says_why() {
    assert!(matches!(make("nobody", |_, _| {}), Err(PlanError::NoAgent { .. })));
    let root = make("reviewer", |_, host| {
        host.image = Some(Image { id: "i".into(), user: Some("0:0".into()), working_dir: None });
    });
    assert_eq!(root.unwrap().agent_container.user, "node");
    let gone = make("reviewer", |request, _| request.settings.runtime = Runtime::Runsc);
    assert_eq!(gone.unwrap_err(), PlanError::NoRuntime("runsc"));
}

#[test]
fn an_external_network_is_joined_and_must_be_there() {
    let text = MANIFEST.replace("\"bare\": {}", "\"bare\": { \"egress_network\": \"mine\", \"ssh\": [ {\"Host\":\"a\",\"Hostname\":\"h\",\"IdentityFile\":\"k\"} ] }");
    let manifest = parse("m", &text).unwrap();
    let request =
        Request { agent: "idle".into(), command: None, settings: Settings::read(|_| None).unwrap() };
    let mut host = host();
    assert_eq!(plan(&manifest, &request, &host).unwrap_err(), PlanError::NoNetwork("mine".into()));
    host.egress_network = Some(crate::engine::Network {
        id: NetworkId("n1".into()),
        name: "mine".into(),
        internal: true,
        subnets: Vec::new(),
        labels: BTreeMap::new(),
    });
    let plan = plan(&manifest, &request, &host).unwrap();
    assert!(plan.networks[1].external);
    assert!(plan.warnings.iter().any(|warning| warning.contains("only hosts on that network")));
}
