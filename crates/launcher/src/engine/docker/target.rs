//! Paths and queries of requests.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::engine::EngineError;

/// The query that lists only what carries a label.
pub(super) fn label_filter(label: Option<&str>) -> String {
    label.map_or_else(String::new, |label| {
        let filters = serde_json::json!({ "label": [label] }).to_string();
        format!("filters={}", escaped(&filters))
    })
}

/// A name or id from outside, as part of a path.
///
/// # Security
///
/// Names of images contain slashes, so a manifest could name another endpoint by `..`.
pub(super) fn named(act: &str, text: &str) -> Result<String, EngineError> {
    if text.split('/').any(|segment| matches!(segment, "" | "." | "..")) {
        let message = "invalid reference".to_owned();
        return Err(EngineError::Refused { act: act.to_owned(), status: 400, message });
    }
    Ok(escaped(text))
}

/// A name, id or value, as part of a target.
pub(super) fn escaped(text: &str) -> String {
    utf8_percent_encode(text, UNSAFE).to_string()
}

/// All that could end a path segment or a query; names of images keep their slashes and colons.
const UNSAFE: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'/')
    .remove(b':')
    .remove(b'@');

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_lead_the_request_elsewhere() {
        let name = "localhost:5000/claude-bottle/x:0a@sha256:00";
        assert_eq!(named("inspect", name).unwrap(), name);
        for name in
            ["", "/", "../networks/bridge", "a/../../networks/bridge", "a/./b", "a//b", "a/", "/a", ".."]
        {
            let error = named("inspect it", name).unwrap_err();
            assert_eq!(error.to_string(), "the engine could not inspect it: invalid reference", "{name}");
        }
        assert_eq!(escaped("a?force=1#b %2f\r\n"), "a%3Fforce%3D1%23b%20%252f%0D%0A");
        assert_eq!(label_filter(Some("a=b")), "filters=%7B%22label%22:%5B%22a%3Db%22%5D%7D");
        assert_eq!(label_filter(None), "");
    }
}
