//! Paths and files. `file`, `fileexists` and `fileset` start from the template's directory; `abspath` and `filebase64`
//! from the process's, as Packer has it.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Component, Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use globset::{GlobBuilder, GlobMatcher};

use super::{Function, FunctionContext, FunctionError, Outcome, define, fail, fail_at, string_argument, text};
use crate::value::{Type, Value};

/// Bound on files that are read into a value, in bytes.
const MAX_FILE: u64 = 64 * 1024 * 1024;

/// Bound on the entries that `fileset` looks at: a pattern on the root directory shall not run for hours.
const MAX_ENTRIES: usize = 200_000;

pub(super) fn functions() -> Vec<Function> {
    let mut functions = paths();
    functions.extend(files());
    functions
}

fn paths() -> Vec<Function> {
    vec![
        define(
            "abspath",
            vec![text("path")],
            Type::String,
            "A path made absolute and tidied.",
            |arguments, context| Ok(path_value(&clean(&context.working_dir.join(string_argument(arguments, 0))))),
        )
        .example(r#"abspath("/a/./b/../c")"#, r#""/a/c""#),
        define("basename", vec![text("path")], Type::String, "The last part of a path.", |arguments, _| {
            let path = string_argument(arguments, 0);
            let trimmed = path.trim_end_matches('/');
            Ok(Value::string(match (path, trimmed) {
                ("", _) => ".",
                (_, "") => "/",
                (_, trimmed) => trimmed.rsplit('/').next().unwrap_or(trimmed),
            }))
        })
        .example(r#"basename("/a/b.txt")"#, r#""b.txt""#),
        define(
            "dirname",
            vec![text("path")],
            Type::String,
            "A path up to its last slash, tidied: of `/a/b/` that is `/a/b`.",
            |arguments, _| {
                let path = string_argument(arguments, 0);
                let directory = path.rfind('/').map_or("", |slash| &path[..=slash]);
                Ok(path_value(&clean(Path::new(directory))))
            },
        )
        .example(r#"dirname("/a/b.txt")"#, r#""/a""#),
        define(
            "pathexpand",
            vec![text("path")],
            Type::String,
            "A path with a leading `~` replaced by the user's home directory.",
            |arguments, context| {
                expand(string_argument(arguments, 0), context).map(|path| Value::string(path.as_ref()))
            },
        )
        .example(r#"pathexpand("/a/b")"#, r#""/a/b""#),
    ]
}

fn files() -> Vec<Function> {
    vec![
        define("file", vec![text("path")], Type::String, "The text of a file.", |arguments, context| {
            let path = in_template(string_argument(arguments, 0), context)?;
            match String::from_utf8(read(&path)?) {
                Ok(text) => Ok(Value::string(text)),
                Err(_) => fail_at(0, format!("the file {} is not UTF-8 text; `filebase64` reads any", path.display())),
            }
        })
        .example(r#"can(file("no-such-file"))"#, "false"),
        define(
            "filebase64",
            vec![text("path")],
            Type::String,
            "The bytes of a file as base64. A relative path starts from the working directory.",
            |arguments, context| {
                let path = expand(string_argument(arguments, 0), context)?;
                Ok(Value::string(STANDARD.encode(read(&context.working_dir.join(path.as_ref()))?)))
            },
        )
        .example(r#"can(filebase64("no-such-file"))"#, "false"),
        define("fileexists", vec![text("path")], Type::Bool, "Whether a file is there.", |arguments, context| {
            let path = in_template(string_argument(arguments, 0), context)?;
            match std::fs::metadata(&path) {
                Ok(found) if found.is_file() => Ok(Value::bool(true)),
                Ok(found) => {
                    let kind = if found.is_dir() { "a directory" } else { "something else" };
                    fail_at(0, format!("{} is {kind}, not a file", path.display()))
                }
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                    Ok(Value::bool(false))
                }
                Err(error) => fail_at(0, format!("cannot look at {}: {error}", path.display())),
            }
        })
        .example(r#"fileexists("no-such-file")"#, "false"),
        define(
            "fileset",
            vec![text("path"), text("pattern")],
            Type::set(Type::String),
            "The files below a directory that match a pattern: `*`, `?`, `[ab]`, `{a,b}`, and `**` for any directories.",
            fileset,
        )
        .example(r#"fileset("no-such-directory", "**")"#, "[]"),
    ]
}

fn path_value(path: &Path) -> Value {
    Value::string(path.to_string_lossy())
}

/// A path without `.`, `..` and doubled slashes, by its text alone; the empty path is `.`.
fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => match clean.components().next_back() {
                Some(Component::Normal(_)) => {
                    clean.pop();
                }
                Some(Component::RootDir) => {}
                _ => clean.push(".."),
            },
            other => clean.push(other),
        }
    }
    if clean.as_os_str().is_empty() { PathBuf::from(".") } else { clean }
}

fn expand<'a>(path: &'a str, context: &FunctionContext) -> Result<std::borrow::Cow<'a, str>, FunctionError> {
    let Some(rest) = path.strip_prefix('~') else { return Ok(path.into()) };
    if !rest.is_empty() && !rest.starts_with('/') {
        return fail_at(0, "only one's own home directory `~/` can be expanded, not that of a named user");
    }
    match &context.home {
        Some(home) => Ok(clean(&home.join(rest.trim_start_matches('/'))).to_string_lossy().into_owned().into()),
        None => fail("the home directory is not known; set `HOME`"),
    }
}

/// A path from the template's directory.
fn in_template(path: &str, context: &FunctionContext) -> Result<PathBuf, FunctionError> {
    let expanded = expand(path, context)?;
    Ok(clean(&context.working_dir.join(&context.template_dir).join(expanded.as_ref())))
}

fn read(path: &Path) -> Result<Vec<u8>, FunctionError> {
    let failed = |error: std::io::Error| {
        let path = path.display();
        let message = match error.kind() {
            ErrorKind::NotFound => format!("there is no file {path}"),
            ErrorKind::IsADirectory => format!("{path} is a directory, not a file"),
            _ => format!("cannot read {path}: {error}"),
        };
        FunctionError { argument: Some(0), message }
    };
    let mut bytes = Vec::new();
    // One byte more than is allowed tells a file that is too long from one that just fits.
    File::open(path).and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes)).map_err(failed)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > MAX_FILE) {
        return fail_at(0, format!("{} has more than {} MiB", path.display(), MAX_FILE >> 20));
    }
    Ok(bytes)
}

