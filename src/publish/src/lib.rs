//! Post-processors: what happens to an artifact after a build.
//!
//! Owns: naming, pushing, saving and importing images, the manifest, checksums, archives, scripts on this host. Must not
//! know: how a Docker engine is reached (it is given one), where a template came from, any builder or provisioner.
//!
//! Each kind stands in a file of its own; [`register`] puts them all into the table of kinds.

mod artifice;
mod checksum;
mod compress;
mod docker_import;
mod docker_load;
mod docker_push;
mod docker_save;
mod docker_tag;
mod error;
mod file_lock;
mod index;
mod layout;
mod manifest;
mod prepare;
mod progress;
mod settings;
mod shell_local;

use std::sync::Arc;

use kiln_core::Kinds;
use kiln_transport::outputs::TempFileUndoer;

pub use error::PublishError;
pub use settings::{EngineProvider, GivenEngine, PublishSettings, StoreProvider};

/// Adds all post-processors, and the undoer of their unfinished files.
pub fn register(kinds: &mut Kinds, settings: PublishSettings) {
    let engine = &settings.engine;
    kinds.add_post_processor(Arc::new(artifice::ArtificeKind));
    kinds.add_post_processor(Arc::new(checksum::ChecksumKind));
    kinds.add_post_processor(Arc::new(compress::CompressKind));
    kinds.add_post_processor(Arc::new(docker_import::DockerImportKind {
        engine: Arc::clone(engine),
        store: settings.store.clone(),
        epoch: settings.credentials.environment.get("SOURCE_DATE_EPOCH").and_then(|text| text.trim().parse().ok()),
    }));
    kinds.add_post_processor(Arc::new(docker_load::DockerLoadKind { engine: Arc::clone(engine) }));
    kinds.add_post_processor(Arc::new(docker_save::DockerSaveKind { engine: Arc::clone(engine) }));
    kinds.add_post_processor(Arc::new(docker_tag::DockerTagKind { engine: Arc::clone(engine) }));
    kinds.add_post_processor(Arc::new(manifest::ManifestKind));
    kinds.add_post_processor(Arc::new(docker_push::DockerPushKind {
        engine: Arc::clone(engine),
        credentials: settings.credentials,
    }));
    kinds.add_post_processor(Arc::new(shell_local::ShellLocalKind));
    kinds.set_hook(Arc::new(shell_local::ShellHookKind));
    kinds.add_undoer(Arc::new(TempFileUndoer));
}

#[cfg(test)]
mod real_registry_tests;
#[cfg(test)]
mod reference_tests;
#[cfg(test)]
mod test_support;
