//! The CONNECT proxy through which a sidecar reaches its upstreams.
//!
//! Its URL may contain a password, which goes into the bundle and to the proxy, and nowhere else.

mod no_proxy;

use std::fmt;
use std::str::FromStr;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use percent_encoding::percent_decode_str;
use serde::ser::SerializeStruct as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

pub use no_proxy::NoProxy;

use crate::upstream::{Host, Upstream};

/// A proxy, and the hosts that are reached without it.
///
/// # Security
/// As JSON it contains the password: it is serialized only into a bundle. `Debug`, and `Display` of its
/// URL, leave the userinfo out.
///
/// ```
/// # use sidecar::upstream_proxy::UpstreamProxy;
/// let text = r#"{"url":"http://user:pw@proxy:3128","no_proxy":"corp.example"}"#;
/// let proxy: UpstreamProxy = serde_json::from_str(text).unwrap();
/// assert_eq!(proxy.url.to_string(), "http://proxy:3128");
/// assert!(!proxy.leads_to(&"git.corp.example:443".parse().unwrap()));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with `url`")]
pub struct UpstreamProxy {
    /// Where the proxy is.
    pub url: ProxyUrl,
    /// The hosts that are reached without it.
    #[serde(default, deserialize_with = "no_proxy")]
    pub no_proxy: NoProxy,
}

/// `http://[USER:PASSWORD@]HOST[:PORT]`. The scheme may be left out, the port is 80 by default, and the
/// userinfo is percent-encoded. Its userinfo is wiped when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct ProxyUrl {
    proxy: Upstream,
    userinfo: Option<Zeroizing<String>>,
}

/// A text is not the URL of a proxy. Never quotes the text, which may contain a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a proxy as http://[USER:PASSWORD@]HOST[:PORT]")]
pub struct ProxyUrlError;

/// An environment variable is not the URL of a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("invalid {name}")]
pub struct VariableError {
    /// The variable.
    pub name: &'static str,
    source: ProxyUrlError,
}

impl UpstreamProxy {
    /// The proxy of `HTTPS_PROXY` with the exceptions of [`NoProxy::from_variables`]. The variables'
    /// names may be in lower case; an empty variable counts as unset.
    ///
    /// # Errors
    /// [`VariableError`] with the name of the variable, never with its value.
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, VariableError> {
        let Some((name, text)) = first_set(["HTTPS_PROXY", "https_proxy"], &variable) else {
            return Ok(None);
        };
        let url = Zeroizing::new(text).parse().map_err(|source| VariableError { name, source })?;
        Ok(Some(Self { url, no_proxy: NoProxy::from_variables(variable) }))
    }

    /// Whether an upstream is reached through the proxy.
    pub fn leads_to(&self, upstream: &Upstream) -> bool {
        !self.no_proxy.contains(upstream)
    }
}

impl NoProxy {
    /// The exceptions of `NO_PROXY`, or else of `no_proxy`.
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Self {
        first_set(["NO_PROXY", "no_proxy"], variable)
            .map_or_else(Self::default, |(_, text)| Self::parse(&text))
    }
}

fn first_set(
    names: [&'static str; 2],
    variable: impl Fn(&str) -> Option<String>,
) -> Option<(&'static str, String)> {
    names.into_iter().find_map(|name| Some((name, variable(name).filter(|value| !value.is_empty())?)))
}

impl ProxyUrl {
    /// The proxy's host and port.
    pub fn upstream(&self) -> &Upstream {
        &self.proxy
    }

    /// The value of `Proxy-Authorization`, if the URL has userinfo (RFC 7617).
    pub fn authorization(&self) -> Option<Zeroizing<String>> {
        let (user, password) = decode(self.userinfo.as_ref()?).ok()?;
        let pair = Zeroizing::new(format!("{}:{}", *user, *password));
        let mut value = Zeroizing::new("Basic ".to_owned());
        // Sized beforehand: a string that grows would leave a copy behind.
        value.reserve_exact(pair.len().div_ceil(3) * 4);
        BASE64_STANDARD.encode_string(pair.as_bytes(), &mut value);
        Some(value)
    }

    fn expose(&self) -> Zeroizing<String> {
        Zeroizing::new(match &self.userinfo {
            Some(userinfo) => format!("http://{}@{}", **userinfo, self.proxy),
            None => self.to_string(),
        })
    }
}

impl FromStr for ProxyUrl {
    type Err = ProxyUrlError;

    fn from_str(text: &str) -> Result<Self, ProxyUrlError> {
        let rest = match text.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
            Some(_) => return Err(ProxyUrlError),
            None => text,
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (userinfo, authority) = match rest.rsplit_once('@') {
            Some((userinfo, authority)) => (Some(userinfo), authority),
            None => (None, rest),
        };
        let proxy = match authority.parse::<Host>() {
            Ok(host) => Upstream { host, port: HTTP },
            Err(_) => authority.parse().map_err(|_| ProxyUrlError)?,
        };
        userinfo.map(decode).transpose()?;
        Ok(Self { proxy, userinfo: userinfo.map(|userinfo| Zeroizing::new(userinfo.to_owned())) })
    }
}

/// User and password, percent-decoded, in the form that Basic can carry.
fn decode(userinfo: &str) -> Result<(Zeroizing<String>, Zeroizing<String>), ProxyUrlError> {
    let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
    let part = |text| {
        let decoded = Zeroizing::new(percent_decode_str(text).collect::<Vec<u8>>());
        let text = std::str::from_utf8(&decoded).map_err(|_| ProxyUrlError)?;
        let plain = !text.chars().any(char::is_control);
        plain.then(|| Zeroizing::new(text.to_owned())).ok_or(ProxyUrlError)
    };
    let (user, password) = (part(user)?, part(password)?);
    if user.contains(':') { Err(ProxyUrlError) } else { Ok((user, password)) }
}

/// Without the userinfo, for plans and logs.
impl fmt::Display for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.proxy)
    }
}

