//! What is asked of EC2 for the instance.

use kiln_core::Failure;
use kiln_ssh::KeyPair;

use crate::cloud::{CapacityReservation, MetadataOptions, Placement, RunRequest, TagSpec, Tags};
use crate::config::Config;
use crate::devices::devices;
use crate::launch::Attempt;
use crate::network::Network;
use crate::undo::now;
use crate::userdata::{self, UserData};

/// What was made for it.
pub(crate) struct Surroundings<'a> {
    pub(crate) network: &'a Network,
    pub(crate) groups: &'a [String],
    pub(crate) key_name: Option<String>,
    pub(crate) profile: Option<String>,
}

fn full(text: &Option<String>) -> Option<String> {
    text.clone().filter(|text| !text.is_empty())
}

fn metadata(config: &Config) -> MetadataOptions {
    let given = &config.metadata_options;
    let hops = given.http_put_response_hop_limit.and_then(|hops| i32::try_from(hops).ok());
    MetadataOptions {
        http_endpoint: Some(full(&given.http_endpoint).unwrap_or_else(|| "enabled".to_owned())),
        http_tokens: Some(full(&given.http_tokens).unwrap_or_else(|| "required".to_owned())),
        http_put_response_hop_limit: Some(hops.unwrap_or(1)),
        instance_metadata_tags: full(&given.instance_metadata_tags),
        http_protocol_ipv6: full(&given.http_protocol_ipv6),
    }
}

impl Attempt<'_> {
    /// Tags of the kinds of things that come with an instance.
    fn tag_specs(&self) -> Result<Vec<TagSpec>, Failure> {
        let config = self.config();
        let mut instance = self.run_tags();
        instance.entry("Name".to_owned()).or_insert_with(|| format!("kiln {}", self.context.build));
        let volumes = self.texts().tags("run_volume_tags", &config.run_volume_tags, &config.run_volume_tag)?;
        let specs =
            [("instance", instance), ("volume", self.marks.added_to(&volumes)), ("network-interface", self.run_tags())];
        let spec = |(resource, tags): (&str, Tags)| TagSpec { resource: resource.to_owned(), tags };
        Ok(specs.into_iter().filter(|(_, tags)| !tags.is_empty()).map(spec).collect())
    }

    /// User data with the host key, where there may be one.
    pub(crate) fn user_data(&self, host_key: Option<&KeyPair>) -> Result<UserData, Failure> {
        let own = userdata::own(self.config())?;
        let ends_at = self.config().terminate_after.map(|after| now() + after.as_secs());
        let data = userdata::compose(own.as_deref(), host_key, ends_at);
        if let Some(why) = &data.left_out
            && ends_at.is_some()
        {
            let text = format!("`terminate_after` cannot be kept: {why}");
            return Err(Failure::new(kiln_core::FailureClass::Template, text));
        }
        Ok(data)
    }

    /// The whole request.
    pub(crate) fn run_request(
        &self,
        around: &Surroundings<'_>,
        user_data: Option<String>,
    ) -> Result<RunRequest, Failure> {
        let config = self.config();
        let behavior = match config.terminate_after {
            Some(_) => "terminate".to_owned(),
            None => full(&config.shutdown_behavior).unwrap_or_else(|| "stop".to_owned()),
        };
        let licenses = config.license_specifications.iter();
        let licenses = licenses
            .filter_map(|license| license.license_configuration_request.get("license_configuration_arn").cloned());
        Ok(RunRequest {
            image: self.source.id.clone(),
            instance_type: full(&config.instance_type),
            client_token: self.marks.token("instance"),
            key_name: around.key_name.clone(),
            user_data,
            subnet: around.network.subnet.clone(),
            security_groups: around.groups.to_vec(),
            associate_public_ip: config.associate_public_ip_address,
            instance_profile: around.profile.clone(),
            block_devices: devices(&config.launch_block_device_mappings, config.no_ephemeral),
            ebs_optimized: config.ebs_optimized,
            shutdown_behavior: Some(behavior),
            metadata: metadata(config),
            placement: Placement {
                availability_zone: around.network.zone.clone().filter(|_| around.network.subnet.is_none()),
                tenancy: full(&config.placement.tenancy).or_else(|| full(&config.tenancy)),
                host_id: full(&config.placement.host_id),
                host_resource_group_arn: full(&config.placement.host_resource_group_arn),
            },
            capacity: CapacityReservation {
                preference: full(&config.capacity_reservation_preference),
                id: full(&config.capacity_reservation_id),
                group_arn: full(&config.capacity_reservation_group_arn),
            },
            licenses: licenses.collect(),
            enclave: config.enable_nitro_enclave,
            unlimited_credits: config.enable_unlimited_credits || config.enable_t2_unlimited,
            tags: self.tag_specs()?,
        })
    }
}
