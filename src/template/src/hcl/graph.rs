//! Locals, data sources, and the variables and outputs of modules as one graph over a template and all its modules: each is
//! evaluated when something needs it, after all that it refers to; data sources that do not need each other are read side by
//! side. What depends on an artifact is unknown at first, and evaluated again for those that need it: see [`super::deferred`].
//!
//! ```text
//!   an expression of a build ──ensure──► order (or a circle, told) ──► evaluate, read ──► values
//!   bodies of its components ──note────┘ (later, all at once)
//! ```

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use kiln_core::plan::VariableSummary;
use kiln_core::{Diagnostic, Diagnostics, Span};
use kiln_language::evaluate::{Reference, Variables, references};
use kiln_language::print;
use kiln_language::syntax::{Expression, Name};
use kiln_language::value::{Type, Value};

use super::artifacts;
use super::data::{DataDeclaration, DataWorld};
use super::locals::LocalDeclaration;
use super::modules::Scope;
use super::order::{Edge, Order};
use super::outputs::OutputDeclaration;
use super::run::Run;
use super::scope::Values;
use super::variables::collect_secrets;

/// `local` and `data`: objects that grow while the graph is evaluated.
pub(crate) type Roots = BTreeMap<String, Value>;

/// What a node stands for.
#[derive(Debug)]
pub(crate) enum NodeKind {
    /// A local.
    Local(Box<LocalDeclaration>),
    /// A data source.
    Data(Box<DataDeclaration>),
    /// A variable of a module: which of the declared ones, and the argument that sets it, where there is one.
    Variable(usize, Option<Box<Expression>>),
    /// An output of a template.
    Output(Box<OutputDeclaration>),
}

/// A node of the graph.
#[derive(Debug)]
pub(crate) struct Node {
    /// The scope whose value it is.
    pub(crate) scope: usize,
    pub(crate) kind: NodeKind,
    /// Its name in its scope.
    name: String,
}

impl Node {
    fn references(&self) -> Vec<Reference> {
        match &self.kind {
            NodeKind::Local(local) => local.references(),
            NodeKind::Data(data) => data.references(),
            NodeKind::Variable(_, argument) => argument.as_deref().map(references).unwrap_or_default(),
            NodeKind::Output(output) => references(&output.value),
        }
    }
}

/// The nodes of all scopes, and which refers to which.
#[derive(Debug)]
pub(crate) struct Graph {
    pub(crate) scopes: Arc<[Scope]>,
    pub(crate) nodes: Vec<Node>,
    /// For each node, the nodes it refers to, each once, with the place of the first reference.
    pub(crate) edges: Vec<Vec<Edge>>,
    /// Those whose values depend on what builds leave, so that they are not known before the builds are done.
    deferred: BTreeSet<usize>,
    by_name: BTreeMap<(usize, String), usize>,
}

impl Graph {
    /// Of declarations; of those with one name the first counts.
    pub(crate) fn new(scopes: &Arc<[Scope]>) -> Graph {
        let mut graph = Graph {
            scopes: Arc::clone(scopes),
            nodes: Vec::new(),
            edges: Vec::new(),
            deferred: BTreeSet::new(),
            by_name: BTreeMap::new(),
        };
        for (index, scope) in scopes.iter().enumerate() {
            graph.add_scope(index, scope);
        }
        graph.edges = graph.nodes.iter().enumerate().map(|(index, node)| graph.edges_of(index, node)).collect();
        graph.deferred = graph.find_deferred();
        graph
    }

    fn add_scope(&mut self, index: usize, scope: &Scope) {
        let declarations = &scope.declarations;
        for local in &declarations.locals {
            self.add(index, format!("local.{}", local.name.text), NodeKind::Local(Box::new(local.clone())));
        }
        for data in &declarations.data {
            self.add(index, data.label(), NodeKind::Data(Box::new(data.clone())));
        }
        for output in declarations.outputs.values() {
            self.add(index, format!("output.{}", output.name.text), NodeKind::Output(Box::new(output.clone())));
        }
        // Those of the template itself have their values before all else.
        let variables = declarations.variables.iter().enumerate().filter(|_| scope.parent.is_some());
        for (position, variable) in variables {
            let argument = scope.argument(&variable.name.text).map(|argument| Box::new(argument.value.clone()));
            self.add(index, format!("var.{}", variable.name.text), NodeKind::Variable(position, argument));
        }
    }

    fn add(&mut self, scope: usize, name: String, kind: NodeKind) {
        if let Entry::Vacant(entry) = self.by_name.entry((scope, name.clone())) {
            entry.insert(self.nodes.len());
            self.nodes.push(Node { scope, kind, name });
        }
    }

