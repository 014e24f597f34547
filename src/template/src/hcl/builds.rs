//! `build` blocks: their sources, and what runs for each.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kiln_core::{BuildSpec, ComponentSpec, Diagnostic, Diagnostics, PostProcessorSpec, Span, StepSpec, suggest};
use kiln_language::evaluate::{Reference, Variables, references};
use kiln_language::syntax::{Block, Body, Item};

use super::blocks::{Declarations, SourceDeclaration, check_items, registry_is_ignored};
use super::component::{HclComponent, Layer, Place, Shared, collect_references};
use super::dynamic::{ExpandedBlock, expand_block};
use super::scope::Bindings;
use super::select::Selection;
use super::steps::{Arguments, BuildContext, Quoted, read_post_processor, read_step};
use super::to_config::literal_elements;

const BUILD_ARGUMENTS: [&str; 3] = ["name", "description", "sources"];
const BUILD_BLOCKS: [&str; 7] = [
    "source",
    "provisioner",
    "error-cleanup-provisioner",
    "post-processor",
    "post-processors",
    "hcp_packer_registry",
    "dynamic",
];
const MADE_BY_DYNAMIC: [&str; 5] =
    ["source", "provisioner", "error-cleanup-provisioner", "post-processor", "post-processors"];

/// One use of a source by a build block.
struct SourceUse {
    declaration: Arc<SourceDeclaration>,
    /// The name of the source, or the one the build gives it.
    name: String,
    /// What the build adds to the source.
    added: Option<Layer>,
    /// Where it is named.
    span: Span,
    /// Whether it stands for one that is not declared, which was told.
    is_guess: bool,
}

/// What all build blocks give.
#[derive(Default)]
pub(crate) struct Builds {
    /// Those selected, in order.
    pub(crate) specs: Vec<BuildSpec>,
    /// Names of all, selected or not.
    pub(crate) names: Vec<String>,
    /// The first description.
    pub(crate) description: Option<String>,
}

/// Reads all build blocks. Steps and sources of builds that are not selected are left alone.
pub(crate) fn read(
    declarations: &Declarations,
    shared: &Arc<Shared>,
    selection: &Selection,
    diagnostics: &mut Diagnostics,
) -> Builds {
    let mut builds = Builds::default();
    let mut first_use: BTreeMap<String, Span> = BTreeMap::new();
    for block in &declarations.builds {
        let title = "a `build` block";
        check_items(&block.body, title, &BUILD_ARGUMENTS, &BUILD_BLOCKS, diagnostics);
        let undeclared = Vec::new();
        let mut reader = BuildReader { block, declarations, shared, selection, undeclared, diagnostics };
        let (name, description) = reader.names();
        builds.description = builds.description.take().or(description);
        let uses = reader.source_uses();
        let names: Vec<String> =
            uses.iter().map(|used| format!("{}.{}", used.declaration.kind.text, used.name)).collect();
        // An undeclared one was told where the build names it, and need not be told again in `only`.
        let known_sources = [names.as_slice(), &reader.undeclared].concat();
        let local_names: Vec<String> = uses.iter().map(|used| used.name.clone()).collect();
        for (used, source) in uses.into_iter().zip(&names) {
            let full = name.as_ref().map_or_else(|| source.clone(), |name| format!("{name}.{source}"));
            let is_selected = selection.takes_build(&full);
            // Labels, directories and reports are by name, so every build needs one of its own.
            let repeated = builds.names.iter().filter(|known| **known == full).count();
            builds.names.push(full.clone());
            let unique = if repeated == 0 { full.clone() } else { format!("{full}-{}", repeated + 1) };
            if let Some(first) = first_use.get(&full) {
                let title = format!("a second build is called `{full}`; it is shown as `{unique}`");
                reader.diagnostics.push(
                    Diagnostic::warning("duplicate-build", used.span, title)
                        .also(*first, "first here")
                        .help("give the `build` block, or the source in it, a `name`"),
                );
            } else {
                first_use.insert(full.clone(), used.span);
            }
            if is_selected {
                let build_name = name.clone().unwrap_or_default();
                builds.specs.push(reader.spec(used, unique, build_name, &known_sources, &local_names));
            }
        }
    }
    builds
}

