//! A token to be redacted, with what it is joined to when it is sent.

use std::fmt;

use sidecar::{routes::Auth, token::Token};
use zeroize::Zeroizing;

/// A token, and the `user:token` of basic authentication. Its `Debug` shows neither.
#[derive(Clone, PartialEq)]
pub struct Secret {
    token: Zeroizing<String>,
    pair: Option<Zeroizing<String>>,
}

impl Secret {
    /// The token as `auth` presents it.
    pub fn new(auth: &Auth, token: &Token) -> Self {
        let token = Zeroizing::new(token.expose().to_owned());
        let pair = match auth {
            Auth::Basic { username } => Some(Zeroizing::new(format!("{username}:{}", *token))),
            _ => None,
        };
        Self { token, pair }
    }

    pub(super) fn token(&self) -> &str {
        &self.token
    }

    pub(super) fn pair(&self) -> Option<&str> {
        self.pair.as_ref().map(|pair| pair.as_str())
    }

    pub(super) fn in_lower_case(&self) -> Self {
        Self { token: Zeroizing::new(self.token.to_ascii_lowercase()), pair: None }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}
