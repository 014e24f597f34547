//! AWS, where it is built in (the feature `aws`): one access for sources, data sources and logins at registries, so that
//! credentials are found, and a person is asked, once.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use kiln_builder_amazon_ebs::cloud::Clouds;
use kiln_core::{Kinds, Prompt};
use kiln_registry::Amazon;

use crate::prompt::TerminalPrompt;
use crate::ui::{self, Format, Screen};

/// Whether AWS can be asked: with the feature `aws`.
#[derive(Clone)]
pub(crate) struct AwsAccess {
    #[cfg(feature = "aws")]
    aws: kiln_aws::Aws,
    prompt: Arc<LatePrompt>,
}

impl fmt::Debug for AwsAccess {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("AwsAccess")
    }
}

#[cfg(feature = "aws")]
impl AwsAccess {
    /// Looks at nothing yet.
    pub(crate) fn new(environment: &std::collections::BTreeMap<String, String>) -> AwsAccess {
        let prompt = Arc::new(LatePrompt::default());
        let settings = kiln_aws::AwsSettings { environment: environment.clone(), prompt: Some(prompt.clone()) };
        AwsAccess { aws: kiln_aws::Aws::new(settings), prompt }
    }

    /// Connections to regions.
    pub(crate) fn clouds(&self) -> Arc<dyn Clouds> {
        Arc::new(self.aws.clone())
    }

    /// Logins at Amazon's registries.
    pub(crate) fn registries(&self) -> Amazon {
        Amazon::new(Arc::new(self.aws.clone()))
    }

    /// Adds AWS's data sources.
    pub(crate) fn add_data_sources(&self, kinds: &mut Kinds) {
        kiln_aws::register(kinds, &self.aws);
    }
}

#[cfg(not(feature = "aws"))]
impl AwsAccess {
    pub(crate) fn new(_: &std::collections::BTreeMap<String, String>) -> AwsAccess {
        AwsAccess { prompt: Arc::default() }
    }

    pub(crate) fn clouds(&self) -> Arc<dyn Clouds> {
        Arc::new(without::NoClouds)
    }

    pub(crate) fn registries(&self) -> Amazon {
        Amazon::default()
    }

    pub(crate) fn add_data_sources(&self, _: &mut Kinds) {}
}

impl AwsAccess {
    /// Questions go to this stage from now on.
    pub(crate) fn ask_on(&self, prompt: &Arc<dyn Prompt>) {
        *self.prompt.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(prompt));
    }
}

/// Asks on the stage of the run, and on a bare terminal before there is one: data sources are read earlier.
#[derive(Default)]
struct LatePrompt(Mutex<Option<Arc<dyn Prompt>>>);

#[async_trait]
impl Prompt for LatePrompt {
    async fn ask(&self, build: &str, question: &str) -> Option<String> {
        let stage = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(stage) = stage {
            return stage.ask(build, question).await;
        }
        let screen = Arc::new(Screen::new(false, false));
        let reporter = Arc::new(ui::reporter(Format::Human { timestamps: false }, &screen));
        let answer = TerminalPrompt::new(screen, Arc::clone(&reporter)).ask(build, question).await;
        reporter.finish();
        answer
    }
}

#[cfg(not(feature = "aws"))]
mod without {
    use std::net::IpAddr;
    use std::sync::Arc;

    use async_trait::async_trait;
    use kiln_builder_amazon_ebs::cloud::{Access, Cloud, Clouds};
    use kiln_core::Failure;

    /// Templates are checked all the same; a build says what is missing.
    pub(super) struct NoClouds;

    #[derive(Debug, thiserror::Error)]
    #[error("this kiln is built without AWS")]
    struct NoAws;

    fn none() -> Failure {
        Failure::environment(NoAws).hint("take a kiln that is built with the feature `aws`, as it is by default")
    }

    #[async_trait]
    impl Clouds for NoClouds {
        async fn cloud(&self, _: &Access, _: Option<&str>) -> Result<Arc<dyn Cloud>, Failure> {
            Err(none())
        }

        async fn caller_address(&self, _: &Access) -> Result<IpAddr, Failure> {
            Err(none())
        }
    }
}
