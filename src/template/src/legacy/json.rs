//! JSON text to a tree that knows its places, down to the characters inside a string.

use std::ops::Range;

use indexmap::IndexMap;
use indexmap::map::Entry;
use jsonc_parser::ast;
use jsonc_parser::common::Ranged;
use jsonc_parser::{CollectOptions, ParseOptions, parse_to_ast};
use kiln_core::{Diagnostic, Diagnostics, SourceId, Span};

use super::syntax;

/// A value at its place.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct JsonNode {
    pub(crate) value: JsonValue,
    /// The literal, quotes and brackets included.
    pub(crate) span: Span,
}

/// A value without its place.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum JsonValue {
    Null,
    Bool(bool),
    /// The digits as written.
    Number(String),
    /// The text, escapes decoded.
    String(String),
    Array(Vec<JsonNode>),
    Object(JsonObject),
}

/// Members by name, in the order written.
pub(crate) type JsonObject = IndexMap<String, Member>;

/// One member of an object.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Member {
    /// The name's literal, quotes included.
    pub(crate) name_span: Span,
    pub(crate) node: JsonNode,
}

impl Member {
    /// From the name to the end of the value.
    pub(crate) fn span(&self) -> Span {
        self.name_span.to(self.node.span)
    }
}

impl JsonValue {
    /// What messages call its type.
    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            JsonValue::Null => "null",
            JsonValue::Bool(_) => "a bool",
            JsonValue::Number(_) => "a number",
            JsonValue::String(_) => "a string",
            JsonValue::Array(_) => "a list",
            JsonValue::Object(_) => "an object",
        }
    }

    pub(crate) fn is_null(&self) -> bool {
        matches!(self, JsonValue::Null)
    }
}

/// What a key that stands twice in an object means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Duplicates {
    /// An error, as in templates.
    Refuse,
    /// The last one counts, as in variable files; a warning.
    LastWins,
}

/// Reads a text. `None` comes back with at least one error in `diagnostics`; duplicate keys are errors beside a tree.
pub(crate) fn parse(
    text: &str,
    source: SourceId,
    duplicates: Duplicates,
    diagnostics: &mut Diagnostics,
) -> Option<JsonNode> {
    if let Some(diagnostic) = syntax::other_language(text, source) {
        diagnostics.push(diagnostic);
        return None;
    }
    let unclosed = match syntax::check_text(text, source) {
        Ok(unclosed) => unclosed,
        Err(diagnostic) => {
            diagnostics.push(*diagnostic);
            return None;
        }
    };
    let parsed = parse_to_ast(text, &CollectOptions::default(), &strict());
    match (parsed, unclosed) {
        // The quote that has no partner is often the last of an odd number; whatever is wrong before it is the cause.
        (Err(error), Some((start, diagnostic))) => {
            let error_start = error.range().start;
            let mistake = match syntax::missing_quote(text, source, error_start, start) {
                Some(missing) => missing,
                None if error_start < start => syntax::diagnose(text, source, &error),
                None => *diagnostic,
            };
            diagnostics.push(mistake);
            None
        }
        (Ok(_), Some((_, diagnostic))) => {
            diagnostics.push(*diagnostic);
            None
        }
        (Err(error), None) => {
            diagnostics.push(syntax::diagnose(text, source, &error));
            None
        }
        (Ok(result), None) => {
            let Some(value) = result.value else {
                let span = Span::new(source, 0..0);
                diagnostics.push(
                    Diagnostic::error("json-syntax", span, "the file is empty")
                        .help("a template is a JSON object: `{ \"builders\": [ ... ] }`"),
                );
                return None;
            };
            Some(Converter { source, duplicates, diagnostics }.node(value))
        }
    }
}

fn strict() -> ParseOptions {
    ParseOptions {
        allow_comments: false,
        allow_loose_object_property_names: false,
        allow_trailing_commas: false,
        allow_missing_commas: false,
        allow_single_quoted_strings: false,
        allow_hexadecimal_numbers: false,
        allow_unary_plus_numbers: false,
        allow_bare_decimal_point_numbers: false,
        allow_non_finite_numbers: false,
        allow_extended_string_escapes: false,
    }
}

struct Converter<'a> {
    source: SourceId,
    duplicates: Duplicates,
    diagnostics: &'a mut Diagnostics,
}

