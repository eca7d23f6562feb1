//! The agent's container: created idle, prepared before it starts, sealed and given its keys after.

use std::time::Duration;

use super::steps::step;
use super::{Launch, LaunchError};
use crate::bottle::provision::{self, ProvisionError, User};
use crate::engine::{ContainerId, Engine, EngineError, ObjectKind};
use crate::plan::Site;

/// An agent's container that waits for its command.
pub(super) struct Prepared {
    pub agent: ContainerId,
    /// The path of the prompt's file in the container.
    pub prompt: String,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// The seal takes a tenth of a second.
const SEAL: Duration = Duration::from_secs(20);

impl<E: Engine> Launch<'_, E> {
    /// Creates the agent's container.
    pub(super) async fn agent_container(&self, site: &Site, image: &str) -> Result<ContainerId, LaunchError> {
        let created = self.create(&self.specs.agent(image, site, &self.means.secrets.env)).await;
        created.map_err(|error| match error {
            LaunchError::Engine(error) if error.missing() == Some(ObjectKind::Image) => {
                LaunchError::NoImage(self.plan.image.name.clone())
            }
            error => error,
        })
    }

    /// Prepares the created container, starts it, and prepares what must run for that.
    pub(super) async fn agent(
        &self,
        created: ContainerId,
        site: &Site,
        image: &str,
        guest: &str,
    ) -> Result<Prepared, LaunchError> {
        let plan = self.plan;
        // Used once: a container that others removed is created anew.
        let created = std::cell::RefCell::new(Some(created));
        let start = self.until_it_runs(async || {
            let first = created.borrow_mut().take();
            let id = match first {
                Some(id) => id,
                None => self.agent_container(site, image).await?,
            };
            let passwd = self.engine.read_file(&id, "/etc/passwd").await?.unwrap_or_default();
            let agent = &plan.agent_container;
            let user = User::find(&String::from_utf8_lossy(&passwd), &agent.user, agent.home.as_deref())?;
            if user.uid == 0 && !plan.ssh.is_empty() {
                return Err(ProvisionError::Root(agent.user.clone()).into());
            }
            let files = provision::files(plan, &user, self.means.secrets)?;
            self.engine.put(&id, files).await?;
            self.go_on()?;
            self.start(&id, false).await?;
            Ok((id, user))
        });
        let (id, user) = step(self.means.watch, "start agent", start).await?;
        let seal = step(self.means.watch, "seal", self.seal(&id, guest));
        let ssh = async {
            if plan.ssh.is_empty() {
                return Ok(Vec::new());
            }
            step(self.means.watch, "keys", provision::ssh(self.engine, &id, plan, self.means.secrets)).await
        };
        let (sealed, warnings) = tokio::join!(seal, ssh);
        sealed?;
        let mut warnings = warnings?;
        if plan.runtime != "runc" {
            let read_back = provision::is_sealed(self.engine, &id);
            warnings.extend(step(self.means.watch, "read back", read_back).await?);
        }
        Ok(Prepared { agent: id, prompt: provision::prompt_path(&user.home), warnings })
    }

    /// Deletes the default routes of the agent's network namespace, by a container of the guest's
    /// image that lives for a moment with the one capability that this needs.
    async fn seal(&self, agent: &ContainerId, guest: &str) -> Result<(), LaunchError> {
        let spec = self.specs.seal(guest, agent);
        let (id, code) = self
            .until_it_runs(async || {
                let id = self.create(&spec).await?;
                self.engine.start(&id).await?;
                let code = self.engine.wait(&id, SEAL).await?;
                Ok((id, code))
            })
            .await?;
        if code != 0 {
            let said = self.engine.logs(&id, 5).await.unwrap_or_default();
            return Err(LaunchError::Seal { said: format!("{} (exit {code})", said.trim()) });
        }
        match self.engine.remove_container(&id).await {
            Err(EngineError::NotFound { .. }) | Ok(()) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
