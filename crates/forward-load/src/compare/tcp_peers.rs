//! The TCP forwarders that `compare tcp` starts, and how each is configured.
//!
//! Each is as its makers would have it for this work: it may use every CPU, has room for every
//! connection, sends what it has at once, and writes no access log.

use std::ffi::OsString;

use super::{Launch, Needs, Peer, Setting, Site};

/// All of them, ours first.
pub const PEERS: [Peer; 5] = [
    Peer {
        name: "ssh-gate",
        program: "ssh-gate",
        install: "cargo xtask build, or --peer ssh-gate=PATH",
        release: &["--version"],
        settings: &[
            Setting {
                setting: "--max-connections 2048 (10064 for 10,000)",
                reason: "room for every connection; its default is 1024",
            },
            Setting { setting: "--admin off", reason: "the endpoint is not used" },
            Setting { setting: "RUST_LOG=warn", reason: "no line for each connection, as with the others" },
        ],
        most: Needs::ANY,
        launch: ssh_gate,
    },
    Peer {
        name: "haproxy",
        program: "haproxy",
        install: "apt-get install haproxy",
        release: &["-v"],
        settings: HAPROXY,
        most: Needs::ANY,
        launch: |site| haproxy(site, false),
    },
    Peer {
        name: "haproxy-splice",
        program: "haproxy",
        install: "apt-get install haproxy",
        release: &["-v"],
        settings: &[
            HAPROXY[0],
            HAPROXY[1],
            HAPROXY[2],
            HAPROXY[3],
            Setting {
                setting: "option splice-auto",
                reason: "the kernel moves bytes where haproxy expects that to pay",
            },
        ],
        most: Needs::ANY,
        launch: |site| haproxy(site, true),
    },
    Peer {
        name: "nginx",
        program: "nginx",
        install: "apt-get install nginx-light libnginx-mod-stream",
        release: &["-v"],
        settings: &[
            Setting { setting: "worker_processes = CPUs", reason: "may use every CPU" },
            Setting {
                setting: "worker_connections 8192 (40256 for 10,000)",
                reason: "two for each forwarded connection, and workers do not share them evenly",
            },
            Setting {
                setting: "listen ... reuseport",
                reason: "workers share new connections without a lock",
            },
            Setting {
                setting: "proxy_buffer_size 64k",
                reason: "fewer system calls for bulk than with its 16k",
            },
            Setting {
                setting: "proxy_half_close on",
                reason: "forwards the end of one side, as the others do",
            },
            Setting { setting: "access_log off", reason: "no line for each connection, as with the others" },
        ],
        most: Needs::ANY,
        launch: nginx,
    },
    Peer {
        name: "socat",
        program: "socat",
        install: "apt-get install socat",
        release: &["-V"],
        settings: &[
            Setting { setting: "fork", reason: "a process for each connection: how it serves more than one" },
            Setting { setting: "-b 65536", reason: "fewer system calls for bulk than with its 8192" },
            Setting { setting: "nodelay", reason: "sends what it has at once" },
            Setting { setting: "backlog=1024", reason: "its 5 drops connections that come together" },
            Setting { setting: "-t 30", reason: "forwards the end of one side and waits for the other" },
        ],
        // A process of some 60 KiB for each connection, and a program for each row.
        most: Needs { connections: 2048, rows: 1 },
        launch: socat,
    },
];

const HAPROXY: &[Setting] = &[
    Setting { setting: "nbthread = CPUs", reason: "may use every CPU" },
    Setting { setting: "maxconn 2048 (10064 for 10,000)", reason: "room for every connection" },
    Setting { setting: "timeouts of 60 s", reason: "nothing that is measured is ended by one" },
    Setting { setting: "no log", reason: "no line for each connection, as with the others" },
];

fn ssh_gate(site: &Site<'_>) -> Launch {
    let most = site.connections.to_string();
    let rows =
        site.listeners().flat_map(|listen| ["--forward".into(), format!("{listen}={}", site.upstream)]);
    let others = ["--max-connections", &most, "--admin", "off"].map(String::from);
    Launch {
        arguments: rows.chain(others).map(OsString::from).collect(),
        variables: vec![("RUST_LOG", "warn".into())],
        files: Vec::new(),
    }
}

fn haproxy(site: &Site<'_>, splice: bool) -> Launch {
    let (cpus, connections) = (site.cpus, site.connections);
    let splice = if splice { "option splice-auto" } else { "" };
    let row = |(row, listen)| {
        format!(
            "listen forward{row}
    bind {listen}
    server backend {upstream}
",
            upstream = site.upstream
        )
    };
    let rows: String = site.listeners().enumerate().map(row).collect();
    let text = format!(
        "global
    nbthread {cpus}
    maxconn {connections}
defaults
    mode tcp
    timeout connect 10s
    timeout client 60s
    timeout server 60s
    {splice}
{rows}"
    );
    Launch {
        arguments: ["-db", "-f", "haproxy.cfg"].map(OsString::from).into(),
        variables: Vec::new(),
        files: vec![("haproxy.cfg", text)],
    }
}

fn nginx(site: &Site<'_>) -> Launch {
    // The module is loaded where Debian puts it; a build with it inside needs no line.
    let module = "/usr/lib/nginx/modules/ngx_stream_module.so";
    let load =
        if std::path::Path::new(module).exists() { format!("load_module {module};") } else { String::new() };
    let folder = site.folder.display();
    // Two for each forwarded connection, and as many again, as workers do not share them evenly.
    let connections = site.connections * 4;
    let row = |listen| {
        format!(
            "    server {{
        listen {listen} reuseport backlog=1024;
        proxy_pass {upstream};
    }}
",
            upstream = site.upstream
        )
    };
    let rows: String = site.listeners().map(row).collect();
    let text = format!(
        "{load}
daemon off;
pid {folder}/nginx.pid;
error_log stderr warn;
worker_processes {cpus};
worker_rlimit_nofile 65536;
events {{ worker_connections {connections}; }}
stream {{
    access_log off;
    proxy_buffer_size 64k;
    proxy_half_close on;
    proxy_timeout 60s;
    tcp_nodelay on;
{rows}}}
",
        cpus = site.cpus
    );
    Launch {
        arguments: vec!["-p".into(), site.folder.into(), "-c".into(), site.folder.join("nginx.conf").into()],
        variables: Vec::new(),
        files: vec![("nginx.conf", text)],
    }
}

fn socat(site: &Site<'_>) -> Launch {
    let (listen, upstream) = (site.listen, site.upstream);
    let accept =
        format!("TCP4-LISTEN:{},bind={},fork,reuseaddr,nodelay,backlog=1024", listen.port(), listen.ip());
    let connect = format!("TCP4:{upstream},nodelay");
    Launch {
        arguments: ["-b", "65536", "-t", "30", &accept, &connect].map(OsString::from).into(),
        ..Launch::default()
    }
}
