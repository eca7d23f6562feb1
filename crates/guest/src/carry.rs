//! Bytes between two descriptors and a TCP connection, both ways, and the end of each way.
//!
//! Each way is a thread that reads and writes. It does not use `splice`, and so not `std::io::copy`:
//! `splice` locks the pipe while it waits for the connection. The process at the other end of the
//! pipe then blocks too, even with O_NONBLOCK: ssh could not read the server's first line before
//! the server sends the next.

use std::{
    fs::File,
    io,
    net::{Shutdown, TcpStream},
    os::fd::AsFd,
    sync::{Arc, mpsc},
    thread,
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    io::{Errno, read, write},
    net,
};

/// Copies `input` to the upstream and the upstream to `output`, until both have ended.
///
/// At the end of `input` the upstream sees the end and may still answer. When the upstream has
/// finished sending, `output` is closed and `input` is still copied.
///
/// # Errors
///
/// The upstream resets the connection, or a descriptor fails. What the upstream sent before a reset
/// is still written. The thread of the other way may be left blocked: the caller is about to exit.
pub fn carry(input: File, output: File, upstream: TcpStream) -> Result<(), CarryError> {
    let upstream = Arc::new(upstream);
    let (sender, ends) = mpsc::channel();
    thread::Builder::new()
        .spawn({
            let (upstream, sender) = (upstream.clone(), sender.clone());
            move || sender.send(send(input, &upstream))
        })
        .map_err(CarryError::Thread)?;
    thread::Builder::new()
        .spawn(move || {
            let end = receive(&upstream, output);
            let may_be_reset = matches!(end, End::Received);
            let _ = sender.send(end);
            if may_be_reset && let Err(error) = wait_for_reset(&upstream) {
                let _ = sender.send(End::Failed(CarryError::Closed(error)));
            }
        })
        .map_err(CarryError::Thread)?;

    let (mut sent, mut received) = (None, false);
    while sent.is_none() || !received {
        match ends.recv().expect("each thread sends how it ended") {
            End::Sent(outcome) => sent = Some(outcome),
            End::Received => received = true,
            End::Failed(error) => return Err(error),
        }
    }
    sent.expect("the loop waits for it")
}

/// How one way ended.
enum End {
    /// The upstream has been sent everything, or takes no more.
    Sent(Result<(), CarryError>),
    /// The upstream has finished sending.
    Received,
    /// There is nothing more to wait for.
    Failed(CarryError),
}

fn send(input: File, upstream: &TcpStream) -> End {
    match copy(&input, upstream) {
        Ok(()) => {
            // Fails if the upstream has reset the connection, which the other thread sees.
            let _ = upstream.shutdown(Shutdown::Write);
            End::Sent(Ok(()))
        }
        Err(CopyError::Read(error)) => End::Failed(CarryError::ReadInput(error)),
        Err(CopyError::Write(error)) => {
            // What has been received is still read; after that, this is the end.
            let _ = upstream.shutdown(Shutdown::Both);
            End::Sent(Err(CarryError::Send(error)))
        }
    }
}

fn receive(upstream: &TcpStream, output: File) -> End {
    match copy(upstream, &output) {
        Ok(()) => {
            // A socket that is our input as well stays open when this descriptor is closed. On
            // anything but a socket this fails.
            let _ = net::shutdown(&output, net::Shutdown::Write);
            End::Received
        }
        Err(CopyError::Read(error)) => End::Failed(CarryError::Receive(error)),
        Err(CopyError::Write(error)) => End::Failed(CarryError::WriteOutput(error)),
    }
}

/// Waits until a connection whose upstream has finished sending is closed both ways (`Ok`), or reset.
fn wait_for_reset(upstream: &TcpStream) -> io::Result<()> {
    let call = || poll(&mut [PollFd::new(upstream, PollFlags::empty())], None);
    rustix::io::retry_on_intr(call)?;
    upstream.take_error()?.map_or(Ok(()), Err)
}

fn copy(from: impl AsFd, to: impl AsFd) -> Result<(), CopyError> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let length =
            once_ready(&from, PollFlags::IN, || read(&from, &mut buffer[..])).map_err(CopyError::Read)?;
        if length == 0 {
            return Ok(());
        }
        let mut rest = &buffer[..length];
        while !rest.is_empty() {
            let written = once_ready(&to, PollFlags::OUT, || write(&to, rest)).map_err(CopyError::Write)?;
            rest = &rest[written..];
        }
    }
}

/// Makes a call that blocks, also on a descriptor that was handed to us with O_NONBLOCK.
fn once_ready(
    descriptor: impl AsFd,
    events: PollFlags,
    mut call: impl FnMut() -> Result<usize, Errno>,
) -> io::Result<usize> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                // A failure here is the call's, too, the next time.
                let _ = poll(&mut [PollFd::new(&descriptor, events)], None);
            }
            outcome => return Ok(outcome?),
        }
    }
}

