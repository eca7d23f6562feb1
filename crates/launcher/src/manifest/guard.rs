//! What looks like a secret: it was pasted where only its name or path belongs, and must not be
//! printed, in the plan or in a message.

/// How well-known tokens begin, and the shortest that are one.
const PREFIXES: &[(&str, usize)] = &[
    ("sk-ant-", 10),
    ("sk-proj-", 12),
    ("sk-", 20),
    ("sk_live_", 16),
    ("sk_test_", 16),
    ("rk_live_", 16),
    ("ghp_", 20),
    ("gho_", 20),
    ("ghu_", 20),
    ("ghs_", 20),
    ("ghr_", 20),
    ("github_pat_", 20),
    ("glpat-", 16),
    ("gldt-", 16),
    ("xoxb-", 16),
    ("xoxp-", 16),
    ("xapp-", 16),
    ("npm_", 36),
    ("hf_", 30),
    ("pypi-", 30),
    ("AIza", 30),
    ("eyJ", 40),
];

/// How a key's base64 begins in its file, without the marker lines.
const KEY_BODIES: &[&str] = &["b3BlbnNzaC1rZXktdjE", "MIIEvQ", "MIIEow", "MIIJ", "MHcCAQ", "MC4CAQ"];

/// Whether a text holds a private key in PEM or OpenSSH form.
pub(super) fn is_key(text: &str) -> bool {
    text.contains("-----BEGIN")
        || text.contains("PRIVATE KEY")
        || KEY_BODIES.iter().any(|body| text.trim_start().starts_with(body) && text.len() > 60)
}

/// Whether a text looks like a token or a key. A name that people give is not mistaken for one: it
/// would need 32 characters without a separator.
pub(super) fn is_secret(text: &str) -> bool {
    is_key(text) || text.split(|c: char| c.is_whitespace() || "\"'`,;=:/@{}[]()".contains(c)).any(is_token)
}

/// Whether a message may print a text that was found: not if it could hold a secret anywhere.
pub(super) fn may_print(text: &str) -> bool {
    !is_secret(text) && !has_password(text) && !PREFIXES.iter().any(|(prefix, _)| text.contains(prefix))
}

/// Whether a text has userinfo with a password, as URLs do.
fn has_password(text: &str) -> bool {
    let text = text.split_once("://").map_or(text, |(_, rest)| rest);
    text.rsplit_once('@').is_some_and(|(userinfo, _)| userinfo.contains(':'))
}

fn is_token(word: &str) -> bool {
    let body = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    let known = PREFIXES.iter().any(|(prefix, least)| {
        // Variables of npm begin like its tokens: `npm_config_replace_registry_host`.
        let rest = word.strip_prefix(prefix).filter(|_| word.len() >= *least);
        rest.is_some_and(|rest| match *prefix {
            "npm_" | "hf_" => rest.bytes().all(|b| b.is_ascii_alphanumeric()),
            "eyJ" => true,
            _ => rest.bytes().all(body),
        })
    });
    let amazon = word.len() == 20
        && ["AKIA", "ASIA"].iter().any(|prefix| word.starts_with(prefix))
        && word.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
    let digits = word.bytes().filter(u8::is_ascii_digit).count();
    let random = word.len() >= 32
        && word.bytes().all(|b| b.is_ascii_alphanumeric())
        && digits >= 4
        && word.len() - digits >= 4;
    known || amazon || random
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_and_keys_are_recognized_and_names_are_not() {
        for secret in [
            "sk-ant-a1b",
            "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
            "Bearer sk-proj-a1b2c3",
            "https://x:ghp_16C7e42F292c6912E7710c838347Ae178B4a@github.com",
            "glpat-abcdefgh12345678",
            "AKIAIOSFODNN7EXAMPLE",
            "d41d8cd98f00b204e9800998ecf8427e",
            "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNz",
            "b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZWQ",
        ] {
            assert!(is_secret(secret), "{secret}");
        }
        for name in [
            "CLAUDE_BOTTLE_OAUTH_TOKEN",
            "CRED_PROXY_TOKEN_0",
            "npm_config_replace_registry_host",
            "~/.ssh/id_ed25519",
            "/run/secrets/github-token-2024",
            "sk-deploy.pem",
            "claude-bottle:latest",
            "git.corp.example",
        ] {
            assert!(!is_secret(name), "{name}");
        }
    }
}
