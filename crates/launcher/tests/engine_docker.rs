//! The engine behind the socket does what the trait promises.
//!
//! Needs a running Docker engine and rustc's musl target; without them it fails with a message. All
//! it creates carries a label of its own, is removed also after a failure, and is looked for at the end.

#![allow(clippy::unwrap_used, reason = "a test that panics is a test that fails")]

#[path = "engine_docker/scene.rs"]
mod scene;

use std::collections::BTreeMap;
use std::process::Command;

use bytes::Bytes;
use claude_bottle::engine::docker::Docker;
use claude_bottle::engine::{
    ContainerId, ContainerSpec, Endpoint, Engine, EngineError, ExecSpec, FileFault, NetworkId, NetworkMode,
    ObjectKind, Output, cannot_run,
};
use claude_bottle::images::ensure_loaded;
use futures_util::StreamExt;
use tokio::io::AsyncWriteExt;

use self::scene::{SOON, all, inspect, scene, soon};

#[tokio::test]
async fn the_engine_describes_itself() {
    let info = Docker::connect(None, false)
        .unwrap()
        .info()
        .await
        .expect("these tests need a running container engine");
    assert!(!info.version.is_empty() && info.api.starts_with("1."), "{info:?}");
    assert_eq!(info.arch, std::env::consts::ARCH);
    assert!(info.runtimes.iter().any(|runtime| runtime.contains("runc") || runtime == "crun"), "{info:?}");
    assert!(info.local);
}

#[tokio::test]
async fn an_engine_that_is_not_there_is_unreachable() {
    let folder = tempfile::tempdir().unwrap();
    let address = format!("unix://{}/none.sock", folder.path().display());
    let error = Docker::connect(Some(&address), false).unwrap().info().await.unwrap_err();
    assert!(matches!(&error, EngineError::Unreachable { address: at, .. } if *at == address), "{error:?}");

    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("tcp://{}", silent.local_addr().unwrap());
    drop(silent);
    let error = Docker::connect(Some(&address), false).unwrap().containers(None).await.unwrap_err();
    assert!(matches!(error, EngineError::Unreachable { .. }), "{error:?}");
}

#[tokio::test]
async fn an_image_is_loaded_under_the_id_known_beforehand() {
    scene("image", async |scene| {
        let (engine, built) = (&scene.engine, &scene.built);
        let ids = [built.config_digest.as_str(), built.manifest_digest.as_str()];
        assert!(ids.contains(&scene.image.as_str()), "{}", scene.image);
        let tagged = engine.image(&built.tag).await.unwrap().expect("the tag leads to the image");
        assert_eq!(tagged.id, scene.image);
        assert_eq!(tagged.user.as_deref(), Some("65532:65532"));
        assert_eq!(tagged.working_dir, None);
        assert_eq!(ensure_loaded(engine, built).await.unwrap(), scene.image, "a second time");
        assert_eq!(engine.image("localhost/claude-bottle/no-such-image:none").await.unwrap(), None);
        engine.image("../networks/bridge").await.unwrap_err();
        let garbage = engine.load_image(Bytes::from_static(b"no tar at all")).await;
        assert!(garbage.is_err());
        let mut foreign = built.clone();
        foreign.config_digest = format!("sha256:{}", "0".repeat(64));
        foreign.manifest_digest = format!("sha256:{}", "1".repeat(64));
        let error = ensure_loaded(engine, &foreign).await.unwrap_err().to_string();
        assert!(error.contains(&scene.image), "{error}");
    })
    .await;
}

