//! Names that are handed to tools: to ssh, to the engine, to a resolver. None can be read as an
//! option, and none needs quoting where it lands.

use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;

use sidecar::upstream::Host;

use super::at::At;
use super::fault::Fault;
use super::guard;

/// A name of the manifest's own: a bottle's or an agent's.
pub(super) fn own(what: &'static str) -> impl Fn(&str) -> Result<String, String> {
    move |name| {
        let plain = !name.starts_with('-') && !name.chars().any(char::is_control);
        let fits = plain && !name.trim().is_empty() && name.len() <= 128;
        fits.then(|| name.to_owned()).ok_or_else(|| {
            format!("{what} that is not empty, does not begin with `-` and has no control characters")
        })
    }
}

/// The name of an environment variable.
pub(super) fn is_variable(name: &str) -> bool {
    let first = name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    first && name.len() <= 128 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// A variable of this machine, by its name. A token pasted in its place is not printed.
pub(super) fn variable(at: &At<'_>) -> Result<String, Fault> {
    let name = at.text()?;
    if guard::is_secret(name) {
        return Err(at
            .fault("expected the name of an environment variable, found what looks like a secret")
            .hint("set a variable to the secret, and write the variable's name here"));
    }
    let what = "the name of an environment variable (letters, digits and `_`)";
    at.clone().secret().word(what, is_variable)
}

/// A path on this machine, as it was written. A key pasted in its place is not printed.
pub(super) fn path(at: &At<'_>) -> Result<PathBuf, Fault> {
    let text = at.text()?;
    if guard::is_secret(text) {
        return Err(at
            .fault("expected a path, found what looks like a secret")
            .hint("store the secret in a file, and write the file's path here"));
    }
    if text.is_empty() || text.contains('\0') || text.len() > 4096 {
        return Err(at.expected("a path"));
    }
    // ssh and the shell look the user up; a launcher that is linked statically sees only /etc/passwd.
    if text.strip_prefix('~').is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/')) {
        return Err(at
            .fault("the home directory of another user is not expanded")
            .hint("write the absolute path, or `./~NAME` for a file of that name"));
    }
    Ok(PathBuf::from(text))
}

fn is_ssh_word(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._@+".contains(&b);
    !text.is_empty() && text.len() <= 64 && !text.starts_with('-') && text.bytes().all(plain)
}

/// What ssh_config reads as one pattern without wildcards.
pub(super) fn alias(at: &At<'_>) -> Result<String, Fault> {
    at.word("an alias of letters, digits and `-._@+`", is_ssh_word)
}

/// A login name on an SSH host.
pub(super) fn login(at: &At<'_>) -> Result<String, Fault> {
    at.word("a login name of letters, digits and `-._@+`", is_ssh_word)
}

/// A host name or an address, IPv6 with or without brackets.
pub(super) fn host(at: &At<'_>) -> Result<Host, Fault> {
    let what = "a host name or an IP address";
    let parse = |text: &str| match text.parse::<Ipv6Addr>() {
        // ssh_config writes IPv6 literals without brackets.
        Ok(address) => Some(Host::Address(address.into())),
        Err(_) => text.parse::<Host>().ok(),
    };
    let text = at.text()?;
    if let Some(host) = parse(text) {
        return Ok(host);
    }
    let fault = at.word(what, |_| false).map_or_else(|fault| fault, |_| at.unfit(what));
    let hint = match (text.contains("://"), text.rsplit_once('@'), text.rsplit_once(':')) {
        (true, ..) => "write the host alone, without scheme and path",
        (_, Some((_, host)), _) if parse(host).is_some() => "put the login name in `User`",
        (_, _, Some((host, _))) if parse(host).is_some() => "put the port in `Port`",
        _ => return Err(fault),
    };
    Err(fault.hint(hint))
}

/// The agent's user: a name or a number, and perhaps a group.
pub(super) fn container_user(at: &At<'_>) -> Result<String, Fault> {
    let part = |part: &str| {
        let number = part.bytes().all(|b| b.is_ascii_digit());
        let plain = part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        let fits = if number { part.parse::<u32>().is_ok_and(|id| id < u32::MAX) } else { plain };
        !part.is_empty() && part.len() <= 32 && !part.starts_with('-') && fits
    };
    at.word("a user such as `node` or `1000:1000`", |text| match text.split_once(':') {
        Some((user, group)) => part(user) && part(group),
        None => part(text),
    })
}

/// An image, as `docker run` takes it.
pub(super) fn image(at: &At<'_>) -> Result<String, Fault> {
    at.word("an image such as `claude-bottle:latest`", |text| {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"._:/@+[]-".contains(&b);
        let (first, last) = (text.bytes().next(), text.bytes().last());
        text.len() <= 512
            && text.bytes().all(plain)
            // A URL, perhaps with a password.
            && !text.contains("//")
            && first.is_some_and(|b| b.is_ascii_alphanumeric() || b == b'[')
            && last.is_some_and(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
    })
}

/// A network of the engine. Some names mean a mode to it instead.
pub(super) fn network(at: &At<'_>) -> Result<String, Fault> {
    let text = at.text()?;
    if ["host", "none", "default"].contains(&text) || text.starts_with("container:") {
        return Err(at.fault(format!(
            "expected the name of a network, found the engine's mode {:?}",
            text.split(':').next().unwrap_or_default()
        )));
    }
    at.word("the name of a network (letters, digits and `_.-`)", |text| {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
        let first = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_');
        first && text.len() <= 255 && text.bytes().all(plain)
    })
}

/// Names that mean something inside a bottle already.
const OWN_HOSTS: &[&str] = &[
    "localhost",
    "ip6-localhost",
    "ip6-loopback",
    "ssh-gate",
    "cred-proxy",
    "egress-proxy",
    "egress",
    "pipelock",
];

/// A DNS name of `hosts`, in its canonical form: lower case, without the dot at its end.
pub(super) fn dns(name: &str) -> Result<String, String> {
    let Ok(Host::Name(canonical)) = name.parse::<Host>() else {
        return Err("a host name".to_owned());
    };
    let canonical = canonical.strip_suffix('.').unwrap_or(&canonical).to_owned();
    if OWN_HOSTS.contains(&canonical.as_str()) || canonical.ends_with(".localhost") {
        return Err("a host name that the bottle does not use itself".to_owned());
    }
    Ok(canonical)
}

/// The address of a name of `hosts`.
pub(super) fn address(at: &At<'_>) -> Result<IpAddr, Fault> {
    let text = at.text()?;
    let Ok(address) = text.parse::<IpAddr>() else { return Err(at.unfit("an IPv4 or IPv6 address")) };
    let address = address.to_canonical();
    let broadcast = address == IpAddr::from([255; 4]);
    if address.is_unspecified() || address.is_loopback() || address.is_multicast() || broadcast {
        return Err(at.unfit("the address of another host"));
    }
    Ok(address)
}
