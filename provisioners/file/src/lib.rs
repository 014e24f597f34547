//! The `file` provisioner: brings files to the machine, or from it.
//!
//! Owns: the arguments and the rules of the trailing slash. Must not know: how a machine is reached.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use kiln_core::communicator::{CommunicatorError, NullSink};
use kiln_core::{
    BuildContext, Caching, Command, Communicator, Decoded, Diagnostic, Diagnostics, Failure, Field, FieldType, Machine,
    Payload, PrepareContext, Provisioner, ProvisionerKind, Schema, suggest,
};
use serde::Deserialize;

/// Permission bits of a file made of `content`.
const CONTENT_MODE: u32 = 0o644;

/// Where an upload may come from.
const SOURCES: [&str; 3] = ["source", "sources", "content"];

/// The arguments of `file`.
pub const SCHEMA: Schema = Schema {
    kind: "file",
    title: "a `file` provisioner",
    doc: "Uploads files and directories to the machine, or downloads them from it. A source directory that ends in `/` \
          means its content; a destination that ends in `/` is a directory, and files keep their names in it.",
    fields: &[
        Field::string(
            "source",
            "A file or directory, relative to the working directory of kiln; for downloads, a path on the machine.",
        ),
        Field::strings("sources", "Several of them; `destination` is a directory then, and ends in `/`."),
        Field::string("content", "The content of the file to upload (mode 0644); it never lies on this host's disk."),
        Field::string("destination", "Where to: a path on the machine; for downloads, on this host.").required(),
        Field::new("direction", FieldType::OneOf(&["upload", "download"]), "Which way.").default("upload"),
        Field::bool("generated", "The source appears while the build runs, so it is not looked for before.")
            .default("false"),
    ],
    example: r#"provisioner "file" {
  source      = "conf/"
  destination = "/etc/worker"
}"#,
};

/// The kind `file`.
#[derive(Debug, Clone, Copy, Default)]
pub struct FileKind;

/// The arguments as they are read.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Config {
    source: Option<String>,
    sources: Vec<String>,
    content: Option<String>,
    destination: String,
    direction: Option<String>,
    generated: bool,
}

/// What is moved.
#[derive(Debug, PartialEq, Eq)]
enum Origin {
    Paths(Vec<String>),
    Content(Bytes),
}

/// A configured `file`.
#[derive(Debug)]
struct FileStep {
    origin: Origin,
    destination: String,
    is_download: bool,
}

/// Why a file was not moved.
#[derive(Debug, thiserror::Error)]
enum FileError {
    #[error("cannot read `{path}`")]
    Source { path: String, source: std::io::Error },
    #[error("cannot upload {what} to `{destination}`")]
    Upload { what: String, destination: String, source: CommunicatorError },
    #[error("cannot download `{path}` to `{destination}`")]
    Download { path: String, destination: String, source: CommunicatorError },
}

impl ProvisionerKind for FileKind {
    fn schema(&self) -> &'static Schema {
        &SCHEMA
    }

    fn prepare(
        &self,
        config: &Decoded,
        _context: &PrepareContext,
        diagnostics: &mut Diagnostics,
    ) -> Option<Arc<dyn Provisioner>> {
        let read: Config = config.read_or_tell(diagnostics)?;
        let is_download = read.direction.as_deref() == Some("download");
        let is_empty = config.is_set("destination") && !config.is_unknown("destination") && read.destination.is_empty();
        if is_empty {
            let span = config.span("destination");
            diagnostics.push(Diagnostic::error("empty-value", span, "`destination` is empty"));
        }
        let name = chosen_source(config, diagnostics)?;
        check(config, &read, name, is_download, diagnostics);
        let origin = match name {
            "content" => Origin::Content(read.content.unwrap_or_default().into()),
            "source" => Origin::Paths(read.source.into_iter().collect()),
            _ => Origin::Paths(read.sources),
        };
        if is_empty || (is_download && name == "content") {
            return None;
        }
        let step = FileStep { origin, destination: read.destination, is_download };
        Some(Arc::new(step))
    }
}