#[tokio::test]
async fn a_bundle_goes_in_over_stdin_and_the_answer_comes_back_on_the_same_stream() {
    scene("attach", async |scene| {
        let engine = &scene.engine;
        let spec = ContainerSpec { stdin: true, read_only: true, ..scene.container("sidecar", "sidecar") };
        let id = engine.create_container(&spec).await.unwrap();
        let mut streams = engine.attach(&id).await.unwrap();
        engine.start(&id).await.unwrap();
        streams.input.write_all(b"{\"version\":1}\n").await.unwrap();
        streams.input.flush().await.unwrap();
        let ready = soon(streams.output.next()).await.unwrap().unwrap();
        assert_eq!(ready, Output::Stdout("ready after {\"version\":1}\n".into()));

        let running = engine.container(&id.0).await.unwrap().unwrap();
        assert_eq!((running.name.as_str(), running.status.as_str()), (spec.name.as_str(), "running"));
        assert!(running.started.is_some() && running.exit_code.is_none());

        // Kept open it stays; half-closed it ends, and what it still says arrives.
        streams.input.write_all(b"more").await.unwrap();
        streams.input.shutdown().await.unwrap();
        let (stdout, stderr) = soon(all(streams.output)).await;
        assert_eq!(stdout, "rest \"more\"\n");
        assert_eq!(stderr, "a word on stderr\n");
        assert_eq!(engine.wait(&id, SOON).await.unwrap(), 7);
        assert_eq!(engine.container(&id.0).await.unwrap().unwrap().exit_code, Some(7));

        let logs = engine.logs(&id, 100).await.unwrap();
        for line in ["ready after {\"version\":1}", "a word on stderr", "rest \"more\""] {
            assert!(logs.contains(line), "{logs}");
        }
        assert_eq!(engine.logs(&id, 1).await.unwrap().lines().count(), 1);
        assert!(!logs.contains('\u{1}'), "frame headers are not part of it");
    })
    .await;
}

#[tokio::test]
async fn a_command_reads_its_stdin_to_the_end() {
    scene("exec", async |scene| {
        let engine = &scene.engine;
        let id = scene.idle("agent").await;
        let spec = ExecSpec {
            command: vec!["/probe".into(), "cat".into()],
            stdin: true,
            output: true,
            ..ExecSpec::default()
        };
        let exec = engine.exec(&id, &spec).await.unwrap();
        let mut streams = exec.streams.expect("joined");
        // Every byte, those that look like frame headers too, and more than one buffer of them.
        let sent: Vec<u8> = (0..200_000_u32).map(|n| (n % 251) as u8).collect();
        streams.input.write_all(&sent).await.unwrap();
        streams.input.shutdown().await.unwrap();
        let mut got = Vec::new();
        while let Some(piece) = soon(streams.output.next()).await {
            let Output::Stdout(bytes) = piece.unwrap() else { panic!("nothing is written to stderr") };
            got.extend_from_slice(&bytes);
        }
        assert!(got == sent, "{} of {} bytes", got.len(), sent.len());
        assert_eq!(engine.exec_exit_code(&exec.id).await.unwrap(), 3);

        let env = BTreeMap::from([("GREETING".to_owned(), "good day".to_owned())]);
        let spec = ExecSpec {
            command: vec!["/probe".into(), "status".into()],
            env,
            output: true,
            ..ExecSpec::default()
        };
        let exec = engine.exec(&id, &spec).await.unwrap();
        let (said, _) = soon(all(exec.streams.unwrap().output)).await;
        assert!(said.contains("variable Ok(\"good day\")"), "{said}");
        assert!(said.contains("CapEff:\t0000000000000000") && said.contains("NoNewPrivs:\t1"), "{said}");
        assert!(said.contains("Uid:\t65532"), "{said}");

        let unknown =
            ExecSpec { command: vec!["/no-such-program".into()], output: true, ..ExecSpec::default() };
        let exec = engine.exec(&id, &unknown).await.unwrap();
        let mut output = exec.streams.unwrap().output;
        let first = soon(output.next()).await.unwrap().unwrap();
        assert!(cannot_run(&first), "the engine's message: {first:?}");
        soon(all(output)).await;
        assert!([126, 127].contains(&engine.exec_exit_code(&exec.id).await.unwrap()));

        let detached = ExecSpec { command: vec!["/probe".into(), "cat".into()], ..ExecSpec::default() };
        let exec = engine.exec(&id, &detached).await.unwrap();
        assert!(exec.streams.is_none());
        assert_eq!(engine.exec_exit_code(&exec.id).await.unwrap(), 3);
    })
    .await;
}

