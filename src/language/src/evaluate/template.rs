//! Templates: texts with interpolations and directives.

use kiln_core::Diagnostic;

use super::Evaluator;
use crate::syntax::{Expression, TemplatePart};
use crate::value::{Data, Type, Value};

/// A text under construction.
#[derive(Default)]
struct Text {
    out: String,
    sensitive: bool,
    is_unknown: bool,
}

impl Evaluator<'_> {
    /// A template that is one interpolation is that value, of whatever type; any other is a text.
    pub(super) fn template(&mut self, parts: &[TemplatePart]) -> Value {
        if let [TemplatePart::Interpolation(expression)] = parts {
            return self.evaluate(expression);
        }
        let mut text = Text::default();
        self.print_parts(parts, &mut text);
        let value = if text.is_unknown { Value::unknown(Type::String) } else { Value::string(text.out) };
        value.marked(text.sensitive)
    }

    fn print_parts(&mut self, parts: &[TemplatePart], text: &mut Text) {
        for part in parts {
            match part {
                TemplatePart::Literal(literal, _) => text.out.push_str(literal),
                TemplatePart::Interpolation(expression) => self.print(expression, text),
                TemplatePart::If { condition, then, otherwise, .. } => {
                    let (holds, sensitive) = self.condition(condition);
                    text.sensitive |= sensitive;
                    match holds {
                        Some(true) => self.print_parts(then, text),
                        Some(false) => self.print_parts(otherwise, text),
                        None => text.is_unknown = true,
                    }
                }
                TemplatePart::For { key_name, value_name, collection, body, .. } => {
                    let (items, sensitive) = self.items(collection);
                    text.sensitive |= sensitive;
                    let Some(items) = items else {
                        text.is_unknown = true;
                        continue;
                    };
                    let names = (key_name.as_ref().map(|name| name.text.as_str()), value_name.text.as_str());
                    for item in items {
                        let mistakes = self.diagnostics.items.len();
                        self.with_item(names, item, |evaluator| evaluator.print_parts(body, text));
                        if self.diagnostics.items.len() > mistakes {
                            break;
                        }
                    }
                }
            }
        }
    }

    fn print(&mut self, expression: &Expression, text: &mut Text) {
        let value = self.evaluate(expression);
        let is_sensitive = value.any_sensitive();
        text.sensitive |= is_sensitive;
        match (&value.data, value.to_text()) {
            (_, Some(printed)) => {
                text.out.push_str(&printed);
                // A script may print this piece alone.
                if is_sensitive && !self.diagnostics.secrets.contains(&printed) {
                    self.diagnostics.secrets.push(printed);
                }
            }
            (Data::Null(_), _) => {
                text.is_unknown = true;
                self.report(
                    Diagnostic::error("null-value", expression.span, "null cannot stand in a text")
                        .help("give another value for this case: `value == null ? \"\" : value`"),
                );
            }
            (Data::Unknown(kind), _) if *kind == Type::Any || kind.is_primitive() => text.is_unknown = true,
            _ => {
                text.is_unknown = true;
                let kind = value.type_of();
                let title = format!("{} cannot stand in a text", kind.friendly());
                let help = match kind {
                    Type::Map(_) | Type::Object(_) => "write it as JSON with `jsonencode(value)`",
                    _ => "join its elements with `join(\", \", value)`, or write it as JSON with `jsonencode(value)`",
                };
                self.report(Diagnostic::error("wrong-type", expression.span, title).help(help));
            }
        }
    }
}
