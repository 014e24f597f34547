//! `build` blocks: their sources, and what runs for each.

mod parts;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kiln_core::{BuildSpec, ComponentSpec, Diagnostic, Diagnostics, HookEvent, Span, Unclean, VariantSpec};
use kiln_language::syntax::{Block, Body};

use crate::grammar;

use super::artifacts::{self, BuildNames};
use super::blocks::{Declarations, check_items, labels, registry_is_ignored};
use super::caching::SOURCE_ARGUMENTS;
use super::component::{HclComponent, Layer, Place, Shared};
use super::dynamic::ExpandedBlock;
use super::graph::Graph;
use super::groups;
use super::modules::Scope;
use super::platforms::Role;
use super::repetition::{self, Element, Purpose, Repetition, refers_to_each};
use super::scope::{Bindings, Overlay};
use super::select::Selection;
use super::sources::Sources;
use super::steps::{Arguments, BuildContext, Known, Quoted};
use super::uses::SourceUse;
use super::written;

const MADE_BY_DYNAMIC: [&str; 7] =
    ["source", "steps", "provisioner", "error-cleanup-provisioner", "test", "post-processor", "post-processors"];

/// The argument by which a build wants a clean work tree.
pub(crate) const REQUIRE_CLEAN: &str = "require_clean";

/// What all build blocks give.
#[derive(Default)]
pub(crate) struct Builds {
    /// Those selected, in order.
    pub(crate) specs: Vec<BuildSpec>,
    /// All, selected or not: the scope and the full name of each.
    all: Vec<(usize, String)>,
    /// Kinds of the sources that no build names, with their places.
    pub(crate) unused: Vec<(String, Span)>,
    /// The first description.
    pub(crate) description: Option<String>,
    /// Where a build of a name is first called so.
    first_use: BTreeMap<String, Span>,
    /// Names of builds that run although they are not selected, as others are built upon them.
    needed: BTreeSet<Arc<str>>,
    /// Those that are selected.
    selected: BTreeSet<Arc<str>>,
    /// Those that `-except` names.
    refused: BTreeSet<Arc<str>>,
    /// What `depends_on` names for each of [`Builds::specs`], as a scope calls it.
    depends_on: Vec<Vec<(usize, String, Span)>>,
    /// Whether those that are needed are taken as they are.
    without_parents: bool,
    /// Of each build that joins images for several platforms, those that make them.
    variants: BTreeMap<Arc<str>, Vec<VariantSpec>>,
}

/// Reads all build blocks, of a template and its modules. Steps and sources of builds that are not selected are left alone.
pub(crate) fn read(
    scopes: &[Scope],
    shared: &[Arc<Shared>],
    selection: &Selection,
    without_parents: bool,
    diagnostics: &mut Diagnostics,
) -> Builds {
    let needed = written::needed(scopes, shared, selection);
    let mut builds = Builds { needed, without_parents, ..Builds::default() };
    for (index, scope) in scopes.iter().enumerate() {
        let before = builds.specs.len();
        builds.read_scope(scope, &shared[index], selection, diagnostics);
        let own = module_depends_on(scopes, shared, index, diagnostics);
        builds.depends_on[before..].iter_mut().for_each(|names| names.extend(own.iter().cloned()));
    }
    builds.link(scopes, shared, diagnostics);
    if shared[0].values.lenient {
        // Who only looks at the template does not mind.
        selection.forget_left_out();
    }
    builds
}

/// What `depends_on` of the modules names that a scope is, and is in.
pub(super) fn module_depends_on(
    scopes: &[Scope],
    shared: &[Arc<Shared>],
    index: usize,
    diagnostics: &mut Diagnostics,
) -> Vec<(usize, String, Span)> {
    let mut found = Vec::new();
    let mut scope = &scopes[index];
    while let (Some(module), Some(parent)) = (scope.module(), scope.parent) {
        let block = ExpandedBlock { bindings: scope.bindings.clone(), ..part(module.header, &module.body) };
        let mut arguments = Arguments::new(&block, &shared[parent].values, diagnostics);
        let names = arguments.texts("depends_on").unwrap_or_default();
        found.extend(names.into_iter().map(|(name, span)| (parent, name, span)));
        scope = &scopes[parent];
    }
    found
}

impl Builds {
    /// The names of all, selected or not.
    pub(crate) fn names(&self) -> Vec<String> {
        self.all.iter().map(|(_, name)| name.clone()).collect()
    }

