//! Input variables: their declarations, which assignment wins, and their values.

use std::collections::{BTreeMap, BTreeSet};

use kiln_core::plan::VariableSummary;
use kiln_core::{Diagnostic, Diagnostics, SourceId, SourceMap, Span, redact, suggest};
use kiln_language::convert::convert;
use kiln_language::evaluate::{Scope, type_of};
use kiln_language::functions::FunctionContext;
use kiln_language::print;
use kiln_language::syntax::{self, Block, Expression, Name};
use kiln_language::value::{Type, Value};

use crate::grammar;

use super::blocks::{check_items, labels};
use super::scope::{NoNames, Values, constant, constant_bool, constant_text, literal};
use super::validation::{Checked, Validation};
use super::var_files::{Assigned, Assignment};

/// A `variable` block, or a line of a `variables` block.
#[derive(Debug)]
pub(crate) struct VariableDeclaration {
    pub(crate) name: Name,
    /// Where messages about it as a whole point.
    pub(crate) header: Span,
    kind: Option<Expression>,
    default: Option<Expression>,
    description: Option<Expression>,
    sensitive: Option<Expression>,
    validations: Vec<Validation>,
}

impl VariableDeclaration {
    /// Reads a `variable` block.
    pub(crate) fn read(block: Block, diagnostics: &mut Diagnostics) -> Option<VariableDeclaration> {
        let [name] = labels(&block, ["its name"], diagnostics)?;
        check_name(&name, "a variable", diagnostics);
        check_items(&block.body, &grammar::VARIABLE, diagnostics);
        let attribute = |name: &str| block.body.attribute(name).map(|attribute| attribute.value.clone());
        let validations = block
            .body
            .blocks()
            .filter(|inner| inner.kind.text == "validation")
            .filter_map(|inner| Validation::read(inner, diagnostics));
        Some(VariableDeclaration {
            validations: validations.collect(),
            kind: attribute("type"),
            default: attribute("default").or_else(|| misspelt_default(&block.body)),
            description: attribute("description"),
            sensitive: attribute("sensitive"),
            header: block.header,
            name,
        })
    }

    /// Reads a `variables` block: `name = default`.
    pub(crate) fn read_short(block: Block, diagnostics: &mut Diagnostics) -> Vec<VariableDeclaration> {
        if labels(&block, [], diagnostics).is_none() {
            return Vec::new();
        }
        for inner in block.body.blocks() {
            let title = "a `variables` block takes `name = default` lines only";
            diagnostics.push(
                Diagnostic::error("unknown-block", inner.kind.span, title)
                    .help("declare a variable with a type in a block of its own: `variable \"name\" { ... }`"),
            );
        }
        let attributes = block.body.attributes();
        attributes
            .map(|attribute| VariableDeclaration {
                name: attribute.name.clone(),
                header: attribute.name.span,
                kind: None,
                default: Some(attribute.value.clone()),
                description: None,
                sensitive: None,
                validations: Vec::new(),
            })
            .collect()
    }
}

impl VariableDeclaration {
    /// Whether it may be left unset.
    pub(crate) fn has_default(&self) -> bool {
        self.default.is_some()
    }

    /// Its value in a module: what the module block says, with its place, or else its default. Null says nothing. That it
    /// is missing altogether was told.
    pub(crate) fn of_argument(
        &self,
        given: Option<(Value, Span)>,
        functions: &FunctionContext,
        sources: &SourceMap,
        diagnostics: &mut Diagnostics,
    ) -> Value {
        let name = self.name.text.as_str();
        let is_null = given.as_ref().is_some_and(|(value, _)| value.is_null());
        if let Some((_, span)) = given.as_ref().filter(|_| is_null && self.default.is_none()) {
            let title = format!("`{name}` needs a value, and this is null");
            diagnostics.push(
                Diagnostic::error("unset-variable", *span, title).also(self.header, "declared here, without a default"),
            );
        }
        let winner = given
            .filter(|_| !is_null)
            .map(|(value, span)| Assignment { name: name.to_owned(), value: Assigned::Value(value, span) });
        let mut resolver =
            Resolver { declaration: self, functions, sources: &mut sources.clone(), diagnostics, secrets: Vec::new() };
        let (value, _) = resolver.value(winner, true);
        let mut secrets = std::mem::take(&mut resolver.secrets);
        diagnostics.secrets.append(&mut secrets);
        value
    }
}

