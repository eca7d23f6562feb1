//! A tiny HTTP forwarder that puts the credential on, and does one thing wrong.

#![allow(clippy::unwrap_used, missing_docs, unreachable_pub, reason = "a test's own")]
#![allow(dead_code, reason = "each test file uses some")]

use std::{io, net::SocketAddr, thread, time::Duration};

use forward_load::{
    http::{
        Idle, Job, Load, Outcome, Until,
        link::Request,
        load::run,
        message::{Body, answer_head, request_head},
        origin::Origin,
        target::Target,
    },
    interrupt::Interrupt,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::sleep,
};

/// What is wrong with a forwarder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrong {
    Nothing,
    NoCredential,
    Delay(Duration),
    CorruptAnswer,
    CorruptUpload,
    Truncate,
    ExtraBytes,
    Refuse,
    NeverAnswer,
    HoldEvents,
    LoseEvents,
    /// It keeps so many bytes of each request, and a descriptor of each connection that has ended.
    Leaks(usize),
    /// It ends a connection behind its answer, without having said so in it.
    Closes,
    /// It takes no connection after so many.
    IsFull(usize),
}

const CREDENTIAL: &str = "Bearer secret";

/// Starts an origin and the forwarder before it, on a thread that ends with the test's process.
pub fn forwarder(wrong: Wrong) -> SocketAddr {
    let (tell, told) = std::sync::mpsc::channel();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let behind = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let upstream = behind.local_addr().unwrap();
            let origin = Origin::new(None, Some(CREDENTIAL.into()));
            tokio::spawn(async move {
                while let Ok((stream, _)) = behind.accept().await {
                    let origin = origin.clone();
                    tokio::spawn(async move { origin.serve(stream).await });
                }
            });
            tell.send(listener.local_addr().unwrap()).unwrap();
            let mut taken = 0;
            while let Ok((stream, _)) = listener.accept().await {
                taken += 1;
                if matches!(wrong, Wrong::IsFull(most) if taken > most) {
                    continue;
                }
                if let Wrong::Leaks(_) = wrong {
                    std::mem::forget(rustix::io::dup(&stream).unwrap());
                }
                tokio::spawn(async move { forward(stream, upstream, wrong).await });
            }
        });
    });
    told.recv_timeout(Duration::from_secs(10)).unwrap()
}

async fn forward(mut downstream: TcpStream, to: SocketAddr, wrong: Wrong) -> io::Result<()> {
    let mut upstream = TcpStream::connect(to).await?;
    let (mut asked, mut answered) = (Vec::new(), Vec::new());
    loop {
        // The request: its head with the credential, then its body.
        let (len, framing) = loop {
            if let Some(head) = request_head(&asked).map_err(io::Error::other)? {
                break (head.len, head.framing);
            }
            if downstream.read_buf(&mut asked).await? == 0 {
                return Ok(());
            }
        };
        upstream.write_all(&asked[..len - 2]).await?;
        if wrong != Wrong::NoCredential {
            upstream.write_all(format!("Authorization: {CREDENTIAL}\r\n").as_bytes()).await?;
        }
        upstream.write_all(b"\r\n").await?;
        asked.drain(..len);
        let mut body = Body::new(framing);
        while !body.is_done() {
            let taken = body.read(&asked, |_| {}).map_err(io::Error::other)?;
            if wrong == Wrong::CorruptUpload && taken > 0 {
                asked[taken - 1] ^= 1;
            }
            upstream.write_all(&asked[..taken]).await?;
            asked.drain(..taken);
            if !body.is_done() && downstream.read_buf(&mut asked).await? == 0 {
                return Ok(());
            }
        }
        // What is wrong before the answer.
        match wrong {
            Wrong::Leaks(size) => std::mem::forget(vec![1_u8; size]),
            Wrong::Delay(time) => sleep(time).await,
            Wrong::NeverAnswer => std::future::pending().await,
            Wrong::Refuse => {
                downstream.write_all(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n").await?;
                continue;
            }
            _ => {}
        }
        // The answer.
        let (len, framing) = loop {
            if let Some(head) = answer_head(&answered).map_err(io::Error::other)? {
                break (head.len, head.framing);
            }
            if upstream.read_buf(&mut answered).await? == 0 {
                return Ok(());
            }
        };
        downstream.write_all(&answered[..len]).await?;
        answered.drain(..len);
        let (mut body, mut pieces) = (Body::new(framing), 0);
        loop {
            let taken = body.read(&answered, |_| {}).map_err(io::Error::other)?;
            pieces += 1;
            match wrong {
                Wrong::CorruptAnswer if taken > 0 => answered[taken - 1] ^= 1,
                Wrong::Truncate => return downstream.write_all(&answered[..taken / 2]).await,
                _ => {}
            }
            let held = wrong == Wrong::HoldEvents || wrong == Wrong::LoseEvents && pieces == 3;
            if !held {
                downstream.write_all(&answered[..taken]).await?;
            }
            answered.drain(..taken);
            if body.is_done() {
                break;
            }
            if upstream.read_buf(&mut answered).await? == 0 {
                return Ok(());
            }
        }
        if wrong == Wrong::Closes {
            return Ok(());
        }
        if wrong == Wrong::ExtraBytes {
            downstream.write_all(b"more").await?;
        }
    }
}

/// A load of one connection through a forwarder that is wrong, for a short window.
pub fn load(wrong: Wrong, path: &str, upload: Option<u64>, job: Job) -> Load {
    let url = format!("http://{}{path}", forwarder(wrong)).parse().unwrap();
    let target = Target::new(&url, None, false).unwrap();
    let request = Request::new(&target, path, &[], upload, false);
    Load {
        target,
        request,
        connections: 1,
        rate: None,
        new_connections: false,
        job,
        until: Until::Time(Duration::from_millis(300)),
        forwarder: None,
        backend: None,
    }
}

pub fn measured(load: &Load) -> Outcome {
    run(load, &Interrupt::deaf()).unwrap()
}

/// Twenty silent connections through a forwarder that is wrong, in this process.
pub fn idle(wrong: Wrong, path: &str) -> Idle {
    let Load { target, request, .. } = load(wrong, path, None, Job::Exchange);
    let (within, forwarder) = (Duration::from_secs(2), std::process::id());
    Idle { target, request, connections: 20, within, forwarder, backend: None }
}
