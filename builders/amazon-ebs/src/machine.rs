//! The instance that runs: facts, and its end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use kiln_core::{Artifact, BuildContext, Communicator, EntryId, Failure, Machine, Secret};
use kiln_ssh::options::KeySource;
use kiln_ssh::{KeyPair, SshOptions};
use tokio::sync::Mutex;

use crate::access::Connections;
use crate::accounts::Maker;
use crate::cloud::{Access, Cloud, ErrorKind, ImageInfo, InstanceInfo, Tags};
use crate::config::Config;
use crate::error::failure;
use crate::instance::Running;
use crate::keypair::TemporaryKey;
use crate::launch::Beside;
use crate::marks::Marks;
use crate::pace::Pace;
use crate::remove;
use crate::session::Session;
use crate::source;
use crate::undo::{GroupUndo, Place, ProfileUndo, TemplateUndo};

/// The machine.
pub(crate) struct AmazonMachine {
    pub(crate) config: Arc<Config>,
    pub(crate) access: Access,
    pub(crate) ssh: SshOptions,
    pub(crate) connections: Arc<Connections>,
    pub(crate) cloud: Arc<dyn Cloud>,
    pub(crate) marks: Marks,
    pub(crate) maker: Maker,
    pub(crate) source: ImageInfo,
    /// `run_tags`, without ours.
    pub(crate) run_tags: Tags,
    pub(crate) pace: Pace,
    /// By which it is reached.
    pub(crate) host: String,
    /// The key that kiln gave it.
    pub(crate) host_key: Option<KeyPair>,
    pub(crate) communicator: Box<dyn Communicator>,
    pub(crate) owned: Owned,
}

/// What goes when the machine does.
pub(crate) struct Owned {
    pub(crate) id: String,
    pub(crate) is_spot: bool,
    key: Option<(String, Secret, String)>,
    /// Set once there is an image, which is what volumes of the template's may outlive.
    pub(crate) is_sealed: AtomicBool,
    rest: Mutex<Rest>,
}

/// What is still there of it.
struct Rest {
    instance: Option<(InstanceInfo, EntryId)>,
    key: Option<(String, EntryId)>,
    group: Option<(EntryId, GroupUndo)>,
    profile: Option<(EntryId, ProfileUndo)>,
    template: Option<(EntryId, TemplateUndo)>,
    session: Option<Session>,
}

impl Owned {
    pub(crate) fn new(running: Running, beside: Beside, session: Option<Session>) -> Owned {
        let Running { info, entry } = running;
        let Beside { key, groups, profile, template } = beside;
        let pair = key
            .as_ref()
            .map(|TemporaryKey { undo, pair, .. }| (undo.name.clone(), pair.private.clone(), pair.public.clone()));
        Owned {
            id: info.id.clone(),
            is_spot: template.is_some(),
            key: pair,
            is_sealed: AtomicBool::new(false),
            rest: Mutex::new(Rest {
                instance: Some((info, entry)),
                key: key.map(|key| (key.undo.name, key.entry)),
                group: groups.temporary,
                profile: profile.temporary,
                template: template.map(|template| (template.entry, template.undo)),
                session,
            }),
        }
    }

    /// What is known of the instance, newer than before.
    pub(crate) async fn update(&self, info: InstanceInfo) {
        if let Some((known, _)) = &mut self.rest.lock().await.instance {
            *known = info;
        }
    }

    /// The instance as it was seen last.
    pub(crate) async fn instance(&self) -> Option<InstanceInfo> {
        self.rest.lock().await.instance.as_ref().map(|(info, _)| info.clone())
    }
}

impl AmazonMachine {
    pub(crate) fn place(&self) -> Place {
        Place {
            access: crate::access::without_keys(&self.access),
            region: self.cloud.region().to_owned(),
            maker: self.maker.clone(),
        }
    }

    /// Volumes that the template wants to outlive the instance, once the build has come to something.
    fn kept_volumes(&self, info: &InstanceInfo) -> Vec<String> {
        if !self.owned.is_sealed.load(Ordering::Acquire) {
            return Vec::new();
        }
        let stays = |name: &str| {
            let mut devices = self.config.launch_block_device_mappings.iter();
            devices.any(|device| device.device_name == name && !device.delete_on_termination && !device.no_device)
        };
        let volumes = info.volumes.iter().filter(|(device, _)| stays(device)).map(|(_, volume)| volume.clone());
        volumes.filter(|volume| info.staying_volumes.contains(volume)).collect()
    }