    fn read_scope(
        &mut self,
        scope: &Scope,
        shared: &Arc<Shared>,
        selection: &Selection,
        diagnostics: &mut Diagnostics,
    ) {
        let declarations = &*scope.declarations;
        let mut sources = Sources::new(declarations, &shared.values);
        let mut is_whole = true;
        for block in &declarations.builds {
            check_items(&block.body, &grammar::BUILD, diagnostics);
            let names = Overlay { values: &shared.values, bindings: &Bindings::default() };
            let elements = match repetition::read(&block.body, &names, Purpose::Names, diagnostics) {
                Repetition::Once => vec![None],
                Repetition::Never(place) => {
                    selection.leave_out(place);
                    is_whole = false;
                    continue;
                }
                Repetition::Each { elements, left_out, .. } => {
                    left_out.into_iter().for_each(|place| selection.leave_out(place));
                    elements.into_iter().map(Some).collect()
                }
            };
            let mut names = BTreeSet::new();
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
                    diagnostics,
                };
                reader.read(element.as_ref(), &mut names, self);
            }
        }
        // A build that is left out may use others.
        self.unused.extend(is_whole.then(|| sources.unused()).into_iter().flatten());
    }

    /// What each scope calls the builds: its own, and those of its modules.
    pub(super) fn names_by_scope(&self, scopes: &[Scope]) -> Arc<[BuildNames]> {
        let names_in = |index: usize| {
            let around = &scopes[index];
            let seen = self.all.iter().filter_map(move |(of, full)| {
                let scope = &scopes[*of];
                let name = within(full, &scope.path)?;
                let modules = if *of == index { "" } else { within(&scope.path, &around.path)? };
                Some((modules, name, full.as_str()))
            });
            let families = scopes.iter().filter(|scope| scope.family != scope.path).filter_map(|scope| {
                Some((within(&scope.family, &around.family)?.to_owned(), within(&scope.path, &around.path)?.to_owned()))
            });
            BuildNames::new(seen, self.variants.clone()).with_families(families)
        };
        (0..scopes.len()).map(names_in).collect()
    }

    /// Finds out which builds are built upon which, leaves out those that nothing needs, and tells rings.
    fn link(&mut self, scopes: &[Scope], shared: &[Arc<Shared>], diagnostics: &mut Diagnostics) {
        let names = self.names_by_scope(scopes);
        for (spec, depends_on) in self.specs.iter_mut().zip(std::mem::take(&mut self.depends_on)) {
            for (scope, name, span) in depends_on {
                spec.parents.extend(names[scope].depended_on(&name, span, diagnostics));
            }
        }
        shared.iter().for_each(|shared| shared.set_builds(Arc::clone(&names)));
        let graph = shared[0].values.graph().map(|(late, _)| &late.graph);
        for (scope, references) in graph.into_iter().flat_map(Graph::direct_artifacts) {
            // For which platform, those say that use it.
            names[scope].report_unknown(&references, None, diagnostics);
        }
        artifacts::link(&mut self.specs);
        self.choose();
        artifacts::report_rings(&self.specs, diagnostics);
    }

    /// Finds out which builds run and which are taken as they were built before, and leaves out those that nothing needs.
    fn choose(&mut self) {
        let Builds { specs, selected, refused, .. } = self;
        let is_unwanted =
            |name: &Arc<str>| (self.without_parents || refused.contains(name)) && !selected.contains(name);
        for spec in specs.iter_mut().filter(|spec| spec.parents.iter().any(|parent| is_unwanted(&parent.build))) {
            // What comes first for the order's sake alone leaves nothing to take; often it could not even be taken.
            let used = artifacts::mentioned(spec);
            spec.parents.retain(|parent| {
                !is_unwanted(&parent.build) || used.iter().any(|mention| mention.build == parent.build)
            });
        }
        let running = ancestors(specs, selected, |name| !is_unwanted(name));
        for spec in specs.iter_mut() {
            spec.is_brought = !selected.contains(&spec.name);
            spec.is_taken = !running.contains(&spec.name);
            if spec.is_taken {
                // What it was built upon tells which of the things that it once left is meant, so that is taken too.
                spec.parents = artifacts::made_of(spec);
                if !spec.variants.is_empty() {
                    // Joining makes nothing; what it joins is taken.
                    spec.is_taken = false;
                    spec.post_processors.clear();
                }
            }
        }
        let wanted = ancestors(specs, selected, |_| true);
        specs.retain(|spec| wanted.contains(&spec.name));
    }
}

