//! A corpus of raw cases, as data: what is sent, and what is expected.

use std::path::Path;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::Deserialize;

use super::ConformanceError;

/// A case of a corpus.
#[derive(Debug, Clone)]
pub struct Case {
    /// Its name, for the report.
    pub id: String,
    /// Whether the corpus counts it.
    pub scored: bool,
    /// What is sent, and by whom.
    pub input: Input,
    /// The expected result.
    pub expected: Expected,
}

/// What is sent.
#[derive(Debug, Clone)]
pub enum Input {
    /// By the client: steps, each answered before the next is sent.
    Request(Vec<Vec<Part>>),
    /// By the origin, as the answer to a plain request.
    Response(Vec<u8>),
}

/// Bytes, and how long to wait behind them.
#[derive(Debug, Clone)]
pub struct Part {
    /// The bytes, placeholders not yet filled in.
    pub bytes: Vec<u8>,
    /// In milliseconds.
    pub delay: u64,
}

/// The expected result of a case.
#[derive(Debug, Clone)]
pub enum Expected {
    /// In the corpus's own words: `400 or close`.
    Words(String),
    /// A parser must refuse it, for this reason.
    Refusal(String),
    /// A parser takes it.
    Acceptance,
}

#[derive(Deserialize)]
struct File {
    cases: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    id: Option<String>,
    name: Option<String>,
    #[serde(default = "yes")]
    scored: bool,
    expected: Option<String>,
    #[serde(rename = "type", default = "request")]
    kind: String,
    error: Option<(String, String)>,
    payload_b64: Option<String>,
    input_b64: Option<String>,
    sequence: Option<Vec<Step>>,
}

#[derive(Deserialize)]
struct Step {
    parts: Vec<StepPart>,
}

#[derive(Deserialize)]
struct StepPart {
    payload_b64: String,
    #[serde(default)]
    delay_ms: u64,
}

fn yes() -> bool {
    true
}

fn request() -> String {
    "request".to_owned()
}

/// Reads a corpus. Cases for a lenient parser, or for a parser of URLs alone, are left out.
///
/// # Errors
///
/// The file cannot be read, or is not a corpus.
pub fn load(path: &Path) -> Result<Vec<Case>, ConformanceError> {
    let failed = |what: String| ConformanceError::Corpus { file: path.to_path_buf(), what };
    let text = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
    let file: File = serde_json::from_slice(&text).map_err(|error| failed(error.to_string()))?;
    let cases = file.cases.into_iter().enumerate().filter(|(_, row)| is_replayed(row));
    cases.map(|(n, row)| case(n, row).ok_or_else(|| failed(format!("case {n} cannot be read")))).collect()
}

fn is_replayed(row: &Row) -> bool {
    // llhttp's 21 to 23 pause at an upgrade: that is no verdict.
    let pauses = row.error.as_ref().is_some_and(|(code, _)| matches!(code.as_str(), "21" | "22" | "23"));
    matches!(row.kind.as_str(), "request" | "response") && !pauses
}

fn case(n: usize, row: Row) -> Option<Case> {
    let decode = |text: &str| BASE64_STANDARD.decode(text).ok();
    let expected = match (row.expected, row.error) {
        (Some(words), _) => Expected::Words(words),
        (None, Some((_, reason))) => Expected::Refusal(reason),
        (None, None) => Expected::Acceptance,
    };
    let input = match (row.sequence, row.payload_b64.or(row.input_b64)) {
        (Some(steps), _) => {
            let part =
                |part: StepPart| Some(Part { bytes: decode(&part.payload_b64)?, delay: part.delay_ms });
            let step = |step: Step| step.parts.into_iter().map(part).collect::<Option<Vec<_>>>();
            Input::Request(steps.into_iter().map(step).collect::<Option<_>>()?)
        }
        (None, Some(bytes)) if row.kind == "response" => Input::Response(decode(&bytes)?),
        (None, Some(bytes)) => Input::Request(vec![vec![Part { bytes: decode(&bytes)?, delay: 0 }]]),
        (None, None) => return None,
    };
    // What a parser may take, a proxy with a policy may refuse: that is told, not counted.
    let scored = row.scored && !matches!(expected, Expected::Acceptance);
    let id = row.id.or(row.name).map_or_else(|| n.to_string(), |id| id.replace('|', "/"));
    Some(Case { id, scored, input, expected })
}
