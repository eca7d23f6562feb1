//! An engine that answers with the bytes a test gives it, on a real socket.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;

use super::address::Address;

/// A connection to the fake engine.
pub(super) trait Connection: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Connection for T {}

/// An engine on loopback that serves each connection with `serve`, which gets the head of the request.
pub(super) async fn tcp<F>(serve: impl Fn(String, Box<dyn Connection>) -> F + Send + 'static) -> Address
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("tcp://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let head = head(&mut stream).await;
            tokio::spawn(serve(head, Box::new(stream)));
        }
    });
    Address::parse(&address).unwrap()
}

/// An engine that answers every request with these bytes, and keeps the connection.
pub(super) async fn answering(answer: impl Into<Vec<u8>>) -> Address {
    let answer = answer.into();
    tcp(move |_, mut stream| {
        let answer = answer.clone();
        async move {
            stream.write_all(&answer).await.unwrap();
            std::future::pending::<()>().await;
        }
    })
    .await
}

/// A Unix socket that accepts nothing, and whose queue of connections is full.
pub(super) fn full_queue(path: &Path) -> (OwnedFd, Vec<OwnedFd>) {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = || socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap();
    let address = SocketAddrUnix::new(path).unwrap();
    let listener = socket();
    rustix::net::bind(&listener, &address).unwrap();
    rustix::net::listen(&listener, 1).unwrap();
    let mut queued = Vec::new();
    loop {
        let stream = socket();
        if rustix::net::connect(&stream, &address).is_err() {
            return (listener, queued);
        }
        queued.push(stream);
    }
}

/// A response with that body.
pub(super) fn response(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// Reads up to the end of a request's head, and its body, which is short.
async fn head(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut text = Vec::new();
    loop {
        let byte = stream.read_u8().await.unwrap();
        text.push(byte);
        if text.ends_with(b"\r\n\r\n") {
            break;
        }
    }
    let head = String::from_utf8(text).unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    stream.read_exact(&mut body).await.unwrap();
    head + &String::from_utf8_lossy(&body)
}
