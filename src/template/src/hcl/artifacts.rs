//! `artifact.*`: what builds of the template left, for those that are built upon them; and the order that follows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use indexmap::IndexMap;
use kiln_core::{
    ARTIFACT_VALUES, ArtifactShape, ArtifactValue, Artifacts, BuildSpec, Diagnostic, Diagnostics, Parent, Platform,
    Span, VariantSpec, suggest,
};
use kiln_language::evaluate::Reference;
use kiln_language::syntax::Name;
use kiln_language::value::{Type, Value};

/// What the values are called in a template.
pub(crate) const ROOT: &str = "artifact";

/// The value that differs between the builds for several platforms.
const IMAGE: &str = "image";

/// What a scope calls the builds that it can see, its own and those of its modules.
#[derive(Debug, Default)]
pub(crate) struct BuildNames {
    /// Full names by what the scope calls each: the same, without the modules that the scope is in.
    full: IndexMap<String, Arc<str>>,
    /// The last words of names, where they mean one build only. Those of modules keep `module.NAME` in front.
    short: BTreeMap<String, Arc<str>>,
    /// Those that mean several.
    ambiguous: BTreeMap<String, Vec<Arc<str>>>,
    /// Of each build that joins images for several platforms, those that make them.
    variants: BTreeMap<Arc<str>, Vec<VariantSpec>>,
    /// The elements of modules with `for_each`, by the name that they have together.
    families: BTreeMap<String, Vec<String>>,
}

impl BuildNames {
    /// The builds as `(modules, name, full name)`: the modules in which the scope finds it, `module.NAME` or nothing, and what
    /// they call it; and of those with `platforms`, those that make the images.
    pub(crate) fn new<'a>(
        builds: impl Iterator<Item = (&'a str, &'a str, &'a str)>,
        variants: BTreeMap<Arc<str>, Vec<VariantSpec>>,
    ) -> BuildNames {
        let mut full = IndexMap::new();
        let mut by_end: BTreeMap<String, Vec<Arc<str>>> = BTreeMap::new();
        for (modules, name, whole) in builds {
            let qualified = |name: &str| if modules.is_empty() { name.to_owned() } else { format!("{modules}.{name}") };
            let whole: Arc<str> = whole.into();
            let parts: Vec<&str> = name.split('.').collect();
            for start in 1..parts.len() {
                by_end.entry(qualified(&parts[start..].join("."))).or_default().push(Arc::clone(&whole));
            }
            full.insert(qualified(name), whole);
        }
        by_end.retain(|end, _| !full.contains_key(end));
        let (short, ambiguous): (BTreeMap<_, _>, BTreeMap<_, _>) =
            by_end.into_iter().partition(|(_, names)| names.len() == 1);
        let short = short.into_iter().filter_map(|(end, names)| Some((end, names.into_iter().next()?))).collect();
        BuildNames { full, short, ambiguous, variants, families: BTreeMap::new() }
    }

    /// With names that elements of modules have together, `(family, module)`.
    pub(crate) fn with_families(mut self, families: impl Iterator<Item = (String, String)>) -> BuildNames {
        families.for_each(|(family, module)| self.families.entry(family).or_default().push(module));
        self
    }

    /// The build of a name, whole or short.
    fn named(&self, name: &str) -> Option<&Arc<str>> {
        self.full.get(name).or_else(|| self.short.get(name))
    }

    /// The builds of a module.
    fn of_module(&self, module: &str) -> Vec<&Arc<str>> {
        let own = [module.to_owned()];
        let modules = self.families.get(module).map_or(&own[..], Vec::as_slice);
        let is_in = |name: &str| modules.iter().any(|module| super::builds::within(name, module).is_some());
        let is_meant = module.starts_with("module.");
        self.full.iter().filter(|(name, _)| is_meant && is_in(name)).map(|(_, build)| build).collect()
    }

