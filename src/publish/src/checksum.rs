//! `checksum`: digests of the artifact's files, in the form that `md5sum --check` and its like read.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use kiln_core::{
    Artifact, BuildContext, Content, Decoded, Diagnostic, Diagnostics, Failure, Field, PostProcessor,
    PostProcessorKind, PrepareContext, Processed, Schema,
};
use kiln_transport::outputs::{FilesOwner, PendingFile};
use serde::Deserialize;
use sha2::digest::{Digest, DynDigest};
use tokio_util::sync::CancellationToken;

use crate::error::PublishError;
use crate::file_lock::FileLock;
use crate::prepare;

const DEFAULT_OUTPUT: &str = "packer_{{.BuildName}}_{{.BuilderType}}_{{.ChecksumType}}.checksum";

const TYPES: &[&str] = &["md5", "sha1", "sha224", "sha256", "sha384", "sha512"];

static SCHEMA: Schema = Schema {
    kind: "checksum",
    title: "a `checksum` post-processor",
    doc: "Writes digests of the artifact's files, a line each. The files are always kept, and the new ones join them.",
    fields: &[
        Field::strings("checksum_types", "Which digests: `md5`, `sha1`, `sha224`, `sha256`, `sha384`, `sha512`.")
            .default("[\"md5\"]"),
        Field::string(
            "output",
            "The file that lines are added to; `{{.BuildName}}`, `{{.BuilderType}}` and `{{.ChecksumType}}` may stand in it. With `-force`, older lines for the same file are dropped.",
        )
        .default(DEFAULT_OUTPUT)
        .deferred_with(&["BuildName", "BuilderType", "ChecksumType"]),
    ],
    example: "post-processor \"checksum\" {\n  checksum_types = [\"sha256\"]\n  output         = \"{{.BuildName}}.{{.ChecksumType}}\"\n}",
};

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Checksum {
    checksum_types: Vec<String>,
    output: Option<String>,
}

/// The kind.
pub(crate) struct ChecksumKind;

impl PostProcessorKind for ChecksumKind {
    fn schema(&self) -> &'static Schema {
        &SCHEMA
    }

    fn prepare(
        &self,
        config: &Decoded,
        _context: &PrepareContext,
        diagnostics: &mut Diagnostics,
    ) -> Option<Arc<dyn PostProcessor>> {
        let mut checksum: Checksum = config.read_or_tell(diagnostics)?;
        let mut is_right = true;
        for (index, name) in checksum.checksum_types.iter().enumerate() {
            let path = format!("checksum_types[{index}]");
            if !TYPES.contains(&name.as_str()) && !config.is_unknown(&path) {
                let span = config.span(&path);
                diagnostics.push(
                    Diagnostic::error("wrong-value", span, format!("`{name}` is not a type of checksum")).did_you_mean(
                        span,
                        name,
                        TYPES.iter().copied(),
                    ),
                );
                is_right = false;
            }
        }
        if checksum.checksum_types.is_empty() && !config.is_unknown("checksum_types") {
            checksum.checksum_types.push("md5".to_owned());
        }
        is_right.then(|| Arc::new(checksum) as Arc<dyn PostProcessor>)
    }
}

