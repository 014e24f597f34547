//! Roles: those that the template assumes, and those of profiles that ask for a second factor, which the SDK passes over.

use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_config::SdkConfig;
use aws_config::profile::ProfileSet;
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};
use aws_types::os_shim_internal::{Env, Fs};
use kiln_builder_amazon_ebs::cloud::AssumeRole;
use kiln_core::{Failure, Prompt, Secret};

use crate::session::AccessError;

/// AWS's configuration and credentials files.
pub(crate) struct Files(ProfileSet);

/// Where a second factor's code comes from.
#[derive(Clone)]
pub(crate) struct Question {
    /// `mfa_code`.
    pub(crate) code: Option<Secret>,
    /// The person at the terminal.
    pub(crate) prompt: Option<Arc<dyn Prompt>>,
}

/// The role of a profile that asks for a second factor.
pub(crate) struct ProfileRole {
    role: AssumeRole,
    serial: String,
    source: Option<String>,
    profile: String,
}

impl Files {
    /// Reads them. A profile that is asked for by name has to be there.
    pub(crate) async fn load(env: &Env, profile: Option<&str>) -> Result<Files, Failure> {
        let wanted = profile.map(|name| name.to_owned().into());
        #[allow(deprecated, reason = "the type's new name is in a crate that we would need for nothing else")]
        let places = aws_config::profile::profile_file::ProfileFiles::default();
        let files = aws_config::profile::load(&Fs::real(), env, &places, wanted).await;
        let files = files.map_err(|error| Failure::environment(AccessError::Files(crate::http::root_cause(&error))))?;
        match profile.filter(|name| files.get_profile(name).is_none()) {
            None => Ok(Files(files)),
            Some(missing) => {
                let known: Vec<&str> = files.profiles().collect();
                let failure = Failure::environment(AccessError::NoProfile(missing.to_owned()));
                Err(match kiln_core::suggest::nearest(missing, known.iter().copied()) {
                    Some(nearest) => failure.hint(format!("did you mean `{nearest}`?")),
                    None if known.is_empty() => failure,
                    None => failure.hint(format!("there are: {}", known.join(", "))),
                })
            }
        }
    }

    /// The role of the chosen profile, if it asks for a second factor.
    pub(crate) fn role_with_mfa(&self) -> Option<ProfileRole> {
        let name = self.0.selected_profile();
        let profile = self.0.get_profile(name)?;
        let text = |key: &str| profile.get(key).map(str::to_owned);
        Some(ProfileRole {
            serial: text("mfa_serial")?,
            source: text("source_profile"),
            profile: name.to_owned(),
            role: AssumeRole {
                role_arn: text("role_arn")?,
                session_name: text("role_session_name"),
                duration_seconds: text("duration_seconds").and_then(|seconds| seconds.parse().ok()),
                external_id: text("external_id"),
                ..AssumeRole::default()
            },
        })
    }

    /// Keys that stand in a profile itself.
    pub(crate) fn keys(&self, profile: &str) -> Option<Credentials> {
        let profile = self.0.get_profile(profile)?;
        let token = profile.get("aws_session_token").map(str::to_owned);
        let (key, secret) = (profile.get("aws_access_key_id")?, profile.get("aws_secret_access_key")?);
        Some(Credentials::new(key, secret, token, None, "profile"))
    }
}

impl ProfileRole {
    /// The profile whose credentials assume the role; without one it is what else is found.
    pub(crate) fn source(&self) -> Option<&str> {
        self.source.as_deref()
    }

    /// Credentials of the role.
    pub(crate) fn provider(
        &self,
        config: &SdkConfig,
        base: SharedCredentialsProvider,
        question: Question,
    ) -> SharedCredentialsProvider {
        let factor = Factor { serial: self.serial.clone(), profile: self.profile.clone(), question };
        role_provider(config, &self.role, base, Some(factor))
    }
}

