//! The parts of a manifest that are checked when they are parsed, so that a fault carries its place.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::str::FromStr;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use sidecar::upstream::{Host, parse_port};

use super::{Route, SshHost, UpstreamProxySetting};
use crate::secrets::{EnvValue, TokenRef};

/// A host's public key: `ssh-ed25519 AAAA...`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostKey(pub String);

/// A number of bytes, written `4GiB`, `512MiB`, `64KiB` or as a bare number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size(pub u64);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (digits, unit) = text.split_at(split);
        let factor: Option<u64> = match unit.trim() {
            "" | "B" => Some(1),
            "KiB" | "k" | "K" => Some(1 << 10),
            "MiB" | "m" | "M" => Some(1 << 20),
            "GiB" | "g" | "G" => Some(1 << 30),
            "KB" | "kB" => Some(1_000),
            "MB" => Some(1_000_000),
            "GB" => Some(1_000_000_000),
            _ => None,
        };
        factor
            .and_then(|factor| digits.parse::<u64>().ok()?.checked_mul(factor))
            .filter(|bytes| i64::try_from(*bytes).is_ok())
            .map(Self)
            .ok_or_else(|| format!("expected a size such as 4GiB or 512MiB, found {text:?}"))
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::String(text) => text.parse().map_err(D::Error::custom),
            other => other.to_string().parse().map_err(D::Error::custom),
        }
    }
}

impl<'de> Deserialize<'de> for HostKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use base64::Engine as _;
        let text = String::deserialize(deserializer)?;
        let mut words = text.split_whitespace();
        let (kind, key) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let blob = base64::engine::general_purpose::STANDARD.decode(key).unwrap_or_default();
        // RFC 4253 section 6.6: the blob begins with the kind's own name.
        let named = blob.get(4..4 + kind.len()) == Some(kind.as_bytes());
        if kind.is_empty() || !named || text.chars().any(char::is_control) {
            return Err(D::Error::custom(format!(
                "expected a public host key such as \"ssh-ed25519 AAAA...\", found {text:?}"
            )));
        }
        Ok(Self(format!("{kind} {key}")))
    }
}

impl<'de> Deserialize<'de> for TokenRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Raw {
            env: Option<String>,
            file: Option<String>,
            command: Option<serde_json::Value>,
            refresh: Option<serde_json::Value>,
        }
        match Raw::deserialize(deserializer)? {
            Raw { command: Some(_), .. } => {
                Err(D::Error::custom("not yet: a token from a command comes with a later version"))
            }
            Raw { env: Some(name), file: None, refresh: None, .. } if variable_name(&name) => {
                Ok(Self::Env(name))
            }
            Raw { env: None, file: Some(path), refresh: None, .. } if !path.is_empty() => {
                Ok(Self::File(path.into()))
            }
            _ => Err(D::Error::custom("expected {\"env\": NAME} or {\"file\": PATH}")),
        }
    }
}

impl<'de> Deserialize<'de> for EnvValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expected = "expected a string or {\"from_host\": NAME}";
        match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::String(text) if text.contains(['\n', '\r', '\0']) => {
                Err(D::Error::custom("a value with a newline cannot be exported to env files; use from_host"))
            }
            serde_json::Value::String(text) => Ok(Self::Literal(text)),
            serde_json::Value::Object(object) => match object.iter().next() {
                Some((key, serde_json::Value::String(name)))
                    if key == "from_host" && object.len() == 1 && variable_name(name) =>
                {
                    Ok(Self::FromHost(name.clone()))
                }
                Some((key, _)) if key == "ask" => {
                    Err(D::Error::custom("not yet: asking for a value comes with a later version"))
                }
                _ => Err(D::Error::custom(expected)),
            },
            _ => Err(D::Error::custom(expected)),
        }
    }
}

fn variable_name(name: &str) -> bool {
    let first = name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    first && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// A name that is checked where it stands, so that a fault carries its place.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct VariableName(String);

impl<'de> Deserialize<'de> for VariableName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        if variable_name(&name) {
            Ok(Self(name))
        } else {
            Err(D::Error::custom(format!("expected a variable name, found {name:?}")))
        }
    }
}

pub(super) fn env<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, EnvValue>, D::Error> {
    let env = BTreeMap::<VariableName, EnvValue>::deserialize(deserializer)?;
    Ok(env.into_iter().map(|(name, value)| (name.0, value)).collect())
}

pub(super) fn git() -> String {
    "git".to_owned()
}

pub(super) fn port_22() -> u16 {
    22
}

pub(super) fn yes() -> bool {
    true
}