enum CopyError {
    Read(io::Error),
    Write(io::Error),
}

/// The size of a pipe. 8 KiB, as in `std::io::copy`, is half as fast; more is not faster (run).
const BUFFER: usize = 64 * 1024;

/// A connection that did not end well.
#[derive(Debug, thiserror::Error)]
pub enum CarryError {
    /// No thread.
    #[error("could not start a thread")]
    Thread(#[source] io::Error),
    /// Stdin.
    #[error("could not read from stdin")]
    ReadInput(#[source] io::Error),
    /// Stdout.
    #[error("could not write to stdout")]
    WriteOutput(#[source] io::Error),
    /// Data for the upstream is lost.
    #[error("could not send")]
    Send(#[source] io::Error),
    /// The upstream did not finish.
    #[error("could not receive")]
    Receive(#[source] io::Error),
    /// The upstream finished sending, and later receiving, before we were done.
    #[error("the upstream accepts no more data")]
    Closed(#[source] io::Error),
}

#[cfg(test)]
mod tests {
    use std::{
        io::{PipeReader, PipeWriter, Read, Write, pipe},
        net::TcpListener,
        os::{fd::OwnedFd, unix::net::UnixStream},
        thread::JoinHandle,
        time::Duration,
    };

    use super::*;

    /// The other ends of what is carried.
    struct Ends {
        stdin: PipeWriter,
        stdout: PipeReader,
        upstream: TcpStream,
        carrying: JoinHandle<Result<(), CarryError>>,
    }

    fn ends() -> Ends {
        let (input, stdin) = pipe().unwrap();
        let (stdout, output) = pipe().unwrap();
        let (stream, upstream) = connected();
        let carrying = thread::spawn(|| carry(file(input), file(output), stream));
        Ends { stdin, stdout, upstream, carrying }
    }

    fn connected() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let upstream = listener.accept().unwrap().0;
        upstream.set_read_timeout(Some(DEADLINE)).unwrap();
        upstream.set_write_timeout(Some(DEADLINE)).unwrap();
        (stream, upstream)
    }

    const DEADLINE: Duration = Duration::from_secs(20);

    fn file(descriptor: impl Into<OwnedFd>) -> File {
        descriptor.into().into()
    }

    fn reset(upstream: TcpStream) {
        net::sockopt::set_socket_linger(&upstream, Some(Duration::ZERO)).unwrap();
    }

    #[test]
    fn what_was_received_before_a_reset_is_written() {
        let Ends { mut stdin, mut stdout, mut upstream, carrying } = ends();
        stdin.write_all(b"?").unwrap();
        upstream.read_exact(&mut [0]).unwrap();
        upstream.write_all(b"too many connections").unwrap();
        reset(upstream);
        let mut said = String::new();
        stdout.read_to_string(&mut said).unwrap();
        assert_eq!(said, "too many connections");
        let error = carrying.join().unwrap().unwrap_err();
        assert!(matches!(error, CarryError::Receive(_)), "{error:?}");
    }

    #[test]
    fn a_failed_output_ends_it_while_input_is_open() {
        let Ends { stdin: _stdin, stdout, mut upstream, carrying } = ends();
        drop(stdout);
        upstream.write_all(b"hello?").unwrap();
        let error = carrying.join().unwrap().unwrap_err();
        assert!(matches!(error, CarryError::WriteOutput(_)), "{error:?}");
    }

    #[test]
    fn one_non_blocking_socket_serves_as_input_and_output() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        theirs.set_read_timeout(Some(DEADLINE)).unwrap();
        theirs.set_write_timeout(Some(DEADLINE)).unwrap();
        let (stream, mut upstream) = connected();
        let input = file(ours.try_clone().unwrap());
        let carrying = thread::spawn(|| carry(input, file(ours), stream));

        // More than fits into the sockets on the way, so that writing has to wait.
        let much = vec![7; 8 << 20];
        let sending = thread::spawn(move || {
            upstream.write_all(&much).unwrap();
            upstream.shutdown(Shutdown::Write).unwrap();
            let mut heard = String::new();
            upstream.read_to_string(&mut heard).unwrap();
            heard
        });
        let mut received = Vec::new();
        theirs.read_to_end(&mut received).unwrap();
        assert!(received == vec![7; 8 << 20]);
        theirs.write_all(b"thanks").unwrap();
        theirs.shutdown(Shutdown::Write).unwrap();
        assert_eq!(sending.join().unwrap(), "thanks");
        carrying.join().unwrap().unwrap();
    }
}
