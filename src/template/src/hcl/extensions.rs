//! What a template uses that Packer does not have: `inspect` says so, for those who want to run it there too.

use std::collections::BTreeMap;

use kiln_core::{Extension, SourceMap, Span};
use kiln_language::syntax::{Block, Body};

use super::blocks::Declarations;
use super::component::collect_references;
use super::repetition;

/// The roots that Packer does not know.
const ROOTS: [&str; 2] = ["git", "host"];

/// Everything of the kind, each once by its first place, in the order of the text.
pub(crate) fn used(declarations: &Declarations, sources: &SourceMap) -> Vec<Extension> {
    let mut uses = Uses::default();
    for (id, file) in sources.files() {
        if file.name.ends_with(".kiln.hcl") {
            uses.add("files named `*.kiln.hcl`".to_owned(), Span::new(id, 0..0));
        }
    }
    for local in &declarations.locals {
        uses.references(local.references());
    }
    for data in &declarations.data {
        uses.references(data.references());
    }
    for source in declarations.sources.values() {
        uses.repetition("source", &source.body);
        uses.body(&source.body);
    }
    for build in &declarations.builds {
        uses.repetition("build", &build.body);
        uses.body(&build.body);
        uses.blocks(&build.body);
    }
    let mut found: Vec<Extension> = uses.first.into_iter().map(|(what, span)| Extension { what, span }).collect();
    found.sort_by_key(|extension| (extension.span.source.0, extension.span.start));
    found
}

#[derive(Default)]
struct Uses {
    first: BTreeMap<String, Span>,
}

impl Uses {
    fn add(&mut self, what: String, span: Span) {
        let first = self.first.entry(what).or_insert(span);
        if (span.source.0, span.start) < (first.source.0, first.start) {
            *first = span;
        }
    }

    fn body(&mut self, body: &Body) {
        let mut found = Vec::new();
        collect_references(body, &mut found);
        self.references(found);
    }

    fn references(&mut self, found: Vec<kiln_language::evaluate::Reference>) {
        for reference in found.into_iter().filter(|found| ROOTS.contains(&found.root.as_str())) {
            let attribute = reference.path.first().map(|name| format!(".{}", name.text)).unwrap_or_default();
            self.add(format!("`{}{attribute}`", reference.root), reference.span);
        }
    }

    fn repetition(&mut self, kind: &str, body: &Body) {
        for name in repetition::ARGUMENTS {
            if let Some(attribute) = body.attribute(name) {
                self.add(format!("`{name}` of a `{kind}`"), attribute.name.span);
            }
        }
    }

    /// Steps and sources of a build, also those that `dynamic` blocks make.
    fn blocks(&mut self, body: &Body) {
        for block in body.blocks() {
            match made_by(block) {
                Some((kind, content)) => {
                    content.into_iter().for_each(|content| self.repeatable(&kind, content));
                }
                None => self.repeatable(&block.kind.text, &block.body),
            }
        }
    }

    fn repeatable(&mut self, kind: &str, body: &Body) {
        self.repetition(kind, body);
        if kind == "post-processors" {
            self.blocks(body);
        }
    }
}

/// What a `dynamic` block makes, and from what; `None` for other blocks.
fn made_by(block: &Block) -> Option<(String, Option<&Body>)> {
    let label = block.labels.first().filter(|_| block.kind.text == "dynamic")?;
    let content = block.body.blocks().find(|inner| inner.kind.text == "content").map(|content| &content.body);
    Some((label.text.clone(), content))
}
