//! A CONNECT proxy that records what it was asked, and leads every tunnel to one address.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::tcp::Upstream;

/// A listening CONNECT proxy.
#[derive(Debug)]
pub struct ConnectProxy {
    upstream: Upstream,
    heads: Arc<Mutex<Vec<String>>>,
}

impl ConnectProxy {
    /// Answers every CONNECT with `answer` (a status line and fields, with their line ends), and,
    /// when that is a 200, tunnels to `to`, whatever was asked for.
    pub async fn start(to: SocketAddr, answer: &'static str) -> Self {
        Self::serve(TcpListener::bind("127.0.0.1:0").await.unwrap(), to, answer)
    }

    /// The same on a listener of the test's own.
    pub fn serve(listener: TcpListener, to: SocketAddr, answer: &'static str) -> Self {
        let heads = Arc::new(Mutex::new(Vec::new()));
        let record = heads.clone();
        let upstream = Upstream::serve(listener, move |mut tcp| {
            let record = record.clone();
            async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let Ok(byte) = tcp.read_u8().await else { return };
                    head.push(byte);
                }
                record.lock().unwrap().push(String::from_utf8_lossy(&head).into_owned());
                if tcp.write_all(answer.as_bytes()).await.is_err() || !answer.starts_with("HTTP/1.1 200") {
                    return;
                }
                if let Ok(mut there) = TcpStream::connect(to).await {
                    let _ = tokio::io::copy_bidirectional(&mut tcp, &mut there).await;
                }
            }
        });
        Self { upstream, heads }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.upstream.addr
    }

    /// The heads that it was sent.
    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}