/// A port as a number or as a string of digits.
pub(super) fn port<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u16, D::Error> {
    let value = serde_json::Value::deserialize(deserializer)?;
    let port = match &value {
        serde_json::Value::Number(number) => number.as_u64().and_then(|port| u16::try_from(port).ok()),
        serde_json::Value::String(text) => parse_port(text),
        _ => None,
    };
    port.filter(|port| *port != 0)
        .ok_or_else(|| D::Error::custom(format!("expected a port between 1 and 65535, found {value}")))
}

pub(super) fn host<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Host, D::Error> {
    let text = String::deserialize(deserializer)?;
    // ssh_config writes IPv6 literals without brackets.
    let literal = text.parse::<std::net::Ipv6Addr>().ok();
    literal
        .map_or_else(|| text.parse().map_err(D::Error::custom), |address| Ok(Host::Address(address.into())))
}

/// A word that ssh_config takes as one pattern without wild cards.
fn ssh_word<E: Error>(what: &str, text: String) -> Result<String, E> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._@+".contains(&b);
    if text.is_empty() || text.len() > 64 || text.starts_with('-') || !text.bytes().all(plain) {
        return Err(E::custom(format!("expected {what} of letters, digits and -._@+, found {text:?}")));
    }
    Ok(text)
}

pub(super) fn ssh_alias<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    ssh_word("an alias", String::deserialize(deserializer)?)
}

pub(super) fn ssh_user<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    ssh_word("a login name", String::deserialize(deserializer)?)
}

pub(super) fn ssh_hosts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<SshHost>, D::Error> {
    each(deserializer, "a list of SSH hosts", |host: &SshHost| ("Host", host.alias.to_ascii_lowercase()))
}

pub(super) fn routes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Route>, D::Error> {
    each(deserializer, "a list of routes", |route: &Route| ("path", route.path.to_string()))
}

/// A list whose items differ in one key; a fault carries the place of the item.
fn each<'de, D, T>(
    deserializer: D,
    what: &'static str,
    key: fn(&T) -> (&'static str, String),
) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    struct Each<T>(&'static str, fn(&T) -> (&'static str, String));
    impl<'de, T: Deserialize<'de>> Visitor<'de> for Each<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<T>, A::Error> {
            let (mut list, mut seen) = (Vec::new(), HashSet::new());
            while let Some(item) = items.next_element::<T>()? {
                let (name, value) = self.1(&item);
                if !seen.insert(value.clone()) {
                    return Err(A::Error::custom(format!("{name} {value:?} stands twice")));
                }
                list.push(item);
            }
            Ok(list)
        }
    }
    deserializer.deserialize_seq(Each(what, key))
}

pub(super) fn cpus<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    let cpus = f64::deserialize(deserializer)?;
    if !(0.01..=4096.0).contains(&cpus) {
        return Err(D::Error::custom(format!("expected a number of CPUs such as 2 or 1.5, found {cpus}")));
    }
    #[expect(clippy::cast_possible_truncation, reason = "between 10^7 and 4.1 * 10^12")]
    Ok(Some((cpus * 1e9) as i64))
}

pub(super) fn pids<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    let pids = u32::deserialize(deserializer)?;
    // The guest, ssh-agent and the relay run in there too.
    if pids < 16 {
        return Err(D::Error::custom(format!("expected at least 16 processes, found {pids}")));
    }
    Ok(Some(pids.into()))
}

fn not_yet<'de, D: Deserializer<'de>>(deserializer: D, what: &str) -> Result<(), D::Error> {
    serde::de::IgnoredAny::deserialize(deserializer)?;
    Err(D::Error::custom(format!("not yet: {what} comes with a later version")))
}

pub(super) fn provides_not_yet<'de, D: Deserializer<'de>>(deserializer: D) -> Result<(), D::Error> {
    not_yet(deserializer, "`provides` on a route")
}

pub(super) fn skills_not_yet<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let skills = Vec::<String>::deserialize(deserializer)?;
    if skills.is_empty() {
        Ok(skills)
    } else {
        Err(D::Error::custom("not yet: copying skills comes with a later version"))
    }
}

pub(super) fn egress_engine<'de, D: Deserializer<'de>>(deserializer: D) -> Result<(), D::Error> {
    match String::deserialize(deserializer)?.as_str() {
        "none" => Ok(()),
        "builtin" | "pipelock" => {
            Err(D::Error::custom("not yet: an egress other than `none` comes with a later version"))
        }
        other => Err(D::Error::custom(format!("expected the egress engine `none`, found {other:?}"))),
    }
}

/// A URL, or `false` for none.
impl<'de> Deserialize<'de> for UpstreamProxySetting {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::Bool(false) => Ok(Self::Off),
            serde_json::Value::String(url) => Ok(Self::Url(url)),
            _ => Err(D::Error::custom("expected a proxy's URL or false")),
        }
    }
}
