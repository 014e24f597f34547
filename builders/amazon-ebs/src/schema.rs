//! The arguments of an `amazon-ebs` source: Packer's, kiln's own, and those of SSH.

mod blocks;

use kiln_core::{Field, FieldType, Schema};
use kiln_ssh::FIELDS as SSH;

use blocks::{
    ASSUME_ROLE, DEVICE, FAST_LAUNCH, FILTERED, LICENSE, METADATA, PLACEMENT, POLICY, POLLING, PROTECTION,
    SOURCE_FILTER, SUBNET_FILTER, TAG, VAULT,
};

/// What texts that are rendered once the source AMI is known may use: `{{ .SourceAMI }}`.
pub(crate) const SOURCE_DATA: &[&str] = &[
    "SourceAMI",
    "SourceAMIName",
    "SourceAMICreationDate",
    "SourceAMIOwner",
    "SourceAMIOwnerName",
    "SourceAMITags",
    "BuildRegion",
];

const fn number(name: &'static str, doc: &'static str) -> Field {
    Field::new(name, FieldType::Integer, doc)
}

const fn block(name: &'static str, schema: &'static Schema, doc: &'static str) -> Field {
    Field::new(name, FieldType::Block(schema), doc)
}

const fn blocks(name: &'static str, schema: &'static Schema, doc: &'static str) -> Field {
    Field::new(name, FieldType::Blocks(schema), doc)
}

const fn tags(name: &'static str, doc: &'static str) -> Field {
    Field::map(name, doc).deferred_with(SOURCE_DATA)
}

/// Those that say how AWS is reached, and as whom; data sources have them too.
pub const ACCESS: &[Field] = &[
    Field::string("access_key", "Access key; else as the AWS command line finds credentials."),
    Field::string("secret_key", "Secret key."),
    Field::string("token", "Session token of temporary credentials."),
    Field::string("profile", "Profile of `~/.aws/config` and `~/.aws/credentials`."),
    Field::string("region", "Region in which the instance runs; else as the AWS command line finds it."),
    Field::string("shared_credentials_file", "A credentials file in place of `~/.aws/credentials`."),
    Field::string(
        "mfa_code",
        "Code of an MFA device; asked for at the terminal where one is needed and this is absent.",
    ),
    block("assume_role", &ASSUME_ROLE, "A role whose rights are used."),
    block("vault_aws_engine", &VAULT, "Credentials from HashiCorp's Vault (not available)."),
    Field::string("custom_endpoint_ec2", "Address of EC2's API, for clouds that speak it."),
    Field::bool("insecure_skip_tls_verify", "Do not check the endpoint's certificate."),
    number("max_retries", "How often a call is tried again.").default("10"),
    Field::bool("skip_credential_validation", "Accepted: credentials are checked by the first call that needs them."),
    Field::bool("skip_metadata_api_check", "Do not look for credentials at the metadata service of EC2."),
    Field::bool(
        "decode_authorization_messages",
        "Decode what EC2 says of calls that are not allowed (`sts:DecodeAuthorizationMessage`).",
    ),
    block("aws_polling", &POLLING, "How long states are waited for, and how often EC2 is asked at most."),
];

