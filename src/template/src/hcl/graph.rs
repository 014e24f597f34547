//! Locals and data sources as one graph: each is evaluated when something needs it, after all that it refers to; data
//! sources that do not need each other are read side by side.
//!
//! ```text
//!   an expression of a build ──ensure──► order (or a circle, told) ──► evaluate, read ──► values
//!   bodies of its components ──note────┘ (later, all at once)
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use kiln_core::plan::VariableSummary;
use kiln_core::{Diagnostic, Diagnostics, Span};
use kiln_language::evaluate::{Reference, Variables};
use kiln_language::print;
use kiln_language::syntax::Name;
use kiln_language::value::{Type, Value};

use super::data::{DataDeclaration, DataWorld};
use super::locals::LocalDeclaration;
use super::order::{Edge, Order};
use super::run::Run;
use super::scope::Values;
use super::variables::collect_secrets;

/// `local` and `data`: objects that grow while the graph is evaluated.
pub(crate) type Roots = BTreeMap<String, Value>;

/// A node of the graph.
#[derive(Debug)]
pub(crate) enum Node {
    /// A local.
    Local(Box<LocalDeclaration>),
    /// A data source.
    Data(Box<DataDeclaration>),
}

impl Node {
    /// Its name in expressions.
    pub(crate) fn label(&self) -> String {
        match self {
            Node::Local(local) => format!("local.{}", local.name.text),
            Node::Data(data) => data.label(),
        }
    }

    fn references(&self) -> Vec<Reference> {
        match self {
            Node::Local(local) => local.references(),
            Node::Data(data) => data.references(),
        }
    }
}

/// The nodes, and which refers to which.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    pub(crate) nodes: Vec<Node>,
    /// For each node, the nodes it refers to, each once, with the place of the first reference.
    pub(crate) edges: Vec<Vec<Edge>>,
    by_label: BTreeMap<String, usize>,
}

impl Graph {
    /// Of declarations; of those with one name the first counts.
    pub(crate) fn new(locals: &[LocalDeclaration], data: &[DataDeclaration]) -> Graph {
        let mut graph = Graph::default();
        let locals = locals.iter().map(|local| Node::Local(Box::new(local.clone())));
        for node in locals.chain(data.iter().map(|data| Node::Data(Box::new(data.clone())))) {
            let index = graph.nodes.len();
            if let std::collections::btree_map::Entry::Vacant(entry) = graph.by_label.entry(node.label()) {
                entry.insert(index);
                graph.nodes.push(node);
            }
        }
        let edges = graph.nodes.iter().enumerate().map(|(index, node)| graph.edges_of(index, node));
        graph.edges = edges.collect();
        graph
    }

    fn edges_of(&self, index: usize, node: &Node) -> Vec<Edge> {
        let mut seen = BTreeSet::new();
        let mut edges = Vec::new();
        for reference in node.references() {
            let is_whole = reference.path.len() < depth_of(&reference.root).unwrap_or_default();
            // `local` as a whole means all others.
            let targets = self.targets(&reference).into_iter().filter(|target| !(is_whole && *target == index));
            edges.extend(targets.filter(|target| seen.insert(*target)).map(|target| (target, reference.span)));
        }
        edges
    }

    /// The nodes a reference means: one, or for `local`, `data` and `data.TYPE` as a whole all of them.
    fn targets(&self, reference: &Reference) -> Vec<usize> {
        let Some(depth) = depth_of(&reference.root) else { return Vec::new() };
        let path: String = reference.path.iter().take(depth).map(|name| format!(".{}", name.text)).collect();
        let label = format!("{}{path}", reference.root);
        if reference.path.len() >= depth {
            return self.by_label.get(&label).copied().into_iter().collect();
        }
        let prefix = format!("{label}.");
        let fitting = self.by_label.range(prefix.clone()..).take_while(|(label, _)| label.starts_with(&prefix));
        fitting.map(|(_, index)| *index).collect()
    }

