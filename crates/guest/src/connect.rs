//! A TCP connection for a program that knows only stdin and stdout, as OpenSSH's `ProxyCommand`
//! has it: `ProxyCommand bottle-guest connect [%h]:%p`.

use std::{
    fmt,
    fs::File,
    io,
    net::{SocketAddr, TcpStream, ToSocketAddrs},
    os::fd::AsFd,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use rustix::stdio::{dup2_stdin, dup2_stdout};

use crate::{
    address::HostPort,
    carry::{CarryError, carry},
};

/// Connects, then copies stdin to the upstream and the upstream to stdout until both have ended.
///
/// # Errors
///
/// The upstream cannot be reached within ten seconds, or the connection fails.
pub fn run(upstream: &HostPort) -> Result<(), ConnectError> {
    let stream = connect(upstream, TIMEOUT)?;
    let (input, output) = take_stdio().map_err(ConnectError::Stdio)?;
    carry(input, output, stream).map_err(|source| ConnectError::Carry { upstream: upstream.clone(), source })
}

/// Connects to the first address of the upstream that accepts.
///
/// The timeout includes name resolution. Each address gets an equal share of the time that is left,
/// so that one which does not answer leaves time for the others.
///
/// # Errors
///
/// The name does not resolve, or no address accepts in time.
pub fn connect(upstream: &HostPort, timeout: Duration) -> Result<TcpStream, ConnectError> {
    let deadline = Instant::now() + timeout;
    let HostPort { host, port } = upstream.clone();
    let resolved = within(timeout, move || (host.as_str(), port).to_socket_addrs().map(Vec::from_iter));
    let addresses =
        resolved.map_err(|source| ConnectError::Resolve { host: upstream.host.clone(), source })?;
    let stream = connect_any(&addresses, deadline).map_err(|failed| {
        let upstream = upstream.clone();
        match <[Attempt; 1]>::try_from(failed) {
            // The upstream is an address, which need not be repeated.
            Ok([Attempt { address, source }]) if address.to_string() == upstream.to_string() => {
                ConnectError::Connect { upstream, source }
            }
            Ok(attempt) => ConnectError::ConnectAny { upstream, source: Attempts(attempt.into()) },
            Err(attempts) => ConnectError::ConnectAny { upstream, source: Attempts(attempts) },
        }
    })?;
    // Keystrokes must not wait for the acknowledgement of those before.
    stream
        .set_nodelay(true)
        .map_err(|source| ConnectError::Connect { upstream: upstream.clone(), source })?;
    Ok(stream)
}

fn connect_any(addresses: &[SocketAddr], deadline: Instant) -> Result<TcpStream, Vec<Attempt>> {
    let mut failed = Vec::new();
    for (&address, left) in addresses.iter().zip((1..=addresses.len()).rev()) {
        let time = deadline.saturating_duration_since(Instant::now());
        let share = time / u32::try_from(left).unwrap_or(u32::MAX);
        // A timeout of zero is an error to std, not a timeout.
        match TcpStream::connect_timeout(&address, share.max(Duration::from_millis(1))) {
            Ok(stream) => return Ok(stream),
            Err(source) => failed.push(Attempt { address, source }),
        }
    }
    Err(failed)
}

/// Waits so long for what cannot be given a timeout: the system's resolver.
///
/// Work that is late goes on, and is lost.
fn within<T: Send + 'static>(
    timeout: Duration,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let (sender, receiver) = mpsc::channel();
    thread::Builder::new().spawn(move || sender.send(work()))?;
    receiver.recv_timeout(timeout).unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Makes stdin and stdout ours alone: dropping the one or the other closes it.
fn take_stdio() -> io::Result<(File, File)> {
    let input = io::stdin().as_fd().try_clone_to_owned()?;
    let output = io::stdout().as_fd().try_clone_to_owned()?;
    // Numbers 0 and 1 stay open, on something that nothing uses.
    let (reader, writer) = io::pipe()?;
    dup2_stdin(&reader)?;
    dup2_stdout(&writer)?;
    Ok((input.into(), output.into()))
}

/// For name resolution and all addresses together.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A connection that was not made, or failed.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The name has no address, or the resolver does not answer in time.
    #[error("could not resolve `{}`", host.escape_debug())]
    Resolve {
        /// Which.
        host: String,
        /// Why.
        source: io::Error,
    },
    /// The upstream was given as an address.
    #[error("could not connect to upstream {upstream}")]
    Connect {
        /// Which.
        upstream: HostPort,
        /// Why.
        source: io::Error,
    },
    /// The upstream was given as a name.
    #[error("could not connect to upstream {upstream}")]
    ConnectAny {
        /// Which.
        upstream: HostPort,
        /// Why, for each of its addresses.
        source: Attempts,
    },
    /// The kernel refuses descriptors.
    #[error("could not take over stdin and stdout")]
    Stdio(#[source] io::Error),
    /// It was made, and failed later.
    #[error("connection to upstream {upstream} failed")]
    Carry {
        /// Which.
        upstream: HostPort,
        /// Why.
        source: CarryError,
    },
}

/// An address that did not accept.
#[derive(Debug)]
struct Attempt {
    address: SocketAddr,
    source: io::Error,
}

/// The addresses of a name, none of which accepted.
#[derive(Debug)]
pub struct Attempts(Vec<Attempt>);

impl std::error::Error for Attempts {}

impl fmt::Display for Attempts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("the name has no address");
        }
        for (number, Attempt { address, source }) in self.0.iter().enumerate() {
            let separator = if number == 0 { "" } else { "; " };
            write!(f, "{separator}{address}: {source}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use rustix::net::{AddressFamily, SocketType, bind, getsockname, listen, socket};

    use super::*;

    /// Far more than any of this takes.
    const LONG: Duration = Duration::from_secs(20);

    /// A bound socket that does not listen: connections are refused, and the port stays ours.
    fn refusing() -> (impl Sized, SocketAddr) {
        let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        bind(&socket, &"127.0.0.1:0".parse::<SocketAddr>().unwrap()).unwrap();
        let address = SocketAddr::try_from(getsockname(&socket).unwrap()).unwrap();
        (socket, address)
    }

    /// A listener whose queue is full: connecting gets no answer at all.
    fn silent() -> (impl Sized, SocketAddr) {
        let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        bind(&socket, &"127.0.0.1:0".parse::<SocketAddr>().unwrap()).unwrap();
        listen(&socket, 0).unwrap();
        let address = SocketAddr::try_from(getsockname(&socket).unwrap()).unwrap();
        let mut queued = Vec::new();
        while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(100)) {
            queued.push(stream);
        }
        ((socket, queued), address)
    }

    #[test]
    fn an_address_that_refuses_or_is_silent_leaves_time_for_the_next() {
        let (_refusing, refusing) = refusing();
        let (_silent, silent) = silent();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let listening = listener.local_addr().unwrap();
        let deadline = Instant::now() + Duration::from_secs(2);
        let stream = connect_any(&[refusing, silent, listening], deadline).unwrap();
        assert_eq!(stream.peer_addr().unwrap(), listening);
        assert!(Instant::now() < deadline);
    }

    #[test]
    fn every_address_is_named_with_its_error() {
        let (_refusing, refusing) = refusing();
        let (_silent, silent) = silent();
        let began = Instant::now();
        let failed = connect_any(&[refusing, silent], began + Duration::from_millis(200)).unwrap_err();
        assert!(began.elapsed() < LONG);
        assert_eq!(
            Attempts(failed).to_string(),
            format!("{refusing}: Connection refused (os error 111); {silent}: connection timed out")
        );
    }

    #[test]
    fn a_resolver_that_does_not_answer_meets_the_timeout() {
        let (_sender, receiver) = mpsc::channel::<()>();
        let began = Instant::now();
        let late = within(Duration::from_millis(50), move || Ok(receiver.recv().is_ok()));
        assert_eq!(late.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(began.elapsed() < LONG);
    }
}