const AMI: &[Field] = &[
    Field::string("ami_name", "Name of the AMI: 3 to 128 characters of `a-z A-Z 0-9 ()[] ./-'@_` and blanks.")
        .required(),
    Field::string("ami_description", "Its description.").deferred_with(SOURCE_DATA),
    Field::new(
        "ami_virtualization_type",
        FieldType::OneOf(&["hvm", "paravirtual", ""]),
        "The source AMI has to be of this type.",
    ),
    Field::strings("ami_users", "Accounts that may launch it."),
    Field::strings("ami_groups", "Groups that may launch it: `all` makes it public."),
    Field::strings("ami_org_arns", "Organizations that may launch it."),
    Field::strings("ami_ou_arns", "Organizational units that may launch it."),
    Field::strings("ami_product_codes", "Product codes of it."),
    Field::strings("ami_regions", "Regions that it is copied to."),
    Field::bool("skip_region_validation", "Do not check the names of regions."),
    tags("tags", "Tags of the AMI and its snapshots."),
    blocks("tag", &TAG, "One more of `tags`."),
    tags("snapshot_tags", "Tags of the snapshots, over `tags`."),
    blocks("snapshot_tag", &TAG, "One more of `snapshot_tags`."),
    Field::bool("ena_support", "Mark the AMI for enhanced networking (ENA)."),
    Field::bool("sriov_support", "Mark the AMI for enhanced networking with Intel's virtual function."),
    Field::bool("force_deregister", "Deregister AMIs of this name first. So does `-force`."),
    Field::bool("force_delete_snapshot", "With `force_deregister`, delete their snapshots too."),
    Field::bool("encrypt_boot", "Whether the AMI's snapshots are encrypted; as the source's where absent."),
    Field::string("kms_key_id", "Key for `encrypt_boot`: id, alias or ARN; the account's default where absent."),
    Field::map("region_kms_key_ids", "The same for each of `ami_regions`; an empty text is the default key there."),
    Field::bool("skip_save_build_region", "Keep no AMI in the region of the build, only those in `ami_regions`."),
    Field::new("imds_support", FieldType::OneOf(&["v2.0", ""]), "`v2.0`: instances of the AMI ask for IMDSv2."),
    Field::strings("snapshot_users", "Accounts that may make volumes of the snapshots."),
    Field::strings("snapshot_groups", "Groups that may: `all`."),
    Field::string("deprecate_at", "When the AMI is deprecated, as `2030-01-31T12:00:00Z`."),
    block("deregistration_protection", &PROTECTION, "Whether deregistering the AMI needs a step more."),
    number("snapshot_copy_duration_minutes", "How long copies to other regions may take: 15 to 2880, in steps of 15."),
    block("fast_launch", &FAST_LAUNCH, "Faster launches of Windows AMIs."),
    Field::bool("skip_create_ami", "Make no AMI; for trying out provisioners."),
    Field::bool("skip_ami_run_tags", "Do not give the `run_tags` to the AMI."),
    Field::bool("no_ephemeral", "Keep drives of the instance store out of Windows instances."),
    blocks("ami_block_device_mappings", &DEVICE, "Devices of instances that are launched from the AMI."),
    blocks("launch_block_device_mappings", &DEVICE, "Devices of the instance that is provisioned."),
];

