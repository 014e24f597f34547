//! What is allowed, and hardly ever meant: a reference that is written as a text.

use kiln_core::{Diagnostic, Diagnostics};
use kiln_language::syntax::{Body, Expression, ExpressionKind, Item};

use super::blocks::Declarations;
use super::scope::Values;

/// Warns of texts like `"var.image"` where a variable or local of that name is declared, in sources and builds.
pub(crate) fn check(declarations: &Declarations, values: &Values, diagnostics: &mut Diagnostics) {
    let sources = declarations.sources.values().map(|source| &*source.body);
    let builds = declarations.builds.iter().chain(declarations.groups.values()).map(|block| &block.body);
    for body in sources.chain(builds) {
        check_body(body, values, diagnostics);
    }
}

fn check_body(body: &Body, values: &Values, diagnostics: &mut Diagnostics) {
    for item in &body.items {
        match item {
            Item::Attribute(attribute) => check_value(&attribute.value, values, diagnostics),
            Item::Block(block) => check_body(&block.body, values, diagnostics),
        }
    }
}

fn check_value(value: &Expression, values: &Values, diagnostics: &mut Diagnostics) {
    match &value.kind {
        ExpressionKind::String(text) => {
            let is_declared = text
                .split_once('.')
                .is_some_and(|(root, name)| matches!(root, "var" | "local") && values.names(root).contains(&name));
            if is_declared {
                let title = format!("`{text}` in quotes is a text, not a reference");
                diagnostics.push(Diagnostic::warning("quoted-reference", value.span, title).value(
                    value.span,
                    text.as_str(),
                    "for the value write it without quotes",
                ));
            }
        }
        ExpressionKind::Tuple(items) => items.iter().for_each(|item| check_value(item, values, diagnostics)),
        ExpressionKind::Object(entries) => {
            entries.iter().for_each(|(_, entry)| check_value(entry, values, diagnostics));
        }
        _ => {}
    }
}
