//! A legacy JSON template written anew in HCL2, so that it builds the same.
//!
//! ```text
//!   text ──► JsonNode (legacy::json) ──► variables, sources, build ──► text ──► kiln_language::format
//! ```
//!
//! Nothing is evaluated: what the template leaves open stays open. Arguments are written in the types that their kind's
//! schema has, since HCL2 is strict where JSON is weak; for kinds that kiln does not have, `kinds` knows the usual blocks.
//! Whatever may not be the same is told, and noted at its place in the result.

mod action;
mod body;
mod builds;
mod kinds;
mod names;
mod text;
mod values;
mod variables;

use std::collections::BTreeMap;
use std::sync::Arc;

use kiln_core::{Diagnostic, Diagnostics, Kinds, SourceMap, Span};

use self::text::literal;
use self::variables::{Variables, comment};
use crate::fix::refuse_hcl;
use crate::legacy::json::{self, Duplicates, JsonNode, JsonObject, JsonValue};
use crate::load::{LoadOptions, TemplateText, read_template};

/// What upgrading gave.
#[derive(Debug)]
pub struct Upgraded {
    /// The JSON template.
    pub sources: SourceMap,
    /// Mistakes that stand in the way, and warnings of what may not be the same.
    pub diagnostics: Diagnostics,
    /// The HCL2 template; `None` with errors.
    pub text: Option<String>,
}

/// Writes a legacy JSON template in HCL2. Reads its file; of the options, only what says where it is and what its names
/// depend on matters. With `annotate`, comments say where each block comes from.
pub fn upgrade(options: &LoadOptions, kinds: &Kinds, annotate: bool) -> Upgraded {
    let mut upgraded = Upgraded { sources: SourceMap::new(), diagnostics: Diagnostics::new(), text: None };
    let (sources, diagnostics) = (&mut upgraded.sources, &mut upgraded.diagnostics);
    if let Some(refused) = refuse_hcl(options) {
        diagnostics.push(refused);
        return upgraded;
    }
    let Some(template) = read_template(options, &options.template, sources, diagnostics) else { return upgraded };
    let Some(node) = json::parse(&template.text, template.source, Duplicates::Refuse, diagnostics) else {
        return upgraded;
    };
    let JsonValue::Object(root) = &node.value else {
        let title = format!("a template must be an object, and this is {}", node.value.type_name());
        diagnostics.push(Diagnostic::error("wrong-type", Span { end: node.span.start + 1, ..node.span }, title));
        return upgraded;
    };
    check_lists(root, diagnostics);
    let variables = Variables::read(root, diagnostics);
    if diagnostics.has_errors() {
        return upgraded;
    }
    let upgrade = Upgrade {
        kinds,
        source: Arc::clone(&template.text),
        file: sources.get(template.source).map(|file| file.name.clone()).unwrap_or_default(),
        lines: annotate.then(|| line_starts(&template.text)),
        variables,
        plugins: BTreeMap::new(),
        comments: String::new(),
        diagnostics,
    };
    let rendered = if has_computed_names(root) { builder_names(&template, options) } else { Vec::new() };
    let text = upgrade.template(root, &rendered);
    diagnostics.sort();
    upgraded.text = Some(kiln_language::format::format(&text));
    upgraded
}

/// The work.
struct Upgrade<'a> {
    kinds: &'a Kinds,
    /// The JSON template.
    source: Arc<str>,
    /// What it is called.
    file: String,
    /// Where its lines begin, where blocks are annotated.
    lines: Option<Vec<usize>>,
    variables: Variables,
    /// Plug-ins that Packer needs, by name.
    plugins: BTreeMap<&'static str, &'static str>,
    /// What is to be said at the next place.
    comments: String,
    diagnostics: &'a mut Diagnostics,
}

