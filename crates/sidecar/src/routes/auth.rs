//! How a token is presented to an upstream.

use serde::{Deserialize, Deserializer, Serialize};

use super::parts::PartError;

/// The scheme of a credential.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "scheme", rename_all = "lowercase")]
pub enum Auth {
    /// `Authorization: Bearer T` (RFC 6750).
    Bearer,
    /// `Authorization: token T`.
    Token,
    /// `Authorization: Basic base64(username:T)` (RFC 7617).
    Basic {
        /// The name before the colon.
        username: String,
    },
    /// A field of its own, e.g. `x-api-key: T`.
    Header {
        /// The field's name, in lower case.
        name: String,
        /// The field's value.
        #[serde(skip_serializing_if = "FieldFormat::is_default")]
        format: FieldFormat,
    },
}

/// The value of a field with `{token}` in it, once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldFormat {
    before: String,
    after: String,
}

const PLACE: &str = "{token}";

/// Fields whose meaning is the connection's or the message's own: a token there would be taken for something else.
const NOT_FOR_TOKENS: &[&str] = &[
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

impl FieldFormat {
    /// The value for a token.
    pub fn apply(&self, token: &str) -> String {
        format!("{}{token}{}", self.before, self.after)
    }

    fn is_default(&self) -> bool {
        self.before.is_empty() && self.after.is_empty()
    }

    fn parse(text: &str) -> Result<Self, PartError> {
        let plain = text.bytes().all(|b| (0x20..0x7f).contains(&b));
        match text.split_once(PLACE) {
            Some((before, after)) if plain && !after.contains(PLACE) => {
                Ok(Self { before: before.to_owned(), after: after.to_owned() })
            }
            _ => Err(PartError {
                expected: "printable text with `{token}` in it, once",
                found: text.to_owned(),
            }),
        }
    }
}

impl Serialize for FieldFormat {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{}{PLACE}{}", self.before, self.after))
    }
}

impl<'de> Deserialize<'de> for Auth {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // serde lets unknown keys pass in a tagged enum, so the keys are read flat and checked here.
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields, expecting = "an object with `scheme`")]
        struct Raw {
            scheme: Scheme,
            username: Option<String>,
            name: Option<String>,
            format: Option<String>,
        }
        #[derive(Debug, Clone, Copy, Deserialize)]
        #[serde(rename_all = "lowercase")]
        enum Scheme {
            Bearer,
            Token,
            Basic,
            Header,
        }
        let Raw { scheme, username, name, format } = Raw::deserialize(deserializer)?;
        let word = format!("{scheme:?}").to_ascii_lowercase();
        let needs = |key: &str| serde::de::Error::custom(format!("scheme `{word}` needs a `{key}`"));
        let excess = match scheme {
            Scheme::Header => username.is_some().then_some("username"),
            Scheme::Basic => name.is_some().then_some("name").or(format.is_some().then_some("format")),
            Scheme::Bearer | Scheme::Token => {
                [("username", username.is_some()), ("name", name.is_some()), ("format", format.is_some())]
                    .into_iter()
                    .find_map(|(key, there)| there.then_some(key))
            }
        };
        if let Some(key) = excess {
            return Err(serde::de::Error::custom(format!("scheme `{word}` takes no `{key}`")));
        }
        match scheme {
            Scheme::Bearer => Ok(Self::Bearer),
            Scheme::Token => Ok(Self::Token),
            Scheme::Basic => {
                let username = username.ok_or_else(|| needs("username"))?;
                // RFC 7617: a colon would end the name early.
                if username.contains(':') || username.chars().any(char::is_control) {
                    return Err(serde::de::Error::custom(format!(
                        "expected a username without colon and control characters, found {username:?}"
                    )));
                }
                Ok(Self::Basic { username })
            }
            Scheme::Header => {
                let name = name.ok_or_else(|| needs("name"))?;
                let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^`|~".contains(&b);
                let lower = name.to_ascii_lowercase();
                if name.is_empty() || !name.bytes().all(token) || NOT_FOR_TOKENS.contains(&lower.as_str()) {
                    return Err(serde::de::Error::custom(format!(
                        "expected a field name that may carry a token, found {name:?}"
                    )));
                }
                let format = FieldFormat::parse(format.as_deref().unwrap_or(PLACE))
                    .map_err(serde::de::Error::custom)?;
                Ok(Self::Header { name: lower, format })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_of_its_own_takes_a_format() {
        let auth: Auth =
            serde_json::from_str(r#"{"scheme":"header","name":"X-Key","format":"v1 {token};"}"#).unwrap();
        let Auth::Header { name, format } = auth else { panic!("{auth:?}") };
        assert_eq!((name.as_str(), format.apply("T").as_str()), ("x-key", "v1 T;"));
    }
}
