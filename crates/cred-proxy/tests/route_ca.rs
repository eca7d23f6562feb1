//! A CA that a route is given signs for that route alone.

#![allow(clippy::unwrap_used, reason = "a helper of a test is a test")]

mod scene;

use std::path::Path;

use scene::{Scene, bundle, command, route, run};
use serde_json::{Value, json};
use testbed::{
    https::Origin,
    pki::{Ca, ServerCert},
};

fn file(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

fn path(file: &tempfile::NamedTempFile) -> &str {
    file.path().to_str().unwrap()
}

/// A private key where a certificate should be: base64 of a DER sequence, between PEM markers.
fn key_as_certificate(cert: &ServerCert) -> String {
    cert.key_pem.replace("PRIVATE KEY", "CERTIFICATE")
}

#[tokio::test]
async fn a_ca_of_one_route_does_not_sign_for_another() {
    let (own, all, foreign) = (Ca::new(), Ca::new(), Ca::new());
    let by_own = Origin::start(&own.server(&["127.0.0.1"])).await;
    let by_all = Origin::start(&all.server(&["127.0.0.1"])).await;
    let routes = [
        route("/own/", by_own.addr(), &json!({"ca": [foreign.pem(), own.pem()]})),
        route("/none/", by_own.addr(), &json!({})),
        route("/empty/", by_own.addr(), &json!({"ca": []})),
        route("/other/", by_own.addr(), &json!({"ca": [foreign.pem()]})),
        route("/all/", by_all.addr(), &json!({"ca": [own.pem()]})),
    ];
    let scene = Scene::start(&bundle(&routes, &all), &[]);
    for _ in 0..3 {
        // The route with the CA first: neither its connection nor its TLS session serves another.
        assert_eq!(scene.get("/own/x").await.status, 200);
        assert_eq!(by_own.take().len(), 1);
        for target in ["/none/x", "/empty/x", "/other/x"] {
            let answer = scene.get(target).await;
            assert_eq!(
                (answer.status, answer.field("x-cred-proxy")),
                (502, Some("upstream_tls")),
                "{target}"
            );
        }
        assert!(by_own.take().is_empty());
        // The bundle's own CA signs for all, beside a route's.
        assert_eq!(scene.get("/all/x").await.status, 200);
    }
}

#[tokio::test]
async fn a_table_in_a_file_may_name_a_ca_file() {
    let (own, all) = (Ca::new(), Ca::new());
    let by_own = Origin::start(&own.server(&["127.0.0.1"])).await;
    let by_all = Origin::start(&all.server(&["127.0.0.1"])).await;
    let (own_file, all_file) = (file(&own.pem()), file(&all.pem()));
    let table = file(
        &json!({"routes": [
            route("/own/", by_own.addr(), &json!({"ca_file": path(&own_file)})),
            route("/null/", by_own.addr(), &json!({"ca_file": null})),
            route("/all/", by_all.addr(), &json!({"ca_file": path(&own_file), "ca": [own.pem()]})),
        ]})
        .to_string(),
    );
    let mut command = command(&["--routes", path(&table), "--ca-file", path(&all_file)]);
    command.args(["--listen", "127.0.0.1:0", "--admin", "off"]).env("T", scene::TOKEN);
    let scene = Scene::spawn(command, "");
    for (target, status) in [("/own/x", 200), ("/null/x", 502), ("/all/x", 200)] {
        assert_eq!(scene.get(target).await.status, status, "{target}");
    }
}

#[test]
fn a_ca_without_a_usable_certificate_is_78_and_named() {
    let ca = Ca::new();
    let nonsense = "-----BEGIN CERTIFICATE-----\nbm9uc2Vuc2U=\n-----END CERTIFICATE-----\n";
    let no_base64 = "-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n";
    let key = key_as_certificate(&ca.server(&["a.test"]));
    let second = format!("{}{nonsense}", ca.pem());
    for (text, expected) in [
        ("", "no certificate found"),
        ("plain text", "no certificate found"),
        (nonsense, "certificate 1 is not a valid X.509 certificate"),
        (no_base64, "invalid PEM"),
        ("-----BEGIN CERTIFICATE-----\nMAA=\n", "invalid PEM"),
        (&key, "certificate 1 is not a valid X.509 certificate"),
        (&second, "certificate 2 is not a valid X.509 certificate"),
    ] {
        let ca_file = file(text);
        let by_file = json!({"routes": [route("/a/", ([127, 0, 0, 1], 9).into(), &json!({"ca_file": path(&ca_file)}))]});
        let by_text = route("/a/", ([127, 0, 0, 1], 9).into(), &json!({"ca": [ca.pem(), text]}));
        let table = |value: &Value| file(&value.to_string());
        let plain = json!({"routes": [route("/a/", ([127, 0, 0, 1], 9).into(), &json!({}))]});
        let (file_table, text_table, plain_table) =
            (table(&by_file), table(&json!({"routes": [&by_text]})), table(&plain));
        let of_bundle = |bundle: &Value| format!("{bundle}\n");
        let mut top = bundle(&[route("/a/", ([127, 0, 0, 1], 9).into(), &json!({}))], &ca);
        top["ca"] = json!([ca.pem(), text]);
        for (args, stdin, named) in [
            (&["--routes", path(&file_table)][..], String::new(), path(&ca_file)),
            (&["--routes", path(&text_table)], String::new(), path(&text_table)),
            (&["--routes", path(&plain_table), "--ca-file", path(&ca_file)], String::new(), path(&ca_file)),
            (&["--stdin-bundle"], of_bundle(&bundle(std::slice::from_ref(&by_text), &ca)), "table"),
            (&["--stdin-bundle"], of_bundle(&top), "ca[1]"),
        ] {
            for subcommand in [&["--listen", "127.0.0.1:0", "--admin", "off"][..], &["check"]] {
                let mut command = command(&[args, subcommand].concat());
                command.env("T", scene::TOKEN);
                let output = run(command, &stdin);
                let said = String::from_utf8_lossy(&output.stderr);
                assert_eq!(output.status.code(), Some(78), "{text:?} {args:?}: {said}");
                assert!(said.contains(expected) && said.contains(named), "{text:?} {args:?}: {said}");
                assert!(output.stdout.is_empty(), "{args:?}");
            }
        }
    }
}

#[test]
fn a_ca_file_that_is_missing_or_in_a_bundle_is_78() {
    let ca = Ca::new();
    let (ca_file, pem) = (file(&ca.pem()), ca.pem());
    let with = |key: &str, value: Value| route("/a/", ([127, 0, 0, 1], 9).into(), &json!({key: value}));
    let table = |key: &str, value: Value| file(&json!({"routes": [with(key, value)]}).to_string());
    let (missing, folder) = (table("ca_file", json!("/nonexistent/ca.pem")), table("ca_file", json!("/")));
    let (text, one) = (table("ca_file", json!(&pem)), table("ca", json!(&pem)));
    let (null, number) = (table("ca", json!(null)), table("ca", json!([7])));
    let line = format!("{}\n", bundle(&[with("ca_file", json!(path(&ca_file)))], &ca));
    let none = String::new();
    for (args, stdin, expected) in [
        (&["--routes", path(&missing)][..], &none, "could not read CA file /nonexistent/ca.pem of route /a/"),
        (&["--routes", path(&folder)], &none, "could not read CA file / of route /a/"),
        (&["--routes", path(&text)], &none, "expected `ca_file` to be a path, found PEM text"),
        (&["--routes", path(&one)], &none, "expected a list of PEM texts, found a string"),
        (&["--routes", path(&null)], &none, "expected a list of PEM texts"),
        (&["--routes", path(&number)], &none, "expected a PEM text"),
        (&["--stdin-bundle"], &line, "route /a/: `ca_file` is not allowed in a bundle"),
    ] {
        for subcommand in [&["--listen", "127.0.0.1:0", "--admin", "off"][..], &["check"]] {
            let mut command = command(&[args, subcommand].concat());
            command.env("T", scene::TOKEN);
            let output = run(command, stdin);
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(78), "{args:?}: {said}");
            assert!(said.contains(expected) && !said.contains("BEGIN"), "{args:?}: {said}");
        }
    }
}

#[test]
fn check_prints_the_cas_of_routes_and_takes_them_again() {
    let ca = Ca::new();
    let cert = ca.server(&["a.test"]);
    let ca_file = file(&ca.pem());
    let both = format!("a comment\n{}{}{}", cert.key_pem, ca.pem(), ca.pem());
    let table = json!({"routes": [
        route("/a/", ([127, 0, 0, 1], 9).into(), &json!({"ca": [both], "ca_file": path(&ca_file)})),
        route("/b/", ([127, 0, 0, 1], 9).into(), &json!({})),
    ]});
    let check = |table: &Path| {
        let output = run(command(&["check", "--routes", table.to_str().unwrap()]), "");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let printed = check(file(&table.to_string()).path());
    assert_eq!(check(file(&printed).path()), printed);
    let routes: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(routes["routes"][0]["ca_file"], json!(path(&ca_file)));
    let pem = routes["routes"][0]["ca"][0].as_str().unwrap();
    assert_eq!(pem.matches("-----BEGIN CERTIFICATE-----").count(), 2);
    assert!(!printed.contains("PRIVATE KEY") && !printed.contains("a comment"), "{printed}");
    assert!(routes["routes"][1].get("ca").is_none() && routes["routes"][1].get("ca_file").is_none());
}
