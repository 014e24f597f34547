//! What a plan comes to, in full: for comparing the plans of two templates that should build the same.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use kiln_builder_docker::{DockerBuilderKind, DockerSettings};
use kiln_core::config::{Body, Node, Value};
use kiln_core::{ComponentSpec, Diagnostics, Facts, Field, FieldType, Kinds, Plan, Schema, SourceId, Span, StepSpec};
use kiln_docker::{BollardEngine, DEFAULT_HOST, Engine};
use kiln_publish::{GivenEngine, PublishSettings};
use kiln_registry::CredentialSources;
use kiln_template::{ConfigType, LoadOptions};
use serde_json::{Value as Json, json};

/// All kinds that kiln has. No engine is spoken to.
pub(crate) fn kinds() -> Kinds {
    let engine: Arc<dyn Engine> = Arc::new(BollardEngine::connect(Some(DEFAULT_HOST), &BTreeMap::new()).unwrap());
    let credentials = CredentialSources::usual(BTreeMap::new(), None);
    let mut kinds = Kinds::new();
    kinds.add_builder(Arc::new(DockerBuilderKind::new(DockerSettings {
        credentials: credentials.clone(),
        ..DockerSettings::new(Arc::clone(&engine))
    })));
    kinds.add_provisioner(Arc::new(kiln_provisioner_breakpoint::BreakpointKind));
    kinds.add_provisioner(Arc::new(kiln_provisioner_file::FileKind));
    kinds.add_provisioner(Arc::new(kiln_provisioner_shell::ShellKind));
    kinds.add_provisioner(Arc::new(kiln_provisioner_shell_local::ShellLocalKind));
    kinds.add_provisioner(Arc::new(kiln_provisioner_sleep::SleepKind));
    kiln_publish::register(
        &mut kinds,
        PublishSettings {
            engine: Arc::new(GivenEngine { engine, environment: Default::default() }),
            credentials,
            store: None,
        },
    );
    kinds
}

/// How a text in a directory is loaded, at a moment that stands still.
pub(crate) fn options(text: &str, form: ConfigType, directory: &Path, variables: &[(String, String)]) -> LoadOptions {
    let mut options = LoadOptions::new("-", directory);
    options.stdin = Some(text.to_owned());
    options.config_type = Some(form);
    options.variables = variables.to_vec();
    options.environment = BTreeMap::from([
        ("HOME".to_owned(), "/home/someone".to_owned()),
        ("KILN_TEST_A".to_owned(), "from the environment".to_owned()),
    ]);
    options.started = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    options
}

/// Everything that would run: names, each component's arguments, evaluated and decoded, before the machine runs and
/// with one running.
pub(crate) fn describe(plan: &Plan, kinds: &Kinds) -> Json {
    let before = Facts::default();
    let values = ["ID", "Host", "User", "ConnType"].map(|name| (name.to_owned(), format!("the {name}")));
    let running = Facts { build: Some(values.into()), ..Facts::default() };
    let builds = plan.builds.iter().map(|build| {
        let builder = |spec: &ComponentSpec| kinds.builder(&spec.kind).map(|kind| kind.schema());
        let step = |step: &StepSpec| {
            let schema = kinds.provisioner(&step.component.kind).map(|kind| kind.schema());
            json!({
                "kind": step.component.kind,
                "pause_before": step.pause_before.as_millis(),
                "max_retries": step.max_retries,
                "timeout": step.timeout.map(|timeout| timeout.as_millis()),
                "before": arguments(&step.component, schema, &before),
                "running": arguments(&step.component, schema, &running),
            })
        };
        let chains = build.post_processors.iter().map(|chain| {
            let link = |link: &kiln_core::PostProcessorSpec| {
                let schema = kinds.post_processor(&link.component.kind).map(|kind| kind.schema());
                json!({
                    "kind": link.component.kind,
                    "name": link.component.name,
                    "keep_input": link.keep_input,
                    "before": arguments(&link.component, schema, &before),
                    "running": arguments(&link.component, schema, &running),
                })
            };
            chain.iter().map(link).collect::<Vec<_>>()
        });
        json!({
            "build_name": &*build.build_name,
            "kind": build.source.kind,
            "arguments": arguments(&build.source, builder(&build.source), &before),
            "steps": build.steps.iter().map(step).collect::<Vec<_>>(),
            "error_cleanup": build.error_cleanup.as_ref().map(step),
            "chains": chains.collect::<Vec<_>>(),
        })
    });
    with_variables(json!({ "description": plan.description, "builds": builds.collect::<Vec<_>>() }), plan)
}