impl Upgrade<'_> {
    fn template(mut self, root: &JsonObject, rendered: &[String]) -> String {
        let mut head = String::new();
        for (name, member) in root {
            if name.starts_with('_') || name == "comments" {
                head.push_str(&comment(&format!("{name}: {}", json_text(&member.node))));
            } else if name == "push" {
                let title = "`push` has no meaning any more, and is a comment now";
                self.diagnostics.push(Diagnostic::warning("upgraded", member.name_span, title));
                head.push_str(&comment(&format!("push: {}", json_text(&member.node))));
            } else if !ROOT_KEYS.contains(&name.as_str()) {
                let title = format!("a template has no key `{name}`; it is a comment now");
                self.diagnostics.push(Diagnostic::warning("upgraded", member.name_span, title));
                head.push_str(&comment(&format!("{name}: {}", json_text(&member.node))));
            }
        }
        if !head.is_empty() {
            head.push('\n');
        }
        let (sources, source_blocks) = self.sources(root, rendered);
        let build = self.build(root, &sources);
        let source = Arc::clone(&self.source);
        let variables = self.variables.blocks(&source, self.diagnostics);
        for (name, span) in std::mem::take(&mut self.variables.undeclared) {
            let title = format!("the variable `{name}` is not declared; it is the empty text unless it is given");
            self.diagnostics.push(match span {
                Some(span) => Diagnostic::warning("upgraded", span, title),
                None => Diagnostic::new(kiln_core::Severity::Warning, "upgraded", None, title),
            });
        }
        let packer = self.packer(root);
        format!("{head}{packer}{variables}{source_blocks}{build}")
    }

    /// The block that says what Packer needs.
    fn packer(&mut self, root: &JsonObject) -> String {
        let mut text = String::new();
        if let Some(JsonValue::String(version)) = root.get("min_packer_version").map(|member| &member.node.value) {
            text.push_str(&format!("required_version = {}\n", literal(&format!(">= {version}"))));
        }
        if !self.plugins.is_empty() {
            let plugin = |(name, source): (&&str, &&str)| {
                format!("{name} = {{\nsource = {}\nversion = \"~> 1\"\n}}\n", literal(source))
            };
            let plugins: String = self.plugins.iter().map(plugin).collect();
            text.push_str(&format!("required_plugins {{\n{plugins}}}\n"));
        }
        if text.is_empty() { text } else { format!("packer {{\n{text}}}\n\n") }
    }

    /// Tells what may not be the same, and says it in the result too.
    fn note(&mut self, diagnostic: Diagnostic) {
        self.comments.push_str(&comment(&format!("TODO: {}", diagnostic.title)));
        self.diagnostics.push(diagnostic);
    }

    fn take_comments(&mut self) -> String {
        std::mem::take(&mut self.comments)
    }

    /// Where a block comes from, if that is wanted.
    fn annotation(&self, node: &JsonNode, list: &str, index: usize) -> String {
        let Some(lines) = &self.lines else { return String::new() };
        let line = lines.partition_point(|start| *start <= node.span.start as usize);
        format!("# {}:{line}, {list}[{index}]\n", self.file)
    }

    /// The items of a list of the template.
    fn items<'b>(&self, root: &'b JsonObject, name: &str) -> &'b [JsonNode] {
        match root.get(name).map(|member| &member.node.value) {
            Some(JsonValue::Array(items)) => items,
            _ => &[],
        }
    }
}

/// A block, on one line where it is empty.
fn block(header: &str, body: &str) -> String {
    if body.is_empty() { format!("{header} {{}}\n") } else { format!("{header} {{\n{body}}}\n") }
}

/// Keys of a template that are written elsewhere in the result.
const ROOT_KEYS: [&str; 8] = [
    "builders",
    "description",
    "error-cleanup-provisioner",
    "min_packer_version",
    "post-processors",
    "provisioners",
    "sensitive-variables",
    "variables",
];

fn check_lists(root: &JsonObject, diagnostics: &mut Diagnostics) {
    for name in ["builders", "provisioners", "post-processors", "sensitive-variables"] {
        let Some(member) = root.get(name) else { continue };
        if !matches!(member.node.value, JsonValue::Array(_) | JsonValue::Null) {
            let title = format!("`{name}` must be a list, and this is {}", member.node.value.type_name());
            diagnostics.push(Diagnostic::error("wrong-type", member.node.span, title).help("put it in `[` and `]`"));
        }
    }
}

/// Whether the name of a builder holds actions: `only` may know it as it is rendered.
fn has_computed_names(root: &JsonObject) -> bool {
    let Some(JsonValue::Array(builders)) = root.get("builders").map(|member| &member.node.value) else { return false };
    builders.iter().any(|builder| match &builder.value {
        JsonValue::Object(members) => members
            .get("name")
            .is_some_and(|name| matches!(&name.node.value, JsonValue::String(name) if name.contains("{{"))),
        _ => false,
    })
}

/// The builders' names as they are rendered, in their order; none where the template has mistakes.
fn builder_names(template: &TemplateText, options: &LoadOptions) -> Vec<String> {
    let mut options = options.clone();
    options.allow_unset = true;
    options.syntax_only = false;
    let mut diagnostics = Diagnostics::new();
    let mut sources = SourceMap::new();
    let outcome = crate::legacy::load(template, &options, &mut sources, &mut diagnostics);
    match outcome.plan {
        Some(plan) if !diagnostics.has_errors() => {
            plan.builds.iter().map(|build| build.build_name.to_string()).collect()
        }
        _ => Vec::new(),
    }
}

fn line_starts(text: &str) -> Vec<usize> {
    std::iter::once(0).chain(text.match_indices('\n').map(|(position, _)| position + 1)).collect()
}

/// A value as JSON on one line, for comments.
fn json_text(node: &JsonNode) -> String {
    match &node.value {
        JsonValue::Null => "null".to_owned(),
        JsonValue::Bool(value) => value.to_string(),
        JsonValue::Number(digits) => digits.clone(),
        JsonValue::String(text) => serde_json::Value::from(text.as_str()).to_string(),
        JsonValue::Array(items) => {
            let items: Vec<String> = items.iter().map(json_text).collect();
            format!("[{}]", items.join(", "))
        }
        JsonValue::Object(members) => {
            let entry = |(name, member): (&String, &json::Member)| {
                format!("{}: {}", serde_json::Value::from(name.as_str()), json_text(&member.node))
            };
            let members: Vec<String> = members.iter().map(entry).collect();
            format!("{{{}}}", members.join(", "))
        }
    }
}
