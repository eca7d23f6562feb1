//! The secret text of a credential, which cannot be printed by mistake.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

/// A token. Its `Debug` writes `Token(..)`, it has no `Display`, and its bytes are wiped when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Zeroizing<String>);

/// Tokens by the name that a table refers to them with, e.g. `CRED_PROXY_TOKEN_0`.
pub type Tokens = BTreeMap<String, Token>;

/// Why a text is no token. Never says the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is empty.
    #[error("the token is empty")]
    Empty,
    /// It holds a control character, as a newline, which would end a header field.
    #[error("the token holds a control character (a newline, perhaps)")]
    Control,
}

impl Token {
    /// Checks and takes a token.
    ///
    /// # Errors
    /// [`TokenError`] when it is empty or holds a control character.
    pub fn parse(text: String) -> Result<Self, TokenError> {
        let text = Zeroizing::new(text);
        if text.is_empty() {
            return Err(TokenError::Empty);
        }
        if text.chars().any(char::is_control) {
            return Err(TokenError::Control);
        }
        Ok(Self(text))
    }

    /// The secret text, for the one place that puts it on a request or into a bundle.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// A token is serialized only into a bundle.
impl Serialize for Token {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.expose())
    }
}

impl<'de> Deserialize<'de> for Token {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // serde's own words for a wrong type quote the value; these do not.
        match serde_json::Value::deserialize(deserializer) {
            Ok(serde_json::Value::String(text)) => Self::parse(text).map_err(serde::de::Error::custom),
            Ok(_) => Err(serde::de::Error::custom("expected a token as a string")),
            Err(_) => Err(serde::de::Error::custom("expected a token as a string of UTF-8")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_not_printed() {
        let token = Token::parse("sk-secret".into()).unwrap();
        assert_eq!(format!("{token:?}"), "Token(..)");
    }

    #[test]
    fn a_token_that_would_break_a_field_is_refused() {
        assert_eq!(Token::parse("a\nb".into()), Err(TokenError::Control));
        assert_eq!(Token::parse(String::new()), Err(TokenError::Empty));
    }

    #[test]
    fn a_fault_in_a_token_never_quotes_it() {
        for text in ["[\"se\\ncret\"]", "[31337]", "[[\"secret\"]]", "[\"\"]"] {
            let error = serde_json::from_str::<Vec<Token>>(text).unwrap_err().to_string();
            assert!(!error.contains("cret") && !error.contains("31337"), "{error}");
        }
    }
}