/// Credentials of the role that the template names.
pub(crate) fn assumed(
    config: &SdkConfig,
    role: &AssumeRole,
    base: SharedCredentialsProvider,
) -> SharedCredentialsProvider {
    role_provider(config, role, base, None)
}

fn role_provider(
    config: &SdkConfig,
    role: &AssumeRole,
    base: SharedCredentialsProvider,
    factor: Option<Factor>,
) -> SharedCredentialsProvider {
    let config = config.clone().into_builder().credentials_provider(base).build();
    let sts = aws_sdk_sts::Client::new(&config);
    SharedCredentialsProvider::new(Assumed { sts, role: role.clone(), factor })
}

/// A second factor: the device, and who knows its code.
struct Factor {
    serial: String,
    profile: String,
    question: Question,
}

impl Factor {
    async fn code(&self) -> Result<String, CredentialsError> {
        if let Some(code) = self.question.code.as_ref().map(Secret::expose).filter(|code| !code.is_empty()) {
            return Ok(code.to_owned());
        }
        let question = format!("code of the MFA device {}:", self.serial);
        let answer = match &self.question.prompt {
            Some(prompt) => prompt.ask("aws", &question).await,
            None => None,
        };
        answer.map(|code| code.trim().to_owned()).filter(|code| !code.is_empty()).ok_or_else(|| {
            CredentialsError::provider_error(NoCode { profile: self.profile.clone(), serial: self.serial.clone() })
        })
    }
}

#[derive(Debug, thiserror::Error)]
#[error(
    "the profile `{profile}` asks for a code of the MFA device {serial}, and nobody is there to type it; set `mfa_code`"
)]
struct NoCode {
    profile: String,
    serial: String,
}

struct Assumed {
    sts: aws_sdk_sts::Client,
    role: AssumeRole,
    factor: Option<Factor>,
}

impl fmt::Debug for Assumed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Assumed").field("role", &self.role.role_arn).finish_non_exhaustive()
    }
}

impl Assumed {
    async fn assume(&self) -> Result<Credentials, CredentialsError> {
        let role = &self.role;
        let session = role.session_name.clone().filter(|name| !name.is_empty()).unwrap_or_else(|| {
            let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
            format!("kiln-{seconds}")
        });
        let mut request = self.sts.assume_role().role_arn(&role.role_arn).role_session_name(session);
        request = request
            .set_external_id(role.external_id.clone().filter(|id| !id.is_empty()))
            .set_policy(role.policy.clone().filter(|policy| !policy.is_empty()))
            .set_duration_seconds(role.duration_seconds.and_then(|seconds| i32::try_from(seconds).ok()));
        for arn in &role.policy_arns {
            request = request.policy_arns(aws_sdk_sts::types::PolicyDescriptorType::builder().arn(arn).build());
        }
        for (key, value) in &role.tags {
            let tag = aws_sdk_sts::types::Tag::builder().key(key).value(value).build();
            request = request.tags(tag.map_err(CredentialsError::invalid_configuration)?);
        }
        for key in &role.transitive_tag_keys {
            request = request.transitive_tag_keys(key);
        }
        if let Some(factor) = &self.factor {
            request = request.serial_number(&factor.serial).token_code(factor.code().await?);
        }
        let answer = request.send().await.map_err(CredentialsError::provider_error)?;
        let given = answer.credentials.ok_or_else(|| CredentialsError::unhandled("STS gave no credentials"))?;
        let expiry = SystemTime::try_from(given.expiration).map_err(CredentialsError::unhandled)?;
        // `arn:aws:iam::111122223333:role/build`
        let account = role.role_arn.split(':').nth(4).filter(|account| !account.is_empty());
        let credentials = Credentials::builder()
            .access_key_id(given.access_key_id)
            .secret_access_key(given.secret_access_key)
            .session_token(given.session_token)
            .expiry(expiry)
            .provider_name("AssumeRole");
        Ok(match account {
            Some(account) => credentials.account_id(account),
            None => credentials,
        }
        .build())
    }
}

impl ProvideCredentials for Assumed {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.assume())
    }
}
