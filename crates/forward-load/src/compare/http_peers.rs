//! The HTTP proxies that `compare http` starts, and how each is configured.
//!
//! All do the same job: take plain HTTP/1.1 below `/api/`, put the credential in the place of
//! whatever `Authorization` came, and pass the rest of the path to an upstream over verified
//! TLS 1.3, on pooled connections, streaming bodies and events. None writes an access log.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;

use rustix::process::{Resource, getrlimit};

use super::peer::{Launch, Needs, Peer, Setting, Site};
use super::running::Ground;
use super::{Comparison, select};
use crate::cli::{CompareArgs, Ended, Failure, print};
use crate::http::{OriginProcess, compare::Behind};
use crate::interrupt::Interrupt;

/// Runs `compare http`.
///
/// # Errors
///
/// Nothing could be measured.
pub fn compare(args: &CompareArgs, interrupt: &Interrupt) -> Result<Ended, Failure> {
    let mut peers = select::selected(args, HTTP_PEERS)?;
    if args.quick && args.peer.iter().all(|name| !name.starts_with(REDACTING)) {
        peers.retain(|(peer, _)| peer.name != REDACTING);
    }
    if args.list {
        print(&select::listed(&peers));
        return Ok(Ended::Complete);
    }
    let folder = tempfile::Builder::new().prefix("forward-load-").tempdir()?;
    // Proxies read the certificate as users of their own.
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
    let authorization = format!("Bearer {}", token()?);
    let origin = OriginProcess::start(&std::env::current_exe()?, folder.path(), &authorization)?;
    let behind = Behind { ca_file: &origin.ca_file, authorization: &authorization };
    let probe = |proxy| behind.probe(proxy);
    let comparison = Comparison {
        peers,
        ground: Ground {
            upstream: origin.address,
            ca: Some(&origin.ca_file),
            server_name: "localhost",
            credential: &authorization,
        },
        backend: Some(origin.pid()),
        scenarios: behind.scenarios(select::window(args), args.quick),
        probe: &probe,
        rounds: select::rounds(args),
    };
    select::run(args, comparison, interrupt)
}

