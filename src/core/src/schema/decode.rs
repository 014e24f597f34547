//! A body against its schema: every mistake at once, and what fits as JSON.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map as JsonMap, Value as Json};

use super::{Decoded, Field, FieldType, Schema};
use crate::artifact::ARTIFACT_VALUES;
use crate::config::{Block, Body, Node, Value};
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::duration;
use crate::source::Span;
use crate::suggest;

/// [`Schema::decode_beside`].
pub(super) fn decode(schema: &Schema, body: &Body, others: &[&str], diagnostics: &mut Diagnostics) -> Decoded {
    let mut decoder = Decoder {
        diagnostics,
        others,
        spans: BTreeMap::new(),
        unknown: BTreeSet::new(),
        sensitive: BTreeSet::new(),
        emptied: BTreeSet::new(),
        weak: body.weak,
        field: None,
    };
    let values = decoder.body(schema, body, "");
    let Decoder { spans, unknown, sensitive, emptied, .. } = decoder;
    Decoded { values, spans, unknown, sensitive, emptied, span: body.span }
}

struct Decoder<'a> {
    diagnostics: &'a mut Diagnostics,
    others: &'a [&'a str],
    spans: BTreeMap<String, Span>,
    unknown: BTreeSet<String>,
    sensitive: BTreeSet<String>,
    emptied: BTreeSet<String>,
    weak: bool,
    /// The argument that is being read.
    field: Option<Field>,
}

