//! User variables: declared in the template, set by it, by variable files and by `-var`, resolved against each other.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use indexmap::IndexMap;
use kiln_core::plan::VariableSummary;
use kiln_core::redact::MASK;
use kiln_core::{Diagnostic, Diagnostics, SourceMap, Span, TextScope, suggest};
use kiln_gotemplate::{Rendered, Scope, render_variable};

use super::json::{self, Duplicates, JsonObject, JsonValue, Member};
use super::references::{Reference, references};
use super::shape;
use super::text::render_mistake;
use super::text_scope;
use crate::load::{LoadOptions, TemplateText, read_template};

/// All user variables, resolved.
#[derive(Debug, Default)]
pub(super) struct Variables {
    /// Values by name, undeclared ones that were given included: Packer lets `{{user}}` see them.
    pub(super) values: Arc<BTreeMap<String, String>>,
    /// Known names without a value: nothing set them, or a mistake was found in theirs.
    pub(super) unresolved: BTreeSet<String>,
    /// For `inspect`: the declared ones, by name.
    pub(super) summaries: Vec<VariableSummary>,
    /// Names of `sensitive-variables`.
    pub(super) sensitive: BTreeSet<String>,
    /// What those hold.
    pub(super) secrets: Vec<String>,
}

impl Variables {
    /// Whether `{{user}}` may name it.
    pub(super) fn is_known(&self, name: &str) -> bool {
        self.values.contains_key(name) || self.unresolved.contains(name)
    }

    /// All names `{{user}}` may use.
    pub(super) fn names(&self) -> Vec<&str> {
        let names: BTreeSet<&str> =
            self.values.keys().map(String::as_str).chain(self.unresolved.iter().map(String::as_str)).collect();
        names.into_iter().collect()
    }
}

/// The text a value was written in, to point into it.
#[derive(Debug, Clone)]
enum Origin {
    /// A JSON literal, quotes included.
    Literal { text: Arc<str>, span: Span },
    /// `-var`: the value as it is, starting at the span.
    Plain { span: Span },
}

#[derive(Debug, Clone)]
struct Setting {
    text: String,
    origin: Origin,
    is_default: bool,
}

impl Setting {
    fn span(&self) -> Span {
        match self.origin {
            Origin::Literal { span, .. } | Origin::Plain { span } => span,
        }
    }

    fn inside(&self, range: Range<usize>) -> Span {
        match &self.origin {
            Origin::Literal { text, span } => json::inside(text, *span, range),
            Origin::Plain { span } => {
                let start = span.start as usize;
                Span::new(span.source, start + range.start..start + range.end)
            }
        }
    }
}

/// Reads the root keys `variables` and `sensitive-variables`, the variable files and `-var`; resolves all.
/// `used` are the names that `{{user}}` uses anywhere in the template.
pub(super) fn load(
    root: &JsonObject,
    template: &TemplateText,
    used: &BTreeSet<String>,
    options: &LoadOptions,
    sources: &mut SourceMap,
    diagnostics: &mut Diagnostics,
) -> Variables {
    let mut collector = Collector {
        declared: IndexMap::new(),
        settings: BTreeMap::new(),
        sensitive: BTreeMap::new(),
        used,
        options,
        diagnostics,
    };
    collector.declare(root, template);
    collector.sensitive_names(root);
    for path in &options.variable_files {
        collector.variable_file(path, sources);
    }
    for (name, value) in &options.variables {
        collector.command_line(name, value, sources);
    }
    collector.check_sensitive_names();
    collector.spread_sensitivity();
    collector.check_required();
    collector.resolve()
}

struct Collector<'a> {
    /// Where each is declared, and whether `null` makes it required.
    declared: IndexMap<String, (Span, bool)>,
    settings: BTreeMap<String, Setting>,
    sensitive: BTreeMap<String, Span>,
    used: &'a BTreeSet<String>,
    options: &'a LoadOptions,
    diagnostics: &'a mut Diagnostics,
}

