//! The data sources of AWS.

mod access;
mod ami;
mod parameter;
mod secret;

use std::sync::Arc;

use kiln_builder_amazon_ebs::cloud::{CloudError, ErrorKind};
use kiln_core::{DataOutputs, Failure, Kinds};
use serde_json::Value;

use crate::Aws;

/// Adds all of them. Nothing is asked yet.
pub fn register(kinds: &mut Kinds, aws: &Aws) {
    kinds.add_data_source(Arc::new(ami::AmiKind(aws.clone())));
    kinds.add_data_source(Arc::new(parameter::ParameterKind(aws.clone())));
    kinds.add_data_source(Arc::new(secret::SecretKind(aws.clone())));
}

fn outputs<const COUNT: usize>(values: [(&str, Value); COUNT]) -> DataOutputs {
    values.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// What AWS answered instead of a value.
fn failed(error: CloudError) -> Failure {
    let hint = match error.kind {
        ErrorKind::NoCredentials => Some(
            "the credentials are out of date or not known to AWS: `aws sts get-caller-identity` tells whose they are",
        ),
        ErrorKind::Unauthorized => Some("the credentials need the right to make this call"),
        _ => None,
    };
    let failure = Failure::environment(error);
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}
