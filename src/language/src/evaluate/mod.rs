//! Expressions to values.

mod access;
mod call;
mod iteration;
mod operators;
mod references;
mod template;
mod types;

use kiln_core::{Diagnostic, Diagnostics, Span};
pub use references::{calls, references};

use crate::convert::{ConvertError, convert, unify};
use crate::functions::FunctionContext;
use crate::syntax::{Expression, ExpressionKind, Name};
use crate::value::{Data, Type, Value, parse_number};

/// Where names get their values from.
pub trait Variables {
    /// The value of a root name (`var`, `local`, `path`); `None` where there is no such root.
    fn root(&self, name: &str) -> Option<&Value>;

    /// All root names, for "did you mean".
    fn root_names(&self) -> Vec<&str>;

    /// `root.name`, where the attributes of `root` are found out one by one when they are asked for: its value, or why
    /// there is none. `None` for roots whose values are there from the start.
    fn found_out(&self, root: &str, name: &Name) -> Option<Result<&Value, Box<Diagnostic>>> {
        let _ = (root, name);
        None
    }

    /// A better message than the general one for a root that is not there.
    fn missing_root(&self, name: &str, span: Span) -> Option<Diagnostic> {
        let _ = (name, span);
        None
    }

    /// A better message than the general one for an attribute that a root lacks, e.g. an undeclared variable.
    fn missing_attribute(&self, root: &str, name: &Name) -> Option<Diagnostic> {
        let _ = (root, name);
        None
    }
}

/// What an expression is evaluated in.
#[derive(Clone, Copy)]
pub struct Scope<'a> {
    /// Values of names.
    pub variables: &'a dyn Variables,
    /// What functions may use.
    pub functions: &'a FunctionContext,
}

/// A reference such as `local.name` or `var.list[0].x`: the root and the attribute names that follow it directly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// `var`, `local`, ...
    pub root: String,
    /// `name`, ... up to the first index or splat.
    pub path: Vec<Name>,
    /// The place of root and path.
    pub span: Span,
}

/// No variables at all: constants and functions only.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoVariables;

impl Variables for NoVariables {
    fn root(&self, _: &str) -> Option<&Value> {
        None
    }

    fn root_names(&self) -> Vec<&str> {
        Vec::new()
    }
}

/// Evaluates. Each mistake is one diagnostic and makes its part of the value unknown, so that several are found.
pub fn evaluate(expression: &Expression, scope: &Scope<'_>, diagnostics: &mut Diagnostics) -> Value {
    Evaluator { scope, bound: Vec::new(), in_template_file: false, diagnostics }.evaluate(expression)
}

/// Reads a type expression: `string`, `list(object({ a = optional(number, 1) }))`.
pub fn type_of(expression: &Expression, scope: &Scope<'_>, diagnostics: &mut Diagnostics) -> Option<Type> {
    Evaluator { scope, bound: Vec::new(), in_template_file: false, diagnostics }.type_expression(expression)
}

struct Evaluator<'a> {
    scope: &'a Scope<'a>,
    /// Names bound by `for`, innermost last.
    bound: Vec<(String, Value)>,
    /// Whether this is the content of a `templatefile`, which may not call another.
    in_template_file: bool,
    diagnostics: &'a mut Diagnostics,
}

/// What an operation yields of which a part is wrong: the mistake is told, nothing further follows from it.
fn failed() -> Value {
    Value::unknown(Type::Any)
}

