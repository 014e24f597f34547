//! Amazon's registries, whose passwords AWS gives for some hours. Which hosts they are, and the options of sources and
//! post-processors that log in there. Who asks AWS is behind a trait.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use kiln_core::{Decoded, Diagnostic, Diagnostics, Failure, Field, Secret};
use serde::Deserialize;

use crate::credentials::Credentials;
use crate::reference::normalize_registry;

/// A registry of Amazon's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EcrRegistry {
    /// Of an account: `123456789012.dkr.ecr.eu-central-1.amazonaws.com`.
    Private {
        /// Where AWS is asked.
        region: String,
    },
    /// Of everybody: `public.ecr.aws`.
    Public,
}

impl EcrRegistry {
    /// Which one a host is, if any.
    pub fn of(host: &str) -> Option<EcrRegistry> {
        let host = normalize_registry(host);
        if host == "public.ecr.aws" {
            return Some(EcrRegistry::Public);
        }
        let (account, rest) = host.split_once('.')?;
        // The second form answers by IPv6 too.
        let rest = ["dkr.ecr.", "dkr.ecr-fips.", "dkr-ecr.", "dkr-ecr-fips."]
            .iter()
            .find_map(|name| rest.strip_prefix(name))?;
        let (region, domain) = rest.split_once('.')?;
        let is_amazon =
            domain.starts_with("amazonaws.") || domain == "on.aws" || domain == "on.amazonwebservices.com.cn";
        let is_account = !account.is_empty() && account.bytes().all(|byte| byte.is_ascii_digit());
        (is_account && is_amazon).then(|| EcrRegistry::Private { region: region.to_owned() })
    }
}

/// `ecr_login` and what goes with it; read beside a component's other arguments.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct EcrOptions {
    /// Whether the rest counts.
    pub ecr_login: bool,
    /// Access key; without it, credentials are found as AWS's tools find them.
    pub aws_access_key: Option<Secret>,
    /// Secret key.
    pub aws_secret_key: Option<Secret>,
    /// Session token.
    pub aws_token: Option<Secret>,
    /// Profile of AWS's configuration.
    pub aws_profile: Option<String>,
    /// `login_server` is another name of the public registry.
    pub aws_force_use_public_ecr: bool,
}

impl EcrOptions {
    /// The options of a schema.
    pub const FIELDS: &'static [Field] = &[
        Field::bool(
            "ecr_login",
            "Log in at Amazon's registries (`ACCOUNT.dkr.ecr.REGION.amazonaws.com`, `public.ecr.aws`) with a password that \
             AWS gives. `login` does nothing then.",
        )
        .default("false"),
        Field::string("aws_access_key", "Access key for `ecr_login`; without it, credentials are found as the AWS command line finds them."),
        Field::string("aws_secret_key", "Secret key for `ecr_login`."),
        Field::string("aws_token", "Session token for `ecr_login`."),
        Field::string("aws_profile", "Profile of `~/.aws/config` or `~/.aws/credentials` for `ecr_login`."),
        Field::bool("aws_force_use_public_ecr", "For `ecr_login`: `login_server` is another name of `public.ecr.aws`.").default("false"),
    ];

    /// Tells what is wrong with them.
    pub fn check(
        &self,
        decoded: &Decoded,
        login_server: Option<&str>,
        sources: &Amazon,
        diagnostics: &mut Diagnostics,
    ) {
        let names = Self::FIELDS.iter().map(|field| field.name);
        if !self.ecr_login {
            if let Some(name) =
                names.skip(1).find(|name| decoded.is_set(name)).filter(|_| !decoded.is_unknown("ecr_login"))
            {
                let title = format!("`{name}` has no effect without `ecr_login = true`");
                diagnostics.push(Diagnostic::warning("without-effect", decoded.span(name), title));
            }
            return;
        }
        if sources.logins.is_none() {
            diagnostics.push(
                Diagnostic::error("not-available", decoded.span("ecr_login"), "this kiln is built without AWS, which `ecr_login` asks")
                    .help("take a kiln with the feature `aws`, or log in before: `aws ecr get-login-password | docker login --password-stdin`"),
            );
        }
        let server = login_server.filter(|server| !server.is_empty() && !decoded.is_unknown("login_server"));
        if let Some(server) =
            server.filter(|server| !self.aws_force_use_public_ecr && EcrRegistry::of(server).is_none())
        {
            let title = format!("`ecr_login` is set, and `{server}` is no registry of Amazon's");
            let help = "one is `ACCOUNT.dkr.ecr.REGION.amazonaws.com`; for another name of the public one, set `aws_force_use_public_ecr`";
            diagnostics.push(Diagnostic::error("wrong-value", decoded.span("login_server"), title).help(help));
        }
        let is_empty = |key: &Option<Secret>| key.as_ref().is_none_or(|key| key.expose().is_empty());
        let (key, secret) = (is_empty(&self.aws_access_key), is_empty(&self.aws_secret_key));
        if key != secret && !decoded.is_unknown("aws_access_key") && !decoded.is_unknown("aws_secret_key") {
            let (given, missing) =
                if key { ("aws_secret_key", "aws_access_key") } else { ("aws_access_key", "aws_secret_key") };
            let title = format!("`{given}` is set and `{missing}` is not; keys go together");
            diagnostics.push(Diagnostic::error("missing-argument", decoded.span(given), title));
        }
    }
}

