//! Which sources a build block uses, and what it calls them.

use std::collections::BTreeSet;
use std::sync::Arc;

use kiln_core::{Diagnostic, Diagnostics, Platform, Span};
use kiln_language::evaluate::{Variables, references};

use super::blocks::SourceDeclaration;
use super::builds::{BuildReader, makes};
use super::caching::ADDED_ARGUMENTS;
use super::component::{Layer, Place};
use super::dynamic::{ExpandedBlock, expand_block};
use super::platforms::Role;
use super::repetition::{self, Element, Purpose, Repetition, refers_to_each};
use super::scope::Overlay;
use super::sources::{Found, Instance};
use super::steps::Arguments;
use super::to_config::literal_elements;

/// The code of a build block that names no source.
pub(crate) const NO_SOURCES: &str = "no-sources";

/// One use of a source by a build block.
pub(crate) struct SourceUse {
    pub(crate) instance: Instance,
    /// The name of the source, or the one the build gives it.
    pub(crate) name: String,
    /// The same without the key of an element.
    pub(crate) family: String,
    /// What steps know as `source.key` and `source.value`.
    pub(crate) element: Option<Element>,
    /// What the build adds to the source.
    pub(crate) added: Option<Layer>,
    /// Where it is named.
    pub(crate) span: Span,
    /// Whether it stands for one that is not declared, which was told.
    pub(crate) is_guess: bool,
}

impl SourceUse {
    pub(crate) fn kind(&self) -> &str {
        &self.instance.declaration.kind.text
    }
}

impl BuildReader<'_, '_> {
    /// The sources of `sources = [...]`, then those of `source` blocks.
    pub(crate) fn source_uses(&mut self) -> Vec<SourceUse> {
        let whole = self.whole();
        let is_quoted = !self.report_unquoted_sources();
        let listed =
            is_quoted.then(|| Arguments::new(&whole, &self.shared.values, self.diagnostics).texts("sources")).flatten();
        let mut uses = Vec::new();
        for (reference, span) in listed.unwrap_or_default() {
            let Some(found) = self.find_source(&reference, span) else { continue };
            let is_guess = found.is_guess;
            self.known.add(&found.family.0, &found.family.1);
            // Steps may be meant for what is left out, too.
            for instance in found.dropped {
                let family = instance.declaration.name.text.clone();
                self.leave_out(&instance, instance.name.clone(), family);
            }
            uses.extend(found.instances.into_iter().map(|instance| SourceUse {
                name: instance.name.clone(),
                family: instance.declaration.name.text.clone(),
                element: instance.element.clone(),
                added: None,
                instance,
                span,
                is_guess,
            }));
        }
        let mut has_block = false;
        let body = &self.block.body;
        for block in body.blocks().filter(|block| makes(block, "source")) {
            has_block = true;
            for block in expand_block(block, &self.shared.values, &self.bindings, self.diagnostics) {
                uses.extend(self.repeated_source_block(block));
            }
        }
        // Written, but in the wrong form: that was told already.
        let is_misplaced =
            body.blocks().any(|block| block.kind.text == "sources") || body.attribute("source").is_some();
        if !has_block && body.attribute("sources").is_none() && !is_misplaced {
            self.diagnostics.push(
                Diagnostic::error(NO_SOURCES, self.block.header, "a `build` block needs at least one source")
                    .help("write `sources = [\"source.TYPE.NAME\"]`"),
            );
        }
        drop_repeated_guesses(uses)
    }

    /// The sources that a reference means.
    fn find_source(&mut self, reference: &str, span: Span) -> Option<Found> {
        let found = self.sources.find(reference, span, self.diagnostics)?;
        found.left_out.into_iter().for_each(|place| self.selection.leave_out(place));
        self.known.open.extend(found.open.clone());
        Some(found)
    }

