//! The arguments as they stand in a template.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use kiln_core::{Secret, duration};
use serde::Deserialize;

use crate::cloud::AssumeRole;

/// Named as in the template.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Config {
    pub(crate) access_key: Option<Secret>,
    pub(crate) secret_key: Option<Secret>,
    pub(crate) token: Option<Secret>,
    pub(crate) profile: Option<String>,
    pub(crate) region: Option<String>,
    pub(crate) shared_credentials_file: Option<String>,
    pub(crate) mfa_code: Option<Secret>,
    pub(crate) assume_role: Option<AssumeRole>,
    pub(crate) custom_endpoint_ec2: Option<String>,
    pub(crate) insecure_skip_tls_verify: bool,
    pub(crate) max_retries: Option<i64>,
    pub(crate) skip_metadata_api_check: bool,
    pub(crate) decode_authorization_messages: bool,
    pub(crate) aws_polling: Polling,

    pub(crate) ami_name: String,
    pub(crate) ami_description: Option<String>,
    pub(crate) ami_virtualization_type: Option<String>,
    pub(crate) ami_users: Vec<String>,
    pub(crate) ami_groups: Vec<String>,
    pub(crate) ami_org_arns: Vec<String>,
    pub(crate) ami_ou_arns: Vec<String>,
    pub(crate) ami_product_codes: Vec<String>,
    pub(crate) ami_regions: Vec<String>,
    pub(crate) skip_region_validation: bool,
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) tag: Vec<Tag>,
    pub(crate) snapshot_tags: BTreeMap<String, String>,
    pub(crate) snapshot_tag: Vec<Tag>,
    pub(crate) ena_support: Option<bool>,
    pub(crate) sriov_support: bool,
    pub(crate) force_deregister: bool,
    pub(crate) force_delete_snapshot: bool,
    pub(crate) encrypt_boot: Option<bool>,
    pub(crate) kms_key_id: Option<String>,
    pub(crate) region_kms_key_ids: BTreeMap<String, String>,
    pub(crate) skip_save_build_region: bool,
    pub(crate) imds_support: Option<String>,
    pub(crate) snapshot_users: Vec<String>,
    pub(crate) snapshot_groups: Vec<String>,
    pub(crate) deprecate_at: Option<String>,
    pub(crate) deregistration_protection: Protection,
    pub(crate) snapshot_copy_duration_minutes: Option<i64>,
    pub(crate) fast_launch: FastLaunch,
    pub(crate) skip_create_ami: bool,
    pub(crate) skip_ami_run_tags: bool,
    pub(crate) no_ephemeral: bool,
    pub(crate) ami_block_device_mappings: Vec<Device>,
    pub(crate) launch_block_device_mappings: Vec<Device>,

    pub(crate) source_ami: Option<String>,
    pub(crate) source_ami_filter: Option<SourceFilter>,
    pub(crate) instance_type: Option<String>,
    pub(crate) vpc_id: Option<String>,
    pub(crate) vpc_filter: Option<Filtered>,
    pub(crate) subnet_id: Option<String>,
    pub(crate) subnet_filter: Option<SubnetFilter>,
    pub(crate) availability_zone: Option<String>,
    pub(crate) associate_public_ip_address: Option<bool>,
    pub(crate) security_group_id: Option<String>,
    pub(crate) security_group_ids: Vec<String>,
    pub(crate) security_group_filter: Option<Filtered>,
    pub(crate) temporary_security_group_source_cidrs: Vec<String>,
    pub(crate) temporary_security_group_source_public_ip: bool,
    pub(crate) iam_instance_profile: Option<String>,
    pub(crate) skip_profile_validation: bool,
    pub(crate) temporary_iam_instance_profile_policy_document: Option<Policy>,
    pub(crate) user_data: Option<String>,
    pub(crate) user_data_file: Option<PathBuf>,
    pub(crate) shutdown_behavior: Option<String>,
    pub(crate) disable_stop_instance: bool,
    pub(crate) ebs_optimized: bool,
    pub(crate) enable_nitro_enclave: bool,
    pub(crate) enable_unlimited_credits: bool,
    pub(crate) enable_t2_unlimited: bool,
    pub(crate) tenancy: Option<String>,
    pub(crate) placement: Placement,
    pub(crate) capacity_reservation_preference: Option<String>,
    pub(crate) capacity_reservation_id: Option<String>,
    pub(crate) capacity_reservation_group_arn: Option<String>,
    pub(crate) license_specifications: Vec<License>,
    pub(crate) metadata_options: Metadata,
    pub(crate) run_tags: BTreeMap<String, String>,
    pub(crate) run_tag: Vec<Tag>,
    pub(crate) run_volume_tags: BTreeMap<String, String>,
    pub(crate) run_volume_tag: Vec<Tag>,
    pub(crate) spot_price: Option<String>,
    pub(crate) spot_instance_types: Vec<String>,
    pub(crate) spot_allocation_strategy: Option<String>,
    pub(crate) block_duration_minutes: Option<i64>,
    pub(crate) spot_tags: BTreeMap<String, String>,
    pub(crate) spot_tag: Vec<Tag>,
    pub(crate) fleet_tags: BTreeMap<String, String>,
    pub(crate) fleet_tag: Vec<Tag>,
    pub(crate) ssh_interface: Option<String>,
    #[serde(deserialize_with = "duration::deserialize_option")]
    pub(crate) pause_before_ssm: Option<Duration>,
    pub(crate) session_manager_port: Option<i64>,
    pub(crate) kiln_tags: Option<bool>,
    pub(crate) host_key_by_user_data: Option<bool>,
    #[serde(deserialize_with = "duration::deserialize_option")]
    pub(crate) terminate_after: Option<Duration>,
}

