//! `output` blocks: what a template gives to those that use it as a module.

use kiln_core::{Diagnostic, Diagnostics};
use kiln_language::evaluate::{Scope, Variables, evaluate, references};
use kiln_language::functions::FunctionContext;
use kiln_language::syntax::{Block, Expression, Name};
use kiln_language::value::{Type, Value};

use crate::grammar;

use super::blocks::{check_items, labels};
use super::locals::report_build_names;
use super::scope::constant_bool;
use super::variables::check_name;

/// An `output` block.
#[derive(Debug, Clone)]
pub(crate) struct OutputDeclaration {
    pub(crate) name: Name,
    pub(crate) value: Expression,
    sensitive: Option<Expression>,
}

impl OutputDeclaration {
    /// Reads an `output` block.
    pub(crate) fn read(block: &Block, diagnostics: &mut Diagnostics) -> Option<OutputDeclaration> {
        let [name] = labels(block, ["its name"], diagnostics)?;
        check_name(&name, "an output", diagnostics);
        check_items(&block.body, &grammar::OUTPUT, diagnostics);
        let attribute = |name: &str| block.body.attribute(name).map(|attribute| attribute.value.clone());
        let Some(value) = attribute("value") else {
            diagnostics.push(Diagnostic::error("missing-argument", block.header, "an `output` block needs `value`"));
            return None;
        };
        Some(OutputDeclaration { name, value, sensitive: attribute("sensitive") })
    }

    /// Its value; what it refers to has one already.
    pub(crate) fn evaluate(
        &self,
        variables: &dyn Variables,
        functions: &FunctionContext,
        diagnostics: &mut Diagnostics,
    ) -> Value {
        let is_sensitive = self.sensitive.as_ref().is_some_and(|expression| {
            constant_bool(expression, functions, "`sensitive` of an output", diagnostics).unwrap_or(true)
        });
        if report_build_names(&references(&self.value), "an output", diagnostics) {
            return Value::unknown(Type::Any).marked(is_sensitive);
        }
        evaluate(&self.value, &Scope { variables, functions }, diagnostics).marked(is_sensitive)
    }
}