#[tokio::test]
async fn a_container_is_confined_as_its_specification_says() {
    scene("confined", async |scene| {
        let engine = &scene.engine;
        let (network, subnet) = scene.network("int").await;
        let address = subnet.hosts().nth(2).unwrap();
        let endpoint =
            Endpoint { address: Some(address), aliases: vec!["cred-proxy".into()], default_route: true };
        let spec = ContainerSpec {
            network: NetworkMode::Network(network.clone(), endpoint),
            read_only: true,
            sysctls: BTreeMap::from([("net.ipv4.ip_forward".into(), "0".into())]),
            pids: Some(64),
            memory: Some(64 << 20),
            nano_cpus: Some(500_000_000),
            bounded_logs: true,
            dns: vec!["127.0.0.1".into()],
            dns_options: vec!["timeout:1".into(), "attempts:1".into()],
            ..scene.container("confined", "status")
        };
        let id = engine.create_container(&spec).await.unwrap();
        engine.start(&id).await.unwrap();
        assert_eq!(engine.wait(&id, SOON).await.unwrap(), 0, "{}", engine.logs(&id, 50).await.unwrap());
        let said = engine.logs(&id, 500).await.unwrap();
        for expected in [
            "read-only true",
            "NoNewPrivs:\t1",
            "CapBnd:\t0000000000000000",
            "\n0\n",
            "timeout:1 attempts:1",
            &address.to_string(),
        ] {
            assert!(said.contains(expected), "{expected} in {said}");
        }
        let inspected = inspect(&id);
        for (pointer, expected) in [
            ("/HostConfig/PidsLimit", "64"),
            ("/HostConfig/Memory", "67108864"),
            ("/HostConfig/MemorySwap", "67108864"),
            ("/HostConfig/NanoCpus", "500000000"),
            ("/HostConfig/RestartPolicy/Name", "\"no\""),
            ("/HostConfig/LogConfig/Config/max-size", "\"10m\""),
            ("/HostConfig/LogConfig/Config/max-file", "\"3\""),
        ] {
            let found = inspected.pointer(pointer).map(ToString::to_string);
            assert_eq!(found.as_deref(), Some(expected), "{pointer}");
        }
    })
    .await;
}

#[tokio::test]
async fn two_networks_and_a_shared_namespace() {
    scene("networks", async |scene| {
        let engine = &scene.engine;
        let (inner, subnet) = scene.network("int").await;
        let (outer, _) = scene.network("egr").await;
        let address = subnet.hosts().nth(1).unwrap();
        let endpoint =
            Endpoint { address: Some(address), aliases: vec!["ssh-gate".into()], default_route: false };
        let spec = ContainerSpec {
            network: NetworkMode::Network(inner.clone(), endpoint),
            ..scene.container("gate", "idle")
        };
        let gate = engine.create_container(&spec).await.unwrap();
        let out = Endpoint { default_route: true, ..Endpoint::default() };
        engine.connect(&outer, &gate, &out).await.unwrap();
        engine.start(&gate).await.unwrap();
        let networks = inspect(&gate)["NetworkSettings"]["Networks"].clone();
        assert_eq!(networks.as_object().unwrap().len(), 2, "{networks}");
        let inside = networks.as_object().unwrap().values().find(|end| end["NetworkID"] == inner.0).unwrap();
        assert_eq!(inside["IPAddress"], address.to_string());
        assert!(inside["Aliases"].to_string().contains("\"ssh-gate\""), "{inside}");

        let seal = ContainerSpec {
            network: NetworkMode::Container(gate.clone()),
            user: Some("0".into()),
            cap_add: vec!["NET_ADMIN".into()],
            ..scene.container("seal", "status")
        };
        let seal = engine.create_container(&seal).await.unwrap();
        engine.start(&seal).await.unwrap();
        assert_eq!(engine.wait(&seal, SOON).await.unwrap(), 0);
        let said = engine.logs(&seal, 500).await.unwrap();
        assert!(said.contains("CapEff:\t0000000000001000"), "NET_ADMIN alone: {said}");

        let known = engine.network(&inner.0).await.unwrap().unwrap();
        assert!(known.internal);
        assert_eq!(known.subnets, [subnet]);
        assert_eq!(engine.networks(Some(&scene.label())).await.unwrap().len(), 2);
        let held = engine.remove_network(&inner).await.unwrap_err();
        assert!(matches!(held, EngineError::Refused { .. }), "{held:?}");
    })
    .await;
}