impl Evaluator<'_> {
    fn evaluate(&mut self, expression: &Expression) -> Value {
        let span = expression.span;
        match &expression.kind {
            ExpressionKind::Null => Value::null(),
            ExpressionKind::Bool(value) => Value::bool(*value),
            ExpressionKind::Number(text) => parse_number(text).map_or_else(failed, Value::number),
            // Normalised by the parser already.
            ExpressionKind::String(text) => Data::String(text.clone()).into(),
            ExpressionKind::Template(parts) => self.template(parts),
            ExpressionKind::Variable(name) => self.variable(name, span),
            ExpressionKind::Attribute { object, name } => self.attribute(expression, object, name),
            ExpressionKind::Index { collection, key } => self.index_expression(expression, collection, key),
            ExpressionKind::Splat { source, steps } => {
                let value = self.evaluate(source);
                self.splat(&value, steps, source.span)
            }
            ExpressionKind::Call { name, arguments, expand_last } => self.call(name, arguments, *expand_last, span),
            ExpressionKind::Unary(operator, operand) => self.unary(*operator, operand),
            ExpressionKind::Binary(first, rest) => self.binary(first, rest),
            ExpressionKind::Conditional { condition, then, otherwise } => {
                self.conditional(condition, then, otherwise, span)
            }
            ExpressionKind::Tuple(elements) => Value::tuple(elements.iter().map(|element| self.evaluate(element))),
            ExpressionKind::Object(items) => self.object(items),
            ExpressionKind::For(inner) => self.for_expression(inner),
            ExpressionKind::Parenthesis(inner) => self.evaluate(inner),
        }
    }

    fn report(&mut self, diagnostic: Diagnostic) -> Value {
        self.diagnostics.push(diagnostic);
        failed()
    }

    /// Evaluates with the mistakes kept apart.
    fn evaluate_apart(&mut self, expression: &Expression) -> (Value, Diagnostics) {
        let outer = std::mem::take(self.diagnostics);
        let value = self.evaluate(expression);
        let mut apart = std::mem::replace(self.diagnostics, outer);
        // Mistakes may be dropped, secrets may not.
        self.diagnostics.secrets.append(&mut apart.secrets);
        (value, apart)
    }

    /// Converts what stands at `span`; `what` begins the message: "the condition", "the left operand".
    fn converted(&mut self, value: &Value, to: &Type, span: Span, what: &str) -> Option<Value> {
        match convert(value, to) {
            Ok(value) => Some(value),
            Err(error) => {
                self.report(mismatch(&error, span, what));
                None
            }
        }
    }

    /// The truth value of a condition and whether it is sensitive; `None` for unknown or after a mistake.
    fn condition(&mut self, expression: &Expression) -> (Option<bool>, bool) {
        let value = self.evaluate(expression);
        let sensitive = value.any_sensitive();
        if value.is_null() {
            self.report(
                Diagnostic::error("null-value", expression.span, "the condition is null")
                    .help("a condition is `true` or `false`; compare with `== null` to ask for null"),
            );
            return (None, sensitive);
        }
        let converted = self.converted(&value, &Type::Bool, expression.span, "the condition");
        (converted.and_then(|value| value.as_bool()), sensitive)
    }

    /// Both results decide the type; mistakes of the one not chosen do not count.
    fn conditional(&mut self, condition: &Expression, then: &Expression, otherwise: &Expression, span: Span) -> Value {
        let (holds, sensitive) = self.condition(condition);
        let (then_value, then_mistakes) = self.evaluate_apart(then);
        let (other_value, other_mistakes) = self.evaluate_apart(otherwise);
        let both_fine = !then_mistakes.has_errors() && !other_mistakes.has_errors();
        let open_type = then_value.has_unknown_type() || other_value.has_unknown_type();
        let kind = if both_fine && !open_type {
            let kinds = [then_value.type_of(), other_value.type_of()];
            let Some(kind) = unify(&kinds) else {
                let told = kinds.each_ref().map(Type::friendly);
                let [first, second] = if told[0] == told[1] { kinds.map(|kind| format!("`{kind}`")) } else { told };
                return self.report(
                    Diagnostic::error("inconsistent-types", span, "both results of a conditional must have one type")
                        .also(then.span, format!("this is {first}"))
                        .also(otherwise.span, format!("this is {second}")),
                );
            };
            Some(kind)
        } else {
            None
        };
        let (chosen, mistakes) = match holds {
            Some(true) => (then_value, then_mistakes),
            Some(false) => (other_value, other_mistakes),
            None => {
                let sensitive = sensitive || then_value.any_sensitive() || other_value.any_sensitive();
                return Value::unknown(kind.unwrap_or(Type::Any)).marked(sensitive);
            }
        };
        self.diagnostics.extend(mistakes);
        let result = match kind {
            Some(kind) => self.converted(&chosen, &kind, span, "the result").unwrap_or_else(failed),
            None => chosen,
        };
        result.marked(sensitive)
    }

    fn object(&mut self, items: &[(Expression, Expression)]) -> Value {
        let mut entries = std::collections::BTreeMap::new();
        let mut sensitive = false;
        let mut all_known = true;
        for (key, value) in items {
            let key_value = match path_text(key) {
                Some(path) => self.path_as_key(&path, key.span),
                None => self.evaluate(key),
            };
            let value = self.evaluate(value);
            sensitive |= key_value.any_sensitive();
            match self.key_text(&key_value, key.span) {
                Some(text) => {
                    entries.insert(text, value);
                }
                None => all_known = false,
            }
        }
        let result = if all_known { Data::Object(entries).into() } else { failed() };
        result.marked(sensitive)
    }

    /// `{ a.b = 1 }` may mean `(a.b)` or `"a.b"`.
    fn path_as_key(&mut self, path: &str, span: Span) -> Value {
        self.report(Diagnostic::error("syntax", span, "this key could be a text or a reference").fix(
            span,
            format!("({path})"),
            "put a reference in parentheses (or a text in quotes)",
        ))
    }

    /// The text of an object's key; `None` for unknown or after a mistake.
    fn key_text(&mut self, key: &Value, span: Span) -> Option<String> {
        if key.is_null() {
            self.report(Diagnostic::error("null-value", span, "the key is null").help("a key is a text"));
            return None;
        }
        let key = self.converted(key, &Type::String, span, "the key")?;
        key.as_str().map(str::to_owned)
    }
}

/// The text of a name with attributes or fixed indices behind it, and of nothing else.
fn path_text(expression: &Expression) -> Option<String> {
    let mut expression = expression;
    let mut steps = Vec::new();
    loop {
        expression = match &expression.kind {
            ExpressionKind::Attribute { object, name } => {
                steps.push(format!(".{}", name.text));
                object
            }
            ExpressionKind::Index { collection, key } => {
                steps.push(match &key.kind {
                    ExpressionKind::Number(number) => format!("[{number}]"),
                    ExpressionKind::String(text) => format!("[{text:?}]"),
                    _ => return None,
                });
                collection
            }
            ExpressionKind::Variable(root) if !steps.is_empty() => {
                steps.push(root.clone());
                steps.reverse();
                return Some(steps.concat());
            }
            _ => return None,
        };
    }
}

fn mismatch(error: &ConvertError, span: Span, what: &str) -> Diagnostic {
    Diagnostic::error("wrong-type", span, format!("{what} has the wrong type")).label(error.to_string())
}
