//! One connection to the ssh-agent's public socket: message by message, each one decided on.
//!
//! The ssh-agent sees a request only after it has arrived whole and passed
//! [`agent_message::decide`](crate::agent_message::decide), one at a time. An idle connection
//! holds neither a buffer nor a connection to the ssh-agent: one is opened for each request,
//! and kept only after a `session-bind`, which the ssh-agent remembers per connection.

use std::{future::pending, io, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::{
    address::{Address, Stream},
    agent_message::{FAILURE, MAX_LENGTH, MessageError, Request, Verdict, decide},
};

/// Answers requests until downstream is done, or the drain begins between two requests.
///
/// # Errors
///
/// Whatever ends the connection earlier; it is closed then, without an answer.
pub async fn filter<D>(
    mut downstream: D,
    upstream: &Address,
    drain: &CancellationToken,
) -> Result<(), FilterError>
where
    D: AsyncRead + AsyncWrite + Unpin,
{
    let mut bound = None;
    loop {
        let mut first = [0];
        let read = tokio::select! {
            biased;
            () = drain.cancelled() => return Ok(()),
            () = lost(bound.as_mut()) => return Err(FilterError::UpstreamGone),
            read = downstream.read(&mut first) => read.map_err(FilterError::Downstream)?,
        };
        if read == 0 {
            return Ok(());
        }
        let request = timeout(DEADLINE, receive(&mut downstream, &first))
            .await
            .map_err(|_| FilterError::RequestDeadline)?
            .map_err(FilterError::Request)?;
        let verdict = decide(&request[LENGTH..]).map_err(FilterError::Malformed)?;
        let answer = match verdict {
            Verdict::Refuse(_) => FAILURE.to_vec(),
            Verdict::Forward(kind) => {
                let exchanged = exchange(&mut bound, upstream, kind, &request);
                timeout(DEADLINE, exchanged).await.map_err(|_| FilterError::AnswerDeadline)??
            }
        };
        timeout(DEADLINE, downstream.write_all(&answer))
            .await
            .map_err(|_| FilterError::WriteDeadline)?
            .map_err(FilterError::Downstream)?;
    }
}

/// Hands one request to the ssh-agent and takes its answer, both framed.
async fn exchange(
    bound: &mut Option<Stream>,
    upstream: &Address,
    kind: Request,
    request: &[u8],
) -> Result<Vec<u8>, FilterError> {
    // Kept even if the ssh-agent refuses to bind: it remembers the attempt, too.
    let keep = bound.is_some() || kind == Request::SessionBind;
    let mut stream = match bound.take() {
        Some(stream) => stream,
        None => upstream
            .connect()
            .await
            .map_err(|source| FilterError::Connect { upstream: upstream.clone(), source })?,
    };
    stream.write_all(request).await.map_err(FilterError::Upstream)?;
    let answer = receive(&mut stream, &[]).await.map_err(FilterError::Answer)?;
    *bound = keep.then_some(stream);
    Ok(answer)
}

/// Resolves when the ssh-agent ends a connection that we hold, or speaks without being asked.
async fn lost(bound: Option<&mut Stream>) {
    match bound {
        Some(stream) => drop(stream.read(&mut [0]).await),
        None => pending().await,
    }
}

/// Reads one message with its length field, of which some bytes may be there already.
///
/// The buffer grows with what has arrived, never with what was only announced.
async fn receive<S>(mut from: S, begun: &[u8]) -> Result<Vec<u8>, ReceiveError>
where
    S: AsyncRead + Unpin,
{
    let mut header = [0; LENGTH];
    header[..begun.len()].copy_from_slice(begun);
    from.read_exact(&mut header[begun.len()..]).await?;
    let length_field = u32::from_be_bytes(header);
    match usize::try_from(length_field) {
        Ok(length @ 1..=MAX_LENGTH) => {
            let mut message = header.to_vec();
            from.take(u64::from(length_field)).read_to_end(&mut message).await?;
            if message.len() < LENGTH + length {
                return Err(ReceiveError::Io(io::ErrorKind::UnexpectedEof.into()));
            }
            Ok(message)
        }
        _ => Err(ReceiveError::Length(length_field)),
    }
}

/// The size of a message's length field.
const LENGTH: usize = 4;

/// For a request once it has begun, for the ssh-agent's answer, and for an answer to be taken.
/// A key may ask its owner for a confirmation, hence as much.
const DEADLINE: Duration = Duration::from_secs(60);

/// A message that did not arrive.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// The connection failed or ended in the middle.
    #[error("message broken off")]
    Io(#[from] io::Error),
    /// A length that no message has.
    #[error("expected a length between 1 and {MAX_LENGTH}, found {0}")]
    Length(u32),
}

/// What ended a filtered connection, other than downstream's own end.
#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    /// Downstream's connection failed.
    #[error("downstream connection failed")]
    Downstream(#[source] io::Error),
    /// Downstream's request did not arrive whole.
    #[error("could not read a request")]
    Request(#[source] ReceiveError),
    /// Downstream began a request and did not finish it.
    #[error("a request did not arrive in time")]
    RequestDeadline,
    /// Downstream's request does not hold what its type promises.
    #[error("malformed request")]
    Malformed(#[source] MessageError),
    /// Downstream does not read.
    #[error("an answer was not taken in time")]
    WriteDeadline,
    /// Nobody listens upstream.
    #[error("could not connect to upstream {upstream}")]
    Connect {
        /// The ssh-agent.
        upstream: Address,
        /// Why.
        source: io::Error,
    },
    /// The ssh-agent's connection failed.
    #[error("upstream connection failed")]
    Upstream(#[source] io::Error),
    /// The ssh-agent's answer did not arrive whole.
    #[error("could not read an answer")]
    Answer(#[source] ReceiveError),
    /// The ssh-agent did not answer.
    #[error("upstream did not answer in time")]
    AnswerDeadline,
    /// The ssh-agent ended the connection between two requests.
    #[error("upstream ended the connection")]
    UpstreamGone,
}
