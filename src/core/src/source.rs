//! Template texts and places in them.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// Names one text of a [`SourceMap`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SourceId(pub u32);

/// A byte range in one text. `start <= end`; both lie on character boundaries of the *original* text (BOM included).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Span {
    /// The text the range lies in.
    pub source: SourceId,
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

impl Span {
    /// A range of `source`. Offsets beyond 4 GiB are clamped.
    pub fn new(source: SourceId, range: std::ops::Range<usize>) -> Span {
        let clamp = |offset: usize| u32::try_from(offset).unwrap_or(u32::MAX);
        Span { source, start: clamp(range.start), end: clamp(range.end) }
    }

    /// The byte range.
    pub fn range(self) -> std::ops::Range<usize> {
        self.start as usize..self.end as usize
    }

    /// The smallest range that holds both; `self` when they lie in different texts.
    pub fn to(self, end: Span) -> Span {
        if self.source != end.source {
            return self;
        }
        Span { source: self.source, start: self.start.min(end.start), end: self.end.max(end.end) }
    }

    /// The empty range at this one's start.
    pub fn start_point(self) -> Span {
        Span { end: self.start, ..self }
    }
}

/// One text: a template, a variable file, or a value given on the command line.
#[derive(Debug, Clone)]
pub struct SourceFile {
    /// What messages call it: the path as the user gave it, or `<-var release>`, `<environment KILN_VAR_release>`.
    pub name: String,
    /// Where it was read from, where it was.
    pub path: Option<PathBuf>,
    /// The whole text.
    pub text: Arc<str>,
    /// Where its lines start, once somebody asked: a template may have thousands of mistakes.
    lines: OnceLock<Arc<[usize]>>,
}

impl SourceFile {
    fn new(name: impl Into<String>, path: Option<&Path>, text: impl Into<Arc<str>>) -> SourceFile {
        SourceFile { name: name.into(), path: path.map(Path::to_path_buf), text: text.into(), lines: OnceLock::new() }
    }

    fn lines(&self) -> &[usize] {
        let starts = || std::iter::once(0).chain(self.text.match_indices('\n').map(|(newline, _)| newline + 1));
        self.lines.get_or_init(|| starts().collect())
    }

    /// The line that an offset lies in, from 1.
    pub fn line(&self, offset: usize) -> usize {
        self.lines().partition_point(|start| *start <= offset).max(1)
    }
}

/// All texts of a run; diagnostics point into it.
#[derive(Debug, Clone, Default)]
pub struct SourceMap {
    files: Vec<SourceFile>,
    /// Texts of one finding.
    own: Vec<SourceFile>,
}

impl SourceId {
    /// The first of the texts that a finding brings with it: see [`crate::Diagnostic::text`].
    pub const OWN: SourceId = SourceId(OWN);
}

/// Ids of texts that a finding brings with it begin here.
const OWN: u32 = 1 << 31;

impl SourceMap {
    /// An empty map.
    pub fn new() -> SourceMap {
        SourceMap::default()
    }

    /// Adds a text and names it.
    pub fn add(&mut self, name: impl Into<String>, path: Option<&Path>, text: impl Into<Arc<str>>) -> SourceId {
        let id = SourceId(u32::try_from(self.files.len()).unwrap_or(u32::MAX));
        self.files.push(SourceFile::new(name, path, text));
        id
    }

    /// These texts and those of one finding, as `name` and `text`.
    pub(crate) fn with_own<'a>(&self, own: impl IntoIterator<Item = &'a (String, Arc<str>)>) -> SourceMap {
        let own = own.into_iter().map(|(name, text)| SourceFile::new(name.as_str(), None, Arc::clone(text)));
        SourceMap { files: self.files.clone(), own: own.collect() }
    }

    /// The text behind an id; `None` for an id of another map.
    pub fn get(&self, id: SourceId) -> Option<&SourceFile> {
        match id.0.checked_sub(OWN) {
            Some(index) => self.own.get(index as usize),
            None => self.files.get(id.0 as usize),
        }
    }

    /// The text that a span covers, clamped to what is there.
    pub fn text(&self, span: Span) -> &str {
        let Some(file) = self.get(span.source) else { return "" };
        let range = clamp(&file.text, span.range());
        &file.text[range]
    }

    /// Line and column (both from 1, the column in characters) of a span's start.
    pub fn line_column(&self, span: Span) -> (usize, usize) {
        let Some(file) = self.get(span.source) else { return (0, 0) };
        let start = clamp(&file.text, span.range()).start;
        let line = file.line(start);
        let line_start = file.lines().get(line - 1).copied().unwrap_or_default();
        (line, file.text[line_start..start].chars().count() + 1)
    }

    /// `name:line:column`, the form that editors and terminals make clickable.
    pub fn place(&self, span: Span) -> String {
        let (line, column) = self.line_column(span);
        let name = self.get(span.source).map_or("<unknown>", |file| file.name.as_str());
        format!("{name}:{line}:{column}")
    }

    /// All texts in the order they were added.
    pub fn files(&self) -> impl Iterator<Item = (SourceId, &SourceFile)> {
        self.files.iter().enumerate().map(|(index, file)| (SourceId(index as u32), file))
    }
}

/// Moves a range inside the text and onto character boundaries: renderers panic on anything else.
pub fn clamp(text: &str, range: std::ops::Range<usize>) -> std::ops::Range<usize> {
    let floor = |mut offset: usize| {
        offset = offset.min(text.len());
        while !text.is_char_boundary(offset) {
            offset -= 1;
        }
        offset
    };
    let start = floor(range.start);
    start..floor(range.end).max(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_counts_lines_and_characters_from_one() {
        let mut sources = SourceMap::new();
        let id = sources.add("a.hcl", None, "x\nüy = 1");
        assert_eq!(sources.place(Span::new(id, 4..5)), "a.hcl:2:2");
    }

    #[test]
    fn a_span_beyond_the_text_is_clamped() {
        let mut sources = SourceMap::new();
        let id = sources.add("a.hcl", None, "ü");
        assert_eq!(sources.text(Span::new(id, 1..99)), "ü");
        assert_eq!(sources.place(Span::new(id, 99..120)), "a.hcl:1:2");
    }
}
