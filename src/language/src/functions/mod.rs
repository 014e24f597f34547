//! The functions of the language. `try`, `can`, `convert`, `templatefile` and `templatestring` are the evaluator's: they take expressions
//! or evaluate.

mod collections;
mod csv;
mod datetime;
mod encoding;
mod filesystem;
mod format;
mod hashing;
mod json;
mod json_reader;
mod network;
mod numeric;
mod pattern;
mod sequences;
mod service;
mod strings;
mod yaml;
mod yaml_reader;

pub(crate) use format::short_number;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::SystemTime;

use bigdecimal::{BigDecimal, Zero};
use kiln_core::ProcessEnvironment;

use crate::value::{Type, Value};

/// What functions may use of the world.
#[derive(Debug, Clone)]
pub struct FunctionContext {
    /// The template's directory: base of `file`, `fileexists`, `fileset`, `templatefile`.
    pub template_dir: PathBuf,
    /// The process's directory: base of `abspath`, `filebase64`.
    pub working_dir: PathBuf,
    /// The user's home, for `pathexpand`.
    pub home: Option<PathBuf>,
    /// What `env` reads.
    pub environment: ProcessEnvironment,
    /// When the run started, for `legacy_isotime`.
    pub started: SystemTime,
    /// Whether `env` may be called: only in the defaults of variables.
    pub allow_env: bool,
}

/// A parameter.
#[derive(Debug, Clone)]
pub struct Parameter {
    /// Its name, for messages and the reference.
    pub name: &'static str,
    /// Arguments are converted to it.
    pub kind: Type,
    /// Whether `null` may be given.
    pub nullable: bool,
}

/// Why a call fails, in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionError {
    /// The argument at fault, from 0; `None` for the call as a whole.
    pub argument: Option<usize>,
    /// What is wrong.
    pub message: String,
}

/// A function. The evaluator checks the count of arguments, converts them, turns a call with an unknown argument into an
/// unknown of `result`, and carries marks over; the implementation sees known, converted values only.
#[derive(Debug, Clone)]
pub struct Function {
    /// Its name.
    pub name: &'static str,
    /// Its parameters.
    pub parameters: Vec<Parameter>,
    /// The parameter that takes all further arguments.
    pub variadic: Option<Parameter>,
    /// The type of its result, `Any` where it depends.
    pub result: Type,
    /// A sentence for the reference.
    pub doc: &'static str,
    /// An example for the reference: expression and result, as [`crate::print::one_line`] shows it.
    pub example: (&'static str, &'static str),
    /// The work.
    pub call: Call,
}

/// The work of a function.
pub type Call = fn(&[Value], &FunctionContext) -> Outcome;

type Outcome = Result<Value, FunctionError>;

/// What the evaluator does itself.
const EVALUATOR_FUNCTIONS: [&str; 5] = ["can", "convert", "templatefile", "templatestring", "try"];

/// How deep values that are read from a text may be nested.
const MAX_NESTING: usize = 256;

static TABLE: LazyLock<BTreeMap<&'static str, Function>> = LazyLock::new(|| {
    let modules: [fn() -> Vec<Function>; 13] = [
        collections::functions,
        datetime::functions,
        encoding::functions,
        filesystem::functions,
        format::functions,
        hashing::functions,
        json::functions,
        network::functions,
        numeric::functions,
        sequences::functions,
        service::functions,
        strings::functions,
        yaml::functions,
    ];
    modules.iter().flat_map(|functions| functions()).map(|function| (function.name, function)).collect()
});

/// The function of a name; `None` for those of the evaluator too.
pub fn function(name: &str) -> Option<&'static Function> {
    TABLE.get(name)
}

/// Names of all functions, sorted; those of the evaluator included.
pub fn function_names() -> Vec<&'static str> {
    let mut names: Vec<&'static str> = TABLE.keys().copied().chain(EVALUATOR_FUNCTIONS).collect();
    names.sort_unstable();
    names
}

