//! `amazon-parameterstore`: a parameter of Systems Manager.

use std::sync::Arc;

use async_trait::async_trait;
use kiln_builder_amazon_ebs::ACCESS_FIELDS;
use kiln_builder_amazon_ebs::cloud::Access;
use kiln_core::{
    DataOutputs, DataSource, DataSourceKind, Decoded, Diagnostics, Failure, Field, FieldType, Output, Schema,
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::access::{self, Options};
use crate::Aws;
use crate::service::Service;

const OWN: &[Field] = &[
    Field::string("name", "The parameter: its name or ARN; with a version or label behind a colon.").required(),
    Field::bool("with_decryption", "Decrypt it, where it is a secure string.").default("false"),
];
const COUNT: usize = OWN.len() + ACCESS_FIELDS.len();
const ALL: [Field; COUNT] = Field::joined(&[OWN, ACCESS_FIELDS]);

const SCHEMA: Schema = Schema {
    kind: "amazon-parameterstore",
    title: "an `amazon-parameterstore` data source",
    doc: "Reads a parameter of AWS Systems Manager. Its value is sensitive: it is shown nowhere.",
    fields: &ALL,
    example: "data \"amazon-parameterstore\" \"base\" {\n  name            = \"/images/base\"\n  with_decryption = true\n}",
};

const OUTPUTS: &[Output] = &[
    Output::new("value", FieldType::String, "Its value.").sensitive(),
    Output::new("version", FieldType::String, "Its version."),
    Output::new("arn", FieldType::String, "Its ARN."),
];

/// The kind.
pub(super) struct ParameterKind(pub(super) Aws);

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Arguments {
    name: String,
    with_decryption: bool,
    #[serde(flatten)]
    options: Options,
}

struct Parameter {
    aws: Aws,
    access: Access,
    name: String,
    decrypts: bool,
}

impl DataSourceKind for ParameterKind {
    fn schema(&self) -> &'static Schema {
        &SCHEMA
    }

    fn outputs(&self) -> &'static [Output] {
        OUTPUTS
    }

    fn prepare(&self, config: &Decoded, diagnostics: &mut Diagnostics) -> Option<Arc<dyn DataSource>> {
        let arguments: Arguments = access::read(config, |arguments: &Arguments| &arguments.options, diagnostics)?;
        if diagnostics.has_errors() {
            return None;
        }
        let access = arguments.options.access();
        let (name, decrypts) = (arguments.name, arguments.with_decryption);
        Some(Arc::new(Parameter { aws: self.0.clone(), access, name, decrypts }))
    }
}

#[async_trait]
impl DataSource for Parameter {
    async fn read(&self) -> Result<DataOutputs, Failure> {
        let body = json!({ "Name": self.name, "WithDecryption": self.decrypts });
        let (session, region) = self.aws.in_region(&self.access, None).await?;
        let answer = session.json(Service::SYSTEMS, &region, ("AmazonSSM", "GetParameter"), &body).await;
        let answer = answer.map_err(super::failed)?;
        let text = |name: &str| match answer.pointer(&format!("/Parameter/{name}")) {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Number(number)) => number.to_string(),
            _ => String::new(),
        };
        Ok(super::outputs([
            ("value", text("Value").into()),
            ("version", text("Version").into()),
            ("arn", text("ARN").into()),
        ]))
    }
}
