//! What names mean: the values of a template, and those that a build adds.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kiln_core::{Diagnostic, Diagnostics, Span, suggest};
use kiln_language::evaluate::{Reference, Scope, Variables, calls, evaluate, references};
use kiln_language::functions::FunctionContext;
use kiln_language::syntax::{Expression, Name};
use kiln_language::value::Value;

use super::ambient::{Git, host_value};
use super::graph::{Late, Roots, Settled, View};
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
    declared: Arc<BTreeMap<(&'static str, String), Span>>,
    /// What is evaluated when it is needed, of all scopes, and which scope this is.
    late: Option<(Arc<Late>, usize)>,
}

impl Values {
    /// No values yet but `packer.*`, `path.root`, `path.cwd` and `git`.
    pub(crate) fn new(functions: FunctionContext, root: &str) -> Values {
        let cwd = functions.working_dir.display().to_string();
        let empty = || Value::object(Vec::<(String, Value)>::new());
        let roots = [
            ("var", empty()),
            ("local", empty()),
            (
                "path",
                Value::object([
                    ("cwd", Value::string(cwd)),
                    // As other tools call it; the directory is a module's own, whichever name is used.
                    ("module", Value::string(root)),
                    ("root", Value::string(root)),
                ]),
            ),
            // Nothing is published to HCP Packer, so that there is nothing by which it knows a version.
            (
                "packer",
                Value::object([
                    ("version", Value::string(kiln_core::PACKER_VERSION)),
                    ("versionFingerprint", Value::string("")),
                    ("iterationID", Value::string("")),
                ]),
            ),
        ];
        let roots = roots.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let git = Arc::new(Git::new(functions.template_dir.clone(), functions.environment.clone()));
        Values { roots, functions, lenient: false, git, declared: Arc::default(), late: None }
    }

    /// Gives `host` its values.
    pub(crate) fn set_host(&mut self, host: &Host) {
        self.roots.insert("host".to_owned(), host_value(host));
    }

    /// Why the work tree around the template is not known to be clean; `None` where it is.
    pub(crate) fn why_unclean(&self) -> Option<String> {
        self.git.why_unclean()
    }

    /// As the evaluator takes it.
    pub fn scope(&self) -> Scope<'_> {
        Scope { variables: self, functions: &self.functions }
    }

    /// Notes a name that may be used, with its place.
    pub(crate) fn declare(&mut self, root: &'static str, name: &Name) {
        Arc::make_mut(&mut self.declared).entry((root, name.text.clone())).or_insert(name.span);
    }

    /// Gives `root.name` its value.
    pub(crate) fn set(&mut self, root: &str, name: &str, value: Value) {
        super::graph::set_in(&mut self.roots, &[root], name, value);
    }

    /// These with locals, data sources and outputs of modules, to be evaluated when they are needed.
    pub(crate) fn with_graph(&self, late: &Arc<Late>, scope: usize) -> Values {
        Values { late: Some((Arc::clone(late), scope)), ..self.clone() }
    }

    /// Notes what bodies that are evaluated later refer to: it is evaluated by [`Values::settle`].
    pub(crate) fn note(&self, references: &[Reference]) {
        if let Some((late, scope)) = &self.late {
            late.note(*scope, references);
        }
    }

    /// Evaluates the locals and data sources that were noted, with `all` the others too (see [`Late::settle`]).
    pub(crate) fn settle(&self, all: bool) -> Settled {
        self.late.as_ref().map(|(late, _)| late.settle(all)).unwrap_or_default()
    }

    /// These, for expressions with some references: locals and data sources as they are now.
    pub(crate) fn with_late(&self, late: &Roots, references: &[Reference]) -> Values {
        let names: BTreeSet<&str> = references.iter().map(|reference| reference.root.as_str()).collect();
        let roots = self.roots.iter().chain(late).filter(|(name, _)| names.contains(name.as_str()));
        let roots = roots.map(|(name, value)| (name.clone(), value.clone())).collect();
        Values {
            roots,
            functions: self.functions.clone(),
            lenient: self.lenient,
            git: Arc::clone(&self.git),
            declared: Arc::clone(&self.declared),
            late: None,
        }
    }

    /// These with all locals and data sources, once they are settled.
    pub(crate) fn complete(&self) -> Values {
        let mut values = Values { late: None, ..self.clone() };
        values.roots.extend(
            self.late
                .iter()
                .filter_map(|(late, scope)| late.settled(*scope))
                .flatten()
                .map(|(name, value)| (name.clone(), value.clone())),
        );
        values
    }

    /// Locals and data sources as far as an expression needs them; `None` where nothing changes any more.
    fn late_for(&self, expression: &Expression) -> Option<Arc<Roots>> {
        let (late, scope) = self.late.as_ref().filter(|(late, scope)| late.settled(*scope).is_none())?;
        Some(late.ensure(*scope, &references(expression)))
    }

    /// Which scope this is; that of the template itself is the first.
    pub(crate) fn scope_index(&self) -> usize {
        self.late.as_ref().map(|(_, scope)| *scope).unwrap_or_default()
    }

    /// Whether an expression depends on what builds leave, through variables and outputs of modules.
    pub(crate) fn is_deferred(&self, expression: &Expression) -> bool {
        let found = || references(expression);
        self.graph().is_some_and(|(late, scope)| !late.graph.artifacts_behind(scope, &found()).is_empty())
    }

    /// What all scopes have in common, and which one this is.
    pub(crate) fn graph(&self) -> Option<(&Late, usize)> {
        self.late.as_ref().map(|(late, scope)| (&**late, *scope))
    }

    /// The names that are declared under a root.
    pub(crate) fn names(&self, root: &str) -> Vec<&str> {
        self.declared.keys().filter(|(kind, _)| *kind == root).map(|(_, name)| name.as_str()).collect()
    }
}