    /// The build that the words behind `artifact` begin with, and what stands behind its name.
    fn beginning<'a>(&self, path: &'a [Name]) -> Option<(&Arc<str>, &'a [Name])> {
        (1..=path.len()).rev().find_map(|length| {
            let words: Vec<&str> = path[..length].iter().map(|name| name.text.as_str()).collect();
            Some((self.named(&words.join("."))?, &path[length..]))
        })
    }

    /// The builds that references mention, of those with `platforms` the ones for the platform that is wanted, where an
    /// image is. What means none is told when it is evaluated.
    pub(crate) fn mentioned(&self, references: &[Reference], wanted: &Platform) -> Vec<Parent> {
        let mut parents = Vec::new();
        for reference in references.iter().filter(|reference| reference.root == ROOT) {
            let Some((build, rest)) = self.beginning(&reference.path) else { continue };
            let variant = self.variant(build, wanted).filter(|_| may_be_image(rest)).map(|found| &found.build);
            // All but its image is what joins the images has.
            let is_whole = !self.variants.contains_key(build) || rest.first().is_none_or(|name| name.text != IMAGE);
            for build in variant.into_iter().chain(is_whole.then_some(build)) {
                parents.push(Parent { build: Arc::clone(build), span: reference.span });
            }
        }
        parents
    }

    /// Of a build with `platforms`, the one that makes the image for a platform.
    fn variant(&self, build: &Arc<str>, wanted: &Platform) -> Option<&VariantSpec> {
        self.variants.get(build)?.iter().find(|variant| variant.platform.is(wanted))
    }

    /// The build that `depends_on` names, or all of a module.
    pub(crate) fn depended_on(&self, name: &str, span: Span, diagnostics: &mut Diagnostics) -> Vec<Parent> {
        // As `sources` may write it.
        let name = name.strip_prefix("source.").unwrap_or(name);
        let found = self.named(name).map_or_else(|| self.of_module(name), |build| vec![build]);
        if found.is_empty() {
            diagnostics.push(self.no_build(name, span));
        }
        found.into_iter().map(|build| Parent { build: Arc::clone(build), span }).collect()
    }

    fn no_build(&self, name: &str, span: Span) -> Diagnostic {
        if let Some(several) = self.ambiguous.get(name) {
            let title = format!("`{name}` means several builds");
            let names = suggest::enumerate(several.iter().map(AsRef::as_ref));
            return Diagnostic::error("ambiguous-build", span, title).help(format!("they are {names}"));
        }
        let title = format!("the template has no build `{name}`");
        let known = self.full.keys().chain(self.short.keys()).map(String::as_str);
        let diagnostic = Diagnostic::error("unknown-build", span, title);
        match suggest::nearest(name, known) {
            Some(nearest) => diagnostic.help(format!("did you mean `{nearest}`?")),
            None => {
                diagnostic.help(format!("the builds are {}", suggest::enumerate(self.full.keys().map(String::as_str))))
            }
        }
    }

    /// `artifact` as an expression sees it: by the words of each build's name, and by short names.
    /// The image of a build with `platforms` is the one for the platform that is wanted.
    pub(crate) fn value(&self, artifacts: &Artifacts, wanted: &Platform) -> Value {
        let mut tree = Tree::default();
        let short = self.short.iter().map(|(name, build)| (name.as_str(), build));
        for (name, build) in short.chain(self.full.iter().map(|(name, build)| (name.as_str(), build))) {
            let image = self.variants.contains_key(build).then(|| {
                let made = self.variant(build, wanted).and_then(|variant| artifacts.get(&variant.build));
                made.and_then(|values| values.get(IMAGE)).map_or_else(|| Value::unknown(Type::String), value_of)
            });
            tree.insert(name, artifacts.get(build), image);
        }
        tree.value()
    }

    /// Tells references that mean no build, and images for a platform that there are none for, where one is wanted.
    pub(crate) fn report_unknown(
        &self,
        references: &[Reference],
        wanted: Option<&Platform>,
        diagnostics: &mut Diagnostics,
    ) -> bool {
        let mut found = false;
        for reference in references.iter().filter(|reference| reference.root == ROOT) {
            if let Some((build, rest)) = self.beginning(&reference.path) {
                let is_image = rest.first().is_some_and(|name| name.text == IMAGE);
                if is_image
                    && let Some(wanted) = wanted
                    && let Some(variants) = self.variants.get(build)
                    && self.variant(build, wanted).is_none()
                {
                    found = true;
                    diagnostics.push(no_variant(build, variants, wanted, reference.span));
                }
                continue;
            }
            found = true;
            if reference.path.is_empty() {
                let title = "`artifact` needs the name of a build";
                diagnostics.push(
                    Diagnostic::error("unknown-build", reference.span, title)
                        .help("write `artifact.TYPE.NAME.image`, or `artifact.NAME.image` where that is clear"),
                );
                continue;
            }
            let words: Vec<&str> = reference.path.iter().map(|name| name.text.as_str()).collect();
            // The last word is most likely a value's name.
            let is_value = words.len() > 1 && ARTIFACT_VALUES.iter().any(|(name, ..)| words.last() == Some(name));
            let name = words[..words.len() - usize::from(is_value)].join(".");
            diagnostics.push(self.no_build(&name, reference.span));
        }
        found
    }
}

