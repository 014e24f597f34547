//! Logins at Amazon's registries.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kiln_builder_amazon_ebs::cloud::Access;
use kiln_core::{Failure, Secret};
use kiln_registry::{Credentials, EcrLogins, EcrOptions, EcrRegistry};
use serde_json::{Value, json};

use crate::Aws;
use crate::service::Service;

/// AWS gives passwords for twelve hours.
const FRESH: Duration = Duration::from_secs(3600);
/// Where the public registry is asked.
const HOME: &str = "us-east-1";

/// Passwords that were given already. One is asked for with every repository that is pulled or pushed.
#[derive(Default)]
pub(crate) struct Given(tokio::sync::Mutex<Vec<(EcrRegistry, EcrOptions, Instant, Credentials)>>);

#[async_trait]
impl EcrLogins for Aws {
    async fn login(&self, registry: &EcrRegistry, options: &EcrOptions) -> Result<Credentials, Failure> {
        let mut given = self.0.logins.0.lock().await;
        given.retain(|(.., since, _)| since.elapsed() < FRESH);
        if let Some((.., credentials)) = given.iter().find(|(known, with, ..)| (known, with) == (registry, options)) {
            return Ok(credentials.clone());
        }
        let credentials = self.ecr(registry, options).await?;
        given.push((registry.clone(), options.clone(), Instant::now(), credentials.clone()));
        Ok(credentials)
    }
}

impl Aws {
    async fn ecr(&self, registry: &EcrRegistry, options: &EcrOptions) -> Result<Credentials, Failure> {
        let access = Access {
            access_key: options.aws_access_key.clone(),
            secret_key: options.aws_secret_key.clone(),
            token: options.aws_token.clone(),
            profile: options.aws_profile.clone().filter(|profile| !profile.is_empty()),
            ..Access::default()
        };
        let (service, region, target) = match registry {
            EcrRegistry::Private { region } => {
                (Service::REGISTRY, region.as_str(), "AmazonEC2ContainerRegistry_V20150921")
            }
            EcrRegistry::Public => (Service::PUBLIC_REGISTRY, HOME, "SpencerFrontendService"),
        };
        let session = self.session(&Access { region: Some(region.to_owned()), ..access }).await?;
        let answer = session.json(service, region, (target, "GetAuthorizationToken"), &json!({})).await;
        let answer = answer.map_err(|error| {
            Failure::environment(error).hint("`ecr:GetAuthorizationToken` is the right that is needed")
        })?;
        // A list of one for private registries.
        let token = answer.pointer("/authorizationData/0/authorizationToken");
        let token = token.or_else(|| answer.pointer("/authorizationData/authorizationToken")).and_then(Value::as_str);
        credentials(token.unwrap_or_default()).ok_or_else(|| Failure::environment(NoToken))
    }
}

#[derive(Debug, thiserror::Error)]
#[error("GetAuthorizationToken: the answer holds no login")]
struct NoToken;

/// `AWS:PASSWORD` in base64.
fn credentials(token: &str) -> Option<Credentials> {
    let text = String::from_utf8(STANDARD.decode(token).ok()?).ok()?;
    let (username, password) = text.split_once(':')?;
    Some(Credentials { username: username.to_owned(), password: Secret::new(password), identity_token: None })
}
