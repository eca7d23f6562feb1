//! One SSH host, in the words of ssh_config(5).

use super::SshHost;
use super::at::At;
use super::fault::Fault;
use super::host_key::host_key;
use super::{names, numbers};

pub(super) fn ssh(at: &At<'_>) -> Result<Vec<SshHost>, Fault> {
    at.distinct(row, "Host", |row| row.alias.to_ascii_lowercase())
}

fn row(at: &At<'_>) -> Result<SshHost, Fault> {
    let fields = at.fields(&["Host", "Hostname", "User", "Port", "IdentityFile", "KnownHostKey"], &[])?;
    let alias = names::alias(fields.need("Host")?)?;
    let host = names::host(fields.need("Hostname")?)?;
    let user = fields.read("User", names::login)?.unwrap_or_else(|| "git".to_owned());
    let port = fields.read("Port", numbers::port)?.unwrap_or(22);
    let identity_file = names::path(&fields.need("IdentityFile")?.clone().secret())?;
    let known_host_key = fields.read("KnownHostKey", |at| host_key(at, &host, port))?;
    Ok(SshHost { alias, host, user, port, identity_file, known_host_key })
}
