//! What the blocks of a template declare, for `inspect`. Mistakes are not told here: reading the builds tells them.

use std::collections::BTreeMap;
use std::sync::Arc;

use kiln_core::outline::{BuildOutline, ComponentOutline, DataOutline, ModuleOutline, Outline};
use kiln_core::{Diagnostics, Span};
use kiln_language::convert::convert;
use kiln_language::print::UNKNOWN;
use kiln_language::syntax::{Attribute, Block, Body};
use kiln_language::value::{Type, Value};

use super::blocks::Declarations;
use super::component::Shared;
use super::dynamic::{ExpandedBlock, expand_block};
use super::modules::Scope;
use super::repetition::{self, Element, Purpose, Repetition, refers_to_each};
use super::scope::{Bindings, Overlay, Values};
use super::sources::{Instance, Sources};
use super::variables::collect_secrets;

/// The outline of all `build` and `data` blocks, those of modules after the others, and texts in it that must not be shown.
pub(crate) fn outline(scopes: &[Scope], shared: &[Arc<Shared>]) -> (Outline, Vec<String>) {
    let mut outline = Outline::default();
    let mut secrets = Vec::new();
    for (scope, shared) in scopes.iter().zip(shared) {
        let declarations = &*scope.declarations;
        let data = declarations.data.iter();
        let data = data.map(|data| DataOutline { name: scope.qualified(&data.label()), span: data.header });
        outline.data_sources.extend(data);
        let mut reader = Reader::new(declarations, &shared.values);
        for mut build in declarations.builds.iter().flat_map(|block| reader.builds(block)) {
            if !scope.path.is_empty() {
                build.name = Some(match build.name {
                    Some(name) => scope.qualified(&name),
                    None => scope.path.clone(),
                });
            }
            outline.builds.push(build);
        }
        secrets.append(&mut reader.ignored.secrets);
        outline.modules.extend(scope.module().map(|module| ModuleOutline {
            name: scope.path.clone(),
            directory: scope.directory.display().to_string(),
            outputs: declarations.outputs.keys().cloned().collect(),
            span: module.header,
        }));
    }
    outline.data_sources.sort_by(|left, right| left.name.cmp(&right.name));
    (outline, secrets)
}

struct Reader<'a> {
    values: &'a Values,
    /// `source` and `build`, which no build gives a value here.
    around: Bindings,
    sources: Sources<'a>,
    groups: &'a BTreeMap<String, Block>,
    /// Mistakes are of no interest here; texts of sensitive values are.
    ignored: Diagnostics,
}

