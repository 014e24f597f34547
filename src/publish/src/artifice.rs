//! `artifice`: other files take the place of the artifact.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use globset::GlobBuilder;
use kiln_core::{
    Artifact, BuildContext, Content, Decoded, Diagnostic, Diagnostics, Failure, Field, PostProcessor,
    PostProcessorKind, PrepareContext, Processed, Schema,
};
use kiln_transport::outputs::FilesOwner;
use serde::Deserialize;

use crate::error::PublishError;
use crate::prepare;

static SCHEMA: Schema = Schema {
    kind: "artifice",
    title: "an `artifice` post-processor",
    doc: "Puts files of this host in the artifact's place, for the next post-processors of the chain. The artifact before is kept.",
    fields: &[Field::strings(
        "files",
        "The files; `*`, `?` and `[...]` stand for parts of a name. A pattern that matches nothing is passed over with a warning.",
    )
    .required()],
    example: "post-processors {\n  post-processor \"artifice\" {\n    files = [\"rootfs.tar\"]\n  }\n  post-processor \"docker-import\" {\n    repository = \"group/image\"\n  }\n}",
};

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Artifice {
    files: Vec<String>,
}

/// The kind.
pub(crate) struct ArtificeKind;

impl PostProcessorKind for ArtificeKind {
    fn schema(&self) -> &'static Schema {
        &SCHEMA
    }

    fn prepare(
        &self,
        config: &Decoded,
        _context: &PrepareContext,
        diagnostics: &mut Diagnostics,
    ) -> Option<Arc<dyn PostProcessor>> {
        let artifice: Artifice = config.read_or_tell(diagnostics)?;
        let mut is_right = true;
        for (index, pattern) in artifice.files.iter().enumerate() {
            if let Err(error) = components(pattern) {
                let span = config.span(&format!("files[{index}]"));
                diagnostics.push(Diagnostic::error("wrong-pattern", span, error.to_string()));
                is_right = false;
            }
        }
        if config.values().get("files").and_then(serde_json::Value::as_array).is_some_and(Vec::is_empty) {
            let span = config.span("files");
            diagnostics.push(Diagnostic::error("wrong-value", span, "`files` is empty; name at least one file"));
            is_right = false;
        }
        is_right.then(|| Arc::new(artifice) as Arc<dyn PostProcessor>)
    }
}

#[async_trait]
impl PostProcessor for Artifice {
    async fn process(&self, artifact: &Artifact, context: &BuildContext) -> Result<Processed, Failure> {
        let patterns = self.files.clone();
        let found = prepare::blocking(context, PathBuf::from("."), move |_| {
            patterns.iter().map(|pattern| expand(pattern)).collect::<Result<Vec<_>, _>>()
        });
        let mut files: Vec<PathBuf> = Vec::new();
        for (pattern, matches) in self.files.iter().zip(found.await?) {
            if matches.is_empty() {
                context.events.warn(format!("artifice: no file matches `{pattern}`"));
            }
            for path in matches {
                if !files.contains(&path) {
                    files.push(path);
                }
            }
        }
        if files.is_empty() {
            let patterns = kiln_core::suggest::enumerate(self.files.iter().map(String::as_str));
            return Err(PublishError::NothingMatched { patterns }.into());
        }
        context.events.message(format!("using these files: {}", prepare::join_paths(&files)));
        if !artifact.files().is_empty() {
            context.events.message(format!("in place of: {}", prepare::join_paths(artifact.files())));
        }
        Ok(Processed {
            artifact: Artifact {
                builder_id: prepare::ARTIFICE_ID.to_owned(),
                id: String::new(),
                description: format!("Created artifact from files: {}", prepare::join_paths(&files)),
                content: Content::Files(files.clone()),
                // As in Packer: `docker-import` and `compress` remove their input unless told otherwise.
                owner: Some(Arc::new(FilesOwner { files })),
            },
            keep_input: true,
            force_keep: false,
        })
    }
}

/// A part of a pattern between slashes.
enum Component {
    Literal(String),
    Pattern(globset::GlobMatcher),
}