#[tokio::test]
async fn what_is_taken_is_named_and_what_is_gone_counts_as_removed() {
    scene("taken", async |scene| {
        let engine = &scene.engine;
        let (network, subnet) = scene.network("int").await;
        let other = scene.network_spec("other", subnet);
        let error = engine.create_network(&other).await.unwrap_err();
        assert!(
            matches!(&error, EngineError::SubnetTaken { subnet: at } if *at == subnet.to_string()),
            "{error:?}"
        );
        let same = scene.network_spec("int", scene.subnets().next().unwrap());
        let error = engine.create_network(&same).await.unwrap_err();
        assert!(matches!(error, EngineError::NameTaken { kind: ObjectKind::Network, .. }), "{error:?}");

        let spec = scene.container("agent", "idle");
        let id = engine.create_container(&spec).await.unwrap();
        let error = engine.create_container(&spec).await.unwrap_err();
        assert!(matches!(&error, EngineError::NameTaken { kind: ObjectKind::Container, name } if *name == spec.name), "{error:?}");
        let unknown =
            ContainerSpec { image: format!("sha256:{}", "0".repeat(64)), ..scene.container("x", "idle") };
        let error = engine.create_container(&unknown).await.unwrap_err();
        assert_eq!(error.missing(), Some(ObjectKind::Image), "{error:?}");

        let listed = engine.containers(Some(&scene.label())).await.unwrap();
        assert_eq!(listed.len(), 1);
        assert_eq!((listed[0].name.as_str(), listed[0].status.as_str()), (spec.name.as_str(), "created"));
        assert!(engine.containers(Some("claude-bottle.test=other")).await.unwrap().is_empty());
        assert_eq!(engine.container(&spec.name).await.unwrap().unwrap().id, id);
        assert!(engine.container(&id.0).await.unwrap().unwrap().started.is_none());

        let gone = ContainerId("0123456789ab".repeat(5));
        engine.remove_container(&gone).await.unwrap();
        engine.remove_network(&NetworkId(gone.0.clone())).await.unwrap();
        engine.remove_image("localhost/claude-bottle/no-such-image:none").await.unwrap();
        assert_eq!(engine.container(&gone.0).await.unwrap(), None);
        let missing = |error: EngineError| error.missing();
        assert_eq!(engine.start(&gone).await.map_err(missing), Err(Some(ObjectKind::Container)));
        // Creation on a network that is gone succeeds on engine 20.10; the start does not.
        let mode = NetworkMode::Network(NetworkId(gone.0.clone()), Endpoint::default());
        let stranded = ContainerSpec { network: mode, ..scene.container("stranded", "idle") };
        let started = match engine.create_container(&stranded).await {
            Ok(stranded) => engine.start(&stranded).await,
            Err(error) => Err(error),
        };
        assert_eq!(started.map_err(missing), Err(Some(ObjectKind::Network)));
        let connected = engine.connect(&network, &gone, &Endpoint::default()).await;
        assert_eq!(connected.map_err(missing), Err(Some(ObjectKind::Container)));
        // Two at once: one waits for the other's removal.
        let (first, second) = tokio::join!(engine.remove_container(&id), engine.remove_container(&id));
        first.unwrap();
        second.unwrap();
        assert_eq!(engine.container(&id.0).await.unwrap(), None);
        engine.remove_network(&network).await.unwrap();
        engine.remove_network(&network).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn files_go_in_with_their_owners_and_come_out_whole() {
    scene("files", async |scene| {
        let engine = &scene.engine;
        let id = engine.create_container(&scene.container("agent", "idle")).await.unwrap();
        let mut archive = tar::Builder::new(Vec::new());
        for (path, contents) in
            [("home/prompt.txt", vec![b'p'; 10]), ("home/large", vec![b'l'; (1 << 20) + 1])]
        {
            let mut header = tar::Header::new_ustar();
            header.set_size(contents.len() as u64);
            header.set_mode(0o600);
            header.set_uid(65532);
            header.set_gid(65532);
            archive.append_data(&mut header, path, contents.as_slice()).unwrap();
        }
        engine.put(&id, archive.into_inner().unwrap().into()).await.unwrap();
        let read = engine.read_file(&id, "/home/prompt.txt").await.unwrap();
        assert_eq!(read.as_deref(), Some(b"pppppppppp".as_slice()));
        assert_eq!(engine.read_file(&id, "/home/none").await.unwrap(), None);
        let fault = async |path: &str| match engine.read_file(&id, path).await {
            Err(EngineError::File { fault, .. }) => fault,
            other => panic!("{path}: {other:?}"),
        };
        assert_eq!(fault("/home").await, FileFault::Directory);
        assert_eq!(fault("/home/large").await, FileFault::TooLarge);
        let gone = ContainerId("0".repeat(64));
        let error = engine.read_file(&gone, "/home").await.unwrap_err();
        assert_eq!(error.missing(), Some(ObjectKind::Container), "{error:?}");

        // Its owner is the agent's user, who alone may read it: so does the program, which runs as that user.
        engine.start(&id).await.unwrap();
        assert_eq!(engine.container(&id.0).await.unwrap().unwrap().status, "running");
        let owner = Command::new("docker")
            .args(["cp", &format!("{}:/home/prompt.txt", id.0), "-"])
            .output()
            .expect("these tests look over the engine's shoulder with the docker command");
        let mut listing = tar::Archive::new(owner.stdout.as_slice());
        let entry = listing.entries().unwrap().next().unwrap().unwrap();
        let header = entry.header();
        let owner = (header.uid().unwrap(), header.gid().unwrap(), header.mode().unwrap() & 0o777);
        assert_eq!(owner, (65532, 65532, 0o600));
    })
    .await;
}

#[tokio::test]
async fn a_file_is_read_through_links_that_stay_inside_the_container() {
    scene("links", async |scene| {
        let engine = &scene.engine;
        let id = engine.create_container(&scene.container("agent", "idle")).await.unwrap();
        let mut archive = tar::Builder::new(Vec::new());
        let mut file = tar::Header::new_ustar();
        file.set_size(4);
        file.set_mode(0o644);
        archive.append_data(&mut file, "usr/lib/real/passwd", b"four".as_slice()).unwrap();
        let mut pipe = tar::Header::new_ustar();
        pipe.set_entry_type(tar::EntryType::Fifo);
        pipe.set_size(0);
        pipe.set_mode(0o644);
        archive.append_data(&mut pipe, "pipe", std::io::empty()).unwrap();
        let mut link = |path: &str, target: &str| {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            archive.append_link(&mut header, path, target).unwrap();
        };
        link("usr/lib/current", "real");
        link("etc/passwd", "../usr/lib/current/passwd");
        link("absolute", "/etc/passwd");
        link("upwards", "../../../../../etc/passwd");
        link("dangling", "/etc/none");
        link("folder", "/usr");
        link("to-pipe", "pipe");
        link("loop-a", "loop-b");
        link("loop-b", "/loop-a");
        for n in 1..=6 {
            link(&format!("chain-{n}"), &format!("chain-{}", n - 1));
        }
        link("chain-0", "/etc/passwd");
        engine.put(&id, archive.into_inner().unwrap().into()).await.unwrap();

        for path in ["/usr/lib/current/passwd", "/etc/passwd", "/absolute", "/upwards", "/chain-6"] {
            let read = engine.read_file(&id, path).await.unwrap();
            assert_eq!(read.as_deref(), Some(b"four".as_slice()), "{path}");
        }
        for path in ["/dangling", "/etc/passwd/below", "/none/passwd"] {
            assert_eq!(engine.read_file(&id, path).await.unwrap(), None, "{path}");
        }
        for (path, expected) in [
            ("/folder", FileFault::Directory),
            ("/pipe", FileFault::Special),
            ("/to-pipe", FileFault::Special),
            ("/loop-a", FileFault::TooManyLinks),
        ] {
            let error = engine.read_file(&id, path).await.unwrap_err();
            assert!(
                matches!(&error, EngineError::File { path: at, fault } if at == path && *fault == expected),
                "{path}: {error:?}"
            );
        }
    })
    .await;
}