impl Collector<'_> {
    fn declare(&mut self, root: &JsonObject, template: &TemplateText) {
        let Some(variables) = shape::object(root, "variables", self.diagnostics) else { return };
        for (name, Member { name_span, node }) in variables {
            self.declared.insert(name.clone(), (*name_span, node.value.is_null()));
            let origin = Origin::Literal { text: Arc::clone(&template.text), span: node.span };
            match &node.value {
                JsonValue::Null => {}
                JsonValue::String(text) => {
                    self.settings.insert(name.clone(), Setting { text: text.clone(), origin, is_default: true });
                }
                other => {
                    let mistake = Diagnostic::error(
                        "wrong-type",
                        node.span,
                        format!("the default of `{name}` must be a string, and this is {}", other.type_name()),
                    );
                    self.diagnostics.push(match other {
                        JsonValue::Number(text) => mistake.fix(node.span, format!("\"{text}\""), "write"),
                        JsonValue::Bool(value) => mistake.fix(node.span, format!("\"{value}\""), "write"),
                        _ => mistake.help("legacy templates have no lists or maps as variables"),
                    });
                }
            }
        }
    }

    fn sensitive_names(&mut self, root: &JsonObject) {
        for item in shape::array(root, "sensitive-variables", self.diagnostics) {
            match &item.value {
                JsonValue::String(name) => {
                    self.sensitive.entry(name.clone()).or_insert(item.span);
                }
                other => self.diagnostics.push(Diagnostic::error(
                    "wrong-type",
                    item.span,
                    format!("`sensitive-variables` lists names, and this is {}", other.type_name()),
                )),
            }
        }
    }

    /// A variable whose default uses a sensitive one is sensitive too, however many steps lie between.
    fn spread_sensitivity(&mut self) {
        loop {
            let derived: Vec<(String, Span)> = self
                .settings
                .iter()
                .filter(|(name, setting)| setting.is_default && !self.sensitive.contains_key(*name))
                .filter_map(|(name, setting)| {
                    let uses = references(&setting.text);
                    let source = uses.iter().find_map(|used| self.sensitive.get(&used.name))?;
                    Some((name.clone(), *source))
                })
                .collect();
            if derived.is_empty() {
                return;
            }
            self.sensitive.extend(derived);
        }
    }

    /// Runs after all settings are known: `sensitive-variables` may also name one that only `-var` gives.
    fn check_sensitive_names(&mut self) {
        for (name, span) in &self.sensitive {
            let is_given = self.settings.contains_key(name) || self.options.syntax_only;
            if self.declared.contains_key(name) || is_given {
                continue;
            }
            self.diagnostics.push(
                Diagnostic::error("undeclared-variable", *span, format!("no variable is called `{name}`"))
                    .label("so nothing would be hidden")
                    .did_you_mean(shape::unquoted(*span), name, self.declared.keys().map(String::as_str)),
            );
        }
    }

    fn variable_file(&mut self, path: &Path, sources: &mut SourceMap) {
        let Some(file) = read_template(self.options, path, sources, self.diagnostics) else { return };
        let start = file.text.trim_start_matches('\u{feff}').trim_start();
        let is_hcl = path.extension().is_some_and(|extension| extension == "hcl" || extension == "pkrvars");
        if is_hcl || !start.starts_with('{') {
            let offset = file.text.len() - start.len();
            let span = Span::new(file.source, offset..offset + start.lines().next().map_or(0, str::len));
            self.diagnostics.push(
                Diagnostic::error(
                    "variable-file-form",
                    span,
                    format!("`{}` is not JSON, and the template is", path.display()),
                )
                .help("a legacy JSON template takes variable files like `{ \"name\": \"value\" }`"),
            );
            return;
        }
        let Some(root) = json::parse(&file.text, file.source, Duplicates::LastWins, self.diagnostics) else { return };
        let JsonValue::Object(members) = root.value else { return };
        for (name, Member { name_span, node }) in members {
            let text = match node.value {
                JsonValue::String(text) => text,
                JsonValue::Number(text) => text,
                JsonValue::Bool(value) => value.to_string(),
                // Go reads null into the empty string.
                JsonValue::Null => String::new(),
                other @ (JsonValue::Array(_) | JsonValue::Object(_)) => {
                    self.diagnostics.push(Diagnostic::error(
                        "wrong-type",
                        node.span,
                        format!("the value of `{name}` must be a string, and this is {}", other.type_name()),
                    ));
                    continue;
                }
            };
            if self.options.warn_undeclared {
                self.warn_undeclared(&name, name_span);
            }
            let origin = Origin::Literal { text: Arc::clone(&file.text), span: node.span };
            self.settings.insert(name, Setting { text, origin, is_default: false });
        }
    }

    fn command_line(&mut self, name: &str, value: &str, sources: &mut SourceMap) {
        // Diagnostics quote this text: no value that is, or by a slip of its name may be, a secret.
        let is_shown = self.declared.contains_key(name) && !self.sensitive.contains_key(name);
        let shown = if is_shown { value } else { "..." };
        let source = sources.add(format!("<-var {name}>"), None, format!("{name}={shown}"));
        self.warn_undeclared(name, Span::new(source, 0..name.len()));
        let span = Span::new(source, name.len() + 1..name.len() + 1 + shown.len());
        let setting = Setting { text: value.to_owned(), origin: Origin::Plain { span }, is_default: false };
        self.settings.insert(name.to_owned(), setting);
    }

    fn warn_undeclared(&mut self, name: &str, span: Span) {
        if self.declared.contains_key(name) || self.used.contains(name) {
            return;
        }
        let mut warning =
            Diagnostic::warning("undeclared-variable", span, format!("the template declares no variable `{name}`"))
                .note("the value is not used");
        if let Some(nearest) = suggest::nearest(name, self.declared.keys().map(String::as_str)) {
            warning = warning.rename(span, nearest, format!("did you mean `{nearest}`?"));
        }
        self.diagnostics.push(warning);
    }

    fn check_required(&mut self) {
        if self.options.allow_unset || self.options.syntax_only {
            return;
        }
        let missing: Vec<(&String, Span)> = self
            .declared
            .iter()
            .filter(|(name, (_, is_required))| *is_required && !self.settings.contains_key(*name))
            .map(|(name, (span, _))| (name, *span))
            .collect();
        let Some(((first, span), others)) = missing.split_first() else { return };
        let title = match others {
            [] => format!("the variable `{first}` has no value"),
            _ => format!(
                "the variables {} have no value",
                suggest::enumerate(missing.iter().map(|(name, _)| name.as_str()))
            ),
        };
        let mut mistake = Diagnostic::error("missing-variable", *span, title).label("`null` makes it required");
        for (_, span) in others {
            mistake = mistake.also(*span, "");
        }
        let example: Vec<String> = missing.iter().take(3).map(|(name, _)| format!("-var {name}=VALUE")).collect();
        self.diagnostics.push(mistake.help(format!(
            "set {} with `{}`, in a JSON file given with `-var-file`, or by a default such as \"{{{{env `NAME`}}}}\"",
            if others.is_empty() { "it" } else { "them" },
            example.join(" ")
        )));
    }

    fn resolve(self) -> Variables {
        let scope = TextScope { user_variables: Some(Arc::default()), ..text_scope(self.options) };
        let mut resolver = Resolver {
            declared: &self.declared,
            settings: &self.settings,
            sensitive: &self.sensitive,
            scope,
            unresolved: BTreeSet::new(),
            in_progress: Vec::new(),
            is_idle: false,
            diagnostics: self.diagnostics,
        };
        let names: BTreeSet<&String> = self.declared.keys().chain(self.settings.keys()).collect();
        let (needed, idle): (Vec<&String>, Vec<&String>) =
            names.into_iter().partition(|name| self.declared.contains_key(*name) || self.used.contains(*name));
        let needed_count = needed.len();
        for (index, name) in needed.into_iter().chain(idle).enumerate() {
            resolver.is_idle = index >= needed_count;
            if self.options.syntax_only {
                resolver.unresolved.insert(name.clone());
            } else {
                resolver.resolve(name);
            }
        }
        let unresolved = resolver.unresolved;
        let values = resolver.scope.user_variables.unwrap_or_default();
        let written = |name: &String| self.settings.get(name).filter(|setting| !setting.is_default);
        let secrets: BTreeSet<String> = self
            .sensitive
            .keys()
            .flat_map(|name| [values.get(name).cloned(), written(name).map(|setting| setting.text.clone())])
            .flatten()
            .filter(|secret| !secret.is_empty())
            .collect();
        let mut summaries: Vec<VariableSummary> = self
            .declared
            .iter()
            .map(|(name, (_, is_required))| {
                let is_sensitive = self.sensitive.contains_key(name);
                let value = match values.get(name) {
                    None => "<unknown>".to_owned(),
                    Some(_) if is_sensitive => MASK.to_owned(),
                    Some(value) => serde_json::Value::from(value.as_str()).to_string(),
                };
                let shown = match values.get(name) {
                    Some(text) if !is_sensitive || text.is_empty() => text.clone(),
                    _ => value.clone(),
                };
                VariableSummary {
                    name: name.clone(),
                    value,
                    shown,
                    description: None,
                    sensitive: is_sensitive,
                    required: *is_required,
                    unset: *is_required && !self.settings.contains_key(name),
                }
            })
            .collect();
        summaries.sort_by(|a, b| a.name.cmp(&b.name));
        Variables {
            values,
            unresolved,
            summaries,
            sensitive: self.sensitive.into_keys().collect(),
            secrets: secrets.into_iter().collect(),
        }
    }
}

