//! What is built in: the one place that knows all builders, provisioners and post-processors.

use std::sync::Arc;

use async_trait::async_trait;
use kiln_builder_amazon_ebs::{AmazonEbsKind, AmazonSettings};
use kiln_builder_docker::{DockerBuilderKind, DockerSettings};
use kiln_builder_dockerfile::DockerfileKind;
use kiln_builder_file::FileBuilderKind;
use kiln_builder_null::NullBuilderKind;
use kiln_builder_oci::{OciBuilderKind, OciSettings, OciUndoer};
use kiln_core::{BuilderKind, Failure, FailureClass, Kinds};
use kiln_data::DataSettings;
use kiln_docker::{BollardEngine, DEFAULT_HOST, DockerUndoer, Engine};
use kiln_image::Layout;
use kiln_provisioner_ansible::{AnsibleKind, AnsibleSettings};
use kiln_provisioner_ansible_local::AnsibleLocalKind;
use kiln_publish::{GivenEngine, PublishSettings, StoreProvider};
use kiln_registry::CredentialSources;
use kiln_sandbox::HelperProgram;
use kiln_ssh::SshProcess;

use crate::commands::stores::USUAL_SIZE;
use crate::settings::Settings;

/// All kinds. Nothing is connected to yet; a `DOCKER_HOST` that is no address at all is told by what needs an engine.
pub(crate) fn all(settings: &Settings) -> Result<Kinds, Failure> {
    with_engine(BollardEngine::when_needed(&settings.environment), settings)
}

/// Whether an engine can be where builds of these kinds look for it, as far as that is known without asking there.
pub(crate) fn check_engine<'a>(
    mut builders: impl Iterator<Item = &'a str>,
    settings: &Settings,
) -> Result<(), Failure> {
    if builders.any(|kind| kind == "docker") && settings.docker_as.as_deref() != Some("oci") {
        BollardEngine::connect(None, &settings.environment)?;
    }
    Ok(())
}

/// All kinds, to check templates with: `DOCKER_HOST` is not looked at, no engine is ever spoken to.
pub(crate) fn offline(settings: &Settings) -> Result<Kinds, Failure> {
    with_engine(BollardEngine::connect(Some(DEFAULT_HOST), &settings.environment)?, settings)
}

/// The kinds of data sources. Nothing is connected to.
pub(crate) fn data_sources(settings: &Settings) -> Kinds {
    let mut kinds = Kinds::new();
    kiln_data::register(&mut kinds, DataSettings { environment: settings.environment.clone() });
    settings.aws.add_data_sources(&mut kinds);
    kinds
}

fn with_engine(engine: BollardEngine, settings: &Settings) -> Result<Kinds, Failure> {
    let engine: Arc<dyn Engine> = Arc::new(engine);
    let mut credentials = CredentialSources::usual(settings.environment.clone(), settings.home.as_deref());
    credentials.amazon = settings.aws.registries();
    let mut kinds = Kinds::new();
    let docker_settings = DockerSettings {
        engine: Arc::clone(&engine),
        usual: None,
        credentials: credentials.clone(),
        home: settings.home.clone(),
        store: Some(settings.cache_dir.join(settings.host.uid.to_string())),
        states_size: states_size(settings),
    };
    kinds.add_builder(Arc::new(DockerfileKind::new(docker_settings.clone())));
    let docker: Arc<dyn BuilderKind> = Arc::new(DockerBuilderKind::new(docker_settings));
    let helper = HelperProgram::this_program();
    let oci = Arc::new(OciBuilderKind::new(OciSettings {
        cache: settings.cache_dir.clone(),
        helper: helper.clone(),
        credentials: credentials.clone(),
        home: settings.home.clone(),
        engine: Arc::clone(&engine),
    }));
    // Where no engine makes images, none is asked to import one.
    let mut store: Option<Arc<dyn StoreProvider>> = None;
    kinds.add_builder(match settings.docker_as.as_deref() {
        None | Some("docker") => docker,
        Some("oci") => {
            store = Some(Arc::new(OciStore(Arc::clone(&oci))));
            oci.as_docker(docker)
        }
        Some(other) => return Err(Failure::new(FailureClass::Usage, UnknownBuilder(other.to_owned()))),
    });
    kinds.add_builder(oci);
    kinds.add_builder(Arc::new(FileBuilderKind));
    let ssh = SshProcess { home: settings.home.clone(), environment: settings.environment.clone() };
    let amazon = AmazonEbsKind::new(AmazonSettings::new(settings.aws.clouds(), ssh.clone()));
    kinds.add_undoer(Arc::new(amazon.undoer()));
    kinds.add_builder(Arc::new(amazon));
    kinds.add_builder(Arc::new(NullBuilderKind::new(ssh)));
    kinds.add_undoer(Arc::new(OciUndoer::new(helper)));
    kinds.add_provisioner(Arc::new(AnsibleKind::new(AnsibleSettings {
        environment: settings.environment.clone().into(),
        home: settings.home.clone(),
        color: settings.color,
    })));
    kinds.add_provisioner(Arc::new(AnsibleLocalKind));
    kinds.add_provisioner(Arc::new(kiln_provisioner_breakpoint::BreakpointKind));
    kinds.add_provisioner(Arc::new(kiln_provisioner_file::FileKind));
    kinds.add_provisioner(Arc::new(kiln_provisioner_shell::ShellKind));
    kinds.add_provisioner(Arc::new(kiln_provisioner_shell_local::ShellLocalKind));
    kinds.add_provisioner(Arc::new(kiln_provisioner_sleep::SleepKind));
    let engine = Arc::new(GivenEngine { engine, environment: settings.environment.clone() });
    kiln_publish::register(&mut kinds, PublishSettings { engine, credentials, store });
    kinds.add_undoer(Arc::new(DockerUndoer::new(settings.environment.clone())));
    Ok(kinds)
}

/// Bound on what kept states of containers take: as that of a store.
fn states_size(settings: &Settings) -> Option<u64> {
    match settings.cache_max_size.as_deref() {
        Some("unlimited") => None,
        // A size that cannot be read is told where stores are collected.
        Some(text) => Some(crate::amount::size(text).unwrap_or(USUAL_SIZE)),
        None => Some(USUAL_SIZE),
    }
}

/// The store of machines without a daemon, for images that no machine makes.
struct OciStore(Arc<OciBuilderKind>);

#[async_trait]
impl StoreProvider for OciStore {
    async fn layout(&self) -> Result<Layout, Failure> {
        self.0.layout().await
    }
}

#[derive(Debug, thiserror::Error)]
#[error("`docker` sources run with `docker` or `oci`, and KILN_DOCKER_AS is `{0}`")]
struct UnknownBuilder(String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_sources_may_run_without_a_daemon() {
        let with = |word: &str| offline(&Settings { docker_as: Some(word.to_owned()), ..Settings::for_tests() });
        assert_eq!(with("oci").unwrap().builder("docker").unwrap().schema().kind, "docker");
        let failure = with("podman").unwrap_err();
        assert_eq!((failure.class, failure.to_string().contains("`podman`")), (FailureClass::Usage, true));
    }
}
