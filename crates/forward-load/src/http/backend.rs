//! The origin as a process of its own, so that its CPU time is not the load side's.

use std::{
    fs,
    io::{self, BufRead as _, Write as _},
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};

use rustls::ServerConfig;
use tokio::{net::TcpStream, sync::mpsc};

use super::{
    args::ServeArgs,
    origin::Origin,
    pki::{PkiError, origin_tls},
};
use crate::{
    child::{Backend, ChildError},
    interrupt::Interrupt,
    report::file::cpus,
};

/// Why there is no origin.
#[derive(Debug, thiserror::Error)]
pub enum OriginError {
    /// Its listener could not be bound.
    #[error("could not bind listener {address}")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// It has no TLS.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// It has no runtime, or its parent is gone.
    #[error("could not run the origin")]
    Run(#[from] io::Error),
    /// Its process did not become ready.
    #[error(transparent)]
    Child(#[from] ChildError),
}

/// An origin that runs until this is dropped.
#[derive(Debug)]
pub struct OriginProcess {
    process: Backend,
    /// Where it listens.
    pub address: SocketAddr,
    /// The certificate of the authority that its own comes from.
    pub ca_file: PathBuf,
}

impl OriginProcess {
    /// Starts one that expects `authorization`; the certificate goes into `folder`.
    ///
    /// # Errors
    ///
    /// It did not become ready.
    pub fn start(program: &Path, folder: &Path, authorization: &str) -> Result<Self, OriginError> {
        let ca_file = folder.join("ca.pem");
        let ca_out = ca_file.to_string_lossy();
        let mut process = Backend::start(program, &["http", "serve", "--lifeline", "--ca-out", &ca_out])?;
        process.tell(authorization)?;
        let address = process.said("listening")?.parse();
        let address = address.map_err(|_| ChildError::NotReady { said: process.hello().to_string() })?;
        Ok(Self { process, address, ca_file })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }
}

/// Serves until it is interrupted, or with `--lifeline` until stdin ends. The first line of stdin
/// is the value of `Authorization` that every request must have, empty for none.
///
/// # Errors
///
/// It cannot listen, or its certificate cannot be made or written.
pub fn serve(args: &ServeArgs, interrupt: &Interrupt) -> Result<(), OriginError> {
    let (listener, tls, ca) = bind(args.listen)?;
    fs::write(&args.ca_out, ca)?;
    let hello = serde_json::json!({"event": "ready", "listening": listener.local_addr()?.to_string()});
    serve_from_stdin(listener, tls, &hello)?;
    if args.lifeline {
        io::copy(&mut io::stdin().lock(), &mut io::sink())?;
    } else {
        while interrupt.sleep(Duration::from_secs(3600)) {}
    }
    Ok(())
}

fn bind(address: SocketAddr) -> Result<(TcpListener, Arc<ServerConfig>, String), OriginError> {
    let (tls, ca) = origin_tls()?;
    let listener = TcpListener::bind(address).map_err(|source| OriginError::Bind { address, source })?;
    Ok((listener, tls, ca))
}

/// Says `hello`, reads the credential, and serves from then on, on threads of its own.
fn serve_from_stdin(
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    hello: &serde_json::Value,
) -> io::Result<()> {
    let mut stdout = io::stdout();
    writeln!(stdout, "{hello}")?;
    stdout.flush()?;
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    let authorization = Some(line.trim().to_owned()).filter(|line| !line.is_empty());
    let origin = Origin::new(Some(tls), authorization);
    let workers = (0..cpus()).map(|_| worker(&origin)).collect::<io::Result<Vec<_>>>()?;
    thread::Builder::new().name("accept".into()).spawn(move || accept(&listener, &workers))?;
    Ok(())
}

/// A thread with a runtime that serves the connections it is handed.
fn worker(origin: &Arc<Origin>) -> io::Result<mpsc::UnboundedSender<std::net::TcpStream>> {
    let (hand, mut handed) = mpsc::unbounded_channel::<std::net::TcpStream>();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let origin = Arc::clone(origin);
    thread::Builder::new().name("origin".into()).spawn(move || {
        runtime.block_on(async {
            while let Some(stream) = handed.recv().await {
                let origin = Arc::clone(&origin);
                if let Ok(stream) = TcpStream::from_std(stream) {
                    tokio::spawn(async move { origin.serve(stream).await });
                }
            }
        });
    })?;
    Ok(hand)
}

/// Hands connections to the workers in turn: a shared listener would leave one of them idle.
fn accept(listener: &TcpListener, workers: &[mpsc::UnboundedSender<std::net::TcpStream>]) {
    for worker in workers.iter().cycle() {
        match listener.accept() {
            Ok((stream, _)) => {
                if stream.set_nonblocking(true).is_err() || worker.send(stream).is_err() {
                    return;
                }
            }
            // Out of descriptors, most likely: some will be closed.
            Err(_) => thread::sleep(Duration::from_millis(50)),
        }
    }
}
