//! Diagnostics as text: file, line, column, the source line, a caret, and the suggested edit.

use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Patch, Renderer, Snippet};

use crate::diagnostic::{Diagnostic, Fix, Label, Severity};
use crate::source::{SourceMap, clamp};

/// Width that long source lines are cut to around the mark.
const WIDTH: usize = 120;

/// One diagnostic as several lines without a trailing newline. `coloured` adds ANSI colours.
pub fn render(diagnostic: &Diagnostic, sources: &SourceMap, coloured: bool) -> String {
    let renderer = if coloured { Renderer::styled() } else { Renderer::plain() };
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let mut group = Group::with_title(level.primary_title(diagnostic.title.as_str()));
    let primary = diagnostic.primary.iter().map(|label| (label, AnnotationKind::Primary));
    let labels: Vec<(&Label, AnnotationKind)> =
        primary.chain(diagnostic.secondary.iter().map(|label| (label, AnnotationKind::Context))).collect();
    let mut shown = Vec::new();
    for (label, _) in &labels {
        if !shown.contains(&label.span.source) {
            shown.push(label.span.source);
        }
    }
    for source in shown {
        let Some(file) = sources.get(source) else { continue };
        let own = || labels.iter().filter(|(label, _)| label.span.source == source);
        let (start, line, text) = window(&file.text, own().map(|(label, _)| clamp(&file.text, label.span.range())));
        let mut snippet = Snippet::source(text).path(file.name.as_str()).line_start(line);
        for (label, kind) in own() {
            let range = clamp(&file.text, label.span.range());
            let mark = kind.span(range.start - start..range.end - start);
            snippet = snippet.annotation(if label.text.is_empty() { mark } else { mark.label(label.text.as_str()) });
        }
        group = group.element(snippet);
    }
    for note in &diagnostic.notes {
        group = group.element(Level::NOTE.message(note.as_str()));
    }
    if let Some(help) = &diagnostic.help {
        group = group.element(Level::HELP.message(help.as_str()));
    }
    let mut report = vec![group];
    if let Some(fix) = &diagnostic.fix
        && let Some(file) = sources.get(fix.span.source)
    {
        let range = clamp(&file.text, fix.span.range());
        let (start, line, text) = window(&file.text, [range.clone()]);
        let patch = Patch::new(range.start - start..range.end - start, replacement(fix, sources));
        report.push(
            Group::with_title(Level::HELP.secondary_title(fix.text.as_str()))
                .element(Snippet::source(text).path(file.name.as_str()).line_start(line).patch(patch)),
        );
    }
    renderer.term_width(WIDTH).render(&report)
}

/// The lines around some ranges: their offset, the number of the first, their text. The renderer walks over all that it is
/// given, which for thousands of mistakes in one file would be too much.
fn window(text: &str, ranges: impl IntoIterator<Item = Range<usize>>) -> (usize, usize, &str) {
    let (first, last) =
        ranges.into_iter().fold((text.len(), 0), |(first, last), range| (first.min(range.start), last.max(range.end)));
    let start = text[..first].rfind('\n').map_or(0, |newline| newline + 1);
    let end = text[last.max(start)..].find('\n').map_or(text.len(), |newline| last.max(start) + newline + 1);
    (start, text[..start].matches('\n').count() + 1, &text[start..end])
}

/// The new text of a fix. A name that stands in quotes keeps them: whoever suggests a name need not know how it is written.
fn replacement(fix: &Fix, sources: &SourceMap) -> String {
    let is_quoted = |text: &str| text.len() > 1 && text.starts_with('"') && text.ends_with('"');
    if is_quoted(sources.text(fix.span)) && !is_quoted(&fix.replacement) {
        return format!("\"{}\"", fix.replacement);
    }
    fix.replacement.clone()
}

/// One diagnostic as JSON: `severity`, `code`, `title`, `file`, `line`, `column`, `notes`, `help`, `labels`, `fix`.
pub fn to_json(diagnostic: &Diagnostic, sources: &SourceMap) -> serde_json::Value {
    let place = |label: &Label| {
        let (line, column) = sources.line_column(label.span);
        let file = sources.get(label.span.source).map(|file| file.name.clone());
        serde_json::json!({ "file": file, "line": line, "column": column, "text": label.text })
    };
    serde_json::json!({
        "severity": diagnostic.severity,
        "code": diagnostic.code,
        "title": diagnostic.title,
        "place": diagnostic.primary.as_ref().map(place),
        "labels": diagnostic.secondary.iter().map(place).collect::<Vec<_>>(),
        "notes": diagnostic.notes,
        "help": diagnostic.help,
        "fix": diagnostic.fix.as_ref().map(|fix| {
            let (line, column) = sources.line_column(fix.span);
            serde_json::json!({
                "file": sources.get(fix.span.source).map(|file| file.name.clone()),
                "line": line,
                "column": column,
                "replace": sources.text(fix.span),
                "with": replacement(fix, sources),
                "text": fix.text,
            })
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Span;

    #[test]
    fn shows_place_line_caret_and_edit() {
        let mut sources = SourceMap::new();
        let id = sources.add("worker.pkr.hcl", None, "a = 1\nimag = \"debian\"\n");
        let span = Span::new(id, 6..10);
        let diagnostic = Diagnostic::error("unknown-argument", span, "a `docker` source has no argument `imag`")
            .did_you_mean(span, "imag", ["image", "commit"]);
        insta::assert_snapshot!(render(&diagnostic, &sources, false));
    }

    #[test]
    fn a_quoted_name_keeps_its_quotes() {
        let mut sources = SourceMap::new();
        let id = sources.add("worker.json", None, "{ \"comit\": true }");
        let span = Span::new(id, 2..9);
        let diagnostic = Diagnostic::error("unknown-argument", span, "no").did_you_mean(span, "comit", ["commit"]);
        assert!(render(&diagnostic, &sources, false).contains("{ \"commit\": true }"));
        assert_eq!(to_json(&diagnostic, &sources)["fix"]["with"], "\"commit\"");
    }

    #[test]
    fn a_wild_span_does_not_panic() {
        let mut sources = SourceMap::new();
        let id = sources.add("a", None, "ü");
        let text = render(&Diagnostic::error("x", Span::new(id, 1..900), "wrong"), &sources, false);
        assert!(text.contains("wrong"));
    }
}