    /// Tells `sources = [source.docker.x]`: sources are named by texts. Whether there were any.
    fn report_unquoted_sources(&mut self) -> bool {
        let attribute = self.block.body.attribute("sources");
        let mut found = false;
        for element in literal_elements(attribute.map(|attribute| &attribute.value)).unwrap_or_default() {
            let whole = references(element).into_iter().find(|reference| reference.span == element.span);
            let whole = whole.filter(|reference| reference.root != repetition::EACH);
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

    /// Notes a source that is left out: steps may be meant for it, and patterns.
    fn leave_out(&mut self, instance: &Instance, name: String, family: String) {
        let kind = &instance.declaration.kind.text;
        self.known.add(kind, &name);
        self.known.add(kind, &family);
        self.left_out.push((kind.clone(), name, family));
    }

    /// A `source` block of a build, as often as its own `for_each` says.
    fn repeated_source_block(&mut self, block: ExpandedBlock<'_>) -> Vec<SourceUse> {
        let scope = Overlay { values: &self.shared.values, bindings: &block.bindings };
        match repetition::read(block.body, &scope, Purpose::Names, self.diagnostics) {
            Repetition::Once => self.source_block(&block, None),
            Repetition::Never(place) => {
                self.selection.leave_out(place);
                for used in self.source_block(&block, None) {
                    self.leave_out(&used.instance, used.name, used.family);
                }
                Vec::new()
            }
            Repetition::Each { elements, left_out, .. } => {
                left_out.into_iter().for_each(|place| self.selection.leave_out(place));
                let mut uses = Vec::new();
                for element in elements {
                    let block = ExpandedBlock { bindings: element.bind(&block.bindings), ..block.clone() };
                    uses.extend(self.source_block(&block, Some(&element)));
                }
                uses
            }
        }
    }

    fn source_block(&mut self, block: &ExpandedBlock<'_>, element: Option<&Element>) -> Vec<SourceUse> {
        let [reference] = block.labels.as_slice() else {
            let span = block.labels.get(1).map_or(block.header, |extra| extra.span);
            let title = "a `source` block in a build takes one label, the source it uses";
            self.diagnostics.push(
                Diagnostic::error("wrong-label", span, title).help("write `source \"source.TYPE.NAME\" { ... }`"),
            );
            return Vec::new();
        };
        let Some(found) = self.find_source(&reference.text, reference.span) else { return Vec::new() };
        let is_guess = found.is_guess;
        if found.instances.is_empty() && found.dropped.is_empty() {
            // A family without elements; a name that tells them apart cannot be known.
            let name = Arguments::new(block, &self.shared.values, &mut Diagnostics::new()).text("name");
            self.known.add(&found.family.0, name.as_ref().map_or(&found.family.1, |(name, _)| name));
        }
        if let Some(instance) = found.instances.first() {
            self.report_set_twice(block, &instance.declaration);
        }
        for instance in &found.dropped {
            let (name, family) = self.local_name(block, instance, element);
            self.leave_out(instance, name, family);
        }
        let mut uses = Vec::new();
        for instance in found.instances {
            let (name, family) = self.local_name(block, &instance, element);
            uses.push(SourceUse {
                name,
                family,
                element: element.cloned().or_else(|| instance.element.clone()),
                instance,
                span: block.header,
                is_guess,
                added: Some(Layer {
                    body: Arc::new(block.body.clone()),
                    header: block.header,
                    skip: &ADDED_ARGUMENTS,
                    bindings: block.bindings.iterators(),
                }),
            });
        }
        uses
    }

    fn report_set_twice(&mut self, block: &ExpandedBlock<'_>, declaration: &SourceDeclaration) {
        for attribute in block.body.attributes() {
            let name = &attribute.name;
            if repetition::ARGUMENTS.contains(&name.text.as_str()) {
                continue;
            }
            if let Some(first) = declaration.body.attribute(&name.text) {
                let title = format!("`{}` is set by the source already; a build can only add to a source", name.text);
                self.diagnostics
                    .push(Diagnostic::error("duplicate-argument", name.span, title).also(first.name.span, "set here"));
            }
        }
    }

    /// What a `source` block calls the source, with and without the keys of elements. A name that does not tell the
    /// elements apart itself gets their keys.
    fn local_name(
        &mut self,
        block: &ExpandedBlock<'_>,
        instance: &Instance,
        element: Option<&Element>,
    ) -> (String, String) {
        let expression = block.body.attribute("name").map(|attribute| &attribute.value);
        let source = Place {
            source_kind: instance.declaration.kind.text.clone(),
            source_name: instance.name.clone(),
            source_family: instance.declaration.name.text.clone(),
            element: instance.element.clone(),
            build_name: String::new(),
            role: Role::Plain(Platform::host()),
            platforms: None,
        };
        let bindings = source.source_bindings().under(&block.bindings);
        let named = ExpandedBlock { bindings, ..block.clone() };
        let local = Arguments::new(&named, &self.shared.values, self.diagnostics).text("name").map(|(name, _)| name);
        let is_given = local.is_some();
        let family = local.unwrap_or_else(|| instance.declaration.name.text.clone());
        let tells_source = expression.is_some_and(|name| references(name).iter().any(|found| found.root == "source"));
        let mut name = match &instance.element {
            Some(element) if !is_given || !tells_source => element.name_after(&family),
            _ => family.clone(),
        };
        if let Some(element) = element.filter(|_| !expression.is_some_and(refers_to_each)) {
            name = element.name_after(&name);
        }
        (name, family)
    }
}

/// A guess that the build uses anyway would only be called a repetition.
fn drop_repeated_guesses(uses: Vec<SourceUse>) -> Vec<SourceUse> {
    let meant = |used: &SourceUse| (used.kind().to_owned(), used.name.clone());
    let mut taken: BTreeSet<_> = uses.iter().filter(|used| !used.is_guess).map(meant).collect();
    uses.into_iter().filter(|used| !used.is_guess || taken.insert(meant(used))).collect()
}
