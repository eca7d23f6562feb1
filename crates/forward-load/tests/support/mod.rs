//! Forwarders with faults as types, each in front of a backend of ours.

#![allow(clippy::unwrap_used, unreachable_pub, reason = "a test that cannot go on fails")]
#![allow(dead_code, reason = "each test file uses some")]

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use forward_load::tcp::throughput::Path;
use rustix::time::{ClockId, clock_gettime};

/// What is wrong with a forwarder.
#[derive(Debug, Clone, Copy)]
pub enum Fault {
    /// Nothing.
    None,
    /// It sleeps before it forwards what it read.
    Sleeps(Duration),
    /// It computes before it forwards what it read.
    Burns(Duration),
    /// It changes a byte of every stream towards upstream, the one at this place.
    Corrupts(u64),
    /// It ends a connection after so many bytes towards upstream.
    Drops(u64),
    /// It keeps its sockets when both sides have ended.
    Leaks,
    /// It takes connections and forwards nothing.
    Stalls,
}

/// A backend, and a forwarder in front of it, in this process.
pub struct Scene {
    /// Where the load goes.
    pub path: Path,
    /// The backend.
    pub direct: Path,
    /// Connections that the forwarder took.
    pub accepted: Arc<AtomicU64>,
    _backend: tokio::runtime::Runtime,
}

/// Starts both.
pub fn scene(fault: Fault) -> Scene {
    let backend = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let anywhere = "127.0.0.1:0".parse().unwrap();
    let listener = backend.block_on(forward_load::tcp::backend::bind(anywhere)).unwrap();
    let upstream = listener.local_addr().unwrap();
    backend.spawn(forward_load::tcp::backend::serve(listener));
    let accepted = Arc::new(AtomicU64::new(0));
    let to = forwarder(upstream, fault, Arc::clone(&accepted));
    let path = |to, forwarder| Path { to, forwarder, backend: None };
    Scene {
        path: path(to, Some(std::process::id())),
        direct: path(upstream, None),
        accepted,
        _backend: backend,
    }
}

fn forwarder(upstream: SocketAddr, fault: Fault, accepted: Arc<AtomicU64>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let leaked: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
    std::thread::spawn(move || {
        for downstream in listener.incoming() {
            let downstream = downstream.unwrap();
            accepted.fetch_add(1, Ordering::Relaxed);
            if let Fault::Stalls | Fault::Leaks = fault {
                leaked.lock().unwrap().push(downstream.try_clone().unwrap());
            }
            if let Fault::Stalls = fault {
                continue;
            }
            let upstream = TcpStream::connect(upstream).unwrap();
            upstream.set_nodelay(true).unwrap();
            if let Fault::Leaks = fault {
                leaked.lock().unwrap().push(upstream.try_clone().unwrap());
            }
            downstream.set_nodelay(true).unwrap();
            let (back_from, back_to) = (upstream.try_clone().unwrap(), downstream.try_clone().unwrap());
            let harmless = match fault {
                Fault::Corrupts(_) | Fault::Drops(_) => Fault::None,
                fault => fault,
            };
            std::thread::spawn(move || copy(downstream, upstream, fault));
            std::thread::spawn(move || copy(back_from, back_to, harmless));
        }
    });
    address
}

fn copy(mut from: TcpStream, mut to: TcpStream, fault: Fault) {
    let mut buffer = vec![0; 65_536];
    let mut at = 0;
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        let piece = &mut buffer[..read];
        match fault {
            Fault::Sleeps(time) => std::thread::sleep(time),
            Fault::Burns(time) => burn(time),
            Fault::Corrupts(place) if (at..at + read as u64).contains(&place) => {
                piece[usize::try_from(place - at).unwrap()] ^= 1;
            }
            Fault::Drops(after) if at + read as u64 > after => {
                let _ = from.shutdown(Shutdown::Both);
                let _ = to.shutdown(Shutdown::Both);
                return;
            }
            _ => {}
        }
        at += read as u64;
        if to.write_all(piece).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

/// CPU time of this thread, not time that passes.
fn burn(time: Duration) {
    let now = || Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap();
    let end = now() + time;
    while now() < end {
        std::hint::spin_loop();
    }
}
