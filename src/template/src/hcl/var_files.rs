//! Where values of variables come from: the environment, var files, the command line; in the order of their weight.

use std::path::{Path, PathBuf};

use kiln_core::{Diagnostic, Diagnostics, Severity, SourceMap, Span, suggest};
use kiln_language::syntax::{self, Expression, Item, Name};
use kiln_language::value::{Value, parse_number};

use super::variables::VariableDeclaration;
use crate::legacy::json::{self, Duplicates, JsonValue};
use crate::load::{LoadOptions, TemplateText, read_template};

/// A value given to a variable.
#[derive(Debug)]
pub(crate) struct Assignment {
    pub(crate) name: String,
    pub(crate) value: Assigned,
}

/// As it was given.
#[derive(Debug)]
pub(crate) enum Assigned {
    /// A text from the command line or the environment.
    Text {
        text: String,
        /// What messages call its place: `<-var release>`.
        origin: String,
    },
    /// From an HCL file.
    Expression(Expression),
    /// From a JSON file.
    Value(Value, Span),
}

/// All assignments, the heaviest last: environment (`PKR_VAR_x`, over it `KILN_VAR_x`), `*.auto.pkrvars.hcl`,
/// `*.auto.pkrvars.json`, `-var-file` in order, `-var` in order.
pub(crate) fn collect(
    options: &LoadOptions,
    auto_files: &[PathBuf],
    declared: &[VariableDeclaration],
    sources: &mut SourceMap,
    diagnostics: &mut Diagnostics,
) -> Vec<Assignment> {
    let names: Vec<&str> = declared.iter().map(|variable| variable.name.text.as_str()).collect();
    let mut assignments = from_environment(options, &names);
    for path in auto_files.iter().chain(&options.variable_files) {
        let Some(file) = read_template(options, path, sources, diagnostics) else { continue };
        let found = read_file(path, &file, diagnostics);
        if options.warn_undeclared {
            for (name, _) in found.iter().filter(|(name, _)| !names.contains(&name.text.as_str())) {
                diagnostics.push(undeclared(Severity::Warning, Some(name.span), &name.text, &names));
            }
        }
        assignments.extend(found.into_iter().map(|(name, value)| Assignment { name: name.text, value }));
    }
    for (name, text) in &options.variables {
        let origin = format!("<-var {name}>");
        if names.contains(&name.as_str()) {
            let value = Assigned::Text { text: text.clone(), origin };
            assignments.push(Assignment { name: name.clone(), value });
        } else {
            // The value is left out: what it is for is not known, so it may be secret.
            let source = sources.add(origin, None, name.as_str());
            let span = Span::new(source, 0..name.len());
            diagnostics.push(undeclared(Severity::Error, Some(span), name, &names));
        }
    }
    assignments
}

fn undeclared(severity: Severity, span: Option<Span>, name: &str, names: &[&str]) -> Diagnostic {
    let title = format!("the variable `{name}` is not declared");
    let diagnostic = Diagnostic::new(severity, "undeclared-variable", span, title);
    match suggest::nearest(name, names.iter().copied()) {
        Some(nearest) => match span {
            Some(span) => diagnostic.rename(span, nearest, format!("did you mean `{nearest}`?")),
            None => diagnostic.help(format!("did you mean `{nearest}`?")),
        },
        None => diagnostic.help(format!("declare it in the template: `variable \"{name}\" {{}}`")),
    }
}

fn from_environment(options: &LoadOptions, names: &[&str]) -> Vec<Assignment> {
    let mut assignments = Vec::new();
    for name in names {
        let variables = ["KILN_VAR_", "PKR_VAR_"].map(|prefix| format!("{prefix}{name}"));
        let found = variables.into_iter().find_map(|variable| {
            let text = options.environment.get(&variable)?;
            Some(Assigned::Text { text: text.clone(), origin: format!("<environment {variable}>") })
        });
        assignments.extend(found.map(|value| Assignment { name: (*name).to_owned(), value }));
    }
    assignments
}

fn read_file(path: &Path, file: &TemplateText, diagnostics: &mut Diagnostics) -> Vec<(Name, Assigned)> {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("hcl") => read_hcl(file, diagnostics),
        Some("json") => read_json(file, diagnostics),
        _ => {
            let span = Span::new(file.source, 0..0);
            diagnostics.push(
                Diagnostic::error("unknown-var-file", span, "the form of this var file cannot be told from its name")
                    .help("name it `*.pkrvars.hcl` or `*.pkrvars.json`"),
            );
            Vec::new()
        }
    }
}

fn read_hcl(file: &TemplateText, diagnostics: &mut Diagnostics) -> Vec<(Name, Assigned)> {
    let body = syntax::parse_body(file.source, &file.text, diagnostics);
    let mut found = Vec::new();
    for item in body.items {
        match item {
            Item::Attribute(attribute) => found.push((attribute.name, Assigned::Expression(attribute.value))),
            Item::Block(block) => {
                let title = format!("a var file holds `name = value` lines, no `{}` block", block.kind.text);
                let diagnostic = Diagnostic::error("block-in-var-file", block.header, title);
                diagnostics.push(match block.kind.text.as_str() {
                    "variable" | "variables" => diagnostic.help("declare variables in the template"),
                    _ => diagnostic,
                });
            }
        }
    }
    found
}

fn read_json(file: &TemplateText, diagnostics: &mut Diagnostics) -> Vec<(Name, Assigned)> {
    let Some(root) = json::parse(&file.text, file.source, Duplicates::Refuse, diagnostics) else {
        return Vec::new();
    };
    let JsonValue::Object(members) = root.value else {
        diagnostics.push(Diagnostic::error("not-an-object", root.span, "a JSON var file must hold one object"));
        return Vec::new();
    };
    let assignment = |(text, member): (String, json::Member)| {
        let name = Name { text, span: member.name_span };
        (name, Assigned::Value(value(&member.node.value), member.node.span))
    };
    members.into_iter().map(assignment).collect()
}

/// A JSON value of a var file; its texts are taken as they are.
fn value(json: &JsonValue) -> Value {
    match json {
        JsonValue::Null => Value::null(),
        JsonValue::Bool(truth) => Value::bool(*truth),
        JsonValue::Number(digits) => parse_number(digits).map_or_else(|| Value::string(digits.as_str()), Value::number),
        JsonValue::String(text) => Value::string(text.as_str()),
        JsonValue::Array(elements) => Value::tuple(elements.iter().map(|element| value(&element.value))),
        JsonValue::Object(members) => {
            Value::object(members.iter().map(|(name, member)| (name.clone(), value(&member.node.value))))
        }
    }
}
