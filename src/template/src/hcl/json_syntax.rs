//! HCL's JSON syntax (`*.pkr.json`): the same tree from JSON. Labels are keys of nested objects, several blocks of a kind
//! are a list, and texts are HCL templates.

use kiln_core::{Diagnostic, Diagnostics, SourceMap, Span};
use kiln_language::syntax::{self, Attribute, Block, Body, Expression, ExpressionKind, Item, Name};

use crate::legacy::json::{self, Duplicates, JsonNode, JsonObject, JsonValue};
use crate::load::TemplateText;

use super::blocks::is_identifier;

/// A key that holds a comment.
const COMMENT: &str = "//";

/// Reads a text; `None` with at least one error told.
pub(crate) fn parse(file: &TemplateText, sources: &mut SourceMap, diagnostics: &mut Diagnostics) -> Option<Body> {
    let root = json::parse(&file.text, file.source, Duplicates::Refuse, diagnostics)?;
    let mut converter = Converter { text: &file.text, sources, diagnostics, made: Vec::new() };
    let span = root.span;
    match &root.value {
        JsonValue::Object(members) => Some(converter.body("", members, span)),
        // Several objects are one body, wherever one may stand.
        JsonValue::Array(nodes) if nodes.iter().all(|node| matches!(node.value, JsonValue::Object(_))) => {
            let mut items = Vec::new();
            for node in nodes {
                if let JsonValue::Object(members) = &node.value {
                    items.extend(converter.body("", members, span).items);
                }
            }
            Some(Body { items, span })
        }
        other => {
            let title = format!("a template must be an object, and this is {}", other.type_name());
            diagnostics.push(Diagnostic::error("not-an-object", span, title));
            None
        }
    }
}

/// Whether a place lies in a template of this syntax.
pub(crate) fn is_json(sources: &SourceMap, span: Span) -> bool {
    sources.get(span.source).is_some_and(|file| file.name.ends_with(".pkr.json"))
}

/// How many labels a block of a kind has inside a block of kind `parent` (empty for the file); `None` for an argument.
/// Bodies of components are a matter of their schema: there, only `dynamic` is told from an argument.
fn label_count(parent: &str, kind: &str) -> Option<usize> {
    match (parent, kind) {
        ("", "source" | "data" | "communicator") => Some(2),
        ("", "variable" | "local" | "steps" | "module" | "output") => Some(1),
        ("", _) => Some(0),
        ("build", "source" | "test" | "provisioner" | "error-cleanup-provisioner" | "post-processor" | "steps") => {
            Some(1)
        }
        // What stands in one that a build uses is an argument.
        ("steps", "provisioner" | "steps") => Some(1),
        ("build", "post-processors" | "hcp_packer_registry" | "on_success" | "on_failure" | "always") => Some(0),
        ("post-processors", "post-processor") => Some(1),
        ("variable", "validation") | ("packer", "required_plugins") | ("dynamic", "content") => Some(0),
        (
            "packer" | "variable" | "variables" | "local" | "locals" | "module" | "output" | "dynamic"
            | "required_plugins",
            _,
        ) => None,
        (_, "dynamic") => Some(1),
        _ => None,
    }
}

struct Converter<'a> {
    text: &'a str,
    sources: &'a mut SourceMap,
    diagnostics: &'a mut Diagnostics,
    /// Kinds that the `dynamic` blocks around make.
    made: Vec<String>,
}

