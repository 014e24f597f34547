//! `manifest`: a list of what was built, for programs. The form is Packer's, byte for byte.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use indexmap::IndexMap;
use kiln_core::{
    Artifact, BuildContext, Decoded, Diagnostics, Failure, Field, History, PostProcessor, PostProcessorKind,
    PrepareContext, Processed, Schema,
};
use kiln_transport::outputs::PendingFile;
use serde::{Deserialize, Serialize};
use serde_json::ser::{CharEscape, Formatter, PrettyFormatter};
use serde_json::{Map, Value, json};

use crate::error::PublishError;
use crate::file_lock::FileLock;
use crate::prepare;

/// Where the list goes when the template does not say.
const DEFAULT_OUTPUT: &str = "packer-manifest.json";

static SCHEMA: Schema = Schema {
    kind: "manifest",
    title: "a `manifest` post-processor",
    doc: "Adds the artifact to a JSON file that lists what was built. The artifact is passed on and always kept.",
    fields: &[
        Field::string(
            "output",
            "The file; builds are added to what it holds. With `-force`, builds of earlier runs are dropped.",
        )
        .default(DEFAULT_OUTPUT),
        Field::bool("strip_path", "Write only the names of files, without their directories.").default("false"),
        Field::bool("strip_time", "Leave out `build_time`, so that the same build gives the same file.")
            .default("false"),
        Field::map("custom_data", "Texts to write beside the artifact."),
        Field::bool(
            "details",
            "Write `kiln` beside the artifact: `outcome`, `tags`, `digest`, `revision`, and `tolerated` for post-processors that failed while the build went on. Without it, this stands there only where Packer has no word for what happened: a skipped build, or a failure that the build went on after. Beyond Packer.",
        )
        .default("false"),
    ],
    example: "post-processor \"manifest\" {\n  output     = \"manifest.json\"\n  strip_path = true\n}",
};

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Manifest {
    output: Option<String>,
    strip_path: bool,
    strip_time: bool,
    custom_data: Option<IndexMap<String, String>>,
    details: bool,
}

/// The kind.
pub(crate) struct ManifestKind;

impl PostProcessorKind for ManifestKind {
    fn schema(&self) -> &'static Schema {
        &SCHEMA
    }

    fn prepare(
        &self,
        config: &Decoded,
        _context: &PrepareContext,
        diagnostics: &mut Diagnostics,
    ) -> Option<Arc<dyn PostProcessor>> {
        let mut manifest: Manifest = config.read_or_tell(diagnostics)?;
        // Go writes maps sorted.
        if let Some(data) = &mut manifest.custom_data {
            data.sort_keys();
        }
        Some(Arc::new(manifest))
    }
}

#[async_trait]
impl PostProcessor for Manifest {
    async fn process(&self, artifact: &Artifact, context: &BuildContext) -> Result<Processed, Failure> {
        self.process_after(artifact, &History::default(), context).await
    }

    fn takes_note(&self) -> bool {
        true
    }

    async fn process_after(
        &self,
        artifact: &Artifact,
        history: &History,
        context: &BuildContext,
    ) -> Result<Processed, Failure> {
        let path = PathBuf::from(self.output.as_deref().filter(|path| !path.is_empty()).unwrap_or(DEFAULT_OUTPUT));
        let entry = self.entry(artifact, history, context).await?;
        let lock = FileLock::acquire(context, &path).await?;
        let mut root = read(&path).await?;
        add(&mut root, entry, context)?;
        write(&path, &root, context).await?;
        drop(lock);
        context.events.message(format!("added to {}", path.display()));
        Ok(Processed { artifact: artifact.clone(), keep_input: true, force_keep: true })
    }
}

impl Manifest {
    /// One element of `builds`, its keys in Packer's order.
    async fn entry(
        &self,
        artifact: &Artifact,
        history: &History,
        context: &BuildContext,
    ) -> Result<Value, PublishError> {
        let mut files = Vec::new();
        for path in artifact.files() {
            let metadata = tokio::fs::metadata(path).await.map_err(PublishError::file("look at", path))?;
            let name = match path.file_name() {
                Some(name) if self.strip_path => name.to_string_lossy().into_owned(),
                _ => path.display().to_string(),
            };
            files.push(json!({ "name": name, "size": metadata.len() }));
        }
        let mut entry = Map::new();
        entry.insert("name".to_owned(), json!(&*context.build_name));
        entry.insert("builder_type".to_owned(), json!(&*context.builder_kind));
        if !self.strip_time {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
            entry.insert("build_time".to_owned(), json!(now.as_secs()));
        }
        // Go's nil slice: an artifact without files has `null`, never `[]`.
        entry.insert("files".to_owned(), if files.is_empty() { Value::Null } else { Value::Array(files) });
        entry.insert("artifact_id".to_owned(), json!(artifact.id));
        entry.insert("packer_run_uuid".to_owned(), json!(&*context.run));
        entry.insert("custom_data".to_owned(), json!(self.custom_data));
        if self.details || *history != History::default() {
            entry.insert("kiln".to_owned(), details(artifact, history, context));
        }
        let mut entry = Value::Object(entry);
        context.redactor.redact_json(&mut entry);
        Ok(entry)
    }
}