impl<'a> Reader<'a> {
    fn new(declarations: &'a Declarations, values: &'a Values) -> Reader<'a> {
        let unknown = || Value::unknown(Type::Any);
        Reader {
            values,
            around: Bindings::of_build(unknown(), unknown()),
            sources: Sources::new(declarations, values),
            groups: &declarations.groups,
            ignored: Diagnostics::new(),
        }
    }

    /// A build, as often as `for_each` and `enabled` say.
    fn builds(&mut self, block: &Block) -> Vec<BuildOutline> {
        let scope = Overlay { values: self.values, bindings: &self.around };
        match repetition::read(&block.body, &scope, Purpose::Names, &mut self.ignored) {
            Repetition::Once => vec![self.build(block, None)],
            Repetition::Never(_) => Vec::new(),
            Repetition::Each { elements, .. } => {
                elements.iter().map(|element| self.build(block, Some(element))).collect()
            }
        }
    }

    fn build(&mut self, block: &Block, element: Option<&Element>) -> BuildOutline {
        let around = element.map_or_else(|| self.around.clone(), |element| element.bind(&self.around));
        let name = block.body.attribute("name");
        let written = self.text(name, &around).unwrap_or_default();
        let is_complete = name.is_some_and(|name| refers_to_each(&name.value));
        let name = match element {
            Some(element) if !is_complete => element.name_after(&written),
            _ => written,
        };
        let mut build = BuildOutline {
            name: Some(name).filter(|name| !name.is_empty()),
            description: self.text(block.body.attribute("description"), &around).filter(|text| !text.is_empty()),
            span: block.header,
            sources: self.listed_sources(&block.body, &around),
            steps: Vec::new(),
            error_cleanup: None,
            post_processors: Vec::new(),
        };
        for block in self.repeated_blocks(&block.body, &around) {
            match block.kind.text.as_str() {
                "source" => {
                    let label = block.labels.first().map(|label| label.text.clone());
                    build.sources.extend(label.into_iter().flat_map(|label| self.source_names(&label, block.header)));
                }
                "provisioner" => build.steps.extend(self.component(&block)),
                "steps" => build.steps.extend(self.group(&block, &[])),
                "error-cleanup-provisioner" => build.error_cleanup = self.component(&block),
                "post-processor" => build.post_processors.extend(self.component(&block).map(|link| vec![link])),
                "post-processors" => {
                    let links = self.repeated_blocks(block.body, &block.bindings);
                    build.post_processors.push(links.iter().filter_map(|link| self.component(link)).collect());
                }
                _ => {}
            }
        }
        build
    }

    /// The blocks of a body, as often as they are meant.
    fn repeated_blocks<'b>(&mut self, body: &'b Body, bindings: &Bindings) -> Vec<ExpandedBlock<'b>> {
        let mut repeated = Vec::new();
        for block in self.blocks(body, bindings) {
            let scope = Overlay { values: self.values, bindings: &block.bindings };
            match repetition::read(block.body, &scope, Purpose::Steps, &mut self.ignored) {
                Repetition::Once => repeated.push(block),
                Repetition::Never(_) => {}
                Repetition::Each { elements, .. } => {
                    let each = |element: &Element| element.bind(&block.bindings);
                    repeated.extend(elements.iter().map(|it| ExpandedBlock { bindings: each(it), ..block.clone() }));
                }
            }
        }
        repeated
    }

    /// The blocks of a body, `dynamic` ones expanded.
    fn blocks<'b>(&mut self, body: &'b Body, bindings: &Bindings) -> Vec<ExpandedBlock<'b>> {
        body.blocks().flat_map(|block| expand_block(block, self.values, bindings, &mut self.ignored)).collect()
    }

    fn listed_sources(&mut self, body: &Body, bindings: &Bindings) -> Vec<String> {
        let Some(listed) = body.attribute("sources") else { return Vec::new() };
        let value = Overlay { values: self.values, bindings }.evaluate(&listed.value, &mut self.ignored);
        let elements = value.as_elements().unwrap_or_default();
        let references = elements.iter().map(|element| element.as_str().unwrap_or(UNKNOWN));
        references.flat_map(|reference| self.source_names(reference, listed.value.span)).collect()
    }

    /// `type.name` of what a reference means: all of a family, none where it is left out, and what it says where it is not
    /// declared.
    fn source_names(&mut self, reference: &str, span: Span) -> Vec<String> {
        match self.sources.find(reference, span, &mut self.ignored) {
            Some(found) if !found.is_guess => found.instances.iter().map(Instance::full_name).collect(),
            _ => source_name(reference).into_iter().collect(),
        }
    }

    /// The steps of a group; `around` are the names of those that it stands in.
    fn group(&mut self, used: &ExpandedBlock<'_>, around: &[&str]) -> Vec<ComponentOutline> {
        let groups = self.groups;
        let found = used.labels.first().and_then(|label| groups.get_key_value(&label.text));
        let Some((name, group)) = found.filter(|(name, _)| !around.contains(&name.as_str())) else { return Vec::new() };
        let around = [around, &[name]].concat();
        let mut steps = Vec::new();
        for block in self.repeated_blocks(&group.body, &used.bindings) {
            match block.kind.text.as_str() {
                "steps" => steps.extend(self.group(&block, &around)),
                _ => steps.extend(self.component(&block)),
            }
        }
        steps
    }

    fn component(&mut self, block: &ExpandedBlock<'_>) -> Option<ComponentOutline> {
        let kind = block.labels.first()?.text.clone();
        let name = self.text(block.body.attribute("name"), &block.bindings).filter(|name| !name.is_empty());
        Some(ComponentOutline { kind, name, span: block.header })
    }

    fn text(&mut self, attribute: Option<&Attribute>, bindings: &Bindings) -> Option<String> {
        let overlay = Overlay { values: self.values, bindings };
        let value = overlay.evaluate(&attribute?.value, &mut self.ignored);
        if value.is_unknown() {
            return Some(UNKNOWN.to_owned());
        }
        collect_secrets(&value, false, &mut self.ignored.secrets);
        convert(&value, &Type::String).ok()?.as_str().map(str::to_owned)
    }
}

/// `type.name` of a reference; of three parts, the first is passed over, as in Packer.
fn source_name(reference: &str) -> Option<String> {
    let parts: Vec<&str> = reference.split('.').collect();
    match parts.as_slice() {
        [kind, name] | [_, kind, name, ..] => Some(format!("{kind}.{name}")),
        [only] if *only == UNKNOWN => Some(UNKNOWN.to_owned()),
        _ => None,
    }
}
