use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::super::fake;
use super::*;

fn version(deadline: Duration) -> Request<'static> {
    Request {
        act: "report its version",
        about: None,
        method: Method::GET,
        target: "/version".to_owned(),
        payload: Payload::Nothing,
        deadline,
    }
}

const SOON: Duration = Duration::from_millis(50);
const LATE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_request_names_neither_a_version_nor_an_authority() {
    let (heads, mut seen) = tokio::sync::mpsc::unbounded_channel();
    let address = fake::tcp(move |head, mut stream| {
        heads.send(head).unwrap();
        async move { stream.write_all(&fake::response("200 OK", "", b"{}")).await.unwrap() }
    })
    .await;
    assert_eq!(whole(&address, version(LATE)).await.unwrap(), "{}");
    let head = seen.recv().await.unwrap();
    assert!(head.starts_with("GET /version HTTP/1.1\r\n"), "{head}");
}

#[tokio::test]
async fn an_engine_that_does_not_respond_in_time_is_given_up() {
    for (sent, what) in [
        ("", "nothing at all"),
        ("HTTP/1.1 200 OK\r\n", "half a head"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n{}", "half a body"),
        ("HTTP/1.1 500 Oops\r\ncontent-length: 5\r\n\r\n{}", "half a refusal"),
    ] {
        let address = fake::answering(sent).await;
        let error = whole(&address, version(SOON)).await.unwrap_err();
        let expected = "the engine did not report its version within 1 s";
        assert!(matches!(error, EngineError::Timeout { .. }), "{what}: {error:?}");
        assert_eq!(error.to_string(), expected, "{what}");
    }
}

#[tokio::test]
async fn an_engine_that_drips_bytes_is_given_up() {
    let address = fake::tcp(|_, mut stream| async move {
        stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await.unwrap();
        while stream.write_all(b"1\r\nx\r\n").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let error = whole(&address, version(Duration::from_millis(200))).await.unwrap_err();
    assert!(matches!(error, EngineError::Timeout { .. }), "{error:?}");
}

#[tokio::test]
async fn connecting_counts_towards_the_deadline() {
    // A listener whose queue is full: the kernel does not answer the next connection.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let at = listener.local_addr().unwrap();
    let mut queued = Vec::new();
    while let Ok(Ok(stream)) = tokio::time::timeout(SOON, TcpStream::connect(at)).await {
        queued.push(stream);
    }
    let address = Address::parse(&format!("tcp://{at}")).unwrap();
    let begun = Instant::now();
    let error = whole(&address, version(SOON)).await.unwrap_err();
    assert!(matches!(error, EngineError::Timeout { .. }), "{error:?}");
    assert!(begun.elapsed() < LATE);
}

#[tokio::test]
async fn a_full_queue_of_connections_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("engine.sock");
    let listener = fake::full_queue(&path);
    let address = Address::Unix(path.clone());
    let error = whole(&address, version(SOON)).await.unwrap_err();
    assert!(matches!(error, EngineError::Timeout { .. }), "{error:?}");
    drop(listener);
    let error = whole(&address, version(LATE)).await.unwrap_err();
    assert!(matches!(error, EngineError::Unreachable { .. }), "{error:?}");
}

#[tokio::test]
async fn a_request_that_is_given_up_closes_its_connection() {
    let (closed, mut was_closed) = tokio::sync::mpsc::unbounded_channel();
    let address = fake::tcp(move |_, mut stream| {
        let closed = closed.clone();
        async move {
            let mut rest = Vec::new();
            drop(stream.read_to_end(&mut rest).await);
            closed.send(()).unwrap();
        }
    })
    .await;
    whole(&address, version(SOON)).await.unwrap_err();
    tokio::time::timeout(LATE, was_closed.recv()).await.expect("the connection is closed").unwrap();
}

#[tokio::test]
async fn a_response_without_an_end_does_not_grow_without_bound() {
    let address = fake::tcp(|_, mut stream| async move {
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n").await.unwrap();
        let piece = vec![b' '; 1 << 20];
        while stream.write_all(&piece).await.is_ok() {}
    })
    .await;
    let error = whole(&address, version(LATE)).await.unwrap_err();
    assert!(
        matches!(&error, EngineError::Broken { source, .. } if source.to_string().contains("limit")),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_refusal_carries_the_message_of_the_engine() {
    let answered =
        async |answer: Vec<u8>| whole(&fake::answering(answer).await, version(LATE)).await.unwrap_err();
    let error = answered(fake::response("403 Forbidden", "", br#"{"message":"a"}"#)).await;
    assert!(
        matches!(&error, EngineError::Refused { status: 403, message, .. } if message == "a"),
        "{error:?}"
    );
    // Not about an object, so none is missing: an engine without that part of the API.
    let error = answered(fake::response("404 Not Found", "", b"page not found\n")).await;
    assert!(
        matches!(&error, EngineError::Refused { status: 404, message, .. } if message == "page not found"),
        "{error:?}"
    );
    let error = answered(b"not HTTP at all".to_vec()).await;
    assert_eq!(error.to_string(), "could not read the engine's response to \"report its version\"");
}

#[tokio::test]
async fn an_upgrade_is_refused_given_up_or_unreadable_like_any_request() {
    let error = upgrade(&fake::answering("").await, version(SOON)).await.unwrap_err();
    assert!(matches!(error, EngineError::Timeout { .. }), "{error:?}");

    let refusal = fake::response("404 Not Found", "", b"No such container: x\r\n");
    let request = Request { about: Some(ObjectKind::Container), ..version(LATE) };
    let error = upgrade(&fake::answering(refusal).await, request).await.unwrap_err();
    assert!(matches!(error, EngineError::NotFound { kind: ObjectKind::Container, .. }), "{error:?}");

    let ok = fake::response("200 OK", "", b"");
    let error = upgrade(&fake::answering(ok).await, version(LATE)).await.unwrap_err();
    assert!(matches!(error, EngineError::Broken { .. }), "{error:?}");
}