struct BuildReader<'a> {
    block: &'a Block,
    declarations: &'a Declarations,
    shared: &'a Arc<Shared>,
    selection: &'a Selection,
    /// `type.name` of sources that are named and not declared.
    undeclared: Vec<String>,
    diagnostics: &'a mut Diagnostics,
}

impl<'a> BuildReader<'a> {
    fn whole(&self) -> ExpandedBlock<'a> {
        ExpandedBlock {
            kind: self.block.kind.clone(),
            labels: Vec::new(),
            header: self.block.header,
            body: &self.block.body,
            bindings: Bindings::default(),
        }
    }

    fn names(&mut self) -> (Option<String>, Option<String>) {
        let whole = self.whole();
        let mut arguments = Arguments::new(&whole, &self.shared.values, self.diagnostics);
        let name = arguments.text("name").map(|(name, _)| name).filter(|name| !name.is_empty());
        (name, arguments.text("description").map(|(text, _)| text))
    }

    /// The sources of `sources = [...]`, then those of `source` blocks.
    fn source_uses(&mut self) -> Vec<SourceUse> {
        let whole = self.whole();
        let is_quoted = !self.report_unquoted_sources();
        let listed =
            is_quoted.then(|| Arguments::new(&whole, &self.shared.values, self.diagnostics).texts("sources")).flatten();
        let mut uses: Vec<SourceUse> = listed
            .unwrap_or_default()
            .into_iter()
            .filter_map(|(reference, span)| {
                let (declaration, is_guess) = self.find_source(&reference, span)?;
                Some(SourceUse { name: declaration.name.text.clone(), declaration, added: None, span, is_guess })
            })
            .collect();
        let mut has_block = false;
        let (values, body) = (&self.shared.values, &self.block.body);
        for block in body.blocks().filter(|block| makes(block, "source")) {
            has_block = true;
            for block in expand_block(block, values, &Bindings::default(), self.diagnostics) {
                uses.extend(self.source_block(&block));
            }
        }
        // Written, but in the wrong form: that was told already.
        let is_misplaced =
            body.blocks().any(|block| block.kind.text == "sources") || body.attribute("source").is_some();
        if !has_block && body.attribute("sources").is_none() && !is_misplaced {
            self.diagnostics.push(
                Diagnostic::error("missing-argument", self.block.header, "a `build` block needs at least one source")
                    .help("write `sources = [\"source.TYPE.NAME\"]`"),
            );
        }
        drop_repeated_guesses(uses)
    }

    /// Tells `sources = [source.docker.x]`: sources are named by texts. Whether there were any.
    fn report_unquoted_sources(&mut self) -> bool {
        let attribute = self.block.body.attribute("sources");
        let mut found = false;
        for element in literal_elements(attribute.map(|attribute| &attribute.value)).unwrap_or_default() {
            let whole = references(element).into_iter().find(|reference| reference.span == element.span);
            let Some(reference) = whole.filter(|reference| self.shared.values.root(&reference.root).is_none()) else {
                continue;
            };
            found = true;
            let path: String = reference.path.iter().map(|name| format!(".{}", name.text)).collect();
            let quoted = format!("\"{}{path}\"", reference.root);
            let title = "a source is named by a text here, in quotes";
            self.diagnostics.push(Diagnostic::error("unquoted-source", element.span, title).fix(
                element.span,
                quoted,
                "put it in quotes",
            ));
        }
        found
    }

    fn source_block(&mut self, block: &ExpandedBlock<'_>) -> Option<SourceUse> {
        let [reference] = block.labels.as_slice() else {
            let span = block.labels.get(1).map_or(block.header, |extra| extra.span);
            let title = "a `source` block in a build takes one label, the source it uses";
            self.diagnostics.push(
                Diagnostic::error("wrong-label", span, title).help("write `source \"source.TYPE.NAME\" { ... }`"),
            );
            return None;
        };
        let (declaration, is_guess) = self.find_source(&reference.text, reference.span)?;
        let local = Arguments::new(block, &self.shared.values, self.diagnostics).text("name").map(|(name, _)| name);
        for attribute in block.body.attributes() {
            let name = &attribute.name;
            if let Some(first) = declaration.body.attribute(&name.text) {
                let title = format!("`{}` is set by the source already; a build can only add to a source", name.text);
                self.diagnostics
                    .push(Diagnostic::error("duplicate-argument", name.span, title).also(first.name.span, "set here"));
            }
        }
        Some(SourceUse {
            name: local.unwrap_or_else(|| declaration.name.text.clone()),
            declaration,
            span: block.header,
            is_guess,
            added: Some(Layer {
                body: Arc::new(block.body.clone()),
                header: block.header,
                skip: &["name"],
                bindings: block.bindings.iterators(),
            }),
        })
    }

    /// The source that `type.name` or `source.type.name` means; of three parts, Packer passes over the first. With `true`,
    /// it is not declared, which is told, and this is the one that was probably meant: the rest is checked with it.
    fn find_source(&mut self, reference: &str, span: Span) -> Option<(Arc<SourceDeclaration>, bool)> {
        let parts: Vec<&str> = reference.split('.').collect();
        let (kind, name) = match parts.as_slice() {
            [kind, name] | [_, kind, name] => (*kind, *name),
            _ => {
                let title = format!("`{reference}` does not name a source");
                let diagnostic = Diagnostic::error("wrong-reference", span, title);
                let same_name = self.declarations.sources.keys().find(|(_, name)| name == reference);
                self.diagnostics.push(match same_name {
                    Some((kind, name)) => {
                        let full = format!("source.{kind}.{name}");
                        diagnostic.fix(span, format!("\"{full}\""), format!("did you mean `{full}`?"))
                    }
                    None => diagnostic.help("write `source.TYPE.NAME`"),
                });
                return None;
            }
        };
        if let Some(found) = self.declarations.sources.get(&(kind.to_owned(), name.to_owned())) {
            return Some((Arc::clone(found), false));
        }
        self.undeclared.push(format!("{kind}.{name}"));
        let prefix = if parts.len() == 3 { format!("{}.", parts[0]) } else { String::new() };
        let names: Vec<String> =
            self.declarations.source_names().into_iter().map(|name| format!("{prefix}{name}")).collect();
        let title = format!("the source `{kind}.{name}` is not declared");
        let diagnostic = Diagnostic::error("unknown-source", span, title);
        let diagnostic = diagnostic.did_you_mean_quoted(span, reference, names.iter().map(String::as_str));
        let has_advice = diagnostic.fix.is_some() || diagnostic.help.is_some();
        self.diagnostics.push(if has_advice {
            diagnostic
        } else {
            diagnostic.help(format!("declare it: `source \"{kind}\" \"{name}\" {{ ... }}`"))
        });
        let meant = suggest::nearest(reference, names.iter().map(String::as_str))?;
        let (name, kind) = {
            let mut parts = meant.rsplit('.');
            (parts.next()?, parts.next()?)
        };
        let found = self.declarations.sources.get(&(kind.to_owned(), name.to_owned()))?;
        Some((Arc::clone(found), true))
    }

    fn spec(
        &mut self,
        used: SourceUse,
        full: String,
        build_name: String,
        known_sources: &[String],
        local_names: &[String],
    ) -> BuildSpec {
        let declaration = &used.declaration;
        let place = Place { source_kind: declaration.kind.text.clone(), source_name: used.name.clone(), build_name };
        let own = Layer {
            body: Arc::clone(&declaration.body),
            header: declaration.header,
            skip: &[],
            bindings: Bindings::default(),
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
                layers: [own].into_iter().chain(used.added).collect(),
                overrides: None,
            }),
        };
        let context = BuildContext { shared: self.shared, place: &place, known_sources, local_names };
        let (steps, error_cleanup) = self.steps(&context);
        let post_processors = self.post_processors(&context);
        BuildSpec { name: full.into(), build_name: used.name.into(), source, steps, error_cleanup, post_processors }
    }

    /// The blocks of some kinds, `dynamic` ones expanded with this build's `source` at hand.
    fn blocks(&mut self, kinds: &[&str], place: &Place, body: &'a Body, around: &Bindings) -> Vec<ExpandedBlock<'a>> {
        let mut blocks = Vec::new();
        for item in &body.items {
            let Item::Block(block) = item else { continue };
            if !kinds.iter().any(|kind| makes(block, kind)) {
                continue;
            }
            let bindings = place.bindings(&references_in(block)).under(&around.iterators());
            if block.kind.text == "dynamic" {
                self.report_machine_dependence(block);
            }
            blocks.extend(expand_block(block, &self.shared.values, &bindings, self.diagnostics));
        }
        blocks
    }

    fn report_machine_dependence(&mut self, block: &Block) {
        let Some(for_each) = block.body.attribute("for_each") else { return };
        let found = references(&for_each.value);
        for reference in found
            .iter()
            .filter(|found| found.root == "build" && found.path.first().is_none_or(|name| name.text != "name"))
        {
            let title = "how many steps there are cannot depend on the machine";
            self.diagnostics.push(Diagnostic::error("unknown-value", reference.span, title));
        }
    }

    fn steps(&mut self, context: &BuildContext<'_>) -> (Vec<StepSpec>, Option<StepSpec>) {
        let kinds = ["provisioner", "error-cleanup-provisioner"];
        let mut steps = Vec::new();
        let mut cleanup: Option<StepSpec> = None;
        let mut first: Option<Span> = None;
        for block in self.blocks(&kinds, context.place, &self.block.body, &Bindings::default()) {
            let is_cleanup = block.kind.text == "error-cleanup-provisioner";
            let step = read_step(&block, context, self.diagnostics);
            if !is_cleanup {
                steps.extend(step);
            } else if let Some(first) = first {
                let title = "a build takes one `error-cleanup-provisioner` only";
                self.diagnostics
                    .push(Diagnostic::error("duplicate-block", block.header, title).also(first, "first here"));
            } else {
                first = Some(block.header);
                cleanup = step;
            }
        }
        (steps, cleanup)
    }

    fn post_processors(&mut self, context: &BuildContext<'_>) -> Vec<Vec<PostProcessorSpec>> {
        let kinds = ["post-processor", "post-processors"];
        let mut chains = Vec::new();
        for block in self.blocks(&kinds, context.place, &self.block.body, &Bindings::default()) {
            let chain = if block.kind.text == "post-processor" {
                self.chain(vec![block], context)
            } else {
                check_items(
                    block.body,
                    "a `post-processors` block",
                    &[],
                    &["post-processor", "dynamic"],
                    self.diagnostics,
                );
                // The body lives as long as the template; only the expansion's names are new.
                let inner = self.blocks(&["post-processor"], context.place, block.body, &block.bindings);
                self.chain(inner, context)
            };
            if !chain.is_empty() {
                chains.push(chain);
            }
        }
        chains
    }

    /// `-except` drops a post-processor and all behind it; its own `only` and `except` drop it alone.
    fn chain(&mut self, blocks: Vec<ExpandedBlock<'_>>, context: &BuildContext<'_>) -> Vec<PostProcessorSpec> {
        let mut chain = Vec::new();
        let mut is_cut = false;
        for block in blocks {
            let Some(spec) = read_post_processor(&block, context, self.diagnostics) else { continue };
            let name = spec.component.name.as_ref().unwrap_or(&spec.component.kind);
            is_cut = self.selection.drops_post_processor(name) || is_cut;
            if !is_cut {
                chain.push(spec);
            }
        }
        chain
    }
}

/// A guess that the build uses anyway would only be called a repetition.
fn drop_repeated_guesses(uses: Vec<SourceUse>) -> Vec<SourceUse> {
    let meant = |used: &SourceUse| (used.declaration.kind.text.clone(), used.name.clone());
    let mut taken: BTreeSet<_> = uses.iter().filter(|used| !used.is_guess).map(meant).collect();
    uses.into_iter().filter(|used| !used.is_guess || taken.insert(meant(used))).collect()
}

/// Whether a block is of a kind, or a `dynamic` block that makes such.
fn makes(block: &Block, kind: &str) -> bool {
    block.kind.text == kind
        || (block.kind.text == "dynamic" && block.labels.first().is_some_and(|label| label.text == kind))
}

fn references_in(block: &Block) -> Vec<Reference> {
    let mut found = Vec::new();
    collect_references(&block.body, &mut found);
    found
}

/// Mistakes of shape inside build blocks that do not depend on which builds run.
pub(crate) fn check_shape(builds: &[Block], diagnostics: &mut Diagnostics) {
    for block in builds.iter().flat_map(|build| build.body.blocks()) {
        match block.kind.text.as_str() {
            "hcp_packer_registry" => diagnostics.push(registry_is_ignored(block.kind.span)),
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