/// The name of a build block: as `-only` may call it with the key of its element and without.
#[derive(Default)]
pub(super) struct BuildName {
    pub(super) name: String,
    family: String,
}

impl BuildName {
    /// The build's full name for a source of a name.
    pub(super) fn full(name: &str, source: &str) -> String {
        if name.is_empty() { source.to_owned() } else { format!("{name}.{source}") }
    }
}

/// Reads a build block.
pub(crate) struct BuildReader<'a, 'b> {
    pub(crate) block: &'a Block,
    /// `each`, where the build has `for_each`.
    pub(crate) bindings: Bindings,
    pub(crate) sources: &'b mut Sources<'a>,
    pub(crate) shared: &'a Arc<Shared>,
    pub(crate) selection: &'a Selection,
    /// `steps` blocks by their names.
    pub(crate) groups: &'a BTreeMap<String, Block>,
    pub(crate) known: Known,
    /// Kind, name and family of sources that the block names and the template leaves out.
    pub(crate) left_out: Vec<(String, String, String)>,
    pub(crate) diagnostics: &'b mut Diagnostics,
}

impl<'a> BuildReader<'a, '_> {
    pub(crate) fn whole(&self) -> ExpandedBlock<'a> {
        ExpandedBlock {
            kind: self.block.kind.clone(),
            labels: Vec::new(),
            header: self.block.header,
            body: &self.block.body,
            bindings: self.bindings.clone(),
        }
    }

    /// Reads the block, once or for one element of its `for_each`; `taken` holds the names of the others.
    fn read(&mut self, element: Option<&Element>, taken: &mut BTreeSet<String>, builds: &mut Builds) {
        let (name, description) = self.names(element);
        builds.description = builds.description.take().or(description);
        if element.is_some() && !taken.insert(name.name.clone()) {
            let span = self.block.body.attribute("name").map_or(self.block.header, |name| name.value.span);
            let title = format!("two elements of `for_each` give the build the name `{}`", name.name);
            self.diagnostics
                .push(Diagnostic::error("duplicate-name", span, title).help("use `each.key`, which differs"));
            return;
        }
        let uses = self.source_uses();
        for used in &uses {
            self.known.add(used.kind(), &used.name);
            self.known.add(used.kind(), &used.family);
        }
        // An undeclared one was told where the build names it, and need not be told again in `only`.
        self.known.sources.extend(self.sources.undeclared.iter().cloned());
        self.known.declared = self.sources.names();
        for (kind, source, family) in std::mem::take(&mut self.left_out) {
            // So that a pattern meant for it is not said to match nothing.
            self.selection.takes_build(&self.all_names(&name, &kind, &source, &family));
        }
        for used in uses {
            let source = format!("{}.{}", used.kind(), used.name);
            let full = self.shared.qualified(&BuildName::full(&name.name, &source));
            let names = self.all_names(&name, used.kind(), &used.name, &used.family);
            // A guess stands for a name that nothing has.
            let unique = if used.is_guess { full } else { self.unique_name(&full, used.span, builds) };
            let scope = self.shared.values.scope_index();
            let platforms = self.platforms(&used);
            let span = platforms.as_ref().map(|(_, span)| *span);
            for part in self.parts(&used, unique, names, platforms.map(|(platforms, _)| platforms)) {
                let is_selected = self.selection.takes_build(&part.names);
                if let Role::Index(variants) = &part.role {
                    builds.variants.insert(part.name.as_str().into(), variants.clone());
                } else if part.role.own().is_some() {
                    builds.all.push((scope, part.name.clone()));
                }
                if is_selected || builds.needed.contains(part.name.as_str()) {
                    let spec = self.spec(&used, part.name, name.name.clone(), part.role, span);
                    if is_selected {
                        builds.selected.insert(Arc::clone(&spec.name));
                    } else if self.selection.refuses_build(&part.names) {
                        builds.refused.insert(Arc::clone(&spec.name));
                    }
                    let depends_on = self.depends_on(&used).into_iter();
                    builds.depends_on.push(depends_on.map(|(name, span)| (scope, name, span)).collect());
                    builds.specs.push(spec);
                }
            }
        }
    }

    /// What `-only` may call a build: by its own name and its families'.
    pub(super) fn all_names(&self, build: &BuildName, kind: &str, source: &str, family: &str) -> Vec<String> {
        let mut names = Vec::new();
        for build in [&build.name, &build.family] {
            for source in [source, family] {
                for name in self.shared.all_qualified(&BuildName::full(build, &format!("{kind}.{source}"))) {
                    if !names.contains(&name) {
                        names.push(name);
                    }
                }
            }
        }
        names
    }

    /// Labels, directories and reports are by name, so every build needs one of its own.
    pub(super) fn unique_name(&mut self, full: &str, span: Span, builds: &mut Builds) -> String {
        let repeated = builds.all.iter().filter(|(_, known)| known == full).count();
        builds.all.push((self.shared.values.scope_index(), full.to_owned()));
        let Some(first) = builds.first_use.get(full) else {
            builds.first_use.insert(full.to_owned(), span);
            return full.to_owned();
        };
        let unique = format!("{full}-{}", repeated + 1);
        let title = format!("a second build is called `{full}`; it is shown as `{unique}`");
        self.diagnostics.push(
            Diagnostic::warning("duplicate-build", span, title)
                .also(*first, "first here")
                .help("give the `build` block, or the source in it, a `name`"),
        );
        unique
    }

    pub(super) fn names(&mut self, element: Option<&Element>) -> (BuildName, Option<String>) {
        let whole = self.whole();
        let mut arguments = Arguments::new(&whole, &self.shared.values, self.diagnostics);
        let family = arguments.text("name").map(|(name, _)| name).unwrap_or_default();
        let description = arguments.text("description").map(|(text, _)| text);
        let is_complete = whole.body.attribute("name").is_some_and(|name| refers_to_each(&name.value));
        let name = match element {
            Some(element) if !is_complete => element.name_after(&family),
            _ => family.clone(),
        };
        (BuildName { name, family }, description)
    }

    fn spec(
        &mut self,
        used: &SourceUse,
        full: String,
        build_name: String,
        role: Role,
        platforms: Option<Span>,
    ) -> BuildSpec {
        let declaration = Arc::clone(&used.instance.declaration);
        let cache = self.source_cache(used);
        let place = Place {
            source_kind: declaration.kind.text.clone(),
            source_name: used.name.clone(),
            source_family: used.family.clone(),
            element: used.element.clone(),
            build_name,
            role: role.clone(),
            platforms,
        };
        let own = Layer {
            body: Arc::clone(&declaration.body),
            header: declaration.header,
            skip: &SOURCE_ARGUMENTS,
            bindings: used.instance.bindings(),
        };
        for body in [&declaration.body].into_iter().chain(used.added.as_ref().map(|added| &added.body)) {
            self.shared.note(body);
        }
        let source = ComponentSpec {
            kind: declaration.kind.text.clone(),
            kind_span: declaration.kind.span,
            span: declaration.header,
            name: Some(used.name.clone()),
            config: Arc::new(HclComponent {
                shared: Arc::clone(self.shared),
                place: place.clone(),
                is_source: true,
                layers: [own].into_iter().chain(used.added.clone()).collect(),
                overrides: None,
            }),
        };
        let known = std::mem::take(&mut self.known);
        let context = BuildContext { shared: self.shared, place: &place, known: &known, groups: &[] };
        // Machines are for the platforms, names and what follows for all of them together.
        let (steps, error_cleanup) = match &role {
            Role::Index(_) => (Vec::new(), None),
            _ => self.steps(&context),
        };
        let post_processors = match &role {
            Role::Variant(_) => Vec::new(),
            _ => self.post_processors(&context),
        };
        let mut hooks = self.hooks(&context);
        if matches!(role, Role::Variant(_)) {
            // All of them end well with the index; but where one fails, that does not begin.
            hooks.retain(|hook| hook.event == HookEvent::Failure);
        }
        // What each machine leaves is tried out where it was made.
        let tests = match &role {
            Role::Index(_) => Vec::new(),
            _ => self.tests(&context),
        };
        self.known = known;
        BuildSpec {
            name: full.into(),
            build_name: used.name.as_str().into(),
            source,
            steps,
            error_cleanup,
            post_processors,
            hooks,
            tests,
            cache,
            text_scope: (!self.shared.path.is_empty()).then(|| Arc::clone(&self.shared.text_scope)),
            parents: Vec::new(),
            is_taken: false,
            is_brought: false,
            platform: role.own().cloned(),
            variants: match role {
                Role::Index(variants) => variants,
                _ => Vec::new(),
            },
            unclean: self.unclean(),
        }
    }

    /// What speaks against the build, where it asks for a clean work tree.
    fn unclean(&mut self) -> Option<Unclean> {
        let whole = self.whole();
        let mut arguments = Arguments::new(&whole, &self.shared.values, self.diagnostics);
        let is_required = arguments.truth(REQUIRE_CLEAN).unwrap_or_default();
        let span = whole.body.attribute(REQUIRE_CLEAN)?.name.span;
        let why = is_required.then(|| self.shared.values.why_unclean()).flatten()?;
        Some(Unclean { why, span })
    }

    /// What `depends_on` of the build, the source and what the build adds to it names.
    pub(super) fn depends_on(&mut self, used: &SourceUse) -> Vec<(String, Span)> {
        let declaration = &used.instance.declaration;
        let own = (&*declaration.body, used.instance.bindings());
        let added = used.added.as_ref().map(|added| (&*added.body, added.bindings.clone()));
        let build = (&self.block.body, self.bindings.clone());
        let mut names = Vec::new();
        for (body, bindings) in [Some(build), Some(own), added].into_iter().flatten() {
            if body.attribute("depends_on").is_some() {
                let block = ExpandedBlock { bindings, ..part(declaration.header, body) };
                let mut arguments = Arguments::new(&block, &self.shared.values, self.diagnostics);
                names.extend(arguments.texts("depends_on").unwrap_or_default());
            }
        }
        names
    }
}

