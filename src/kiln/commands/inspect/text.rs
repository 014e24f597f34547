//! An outline in the layout of `packer inspect`; what Packer does not have stands in sections of its own.

use kiln_core::outline::{BuildOutline, ComponentOutline, LegacyOutline, Outline};
use kiln_core::plan::VariableSummary;
use kiln_core::redact::MASK;
use kiln_core::{Plan, SourceMap};
use kiln_language::print::go_quoted;

use super::place;
use crate::ui;

/// A piece of the output.
#[derive(Debug)]
pub(super) enum Said {
    /// A text for people, without its last line end.
    Text(String),
    /// What programs read instead: one of Packer's machine-readable lines. Not shown to people.
    Line(&'static str, Vec<String>),
}

/// Everything that is said, as text or as machine-readable lines.
pub(super) fn lines(said: &[Said], machine_readable: bool) -> String {
    said.iter()
        .map(|piece| match (piece, machine_readable) {
            (Said::Text(text), false) => format!("{text}\n"),
            (Said::Text(text), true) => ui::packer_line("ui", &["say", text]),
            (Said::Line(..), false) => String::new(),
            (Said::Line(kind, data), true) => {
                ui::packer_line(kind, &data.iter().map(String::as_str).collect::<Vec<_>>())
            }
        })
        .collect()
}

/// What `inspect` says of a template.
pub(super) fn of(plan: &Plan, sources: &SourceMap) -> Vec<Said> {
    match &plan.outline.legacy {
        Some(legacy) => of_legacy(plan.description.as_deref(), legacy),
        None => of_hcl(plan, sources),
    }
}

fn of_hcl(plan: &Plan, sources: &SourceMap) -> Vec<Said> {
    let mut said = vec![Said::Text("kiln inspect: HCL2 mode\n".to_owned()), Said::Text(values(plan))];
    if !plan.outline.data_sources.is_empty() {
        let names = plan.outline.data_sources.iter().map(|data| format!("{}\n", data.name));
        said.push(Said::Text(format!("> data-sources:\n\n{}", names.collect::<String>())));
    }
    if !plan.outline.modules.is_empty() {
        let modules = plan.outline.modules.iter().map(|module| {
            let outputs: String = module.outputs.iter().map(|output| format!("  {}.{output}\n", module.name)).collect();
            format!("{}: {}\n{outputs}", module.name, module.directory)
        });
        said.push(Said::Text(format!("> modules:\n\n{}", modules.collect::<String>())));
    }
    said.push(Said::Text(builds(&plan.outline)));
    if !plan.extensions.is_empty() {
        let uses = plan.extensions.iter().map(|it| format!("{} ({})\n", it.what, place(it.span, sources)));
        said.push(Said::Text(format!("> beyond packer:\n\n{}", uses.collect::<String>())));
    }
    said
}

/// Variables and locals: also what the console says to `variables`.
pub(in crate::commands) fn values(plan: &Plan) -> String {
    let lines = |root: &str, values: &[VariableSummary]| -> String {
        values.iter().map(|value| format!("{root}.{}: {}\n", value.name, go_quoted(&value.shown))).collect()
    };
    let (variables, locals) = (lines("var", &plan.variables), lines("local", &plan.locals));
    format!("> input-variables:\n\n{variables}\n> local-variables:\n\n{locals}")
}

fn builds(outline: &Outline) -> String {
    let mut text = "> builds:\n".to_owned();
    for (index, build) in outline.builds.iter().enumerate() {
        match &build.name {
            Some(name) => text.push_str(&format!("\n  > {name}:\n")),
            None => text.push_str(&format!("\n  > <unnamed build {index}>:\n")),
        }
        if let Some(description) = &build.description {
            text.push_str(&format!("\n  > Description: {description}\n"));
        }
        text.push_str(&contents(build));
    }
    text
}

fn contents(build: &BuildOutline) -> String {
    let mut text = "\n    sources:\n".to_owned();
    match build.sources.as_slice() {
        [] => text.push_str("\n      <no source>\n"),
        sources => text.extend(sources.iter().map(|source| format!("\n      {source}\n"))),
    }
    text.push_str("\n    provisioners:\n\n");
    match build.steps.as_slice() {
        [] => text.push_str("      <no provisioner>\n"),
        steps => text.extend(steps.iter().map(|step| format!("      {}\n", full_name(step)))),
    }
    if let Some(step) = &build.error_cleanup {
        text.push_str(&format!("\n    error-cleanup-provisioner:\n\n      {}\n", full_name(step)));
    }
    text.push_str("\n    post-processors:\n");
    if build.post_processors.is_empty() {
        text.push_str("\n      <no post-processor>\n");
    }
    for (index, chain) in build.post_processors.iter().enumerate() {
        text.push_str(&format!("\n      {index}:\n"));
        text.extend(chain.iter().map(|link| format!("        {}\n", full_name(link))));
    }
    text
}

/// `kind`, or `kind.name`.
fn full_name(component: &ComponentOutline) -> String {
    match &component.name {
        Some(name) => format!("{}.{name}", component.kind),
        None => component.kind.clone(),
    }
}

const LEGACY_NOTE: &str = "
Note: If your build names contain user variables or template
functions such as 'timestamp', these are processed at build time,
and therefore only show in their raw form here.";

fn of_legacy(description: Option<&str>, legacy: &LegacyOutline) -> Vec<Said> {
    let text = |text: &str| Said::Text(text.to_owned());
    let mut said = vec![text("kiln inspect: JSON mode")];
    if let Some(description) = description.filter(|description| !description.is_empty()) {
        said.extend([text("Description:\n"), Said::Text(format!("{description}\n"))]);
    }
    said.extend(legacy_variables(legacy));
    said.extend([text(""), text("Builders:\n")]);
    if legacy.builders.is_empty() {
        said.push(text("  <No builders>"));
    }
    let width = legacy.builders.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    for (name, kind) in &legacy.builders {
        said.push(Said::Line("template-builder", vec![name.clone(), kind.clone()]));
        let kind = if kind == name { String::new() } else { format!(" ({kind})") };
        said.push(Said::Text(format!("  {}{kind}", padded(name, width))));
    }
    said.extend([text(""), text("Provisioners:\n")]);
    if legacy.provisioners.is_empty() {
        said.push(text("  <No provisioners>"));
    }
    for kind in &legacy.provisioners {
        said.push(Said::Line("template-provisioner", vec![kind.clone()]));
        said.push(Said::Text(format!("  {kind}")));
    }
    said.push(text(LEGACY_NOTE));
    said
}

fn legacy_variables(legacy: &LegacyOutline) -> Vec<Said> {
    if legacy.variables.is_empty() {
        return vec![Said::Text("Variables:\n".to_owned()), Said::Text("  <No variables>".to_owned())];
    }
    let mut said = Vec::new();
    let line = |name: &str, default: &str, required: &str| {
        Said::Line("template-variable", vec![name.to_owned(), default.to_owned(), required.to_owned()])
    };
    let required: Vec<_> = legacy.variables.iter().filter(|variable| variable.default.is_none()).collect();
    if !required.is_empty() {
        said.push(Said::Text("Required variables:\n".to_owned()));
        for variable in required {
            said.extend([line(&variable.name, "", "1"), Said::Text(format!("  {}", variable.name))]);
        }
        said.push(Said::Text(String::new()));
    }
    said.push(Said::Text("Optional variables and their defaults:\n".to_owned()));
    let width = legacy.variables.iter().map(|variable| variable.name.len()).max().unwrap_or_default();
    for variable in &legacy.variables {
        let Some(default) = &variable.default else { continue };
        let default = if variable.sensitive { MASK } else { default };
        said.push(line(&variable.name, default, "0"));
        said.push(Said::Text(format!("  {} = {default}", padded(&variable.name, width))));
    }
    said
}

/// Filled up with blanks to a number of bytes, as Packer does.
fn padded(text: &str, width: usize) -> String {
    format!("{text}{}", " ".repeat(width.saturating_sub(text.len())))
}
