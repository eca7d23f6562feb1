//! The life of the process: read, bind, announce, serve, drain.

use std::{io::Write as _, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use sidecar::{
    admin::Admin,
    bundle::{self, Bundle},
    command::{Instead, Parsed},
    drain,
    exit::Failure,
    healthcheck,
    listen::{self, Listening, Peers},
    log,
    metrics::Exposition,
    ready::Ready,
    routes::RouteTable,
    table,
    token::Tokens,
    upstream_proxy::UpstreamProxy,
    workers,
};
use tokio::{
    io::BufReader,
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    args::{Args, TokenSource, takes_bundle},
    authority::OwnNames,
    dial::{Dialer, keep_alive},
    downstream::ReadTimeouts,
    exchange::{Limits, Proxy},
    harden::harden,
    metrics,
    route::Routes,
    server::{Room, Server, ServerLimits},
    tokens,
    upstream::{
        ConnectLimits, Connector,
        trust::{Authority, Trust},
    },
    verdict::Policy,
};

/// Runs the command that the process was started as.
///
/// # Errors
///
/// A [`Failure`] with its exit code, for [`sidecar::exit::report`].
pub fn run() -> Result<(), Failure> {
    let parsed = Args::parse()?;
    match parsed.args.common.instead {
        Some(Instead::Healthcheck) => return check_health(&parsed.args),
        Some(Instead::Check) => return check_table(&parsed),
        None => {}
    }
    harden()
        .map_err(|error| Failure::runtime(format!("could not protect this process from dumps: {error}")))?;
    log::init(parsed.args.common.log_format);
    // For all but the connections, which have threads of their own.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::runtime(format!("could not start the runtime: {error}")))?;
    let outcome = runtime.block_on(start(&parsed));
    // A read of stdin may still be waiting on its thread.
    runtime.shutdown_background();
    outcome
}

fn check_health(args: &Args) -> Result<(), Failure> {
    let Some(admin) = args.admin.0 else { return Err(Failure::runtime("the admin endpoint is off")) };
    match healthcheck::ready(admin) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Failure::runtime("not ready")),
        Err(error) => Err(Failure::runtime(format!("could not ask the admin endpoint {admin}: {error}"))),
    }
}

fn check_table(parsed: &Parsed<Args>) -> Result<(), Failure> {
    // Everything but the tokens that would make a start fail.
    parsed.args.upstream_proxy(|name| std::env::var(name).ok())?;
    let mut authorities = load_authorities(&parsed.values("ca_file"))?;
    let table = if takes_bundle(parsed) {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::runtime)?;
        let read = runtime.block_on(Bundle::<RouteTable>::read(&mut BufReader::new(tokio::io::stdin())));
        runtime.shutdown_background();
        let bundle = read?;
        authorities.extend(Authority::of_bundle(bundle.ca));
        bundle.table
    } else {
        load_table(&parsed.args)?
    };
    Trust::new(authorities, &table)?;
    let text = serde_json::to_string_pretty(&table).map_err(Failure::runtime)?;
    writeln!(std::io::stdout(), "{text}").map_err(Failure::runtime)
}

fn load_authorities(files: &[String]) -> Result<Vec<Authority>, Failure> {
    files.iter().map(|file| Authority::load(Path::new(file)).map_err(Failure::from)).collect()
}

fn load_table(args: &Args) -> Result<RouteTable, Failure> {
    let Some(routes) = &args.routes else {
        return Err(
            Failure::config("no route table").hint("name one with --routes FILE, or use --stdin-bundle")
        );
    };
    Ok(table::load(routes)?)
}

/// What a proxy is started with, wherever it came from.
struct Given {
    table: RouteTable,
    tokens: Tokens,
    trust: Trust,
    upstream_proxy: Option<UpstreamProxy>,
    peers: Peers,
    stdin: Option<BufReader<tokio::io::Stdin>>,
    from_environment: bool,
}

async fn gather(parsed: &Parsed<Args>) -> Result<Given, Failure> {
    let files = parsed.values("ca_file");
    let mut authorities = beside(move || load_authorities(&files)).await?;
    if takes_bundle(parsed) {
        let mut stdin = BufReader::new(tokio::io::stdin());
        let bundle = Bundle::<RouteTable>::read(&mut stdin).await?;
        authorities.extend(Authority::of_bundle(bundle.ca));
        return Ok(Given {
            trust: Trust::new(authorities, &bundle.table)?,
            table: bundle.table,
            tokens: bundle.tokens,
            upstream_proxy: bundle.upstream_proxy,
            peers: Peers::from_bundle(bundle.from),
            stdin: bundle.lifeline.then_some(stdin),
            from_environment: false,
        });
    }
    let args = parsed.args.clone();
    let (table, trust) = beside(move || {
        let table = load_table(&args)?;
        let trust = Trust::new(authorities, &table)?;
        Ok((table, trust))
    })
    .await?;
    let from_environment = parsed.args.tokens == TokenSource::Env;
    let tokens = if from_environment {
        tokens::from_environment(&table, |name| std::env::var_os(name))?
    } else {
        beside(|| tokens::from_stream(std::io::stdin())).await?
    };
    let peers = Peers::Anyone;
    Ok(Given { table, tokens, trust, upstream_proxy: None, peers, stdin: None, from_environment })
}

/// Runs what may wait for stdin or a file on a thread of its own.
async fn beside<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(read).await.map_err(Failure::runtime)?
}

