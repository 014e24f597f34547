//! Diagnostics as text: file, line, column, the source line, a caret, and the suggested edit.

use std::borrow::Cow;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Patch, Renderer, Snippet};

use crate::diagnostic::{Diagnostic, Edit, Fix, Label, Severity};
use crate::source::{SourceFile, SourceMap, Span, clamp};

/// Width that long source lines are cut to around the mark.
const WIDTH: usize = 120;

/// One diagnostic as several lines without a trailing newline. `coloured` adds ANSI colours.
pub fn render(diagnostic: &Diagnostic, sources: &SourceMap, coloured: bool) -> String {
    let sources = &*all_sources(diagnostic, sources);
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
        let (start, line, text) = window(file, own().map(|(label, _)| clamp(&file.text, label.span.range())));
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
    for help in helps(diagnostic, sources) {
        group = group.element(Level::HELP.message(help));
    }
    let mut report = vec![group];
    if let Some(fix) = edit(diagnostic, sources)
        && let Some(file) = sources.get(fix.span.source)
    {
        let range = clamp(&file.text, fix.span.range());
        let (start, line, text) = window(file, [range.clone()]);
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
fn window(file: &SourceFile, ranges: impl IntoIterator<Item = Range<usize>>) -> (usize, usize, &str) {
    let text: &str = &file.text;
    let (first, last) =
        ranges.into_iter().fold((text.len(), 0), |(first, last), range| (first.min(range.start), last.max(range.end)));
    let start = text[..first].rfind('\n').map_or(0, |newline| newline + 1);
    let end = text[last.max(start)..].find('\n').map_or(text.len(), |newline| last.max(start) + newline + 1);
    (start, file.line(start), &text[start..end])
}

/// `file:line` of a diagnostic.
pub fn file_and_line(diagnostic: &Diagnostic, sources: &SourceMap) -> Option<String> {
    let sources = all_sources(diagnostic, sources);
    let span = diagnostic.primary.as_ref()?.span;
    let name = sources.get(span.source).map_or("<unknown>", |file| file.name.as_str());
    Some(format!("{name}:{}", sources.line_column(span).0))
}

/// The sources with the texts that the diagnostic brings along.
fn all_sources<'a>(diagnostic: &Diagnostic, sources: &'a SourceMap) -> Cow<'a, SourceMap> {
    match diagnostic.texts.is_empty() {
        true => Cow::Borrowed(sources),
        false => Cow::Owned(sources.with_own(&diagnostic.texts)),
    }
}

/// The diagnostic's edit, where it can be made in the text as it stands.
fn edit<'a>(diagnostic: &'a Diagnostic, sources: &SourceMap) -> Option<&'a Fix> {
    diagnostic.fix.as_ref().filter(|fix| {
        let text = sources.text(fix.span);
        let is_literal = || {
            let is_quoted = text.len() > 1
                && text.starts_with('"')
                && text.ends_with('"')
                && !text.contains("${")
                && !text.contains("{{");
            let is_plain = |c: char| c.is_ascii_digit() || matches!(c, '.' | '-');
            is_quoted || matches!(text, "true" | "false") || (!text.is_empty() && text.chars().all(is_plain))
        };
        // A value of the command line or the environment is no text that somebody edits.
        let is_given = sources.get(fix.span.source).is_some_and(|file| {
            file.path.is_none() && (file.name.starts_with("<-var ") || file.name.starts_with("<environment "))
        });
        match fix.edit {
            _ if is_given => false,
            Edit::Exact | Edit::Name => true,
            Edit::Value => is_literal(),
            // The end of a heredoc stands alone on its line.
            Edit::Around(_) => !text.starts_with("<<"),
        }
    })
}

/// What to do, in words; also what the edit would do, where it cannot be made.
fn helps<'a>(diagnostic: &'a Diagnostic, sources: &SourceMap) -> Vec<&'a str> {
    let unmade = diagnostic.fix.as_ref().filter(|_| edit(diagnostic, sources).is_none());
    diagnostic.help.as_deref().into_iter().chain(unmade.map(|fix| fix.text.as_str())).collect()
}

/// The new text of a fix.
fn replacement(fix: &Fix, sources: &SourceMap) -> String {
    let is_quoted = |text: &str| text.len() > 1 && text.starts_with('"') && text.ends_with('"');
    match fix.edit {
        Edit::Name if is_quoted(sources.text(fix.span)) && !is_quoted(&fix.replacement) => {
            format!("\"{}\"", fix.replacement)
        }
        Edit::Exact | Edit::Name | Edit::Value => fix.replacement.clone(),
        Edit::Around(behind) => format!("{}{}{behind}", fix.replacement, sources.text(fix.span)),
    }
}