/// What Packer has no place for.
fn details(artifact: &Artifact, history: &History, context: &BuildContext) -> Value {
    let image = artifact.image();
    let mut details = json!({
        "outcome": if history.is_skipped { "skipped" } else { "built" },
        "skipped": history.is_skipped,
        "tags": image.map(|image| image.tags.clone()).unwrap_or_default(),
        "digest": image.and_then(|image| image.digest.clone()),
        "revision": context.options.origin.revision,
    });
    let tolerated = history.tolerated.iter();
    let tolerated = tolerated.map(|it| json!({ "kind": it.kind, "place": it.place, "error": it.error }));
    details["tolerated"] = tolerated.collect();
    details
}

/// What the file holds; an empty object where there is none, or nothing in it.
async fn read(path: &Path) -> Result<Map<String, Value>, PublishError> {
    let text = match tokio::fs::read_to_string(path).await {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(PublishError::file("read", path)(error)),
    };
    if text.trim().is_empty() {
        return Ok(Map::new());
    }
    let broken = |problem: String| PublishError::BrokenManifest { path: path.to_path_buf(), problem };
    match serde_json::from_str(&text) {
        Ok(Value::Object(root)) => Ok(root),
        Ok(_) => Err(broken("it is JSON, and no object".to_owned())),
        Err(error) => Err(broken(format!("line {}, column {} is not JSON", error.line(), error.column()))),
    }
    .and_then(|root: Map<String, Value>| match root.get("builds") {
        None | Some(Value::Null | Value::Array(_)) => Ok(root),
        Some(_) => Err(broken("`builds` is no list".to_owned())),
    })
}

fn add(root: &mut Map<String, Value>, entry: Value, context: &BuildContext) -> Result<(), PublishError> {
    let is_older = root.get("last_run_uuid").and_then(Value::as_str) != Some(&*context.run);
    let mut builds = match root.remove("builds") {
        Some(Value::Array(builds)) if !(context.options.force && is_older) => builds,
        _ => Vec::new(),
    };
    builds.push(entry);
    // What else stands there (nothing, when Packer or kiln wrote it) stays, after the two keys.
    root.remove("last_run_uuid");
    let further = std::mem::take(root);
    root.insert("builds".to_owned(), Value::Array(builds));
    root.insert("last_run_uuid".to_owned(), json!(&*context.run));
    root.extend(further);
    Ok(())
}

async fn write(path: &Path, root: &Map<String, Value>, context: &BuildContext) -> Result<(), Failure> {
    let text = to_go_json(root);
    let (pending, file) = PendingFile::create(context, path, 0o664).await?;
    let written = prepare::blocking(context, path.to_path_buf(), {
        let path = path.to_path_buf();
        move |_| {
            let mut file = file;
            file.write_all(&text).and_then(|()| file.sync_all()).map_err(PublishError::file("write", &path))
        }
    });
    written.await?;
    pending.finish().await
}

/// JSON as Go's `json.MarshalIndent(value, "", "  ")` writes it.
fn to_go_json(root: &Map<String, Value>) -> Vec<u8> {
    let mut text = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, GoFormatter::default());
    // Neither a `Vec` nor a `Value` can fail here.
    let _ = root.serialize(&mut serializer);
    text
}

/// Two spaces, and `<`, `>`, `&` and the two line separators escaped, as Go does for the sake of HTML.
#[derive(Default)]
struct GoFormatter {
    pretty: PrettyFormatter<'static>,
}

impl Formatter for GoFormatter {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> std::io::Result<()> {
        let mut start = 0;
        for (index, character) in fragment.char_indices() {
            if matches!(character, '<' | '>' | '&' | '\u{2028}' | '\u{2029}') {
                writer.write_all(&fragment.as_bytes()[start..index])?;
                write!(writer, "\\u{:04x}", u32::from(character))?;
                start = index + character.len_utf8();
            }
        }
        writer.write_all(&fragment.as_bytes()[start..])
    }

    fn write_char_escape<W: ?Sized + Write>(&mut self, writer: &mut W, escape: CharEscape) -> std::io::Result<()> {
        self.pretty.write_char_escape(writer, escape)
    }

    fn begin_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> std::io::Result<()> {
        self.pretty.begin_array(writer)
    }

    fn end_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> std::io::Result<()> {
        self.pretty.end_array(writer)
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> std::io::Result<()> {
        self.pretty.begin_array_value(writer, first)
    }

    fn end_array_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> std::io::Result<()> {
        self.pretty.end_array_value(writer)
    }

    fn begin_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> std::io::Result<()> {
        self.pretty.begin_object(writer)
    }

    fn end_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> std::io::Result<()> {
        self.pretty.end_object(writer)
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> std::io::Result<()> {
        self.pretty.begin_object_key(writer, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> std::io::Result<()> {
        self.pretty.begin_object_value(writer)
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> std::io::Result<()> {
        self.pretty.end_object_value(writer)
    }
}

#[cfg(test)]
mod tests;