const RUN: &[Field] = &[
    Field::string("source_ami", "The AMI to start from. This or `source_ami_filter`."),
    block("source_ami_filter", &SOURCE_FILTER, "Finds the AMI to start from."),
    Field::string("instance_type", "Type of the instance, such as `t3.micro`. This or `spot_instance_types`."),
    Field::string("vpc_id", "The VPC; the default one where absent."),
    block("vpc_filter", &FILTERED, "Finds the VPC; exactly one must match."),
    Field::string("subnet_id", "The subnet."),
    block("subnet_filter", &SUBNET_FILTER, "Finds the subnet."),
    Field::string("availability_zone", "The zone."),
    Field::bool("associate_public_ip_address", "Whether the instance has a public address; as the subnet says where absent."),
    Field::string("security_group_id", "A security group in place of a temporary one."),
    Field::strings("security_group_ids", "Security groups in place of a temporary one."),
    block("security_group_filter", &FILTERED, "Finds security groups."),
    Field::strings(
        "temporary_security_group_source_cidrs",
        "Networks that the temporary security group lets in. Without it: the address of this host.",
    ),
    Field::bool(
        "temporary_security_group_source_public_ip",
        "Let only the public address of this host in, as is the default anyway.",
    ),
    Field::string("iam_instance_profile", "Instance profile of the instance."),
    Field::bool("skip_profile_validation", "Do not check whether the profile is there."),
    block(
        "temporary_iam_instance_profile_policy_document",
        &POLICY,
        "A policy; the instance gets a role of its own with it, which is removed again.",
    ),
    Field::string("user_data", "User data of the instance."),
    Field::string("user_data_file", "The same from a file."),
    Field::new("shutdown_behavior", FieldType::OneOf(&["stop", "terminate", ""]), "What a shutdown from inside does.").default("stop"),
    Field::bool("disable_stop_instance", "A provisioner shuts the instance down; kiln only waits until it is stopped."),
    Field::bool("ebs_optimized", "EBS-optimised."),
    Field::bool("enable_nitro_enclave", "Nitro enclaves."),
    Field::bool("enable_unlimited_credits", "Unlimited CPU credits, for burstable types."),
    Field::bool("enable_t2_unlimited", "The same.").deprecated("write `enable_unlimited_credits`"),
    Field::new("tenancy", FieldType::OneOf(&["default", "dedicated", "host", ""]), "Whose hardware the instance runs on."),
    block("placement", &PLACEMENT, "Where the instance runs."),
    Field::new(
        "capacity_reservation_preference",
        FieldType::OneOf(&["open", "none", "capacity-reservations-only", ""]),
        "Whether reserved capacity is used.",
    ),
    Field::string("capacity_reservation_id", "Reserved capacity to use."),
    Field::string("capacity_reservation_group_arn", "A group of it."),
    blocks("license_specifications", &LICENSE, "Licenses that the instance uses."),
    Field::duration("windows_password_timeout", "Of Windows machines: accepted, without effect."),
    block("metadata_options", &METADATA, "The metadata service of the instance. IMDSv2 is demanded unless this says else."),
    tags("run_tags", "Tags of the instance and all that is made for it, and of the AMI (see `skip_ami_run_tags`)."),
    blocks("run_tag", &TAG, "One more of `run_tags`."),
    tags("run_volume_tags", "Tags of the instance's volumes."),
    blocks("run_volume_tag", &TAG, "One more of `run_volume_tags`."),
    Field::string("spot_price", "The most to pay an hour; `auto` is the on-demand price. A spot instance is used."),
    Field::string("spot_price_auto_product", "Accepted, without effect.").deprecated("leave it out: prices are not asked for any more"),
    Field::strings("spot_instance_types", "Types to choose from, in place of `instance_type`."),
    Field::string("spot_allocation_strategy", "How to choose: `lowest-price`, `capacity-optimized`, ..."),
    number("block_duration_minutes", "How long the spot instance is safe from interruption."),
    tags("spot_tags", "Tags of the spot request."),
    blocks("spot_tag", &TAG, "One more of `spot_tags`."),
    tags("fleet_tags", "Tags of the fleet."),
    blocks("fleet_tag", &TAG, "One more of `fleet_tags`."),
    Field::new(
        "ssh_interface",
        FieldType::OneOf(&["public_ip", "private_ip", "public_dns", "private_dns", "ipv6", "session_manager", ""]),
        "Which address is used. Without it: the public one, else the private one.",
    ),
    Field::duration("pause_before_ssm", "Wait before a session of Systems Manager is opened."),
    number("session_manager_port", "Port of this host for the session; a free one where absent."),
    Field::bool("kiln_tags", "Tag all that is made with `kiln.run` and `kiln.build`.").default("true"),
    Field::bool(
        "host_key_by_user_data",
        "Give the instance a host key through its user data (cloud-init), so that it is known before the first connection.",
    )
    .default("true"),
    Field::duration(
        "terminate_after",
        "A dead man's switch: the instance shuts down and is terminated so long after its start, whatever becomes of kiln.",
    ),
];

const COUNT: usize = ACCESS.len() + AMI.len() + RUN.len() + SSH.len();
static ALL: [Field; COUNT] = Field::joined(&[ACCESS, AMI, RUN, SSH]);

/// All arguments.
pub(crate) static AMAZON_EBS: Schema = Schema {
    kind: "amazon-ebs",
    title: "an `amazon-ebs` source",
    doc: "Launches an EC2 instance, lets the provisioners change it over SSH, and makes an AMI of it.",
    fields: &ALL,
    example: "source \"amazon-ebs\" \"worker\" {\n  region        = \"eu-central-1\"\n  instance_type = \"t3.small\"\n  ami_name      = \"worker-{{timestamp}}\"\n  ssh_username  = \"admin\"\n\n  source_ami_filter {\n    owners      = [\"136693071363\"]\n    most_recent = true\n    filters     = { name = \"debian-12-amd64-*\" }\n  }\n}",
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_apart() {
        let mut names: Vec<&str> = AMAZON_EBS.fields.iter().map(|field| field.name).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
