//! The shape of a template: what type each key must have.

use kiln_core::{Diagnostic, Diagnostics, Span};

use super::json::{JsonNode, JsonObject, JsonValue, Member};

/// The inside of a string literal.
pub(super) fn unquoted(span: Span) -> Span {
    if span.end.saturating_sub(span.start) < 2 {
        return span;
    }
    Span { start: span.start + 1, end: span.end - 1, ..span }
}

/// "`key` must be a list, and this is a string".
pub(super) fn wrong_type(name: &str, node: &JsonNode, wanted: &str) -> Diagnostic {
    Diagnostic::error(
        "wrong-type",
        node.span,
        format!("`{name}` must be {wanted}, and this is {}", node.value.type_name()),
    )
}

/// A member that is an object; null counts as absent.
pub(super) fn object<'a>(owner: &'a JsonObject, name: &str, diagnostics: &mut Diagnostics) -> Option<&'a JsonObject> {
    let member = owner.get(name)?;
    match &member.node.value {
        JsonValue::Object(object) => Some(object),
        JsonValue::Null => None,
        _ => {
            diagnostics.push(wrong_type(name, &member.node, "an object"));
            None
        }
    }
}

/// The items of a member that is a list; none where it is absent or null.
pub(super) fn array<'a>(owner: &'a JsonObject, name: &str, diagnostics: &mut Diagnostics) -> &'a [JsonNode] {
    let Some(member) = owner.get(name) else { return &[] };
    match &member.node.value {
        JsonValue::Array(items) => items,
        JsonValue::Null => &[],
        other => {
            let mistake = wrong_type(name, &member.node, "a list");
            diagnostics.push(match other {
                JsonValue::Object(_) | JsonValue::String(_) => mistake.help("put it in `[` and `]`"),
                _ => mistake,
            });
            &[]
        }
    }
}

/// A member that is a string; null counts as absent.
pub(super) fn string<'a>(
    owner: &'a JsonObject,
    name: &str,
    diagnostics: &mut Diagnostics,
) -> Option<(&'a str, &'a Member)> {
    let member = owner.get(name)?;
    match &member.node.value {
        JsonValue::String(text) => Some((text, member)),
        JsonValue::Null => None,
        _ => {
            diagnostics.push(wrong_type(name, &member.node, "a string"));
            None
        }
    }
}

/// A member that lists strings; one string alone stands for a list of one. `None` where it is absent or null.
pub(super) fn strings(owner: &JsonObject, name: &str, diagnostics: &mut Diagnostics) -> Option<Vec<(String, Span)>> {
    let member = owner.get(name)?;
    let items = match &member.node.value {
        JsonValue::Array(items) => items.as_slice(),
        JsonValue::String(_) => std::slice::from_ref(&member.node),
        JsonValue::Null => return None,
        _ => {
            diagnostics.push(wrong_type(name, &member.node, "a list of strings"));
            return None;
        }
    };
    let mut texts = Vec::with_capacity(items.len());
    for item in items {
        match &item.value {
            JsonValue::String(text) => texts.push((text.clone(), item.span)),
            other => diagnostics.push(Diagnostic::error(
                "wrong-type",
                item.span,
                format!("`{name}` lists strings, and this is {}", other.type_name()),
            )),
        }
    }
    Some(texts)
}
