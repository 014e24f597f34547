//! A plan and its outline as JSON, with the places of everything.

use kiln_core::outline::ComponentOutline;
use kiln_core::plan::VariableSummary;
use kiln_core::{BuildSpec, Plan, SourceMap, Span};
use serde_json::{Value as Json, json};

use super::place;

/// The whole template; `builds` are those that `-only` and `-except` leave, `build_blocks` all that are written.
pub(super) fn of(plan: &Plan, sources: &SourceMap) -> Json {
    let values = |values: &[VariableSummary]| -> Vec<Json> { values.iter().map(value).collect() };
    let place = |span: Span| place(span, sources);
    let mut json = json!({
        "format_version": 1,
        "description": plan.description,
        "variables": values(&plan.variables),
        "locals": values(&plan.locals),
        "data_sources": plan.outline.data_sources.iter().map(|data| {
            json!({ "name": data.name, "place": place(data.span) })
        }).collect::<Vec<_>>(),
        "modules": plan.outline.modules.iter().map(|module| json!({
            "name": module.name,
            "directory": module.directory,
            "outputs": module.outputs,
            "place": place(module.span),
        })).collect::<Vec<_>>(),
        "builds": plan.builds.iter().map(|build| build_json(build, sources)).collect::<Vec<_>>(),
        "build_blocks": plan.outline.builds.iter().map(|build| json!({
            "name": build.name,
            "description": build.description,
            "place": place(build.span),
            "sources": build.sources,
            "provisioners": components(&build.steps, sources),
            "error_cleanup": build.error_cleanup.as_ref().map(|step| component(step, sources)),
            "post_processors": build.post_processors.iter().map(|chain| components(chain, sources)).collect::<Vec<_>>(),
        })).collect::<Vec<_>>(),
        "required_plugins": plan.required_plugins.iter().map(|(name, source, version)| {
            json!({ "name": name, "source": source, "version": version })
        }).collect::<Vec<_>>(),
        "extensions": plan.extensions.iter().map(|extension| {
            json!({ "what": extension.what, "place": place(extension.span) })
        }).collect::<Vec<_>>(),
    });
    if let (Some(legacy), Some(json)) = (&plan.outline.legacy, json.as_object_mut()) {
        // What is HCL2's alone.
        for name in ["data_sources", "modules", "build_blocks", "extensions"] {
            json.shift_remove(name);
        }
        json.insert(
            "builders".to_owned(),
            legacy.builders.iter().map(|(name, kind)| json!({ "name": name, "type": kind })).collect(),
        );
    }
    json
}

fn value(variable: &VariableSummary) -> Json {
    json!({
        "name": variable.name,
        "value": variable.value,
        "description": variable.description,
        "sensitive": variable.sensitive,
        "required": variable.required,
        "unset": variable.unset,
    })
}

fn components(components: &[ComponentOutline], sources: &SourceMap) -> Vec<Json> {
    components.iter().map(|outline| component(outline, sources)).collect()
}

fn component(component: &ComponentOutline, sources: &SourceMap) -> Json {
    json!({ "kind": component.kind, "name": component.name, "place": place(component.span, sources) })
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
