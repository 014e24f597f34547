//! What is out of date in a legacy JSON template, mended: what Packer's `fix` documents, byte for byte in its layout.
//!
//! ```text
//!   text ──► JsonNode (legacy::json) ──► FIXERS, in order ──► text (print) + changes with their places
//! ```
//!
//! Fixers change names and values that later releases of Packer's plug-ins take otherwise. They look at the type of a
//! component and its arguments alone, and know nothing of the kinds that kiln has.

mod edits;
mod print;
mod table;
#[cfg(test)]
mod tests;

use kiln_core::{Diagnostic, Diagnostics, Severity, SourceMap, Span};

use self::table::{FIXERS, Fixer, Part};
use crate::legacy::json::{self, Duplicates, JsonNode, JsonObject, JsonValue, Member};
use crate::load::{ConfigType, LoadOptions, read_template};

/// One thing that was mended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The fixer, as Packer calls it.
    pub fixer: &'static str,
    /// Where, in the template as it was.
    pub span: Span,
    /// What, e.g. "`ssh_key_path` is now `ssh_private_key_file`".
    pub text: String,
}

/// What mending gave.
#[derive(Debug)]
pub struct Fixed {
    /// The template as it was.
    pub sources: SourceMap,
    /// Mistakes that stand in the way of mending, and what was left as it is.
    pub diagnostics: Diagnostics,
    /// The mended template, in Packer's layout; `None` with errors.
    pub text: Option<String>,
    /// What was mended, in the order of the fixers.
    pub changes: Vec<Change>,
}

/// The names of all fixers with what each does, in the order they run.
pub fn fixers() -> impl Iterator<Item = (&'static str, &'static str)> {
    FIXERS.iter().map(|fixer| (fixer.name, fixer.does))
}

/// The defaults of the variables that `sensitive-variables` names: messages quote their lines.
fn sensitive_defaults(root: &JsonObject) -> Vec<String> {
    let inside = |name: &str| root.get(name).map(|member| &member.node.value);
    let (Some(JsonValue::Array(names)), Some(JsonValue::Object(variables))) =
        (inside("sensitive-variables"), inside("variables"))
    else {
        return Vec::new();
    };
    let text = |value: &JsonValue| match value {
        JsonValue::String(text) => Some(text.clone()),
        _ => None,
    };
    let names = names.iter().filter_map(|name| text(&name.value));
    names.filter_map(|name| text(&variables.get(name.as_str())?.node.value)).collect()
}

/// Mends a legacy JSON template. Reads its file; of the options, only what says where it is matters.
pub fn fix(options: &LoadOptions) -> Fixed {
    let mut fixed =
        Fixed { sources: SourceMap::new(), diagnostics: Diagnostics::new(), text: None, changes: Vec::new() };
    if let Some(refused) = refuse_hcl(options) {
        fixed.diagnostics.push(refused);
        return fixed;
    }
    let Some(template) = read_template(options, &options.template, &mut fixed.sources, &mut fixed.diagnostics) else {
        return fixed;
    };
    let root = json::parse(&template.text, template.source, Duplicates::LastWins, &mut fixed.diagnostics);
    let Some(mut node) = root else { return fixed };
    let span = node.span;
    let JsonValue::Object(root) = &mut node.value else {
        let title = format!("a template must be an object, and this is {}", node.value.type_name());
        fixed.diagnostics.push(Diagnostic::error("wrong-type", Span { end: span.start + 1, ..span }, title));
        return fixed;
    };
    fixed.diagnostics.secrets = sensitive_defaults(root);
    let mut fixing = Fixing { diagnostics: &mut fixed.diagnostics, changes: Vec::new(), fixer: "" };
    fixing.shape(root, span);
    for fixer in FIXERS {
        fixing.run(fixer, root);
    }
    fixed.changes = fixing.changes;
    if !fixed.diagnostics.has_errors() {
        fixed.text = Some(print::document(&node));
    }
    fixed
}

/// The mistake of giving HCL2 to a command that takes legacy JSON.
pub(crate) fn refuse_hcl(options: &LoadOptions) -> Option<Diagnostic> {
    if options.form() == ConfigType::Json {
        return None;
    }
    let what = if options.is_directory() { "a directory" } else { "an HCL2 template" };
    let title = format!("`{}` is {what}, and this command takes a legacy JSON template", options.template.display());
    Some(Diagnostic::new(Severity::Error, "not-legacy-json", None, title))
}

/// The work: what was found and changed.
pub(super) struct Fixing<'a> {
    diagnostics: &'a mut Diagnostics,
    changes: Vec<Change>,
    /// The fixer at work.
    fixer: &'static str,
}

impl Fixing<'_> {
    /// Brings the lists into a form that fixers can walk. Packer gives each template `builders`.
    fn shape(&mut self, root: &mut JsonObject, span: Span) {
        for name in ["builders", "provisioners", "post-processors"] {
            let Some(member) = root.get_mut(name) else { continue };
            let node = &mut member.node;
            match &node.value {
                JsonValue::Array(_) | JsonValue::Null => {}
                JsonValue::Object(_) | JsonValue::String(_) if name == "provisioners" => {
                    let item = std::mem::replace(&mut node.value, JsonValue::Null);
                    node.value = JsonValue::Array(vec![JsonNode { value: item, span: node.span }]);
                }
                other => self.diagnostics.push(
                    Diagnostic::error(
                        "wrong-type",
                        node.span,
                        format!("`{name}` must be a list, and this is {}", other.type_name()),
                    )
                    .help("put it in `[` and `]`"),
                ),
            }
        }
        if !root.contains_key("builders") {
            root.insert("builders".to_owned(), member(JsonValue::Null, span));
        }
    }

    fn run(&mut self, fixer: &Fixer, root: &mut JsonObject) {
        self.fixer = fixer.name;
        let part = match fixer.part {
            Part::Builders => "builders",
            Part::Provisioners => "provisioners",
            Part::PostProcessors => "post-processors",
        };
        let Some(Member { node: JsonNode { value: JsonValue::Array(items), .. }, .. }) = root.get_mut(part) else {
            return;
        };
        for item in items {
            match &mut item.value {
                JsonValue::Object(component) => self.component(fixer, component),
                // A chain.
                JsonValue::Array(links) if fixer.part == Part::PostProcessors => {
                    for link in links {
                        if let JsonValue::Object(component) = &mut link.value {
                            self.component(fixer, component);
                        }
                    }
                }
                _ => {}
            }
        }
    }

    fn component(&mut self, fixer: &Fixer, component: &mut JsonObject) {
        let kind = match component.get("type").map(|member| &member.node.value) {
            Some(JsonValue::String(kind)) => kind.as_str(),
            _ => "",
        };
        if fixer.kinds.include(kind) {
            for action in fixer.actions {
                action.apply(self, component);
            }
        }
    }

    /// Notes a change.
    fn changed(&mut self, span: Span, text: impl Into<String>) {
        self.changes.push(Change { fixer: self.fixer, span, text: text.into() });
    }

    /// Notes that something is left as it is, though it should be mended.
    fn left(&mut self, span: Span, title: impl Into<String>, help: &str) {
        self.diagnostics.push(Diagnostic::warning("not-mended", span, title).help(help));
    }
}

/// A member made of what stood at a place.
fn member(value: JsonValue, span: Span) -> Member {
    Member { name_span: span, node: JsonNode { value, span } }
}