    async fn end_instance(
        &self,
        rest: &mut Option<(InstanceInfo, EntryId)>,
        context: &BuildContext,
    ) -> Result<(), Failure> {
        let Some((info, entry)) = rest.as_ref() else { return Ok(()) };
        let keeps = self.kept_volumes(info);
        let tell = |what: &str| context.events.message(format!("{what} instance {}", info.id));
        remove::end_instance(&*self.cloud, info, &keeps, self.pace, &tell).await?;
        for volume in keeps {
            context.events.message(format!("volume {volume} stays: its `delete_on_termination` is not set"));
        }
        context.journal.strike(*entry)?;
        *rest = None;
        Ok(())
    }

    async fn delete_key(&self, rest: &mut Option<(String, EntryId)>, context: &BuildContext) -> Result<(), Failure> {
        let Some((name, entry)) = rest.as_ref() else { return Ok(()) };
        match self.cloud.delete_key_pair(name).await {
            Err(error) if error.kind != ErrorKind::NotFound => {
                return Err(failure(format!("delete the key pair {name}"), error));
            }
            _ => {}
        }
        context.journal.strike(*entry)?;
        *rest = None;
        Ok(())
    }

    async fn delete_template(
        &self,
        rest: &mut Option<(EntryId, TemplateUndo)>,
        context: &BuildContext,
    ) -> Result<(), Failure> {
        let Some((entry, undo)) = rest.as_ref() else { return Ok(()) };
        remove::launch_template(&*self.cloud, undo).await?;
        context.journal.strike(*entry)?;
        *rest = None;
        Ok(())
    }

    async fn delete_group(
        &self,
        rest: &mut Option<(EntryId, GroupUndo)>,
        context: &BuildContext,
    ) -> Result<(), Failure> {
        let Some((entry, undo)) = rest.as_ref() else { return Ok(()) };
        remove::group(&*self.cloud, undo, self.pace).await?;
        context.journal.strike(*entry)?;
        *rest = None;
        Ok(())
    }

    async fn delete_profile(
        &self,
        rest: &mut Option<(EntryId, ProfileUndo)>,
        context: &BuildContext,
    ) -> Result<(), Failure> {
        let Some((entry, undo)) = rest.as_ref() else { return Ok(()) };
        remove::profile(&*self.cloud, undo, self.pace).await?;
        context.journal.strike(*entry)?;
        *rest = None;
        Ok(())
    }
}

#[async_trait]
impl Machine for AmazonMachine {
    fn facts(&self) -> BTreeMap<String, String> {
        let (private, public) = match (&self.owned.key, &self.ssh.login.key) {
            (Some((_, private, public)), _) => (private.expose().to_owned(), public.clone()),
            (None, Some(KeySource::Text(text))) => (text.expose().to_owned(), String::new()),
            _ => Default::default(),
        };
        let password = self.ssh.login.password.as_ref().map(|password| password.expose().to_owned());
        let common = [
            ("ID", self.owned.id.clone()),
            ("Host", self.host.clone()),
            ("Port", self.ssh.port().to_string()),
            ("User", self.ssh.user.clone().unwrap_or_default()),
            ("Password", password.unwrap_or_default()),
            ("ConnType", "ssh".to_owned()),
            ("SSHPrivateKey", private),
            ("SSHPublicKey", public),
        ];
        let source = source::facts(&self.source, self.cloud.region());
        common.into_iter().chain(source).map(|(name, value)| (name.to_owned(), value)).collect()
    }

    fn communicator(&self) -> &dyn Communicator {
        &*self.communicator
    }

    async fn seal(&self, context: &BuildContext) -> Result<Artifact, Failure> {
        let artifact = self.make_image(context).await?;
        self.owned.is_sealed.store(true, Ordering::Release);
        Ok(artifact)
    }

    async fn destroy(&self, context: &BuildContext) -> Result<(), Failure> {
        let mut rest = self.owned.rest.lock().await;
        let Rest { instance, key, group, profile, template, session } = &mut *rest;
        if let Some(session) = session.take() {
            session.close().await;
        }
        // The key and the template are needed by nothing that runs; the group and the profile are held by the instance.
        let (ended, key, template) = tokio::join!(
            self.end_instance(instance, context),
            self.delete_key(key, context),
            self.delete_template(template, context)
        );
        let mut results = vec![ended, key, template];
        if results[0].is_ok() {
            let (group, profile) =
                tokio::join!(self.delete_group(group, context), self.delete_profile(profile, context));
            results.extend([group, profile]);
        }
        results.into_iter().collect()
    }

    fn removal_limit(&self) -> std::time::Duration {
        remove::LIMIT
    }

    fn enter_hint(&self) -> Option<String> {
        let user = self.ssh.user.as_deref().unwrap_or("USER");
        self.owned.key.is_none().then(|| format!("ssh {user}@{}", self.host))
    }
}