/// A credential of this run alone: no response contains it by accident.
fn token() -> io::Result<String> {
    let mut random = [0_u8; 16];
    fs::File::open("/dev/urandom")?.read_exact(&mut random)?;
    Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Every HTTP proxy that is known.
pub const HTTP_PEERS: &[Peer] = &[
    Peer {
        name: "cred-proxy",
        program: "cred-proxy",
        install: "cargo build --release -p cred-proxy --target x86_64-unknown-linux-musl, or --peer cred-proxy=PATH",
        release: &["--version"],
        settings: CRED_PROXY,
        most: Needs::ANY,
        launch: |site| cred_proxy(site, false),
    },
    Peer {
        name: REDACTING,
        program: "cred-proxy",
        install: "as cred-proxy; --peer cred-proxy-redact=PATH",
        release: &["--version"],
        settings: CRED_PROXY_REDACT,
        most: Needs::ANY,
        launch: |site| cred_proxy(site, true),
    },
    Peer {
        name: "nginx",
        program: "nginx",
        install: "apt-get install nginx",
        release: &["-v"],
        settings: NGINX,
        most: Needs::ANY,
        launch: nginx,
    },
    Peer {
        name: "haproxy",
        program: "haproxy",
        install: "apt-get install haproxy",
        release: &["-v"],
        settings: HAPROXY,
        most: Needs::ANY,
        launch: haproxy,
    },
    Peer {
        name: "caddy",
        program: "caddy",
        install: "apt-get install caddy",
        release: &["version"],
        settings: CADDY,
        most: Needs::ANY,
        launch: caddy,
    },
];

/// cred-proxy once more, with redaction on, which no other peer does.
pub const REDACTING: &str = "cred-proxy-redact";

/// What requests through a proxy begin with.
pub const PREFIX: &str = "/api";

const CRED_PROXY: &[Setting] = &[
    Setting { setting: r#""redact": false"#, reason: "no other peer looks for the token in answers" },
    Setting { setting: r#""allow_private_upstream": true"#, reason: "the origin is on loopback" },
    Setting { setting: "--admin off", reason: "no other peer has an admin endpoint here" },
    Setting { setting: "--max-body 16GiB", reason: "no peer limits uploads" },
    Setting { setting: "--max-connections", reason: "as many as the others take" },
    Setting { setting: "RUST_LOG=warn", reason: "no peer writes a line per request" },
];

const CRED_PROXY_REDACT: &[Setting] = &[
    Setting { setting: r#""redact": true"#, reason: "its default, and what redaction costs" },
    Setting { setting: "otherwise", reason: "as cred-proxy" },
];

fn cred_proxy(site: &Site<'_>, redact: bool) -> Launch {
    let routes = serde_json::json!({"routes": [{
        "path": format!("{PREFIX}/"),
        "upstream": format!("https://{}", site.upstream),
        "auth": {"scheme": "bearer"},
        "token_env": "CRED_PROXY_TOKEN_0",
        "allow_private_upstream": true,
        "redact": redact,
    }]});
    let token = site.credential.strip_prefix("Bearer ").unwrap_or(site.credential);
    let (listen, most) = (site.listen.to_string(), connections(site).to_string());
    let arguments = [
        "--routes",
        "routes.json",
        "--listen",
        &listen,
        "--ca-file",
        &ca(site),
        "--admin",
        "off",
        "--max-body",
        "16GiB",
        "--max-connections",
        &most,
    ];
    Launch {
        arguments: arguments.map(OsString::from).into(),
        variables: vec![("CRED_PROXY_TOKEN_0", token.into()), ("RUST_LOG", "warn".into())],
        files: vec![("routes.json", routes.to_string())],
    }
}

const NGINX: &[Setting] = &[
    Setting {
        setting: "worker_processes, worker_connections",
        reason: "one worker per CPU, with room for every connection",
    },
    Setting { setting: "access_log off", reason: "no peer writes a line per request" },
    Setting {
        setting: "keepalive 512; proxy_http_version 1.1; Connection \"\"",
        reason: "without all three nginx opens an upstream connection per request",
    },
    Setting {
        setting: "keepalive_requests 1000000000, both sides",
        reason: "its default closes after 1000 requests; no other peer does",
    },
    Setting {
        setting: "proxy_ssl_verify on, name, trusted certificate",
        reason: "off by default; every peer verifies",
    },
    Setting {
        setting: "proxy_ssl_protocols TLSv1.2 TLSv1.3",
        reason: "1.22 leaves out TLS 1.3 by default, which every other peer speaks",
    },
    Setting {
        setting: "proxy_request_buffering off, client_max_body_size 0",
        reason: "uploads are streamed, of any length, and not written to disk first",
    },
    Setting { setting: "proxy_max_temp_file_size 0", reason: "answers are streamed and not written to disk" },
    Setting {
        setting: "proxy_buffer_size 16k, proxy_buffers 8 64k, client_body_buffer_size 64k",
        reason: "fewer system calls for long bodies than with the 4k and 16k of the default",
    },
    Setting {
        setting: "proxy_buffering off for /api/sse",
        reason: "events pass at once; long bodies are cheaper with it on",
    },
    Setting { setting: "multi_accept on", reason: "takes all connections that wait in one wake-up" },
];

fn nginx(site: &Site<'_>) -> Launch {
    let Site { listen, upstream, server_name, credential, cpus, .. } = site;
    let (ca, connections) = (ca(site), connections(site) * 2);
    let text = format!(
        r#"daemon off;
worker_processes {cpus};
worker_rlimit_nofile 65536;
pid nginx.pid;
error_log stderr error;
events {{ worker_connections {connections}; multi_accept on; }}
http {{
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxied;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    keepalive_requests 1000000000;
    client_max_body_size 0;
    client_body_buffer_size 64k;
    upstream origin {{
        server {upstream};
        keepalive 512;
        keepalive_requests 1000000000;
    }}
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_set_header Host {server_name};
    proxy_set_header Authorization "{credential}";
    proxy_ssl_verify on;
    proxy_ssl_trusted_certificate {ca};
    proxy_ssl_name {server_name};
    proxy_ssl_server_name on;
    proxy_ssl_protocols TLSv1.2 TLSv1.3;
    proxy_request_buffering off;
    proxy_max_temp_file_size 0;
    proxy_buffer_size 16k;
    proxy_buffers 8 64k;
    proxy_busy_buffers_size 128k;
    server {{
        listen {listen} backlog=4096;
        location {PREFIX}/ {{ proxy_pass https://origin/; }}
        location = {PREFIX}/sse {{ proxy_buffering off; proxy_pass https://origin/sse; }}
        location / {{ return 404; }}
    }}
}}
"#
    );
    let folder = site.folder.to_string_lossy();
    Launch {
        arguments: ["-p", &folder, "-c", "nginx.conf", "-e", "stderr"].map(OsString::from).into(),
        files: vec![("nginx.conf", text)],
        ..Launch::default()
    }
}

const HAPROXY: &[Setting] = &[
    Setting {
        setting: "nbthread, maxconn",
        reason: "one thread per CPU, and several times the connections that there will be: once a quarter of all descriptors is in use, HAProxy closes pooled upstream connections",
    },
    Setting {
        setting: "http-reuse always",
        reason: "the default, safe, sends the first request of every client on a new upstream connection",
    },
    Setting {
        setting: "ssl verify required, verifyhost, sni",
        reason: "every peer verifies; without sni the name is not sent",
    },
    Setting {
        setting: "tune.bufsize 32768",
        reason: "a whole TLS record and its head fit; the default of 16 KiB costs a second read for long bodies",
    },
    Setting { setting: "option http-no-delay", reason: "events pass at once" },
    Setting { setting: "timeouts as cred-proxy's", reason: "a fair one needs them set; none is reached" },
    Setting { setting: "no log", reason: "no peer writes a line per request" },
];

fn haproxy(site: &Site<'_>) -> Launch {
    let Site { listen, upstream, server_name, credential, cpus, .. } = site;
    let descriptors = getrlimit(Resource::Nofile).maximum;
    let (ca, connections, prefix) = (ca(site), maxconn(connections(site), descriptors), PREFIX.len());
    let credential = credential.replace(' ', "\\ ");
    let text = format!(
        r#"global
    nbthread {cpus}
    maxconn {connections}
    tune.bufsize 32768
defaults
    mode http
    option http-no-delay
    timeout connect 10s
    timeout client 75s
    timeout server 10m
    timeout http-keep-alive 75s
frontend downstream
    bind {listen} backlog 4096
    http-request deny deny_status 404 unless {{ path_beg {PREFIX}/ }}
    http-request set-path %[path,bytes({prefix})]
    http-request set-header Authorization {credential}
    http-request set-header Host {server_name}
    default_backend origin
backend origin
    http-reuse always
    server origin {upstream} ssl verify required ca-file {ca} sni str({server_name}) verifyhost {server_name}
"#
    );
    Launch {
        arguments: ["-db", "-f", "haproxy.cfg"].map(OsString::from).into(),
        files: vec![("haproxy.cfg", text)],
        ..Launch::default()
    }
}

/// Several times the connections, but no more than it has descriptors for: it would not start.
fn maxconn(connections: usize, descriptors: Option<u64>) -> usize {
    let most = descriptors.map(|all| all.saturating_sub(OTHER_DESCRIPTORS) / 2);
    most.and_then(|most| usize::try_from(most).ok()).map_or(connections * 8, |most| most.min(connections * 8))
}

/// Those of its listeners, pipes and threads.
const OTHER_DESCRIPTORS: u64 = 300;

const CADDY: &[Setting] = &[
    Setting { setting: "admin off, auto_https off", reason: "nothing runs beside the proxy" },
    Setting { setting: "tls_trusted_ca_certs, tls_server_name", reason: "every peer verifies" },
    Setting {
        setting: "keepalive_idle_conns_per_host 512",
        reason: "its default of 32 closes connections that 64 clients need",
    },
    Setting {
        setting: "versions 1.1, compression off",
        reason: "like every peer; the origin uses HTTP/1.1 without content codings",
    },
    Setting { setting: "log level ERROR", reason: "no peer writes a line per request" },
];

fn caddy(site: &Site<'_>) -> Launch {
    let Site { listen, upstream, server_name, credential, .. } = site;
    let (ca, address, port) = (ca(site), listen.ip(), listen.port());
    let text = format!(
        r#"{{
    admin off
    auto_https off
    log {{
        level ERROR
    }}
}}
http://:{port} {{
    bind {address}
    handle_path {PREFIX}/* {{
        reverse_proxy https://{upstream} {{
            header_up Authorization "{credential}"
            header_up Host {server_name}
            transport http {{
                tls_trusted_ca_certs {ca}
                tls_server_name {server_name}
                keepalive_idle_conns 512
                keepalive_idle_conns_per_host 512
                versions 1.1
                compression off
            }}
        }}
    }}
    handle {{
        respond 404
    }}
}}
"#
    );
    Launch {
        arguments: ["run", "--config", "Caddyfile", "--adapter", "caddyfile"].map(OsString::from).into(),
        files: vec![("Caddyfile", text)],
        ..Launch::default()
    }
}

fn ca(site: &Site<'_>) -> String {
    site.ca.map(|path| path.to_string_lossy().into_owned()).unwrap_or_default()
}

/// What a proxy must take at once, with room for the probe and those that are just closing.
fn connections(site: &Site<'_>) -> usize {
    site.connections * 2 + 64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn haproxy_is_told_no_more_connections_than_it_has_descriptors_for() {
        let cases = [(None, 16_512), (Some(1 << 20), 16_512), (Some(20_000), 9850), (Some(100), 0)];
        for (descriptors, connections) in cases {
            assert_eq!(maxconn(2064, descriptors), connections, "{descriptors:?}");
        }
    }
}