impl Decoder<'_> {
    fn body(&mut self, schema: &Schema, body: &Body, prefix: &str) -> JsonMap<String, Json> {
        // A component's own arguments stand at the top; nested blocks have no others.
        let others: &[&str] = if prefix.is_empty() { self.others } else { &[] };
        let names = || schema.fields.iter().map(|field| field.name).chain(others.iter().copied());
        let mut values = JsonMap::new();
        for (name, attribute) in &body.attributes {
            let Some(field) = schema.field(name) else {
                self.diagnostics.push(
                    Diagnostic::error(
                        "unknown-argument",
                        attribute.name_span,
                        format!("{} has no argument `{name}`", schema.title),
                    )
                    .did_you_mean(attribute.name_span, name, names().collect::<Vec<_>>())
                    .or_help(elsewhere(name)),
                );
                // What was probably meant is set, so that nobody calls it missing.
                if let Some(meant) = suggest::nearest(name, names())
                    && !body.attributes.contains_key(meant)
                {
                    self.unknown.insert(format!("{prefix}{meant}"));
                }
                continue;
            };
            if let Some(instead) = field.deprecated {
                self.diagnostics.push(
                    Diagnostic::warning("deprecated-argument", attribute.name_span, format!("`{name}` is out of date"))
                        .help(instead),
                );
            }
            let path = format!("{prefix}{name}");
            if !body.weak && field.kind.block().is_some() {
                self.diagnostics.push(
                    Diagnostic::error(
                        "block-expected",
                        attribute.name_span,
                        format!("`{name}` is a block, not an argument"),
                    )
                    .help(format!("write `{name} {{ ... }}`, without `=`")),
                );
                // It is set: nobody is to call it missing.
                self.unknown.insert(path);
                continue;
            }
            let outer = self.field.replace(*field);
            if let Some(value) = self.node(&field.kind, &attribute.node, &path) {
                values.insert(name.clone(), value);
            }
            self.field = outer;
        }
        self.blocks(schema, body, prefix, &mut values);
        self.required(schema, body, prefix);
        values
    }

    /// Tells required arguments that are not there.
    fn required(&mut self, schema: &Schema, body: &Body, prefix: &str) {
        for field in schema.fields.iter().filter(|field| field.required) {
            let path = format!("{prefix}{}", field.name);
            let named =
                body.attributes.contains_key(field.name) || body.blocks.iter().any(|block| block.kind == field.name);
            let is_null = body.attributes.get(field.name).is_some_and(|attribute| attribute.node.value == Value::Null);
            if (!named || is_null) && !self.unknown.contains(&path) {
                self.diagnostics.push(
                    Diagnostic::error(
                        "missing-argument",
                        body.span,
                        format!("{} needs `{}`", schema.title, field.name),
                    )
                    .help(format!("`{}` ({}): {}", field.name, field.kind.name(), field.doc)),
                );
            }
        }
    }

    fn blocks(&mut self, schema: &Schema, body: &Body, prefix: &str, values: &mut JsonMap<String, Json>) {
        for block in &body.blocks {
            let name = block.kind.as_str();
            match schema.field(name).map(|field| field.kind) {
                Some(FieldType::Block(inner)) => {
                    if let Some(first) = self.spans.get(&format!("{prefix}{name}")) {
                        let twice = Diagnostic::error(
                            "duplicate-block",
                            block.kind_span,
                            format!("`{name}` may stand only once"),
                        )
                        .also(*first, "first here");
                        self.diagnostics.push(twice);
                        continue;
                    }
                    self.spans.insert(format!("{prefix}{name}"), block.kind_span);
                    let inner_values = self.body(inner, &block.body, &format!("{prefix}{name}."));
                    values.insert(name.to_owned(), Json::Object(inner_values));
                }
                Some(FieldType::Blocks(inner)) => {
                    let list = values.entry(name.to_owned()).or_insert_with(|| Json::Array(Vec::new()));
                    let index = list.as_array().map_or(0, Vec::len);
                    let path = format!("{prefix}{name}[{index}]");
                    self.spans.insert(path.clone(), block.kind_span);
                    let inner_values = self.body(inner, &block.body, &format!("{path}."));
                    if let Some(Json::Array(items)) = values.get_mut(name) {
                        items.push(Json::Object(inner_values));
                    }
                }
                Some(FieldType::NamedBlocks(inner)) => self.named_block(inner, block, prefix, values),
                Some(kind) => {
                    let title = format!("`{name}` is an argument, not a block");
                    let diagnostic = Diagnostic::error("argument-expected", block.kind_span, title);
                    self.diagnostics.push(match kind {
                        FieldType::StringMap | FieldType::Any if block.labels.is_empty() => {
                            diagnostic.fix(block.kind_span, format!("{name} ="), format!("write `{name} = {{ ... }}`"))
                        }
                        FieldType::StringList | FieldType::IntegerList => {
                            diagnostic.help(format!("it takes a {}: `{name} = [...]`", kind.name()))
                        }
                        _ => diagnostic.help(format!("it takes a {}: `{name} = ...`", kind.name())),
                    });
                    self.unknown.insert(format!("{prefix}{name}"));
                }
                None => self.diagnostics.push(
                    Diagnostic::error(
                        "unknown-block",
                        block.kind_span,
                        format!("{} has no block `{name}`", schema.title),
                    )
                    .did_you_mean(
                        block.kind_span,
                        name,
                        schema.fields.iter().map(|field| field.name).collect::<Vec<_>>(),
                    )
                    .or_help(elsewhere(name)),
                ),
            }
        }
    }

    fn named_block(&mut self, inner: &Schema, block: &Block, prefix: &str, values: &mut JsonMap<String, Json>) {
        let kind = block.kind.as_str();
        let [label] = block.labels.as_slice() else {
            let diagnostic =
                Diagnostic::error("wrong-labels", block.kind_span, format!("`{kind}` takes one label: its name"));
            self.diagnostics.push(diagnostic.help(format!("write `{kind} \"NAME\" {{ ... }}`")));
            return;
        };
        let list = values.entry(kind.to_owned()).or_insert_with(|| Json::Array(Vec::new()));
        let others = list.as_array().map(Vec::as_slice).unwrap_or_default();
        let path = format!("{prefix}{kind}[{}]", others.len());
        if let Some(first) = others.iter().position(|other| other["name"] == label.as_str()) {
            let twice = format!("two `{kind}` blocks are called `{label}`");
            let mut diagnostic = Diagnostic::error("duplicate-block", block.kind_span, twice);
            if let Some(span) = self.spans.get(&format!("{prefix}{kind}[{first}]")) {
                diagnostic = diagnostic.also(*span, "first here");
            }
            self.diagnostics.push(diagnostic);
            return;
        }
        self.spans.insert(path.clone(), block.kind_span);
        let mut inner_values = self.body(inner, &block.body, &format!("{path}."));
        inner_values.insert("name".to_owned(), Json::from(label.as_str()));
        if let Some(Json::Array(items)) = values.get_mut(kind) {
            items.push(Json::Object(inner_values));
        }
    }

    /// Named blocks of legacy JSON: a map from name to arguments, or several of them.
    fn named_nodes(&mut self, schema: &Schema, node: &Node, path: &str, items: &mut Vec<Json>) {
        match &node.value {
            Value::List(nodes) => nodes.iter().for_each(|node| self.named_nodes(schema, node, path, items)),
            Value::Map(entries) => {
                for (name, inner) in entries {
                    let item = self.object(schema, inner, &format!("{path}[{}]", items.len()));
                    if let Some(Json::Object(mut object)) = item {
                        object.insert("name".to_owned(), Json::from(name.as_str()));
                        items.push(Json::Object(object));
                    }
                }
            }
            _ => {
                self.mismatch(node, path, "a map of objects");
            }
        }
    }

    fn node(&mut self, kind: &FieldType, node: &Node, path: &str) -> Option<Json> {
        self.spans.insert(path.to_owned(), node.span);
        if node.sensitive {
            self.sensitive.insert(path.to_owned());
        }
        match &node.value {
            Value::Null => None,
            Value::Unknown => {
                self.unknown.insert(path.to_owned());
                None
            }
            value => match kind {
                FieldType::StringList | FieldType::IntegerList => self.list(kind, node, path),
                FieldType::StringMap => self.map(node, path),
                FieldType::Any if is_artifact(&node.value) => self.mismatch(node, path, "one value"),
                FieldType::Any => Some(self.any(node, path)),
                FieldType::Block(schema) => match value {
                    // Weakly typed decoders take a list of one object for an object.
                    Value::List(items) if items.len() == 1 => self.node(kind, &items[0], path),
                    _ => self.object(schema, node, path),
                },
                FieldType::Blocks(schema) => match value {
                    Value::List(items) => Some(Json::Array(
                        items
                            .iter()
                            .enumerate()
                            .filter_map(|(index, item)| self.object(schema, item, &format!("{path}[{index}]")))
                            .collect(),
                    )),
                    _ => self.object(schema, node, &format!("{path}[0]")).map(|object| Json::Array(vec![object])),
                },
                FieldType::NamedBlocks(schema) => {
                    let mut items = Vec::new();
                    self.named_nodes(schema, node, path, &mut items);
                    Some(Json::Array(items))
                }
                scalar => self.scalar(scalar, node, path),
            },
        }
    }

    fn object(&mut self, schema: &Schema, node: &Node, path: &str) -> Option<Json> {
        let Value::Map(entries) = &node.value else {
            return self.mismatch(node, path, "an object");
        };
        let attributes = entries
            .iter()
            .map(|(name, inner)| {
                (name.clone(), crate::config::Attribute { name_span: inner.span, node: inner.clone() })
            })
            .collect();
        self.spans.insert(path.to_owned(), node.span);
        let body = Body { attributes, blocks: Vec::new(), span: node.span, weak: self.weak };
        Some(Json::Object(self.body(schema, &body, &format!("{path}."))))
    }

    fn list(&mut self, kind: &FieldType, node: &Node, path: &str) -> Option<Json> {
        // The placeholder keeps the index of the items behind.
        let (item_kind, wanted, placeholder) = match kind {
            FieldType::IntegerList => (FieldType::Integer, "a whole number", Json::from(0)),
            _ => (FieldType::String, "a string", Json::from("")),
        };
        match &node.value {
            Value::List(items) => {
                let mut list = Vec::with_capacity(items.len());
                for item in items {
                    // An entry that is there on a condition: `var.latest ? "latest" : null`. Packer refuses the template.
                    if item.value == Value::Null && !self.weak {
                        continue;
                    }
                    let item_path = format!("{path}[{}]", list.len());
                    match self.node(&item_kind, item, &item_path) {
                        Some(value) => list.push(value),
                        None => {
                            if item.value == Value::Null {
                                self.mismatch(item, &item_path, wanted);
                            }
                            list.push(placeholder.clone());
                        }
                    }
                }
                if list.is_empty() && !items.is_empty() {
                    self.emptied.insert(path.to_owned());
                }
                Some(Json::Array(list))
            }
            // As Packer's weak decode has it: a text is split at commas, blanks stay, the empty text is no item.
            Value::String(text) if self.weak => {
                let pieces = text.split(',').filter(|_| !text.is_empty()).enumerate();
                let items = pieces.map(|(index, piece)| {
                    let item = Node { value: Value::String(piece.to_owned()), ..node.clone() };
                    self.node(&item_kind, &item, &format!("{path}[{index}]")).unwrap_or_else(|| placeholder.clone())
                });
                Some(Json::Array(items.collect()))
            }
            Value::Bool(_) | Value::Number(_) if self.weak => {
                let item = self.node(&item_kind, node, &format!("{path}[0]"))?;
                Some(Json::Array(vec![item]))
            }
            _ => self.mismatch(node, path, &format!("a {}", kind.name())),
        }
    }

    fn map(&mut self, node: &Node, path: &str) -> Option<Json> {
        let entries = match &node.value {
            Value::Map(entries) => entries,
            Value::List(items) if self.weak && items.iter().all(|item| matches!(item.value, Value::Map(_))) => {
                let mut merged = JsonMap::new();
                for item in items {
                    if let Some(Json::Object(part)) = self.map(item, path) {
                        merged.extend(part);
                    }
                }
                return Some(Json::Object(merged));
            }
            _ => return self.mismatch(node, path, "a map of strings"),
        };
        let mut map = JsonMap::new();
        for (key, item) in entries {
            let item_path = format!("{path}.{key}");
            match self.node(&FieldType::String, item, &item_path) {
                Some(value) => {
                    map.insert(key.clone(), value);
                }
                None if self.unknown.contains(&item_path) => {
                    map.insert(key.clone(), Json::String(String::new()));
                }
                None => {}
            }
        }
        Some(Json::Object(map))
    }

    fn any(&mut self, node: &Node, path: &str) -> Json {
        self.spans.insert(path.to_owned(), node.span);
        match &node.value {
            Value::Null => Json::Null,
            Value::Unknown => {
                self.unknown.insert(path.to_owned());
                Json::Null
            }
            Value::Bool(value) => Json::Bool(*value),
            Value::Number(text) => text.parse().map_or_else(|_| Json::String(text.clone()), Json::Number),
            Value::String(text) => Json::String(text.clone()),
            Value::List(items) => Json::Array(
                items.iter().enumerate().map(|(index, item)| self.any(item, &format!("{path}[{index}]"))).collect(),
            ),
            Value::Map(entries) => Json::Object(
                entries.iter().map(|(key, item)| (key.clone(), self.any(item, &format!("{path}.{key}")))).collect(),
            ),
        }
    }

    fn scalar(&mut self, kind: &FieldType, node: &Node, path: &str) -> Option<Json> {
        match kind {
            FieldType::Bool => match bool_of(&node.value, self.weak) {
                Some(value) => Some(Json::Bool(value)),
                None => self.mismatch(node, path, "a bool"),
            },
            FieldType::BoolOr(words) => match (&node.value, bool_of(&node.value, self.weak)) {
                (_, Some(value)) => Some(Json::String(value.to_string())),
                (Value::String(text), _) if words.contains(&text.as_str()) => Some(Json::String(text.clone())),
                _ => self.mismatch(
                    node,
                    path,
                    &format!("`true`, `false` or one of {}", suggest::enumerate(words.iter().copied())),
                ),
            },
            FieldType::Integer | FieldType::Number => {
                let text = match &node.value {
                    Value::Number(text) => Some(text.as_str()),
                    Value::String(text) => Some(text.trim()),
                    Value::Bool(value) if self.weak => Some(if *value { "1" } else { "0" }),
                    _ => None,
                };
                let number = text.and_then(|text| match kind {
                    FieldType::Integer => text.parse::<i64>().ok().map(Json::from),
                    _ => text.parse::<f64>().ok().filter(|number| number.is_finite()).map(Json::from),
                });
                if number.is_none() {
                    return self.mismatch(
                        node,
                        path,
                        if matches!(kind, FieldType::Integer) { "a whole number" } else { "a number" },
                    );
                }
                number
            }
            _ => {
                let Some(text) = text_of(&node.value) else { return self.mismatch(node, path, "a string") };
                match kind {
                    FieldType::Duration => {
                        if let Err(error) = duration::parse(&text) {
                            self.diagnostics.push(duration::mistake(path, &text, node.span, &error));
                            self.unknown.insert(path.to_owned());
                            return None;
                        }
                    }
                    FieldType::OneOf(words) if !words.contains(&text.as_str()) => {
                        let diagnostic =
                            Diagnostic::error("wrong-value", node.span, format!("`{path}` cannot be `{text}`"));
                        self.diagnostics.push(diagnostic.did_you_mean(
                            node.span,
                            &text,
                            words.iter().copied().filter(|word| !word.is_empty()),
                        ));
                        self.unknown.insert(path.to_owned());
                        return None;
                    }
                    _ => {}
                }
                Some(Json::String(text))
            }
        }
    }

    fn mismatch(&mut self, node: &Node, path: &str, wanted: &str) -> Option<Json> {
        let given = if is_artifact(&node.value) { "a whole artifact" } else { node.value.type_name() };
        let title = format!("`{path}` must be {wanted}, and this is {given}");
        let diagnostic = Diagnostic::error("wrong-type", node.span, title);
        let diagnostic = mended(diagnostic, node, wanted);
        self.diagnostics.push(match self.field {
            Some(field) if diagnostic.fix.is_none() && !field.doc.is_empty() => {
                diagnostic.note(format!("`{}` ({}): {}", field.name, field.kind.name(), field.doc))
            }
            _ => diagnostic,
        });
        // It is set, and what it should be cannot be told: no further complaint follows from it.
        self.unknown.insert(path.to_owned());
        None
    }
}

