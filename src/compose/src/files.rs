//! Which files make up the projects of a directory, and their reading.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use kiln_core::{Diagnostic, Diagnostics, SourceId, SourceMap, Span};

use crate::interpolate::{Problem, interpolate};
use crate::model::{Placed, Project, Tool};
use crate::tree::merge;
use crate::yaml::{self, Node, Value};
use crate::{ddev, dotenv, services};

/// Compose's own names, in its order.
const NAMES: [&str; 4] = ["compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml"];

/// What is laid over them.
const OVERRIDES: [&str; 4] =
    ["compose.override.yaml", "compose.override.yml", "docker-compose.override.yaml", "docker-compose.override.yml"];

/// Larger files are no compose files.
const MAX_SIZE: u64 = 16 << 20;

/// How deep files may include each other.
const MAX_DEPTH: usize = 20;

/// What is to be read.
#[derive(Debug, Clone)]
pub struct ReadOptions {
    /// The directory of the projects.
    pub directory: PathBuf,
    /// Compose files instead of those that compose itself would find (`-f`).
    pub files: Vec<PathBuf>,
    /// Compose's name of the project (`-p`).
    pub project_name: Option<String>,
    /// The environment that tools are started with.
    pub environment: BTreeMap<String, String>,
}

impl ReadOptions {
    /// All that is in a directory, with an empty environment.
    pub fn new(directory: impl Into<PathBuf>) -> ReadOptions {
        let (files, project_name, environment) = (Vec::new(), None, BTreeMap::new());
        ReadOptions { directory: directory.into(), files, project_name, environment }
    }
}

/// What was found.
#[derive(Debug, Default)]
pub struct Found {
    /// At most one of compose, and one of DDEV.
    pub projects: Vec<Project>,
    /// The texts that places point into.
    pub sources: SourceMap,
    /// What could not be understood, and what is doubtful.
    pub diagnostics: Diagnostics,
}

/// Reads the projects of a directory. Looks at files, and writes none.
pub fn read(options: &ReadOptions) -> Found {
    let mut reading = Reading { environment: options.environment.clone(), ..Reading::default() };
    let mut projects = Vec::new();
    projects.extend(compose(options, &mut reading));
    if options.files.is_empty() {
        reading.environment.clone_from(&options.environment);
        projects.extend(ddev::read(&options.directory, &mut reading));
    }
    Found { projects, sources: reading.sources, diagnostics: reading.diagnostics }
}

/// What is gathered while files are read.
#[derive(Default)]
pub(crate) struct Reading {
    pub(crate) sources: SourceMap,
    pub(crate) diagnostics: Diagnostics,
    /// What `${VARIABLES}` are replaced from.
    pub(crate) environment: BTreeMap<String, String>,
    /// Variables that were missed already.
    missed: BTreeSet<String>,
}

fn compose(options: &ReadOptions, reading: &mut Reading) -> Option<Project> {
    let directory = match options.files.first().and_then(|file| file.parent()) {
        Some(parent) if parent.as_os_str().is_empty() => PathBuf::from("."),
        Some(parent) => parent.to_owned(),
        None => options.directory.clone(),
    };
    env_files(&directory, reading);
    let files = if options.files.is_empty() { own_files(&directory, reading) } else { options.files.clone() };
    let document = load_all(&files, &directory, reading)?;
    let name = project_name(options, &directory, &document, reading);
    let (services, volumes) = services::read(&document, &name, reading);
    if services.is_empty() && !reading.diagnostics.has_errors() {
        let title = "there is no `services` with a service in it";
        reading.diagnostics.push(Diagnostic::error("compose-empty", document.span, title));
    }
    let label = name.clone();
    // The tool is started where the user would start it.
    Some(Project { tool: Tool::Compose, name, label, directory: options.directory.clone(), files, services, volumes })
}

