//! A component's body: JSON members, rendered and merged with the override of its build.

use std::sync::Arc;

use indexmap::IndexMap;
use indexmap::map::Entry;
use kiln_core::config::{Attribute, Body, Node, Value};
use kiln_core::{ComponentConfig, Diagnostics, Facts, Field, FieldType, Schema, Span};

use super::json::{JsonNode, JsonObject, JsonValue, Member, canonical_number};
use super::text::{Place, Texts};

/// The arguments of a builder, provisioner or post-processor in one build.
pub(super) struct LegacyConfig {
    /// The component's members without those that say where and how it runs.
    pub(super) members: Arc<JsonObject>,
    /// The `override` for this build.
    pub(super) overriding: Option<Arc<JsonObject>>,
    /// Where the component as a whole points.
    pub(super) header: Span,
    pub(super) texts: Arc<Texts>,
    pub(super) build_name: Arc<str>,
    pub(super) build_type: Arc<str>,
}

impl ComponentConfig for LegacyConfig {
    fn evaluate(&self, schema: &Schema, facts: &Facts, diagnostics: &mut Diagnostics) -> Body {
        let place =
            Place { build_name: Some(&self.build_name), build_type: Some(&self.build_type), facts: Some(facts) };
        let untyped = schema.fields.is_empty();
        let mut evaluator = Evaluator { texts: &self.texts, place, untyped, diagnostics };
        let mut body = Body::empty(self.header, true);
        for (name, member) in self.members.iter().chain(self.overriding.iter().flat_map(|members| members.iter())) {
            let node = evaluator.node(&member.node, schema.field(name));
            let attribute = Attribute { name_span: member.name_span, node };
            match body.attributes.entry(name.clone()) {
                Entry::Vacant(entry) => {
                    entry.insert(attribute);
                }
                Entry::Occupied(mut entry) => overlay(entry.get_mut(), attribute),
            }
        }
        body
    }
}

/// Packer decodes the override over the base: maps gain and replace keys, anything else is replaced.
fn overlay(base: &mut Attribute, over: Attribute) {
    match (&mut base.node.value, over.node.value) {
        (Value::Map(entries), Value::Map(more)) => entries.extend(more),
        (_, value) => {
            *base = Attribute {
                name_span: over.name_span,
                node: Node { value, span: over.node.span, sensitive: over.node.sensitive },
            };
        }
    }
}

/// Any argument of a kind that nobody knows.
static UNTYPED: Field = Field::new("", FieldType::Any, "").deferred();

struct Evaluator<'a> {
    texts: &'a Texts,
    place: Place<'a>,
    /// Whether nobody knows the arguments, nor which data and functions their texts may use.
    untyped: bool,
    diagnostics: &'a mut Diagnostics,
}

impl<'a> Evaluator<'a> {
    fn node(&mut self, node: &JsonNode, field: Option<&Field>) -> Node {
        let deferred = field.filter(|field| field.deferred).or(self.untyped.then_some(&UNTYPED));
        let inner = field.and_then(|field| field.kind.block());
        self.value(node, inner, deferred)
    }

    /// `deferred` is the field, where its component renders the texts itself.
    fn value(&mut self, node: &JsonNode, schema: Option<&'static Schema>, deferred: Option<&Field>) -> Node {
        let span = node.span;
        match &node.value {
            JsonValue::Null => Node::new(Value::Null, span),
            JsonValue::Bool(value) => Node::new(Value::Bool(*value), span),
            JsonValue::Number(text) => Node::new(Value::Number(canonical_number(text)), span),
            JsonValue::String(text) => self.text(text, span, deferred),
            JsonValue::Array(items) => {
                let items = items.iter().map(|item| self.value(item, schema, deferred)).collect();
                Node::new(Value::List(items), span)
            }
            JsonValue::Object(members) => {
                let mut entries = IndexMap::with_capacity(members.len());
                for (name, member) in members {
                    let (name, node) = self.entry(name, member, schema, deferred);
                    entries.insert(name, node);
                }
                Node::new(Value::Map(entries), span)
            }
        }
    }

    fn entry(
        &mut self,
        name: &str,
        member: &Member,
        schema: Option<&'static Schema>,
        deferred: Option<&Field>,
    ) -> (String, Node) {
        if let Some(schema) = schema {
            return (name.to_owned(), self.node(&member.node, schema.field(name)));
        }
        // Keys of free maps (`volumes`, `custom_data`) are texts as well.
        let key = match self.text(name, member.name_span, deferred).value {
            Value::String(key) => key,
            _ => name.to_owned(),
        };
        (key, self.value(&member.node, None, deferred))
    }

    /// What a deferred text may use: the field's own data and the values of the machine.
    fn data_of(&self, field: &Field) -> Option<Vec<&'a str>> {
        let facts = self.place.facts?;
        let built = facts.build.iter().flat_map(|values| values.keys());
        let machine = facts.names.iter().chain(built).map(String::as_str);
        (!field.data.is_empty()).then(|| field.data.iter().copied().chain(machine).collect())
    }

    fn text(&mut self, text: &str, span: Span, deferred: Option<&Field>) -> Node {
        let rendered = match deferred {
            Some(field) if field.name.is_empty() => Some(self.texts.untouched(text)),
            Some(field) => Some(self.texts.deferred(text, span, self.data_of(field).as_deref(), self.diagnostics)),
            None => self.texts.render(text, span, self.place, self.diagnostics),
        };
        // A text that cannot be rendered is unknown, so that nothing is said of it beyond the reason.
        let Some(rendered) = rendered else { return Node::new(Value::Unknown, span) };
        Node { value: rendered.text.map_or(Value::Unknown, Value::String), span, sensitive: rendered.is_sensitive }
    }
}
