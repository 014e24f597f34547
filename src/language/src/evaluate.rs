//! Expressions to values.

use kiln_core::{Diagnostic, Diagnostics, Span};

use crate::functions::FunctionContext;
use crate::syntax::{Expression, Name};
use crate::value::{Type, Value};

/// Where names get their values from.
pub trait Variables {
    /// The value of a root name (`var`, `local`, `path`); `None` where there is no such root.
    fn root(&self, name: &str) -> Option<&Value>;

    /// All root names, for "did you mean".
    fn root_names(&self) -> Vec<&str>;

    /// A better message than the general one for an attribute that a root lacks, e.g. an undeclared variable.
    fn missing_attribute(&self, root: &str, name: &Name) -> Option<Diagnostic> {
        let _ = (root, name);
        None
    }
}

/// What an expression is evaluated in.
#[derive(Clone, Copy)]
pub struct Scope<'a> {
    /// Values of names.
    pub variables: &'a dyn Variables,
    /// What functions may use.
    pub functions: &'a FunctionContext,
}

/// A reference such as `local.name` or `var.list[0].x`: the root and the attribute names that follow it directly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// `var`, `local`, ...
    pub root: String,
    /// `name`, ... up to the first index or splat.
    pub path: Vec<Name>,
    /// The place of root and path.
    pub span: Span,
}

/// Evaluates. Each mistake is one diagnostic and makes its part of the value unknown, so that several are found.
pub fn evaluate(expression: &Expression, scope: &Scope<'_>, diagnostics: &mut Diagnostics) -> Value {
    let _ = (expression, scope, diagnostics);
    unimplemented!("evaluate")
}

/// All references in an expression, names bound by `for` left out.
pub fn references(expression: &Expression) -> Vec<Reference> {
    let _ = expression;
    unimplemented!("references")
}

/// Reads a type expression: `string`, `list(object({ a = optional(number, 1) }))`.
pub fn type_of(expression: &Expression, scope: &Scope<'_>, diagnostics: &mut Diagnostics) -> Option<Type> {
    let _ = (expression, scope, diagnostics);
    unimplemented!("type_of")
}
