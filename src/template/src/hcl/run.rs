//! Evaluates nodes of the graph in order; reads data sources side by side.

use std::collections::{BTreeMap, BTreeSet};

use kiln_core::{Diagnostic, Diagnostics, Failure, Severity};
use kiln_language::value::{Type, Value};

use super::data::{DataDeclaration, DataWorld, Prepared};
use super::graph::{Graph, Keep, Node, View};
use super::order::Order;
use super::readings::{Outcome, Readings};
use super::scope::Values;

/// How many data sources are read at one time.
const MOST_READINGS: usize = 16;

/// One evaluation of a part of the graph.
pub(crate) struct Run<'a> {
    pub(crate) graph: &'a Graph,
    pub(crate) world: &'a DataWorld,
    pub(crate) values: &'a Values,
    pub(crate) order: &'a Order,
    /// Whether data sources are read; else they are checked alone.
    pub(crate) is_needed: bool,
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
        let mut schedule = Schedule::new(self.graph, self.order);
        let mut readings = Readings::new(self.world.options.reader.as_deref().filter(|_| self.is_needed));
        loop {
            while readings.len() < MOST_READINGS
                && let Some(position) = schedule.ready.pop_first()
            {
                let index = self.order.nodes[position];
                let node = &self.graph.nodes[index];
                let told = state.diagnostics().items.len();
                let is_in_circle = self.order.in_circle.contains(&index);
                let value = if is_in_circle {
                    Some(self.of_circle(node, state))
                } else {
                    match node {
                        Node::Local(local) => {
                            let roots = state.roots();
                            let view = View { values: self.values, roots: &roots };
                            Some(local.evaluate(&view, &self.values.functions, state.diagnostics()))
                        }
                        Node::Data(data) => self.start(data, position, &mut readings, state),
                    }
                };
                let is_wrong = state.diagnostics().items.iter().skip(told).any(Diagnostic::is_error);
                if is_in_circle || is_wrong || self.graph.edges[index].iter().any(|(to, _)| state.has_failed(*to)) {
                    state.fail(index);
                }
                if let Some(value) = value {
                    state.keep(index, node, value);
                    schedule.done(position);
                }
            }
            let Some((position, prepared, answer)) = readings.next() else { return };
            let index = self.order.nodes[position];
            let node = &self.graph.nodes[index];
            let value = answered(node, &prepared, answer, state.diagnostics());
            state.keep(index, node, value);
            schedule.done(position);
        }
    }

    fn of_circle(&self, node: &Node, state: &mut dyn Keep) -> Value {
        let is_sensitive = match node {
            Node::Local(local) => local.is_sensitive(&self.values.functions, state.diagnostics()),
            Node::Data(_) => false,
        };
        Value::unknown(Type::Any).marked(is_sensitive)
    }

    /// The value where it can be told at once; else a reading is under way.
    fn start(
        &self,
        data: &DataDeclaration,
        position: usize,
        readings: &mut Readings<'_>,
        state: &mut dyn Keep,
    ) -> Option<Value> {
        let roots = state.roots();
        let values = self.values.with_late(&roots, &data.references());
        let prepared = match data.prepare(&values, self.world, state.diagnostics()) {
            Ok(prepared) => prepared,
            Err(value) => return Some(value),
        };
        let Some(source) = prepared.source.clone() else { return Some(prepared.unknown()) };
        if let Some(outputs) = source.known() {
            return Some(prepared.value(&outputs));
        }
        match readings.start(position, data.label(), source, prepared) {
            Ok(()) => None,
            Err(unread) => Some(unread.unknown()),
        }
    }
}

/// The value of a data source after its reading.
fn answered(node: &Node, prepared: &Prepared, answer: Outcome, diagnostics: &mut Diagnostics) -> Value {
    match (node, answer) {
        (_, Some(Ok(outputs))) => prepared.value(&outputs),
        (Node::Data(data), Some(Err(failure))) => {
            diagnostics.push(failed(data, &failure));
            prepared.unknown()
        }
        _ => {
            let title = format!("reading `{}` came to nothing", node.label());
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