fn components(pattern: &str) -> Result<Vec<Component>, PublishError> {
    let part = |text: &str| {
        if !text.contains(['*', '?', '[', '\\']) {
            return Ok(Component::Literal(text.to_owned()));
        }
        // Go's patterns have no alternatives, so braces are plain letters.
        let text = text.replace('{', "[{]").replace('}', "[}]");
        let glob = GlobBuilder::new(&text).literal_separator(true).backslash_escape(true).build();
        glob.map(|glob| Component::Pattern(glob.compile_matcher()))
            .map_err(|source| PublishError::Pattern { pattern: pattern.to_owned(), source })
    };
    pattern.split('/').filter(|text| !text.is_empty()).map(part).collect()
}

/// What matches, sorted. As in Go's `filepath.Glob`, a directory that cannot be read matches nothing.
fn expand(pattern: &str) -> Result<Vec<PathBuf>, PublishError> {
    let mut found = vec![if pattern.starts_with('/') { PathBuf::from("/") } else { PathBuf::new() }];
    for component in components(pattern)? {
        found = match component {
            Component::Literal(name) => found.into_iter().map(|path| path.join(&name)).collect(),
            Component::Pattern(matcher) => found.iter().flat_map(|path| matching(path, &matcher)).collect(),
        };
    }
    found.retain(|path| !path.as_os_str().is_empty() && path.symlink_metadata().is_ok());
    found.sort();
    Ok(found)
}

fn matching(directory: &Path, matcher: &globset::GlobMatcher) -> Vec<PathBuf> {
    let listed = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    let Ok(entries) = std::fs::read_dir(listed) else { return Vec::new() };
    let names = entries.filter_map(|entry| entry.ok().map(|entry| entry.file_name()));
    names.filter(|name| matcher.is_match(name)).map(|name| directory.join(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::{Bench, image_artifact};

    #[tokio::test]
    async fn patterns_match_as_in_go() {
        let bench = Bench::new();
        for name in ["a.tar", "b.tar", "sub/c.tar", ".hidden.tar", "x{1}"] {
            bench.write(name, "x");
        }
        let names = |pattern: &str| {
            let root = bench.path("");
            let found = expand(&bench.path(pattern).display().to_string()).unwrap();
            found.iter().map(|path| path.strip_prefix(&root).unwrap().display().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(names("*.tar"), [".hidden.tar", "a.tar", "b.tar"]);
        assert_eq!(names("*/*.tar"), ["sub/c.tar"]);
        assert_eq!(names("[ab].tar"), ["a.tar", "b.tar"]);
        assert_eq!(names("?{1}"), ["x{1}"]);
        assert_eq!(names("a.tar"), ["a.tar"]);
        assert!(names("nope*").is_empty() && names("nope").is_empty());
    }

    #[tokio::test]
    async fn the_files_take_the_place_of_the_image() {
        let bench = Bench::new();
        bench.write("a.tar", "x");
        let path = bench.path("a.tar");
        let files = vec![path.display().to_string(), path.display().to_string(), "nope*".to_owned()];
        let processed = Artifice { files }.process(&image_artifact("sha256:1", &[]), &bench.context).await.unwrap();
        assert_eq!(processed.artifact.files(), std::slice::from_ref(&path));
        assert_eq!(processed.artifact.builder_id, "packer.post-processor.artifice");
        assert_eq!((processed.keep_input, processed.force_keep), (true, false));
        assert!(bench.warnings().iter().any(|text| text.contains("`nope*`")));
        let owner = processed.artifact.owner.clone().unwrap();
        owner.destroy(&processed.artifact, &bench.context).await.unwrap();
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn no_file_at_all_is_a_failure() {
        let bench = Bench::new();
        let artifice = Artifice { files: vec!["/nope/*".to_owned()] };
        let failure = artifice.process(&image_artifact("sha256:1", &[]), &bench.context).await.err().unwrap();
        assert_eq!(failure.to_string(), "no file matches `/nope/*`");
    }

    #[test]
    fn wrong_patterns_are_told_at_prepare() {
        let messages = crate::test_support::titles_of(&ArtificeKind, serde_json::json!({"files": ["[a"]}));
        assert!(messages[0].contains("`[a` is not a pattern"), "{messages:?}");
    }
}
