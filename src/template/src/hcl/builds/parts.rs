//! What runs for a build: its steps, tests, hooks and post-processors, `dynamic` blocks expanded.

use kiln_core::{Diagnostic, HookSpec, PostProcessorSpec, Span, StepSpec, TestSpec};
use kiln_language::evaluate::{Reference, references};
use kiln_language::syntax::{Block, Body, Item};

use super::super::blocks::check_items;
use super::super::component::{Place, collect_references};
use super::super::dynamic::{ExpandedBlock, expand_block};
use super::super::hooks;
use super::super::scope::Bindings;
use super::super::steps::{BuildContext, read_post_processor, read_step, repeat_step};
use super::super::tests_of_builds;
use super::{BuildReader, makes};
use crate::grammar;

impl<'a> BuildReader<'a, '_> {
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

    pub(super) fn steps(&mut self, context: &BuildContext<'_>) -> (Vec<StepSpec>, Option<StepSpec>) {
        let kinds = ["provisioner", "error-cleanup-provisioner", "steps"];
        let mut steps = Vec::new();
        let mut cleanup: Option<StepSpec> = None;
        let mut first: Option<Span> = None;
        for block in self.repeated_blocks(&kinds, context, &self.block.body, &self.bindings.clone()) {
            if block.kind.text == "steps" {
                steps.extend(self.group(&block, context));
                continue;
            }
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

    pub(super) fn tests(&mut self, context: &BuildContext<'_>) -> Vec<TestSpec> {
        let blocks = self.repeated_blocks(&[tests_of_builds::BLOCK], context, &self.block.body, &self.bindings.clone());
        blocks.iter().filter_map(|block| tests_of_builds::read(block, context, self.diagnostics)).collect()
    }

    pub(super) fn hooks(&mut self, context: &BuildContext<'_>) -> Vec<HookSpec> {
        let blocks = self.repeated_blocks(&hooks::BLOCKS, context, &self.block.body, &self.bindings.clone());
        blocks.iter().filter_map(|block| hooks::read(block, context, self.diagnostics)).collect()
    }

    /// As [`Self::blocks`], `for_each` and `enabled` of the blocks heeded.
    pub(crate) fn repeated_blocks(
        &mut self,
        kinds: &[&str],
        context: &BuildContext<'_>,
        body: &'a Body,
        around: &Bindings,
    ) -> Vec<ExpandedBlock<'a>> {
        let blocks = self.blocks(kinds, context.place, body, around);
        blocks.into_iter().flat_map(|block| repeat_step(block, context, self.diagnostics)).collect()
    }

    pub(super) fn post_processors(&mut self, context: &BuildContext<'_>) -> Vec<Vec<PostProcessorSpec>> {
        let kinds = ["post-processor", "post-processors"];
        let mut chains = Vec::new();
        for block in self.repeated_blocks(&kinds, context, &self.block.body, &self.bindings.clone()) {
            let chain = if block.kind.text == "post-processor" {
                self.chain(vec![block], context)
            } else {
                check_items(block.body, &grammar::POST_PROCESSORS, self.diagnostics);
                // The body lives as long as the template; only the expansion's names are new.
                let inner = self.repeated_blocks(&["post-processor"], context, block.body, &block.bindings);
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

fn references_in(block: &Block) -> Vec<Reference> {
    let mut found = Vec::new();
    collect_references(&block.body, &mut found);
    found
}
