//! What names mean: the values of a template, and those that a build adds.

use std::collections::BTreeMap;
use std::sync::Arc;

use kiln_core::{Diagnostic, Diagnostics, Span, suggest};
use kiln_language::evaluate::{Scope, Variables, evaluate, references};
use kiln_language::functions::FunctionContext;
use kiln_language::syntax::{Expression, Name};
use kiln_language::value::{Data, Value};

use super::ambient::{Git, host_value};
use crate::load::Host;

/// Values of `var`, `local`, `data`, `path` and `packer`, and what functions may use: the scope of `console`, and the base
/// of every other.
#[derive(Debug, Clone)]
pub struct Values {
    /// By root name; each is an object.
    pub roots: BTreeMap<String, Value>,
    /// What functions may use.
    pub functions: FunctionContext,
    /// Whether a value that is not known is no mistake where one is needed (`inspect`, `console`).
    pub(crate) lenient: bool,
    /// `git.*`, found out when it is asked for.
    git: Arc<Git>,
    /// Where variables and locals are declared, by root and name.
    declared: BTreeMap<(&'static str, String), Span>,
}

impl Values {
    /// No values yet but `packer.version`, `path.root`, `path.cwd` and `git`.
    pub(crate) fn new(functions: FunctionContext, root: &str) -> Values {
        let cwd = functions.working_dir.display().to_string();
        let empty = || Value::object(Vec::<(String, Value)>::new());
        let roots = [
            ("var", empty()),
            ("local", empty()),
            ("path", Value::object([("root", Value::string(root)), ("cwd", Value::string(cwd))])),
            ("packer", Value::object([("version", Value::string(kiln_core::PACKER_VERSION))])),
        ];
        let roots = roots.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let git = Arc::new(Git::new(functions.template_dir.clone(), functions.environment.clone()));
        Values { roots, functions, lenient: false, git, declared: BTreeMap::new() }
    }

    /// Gives `host` its values.
    pub(crate) fn set_host(&mut self, host: &Host) {
        self.roots.insert("host".to_owned(), host_value(host));
    }

    /// As the evaluator takes it.
    pub fn scope(&self) -> Scope<'_> {
        Scope { variables: self, functions: &self.functions }
    }

    /// Notes a name that may be used, with its place.
    pub(crate) fn declare(&mut self, root: &'static str, name: &Name) {
        self.declared.entry((root, name.text.clone())).or_insert(name.span);
    }

    /// Gives `root.name` its value.
    pub(crate) fn set(&mut self, root: &str, name: &str, value: Value) {
        self.set_in(&[root], name, value);
    }

    /// Gives `path.name` its value; objects on the way are made.
    pub(crate) fn set_in(&mut self, path: &[&str], name: &str, value: Value) {
        let Some((root, inner)) = path.split_first() else { return };
        let empty = || Value::object(Vec::<(String, Value)>::new());
        let mut place = self.roots.entry((*root).to_owned()).or_insert_with(empty);
        for step in inner {
            let Data::Object(entries) = &mut place.data else { return };
            place = entries.entry((*step).to_owned()).or_insert_with(empty);
        }
        if let Data::Object(entries) = &mut place.data {
            entries.insert(name.to_owned(), value);
        }
    }

    fn names(&self, root: &str) -> Vec<&str> {
        self.declared.keys().filter(|(kind, _)| *kind == root).map(|(_, name)| name.as_str()).collect()
    }
}

impl Variables for Values {
    fn root(&self, name: &str) -> Option<&Value> {
        if name == "git" { self.git.whole() } else { self.roots.get(name) }
    }

    fn root_names(&self) -> Vec<&str> {
        self.roots.keys().map(String::as_str).chain(["git"]).collect()
    }

    fn found_out(&self, root: &str, name: &Name) -> Option<Result<&Value, Box<Diagnostic>>> {
        (root == "git").then(|| self.git.fact(name))
    }

    fn missing_root(&self, name: &str, span: Span) -> Option<Diagnostic> {
        match name {
            "git" => self.git.why_not(span),
            "each" => Some(
                Diagnostic::error("each-outside", span, "`each` is known only in a block that has `for_each`")
                    .help("in the steps of a build, the element of its source is `source.key` and `source.value`"),
            ),
            _ => None,
        }
    }

    fn missing_attribute(&self, root: &str, name: &Name) -> Option<Diagnostic> {
        let (code, what, how) = match root {
            "var" => ("unknown-variable", "variable", format!("declare it: `variable \"{}\" {{}}`", name.text)),
            "local" => ("unknown-local", "local", format!("declare it: `locals {{ {} = ... }}`", name.text)),
            _ => return None,
        };
        let names = self.names(root);
        let title = format!("the {what} `{}` is not declared", name.text);
        let diagnostic = Diagnostic::error(code, name.span, title);
        let Some(nearest) = suggest::nearest(&name.text, names.iter().copied()) else {
            return Some(diagnostic.help(how));
        };
        let declared = self.declared.iter().find(|((kind, declared), _)| *kind == root && declared == nearest);
        let diagnostic = diagnostic.fix(name.span, nearest, format!("did you mean `{nearest}`?"));
        Some(match declared {
            Some((_, span)) => diagnostic.also(*span, format!("`{nearest}` is declared here")),
            None => diagnostic,
        })
    }
}

/// Names bound on top of the template's values: `source`, `build`, and the iterators of `dynamic` blocks; the last wins.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bindings(Vec<Binding>);

