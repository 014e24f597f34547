//! From the arguments to an instance that is logged in to.

use std::sync::Arc;

use async_trait::async_trait;
use kiln_core::{BuildContext, Builder, Communicator, EntryId, Failure, Journal, Launched, Undo};
use kiln_ssh::options::Reach as Kind;
use kiln_ssh::{Endpoint, HostKeyPolicy, KeyPair, SshOptions};

use crate::AmazonSettings;
use crate::access::{Connections, without_keys};
use crate::accounts::Maker;
use crate::cloud::{Access, Cloud, CloudError, ErrorKind, Filter, ImageInfo, ImageQuery, InstanceInfo, Tags};
use crate::config::Config;
use crate::error::{failure, wrong};
use crate::group::Groups;
use crate::hostkey::InstanceJudge;
use crate::instance::Running;
use crate::keypair::{TemporaryKey, generate};
use crate::machine::{AmazonMachine, Owned};
use crate::marks::Marks;
use crate::pace::Pace;
use crate::profile::Profile;
use crate::reach::Unreached;
use crate::request::Surroundings;
use crate::session::Session;
use crate::source::{self, Texts};
use crate::spot::Template;
use crate::undo::Place;

/// A configured source.
pub(crate) struct AmazonBuilder {
    pub(crate) config: Arc<Config>,
    pub(crate) access: Access,
    pub(crate) ssh: SshOptions,
    pub(crate) settings: AmazonSettings,
    pub(crate) connections: Arc<Connections>,
}

/// One try to launch.
pub(crate) struct Attempt<'a> {
    pub(crate) builder: &'a AmazonBuilder,
    pub(crate) context: &'a BuildContext,
    pub(crate) cloud: Arc<dyn Cloud>,
    pub(crate) marks: Marks,
    pub(crate) maker: Maker,
    pub(crate) source: ImageInfo,
    own_tags: Tags,
}

#[async_trait]
impl Builder for AmazonBuilder {
    async fn launch(&self, context: &BuildContext) -> Result<Launched, Failure> {
        self.hide_secrets(context);
        let cloud = self.connections.cloud(&self.access, None).await?;
        let region = cloud.region().to_owned();
        let looked = context.unless_cancelled(self.look(context, &*cloud)).await??;
        let texts = Texts::new(context, &looked, &region);
        let own_tags = texts.tags("run_tags", &self.config.run_tags, &self.config.run_tag)?;
        let marks = Marks::new(context, self.config.kiln_tags.unwrap_or(true));
        let maker = Maker::new(cloud.caller().await);
        let attempt = Attempt { builder: self, context, cloud, marks, maker, source: looked, own_tags };
        // What a try that fails leaves stands in the journal, and is undone from there: by the engine, or as the user says.
        Ok(Launched::Machine(Box::new(attempt.launch().await?)))
    }
}

impl AmazonBuilder {
    fn hide_secrets(&self, context: &BuildContext) {
        let secrets = [&self.access.secret_key, &self.access.token, &self.access.mfa_code];
        secrets.into_iter().flatten().for_each(|secret| context.redactor.add(secret.expose()));
    }

    /// All that can go wrong before anything is made.
    async fn look(&self, context: &BuildContext, cloud: &dyn Cloud) -> Result<ImageInfo, Failure> {
        let region = cloud.region();
        context.events.message(format!("looking up the source AMI in {region}"));
        let (regions, name, image) =
            tokio::join!(self.check_regions(cloud), self.check_name(context, cloud), source::find(&self.config, cloud));
        let image = image?;
        name?;
        regions?;
        context.events.message(format!("starting from {} ({})", image.id, image.name));
        Ok(image)
    }

    async fn check_regions(&self, cloud: &dyn Cloud) -> Result<(), Failure> {
        let config = &self.config;
        if config.ami_regions.is_empty() || config.skip_region_validation {
            return Ok(());
        }
        let known = cloud.describe_regions().await.map_err(|error| {
            failure("look up the regions", error).hint("`skip_region_validation = true` leaves this out")
        })?;
        let unknown: Vec<&str> =
            config.ami_regions.iter().filter(|region| !known.contains(region)).map(String::as_str).collect();
        if unknown.is_empty() {
            return Ok(());
        }
        Err(wrong(format!("`ami_regions` names {}, which this account cannot use", unknown.join(", ")))
            .hint(format!("it can use {}", known.join(", "))))
    }

