//! Which builds others are built upon, as far as the text tells: known before any of their steps are read.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kiln_core::{Diagnostics, Platform, Span};
use kiln_language::evaluate::{Reference, references};
use kiln_language::syntax::Body;

use super::artifacts;
use super::blocks::Declarations;
use super::builds::{BuildName, BuildReader, Builds, module_depends_on};
use super::component::{Shared, collect_references, mentioned};
use super::groups;
use super::modules::Scope;
use super::outputs::OutputDeclaration;
use super::platforms::{self, Role};
use super::repetition::{self, Purpose, Repetition};
use super::scope::{Bindings, Overlay};
use super::select::Selection;
use super::sources::Sources;
use super::steps::Known;

/// A build as its text tells of it.
struct Written {
    scope: usize,
    name: Arc<str>,
    is_selected: bool,
    found: Vec<Reference>,
    depends_on: Vec<(usize, String, Span)>,
    /// Those whose images it joins.
    joined: Vec<Arc<str>>,
}

/// Names of builds that selected ones are built upon, as far as their text tells: rather too many than too few.
pub(crate) fn needed(scopes: &[Scope], shared: &[Arc<Shared>], selection: &Selection) -> BTreeSet<Arc<str>> {
    if selection.takes_all() || !scopes.iter().any(|scope| mentions_artifacts(&scope.declarations)) {
        return BTreeSet::new();
    }
    let mut names = Builds::default();
    let mut written = Vec::new();
    for (index, scope) in scopes.iter().enumerate() {
        let before = written.len();
        read_written(scope, &shared[index], selection, &mut names, &mut written);
        let own = module_depends_on(scopes, shared, index, &mut Diagnostics::new());
        written[before..].iter_mut().for_each(|build| build.depends_on.extend(own.iter().cloned()));
    }
    let known = names.names_by_scope(scopes);
    let parents_of = |build: &Written| -> Vec<Arc<str>> {
        let named = build.depends_on.iter();
        let named =
            named.flat_map(|(scope, text, span)| known[*scope].depended_on(text, *span, &mut Diagnostics::new()));
        let mentioned = mentioned(&shared[build.scope].values, &known, &build.found, &Platform::host());
        mentioned.into_iter().chain(named).map(|parent| parent.build).chain(build.joined.iter().cloned()).collect()
    };
    let parents: BTreeMap<Arc<str>, Vec<Arc<str>>> =
        written.iter().map(|build| (Arc::clone(&build.name), parents_of(build))).collect();
    let selected = written.iter().filter(|build| build.is_selected).map(|build| Arc::clone(&build.name)).collect();
    artifacts::with_ancestors(selected, |name| parents.get(name).cloned().unwrap_or_default())
}

/// The builds of a scope, without reading their steps.
fn read_written(
    scope: &Scope,
    shared: &Arc<Shared>,
    selection: &Selection,
    names: &mut Builds,
    written: &mut Vec<Written>,
) {
    let declarations = &*scope.declarations;
    // Everything is told when the builds are read.
    let mut ignored = Diagnostics::new();
    let mut sources = Sources::new(declarations, &shared.values);
    for block in &declarations.builds {
        let around = Overlay { values: &shared.values, bindings: &Bindings::default() };
        let elements = match repetition::read(&block.body, &around, Purpose::Names, &mut ignored) {
            Repetition::Once => vec![None],
            Repetition::Never(_) => continue,
            Repetition::Each { elements, .. } => elements.into_iter().map(Some).collect(),
        };
        for element in elements {
            let bindings = element.as_ref().map(|element| element.bind(&Bindings::default())).unwrap_or_default();
            let mut reader = BuildReader {
                block,
                bindings,
                sources: &mut sources,
                shared,
                selection,
                groups: &declarations.groups,
                known: Known::default(),
                left_out: Vec::new(),
                diagnostics: &mut ignored,
            };
            let (name, _) = reader.names(element.as_ref());
            for used in reader.source_uses() {
                let full = shared.qualified(&BuildName::full(&name.name, &format!("{}.{}", used.kind(), used.name)));
                let unique = reader.unique_name(&full, used.span, names);
                let all_names = reader.all_names(&name, used.kind(), &used.name, &used.family);
                let mut found = Vec::new();
                collect_references(&used.instance.declaration.body, &mut found);
                collect_references(&block.body, &mut found);
                let groups = groups::reachable(&block.body, &declarations.groups);
                groups.iter().for_each(|group| collect_references(&group.body, &mut found));
                let index = shared.values.scope_index();
                let depends_on = reader.depends_on(&used).into_iter().map(|(name, span)| (index, name, span));
                let depends_on: Vec<_> = depends_on.collect();
                let platforms = reader.platforms(&used).map(|(platforms, _)| platforms);
                for part in reader.parts(&used, unique, all_names, platforms) {
                    let joined = match part.role {
                        Role::Index(joined) => joined.into_iter().map(|variant| variant.build).collect(),
                        _ => Vec::new(),
                    };
                    written.push(Written {
                        scope: index,
                        name: part.name.into(),
                        is_selected: selection.takes_build(&part.names),
                        found: found.clone(),
                        depends_on: depends_on.clone(),
                        joined,
                    });
                }
            }
        }
    }
}

/// Whether any build may be built upon another.
fn mentions_artifacts(declarations: &Declarations) -> bool {
    let bodies = declarations.sources.values().map(|source| &*source.body);
    let builds = declarations.builds.iter().chain(declarations.groups.values()).map(|block| &block.body);
    let modules = declarations.modules.values().map(|module| &module.body);
    let mentions = |found: &[Reference]| found.iter().any(|reference| reference.root == artifacts::ROOT);
    let in_output = |output: &OutputDeclaration| mentions(&references(&output.value));
    declarations.outputs.values().any(in_output)
        || bodies.chain(builds).chain(modules).any(|body| {
            let mut found = Vec::new();
            collect_references(body, &mut found);
            let depends =
                |body: &Body| body.attribute("depends_on").is_some() || body.attribute(platforms::ARGUMENT).is_some();
            mentions(&found) || depends(body) || body.blocks().any(|block| depends(&block.body))
        })
}