#[async_trait]
impl PostProcessor for Checksum {
    async fn process(&self, artifact: &Artifact, context: &BuildContext) -> Result<Processed, Failure> {
        let inputs = artifact.files();
        if inputs.is_empty() {
            // Packer writes nothing here either; but it also loses the image on the way.
            context.events.warn("checksum: the artifact has no files, so there is nothing to do");
            return Ok(Processed { artifact: artifact.clone(), keep_input: true, force_keep: true });
        }
        let text = self.output.as_deref().filter(|text| !text.is_empty()).unwrap_or(DEFAULT_OUTPUT);
        let mut outputs = Vec::new();
        for name in &self.checksum_types {
            outputs.push(PathBuf::from(prepare::render(context, "output", text, &[("ChecksumType", name)])?));
        }
        // Lines per output file, in the order of the files and then of the types, as Packer's are.
        let mut lines: indexmap::IndexMap<&Path, Vec<(String, String)>> = indexmap::IndexMap::new();
        for input in inputs {
            let digests = digests_of(input, &self.checksum_types, context).await?;
            let name = input.file_name().unwrap_or(input.as_os_str()).to_string_lossy().into_owned();
            for (output, digest) in outputs.iter().zip(digests) {
                lines.entry(output).or_default().push((digest, name.clone()));
            }
        }
        let mut files = inputs.to_vec();
        let mut made = Vec::new();
        for (output, lines) in &lines {
            if tokio::fs::symlink_metadata(output).await.is_err() {
                made.push(output.to_path_buf());
            }
            append(output, lines, context).await?;
            if !files.iter().any(|file| file == output) {
                files.push(output.to_path_buf());
            }
            context.events.message(format!("wrote {}", output.display()));
        }
        Ok(Processed {
            artifact: Artifact {
                builder_id: prepare::ARTIFICE_ID.to_owned(),
                id: String::new(),
                description: format!("Created artifact from files: {}", prepare::join_paths(&files)),
                content: Content::Files(files),
                // Not the inputs, which are kept; nor a file that others write to as well.
                owner: Some(Arc::new(FilesOwner { files: made })),
            },
            keep_input: true,
            force_keep: true,
        })
    }
}

/// The digests in the order of the types, from one pass over the file.
async fn digests_of(path: &Path, types: &[String], context: &BuildContext) -> Result<Vec<String>, PublishError> {
    let (path, types) = (path.to_path_buf(), types.to_vec());
    prepare::blocking(context, path.clone(), move |cancel| hash(&path, &types, cancel)).await
}

fn hash(path: &Path, types: &[String], cancel: &CancellationToken) -> Result<Vec<String>, PublishError> {
    let mut hashers: Vec<Box<dyn DynDigest>> = types.iter().map(|name| hasher(name)).collect();
    let mut file = File::open(path).map_err(PublishError::file("read", path))?;
    let mut buffer = vec![0_u8; 256 * 1024];
    loop {
        if cancel.is_cancelled() {
            return Err(PublishError::Cancelled);
        }
        let count = match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(PublishError::file("read", path)(error)),
        };
        hashers.iter_mut().for_each(|hasher| hasher.update(&buffer[..count]));
    }
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    Ok(hashers.into_iter().map(|hasher| hex(&hasher.finalize())).collect())
}

/// `prepare` has checked the name.
fn hasher(name: &str) -> Box<dyn DynDigest> {
    match name {
        "sha1" => Box::new(sha1::Sha1::new()),
        "sha224" => Box::new(sha2::Sha224::new()),
        "sha256" => Box::new(sha2::Sha256::new()),
        "sha384" => Box::new(sha2::Sha384::new()),
        "sha512" => Box::new(sha2::Sha512::new()),
        _ => Box::new(md5::Md5::new()),
    }
}

/// Adds lines to what stands in the file; builds side by side may share it.
async fn append(path: &Path, lines: &[(String, String)], context: &BuildContext) -> Result<(), Failure> {
    let _lock = FileLock::acquire(context, path).await?;
    let mut text = match tokio::fs::read_to_string(path).await {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(PublishError::file("read", path)(error).into()),
    };
    if context.options.force {
        let is_replaced =
            |line: &str| lines.iter().any(|(_, name)| line.split_once('\t').is_some_and(|(_, old)| old == name));
        text = text.split_inclusive('\n').filter(|line| !is_replaced(line.trim_end_matches('\n'))).collect();
    }
    for (digest, name) in lines {
        text.push_str(&format!("{digest}\t{name}\n"));
    }
    let (pending, file) = PendingFile::create(context, path, 0o644).await?;
    let target = path.to_path_buf();
    prepare::blocking(context, target.clone(), move |_| {
        let mut file = file;
        std::io::Write::write_all(&mut file, text.as_bytes()).map_err(PublishError::file("write", &target))
    })
    .await?;
    pending.finish().await
}

#[cfg(test)]
mod tests;
