//! `steps` blocks: provisioners with a name, which builds and other such blocks use.

use std::collections::{BTreeMap, BTreeSet};

use kiln_core::{Diagnostic, Diagnostics, GroupUse, Span, StepSpec, suggest};
use kiln_language::syntax::{Block, Body, Name};

use crate::grammar;

use super::blocks::{Declarations, check_items};
use super::builds::{BuildReader, makes};
use super::dynamic::ExpandedBlock;
use super::steps::{Arguments, BuildContext, Quoted, read_step};

/// What a `dynamic` block in a group may make.
const MADE_BY_DYNAMIC: [&str; 2] = ["provisioner", "steps"];

type Groups = BTreeMap<String, Block>;

impl<'a> BuildReader<'a, '_> {
    /// The steps of the group that a `steps` block of a build, or of another group, names.
    pub(crate) fn group(&mut self, used: &ExpandedBlock<'_>, context: &BuildContext<'_>) -> Vec<StepSpec> {
        let Some(name) = label(used, self.diagnostics) else { return Vec::new() };
        check_items(used.body, &grammar::BUILD_STEPS, self.diagnostics);
        let is_wanted = Arguments::new(used, &self.shared.values, self.diagnostics).runs_for(context);
        let groups: &'a Groups = self.groups;
        let Some(group) = groups.get(&name.text) else {
            self.diagnostics.push(unknown(&name, groups));
            return Vec::new();
        };
        // A ring was told.
        if !is_wanted || context.groups.iter().any(|around| around.name == name.text) {
            return Vec::new();
        }
        let mut around = context.groups.to_vec();
        around.push(GroupUse { name: name.text, span: used.header });
        let context = &BuildContext { groups: &around, ..*context };
        let mut steps = Vec::new();
        for block in self.repeated_blocks(&MADE_BY_DYNAMIC, context, &group.body, &used.bindings) {
            match block.kind.text.as_str() {
                "steps" => steps.extend(self.group(&block, context)),
                _ => steps.extend(read_step(&block, context, self.diagnostics)),
            }
        }
        steps
    }
}

/// The one label of a use.
fn label(used: &ExpandedBlock<'_>, diagnostics: &mut Diagnostics) -> Option<Name> {
    if let [label] = used.labels.as_slice() {
        return Some(label.clone());
    }
    let span = used.labels.get(1).map_or(used.header, |extra| extra.span);
    let title = "a `steps` block takes one label, the name of the group";
    diagnostics.push(Diagnostic::error("wrong-label", span, title).help("write `steps \"NAME\" {}`"));
    None
}

/// Mistakes of shape in groups, and in what uses them, whichever builds run.
pub(crate) fn check(declarations: &Declarations, diagnostics: &mut Diagnostics) {
    let groups = &declarations.groups;
    for group in groups.values() {
        check_items(&group.body, &grammar::STEPS, diagnostics);
        for block in group.body.blocks().filter(|block| block.kind.text == "dynamic") {
            let Some(label) = block.labels.first() else { continue };
            if !MADE_BY_DYNAMIC.contains(&label.text.as_str()) {
                let title = format!("a `steps` block has no block `{}`", label.text);
                let diagnostic = Diagnostic::error("unknown-block", label.span, title);
                diagnostics.push(diagnostic.did_you_mean_quoted(label.span, &label.text, MADE_BY_DYNAMIC));
            }
        }
    }
    let bodies = declarations.builds.iter().chain(groups.values()).map(|block| &block.body);
    for (name, _) in bodies.flat_map(uses) {
        if !groups.contains_key(&name.text) {
            diagnostics.push(unknown(name, groups));
        }
    }
    report_rings(groups, diagnostics);
}

/// The groups that a body uses by their written names, and where.
fn uses(body: &Body) -> impl Iterator<Item = (&Name, Span)> {
    let blocks = body.blocks().filter(|block| block.kind.text == "steps");
    blocks.filter_map(|block| Some((block.labels.first()?, block.header)))
}

