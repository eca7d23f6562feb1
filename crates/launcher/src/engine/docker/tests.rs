use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::AsyncWriteExt;

use super::*;

const SOON: Duration = Duration::from_millis(40);

fn docker(address: Address) -> Docker {
    Docker::at(address, false).unwrap()
}

/// An engine that answers each request with what `answer` makes of its head and body.
async fn answering(answer: impl Fn(&str) -> Vec<u8> + Send + 'static) -> Docker {
    let address = fake::tcp(move |request, mut stream| {
        let answer = answer(&request);
        async move {
            stream.write_all(&answer).await.unwrap();
            std::future::pending::<()>().await;
        }
    });
    docker(address.await)
}

fn network() -> NetworkSpec {
    NetworkSpec {
        name: "int".into(),
        internal: true,
        subnet: "10.0.0.0/28".parse().unwrap(),
        options: BTreeMap::new(),
        labels: BTreeMap::new(),
    }
}

fn id() -> ContainerId {
    ContainerId("c1".into())
}

#[tokio::test]
async fn every_call_has_a_deadline_and_its_error_names_it() {
    let engine = answering(|_| Vec::new()).await;
    let engine = Docker { deadline: SOON, load_deadline: SOON, ..engine };
    let endpoint = Endpoint { default_route: true, ..Endpoint::default() };
    let spec = ContainerSpec {
        network: NetworkMode::Network(NetworkId("n1".into()), endpoint.clone()),
        ..ContainerSpec::new("agent", "sha256:aa")
    };
    let archive = Bytes::from_static(b"tar");
    let joined = ExecSpec { output: true, ..ExecSpec::default() };
    let (id, network_id, exec_id) = (id(), NetworkId("n1".into()), ExecId("e1".into()));
    let calls = [
        ("describe itself", engine.info().await.map(drop)),
        ("inspect image img", engine.image("img").await.map(drop)),
        ("load the image", engine.load_image(archive.clone()).await),
        ("remove image img", engine.remove_image("img").await),
        ("create network int", engine.create_network(&network()).await.map(drop)),
        ("inspect network n1", engine.network("n1").await.map(drop)),
        ("list networks", engine.networks(Some("a=b")).await.map(drop)),
        ("connect container c1 to network n1", engine.connect(&network_id, &id, &endpoint).await),
        ("remove network n1", engine.remove_network(&network_id).await),
        ("create container agent", engine.create_container(&spec).await.map(drop)),
        ("start container c1", engine.start(&id).await),
        ("attach to the container", engine.attach(&id).await.map(drop)),
        ("report the end of container c1", engine.wait(&id, SOON).await.map(drop)),
        ("inspect container c1", engine.container("c1").await.map(drop)),
        ("list containers", engine.containers(None).await.map(drop)),
        ("return the logs of container c1", engine.logs(&id, 5).await.map(drop)),
        ("remove container c1", engine.remove_container(&id).await),
        ("put files into container c1", engine.put(&id, archive).await),
        ("read /etc/passwd in container c1", engine.read_file(&id, "/etc/passwd").await.map(drop)),
        ("run a command in the container", engine.exec(&id, &joined).await.map(drop)),
        ("report the command's exit code", engine.exec_exit_code(&exec_id).await.map(drop)),
    ];
    for (act, answered) in calls {
        let error = answered.unwrap_err();
        assert!(matches!(error, EngineError::Timeout { .. }), "{act}: {error:?}");
        assert_eq!(error.to_string(), format!("the engine did not {act} within 1 s"));
    }
}

#[tokio::test]
async fn a_plain_connection_to_another_machine_needs_consent() {
    let at = |text: &str, insecure| Docker::at(Address::parse(text).unwrap(), insecure);
    let error = at("tcp://10.0.0.5:2375", false).unwrap_err();
    assert!(matches!(&error, EngineError::Plaintext { address } if address == "tcp://10.0.0.5:2375"));
    assert_eq!(at("tcp://10.0.0.5:2375", true).unwrap().url(), "tcp://10.0.0.5:2375");
    assert_eq!(at("http://127.0.0.1:2375", false).unwrap().url(), "tcp://127.0.0.1:2375");
    assert_eq!(at("unix:///tmp/a.sock", false).unwrap().url(), "unix:///tmp/a.sock");
}

