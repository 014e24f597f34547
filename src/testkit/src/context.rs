//! A ready build context with scratch space of its own.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Arc;

use kiln_core::{BuildContext, Events, Facts, PrepareContext, Redactor, RunOptions, TextScope};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::journal::MemoryJournal;
use crate::prompt::FixedPrompt;
use crate::reporter::RecordingReporter;

/// A build context, and the fakes behind it. Its scratch directory goes with it.
#[derive(Debug)]
pub struct TestContext {
    /// The context itself; `&test_context` serves where a `&BuildContext` is wanted.
    pub context: BuildContext,
    /// All events.
    pub reporter: Arc<RecordingReporter>,
    /// All undos.
    pub journal: Arc<MemoryJournal>,
    /// All questions.
    pub prompt: Arc<FixedPrompt>,
    _scratch: TempDir,
}

impl Deref for TestContext {
    type Target = BuildContext;

    fn deref(&self) -> &BuildContext {
        &self.context
    }
}

/// Starts a context: build `docker.worker` (named `worker`) of a `docker` source, facts `ID` and `Host`, nobody at the
/// terminal.
pub fn context() -> ContextBuilder {
    let facts = [("ID", "4f1c"), ("Host", "localhost")];
    ContextBuilder {
        build: "docker.worker".into(),
        build_name: "worker".into(),
        builder_kind: "docker".into(),
        secrets: Vec::new(),
        facts: facts.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        prompt: FixedPrompt::absent(),
        options: RunOptions::default(),
        text_scope: TextScope::default(),
    }
}

/// The matching context for `prepare`.
pub fn prepare_context() -> PrepareContext {
    PrepareContext {
        build: "docker.worker".into(),
        build_name: "worker".into(),
        builder_kind: "docker".into(),
        force: false,
        will_run: true,
        is_variant: false,
        has_steps: true,
        has_tests: false,
        directory: PathBuf::new(),
    }
}

/// Changes what [`context`] starts with.
#[derive(Debug)]
pub struct ContextBuilder {
    build: String,
    build_name: String,
    builder_kind: String,
    secrets: Vec<String>,
    facts: BTreeMap<String, String>,
    prompt: FixedPrompt,
    options: RunOptions,
    text_scope: TextScope,
}

impl ContextBuilder {
    /// Another build.
    #[must_use]
    pub fn build_called(mut self, build: &str, build_name: &str, builder_kind: &str) -> ContextBuilder {
        self.build = build.into();
        self.build_name = build_name.into();
        self.builder_kind = builder_kind.into();
        self
    }

    /// The redactor knows this.
    #[must_use]
    pub fn secret(mut self, secret: &str) -> ContextBuilder {
        self.secrets.push(secret.into());
        self
    }

    /// One more value of `build.*`.
    #[must_use]
    pub fn fact(mut self, name: &str, value: &str) -> ContextBuilder {
        self.facts.insert(name.into(), value.into());
        self
    }

    /// Somebody else at the terminal.
    #[must_use]
    pub fn prompt(mut self, prompt: FixedPrompt) -> ContextBuilder {
        self.prompt = prompt;
        self
    }

    /// Other settings of the run.
    #[must_use]
    pub fn options(mut self, options: RunOptions) -> ContextBuilder {
        self.options = options;
        self
    }

    /// Another template around it.
    #[must_use]
    pub fn text_scope(mut self, text_scope: TextScope) -> ContextBuilder {
        self.text_scope = text_scope;
        self
    }

    /// The context.
    ///
    /// # Panics
    /// When no temporary directory can be made.
    #[expect(clippy::expect_used, reason = "a test cannot go on without its scratch directory")]
    pub fn build(self) -> TestContext {
        let scratch = tempfile::tempdir().expect("a temporary directory can be made");
        let reporter = Arc::new(RecordingReporter::new());
        let journal = Arc::new(MemoryJournal::new());
        let prompt = Arc::new(self.prompt);
        let redactor = Arc::new(Redactor::new());
        self.secrets.iter().for_each(|secret| redactor.add(secret));
        let build: Arc<str> = self.build.into();
        let events = Events::new(reporter.clone(), Arc::clone(&redactor)).for_build(Arc::clone(&build));
        let context = BuildContext {
            run: "00000000-0000-4000-8000-000000000000".into(),
            build,
            builder_kind: self.builder_kind.into(),
            build_name: self.build_name.into(),
            events,
            cancel: CancellationToken::new(),
            journal: journal.clone(),
            redactor,
            scratch: scratch.path().to_owned(),
            options: Arc::new(self.options),
            prompt: prompt.clone(),
            facts: Arc::new(Facts { build: Some(self.facts), ..Facts::default() }),
            text_scope: Arc::new(self.text_scope),
            secrets: None,
        };
        TestContext { context, reporter, journal, prompt, _scratch: scratch }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_pass_the_redactor_and_bear_the_build() {
        let context = context().secret("hunter22").build();
        context.events.message("the password is hunter22");
        assert_eq!(context.reporter.messages(), ["the password is <sensitive>"]);
        assert_eq!(context.reporter.events()[0].build.as_deref(), Some("docker.worker"));
        assert!(context.scratch.is_dir());
    }
}
