//! What a step's arguments add to its key: one input for each, by its evaluated value.

use std::collections::BTreeMap;
use std::sync::Arc;

use kiln_core::{Body, Input, Node, PlanMemory, Redactor, Schema, TextScope, Value};

use super::files::mentions_build;
use super::keys::Fields;

/// Longer values are not shown in the reason for a miss.
const SHOWN: usize = 40;

/// What encoding needs to know.
pub(crate) struct Surroundings<'a> {
    pub(crate) memory: &'a Arc<dyn PlanMemory>,
    /// For what is shown; what it knows changes with time, so it has no say in keys.
    pub(crate) redactor: &'a Redactor,
    /// Texts that the template knows to be secret.
    pub(crate) secrets: &'a [String],
    /// Whether all values are taken for secrets: those of the machine may be.
    pub(crate) are_secret: bool,
    pub(crate) text_scope: &'a TextScope,
    pub(crate) build_name: &'a str,
}

/// What arguments add to a key.
#[derive(Debug, Default)]
pub(crate) struct Arguments {
    pub(crate) inputs: Vec<Input>,
    pub(crate) mention_build: bool,
    pub(crate) have_secrets: bool,
}

/// The arguments but those of `skip`. `None`: the result depends on more than can be said before it runs.
pub(crate) fn read(body: &Body, schema: &Schema, skip: &[&str], around: &Surroundings<'_>) -> Option<Arguments> {
    let mut read = Arguments::default();
    // In which order they are written does not matter.
    for (name, attribute) in body.attributes.iter().collect::<BTreeMap<_, _>>() {
        if skip.contains(&name.as_str()) || matches!(attribute.node.value, Value::Null) {
            continue;
        }
        if schema.fields.iter().any(|field| field.name == name && field.deferred) {
            read.deferred(&attribute.node, around)?;
        }
        let mut encoded = Vec::new();
        encode(&attribute.node, &mut encoded)?;
        read.add(name, encoded, shown(&attribute.node.value), attribute.node.any_sensitive(), around);
    }
    for (name, bodies) in blocks(body) {
        let (mut encoded, mut is_sensitive) = (Vec::new(), false);
        for inner in bodies {
            encode_body(inner, &mut encoded)?;
            is_sensitive |= inner.any_sensitive();
        }
        if has_deferred(schema, name) {
            return None;
        }
        read.add(name, encoded, None, is_sensitive, around);
    }
    Some(read)
}

fn blocks(body: &Body) -> BTreeMap<&str, Vec<&Body>> {
    let mut blocks: BTreeMap<&str, Vec<&Body>> = BTreeMap::new();
    for block in &body.blocks {
        blocks.entry(&block.kind).or_default().push(&block.body);
    }
    blocks
}

fn has_deferred(schema: &Schema, block: &str) -> bool {
    let field = schema.fields.iter().find(|field| field.name == block);
    let inner = field.and_then(|field| field.kind.block());
    inner.is_some_and(|inner| inner.fields.iter().any(|field| field.deferred))
}

impl Arguments {
    fn add(
        &mut self,
        name: &str,
        encoded: Vec<u8>,
        shown: Option<String>,
        is_sensitive: bool,
        around: &Surroundings<'_>,
    ) {
        self.mention_build |= mentions_build(&encoded);
        let text = String::from_utf8_lossy(&encoded);
        // Shorter ones are no secrets, as for the redactor.
        let mut secrets = around.secrets.iter().filter(|secret| secret.len() > 2);
        let is_secret = is_sensitive || secrets.any(|secret| text.contains(secret.as_str()));
        self.have_secrets |= is_secret;
        let digest = if is_secret || around.are_secret {
            around.memory.keyed_digest(&encoded)
        } else {
            Fields::new("value").field(&encoded).key().to_string()
        };
        let may_show = |shown: &String| !is_secret && !around.are_secret && around.redactor.redact(shown) == *shown;
        self.inputs.push(Input { name: name.to_owned(), digest, shown: shown.filter(may_show) });
    }