async fn start(parsed: &Parsed<Args>) -> Result<(), Failure> {
    let args = &parsed.args;
    let drain = drain::on_signals()
        .map_err(|error| Failure::runtime(format!("could not handle signals: {error}")))?;
    let own_proxy = args.upstream_proxy(|name| std::env::var(name).ok())?;
    let given = tokio::select! {
        given = gather(parsed) => given?,
        // A signal ends the wait for a stdin that says nothing.
        () = drain.cancelled() => return Ok(()),
    };
    let routes = Routes::new(&given.table, &given.tokens, &given.trust)?;
    // What is typed goes before the bundle, and that before variables.
    let upstream_proxy = match given.upstream_proxy {
        Some(given) if !parsed.typed("upstream_proxy") => Some(given),
        _ => own_proxy,
    };

    let could_not_bind = |what: &str, address: SocketAddr| {
        let what = what.to_owned();
        move |error: std::io::Error| Failure::runtime(format!("could not bind {what} {address}: {error}"))
    };
    let listener = listen::bind(args.listen).map_err(could_not_bind("listener", args.listen))?;
    let bound = listener.local_addr().map_err(could_not_bind("listener", args.listen))?;
    keep_alive(&listener);
    let admin = match args.admin.0 {
        Some(address) => Some(Admin::bind(address).map_err(could_not_bind("admin endpoint", address))?),
        None => None,
    };
    let admin_bound = admin.as_ref().and_then(|admin| admin.local_addr().ok());
    listen::raise_descriptor_limit();

    let own = std::iter::once(bound).chain(admin_bound).collect();
    let connect = ConnectLimits { connect: args.connect_timeout, write: args.write_timeout.0 };
    let connector = Connector::new(Dialer::new(own).via(upstream_proxy), connect);
    let proxy = Arc::new(Proxy {
        policy: Policy {
            routes,
            own: OwnNames::new(parsed.values("server_name")),
            max_body: args.max_body.0,
        },
        connector,
        limits: Limits {
            response: args.response_timeout,
            request_body: args.request_body_timeout,
            response_body: args.response_body_timeout.0,
        },
        unrouted: Arc::default(),
        drain: drain.clone(),
        cut: CancellationToken::new(),
    });
    watch(&proxy, given.table, given.stdin, given.from_environment, &drain)?;
    let open = TaskTracker::new();
    if let Some(admin) = admin {
        let (proxy, open, draining) = (proxy.clone(), open.clone(), drain.clone());
        let metrics = move |text: &mut Exposition| {
            let open = u64::try_from(open.len()).unwrap_or(u64::MAX);
            metrics::write(text, &proxy.policy.routes, &proxy.unrouted, open, draining.is_cancelled());
        };
        tokio::spawn(admin.serve(drain.clone(), metrics));
    }
    let limits = ServerLimits {
        read: ReadTimeouts { head: args.header_timeout, keep_alive: args.keep_alive_timeout },
        write: args.write_timeout.0,
        local: (!bound.ip().is_unspecified()).then_some(bound.ip()),
    };
    let room = Arc::new(Room::new(usize::try_from(args.max_connections).unwrap_or(usize::MAX)));
    let server = || Server { proxy: proxy.clone(), limits, room: room.clone(), open: open.clone() };
    serve(listener, given.peers, server)
        .map_err(|error| Failure::runtime(format!("could not start to serve: {error}")))?;
    // Not before: the threads' own descriptors must not be left to chance, once somebody may connect.
    Ready::new("cred-proxy", env!("CARGO_PKG_VERSION"), vec![bound], admin_bound).announce();
    drain.cancelled().await;
    drain::finish(&open, args.common.drain_timeout, &proxy.cut).await;
    Ok(())
}

/// Starts the threads, each with a share in the listener.
fn serve(listener: TcpListener, peers: Peers, server: impl Fn() -> Server) -> std::io::Result<()> {
    let share = |listening: Listening, server: Server| {
        move |worker| async move {
            match listening.into_acceptor() {
                Ok(acceptor) => server.serve(acceptor, worker).await,
                Err(error) => tracing::error!(event = "accept_error", error = %error),
            }
        }
    };
    let listening = Listening::new(listener, peers, "proxy")?;
    let mut work = Vec::new();
    for _ in 1..workers::count() {
        work.push(share(listening.share()?, server()));
    }
    work.push(share(listening, server()));
    workers::start(work)
}

/// Starts what goes on beside the requests: fresh tokens, and idle connections that are let go.
fn watch(
    proxy: &Arc<Proxy>,
    table: RouteTable,
    stdin: Option<BufReader<tokio::io::Stdin>>,
    from_environment: bool,
    drain: &CancellationToken,
) -> Result<(), Failure> {
    let sweeping = proxy.clone();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(SWEEP).await;
            sweeping.policy.routes.iter().for_each(|route| route.pool.sweep());
        }
    });
    if let Some(stdin) = stdin {
        let (proxy, drain) = (proxy.clone(), drain.clone());
        tokio::spawn(async move {
            bundle::follow(stdin, drain, |tokens| proxy.policy.routes.replace_tokens(&tokens)).await;
        });
    }
    // Also without token files: a SIGHUP must not end the process.
    let mut hangups = signal(SignalKind::hangup())
        .map_err(|error| Failure::runtime(format!("could not handle signals: {error}")))?;
    let proxy = proxy.clone();
    tokio::spawn(async move {
        while hangups.recv().await.is_some() {
            if !from_environment {
                continue;
            }
            match tokens::from_files(&table, |name| std::env::var_os(name)) {
                Ok(tokens) => proxy.policy.routes.replace_tokens(&tokens),
                Err(failure) => tracing::warn!(event = "token_refused", error = %failure),
            }
        }
    });
    Ok(())
}

/// Often enough that a connection that an upstream closed does not linger.
const SWEEP: Duration = Duration::from_secs(5);