    /// Tells a reference to a data source that is not declared, with the nearest that is. Returns its type and name.
    fn report_undeclared<'r>(
        &self,
        reference: &'r Reference,
        diagnostics: &mut Diagnostics,
    ) -> Option<(&'r Name, &'r Name)> {
        let [kind, name, ..] = reference.path.as_slice() else { return None };
        if reference.root != "data" || self.by_label.contains_key(&format!("data.{}.{}", kind.text, name.text)) {
            return None;
        }
        let names: Vec<&str> = self.by_label.keys().filter_map(|label| label.strip_prefix("data.")).collect();
        let written = format!("{}.{}", kind.text, name.text);
        let span = kind.span.to(name.span);
        let diagnostic =
            Diagnostic::error("unknown-data-source", span, format!("the data source `{written}` is not declared"));
        let diagnostic = diagnostic.did_you_mean(span, &written, names);
        diagnostics.push(if diagnostic.fix.is_some() || diagnostic.help.is_some() {
            diagnostic
        } else {
            diagnostic.help(format!("declare it: `data \"{}\" \"{}\" {{ ... }}`", kind.text, name.text))
        });
        Some((kind, name))
    }
}

/// How many names below a root make the name of one node.
fn depth_of(root: &str) -> Option<usize> {
    match root {
        "local" => Some(1),
        "data" => Some(2),
        _ => None,
    }
}

/// Locals and data sources while they are evaluated, and their values once all are.
pub(crate) struct Late {
    graph: Graph,
    world: DataWorld,
    state: Mutex<State>,
    settled: OnceLock<Roots>,
}

impl std::fmt::Debug for Late {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Late").field("graph", &self.graph).finish_non_exhaustive()
    }
}

struct State {
    is_done: Vec<bool>,
    /// What has no value for a mistake in it or in what it refers to.
    failed: BTreeSet<usize>,
    /// What will be needed.
    noted: BTreeSet<usize>,
    roots: Arc<Roots>,
    gains: Settled,
}

/// What evaluating everything gave, beside the values.
#[derive(Default)]
pub(crate) struct Settled {
    /// Locals for `inspect`, by name; without those that failed, as in Packer.
    pub(crate) locals: Vec<VariableSummary>,
    /// Texts of sensitive values.
    pub(crate) secrets: Vec<String>,
    /// Mistakes.
    pub(crate) diagnostics: Diagnostics,
}