    /// A name that is taken is refused before anything costs money.
    async fn check_name(&self, context: &BuildContext, cloud: &dyn Cloud) -> Result<(), Failure> {
        if self.config.force_deregister || context.options.force || self.config.skip_create_ami {
            return Ok(());
        }
        let name = &self.config.ami_name;
        let query = ImageQuery {
            owners: vec!["self".to_owned()],
            filters: vec![Filter::new("name", name)],
            include_deprecated: true,
            ..ImageQuery::default()
        };
        match cloud.describe_images(&query).await {
            Ok(images) => match images.iter().find(|image| image.name == *name && image.state != "deregistered") {
                None => Ok(()),
                Some(image) => Err(wrong(format!("the name `{name}` is taken by {} already", image.id)).hint(
                    "put `{{timestamp}}` into `ami_name`, or set `force_deregister = true` (or `-force`) to deregister that AMI",
                )),
            },
            Err(error) if error.kind == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(failure(format!("find out whether the name `{name}` is free"), error)),
        }
    }
}

/// What was made beside the instance.
pub(crate) struct Beside {
    pub(crate) key: Option<TemporaryKey>,
    pub(crate) groups: Groups,
    pub(crate) profile: Profile,
    pub(crate) template: Option<Template>,
}

impl Beside {
    /// Notes in their entries which account they are in, once it is known.
    pub(crate) fn tell_account(&mut self, account: Option<&str>, journal: &dyn Journal) -> Result<(), Failure> {
        if let Some(TemporaryKey { entry, undo, .. }) = &mut self.key
            && undo.place.maker.is_told(account)
        {
            journal.amend(*entry, undo.entry())?;
        }
        if let Some((entry, undo)) = &mut self.groups.temporary
            && undo.place.maker.is_told(account)
        {
            journal.amend(*entry, undo.entry())?;
        }
        if let Some((entry, undo)) = &mut self.profile.temporary
            && undo.place.maker.is_told(account)
        {
            journal.amend(*entry, undo.entry())?;
        }
        if let Some(Template { entry, undo }) = &mut self.template
            && undo.place.maker.is_told(account)
        {
            journal.amend(*entry, undo.entry())?;
        }
        Ok(())
    }
}