/// Tells a label that cannot be written as a name in expressions.
pub(crate) fn check_name(name: &Name, what: &str, diagnostics: &mut Diagnostics) {
    let fits =
        |index: usize, c: char| c.is_alphabetic() || c == '_' || (index > 0 && (c.is_alphanumeric() || c == '-'));
    if !name.text.is_empty() && name.text.chars().enumerate().all(|(index, c)| fits(index, c)) {
        return;
    }
    let title = format!("`{}` cannot be the name of {what}", name.text);
    diagnostics.push(
        Diagnostic::error("wrong-name", name.span, title)
            .help("a name begins with a letter or `_`, and goes on with letters, digits, `_` and `-`"),
    );
}

/// The default under a wrong name, which was told: that the variable has none would be told in vain.
fn misspelt_default(body: &syntax::Body) -> Option<Expression> {
    let meant = |name: &str| suggest::nearest(name, grammar::arguments(&grammar::VARIABLE)) == Some("default");
    let unknown = |name: &str| !grammar::arguments(&grammar::VARIABLE).contains(&name);
    let found = body.attributes().find(|attribute| unknown(&attribute.name.text) && meant(&attribute.name.text))?;
    Some(found.value.clone())
}

/// All variables with their values.
#[derive(Debug, Default)]
pub(crate) struct Resolved {
    /// For `inspect`, by name.
    pub(crate) summaries: Vec<VariableSummary>,
    /// Texts of sensitive values.
    pub(crate) secrets: Vec<String>,
}

/// Gives every declared variable its value in `values`: the last of `assignments`, or its default. `allow_unset` makes a
/// variable without either unknown instead of a mistake.
pub(crate) fn resolve(
    declarations: &[VariableDeclaration],
    assignments: Vec<Assignment>,
    allow_unset: bool,
    values: &mut Values,
    sources: &mut SourceMap,
    diagnostics: &mut Diagnostics,
) -> Resolved {
    for declaration in declarations {
        values.declare("var", &declaration.name);
    }
    // The last of a name wins.
    let mut winners: BTreeMap<String, Assignment> =
        assignments.into_iter().map(|assignment| (assignment.name.clone(), assignment)).collect();
    let mut resolved = Resolved::default();
    let functions = values.functions.clone();
    let mut seen = BTreeSet::new();
    for declaration in declarations {
        let name = &declaration.name.text;
        if !seen.insert(name) {
            continue;
        }
        let mut resolver = Resolver { declaration, functions: &functions, sources, diagnostics, secrets: Vec::new() };
        let winner = winners.remove(name);
        let unset = winner.is_none() && declaration.default.is_none();
        let (value, is_sensitive) = resolver.value(winner, allow_unset);
        let description = resolver.description();
        resolved.secrets.append(&mut resolver.secrets);
        collect_secrets(&value, false, &mut resolved.secrets);
        resolved.summaries.push(VariableSummary {
            name: name.clone(),
            value: print::written(&value),
            shown: print::to_hcl(&value),
            description,
            sensitive: is_sensitive,
            required: declaration.default.is_none(),
            unset,
        });
        values.set("var", name, value);
    }
    resolved.summaries.sort_by(|left, right| left.name.cmp(&right.name));
    resolved
}

struct Resolver<'a> {
    declaration: &'a VariableDeclaration,
    functions: &'a FunctionContext,
    sources: &'a mut SourceMap,
    diagnostics: &'a mut Diagnostics,
    secrets: Vec<String>,
}