/// What belongs elsewhere, or is another tool's.
fn elsewhere(name: &str) -> Option<&'static str> {
    match name {
        "provisioner" | "post-processor" | "post-processors" | "error-cleanup-provisioner" => {
            Some("it belongs into a `build` block")
        }
        "count" => Some("there is no `count`; `for_each = [\"a\", \"b\"]` makes one for each element"),
        "depends_on" => Some("there is no order between builds; what needs another's image is a template of its own"),
        "lifecycle" | "provider" | "connection" => Some("this is Terraform's; there is no such thing here"),
        _ => None,
    }
}

/// What to write in the place of a value of the wrong type, where that is plain.
fn mended(diagnostic: Diagnostic, node: &Node, wanted: &str) -> Diagnostic {
    match (&node.value, wanted) {
        (Value::String(_), "a list of strings") => {
            diagnostic.enclose(node.span, "[", "]", "a list of one is written in brackets")
        }
        (Value::String(text), _) if wanted == "a bool" || wanted.starts_with("`true`") => {
            let meant = match text.to_lowercase().as_str() {
                "true" | "yes" | "y" | "on" | "1" | "t" => "true",
                "false" | "no" | "n" | "off" | "0" | "f" => "false",
                text => match suggest::nearest(text, ["true", "false"]) {
                    Some(nearest) => nearest,
                    None => return diagnostic,
                },
            };
            diagnostic.value(node.span, meant, format!("write `{meant}`"))
        }
        (Value::Number(text), "a bool") if text == "0" || text == "1" => {
            let meant = if text == "1" { "true" } else { "false" };
            diagnostic.value(node.span, meant, format!("write `{meant}`"))
        }
        (value, "a string" | "one value") if is_artifact(value) => {
            let end = Span::new(node.span.source, node.span.end as usize..node.span.end as usize);
            diagnostic.fix(end, ".image", "did you mean its `image`?")
        }
        (Value::List(items), "a string") if items.len() == 1 => diagnostic.help("write the text without `[` and `]`"),
        _ => diagnostic,
    }
}

/// Whether it is all that an artifact has, `artifact.NAME`, where one value of it is meant.
fn is_artifact(value: &Value) -> bool {
    match value {
        Value::Map(entries) => ARTIFACT_VALUES.iter().all(|(name, ..)| entries.contains_key(*name)),
        _ => false,
    }
}

fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) | Value::Number(text) => Some(text.clone()),
        Value::Bool(value) => Some(value.to_string()),
        _ => None,
    }
}

/// `true`/`false`, also as text (HCL converts it); weakly also `1`, `0`, `t`, `f`, the empty text, and any number, as
/// Go's `strconv.ParseBool` and mapstructure have it.
fn bool_of(value: &Value, weak: bool) -> Option<bool> {
    match value {
        Value::Bool(value) => Some(*value),
        Value::String(text) => match (text.as_str(), weak) {
            ("true", _) | ("1" | "t" | "T" | "TRUE" | "True", true) => Some(true),
            ("false", _) | ("0" | "f" | "F" | "FALSE" | "False" | "", true) => Some(false),
            _ => None,
        },
        Value::Number(text) if weak => Some(text != "0"),
        _ => None,
    }
}