impl fmt::Debug for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProxyUrl({self})")
    }
}

impl Serialize for UpstreamProxy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct("UpstreamProxy", 2)?;
        object.serialize_field("url", self.url.expose().as_str())?;
        if self.no_proxy.is_empty() {
            object.skip_field("no_proxy")?;
        } else {
            object.serialize_field("no_proxy", &self.no_proxy)?;
        }
        object.end()
    }
}

impl<'de> Deserialize<'de> for ProxyUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // serde's own words for a wrong type quote the value; these do not.
        match serde_json::Value::deserialize(deserializer) {
            Ok(serde_json::Value::String(text)) => {
                Zeroizing::new(text).parse().map_err(serde::de::Error::custom)
            }
            _ => Err(serde::de::Error::custom(ProxyUrlError)),
        }
    }
}

/// A `null` is an empty list.
fn no_proxy<'de, D: Deserializer<'de>>(deserializer: D) -> Result<NoProxy, D::Error> {
    Option::<NoProxy>::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// The port of a URL that names none.
const HTTP: u16 = 80;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_written_as_everywhere_and_its_password_is_never_printed() {
        for (text, shown, authorization) in [
            ("http://proxy.test:3128", "http://proxy.test:3128", None),
            ("HTTP://proxy.test/", "http://proxy.test:80", None),
            ("10.0.0.1:3128", "http://10.0.0.1:3128", None),
            ("http://[::1]:3128", "http://[::1]:3128", None),
            ("http://me:p%40ss%3A@proxy.test:1", "http://proxy.test:1", Some("Basic bWU6cEBzczo=")),
            ("http://me:p@ss@proxy.test:1", "http://proxy.test:1", Some("Basic bWU6cEBzcw==")),
            ("http://me@proxy.test:1", "http://proxy.test:1", Some("Basic bWU6")),
        ] {
            let url: ProxyUrl = text.parse().unwrap();
            let value = url.authorization();
            assert_eq!(
                (url.to_string().as_str(), value.as_ref().map(|a| a.as_str())),
                (shown, authorization)
            );
            assert_eq!(format!("{url:?}"), format!("ProxyUrl({shown})"));
            let proxy = UpstreamProxy { url, no_proxy: NoProxy::default() };
            assert!(!format!("{proxy:?}").contains("me"));
            let json = serde_json::to_string(&proxy).unwrap();
            assert_eq!(serde_json::from_str::<UpstreamProxy>(&json).unwrap(), proxy);
        }
        for text in [
            "",
            "https://a:1",
            "socks5://a:1",
            "http://",
            "http://a:0",
            "http://a:x",
            "http://a/x",
            "http://a?x",
            "http://a b",
            "http://%zz%ff:x@a",
            "http://x:%0a@a",
            "http://x%3ay:z@a",
        ] {
            assert_eq!(text.parse::<ProxyUrl>(), Err(ProxyUrlError), "{text}");
        }
    }

    #[test]
    fn a_fault_never_quotes_the_password() {
        for url in [r#""https://me:hunter2@a""#, r#"["hunter2"]"#, r#"{"hunter2":1}"#] {
            let error = serde_json::from_str::<UpstreamProxy>(&format!("{{\"url\":{url}}}")).unwrap_err();
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn variables_name_a_proxy_and_its_exceptions() {
        let read = |set: &'static [(&str, &str)]| {
            UpstreamProxy::from_variables(|name| {
                set.iter().find(|(set, _)| *set == name).map(|(_, value)| (*value).to_owned())
            })
        };
        assert_eq!(read(&[("HTTPS_PROXY", ""), ("NO_PROXY", "*")]), Ok(None));
        let proxy = read(&[
            ("HTTPS_PROXY", ""),
            ("https_proxy", "http://me:hunter2@p:1"),
            ("NO_PROXY", ""),
            ("no_proxy", "x.test"),
        ]);
        let proxy = proxy.unwrap().unwrap();
        assert_eq!(
            (proxy.url.to_string(), proxy.no_proxy.to_string()),
            ("http://p:1".into(), "x.test".into())
        );
        let error = read(&[("https_proxy", "socks5://me:hunter2@p:1")]).unwrap_err();
        assert_eq!((error.name, error.to_string()), ("https_proxy", "invalid https_proxy".into()));
    }
}
