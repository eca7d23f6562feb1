//! A kernel pipe through which bytes go from socket to socket without being copied: splice(2).
//!
//! Pipes are costly to make, so each thread keeps some; the kernel grants an account only so many
//! large ones, so there is a limit, and a connection without a pipe copies.

use std::cell::RefCell;
use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use sidecar::workers;
use tokio::net::TcpStream;

/// A pipe of a direction, and how many bytes are in it.
#[derive(Debug)]
pub(crate) struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    held: usize,
}

/// What one call moves at most, and what the kernel is asked to make room for. Below it calls cost
/// more than the copying that they save; above it the bytes leave the processor's cache.
pub(crate) const CAPACITY: usize = 1024 * 1024;

/// Pipes of all threads together, in use and spare, in equal shares: receivers that do not read hold
/// no more of them, with up to [`CAPACITY`] bytes in each.
const MOST: usize = 16;

struct Pipes {
    spare: Vec<Pipe>,
    made: usize,
    share: usize,
}

thread_local! {
    static PIPES: RefCell<Pipes> =
        RefCell::new(Pipes { spare: Vec::new(), made: 0, share: (MOST / workers::count()).max(1) });
}

impl Pipe {
    /// An empty pipe, unless the thread's are all in use or the kernel grants none.
    pub(crate) fn take() -> Option<Self> {
        PIPES.with_borrow_mut(|pipes| {
            if let Some(pipe) = pipes.spare.pop() {
                return Some(pipe);
            }
            if pipes.made >= pipes.share {
                return None;
            }
            let (read, write) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC).ok()?;
            // A small one would be slower than copying.
            fcntl_setpipe_size(&write, CAPACITY).ok()?;
            pipes.made += 1;
            Some(Self { read, write, held: 0 })
        })
    }

    /// Gives it back for another direction, or its place when something is left in it.
    pub(crate) fn keep(self) {
        PIPES.with_borrow_mut(|pipes| {
            if self.held == 0 {
                pipes.spare.push(self);
            } else {
                // What is in it is nobody's any more.
                pipes.made = pipes.made.saturating_sub(1);
            }
        });
    }

    /// How many bytes are in it.
    pub(crate) fn held(&self) -> usize {
        self.held
    }

    /// Moves what a socket has into the pipe, which must be empty: a full pipe and an empty socket
    /// look the same.
    pub(crate) fn fill(&mut self, from: &TcpStream) -> io::Result<usize> {
        debug_assert_eq!(self.held, 0);
        let n = retry(|| splice(from, None, &self.write, None, CAPACITY, flags()))?;
        self.held = n;
        Ok(n)
    }

    /// Moves what is in the pipe into a socket, as far as that takes it.
    pub(crate) fn drain(&mut self, to: &TcpStream) -> io::Result<usize> {
        let n = retry(|| splice(&self.read, None, to, None, self.held, flags()))?;
        self.held -= n;
        Ok(n)
    }
}

fn flags() -> SpliceFlags {
    SpliceFlags::MOVE | SpliceFlags::NONBLOCK
}

fn retry(mut call: impl FnMut() -> Result<usize, Errno>) -> io::Result<usize> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            done => return done.map_err(io::Error::from),
        }
    }
}