    /// A text whose actions the component renders itself: what they read besides the component's own data.
    fn deferred(&mut self, node: &Node, around: &Surroundings<'_>) -> Option<()> {
        let mut texts = Vec::new();
        collect_texts(node, &mut texts);
        for word in texts.iter().flat_map(|text| words(text)) {
            match word {
                "build_name" => self.mention_build = true,
                "user" => {
                    let variables = around.text_scope.user_variables.iter().flat_map(|variables| variables.iter());
                    let fields = variables.fold(Vec::new(), |mut encoded, (name, value)| {
                        put(&mut encoded, name.as_bytes());
                        put(&mut encoded, value.as_bytes());
                        encoded
                    });
                    let digest = around.memory.keyed_digest(&fields);
                    self.input_once(Input { name: "user variables".into(), digest, shown: None });
                }
                // Of the value at hand alone.
                "if"
                | "else"
                | "end"
                | "with"
                | "range"
                | "and"
                | "or"
                | "not"
                | "eq"
                | "ne"
                | "printf"
                | "print"
                | "len"
                | "index"
                | "lower"
                | "upper"
                | "split"
                | "replace"
                | "replace_all"
                | "clean_resource_name"
                | "packer_version"
                | "build_type"
                | "true"
                | "false" => {}
                _ => return None,
            }
        }
        Some(())
    }

    fn input_once(&mut self, input: Input) {
        if !self.inputs.contains(&input) {
            self.inputs.push(input);
        }
    }
}

/// The input that the build's name is.
pub(crate) fn build_name(around: &Surroundings<'_>) -> Input {
    let digest = Fields::new("value").field(around.build_name).key().to_string();
    Input { name: "build name".into(), digest, shown: None }
}

/// The functions and keywords in the actions of a Go template text.
fn words(text: &str) -> Vec<&str> {
    let actions = text.split("{{").skip(1).map(|rest| rest.split("}}").next().unwrap_or_default());
    actions.flat_map(words_of_action).collect()
}

fn words_of_action(action: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = action;
    while let Some(first) = rest.chars().next() {
        let is_name = |c: char| c.is_alphanumeric() || c == '_';
        let length = match first {
            '"' | '`' | '\'' => rest[1..].find(first).map_or(rest.len(), |end| end + 2),
            // A field or variable, and the fields of it.
            '.' | '$' => 1 + rest[1..].find(|c| !is_name(c) && c != '.').unwrap_or(rest.len() - 1),
            c if c.is_alphabetic() || c == '_' => {
                let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
                words.push(&rest[..end]);
                end
            }
            c => c.len_utf8(),
        };
        rest = &rest[length..];
    }
    words
}

fn collect_texts<'a>(node: &'a Node, texts: &mut Vec<&'a str>) {
    match &node.value {
        Value::String(text) => texts.push(text),
        Value::List(items) => items.iter().for_each(|item| collect_texts(item, texts)),
        Value::Map(entries) => entries.values().for_each(|item| collect_texts(item, texts)),
        _ => {}
    }
}

/// The value in a few words, where that says anything.
fn shown(value: &Value) -> Option<String> {
    match value {
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Number(number) => Some(number.clone()),
        Value::String(text) => {
            let is_short = text.len() <= SHOWN && !text.chars().any(char::is_control);
            is_short.then(|| format!("\"{text}\""))
        }
        _ => None,
    }
}

fn put(encoded: &mut Vec<u8>, bytes: &[u8]) {
    encoded.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
    encoded.extend_from_slice(bytes);
}

/// One way of writing for each value; `None` where it is not known.
fn encode(node: &Node, encoded: &mut Vec<u8>) -> Option<()> {
    match &node.value {
        Value::Null => encoded.push(b'0'),
        Value::Unknown => return None,
        Value::Bool(truth) => encoded.extend_from_slice(if *truth { b"bt" } else { b"bf" }),
        Value::Number(number) => {
            encoded.push(b'n');
            put(encoded, number.as_bytes());
        }
        Value::String(text) => {
            encoded.push(b's');
            put(encoded, text.as_bytes());
        }
        Value::List(items) => {
            encoded.push(b'l');
            encoded.extend_from_slice(&(items.len() as u64).to_le_bytes());
            items.iter().try_for_each(|item| encode(item, encoded))?;
        }
        Value::Map(entries) => {
            encoded.push(b'm');
            let entries: BTreeMap<&String, &Node> = entries.iter().collect();
            encoded.extend_from_slice(&(entries.len() as u64).to_le_bytes());
            for (name, item) in entries {
                put(encoded, name.as_bytes());
                encode(item, encoded)?;
            }
        }
    }
    Some(())
}

fn encode_body(body: &Body, encoded: &mut Vec<u8>) -> Option<()> {
    encoded.push(b'{');
    let attributes: BTreeMap<_, _> = body.attributes.iter().map(|(name, attribute)| (name, &attribute.node)).collect();
    for (name, node) in attributes {
        put(encoded, name.as_bytes());
        encode(node, encoded)?;
    }
    for block in &body.blocks {
        put(encoded, block.kind.as_bytes());
        block.labels.iter().for_each(|label| put(encoded, label.as_bytes()));
        encode_body(&block.body, encoded)?;
    }
    encoded.push(b'}');
    Some(())
}

#[cfg(test)]
mod tests;
