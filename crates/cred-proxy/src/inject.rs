//! The credential of a route: one field, made of its token, put on a request last of all.

use std::{fmt, sync::RwLock};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use sidecar::{
    routes::Auth,
    token::{Token, TokenError},
};
use zeroize::Zeroizing;

/// What proves to an upstream who asks. Its `Debug` shows the field's name only.
pub struct Credential {
    auth: Auth,
    name: HeaderName,
    value: RwLock<HeaderValue>,
}

impl Credential {
    /// Presents `token` as `auth` says.
    ///
    /// # Errors
    ///
    /// When the token holds what a field cannot.
    pub fn new(auth: &Auth, token: &Token) -> Result<Self, TokenError> {
        let name = match auth {
            Auth::Bearer | Auth::Token | Auth::Basic { .. } => header::AUTHORIZATION,
            // The table has checked the name.
            Auth::Header { name, .. } => name.parse().map_err(|_| TokenError::Control)?,
        };
        let value = RwLock::new(present(auth, token)?);
        Ok(Self { auth: auth.clone(), name, value })
    }

    /// Takes another token, for requests from now on.
    ///
    /// # Errors
    ///
    /// When the token holds what a field cannot; the one before then stays.
    pub fn replace(&self, token: &Token) -> Result<(), TokenError> {
        let value = present(&self.auth, token)?;
        if let Ok(mut current) = self.value.write() {
            *current = value;
        }
        Ok(())
    }

    /// The field's name.
    pub fn name(&self) -> &HeaderName {
        &self.name
    }

    /// Puts the field on a request, in place of any other of its name.
    pub fn inject(&self, fields: &mut HeaderMap) {
        let value = self.value.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        fields.insert(self.name.clone(), value);
    }
}

fn present(auth: &Auth, token: &Token) -> Result<HeaderValue, TokenError> {
    let token = token.expose();
    let text = Zeroizing::new(match auth {
        Auth::Bearer => format!("Bearer {token}"),
        Auth::Token => format!("token {token}"),
        Auth::Basic { username } => {
            let pair = Zeroizing::new(format!("{username}:{token}"));
            let pair = Zeroizing::new(BASE64_STANDARD.encode(pair.as_bytes()));
            format!("Basic {}", *pair)
        }
        Auth::Header { format, .. } => format.apply(token),
    });
    // Handed over by owner, so that the bytes are wiped when the last request lets go of them.
    let bytes = Bytes::from_owner(Zeroizing::new(text.as_bytes().to_vec()));
    let mut value = HeaderValue::from_maybe_shared(bytes).map_err(|_| TokenError::Control)?;
    value.set_sensitive(true);
    Ok(value)
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential").field("name", &self.name).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn injected(auth: &str) -> (String, String) {
        let auth: Auth = serde_json::from_str(auth).unwrap();
        let credential = Credential::new(&auth, &Token::parse("tok-12345".into()).unwrap()).unwrap();
        let mut fields = HeaderMap::new();
        credential.inject(&mut fields);
        assert!(!format!("{fields:?} {credential:?}").contains("tok-"));
        let (name, value) = fields.iter().next().unwrap();
        (name.to_string(), value.to_str().unwrap().to_owned())
    }

    #[test]
    fn each_scheme_is_one_field() {
        for (auth, name, value) in [
            (r#"{"scheme":"bearer"}"#, "authorization", "Bearer tok-12345"),
            (r#"{"scheme":"token"}"#, "authorization", "token tok-12345"),
            (r#"{"scheme":"basic","username":"git"}"#, "authorization", "Basic Z2l0OnRvay0xMjM0NQ=="),
            (r#"{"scheme":"header","name":"X-Api-Key"}"#, "x-api-key", "tok-12345"),
            (r#"{"scheme":"header","name":"x-k","format":"k={token};"}"#, "x-k", "k=tok-12345;"),
        ] {
            assert_eq!(injected(auth), (name.to_owned(), value.to_owned()), "{auth}");
        }
    }
}
