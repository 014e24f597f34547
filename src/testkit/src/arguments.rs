//! Component bodies from JSON, with a made-up text behind them so that diagnostics have places.

use std::collections::BTreeSet;
use std::sync::Arc;

use kiln_core::config::Attribute;
use kiln_core::{
    Body, Decoded, Diagnostics, Node, Provisioner, ProvisionerKind, Schema, SourceMap, Span, Value, source::SourceId,
};
use serde_json::Value as Json;

use crate::context::prepare_context;

/// The arguments of a component. Behind them stands a text with one line `name = VALUE` per argument, so that a place in
/// a diagnostic can be read back with [`Arguments::text_at`].
#[derive(Debug, Clone)]
pub struct Arguments {
    json: Json,
    is_weak: bool,
    unknown: BTreeSet<String>,
    sensitive: BTreeSet<String>,
}

impl Arguments {
    /// From a JSON object, as an HCL2 template would give them.
    pub fn new(json: Json) -> Arguments {
        Arguments { json, is_weak: false, unknown: BTreeSet::new(), sensitive: BTreeSet::new() }
    }

    /// As a legacy JSON template would give them.
    #[must_use]
    pub fn weak(mut self) -> Arguments {
        self.is_weak = true;
        self
    }

    /// Makes the value at a path (`scripts[0]`, `env.TOKEN`) unknown.
    #[must_use]
    pub fn unknown(mut self, path: &str) -> Arguments {
        self.unknown.insert(path.to_owned());
        self
    }

    /// Marks the value at a path as sensitive.
    #[must_use]
    pub fn sensitive(mut self, path: &str) -> Arguments {
        self.sensitive.insert(path.to_owned());
        self
    }

    /// The body, and the text behind it.
    pub fn body(&self) -> (Body, SourceMap) {
        let mut writer = Writer { arguments: self, text: String::new() };
        let mut attributes = indexmap::IndexMap::new();
        let empty = serde_json::Map::new();
        for (name, value) in self.json.as_object().unwrap_or(&empty) {
            let start = writer.text.len();
            writer.text.push_str(name);
            let name_span = writer.span_from(start);
            writer.text.push_str(" = ");
            let node = writer.node(value, name);
            writer.text.push('\n');
            attributes.insert(name.clone(), Attribute { name_span, node });
        }
        let body = Body { attributes, blocks: Vec::new(), span: writer.span_from(0), weak: self.is_weak };
        let mut sources = SourceMap::new();
        sources.add("test.pkr.hcl", None, writer.text);
        (body, sources)
    }

    /// Checks them against a schema.
    pub fn decode(&self, schema: &Schema) -> (Decoded, Diagnostics) {
        let mut diagnostics = Diagnostics::new();
        let decoded = schema.decode(&self.body().0, &mut diagnostics);
        (decoded, diagnostics)
    }

    /// Prepares a provisioner with them.
    pub fn provisioner(&self, kind: &dyn ProvisionerKind) -> (Option<Arc<dyn Provisioner>>, Diagnostics) {
        let (decoded, mut diagnostics) = self.decode(kind.schema());
        let provisioner = kind.prepare(&decoded, &prepare_context(), &mut diagnostics);
        (provisioner, diagnostics)
    }

    /// What stands at a place.
    pub fn text_at(&self, span: Span) -> String {
        self.body().1.text(span).to_owned()
    }
}

/// The titles of all diagnostics, in order.
pub fn titles(diagnostics: &Diagnostics) -> Vec<&str> {
    diagnostics.items.iter().map(|item| item.title.as_str()).collect()
}

struct Writer<'a> {
    arguments: &'a Arguments,
    text: String,
}

impl Writer<'_> {
    fn span_from(&self, start: usize) -> Span {
        Span::new(SourceId(0), start..self.text.len())
    }

    fn node(&mut self, json: &Json, path: &str) -> Node {
        let start = self.text.len();
        let value = self.value(json, path);
        let value = if self.arguments.unknown.contains(path) { Value::Unknown } else { value };
        Node { value, span: self.span_from(start), sensitive: self.arguments.sensitive.contains(path) }
    }

    fn value(&mut self, json: &Json, path: &str) -> Value {
        match json {
            Json::Array(items) => {
                self.text.push('[');
                let mut nodes = Vec::new();
                for (index, item) in items.iter().enumerate() {
                    nodes.push(self.node(item, &format!("{path}[{index}]")));
                    self.text.push_str(", ");
                }
                self.text.push(']');
                Value::List(nodes)
            }
            Json::Object(entries) => {
                self.text.push('{');
                let mut nodes = indexmap::IndexMap::new();
                for (name, item) in entries {
                    self.text.push_str(name);
                    self.text.push_str(" = ");
                    nodes.insert(name.clone(), self.node(item, &format!("{path}.{name}")));
                    self.text.push_str(", ");
                }
                self.text.push('}');
                Value::Map(nodes)
            }
            scalar => {
                self.text.push_str(&scalar.to_string());
                match scalar {
                    Json::Bool(value) => Value::Bool(*value),
                    Json::Number(number) => Value::Number(number.to_string()),
                    Json::String(text) => Value::String(text.clone()),
                    _ => Value::Null,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use kiln_core::Field;
    use serde_json::json;

    use super::*;

    const SCHEMA: Schema = Schema {
        kind: "test",
        title: "a `test`",
        doc: "",
        fields: &[Field::strings("scripts", ""), Field::map("env", "")],
        example: "",
    };

    #[test]
    fn places_marks_and_types_arrive() {
        let arguments = Arguments::new(json!({ "scripts": ["a.sh", "b.sh"], "env": { "TOKEN": "x" } }))
            .unknown("scripts[0]")
            .sensitive("env.TOKEN");
        let (decoded, diagnostics) = arguments.decode(&SCHEMA);
        assert!(diagnostics.is_empty(), "{diagnostics:?}");
        assert_eq!(arguments.text_at(decoded.span("scripts[1]")), "\"b.sh\"");
        assert!(decoded.is_unknown("scripts[0]") && !decoded.is_unknown("scripts[1]"));
        assert!(decoded.is_sensitive("env.TOKEN"));
        let wrong = Arguments::new(json!({ "script": 1 }));
        let (_, diagnostics) = wrong.decode(&SCHEMA);
        assert_eq!(titles(&diagnostics), ["a `test` has no argument `script`"]);
        assert_eq!(wrong.text_at(diagnostics.items[0].primary.as_ref().unwrap().span), "script");
    }
}
