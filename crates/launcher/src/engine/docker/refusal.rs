//! What a refusal of the engine means.
//!
//! The status alone does not say which object is missing: starting a container answers 404 for a
//! container, a network, and the container whose network namespace it joins. podman even answers
//! 500. So the messages of Docker 20.10 to 29 and podman 5 are read.

use serde::Deserialize;

use crate::engine::{EngineError, ObjectKind};

/// A response whose status is not success.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) message: String,
}

impl Refusal {
    /// Reads the body of the response: JSON, or plain text before an upgrade.
    pub(super) fn read(status: u16, body: &[u8]) -> Refusal {
        #[derive(Deserialize)]
        struct Answer {
            message: String,
        }
        let message = serde_json::from_slice::<Answer>(body)
            .map_or_else(|_| String::from_utf8_lossy(body).trim().to_owned(), |answer| answer.message);
        Refusal { status, message }
    }

    /// The error for a request about an object of the kind `about`, if it is about one.
    pub(super) fn meaning(self, act: &str, about: Option<ObjectKind>) -> EngineError {
        let Refusal { status, message } = self;
        let act = act.to_owned();
        let kind = match status {
            404 => missing(&message).or(about),
            // podman, when it creates a container on a missing network, image or container.
            500 if PODMAN_MISSING.iter().any(|end| message.ends_with(end)) => missing(&message),
            _ => None,
        };
        match kind {
            Some(kind) => EngineError::NotFound { act, kind, message },
            None => EngineError::Refused { act, status, message },
        }
    }
}

/// The kind of object that a message names as missing.
fn missing(message: &str) -> Option<ObjectKind> {
    let message = message.to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| message.contains(word));
    if has(&["no such container", "no such exec"]) {
        Some(ObjectKind::Container)
    } else if has(&["no such image", "image not known"]) {
        Some(ObjectKind::Image)
    } else if message.contains("network ") && message.ends_with(" not found") {
        Some(ObjectKind::Network)
    } else {
        None
    }
}

/// Whether a refusal to create a network says that its name is taken.
pub(super) fn network_name_taken(status: u16, message: &str) -> bool {
    status == 409 && message.contains("already exists")
}

/// Whether a refusal to create a container says that its name is taken. podman answers 500.
pub(super) fn container_name_taken(status: u16, message: &str) -> bool {
    (status == 409 && message.contains("already in use")) || message.ends_with("that name is already in use")
}

/// Whether a refusal to create the network `name` says that its subnet overlaps another.
pub(super) fn subnet_taken(name: &str, message: &str) -> bool {
    // The name is the user's and may contain any of the words.
    let message = message.replace(name, "");
    ["overlap", "is already used on the host", "conflicts with existing route"]
        .iter()
        .any(|words| message.contains(words))
}

const PODMAN_MISSING: &[&str] = &[": no such container", ": network not found", ": image not known"];

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "1234567890123456789012345678901234567890123456789012345678901234";

    /// Status, the kind of object that was requested, the message (`ID` for an id), and the kind
    /// that is missing.
    const MISSING: &[(u16, Option<ObjectKind>, &str, Option<ObjectKind>)] = {
        use ObjectKind::{Container, Image, Network};
        &[
            // Docker 20.10.24 and 26.1.5, read from them.
            (404, Some(Container), "No such container: ID", Some(Container)),
            (404, Some(Container), "network ID not found", Some(Network)),
            (404, Some(Container), "network claude-bottle-int-dev not found", Some(Network)),
            (404, Some(Container), "No such image: sha256:ID", Some(Image)),
            (
                404,
                Some(Image),
                "no such image: localhost/none:x: No such image: localhost/none:x",
                Some(Image),
            ),
            (404, Some(Network), "No such container: ID", Some(Container)),
            (404, Some(Network), "network ID not found", Some(Network)),
            (404, Some(Container), "No such exec instance: ID", Some(Container)),
            (404, None, "page not found", None),
            (403, Some(Network), "error while removing network: network n id ID has active endpoints", None),
            (409, Some(Container), "cannot join network of a non running container: ID", None),
            (409, Some(Container), "Container ID is not running", None),
            // Docker 28.
            (
                404,
                Some(Container),
                "failed to set up container networking: network ID not found",
                Some(Network),
            ),
            (
                404,
                Some(Container),
                "joining network namespace of container: No such container: ID",
                Some(Container),
            ),
            // podman 5.4.2, read from it.
            (
                404,
                Some(Container),
                "no container with name or ID \"ID\" found: no such container",
                Some(Container),
            ),
            (404, Some(Container), "no such container", Some(Container)),
            (
                404,
                Some(Network),
                "unable to find network with name or ID ID: network not found",
                Some(Network),
            ),
            (404, Some(Network), "network not found", Some(Network)),
            (
                500,
                Some(Container),
                "container create: unable to find network with name or ID ID: network not found",
                Some(Network),
            ),
            (
                500,
                Some(Container),
                "container create: looking up container to share net namespace with: no container with name or ID \"ID\" found: no such container",
                Some(Container),
            ),
            (
                404,
                Some(Container),
                "no such image: docker.io/library/sha256:ID: image not known",
                Some(Image),
            ),
            (404, Some(Container), "no exec session with ID ID found: no such exec session", Some(Container)),
            (404, None, "Not Found", None),
            (500, Some(Container), "crun: no such container runtime", None),
            // Neither names a kind: what was requested is missing.
            (404, Some(Network), "gone", Some(Network)),
        ]
    };

    #[test]
    fn the_message_says_which_kind_of_object_is_missing() {
        for (status, about, text, expected) in MISSING {
            let message = text.replace("ID", ID);
            let error = Refusal { status: *status, message: message.clone() }.meaning("do it", *about);
            match (error, expected) {
                (EngineError::NotFound { kind, message: kept, .. }, Some(expected)) => {
                    assert_eq!((kind, kept), (*expected, message), "{text}");
                }
                (EngineError::Refused { status: kept, .. }, None) => assert_eq!(kept, *status, "{text}"),
                (error, _) => panic!("{text}: {error:?}"),
            }
        }
    }

    #[test]
    fn taken_names_and_subnets_are_distinguished() {
        let docker = "network with name claude-bottle-int-dev already exists";
        let podman = "network name claude-bottle-int-dev already used: network already exists";
        assert!(network_name_taken(409, docker) && network_name_taken(409, podman));
        let docker = "Conflict. The container name \"/x\" is already in use by container \"y\". You have to remove (or rename) that container to be able to reuse that name.";
        let podman = "container create: creating container storage: the container name \"x\" is already in use by y. You have to remove that container to be able to reuse that name: that name is already in use";
        assert!(container_name_taken(409, docker) && container_name_taken(500, podman));
        assert!(!container_name_taken(403, "Address already in use"));
        for text in [
            "Pool overlaps with other one on this address space",
            "invalid pool request: Pool overlaps with other one on this address space",
            "cannot create network a (br-a): conflicts with network b (br-b): networks have overlapping IPv4",
            "subnet 10.213.77.0/28 is already used on the host or by another config",
        ] {
            assert!(subnet_taken("claude-bottle-int-dev", text), "{text}");
        }
        assert!(!subnet_taken("overlap", "network with name overlap has an invalid option"));
    }

    #[test]
    fn the_message_is_read_from_json_and_from_plain_text() {
        assert_eq!(Refusal::read(404, br#"{"message":"a","response":404}"#).message, "a");
        assert_eq!(Refusal::read(404, b"No such container: x\r\n").message, "No such container: x");
    }
}
