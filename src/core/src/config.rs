//! An evaluated component body: what a template says about one source, provisioner or post-processor, as plain values
//! that still know their place.

use indexmap::IndexMap;

use crate::source::Span;

/// A value without its place.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Not set, as if the argument were absent.
    Null,
    /// Not known before the machine runs (`build.Host` while validating); checks skip it.
    Unknown,
    /// True or false.
    Bool(bool),
    /// A number in canonical decimal text without exponent (`10`, `0.5`): exact at any size.
    Number(String),
    /// A text, Go template actions already rendered unless the field is deferred.
    String(String),
    /// A list, set or tuple.
    List(Vec<Node>),
    /// A map or object; sorted for HCL, in the file's order for JSON.
    Map(IndexMap<String, Node>),
}

impl Value {
    /// What messages call its type.
    pub fn type_name(&self) -> &'static str {
        match self {
            Value::Null => "null",
            Value::Unknown => "a value not known yet",
            Value::Bool(_) => "a bool",
            Value::Number(_) => "a number",
            Value::String(_) => "a string",
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
        }
    }
}

/// A value at its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// The value.
    pub value: Value,
    /// Where it was written: the expression, or the literal it came from.
    pub span: Span,
    /// Whether it is, or derives from, a sensitive value.
    pub sensitive: bool,
}

impl Node {
    /// A value that is not sensitive.
    pub fn new(value: Value, span: Span) -> Node {
        Node { value, span, sensitive: false }
    }

    /// Whether it or anything in it is unknown.
    pub fn has_unknown(&self) -> bool {
        match &self.value {
            Value::Unknown => true,
            Value::List(items) => items.iter().any(Node::has_unknown),
            Value::Map(entries) => entries.values().any(Node::has_unknown),
            _ => false,
        }
    }

    /// Whether it or anything in it is sensitive.
    pub fn any_sensitive(&self) -> bool {
        let inside = match &self.value {
            Value::List(items) => items.iter().any(Node::any_sensitive),
            Value::Map(entries) => entries.values().any(Node::any_sensitive),
            _ => false,
        };
        self.sensitive || inside
    }
}

/// `name = value`.
#[derive(Debug, Clone, PartialEq)]
pub struct Attribute {
    /// Where the name stands.
    pub name_span: Span,
    /// The value.
    pub node: Node,
}

/// A nested block with its kind and labels.
#[derive(Debug, Clone, PartialEq)]
pub struct Block {
    /// Its type, e.g. `build`.
    pub kind: String,
    /// Where the type stands.
    pub kind_span: Span,
    /// Its labels.
    pub labels: Vec<String>,
    /// What it holds.
    pub body: Body,
}

/// The arguments and blocks between two braces.
#[derive(Debug, Clone, PartialEq)]
pub struct Body {
    /// Arguments by name, in the order written.
    pub attributes: IndexMap<String, Attribute>,
    /// Blocks, in the order written (always empty for JSON, where blocks are attributes).
    pub blocks: Vec<Block>,
    /// The whole body, or the header of the block: where "an argument is missing" points.
    pub span: Span,
    /// Legacy JSON is weakly typed: one string may stand for a list, any scalar for any other.
    pub weak: bool,
}

impl Body {
    /// An empty body at a place.
    pub fn empty(span: Span, weak: bool) -> Body {
        Body { attributes: IndexMap::new(), blocks: Vec::new(), span, weak }
    }

    /// Whether any value in it is unknown.
    pub fn has_unknown(&self) -> bool {
        self.attributes.values().any(|attribute| attribute.node.has_unknown())
            || self.blocks.iter().any(|block| block.body.has_unknown())
    }

    /// Whether any value in it is sensitive.
    pub fn any_sensitive(&self) -> bool {
        self.attributes.values().any(|attribute| attribute.node.any_sensitive())
            || self.blocks.iter().any(|block| block.body.any_sensitive())
    }
}