impl Converter<'_> {
    fn span(&self, ranged: &impl Ranged) -> Span {
        Span::new(self.source, ranged.start()..ranged.end())
    }

    fn node(&mut self, value: ast::Value<'_>) -> JsonNode {
        let span = self.span(&value);
        let value = match value {
            ast::Value::NullKeyword(_) => JsonValue::Null,
            ast::Value::BooleanLit(literal) => JsonValue::Bool(literal.value),
            ast::Value::NumberLit(literal) => JsonValue::Number(literal.value.to_owned()),
            ast::Value::StringLit(literal) => JsonValue::String(literal.value.into_owned()),
            ast::Value::Array(array) => {
                JsonValue::Array(array.elements.into_iter().map(|element| self.node(element)).collect())
            }
            ast::Value::Object(object) => JsonValue::Object(self.object(object)),
        };
        JsonNode { value, span }
    }

    fn object(&mut self, object: ast::Object<'_>) -> JsonObject {
        let mut members = JsonObject::with_capacity(object.properties.len());
        for property in object.properties {
            let name_span = match &property.name {
                ast::ObjectPropName::String(literal) => self.span(literal),
                ast::ObjectPropName::Word(literal) => self.span(literal),
            };
            let name = property.name.into_string();
            let node = self.node(property.value);
            match members.entry(name) {
                Entry::Vacant(entry) => {
                    entry.insert(Member { name_span, node });
                }
                Entry::Occupied(mut entry) => {
                    let title = format!("`{}` stands twice in the same object", entry.key());
                    let first = entry.get().name_span;
                    match self.duplicates {
                        Duplicates::Refuse => self.diagnostics.push(
                            Diagnostic::error("duplicate-key", name_span, title)
                                .label("again here")
                                .also(first, "first here"),
                        ),
                        Duplicates::LastWins => {
                            self.diagnostics.push(
                                Diagnostic::warning("duplicate-key", name_span, title)
                                    .label("this one counts")
                                    .also(first, "first here"),
                            );
                            entry.insert(Member { name_span, node });
                        }
                    }
                }
            }
        }
        members
    }
}

/// The place of a range of a decoded string in the text that its literal stands in. `literal` includes the quotes.
pub(crate) fn inside(text: &str, literal: Span, decoded: Range<usize>) -> Span {
    let Some(inner) = text.get(literal.start as usize + 1..(literal.end as usize).saturating_sub(1)) else {
        return literal;
    };
    let base = literal.start as usize + 1;
    let mut start = None;
    let mut offset = 0;
    for (position, written, decoded_length) in pieces(inner) {
        if start.is_none() && offset + decoded_length > decoded.start {
            start = Some(position);
        }
        if offset >= decoded.end {
            let start = start.unwrap_or(position).min(position);
            return Span::new(literal.source, base + start..base + position);
        }
        offset += decoded_length;
        if offset >= decoded.end {
            let start = start.unwrap_or(position + written);
            return Span::new(literal.source, base + start..base + position + written);
        }
    }
    Span::new(literal.source, base + start.unwrap_or(inner.len())..base + inner.len())
}

/// Characters and escapes of a literal's inside: where each starts, its written length and its decoded length, in bytes.
fn pieces(inner: &str) -> impl Iterator<Item = (usize, usize, usize)> {
    let mut position = 0;
    std::iter::from_fn(move || {
        let rest = inner.get(position..).filter(|rest| !rest.is_empty())?;
        let (written, decoded) = piece(rest);
        let at = position;
        position += written;
        Some((at, written, decoded))
    })
}

fn piece(rest: &str) -> (usize, usize) {
    let first = rest.chars().next().map_or(1, char::len_utf8);
    if !rest.starts_with('\\') {
        return (first, first);
    }
    let unit = |at: usize| rest.get(at..at + 4).and_then(|digits| u16::from_str_radix(digits, 16).ok());
    if !rest.starts_with("\\u") {
        return (2.min(rest.len()), 1);
    }
    let Some(high) = unit(2) else { return (2, 1) };
    if (0xd800..0xdc00).contains(&high)
        && rest.get(6..8) == Some("\\u")
        && let Some(low) = unit(8)
        && let Some(Ok(character)) = char::decode_utf16([high, low]).next()
    {
        return (12, character.len_utf8());
    }
    // A surrogate alone decodes to the replacement character, which takes three bytes as well.
    (6, char::from_u32(u32::from(high)).map_or(3, char::len_utf8))
}

/// A JSON number as decimal text without exponent: `1e3` is `1000`, `-0` is `0`, `1.50` is `1.5`. Beyond 400 digits the
/// text stays as it is.
pub(crate) fn canonical_number(written: &str) -> String {
    let (sign, unsigned) = written.strip_prefix('-').map_or(("", written), |rest| ("-", rest));
    let (mantissa, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let Ok(exponent) = exponent.parse::<i64>() else { return written.to_owned() };
    if exponent.abs() > 400 {
        return written.to_owned();
    }
    let mut digits = format!("{whole}{fraction}");
    let point = whole.len() as i64 + exponent;
    if point < 1 {
        let zeros = usize::try_from(1 - point).unwrap_or_default();
        digits.insert_str(0, &"0".repeat(zeros));
    }
    let point = usize::try_from(point.max(1)).unwrap_or(1);
    while digits.len() < point {
        digits.push('0');
    }
    let (whole, fraction) = digits.split_at(point);
    let whole = whole.trim_start_matches('0');
    let whole = if whole.is_empty() { "0" } else { whole };
    let fraction = fraction.trim_end_matches('0');
    match (whole, fraction) {
        ("0", "") => "0".to_owned(),
        (_, "") => format!("{sign}{whole}"),
        _ => format!("{sign}{whole}.{fraction}"),
    }
}
