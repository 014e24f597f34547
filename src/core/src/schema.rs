//! What arguments a kind takes. One table serves decoding, "did you mean", and the reference documentation.

mod decode;

use std::collections::{BTreeMap, BTreeSet};

use serde::de::DeserializeOwned;
use serde_json::{Map as JsonMap, Value as Json};

use crate::config::Body;
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::source::Span;

/// The type of a field.
#[derive(Debug, Clone, Copy)]
pub enum FieldType {
    /// Text.
    String,
    /// `true` or `false`.
    Bool,
    /// A whole number.
    Integer,
    /// Any number.
    Number,
    /// Go's form, e.g. `5m`; decoded to the text, read it with [`crate::duration::deserialize`].
    Duration,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// `bool` or one of these words; a bool decodes to the text `true` or `false`.
    BoolOr(&'static [&'static str]),
    /// A list of texts.
    StringList,
    /// A list of whole numbers.
    IntegerList,
    /// Text to text.
    StringMap,
    /// Anything; decoded as it is.
    Any,
    /// At most one nested block.
    Block(&'static Schema),
    /// Any number of nested blocks; decoded to a list.
    Blocks(&'static Schema),
    /// Any number of nested blocks with one label each, which tells them apart; decoded to a list, the label as `name`.
    NamedBlocks(&'static Schema),
}

impl FieldType {
    /// What messages and the reference call it.
    pub fn name(&self) -> String {
        match self {
            FieldType::String => "string".to_owned(),
            FieldType::Bool => "bool".to_owned(),
            FieldType::Integer => "integer".to_owned(),
            FieldType::Number => "number".to_owned(),
            FieldType::Duration => "duration".to_owned(),
            // An empty text, where it is taken, is as none.
            FieldType::OneOf(words) => {
                words.iter().copied().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" | ")
            }
            FieldType::BoolOr(words) => format!("bool | {}", words.join(" | ")),
            FieldType::StringList => "list of strings".to_owned(),
            FieldType::IntegerList => "list of integers".to_owned(),
            FieldType::StringMap => "map of strings".to_owned(),
            FieldType::Any => "any".to_owned(),
            FieldType::Block(_) => "block".to_owned(),
            FieldType::Blocks(_) => "blocks".to_owned(),
            FieldType::NamedBlocks(_) => "named blocks".to_owned(),
        }
    }

    /// What is in it, where it is a nested block.
    pub fn block(&self) -> Option<&'static Schema> {
        match self {
            FieldType::Block(inner) | FieldType::Blocks(inner) | FieldType::NamedBlocks(inner) => Some(inner),
            _ => None,
        }
    }
}

/// One argument or nested block of a kind.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// Its name in templates; also the name of the struct field it is read into.
    pub name: &'static str,
    /// Its type.
    pub kind: FieldType,
    /// Whether it must be there.
    pub required: bool,
    /// The default, as the reference shows it.
    pub default: Option<&'static str>,
    /// One or two sentences for the reference.
    pub doc: &'static str,
    /// Go template actions in it are left alone at decoding; the component renders them with data of its own
    /// (`{{.Vars}}`), named in `doc`.
    pub deferred: bool,
    /// Of a deferred field, the names of the data that the component renders it with, besides the machine's values; empty
    /// where they are not told, then none is called unknown.
    pub data: &'static [&'static str],
    /// Set when the field is out of date: what to write instead.
    pub deprecated: Option<&'static str>,
}

impl Field {
    /// A field of any type.
    pub const fn new(name: &'static str, kind: FieldType, doc: &'static str) -> Field {
        Field { name, kind, required: false, default: None, doc, deferred: false, data: &[], deprecated: None }
    }

    /// Text.
    pub const fn string(name: &'static str, doc: &'static str) -> Field {
        Field::new(name, FieldType::String, doc)
    }

    /// True or false.
    pub const fn bool(name: &'static str, doc: &'static str) -> Field {
        Field::new(name, FieldType::Bool, doc)
    }

    /// A list of texts.
    pub const fn strings(name: &'static str, doc: &'static str) -> Field {
        Field::new(name, FieldType::StringList, doc)
    }

    /// Text to text.
    pub const fn map(name: &'static str, doc: &'static str) -> Field {
        Field::new(name, FieldType::StringMap, doc)
    }

    /// A duration.
    pub const fn duration(name: &'static str, doc: &'static str) -> Field {
        Field::new(name, FieldType::Duration, doc)
    }

    /// It must be there.
    #[must_use]
    pub const fn required(mut self) -> Field {
        self.required = true;
        self
    }

    /// What holds when it is absent.
    #[must_use]
    pub const fn default(mut self, text: &'static str) -> Field {
        self.default = Some(text);
        self
    }

    /// Its Go template actions are rendered by the component, later.
    #[must_use]
    pub const fn deferred(mut self) -> Field {
        self.deferred = true;
        self
    }