    /// What a node is called in expressions, with the module that it is in.
    pub(crate) fn label(&self, node: &Node) -> String {
        let name = node.name.strip_prefix("output.").filter(|_| node.scope > 0).unwrap_or(&node.name);
        self.scopes[node.scope].qualified(name)
    }

    /// The scope that a node's references mean: an argument stands outside of its module.
    pub(crate) fn scope_of_references(&self, node: &Node) -> usize {
        match node.kind {
            NodeKind::Variable(..) => self.scopes[node.scope].parent.unwrap_or_default(),
            _ => node.scope,
        }
    }

    fn edges_of(&self, index: usize, node: &Node) -> Vec<Edge> {
        let scope = self.scope_of_references(node);
        let mut seen = BTreeSet::new();
        let mut edges = Vec::new();
        for reference in node.references() {
            let is_whole = reference.path.len() < depth_of(&reference.root).unwrap_or_default();
            // `local` as a whole means all others.
            let targets = self.targets(scope, &reference).into_iter().filter(|target| !(is_whole && *target == index));
            edges.extend(targets.filter(|target| seen.insert(*target)).map(|target| (target, reference.span)));
        }
        edges
    }

    /// The nodes that a reference means in a scope: one, or for `local`, `data`, `data.TYPE`, `module` and `module.NAME` as a
    /// whole all of them.
    fn targets(&self, scope: usize, reference: &Reference) -> Vec<usize> {
        let Some(depth) = depth_of(&reference.root) else { return Vec::new() };
        if reference.root == "module" {
            let child = reference.path.first().map(|name| name.text.as_str());
            let children = self.scopes.iter().enumerate();
            let children =
                children.filter(|(_, it)| it.parent == Some(scope) && child.is_none_or(|name| it.is_called(name)));
            let word = |index: usize| reference.path.get(index).map(|name| name.text.as_str());
            let targets = children.flat_map(|(index, it)| {
                // Of all elements together, keys come before outputs.
                let is_element = it.key.is_none() || child == Some(it.name.as_str());
                let is_meant = is_element || word(1).is_none_or(|key| it.key.as_deref() == Some(key));
                let output = word(if is_element { 1 } else { 2 }).map(|name| format!("output.{name}"));
                let found = if is_meant { self.named(index, output.as_deref(), "output.") } else { Vec::new() };
                found.into_iter()
            });
            return targets.collect();
        }
        let path: String = reference.path.iter().take(depth).map(|name| format!(".{}", name.text)).collect();
        let name = format!("{}{path}", reference.root);
        let is_whole = reference.path.len() < depth;
        self.named(scope, (!is_whole).then_some(&name), &format!("{name}."))
    }

    /// The node of a name, or those whose names begin so.
    fn named(&self, scope: usize, name: Option<&str>, prefix: &str) -> Vec<usize> {
        if let Some(name) = name {
            return self.by_name.get(&(scope, name.to_owned())).copied().into_iter().collect();
        }
        let after = self.by_name.range((scope, prefix.to_owned())..);
        after.take_while(|((of, name), _)| *of == scope && name.starts_with(prefix)).map(|(_, index)| *index).collect()
    }

    /// What mentions `artifact` where it may, and all that refers to it.
    fn find_deferred(&self) -> BTreeSet<usize> {
        let mut users: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (user, edges) in self.edges.iter().enumerate() {
            edges.iter().for_each(|(used, _)| users.entry(*used).or_default().push(user));
        }
        let mut found = BTreeSet::new();
        let mut waiting: Vec<usize> =
            (0..self.nodes.len()).filter(|index| !self.artifacts_of(*index).is_empty()).collect();
        while let Some(index) = waiting.pop() {
            if found.insert(index) {
                waiting.extend(users.get(&index).into_iter().flatten());
            }
        }
        found
    }

