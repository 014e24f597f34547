//! Where values of variables come from: the environment, var files, the command line; in the order of their weight.

use std::path::{Path, PathBuf};

use jsonc_parser::ast;
use jsonc_parser::common::Ranged;
use kiln_core::{Diagnostic, Diagnostics, Severity, SourceId, SourceMap, Span, suggest};
use kiln_language::syntax::{self, Expression, Item, Name};
use kiln_language::value::{Value, parse_number};

use super::variables::VariableDeclaration;
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
        Some(nearest) => diagnostic.help(format!("did you mean `{nearest}`?")),
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
    let text = file.text.strip_prefix('\u{feff}').unwrap_or(&file.text);
    let reader = JsonReader { source: file.source, offset: file.text.len() - text.len() };
    let options = jsonc_parser::ParseOptions {
        allow_comments: false,
        allow_loose_object_property_names: false,
        allow_trailing_commas: false,
        allow_missing_commas: false,
        allow_single_quoted_strings: false,
        allow_hexadecimal_numbers: false,
        allow_unary_plus_numbers: false,
        allow_bare_decimal_point_numbers: false,
        allow_non_finite_numbers: false,
        allow_extended_string_escapes: false,
    };
    match jsonc_parser::parse_to_ast(text, &jsonc_parser::CollectOptions::default(), &options) {
        Ok(parsed) => match parsed.value {
            Some(ast::Value::Object(object)) => object
                .properties
                .iter()
                .map(|property| {
                    let range = property.name.range();
                    let name = Name { text: property.name.as_str().to_owned(), span: reader.span(range) };
                    let (value, span) = reader.value(&property.value);
                    (name, Assigned::Value(value, span))
                })
                .collect(),
            _ => {
                let span = Span::new(file.source, 0..0);
                diagnostics.push(Diagnostic::error("not-an-object", span, "a JSON var file must hold one object"));
                Vec::new()
            }
        },
        Err(error) => {
            let span = reader.span(error.range());
            diagnostics.push(Diagnostic::error(
                "json-syntax",
                span,
                format!("this is not valid JSON: {}", error.kind()),
            ));
            Vec::new()
        }
    }
}

/// JSON values with their places.
struct JsonReader {
    source: SourceId,
    /// Bytes in front of the text that was parsed (a BOM).
    offset: usize,
}

impl JsonReader {
    fn span(&self, range: jsonc_parser::common::Range) -> Span {
        Span::new(self.source, range.start + self.offset..range.end + self.offset)
    }

    fn value(&self, value: &ast::Value<'_>) -> (Value, Span) {
        let span = self.span(value.range());
        let value = match value {
            ast::Value::NullKeyword(_) => Value::null(),
            ast::Value::BooleanLit(literal) => Value::bool(literal.value),
            ast::Value::StringLit(literal) => Value::string(literal.value.as_ref()),
            ast::Value::NumberLit(literal) => match parse_number(literal.value) {
                Some(number) => Value::number(number),
                None => Value::string(literal.value),
            },
            ast::Value::Array(array) => Value::tuple(array.elements.iter().map(|element| self.value(element).0)),
            ast::Value::Object(object) => Value::object(
                object
                    .properties
                    .iter()
                    .map(|property| (property.name.as_str().to_owned(), self.value(&property.value).0)),
            ),
        };
        (value, span)
    }
}
