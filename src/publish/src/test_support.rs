//! What the tests of all post-processors share.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use kiln_core::{Artifact, Content, Diagnostics, Image, PostProcessor, PostProcessorKind, RunOptions};
use kiln_docker::fake::FakeEngine;
use kiln_docker::{Engine, EngineError};
use kiln_testkit::{Arguments, TestContext};
use serde_json::Value;

use crate::settings::{EngineProvider, GivenEngine};

/// A build context and a directory.
pub(crate) struct Bench {
    pub(crate) context: TestContext,
    pub(crate) directory: tempfile::TempDir,
}

impl Bench {
    pub(crate) fn new() -> Bench {
        Bench::with(kiln_testkit::context())
    }

    pub(crate) fn forced() -> Bench {
        Bench::with(kiln_testkit::context().options(RunOptions { force: true, ..RunOptions::default() }))
    }

    pub(crate) fn with(context: kiln_testkit::ContextBuilder) -> Bench {
        Bench { context: context.build(), directory: tempfile::tempdir().unwrap() }
    }

    /// A path in the directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes a file, and the directories it needs.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    pub(crate) fn warnings(&self) -> Vec<String> {
        self.context.reporter.warnings()
    }
}

/// What a docker source gives.
pub(crate) fn image_artifact(id: &str, tags: &[&str]) -> Artifact {
    let tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
    artifact("packer.docker", id, Content::Image(Image { id: id.to_owned(), tags, ..Image::default() }))
}

/// What artifice gives.
pub(crate) fn files_artifact(paths: &[&Path]) -> Artifact {
    artifact(
        "packer.post-processor.artifice",
        "",
        Content::Files(paths.iter().map(|path| path.to_path_buf()).collect()),
    )
}

fn artifact(builder_id: &str, id: &str, content: Content) -> Artifact {
    Artifact { builder_id: builder_id.to_owned(), id: id.to_owned(), description: id.to_owned(), content, owner: None }
}

pub(crate) fn provider(engine: &Arc<FakeEngine>) -> Arc<dyn EngineProvider> {
    let engine: Arc<dyn Engine> = engine.clone();
    Arc::new(GivenEngine { engine, environment: Default::default() })
}

pub(crate) fn prepare(
    kind: &dyn PostProcessorKind,
    arguments: Arguments,
) -> (Option<Arc<dyn PostProcessor>>, Diagnostics) {
    let (decoded, mut diagnostics) = arguments.decode(kind.schema());
    let prepared = kind.prepare(&decoded, &kiln_testkit::prepare_context(), &mut diagnostics);
    (prepared, diagnostics)
}

/// A post-processor whose arguments are right.
pub(crate) fn processor(kind: &dyn PostProcessorKind, arguments: Value) -> Arc<dyn PostProcessor> {
    let (prepared, diagnostics) = prepare(kind, Arguments::new(arguments));
    assert!(!diagnostics.has_errors(), "{diagnostics:?}");
    prepared.unwrap()
}

/// The titles of all diagnostics of a kind with these arguments.
pub(crate) fn titles_of(kind: &dyn PostProcessorKind, arguments: Value) -> Vec<String> {
    let (prepared, diagnostics) = prepare(kind, Arguments::new(arguments));
    assert!(prepared.is_some() || diagnostics.has_errors());
    diagnostics.items.into_iter().map(|item| item.title).collect()
}

/// What the engine says when a push is refused.
pub(crate) fn refused(message: &str) -> EngineError {
    EngineError::Refused { action: "push".to_owned(), message: message.to_owned(), status: None }
}

/// Says that a test cannot look at something here; where everything must be there, that is a failure.
#[expect(clippy::print_stderr, reason = "whoever runs the tests must see what was not tested")]
pub(crate) fn skip(reason: &str) {
    assert!(std::env::var_os("KILN_TEST_REQUIRE").is_none(), "{reason}");
    eprintln!("SKIPPED: {reason}");
}
