//! Evaluates nodes of the graph in order; reads data sources side by side.

use std::collections::{BTreeMap, BTreeSet};

use kiln_core::{Diagnostic, Diagnostics, Failure, Severity};
use kiln_language::evaluate::{Scope as Names, evaluate, references};
use kiln_language::value::{Type, Value};

use super::artifacts;
use super::data::{DataDeclaration, Prepared};
use super::deferred::Known;
use super::graph::{Graph, Keep, Late, Node, NodeKind, View};
use super::locals::report_build_names;
use super::order::Order;
use super::readings::{Outcome, Readings};
use super::scope::Bound;

/// How many data sources are read at one time.
const MOST_READINGS: usize = 16;

/// One evaluation of a part of the graph.
pub(crate) struct Run<'a> {
    pub(crate) late: &'a Late,
    pub(crate) order: &'a Order,
    /// Whether data sources are read; else they are checked alone.
    pub(crate) is_needed: bool,
    /// What builds left; without, `artifact` is unknown.
    pub(crate) known: Option<Known<'a>>,
}

/// What waits for what.
struct Schedule {
    /// How many nodes each position still waits for.
    missing: Vec<usize>,
    /// Who waits for each position.
    waiting: Vec<Vec<usize>>,
    /// Who waits for nothing, in order.
    ready: BTreeSet<usize>,
}

impl Schedule {
    fn new(graph: &Graph, order: &Order) -> Schedule {
        let positions: BTreeMap<usize, usize> =
            order.nodes.iter().enumerate().map(|(position, node)| (*node, position)).collect();
        let mut missing = vec![0; order.nodes.len()];
        let mut waiting = vec![Vec::new(); order.nodes.len()];
        for (position, node) in order.nodes.iter().enumerate() {
            // Members of a circle would wait for each other.
            if order.in_circle.contains(node) {
                continue;
            }
            for target in graph.edges[*node].iter().filter_map(|(target, _)| positions.get(target)) {
                missing[position] += 1;
                waiting[*target].push(position);
            }
        }
        let ready = (0..missing.len()).filter(|position| missing[*position] == 0).collect();
        Schedule { missing, waiting, ready }
    }

    fn done(&mut self, position: usize) {
        for waiting in std::mem::take(&mut self.waiting[position]) {
            self.missing[waiting] -= 1;
            if self.missing[waiting] == 0 {
                self.ready.insert(waiting);
            }
        }
    }
}

