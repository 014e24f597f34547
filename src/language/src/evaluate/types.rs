//! Type expressions.

use std::collections::BTreeMap;

use kiln_core::{Diagnostic, Span};

use super::Evaluator;
use crate::convert::convert;
use crate::syntax::{Expression, ExpressionKind, Name};
use crate::value::{ObjectField, Type};

const TYPE_NAMES: [&str; 9] = ["any", "bool", "list", "map", "number", "object", "set", "string", "tuple"];

impl Evaluator<'_> {
    pub(super) fn type_expression(&mut self, expression: &Expression) -> Option<Type> {
        match &expression.kind {
            ExpressionKind::Variable(name) => self.type_keyword(name, expression.span),
            ExpressionKind::Call { name, arguments, expand_last: false } => {
                self.type_constructor(name, arguments, expression.span)
            }
            ExpressionKind::Parenthesis(inner) => self.type_expression(inner),
            ExpressionKind::String(text) if TYPE_NAMES.contains(&text.as_str()) => {
                let diagnostic = Diagnostic::error("unknown-type", expression.span, "a type is written without quotes")
                    .fix(expression.span, text.clone(), "remove the quotes");
                self.no_type(diagnostic)
            }
            _ => {
                let diagnostic = Diagnostic::error("unknown-type", expression.span, "this is no type")
                    .help("types are `string`, `number`, `bool`, `list(string)`, `map(number)`, `object({ a = string })`, ...");
                self.no_type(diagnostic)
            }
        }
    }

    fn no_type<T>(&mut self, diagnostic: Diagnostic) -> Option<T> {
        self.diagnostics.push(diagnostic);
        None
    }

    fn type_keyword(&mut self, name: &str, span: Span) -> Option<Type> {
        match name {
            "any" => Some(Type::Any),
            "string" => Some(Type::String),
            "number" => Some(Type::Number),
            "bool" => Some(Type::Bool),
            "list" | "set" | "map" => {
                let diagnostic = Diagnostic::error(
                    "unknown-type",
                    span,
                    format!("`{name}` needs the type of its elements"),
                )
                .fix(span, format!("{name}(string)"), "for texts write");
                self.no_type(diagnostic)
            }
            "object" => {
                let diagnostic = Diagnostic::error("unknown-type", span, "`object` needs the types of its attributes")
                    .help("write `object({ name = string })`; for any attributes of one type `map(string)`");
                self.no_type(diagnostic)
            }
            "tuple" => {
                let diagnostic = Diagnostic::error("unknown-type", span, "`tuple` needs the types of its elements")
                    .help("write `tuple([string, number])`; for elements of one type `list(string)`");
                self.no_type(diagnostic)
            }
            _ => {
                let diagnostic = Diagnostic::error("unknown-type", span, format!("there is no type `{name}`"))
                    .did_you_mean(span, name, TYPE_NAMES);
                self.no_type(diagnostic)
            }
        }
    }

    fn type_constructor(&mut self, name: &Name, arguments: &[Expression], span: Span) -> Option<Type> {
        match (name.text.as_str(), arguments) {
            ("list", [element]) => self.type_expression(element).map(Type::list),
            ("set", [element]) => self.type_expression(element).map(Type::set),
            ("map", [element]) => self.type_expression(element).map(Type::map),
            ("tuple", [Expression { kind: ExpressionKind::Tuple(kinds), .. }]) => {
                let kinds: Vec<Option<Type>> = kinds.iter().map(|kind| self.type_expression(kind)).collect();
                kinds.into_iter().collect::<Option<Vec<Type>>>().map(Type::Tuple)
            }
            ("object", [Expression { kind: ExpressionKind::Object(items), .. }]) => self.object_type(items),
            ("optional", _) => {
                let diagnostic =
                    Diagnostic::error("unknown-type", span, "`optional` stands for an attribute of an object only")
                        .help("write `object({ name = optional(string, \"default\") })`");
                self.no_type(diagnostic)
            }
            ("string" | "number" | "bool" | "any", _) => {
                let title = format!("`{}` takes no arguments", name.text);
                let diagnostic = Diagnostic::error("unknown-type", span, title);
                self.no_type(diagnostic.fix(span, name.text.clone(), "write it alone"))
            }
            ("list" | "set" | "map", _) => {
                let title = format!("`{}` takes one type", name.text);
                self.no_type(Diagnostic::error("unknown-type", span, title))
            }
            ("tuple", _) => self.no_type(
                Diagnostic::error("unknown-type", span, "`tuple` takes a list of types")
                    .help("write `tuple([string, number])`"),
            ),
            ("object", _) => self.no_type(
                Diagnostic::error("unknown-type", span, "`object` takes an object of types")
                    .help("write `object({ name = string })`"),
            ),
            _ => {
                let diagnostic =
                    Diagnostic::error("unknown-type", name.span, format!("there is no type `{}`", name.text))
                        .did_you_mean(name.span, &name.text, TYPE_NAMES);
                self.no_type(diagnostic)
            }
        }
    }

    fn object_type(&mut self, items: &[(Expression, Expression)]) -> Option<Type> {
        let mut fields = BTreeMap::new();
        let mut is_fine = true;
        for (key, kind) in items {
            let ExpressionKind::String(name) = &key.kind else {
                let diagnostic = Diagnostic::error("unknown-type", key.span, "an attribute's name must be fixed");
                self.diagnostics.push(diagnostic);
                is_fine = false;
                continue;
            };
            match self.field_type(kind) {
                Some(field) => {
                    fields.insert(name.clone(), field);
                }
                None => is_fine = false,
            }
        }
        is_fine.then_some(Type::Object(fields))
    }

    fn field_type(&mut self, expression: &Expression) -> Option<ObjectField> {
        let ExpressionKind::Call { name, arguments, .. } = &expression.kind else {
            return self.type_expression(expression).map(ObjectField::required);
        };
        match (name.text.as_str(), arguments.as_slice()) {
            ("optional", [kind]) => self.type_expression(kind).map(|kind| ObjectField::optional(kind, None)),
            ("optional", [kind, default]) => {
                let kind = self.type_expression(kind)?;
                let value = self.evaluate(default);
                match convert(&value, &kind) {
                    Ok(value) => Some(ObjectField::optional(kind, Some(value))),
                    Err(error) => {
                        let title = "the default does not fit the attribute's type";
                        let diagnostic = Diagnostic::error("wrong-type", default.span, title);
                        self.no_type(diagnostic.label(error.to_string()))
                    }
                }
            }
            ("optional", _) => {
                let title = "`optional` takes a type and, if wanted, a default";
                self.no_type(Diagnostic::error("unknown-type", expression.span, title))
            }
            _ => self.type_expression(expression).map(ObjectField::required),
        }
    }
}