#[tokio::test]
async fn a_taken_name_and_a_taken_subnet_are_errors_of_their_own() {
    let refused = async |status: &'static str, message: &'static str| {
        let body = format!(r#"{{"message":"{message}"}}"#);
        let engine = answering(move |_| fake::response(status, "", body.as_bytes())).await;
        engine.create_network(&network()).await.unwrap_err()
    };
    let error = refused("409 Conflict", "network with name int already exists").await;
    assert!(
        matches!(&error, EngineError::NameTaken { kind: ObjectKind::Network, name } if name == "int"),
        "{error:?}"
    );
    let error = refused("403 Forbidden", "Pool overlaps with other one on this address space").await;
    assert!(matches!(&error, EngineError::SubnetTaken { subnet } if subnet == "10.0.0.0/28"), "{error:?}");
    let error = refused("500 Oops", "no space").await;
    assert!(matches!(error, EngineError::Refused { status: 500, .. }), "{error:?}");
}

#[tokio::test]
async fn a_network_is_created_with_the_warning_of_the_engine() {
    let created = async |body: &'static [u8]| {
        let engine = answering(|_| fake::response("201 Created", "", body)).await;
        engine.create_network(&network()).await.unwrap().warning
    };
    assert_eq!(
        created(br#"{"Id":"n1","Warning":"unknown option"}"#).await.as_deref(),
        Some("unknown option")
    );
    assert_eq!(created(br#"{"Id":"n1","Warning":""}"#).await, None);
    assert_eq!(created(br#"{"Id":"n1"}"#).await, None);
}

#[tokio::test]
async fn an_image_that_does_not_load_is_a_refusal_despite_its_status() {
    let engine = answering(|_| fake::response("200 OK", "", b"{\"error\":\"no space\"}\r\n")).await;
    let error = engine.load_image(Bytes::new()).await.unwrap_err();
    assert_eq!(error.to_string(), "the engine could not load the image: no space");
}

#[tokio::test]
async fn a_removal_waits_for_the_one_in_progress() {
    let looks = std::sync::atomic::AtomicUsize::new(0);
    let engine = answering(move |request| {
        let running = br#"{"Id":"c1","Name":"/c","State":{"Status":"removing"},"Config":{}}"#;
        if request.starts_with("DELETE ") {
            let body = br#"{"message":"removal of container c1 is already in progress"}"#;
            fake::response("409 Conflict", "", body)
        } else if looks.fetch_add(1, std::sync::atomic::Ordering::Relaxed) < 2 {
            fake::response("200 OK", "", running)
        } else {
            fake::response("404 Not Found", "", br#"{"message":"No such container: c1"}"#)
        }
    });
    engine.await.remove_container(&id()).await.unwrap();
}

/// A response of `GET archive` with an entry of that kind.
fn archive(stat: &str, kind: tar::EntryType, link: &str, contents: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(contents.len() as u64);
    let mut builder = tar::Builder::new(Vec::new());
    if link.is_empty() {
        builder.append_data(&mut header, "x", contents).unwrap();
    } else {
        builder.append_link(&mut header, "x", link).unwrap();
    }
    let stat = format!("x-docker-container-path-stat: {}\r\n", STANDARD.encode(stat));
    fake::response("200 OK", &stat, &builder.into_inner().unwrap())
}

#[tokio::test]
async fn a_link_is_followed_where_the_engine_says_or_where_it_points() {
    use tar::EntryType::{Regular, Symlink};
    let reported = r#"{"name":"passwd","size":9,"mode":134218239,"linkTarget":"/usr/lib/real"}"#;
    // The end of the link, as Docker reports it; then the link alone; then podman, which reports
    // the link and sends the file.
    let engine = answering(move |request| {
        let at = |path: &str| request.contains(&format!("archive?path={path} "));
        match () {
            () if at("/etc/passwd") => archive(reported, Symlink, "real", b""),
            () if at("/usr/lib/real") => archive("{}", Symlink, "../share/real", b""),
            () if at("/usr/share/real") => archive(reported, Regular, "", b"four"),
            () if at("/loop") => archive("{}", Symlink, "/loop", b""),
            () => fake::response(
                "404 Not Found",
                "",
                br#"{"message":"Could not find the file x in container c1"}"#,
            ),
        }
    })
    .await;
    assert_eq!(engine.read_file(&id(), "/etc/passwd").await.unwrap().as_deref(), Some(b"four".as_slice()));
    assert_eq!(engine.read_file(&id(), "/none").await.unwrap(), None);
    let error = engine.read_file(&id(), "/loop").await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "could not read /loop in the container: it is behind too many symbolic links"
    );
}

#[tokio::test]
async fn a_file_that_is_too_large_is_not_transferred() {
    use tar::EntryType::Regular;
    // The size is reported; or it is not, and the file is cut.
    for stat in [r#"{"size":2097152,"mode":420}"#, "{}"] {
        let engine = answering(move |_| archive(stat, Regular, "", &vec![0; 2 << 20])).await;
        let error = engine.read_file(&id(), "/large").await.unwrap_err();
        let expected = "could not read /large in the container: it is larger than 1 MiB";
        assert_eq!(error.to_string(), expected, "{stat}");
    }
    let engine = answering(|_| fake::response("200 OK", "", &[b'x'; 2048])).await;
    let error = engine.read_file(&id(), "/x").await.unwrap_err();
    assert!(matches!(error, EngineError::Broken { .. }), "{error:?}");
}

#[tokio::test]
async fn the_streams_of_a_command_follow_the_upgrade() {
    use futures_util::StreamExt;
    let engine = answering(|request| {
        if request.contains("/containers/c1/exec ") {
            assert!(request.contains(r#""Cmd":["id"]"#) && request.contains(r#""Tty":false"#), "{request}");
            fake::response("201 Created", "", br#"{"Id":"e1"}"#)
        } else {
            assert!(
                request.starts_with("POST /exec/e1/start ") && request.contains("upgrade: tcp"),
                "{request}"
            );
            b"HTTP/1.1 101 UPGRADED\r\nconnection: Upgrade\r\nupgrade: tcp\r\n\r\n\x01\0\0\0\0\0\0\x02hi"
                .to_vec()
        }
    })
    .await;
    let spec = ExecSpec { command: vec!["id".into()], output: true, ..ExecSpec::default() };
    let exec = engine.exec(&id(), &spec).await.unwrap();
    assert_eq!(exec.id, ExecId("e1".into()));
    let first = exec.streams.unwrap().output.next().await.unwrap().unwrap();
    assert_eq!(first, crate::engine::Output::Stdout("hi".into()));
}