impl Run<'_> {
    /// Gives every node of the order a value.
    pub(crate) fn run(&self, state: &mut dyn Keep) {
        let graph = &self.late.graph;
        let mut schedule = Schedule::new(graph, self.order);
        let reader = self.late.worlds.first().and_then(|world| world.options.reader.as_deref());
        let mut readings = Readings::new(reader.filter(|_| self.is_needed));
        loop {
            while readings.len() < MOST_READINGS
                && let Some(position) = schedule.ready.pop_first()
            {
                let index = self.order.nodes[position];
                let node = &graph.nodes[index];
                let told = state.diagnostics().items.len();
                let is_in_circle = self.order.in_circle.contains(&index);
                let value = match &node.kind {
                    _ if is_in_circle => Some(self.of_circle(node, state)),
                    NodeKind::Data(data) if graph.is_deferred(index) => {
                        state.diagnostics().push(needs_builds(data));
                        Some(Value::unknown(Type::Any))
                    }
                    NodeKind::Data(data) => self.start(node.scope, data, position, &mut readings, state),
                    _ => Some(self.value(node, state)),
                };
                let is_wrong = state.diagnostics().items.iter().skip(told).any(Diagnostic::is_error);
                if is_in_circle || is_wrong || graph.edges[index].iter().any(|(to, _)| state.has_failed(*to)) {
                    state.fail(index);
                }
                if let Some(value) = value {
                    state.keep(index, graph, value);
                    schedule.done(position);
                }
            }
            let Some((position, prepared, answer)) = readings.next() else { return };
            let index = self.order.nodes[position];
            let value = answered(graph, &graph.nodes[index], &prepared, answer, state.diagnostics());
            state.keep(index, graph, value);
            schedule.done(position);
        }
    }

    /// The value of what is no data source.
    fn value(&self, node: &Node, state: &mut dyn Keep) -> Value {
        let graph = &self.late.graph;
        let scope = graph.scope_of_references(node);
        let (base, roots) = (&self.late.bases[scope], state.roots(scope));
        let view = View { values: base, roots: &roots };
        let bindings = graph.scopes[node.scope].bindings.with_iterator(artifacts::ROOT, self.artifacts(scope));
        let bound = Bound { bindings: &bindings, below: &view };
        match &node.kind {
            NodeKind::Local(local) => local.evaluate(&view, &base.functions, state.diagnostics()),
            NodeKind::Output(output) => output.evaluate(&bound, &base.functions, state.diagnostics()),
            NodeKind::Variable(position, argument) => {
                let module = &graph.scopes[node.scope];
                let given = argument.as_deref().map(|argument| {
                    let found = references(argument);
                    let value = match report_build_names(&found, "an argument of a module", state.diagnostics()) {
                        true => Value::unknown(Type::Any),
                        false => {
                            let outside = Names { variables: &bound, functions: &base.functions };
                            evaluate(argument, &outside, state.diagnostics())
                        }
                    };
                    (value, argument.span)
                });
                let declaration = &module.declarations.variables[*position];
                let inside = &self.late.bases[node.scope].functions;
                declaration.of_argument(given, inside, &self.late.worlds[node.scope].sources, state.diagnostics())
            }
            NodeKind::Data(_) => Value::unknown(Type::Any),
        }
    }

    /// `artifact` as a scope knows it.
    fn artifacts(&self, scope: usize) -> Value {
        match self.known {
            Some(known) => known.names[scope].value(known.artifacts, known.wanted),
            None => Value::unknown(Type::Any),
        }
    }

    fn of_circle(&self, node: &Node, state: &mut dyn Keep) -> Value {
        let is_sensitive = match &node.kind {
            NodeKind::Local(local) => local.is_sensitive(&self.late.bases[node.scope].functions, state.diagnostics()),
            _ => false,
        };
        Value::unknown(Type::Any).marked(is_sensitive)
    }

    /// The value where it can be told at once; else a reading is under way.
    fn start(
        &self,
        scope: usize,
        data: &DataDeclaration,
        position: usize,
        readings: &mut Readings<'_>,
        state: &mut dyn Keep,
    ) -> Option<Value> {
        let roots = state.roots(scope);
        let values = self.late.bases[scope].with_late(&roots, &data.references());
        let prepared = match data.prepare(&values, &self.late.worlds[scope], state.diagnostics()) {
            Ok(prepared) => prepared,
            Err(value) => return Some(value),
        };
        let Some(source) = prepared.source.clone() else { return Some(prepared.unknown()) };
        if let Some(outputs) = source.known() {
            return Some(prepared.value(&outputs));
        }
        match readings.start(position, self.late.graph.scopes[scope].qualified(&data.label()), source, prepared) {
            Ok(()) => None,
            Err(unread) => Some(unread.unknown()),
        }
    }
}

fn needs_builds(data: &DataDeclaration) -> Diagnostic {
    let title =
        format!("`{}` depends on what a build leaves, and data sources are read before anything runs", data.label());
    Diagnostic::error("deferred-data", data.header, title).help("read it in a step of the build instead")
}

/// The value of a data source after its reading.
fn answered(graph: &Graph, node: &Node, prepared: &Prepared, answer: Outcome, diagnostics: &mut Diagnostics) -> Value {
    match (&node.kind, answer) {
        (_, Some(Ok(outputs))) => prepared.value(&outputs),
        (NodeKind::Data(data), Some(Err(failure))) => {
            diagnostics.push(failed(data, &failure));
            prepared.unknown()
        }
        _ => {
            let title = format!("reading `{}` came to nothing", graph.label(node));
            diagnostics.push(Diagnostic::new(Severity::Error, "data-source-failed", None, title));
            prepared.unknown()
        }
    }
}

fn failed(data: &DataDeclaration, failure: &Failure) -> Diagnostic {
    let title = format!("`{}` cannot be read: {}", data.label(), failure.chain());
    let diagnostic = Diagnostic::error("data-source-failed", data.header, title);
    failure.hints.iter().fold(diagnostic, |diagnostic, hint| diagnostic.help(hint.as_str()))
}
