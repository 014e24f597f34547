//! Legacy JSON templates: Packer's first template language.
//!
//! ```text
//!   text ──► JsonNode (json, syntax) ──► variables ──► builders, provisioners, post-processors ──► Plan
//!                                                                  └─► LegacyConfig: rendered when evaluated
//! ```
//!
//! Values are weakly typed, and every string may hold Go template actions. Differences to Packer stand in
//! `docs/reference/legacy-json.md`.

mod components;
mod config;
mod console;
pub(crate) mod json;
mod outline;
mod references;
mod select;
mod shape;
mod syntax;
#[cfg(test)]
mod tests;
mod text;
mod variables;

pub use console::evaluate;
pub use kiln_gotemplate::function_names;

use std::collections::BTreeSet;
use std::sync::Arc;

use kiln_core::plan::{BuildSpec, CacheRules, Plan};
use kiln_core::{Diagnostic, Diagnostics, PACKER_VERSION, SourceMap, Span, TextScope};

use self::json::{Duplicates, JsonNode, JsonObject, JsonValue};
use self::references::references;
use self::text::Texts;
use self::variables::Variables;
use crate::load::{LoadOptions, Outcome, TemplateText};

const ROOT_KEYS: [&str; 10] = [
    "builders",
    "comments",
    "description",
    "error-cleanup-provisioner",
    "min_packer_version",
    "post-processors",
    "provisioners",
    "push",
    "sensitive-variables",
    "variables",
];

/// Root keys whose texts are never rendered.
const PLAIN_KEYS: [&str; 4] = ["comments", "description", "min_packer_version", "push"];

/// Mistakes in what a template does, not in what it lists: `inspect` shows such a template as Packer does.
const TOLERATED: [&str; 10] = [
    "missing-variable",
    "no-builders",
    "nothing-selected",
    "only-and-except",
    "packer-version",
    "text-template",
    "too-deep",
    "undeclared-variable",
    "unknown-builder-name",
    "variable-cycle",
];

/// Loads a legacy JSON template that was read already. Variable files are read here.
pub fn load(
    template: &TemplateText,
    options: &LoadOptions,
    sources: &mut SourceMap,
    diagnostics: &mut Diagnostics,
) -> Outcome {
    let Some(root_node) = json::parse(&template.text, template.source, Duplicates::Refuse, diagnostics) else {
        return Outcome::default();
    };
    let JsonValue::Object(root) = &root_node.value else {
        diagnostics.push(Diagnostic::error(
            "wrong-type",
            Span { end: root_node.span.start + 1, ..root_node.span },
            format!("a template must be an object, and this is {}", root_node.value.type_name()),
        ));
        return Outcome::default();
    };
    check_root_keys(root, diagnostics);
    check_version(root, diagnostics);
    let uses = uses(root, template);
    let used: BTreeSet<String> = uses.iter().map(|place| place.name.clone()).collect();
    let mut variables = variables::load(root, template, &used, options, sources, diagnostics);
    // A variable file may bring what is not declared.
    if !options.syntax_only {
        check_uses(&uses, &variables, diagnostics);
    }
    check_hcl_references(root, template, &variables, diagnostics);
    // Told once; a text that uses one is simply unknown from here on.
    variables.unresolved.extend(used.into_iter().filter(|name| !variables.values.contains_key(name)));
    let plan = plan(root, root_node.span, template, &variables, options, diagnostics);
    let is_declared = !diagnostics.items.iter().any(|item| item.is_error() && !TOLERATED.contains(&item.code));
    Outcome { plan: Some(plan), is_declared, secrets: variables.secrets, values: None }
}

