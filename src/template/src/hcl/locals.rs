//! Locals and data sources: one graph, evaluated in the order of their references.

use std::collections::BTreeMap;

use kiln_core::plan::VariableSummary;
use kiln_core::{Diagnostic, Diagnostics, Span};
use kiln_language::evaluate::{Reference, evaluate, references};
use kiln_language::print;
use kiln_language::syntax::{Block, Expression, Name};
use kiln_language::value::{Type, Value};

use super::blocks::{check_items, labels};
use super::data::DataDeclaration;
use super::scope::{Values, constant_bool};
use super::variables::collect_secrets;

/// A line of a `locals` block, or a `local` block.
#[derive(Debug)]
pub(crate) struct LocalDeclaration {
    pub(crate) name: Name,
    value: Expression,
    sensitive: Option<Expression>,
}

impl LocalDeclaration {
    /// Reads a `local` block.
    pub(crate) fn read(block: Block, diagnostics: &mut Diagnostics) -> Option<LocalDeclaration> {
        let [name] = labels(&block, ["its name"], diagnostics)?;
        check_items(&block.body, "a `local` block", &["expression", "sensitive"], &[], diagnostics);
        let attribute = |name: &str| block.body.attribute(name).map(|attribute| attribute.value.clone());
        let Some(value) = attribute("expression") else {
            let title = "a `local` block needs `expression`";
            diagnostics.push(Diagnostic::error("missing-argument", block.header, title));
            return None;
        };
        Some(LocalDeclaration { name, value, sensitive: attribute("sensitive") })
    }

    /// Reads a `locals` block.
    pub(crate) fn read_short(block: Block, diagnostics: &mut Diagnostics) -> Vec<LocalDeclaration> {
        if labels(&block, [], diagnostics).is_none() {
            return Vec::new();
        }
        for inner in block.body.blocks() {
            let kind = &inner.kind.text;
            diagnostics.push(
                Diagnostic::error("unknown-block", inner.kind.span, "a `locals` block takes `name = value` lines only")
                    .help(format!("for a map write `{kind} = {{ ... }}`, with `=`")),
            );
        }
        let attributes = block.body.attributes();
        attributes
            .map(|attribute| LocalDeclaration {
                name: attribute.name.clone(),
                value: attribute.value.clone(),
                sensitive: None,
            })
            .collect()
    }
}

/// A node of the graph.
#[derive(Clone, Copy)]
enum Node<'a> {
    Local(&'a LocalDeclaration),
    Data(&'a DataDeclaration),
}

impl Node<'_> {
    fn label(&self) -> String {
        match self {
            Node::Local(local) => format!("local.{}", local.name.text),
            Node::Data(data) => format!("data.{}.{}", data.kind.text, data.name.text),
        }
    }

    fn place(&self) -> Span {
        match self {
            Node::Local(local) => local.name.span,
            Node::Data(data) => data.header,
        }
    }

    fn references(&self) -> Vec<Reference> {
        match self {
            Node::Local(local) => references(&local.value),
            Node::Data(data) => data.body.attributes().flat_map(|attribute| references(&attribute.value)).collect(),
        }
    }
}

/// Evaluates all locals and data sources into `values`. Returns the locals for `inspect`, by name, and adds sensitive
/// texts to `secrets`.
pub(crate) fn resolve(
    locals: &[LocalDeclaration],
    data: &[DataDeclaration],
    values: &mut Values,
    secrets: &mut Vec<String>,
    diagnostics: &mut Diagnostics,
) -> Vec<VariableSummary> {
    let mut nodes: BTreeMap<String, Node<'_>> = BTreeMap::new();
    for node in locals.iter().map(Node::Local).chain(data.iter().map(Node::Data)) {
        nodes.entry(node.label()).or_insert(node);
    }
    for local in locals {
        values.declare("local", &local.name);
    }
    let mut walk = Walk { nodes: &nodes, done: BTreeMap::new(), stack: Vec::new(), order: Vec::new(), diagnostics };
    for label in nodes.keys() {
        walk.visit(label, None);
    }
    let Walk { order, done, .. } = walk;
    let mut summaries = Vec::new();
    for label in order {
        let Some(node) = nodes.get(&label) else { continue };
        let in_cycle = done.get(&label) == Some(&State::InCycle);
        match node {
            Node::Local(local) => {
                let value = if in_cycle { Value::unknown(Type::Any) } else { local_value(local, values, diagnostics) };
                collect_secrets(&value, false, secrets);
                summaries.push(VariableSummary {
                    name: local.name.text.clone(),
                    value: print::written(&value),
                    shown: print::to_hcl(&value),
                    description: None,
                    sensitive: value.sensitive,
                    required: false,
                    unset: false,
                });
                values.set("local", &local.name.text, value);
            }
            Node::Data(data) => {
                let value = if in_cycle { Value::unknown(Type::Any) } else { data_value(data, values, diagnostics) };
                values.set_in(&["data", &data.kind.text], &data.name.text, value);
            }
        }
    }
    summaries.sort_by(|left, right| left.name.cmp(&right.name));
    summaries
}

