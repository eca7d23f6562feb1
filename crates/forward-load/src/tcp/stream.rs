//! One direction of a bulk stream, on a thread of its own: the cheapest way to move bytes, and the
//! kernel shares the CPUs fairly among streams.

use std::io::{self, IoSlice, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::pattern::{LARGEST, Pattern};
use super::protocol::{FRAME_LEN, Frames, frame_head};

/// When a side stops sending.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// After so many bytes.
    pub size: u64,
    /// At this moment.
    pub until: Instant,
}

/// Sends frames of content until a limit is reached, or `stop` returns true, then the last frame. How
/// many bytes of content.
///
/// # Errors
///
/// The other side reads no more.
pub fn send(mut to: &TcpStream, stream: u32, limits: Limits, stop: &dyn Fn() -> bool) -> io::Result<u64> {
    let mut pattern = Pattern::of_stream(stream);
    let mut sent = 0;
    while sent < limits.size && Instant::now() < limits.until && !stop() {
        let len = u32::try_from(limits.size - sent).map_or(FRAME_LEN, |left| left.min(FRAME_LEN));
        let head = frame_head(len);
        let mut head = &head[..];
        let mut left = len as usize;
        while left > 0 {
            let content = pattern.bytes(left);
            let mut written =
                patient(stop, || to.write_vectored(&[IoSlice::new(head), IoSlice::new(content)]))?;
            let of_head = written.min(head.len());
            head = &head[of_head..];
            written -= of_head;
            pattern.advance(written);
            left -= written;
        }
        sent += u64::from(len);
    }
    let end = frame_head(0);
    let mut end = &end[..];
    while !end.is_empty() {
        let written = patient(stop, || to.write(end))?;
        end = &end[written..];
    }
    Ok(sent)
}

/// Receives and checks frames until the last one, and returns what came behind it. What was received
/// is in `frames`, also after an error.
///
/// # Errors
///
/// The other side ended early, or was silent for [`PATIENCE`], or a frame's head was wrong.
pub fn receive(mut from: &TcpStream, frames: &mut Frames, stop: &dyn Fn() -> bool) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; LARGEST];
    loop {
        let read = patient(stop, || from.read(&mut buffer))?;
        let rest = frames.take(&buffer[..read])?;
        if frames.ended {
            return Ok(rest.to_vec());
        }
    }
}

/// Reads a fixed number of bytes of which some have come already.
///
/// # Errors
///
/// The other side ended early, or was silent for [`PATIENCE`].
pub fn receive_exact<const N: usize>(
    mut from: &TcpStream,
    mut begun: Vec<u8>,
    stop: &dyn Fn() -> bool,
) -> io::Result<[u8; N]> {
    let mut buffer = [0; N];
    while begun.len() < N {
        let read = patient(stop, || from.read(&mut buffer))?;
        begun.extend_from_slice(&buffer[..read]);
    }
    Ok(std::array::from_fn(|index| begun[index]))
}

/// Has a socket return every now and then, so that `stop` is asked while it waits.
///
/// # Errors
///
/// The socket is broken.
pub fn prepare(socket: &TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(GLANCE))?;
    socket.set_write_timeout(Some(GLANCE))
}

/// Repeats an act that timed out, for as long as we have patience.
fn patient(stop: &dyn Fn() -> bool, mut act: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    let mut began = None;
    loop {
        match act() {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                if stop() || began.get_or_insert_with(Instant::now).elapsed() > PATIENCE {
                    return Err(io::ErrorKind::TimedOut.into());
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

const GLANCE: Duration = Duration::from_millis(200);

/// How long a stream may stand still: much longer than a forwarder that works makes it.
pub const PATIENCE: Duration = Duration::from_secs(10);
