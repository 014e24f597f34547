//! Lines of a configuration.

use std::path::{Path, PathBuf};

use crate::process::SshProcess;

/// Stands where an included file begins.
pub(super) const ENTER: &str = "<";
/// Stands where it ends.
pub(super) const LEAVE: &str = ">";

/// OpenSSH's bound.
const DEEPEST: usize = 16;

/// `Keyword value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    /// In lower case.
    pub(super) keyword: String,
    /// The value; of several words the first, without its quotes.
    pub(super) value: String,
    /// All of it as it stands.
    pub(super) raw: String,
    /// `file:line`.
    pub(super) place: String,
    all: Vec<String>,
}

impl Line {
    /// The words of the value, without quotes.
    pub(super) fn words(&self) -> impl Iterator<Item = &str> {
        self.all.iter().map(String::as_str)
    }
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("cannot read {path}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{place}: `{keyword}` has no value")]
    NoValue { place: String, keyword: String },
    #[error("{place}: a quote is not closed")]
    Quote { place: String },
    #[error("{0}: too many files include each other")]
    TooDeep(PathBuf),
}

pub(super) fn read(path: &Path, process: &SshProcess) -> Result<Vec<Line>, ConfigError> {
    read_at(path, process, 0)
}

fn read_at(path: &Path, process: &SshProcess, depth: usize) -> Result<Vec<Line>, ConfigError> {
    if depth > DEEPEST {
        return Err(ConfigError::TooDeep(path.to_owned()));
    }
    let bytes = std::fs::read(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    let mut lines = Vec::new();
    for line in parse(&String::from_utf8_lossy(&bytes), path)? {
        if line.keyword != "include" {
            lines.push(line);
            continue;
        }
        for word in line.words() {
            for file in included(word, process) {
                let inner = match read_at(&file, process, depth + 1) {
                    Ok(inner) => inner,
                    // A pattern may well fit a directory, or a file of somebody else's.
                    Err(ConfigError::Read { .. }) => continue,
                    Err(error) => return Err(error),
                };
                lines.push(mark(ENTER));
                lines.extend(inner);
                lines.push(mark(LEAVE));
            }
        }
    }
    Ok(lines)
}

fn mark(keyword: &str) -> Line {
    let empty = String::new;
    Line { keyword: keyword.to_owned(), value: empty(), raw: empty(), place: empty(), all: Vec::new() }
}

/// The files that a word of `Include` names, in the order of their names; relative ones lie in `~/.ssh`.
fn included(word: &str, process: &SshProcess) -> Vec<PathBuf> {
    let path = process.path(word);
    let path = match &process.home {
        Some(home) if path.is_relative() => home.join(".ssh").join(path),
        _ => path,
    };
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return Vec::new() };
    if !name.contains(['*', '?']) {
        return vec![path];
    }
    let Some(directory) = path.parent() else { return Vec::new() };
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries
        .filter(|entry| {
            let file = entry.file_name();
            let file = file.to_string_lossy();
            // As with a shell's patterns, a star does not stand for a leading dot.
            crate::pattern::fits(name, &file) && (!file.starts_with('.') || name.starts_with('.'))
        })
        .map(|entry| entry.path())
        .filter(|path| path.is_file())
        .collect();
    files.sort();
    files
}

/// The lines of a text, without those that say nothing.
pub(super) fn parse(text: &str, path: &Path) -> Result<Vec<Line>, ConfigError> {
    let mut lines = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let place = format!("{}:{}", path.display(), index + 1);
        let end = line.find(|c: char| c.is_whitespace() || c == '=').unwrap_or(line.len());
        let (keyword, rest) = line.split_at(end);
        let keyword = keyword.to_ascii_lowercase();
        let rest = rest.trim_start();
        let raw = rest.strip_prefix('=').unwrap_or(rest).trim_start().to_owned();
        let all = words(&raw).ok_or_else(|| ConfigError::Quote { place: place.clone() })?;
        let Some(value) = all.first().cloned() else { return Err(ConfigError::NoValue { place, keyword }) };
        // Only one of ours may begin or end a file.
        if keyword != ENTER && keyword != LEAVE {
            lines.push(Line { keyword, value, raw, place, all });
        }
    }
    Ok(lines)
}

/// Splits at blanks outside of quotes; a word that begins with `#` ends the line. `None` where a quote is not closed.
fn words(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut characters = text.chars().peekable();
    loop {
        while characters.next_if(|c| c.is_whitespace()).is_some() {}
        match characters.peek() {
            None => return Some(words),
            Some('#') if !words.is_empty() => return Some(words),
            Some(_) => {}
        }
        let (mut word, mut quote) = (String::new(), None);
        while let Some(c) = characters.next_if(|c| quote.is_some() || !c.is_whitespace()) {
            match (c, quote) {
                ('"' | '\'', None) => quote = Some(c),
                (c, Some(open)) if c == open => quote = None,
                ('\\', _) => match characters.next_if(|next| matches!(next, '"' | '\'' | '\\')) {
                    Some(escaped) => word.push(escaped),
                    None => word.push('\\'),
                },
                (c, _) => word.push(c),
            }
        }
        if quote.is_some() {
            return None;
        }
        words.push(word);
    }
}