    /// As [`Field::deferred`], with the names of the data (`Path` for `{{.Path}}`), so that a misspelt one is found.
    #[must_use]
    pub const fn deferred_with(mut self, data: &'static [&'static str]) -> Field {
        self.deferred = true;
        self.data = data;
        self
    }

    /// It is out of date.
    #[must_use]
    pub const fn deprecated(mut self, instead: &'static str) -> Field {
        self.deprecated = Some(instead);
        self
    }

    /// Several tables as one, for kinds that share options: `const ALL: [Field; OWN.len() + SHARED.len()] =
    /// Field::joined(&[OWN, SHARED]);`. Does not compile where the count is wrong.
    #[must_use]
    pub const fn joined<const COUNT: usize>(tables: &[&[Field]]) -> [Field; COUNT] {
        let mut all = [Field::string("", ""); COUNT];
        let (mut filled, mut table) = (0, 0);
        while table < tables.len() {
            let mut index = 0;
            while index < tables[table].len() {
                all[filled] = tables[table][index];
                filled += 1;
                index += 1;
            }
            table += 1;
        }
        assert!(filled == COUNT, "the tables have another number of fields");
        all
    }
}

/// The arguments of a kind.
#[derive(Debug, Clone, Copy)]
pub struct Schema {
    /// The kind, e.g. `docker`.
    pub kind: &'static str,
    /// What messages call it, with article, e.g. "a `docker` source".
    pub title: &'static str,
    /// A sentence for the reference.
    pub doc: &'static str,
    /// Its fields.
    pub fields: &'static [Field],
    /// A small example in HCL.
    pub example: &'static str,
}

/// A body that fits its schema, as JSON in the schema's types, with the place of every value.
#[derive(Debug, Clone)]
pub struct Decoded {
    values: JsonMap<String, Json>,
    spans: BTreeMap<String, Span>,
    unknown: BTreeSet<String>,
    sensitive: BTreeSet<String>,
    emptied: BTreeSet<String>,
    span: Span,
}

impl Decoded {
    /// Reads the body into a struct whose fields bear the schema's names. Absent, null and unknown fields are left out
    /// (`#[serde(default)]`); unknown items of lists and maps come as empty text, or 0.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, Box<Diagnostic>> {
        serde_json::from_value(Json::Object(self.values.clone())).map_err(|error| {
            Box::new(Diagnostic::error("internal-schema", self.span, format!("cannot read these arguments: {error}")))
        })
    }

    /// The same where a mistake is told with the others.
    pub fn read_or_tell<T: DeserializeOwned>(&self, diagnostics: &mut Diagnostics) -> Option<T> {
        self.read().map_err(|diagnostic| diagnostics.push(*diagnostic)).ok()
    }

    /// Where a value was written; path as `image`, `build.path`, `scripts[0]`, `volumes.key`. The whole body where absent.
    pub fn span(&self, path: &str) -> Span {
        self.spans.get(path).copied().unwrap_or(self.span)
    }

    /// The place of the body as a whole.
    pub fn body_span(&self) -> Span {
        self.span
    }

    /// Whether a field is set at all, known or not.
    pub fn is_set(&self, name: &str) -> bool {
        self.values.contains_key(name) || self.is_unknown(name)
    }

    /// Whether a field, or anything in it, is not known before the machine runs, or was written wrongly (which was told).
    pub fn is_unknown(&self, name: &str) -> bool {
        let inside =
            |path: &String| path == name || path.strip_prefix(name).is_some_and(|rest| rest.starts_with(['.', '[']));
        self.unknown.iter().any(inside)
    }

    /// Whether a value (path as for [`Decoded::span`]) is or derives from a sensitive one.
    pub fn is_sensitive(&self, path: &str) -> bool {
        self.sensitive.contains(path)
    }

    /// Whether a list was written with entries, all of which are `null`, so that none is left.
    pub fn is_emptied(&self, path: &str) -> bool {
        self.emptied.contains(path)
    }

    /// The values as JSON.
    pub fn values(&self) -> &JsonMap<String, Json> {
        &self.values
    }
}

impl Schema {
    /// Of a kind that nobody knows: expressions are evaluated for the mistakes in them, Go template texts are left alone.
    pub const UNTYPED: Schema = Schema { kind: "", title: "", doc: "", fields: &[], example: "" };

    /// The field of a name.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.name == name)
    }

    /// Checks a body against the schema: unknown names, types, required fields; all mistakes at once. What fits is
    /// decoded even when something else does not.
    pub fn decode(&self, body: &Body, diagnostics: &mut Diagnostics) -> Decoded {
        self.decode_beside(body, &[], diagnostics)
    }

    /// As [`Schema::decode`]; `others` are arguments that the template's own loader took out of the body already
    /// (`pause_before`, `only`), so that a misspelt one finds its nearest.
    pub fn decode_beside(&self, body: &Body, others: &[&str], diagnostics: &mut Diagnostics) -> Decoded {
        decode::decode(self, body, others, diagnostics)
    }
}

#[cfg(test)]
mod tests;
