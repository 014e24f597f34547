//! Values that depend on what builds leave: arguments and outputs of modules that mention `artifact`, and all that is made of
//! them. While the template is loaded they are unknown; for a build whose parents are done they are evaluated again.

use std::sync::Arc;

use kiln_core::{Artifacts, Diagnostics, Platform};
use kiln_language::evaluate::Reference;
use kiln_language::value::Value;

use super::artifacts::BuildNames;
use super::graph::{Graph, Keep, Late, Roots};
use super::order::Order;
use super::run::Run;
use super::variables::collect_secrets;

/// What is known once builds are done.
#[derive(Clone, Copy)]
pub(crate) struct Known<'a> {
    pub(crate) artifacts: &'a Artifacts,
    /// What each scope calls the builds.
    pub(crate) names: &'a [BuildNames],
    /// The platform whose images are wanted.
    pub(crate) wanted: &'a Platform,
}

impl Late {
    /// `var`, `local` and `module` of a scope with what the builds left, where references depend on that.
    pub(crate) fn with_artifacts(
        &self,
        (scope, references): (usize, &[Reference]),
        known: Known<'_>,
        diagnostics: &mut Diagnostics,
    ) -> Option<Roots> {
        let targets = self.graph.deferred_targets(scope, references);
        if targets.is_empty() {
            return None;
        }
        let settled = self.settled.get()?;
        // All others have their values; circles were told.
        let is_done: Vec<bool> = (0..self.graph.nodes.len()).map(|index| !self.graph.is_deferred(index)).collect();
        let order = Order::of(&self.graph, &targets, &is_done, &mut Diagnostics::new());
        let roots = settled.iter().map(|roots| Arc::new(roots.clone())).collect();
        let mut again = Again { roots, diagnostics };
        Run { late: self, order: &order, is_needed: false, known: Some(known) }.run(&mut again);
        let mut roots = Arc::unwrap_or_clone(again.roots.swap_remove(scope));
        roots.retain(|name, _| name != "data");
        Some(roots)
    }
}

/// Where the values go.
struct Again<'a> {
    roots: Vec<Arc<Roots>>,
    diagnostics: &'a mut Diagnostics,
}

impl Keep for Again<'_> {
    fn roots(&self, scope: usize) -> Arc<Roots> {
        Arc::clone(&self.roots[scope])
    }

    fn diagnostics(&mut self) -> &mut Diagnostics {
        self.diagnostics
    }

    fn keep(&mut self, index: usize, graph: &Graph, value: Value) {
        collect_secrets(&value, false, &mut self.diagnostics.secrets);
        graph.set_value(&graph.nodes[index], value, &mut self.roots);
    }

    fn fail(&mut self, _index: usize) {}

    fn has_failed(&self, _index: usize) -> bool {
        false
    }
}