/// All that the chosen builds are built upon, themselves included, as far as it counts.
fn ancestors(
    specs: &[BuildSpec],
    chosen: &BTreeSet<Arc<str>>,
    counts: impl Fn(&Arc<str>) -> bool,
) -> BTreeSet<Arc<str>> {
    let parents = |spec: &BuildSpec| {
        let names = spec.parents.iter().map(|parent| Arc::clone(&parent.build));
        names.filter(|name| counts(name)).collect()
    };
    let parents: BTreeMap<&str, Vec<Arc<str>>> = specs.iter().map(|spec| (&*spec.name, parents(spec))).collect();
    let chosen = chosen.iter().cloned().collect();
    artifacts::with_ancestors(chosen, |name| parents.get(name).cloned().unwrap_or_default())
}

/// A name without the modules in front; `None` where it is not in them.
pub(super) fn within<'n>(name: &'n str, path: &str) -> Option<&'n str> {
    if path.is_empty() { Some(name) } else { name.strip_prefix(path)?.strip_prefix('.') }
}

pub(crate) fn part(header: Span, body: &Body) -> ExpandedBlock<'_> {
    let kind = kiln_language::syntax::Name { text: "source".to_owned(), span: header };
    ExpandedBlock { kind, labels: Vec::new(), header, body, bindings: Bindings::default() }
}