impl Converter<'_> {
    fn body(&mut self, kind: &str, members: &JsonObject, span: Span) -> Body {
        let mut items = Vec::new();
        for (text, member) in members.iter().filter(|(name, _)| *name != COMMENT) {
            // Without the quotes: a suggested name then fits in its place.
            let name_span =
                Span { start: member.name_span.start + 1, end: member.name_span.end - 1, ..member.name_span };
            let name = Name { text: text.clone(), span: name_span };
            match label_count(kind, text) {
                Some(labels) => self.blocks(&name, &member.node, labels, &mut Vec::new(), &mut items),
                None => {
                    // A type is an expression of its own kind, not a template.
                    let value = match (kind, text.as_str(), &member.node.value) {
                        ("variable", "type", JsonValue::String(text)) => self.type_expression(text, member.node.span),
                        // A bare name cannot be written.
                        ("dynamic", "iterator", JsonValue::String(text)) if is_identifier(text) => {
                            Expression { kind: ExpressionKind::Variable(text.clone()), span: member.node.span }
                        }
                        // What must be constant is taken as it is.
                        (
                            "variable" | "validation" | "packer" | "module" | "output",
                            "description" | "error_message" | "required_version" | "source",
                            JsonValue::String(text),
                        ) => Expression { kind: ExpressionKind::String(text.clone()), span: member.node.span },
                        _ => self.expression(&member.node),
                    };
                    let span = member.name_span.to(member.node.span);
                    items.push(Item::Attribute(Attribute { name, value, span }));
                }
            }
        }
        Body { items, span }
    }

    /// One or several blocks of a kind; `missing` labels are still to come as keys.
    fn blocks(&mut self, kind: &Name, node: &JsonNode, missing: usize, labels: &mut Vec<Name>, items: &mut Vec<Item>) {
        match &node.value {
            JsonValue::Null if missing == 0 => {}
            JsonValue::Array(nodes) => {
                for node in nodes {
                    self.blocks(kind, node, missing, labels, items);
                }
            }
            JsonValue::Object(members) if missing > 0 => {
                for (text, member) in members.iter().filter(|(name, _)| *name != COMMENT) {
                    labels.push(Name { text: text.clone(), span: member.name_span });
                    self.blocks(kind, &member.node, missing - 1, labels, items);
                    labels.pop();
                }
            }
            JsonValue::Object(members) => {
                let body = self.block_body(kind, labels.first(), members, node.span);
                let header = labels.last().map_or(kind.span, |label| label.span);
                let span = kind.span.to(node.span);
                items.push(Item::Block(Block { kind: kind.clone(), labels: labels.clone(), body, header, span }));
            }
            other => {
                let wanted = match missing {
                    0 => "an object with its arguments",
                    _ => "an object with its label as key",
                };
                let title = format!("`{}` must be {wanted}, and this is {}", kind.text, other.type_name());
                self.diagnostics.push(Diagnostic::error("wrong-type", node.span, title));
            }
        }
    }

    /// The content of a `dynamic` block is read as the blocks it makes.
    fn block_body(&mut self, kind: &Name, label: Option<&Name>, members: &JsonObject, span: Span) -> Body {
        match (kind.text.as_str(), label) {
            ("dynamic", Some(label)) => {
                self.made.push(label.text.clone());
                let body = self.body("dynamic", members, span);
                self.made.pop();
                body
            }
            ("content", _) => {
                let made = self.made.last().cloned().unwrap_or_default();
                self.body(if made.is_empty() { "content" } else { &made }, members, span)
            }
            (kind, _) => self.body(kind, members, span),
        }
    }

    fn expression(&mut self, node: &JsonNode) -> Expression {
        let span = node.span;
        let kind = match &node.value {
            JsonValue::Null => ExpressionKind::Null,
            JsonValue::Bool(value) => ExpressionKind::Bool(*value),
            JsonValue::Number(digits) => match digits.strip_prefix('-') {
                Some(digits) => ExpressionKind::Unary(
                    syntax::UnaryOperator::Negate,
                    Box::new(Expression { kind: ExpressionKind::Number(digits.to_owned()), span }),
                ),
                None => ExpressionKind::Number(digits.clone()),
            },
            JsonValue::String(text) => return self.template(text, span),
            JsonValue::Array(nodes) => ExpressionKind::Tuple(nodes.iter().map(|node| self.expression(node)).collect()),
            JsonValue::Object(members) => ExpressionKind::Object(
                members
                    .iter()
                    .map(|(name, member)| (self.template(name, member.name_span), self.expression(&member.node)))
                    .collect(),
            ),
        };
        Expression { kind, span }
    }

    /// A text, which is an HCL template: `${...}` means what it means in a quoted text.
    fn template(&mut self, text: &str, span: Span) -> Expression {
        if !text.contains("${") && !text.contains("%{") {
            return Expression { kind: ExpressionKind::String(text.to_owned()), span };
        }
        let written = self.text.get(span.range()).unwrap_or_default();
        let parsed = if written.contains('\\') {
            self.apart(text, span, syntax::parse_template)
        } else {
            // Without escapes JSON and HCL write texts alike; what is in front keeps the places right.
            let padded = format!("{}{written}", " ".repeat(span.range().start));
            syntax::parse_expression(span.source, &padded, self.diagnostics)
        };
        match parsed {
            Some(parsed) => Expression { kind: parsed.kind, span },
            None => Expression { kind: ExpressionKind::Null, span },
        }
    }

    fn type_expression(&mut self, text: &str, span: Span) -> Expression {
        let written = self.text.get(span.range()).unwrap_or_default();
        let parsed = if written.contains('\\') {
            self.apart(text, span, syntax::parse_expression)
        } else {
            // What is in front keeps the places right, the opening quote as well.
            let padded = format!("{}{text}", " ".repeat(span.range().start + 1));
            syntax::parse_expression(span.source, &padded, self.diagnostics)
        };
        parsed.unwrap_or(Expression { kind: ExpressionKind::Variable("any".to_owned()), span })
    }

    /// Parses the decoded content of a string as a text of its own, named after its place.
    fn apart(
        &mut self,
        text: &str,
        span: Span,
        parse: fn(kiln_core::SourceId, &str, &mut Diagnostics) -> Option<Expression>,
    ) -> Option<Expression> {
        let name = format!("<string at {}>", self.sources.place(span));
        let source = self.sources.add(name, None, text);
        parse(source, text, self.diagnostics)
    }
}
