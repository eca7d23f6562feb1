//! What is behind the forwarder: an echo, a sink and a source; see [`super::protocol`].

use std::io::{self, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::protocol::{BULK, Bulk, ECHO, Frames, ONCE};
use super::stream::{self, Limits};
use crate::child::ready_until_stdin_ends;
use crate::cli::{Ended, Failure};
use crate::interrupt::Interrupt;

/// Why there is no backend.
#[derive(Debug, thiserror::Error)]
#[error("could not bind listener {address}")]
pub struct BindError {
    address: SocketAddr,
    source: io::Error,
}

/// Runs the hidden `backend`, until its stdin ends.
///
/// # Errors
///
/// It could not listen.
pub fn in_a_child(listen: SocketAddr) -> Result<Ended, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let listener = runtime.block_on(bind(listen))?;
    let hello = serde_json::json!({"listening": listener.local_addr()?.to_string()});
    runtime.spawn(serve(listener));
    ready_until_stdin_ends(&hello)?;
    runtime.shutdown_background();
    Ok(Ended::Complete)
}

/// Runs `tcp --serve` without a load, until we are asked to end.
///
/// # Errors
///
/// It could not listen.
pub fn in_the_foreground(listen: SocketAddr, interrupt: &Interrupt) -> Result<Ended, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let listener = runtime.block_on(bind(listen))?;
    crate::progress::note(format_args!("serving on {}; Ctrl-C ends", listener.local_addr()?));
    runtime.spawn(serve(listener));
    runtime.block_on(interrupt.asked());
    runtime.shutdown_background();
    Ok(Ended::Complete)
}

/// Binds a listener with a queue long enough for a thousand connections at once.
///
/// # Errors
///
/// It could not be bound.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, BindError> {
    TcpListener::bind(address).await.map_err(|source| BindError { address, source })
}

/// Serves connections until it is dropped.
pub async fn serve(listener: TcpListener) {
    loop {
        match listener.accept().await {
            // What goes wrong on a connection, the load side sees and counts.
            Ok((socket, _)) => drop(tokio::spawn(connection(socket))),
            // No descriptors left, perhaps, for a while.
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

async fn connection(mut socket: TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let mut command = [0; 2];
    let read = socket.read(&mut command).await?;
    match (command[0], read) {
        (ECHO, read @ 1..) => {
            socket.write_all(&command[1..read]).await?;
            echo(socket).await
        }
        (ONCE, 2) => socket.write_all(&command[1..]).await,
        (ONCE, 1) => {
            let byte = socket.read_u8().await?;
            socket.write_u8(byte).await
        }
        (BULK, read @ 1..) => {
            let mut head = [0; Bulk::LEN];
            head[0] = command[1];
            socket.read_exact(&mut head[read - 1..]).await?;
            let socket = socket.into_std()?;
            socket.set_nonblocking(false)?;
            let bulk = Bulk::from_bytes(&head);
            std::thread::Builder::new().name("bulk".into()).spawn(move || self::bulk(&socket, bulk))?;
            Ok(())
        }
        _ => Ok(()),
    }
}

async fn echo(mut socket: TcpStream) -> io::Result<()> {
    // Memory of the backend is not what is measured; a thousand of these are 16 MB.
    let mut buffer = vec![0; 16_384];
    loop {
        let read = socket.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        socket.write_all(&buffer[..read]).await?;
    }
}

fn bulk(socket: &std::net::TcpStream, bulk: Bulk) -> io::Result<()> {
    stream::prepare(socket)?;
    let until = Instant::now() + Duration::from_millis(bulk.millis.into());
    let never = || false;
    let receipt = std::thread::scope(|scope| {
        let receiver = bulk.up.then(|| {
            scope.spawn(move || {
                let mut frames = Frames::of_stream(bulk.stream);
                // What came until then is in the receipt; what went wrong, the load side sees.
                let ended = stream::receive(socket, &mut frames, &never);
                (frames.receipt, ended.is_ok())
            })
        });
        if bulk.down {
            stream::send(socket, bulk.down_stream(), Limits { size: bulk.size, until }, &never)?;
        }
        io::Result::Ok(receiver.and_then(|receiver| receiver.join().ok()))
    })?;
    let mut writer = socket;
    if let Some((receipt, _)) = receipt {
        writer.write_all(&receipt.to_bytes())?;
    }
    if receipt.is_none_or(|(_, ended)| ended) {
        // The load side closes first: a close with bytes unread would be a reset.
        let _ = stream::receive(socket, &mut Frames::of_stream(0), &never);
    }
    Ok(())
}
