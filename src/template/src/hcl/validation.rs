//! `validation` blocks: conditions that the value of a variable must meet.

use kiln_core::{Diagnostic, Diagnostics, Span};
use kiln_language::convert::convert;
use kiln_language::evaluate::{Reference, evaluate, references};
use kiln_language::functions::FunctionContext;
use kiln_language::syntax::{Block, Expression};
use kiln_language::value::{Type, Value};

use crate::grammar;

use super::blocks::{check_items, labels};
use super::scope::{Values, constant_text};

/// A `validation` block.
#[derive(Debug)]
pub(crate) struct Validation {
    condition: Expression,
    message: Expression,
}

/// What is checked.
pub(crate) struct Checked<'a> {
    /// The variable.
    pub(crate) name: &'a str,
    /// Its value.
    pub(crate) value: &'a Value,
    /// Where that was given: the winning assignment, or the default.
    pub(crate) span: Span,
}

impl Validation {
    /// Reads a `validation` block of a variable.
    pub(crate) fn read(block: &Block, diagnostics: &mut Diagnostics) -> Option<Validation> {
        labels(block, [], diagnostics)?;
        check_items(&block.body, &grammar::VALIDATION, diagnostics);
        let mut attribute = |name: &str| {
            let found = block.body.attribute(name).map(|attribute| attribute.value.clone());
            if found.is_none() {
                let title = format!("a `validation` block needs `{name}`");
                diagnostics.push(Diagnostic::error("missing-argument", block.header, title));
            }
            found
        };
        let (condition, message) = (attribute("condition"), attribute("error_message"));
        Some(Validation { condition: condition?, message: message? })
    }

    /// Tells a value that does not meet the condition, and what is wrong with the block itself.
    pub(crate) fn check(&self, checked: &Checked<'_>, functions: &FunctionContext, diagnostics: &mut Diagnostics) {
        let message = self.message(functions, diagnostics);
        if !self.refers_to(checked.name, diagnostics) {
            return;
        }
        let mut own = Values::new(functions.clone(), "");
        own.roots.clear();
        own.set("var", checked.name, checked.value.clone());
        let mut found = Diagnostics::new();
        let verdict = evaluate(&self.condition, &own.scope(), &mut found);
        let failed = found.has_errors();
        diagnostics.secrets.append(&mut found.secrets);
        diagnostics.extend(found);
        if failed || verdict.is_unknown() {
            return;
        }
        match (convert(&verdict, &Type::Bool).ok().and_then(|verdict| verdict.as_bool()), message) {
            (Some(false), Some(message)) => diagnostics.push(
                Diagnostic::error(
                    "invalid-value",
                    checked.span,
                    format!("the value of `{}` is not valid", checked.name),
                )
                .label(message)
                .also(self.condition.span, "this condition does not hold"),
            ),
            (Some(_), _) => {}
            (None, _) => {
                let kind = if verdict.is_null() { "null".to_owned() } else { verdict.type_of().friendly() };
                let title = format!("a condition must be `true` or `false`, and this is {kind}");
                diagnostics.push(Diagnostic::error("wrong-type", self.condition.span, title));
            }
        }
    }

    /// Whether the condition refers to its variable, and to nothing else; what is wrong is told.
    fn refers_to(&self, name: &str, diagnostics: &mut Diagnostics) -> bool {
        let is_own =
            |found: &Reference| found.root == "var" && found.path.first().is_some_and(|first| first.text == name);
        let (own, foreign): (Vec<_>, Vec<_>) = references(&self.condition).into_iter().partition(is_own);
        for found in &foreign {
            let title = format!("the condition of `{name}` may refer to `var.{name}` only");
            diagnostics.push(Diagnostic::error("foreign-reference", found.span, title));
        }
        if own.is_empty() && foreign.is_empty() {
            let title = format!("the condition of `{name}` does not look at `var.{name}`");
            diagnostics.push(
                Diagnostic::error("constant-condition", self.condition.span, title)
                    .help(format!("write for example `length(var.{name}) > 0`")),
            );
        }
        !own.is_empty() && foreign.is_empty()
    }

    /// The message, which must be a sentence (Packer's rule).
    fn message(&self, functions: &FunctionContext, diagnostics: &mut Diagnostics) -> Option<String> {
        let mistakes = diagnostics.items.len();
        let message = constant_text(&self.message, functions, "`error_message`", diagnostics);
        let Some(message) = message else {
            if diagnostics.items.len() == mistakes {
                let title = "`error_message` must be a string, and this is null";
                diagnostics.push(Diagnostic::error("wrong-type", self.message.span, title));
            }
            return None;
        };
        let text = message.trim();
        let begins_well = text.chars().next().is_some_and(|first| !first.is_alphabetic() || first.is_uppercase());
        if !begins_well || !text.ends_with(['.', '?', '!']) {
            diagnostics.push(
                Diagnostic::error("not-a-sentence", self.message.span, "`error_message` must be a full sentence")
                    .help("start with a capital letter and end with `.`, `?` or `!`"),
            );
            return None;
        }
        Some(text.to_owned())
    }
}
