//! `kiln inspect`: what a template holds, as text or JSON.

use std::io::Write;

use kiln_core::plan::VariableSummary;
use kiln_core::{BuildSpec, Plan, SourceMap};
use serde_json::{Value as Json, json};

use super::load::{self, Wanted};
use crate::args::InspectArgs;
use crate::error::{CliError, output_error};
use crate::settings::Settings;

/// Prints the template's variables, locals and builds on standard output.
pub(crate) fn run(arguments: &InspectArgs, settings: &Settings) -> Result<u8, CliError> {
    let wanted = Wanted { allow_unset: true, ..Wanted::default() };
    let loaded = load::load(&arguments.template, wanted, settings)?;
    let redactor = load::redactor(&loaded);
    load::check(&loaded, &redactor, settings)?;
    let Some(plan) = &loaded.plan else { return Ok(0) };
    let text = if arguments.json {
        let mut value = as_json(plan, &loaded.sources);
        redactor.redact_json(&mut value);
        format!("{value:#}\n")
    } else {
        redactor.redact(&as_text(plan, &loaded.sources)).into_owned()
    };
    std::io::stdout().write_all(text.as_bytes()).map_err(output_error)?;
    Ok(0)
}

fn as_text(plan: &Plan, sources: &SourceMap) -> String {
    let mut text = String::new();
    if let Some(description) = &plan.description {
        text.push_str(&format!("{}\n\n", description.trim_end()));
    }
    for (title, root, values) in [("Variables", "var", &plan.variables), ("Locals", "local", &plan.locals)] {
        if root == "local" && values.is_empty() {
            continue;
        }
        text.push_str(&format!("{title}:\n"));
        for variable in values {
            let note = if variable.unset { "  (no value: set it to build)" } else { "" };
            text.push_str(&format!("  {root}.{} = {}{note}\n", variable.name, variable.value.replace('\n', "\n    ")));
        }
        text.push_str(if values.is_empty() { "  none\n\n" } else { "\n" });
    }
    text.push_str("Builds:\n");
    for build in &plan.builds {
        text.push_str(&format!("  {} ({})\n", build.name, place(build.source.span, sources)));
        for (index, step) in build.steps.iter().enumerate() {
            let component = &step.component;
            text.push_str(&format!("    {}. {} ({})\n", index + 1, component.kind, place(component.span, sources)));
        }
        for chain in &build.post_processors {
            let kinds: Vec<&str> = chain.iter().map(|spec| spec.component.kind.as_str()).collect();
            text.push_str(&format!("    -> {}\n", kinds.join(" -> ")));
        }
    }
    text
}

fn as_json(plan: &Plan, sources: &SourceMap) -> Json {
    let values = |values: &[VariableSummary]| -> Vec<Json> {
        values
            .iter()
            .map(|variable| {
                json!({
                    "name": variable.name,
                    "value": variable.value,
                    "description": variable.description,
                    "sensitive": variable.sensitive,
                    "required": variable.required,
                    "unset": variable.unset,
                })
            })
            .collect()
    };
    json!({
        "format_version": 1,
        "description": plan.description,
        "variables": values(&plan.variables),
        "locals": values(&plan.locals),
        "builds": plan.builds.iter().map(|build| build_json(build, sources)).collect::<Vec<_>>(),
        "required_plugins": plan.required_plugins.iter().map(|(name, source, version)| {
            json!({ "name": name, "source": source, "version": version })
        }).collect::<Vec<_>>(),
    })
}

fn build_json(build: &BuildSpec, sources: &SourceMap) -> Json {
    json!({
        "name": &*build.name,
        "builder": build.source.kind,
        "place": place(build.source.span, sources),
        "steps": build.steps.iter().map(|step| json!({
            "kind": step.component.kind,
            "name": step.component.name,
            "place": place(step.component.span, sources),
        })).collect::<Vec<_>>(),
        "error_cleanup": build.error_cleanup.as_ref().map(|step| &step.component.kind),
        "post_processors": build.post_processors.iter().map(|chain| {
            chain.iter().map(|spec| json!({
                "kind": spec.component.kind,
                "name": spec.component.name,
                "place": place(spec.component.span, sources),
            })).collect::<Vec<_>>()
        }).collect::<Vec<_>>(),
    })
}

/// `file:line`.
fn place(span: kiln_core::Span, sources: &SourceMap) -> String {
    let file = sources.get(span.source).map_or("<unknown>", |file| file.name.as_str());
    format!("{file}:{}", sources.line_column(span).0)
}