fn plan(
    root: &JsonObject,
    root_span: Span,
    template: &TemplateText,
    variables: &Variables,
    options: &LoadOptions,
    diagnostics: &mut Diagnostics,
) -> Plan {
    let scope = Arc::new(TextScope { user_variables: Some(Arc::clone(&variables.values)), ..text_scope(options) });
    let texts = Arc::new(Texts::new(Arc::clone(&template.text), Arc::clone(&scope), variables));
    let description = shape::string(root, "description", diagnostics).map(|(text, _)| text.to_owned());
    let builders = components::builders(root, root_span, &texts, diagnostics);
    let provisioners = components::provisioners(root, &builders, &texts, diagnostics);
    let error_cleanup = components::error_cleanup(root, &builders, &texts, diagnostics);
    let chains = components::post_processors(root, &builders, diagnostics);
    if options.syntax_only {
        // As in Packer: what there is to build is no question of syntax.
        diagnostics.items.retain(|item| item.code != "no-builders");
        return Plan::default();
    }
    let chosen = select::builders(&builders.all, &chains, options, diagnostics);
    let builds = chosen.into_iter().map(|builder| BuildSpec {
        name: Arc::clone(&builder.name),
        build_name: Arc::clone(&builder.name),
        source: builder.spec(&texts),
        steps: provisioners.iter().filter_map(|provisioner| provisioner.step(builder, &texts)).collect(),
        error_cleanup: error_cleanup.as_ref().and_then(|provisioner| provisioner.step(builder, &texts)),
        post_processors: chains
            .iter()
            .map(|links| select::chain(links, options).iter().filter_map(|link| link.spec(builder, &texts)).collect())
            .filter(|links: &Vec<_>| !links.is_empty())
            .collect(),
        hooks: Vec::new(),
        tests: Vec::new(),
        cache: CacheRules::default(),
        text_scope: None,
        parents: Vec::new(),
        is_taken: false,
        is_brought: false,
        platform: None,
        variants: Vec::new(),
        unclean: None,
    });
    Plan {
        unused_sources: Vec::new(),
        description,
        builds: builds.collect(),
        variables: variables.summaries.clone(),
        locals: Vec::new(),
        secrets: variables.secrets.clone(),
        required_plugins: Vec::new(),
        outline: outline::outline(root),
        extensions: Vec::new(),
        text_scope: scope,
    }
}

/// What texts may use, but the variables.
fn text_scope(options: &LoadOptions) -> TextScope {
    TextScope {
        user_variables: None,
        environment: options.environment.clone().into(),
        template_dir: options.template_dir(),
        working_dir: options.working_dir.clone(),
        started: options.started,
    }
}

fn check_root_keys(root: &JsonObject, diagnostics: &mut Diagnostics) {
    for (name, member) in root {
        if ROOT_KEYS.contains(&name.as_str()) || name.starts_with('_') {
            continue;
        }
        diagnostics.push(
            Diagnostic::error("unknown-key", member.name_span, format!("a template has no key `{name}`"))
                .did_you_mean(shape::unquoted(member.name_span), name, ROOT_KEYS)
                .note("a key that starts with `_` is a comment"),
        );
    }
    if let Some(member) = root.get("push") {
        diagnostics.push(
            Diagnostic::warning("ignored-key", member.name_span, "`push` has no meaning any more and is ignored")
                .help("push images with the `docker-push` post-processor"),
        );
    }
}

/// `min_packer_version` against the Packer release that kiln follows.
fn check_version(root: &JsonObject, diagnostics: &mut Diagnostics) {
    let Some((text, member)) = shape::string(root, "min_packer_version", diagnostics) else { return };
    let span = member.node.span;
    match (version(text), version(PACKER_VERSION)) {
        (Some(wanted), Some(ours)) if wanted > ours => diagnostics.push(
            Diagnostic::error("packer-version", span, format!("the template needs Packer {text} or newer"))
                .note(format!("this kiln follows Packer {PACKER_VERSION}")),
        ),
        (None, _) => diagnostics.push(
            Diagnostic::error("packer-version", span, format!("`{text}` is not a version"))
                .help("write for example `1.6.0`"),
        ),
        _ => {}
    }
}

