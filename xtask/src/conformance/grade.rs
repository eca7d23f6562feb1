//! How good an answer is, by the corpus's own words.

use super::corpus::{Case, Expected, Input};
use super::replay::{Outcome, Step};

/// From bad to good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grade {
    /// Not what is expected.
    Fail,
    /// Tolerated, or not the first choice.
    Warn,
    /// As expected.
    Pass,
}

/// The grade of an outcome.
pub fn grade(case: &Case, outcome: &Outcome) -> Grade {
    let Some(first) = outcome.steps.first() else { return Grade::Fail };
    match (&case.expected, &case.input) {
        (Expected::Words(words), input) => by_words(&words.to_ascii_lowercase(), input, outcome, first),
        (Expected::Refusal(_), Input::Request(_)) => match first.status() {
            Some(200..=399) => Grade::Fail,
            _ => Grade::Pass,
        },
        (Expected::Acceptance, Input::Request(_)) => match first.status() {
            Some(200..=399) => Grade::Pass,
            _ => Grade::Warn,
        },
        // A broken answer is refused, or cut where it was cut.
        (Expected::Refusal(_), Input::Response(_)) => match first.status() {
            Some(502 | 504) | None => Grade::Pass,
            Some(_) if is_cut(first) => Grade::Pass,
            Some(_) => Grade::Fail,
        },
        (Expected::Acceptance, Input::Response(_)) => match first.status() {
            Some(502 | 504) | None => Grade::Warn,
            Some(_) => Grade::Pass,
        },
    }
}

fn by_words(words: &str, input: &Input, outcome: &Outcome, first: &Step) -> Grade {
    let is_sequence = matches!(input, Input::Request(steps) if steps.len() > 1);
    let is_over = first.closed || (is_sequence && outcome.steps.len() == 1);
    let either = |good: bool| if good { Grade::Pass } else { Grade::Fail };
    let status = first.status();
    let is_2xx = matches!(status, Some(200..=299));
    if words.contains("no extra response") && first.statuses().len() > 1 {
        return Grade::Fail;
    }
    if words.starts_with("reject/drop") {
        return if is_2xx { normalised(input, outcome) } else { either(status.is_some() || is_over) };
    }
    if words.contains("!101") || words.contains("non-101") {
        return match status {
            Some(101) => Grade::Fail,
            None => either(is_over),
            Some(_) if words.contains("426 preferred") && is_2xx => Grade::Warn,
            Some(_) => Grade::Pass,
        };
    }
    if words.starts_with("not 414") {
        return status.map_or(Grade::Warn, |status| either(status != 414));
    }
    if words.starts_with("non-1xx") {
        return either(first.statuses().iter().all(|status| *status >= 200));
    }
    if words.starts_with("imf-fixdate") {
        return if is_2xx && first.has_field("date") { Grade::Pass } else { Grade::Warn };
    }
    if words.starts_with("2xx + 2xx") {
        let second = outcome.steps.get(1).and_then(Step::status);
        return if is_2xx && second.is_none_or(|s| !(200..300).contains(&s)) {
            Grade::Warn
        } else {
            either(is_2xx)
        };
    }
    let (listed, first_is_2xx) = listed(words);
    let refusals_listed = listed.iter().any(|status| *status >= 400);
    let second_choice = if words.contains("warn") { Grade::Warn } else { Grade::Pass };
    match status {
        Some(200..=299) if listed.contains(&200) || words.contains("pass-through") => {
            if words.contains("close") && words.contains('+') && !is_over {
                Grade::Fail
            } else if first_is_2xx || !refusals_listed || words.contains('+') {
                with_features(words, input, outcome, first)
            } else {
                Grade::Warn
            }
        }
        // Accepted, and nothing behind it can be taken for its rest.
        Some(200..=299) if is_sequence && is_over && words.contains("close") => Grade::Pass,
        Some(200..=299) if words.starts_with("405 + allow") || words.starts_with("204 without") => {
            Grade::Warn
        }
        Some(status) if listed.contains(&status) => {
            if words.contains("allow header") {
                either(first.has_field("allow"))
            } else if first_is_2xx {
                second_choice
            } else {
                Grade::Pass
            }
        }
        Some(_) => Grade::Fail,
        None if is_over => either(words.contains("close") || (listed.contains(&200) && refusals_listed)),
        None => either(words.contains("timeout")),
    }
}

