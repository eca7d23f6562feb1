//! The hash of a plan: of what it does, not of what its objects happen to be called.

use serde_json::Value;

use super::Plan;
use crate::digest::sha256;

/// `sha256:` of the canonical JSON (keys sorted) without `hash`, `manifest`, `instance`, `engine`, names
/// of objects, subnets, and the states of keys and tokens.
pub(super) fn hash(plan: &Plan) -> String {
    let mut value = serde_json::to_value(plan).expect("a plan is made of strings, numbers and lists");
    for key in ["hash", "manifest", "instance", "engine"] {
        remove(&mut value, key);
    }
    // An existing network of the user's is part of what the plan does; ours are named by the instance.
    for network in list(&mut value, "networks") {
        if network["external"] == Value::Bool(false) {
            remove(network, "name");
        }
        remove(network, "subnet");
    }
    list(&mut value, "sidecars").iter_mut().for_each(|sidecar| remove(sidecar, "name"));
    for secrets in ["credentials", "ssh"] {
        list(&mut value, secrets).iter_mut().for_each(|secret| remove(secret, "state"));
    }
    if let Some(container) = value.get_mut("agent_container") {
        remove(container, "name");
    }
    let mut canonical = String::new();
    write(&value, &mut canonical);
    format!("sha256:{}", sha256(canonical.as_bytes()))
}

fn remove(value: &mut Value, key: &str) {
    if let Value::Object(object) = value {
        object.remove(key);
    }
}

fn list<'v>(value: &'v mut Value, key: &str) -> &'v mut [Value] {
    value.get_mut(key).and_then(Value::as_array_mut).map(Vec::as_mut_slice).unwrap_or_default()
}

/// Writes JSON with sorted keys, whatever order serde_json's maps are built to keep.
fn write(value: &Value, to: &mut String) {
    match value {
        Value::Object(object) => {
            let mut keys: Vec<_> = object.keys().collect();
            keys.sort_unstable();
            to.push('{');
            for (n, key) in keys.into_iter().enumerate() {
                to.push_str(if n == 0 { "" } else { "," });
                to.push_str(&Value::from(key.as_str()).to_string());
                to.push(':');
                write(&object[key], to);
            }
            to.push('}');
        }
        Value::Array(items) => {
            to.push('[');
            for (n, item) in items.iter().enumerate() {
                to.push_str(if n == 0 { "" } else { "," });
                write(item, to);
            }
            to.push(']');
        }
        plain => to.push_str(&plain.to_string()),
    }
}
