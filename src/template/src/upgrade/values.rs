//! Values of legacy JSON, which are weakly typed, as expressions of HCL2, which are not.

use kiln_core::{Diagnostic, FieldType, Schema, Span};

use super::Upgrade;
use super::text::{Converted, Piece, Place, convert, expression, literal, quoted};
use super::variables::notes;
use crate::legacy::json::{JsonNode, JsonObject, JsonValue, Member, canonical_number};

/// Lists up to this length stand on one line.
const LINE: usize = 80;

/// Texts that Go reads as true.
const TRUE: [&str; 6] = ["1", "t", "T", "true", "TRUE", "True"];

/// Texts that Go's weak decoding reads as false.
const FALSE: [&str; 7] = ["0", "f", "F", "false", "FALSE", "False", ""];

impl Upgrade<'_> {
    /// Converts a text, and keeps what is to be said of it.
    pub(super) fn text(&mut self, text: &str, span: Span, place: Place) -> Converted {
        self.variables.at = Some(span);
        let converted = convert(text, place, &mut self.variables);
        for note in notes(&converted, span, &self.source) {
            self.note(note);
        }
        converted
    }

    /// A value of a type.
    pub(super) fn typed(&mut self, node: &JsonNode, kind: FieldType, place: Place) -> String {
        match (kind, &node.value) {
            (_, JsonValue::Null) => "null".to_owned(),
            (FieldType::Bool, _) => self.bool(node, place),
            (FieldType::BoolOr(words), JsonValue::String(text)) if words.contains(&text.as_str()) => literal(text),
            (FieldType::BoolOr(_), _) => self.bool(node, place),
            (FieldType::Integer | FieldType::Number, _) => self.number(node, place),
            (FieldType::StringList, _) => self.list(node, FieldType::String, place),
            (FieldType::IntegerList, _) => self.list(node, FieldType::Integer, place),
            (FieldType::StringMap, _) => self.map(node, place),
            (FieldType::Block(schema) | FieldType::Blocks(schema), JsonValue::Object(members)) => {
                self.object(members, Some(schema), place)
            }
            (FieldType::Block(_) | FieldType::Blocks(_), JsonValue::Array(items)) => {
                let items: Vec<String> = items.iter().map(|item| self.typed(item, kind, place)).collect();
                list(&items)
            }
            (FieldType::String | FieldType::Duration | FieldType::OneOf(_), JsonValue::Number(digits)) => {
                literal(&canonical_number(digits))
            }
            (FieldType::String | FieldType::Duration | FieldType::OneOf(_), JsonValue::Bool(value)) => {
                literal(&value.to_string())
            }
            _ => self.any(node, place),
        }
    }

    /// A value of no known type: as it is written.
    pub(super) fn any(&mut self, node: &JsonNode, place: Place) -> String {
        match &node.value {
            JsonValue::Null => "null".to_owned(),
            JsonValue::Bool(value) => value.to_string(),
            JsonValue::Number(digits) => canonical_number(digits),
            JsonValue::String(text) => self.text(text, node.span, place).expression(),
            JsonValue::Array(items) => {
                let items: Vec<String> = items.iter().map(|item| self.any(item, place)).collect();
                list(&items)
            }
            JsonValue::Object(members) => self.object(members, None, place),
        }
    }

    fn object(&mut self, members: &JsonObject, schema: Option<&Schema>, place: Place) -> String {
        let mut entries = Vec::with_capacity(members.len());
        for (name, member) in members {
            let field = schema.and_then(|schema| schema.field(name));
            let value = match field {
                Some(field) => self.typed(&member.node, field.kind, place),
                None => self.any(&member.node, place),
            };
            entries.push(format!("{} = {value}", self.key(name, member, place)));
        }
        object(&entries)
    }

    /// Keys of maps are texts, too. What stays of actions in one is not rendered.
    fn key(&mut self, name: &str, member: &Member, place: Place) -> String {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let is_word = name.chars().all(is_plain) && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        if is_word && !["true", "false", "null", "for"].contains(&name) {
            return name.to_owned();
        }
        let converted = self.text(name, member.name_span, place);
        if converted.has_actions {
            let title = "HCL2 does not render template actions in the keys of maps";
            self.note(Diagnostic::warning("upgraded", member.name_span, title));
        }
        quoted(&converted.pieces)
    }

    fn bool(&mut self, node: &JsonNode, place: Place) -> String {
        match &node.value {
            JsonValue::Bool(value) => value.to_string(),
            JsonValue::Number(digits) => (canonical_number(digits) != "0").to_string(),
            JsonValue::String(text) if TRUE.contains(&text.as_str()) => "true".to_owned(),
            JsonValue::String(text) if FALSE.contains(&text.as_str()) => "false".to_owned(),
            JsonValue::String(text) => {
                let converted = self.text(text, node.span, place);
                let default = converted.default.clone().unwrap_or_default();
                let code = converted.expression();
                let is_weak = TRUE.contains(&default.as_str()) || FALSE.contains(&default.as_str());
                if converted.default.is_some() && is_weak && !["true", "false"].contains(&default.as_str()) {
                    let words: Vec<String> = TRUE.iter().map(|word| literal(word)).collect();
                    return format!("contains({}, {code})", list(&words));
                }
                code
            }
            _ => self.any(node, place),
        }
    }

    fn number(&mut self, node: &JsonNode, place: Place) -> String {
        match &node.value {
            JsonValue::Bool(value) => u8::from(*value).to_string(),
            JsonValue::String(text) if text.trim().parse::<f64>().is_ok_and(f64::is_finite) => {
                canonical_number(text.trim().trim_start_matches('+'))
            }
            _ => self.any(node, place),
        }
    }

    /// A text stands for a list: its pieces between commas.
    fn list(&mut self, node: &JsonNode, item: FieldType, place: Place) -> String {
        match &node.value {
            JsonValue::Array(items) => {
                let items: Vec<String> = items.iter().map(|node| self.typed(node, item, place)).collect();
                list(&items)
            }
            JsonValue::String(text) => {
                let converted = self.text(text, node.span, place);
                let is_integer = matches!(item, FieldType::Integer);
                if converted.literal().is_some() || converted.has_actions {
                    let pieces = split(&converted.pieces);
                    let item = |pieces: &Vec<Piece>| match pieces.as_slice() {
                        [Piece::Literal(text)] if is_integer && text.trim().parse::<i64>().is_ok() => {
                            text.trim().to_owned()
                        }
                        pieces => expression(pieces),
                    };
                    return list(&pieces.iter().map(item).collect::<Vec<_>>());
                }
                let code = format!("split(\",\", {})", converted.expression());
                // No text is no item.
                if converted.default.as_deref() == Some("") { format!("compact({code})") } else { code }
            }
            JsonValue::Bool(_) | JsonValue::Number(_) => list(&[self.typed(node, item, place)]),
            _ => self.any(node, place),
        }
    }

    fn map(&mut self, node: &JsonNode, place: Place) -> String {
        let mut entries = Vec::new();
        let parts = match &node.value {
            JsonValue::Object(members) => vec![members],
            JsonValue::Array(items) => items
                .iter()
                .filter_map(|item| match &item.value {
                    JsonValue::Object(members) => Some(members),
                    _ => None,
                })
                .collect(),
            _ => return self.any(node, place),
        };
        for (name, member) in parts.into_iter().flatten() {
            let value = self.typed(&member.node, FieldType::String, place);
            entries.push(format!("{} = {value}", self.key(name, member, place)));
        }
        object(&entries)
    }
}

/// The items between commas; none of an empty text.
fn split(pieces: &[Piece]) -> Vec<Vec<Piece>> {
    if pieces.is_empty() {
        return Vec::new();
    }
    let mut items = vec![Vec::new()];
    for piece in pieces {
        match piece {
            Piece::Code(_) => items.last_mut().into_iter().for_each(|item| item.push(piece.clone())),
            Piece::Literal(text) => {
                for (index, part) in text.split(',').enumerate() {
                    if index > 0 {
                        items.push(Vec::new());
                    }
                    if let Some(item) = items.last_mut().filter(|_| !part.is_empty()) {
                        item.push(Piece::Literal(part.to_owned()));
                    }
                }
            }
        }
    }
    items
}

/// A list, on one line where it is short.
pub(super) fn list(items: &[String]) -> String {
    let length: usize = items.iter().map(|item| item.len() + 2).sum();
    if items.iter().any(|item| item.contains('\n')) || length > LINE {
        return format!("[\n{},\n]", items.join(",\n"));
    }
    format!("[{}]", items.join(", "))
}

fn object(entries: &[String]) -> String {
    if entries.is_empty() { "{}".to_owned() } else { format!("{{\n{}\n}}", entries.join("\n")) }
}
