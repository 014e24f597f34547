//! What the blocks of a template declare, for `inspect`. Mistakes are not told here: reading the builds tells them.

use kiln_core::Diagnostics;
use kiln_core::outline::{BuildOutline, ComponentOutline, DataOutline, Outline};
use kiln_language::convert::convert;
use kiln_language::print::UNKNOWN;
use kiln_language::syntax::{Attribute, Block, Body};
use kiln_language::value::{Type, Value};

use super::blocks::Declarations;
use super::dynamic::{Expanded, ExpandedBlock, expand};
use super::scope::{Bindings, Overlay, Values};

/// The outline of all `build` and `data` blocks.
pub(crate) fn outline(declarations: &Declarations, values: &Values) -> Outline {
    let mut data_sources: Vec<DataOutline> = declarations
        .data
        .iter()
        .map(|data| DataOutline { name: format!("data.{}.{}", data.kind.text, data.name.text), span: data.header })
        .collect();
    data_sources.sort_by(|left, right| left.name.cmp(&right.name));
    let builds = declarations.builds.iter().map(|block| Reader::new(values).build(block)).collect();
    Outline { builds, data_sources, legacy: None }
}

struct Reader<'a> {
    values: &'a Values,
    /// `source` and `build`, which no build gives a value here.
    around: Bindings,
    ignored: Diagnostics,
}

impl<'a> Reader<'a> {
    fn new(values: &'a Values) -> Reader<'a> {
        let unknown = || Value::unknown(Type::Any);
        Reader { values, around: Bindings::of_build(unknown(), unknown()), ignored: Diagnostics::new() }
    }

    fn build(mut self, block: &Block) -> BuildOutline {
        let around = self.around.clone();
        let mut build = BuildOutline {
            name: self.text(block.body.attribute("name"), &around).filter(|name| !name.is_empty()),
            description: self.text(block.body.attribute("description"), &around).filter(|text| !text.is_empty()),
            span: block.header,
            sources: self.listed_sources(&block.body),
            steps: Vec::new(),
            error_cleanup: None,
            post_processors: Vec::new(),
        };
        for block in self.blocks(&block.body, &around) {
            match block.kind.text.as_str() {
                "source" => build.sources.extend(block.labels.first().and_then(|label| source_name(&label.text))),
                "provisioner" => build.steps.extend(self.component(&block)),
                "error-cleanup-provisioner" => build.error_cleanup = self.component(&block),
                "post-processor" => build.post_processors.extend(self.component(&block).map(|link| vec![link])),
                "post-processors" => {
                    let links = self.blocks(block.body, &block.bindings);
                    build.post_processors.push(links.iter().filter_map(|link| self.component(link)).collect());
                }
                _ => {}
            }
        }
        build
    }

    /// The blocks of a body, `dynamic` ones expanded.
    fn blocks<'b>(&mut self, body: &'b Body, bindings: &Bindings) -> Vec<ExpandedBlock<'b>> {
        let items = expand(body, self.values, bindings, &mut self.ignored);
        let block = |item| match item {
            Expanded::Block(block) => Some(block),
            Expanded::Attribute(_) => None,
        };
        items.into_iter().filter_map(block).collect()
    }

    fn listed_sources(&mut self, body: &Body) -> Vec<String> {
        let Some(listed) = body.attribute("sources") else { return Vec::new() };
        let value = Overlay { values: self.values, bindings: &self.around }.evaluate(&listed.value, &mut self.ignored);
        let elements = value.as_elements().unwrap_or_default();
        elements.iter().filter_map(|element| source_name(element.as_str().unwrap_or(UNKNOWN))).collect()
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
