//! `amazon-ami`: the AMI that filters find.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use kiln_builder_amazon_ebs::ACCESS_FIELDS;
use kiln_builder_amazon_ebs::cloud::{Access, BlockDevice, Clouds, Filter, ImageInfo, ImageQuery};
use kiln_core::{DataOutputs, DataSource, DataSourceKind, Decoded, Diagnostic, Diagnostics, Failure, Field, FieldType};
use kiln_core::{Output, Schema};
use serde::Deserialize;
use serde_json::{Value, json};

use super::access::{self, Options};
use crate::Aws;

const OWN: &[Field] = &[
    Field::map(
        "filters",
        "Filters of `DescribeImages`: `name`, `virtualization-type`, `tag:KEY`, ...; `*` is a wild card.",
    )
    .required(),
    Field::strings("owners", "Whose AMIs count: account ids, `self`, `amazon`, `aws-marketplace`.").required(),
    Field::bool("most_recent", "Take the newest where several match; else that is an error.").default("false"),
    Field::bool("include_deprecated", "Deprecated ones count too.").default("false"),
];
const COUNT: usize = OWN.len() + ACCESS_FIELDS.len();
const ALL: [Field; COUNT] = Field::joined(&[OWN, ACCESS_FIELDS]);

const SCHEMA: Schema = Schema {
    kind: "amazon-ami",
    title: "an `amazon-ami` data source",
    doc: "Finds an AMI, for `source_ami` and for names and tags.",
    fields: &ALL,
    example: "data \"amazon-ami\" \"debian\" {\n  region      = \"eu-central-1\"\n  owners      = [\"136693071363\"]\n  most_recent = true\n  filters     = { name = \"debian-12-amd64-*\" }\n}",
};

const OUTPUTS: &[Output] = &[
    Output::new("id", FieldType::String, "Its id."),
    Output::new("name", FieldType::String, "Its name."),
    Output::new("creation_date", FieldType::String, "When it was made."),
    Output::new("owner", FieldType::String, "The account that owns it."),
    Output::new("owner_name", FieldType::String, "The owner's alias, such as `amazon`."),
    Output::new(
        "block_device_mappings",
        FieldType::Any,
        "Its devices, with the arguments of `launch_block_device_mappings`.",
    ),
    Output::new("tags", FieldType::StringMap, "Its tags, as far as its owner shows them."),
];

/// The kind.
pub(super) struct AmiKind(pub(super) Aws);

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Arguments {
    filters: BTreeMap<String, String>,
    owners: Vec<String>,
    most_recent: bool,
    include_deprecated: bool,
    #[serde(flatten)]
    options: Options,
}

struct Ami {
    aws: Aws,
    access: Access,
    query: ImageQuery,
    takes_newest: bool,
}

impl DataSourceKind for AmiKind {
    fn schema(&self) -> &'static Schema {
        &SCHEMA
    }

    fn outputs(&self) -> &'static [Output] {
        OUTPUTS
    }

    fn prepare(&self, config: &Decoded, diagnostics: &mut Diagnostics) -> Option<Arc<dyn DataSource>> {
        let arguments: Arguments = access::read(config, |arguments: &Arguments| &arguments.options, diagnostics)?;
        for (name, is_empty) in [("filters", arguments.filters.is_empty()), ("owners", arguments.owners.is_empty())] {
            if is_empty && config.is_set(name) && !config.is_unknown(name) {
                let title = format!("`{name}` is empty: anybody may publish an AMI under any name");
                diagnostics.push(Diagnostic::error("wrong-value", config.span(name), title));
            }
        }
        if diagnostics.has_errors() {
            return None;
        }
        let filters = arguments.filters.into_iter().map(|(name, value)| Filter { name, values: vec![value] });
        let query = ImageQuery {
            ids: Vec::new(),
            owners: arguments.owners,
            filters: filters.collect(),
            include_deprecated: arguments.include_deprecated,
        };
        let access = arguments.options.access();
        Some(Arc::new(Ami { aws: self.0.clone(), access, query, takes_newest: arguments.most_recent }))
    }
}

#[derive(Debug, thiserror::Error)]
enum AmiError {
    #[error("no AMI in {region} matches the filters")]
    None { region: String },
    #[error("{count} AMIs in {region} match the filters: {names}")]
    Several { count: usize, region: String, names: String },
}

#[async_trait]
impl DataSource for Ami {
    async fn read(&self) -> Result<DataOutputs, Failure> {
        let cloud = self.aws.cloud(&self.access, None).await?;
        let mut found = cloud.describe_images(&self.query).await.map_err(super::failed)?;
        found.sort_by(|one, other| other.creation_date.cmp(&one.creation_date));
        let region = cloud.region().to_owned();
        match found.as_slice() {
            [] => Err(Failure::environment(AmiError::None { region }).hint(
                "ask with the same words: `aws ec2 describe-images --owners ... --filters Name=name,Values=...`",
            )),
            [image] => Ok(outputs(image)),
            [newest, ..] if self.takes_newest => Ok(outputs(newest)),
            several => {
                let mut names: Vec<&str> = several.iter().take(3).map(|image| image.name.as_str()).collect();
                if several.len() > names.len() {
                    names.push("...");
                }
                let error = AmiError::Several { count: several.len(), region, names: names.join(", ") };
                Err(Failure::environment(error).hint("narrow the filters, or set `most_recent = true`"))
            }
        }
    }
}

fn outputs(image: &ImageInfo) -> DataOutputs {
    super::outputs([
        ("id", json!(image.id)),
        ("name", json!(image.name)),
        ("creation_date", json!(image.creation_date)),
        ("owner", json!(image.owner)),
        ("owner_name", json!(image.owner_alias.clone().unwrap_or_default())),
        ("block_device_mappings", image.block_devices.iter().map(device).collect()),
        ("tags", json!(image.tags)),
    ])
}

fn device(device: &BlockDevice) -> Value {
    let ebs = device.ebs.clone().unwrap_or_default();
    json!({
        "device_name": device.device_name,
        "virtual_name": device.virtual_name.clone().unwrap_or_default(),
        "no_device": device.no_device,
        "delete_on_termination": ebs.delete_on_termination.unwrap_or_default(),
        "encrypted": ebs.encrypted.unwrap_or_default(),
        "kms_key_id": ebs.kms_key.unwrap_or_default(),
        "iops": ebs.iops,
        "throughput": ebs.throughput,
        "volume_size": ebs.size.unwrap_or_default(),
        "volume_type": ebs.volume_type.unwrap_or_default(),
        "snapshot_id": ebs.snapshot.unwrap_or_default(),
    })
}
