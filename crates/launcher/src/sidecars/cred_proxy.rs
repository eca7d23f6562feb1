//! cred-proxy: one port for all routes; tokens are numbered in their order.

use std::net::SocketAddr;

use sidecar::routes::{Route, RouteTable, TokenName};

use super::{Descriptor, Options, Table, TableError};
use crate::images::Binary;
use crate::manifest::Bottle;

pub(super) const DESCRIPTOR: Descriptor = Descriptor {
    name: "cred-proxy",
    binary: Binary::CredProxy,
    slot: 3,
    table,
    listen: |address, table| match table {
        Table::Routes(_, port) => {
            vec!["--listen".to_owned(), SocketAddr::new(address.into(), *port).to_string()]
        }
        Table::Ports(_) => Vec::new(),
    },
    ports: |table| match table {
        Table::Routes(_, port) => vec![*port],
        Table::Ports(_) => Vec::new(),
    },
};

fn table(bottle: &Bottle, options: &Options<'_>) -> Result<Option<Table>, TableError> {
    if bottle.cred_proxy.routes.is_empty() {
        return Ok(None);
    }
    let routes = bottle.cred_proxy.routes.iter().enumerate().map(|(n, route)| Route {
        path: route.path.clone(),
        upstream: route.upstream.clone(),
        auth: route.auth.clone(),
        token_env: token_name(n),
        allow: route.allow.clone(),
        allow_private_upstream: route.allow_private_upstream,
        redact: route.redact,
        cookies: route.cookies,
        ca: route.ca_file.iter().filter_map(|path| options.cas.get(path)).cloned().collect(),
        ca_file: None,
    });
    Ok(Some(Table::Routes(RouteTable::from_routes(routes)?, options.cred_proxy_port)))
}

/// The name of the nth route's token in the proxy.
pub(crate) fn token_name(n: usize) -> TokenName {
    format!("CRED_PROXY_TOKEN_{n}").parse().expect("letters, digits and `_` make a variable name")
}
