//! `dynamic` blocks: one block written, many meant.

use kiln_core::{Diagnostic, Diagnostics, Span};
use kiln_language::syntax::{Attribute, Block, Body, Expression, ExpressionKind, Item, Name};
use kiln_language::value::{Data, Type, Value};

use crate::grammar;

use super::blocks::{check_items, is_identifier, labels};
use super::scope::{Bindings, Overlay, Values};

/// An item of a body, `dynamic` blocks expanded.
pub(crate) enum Expanded<'a> {
    Attribute(&'a Attribute),
    Block(ExpandedBlock<'a>),
}

/// A block, written as it is or made by a `dynamic` block.
#[derive(Clone)]
pub(crate) struct ExpandedBlock<'a> {
    pub(crate) kind: Name,
    pub(crate) labels: Vec<Name>,
    pub(crate) header: Span,
    pub(crate) body: &'a Body,
    /// Names of the iterators around it, on top of those the body had.
    pub(crate) bindings: Bindings,
}

/// All items of a body in order, `dynamic` blocks replaced by what they make. `bindings` are the names around the body.
pub(crate) fn expand<'a>(
    body: &'a Body,
    values: &Values,
    bindings: &Bindings,
    diagnostics: &mut Diagnostics,
) -> Vec<Expanded<'a>> {
    let mut items = Vec::with_capacity(body.items.len());
    for item in &body.items {
        match item {
            Item::Attribute(attribute) => items.push(Expanded::Attribute(attribute)),
            Item::Block(block) => {
                items.extend(expand_with(block, None, values, bindings, diagnostics).into_iter().map(Expanded::Block));
            }
        }
    }
    items
}

/// The blocks of a build that have a label: what runs or is built.
const LABELLED: [&str; 5] = ["source", "steps", "provisioner", "error-cleanup-provisioner", "post-processor"];

/// What a block of a build stands for: itself, or for a `dynamic` block one block for each element.
pub(crate) fn expand_block<'a>(
    block: &'a Block,
    values: &Values,
    bindings: &Bindings,
    diagnostics: &mut Diagnostics,
) -> Vec<ExpandedBlock<'a>> {
    expand_with(block, Some(&LABELLED), values, bindings, diagnostics)
}

/// As [`expand_block`] where the blocks of the types in `labelled` have one label, and others none; `None`: not checked.
fn expand_with<'a>(
    block: &'a Block,
    labelled: Option<&[&str]>,
    values: &Values,
    bindings: &Bindings,
    diagnostics: &mut Diagnostics,
) -> Vec<ExpandedBlock<'a>> {
    if block.kind.text != "dynamic" {
        return vec![ExpandedBlock {
            kind: block.kind.clone(),
            labels: block.labels.clone(),
            header: block.header,
            body: &block.body,
            bindings: bindings.clone(),
        }];
    }
    let Some([kind]) = labels(block, ["the type of the blocks to make"], diagnostics) else { return Vec::new() };
    check_items(&block.body, &grammar::DYNAMIC, diagnostics);
    let mut contents = block.body.blocks().filter(|inner| inner.kind.text == "content");
    let (content, second) = (contents.next(), contents.next());
    if let (Some(content), Some(second)) = (content, second) {
        let title = "a `dynamic` block has one `content`";
        let diagnostic = Diagnostic::error("duplicate-block", second.header, title);
        diagnostics.push(diagnostic.also(content.header, "first here"));
        return Vec::new();
    }
    let for_each = block.body.attribute("for_each");
    for (name, is_there) in [("for_each", for_each.is_some()), ("content", content.is_some())] {
        if !is_there {
            let title = format!("a `dynamic` block needs `{name}`");
            diagnostics.push(Diagnostic::error("missing-argument", block.header, title));
        }
    }
    let (Some(content), Some(for_each)) = (content, for_each) else { return Vec::new() };
    let has_label = labelled.map(|labelled| labelled.contains(&kind.text.as_str()));
    if has_label.is_some_and(|has_label| !check_labels(block, &kind, has_label, diagnostics)) {
        return Vec::new();
    }
    let iterator = iterator_name(block, &kind, diagnostics);
    let collection = Overlay { values, bindings }.evaluate(&for_each.value, diagnostics);
    let Some(elements) = elements(&collection, &for_each.value, diagnostics) else { return Vec::new() };
    let label_expression = block.body.attribute("labels").map(|attribute| &attribute.value);
    elements
        .into_iter()
        .map(|(key, value)| {
            let bindings = bindings.with_iterator(iterator.as_str(), Value::object([("key", key), ("value", value)]));
            let labels = label_expression.map_or_else(Vec::new, |expression| {
                labels_of(expression, &Overlay { values, bindings: &bindings }, diagnostics)
            });
            ExpandedBlock { kind: kind.clone(), labels, header: block.header, body: &content.body, bindings }
        })
        .collect()
}

