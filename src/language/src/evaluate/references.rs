//! What an expression refers to.

use kiln_core::Span;

use super::Reference;
use crate::syntax::{Expression, ExpressionKind, Name, SplatStep, TemplatePart};

/// All references in an expression, names bound by `for` left out.
pub fn references(expression: &Expression) -> Vec<Reference> {
    let mut walk = Walk::default();
    walk.expression(expression);
    walk.found
}

/// The names of all functions that an expression calls.
pub fn calls(expression: &Expression) -> Vec<&Name> {
    let mut walk = Walk::default();
    walk.expression(expression);
    walk.calls
}

#[derive(Default)]
struct Walk<'a> {
    bound: Vec<&'a str>,
    found: Vec<Reference>,
    calls: Vec<&'a Name>,
}

impl<'a> Walk<'a> {
    fn expression(&mut self, expression: &'a Expression) {
        match &expression.kind {
            ExpressionKind::Null | ExpressionKind::Bool(_) | ExpressionKind::Number(_) | ExpressionKind::String(_) => {}
            ExpressionKind::Template(parts) => self.parts(parts),
            ExpressionKind::Variable(_) | ExpressionKind::Attribute { .. } => self.path(expression),
            ExpressionKind::Index { collection, key } => {
                self.expression(collection);
                self.expression(key);
            }
            ExpressionKind::Splat { source, steps } => {
                self.expression(source);
                self.steps(steps);
            }
            // The second argument of `convert` is a type: its words are no references.
            ExpressionKind::Call { name, arguments, .. } if name.text == "convert" => {
                self.calls.push(name);
                arguments.iter().take(1).for_each(|argument| self.expression(argument));
            }
            ExpressionKind::Call { name, arguments, .. } => {
                self.calls.push(name);
                arguments.iter().for_each(|argument| self.expression(argument));
            }
            ExpressionKind::Unary(_, inner) | ExpressionKind::Parenthesis(inner) => self.expression(inner),
            ExpressionKind::Binary(first, rest) => {
                self.expression(first);
                rest.iter().for_each(|(_, operand)| self.expression(operand));
            }
            ExpressionKind::Conditional { condition, then, otherwise } => {
                self.expression(condition);
                self.expression(then);
                self.expression(otherwise);
            }
            ExpressionKind::Tuple(elements) => elements.iter().for_each(|element| self.expression(element)),
            ExpressionKind::Object(items) => {
                for (key, value) in items {
                    self.expression(key);
                    self.expression(value);
                }
            }
            ExpressionKind::For(inner) => {
                self.expression(&inner.collection);
                let before = self.bind(inner.key_name.as_ref(), &inner.value_name);
                inner.key.iter().chain([&inner.value]).chain(&inner.condition).for_each(|part| self.expression(part));
                self.bound.truncate(before);
            }
        }
    }

    fn bind(&mut self, key_name: Option<&'a Name>, value_name: &'a Name) -> usize {
        let before = self.bound.len();
        self.bound.extend(key_name.map(|name| name.text.as_str()));
        self.bound.push(&value_name.text);
        before
    }

    fn steps(&mut self, steps: &'a [SplatStep]) {
        for step in steps {
            match step {
                SplatStep::Attribute(_) => {}
                SplatStep::Index(key) => self.expression(key),
                SplatStep::Splat(steps) => self.steps(steps),
            }
        }
    }

    /// A name with attributes behind it, or attributes of something else.
    fn path(&mut self, expression: &'a Expression) {
        let mut path = Vec::new();
        let mut head = expression;
        while let ExpressionKind::Attribute { object, name } = &head.kind {
            path.push(name.clone());
            head = object;
        }
        let ExpressionKind::Variable(root) = &head.kind else { return self.expression(head) };
        if self.bound.contains(&root.as_str()) {
            return;
        }
        path.reverse();
        let span: Span = expression.span;
        self.found.push(Reference { root: root.clone(), path, span });
    }

    fn parts(&mut self, parts: &'a [TemplatePart]) {
        for part in parts {
            match part {
                TemplatePart::Literal(..) => {}
                TemplatePart::Interpolation(expression) => self.expression(expression),
                TemplatePart::If { condition, then, otherwise, .. } => {
                    self.expression(condition);
                    self.parts(then);
                    self.parts(otherwise);
                }
                TemplatePart::For { key_name, value_name, collection, body, .. } => {
                    self.expression(collection);
                    let before = self.bind(key_name.as_ref(), value_name);
                    self.parts(body);
                    self.bound.truncate(before);
                }
            }
        }
    }
}