impl Late {
    /// Nothing is evaluated yet.
    pub(crate) fn new(graph: Graph, world: DataWorld) -> Late {
        let empty = || Value::object(Vec::<(String, Value)>::new());
        let mut roots = Roots::from([("local".to_owned(), empty())]);
        if graph.nodes.iter().any(|node| matches!(node, Node::Data(_))) {
            roots.insert("data".to_owned(), empty());
        }
        let state = State {
            is_done: vec![false; graph.nodes.len()],
            failed: BTreeSet::new(),
            noted: BTreeSet::new(),
            roots: Arc::new(roots),
            gains: Settled::default(),
        };
        Late { graph, world, state: Mutex::new(state), settled: OnceLock::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The values, once all are there.
    pub(crate) fn settled(&self) -> Option<&Roots> {
        self.settled.get()
    }

    /// Notes what will be needed; it is evaluated by the next call of another method.
    pub(crate) fn note(&self, references: &[Reference]) {
        let targets: Vec<usize> = references.iter().flat_map(|reference| self.graph.targets(reference)).collect();
        let mut state = self.state();
        state.noted.extend(targets);
        self.report_undeclared(references, &mut state);
    }

    /// The values as far as `references` need them.
    pub(crate) fn ensure(&self, references: &[Reference], values: &Values) -> Arc<Roots> {
        let mut state = self.state();
        let targets: Vec<usize> = references.iter().flat_map(|reference| self.graph.targets(reference)).collect();
        self.evaluate(targets, true, values, &mut state);
        self.report_undeclared(references, &mut state);
        Arc::clone(&state.roots)
    }

    /// Evaluates what was noted, and with `all` the rest too, for its mistakes: data sources that nothing needs are
    /// checked, not read. What stays out is unknown. After this, nothing changes.
    pub(crate) fn settle(&self, all: bool, values: &Values) -> Settled {
        let mut state = self.state();
        let noted: Vec<usize> = std::mem::take(&mut state.noted).into_iter().collect();
        self.evaluate(noted, true, values, &mut state);
        let rest: Vec<usize> = (0..self.graph.nodes.len()).collect();
        if all {
            self.evaluate(rest, false, values, &mut state);
        } else {
            for index in rest {
                if !state.is_done[index] {
                    state.keep(index, &self.graph.nodes[index], Value::unknown(Type::Any));
                }
            }
        }
        let _ = self.settled.set((*state.roots).clone());
        let mut gains = std::mem::take(&mut state.gains);
        gains.locals.sort_by(|left, right| left.name.cmp(&right.name));
        gains
    }

    /// Evaluates nodes, and all they refer to, as far as that was not done before.
    fn evaluate(&self, targets: Vec<usize>, is_needed: bool, values: &Values, state: &mut State) {
        let targets: Vec<usize> = targets.into_iter().filter(|target| !state.is_done[*target]).collect();
        if targets.is_empty() {
            return;
        }
        let order = Order::of(&self.graph, &targets, &state.is_done, &mut state.gains.diagnostics);
        for index in &order.nodes {
            state.is_done[*index] = true;
            let references = self.graph.nodes[*index].references();
            self.report_undeclared(&references, state);
        }
        Run { graph: &self.graph, world: &self.world, values, order: &order, is_needed }.run(state);
    }

    /// What is not declared is unknown, so that it is told once.
    fn report_undeclared(&self, references: &[Reference], state: &mut State) {
        for reference in references {
            if let Some((kind, name)) = self.graph.report_undeclared(reference, &mut state.gains.diagnostics) {
                set_in(Arc::make_mut(&mut state.roots), &["data", &kind.text], &name.text, Value::unknown(Type::Any));
            }
        }
    }
}

/// Where the values of nodes go as they become known.
pub(crate) trait Keep {
    /// The values so far.
    fn roots(&self) -> Arc<Roots>;
    /// The mistakes so far.
    fn diagnostics(&mut self) -> &mut Diagnostics;
    /// A node has its value.
    fn keep(&mut self, index: usize, node: &Node, value: Value);
    /// A node is wrong: its value is not shown.
    fn fail(&mut self, index: usize);
    /// Whether a node is wrong.
    fn has_failed(&self, index: usize) -> bool;
}

impl Keep for State {
    fn roots(&self) -> Arc<Roots> {
        Arc::clone(&self.roots)
    }

    fn diagnostics(&mut self) -> &mut Diagnostics {
        &mut self.gains.diagnostics
    }

    fn fail(&mut self, index: usize) {
        self.failed.insert(index);
    }

    fn has_failed(&self, index: usize) -> bool {
        self.failed.contains(&index)
    }

    fn keep(&mut self, index: usize, node: &Node, value: Value) {
        collect_secrets(&value, false, &mut self.gains.secrets);
        let roots = Arc::make_mut(&mut self.roots);
        match node {
            Node::Local(local) => {
                if !self.failed.contains(&index) {
                    self.gains.locals.push(VariableSummary {
                        name: local.name.text.clone(),
                        value: print::written(&value),
                        shown: print::to_hcl(&value),
                        description: None,
                        sensitive: value.sensitive,
                        required: false,
                        unset: false,
                    });
                }
                set_in(roots, &["local"], &local.name.text, value);
            }
            Node::Data(data) => set_in(roots, &["data", &data.kind.text], &data.name.text, value),
        }
    }
}

/// Gives `path.name` its value; objects on the way are made.
pub(crate) fn set_in(roots: &mut Roots, path: &[&str], name: &str, value: Value) {
    use kiln_language::value::Data;
    let Some((root, inner)) = path.split_first() else { return };
    let empty = || Value::object(Vec::<(String, Value)>::new());
    let mut place = roots.entry((*root).to_owned()).or_insert_with(empty);
    for step in inner {
        let Data::Object(entries) = &mut place.data else { return };
        place = entries.entry((*step).to_owned()).or_insert_with(empty);
    }
    if let Data::Object(entries) = &mut place.data {
        entries.insert(name.to_owned(), value);
    }
}

/// A template's values, with `local` and `data` as far as they are known.
pub(crate) struct View<'a> {
    pub(crate) values: &'a Values,
    pub(crate) roots: &'a Roots,
}

impl Variables for View<'_> {
    fn root(&self, name: &str) -> Option<&Value> {
        self.roots.get(name).or_else(|| self.values.root(name))
    }

    fn root_names(&self) -> Vec<&str> {
        self.values.root_names()
    }

    fn found_out(&self, root: &str, name: &Name) -> Option<Result<&Value, Box<Diagnostic>>> {
        self.values.found_out(root, name)
    }

    fn missing_root(&self, name: &str, span: Span) -> Option<Diagnostic> {
        self.values.missing_root(name, span)
    }

    fn missing_attribute(&self, root: &str, name: &Name) -> Option<Diagnostic> {
        self.values.missing_attribute(root, name)
    }
}
