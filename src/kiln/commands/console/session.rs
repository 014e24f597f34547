//! What the console answers to a line.

use std::sync::Arc;

use kiln_core::{Diagnostic, Diagnostics, Plan, Redactor, SourceMap, render};
use kiln_language::evaluate::evaluate;
use kiln_language::print;
use kiln_language::syntax::parse_expression;
use kiln_language::value::{Data, Type, Value};
use kiln_template::{Loaded, hcl, legacy};

use super::complete::Names;
use crate::commands::inspect;
use crate::settings::Settings;

/// An answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// A value, or what was asked for in words; and warnings, rendered.
    Value { text: String, remarks: String },
    /// Mistakes, rendered.
    Mistakes(String),
    /// The console was told to end.
    Exit,
}

/// The values that lines are evaluated with.
pub(super) struct Session {
    /// The template's texts, which messages quote too.
    sources: SourceMap,
    plan: Plan,
    /// HCL2's values; `None` for texts of legacy JSON.
    values: Option<Arc<hcl::Values>>,
    /// Locals that have no value for a mistake; `local` does without them.
    wrong_locals: Vec<String>,
    redactor: Redactor,
    color: bool,
}

impl Session {
    /// Takes what loading a template gave.
    pub(super) fn new(loaded: Loaded, has_template: bool, redactor: Redactor, settings: &Settings) -> Session {
        let mut values = loaded.values;
        let plan = loaded.plan.or(loaded.partial).unwrap_or_default();
        let mut wrong_locals = Vec::new();
        if let Some(values) = &mut values {
            let values = Arc::make_mut(values);
            complete_values(values, has_template);
            if let Some(Data::Object(locals)) = values.roots.get_mut("local").map(|value| &mut value.data) {
                let is_right = |name: &str| plan.locals.iter().any(|local| local.name == name);
                wrong_locals = locals.keys().filter(|name| !is_right(name)).cloned().collect();
                locals.retain(|name, _| is_right(name));
            }
        }
        Session { sources: loaded.sources, plan, values, wrong_locals, redactor, color: settings.color }
    }

    /// Whether lines are HCL2 expressions, not texts of legacy JSON.
    pub(super) fn is_hcl(&self) -> bool {
        self.values.is_some()
    }

    /// Answers a line without blanks around it.
    pub(super) fn answer(&mut self, line: &str) -> Answer {
        let text = match line {
            "" => String::new(),
            "exit" => return Answer::Exit,
            "help" => self.help().to_owned(),
            "variables" => self.variables(),
            _ => return self.evaluate(line),
        };
        Answer::Value { text, remarks: String::new() }
    }

    fn evaluate(&self, line: &str) -> Answer {
        let mut sources = self.sources.clone();
        let source = sources.add("<console>", None, line);
        let mut diagnostics = Diagnostics::new();
        let text = match &self.values {
            None => legacy::evaluate(source, line, &self.plan, &mut diagnostics),
            Some(values) => parse_expression(source, line, &mut diagnostics)
                .map(|expression| print::to_hcl(&evaluate(&expression, &values.scope(), &mut diagnostics))),
        };
        self.tell_wrong_locals(&sources, &mut diagnostics);
        for secret in diagnostics.secrets.drain(..) {
            self.redactor.add(&secret);
        }
        let remarks: String = diagnostics
            .items
            .iter()
            .map(|item| format!("{}\n\n", render::render(item, &sources, self.color)))
            .collect();
        let remarks = self.redactor.redact(&remarks).into_owned();
        match text.filter(|_| !diagnostics.has_errors()) {
            Some(text) => Answer::Value { text: self.redactor.redact(&text).into_owned(), remarks },
            None => Answer::Mistakes(remarks),
        }
    }

    /// A local without a value is declared: what is wrong with it was told at the start.
    fn tell_wrong_locals(&self, sources: &SourceMap, diagnostics: &mut Diagnostics) {
        for item in &mut diagnostics.items {
            let Some(span) = item.primary.as_ref().map(|label| label.span) else { continue };
            let name = sources.text(span);
            if item.code == "unknown-local" && self.wrong_locals.iter().any(|wrong| wrong == name) {
                let title = format!("the local `{name}` has no value, for a mistake in it or in what it refers to");
                *item = Diagnostic::error("local-without-value", span, title);
            }
        }
    }

    /// Whether a text hides nothing and may be kept.
    pub(super) fn is_harmless(&self, line: &str) -> bool {
        self.redactor.redact(line) == line
    }

    /// What may be typed.
    pub(super) fn names(&self) -> Names {
        match &self.values {
            Some(values) => Names::of_hcl(values, &self.plan.outline),
            None => Names::of_legacy(&self.plan),
        }
    }

    /// As Packer shows them; with legacy JSON by name, where Packer's order changes from run to run.
    fn variables(&self) -> String {
        let text = if self.is_hcl() {
            inspect::values(&self.plan)
        } else {
            let declared = |name: &str| self.plan.variables.iter().find(|variable| variable.name == name);
            let shown = |(name, value): (&String, &String)| {
                let value = declared(name).map_or(value, |variable| &variable.shown);
                format!("{name}: {value},\n")
            };
            let values = self.plan.text_scope.user_variables.iter().flat_map(|values| values.iter());
            format!("\n{}", values.map(shown).collect::<String>())
        };
        self.redactor.redact(&text).into_owned()
    }

    fn help(&self) -> &'static str {
        if self.is_hcl() { HELP_HCL } else { HELP_JSON }
    }
}

/// What Packer's console knows besides a template's values: `source` and `build`, which only a build gives a value, and
/// that without a template there is no `path.root`.
fn complete_values(values: &mut hcl::Values, has_template: bool) {
    let of_source = Type::object([("name", Type::String), ("type", Type::String)]);
    values.roots.insert("source".to_owned(), Value::unknown(of_source));
    values.roots.insert("build".to_owned(), Value::unknown(Type::object(Vec::<(String, Type)>::new())));
    if let (false, Some(path)) = (has_template, values.roots.get_mut("path"))
        && let Data::Object(entries) = &mut path.data
    {
        entries.insert("root".to_owned(), Value::string(""));
    }
}

const HELP_HCL: &str = "\
Type an HCL2 expression and press Enter to see its value: upper(var.name)

Known are the template's variables (var.name), its locals (local.name), path.root,
path.cwd, packer.version, the repository (git.commit) and this machine (host.os);
what only a build or a server knows (source, build, data) is <unknown>. All
functions of templates work, but env. Tab completes what is being typed.

  variables  shows all variables and locals
  help       shows this
  exit       ends the console, as Ctrl-D does

Texts of legacy JSON templates ({{timestamp}}) are not rendered here: start the
console with such a template, or with -config-type=json.";

const HELP_JSON: &str = "\
Type a text of a legacy JSON template and press Enter to see what it becomes:
web-{{timestamp}}

Known are the template's variables ({{user `name`}}) and the functions of such
texts, but env; what only a build knows ({{build_name}}) is not.

  variables  shows all variables
  help       shows this
  exit       ends the console, as Ctrl-D does

For HCL2 expressions start the console with an HCL2 template, or with
-config-type=hcl2.";