/// Whether a block is of a kind, or a `dynamic` block that makes such.
pub(crate) fn makes(block: &Block, kind: &str) -> bool {
    block.kind.text == kind
        || (block.kind.text == "dynamic" && block.labels.first().is_some_and(|label| label.text == kind))
}

/// Mistakes of shape inside build blocks that do not depend on which builds run.
pub(crate) fn check_shape(declarations: &Declarations, diagnostics: &mut Diagnostics) {
    groups::check(declarations, diagnostics);
    for block in declarations.builds.iter().flat_map(|build| build.body.blocks()) {
        match block.kind.text.as_str() {
            "hcp_packer_registry" => diagnostics.push(registry_is_ignored(block.kind.span)),
            "post-processors" if !block.labels.is_empty() => {
                labels(block, [], diagnostics);
            }
            "dynamic" => {
                let Some(label) = block.labels.first() else { continue };
                if !MADE_BY_DYNAMIC.contains(&label.text.as_str()) {
                    let title = format!("a `build` block has no block `{}`", label.text);
                    diagnostics.push(Diagnostic::error("unknown-block", label.span, title).did_you_mean_quoted(
                        label.span,
                        &label.text,
                        MADE_BY_DYNAMIC,
                    ));
                }
            }
            _ => {}
        }
    }
}
