//! What the agent tries, and the expected results: the table at the end of the demo.

use crate::story::Story;

/// The expected result of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    /// It succeeds.
    Yes,
    /// It fails.
    No,
    /// It fails within a second: without a route nothing waits for an answer.
    NoAtOnce,
}

/// A line of the table: the key of `agent.sh`, what it means, and the expected result.
const ATTEMPTS: [(&str, &str, Expected); 21] = [
    ("gate", "the git host's row of the gate, ssh-gate:30000", Expected::Yes),
    ("proxy", "the API's route of the proxy, with a token put on", Expected::Yes),
    ("git-direct", "the git host itself", Expected::NoAtOnce),
    ("api-direct", "the API itself", Expected::NoAtOnce),
    ("internet", "the internet, 198.51.100.1:443", Expected::NoAtOnce),
    ("internet6", "the internet, [2001:db8::1]:443", Expected::NoAtOnce),
    ("metadata", "a cloud's metadata, 169.254.169.254:80", Expected::NoAtOnce),
    ("name", "the look-up of a name outside, git.demo.internal", Expected::No),
    ("gateway", "the bottle's own gateway", Expected::No),
    ("host", "the engine's machine", Expected::NoAtOnce),
    ("gate-admin", "the gate's admin endpoint, ssh-gate:9901", Expected::No),
    ("proxy-admin", "the proxy's admin endpoint, cred-proxy:9902", Expected::No),
    ("no-route", "the proxy, a path that no route declares", Expected::No),
    ("other-host", "the proxy, for a host that no route declares", Expected::No),
    ("tunnel", "the proxy, as a tunnel to such a host", Expected::No),
    ("raw-socket", "a raw socket", Expected::No),
    ("engine-socket", "the engine's socket", Expected::No),
    ("key", "a private key, in any file or environment", Expected::No),
    ("token", "the API's token, in any file or environment", Expected::No),
    ("keys-removed", "removing the keys from the ssh-agent", Expected::No),
    ("log", "any word of the token in all that the agent said", Expected::No),
];

/// Failures faster than this did not wait for a peer.
const AT_ONCE_MILLIS: u64 = 1000;

/// The result of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Attempt {
    /// The key, for `host` followed by the address.
    pub(super) key: String,
    /// Whether it succeeded.
    pub(super) succeeded: bool,
    /// How long it took.
    pub(super) millis: u64,
    /// The last that was said of it.
    pub(super) said: String,
}

impl Attempt {
    /// An attempt as `agent.sh` prints it, after `@try` and a tab.
    pub(super) fn parse(line: &str) -> Option<Self> {
        let mut fields = line.splitn(4, '\t');
        let key = fields.next()?.to_owned();
        let succeeded = match fields.next()? {
            "yes" => true,
            "no" => false,
            _ => return None,
        };
        Some(Self { key, succeeded, millis: fields.next()?.parse().ok()?, said: fields.next()?.to_owned() })
    }

    fn is_as_expected(&self, expected: Expected) -> bool {
        match expected {
            Expected::Yes => self.succeeded,
            Expected::No => !self.succeeded,
            Expected::NoAtOnce => !self.succeeded && self.millis < AT_ONCE_MILLIS,
        }
    }
}

/// Prints the table, and returns what was not as expected, or not tried.
pub(super) fn table(story: &Story, attempts: &[Attempt]) -> Vec<String> {
    let mut surprises = Vec::new();
    let mut untried = 0;
    for (key, what, expected) in ATTEMPTS {
        let mut tried = attempts.iter().filter(|attempt| {
            attempt.key.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
        });
        let mut attempt = tried.next();
        if attempt.is_none() {
            untried += 1;
        }
        while let Some(one) = attempt {
            let good = one.is_as_expected(expected);
            let address = one.key.strip_prefix(key).unwrap_or_default();
            let what = format!("{what}{address}");
            story.line(line(story, &what, one, good));
            if !good {
                surprises.push(what);
            }
            attempt = tried.next();
        }
    }
    if untried > 0 {
        surprises.push(format!("{untried} of {} attempts were not made", ATTEMPTS.len()));
    }
    surprises
}

fn line(story: &Story, what: &str, attempt: &Attempt, good: bool) -> String {
    let outcome = if attempt.succeeded { "yes" } else { "no" };
    let outcome = story.verdict(good, format_args!("{outcome:<3}"));
    let said = if attempt.succeeded { "" } else { attempt.said.as_str() };
    let surprise = if good { "" } else { "  NOT AS EXPECTED" };
    let line = format!("  {what:<56} {outcome} {:>6} ms  {said}{surprise}", attempt.millis);
    line.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(key: &str, succeeded: bool, millis: u64) -> Attempt {
        Attempt { key: key.to_owned(), succeeded, millis, said: String::new() }
    }

    fn all_as_expected() -> Vec<Attempt> {
        ATTEMPTS.iter().map(|(key, _, expected)| attempt(key, *expected == Expected::Yes, 5)).collect()
    }

    #[test]
    fn a_run_in_which_all_is_as_expected_has_no_surprises() {
        assert_eq!(table(&Story::begin(), &all_as_expected()), Vec::<String>::new());
    }

    #[test]
    fn what_was_not_tried_is_a_surprise() {
        let attempts: Vec<_> = all_as_expected().into_iter().filter(|one| one.key != "token").collect();
        assert_eq!(table(&Story::begin(), &attempts).len(), 1);
    }

    #[test]
    fn an_attempt_that_waits_before_it_fails_is_a_surprise() {
        let mut attempts = all_as_expected();
        attempts.push(attempt("host 172.17.0.1", false, 3100));
        assert_eq!(table(&Story::begin(), &attempts), ["the engine's machine 172.17.0.1"]);
    }

    #[test]
    fn every_attempt_of_the_agent_has_a_line_in_the_table() {
        for line in include_str!("agent.sh").lines() {
            let Some(tried) = line.trim_start().strip_prefix("try ") else { continue };
            let key = tried.trim_start_matches('"').split([' ', '"']).next().unwrap();
            assert!(ATTEMPTS.iter().any(|(known, ..)| *known == key), "{key}");
        }
    }

    #[test]
    fn a_line_of_the_agent_is_parsed_as_it_prints_it() {
        let parsed = Attempt::parse("host 172.17.0.1\tno\t9\tNetwork is unreachable").unwrap();
        assert_eq!((parsed.key.as_str(), parsed.succeeded, parsed.millis), ("host 172.17.0.1", false, 9));
        assert_eq!(Attempt::parse("host\tperhaps\t9\t"), None);
    }
}