/// What an accepted answer must have beside its status.
fn with_features(words: &str, input: &Input, outcome: &Outcome, first: &Step) -> Grade {
    let lacks = |field: &str, words_of_it: &str| words.contains(words_of_it) && !first.has_field(field);
    if lacks("date", "date header") || (words.contains("no body") && !first.body().is_empty()) {
        return Grade::Fail;
    }
    if lacks("allow", "allow header") || lacks("content-type", "content-type") {
        return Grade::Warn;
    }
    if words.contains("echo") {
        // Whatever content came up whole came back.
        let sent = outcome.arrived.first().map(|arrived| arrived.body.clone()).unwrap_or_default();
        let back = first.body().windows(sent.len().max(1)).any(|window| window == sent);
        return if !sent.is_empty() && back { Grade::Pass } else { Grade::Fail };
    }
    let has = |text: &str| first.body().windows(text.len()).any(|window| window == text.as_bytes());
    let values: Vec<_> = match input {
        Input::Request(_) if words.contains("in body") => {
            words.split([' ', ',']).filter(|w| w.contains('=')).collect()
        }
        _ => Vec::new(),
    };
    if values.iter().all(|value| has(value)) { Grade::Pass } else { Grade::Warn }
}

/// Statuses that appear in the words (200 for any of its class), and whether the first of them is one of success.
fn listed(words: &str) -> (Vec<u16>, bool) {
    let tokens = words.split(|c: char| !c.is_ascii_alphanumeric());
    let listed: Vec<u16> =
        tokens.filter_map(|token| if token == "2xx" { Some(200) } else { token.parse().ok() }).collect();
    let first_is_2xx = listed.first().is_some_and(|status| *status < 300);
    (listed, first_is_2xx)
}

/// An oddly written field was accepted: as its proper self (bad), as it was, or not at all.
fn normalised(input: &Input, outcome: &Outcome) -> Grade {
    let Input::Request(steps) = input else { return Grade::Fail };
    let bytes: Vec<u8> = steps.iter().flatten().flat_map(|part| part.bytes.clone()).collect();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let odd = |name: &str| name.contains('_') || name.ends_with(' ') || name == name.to_ascii_uppercase();
    let mut grade = Grade::Pass;
    for (name, value) in
        text.lines().skip(1).filter_map(|line| line.split_once(':')).filter(|(name, _)| odd(name))
    {
        let proper = name.trim().replace('_', "-").to_ascii_lowercase();
        let came =
            |own: &str| outcome.arrived.iter().any(|a| a.fields(own).any(|found| found == value.trim()));
        if came(&proper) {
            return Grade::Fail;
        }
        if came(name) {
            grade = Grade::Warn;
        }
    }
    grade
}

/// Whether a response body ended before its framing did.
fn is_cut(step: &Step) -> bool {
    let text = String::from_utf8_lossy(&step.bytes).to_ascii_lowercase();
    let head = text.split("\r\n\r\n").next().unwrap_or_default();
    let field = |name: &str| head.lines().find_map(|l| l.strip_prefix(name)).map(|v| v.trim().to_owned());
    if field("transfer-encoding:").is_some() {
        return !step.body().ends_with(b"0\r\n\r\n");
    }
    field("content-length:")
        .and_then(|length| length.parse().ok())
        .is_some_and(|length: usize| step.body().len() < length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::corpus::Part;

    fn graded(words: &str, answer: &str, closed: bool) -> Grade {
        let part = Part { bytes: Vec::new(), delay: 0 };
        let case = Case {
            id: String::new(),
            scored: true,
            input: Input::Request(vec![vec![part]]),
            expected: Expected::Words(words.to_owned()),
        };
        let step = Step { bytes: answer.into(), closed };
        grade(&case, &Outcome { steps: vec![step], ..Outcome::default() })
    }

    #[test]
    fn the_words_of_the_corpus_are_understood() {
        let (ok, bad) = ("HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 400 Bad Request\r\n\r\n");
        for (words, answer, closed, expected) in [
            ("400 or close", bad, true, Grade::Pass),
            ("400 or close", "", true, Grade::Pass),
            ("400 or close", "", false, Grade::Fail),
            ("400 or close", ok, true, Grade::Fail),
            ("400", "", true, Grade::Fail),
            ("400 or 2xx", ok, false, Grade::Warn),
            ("400 or 2xx", bad, false, Grade::Pass),
            ("2xx preferred; 400 warns", ok, false, Grade::Pass),
            ("2xx preferred; 400 warns", bad, false, Grade::Warn),
            ("400/close/timeout", "", false, Grade::Pass),
            ("2xx + close", ok, false, Grade::Fail),
            ("2xx + close", ok, true, Grade::Pass),
            ("!101", ok, false, Grade::Pass),
            ("!101", "HTTP/1.1 101 X\r\n\r\n", false, Grade::Fail),
            ("405 + Allow header", "HTTP/1.1 405 X\r\nAllow: GET\r\n\r\n", true, Grade::Pass),
            ("405 + Allow header", "HTTP/1.1 405 X\r\n\r\n", true, Grade::Fail),
            (
                "400, or close (no extra response)",
                "HTTP/1.1 400 X\r\n\r\nHTTP/1.1 200 X\r\n\r\n",
                true,
                Grade::Fail,
            ),
            ("not 414", bad, false, Grade::Pass),
        ] {
            assert_eq!(graded(words, answer, closed), expected, "{words}: {answer}");
        }
    }
}