impl Resolver<'_> {
    fn value(&mut self, winner: Option<Assignment>, allow_unset: bool) -> (Value, bool) {
        let declaration = self.declaration;
        let is_sensitive = declaration.sensitive.as_ref().is_some_and(|expression| {
            // A mark that cannot be read is taken as set: rather hide too much.
            constant_bool(expression, self.functions, "`sensitive` of a variable", self.diagnostics).unwrap_or(true)
        });
        let empty = Scope { variables: &NoNames, functions: self.functions };
        let declared = declaration.kind.as_ref().map(|kind| {
            let found = type_of(kind, &empty, self.diagnostics);
            (found.unwrap_or(Type::Any), kind.span)
        });
        let default = self.default(declared.as_ref(), is_sensitive);
        let kind = match (&declared, &default) {
            (Some((kind, _)), _) => kind.clone(),
            (None, Some(default)) => shape_of(default),
            (None, None) => Type::Any,
        };
        let value = match winner {
            Some(winner) => self.assigned(winner, &kind, default.as_ref(), is_sensitive),
            None => match default {
                Some(default) => Some((default, declaration.default.as_ref().map_or(declaration.header, |it| it.span))),
                None => {
                    if declaration.default.is_none() && !allow_unset {
                        self.report_unset(is_sensitive);
                    }
                    None
                }
            },
        };
        let Some((value, span)) = value else { return (Value::unknown(kind).marked(is_sensitive), is_sensitive) };
        let value = value.marked(is_sensitive);
        for validation in &declaration.validations {
            let checked = Checked { name: &declaration.name.text, value: &value, span };
            validation.check(&checked, self.functions, self.diagnostics);
        }
        (value, is_sensitive)
    }

    fn description(&mut self) -> Option<String> {
        let expression = self.declaration.description.as_ref()?;
        constant_text(expression, self.functions, "`description` of a variable", self.diagnostics)
    }

    fn default(&mut self, declared: Option<&(Type, Span)>, is_sensitive: bool) -> Option<Value> {
        let expression = self.declaration.default.as_ref()?;
        let functions = FunctionContext { allow_env: true, ..self.functions.clone() };
        let value = constant(expression, &functions, "the default of a variable", self.diagnostics)?;
        if is_sensitive {
            // Whether it fits and counts or not: messages quote its line.
            collect_secrets(&value, true, &mut self.secrets);
        }
        let Some((kind, span)) = declared else { return Some(value) };
        match convert(&value, kind) {
            Ok(value) => Some(value),
            Err(error) => {
                let title = format!("the default of `{}` does not fit its type: {error}", self.declaration.name.text);
                self.diagnostics.push(
                    Diagnostic::error("wrong-type", expression.span, title)
                        .also(*span, format!("the type is `{kind}`")),
                );
                None
            }
        }
    }

    /// The value of the winning assignment, and its place.
    fn assigned(
        &mut self,
        winner: Assignment,
        kind: &Type,
        default: Option<&Value>,
        is_sensitive: bool,
    ) -> Option<(Value, Span)> {
        let (value, span) = match winner.value {
            Assigned::Text { text, origin } => self.text(&text, &origin, kind, is_sensitive)?,
            Assigned::Expression(expression) => {
                let span = expression.span;
                (literal(&expression, self.functions, "a value in a var file", self.diagnostics)?, span)
            }
            Assigned::Value(value, span) => (value, span),
        };
        // Without a type, a list or map as default only says "some list", "some map".
        let fits_loosely = self.declaration.kind.is_none()
            && match kind {
                Type::List(_) => value.as_elements().is_some(),
                Type::Map(_) => value.as_entries().is_some(),
                _ => false,
            };
        if fits_loosely {
            // Where it has the parts of the default, these say of which types they are, as in Packer.
            let same = default.filter(|default| same_parts(default, &value));
            let exact = same.and_then(|default| convert(&value, &default.type_of()).ok());
            return Some((exact.unwrap_or(value), span));
        }
        match convert(&value, kind) {
            Ok(value) => Some((value, span)),
            Err(error) => {
                if is_sensitive {
                    collect_secrets(&value, true, &mut self.secrets);
                }
                let name = &self.declaration.name;
                let declared = match &self.declaration.kind {
                    Some(kind) => format!("declared as `{}` here", self.sources.text(kind.span)),
                    None => format!("its default makes it `{kind}`"),
                };
                let title = format!("the value of `{}` does not fit its type: {error}", name.text);
                self.diagnostics
                    .push(Diagnostic::error("wrong-type", span, title).also(self.declaration.header, declared));
                None
            }
        }
    }

    /// A text from the command line or the environment: as it is for texts, numbers and where nothing is said, else an HCL
    /// expression. The text gets a place of its own, masked where it is sensitive.
    fn text(&mut self, text: &str, origin: &str, kind: &Type, is_sensitive: bool) -> Option<(Value, Span)> {
        let says_nothing = self.declaration.kind.is_none() && self.declaration.default.is_none();
        if matches!(kind, Type::String | Type::Number | Type::Bool) || says_nothing {
            let shown = if is_sensitive { redact::MASK } else { text };
            let source = self.sources.add(origin, None, shown);
            let span = Span::new(source, 0..shown.len());
            let read = if *kind == Type::Bool { self.quietly(text, source) } else { None };
            return Some((read.unwrap_or_else(|| Value::string(text)), span));
        }
        // Places in the masked text stay those of the real one.
        let masked =
            || text.chars().flat_map(|c| std::iter::repeat_n(if c == '\n' { '\n' } else { '*' }, c.len_utf8()));
        let shown: String = if is_sensitive { masked().collect() } else { text.to_owned() };
        let source = self.sources.add(origin, None, shown);
        let span = Span::new(source, 0..text.len());
        let mut own = Diagnostics::new();
        let value = syntax::parse_expression(source, text, &mut own)
            .filter(|_| !own.has_errors())
            .and_then(|expression| literal(&expression, self.functions, "a variable's value", &mut own));
        let failed = own.has_errors();
        let header = self.declaration.header;
        let note = format!(
            "`{}` is of type `{kind}`, so its value is read as an HCL expression, e.g. `{}`",
            self.declaration.name.text,
            example(kind)
        );
        self.diagnostics.extend(own.into_iter().map(|diagnostic| {
            let diagnostic = diagnostic.also(header, "declared here");
            diagnostic.note(note.as_str())
        }));
        if failed && is_sensitive {
            self.secrets.push(text.to_owned());
        }
        Some((value?, span)).filter(|_| !failed)
    }

    /// The value of a text that is an HCL expression; no word about one that is not.
    fn quietly(&self, text: &str, source: SourceId) -> Option<Value> {
        let mut own = Diagnostics::new();
        let expression = syntax::parse_expression(source, text, &mut own).filter(|_| !own.has_errors())?;
        literal(&expression, self.functions, "a variable's value", &mut own)
    }

    fn report_unset(&mut self, is_sensitive: bool) {
        let name = &self.declaration.name.text;
        let environment = format!("in the environment as `KILN_VAR_{name}` or `PKR_VAR_{name}`");
        // A command line can be read by every process of the host.
        let help = match is_sensitive {
            true => format!("give it one {environment}, or in a file for `-var-file`"),
            false => format!("give it one with `-var {name}=...`, in a file for `-var-file`, or {environment}"),
        };
        let title = format!("the variable `{name}` has no value");
        self.diagnostics.push(
            Diagnostic::error("unset-variable", self.declaration.header, title).label("has no default").help(help),
        );
    }
}

