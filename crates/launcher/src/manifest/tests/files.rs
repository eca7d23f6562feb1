use std::fs;
use std::path::Path;

use super::*;

const GOOD: &str = r#"{"bottles": {"dev": {
    "ssh": [{"Host": "a", "Hostname": "h", "IdentityFile": "keys/id"}, {"Host": "b", "Hostname": "h", "IdentityFile": "~/.ssh/id"}],
    "cred_proxy": {"routes": [{"path": "/a/", "upstream": "https://a", "auth": {"scheme": "bearer"},
        "token": {"file": "/abs/token"}, "ca_file": "../ca.pem"}]}
}}, "agents": {}}"#;

#[test]
fn paths_are_relative_to_the_manifest_and_the_tilde_is_the_home() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.json");
    fs::write(&path, GOOD).unwrap();
    let manifest = load(&path, Some(Path::new("/home/ada"))).unwrap();
    let bottle = &manifest.bottles["dev"];
    assert_eq!(bottle.ssh[0].identity_file, folder.path().join("keys/id"));
    assert_eq!(bottle.ssh[1].identity_file, Path::new("/home/ada/.ssh/id"));
    let route = &bottle.cred_proxy.routes[0];
    assert_eq!(route.token, TokenRef::File("/abs/token".into()));
    assert_eq!(route.ca_file.as_deref(), Some(folder.path().join("../ca.pem").as_path()));
    for home in [None, Some(Path::new("")), Some(Path::new("relative"))] {
        let error = load(&path, home).unwrap_err().to_string();
        assert!(
            error.ends_with(
                "bottles.dev.ssh[1].IdentityFile: `~` needs HOME, which is not set to an absolute path"
            ),
            "{error}"
        );
    }
}

#[test]
fn only_a_regular_file_of_text_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("big"), vec![b' '; 1024 * 1024 + 1]).unwrap();
    fs::write(at("latin"), b"{\n \"\xe4\"}").unwrap();
    fs::write(at("utf16"), b"\xff\xfe{\0}\0").unwrap();
    fs::write(at("bom"), format!("\u{feff}{GOOD}")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, at("fifo"), rustix::fs::Mode::RUSR).unwrap();
    std::os::unix::fs::symlink("bom", at("link")).unwrap();
    std::os::unix::fs::symlink("fifo", at("link-to-fifo")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
    for (name, expected) in [
        ("big", ": larger than 1 MiB"),
        ("latin", "latin:2:3: the text is not UTF-8"),
        ("utf16", "utf16:1:1: the text is UTF-16, not UTF-8"),
        ("fifo", ": expected a regular file, found a FIFO"),
        ("link-to-fifo", ": expected a regular file, found a FIFO"),
        ("socket", ": expected a regular file, found a socket"),
        ("/dev/null", ": expected a regular file, found a device"),
        ("/", ": expected a regular file, found a directory"),
        ("missing", "missing"),
    ] {
        let error = load(&at(name), None).unwrap_err();
        assert!(error.to_string().ends_with(expected), "{error}");
        assert_eq!(matches!(error, ManifestError::Read { .. }), name == "missing");
    }
    load(&at("link"), Some(Path::new("/home/ada"))).unwrap();
}

#[test]
fn a_manifest_that_is_set_but_unreadable_is_not_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path();
    assert!(matches!(find(None, Some(home)), Err(ManifestError::Absent(places)) if places.len() == 2));
    assert!(matches!(find(Some(Path::new("")), None), Err(ManifestError::Absent(_))));
    assert_eq!(find(Some(Path::new("x")), None).unwrap(), Path::new("x"));
    fs::create_dir(home.join("claude-bottle")).unwrap();
    let place = home.join("claude-bottle/claude-bottle.json");
    std::os::unix::fs::symlink("nowhere", &place).unwrap();
    assert_eq!(find(None, Some(home)).unwrap(), place);
}
