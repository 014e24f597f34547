//! Locals: their declarations and values. In which order they are evaluated is a matter of [`super::graph`].

use kiln_core::{Diagnostic, Diagnostics};
use kiln_language::evaluate::{Reference, Scope, Variables, evaluate, references};
use kiln_language::functions::FunctionContext;
use kiln_language::size;
use kiln_language::syntax::{Block, Expression, Name};
use kiln_language::value::{Type, Value};

use crate::grammar;

use super::blocks::{check_items, labels};
use super::scope::constant_bool;
use super::variables::check_name;

/// A line of a `locals` block, or a `local` block.
#[derive(Debug, Clone)]
pub(crate) struct LocalDeclaration {
    pub(crate) name: Name,
    value: Expression,
    sensitive: Option<Expression>,
}

impl LocalDeclaration {
    /// Reads a `local` block.
    pub(crate) fn read(block: Block, diagnostics: &mut Diagnostics) -> Option<LocalDeclaration> {
        let [name] = labels(&block, ["its name"], diagnostics)?;
        check_name(&name, "a local", diagnostics);
        check_items(&block.body, &grammar::LOCAL, diagnostics);
        let attribute = |name: &str| block.body.attribute(name).map(|attribute| attribute.value.clone());
        let Some(value) = attribute("expression") else {
            // A misspelt one was told.
            let names = block.body.attributes().map(|attribute| attribute.name.text.as_str());
            if names.into_iter().all(|name| kiln_core::suggest::nearest(name, ["expression"]).is_none()) {
                let title = "a `local` block needs `expression`";
                diagnostics.push(Diagnostic::error("missing-argument", block.header, title));
            }
            return None;
        };
        Some(LocalDeclaration { name, value, sensitive: attribute("sensitive") })
    }

    /// Reads a `locals` block.
    pub(crate) fn read_short(block: Block, diagnostics: &mut Diagnostics) -> Vec<LocalDeclaration> {
        if labels(&block, [], diagnostics).is_none() {
            return Vec::new();
        }
        for inner in block.body.blocks() {
            let kind = &inner.kind.text;
            diagnostics.push(
                Diagnostic::error("unknown-block", inner.kind.span, "a `locals` block takes `name = value` lines only")
                    .help(format!("for a map write `{kind} = {{ ... }}`, with `=`")),
            );
        }
        let attributes = block.body.attributes();
        attributes
            .map(|attribute| LocalDeclaration {
                name: attribute.name.clone(),
                value: attribute.value.clone(),
                sensitive: None,
            })
            .collect()
    }

    /// How its value is written.
    pub(crate) fn expression(&self) -> &Expression {
        &self.value
    }

    /// What its value refers to.
    pub(crate) fn references(&self) -> Vec<Reference> {
        references(&self.value)
    }

    /// Its value; what it refers to has one already.
    pub(crate) fn evaluate(
        &self,
        variables: &dyn Variables,
        functions: &FunctionContext,
        diagnostics: &mut Diagnostics,
    ) -> Value {
        let is_sensitive = self.is_sensitive(functions, diagnostics);
        if report_build_names(&self.references(), "a local", diagnostics) {
            return Value::unknown(Type::Any).marked(is_sensitive);
        }
        let value = evaluate(&self.value, &Scope { variables, functions }, diagnostics).marked(is_sensitive);
        match size::check(&value) {
            Ok(()) => value,
            Err(excess) => {
                let title = format!("the value of `local.{}` is too large: {excess}", self.name.text);
                diagnostics.push(Diagnostic::error("too-large", self.value.span, title));
                Value::unknown(Type::Any).marked(is_sensitive || value.any_sensitive())
            }
        }
    }

    /// Whether it is declared sensitive. A mark that cannot be read is taken as set: rather hide too much.
    pub(crate) fn is_sensitive(&self, functions: &FunctionContext, diagnostics: &mut Diagnostics) -> bool {
        self.sensitive.as_ref().is_some_and(|expression| {
            constant_bool(expression, functions, "`sensitive` of a local", diagnostics).unwrap_or(true)
        })
    }
}

/// Tells uses of `source` and `build`, which exist inside a build only; whether there are any.
pub(crate) fn report_build_names(found: &[Reference], place: &str, diagnostics: &mut Diagnostics) -> bool {
    let outside: Vec<&Reference> =
        found.iter().filter(|reference| matches!(reference.root.as_str(), "source" | "build")).collect();
    for reference in &outside {
        let title = format!("`{}` is known inside a `build` block only, not in {place}", reference.root);
        diagnostics.push(Diagnostic::error("build-value-outside", reference.span, title));
    }
    !outside.is_empty()
}
