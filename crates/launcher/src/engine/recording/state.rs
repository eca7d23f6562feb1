//! What the recording keeps. The rules are in the files beside it, one for each kind of object.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use super::archive::PutFile;
use super::objects::{ContainerObject, ExecObject, NetworkObject, Owner};
use super::run::{Answer, Run};
use crate::digest::sha256;
use crate::engine::{ContainerSpec, EngineInfo, Image, NetworkSpec, Product};

/// Everything the engine has, and everything it was asked.
pub(super) struct State {
    pub(super) info: EngineInfo,
    pub(super) calls: Vec<String>,
    pub(super) runs: Vec<Run>,
    pub(super) created: Vec<ContainerSpec>,
    pub(super) created_networks: Vec<NetworkSpec>,
    pub(super) stdin: BTreeMap<String, Vec<u8>>,
    pub(super) put: BTreeMap<String, Vec<PutFile>>,
    pub(super) files: BTreeMap<String, Bytes>,
    pub(super) unready: BTreeMap<String, Option<Answer>>,
    pub(super) deaf: BTreeSet<String>,
    pub(super) answer: Arc<dyn Fn(&Run) -> Answer + Send + Sync>,
    pub(super) containers: Vec<ContainerObject>,
    pub(super) execs: Vec<ExecObject>,
    pub(super) images: Vec<(Image, BTreeSet<String>)>,
    pub(super) networks: Vec<NetworkObject>,
    pub(super) network_warning: Option<String>,
    last_id: u64,
}

impl Default for State {
    fn default() -> State {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nnode:x:1000:1000::/home/node:/bin/sh\n";
        State {
            info: EngineInfo {
                product: Product::Docker,
                version: "20.10.24".into(),
                api: "1.41".into(),
                arch: "x86_64".into(),
                runtimes: vec!["runc".into()],
                local: false,
            },
            files: BTreeMap::from([("/etc/passwd".to_owned(), Bytes::from_static(passwd.as_bytes()))]),
            answer: Arc::new(|_| Answer::default()),
            calls: Vec::new(),
            runs: Vec::new(),
            created: Vec::new(),
            created_networks: Vec::new(),
            stdin: BTreeMap::new(),
            put: BTreeMap::new(),
            unready: BTreeMap::new(),
            deaf: BTreeSet::new(),
            containers: Vec::new(),
            execs: Vec::new(),
            images: Vec::new(),
            networks: Vec::new(),
            network_warning: None,
            last_id: 0,
        }
    }
}

impl State {
    pub(super) fn leftovers(&self) -> Vec<String> {
        let networks = self.networks.iter().filter(|object| object.owner == Owner::Caller);
        let containers = self.containers.iter().map(|container| container.spec.name.clone());
        containers.chain(networks.map(|object| object.network.name.clone())).collect()
    }

    /// 64 hexadecimal digits, as engines give them.
    pub(super) fn new_id(&mut self) -> String {
        self.last_id += 1;
        sha256(&self.last_id.to_be_bytes())
    }
}

/// Whether labels include `wanted`, given as `key` or `key=value`.
pub(super) fn labelled(labels: &BTreeMap<String, String>, wanted: Option<&str>) -> bool {
    match wanted.map(|label| label.split_once('=').map_or((label, None), |(key, value)| (key, Some(value)))) {
        None => true,
        Some((key, value)) => labels.get(key).is_some_and(|found| value.is_none_or(|value| value == found)),
    }
}