/// Whether words behind a build's name may mean its image: the build as a whole has it, too.
fn may_be_image(rest: &[Name]) -> bool {
    rest.first().is_none_or(|name| name.text == IMAGE)
}

fn no_variant(build: &str, variants: &[VariantSpec], wanted: &Platform, span: Span) -> Diagnostic {
    let has: Vec<String> = variants.iter().map(|variant| variant.platform.to_string()).collect();
    let has = suggest::enumerate(has.iter().map(String::as_str));
    Diagnostic::error("no-platform", span, format!("`{build}` makes no image for {wanted}"))
        .note(format!("its `platforms` are {has}"))
        .help(format!("add \"{wanted}\" to them, or build this for one of them: `platform`, or `platforms`"))
}

/// Objects by words.
#[derive(Default)]
struct Tree {
    values: BTreeMap<String, Value>,
    below: BTreeMap<String, Tree>,
}

impl Tree {
    /// `image` goes before the image among the values.
    fn insert(&mut self, name: &str, values: Option<&kiln_core::ArtifactValues>, image: Option<Value>) {
        let place = name.split('.').fold(self, |tree, word| tree.below.entry(word.to_owned()).or_default());
        for (name, shape, _) in ARTIFACT_VALUES {
            let value = match (&image, values) {
                (Some(image), _) if name == IMAGE => image.clone(),
                (_, None) => Value::unknown(type_of(shape)),
                (_, Some(values)) => values.get(name).map_or_else(|| Value::null_of(type_of(shape)), value_of),
            };
            place.values.insert(name.to_owned(), value);
        }
    }

    fn value(self) -> Value {
        let below = self.below.into_iter().map(|(name, tree)| (name, tree.value()));
        // A build that is called like a value hides it nowhere but where both are meant.
        Value::object(below.chain(self.values))
    }
}

fn type_of(shape: ArtifactShape) -> Type {
    match shape {
        ArtifactShape::Text => Type::String,
        ArtifactShape::List => Type::list(Type::String),
        ArtifactShape::Map => Type::map(Type::String),
    }
}

fn value_of(value: &ArtifactValue) -> Value {
    match value {
        ArtifactValue::Text(text) => Value::string(text.as_str()),
        ArtifactValue::List(texts) => Value::string_list(texts.iter().map(String::as_str)),
        ArtifactValue::Map(entries) => {
            Value::map(Type::String, entries.iter().map(|(key, text)| (key.clone(), Value::string(text.as_str()))))
        }
    }
}

/// Gives each build its parents: those that its parts mention, after those that `depends_on` named.
pub(crate) fn link(specs: &mut [BuildSpec]) {
    for spec in specs {
        let mentioned = mentioned(spec);
        add(&mut spec.parents, mentioned);
    }
}