/// `.env`, or what `COMPOSE_ENV_FILES` names: the environment counts more.
fn env_files(directory: &Path, reading: &mut Reading) {
    let named = reading.environment.get("COMPOSE_ENV_FILES").filter(|names| !names.is_empty());
    let files: Vec<PathBuf> = match named {
        Some(names) => names.split(',').map(|name| directory.join(name.trim())).collect(),
        None => vec![directory.join(".env")],
    };
    let is_named = named.is_some();
    files.iter().for_each(|file| reading.env_file(file, is_named));
}

/// What compose would take itself.
fn own_files(directory: &Path, reading: &Reading) -> Vec<PathBuf> {
    let variable = |name: &str| reading.environment.get(name).filter(|value| !value.is_empty());
    if let Some(names) = variable("COMPOSE_FILE") {
        let separator = variable("COMPOSE_PATH_SEPARATOR").map_or(":", String::as_str);
        return names.split(separator).filter(|name| !name.is_empty()).map(|name| directory.join(name)).collect();
    }
    let first = |names: &[&str]| names.iter().map(|name| directory.join(name)).find(|path| path.is_file());
    let Some(main) = first(&NAMES) else { return Vec::new() };
    std::iter::once(main).chain(first(&OVERRIDES)).collect()
}

/// `-p`, `COMPOSE_PROJECT_NAME`, the last `name:`, or the directory's name without what may not stand in one.
fn project_name(options: &ReadOptions, directory: &Path, document: &Node, reading: &mut Reading) -> String {
    let given = options.project_name.clone();
    let variable = || reading.environment.get("COMPOSE_PROJECT_NAME").filter(|name| !name.is_empty()).cloned();
    if let Some(name) = given.or_else(variable) {
        return name;
    }
    if let Some(name) = document.get("name").and_then(|node| reading.text(node)) {
        return name.text;
    }
    normalised(&base_name(directory))
}

fn normalised(name: &str) -> String {
    let is_allowed = |character: &char| character.is_ascii_alphanumeric() || matches!(character, '-' | '_');
    let name: String = name.to_lowercase().chars().filter(is_allowed).collect();
    name.trim_start_matches(['-', '_']).to_owned()
}

