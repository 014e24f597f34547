//! Who asks, from where: the access options and the process's surroundings, made into credentials, a default region and
//! addresses of services.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_config::{AppName, BehaviorVersion, ConfigLoader, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};
use aws_smithy_types::retry::RetryConfig;
use aws_types::os_shim_internal::Env;
use aws_types::region::Region;
use aws_types::service_config::ServiceConfigKey;
use kiln_builder_amazon_ebs::cloud::Access;
use kiln_core::Failure;

use crate::AwsSettings;
use crate::http::Http;
use crate::role::{self, Question};

/// Tries of one call. Packer's own default; the SDK's three are few for EC2's throttling.
pub(crate) const TRIES: u32 = 10;
const FIRST_WAIT: Duration = Duration::from_millis(300);
const LONGEST_WAIT: Duration = Duration::from_secs(15);
/// Credentials are fetched anew this long before they run out.
const MARGIN: Duration = Duration::from_secs(300);

/// Variables of keys, which go before any profile of the environment's but not before one that the template names.
const KEY_VARIABLES: [&str; 3] = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"];

/// Access that was found to be there.
pub(crate) struct Session {
    /// What clients are made of. Its credentials are cached.
    pub(crate) config: SdkConfig,
    /// The client of all of them.
    pub(crate) http: Http,
    env: Env,
}

/// Why nobody can be asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AccessError {
    #[error("cannot read AWS's configuration files: {0}")]
    Files(String),
    #[error("AWS's configuration files have no profile `{0}`")]
    NoProfile(String),
    #[error("`access_key` and `secret_key` go together")]
    HalfKey,
    #[error("no AWS credentials were found")]
    NoCredentials,
    #[error("cannot get the AWS credentials of {whose}: {reason}")]
    Credentials { whose: String, reason: String },
    #[error("no AWS region is set")]
    NoRegion,
}

/// Tries and waits. Never the adaptive mode: its limiter makes a handful of calls slow.
pub(crate) fn retries(max_retries: Option<u32>) -> RetryConfig {
    RetryConfig::standard()
        .with_max_attempts(
            max_retries.filter(|&retries| retries > 0).map_or(TRIES, |retries| retries.saturating_add(1)),
        )
        .with_initial_backoff(FIRST_WAIT)
        .with_max_backoff(LONGEST_WAIT)
}

impl Session {
    /// Finds credentials, which may ask files, programs, services and the person at the terminal.
    pub(crate) async fn begin(access: &Access, settings: &AwsSettings) -> Result<Session, Failure> {
        let environment = environment(access, settings);
        let http = Http::new(environment.clone(), access.skip_tls_verify);
        let pairs: Vec<(&str, &str)> = environment.iter().map(|(name, value)| (&**name, &**value)).collect();
        let env = Env::from_slice(&pairs);
        let files = role::Files::load(&env, access.profile.as_deref()).await?;
        let mut loader = loader_of(&env, &http, access);
        if let Some(profile) = &access.profile {
            loader = loader.profile_name(profile);
        }
        if let Some(region) = &access.region {
            loader = loader.region(Region::new(region.clone()));
        }
        let keys = keys(access)?;
        if let Some(keys) = &keys {
            loader = loader.credentials_provider(keys.clone());
        }
        let config = loader.load().await;
        let mut provider = config.credentials_provider();
        if keys.is_none()
            && !has_key_variables(&environment)
            && let Some(role) = files.role_with_mfa()
        {
            if let Some(source) = role.source() {
                provider = match files.keys(source) {
                    Some(keys) => Some(SharedCredentialsProvider::new(keys)),
                    None => loader_of(&env, &http, access).profile_name(source).load().await.credentials_provider(),
                };
            }
            let question = Question { code: access.mfa_code.clone(), prompt: settings.prompt.clone() };
            provider = provider.map(|base| role.provider(&config, base, question));
        }
        if let (Some(role), Some(base)) = (&access.assume_role, &provider) {
            provider = Some(role::assumed(&config, role, base.clone()));
        }
        let provider = provider.ok_or_else(no_credentials)?;
        let cached = SharedCredentialsProvider::new(Cached { inner: provider, last: Arc::default() });
        let found = cached.provide_credentials().await;
        found.map_err(|error| refused(&error, access))?;
        Ok(Session { config: config.into_builder().credentials_provider(cached).build(), http, env })
    }

    /// The region of the surroundings: of the environment, the profile, this instance.
    pub(crate) async fn region(&self) -> Result<String, Failure> {
        let config = loader_of(&self.env, &self.http, &Access::default()).load().await;
        let region = config.region().map(ToString::to_string);
        region.filter(|region| !region.is_empty()).ok_or_else(|| {
            Failure::environment(AccessError::NoRegion)
                .hint("set `region`, the variable AWS_REGION, or `region` in the profile")
        })
    }

