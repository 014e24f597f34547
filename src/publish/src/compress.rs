//! `compress`: an archive of the artifact's files, or one file compressed.

mod archive;
mod encoder;
mod format;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use kiln_core::{
    Artifact, BuildContext, Content, Decoded, Diagnostic, Diagnostics, Failure, Field, FieldType, PostProcessor,
    PostProcessorKind, PrepareContext, Processed, Schema,
};
use kiln_transport::outputs::{FilesOwner, PendingFile};
use serde::Deserialize;

use crate::error::PublishError;
use crate::prepare;
use format::{Archive, Format};

const DEFAULT_OUTPUT: &str = "packer_{{.BuildName}}_{{.BuilderType}}";

/// What is used where the template does not say, or says 0.
const DEFAULT_LEVEL: u32 = 6;

static SCHEMA: Schema = Schema {
    kind: "compress",
    title: "a `compress` post-processor",
    doc: "Packs the artifact's files into one. The extension of `output` chooses the form; without a known one it is tar with gzip. The files before are removed unless `keep_input_artifact` is set.",
    fields: &[
        Field::string("output", "The file; `{{.BuildName}}` and `{{.BuilderType}}` may stand in it.")
            .default(DEFAULT_OUTPUT)
            .deferred_with(&["BuildName", "BuilderType"]),
        Field::string(
            "format",
            "The form, whatever the extension: `tar`, `zip`, `gz`, `bgzf`, `lz4`, `xz`, `bz2`, or `tar.` and one of the last five. Without `tar` or `zip` there may be one file only.",
        ),
        Field::new("compression_level", FieldType::Integer, "From 1, fast, to 9, small. LZ4 has no levels.")
            .default("6"),
    ],
    example: "post-processor \"compress\" {\n  output = \"{{.BuildName}}.tar.gz\"\n}",
};

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Arguments {
    output: Option<String>,
    format: Option<String>,
    compression_level: i64,
}

#[derive(Debug)]
struct Compress {
    output: String,
    /// `None`: the rendered output's extension decides.
    format: Option<Format>,
    level: u32,
}

/// The kind.
pub(crate) struct CompressKind;

impl PostProcessorKind for CompressKind {
    fn schema(&self) -> &'static Schema {
        &SCHEMA
    }

    fn prepare(
        &self,
        config: &Decoded,
        _context: &PrepareContext,
        diagnostics: &mut Diagnostics,
    ) -> Option<Arc<dyn PostProcessor>> {
        let arguments: Arguments = config.read_or_tell(diagnostics)?;
        let output = arguments.output.filter(|output| !output.is_empty()).unwrap_or_else(|| DEFAULT_OUTPUT.to_owned());
        let mut format = None;
        if let Some(name) = arguments.format.filter(|name| !name.is_empty()) {
            format = Format::named(&name);
            if format.is_none() {
                let span = config.span("format");
                let diagnostic = Diagnostic::error("wrong-value", span, format!("`{name}` is not a form of archive"));
                diagnostics.push(diagnostic.did_you_mean(span, &name, Format::NAMES.iter().copied()));
                return None;
            }
        } else if let Some(extension) = format::misleading_extension(&output) {
            let title = format!("kiln cannot write `{extension}`, so `{output}` will be tar with gzip");
            diagnostics.push(
                Diagnostic::warning("misleading-extension", config.span("output"), title)
                    .help(format!("known: {}", kiln_core::suggest::enumerate(Format::NAMES.iter().copied()))),
            );
        }
        Some(Arc::new(Compress { output, format, level: level(config, arguments.compression_level, diagnostics) }))
    }
}

/// As in Packer: what is beyond 9 is 9, and 0 and less are the default. But said.
fn level(config: &Decoded, wanted: i64, diagnostics: &mut Diagnostics) -> u32 {
    match wanted {
        1..=9 => wanted as u32,
        10.. => {
            let title = format!("`compression_level` goes from 1 to 9; {wanted} counts as 9");
            diagnostics.push(Diagnostic::warning("wrong-value", config.span("compression_level"), title));
            9
        }
        _ => DEFAULT_LEVEL,
    }
}

#[async_trait]
impl PostProcessor for Compress {
    async fn process(&self, artifact: &Artifact, context: &BuildContext) -> Result<Processed, Failure> {
        let inputs = artifact.files().to_vec();
        if inputs.is_empty() {
            let builder_id = artifact.builder_id.clone();
            return Err(PublishError::NoFiles { processor: "compress", builder_id }.into());
        }
        let output = PathBuf::from(prepare::render(context, "output", &self.output, &[])?);
        let format = self.format.unwrap_or_else(|| Format::of_file(&output));
        if format.archive == Archive::None && inputs.len() > 1 {
            let processor = format!("compress to {}", format.name());
            return Err(PublishError::NotOneFile { processor, count: inputs.len() }.into());
        }
        check_output(&output, &inputs).await?;
        context.events.message(format!("writing {} ({})", output.display(), format.name()));
        let (pending, file) = PendingFile::create(context, &output, 0o644).await?;
        let (level, target) = (self.level, output.clone());
        prepare::blocking(context, output.clone(), move |cancel| {
            archive::write(&archive::Task { format, level, inputs: &inputs, target: &target, cancel }, file)
        })
        .await?;
        pending.finish().await?;
        Ok(Processed {
            artifact: Artifact {
                builder_id: "packer.post-processor.compress".to_owned(),
                id: String::new(),
                description: format!("compressed artifacts in: {}", output.display()),
                content: Content::Files(vec![output.clone()]),
                owner: Some(Arc::new(FilesOwner { files: vec![output] })),
            },
            keep_input: false,
            force_keep: false,
        })
    }
}

/// Replacing an input would lose it, and removing the inputs afterwards would remove the result.
async fn check_output(output: &Path, inputs: &[PathBuf]) -> Result<(), PublishError> {
    let Ok(output) = tokio::fs::canonicalize(output).await else { return Ok(()) };
    for input in inputs {
        if tokio::fs::canonicalize(input).await.is_ok_and(|input| input == output) {
            return Err(PublishError::OutputIsInput { path: output });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