/// How a function is called, for messages: `upper(text)`; `None` where there is none of that name.
pub(crate) fn usage(name: &str) -> Option<String> {
    let Some(function) = function(name) else {
        return EVALUATOR_FUNCTIONS.contains(&name).then(|| format!("{name}(...)"));
    };
    let mut names: Vec<String> = function.parameters.iter().map(|parameter| parameter.name.to_owned()).collect();
    names.extend(function.variadic.as_ref().map(|parameter| format!("{}...", parameter.name)));
    Some(format!("{name}({})", names.join(", ")))
}

/// All functions but the evaluator's, by name: for the generated reference.
pub fn functions() -> impl Iterator<Item = &'static Function> {
    TABLE.values()
}

/// A table entry; see [`Function::variadic`] and [`Function::example`] for the rest.
fn define(name: &'static str, parameters: Vec<Parameter>, result: Type, doc: &'static str, call: Call) -> Function {
    Function { name, parameters, variadic: None, result, doc, example: ("", ""), call }
}

impl Function {
    /// Takes any number of further arguments.
    fn variadic(mut self, parameter: Parameter) -> Function {
        self.variadic = Some(parameter);
        self
    }

    /// An example: expression and result.
    fn example(mut self, expression: &'static str, result: &'static str) -> Function {
        self.example = (expression, result);
        self
    }
}

fn parameter(name: &'static str, kind: Type) -> Parameter {
    Parameter { name, kind, nullable: false }
}

fn text(name: &'static str) -> Parameter {
    parameter(name, Type::String)
}

fn number(name: &'static str) -> Parameter {
    parameter(name, Type::Number)
}

/// A parameter that takes any type; the function looks at what came.
fn any(name: &'static str) -> Parameter {
    parameter(name, Type::Any)
}

/// As [`any`], `null` included.
fn any_or_null(name: &'static str) -> Parameter {
    Parameter { name, kind: Type::Any, nullable: true }
}

fn list_of_strings() -> Type {
    Type::list(Type::String)
}

/// A failed call.
fn fail<T>(message: impl Into<String>) -> Result<T, FunctionError> {
    Err(FunctionError { argument: None, message: message.into() })
}

/// A wrong argument.
fn fail_at<T>(argument: usize, message: impl Into<String>) -> Result<T, FunctionError> {
    Err(FunctionError { argument: Some(argument), message: message.into() })
}

/// The text of an argument that was converted to a string.
fn string_argument(arguments: &[Value], index: usize) -> &str {
    arguments.get(index).and_then(Value::as_str).unwrap_or_default()
}

/// The number of an argument that was converted to one.
fn number_argument(arguments: &[Value], index: usize) -> BigDecimal {
    arguments.get(index).and_then(Value::as_number).cloned().unwrap_or_else(BigDecimal::zero)
}

/// A number argument that must be whole.
fn integer_argument(arguments: &[Value], index: usize) -> Result<i64, FunctionError> {
    match arguments.get(index).and_then(Value::as_i64) {
        Some(integer) => Ok(integer),
        None => fail_at(index, "a whole number is required"),
    }
}

/// The elements of an argument that must be a list, set or tuple.
fn elements_argument(arguments: &[Value], index: usize) -> Result<&[Value], FunctionError> {
    let Some(argument) = arguments.get(index) else { return fail("an argument is missing") };
    match argument.as_elements() {
        Some(elements) => Ok(elements),
        None => fail_at(index, format!("a list or set is required, not {}", argument.type_of().friendly())),
    }
}

/// The texts of a list of strings without nulls.
fn texts_argument(arguments: &[Value], index: usize) -> Result<Vec<&str>, FunctionError> {
    let elements = arguments.get(index).and_then(Value::as_elements).unwrap_or_default();
    let texts = elements.iter().enumerate().map(|(position, element)| match element.as_str() {
        Some(text) => Ok(text),
        None => fail_at(index, format!("element {position} is null, and a string is required")),
    });
    texts.collect()
}

#[cfg(test)]
mod tests;
