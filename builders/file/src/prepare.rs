//! The arguments, and what is wrong with them.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use kiln_core::{
    BuildContext, Builder, BuilderKind, Decoded, Diagnostic, Diagnostics, Failure, Field, Launched, PrepareContext,
    Schema,
};
use serde::Deserialize;

use crate::machine::NoMachine;
use crate::write::{self, Origin};

const FILE: Schema = Schema {
    kind: "file",
    title: "a `file` source",
    doc: "Writes a file on this host: no machine is started. Steps and post-processors that work on files and on this host \
          (`shell-local`, `checksum`, `compress`, ...) come after it.",
    fields: &[
        Field::string("target", "The file to write; its directory is made, and an older file is replaced.").required(),
        Field::string("content", "What is written to it. Either this or `source`; an empty file without both."),
        Field::string("source", "The file of this host that is copied to it."),
    ],
    example: r#"source "file" "worker" {
  content = "baked at ${timestamp()}\n"
  target  = "out/motd"
}"#,
};

#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    target: String,
    content: Option<String>,
    source: Option<String>,
}

/// The kind `file`.
pub struct FileBuilderKind;

impl BuilderKind for FileBuilderKind {
    fn schema(&self) -> &'static Schema {
        &FILE
    }

    fn prepare(
        &self,
        decoded: &Decoded,
        context: &PrepareContext,
        diagnostics: &mut Diagnostics,
    ) -> Option<Arc<dyn Builder>> {
        let config: Config = decoded.read_or_tell(diagnostics)?;
        let mut found = Diagnostics::new();
        check(&config, decoded, context, &mut found);
        let is_wrong = found.has_errors() || config.target.is_empty();
        diagnostics.extend(found);
        if is_wrong {
            return None;
        }
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        let origin = match given(config.source) {
            Some(source) => Origin::Copy(PathBuf::from(source)),
            None => Origin::Content(config.content.unwrap_or_default()),
        };
        Some(Arc::new(FileBuilder { origin, target: PathBuf::from(config.target) }))
    }
}

/// An empty text counts as none, as in Packer.
fn check(config: &Config, decoded: &Decoded, context: &PrepareContext, found: &mut Diagnostics) {
    let has = |name: &str, value: &Option<String>| {
        decoded.is_unknown(name) || value.as_ref().is_some_and(|text| !text.is_empty())
    };
    if decoded.is_set("target") && config.target.is_empty() && !decoded.is_unknown("target") {
        found.push(Diagnostic::error("empty-value", decoded.span("target"), "`target` is empty"));
    }
    match (has("content", &config.content), has("source", &config.source)) {
        (true, true) => {
            let title = "`content` and `source` are both set; a file source takes one of them";
            let diagnostic = Diagnostic::error("file-source", decoded.span("source"), title);
            found.push(diagnostic.also(decoded.span("content"), "set here too"));
        }
        (false, false) => {
            let title = "`content` and `source` are both empty; the file will be empty";
            found.push(Diagnostic::warning("file-source", decoded.body_span(), title));
        }
        _ => {}
    }
    if let Some(source) = config.source.as_deref().filter(|text| !text.is_empty()) {
        let problem = match std::fs::metadata(source) {
            Ok(metadata) if metadata.is_dir() => "is a directory; a file source copies one file",
            Ok(_) => return,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => "does not exist",
            // Told when it is read.
            Err(_) => return,
        };
        // A step of another tool may make it before the build.
        let error = Diagnostic::error("file-source", decoded.span("source"), format!("{source} {problem}"));
        found.push(context.unless_checked(error));
    }
}

/// A configured `file` source.
struct FileBuilder {
    origin: Origin,
    target: PathBuf,
}

#[async_trait]
impl Builder for FileBuilder {
    async fn launch(&self, context: &BuildContext) -> Result<Launched, Failure> {
        // Before the steps, as in Packer: they may look at the file.
        context.unless_cancelled(write::write(&self.origin, &self.target, context)).await??;
        Ok(Launched::Machine(Box::new(NoMachine::new(self.target.clone()))))
    }
}
