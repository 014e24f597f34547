//! The nested blocks.

use kiln_core::{Field, FieldType, Schema};

use super::{SOURCE_DATA, number};

const fn nested(kind: &'static str, title: &'static str, doc: &'static str, fields: &'static [Field]) -> Schema {
    Schema { kind, title, doc, fields, example: "" }
}

pub(super) const ASSUME_ROLE: Schema = nested(
    "assume_role",
    "an `assume_role` block",
    "A role whose rights are used.",
    &[
        Field::string("role_arn", "The role."),
        Field::string("session_name", "Name of the session."),
        number("duration_seconds", "How long its credentials hold."),
        Field::string("external_id", "What the role's owner asks for."),
        Field::string("policy", "A policy, as JSON, that narrows the rights."),
        Field::strings("policy_arns", "Managed policies that narrow them."),
        Field::map("tags", "Tags of the session."),
        Field::strings("transitive_tag_keys", "Which of them are handed on to further roles."),
    ],
);

pub(super) const VAULT: Schema = nested(
    "vault_aws_engine",
    "a `vault_aws_engine` block",
    "Credentials from HashiCorp's Vault (not available).",
    &[
        Field::string("name", "Role in Vault."),
        Field::string("role_arn", "Role in AWS."),
        Field::string("ttl", "How long the credentials hold."),
        Field::string("engine_name", "Where the engine is mounted."),
    ],
);

pub(super) const POLLING: Schema = nested(
    "aws_polling",
    "an `aws_polling` block",
    "How long states are waited for, and how often EC2 is asked at most.",
    &[
        number("delay_seconds", "Seconds between two questions, at most; kiln begins with half a second.").default("5"),
        number("max_attempts", "With `delay_seconds`: after so many times that, waiting ends."),
    ],
);

pub(super) const TAG: Schema = nested(
    "tag",
    "a tag",
    "One tag.",
    &[
        Field::string("key", "Its key.").deferred_with(SOURCE_DATA),
        Field::string("name", "The same.").deferred_with(SOURCE_DATA),
        Field::string("value", "Its value.").deferred_with(SOURCE_DATA),
    ],
);

pub(super) const FILTER: Schema = nested(
    "filter",
    "a `filter` block",
    "One more of `filters`.",
    &[
        Field::string("name", "EC2's name of the filter."),
        Field::string("key", "The same."),
        Field::string("value", "What it is to match."),
    ],
);

const FILTERS: Field =
    Field::map("filters", "Filters of EC2's `Describe` calls; several values are separated by commas.");
const MORE_FILTERS: Field = Field::new("filter", FieldType::Blocks(&FILTER), "One more of `filters`.");

pub(super) const FILTERED: Schema =
    nested("filter", "a filter", "Finds things by EC2's filters.", &[FILTERS, MORE_FILTERS]);

pub(super) const SOURCE_FILTER: Schema = nested(
    "source_ami_filter",
    "a `source_ami_filter` block",
    "Finds the AMI to start from.",
    &[
        FILTERS,
        MORE_FILTERS,
        Field::strings("owners", "Accounts whose AMIs count: ids, `self`, `amazon`, `aws-marketplace`."),
        Field::bool("most_recent", "Of several that match, take the newest; without it they are an error."),
        Field::bool("include_deprecated", "Deprecated AMIs count too."),
    ],
);

pub(super) const SUBNET_FILTER: Schema = nested(
    "subnet_filter",
    "a `subnet_filter` block",
    "Finds the subnet.",
    &[
        FILTERS,
        MORE_FILTERS,
        Field::bool("most_free", "Of several, the one with the most free addresses."),
        Field::bool("random", "Of several, any."),
    ],
);

pub(super) const POLICY: Schema = nested(
    "temporary_iam_instance_profile_policy_document",
    "a policy document",
    "An IAM policy.",
    &[
        Field::string("Version", "Version of the policy language.").default("2012-10-17"),
        Field::new("Statement", FieldType::Blocks(&STATEMENT), "What is allowed."),
    ],
);

