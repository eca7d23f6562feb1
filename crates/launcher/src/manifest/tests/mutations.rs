use proptest::prelude::*;

use super::*;

const SECRET: &str = "sk-proj-api03-Hunter2-Hunter2";

/// Every key, and a secret wherever one may stand.
fn good() -> String {
    let key = format!("github.com {KEY}");
    format!(
        r#"{{
  "$schema": "x",
  "bottles": {{ "dev": {{
    "image": "claude-bottle:latest", "user": "1000:1000",
    "env": {{ "A": "{SECRET}", "B": {{ "from_host": "B" }} }},
    "ssh": [ {{ "Host": "github", "Hostname": "github.com", "User": "git", "Port": "22",
               "IdentityFile": "~/.ssh/id", "KnownHostKey": "{key}" }} ],
    "cred_proxy": {{ "routes": [
      {{ "path": "/a/", "upstream": "https://api.example.com:8443/v1", "auth": {{ "scheme": "header", "name": "x-key", "format": "v {{token}}" }},
        "token": {{ "env": "TOKEN" }}, "allow": [ {{ "methods": ["GET"], "path": "/v1/**" }} ],
        "allow_private_upstream": true, "redact": false, "cookies": true, "ca_file": "ca.pem" }} ] }},
    "egress": {{ "engine": "none", "allow": [] }}, "egress_network": "net", "hosts": {{ "git.corp.example": "10.1.2.3" }},
    "upstream_proxy": "http://ada:{SECRET}@proxy.example:3128",
    "limits": {{ "memory": "4GiB", "cpus": 1.5, "pids": 1024 }}
  }} }},
  "agents": {{ "reviewer": {{ "bottle": "dev", "skills": [], "prompt": "You review.", "command": ["claude"] }} }}
}}"#
    )
}

/// Stands for the secret while the text is changed, so that no change cuts it.
const MARK: &str = "\u{e000}";

/// One change of a text: at a place, so many characters give way to something.
fn change() -> impl Strategy<Value = (usize, usize, String)> {
    let piece = prop_oneof![
        Just(String::new()),
        Just(MARK.to_owned()),
        Just(format!("\"{MARK}\"")),
        Just(format!("\"{MARK}\": ")),
        Just(format!("{{\"{MARK}\": 1}}")),
        r#"["{}\[\],:0-9\\ \n/#-]"#,
        "(null|true|\\{\\}|\\[\\]|-1|1e9|\"\"|\"x\",)",
        any::<char>().prop_map(String::from),
    ];
    (0..2000_usize, 0..40_usize, piece)
}

fn changed(text: &str, changes: &[(usize, usize, String)]) -> String {
    let mut text: Vec<char> = text.replace(SECRET, MARK).chars().collect();
    for (at, length, piece) in changes {
        let start = at % (text.len() + 1);
        let end = (start + length).min(text.len());
        text.splice(start..end, piece.chars());
    }
    String::from_iter(text).replace(MARK, SECRET)
}

/// Replaces the nth value, in the order of the text, by another.
fn replace(value: &mut serde_json::Value, nth: &mut usize, by: &serde_json::Value) {
    if *nth == 0 {
        *value = by.clone();
    }
    *nth = nth.wrapping_sub(1);
    match value {
        serde_json::Value::Array(items) => items.iter_mut().for_each(|item| replace(item, nth, by)),
        serde_json::Value::Object(members) => {
            members.values_mut().for_each(|member| replace(member, nth, by));
        }
        _ => {}
    }
}

#[test]
fn the_manifest_that_is_changed_is_good() {
    parse("f", &good()).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_change_makes_it_panic_or_print_the_secret(changes in prop::collection::vec(change(), 1..4)) {
        if let Err(error) = parse("f", &changed(&good(), &changes)) {
            let all = all_of(&error);
            prop_assert!(!all.contains("Hunter2"), "{all}");
            prop_assert!(all.len() < 1500, "{all}");
        }
    }

    #[test]
    fn no_value_in_another_s_place_makes_it_panic_or_print_the_secret(nth in 0..60_usize, kind in 0..8_usize) {
        let by = [
            serde_json::json!(SECRET),
            serde_json::json!(format!(" {SECRET} ")),
            serde_json::json!([SECRET]),
            serde_json::json!({ SECRET: SECRET }),
            serde_json::json!({ "env": SECRET }),
            serde_json::json!({ "from_host": { SECRET: 1 } }),
            serde_json::json!(null),
            serde_json::json!(-1),
        ];
        let mut value = serde_json::from_str(&good()).unwrap();
        replace(&mut value, &mut nth.clone(), &by[kind]);
        if let Err(error) = parse("f", &value.to_string()) {
            let all = all_of(&error);
            prop_assert!(!all.contains("Hunter2"), "{all}");
        }
    }
}
