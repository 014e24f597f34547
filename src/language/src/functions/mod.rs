//! The functions of the language. `try`, `can`, `convert` and `templatefile` are the evaluator's: they take expressions
//! or evaluate.

use std::path::PathBuf;
use std::time::SystemTime;

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
    /// An example for the reference: expression and result.
    pub example: (&'static str, &'static str),
    /// The work.
    pub call: fn(&[Value], &FunctionContext) -> Result<Value, FunctionError>,
}

/// The function of a name.
pub fn function(name: &str) -> Option<&'static Function> {
    let _ = name;
    None
}

/// Names of all functions, sorted; those of the evaluator included.
pub fn function_names() -> Vec<&'static str> {
    Vec::new()
}
