//! Values of the language to values of a component's body.

use indexmap::IndexMap;
use kiln_core::config::{Node, Value as Plain};
use kiln_core::{Diagnostics, Span};
use kiln_language::syntax::{Expression, ExpressionKind};
use kiln_language::value::{Data, Value, number_text};

use super::text::TextRenderer;

/// A value with the place of its expression, down to the elements of literal lists and maps. Texts pass `renderer`, where
/// there is one.
pub(crate) fn node(
    value: &Value,
    expression: &Expression,
    renderer: Option<&TextRenderer<'_>>,
    diagnostics: &mut Diagnostics,
) -> Node {
    convert(value, expression.span, Some(expression), false, renderer, diagnostics)
}

fn convert(
    value: &Value,
    span: Span,
    expression: Option<&Expression>,
    inherited: bool,
    renderer: Option<&TextRenderer<'_>>,
    diagnostics: &mut Diagnostics,
) -> Node {
    let sensitive = inherited || value.sensitive;
    let plain = match &value.data {
        Data::Null(_) => Plain::Null,
        Data::Unknown(_) => Plain::Unknown,
        Data::Bool(value) => Plain::Bool(*value),
        Data::Number(number) => Plain::Number(number_text(number)),
        Data::String(text) => match renderer {
            Some(renderer) => renderer.render(text, span, sensitive, diagnostics),
            None => Plain::String(text.clone()),
        },
        Data::List(_, elements) | Data::Set(_, elements) | Data::Tuple(elements) => {
            let written = literal_elements(expression).filter(|written| {
                // A set is sorted: its elements cannot be told apart by place.
                written.len() == elements.len() && !matches!(value.data, Data::Set(..))
            });
            let nodes = elements.iter().enumerate().map(|(index, element)| {
                let written = written.and_then(|written| written.get(index));
                let span = written.map_or(span, |written| written.span);
                convert(element, span, written, sensitive, renderer, diagnostics)
            });
            Plain::List(nodes.collect())
        }
        Data::Map(_, entries) | Data::Object(entries) => {
            let nodes = entries.iter().map(|(key, element)| {
                let written = literal_entry(expression, key).map(|(_, written)| written);
                let span = written.map_or(span, |written| written.span);
                (key.clone(), convert(element, span, written, sensitive, renderer, diagnostics))
            });
            Plain::Map(nodes.collect::<IndexMap<_, _>>())
        }
    };
    Node { value: plain, span, sensitive }
}

/// An expression without the parentheses around it.
fn bare(expression: &Expression) -> &Expression {
    match &expression.kind {
        ExpressionKind::Parenthesis(inner) => bare(inner),
        _ => expression,
    }
}

/// The elements of a literal list.
pub(crate) fn literal_elements(expression: Option<&Expression>) -> Option<&[Expression]> {
    match &bare(expression?).kind {
        ExpressionKind::Tuple(elements) => Some(elements),
        _ => None,
    }
}

/// Key and value of a literal map's entry; the last one of that key, which is the one that counts.
pub(crate) fn literal_entry<'a>(
    expression: Option<&'a Expression>,
    wanted: &str,
) -> Option<(&'a Expression, &'a Expression)> {
    let ExpressionKind::Object(entries) = &bare(expression?).kind else { return None };
    let found = entries.iter().rev().find(|(key, _)| match &bare(key).kind {
        ExpressionKind::String(text) | ExpressionKind::Number(text) => text == wanted,
        _ => false,
    });
    found.map(|(key, value)| (key, value))
}
