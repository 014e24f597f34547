//! What the kinds share when they check arguments and when they start to work.

use std::collections::BTreeMap;
use std::path::PathBuf;

use kiln_core::{BuildContext, Decoded, Diagnostic, Diagnostics, PrepareContext};
use kiln_gotemplate::{Data, Rendered, Scope};
use kiln_registry::Reference;
use tokio_util::sync::CancellationToken;

use crate::error::PublishError;

/// What `artifice` and those like it call themselves, after Packer.
pub(crate) const ARTIFICE_ID: &str = "packer.post-processor.artifice";

/// Checks `repository`; `None` with a diagnostic, or where it is not there or not known yet.
pub(crate) fn repository(
    config: &Decoded,
    text: &str,
    context: &PrepareContext,
    diagnostics: &mut Diagnostics,
) -> Option<Reference> {
    if text.is_empty() && (config.is_unknown("repository") || !config.is_set("repository")) {
        return None;
    }
    let checked = Reference::parse_repository(text);
    checked
        .map_err(|error| {
            let diagnostic = Diagnostic::error("wrong-repository", config.span("repository"), error.to_string());
            let has_gap = text.is_empty() || text.starts_with('/') || text.ends_with('/') || text.contains("//");
            diagnostics.push(match has_gap {
                true => context.unless_checked(diagnostic).help(UNSET),
                false => diagnostic.help("write for example `registry.example.org/group/image`; tags stand in `tags`"),
            });
        })
        .ok()
}

/// What is wrong with a tag. One that begins as none may lacks a part that the environment should give.
pub(crate) fn wrong_tag(tag: &str, diagnostic: Diagnostic, context: &PrepareContext) -> Diagnostic {
    let has_gap = tag.is_empty() || tag.starts_with(['-', '.']);
    if has_gap { context.unless_checked(diagnostic).help(UNSET) } else { diagnostic }
}

/// Why something is empty.
pub(crate) const UNSET: &str = "a variable of the environment that is not set is the usual reason";

/// Warns of an argument that is taken for Packer's sake and does nothing here.
pub(crate) fn warn_unused(config: &Decoded, name: &str, reason: &str, diagnostics: &mut Diagnostics) {
    if config.is_set(name) {
        let title = format!("`{name}` has no effect: {reason}");
        diagnostics.push(Diagnostic::warning("unused-argument", config.span(name), title));
    }
}

/// Why `docker_path` does nothing.
pub(crate) const DOCKER_PATH_UNUSED: &str =
    "kiln talks to the engine directly; choose another engine with `DOCKER_HOST`";

/// Runs blocking work on a thread for it; the work sees the token cancelled when the build is, or when this future is
/// dropped.
pub(crate) async fn blocking<T: Send + 'static>(
    context: &BuildContext,
    path: PathBuf,
    work: impl FnOnce(&CancellationToken) -> Result<T, PublishError> + Send + 'static,
) -> Result<T, PublishError> {
    let cancel = context.cancel.child_token();
    let _guard = cancel.clone().drop_guard();
    let result = tokio::task::spawn_blocking(move || {
        let result = work(&cancel);
        // A reader that was stopped shows up as an I/O error somewhere deep in an encoder.
        if result.is_err() && cancel.is_cancelled() { Err(PublishError::Cancelled) } else { result }
    });
    result.await.unwrap_or_else(|source| Err(PublishError::Worker { path, source }))
}

/// Renders a deferred text with `.BuildName`, `.BuilderType` and what is given besides.
pub(crate) fn render(
    context: &BuildContext,
    argument: &'static str,
    text: &str,
    further: &[(&str, &str)],
) -> Result<String, PublishError> {
    let own = [("BuildName", &*context.build_name), ("BuilderType", &*context.builder_kind)];
    let data: BTreeMap<String, Data> =
        own.iter().chain(further).map(|(name, value)| ((*name).to_owned(), Data::Text((*value).to_owned()))).collect();
    let scope = Scope {
        text: &context.text_scope,
        build_name: Some(&context.build_name),
        build_type: Some(&context.builder_kind),
        build: context.facts.build.as_ref(),
        allow_env: false,
    };
    match kiln_gotemplate::render(text, &scope, &data) {
        Ok(Rendered::Text(text)) => Ok(text),
        Ok(Rendered::Unknown) => Err(PublishError::Unrendered { argument }),
        Err(source) => Err(PublishError::Template { argument, source }),
    }
}

/// `a, b` for messages.
pub(crate) fn join_paths(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}