/// One diagnostic as JSON: `severity`, `code`, `title`, `place`, `labels`, `notes`, `help`, `fix`. A place has `file`, `line`
/// and `column` of its first character, `end_line` and `end_column` behind its last one; all count from 1.
pub fn to_json(diagnostic: &Diagnostic, sources: &SourceMap) -> serde_json::Value {
    let sources = &*all_sources(diagnostic, sources);
    let labelled = |label: &Label| {
        let mut place = place(label.span, sources);
        place.insert("text".to_owned(), label.text.as_str().into());
        place
    };
    let helps = helps(diagnostic, sources);
    serde_json::json!({
        "severity": diagnostic.severity,
        "code": diagnostic.code,
        "title": diagnostic.title,
        "place": diagnostic.primary.as_ref().map(labelled),
        "labels": diagnostic.secondary.iter().map(labelled).collect::<Vec<_>>(),
        "notes": diagnostic.notes,
        "help": (!helps.is_empty()).then(|| helps.join("; ")),
        "fix": edit(diagnostic, sources).map(|fix| {
            let mut place = place(fix.span, sources);
            place.insert("replace".to_owned(), sources.text(fix.span).into());
            place.insert("with".to_owned(), replacement(fix, sources).into());
            place.insert("text".to_owned(), fix.text.as_str().into());
            place
        }),
    })
}

fn place(span: Span, sources: &SourceMap) -> serde_json::Map<String, serde_json::Value> {
    let (line, column) = sources.line_column(span);
    let (end_line, end_column) = sources.line_column(Span { start: span.end, ..span });
    let file = sources.get(span.source).map(|file| file.name.clone());
    let values: [(&str, serde_json::Value); 5] = [
        ("file", file.into()),
        ("line", line.into()),
        ("column", column.into()),
        ("end_line", end_line.into()),
        ("end_column", end_column.into()),
    ];
    values.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{SourceId, Span};

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
    fn an_edit_of_quotes_takes_them_away() {
        let mut sources = SourceMap::new();
        let id = sources.add("worker.pkr.hcl", None, "a = 1\n\"image\" = \"debian\"");
        let span = Span::new(id, 6..13);
        let diagnostic = Diagnostic::error("syntax", span, "no quotes").fix(span, "image", "remove the quotes");
        let report = to_json(&diagnostic, &sources);
        assert_eq!((&report["fix"]["replace"], &report["fix"]["with"]), (&"\"image\"".into(), &"image".into()));
        let place = &report["place"];
        assert_eq!((&place["line"], &place["column"]), (&2.into(), &1.into()));
        assert_eq!((&place["end_line"], &place["end_column"]), (&2.into(), &8.into()));
    }

    #[test]
    fn an_edit_may_put_something_around() {
        let mut sources = SourceMap::new();
        let id = sources.add("worker.pkr.hcl", None, "inline = \"true\"");
        let span = Span::new(id, 9..15);
        let diagnostic = Diagnostic::error("wrong-type", span, "a list").enclose(span, "[", "]", "write");
        assert_eq!(to_json(&diagnostic, &sources)["fix"]["with"], "[\"true\"]");
    }

    #[test]
    fn a_value_takes_the_place_of_a_literal_only() {
        let mut sources = SourceMap::new();
        let id = sources.add("worker.pkr.hcl", None, "a = \"1d\"\nb = var.wait");
        let at = |range: Range<usize>| {
            let span = Span::new(id, range);
            Diagnostic::error("wrong-duration", span, "no").value(span, "\"24h\"", "write `24h`")
        };
        assert_eq!(to_json(&at(4..8), &sources)["fix"]["with"], "\"24h\"");
        let elsewhere = to_json(&at(13..21), &sources);
        assert_eq!((&elsewhere["fix"], &elsewhere["help"]), (&serde_json::Value::Null, &"write `24h`".into()));
    }

    #[test]
    fn a_finding_brings_its_own_text_along() {
        let mut sources = SourceMap::new();
        let id = sources.add("worker.pkr.hcl", None, "a = templatefile(\"motd.tpl\", {})");
        let diagnostic =
            Diagnostic::error("unknown-name", Span::new(SourceId::OWN, 4..7), "nothing is called `nam` here")
                .also(Span::new(id, 4..32), "`motd.tpl` is rendered here")
                .text("motd.tpl", "x\n${nam}");
        let shown = render(&diagnostic, &sources, false);
        assert!(shown.contains("motd.tpl:2:3") && shown.contains("worker.pkr.hcl:1:5"), "{shown}");
        assert_eq!(to_json(&diagnostic, &sources)["place"]["file"], "motd.tpl");
        assert_eq!(file_and_line(&diagnostic, &sources), Some("motd.tpl:2".to_owned()));
    }

    #[test]
    fn a_wild_span_does_not_panic() {
        let mut sources = SourceMap::new();
        let id = sources.add("a", None, "ü");
        let text = render(&Diagnostic::error("x", Span::new(id, 1..900), "wrong"), &sources, false);
        assert!(text.contains("wrong"));
    }
}
