//! JSON is parsed by the parser of the program that reads it.

use sidecar::ports::PortTable;
use sidecar::ready::Ready;
use sidecar::routes::RouteTable;
use sidecar::table;

use crate::shell::Output;

/// Parses a block; `kind` is the second word of its language.
pub(crate) fn check(kind: &str, text: &str) -> Result<(), String> {
    match kind {
        "" => parsed(serde_json::from_str::<serde_json::Value>(text)),
        "manifest" => parsed(claude_bottle::manifest::parse("claude-bottle.json", text)),
        "ports" => parsed(table::parse::<PortTable>("ports.json", text.as_bytes())),
        "routes" => parsed(table::parse::<RouteTable>("routes.json", text.as_bytes())),
        "route" => check("routes", &format!("{{\"routes\":[{text}]}}")),
        "rules" => check("route", &with_rules(text)),
        _ => Err(format!("JSON of the unknown kind {kind:?}")),
    }
}

/// Parses what a command printed, if it is JSON: a table by `cat`, or a readiness line.
pub(crate) fn check_output(output: &Output) -> Result<(), String> {
    let file = output
        .command
        .strip_prefix("cat ")
        .filter(|file| std::path::Path::new(file).extension().is_some_and(|extension| extension == "json"));
    match file {
        Some("claude-bottle.json") => check("manifest", &output.text),
        Some("ports.json") => check("ports", &output.text),
        Some("routes.json") => check("routes", &output.text),
        Some(_) => check("", &output.text),
        None => {
            let mut lines = output.text.lines().filter(|line| line.starts_with('{'));
            lines.try_for_each(|line| parsed(Ready::parse(line)))
        }
    }
}

/// A route that has only what it needs, and these rules.
fn with_rules(rules: &str) -> String {
    let route = r#""path":"/a/","upstream":"https://a.example","auth":{"scheme":"bearer"},"token_env":"A""#;
    format!("{{{route},{rules}}}")
}

fn parsed<T, E: std::fmt::Display>(result: Result<T, E>) -> Result<(), String> {
    result.map(|_| ()).map_err(|error| error.to_string())
}