/// The type that an untyped variable's default gives it. A tuple or object only says "a list" or "a map" of some kind:
/// an assignment may be longer than the default.
fn shape_of(default: &Value) -> Type {
    match default.type_of() {
        Type::Tuple(_) => Type::list(Type::Any),
        Type::Object(_) => Type::map(Type::Any),
        kind => kind,
    }
}

/// Whether a value has as many elements, or the same keys.
fn same_parts(default: &Value, value: &Value) -> bool {
    match (default.as_entries(), value.as_entries()) {
        (Some(default), Some(entries)) => default.keys().eq(entries.keys()),
        _ => default.as_elements().map(<[Value]>::len) == value.as_elements().map(<[Value]>::len),
    }
}

fn example(kind: &Type) -> &'static str {
    match kind {
        Type::Map(_) | Type::Object(_) => "{ name = \"value\" }",
        _ => "[\"a\", \"b\"]",
    }
}

/// Adds every sensitive text in a value to `secrets`, and numbers long enough to be told from any other.
pub(crate) fn collect_secrets(value: &Value, is_sensitive: bool, secrets: &mut Vec<String>) {
    const SHORTEST_NUMBER: usize = 4;
    let is_sensitive = is_sensitive || value.sensitive;
    if is_sensitive {
        match value.as_str() {
            Some("") => {}
            Some(text) => secrets.push(text.to_owned()),
            None => {
                let number = value.as_number().and_then(|_| value.to_text());
                secrets.extend(number.filter(|text| text.len() >= SHORTEST_NUMBER));
            }
        }
    }
    for child in value.children() {
        collect_secrets(child, is_sensitive, secrets);
    }
}