/// Asks AWS for passwords.
#[async_trait]
pub trait EcrLogins: Send + Sync {
    /// The login of a registry.
    async fn login(&self, registry: &EcrRegistry, options: &EcrOptions) -> Result<Credentials, Failure>;
}

/// Logins at Amazon's registries, as a source of credentials: there is one where AWS is built in, and it is asked where
/// `ecr_login` says so.
#[derive(Clone, Default)]
pub struct Amazon {
    logins: Option<Arc<dyn EcrLogins>>,
    chosen: Option<Arc<Chosen>>,
}

struct Chosen {
    options: EcrOptions,
    login_server: Option<String>,
}

impl fmt::Debug for Amazon {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Amazon").field("is_asked", &self.chosen.is_some()).finish_non_exhaustive()
    }
}

impl Amazon {
    /// Not asked yet: see [`Amazon::choose`].
    pub fn new(logins: Arc<dyn EcrLogins>) -> Amazon {
        Amazon { logins: Some(logins), chosen: None }
    }

    /// The same, asked with these options if they say so.
    #[must_use]
    pub fn choose(&self, options: &EcrOptions, login_server: Option<&str>) -> Amazon {
        let login_server = login_server.filter(|server| !server.is_empty()).map(normalize_registry);
        let chosen = options.ecr_login.then(|| Arc::new(Chosen { options: options.clone(), login_server }));
        Amazon { logins: self.logins.clone(), chosen }
    }

    /// The login of a host, where it is one of Amazon's and its login was asked for.
    pub(crate) async fn find(&self, host: &str) -> Result<Option<Credentials>, Failure> {
        let (Some(logins), Some(chosen)) = (&self.logins, &self.chosen) else { return Ok(None) };
        let host = normalize_registry(host);
        let is_alias = chosen.options.aws_force_use_public_ecr && chosen.login_server.as_ref() == Some(&host);
        let registry = if is_alias { Some(EcrRegistry::Public) } else { EcrRegistry::of(&host) };
        match registry {
            Some(registry) => logins.login(&registry, &chosen.options).await.map(Some),
            None => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CredentialSources, Origin};

    #[test]
    fn amazons_registries_are_known_by_their_names() {
        let private = |region: &str| Some(EcrRegistry::Private { region: region.to_owned() });
        for (host, expected) in [
            ("123456789012.dkr.ecr.eu-central-1.amazonaws.com", private("eu-central-1")),
            ("https://123456789012.dkr.ecr.us-east-1.amazonaws.com/", private("us-east-1")),
            ("123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn", private("cn-north-1")),
            ("123456789012.dkr.ecr-fips.us-east-1.amazonaws.com", private("us-east-1")),
            ("123456789012.dkr-ecr.us-east-1.on.aws", private("us-east-1")),
            ("public.ecr.aws", Some(EcrRegistry::Public)),
            ("docker.io", None),
            ("x.dkr.ecr.us-east-1.amazonaws.com", None),
            ("123456789012.dkr.ecr.us-east-1.example.org", None),
        ] {
            assert_eq!(EcrRegistry::of(host), expected, "{host}");
        }
    }

    struct Fake;

    #[async_trait]
    impl EcrLogins for Fake {
        async fn login(&self, registry: &EcrRegistry, options: &EcrOptions) -> Result<Credentials, Failure> {
            let EcrRegistry::Private { region } = registry else { return Err(Failure::environment("no such account")) };
            let profile = options.aws_profile.clone().unwrap_or_default();
            Ok(Credentials {
                username: "AWS".into(),
                password: Secret::new(format!("{profile}@{region}")),
                identity_token: None,
            })
        }
    }

    #[tokio::test]
    async fn aws_is_asked_only_where_the_options_say_so_and_for_its_own_hosts() {
        let host = "1.dkr.ecr.eu-west-1.amazonaws.com";
        let none = CredentialSources { amazon: Amazon::new(Arc::new(Fake)), ..CredentialSources::default() };
        assert_eq!(none.find(&format!("{host}/a/b")).await.unwrap(), None);
        let options = EcrOptions { ecr_login: true, aws_profile: Some("ci".into()), ..EcrOptions::default() };
        let sources = CredentialSources { amazon: none.amazon.choose(&options, None), ..none };
        let found = sources.find(&format!("{host}/a/b")).await.unwrap().unwrap();
        assert_eq!((found.credentials.password.expose(), found.origin), ("ci@eu-west-1", Origin::Amazon));
        assert_eq!(sources.find("docker.io").await.unwrap(), None);
        let error = sources.find("public.ecr.aws").await.unwrap_err();
        assert_eq!(error.to_string(), "cannot log in to public.ecr.aws: AWS gives no password");
    }

    #[tokio::test]
    async fn another_name_of_the_public_registry_has_to_be_told() {
        let options = EcrOptions { ecr_login: true, aws_force_use_public_ecr: true, ..EcrOptions::default() };
        let amazon = Amazon::new(Arc::new(Fake)).choose(&options, Some("https://images.example.org"));
        assert!(amazon.find("images.example.org").await.is_err());
        assert_eq!(amazon.find("other.example.org").await.unwrap(), None);
    }
}