/// The builds whose values any part of a build uses.
pub(crate) fn mentioned(spec: &BuildSpec) -> Vec<Parent> {
    let mut found = made_of(spec);
    let cleanup = spec.error_cleanup.iter().map(|step| &step.component);
    let post_processors = spec.post_processors.iter().flatten().map(|post_processor| &post_processor.component);
    let hooks = spec.hooks.iter().map(|hook| &hook.component);
    let hooks = hooks.chain(spec.tests.iter().map(|test| &test.component));
    add(&mut found, cleanup.chain(post_processors).chain(hooks).flat_map(|component| component.config.parents()));
    found
}

/// The builds whose values decide what a build seals: those that its source and its steps use.
pub(crate) fn made_of(spec: &BuildSpec) -> Vec<Parent> {
    let components = std::iter::once(&spec.source).chain(spec.steps.iter().map(|step| &step.component));
    let joined = spec.variants.iter();
    let mut found: Vec<Parent> =
        joined.map(|variant| Parent { build: Arc::clone(&variant.build), span: spec.source.span }).collect();
    add(&mut found, components.flat_map(|component| component.config.parents()));
    found
}

fn add(parents: &mut Vec<Parent>, more: impl IntoIterator<Item = Parent>) {
    for parent in more {
        if !parents.iter().any(|known| known.build == parent.build) {
            parents.push(parent);
        }
    }
}

/// All that these builds are built upon, themselves included.
pub(crate) fn with_ancestors(chosen: Vec<Arc<str>>, parents: impl Fn(&str) -> Vec<Arc<str>>) -> BTreeSet<Arc<str>> {
    let mut found = BTreeSet::new();
    let mut waiting = chosen;
    while let Some(name) = waiting.pop() {
        if found.insert(Arc::clone(&name)) {
            waiting.extend(parents(&name));
        }
    }
    found
}

/// Tells builds that wait for each other, each ring once and whole.
pub(crate) fn report_rings(specs: &[BuildSpec], diagnostics: &mut Diagnostics) {
    let by_name: BTreeMap<&str, &BuildSpec> = specs.iter().map(|spec| (&*spec.name, spec)).collect();
    let mut done: BTreeSet<&str> = BTreeSet::new();
    for spec in specs {
        let mut path: Vec<(&BuildSpec, usize)> = vec![(spec, 0)];
        while let Some((build, next)) = path.last_mut() {
            let build = *build;
            let Some(parent) = build.parents.get(*next).filter(|_| !done.contains(&*build.name)) else {
                done.insert(&build.name);
                path.pop();
                continue;
            };
            *next += 1;
            if let Some(start) = path.iter().position(|(on_way, _)| on_way.name == parent.build) {
                diagnostics.push(ring(&path[start..]));
                // One ring of it is enough.
                path.iter().for_each(|(build, _)| _ = done.insert(&build.name));
            } else if let Some(parent) = by_name.get(&*parent.build).filter(|parent| !done.contains(&*parent.name)) {
                path.push((parent, 0));
            }
        }
    }
}

fn ring(path: &[(&BuildSpec, usize)]) -> Diagnostic {
    // Each was left by the parent that it was last asked for.
    let mentions: Vec<&Parent> = path.iter().map(|(build, next)| &build.parents[next - 1]).collect();
    let names: Vec<&str> = path.iter().map(|(build, _)| &*build.name).chain([&*path[0].0.name]).collect();
    if path.len() == 1 {
        let title = format!("the build `{}` is built upon itself", names[0]);
        return Diagnostic::error("build-cycle", mentions[0].span, title);
    }
    let title = format!("these builds wait for each other: {}", names.join(" needs "));
    let first =
        Diagnostic::error("build-cycle", mentions[0].span, title).label(format!("`{}` needs `{}`", names[0], names[1]));
    mentions[1..].iter().enumerate().fold(first, |diagnostic, (index, mention)| {
        diagnostic.also(mention.span, format!("`{}` needs `{}`", names[index + 1], names[index + 2]))
    })
}
