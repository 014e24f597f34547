//! `-only` and `-except` in JSON mode: exact names, no patterns.

use kiln_core::{Diagnostic, Diagnostics, Severity, suggest};

use super::components::{Builder, PostProcessor};
use crate::load::LoadOptions;

/// The builders that are built. Names that match nothing are warned of; no builder left is an error.
pub(super) fn builders<'a>(
    all: &'a [Builder],
    chains: &[Vec<PostProcessor>],
    options: &LoadOptions,
    diagnostics: &mut Diagnostics,
) -> Vec<&'a Builder> {
    let is_listed = |names: &[String], builder: &Builder| names.iter().any(|name| **name == *builder.name);
    let chosen: Vec<&Builder> = all
        .iter()
        .filter(|builder| options.only.is_empty() || is_listed(&options.only, builder))
        .filter(|builder| !is_listed(&options.except, builder))
        .collect();
    let builder_names: Vec<&str> = all.iter().map(|builder| &*builder.name).collect();
    for name in options.only.iter().filter(|name| !builder_names.contains(&name.as_str())) {
        warn("-only", name, "builder", &builder_names, diagnostics);
    }
    let link_names = chains.iter().flatten().map(PostProcessor::name);
    let all_names: Vec<&str> = builder_names.iter().copied().chain(link_names).collect();
    for name in options.except.iter().filter(|name| !all_names.contains(&name.as_str())) {
        warn("-except", name, "builder or post-processor", &all_names, diagnostics);
    }
    if chosen.is_empty() && !all.is_empty() {
        diagnostics.push(
            Diagnostic::new(Severity::Error, "nothing-selected", None, "`-only` and `-except` leave no build")
                .help(format!("the template has {}", suggest::enumerate(builder_names))),
        );
    }
    chosen
}

fn warn(option: &str, name: &str, what: &str, known: &[&str], diagnostics: &mut Diagnostics) {
    let title = format!("`{option}` names `{name}`, and no {what} is called so");
    let warning = Diagnostic::new(Severity::Warning, "unmatched-name", None, title);
    diagnostics.push(match suggest::nearest(name, known.iter().copied()) {
        _ if name.contains(['*', '?', '[']) => warning.note("legacy JSON templates take exact names, no patterns"),
        Some(nearest) => warning.help(format!("did you mean `{nearest}`?")),
        None => warning,
    });
}

/// The part of a chain that `-except` leaves: all before the first link it names.
pub(super) fn chain<'a>(links: &'a [PostProcessor], options: &LoadOptions) -> &'a [PostProcessor] {
    let end = links.iter().position(|link| options.except.iter().any(|name| name == link.name()));
    &links[..end.unwrap_or(links.len())]
}