fn local_value(local: &LocalDeclaration, values: &Values, diagnostics: &mut Diagnostics) -> Value {
    let is_sensitive = local.sensitive.as_ref().is_some_and(|expression| {
        constant_bool(expression, &values.functions, "`sensitive` of a local", diagnostics).unwrap_or(true)
    });
    if report_build_names(&references(&local.value), "a local", diagnostics) {
        return Value::unknown(Type::Any).marked(is_sensitive);
    }
    evaluate(&local.value, &values.scope(), diagnostics).marked(is_sensitive)
}

fn data_value(data: &DataDeclaration, values: &Values, diagnostics: &mut Diagnostics) -> Value {
    if data.kind.text != "null" {
        return Value::unknown(Type::Any);
    }
    let input = match data.body.attribute("input") {
        Some(input) if report_build_names(&references(&input.value), "a data source", diagnostics) => {
            Value::unknown(Type::String)
        }
        Some(input) => evaluate(&input.value, &values.scope(), diagnostics),
        None => Value::null_of(Type::String),
    };
    Value::object([("input", input.clone()), ("output", input)])
}

/// Tells uses of `source` and `build`, which exist inside a build only; whether there are any.
fn report_build_names(found: &[Reference], place: &str, diagnostics: &mut Diagnostics) -> bool {
    let outside: Vec<&Reference> =
        found.iter().filter(|reference| matches!(reference.root.as_str(), "source" | "build")).collect();
    for reference in &outside {
        let title = format!("`{}` is known inside a `build` block only, not in {place}", reference.root);
        diagnostics.push(Diagnostic::error("build-value-outside", reference.span, title));
    }
    !outside.is_empty()
}

/// How many values may need each other in a row: a bound on the stack.
const MAXIMUM_CHAIN: usize = 500;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Done,
    InCycle,
}

/// A walk over the graph, depth first; `order` gets every node after those it refers to.
struct Walk<'a> {
    nodes: &'a BTreeMap<String, Node<'a>>,
    done: BTreeMap<String, State>,
    /// The nodes on the way, each with the reference that leads to it.
    stack: Vec<(String, Option<Span>)>,
    order: Vec<String>,
    diagnostics: &'a mut Diagnostics,
}

impl Walk<'_> {
    fn visit(&mut self, label: &str, by: Option<Span>) {
        match self.done.get(label) {
            Some(State::Done | State::InCycle) if self.stack.iter().all(|(open, _)| open != label) => return,
            Some(_) => return self.report_cycle(label, by),
            None => {}
        }
        let Some(node) = self.nodes.get(label).copied() else { return };
        if self.stack.len() >= MAXIMUM_CHAIN {
            let title = format!("values refer to each other over more than {MAXIMUM_CHAIN} steps");
            self.diagnostics.push(Diagnostic::error("too-deep", node.place(), title));
            self.done.insert(label.to_owned(), State::InCycle);
            self.order.push(label.to_owned());
            return;
        }
        self.done.insert(label.to_owned(), State::Open);
        self.stack.push((label.to_owned(), by));
        for reference in node.references() {
            for target in self.targets(&reference, label) {
                self.visit(&target, Some(reference.span));
            }
        }
        self.stack.pop();
        if self.done.get(label) == Some(&State::Open) {
            self.done.insert(label.to_owned(), State::Done);
        }
        self.order.push(label.to_owned());
    }

    /// The nodes a reference means: one, or for `local` and `data` as a whole all others.
    fn targets(&self, reference: &Reference, from: &str) -> Vec<String> {
        let needed = match reference.root.as_str() {
            "local" => 1,
            "data" => 2,
            _ => return Vec::new(),
        };
        if reference.path.len() < needed {
            let prefix = format!("{}.", reference.root);
            return self.nodes.keys().filter(|key| key.starts_with(&prefix) && *key != from).cloned().collect();
        }
        let path: String = reference.path[..needed].iter().map(|name| format!(".{}", name.text)).collect();
        vec![format!("{}{path}", reference.root)]
    }

    /// The nodes from `label` to the top of the stack refer to each other in a circle, closed by the reference at `by`.
    fn report_cycle(&mut self, label: &str, by: Option<Span>) {
        let Some(start) = self.stack.iter().position(|(open, _)| open == label) else { return };
        let members = &self.stack[start..];
        let mut names: Vec<&str> = members.iter().map(|(name, _)| name.as_str()).collect();
        for name in &names {
            self.done.insert((*name).to_owned(), State::InCycle);
        }
        // Each member's use of the next one: the reference that led to the next, the closing one for the last.
        let uses: Vec<Option<Span>> = members.iter().skip(1).map(|(_, by)| *by).chain([by]).collect();
        let first_place = self.nodes.get(label).map_or_else(|| by, |node| Some(node.place()));
        names.push(label);
        let title = match members.len() {
            1 => format!("`{label}` refers to itself"),
            _ => "these values refer to each other in a circle".to_owned(),
        };
        let place = uses.first().copied().flatten().or(first_place);
        let mut diagnostic = Diagnostic::new(kiln_core::Severity::Error, "cycle", place, title);
        if names.len() > 2 {
            diagnostic = diagnostic.label(format!("`{}` needs `{}`", names[0], names[1]));
            for (index, used) in uses.iter().enumerate().skip(1) {
                if let Some(span) = used {
                    diagnostic = diagnostic.also(*span, format!("`{}` needs `{}`", names[index], names[index + 1]));
                }
            }
            diagnostic = diagnostic.note(names.join(" -> "));
        }
        self.diagnostics.push(diagnostic);
    }
}
