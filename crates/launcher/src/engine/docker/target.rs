//! Paths and queries of requests.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// The query that lists only what carries a label.
pub(super) fn label_filter(label: Option<&str>) -> String {
    label.map_or_else(String::new, |label| {
        let filters = serde_json::json!({ "label": [label] }).to_string();
        format!("filters={}", escaped(&filters))
    })
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
        assert_eq!(escaped("localhost/claude-bottle/x:0a"), "localhost/claude-bottle/x:0a");
        assert_eq!(escaped("a?force=1#b %2f\r\n"), "a%3Fforce%3D1%23b%20%252f%0D%0A");
        assert_eq!(label_filter(Some("a=b")), "filters=%7B%22label%22:%5B%22a%3Db%22%5D%7D");
        assert_eq!(label_filter(None), "");
    }
}
