//! The servers that a case is sent to: ours, and two well-known ones, each in front of its own
//! origin.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::json;
use testbed::pki::Ca;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};

use super::ConformanceError;
use super::origin::Origin;

/// The server under test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// cred-proxy, with a route, a token and a TLS origin.
    Ours,
    /// nginx as a plain reverse proxy.
    Nginx,
    /// HAProxy as a plain reverse proxy.
    Haproxy,
}

/// A running server in front of its origin.
#[derive(Debug)]
pub struct Server {
    /// Who it is.
    pub kind: Kind,
    /// Where it listens.
    pub addr: SocketAddr,
    /// Its origin.
    pub origin: Origin,
    child: Child,
    _folder: tempfile::TempDir,
}

/// The token of our route.
pub const TOKEN: &str = "tok-conformance/01+23";

impl Kind {
    /// Its name in the report.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ours => "cred-proxy",
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
        }
    }

    /// What stands in front of every path: our routes are prefixes.
    pub fn prefix(self) -> &'static str {
        if self == Self::Ours { "/a" } else { "" }
    }

    /// Whether it is on this machine.
    pub fn is_installed(self) -> bool {
        self == Self::Ours || program(self).is_some()
    }
}

fn program(kind: Kind) -> Option<&'static str> {
    let places: &[&str] = match kind {
        Kind::Ours => &[],
        Kind::Nginx => &["/usr/sbin/nginx", "/usr/bin/nginx"],
        Kind::Haproxy => &["/usr/sbin/haproxy", "/usr/bin/haproxy"],
    };
    places.iter().copied().find(|place| Path::new(place).exists())
}

impl Server {
    /// Starts one.
    ///
    /// # Errors
    ///
    /// It cannot be started, or does not listen within ten seconds.
    pub async fn start(kind: Kind, ours: &Path, ca: &Ca) -> Result<Self, ConformanceError> {
        let failed = |what: &dyn std::fmt::Display| ConformanceError::Server {
            name: kind.name(),
            what: what.to_string(),
        };
        let folder = tempfile::tempdir().map_err(|error| failed(&error))?;
        let cert = (kind == Kind::Ours).then(|| ca.server(&["127.0.0.1"]));
        let origin = Origin::start(cert.as_ref()).await.map_err(|error| failed(&error))?;
        let (mut child, addr) = match kind {
            Kind::Ours => start_ours(ours, ca, origin.addr).await.map_err(|error| failed(&error))?,
            Kind::Nginx | Kind::Haproxy => {
                start_peer(kind, folder.path(), origin.addr).map_err(|error| failed(&error))?
            }
        };
        let listens = async {
            while tokio::net::TcpStream::connect(addr).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        if tokio::time::timeout(Duration::from_secs(10), listens).await.is_err() {
            let _ = child.start_kill();
            return Err(failed(&"it does not listen"));
        }
        Ok(Self { kind, addr, origin, child, _folder: folder })
    }

    /// Sockets of its process that lead neither to its origin nor to its own clients.
    pub fn foreign_sockets(&self) -> Vec<String> {
        let Some(pid) = self.child.id() else { return vec!["the process has ended".to_owned()] };
        let links = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        let inodes: Vec<_> = links
            .filter_map(|link| std::fs::read_link(link.path()).ok())
            .filter_map(|to| to.to_str()?.strip_prefix("socket:[")?.strip_suffix(']').map(str::to_owned))
            .collect();
        let port = |address: &str| u16::from_str_radix(address.rsplit(':').next()?, 16).ok();
        let mut foreign = Vec::new();
        for table in ["tcp", "tcp6", "udp", "udp6"] {
            let rows = std::fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default();
            for row in rows.lines().skip(1) {
                let columns: Vec<_> = row.split_whitespace().collect();
                let [_, local, remote, _, _, _, _, _, _, inode, ..] = columns[..] else { continue };
                let known =
                    port(local) == Some(self.addr.port()) || port(remote) == Some(self.origin.addr.port());
                if inodes.iter().any(|own| own == inode) && !known {
                    foreign.push(format!("{table} {local} -> {remote}"));
                }
            }
        }
        foreign
    }

    /// Ends it.
    pub async fn stop(mut self) {
        let _ = self.child.kill().await;
    }
}

async fn start_ours(binary: &Path, ca: &Ca, origin: SocketAddr) -> std::io::Result<(Child, SocketAddr)> {
    let route = json!({"path": "/a/", "upstream": format!("https://{origin}"), "auth": {"scheme": "bearer"},
        "token_env": "T", "allow_private_upstream": true});
    let bundle =
        json!({"version": 1, "table": {"routes": [route]}, "tokens": {"T": TOKEN}, "ca": [ca.pem()]});
    // Names of other hosts are a policy of ours that the corpora do not know.
    let mut child = Command::new(binary)
        .args(["--stdin-bundle", "--listen", "127.0.0.1:0", "--admin", "off", "--server-name", "*"])
        .env("RUST_LOG", "off")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let unready = || std::io::Error::other("it did not become ready");
    child.stdin.take().ok_or_else(unready)?.write_all(format!("{bundle}\n").as_bytes()).await?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().ok_or_else(unready)?).read_line(&mut line).await?;
    let ready: serde_json::Value = serde_json::from_str(&line).map_err(|_| unready())?;
    let addr = ready["listeners"][0].as_str().and_then(|addr| addr.parse().ok()).ok_or_else(unready)?;
    Ok((child, addr))
}

fn start_peer(kind: Kind, folder: &Path, origin: SocketAddr) -> std::io::Result<(Child, SocketAddr)> {
    // Neither takes a port of its own choice: one that was free a moment ago.
    let addr = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let file = folder.join("server.conf");
    let place = folder.display();
    let settings = match kind {
        Kind::Haproxy => format!(
            "defaults\n mode http\n timeout connect 5s\n timeout client 5s\n timeout server 5s\n\
             frontend f\n bind {addr}\n default_backend b\nbackend b\n server s {origin}\n"
        ),
        _ => format!(
            "daemon off; master_process off; worker_processes 1; pid {place}/pid; error_log {place}/error.log crit;\n\
             events {{ worker_connections 256; }}\n\
             http {{ access_log off; client_body_temp_path {place}/b; proxy_temp_path {place}/p; \
             fastcgi_temp_path {place}/f; uwsgi_temp_path {place}/u; scgi_temp_path {place}/s;\n\
             server {{ listen {addr}; location / {{ proxy_pass http://{origin}; proxy_http_version 1.1; \
             proxy_set_header Connection \"\"; }} }} }}\n"
        ),
    };
    std::fs::write(&file, settings)?;
    let mut command = Command::new(program(kind).unwrap_or_default());
    match kind {
        Kind::Haproxy => command.args(["-db", "-q", "-f"]).arg(&file),
        _ => command.arg("-p").arg(folder).arg("-c").arg(&file),
    };
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    Ok((child, addr))
}