impl Attempt<'_> {
    pub(crate) fn config(&self) -> &Config {
        &self.builder.config
    }

    pub(crate) fn pace(&self) -> Pace {
        self.builder.settings.pace.with(&self.config().aws_polling)
    }

    pub(crate) fn texts(&self) -> Texts<'_> {
        Texts::new(self.context, &self.source, self.cloud.region())
    }

    /// Tags of the template for what is made for the instance, and ours.
    pub(crate) fn run_tags(&self) -> Tags {
        self.marks.added_to(&self.own_tags)
    }

    pub(crate) fn place(&self) -> Place {
        Place {
            access: without_keys(&self.builder.access),
            region: self.cloud.region().to_owned(),
            maker: self.maker.clone(),
        }
    }

    pub(crate) fn record(&self, undo: Undo) -> Result<EntryId, Failure> {
        self.context.journal.record(&self.context.build, undo)
    }

    /// What the service refused was not made.
    pub(crate) fn strike_refused(&self, entry: EntryId, error: &CloudError) -> Result<(), Failure> {
        if error.is_refusal { self.context.journal.strike(entry) } else { Ok(()) }
    }

    /// Whether anybody logs in to it.
    pub(crate) fn is_reached(&self) -> bool {
        self.builder.ssh.reach == Kind::Ssh
    }

    /// Whether the way goes through Systems Manager.
    pub(crate) fn is_session(&self) -> bool {
        self.config().ssh_interface.as_deref() == Some("session_manager")
    }

    async fn launch(self) -> Result<AmazonMachine, Failure> {
        let network = self.context.unless_cancelled(self.network()).await??;
        // None is dropped halfway because another one failed: what it asks for would come although nobody waits for it.
        let (key, groups, profile) = tokio::join!(self.key_pair(), self.groups(network.vpc.clone()), self.profile());
        let (key, groups, profile) = (key?, groups?, profile?);
        self.check_cancelled()?;
        let around = Surroundings {
            network: &network,
            groups: &groups.ids,
            key_name: key.as_ref().map(|key| key.undo.name.clone()).or_else(|| self.builder.ssh.keypair_name.clone()),
            profile: profile.name.clone(),
        };
        let host_key = self.host_key().await?;
        let data = self.user_data(host_key.as_ref())?;
        let host_key = host_key.filter(|_| data.has_host_key);
        if let Some(why) = data.left_out.as_ref().filter(|_| self.wants_host_key()) {
            self.context.events.message(format!("the instance gets no host key from kiln: {why}"));
        }
        let request = self.run_request(&around, data.encoded)?;
        let template = if self.is_spot() { Some(self.launch_template(&request).await?) } else { None };
        let mut beside = Beside { key, groups, profile, template };
        let running = match &beside.template {
            Some(template) => self.spot_instance(template, &request).await?,
            None => self.instance(&request, &mut beside).await?,
        };
        beside.tell_account(running.info.owner.as_deref(), &*self.context.journal)?;
        let (communicator, session, host) = self.connect(&running.info, beside.key.as_ref(), host_key.as_ref()).await?;
        Ok(self.machine(running, beside, host_key, communicator, session, host))
    }

    fn check_cancelled(&self) -> Result<(), Failure> {
        if self.context.cancel.is_cancelled() { Err(Failure::cancelled()) } else { Ok(()) }
    }

    /// Whether kiln is to choose the host key: not where the template says which one there is.
    fn wants_host_key(&self) -> bool {
        let ssh = &self.builder.ssh;
        let is_told = !ssh.host_keys.is_empty() || ssh.known_hosts_file.is_some() || ssh.accepts_any_host_key;
        self.config().host_key_by_user_data.unwrap_or(true)
            && self.is_reached()
            && !is_told
            && self.source.platform.as_deref() != Some("windows")
    }

    async fn host_key(&self) -> Result<Option<KeyPair>, Failure> {
        if !self.wants_host_key() {
            return Ok(None);
        }
        let pair = generate(kiln_ssh::KeyKind::Ed25519, "kiln".to_owned()).await?;
        self.context.redactor.add(pair.private.expose());
        Ok(Some(pair))
    }

    async fn connect(
        &self,
        instance: &InstanceInfo,
        key: Option<&TemporaryKey>,
        host_key: Option<&KeyPair>,
    ) -> Result<(Box<dyn Communicator>, Option<Session>, String), Failure> {
        if !self.is_reached() {
            return Ok((Box::new(Unreached), None, address(instance, None).unwrap_or_default()));
        }
        let given = host_key.and_then(KeyPair::key);
        let judge = InstanceJudge::new(Arc::clone(&self.cloud), &instance.id, given);
        let mut endpoint = Endpoint {
            key: key.map(|key| key.pair.private.clone()),
            host_keys: Some(HostKeyPolicy::Judged(Arc::new(judge))),
            ..Endpoint::default()
        };
        let mut session = None;
        if self.is_session() {
            let opened = self.open_session(&instance.id).await?;
            endpoint.host = "127.0.0.1".to_owned();
            endpoint.port = Some(opened.port);
            session = Some(opened);
        } else {
            let ssh_host = self.builder.ssh.host.clone();
            let interface = self.config().ssh_interface.as_deref().filter(|interface| !interface.is_empty());
            endpoint.host = ssh_host.or_else(|| address(instance, interface)).ok_or_else(|| {
                let which = interface.map(|interface| format!(" for `ssh_interface = \"{interface}\"`")).unwrap_or_default();
                wrong(format!("instance {} has no address{which}", instance.id))
                    .hint("`associate_public_ip_address = true` gives it a public one; `ssh_interface = \"private_ip\"` uses the other")
            })?;
        }
        let host = endpoint.host.clone();
        let reached = self.builder.settings.reach.reach(&self.builder.ssh, endpoint, self.context).await;
        Ok((reached?, session, host))
    }

    fn machine(
        self,
        running: Running,
        beside: Beside,
        host_key: Option<KeyPair>,
        communicator: Box<dyn Communicator>,
        session: Option<Session>,
        host: String,
    ) -> AmazonMachine {
        let Attempt { builder, cloud, marks, mut maker, source, own_tags, .. } = self;
        maker.is_told(running.info.owner.as_deref());
        let pace = builder.settings.pace.with(&builder.config.aws_polling);
        AmazonMachine {
            config: Arc::clone(&builder.config),
            access: builder.access.clone(),
            ssh: builder.ssh.clone(),
            connections: Arc::clone(&builder.connections),
            cloud,
            marks,
            maker,
            source,
            run_tags: own_tags,
            pace,
            host,
            host_key,
            communicator,
            owned: Owned::new(running, beside, session),
        }
    }
}

/// The address that an interface means; without one the public one, else the private one.
fn address(instance: &InstanceInfo, interface: Option<&str>) -> Option<String> {
    let chosen = match interface {
        Some("public_ip") => &instance.public_ip,
        Some("private_ip") => &instance.private_ip,
        Some("public_dns") => &instance.public_dns,
        Some("private_dns") => &instance.private_dns,
        Some("ipv6") => &instance.ipv6,
        _ => {
            return [&instance.public_ip, &instance.private_ip, &instance.public_dns]
                .into_iter()
                .flatten()
                .find(|text| !text.is_empty())
                .cloned();
        }
    };
    chosen.clone().filter(|text| !text.is_empty())
}