/// The one of `source`, `sources`, `content` that is set.
fn chosen_source(config: &Decoded, diagnostics: &mut Diagnostics) -> Option<&'static str> {
    // An empty text or list counts as absent, as for Packer; alone, an empty `content` is an empty file.
    let holds = |name: &&str| {
        config.is_unknown(name)
            || match config.values().get(*name) {
                Some(serde_json::Value::String(text)) => !text.is_empty(),
                Some(serde_json::Value::Array(items)) => !items.is_empty(),
                _ => false,
            }
    };
    let set: Vec<&'static str> = SOURCES.into_iter().filter(holds).collect();
    match set.as_slice() {
        [name] => Some(name),
        [] if config.is_set("content") => Some("content"),
        [] if config.is_set("source") || config.is_set("sources") => {
            let name = if config.is_set("source") { "source" } else { "sources" };
            diagnostics.push(Diagnostic::error("empty-value", config.span(name), format!("`{name}` is empty")));
            None
        }
        [] => {
            let title = format!("{} needs exactly one of {}", SCHEMA.title, suggest::enumerate(SOURCES));
            diagnostics.push(Diagnostic::error("missing-argument", config.body_span(), title));
            None
        }
        [first, second, ..] => {
            let title = format!(
                "`{first}` and `{second}` are both set; {} takes exactly one of {}",
                SCHEMA.title,
                suggest::enumerate(SOURCES)
            );
            diagnostics.push(
                Diagnostic::error("conflicting-arguments", config.span(second), title)
                    .also(config.span(first), "the other one"),
            );
            None
        }
    }
}

/// What goes with what, and whether the sources are there.
fn check(config: &Decoded, read: &Config, name: &str, is_download: bool, diagnostics: &mut Diagnostics) {
    let is_directory = read.destination.ends_with('/');
    if name == "content" {
        if is_download {
            let title = "`content` can only be uploaded, and `direction` is `download`";
            diagnostics.push(
                Diagnostic::error("conflicting-arguments", config.span("direction"), title)
                    .also(config.span("content"), "this content"),
            );
        } else if is_directory {
            let title = format!("`content` becomes a file, and `destination` is a directory, `{}`", read.destination);
            diagnostics.push(
                Diagnostic::error("wrong-value", config.span("destination"), title)
                    .help("name the file, e.g. `/etc/motd`"),
            );
        }
        return;
    }
    let paths: Vec<(String, &str)> = match &read.source {
        Some(path) if name == "source" => vec![("source".to_owned(), path.as_str())],
        _ => read.sources.iter().enumerate().map(|(at, path)| (format!("sources[{at}]"), path.as_str())).collect(),
    };
    if paths.len() > 1 && !is_directory && !config.is_unknown("destination") {
        let title =
            "several `sources` go to one `destination`, and without a `/` at its end each file replaces the last";
        diagnostics.push(
            Diagnostic::warning("one-destination", config.span("destination"), title)
                .help(format!("write `destination = \"{}/\"`", read.destination)),
        );
    }
    for (place, path) in paths.iter().filter(|(place, _)| !config.is_unknown(place)) {
        let span = config.span(place);
        if path.is_empty() {
            diagnostics.push(Diagnostic::error("empty-value", span, format!("`{place}` is empty")));
        } else if !is_download && !read.generated {
            check_readable(span, place, path, diagnostics);
        }
    }
}

fn check_readable(span: kiln_core::Span, place: &str, path: &str, diagnostics: &mut Diagnostics) {
    let look = || match std::fs::metadata(path)? {
        metadata if metadata.is_dir() => std::fs::read_dir(path).map(|_| ()),
        // Anything else, e.g. a named pipe, is not opened: that would wait for its writer.
        metadata if metadata.is_file() => std::fs::File::open(path).map(|_| ()),
        _ => Ok(()),
    };
    if let Err(error) = look() {
        let diagnostic = kiln_transport::script::unreadable(span, place, path, &error);
        diagnostics.push(if error.kind() == std::io::ErrorKind::NotFound && diagnostic.fix.is_none() {
            diagnostic.help("if it appears only while the build runs, set `generated = true`")
        } else {
            diagnostic
        });
    }
}

