//! podman is refused, since an internal network does not isolate there.
//!
//! Run on podman alone, which `cargo xtask test` does not: docs/engines.md has the command.
#![forbid(unsafe_code)]
// Set-up that fails is a failed test: here a panic is the message.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use e2e::environment;
use e2e::lone::Lone;
use e2e::raw::shown;
use serde_json::Value;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "runs on podman only: `cargo xtask engine in podman54 cargo test -p e2e --test podman -- --ignored`"]
async fn podman_is_refused_with_what_it_lacks_and_nothing_is_created() {
    let environment = environment().unwrap_or_else(|error| panic!("{error}"));
    let version = answer("/version").await;
    assert_eq!(version["Components"][0]["Name"], "Podman Engine", "this test needs podman");
    let lone = Lone::new(&environment, "podman");
    let before = objects().await;

    let ran = lone.bash("true").run().await;
    assert_eq!(ran.code(), Some(69), "{ran:?}");
    assert_eq!(ran.stdout, "");
    let said = ran.stderr.to_lowercase();
    assert!(said.starts_with("error: ") && said.contains("podman"), "{}", ran.stderr);
    // What is missing, and what overrides the refusal.
    assert!(["isolat", "gateway", "host"].iter().any(|missing| said.contains(missing)), "{}", ran.stderr);
    assert!(said.contains("--unproved-engine"), "{}", ran.stderr);
    assert_eq!(objects().await, before);
}

/// The names or ids of everything that a launch may create, by kind.
async fn objects() -> BTreeMap<&'static str, Vec<String>> {
    let mut objects = BTreeMap::new();
    for (path, id) in [
        ("/containers/json?all=1", "Id"),
        ("/networks", "Id"),
        ("/images/json?all=1", "Id"),
        ("/volumes", "Name"),
    ] {
        let shown = answer(path).await;
        // Volumes come in an object of their own; there may be null for none.
        let all = shown.get("Volumes").unwrap_or(&shown).as_array().cloned().unwrap_or_default();
        let mut ids: Vec<String> = all.iter().map(|one| one[id].as_str().unwrap().to_owned()).collect();
        ids.sort_unstable();
        objects.insert(path, ids);
    }
    objects
}

async fn answer(path: &str) -> Value {
    serde_json::from_slice(&shown(path).await).unwrap()
}
