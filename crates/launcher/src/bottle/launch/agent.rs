//! The agent's container: created idle, prepared before it starts, sealed and given its keys after.

use std::collections::BTreeMap;

use super::{LaunchError, Networks, Walk};
use crate::bottle::provision::{self, GUEST, PUBLIC_SOCKET, User};
use crate::engine::{ContainerId, ContainerSpec, Endpoint, Engine, EngineError, NetworkMode};

/// An agent's container that waits for its command.
pub(super) struct Prepared {
    pub agent: ContainerId,
    /// The path of the prompt's file in there.
    pub prompt: String,
    /// What the user should know.
    pub warnings: Vec<String>,
}

impl<E: Engine> Walk<'_, E> {
    /// Creates the agent's container.
    pub(super) async fn agent_container(
        &self,
        networks: &Networks,
        image: &str,
    ) -> Result<ContainerId, LaunchError> {
        Ok(self.engine.create_container(&self.agent_spec(networks, image)).await?)
    }

    /// Prepares the created container, starts it, and prepares what must run for that.
    pub(super) async fn agent(&self, id: ContainerId, guest: &str) -> Result<Prepared, LaunchError> {
        let passwd = self.engine.read_file(&id, "/etc/passwd").await?.unwrap_or_default();
        let agent = &self.plan.agent_container;
        let user = User::find(&String::from_utf8_lossy(&passwd), &agent.user, agent.home.as_deref())?;
        if user.uid == 0 && !self.plan.ssh.is_empty() {
            return Err(provision::ProvisionError::Root(agent.user.clone()).into());
        }
        let files = provision::files(self.plan, &user)?;
        self.engine.put(&id, files).await?;
        self.go_on()?;
        self.start(&id, false).await?;
        let (sealed, warnings) =
            tokio::join!(self.seal(&id, guest), provision::ssh(self.engine, &id, self.plan, self.secrets));
        sealed?;
        Ok(Prepared { agent: id, prompt: provision::prompt_path(&user.home), warnings: warnings? })
    }

    fn agent_spec(&self, networks: &Networks, image: &str) -> ContainerSpec {
        let agent = &self.plan.agent_container;
        let mut env = self.secrets.env.clone();
        if !self.plan.ssh.is_empty() {
            env.insert("SSH_AUTH_SOCK".to_owned(), PUBLIC_SOCKET.to_owned());
        }
        let (memory, nano_cpus, pids) = agent.limits;
        let endpoint = Endpoint { address: Some(networks.addresses.role("agent")), ..Endpoint::default() };
        ContainerSpec {
            name: agent.name.clone(),
            image: image.to_owned(),
            // The guest idles as PID 1 and reaps what the agent leaves behind.
            entrypoint: vec![GUEST.to_owned()],
            command: vec!["idle".to_owned()],
            env,
            user: Some(agent.user.clone()),
            labels: self.labels.role("agent"),
            network: NetworkMode::Network(networks.internal.clone(), endpoint),
            dns: agent.dns.clone(),
            dns_options: vec!["timeout:1".to_owned(), "attempts:1".to_owned()],
            extra_hosts: BTreeMap::new(),
            read_only: false,
            cap_add: Vec::new(),
            sysctls: BTreeMap::new(),
            pids: Some(pids),
            memory,
            nano_cpus,
            runtime: Some(self.plan.runtime.clone()),
            stdin: false,
            bounded_logs: true,
        }
    }

    /// Deletes the default routes of the agent's network namespace, by a container of the guest's
    /// image that lives for a moment with the one capability that this needs.
    async fn seal(&self, agent: &ContainerId, guest: &str) -> Result<(), LaunchError> {
        let spec = ContainerSpec {
            name: self.plan.names.sidecar("seal"),
            image: guest.to_owned(),
            entrypoint: Vec::new(),
            command: vec!["seal".to_owned()],
            env: BTreeMap::new(),
            // Another user gets no effective capability (run).
            user: Some("0:0".to_owned()),
            labels: self.labels.role("guest"),
            network: NetworkMode::Container(agent.clone()),
            dns: Vec::new(),
            dns_options: Vec::new(),
            extra_hosts: BTreeMap::new(),
            read_only: true,
            cap_add: vec!["NET_ADMIN".to_owned()],
            sysctls: BTreeMap::new(),
            pids: Some(16),
            memory: Some(32 << 20),
            nano_cpus: None,
            runtime: None,
            stdin: false,
            bounded_logs: true,
        };
        let id = self.engine.create_container(&spec).await?;
        self.engine.start(&id).await?;
        let code = self.engine.wait(&id, std::time::Duration::from_secs(20)).await?;
        if code != 0 {
            let said = self.engine.logs(&id, 5).await.unwrap_or_default();
            let message = format!("the seal ended with {code}: {}", said.trim());
            return Err(EngineError::Refused {
                act: "seal the agent's network".to_owned(),
                status: 500,
                message,
            }
            .into());
        }
        Ok(self.engine.remove_container(&id).await?)
    }
}
