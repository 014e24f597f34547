//! `amazon-secretsmanager`: a secret.

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
    Field::string("name", "The secret: its name or ARN.").required(),
    Field::string("key", "Which value of a secret that is a JSON object; the first one where absent."),
    Field::string("version_id", "This version of it. Goes before `version_stage`."),
    Field::string("version_stage", "The version with this label.").default("AWSCURRENT"),
];
const COUNT: usize = OWN.len() + ACCESS_FIELDS.len();
const ALL: [Field; COUNT] = Field::joined(&[OWN, ACCESS_FIELDS]);

const SCHEMA: Schema = Schema {
    kind: "amazon-secretsmanager",
    title: "an `amazon-secretsmanager` data source",
    doc: "Reads a secret from AWS Secrets Manager. Its values are sensitive: they are shown nowhere.",
    fields: &ALL,
    example: "data \"amazon-secretsmanager\" \"registry\" {\n  name = \"ci/registry\"\n  key  = \"password\"\n}",
};

const OUTPUTS: &[Output] = &[
    Output::new(
        "value",
        FieldType::String,
        "The value of `key`; without one the first value of the object, or the secret itself where it is no object.",
    )
    .sensitive(),
    Output::new("secret_string", FieldType::String, "The whole secret, where it was stored as text.").sensitive(),
    Output::new("secret_binary", FieldType::String, "The whole secret in base64, where it was stored as bytes.")
        .sensitive(),
    Output::new("version_id", FieldType::String, "Its version."),
];

/// The kind.
pub(super) struct SecretKind(pub(super) Aws);

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Arguments {
    name: String,
    key: Option<String>,
    version_id: Option<String>,
    version_stage: Option<String>,
    #[serde(flatten)]
    options: Options,
}

struct Stored {
    aws: Aws,
    access: Access,
    arguments: Arguments,
}

impl DataSourceKind for SecretKind {
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
        Some(Arc::new(Stored { aws: self.0.clone(), access: arguments.options.access(), arguments }))
    }
}

#[derive(Debug, thiserror::Error)]
enum SecretError {
    #[error("the secret {name} has no key `{key}`")]
    NoKey { name: String, key: String },
    #[error("the secret {name} is no JSON object, so it has no key `{key}`")]
    NoObject { name: String, key: String },
}

#[async_trait]
impl DataSource for Stored {
    async fn read(&self) -> Result<DataOutputs, Failure> {
        let arguments = &self.arguments;
        let full = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let mut body = json!({ "SecretId": arguments.name });
        match (full(&arguments.version_id), full(&arguments.version_stage)) {
            (Some(id), _) => body["VersionId"] = id.into(),
            (None, stage) => body["VersionStage"] = stage.unwrap_or_else(|| "AWSCURRENT".to_owned()).into(),
        }
        let (session, region) = self.aws.in_region(&self.access, None).await?;
        let action = ("secretsmanager", "GetSecretValue");
        let answer = session.json(Service::SECRETS, &region, action, &body).await.map_err(super::failed)?;
        let text = |name: &str| answer.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let secret = text("SecretString");
        let value = value(&arguments.name, &secret, full(&arguments.key))?;
        Ok(super::outputs([
            ("value", value.into()),
            ("secret_string", secret.into()),
            ("secret_binary", text("SecretBinary").into()),
            ("version_id", text("VersionId").into()),
        ]))
    }
}

/// One value of a secret. An error cites nothing of it.
fn value(name: &str, secret: &str, key: Option<String>) -> Result<String, Failure> {
    let object = serde_json::from_str::<serde_json::Map<String, Value>>(secret).ok();
    let value = match (&object, key) {
        (Some(object), Some(key)) => object
            .get(&key)
            .ok_or_else(|| Failure::environment(SecretError::NoKey { name: name.to_owned(), key: key.clone() }))?,
        (None, Some(key)) => return Err(Failure::environment(SecretError::NoObject { name: name.to_owned(), key })),
        (Some(object), None) => match object.values().next() {
            Some(first) => first,
            None => return Ok(secret.to_owned()),
        },
        (None, None) => return Ok(secret.to_owned()),
    };
    Ok(match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_that_of_the_key_or_the_first_or_the_whole() {
        let object = r#"{ "user": "u", "port": 5432, "tls": true }"#;
        let of = |secret: &str, key: Option<&str>| value("s", secret, key.map(str::to_owned));
        assert_eq!(of(object, Some("port")).unwrap(), "5432");
        assert_eq!(of(object, None).unwrap(), "u");
        assert_eq!(of("plain text", None).unwrap(), "plain text");
        assert_eq!(of("{}", None).unwrap(), "{}");
        assert_eq!(of(object, Some("x")).unwrap_err().to_string(), "the secret s has no key `x`");
        let error = of("hunter2", Some("x")).unwrap_err();
        assert_eq!(error.chain(), "the secret s is no JSON object, so it has no key `x`");
    }
}