/// `aws_polling`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Polling {
    pub(crate) delay_seconds: Option<i64>,
    pub(crate) max_attempts: Option<i64>,
}

/// `tag { }`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Tag {
    pub(crate) key: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) value: String,
}

impl Tag {
    /// Its key, however it is called.
    pub(crate) fn key(&self) -> &str {
        self.key.as_deref().or(self.name.as_deref()).unwrap_or_default()
    }
}

/// `deregistration_protection { }`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Protection {
    pub(crate) enabled: bool,
    pub(crate) with_cooldown: bool,
}

/// `fast_launch { }`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct FastLaunch {
    pub(crate) enable_fast_launch: bool,
    pub(crate) template_id: Option<String>,
    pub(crate) template_name: Option<String>,
    pub(crate) template_version: Option<i64>,
    pub(crate) region_launch_templates: Vec<RegionTemplate>,
    pub(crate) max_parallel_launches: Option<i64>,
    pub(crate) target_resource_count: Option<i64>,
}

/// `region_launch_templates { }`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct RegionTemplate {
    pub(crate) region: String,
    pub(crate) enable_fast_launch: Option<bool>,
    pub(crate) template_id: Option<String>,
    pub(crate) template_name: Option<String>,
    pub(crate) template_version: Option<i64>,
}

/// A block device.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Device {
    pub(crate) device_name: String,
    pub(crate) delete_on_termination: bool,
    pub(crate) encrypted: Option<bool>,
    pub(crate) iops: Option<i64>,
    pub(crate) no_device: bool,
    pub(crate) snapshot_id: Option<String>,
    pub(crate) throughput: Option<i64>,
    pub(crate) virtual_name: Option<String>,
    pub(crate) volume_type: Option<String>,
    pub(crate) volume_size: Option<i64>,
    pub(crate) kms_key_id: Option<String>,
}

/// One of `filter { }`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct NamedFilter {
    pub(crate) name: Option<String>,
    pub(crate) key: Option<String>,
    pub(crate) value: String,
}

/// `vpc_filter { }`, `security_group_filter { }`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Filtered {
    pub(crate) filters: BTreeMap<String, String>,
    pub(crate) filter: Vec<NamedFilter>,
}

/// `source_ami_filter { }`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct SourceFilter {
    #[serde(flatten)]
    pub(crate) by: Filtered,
    pub(crate) owners: Vec<String>,
    pub(crate) most_recent: bool,
    pub(crate) include_deprecated: bool,
}

/// `subnet_filter { }`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct SubnetFilter {
    #[serde(flatten)]
    pub(crate) by: Filtered,
    pub(crate) most_free: bool,
    pub(crate) random: bool,
}

/// `temporary_iam_instance_profile_policy_document { }`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct Policy {
    pub(crate) version: Option<String>,
    pub(crate) statement: Vec<Statement>,
}

/// `Statement { }`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct Statement {
    pub(crate) effect: String,
    pub(crate) action: Vec<String>,
    pub(crate) resource: Vec<String>,
}

/// `placement { }`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Placement {
    pub(crate) host_resource_group_arn: Option<String>,
    pub(crate) host_id: Option<String>,
    pub(crate) tenancy: Option<String>,
}

/// `license_specifications { }`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct License {
    pub(crate) license_configuration_request: BTreeMap<String, String>,
}

/// `metadata_options { }`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Metadata {
    pub(crate) http_endpoint: Option<String>,
    pub(crate) http_tokens: Option<String>,
    pub(crate) http_put_response_hop_limit: Option<i64>,
    pub(crate) instance_metadata_tags: Option<String>,
    pub(crate) http_protocol_ipv6: Option<String>,
}