impl Variables for Values {
    fn root(&self, name: &str) -> Option<&Value> {
        if name == "git" {
            return self.git.whole();
        }
        let settled = self.late.as_ref().and_then(|(late, scope)| late.settled(*scope)?.get(name));
        settled.or_else(|| self.roots.get(name))
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
            "artifact" => Some(
                Diagnostic::error(
                    "artifact-outside",
                    span,
                    "`artifact` is known only in sources, provisioners and post-processors",
                )
                .help("what it stands for is made while the template runs"),
            ),
            "module" => Some(
                Diagnostic::error("unknown-module", span, "the template has no modules")
                    .help("declare one: `module \"NAME\" { source = \"./DIRECTORY\" }`"),
            ),
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
            "module" => {
                ("unknown-module", "module", format!("declare it: `module \"{}\" {{ source = ... }}`", name.text))
            }
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

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
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
        let functions = &self.values.functions;
        match self.values.late_for(expression) {
            Some(roots) => {
                let view = View { values: self.values, roots: &roots };
                let variables = &Bound { bindings: self.bindings, below: &view };
                evaluate(expression, &Scope { variables, functions }, diagnostics)
            }
            None => {
                let variables = &Bound { bindings: self.bindings, below: self.values };
                evaluate(expression, &Scope { variables, functions }, diagnostics)
            }
        }
    }
}

/// Bindings on top of other names.
pub(crate) struct Bound<'a> {
    pub(crate) bindings: &'a Bindings,
    pub(crate) below: &'a dyn Variables,
}

impl Variables for Bound<'_> {
    fn root(&self, name: &str) -> Option<&Value> {
        self.bindings.get(name).or_else(|| self.below.root(name))
    }

    fn root_names(&self) -> Vec<&str> {
        let mut names = self.below.root_names();
        names.extend(self.bindings.0.iter().map(|binding| binding.name.as_str()));
        names
    }

    fn found_out(&self, root: &str, name: &Name) -> Option<Result<&Value, Box<Diagnostic>>> {
        if self.bindings.get(root).is_some() { None } else { self.below.found_out(root, name) }
    }

    fn missing_root(&self, name: &str, span: Span) -> Option<Diagnostic> {
        self.below.missing_root(name, span)
    }

    fn missing_attribute(&self, root: &str, name: &Name) -> Option<Diagnostic> {
        // Also where they are bound anew as builds are done.
        let Some(value) = self.bindings.get(root).filter(|_| !matches!(root, "var" | "local" | "module")) else {
            return self.below.missing_attribute(root, name);
        };
        let known: Vec<&str> = value.as_entries()?.keys().map(String::as_str).collect();
        if root == "source" && matches!(name.text.as_str(), "key" | "value") {
            let title = format!("this source has no `source.{}`: it was not made by `for_each`", name.text);
            let help = format!("where only some sources have it, write `try(source.{}, ...)`", name.text);
            return Some(Diagnostic::error("unknown-attribute", name.span, title).help(help));
        }
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

/// As [`constant`], for an argument that calls no functions either.
pub(crate) fn literal(
    expression: &Expression,
    functions: &FunctionContext,
    place: &str,
    diagnostics: &mut Diagnostics,
) -> Option<Value> {
    if let Some(name) = calls(expression).first() {
        let title = format!("{place} cannot call functions");
        diagnostics.push(Diagnostic::error("not-constant", name.span, title).help("write the value itself"));
        return None;
    }
    constant(expression, functions, place, diagnostics)
}

/// A text that is written as it is.
pub(crate) fn constant_text(
    expression: &Expression,
    functions: &FunctionContext,
    place: &str,
    diagnostics: &mut Diagnostics,
) -> Option<String> {
    let value = literal(expression, functions, place, diagnostics)?;
    let text = value.to_text();
    if text.is_none() && !value.is_null() {
        let title = format!("{place} must be a string, and this is {}", value.type_of().friendly());
        diagnostics.push(Diagnostic::error("wrong-type", expression.span, title));
    }
    text
}

/// A constant truth value.
pub(crate) fn constant_bool(
    expression: &Expression,
    functions: &FunctionContext,
    place: &str,
    diagnostics: &mut Diagnostics,
) -> Option<bool> {
    let value = literal(expression, functions, place, diagnostics)?;
    let converted = kiln_language::convert::convert(&value, &kiln_language::value::Type::Bool);
    let truth = converted.ok().and_then(|value| value.as_bool());
    if truth.is_none() {
        let title = format!("{place} must be `true` or `false`");
        diagnostics.push(Diagnostic::error("wrong-type", expression.span, title));
    }
    truth
}