/// Texts that components render themselves may still name user variables in JSON; HCL2 has put their values in.
fn with_variables(value: Json, plan: &Plan) -> Json {
    match value {
        Json::Array(items) => items.into_iter().map(|item| with_variables(item, plan)).collect(),
        Json::Object(members) => members.into_iter().map(|(name, value)| (name, with_variables(value, plan))).collect(),
        Json::String(text) => {
            let mut text = text;
            for (name, value) in plan.text_scope.user_variables.iter().flat_map(|variables| variables.iter()) {
                text = text.replace(&format!("{{{{user `{name}`}}}}"), value);
            }
            Json::String(text)
        }
        other => other,
    }
}

fn arguments(spec: &ComponentSpec, schema: Option<&'static Schema>, facts: &Facts) -> Json {
    let mut diagnostics = Diagnostics::new();
    let Some(schema) = schema else { return unknown_kind(spec, facts) };
    let body = spec.config.evaluate(schema, facts, &mut diagnostics);
    let decoded = schema.decode(&body, &mut diagnostics);
    let mistakes: Vec<&str> =
        diagnostics.items.iter().filter(|item| item.is_error()).map(|item| item.title.as_str()).collect();
    // What is unknown, and what is a secret, must be so in both.
    let marks = |test: &dyn Fn(&str) -> bool| -> Vec<&str> {
        schema.fields.iter().map(|field| field.name).filter(|name| test(name)).collect()
    };
    json!({
        "values": decoded.values(),
        "unknown": marks(&|name| decoded.is_unknown(name)),
        "sensitive": marks(&|name| decoded.is_sensitive(name)),
        "mistakes": mistakes,
    })
}

/// The body of a component that has no schema here, read by one made of itself, so that its texts are rendered.
fn unknown_kind(spec: &ComponentSpec, facts: &Facts) -> Json {
    let mut diagnostics = Diagnostics::new();
    let empty = leak(Vec::new());
    let bare = spec.config.evaluate(empty, facts, &mut diagnostics);
    let body = spec.config.evaluate(schema_of(&bare), facts, &mut diagnostics);
    body_json(&body)
}

fn leak(fields: Vec<Field>) -> &'static Schema {
    let fields = Box::leak(fields.into_boxed_slice());
    Box::leak(Box::new(Schema { kind: "made", title: "made", doc: "", fields, example: "" }))
}

fn schema_of(body: &Body) -> &'static Schema {
    let name = |name: &str| -> &'static str { Box::leak(name.to_owned().into_boxed_str()) };
    let mut fields: Vec<Field> = body.attributes.keys().map(|key| Field::new(name(key), FieldType::Any, "")).collect();
    for block in &body.blocks {
        if !fields.iter().any(|field| field.name == block.kind) {
            // Blocks of one name share their fields.
            let mut whole = Body::empty(Span::new(SourceId(0), 0..0), false);
            for other in body.blocks.iter().filter(|other| other.kind == block.kind) {
                whole.attributes.extend(other.body.attributes.clone());
                whole.blocks.extend(other.body.blocks.clone());
            }
            fields.push(Field::new(name(&block.kind), FieldType::Blocks(schema_of(&whole)), ""));
        }
    }
    leak(fields)
}

fn body_json(body: &Body) -> Json {
    let mut members: BTreeMap<String, Json> =
        body.attributes.iter().map(|(name, attribute)| (name.clone(), node_json(&attribute.node))).collect();
    for block in &body.blocks {
        let list = members.entry(block.kind.clone()).or_insert_with(|| json!([]));
        list.as_array_mut().unwrap().push(body_json(&block.body));
    }
    // A block is a list of one, whatever it was written as.
    let single = |value: Json| match value {
        Json::Array(items) if items.len() == 1 && items[0].is_object() => items[0].clone(),
        other => other,
    };
    Json::Object(members.into_iter().map(|(name, value)| (name, single(value))).collect())
}

fn node_json(node: &Node) -> Json {
    match &node.value {
        Value::Null => Json::Null,
        Value::Unknown => json!("<unknown>"),
        Value::Bool(value) => json!(value),
        Value::Number(text) => json!({ "number": text }),
        Value::String(text) => json!(text),
        Value::List(items) => {
            let items: Vec<Json> = items.iter().map(node_json).collect();
            if items.len() == 1 && items[0].is_object() { items[0].clone() } else { Json::Array(items) }
        }
        Value::Map(entries) => {
            let sorted: BTreeMap<&String, Json> = entries.iter().map(|(name, node)| (name, node_json(node))).collect();
            json!(sorted)
        }
    }
}
