//! A gate with the test itself on both sides of one connection.

#![allow(dead_code, unreachable_pub, reason = "each test uses its own part")]

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::gate::{Gate, PATIENCE};

/// A gate with the test itself as its client and its upstream.
pub struct Scene {
    pub gate: Gate,
    pub client: TcpStream,
    pub upstream: TcpStream,
    pub listener: TcpListener,
}

impl Scene {
    /// A gate with these options and one row of any bytes.
    pub async fn set(line: &str) -> Self {
        Self::of("", line, None).await
    }

    /// The same with peers whose own receive buffers are that small, so that bytes stay in the gate.
    pub async fn small(line: &str, receive: u32) -> Self {
        Self::of("", line, Some(receive)).await
    }

    /// The same with a row that is for SSH only.
    pub async fn ssh(line: &str) -> Self {
        Self::of(",protocol=ssh", line, None).await
    }

    async fn of(row: &str, line: &str, receive: Option<u32>) -> Self {
        let socket = || {
            let socket = TcpSocket::new_v4().unwrap();
            if let Some(bytes) = receive {
                socket.set_recv_buffer_size(bytes).unwrap();
            }
            socket
        };
        let listening = socket();
        listening.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = listening.listen(8).unwrap();
        let gate = Gate::start(&format!("--forward 0={}{row} {line}", listener.local_addr().unwrap())).await;
        let client = socket().connect(gate.listener(0)).await.unwrap();
        let (upstream, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
        for side in [&client, &upstream] {
            side.set_nodelay(true).unwrap();
        }
        Self { gate, client, upstream, listener }
    }

    /// Another connection through the same row.
    pub async fn another(&self) -> (TcpStream, TcpStream) {
        let client = self.gate.connect().await;
        let (upstream, _) = timeout(PATIENCE, self.listener.accept()).await.unwrap().unwrap();
        (client, upstream)
    }
}