    /// The artifacts that a node mentions itself. (Locals and data sources must not.)
    fn artifacts_of(&self, index: usize) -> Vec<Reference> {
        match self.nodes[index].kind {
            NodeKind::Variable(..) | NodeKind::Output(_) => {
                let found = self.nodes[index].references().into_iter();
                found.filter(|reference| reference.root == artifacts::ROOT).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Whether a node's value depends on what builds leave.
    pub(crate) fn is_deferred(&self, index: usize) -> bool {
        self.deferred.contains(&index)
    }

    /// Tells a reference to a data source that is not declared, with the nearest that is. Returns its type and name.
    fn report_undeclared<'r>(
        &self,
        scope: usize,
        reference: &'r Reference,
        diagnostics: &mut Diagnostics,
    ) -> Option<(&'r Name, &'r Name)> {
        let [kind, name, ..] = reference.path.as_slice() else { return None };
        let full = format!("data.{}.{}", kind.text, name.text);
        if reference.root != "data" || self.by_name.contains_key(&(scope, full)) {
            return None;
        }
        let own = self.by_name.keys().filter(|(of, _)| *of == scope);
        let names: Vec<&str> = own.filter_map(|(_, name)| name.strip_prefix("data.")).collect();
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
        "local" | "var" => Some(1),
        "data" | "module" => Some(2),
        _ => None,
    }
}

/// The values of all scopes while they are evaluated, and once all are.
pub(crate) struct Late {
    pub(super) graph: Graph,
    /// Of each scope, what has its value before all this.
    pub(super) bases: Vec<Values>,
    pub(super) worlds: Vec<DataWorld>,
    state: Mutex<State>,
    pub(super) settled: OnceLock<Vec<Roots>>,
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
    /// Of each scope.
    roots: Vec<Arc<Roots>>,
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
    pub(crate) fn new(graph: Graph, bases: Vec<Values>, worlds: Vec<DataWorld>) -> Late {
        let state = State {
            is_done: vec![false; graph.nodes.len()],
            failed: BTreeSet::new(),
            noted: BTreeSet::new(),
            roots: (0..bases.len()).map(|scope| Arc::new(graph.empty_roots(scope))).collect(),
            gains: Settled::default(),
        };
        Late { graph, bases, worlds, state: Mutex::new(state), settled: OnceLock::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The values, once all are there.
    pub(crate) fn settled(&self, scope: usize) -> Option<&Roots> {
        self.settled.get()?.get(scope)
    }

    /// Notes what will be needed; it is evaluated by the next call of another method.
    pub(crate) fn note(&self, scope: usize, references: &[Reference]) {
        let mut state = self.state();
        state.noted.extend(self.graph.all_targets(scope, references));
        self.report_undeclared(scope, references, &mut state);
    }

    /// The values as far as `references` need them.
    pub(crate) fn ensure(&self, scope: usize, references: &[Reference]) -> Arc<Roots> {
        let mut state = self.state();
        self.evaluate(self.graph.all_targets(scope, references), true, &mut state);
        self.report_undeclared(scope, references, &mut state);
        Arc::clone(&state.roots[scope])
    }

    /// Evaluates what was noted, and with `all` the rest too, for its mistakes: data sources that nothing needs are
    /// checked, not read. What stays out is unknown. After this, nothing changes.
    pub(crate) fn settle(&self, all: bool) -> Settled {
        let mut state = self.state();
        let noted: Vec<usize> = std::mem::take(&mut state.noted).into_iter().collect();
        self.evaluate(noted, true, &mut state);
        let rest: Vec<usize> = (0..self.graph.nodes.len()).collect();
        if all {
            self.evaluate(rest, false, &mut state);
        } else {
            for index in rest {
                if !state.is_done[index] {
                    state.keep(index, &self.graph, Value::unknown(Type::Any));
                }
            }
        }
        let _ = self.settled.set(state.roots.iter().map(|roots| (**roots).clone()).collect());
        let mut gains = std::mem::take(&mut state.gains);
        gains.locals.sort_by(|left, right| left.name.cmp(&right.name));
        gains
    }

    /// Evaluates nodes, and all they refer to, as far as that was not done before.
    fn evaluate(&self, targets: Vec<usize>, is_needed: bool, state: &mut State) {
        let targets: Vec<usize> = targets.into_iter().filter(|target| !state.is_done[*target]).collect();
        if targets.is_empty() {
            return;
        }
        let order = Order::of(&self.graph, &targets, &state.is_done, &mut state.gains.diagnostics);
        for index in &order.nodes {
            state.is_done[*index] = true;
            let node = &self.graph.nodes[*index];
            self.report_undeclared(self.graph.scope_of_references(node), &node.references(), state);
        }
        Run { late: self, order: &order, is_needed, known: None }.run(state);
    }

    /// What is not declared is unknown, so that it is told once.
    fn report_undeclared(&self, scope: usize, references: &[Reference], state: &mut State) {
        for reference in references {
            if let Some((kind, name)) = self.graph.report_undeclared(scope, reference, &mut state.gains.diagnostics) {
                set_in(
                    Arc::make_mut(&mut state.roots[scope]),
                    &["data", &kind.text],
                    &name.text,
                    Value::unknown(Type::Any),
                );
            }
        }
    }
}

/// Where the values of nodes go as they become known.
pub(crate) trait Keep {
    /// The values so far, of a scope.
    fn roots(&self, scope: usize) -> Arc<Roots>;
    /// The mistakes so far.
    fn diagnostics(&mut self) -> &mut Diagnostics;
    /// A node has its value.
    fn keep(&mut self, index: usize, graph: &Graph, value: Value);
    /// A node is wrong: its value is not shown.
    fn fail(&mut self, index: usize);
    /// Whether a node is wrong.
    fn has_failed(&self, index: usize) -> bool;
}

impl Keep for State {
    fn roots(&self, scope: usize) -> Arc<Roots> {
        Arc::clone(&self.roots[scope])
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

    fn keep(&mut self, index: usize, graph: &Graph, value: Value) {
        collect_secrets(&value, false, &mut self.gains.secrets);
        let node = &graph.nodes[index];
        if let NodeKind::Local(local) = &node.kind
            && node.scope == 0
            && !self.failed.contains(&index)
        {
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
        graph.set_value(node, value, &mut self.roots);
    }
}

impl Graph {
    /// `local`, `data`, `var` of modules and `module` of a scope, without values yet.
    fn empty_roots(&self, scope: usize) -> Roots {
        let empty = || Value::object(Vec::<(String, Value)>::new());
        let mut roots = Roots::from([("local".to_owned(), empty())]);
        if !self.scopes[scope].declarations.data.is_empty() {
            roots.insert("data".to_owned(), empty());
        }
        if scope > 0 {
            roots.insert("var".to_owned(), empty());
        }
        for child in self.scopes.iter().filter(|child| child.parent == Some(scope)) {
            // Which outputs there are is known from the start.
            let outputs = child.declarations.outputs.keys().map(|name| (name.clone(), Value::unknown(Type::Any)));
            let outputs = Value::object(outputs);
            if let Some((family, key)) = child.family_and_key() {
                set_in(&mut roots, &["module", family], key, outputs.clone());
            }
            set_in(&mut roots, &["module"], &child.name, outputs);
        }
        let repeated = self.scopes[scope].declarations.modules.values().filter(|module| module.is_repeated());
        for module in repeated {
            // Also where it has no element.
            let modules = self.scopes.iter().filter(|child| child.parent == Some(scope));
            if !modules.filter_map(Scope::module).any(|used| used.name.text == module.name.text) {
                set_in(&mut roots, &["module"], &module.name.text, empty());
            }
        }
        roots
    }

    fn all_targets(&self, scope: usize, references: &[Reference]) -> Vec<usize> {
        references.iter().flat_map(|reference| self.targets(scope, reference)).collect()
    }

    /// Puts a node's value where expressions find it; `roots` are those of all scopes.
    pub(super) fn set_value(&self, node: &Node, value: Value, roots: &mut [Arc<Roots>]) {
        let own = &mut roots[node.scope];
        match &node.kind {
            NodeKind::Local(local) => set_in(Arc::make_mut(own), &["local"], &local.name.text, value),
            NodeKind::Data(data) => set_in(Arc::make_mut(own), &["data", &data.kind.text], &data.name.text, value),
            NodeKind::Variable(position, _) => {
                let name = &self.scopes[node.scope].declarations.variables[*position].name.text;
                set_in(Arc::make_mut(own), &["var"], name, value);
            }
            NodeKind::Output(output) => {
                let scope = &self.scopes[node.scope];
                if let Some(parent) = scope.parent {
                    let outside = Arc::make_mut(&mut roots[parent]);
                    if let Some((family, key)) = scope.family_and_key() {
                        set_in(outside, &["module", family, key], &output.name.text, value.clone());
                    }
                    set_in(outside, &["module", &scope.name], &output.name.text, value);
                }
            }
        }
    }

    /// The artifacts that references depend on through variables, locals and outputs, each with the scope it is mentioned in.
    pub(crate) fn artifacts_behind(&self, scope: usize, references: &[Reference]) -> Vec<(usize, Reference)> {
        if self.deferred.is_empty() {
            return Vec::new();
        }
        let mut found = Vec::new();
        let mut seen = BTreeSet::new();
        let mut waiting = self.deferred_targets(scope, references);
        while let Some(index) = waiting.pop() {
            if seen.insert(index) {
                let scope = self.scope_of_references(&self.nodes[index]);
                found.extend(self.artifacts_of(index).into_iter().map(|reference| (scope, reference)));
                waiting.extend(self.edges[index].iter().map(|(to, _)| *to).filter(|to| self.is_deferred(*to)));
            }
        }
        found
    }

    /// The nodes that references mean directly, and whose values depend on what builds leave.
    pub(super) fn deferred_targets(&self, scope: usize, references: &[Reference]) -> Vec<usize> {
        if self.deferred.is_empty() {
            return Vec::new();
        }
        self.all_targets(scope, references).into_iter().filter(|target| self.is_deferred(*target)).collect()
    }

    /// Artifacts that arguments of modules and outputs mention themselves, with their scopes.
    pub(crate) fn direct_artifacts(&self) -> Vec<(usize, Vec<Reference>)> {
        let nodes = self.nodes.iter().enumerate();
        nodes.map(|(index, node)| (self.scope_of_references(node), self.artifacts_of(index))).collect()
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
