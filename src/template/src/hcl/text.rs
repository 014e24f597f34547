//! Go template actions in texts: rendering them, and pointing at them when they fail.

use std::collections::BTreeMap;
use std::ops::Range;

use kiln_core::config::{Node, Value};
use kiln_core::{Diagnostic, Diagnostics, Facts, Field, SourceMap, Span};
use kiln_gotemplate::{MissingField, RenderError, Rendered, Scope};

/// Longest text that a note shows, in characters.
const SHOWN: usize = 200;

/// Renders the texts of one component.
pub(crate) struct TextRenderer<'a> {
    pub(crate) scope: Scope<'a>,
    pub(crate) sources: &'a SourceMap,
}

impl TextRenderer<'_> {
    /// Renders all texts in a value.
    pub(crate) fn render_node(&self, node: &mut Node, diagnostics: &mut Diagnostics) {
        match &mut node.value {
            Value::String(text) => node.value = self.render(text, node.span, node.sensitive, diagnostics),
            Value::List(nodes) => nodes.iter_mut().for_each(|node| self.render_node(node, diagnostics)),
            Value::Map(entries) => entries.values_mut().for_each(|node| self.render_node(node, diagnostics)),
            Value::Null | Value::Unknown | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    /// A text with its actions rendered; unknown where that fails, with the mistake told.
    pub(crate) fn render(&self, text: &str, span: Span, sensitive: bool, diagnostics: &mut Diagnostics) -> Value {
        if !text.contains("{{") {
            return Value::String(text.to_owned());
        }
        match kiln_gotemplate::render_with_report(text, &self.scope, &BTreeMap::new()) {
            Ok(report) => {
                self.warn_missing(report.missing_fields, text, span, diagnostics);
                match report.rendered {
                    Rendered::Text(text) => Value::String(text),
                    Rendered::Unknown => Value::Unknown,
                }
            }
            Err(error) => {
                diagnostics.push(self.mistake(&error, text, span, sensitive));
                Value::Unknown
            }
        }
    }

    /// Checks the texts of a field that its component renders itself, once it has its data: what is wrong whatever that is.
    pub(crate) fn check_node(&self, node: &Node, field: &Field, facts: &Facts, diagnostics: &mut Diagnostics) {
        match &node.value {
            Value::String(text) => {
                let built = facts.build.iter().flat_map(|values| values.keys());
                let machine = facts.names.iter().chain(built).map(String::as_str);
                let data: Vec<&str> = field.data.iter().copied().chain(machine).collect();
                match kiln_gotemplate::check(text, (!field.data.is_empty()).then_some(data.as_slice())) {
                    Ok(missing) => self.warn_missing(missing, text, node.span, diagnostics),
                    Err(error) => diagnostics.push(self.mistake(&error, text, node.span, node.sensitive)),
                }
            }
            Value::List(nodes) => nodes.iter().for_each(|node| self.check_node(node, field, facts, diagnostics)),
            Value::Map(entries) => entries.values().for_each(|node| self.check_node(node, field, facts, diagnostics)),
            Value::Null | Value::Unknown | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    /// Where a range of an evaluated text stands in the template, if it stands there at all.
    fn exact(&self, range: Option<Range<usize>>, text: &str, span: Span) -> Option<Span> {
        let place = range.and_then(|range| place_in(self.sources.text(span), text, range))?;
        let start = span.range().start;
        Some(Span::new(span.source, start + place.start..start + place.end))
    }

    fn warn_missing(&self, missing: Vec<MissingField>, text: &str, span: Span, diagnostics: &mut Diagnostics) {
        for field in missing {
            let exact = self.exact(field.range, text, span);
            let title = format!("`{}` has no value here", field.path);
            let warning = Diagnostic::warning("no-value", exact.unwrap_or(span), title).label("becomes `<no value>`");
            diagnostics.push(match (field.suggestion, exact) {
                (Some(name), Some(exact)) if self.sources.text(exact) == field.path => {
                    warning.fix(exact, name.as_str(), format!("did you mean `{name}`?"))
                }
                (Some(name), _) => warning.help(format!("did you mean `{name}`?")),
                (None, _) => warning,
            });
        }
    }

    fn mistake(&self, error: &RenderError, text: &str, span: Span, sensitive: bool) -> Diagnostic {
        let exact = self.exact(error.range.clone(), text, span);
        let mut diagnostic = Diagnostic::error("go-template", exact.unwrap_or(span), error.to_string());
        if let Some(suggestion) = &error.suggestion {
            let text = format!("did you mean `{suggestion}`?");
            diagnostic = match exact {
                Some(exact) if !self.sources.text(exact).contains("{{") => {
                    diagnostic.fix(exact, suggestion.as_str(), text)
                }
                _ => diagnostic.help(text),
            };
        }
        if exact.is_none() && !sensitive {
            let shown: String = text.chars().take(SHOWN).collect();
            diagnostic = diagnostic.note(format!("the text is: {shown}"));
        }
        diagnostic
    }
}

/// Where in the written expression a range of the evaluated text stands, if it stands there at all.
fn place_in(written: &str, text: &str, range: Range<usize>) -> Option<Range<usize>> {
    if let Some((decoded, offsets)) = decode_quoted(written)
        && decoded == text
    {
        return Some(*offsets.get(range.start)?..*offsets.get(range.end)?);
    }
    // A heredoc, or a text with interpolations: the same piece, counted by its occurrences.
    let piece = text.get(range.clone()).filter(|piece| !piece.is_empty())?;
    let before = text.get(..range.start)?.matches(piece).count();
    let (start, _) = written.match_indices(piece).nth(before)?;
    Some(start..start + piece.len())
}

/// A quoted literal's text, and for each of its bytes (and its end) the offset in the literal as written.
fn decode_quoted(written: &str) -> Option<(String, Vec<usize>)> {
    let inner = written.strip_prefix('"')?.strip_suffix('"')?;
    let mut decoded = String::new();
    let mut offsets = Vec::new();
    let mut rest = inner;
    while let Some(first) = rest.chars().next() {
        let at = 1 + inner.len() - rest.len();
        let (character, length) = match first {
            '\\' => unescape(rest)?,
            // `$${` and `%%{` stand for the two characters behind.
            '$' | '%' if rest[1..].starts_with(first) && rest[2..].starts_with('{') => (first, 2),
            _ => (first, first.len_utf8()),
        };
        decoded.push(character);
        offsets.resize(decoded.len(), at);
        rest = &rest[length..];
    }
    offsets.push(1 + inner.len());
    Some((decoded, offsets))
}

/// The character of an escape at the start of `rest`, and the escape's length in bytes.
fn unescape(rest: &str) -> Option<(char, usize)> {
    let code = |digits: usize| {
        let number = u32::from_str_radix(rest.get(2..2 + digits)?, 16).ok()?;
        Some((char::from_u32(number)?, 2 + digits))
    };
    match rest.as_bytes().get(1)? {
        b'n' => Some(('\n', 2)),
        b'r' => Some(('\r', 2)),
        b't' => Some(('\t', 2)),
        b'"' => Some(('"', 2)),
        b'\\' => Some(('\\', 2)),
        b'u' => code(4),
        b'U' => code(8),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_is_found_behind_escapes() {
        let written = r#""a\tü {{isotime \"2006\"}}""#;
        let text = "a\tü {{isotime \"2006\"}}";
        let start = text.find("{{").unwrap();
        let found = place_in(written, text, start..text.len()).unwrap();
        assert_eq!(&written[found], r#"{{isotime \"2006\"}}"#);
    }

    #[test]
    fn a_piece_is_found_beside_interpolations_and_counted() {
        let written = r#""{{ x }} ${var.a} {{ x }}""#;
        let text = "{{ x }} value {{ x }}";
        assert_eq!(place_in(written, text, 14..21), Some(18..25));
    }

    #[test]
    fn a_text_from_elsewhere_has_no_place() {
        assert_eq!(place_in("var.command", "{{ x }}", 0..7), None);
    }
}
