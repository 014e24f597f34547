//! The access options of a data source: those of an `amazon-ebs` source.

use kiln_builder_amazon_ebs::cloud::{Access, AssumeRole};
use kiln_core::{Decoded, Diagnostic, Diagnostics, Secret};
use serde::Deserialize;

/// As they stand in a template, beside the data source's own arguments.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Options {
    access_key: Option<Secret>,
    secret_key: Option<Secret>,
    token: Option<Secret>,
    profile: Option<String>,
    region: Option<String>,
    shared_credentials_file: Option<String>,
    mfa_code: Option<Secret>,
    assume_role: Option<AssumeRole>,
    custom_endpoint_ec2: Option<String>,
    insecure_skip_tls_verify: bool,
    max_retries: Option<u32>,
    skip_metadata_api_check: bool,
    decode_authorization_messages: bool,
}

impl Options {
    /// Checks them.
    pub(super) fn check(&self, config: &Decoded, diagnostics: &mut Diagnostics) {
        let is_empty = |key: &Option<Secret>| key.as_ref().is_none_or(|key| key.expose().is_empty());
        let (key, secret) = (is_empty(&self.access_key), is_empty(&self.secret_key));
        if key != secret && !config.is_unknown("access_key") && !config.is_unknown("secret_key") {
            let (given, missing) = if key { ("secret_key", "access_key") } else { ("access_key", "secret_key") };
            let title = format!("`{given}` is set and `{missing}` is not; keys go together");
            diagnostics.push(Diagnostic::error("missing-argument", config.span(given), title));
        }
        if config.is_set("vault_aws_engine") {
            diagnostics.push(
                Diagnostic::error(
                    "not-available",
                    config.span("vault_aws_engine"),
                    "kiln does not ask Vault for AWS credentials yet",
                )
                .help("let `vault read` set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN before"),
            );
        }
    }

    /// What they mean.
    pub(super) fn access(&self) -> Access {
        let full = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        Access {
            access_key: self.access_key.clone(),
            secret_key: self.secret_key.clone(),
            token: self.token.clone(),
            profile: full(&self.profile),
            region: full(&self.region),
            shared_credentials_file: full(&self.shared_credentials_file),
            mfa_code: self.mfa_code.clone(),
            assume_role: self.assume_role.clone().filter(|role| !role.role_arn.is_empty()),
            endpoint: full(&self.custom_endpoint_ec2),
            skip_tls_verify: self.insecure_skip_tls_verify,
            max_retries: self.max_retries,
            skip_metadata: self.skip_metadata_api_check,
            decode_authorization_messages: self.decode_authorization_messages,
        }
    }
}

/// Reads arguments and checks the access options in them; `None` with a mistake told.
pub(super) fn read<T: serde::de::DeserializeOwned>(
    config: &Decoded,
    options: fn(&T) -> &Options,
    diagnostics: &mut Diagnostics,
) -> Option<T> {
    match config.read::<T>() {
        Ok(arguments) => {
            options(&arguments).check(config, diagnostics);
            Some(arguments)
        }
        Err(diagnostic) => {
            diagnostics.push(*diagnostic);
            None
        }
    }
}
