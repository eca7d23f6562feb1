//! What containers and commands write.

use std::sync::Arc;

use bollard::container::LogOutput;
use bollard::errors::Error;
use bollard::query_parameters::LogsOptionsBuilder;
use futures_util::{Stream, StreamExt};

use super::address::Address;
use super::transport;
use crate::engine::{ContainerId, Output, OutputStream};

/// A stream of output in our words.
pub(super) fn pieces<S>(address: &Arc<Address>, act: &'static str, stream: S) -> OutputStream
where
    S: Stream<Item = Result<LogOutput, Error>> + Send + 'static,
{
    let address = Arc::clone(address);
    Box::pin(stream.map(move |piece| match piece {
        Ok(LogOutput::StdErr { message }) => Ok(Output::Stderr(message)),
        Ok(LogOutput::StdOut { message } | LogOutput::Console { message } | LogOutput::StdIn { message }) => {
            Ok(Output::Stdout(message))
        }
        Err(error) => Err(transport::meaning(&address, act, error)),
    }))
}

/// The last lines of a container's log, and of those the last [`LOGS_LIMIT`] bytes or more.
pub(super) async fn tail(client: &bollard::Docker, id: &ContainerId, lines: usize) -> Result<String, Error> {
    let options = LogsOptionsBuilder::default().stdout(true).stderr(true).tail(&lines.to_string()).build();
    let mut pieces = Box::pin(client.logs(&id.0, Some(options)));
    let mut text = Vec::new();
    while let Some(piece) = pieces.next().await {
        text.extend_from_slice(&piece?.into_bytes());
        // Lines may be of any length: what was written last counts.
        if text.len() > 2 * LOGS_LIMIT {
            text.drain(..text.len() - LOGS_LIMIT);
        }
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// An agent may write without end; this much explains a failure.
const LOGS_LIMIT: usize = 1 << 20;