/// Whether `labels` fits the type of the blocks to make; told also where `for_each` is empty and makes none.
fn check_labels(block: &Block, kind: &Name, has_label: bool, diagnostics: &mut Diagnostics) -> bool {
    let attribute = block.body.attribute("labels");
    let written = match attribute.map(|attribute| &attribute.value.kind) {
        None => 0,
        Some(ExpressionKind::Tuple(elements)) => elements.len(),
        Some(_) => return true,
    };
    let diagnostic = match (attribute, has_label) {
        (None, true) => {
            let title = format!("a `dynamic` block that makes `{}` blocks needs `labels`", kind.text);
            let label = if kind.text == "source" { "\"source.TYPE.NAME\"" } else { "\"TYPE\"" };
            Diagnostic::error("missing-argument", block.header, title).help(format!("write `labels = [{label}]`"))
        }
        (Some(attribute), true) if written != 1 => {
            let title = format!("a `{}` block has one label, and this makes {written}", kind.text);
            Diagnostic::error("extra-label", attribute.value.span, title)
        }
        (Some(attribute), false) if written > 0 => {
            let title = format!("a `{}` block has no label", kind.text);
            Diagnostic::error("extra-label", attribute.value.span, title).help("remove `labels`")
        }
        _ => return true,
    };
    diagnostics.push(diagnostic);
    false
}

/// `iterator = name`, a bare name; by default the type of the blocks.
fn iterator_name(block: &Block, kind: &Name, diagnostics: &mut Diagnostics) -> String {
    let Some(attribute) = block.body.attribute("iterator") else { return kind.text.clone() };
    if let ExpressionKind::Variable(name) = &attribute.value.kind {
        return name.clone();
    }
    let span = attribute.value.span;
    let diagnostic = Diagnostic::error("wrong-type", span, "`iterator` must be a bare name");
    match &attribute.value.kind {
        ExpressionKind::String(name) if is_identifier(name) => {
            diagnostics.push(diagnostic.fix(span, name.as_str(), "write it without quotes"));
            name.clone()
        }
        _ => {
            diagnostics.push(diagnostic);
            kind.text.clone()
        }
    }
}

/// Key and value of each element; one unknown pair for an unknown collection; `None` with an error told.
fn elements(collection: &Value, expression: &Expression, diagnostics: &mut Diagnostics) -> Option<Vec<(Value, Value)>> {
    let mark = collection.sensitive;
    let pairs = match &collection.data {
        Data::Unknown(_) => vec![(Value::unknown(Type::Any), Value::unknown(Type::Any))],
        Data::List(_, elements) | Data::Tuple(elements) => {
            elements.iter().enumerate().map(|(index, value)| (Value::number(index as u64), value.clone())).collect()
        }
        Data::Set(_, elements) => elements.iter().map(|value| (value.clone(), value.clone())).collect(),
        Data::Map(_, entries) | Data::Object(entries) => {
            entries.iter().map(|(key, value)| (Value::string(key.as_str()), value.clone())).collect()
        }
        _ => {
            let found = if collection.is_null() { "null".to_owned() } else { collection.type_of().friendly() };
            let title = format!("`for_each` must be a list, set or map, and this is {found}");
            diagnostics.push(Diagnostic::error("wrong-type", expression.span, title));
            return None;
        }
    };
    Some(pairs.into_iter().map(|(key, value): (Value, Value)| (key.marked(mark), value.marked(mark))).collect())
}

fn labels_of(expression: &Expression, scope: &Overlay<'_>, diagnostics: &mut Diagnostics) -> Vec<Name> {
    let value = scope.evaluate(expression, diagnostics);
    let texts: Option<Vec<Name>> = value.as_elements().map(|elements| {
        let texts = elements.iter().filter_map(Value::to_text);
        texts.map(|text| Name { text, span: expression.span }).collect()
    });
    match texts {
        Some(names) if Some(names.len()) == value.as_elements().map(<[Value]>::len) => names,
        _ => {
            diagnostics.push(Diagnostic::error("wrong-type", expression.span, "`labels` must be a list of strings"));
            Vec::new()
        }
    }
}