/// How many variables may need each other in a row: a bound on the stack.
const MAXIMUM_CHAIN: usize = 64;

struct Resolver<'a> {
    declared: &'a IndexMap<String, (Span, bool)>,
    settings: &'a BTreeMap<String, Setting>,
    sensitive: &'a BTreeMap<String, Span>,
    /// Its user variables are those resolved so far.
    scope: TextScope,
    unresolved: BTreeSet<String>,
    in_progress: Vec<(String, Span)>,
    /// Whether this is a given value that nothing in the template uses, nor what it uses.
    is_idle: bool,
    diagnostics: &'a mut Diagnostics,
}

impl Resolver<'_> {
    /// Renders a variable after those it uses. False where it has no value, the reason told before.
    fn resolve(&mut self, name: &str) -> bool {
        if self.scope.user_variables.as_ref().is_some_and(|values| values.contains_key(name)) {
            return true;
        }
        if self.unresolved.contains(name) {
            return false;
        }
        let rendered = match self.settings.get(name) {
            Some(setting) => self.render(name, setting),
            None => None,
        };
        match (rendered, &mut self.scope.user_variables) {
            (Some(text), Some(values)) => {
                Arc::make_mut(values).insert(name.to_owned(), text);
                true
            }
            _ => {
                self.unresolved.insert(name.to_owned());
                false
            }
        }
    }

    fn render(&mut self, name: &str, setting: &Setting) -> Option<String> {
        if !setting.text.contains("{{") {
            return Some(setting.text.clone());
        }
        let mut is_ready = true;
        for reference in references(&setting.text) {
            is_ready &= self.follow(name, setting, &reference);
        }
        if !is_ready {
            return None;
        }
        let scope = Scope { text: &self.scope, build_name: None, build_type: None, build: None, allow_env: true };
        match render_variable(&setting.text, &scope) {
            Ok(Rendered::Text(text)) => Some(text),
            Ok(Rendered::Unknown) => {
                let title = "a variable cannot depend on the machine: it is resolved before any runs";
                self.report(name, setting, Diagnostic::error("text-template", setting.span(), title));
                None
            }
            Err(error) => {
                let span = error.range.clone().map_or(setting.span(), |range| setting.inside(range));
                self.report(name, setting, render_mistake(&error, span));
                None
            }
        }
    }

    fn follow(&mut self, name: &str, setting: &Setting, reference: &Reference) -> bool {
        let target = reference.name.as_str();
        if !self.declared.contains_key(target) && !self.settings.contains_key(target) {
            if self.is_idle {
                let title = format!("the value given for `{name}` uses a variable that is not there");
                let warning = Diagnostic::warning("undeclared-variable", setting.span(), title);
                self.diagnostics.push(warning.note("the value is not used"));
                return false;
            }
            let span = setting.inside(reference.range.clone());
            let mistake = Diagnostic::error("undeclared-variable", span, format!("no variable is called `{target}`"))
                .did_you_mean(span, target, self.declared.keys().map(String::as_str));
            self.report(name, setting, mistake);
            return false;
        }
        let span = if self.is_hidden(name, setting) { setting.span() } else { setting.inside(reference.range.clone()) };
        if self.in_progress.len() >= MAXIMUM_CHAIN {
            let title = format!("variables use each other over more than {MAXIMUM_CHAIN} steps");
            self.report(name, setting, Diagnostic::error("too-deep", span, title));
            return false;
        }
        self.in_progress.push((name.to_owned(), span));
        let start = self.in_progress.iter().position(|(other, _)| other == target);
        let is_resolved = match start {
            Some(start) => {
                self.report_cycle(start);
                false
            }
            None => self.resolve(target),
        };
        self.in_progress.pop();
        is_resolved
    }

    fn report_cycle(&mut self, start: usize) {
        let cycle = &self.in_progress[start..];
        let Some(((first, span), others)) = cycle.split_first() else { return };
        let names: Vec<&str> = cycle.iter().map(|(name, _)| name.as_str()).chain([first.as_str()]).collect();
        let title = match others {
            [] => format!("the variable `{first}` uses itself"),
            _ => format!("variables use each other in a circle: {}", names.join(" -> ")),
        };
        let mut mistake = Diagnostic::error("variable-cycle", *span, title).label(format!("`{first}` uses this"));
        for (name, span) in others {
            mistake = mistake.also(*span, format!("`{name}` uses this"));
        }
        self.diagnostics.push(mistake);
        for (name, _) in cycle {
            self.unresolved.insert(name.clone());
        }
    }

    /// Whether the text that was given must not be quoted: the template's own default may, it is no secret there.
    fn is_hidden(&self, name: &str, setting: &Setting) -> bool {
        !setting.is_default && (self.sensitive.contains_key(name) || !self.declared.contains_key(name))
    }

    /// Tells a mistake in a value, or only that there is one where the value must not be quoted.
    fn report(&mut self, name: &str, setting: &Setting, mistake: Diagnostic) {
        if !self.is_hidden(name, setting) {
            self.diagnostics.push(mistake);
            return;
        }
        let declared = self.declared.get(name).map_or(setting.span(), |(span, _)| *span);
        self.diagnostics.push(
            Diagnostic::error("text-template", declared, format!("the value given for `{name}` is not valid"))
                .note("it holds a template action that cannot be rendered; it may be a secret and is not shown"),
        );
    }
}
