//! What a manifest's errors say, and what they never say.

mod faults;
mod files;
mod hosts;
mod mutations;
mod secrets;

use super::*;

/// A key that OpenSSH made.
const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJfzG0mGkZ9SQxHnsUJm7eNUWWgmyVVWs9PqTXhL2xPq";

/// A manifest whose bottle `dev` has these members, from line 2.
fn bottle(members: &str) -> String {
    format!(
        "{{ \"bottles\": {{ \"dev\": {{\n{members}\n}} }}, \"agents\": {{ \"a\": {{ \"bottle\": \"dev\" }} }} }}"
    )
}

/// A bottle with one SSH host, with these members in place of or beside the usual ones.
fn ssh(changes: &[(&str, &str)]) -> String {
    let usual = [("Host", r#""gh""#), ("Hostname", r#""github.com""#), ("IdentityFile", r#""key""#)];
    bottle(&format!("\"ssh\": [{}]", object(&usual, changes)))
}

/// A bottle with one route, with these members in place of or beside the usual ones.
fn route(changes: &[(&str, &str)]) -> String {
    let usual = [
        ("path", r#""/api/""#),
        ("upstream", r#""https://api.example.com""#),
        ("auth", r#"{"scheme": "bearer"}"#),
        ("token", r#"{"env": "API_TOKEN"}"#),
    ];
    bottle(&format!("\"cred_proxy\": {{\"routes\": [{}]}}", object(&usual, changes)))
}

fn object(usual: &[(&str, &str)], changes: &[(&str, &str)]) -> String {
    let kept = usual.iter().filter(|usual| changes.iter().all(|change| change.0 != usual.0));
    let members: Vec<_> = kept.chain(changes).map(|(key, value)| format!("\"{key}\": {value}")).collect();
    format!("{{{}}}", members.join(", "))
}

fn error(text: &str) -> ManifestError {
    match parse("f", text) {
        Ok(_) => panic!("accepted: {text}"),
        Err(error) => error,
    }
}

/// Everything of an error that anything may print.
fn all_of(error: &ManifestError) -> String {
    format!("{error}\n{error:?}\n{:?}", error.hint())
}
