//! What a template uses that Packer does not have: `inspect` says so, for those who want to run it there too.

use std::collections::BTreeMap;

use kiln_core::{Extension, SourceMap, Span};
use kiln_language::evaluate::{calls, references};
use kiln_language::syntax::{Block, Body, Expression, ExpressionKind, Item};

use super::blocks::Declarations;
use super::modules::Scope;
use super::{artifacts, builds, caching, hooks, platforms, repetition, tests_of_builds};

/// The roots that Packer does not know.
const ROOTS: [&str; 4] = ["artifact", "git", "host", "module"];

/// The functions that Packer does not have.
const FUNCTIONS: [&str; 2] = ["slug", "templatestring"];

/// Everything of the kind, each once by its first place, in the order of the text.
pub(crate) fn used(scopes: &[Scope], sources: &SourceMap) -> Vec<Extension> {
    let mut uses = Uses::default();
    for (id, file) in sources.files() {
        if file.name.ends_with(".kiln.hcl") {
            uses.add("files named `*.kiln.hcl`".to_owned(), Span::new(id, 0..0));
        }
    }
    for scope in scopes {
        uses.declarations(&scope.declarations);
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

    fn declarations(&mut self, declarations: &Declarations) {
        for module in declarations.modules.values() {
            self.add("`module` blocks".to_owned(), module.header);
            self.body(&module.body);
        }
        for output in declarations.outputs.values() {
            self.add("`output` blocks".to_owned(), output.name.span);
            self.expression(&output.value);
        }
        for local in &declarations.locals {
            self.expression(local.expression());
        }
        for data in &declarations.data {
            self.body(&data.body);
        }
        for source in declarations.sources.values() {
            self.repetition("source", &source.body);
            self.body(&source.body);
        }
        for group in declarations.groups.values() {
            self.add("`steps` blocks".to_owned(), group.header);
            self.body(&group.body);
            self.blocks(&group.body);
        }
        for build in &declarations.builds {
            self.repetition("build", &build.body);
            self.body(&build.body);
            self.blocks(&build.body);
        }
    }

    /// All that is in a body, in depth.
    fn body(&mut self, body: &Body) {
        for item in &body.items {
            match item {
                Item::Attribute(attribute) => self.expression(&attribute.value),
                Item::Block(block) => self.body(&block.body),
            }
        }
    }

    fn expression(&mut self, expression: &Expression) {
        for reference in references(expression).iter().filter(|found| ROOTS.contains(&found.root.as_str())) {
            // Which build it is does not matter.
            let attribute =
                reference.path.first().filter(|_| !matches!(reference.root.as_str(), artifacts::ROOT | "module"));
            let attribute = attribute.map(|name| format!(".{}", name.text)).unwrap_or_default();
            self.add(format!("`{}{attribute}`", reference.root), reference.span);
        }
        let is_own = |found: &&kiln_language::evaluate::Reference| {
            found.root == "path" && found.path.first().is_some_and(|name| name.text == "module")
        };
        for reference in references(expression).iter().filter(is_own) {
            self.add("`path.module`".to_owned(), reference.span);
        }
        for name in calls(expression).into_iter().filter(|name| FUNCTIONS.contains(&name.text.as_str())) {
            self.add(format!("the function `{}`", name.text), name.span);
        }
    }

    fn repetition(&mut self, kind: &str, body: &Body) {
        let is_cached = matches!(kind, "source" | "provisioner");
        let cached = caching::BEYOND_PACKER.into_iter().filter(|_| is_cached);
        let depends_on = ["depends_on"].into_iter().filter(|_| matches!(kind, "source" | "build"));
        let on_error = ["on_error"].into_iter().filter(|_| kind == "post-processor");
        let require_clean = [builds::REQUIRE_CLEAN].into_iter().filter(|_| kind == "build");
        let platforms = [platforms::ARGUMENT].into_iter().filter(|_| kind == "source");
        let more = cached.chain(depends_on).chain(on_error).chain(require_clean).chain(platforms);
        for name in repetition::ARGUMENTS.into_iter().chain(more) {
            if let Some(attribute) = body.attribute(name) {
                self.add(format!("`{name}` of a `{kind}`"), attribute.name.span);
            }
        }
    }

    /// Packer knows sources by their names alone there.
    fn override_names(&mut self, body: &Body) {
        let Some(ExpressionKind::Object(entries)) = body.attribute("override").map(|written| &written.value.kind)
        else {
            return;
        };
        let full =
            entries.iter().find(|(key, _)| matches!(&key.kind, ExpressionKind::String(name) if name.contains('.')));
        if let Some((key, _)) = full {
            self.add("`TYPE.NAME` in `override`".to_owned(), key.span);
        }
    }

    /// Steps and sources of a build, also those that `dynamic` blocks make.
    fn blocks(&mut self, body: &Body) {
        for block in body.blocks() {
            match made_by(block) {
                Some((kind, content)) => {
                    content.into_iter().for_each(|content| self.repeatable(&kind, content));
                }
                None => {
                    self.repeatable(&block.kind.text, &block.body);
                    if block.kind.text == tests_of_builds::BLOCK {
                        self.add("`test` blocks".to_owned(), block.kind.span);
                    }
                    if hooks::BLOCKS.contains(&block.kind.text.as_str()) {
                        self.add(format!("the hook `{}`", block.kind.text), block.kind.span);
                    }
                }
            }
        }
    }

    fn repeatable(&mut self, kind: &str, body: &Body) {
        self.repetition(kind, body);
        self.override_names(body);
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