const STATEMENT: Schema = nested(
    "Statement",
    "a `Statement`",
    "What is allowed or denied.",
    &[
        Field::string("Effect", "`Allow` or `Deny`."),
        Field::strings("Action", "Actions."),
        Field::strings("Resource", "Resources."),
    ],
);

pub(super) const PLACEMENT: Schema = nested(
    "placement",
    "a `placement` block",
    "Where the instance runs.",
    &[
        Field::string("host_resource_group_arn", "A group of dedicated hosts."),
        Field::string("host_id", "A dedicated host."),
        Field::new("tenancy", FieldType::OneOf(&["default", "dedicated", "host", ""]), "As `tenancy` of the source."),
    ],
);

pub(super) const LICENSE: Schema = nested(
    "license_specifications",
    "a `license_specifications` block",
    "Licenses that the instance uses.",
    &[Field::map("license_configuration_request", "`license_configuration_arn`: the license configuration.")],
);

pub(super) const METADATA: Schema = nested(
    "metadata_options",
    "a `metadata_options` block",
    "The metadata service of the instance.",
    &[
        Field::new("http_endpoint", FieldType::OneOf(&["enabled", "disabled", ""]), "Whether it answers.")
            .default("enabled"),
        Field::new("http_tokens", FieldType::OneOf(&["required", "optional", ""]), "`required` is IMDSv2.")
            .default("required"),
        number("http_put_response_hop_limit", "Hops that its answers may take.").default("1"),
        Field::new(
            "instance_metadata_tags",
            FieldType::OneOf(&["enabled", "disabled", ""]),
            "Whether it tells the tags.",
        )
        .default("disabled"),
        Field::new("http_protocol_ipv6", FieldType::OneOf(&["enabled", "disabled", ""]), "Whether it answers on IPv6."),
    ],
);

pub(super) const PROTECTION: Schema = nested(
    "deregistration_protection",
    "a `deregistration_protection` block",
    "Whether deregistering the AMI needs a step more.",
    &[
        Field::bool("enabled", "Whether it is protected."),
        Field::bool("with_cooldown", "Whether the protection lasts for a day after it was taken away."),
    ],
);

pub(super) const FAST_LAUNCH: Schema = nested(
    "fast_launch",
    "a `fast_launch` block",
    "Faster launches of Windows AMIs.",
    &[
        Field::bool("enable_fast_launch", "Whether it is used."),
        Field::string("template_id", "Launch template for the snapshots, by id."),
        Field::string("template_name", "The same by name."),
        number("template_version", "Its version; the newest where absent."),
        Field::new("region_launch_templates", FieldType::Blocks(&REGION_TEMPLATE), "The same for each region."),
        number("max_parallel_launches", "Instances launched at once: at least 6."),
        number("target_resource_count", "Snapshots kept ready."),
    ],
);

const REGION_TEMPLATE: Schema = nested(
    "region_launch_templates",
    "a `region_launch_templates` block",
    "Fast launches in a region.",
    &[
        Field::string("region", "The region."),
        Field::bool("enable_fast_launch", "Whether it is used there.").default("true"),
        Field::string("template_id", "Launch template, by id."),
        Field::string("template_name", "The same by name."),
        number("template_version", "Its version."),
    ],
);

/// Fields of a block device.
const DEVICE_FIELDS: &[Field] = &[
    Field::string("device_name", "Name of the device: `/dev/sdh`, `xvdh`."),
    Field::bool("delete_on_termination", "Whether the volume goes with its instance."),
    Field::bool("encrypted", "Whether it is encrypted; as its snapshot where absent."),
    number("iops", "IO operations a second, for `io1`, `io2` and `gp3`."),
    Field::bool("no_device", "Takes a device of the image away."),
    Field::string("snapshot_id", "Snapshot that it begins with."),
    number("throughput", "MiB a second, for `gp3`."),
    Field::string("virtual_name", "A drive of the instance store: `ephemeral0`."),
    Field::string("volume_type", "`gp3`, `gp2`, `io1`, `io2`, `st1`, `sc1`, `standard`."),
    number("volume_size", "GiB."),
    Field::string("kms_key_id", "Key for `encrypted`."),
];

pub(super) const DEVICE: Schema = nested("block_device", "a block device", "A device.", DEVICE_FIELDS);
