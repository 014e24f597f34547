//! Spot instances: a launch template, and an instant fleet of one instance from it.

use kiln_core::{EntryId, Failure};

use crate::check::run::is_spot;
use crate::cloud::{
    CloudError, ErrorKind, Filter, FleetInfo, FleetRequest, InstanceInfo, LaunchTemplateRequest, RunRequest,
    SpotOptions, TagSpec,
};
use crate::error::{failure, wrong};
use crate::instance::Running;
use crate::launch::Attempt;
use crate::pace::{SETTLING, again_while};
use crate::undo::{InstanceUndo, TemplateUndo, now};

/// A launch template with its entry.
pub(crate) struct Template {
    pub(crate) entry: EntryId,
    pub(crate) undo: TemplateUndo,
}

fn is_too_new(error: &CloudError) -> bool {
    error.code.starts_with("InvalidLaunchTemplate") && error.code.contains("NotFound")
}

impl Attempt<'_> {
    /// Whether a spot instance is asked for.
    pub(crate) fn is_spot(&self) -> bool {
        is_spot(self.config().spot_price.as_deref()) || !self.config().spot_instance_types.is_empty()
    }

    fn max_price(&self) -> Option<String> {
        self.config().spot_price.clone().filter(|price| is_spot(Some(price)) && price != "auto")
    }

    /// Makes the launch template.
    pub(crate) async fn launch_template(&self, request: &RunRequest) -> Result<Template, Failure> {
        let name = self.marks.name();
        let mut undo = TemplateUndo { place: self.place(), name: name.clone(), id: None };
        let entry = self.record(undo.entry())?;
        let minutes = self.config().block_duration_minutes.and_then(|minutes| i32::try_from(minutes).ok());
        let template = LaunchTemplateRequest {
            name: name.clone(),
            client_token: self.marks.token("template"),
            run: request.clone(),
            spot: Some(SpotOptions { max_price: self.max_price(), block_duration_minutes: minutes }),
            tags: self.run_tags(),
        };
        self.context.events.message(format!("making the launch template {name}"));
        let id = match self.cloud.create_launch_template(&template).await {
            Ok(id) => id,
            Err(error) if matches!(error.kind, ErrorKind::Duplicate | ErrorKind::Lost) => {
                let found = self.cloud.describe_launch_templates(std::slice::from_ref(&name)).await.unwrap_or_default();
                let first = found.into_iter().next().map(|template| template.id);
                first.ok_or_else(|| failure(format!("make the launch template {name}"), error))?
            }
            Err(error) => {
                self.strike_refused(entry, &error)?;
                return Err(failure(format!("make the launch template {name}"), error));
            }
        };
        undo.id = Some(id);
        self.context.journal.amend(entry, undo.entry())?;
        Ok(Template { entry, undo })
    }

    /// Runs a spot instance from the template, and waits until it runs.
    pub(crate) async fn spot_instance(&self, template: &Template, request: &RunRequest) -> Result<Running, Failure> {
        let mut undo = InstanceUndo { place: self.place(), filters: self.spot_filters(request), at: now(), id: None };
        let entry = self.record(undo.entry())?;
        let fleet = self.fleet_request(template, request)?;
        self.context
            .events
            .message(format!("asking for a spot instance of type {}", fleet.instance_types.join(" or ")));
        // Not stopped halfway: EC2 would go on and launch an instance that nobody knows of.
        let may_repeat = |error: &CloudError| is_too_new(error) && !self.context.cancel.is_cancelled();
        let create = again_while(self.pace(), SETTLING, may_repeat, || self.cloud.create_fleet(&fleet));
        let id = match create.await {
            Ok(info) => match info.instances.first() {
                Some(id) => id.clone(),
                None => return Err(no_capacity(&info)),
            },
            Err(error) if error.kind == ErrorKind::Lost => self.lost_spot(&undo, error).await?,
            Err(error) => {
                self.strike_refused(entry, &error)?;
                return Err(failure("ask for a spot instance", error));
            }
        };
        undo.id = Some(id.clone());
        self.context.journal.amend(entry, undo.entry())?;
        let info = self.wait_until_running(&id).await?;
        if undo.place.maker.is_told(info.owner.as_deref()) {
            self.context.journal.amend(entry, undo.entry())?;
        }
        Ok(Running { info, entry })
    }

    /// By what the instance is found before its id is known: a fleet hands no client token on to it.
    fn spot_filters(&self, request: &RunRequest) -> Vec<(String, String)> {
        let tags = self.marks.tags();
        match &request.key_name {
            _ if !tags.is_empty() => tags.into_iter().map(|(key, value)| (format!("tag:{key}"), value)).collect(),
            Some(key) if self.builder.ssh.keypair_name.is_none() => vec![("key-name".to_owned(), key.clone())],
            _ => Vec::new(),
        }
    }

    fn fleet_request(&self, template: &Template, request: &RunRequest) -> Result<FleetRequest, Failure> {
        let config = self.config();
        let types = if config.spot_instance_types.is_empty() {
            request.instance_type.iter().cloned().collect()
        } else {
            config.spot_instance_types.clone()
        };
        let spot = self.texts().tags("spot_tags", &config.spot_tags, &config.spot_tag)?;
        let fleet = self.texts().tags("fleet_tags", &config.fleet_tags, &config.fleet_tag)?;
        let mut tags = request.tags.clone();
        tags.retain(|spec| spec.resource == "instance");
        tags.push(TagSpec { resource: "fleet".to_owned(), tags: self.marks.added_to(&fleet) });
        tags.push(TagSpec { resource: "spot-instances-request".to_owned(), tags: spot });
        tags.retain(|spec| !spec.tags.is_empty());
        Ok(FleetRequest {
            client_token: self.marks.token("fleet"),
            launch_template: template.undo.id.clone().unwrap_or_default(),
            instance_types: types,
            subnet: request.subnet.clone(),
            availability_zone: request.placement.availability_zone.clone(),
            max_price: self.max_price(),
            allocation_strategy: config.spot_allocation_strategy.clone().filter(|strategy| !strategy.is_empty()),
            tags,
        })
    }

    async fn lost_spot(&self, undo: &InstanceUndo, error: CloudError) -> Result<String, Failure> {
        let filters: Vec<Filter> = undo.filters();
        let found = if filters.is_empty() {
            Vec::new()
        } else {
            self.cloud.describe_instances(&[], &filters).await.unwrap_or_default()
        };
        let is_alive = |info: &InstanceInfo| !matches!(info.state.as_str(), "terminated" | "shutting-down");
        let id = found.into_iter().find(is_alive).map(|info| info.id);
        id.ok_or_else(|| failure("ask for a spot instance", error))
    }
}

fn no_capacity(info: &FleetInfo) -> Failure {
    let why = if info.errors.is_empty() { "EC2 does not say why".to_owned() } else { info.errors.join("; ") };
    wrong(format!("there is no spot instance to be had: {why}"))
        .hint("raise `spot_price`, name more `spot_instance_types`, or leave `spot_price` out")
}