/// Major, minor, patch; what follows `-` or `+` is left out.
fn version(text: &str) -> Option<[u64; 3]> {
    let plain = text.trim().trim_start_matches('v').split(['-', '+']).next()?;
    let mut parts = [0; 3];
    for (index, part) in plain.split('.').enumerate() {
        *parts.get_mut(index)? = part.parse().ok()?;
    }
    Some(parts)
}

/// A use of a user variable somewhere in the template.
struct Use {
    name: String,
    span: Span,
    /// Whether it stands in `variables`, where the resolving of variables checks it.
    is_in_variable: bool,
}

fn uses(root: &JsonObject, template: &TemplateText) -> Vec<Use> {
    let mut found = Vec::new();
    for (key, member) in root {
        if !key.starts_with('_') && !PLAIN_KEYS.contains(&key.as_str()) {
            let is_in_variable = key == "variables";
            collect_uses(&member.node, template, is_in_variable, &mut found);
        }
    }
    found
}

fn collect_uses(node: &JsonNode, template: &TemplateText, is_in_variable: bool, found: &mut Vec<Use>) {
    let text_uses = |text: &str, literal: Span| {
        let in_source = move |reference: references::Reference| Use {
            span: json::inside(&template.text, literal, reference.range),
            name: reference.name,
            is_in_variable,
        };
        references(text).into_iter().map(in_source)
    };
    match &node.value {
        JsonValue::String(text) => found.extend(text_uses(text, node.span)),
        JsonValue::Array(items) => {
            for item in items {
                collect_uses(item, template, is_in_variable, found);
            }
        }
        JsonValue::Object(members) => {
            for (name, member) in members {
                if !is_in_variable {
                    found.extend(text_uses(name, member.name_span));
                }
                collect_uses(&member.node, template, is_in_variable, found);
            }
        }
        JsonValue::Null | JsonValue::Bool(_) | JsonValue::Number(_) => {}
    }
}

/// `${var.x}` of a declared variable: HCL2's way, which a legacy template takes for text.
fn check_hcl_references(
    root: &JsonObject,
    template: &TemplateText,
    variables: &Variables,
    diagnostics: &mut Diagnostics,
) {
    const OPEN: &str = "${var.";
    let mut nodes: Vec<&JsonNode> = root
        .iter()
        .filter(|(key, _)| !key.starts_with('_') && !PLAIN_KEYS.contains(&key.as_str()))
        .map(|(_, member)| &member.node)
        .collect();
    while let Some(node) = nodes.pop() {
        match &node.value {
            JsonValue::Array(items) => nodes.extend(items),
            JsonValue::Object(members) => nodes.extend(members.values().map(|member| &member.node)),
            JsonValue::String(text) => {
                for (start, _) in text.match_indices(OPEN) {
                    let Some((name, _)) = text[start + OPEN.len()..].split_once('}') else { continue };
                    if !variables.is_known(name) {
                        continue;
                    }
                    let range = start..start + OPEN.len() + name.len() + 1;
                    let span = json::inside(&template.text, node.span, range);
                    let title = format!("`${{var.{name}}}` is text in a legacy JSON template");
                    let written = format!("{{{{user `{name}`}}}}");
                    diagnostics.push(Diagnostic::warning("hcl-reference", span, title).fix(
                        span,
                        written,
                        "for the variable write",
                    ));
                }
            }
            _ => {}
        }
    }
}

/// An undeclared variable is an empty text to Packer, and a slip that nobody sees; here it is a mistake.
fn check_uses(uses: &[Use], variables: &Variables, diagnostics: &mut Diagnostics) {
    for place in uses.iter().filter(|place| !place.is_in_variable && !variables.is_known(&place.name)) {
        let mistake =
            Diagnostic::error("undeclared-variable", place.span, format!("no variable is called `{}`", place.name))
                .did_you_mean(place.span, &place.name, variables.names());
        diagnostics.push(if mistake.fix.is_some() {
            mistake
        } else {
            mistake.note("declare it in `variables`; `null` as its default makes it required")
        });
    }
}