    /// The address that the environment or the profile gives for a service, by its id: `EC2`, `Secrets Manager`.
    pub(crate) fn endpoint(&self, id: &str) -> Option<String> {
        let key = ServiceConfigKey::builder().service_id(id).env("AWS_ENDPOINT_URL").profile("endpoint_url");
        let own = self.config.service_config().zip(key.build().ok()).and_then(|(config, key)| config.load_config(key));
        own.or_else(|| self.config.endpoint_url().map(str::to_owned))
    }

    /// The credentials to sign with.
    pub(crate) async fn credentials(&self) -> Result<Credentials, CredentialsError> {
        match self.config.credentials_provider() {
            Some(provider) => provider.provide_credentials().await,
            None => Err(CredentialsError::not_loaded_no_source()),
        }
    }
}

fn loader_of(env: &Env, http: &Http, access: &Access) -> ConfigLoader {
    let loader = aws_config::defaults(BehaviorVersion::latest())
        .env(env.clone())
        .http_client(http.clone())
        .retry_config(retries(access.max_retries));
    match AppName::new(format!("kiln-{}", kiln_core::VERSION)) {
        Ok(name) => loader.app_name(name),
        Err(_) => loader,
    }
}

/// The environment as the options change it.
fn environment(access: &Access, settings: &AwsSettings) -> std::collections::BTreeMap<String, String> {
    let mut environment = settings.environment.clone();
    if let Some(profile) = &access.profile {
        for name in KEY_VARIABLES {
            environment.remove(name);
        }
        environment.insert("AWS_PROFILE".to_owned(), profile.clone());
    }
    if let Some(file) = &access.shared_credentials_file {
        let file = match (file.strip_prefix("~/"), environment.get("HOME")) {
            (Some(rest), Some(home)) => format!("{home}/{rest}"),
            _ => file.clone(),
        };
        environment.insert("AWS_SHARED_CREDENTIALS_FILE".to_owned(), file);
    }
    if access.skip_metadata {
        environment.insert("AWS_EC2_METADATA_DISABLED".to_owned(), "true".to_owned());
    }
    environment
}

fn has_key_variables(environment: &std::collections::BTreeMap<String, String>) -> bool {
    KEY_VARIABLES[..2].iter().all(|name| environment.get(*name).is_some_and(|value| !value.is_empty()))
}

/// The keys that the template gives.
fn keys(access: &Access) -> Result<Option<Credentials>, Failure> {
    let given = |key: &Option<kiln_core::Secret>| key.as_ref().map(|key| key.expose().to_owned()).unwrap_or_default();
    let (key, secret, token) = (given(&access.access_key), given(&access.secret_key), given(&access.token));
    match (key.is_empty(), secret.is_empty()) {
        (true, true) => Ok(None),
        (false, false) => {
            let token = (!token.is_empty()).then_some(token);
            Ok(Some(Credentials::new(key, secret, token, None, "the template")))
        }
        _ => Err(Failure::environment(AccessError::HalfKey)),
    }
}

fn no_credentials() -> Failure {
    Failure::environment(AccessError::NoCredentials).hint(
        "they are looked for in the template (`access_key`, `profile`), in the environment (AWS_ACCESS_KEY_ID, AWS_PROFILE, \
         AWS_WEB_IDENTITY_TOKEN_FILE), in ~/.aws/config and ~/.aws/credentials, and in the metadata of this container or instance",
    )
}

fn refused(error: &CredentialsError, access: &Access) -> Failure {
    if let CredentialsError::CredentialsNotLoaded(_) = error {
        return no_credentials();
    }
    let whose = match (&access.assume_role, &access.profile) {
        (Some(role), _) => format!("the role {}", role.role_arn),
        (None, Some(profile)) => format!("the profile `{profile}`"),
        (None, None) => "the environment".to_owned(),
    };
    Failure::environment(AccessError::Credentials { whose, reason: reason(error) })
}

/// What a service said, or else the innermost cause.
fn reason(error: &CredentialsError) -> String {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        let text = error.to_string();
        if let Some(refusal) = error.downcast_ref::<aws_sdk_sts::operation::assume_role::AssumeRoleError>() {
            let meta = aws_smithy_types::error::metadata::ProvideErrorMetadata::meta(refusal);
            let (code, message) = (meta.code().unwrap_or("an error"), meta.message().unwrap_or_default());
            return format!("STS answers {code}: {message}");
        }
        if error.source().is_none() {
            return text;
        }
        cause = error.source();
    }
    String::new()
}

/// Keeps credentials until they run out: what a person typed, or a program was run for, is not asked for twice.
struct Cached {
    inner: SharedCredentialsProvider,
    last: Arc<tokio::sync::Mutex<Option<Credentials>>>,
}

impl fmt::Debug for Cached {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Cached").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl ProvideCredentials for Cached {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async move {
            let mut last = self.last.lock().await;
            let is_fresh = |credentials: &&Credentials| {
                credentials.expiry().is_none_or(|expiry| expiry > SystemTime::now() + MARGIN)
            };
            if let Some(credentials) = last.as_ref().filter(is_fresh) {
                return Ok(credentials.clone());
            }
            let credentials = self.inner.provide_credentials().await?;
            *last = Some(credentials.clone());
            Ok(credentials)
        })
    }
}