fn fileset(arguments: &[Value], context: &FunctionContext) -> Outcome {
    let asked = in_template(string_argument(arguments, 0), context)?;
    let mut base = asked.clone();
    let mut pattern = string_argument(arguments, 1);
    loop {
        if let Some(rest) = pattern.strip_prefix("./") {
            pattern = rest.trim_start_matches('/');
        } else if let Some(rest) = pattern.strip_prefix("../") {
            base.pop();
            pattern = rest.trim_start_matches('/');
        } else {
            break;
        }
    }
    if pattern.split('/').any(|part| part == "..") {
        return fail_at(1, "`..` is possible at the start of a pattern only");
    }
    let glob = GlobBuilder::new(pattern).literal_separator(true).backslash_escape(true).build();
    let matcher =
        glob.or_else(|error| fail_at(1, format!("the pattern is wrong: {}", error.kind())))?.compile_matcher();
    let depth = if pattern.contains("**") { usize::MAX } else { pattern.split('/').count() };
    let mut search = Search { matcher, found: Vec::new(), seen: 0 };
    search.directory(&base, Path::new(""), depth)?;
    let names = search.found.into_iter().map(|found| path_value(&relative_to(&asked, &base.join(found))));
    Ok(Value::set(Type::String, names))
}

/// The way from a directory to a path, up where it must.
fn relative_to(directory: &Path, path: &Path) -> PathBuf {
    let common = directory.components().zip(path.components()).take_while(|(left, right)| left == right).count();
    let up = directory.components().skip(common).map(|_| Component::ParentDir);
    up.chain(path.components().skip(common)).collect()
}

struct Search {
    matcher: GlobMatcher,
    found: Vec<PathBuf>,
    seen: usize,
}

impl Search {
    /// Looks through `base/relative`, so many levels deep. What cannot be read is left out, as a shell does.
    fn directory(&mut self, base: &Path, relative: &Path, depth: usize) -> Result<(), FunctionError> {
        let Ok(entries) = std::fs::read_dir(base.join(relative)) else { return Ok(()) };
        for entry in entries.flatten() {
            self.seen += 1;
            if self.seen > MAX_ENTRIES {
                let place = base.display();
                return fail(format!("there are more than {MAX_ENTRIES} files below {place}; start further down"));
            }
            let relative = relative.join(entry.file_name());
            let path = entry.path();
            // Links are followed, unless they lead back to a directory they are in.
            let Ok(kind) = std::fs::metadata(&path) else { continue };
            if kind.is_file() && self.matcher.is_match(&relative) {
                self.found.push(relative.clone());
            }
            if kind.is_dir() && depth > 1 && !leads_back(&path) {
                self.directory(base, &relative, depth - 1)?;
            }
        }
        Ok(())
    }
}

fn leads_back(path: &Path) -> bool {
    if !path.is_symlink() {
        return false;
    }
    let parent = path.parent().map(Path::canonicalize);
    matches!((path.canonicalize(), parent), (Ok(target), Some(Ok(parent))) if parent.starts_with(&target))
}