/// The name of a directory, however it is written.
pub(crate) fn base_name(directory: &Path) -> String {
    let whole = directory.canonicalize().unwrap_or_else(|_| directory.to_owned());
    whole.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// All files, each laid over those before it.
pub(crate) fn load_all(files: &[PathBuf], directory: &Path, reading: &mut Reading) -> Option<Node> {
    let mut whole: Option<Node> = None;
    for file in files {
        let Some(document) = reading.load(file, directory, &mut Vec::new()) else { continue };
        whole = Some(match whole {
            Some(under) => merge(under, document),
            None => document,
        });
    }
    whole
}

impl Reading {
    /// Notes what is wrong.
    pub(crate) fn refuse(&mut self, span: Span, title: impl Into<String>) {
        self.diagnostics.push(Diagnostic::error("compose-file", span, title));
    }

    /// What compose can do and kiln does not read.
    pub(crate) fn unsupported(&mut self, span: Span, what: &str) {
        let help = "let compose put everything into one file: `docker compose config >all.yaml`, then `kiln refresh -f all.yaml`";
        let title = format!("kiln does not read {what}");
        self.diagnostics.push(Diagnostic::error("compose-unsupported", span, title).help(help));
    }

    /// A file's text, and what it is called in messages.
    pub(crate) fn source(&mut self, path: &Path) -> Option<(String, SourceId)> {
        let read = || {
            let size = std::fs::metadata(path)?.len();
            if size > MAX_SIZE {
                return Err(std::io::Error::other("the file is too large"));
            }
            std::fs::read_to_string(path)
        };
        match read() {
            Ok(text) => {
                let id = self.sources.add(shown(path), Some(path), text.as_str());
                Some((text, id))
            }
            Err(error) => {
                let title = format!("cannot read {}: {error}", shown(path));
                self.diagnostics.push(Diagnostic::new(
                    kiln_core::diagnostic::Severity::Error,
                    "compose-file",
                    None,
                    title,
                ));
                None
            }
        }
    }

    /// A file's variables, beside those that are there.
    pub(crate) fn env_file(&mut self, path: &Path, must_exist: bool) {
        if !must_exist && !path.is_file() {
            return;
        }
        let Some((text, id)) = self.source(path) else { return };
        match dotenv::read(&text, &self.environment) {
            Ok(variables) => {
                for (name, value) in variables {
                    self.environment.entry(name).or_insert(value);
                }
            }
            Err((line, title)) => {
                let start = text.lines().take(line - 1).map(|line| line.len() + 1).sum::<usize>();
                let end = start + text.lines().nth(line - 1).map_or(0, str::len);
                self.refuse(Span::new(id, start..end.min(text.len())), title);
            }
        }
    }

    /// A text with the values of its variables.
    pub(crate) fn text(&mut self, node: &Node) -> Option<Placed> {
        let text = node.text()?;
        let environment = &self.environment;
        match interpolate(text, &|name| environment.get(name).cloned()) {
            Ok(found) => {
                for name in found.unset {
                    if self.missed.insert(name.clone()) {
                        let title = format!("the variable `{name}` is not set; it counts as empty");
                        self.diagnostics.push(Diagnostic::warning("compose-variable", node.span, title));
                    }
                }
                Some(Placed { text: found.text, span: node.span })
            }
            Err(Problem::Form(what)) => {
                self.refuse(node.span, what);
                None
            }
            Err(Problem::Required { name, message }) => {
                let because = if message.is_empty() { String::new() } else { format!(": {message}") };
                self.refuse(node.span, format!("the variable `{name}` is required and has no value{because}"));
                None
            }
        }
    }

    /// A compose file with what it includes and extends. `directory` is what its paths start at; `above` are the files that
    /// include it.
    pub(crate) fn load(&mut self, path: &Path, directory: &Path, above: &mut Vec<PathBuf>) -> Option<Node> {
        let (text, id) = self.source(path)?;
        let document = match yaml::read(&text, id) {
            Ok(document) => document,
            Err(diagnostic) => {
                self.diagnostics.push(*diagnostic);
                return None;
            }
        };
        if !matches!(document.value, Value::Map(_) | Value::Null) {
            self.refuse(document.span, "a compose file is a mapping with `services`");
            return None;
        }
        above.push(path.to_owned());
        let own = services::extended(document, path, directory, self);
        let whole = self.included(&own, path, above).into_iter().reduce(merge);
        above.pop();
        Some(match whole {
            Some(under) => merge(under, own),
            None => own,
        })
    }

    fn included(&mut self, document: &Node, path: &Path, above: &mut Vec<PathBuf>) -> Vec<Node> {
        let beside = path.parent().unwrap_or(Path::new("")).to_owned();
        let mut found = Vec::new();
        for item in document.get("include").map(Node::items).unwrap_or_default() {
            let names: Vec<&Node> = match (&item.value, item.get("path")) {
                (Value::Text(_), _) => vec![item],
                (_, Some(Node { value: Value::List(names), .. })) => names.iter().collect(),
                (_, Some(name)) => vec![name],
                _ => Vec::new(),
            };
            if let Some((name, node)) = item.entries().iter().find(|(name, _)| name != "path") {
                self.unsupported(node.span, &format!("`{name}` of an `include`"));
            }
            for name in names {
                let Some(name) = self.text(name) else { continue };
                if name.text.contains("://") || name.text.starts_with("git@") {
                    self.unsupported(name.span, "an `include` from elsewhere");
                    continue;
                }
                let file = beside.join(&name.text);
                if above.contains(&file) || above.len() > MAX_DEPTH {
                    self.refuse(name.span, "files include each other in a ring");
                    continue;
                }
                let directory = file.parent().unwrap_or(Path::new("")).to_owned();
                found.extend(self.load(&file, &directory, above));
            }
        }
        found
    }
}

/// A path as messages show it: without a leading `./`.
pub(crate) fn shown(path: &Path) -> String {
    path.strip_prefix(".").unwrap_or(path).display().to_string()
}