/// The groups that a body uses, directly or not: rather too many than too few.
pub(crate) fn reachable<'a>(body: &Body, groups: &'a Groups) -> Vec<&'a Block> {
    if body.blocks().any(|block| block.kind.text == "dynamic" && makes(block, "steps")) {
        return groups.values().collect();
    }
    let mut found: BTreeMap<&str, &Block> = BTreeMap::new();
    let mut waiting: Vec<&str> = uses(body).map(|(name, _)| name.text.as_str()).collect();
    while let Some(name) = waiting.pop() {
        let Some((name, group)) = groups.get_key_value(name) else { continue };
        if found.insert(name, group).is_none() {
            if group.body.blocks().any(|block| makes(block, "steps") && block.kind.text == "dynamic") {
                return groups.values().collect();
            }
            waiting.extend(uses(&group.body).map(|(name, _)| name.text.as_str()));
        }
    }
    found.into_values().collect()
}

fn unknown(name: &Name, groups: &Groups) -> Diagnostic {
    let title = format!("there is no group of steps `{}`", name.text);
    let diagnostic = Diagnostic::error("unknown-steps", name.span, title);
    let Some(nearest) = suggest::nearest(&name.text, groups.keys().map(String::as_str)) else {
        let how = format!("declare it outside of builds: `steps \"{}\" {{ ... }}`", name.text);
        return match groups.is_empty() {
            true => diagnostic.help(how),
            false => {
                let known = suggest::enumerate(groups.keys().map(String::as_str));
                diagnostic.note(format!("the groups are {known}")).help(how)
            }
        };
    };
    let diagnostic = diagnostic.did_you_mean_quoted(name.span, &name.text, [nearest]);
    match groups.get(nearest) {
        Some(group) => diagnostic.also(group.header, format!("`{nearest}` is declared here")),
        None => diagnostic,
    }
}

/// A group on the way of a walk along uses.
struct Visit<'a> {
    name: &'a str,
    /// The uses in it that are still to be looked at.
    open: Vec<(&'a str, Span)>,
    /// The use that led to it.
    used: Option<Span>,
}

impl<'a> Visit<'a> {
    fn new(groups: &'a Groups, name: &'a str, used: Option<Span>) -> Visit<'a> {
        let written = groups.get(name).into_iter().flat_map(|group| uses(&group.body));
        Visit { name, open: written.map(|(name, span)| (name.text.as_str(), span)).collect(), used }
    }
}

/// Tells groups that use each other, each ring once and whole.
fn report_rings(groups: &Groups, diagnostics: &mut Diagnostics) {
    let mut done: BTreeSet<&str> = BTreeSet::new();
    for start in groups.keys() {
        let mut path = vec![Visit::new(groups, start, None)];
        while let Some(visit) = path.last_mut() {
            let name = visit.name;
            let Some((next, span)) = visit.open.pop().filter(|_| !done.contains(name)) else {
                done.insert(name);
                path.pop();
                continue;
            };
            if let Some(first) = path.iter().position(|on_way| on_way.name == next) {
                let names: Vec<&str> = path[first..].iter().map(|visit| visit.name).collect();
                let used = path[first + 1..].iter().filter_map(|visit| visit.used);
                diagnostics.push(ring(&names, &used.chain([span]).collect::<Vec<_>>()));
                path.iter().for_each(|visit| _ = done.insert(visit.name));
            } else if groups.contains_key(next) && !done.contains(next) {
                path.push(Visit::new(groups, next, Some(span)));
            }
        }
    }
}

/// Groups that use each other: each at `spans` the next, the last one the first.
fn ring(names: &[&str], spans: &[Span]) -> Diagnostic {
    let next = |index: usize| names[(index + 1) % names.len()];
    let label = |index: usize| format!("`{}` uses `{}`", names[index], next(index));
    if names.len() == 1 {
        let title = format!("the group of steps `{}` uses itself", names[0]);
        return Diagnostic::error("steps-cycle", spans[0], title);
    }
    let title = format!("these groups of steps use each other: {} uses {}", names.join(" uses "), names[0]);
    let first = Diagnostic::error("steps-cycle", spans[0], title).label(label(0));
    (1..spans.len()).fold(first, |diagnostic, index| diagnostic.also(spans[index], label(index)))
}