#[derive(Debug, Clone)]
struct Binding {
    name: String,
    value: Value,
    is_iterator: bool,
}

impl Bindings {
    /// `source` and `build` of a build.
    pub(crate) fn of_build(source: Value, build: Value) -> Bindings {
        let binding = |name: &str, value| Binding { name: name.to_owned(), value, is_iterator: false };
        Bindings(vec![binding("source", source), binding("build", build)])
    }

    /// These, and an iterator.
    pub(crate) fn with_iterator(&self, name: impl Into<String>, value: Value) -> Bindings {
        let mut bindings = self.0.clone();
        bindings.push(Binding { name: name.into(), value, is_iterator: true });
        Bindings(bindings)
    }

    /// The iterators alone: `source` and `build` get other values once the machine runs.
    pub(crate) fn iterators(&self) -> Bindings {
        Bindings(self.0.iter().filter(|binding| binding.is_iterator).cloned().collect())
    }

    /// These below others.
    pub(crate) fn under(&self, above: &Bindings) -> Bindings {
        Bindings(self.0.iter().chain(&above.0).cloned().collect())
    }

    fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().rev().find(|binding| binding.name == name).map(|binding| &binding.value)
    }
}

/// A template's values with bindings on top.
pub(crate) struct Overlay<'a> {
    pub(crate) values: &'a Values,
    pub(crate) bindings: &'a Bindings,
}

impl Overlay<'_> {
    /// Evaluates; mistakes go into `diagnostics`.
    pub(crate) fn evaluate(&self, expression: &Expression, diagnostics: &mut Diagnostics) -> Value {
        evaluate(expression, &Scope { variables: self, functions: &self.values.functions }, diagnostics)
    }
}

impl Variables for Overlay<'_> {
    fn root(&self, name: &str) -> Option<&Value> {
        self.bindings.get(name).or_else(|| self.values.root(name))
    }

    fn root_names(&self) -> Vec<&str> {
        let mut names = self.values.root_names();
        names.extend(self.bindings.0.iter().map(|binding| binding.name.as_str()));
        names
    }

    fn found_out(&self, root: &str, name: &Name) -> Option<Result<&Value, Box<Diagnostic>>> {
        if self.bindings.get(root).is_some() { None } else { self.values.found_out(root, name) }
    }

    fn missing_root(&self, name: &str, span: Span) -> Option<Diagnostic> {
        self.values.missing_root(name, span)
    }

    fn missing_attribute(&self, root: &str, name: &Name) -> Option<Diagnostic> {
        let Some(value) = self.bindings.get(root) else {
            return self.values.missing_attribute(root, name);
        };
        let known: Vec<&str> = value.as_entries()?.keys().map(String::as_str).collect();
        let title = match root {
            "build" => format!("this machine has no value `build.{}`", name.text),
            _ => format!("`{root}` has no attribute `{}`", name.text),
        };
        Some(Diagnostic::error("unknown-attribute", name.span, title).did_you_mean(name.span, &name.text, known))
    }
}

/// Knows no names: the scope of defaults, var files and settings.
pub(crate) struct NoNames;

impl Variables for NoNames {
    fn root(&self, _name: &str) -> Option<&Value> {
        None
    }

    fn root_names(&self) -> Vec<&str> {
        Vec::new()
    }
}

/// Evaluates an expression that may refer to nothing. `place` names it in the message ("the default of a variable").
/// `None` only with an error told.
pub(crate) fn constant(
    expression: &Expression,
    functions: &FunctionContext,
    place: &str,
    diagnostics: &mut Diagnostics,
) -> Option<Value> {
    let found = references(expression);
    for reference in &found {
        diagnostics.push(
            Diagnostic::error("not-constant", reference.span, format!("{place} cannot refer to anything"))
                .label(format!("refers to `{}`", reference.root))
                .help("write the value itself; a text stands in quotes"),
        );
    }
    if !found.is_empty() {
        return None;
    }
    let mut own = Diagnostics::new();
    let value = evaluate(expression, &Scope { variables: &NoNames, functions }, &mut own);
    let failed = own.has_errors();
    diagnostics.extend(own);
    (!failed).then_some(value)
}

/// A constant text.
pub(crate) fn constant_text(
    expression: &Expression,
    functions: &FunctionContext,
    place: &str,
    diagnostics: &mut Diagnostics,
) -> Option<String> {
    let value = constant(expression, functions, place, diagnostics)?;
    match value.data {
        Data::String(text) => Some(text),
        Data::Null(_) => None,
        _ => {
            let title = format!("{place} must be a string, and this is {}", value.type_of().friendly());
            diagnostics.push(Diagnostic::error("wrong-type", expression.span, title));
            None
        }
    }
}

/// A constant truth value.
pub(crate) fn constant_bool(
    expression: &Expression,
    functions: &FunctionContext,
    place: &str,
    diagnostics: &mut Diagnostics,
) -> Option<bool> {
    let value = constant(expression, functions, place, diagnostics)?;
    let converted = kiln_language::convert::convert(&value, &kiln_language::value::Type::Bool);
    let truth = converted.ok().and_then(|value| value.as_bool());
    if truth.is_none() {
        let title = format!("{place} must be `true` or `false`");
        diagnostics.push(Diagnostic::error("wrong-type", expression.span, title));
    }
    truth
}
