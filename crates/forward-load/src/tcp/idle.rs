//! Idle connections: what each costs the forwarder in memory and descriptors, before and after a
//! burst through all of them, and whether it is given back.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::pattern::{LARGEST, Pattern};
use super::pingpong::established;
use super::stream::PATIENCE;
use super::throughput::Path;
use crate::interrupt::Interrupt;
use crate::measure::Window;
use crate::measure::process::{Look, Tree};
use crate::report::{Errors, Sample, Unit};

/// What is to be done.
#[derive(Debug, Clone, Copy)]
pub struct Idle {
    /// How many connections.
    pub connections: usize,
    /// How many bytes the burst sends each way through each.
    pub burst: usize,
}

impl Idle {
    /// What its sample is called.
    pub fn name(&self) -> String {
        format!("idle, {} connections", self.connections)
    }

    /// Measures it once.
    #[allow(clippy::cast_precision_loss, reason = "sizes of one machine are exact in an f64")]
    pub fn measure(&self, path: &Path, interrupt: &Interrupt) -> Sample {
        let mut sample = Sample { scenario: self.name(), ..Sample::default() };
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return Sample::failed(self.name(), format_args!("could not begin: {error}")),
        };
        let mut tree = path.forwarder.map(Tree::new);
        let mut look = || tree.as_mut().map(Tree::look);
        let window = Window::open(path.forwarder, path.backend);
        let before = look();
        let sockets = runtime.block_on(self.open(path, &mut sample.errors, interrupt));
        let opened = sockets.len();
        interrupt.sleep(SETTLE);
        let idle = look();
        let sockets = runtime.block_on(self.burst(sockets, &mut sample.errors, interrupt));
        interrupt.sleep(SETTLE);
        let after = look();
        drop(sockets);
        drop(runtime);
        let mut costs = window.close();
        if let Some(used) = &mut costs.forwarder {
            // A thousand processes are seldom looked at, so that looking costs little.
            [idle, after].iter().flatten().for_each(|look| used.saw(look));
        }
        sample.costs = Some(costs);
        sample.interrupted = interrupt.came();
        if let (Some(before), Some(idle), Some(after), true) = (before, idle, after, opened > 0) {
            let each = |at: Look, of: fn(&Look) -> u64| (of(&at) as f64 - of(&before) as f64) / opened as f64;
            sample.figure("mem each", each(idle, |look| look.resident), Unit::Bytes);
            sample.figure("after burst", each(after, |look| look.resident), Unit::Bytes);
            sample.figure("fds each", each(idle, |look| look.descriptors), Unit::Ratio);
        }
        if opened == 0 && !sample.interrupted {
            let first = sample.errors.first.values().next().cloned();
            sample.failure = Some(first.unwrap_or_else(|| "no connection could be made".into()));
        }
        sample
    }

    async fn open(&self, path: &Path, errors: &mut Errors, interrupt: &Interrupt) -> Vec<TcpStream> {
        let mut sockets = Vec::new();
        while sockets.len() < self.connections && !interrupt.came() {
            let mut tasks = JoinSet::new();
            let wanted = AT_ONCE.min(self.connections - sockets.len());
            let to = path.to;
            for _ in 0..wanted {
                tasks.spawn(async move { tokio::time::timeout(PATIENCE, established(to)).await });
            }
            let made = sockets.len();
            while let Some(task) = tasks.join_next().await {
                match task {
                    Ok(Ok(Ok(socket))) => sockets.push(socket),
                    Ok(Ok(Err(error))) => errors.add_io("connect", &error),
                    Ok(Err(_)) | Err(_) => errors.add("timeout", "could not connect: no answer"),
                }
            }
            if sockets.len() < made + wanted {
                // A forwarder that is full stays full.
                return sockets;
            }
        }
        sockets
    }

    async fn burst(
        &self,
        sockets: Vec<TcpStream>,
        errors: &mut Errors,
        interrupt: &Interrupt,
    ) -> Vec<TcpStream> {
        let mut tasks = JoinSet::new();
        let size = self.burst;
        for (index, socket) in sockets.into_iter().enumerate() {
            let pattern = Pattern::of_stream(u32::try_from(index).unwrap_or(u32::MAX));
            tasks.spawn(
                async move { tokio::time::timeout(PATIENCE * 3, exchange(socket, pattern, size)).await },
            );
        }
        let mut sockets = Vec::new();
        loop {
            let task = tokio::select! {
                task = tasks.join_next() => task,
                () = interrupt.asked() => return sockets,
            };
            match task {
                None => return sockets,
                Some(Ok(Ok(Ok((socket, bad))))) => {
                    sockets.push(socket);
                    if bad > 0 {
                        errors.add("integrity", format_args!("{bad} bytes of a burst came back changed"));
                    }
                }
                Some(Ok(Ok(Err(error)))) => errors.add_io("exchange", &error),
                Some(Ok(Err(_)) | Err(_)) => errors.add("timeout", "a burst did not come back"),
            }
        }
    }
}

async fn exchange(mut socket: TcpStream, pattern: Pattern, size: usize) -> io::Result<(TcpStream, u64)> {
    let (mut sending, mut checking) = (pattern, pattern);
    let (mut reader, mut writer) = socket.split();
    let send = async {
        let mut left = size;
        while left > 0 {
            let written = writer.write(sending.bytes(left)).await?;
            sending.advance(written);
            left -= written;
        }
        io::Result::Ok(())
    };
    let receive = async {
        let (mut left, mut bad) = (size, 0);
        let mut buffer = vec![0; LARGEST.min(size)];
        while left > 0 {
            let room = buffer.len().min(left);
            let read = reader.read(&mut buffer[..room]).await?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            bad += checking.check(&buffer[..read]);
            left -= read;
        }
        io::Result::Ok(bad)
    };
    let ((), bad) = tokio::try_join!(send, receive)?;
    Ok((socket, bad))
}

/// How long connections are left alone before memory is looked at.
const SETTLE: Duration = Duration::from_millis(500);

/// How many are made at once: what every forwarder's queue of new connections holds.
const AT_ONCE: usize = 64;
