//! `shell-local`: scripts on this host, after the build. The artifact is passed on.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use kiln_core::{
    Artifact, BuildContext, Decoded, Diagnostics, Failure, Hook, HookKind, PostProcessor, PostProcessorKind,
    PrepareContext, Processed, Schema,
};
use kiln_transport::LocalCommunicator;
use kiln_transport::local_script::{FIELDS, LocalData, LocalScript};

static SCHEMA: Schema = Schema {
    kind: "shell-local",
    title: "a `shell-local` post-processor",
    doc: "Runs scripts on this host. They get `PACKER_BUILD_NAME` and `PACKER_BUILDER_TYPE`, and what was made as `KILN_ARTIFACT_ID`, `KILN_ARTIFACT_FILES` (a line each), `KILN_IMAGE_ID`, `KILN_IMAGE_TAGS` (a line each) and `KILN_IMAGE_DIGEST`. The artifact is passed on and always kept.",
    fields: FIELDS,
    example: "post-processor \"shell-local\" {\n  inline = [\"docker run --rm $KILN_ARTIFACT_ID true\"]\n}",
};

/// The kind.
pub(crate) struct ShellLocalKind;

struct ShellLocal {
    script: LocalScript,
}

impl PostProcessorKind for ShellLocalKind {
    fn schema(&self) -> &'static Schema {
        &SCHEMA
    }

    fn prepare(
        &self,
        config: &Decoded,
        _context: &PrepareContext,
        diagnostics: &mut Diagnostics,
    ) -> Option<Arc<dyn PostProcessor>> {
        let script = LocalScript::prepare(config, SCHEMA.title, diagnostics)?;
        Some(Arc::new(ShellLocal { script }))
    }
}

#[async_trait]
impl PostProcessor for ShellLocal {
    async fn process(&self, artifact: &Artifact, context: &BuildContext) -> Result<Processed, Failure> {
        let data = LocalData { fields: BTreeMap::new(), environment: environment(artifact) };
        self.script.run(&LocalCommunicator, context, &data).await?;
        Ok(Processed { artifact: artifact.clone(), keep_input: true, force_keep: true })
    }
}

/// What hooks take: as the post-processor, and their own environment.
static HOOK_SCHEMA: Schema = Schema {
    kind: "hook",
    title: "a hook",
    doc: "A script of this host that runs when a build has ended.",
    fields: FIELDS,
    example: "",
};

/// Hooks, which are local scripts, too.
pub(crate) struct ShellHookKind;

struct ShellHook {
    script: LocalScript,
}

impl HookKind for ShellHookKind {
    fn schema(&self) -> &'static Schema {
        &HOOK_SCHEMA
    }

    fn prepare(
        &self,
        config: &Decoded,
        _context: &PrepareContext,
        diagnostics: &mut Diagnostics,
    ) -> Option<Arc<dyn Hook>> {
        let script = LocalScript::prepare(config, HOOK_SCHEMA.title, diagnostics)?;
        Some(Arc::new(ShellHook { script }))
    }
}

#[async_trait]
impl Hook for ShellHook {
    async fn run(&self, facts: BTreeMap<String, String>, context: &BuildContext) -> Result<(), Failure> {
        let data = LocalData { fields: BTreeMap::new(), environment: facts };
        self.script.run(&LocalCommunicator, context, &data).await
    }
}

/// What the scripts learn of the artifact; a variable is there only where there is something to tell.
fn environment(artifact: &Artifact) -> BTreeMap<String, String> {
    let lines = |items: Vec<String>| items.join("\n");
    let files = artifact.files().iter().map(|path| path.display().to_string()).collect();
    let mut pairs = vec![("KILN_ARTIFACT_ID", artifact.id.clone()), ("KILN_ARTIFACT_FILES", lines(files))];
    if let Some(image) = artifact.image() {
        pairs.push(("KILN_IMAGE_ID", image.id.clone()));
        pairs.push(("KILN_IMAGE_TAGS", lines(image.tags.clone())));
        pairs.push(("KILN_IMAGE_DIGEST", image.digest.clone().unwrap_or_default()));
    }
    let present = pairs.into_iter().filter(|(_, value)| !value.is_empty());
    present.map(|(name, value)| (name.to_owned(), value)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::test_support::{Bench, image_artifact, processor, titles_of};

    #[tokio::test]
    async fn scripts_learn_of_the_artifact_and_pass_it_on() {
        let bench = Bench::new();
        let output = bench.path("seen");
        let script = format!("echo \"$PACKER_BUILD_NAME $KILN_IMAGE_ID\" $KILN_IMAGE_TAGS > {}", output.display());
        let shell = processor(&ShellLocalKind, json!({ "inline": [script] }));
        let artifact = image_artifact("sha256:1", &["a:1", "a:2"]);
        let processed = shell.process(&artifact, &bench.context).await.unwrap();
        assert_eq!(std::fs::read_to_string(output).unwrap(), "worker sha256:1 a:1 a:2\n");
        assert_eq!(processed.artifact.id, artifact.id);
        assert!(processed.keep_input && processed.force_keep);
    }

    #[tokio::test]
    async fn a_script_that_fails_fails_the_post_processor() {
        let bench = Bench::new();
        let shell = processor(&ShellLocalKind, json!({ "inline": ["exit 3"] }));
        let failure = shell.process(&image_artifact("sha256:1", &[]), &bench.context).await.err().unwrap();
        assert!(failure.chain().contains('3'), "{}", failure.chain());
    }

    #[test]
    fn one_source_of_commands_is_needed() {
        assert_eq!(titles_of(&ShellLocalKind, json!({})).len(), 1);
    }
}
