//! Which builds of a template the services of projects use.

use std::collections::BTreeSet;
use std::sync::Arc;

use kiln_compose::{Near, Offer, Project, Used};
use kiln_core::{
    Body, ComponentConfig, ComponentSpec, Diagnostics, Facts, Kinds, Plan, PostProcessorSpec, Schema, SourceMap, Span,
};
use kiln_engine::{PrepareOptions, PreparedBuild, prepare};

/// The post-processor that brings an image into the engine.
const LOAD: &str = "docker-load";

/// What is wanted of a template.
#[derive(Debug, Default)]
pub(super) struct Choice {
    /// What its builds give.
    pub(super) offers: Vec<Offer>,
    /// By project: what its services use.
    pub(super) used: Vec<Vec<Used>>,
    /// By project: what they nearly use.
    pub(super) near: Vec<Vec<Near>>,
    /// Where an image is brought into the engine: the build, and the place behind a post-processor of a chain, or a chain of
    /// its own.
    loads: Vec<(String, Option<(usize, usize)>)>,
}

impl Choice {
    /// Finds out. A template with mistakes offers nothing: they are told when it is prepared to run.
    pub(super) fn make(plan: &Plan, kinds: &Kinds, sources: &Arc<SourceMap>, projects: &[Project]) -> Choice {
        let options = PrepareOptions { no_push: true, sources: Arc::clone(sources), ..PrepareOptions::default() };
        let Some(prepared) = prepare(plan, kinds, &options).0 else { return Choice::default() };
        let offers: Vec<Offer> = prepared
            .builds
            .iter()
            .map(|build| Offer { build: build.name.to_string(), names: build.image_names(false) })
            .collect();
        let (used, near): (Vec<_>, Vec<_>) = projects
            .iter()
            .map(|project| {
                let matches = project.matches(&offers);
                (matches.used, matches.near)
            })
            .unzip();
        let wanted: BTreeSet<(&str, &str)> =
            used.iter().flatten().map(|used: &Used| (used.build.as_str(), used.name.as_str())).collect();
        let loads = prepared.builds.iter().flat_map(|build| loads(build, &wanted)).collect();
        Choice { offers, used, near, loads }
    }

    /// Leaves in the plan what is used and what that is built upon, and has it brought into the engine.
    pub(super) fn narrow(&self, plan: &mut Plan, builds: bool) {
        if self.offers.is_empty() {
            return;
        }
        let mut wanted: BTreeSet<Arc<str>> = BTreeSet::new();
        let used: BTreeSet<&str> = self.used.iter().flatten().map(|used| used.build.as_str()).collect();
        let mut open: Vec<Arc<str>> = match builds {
            true => {
                plan.builds.iter().map(|build| Arc::clone(&build.name)).filter(|name| used.contains(&**name)).collect()
            }
            false => Vec::new(),
        };
        while let Some(name) = open.pop() {
            let parents = plan.builds.iter().filter(|build| build.name == name).flat_map(|build| &build.parents);
            open.extend(parents.map(|parent| Arc::clone(&parent.build)).filter(|parent| !wanted.contains(parent)));
            wanted.insert(name);
        }
        plan.builds.retain(|build| wanted.contains(&build.name));
        for build in &mut plan.builds {
            build.is_brought = !used.contains(&*build.name);
            // From behind, so that places before stay what they are.
            for (_, place) in self.loads.iter().rev().filter(|(name, _)| **name == *build.name) {
                let load = load(build.source.span);
                match place {
                    Some((chain, index)) => build.post_processors[*chain].insert(index + 1, load),
                    None => build.post_processors.push(vec![load]),
                }
            }
        }
    }
}

/// Where names that are wanted are given.
fn loads(build: &PreparedBuild, wanted: &BTreeSet<(&str, &str)>) -> Vec<(String, Option<(usize, usize)>)> {
    let own: BTreeSet<&str> = wanted.iter().filter(|(name, _)| *name == &*build.name).map(|(_, name)| *name).collect();
    let mut given: BTreeSet<String> = BTreeSet::new();
    let mut places = Vec::new();
    for (chain, members) in build.chains.iter().enumerate() {
        let gives = |index: usize| members[index].names().into_iter().filter(|name| own.contains(name.as_str()));
        let last = (0..members.len()).rev().find(|index| gives(*index).next().is_some());
        given.extend((0..members.len()).flat_map(gives));
        places.extend(last.map(|index| (build.name.to_string(), Some((chain, index)))));
    }
    if own.iter().any(|name| !given.contains(*name)) {
        places.push((build.name.to_string(), None));
    }
    places
}

fn load(span: Span) -> PostProcessorSpec {
    let config = Arc::new(NoArguments(span));
    let component = ComponentSpec { kind: LOAD.to_owned(), kind_span: span, span, name: None, config };
    PostProcessorSpec { component, keep_input: None, continue_on_error: false }
}

struct NoArguments(Span);

impl ComponentConfig for NoArguments {
    fn evaluate(&self, _schema: &Schema, _facts: &Facts, _diagnostics: &mut Diagnostics) -> Body {
        Body::empty(self.0, false)
    }
}