#[async_trait]
impl Provisioner for FileStep {
    fn title(&self) -> String {
        let from = match &self.origin {
            Origin::Content(_) => "content".to_owned(),
            Origin::Paths(paths) => match paths.as_slice() {
                [] => String::new(),
                [path] => path.clone(),
                [first, rest @ ..] => format!("{first} and {} more", rest.len()),
            },
        };
        format!("{from} -> {}", self.destination)
    }

    fn input_files(&self) -> Vec<PathBuf> {
        match &self.origin {
            Origin::Paths(paths) if !self.is_download => paths.iter().map(PathBuf::from).collect(),
            _ => Vec::new(),
        }
    }

    /// A download is for this host, which no snapshot restores. A generated source is there when its turn comes.
    fn caching(&self) -> Caching {
        if self.is_download { Caching::Outside } else { Caching::Restorable }
    }

    fn path_arguments(&self) -> &'static [&'static str] {
        &["source", "sources"]
    }

    async fn provision(&self, machine: &dyn Machine, context: &BuildContext) -> Result<(), Failure> {
        let work = async {
            match &self.origin {
                Origin::Content(content) => {
                    let payload = Payload::Bytes { content: content.clone(), mode: CONTENT_MODE };
                    upload(machine.communicator(), &payload, "the content", &self.destination).await
                }
                Origin::Paths(paths) => {
                    for path in paths {
                        if paths.len() > 1 {
                            context.events.message(format!("{path} -> {}", self.destination));
                        }
                        self.move_one(machine.communicator(), path).await?;
                    }
                    Ok(())
                }
            }
        };
        context.unless_cancelled(work).await.flatten()
    }
}

impl FileStep {
    async fn move_one(&self, communicator: &dyn Communicator, path: &str) -> Result<(), Failure> {
        if self.is_download { self.download(communicator, path).await } else { self.upload(communicator, path).await }
    }

    async fn upload(&self, communicator: &dyn Communicator, path: &str) -> Result<(), Failure> {
        let metadata = tokio::fs::metadata(path)
            .await
            .map_err(|source| Failure::build(FileError::Source { path: path.to_owned(), source }))?;
        let (payload, to) = if metadata.is_dir() {
            let contents_only = path.ends_with('/');
            (Payload::Directory { path: path.into(), contents_only }, self.destination.clone())
        } else {
            (Payload::File { path: path.into(), mode: None }, inside(&self.destination, path))
        };
        upload(communicator, &payload, &format!("`{path}`"), &to).await
    }

    async fn download(&self, communicator: &dyn Communicator, path: &str) -> Result<(), Failure> {
        let named = inside(&self.destination, path);
        // A file goes to `destination/NAME`, and a directory brings its name itself: the machine must say what it is.
        let to = if named != self.destination && !path.ends_with('/') && !is_directory(communicator, path).await {
            named
        } else {
            self.destination.clone()
        };
        communicator
            .download(path, Path::new(&to))
            .await
            .map(|_| ())
            .map_err(|source| Failure::build(FileError::Download { path: path.to_owned(), destination: to, source }))
    }
}

/// The destination, with the file's own name where it is a directory.
fn inside(destination: &str, path: &str) -> String {
    match path.rsplit('/').find(|part| !part.is_empty()) {
        Some(name) if destination.ends_with('/') => format!("{destination}{name}"),
        _ => destination.to_owned(),
    }
}

async fn is_directory(communicator: &dyn Communicator, path: &str) -> bool {
    let command = Command::new(["/bin/sh", "-c", "test -d \"$0\"", path]);
    // A machine that cannot say takes it for a file; the download itself tells what is wrong.
    communicator.exec(&command, &mut NullSink).await.is_ok_and(|status| status.is_success())
}

async fn upload(
    communicator: &dyn Communicator,
    payload: &Payload,
    what: &str,
    destination: &str,
) -> Result<(), Failure> {
    communicator.upload(payload, destination).await.map_err(|source| {
        let (what, destination) = (what.to_owned(), destination.to_owned());
        Failure::build(FileError::Upload { what, destination, source })
    })
}

#[cfg(test)]
mod tests;
