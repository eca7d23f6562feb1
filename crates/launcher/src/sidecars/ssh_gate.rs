//! ssh-gate: one port for each SSH host, from 30000 in the order of the manifest.

use sidecar::ports::{PortTable, Protocol, Row};
use sidecar::upstream::Upstream;

use super::{Descriptor, Options, Table, TableError};
use crate::images::Binary;
use crate::manifest::Bottle;

/// The first port that the gate listens on.
pub(crate) const FIRST_PORT: u16 = 30_000;

pub(super) const DESCRIPTOR: Descriptor = Descriptor {
    name: "ssh-gate",
    binary: Binary::SshGate,
    slot: 2,
    table,
    listen: |address, _| vec!["--bind".to_owned(), address.to_string()],
    ports: |table| match table {
        Table::Ports(table) => table.forwards().iter().map(|row| row.listen).collect(),
        Table::Routes(..) => Vec::new(),
    },
};

fn table(bottle: &Bottle, _: &Options<'_>) -> Result<Option<Table>, TableError> {
    if bottle.ssh.is_empty() {
        return Ok(None);
    }
    let rows = (FIRST_PORT..).zip(&bottle.ssh).map(|(listen, host)| Row {
        bind: None,
        listen,
        upstream: Upstream { host: host.host.clone(), port: host.port },
        alias: Some(host.alias.clone()),
        protocol: Protocol::Ssh,
    });
    Ok(Some(Table::Ports(PortTable::from_rows(rows)?)))
}
