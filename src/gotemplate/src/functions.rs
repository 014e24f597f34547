//! Packer's functions for Go templates.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use gotmpl::Value;
use jiff::Zoned;
use kiln_core::{PACKER_VERSION, ProcessEnvironment, suggest};

use crate::data::protect;
use crate::{Scope, layout};

/// A [`Scope`] that the engine's functions can own.
pub(crate) struct Environment {
    user_variables: Option<Arc<BTreeMap<String, String>>>,
    process: ProcessEnvironment,
    template_dir: PathBuf,
    working_dir: PathBuf,
    started: Zoned,
    build_name: Option<String>,
    build_type: Option<String>,
    build: Option<BTreeMap<String, String>>,
    allow_env: bool,
}

impl Environment {
    pub(crate) fn new(scope: &Scope<'_>) -> Environment {
        Environment {
            user_variables: scope.text.user_variables.clone(),
            process: scope.text.environment.clone(),
            template_dir: scope.text.template_dir.clone(),
            working_dir: scope.text.working_dir.clone(),
            started: layout::utc(scope.text.started),
            build_name: scope.build_name.map(str::to_owned),
            build_type: scope.build_type.map(str::to_owned),
            build: scope.build.cloned(),
            allow_env: scope.allow_env,
        }
    }
}

/// Why a call gives no value.
pub(crate) enum CallError {
    /// It needs the machine, which does not run yet.
    Unknown,
    /// A mistake.
    Failed(Failure),
}

/// A mistake in a call.
pub(crate) struct Failure {
    pub(crate) message: String,
    /// The unknown name, for the place of the message.
    pub(crate) name: Option<String>,
    pub(crate) suggestion: Option<String>,
}

fn failed(message: impl Into<String>) -> CallError {
    CallError::Failed(Failure { message: message.into(), name: None, suggestion: None })
}

fn unknown_name<'a>(message: String, name: &str, known: impl IntoIterator<Item = &'a str>) -> CallError {
    let suggestion = suggest::nearest(name, known).map(str::to_owned);
    CallError::Failed(Failure { message, name: Some(name.to_owned()), suggestion })
}

/// What a parameter takes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Integer,
}

use Kind::{Integer, Text};

/// The checked arguments of a call.
struct Arguments<'a>(&'a [Value]);

impl Arguments<'_> {
    fn text(&self, index: usize) -> &str {
        self.0.get(index).and_then(Value::as_str).unwrap_or_default()
    }

    fn integer(&self, index: usize) -> i64 {
        self.0.get(index).and_then(Value::as_int).unwrap_or_default()
    }

    fn optional_text(&self, index: usize) -> Option<&str> {
        self.0.get(index).and_then(Value::as_str)
    }
}

type Call = fn(&Environment, &Arguments<'_>) -> Result<Value, CallError>;

/// One function.
pub(crate) struct Function {
    pub(crate) name: &'static str,
    parameters: &'static [Kind],
    /// How many of the parameters must be given.
    required: usize,
    call: Call,
}

const fn function(name: &'static str, parameters: &'static [Kind], call: Call) -> Function {
    Function { name, parameters, required: parameters.len(), call }
}

const fn with_optional(name: &'static str, parameters: &'static [Kind], required: usize, call: Call) -> Function {
    Function { name, parameters, required, call }
}

/// The names of all functions, sorted.
pub fn function_names() -> Vec<&'static str> {
    FUNCTIONS.iter().map(|function| function.name).collect()
}

/// All of them, by name.
pub(crate) static FUNCTIONS: [Function; 24] = [
    with_optional("aws_secretsmanager", &[Text, Text], 1, |_, _| service("aws_secretsmanager")),
    function("aws_secretsmanager_raw", &[Text], |_, _| service("aws_secretsmanager_raw")),
    function("build", &[Text], build),
    function("build_name", &[], |environment, _| of_build("build_name", environment.build_name.as_deref())),
    function("build_type", &[], |environment, _| of_build("build_type", environment.build_type.as_deref())),
    function("clean_ami_name", &[Text], |_, arguments| text(clean_resource_name(arguments.text(0)))),
    function("clean_resource_name", &[Text], |_, arguments| text(clean_resource_name(arguments.text(0)))),
    function("consul_key", &[Text], |_, _| service("consul_key")),
    function("env", &[Text], env),
    with_optional("isotime", &[Text], 0, |environment, arguments| {
        let layout = arguments.optional_text(0).unwrap_or(layout::RFC3339);
        text(layout::format_go_layout(&environment.started, layout))
    }),
    function("lower", &[Text], |_, arguments| text(lower(arguments.text(0)))),
    function("packer_version", &[], |_, _| text(PACKER_VERSION)),
    function("pwd", &[], |environment, _| text(environment.working_dir.to_string_lossy())),
    function("replace", &[Text, Text, Integer, Text], |_, arguments| {
        let (old, new, source) = (arguments.text(0), arguments.text(1), arguments.text(3));
        text(match usize::try_from(arguments.integer(2)) {
            Ok(count) => source.replacen(old, new, count),
            // As in Go: less than nothing means all.
            Err(_) => source.replace(old, new),
        })
    }),
    function("replace_all", &[Text, Text, Text], |_, arguments| {
        text(arguments.text(2).replace(arguments.text(0), arguments.text(1)))
    }),
    function("sed", &[Text, Text], |_, _| Err(failed("`sed` no longer exists; use `replace` or `replace_all`"))),
    function("split", &[Text, Text, Integer], split),
    function("strftime", &[Text], |environment, arguments| {
        text(layout::format_strftime(&environment.started, arguments.text(0)))
    }),
    function("template_dir", &[], |environment, _| {
        text(clean(&environment.working_dir.join(&environment.template_dir)).to_string_lossy())
    }),
    function("timestamp", &[], |environment, _| text(environment.started.timestamp().as_second().to_string())),
    function("upper", &[Text], |_, arguments| text(upper(arguments.text(0)))),
    function("user", &[Text], user),
    function("uuid", &[], |_, _| text(uuid::Uuid::new_v4().to_string())),
    function("vault", &[Text, Text], |_, _| service("vault")),
];

/// Checks the count and the types of the arguments and calls.
pub(crate) fn call(function: &Function, environment: &Environment, arguments: &[Value]) -> Result<Value, CallError> {
    let (name, given) = (function.name, arguments.len());
    if given < function.required || given > function.parameters.len() {
        return Err(failed(format!("`{name}` takes {}, {given} given", count(function))));
    }
    for (index, (argument, kind)) in arguments.iter().zip(function.parameters).enumerate() {
        let fits = match kind {
            Text => argument.as_str().is_some(),
            Integer => argument.as_int().is_some(),
        };
        if !fits {
            let wanted = if *kind == Text { "a text" } else { "a whole number" };
            let found = kind_of(argument);
            return Err(failed(format!("`{name}` takes {wanted} as argument {}, and this is {found}", index + 1)));
        }
    }
    (function.call)(environment, &Arguments(arguments))
}

fn count(function: &Function) -> String {
    let most = function.parameters.len();
    let plural = if most == 1 { "argument" } else { "arguments" };
    match (function.required, most) {
        (_, 0) => "no arguments".to_owned(),
        (required, most) if required == most => format!("{most} {plural}"),
        (0, most) => format!("at most {most} {plural}"),
        (required, most) => format!("{required} to {most} {plural}"),
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Nil => "no value (a data field that does not exist?)",
        Value::Bool(_) => "a bool",
        Value::Int(_) | Value::Uint(_) | Value::Float(_) => "a number",
        Value::List(_) => "a list",
        Value::Map(_) => "a map",
        _ => "something else",
    }
}

fn text(value: impl AsRef<str>) -> Result<Value, CallError> {
    Ok(Value::String(value.as_ref().into()))
}

fn service(name: &str) -> Result<Value, CallError> {
    Err(failed(format!("kiln does not have `{name}`; pass the value in with `-var` or an environment variable")))
}

fn of_build(name: &str, value: Option<&str>) -> Result<Value, CallError> {
    match value {
        Some(value) => text(value),
        None => Err(failed(format!("`{name}` is not available here: no build is at hand"))),
    }
}

fn build(environment: &Environment, arguments: &Arguments<'_>) -> Result<Value, CallError> {
    let name = arguments.text(0);
    let Some(values) = &environment.build else { return Err(CallError::Unknown) };
    match values.get(name) {
        Some(value) => Ok(protect(value)),
        None => Err(unknown_name(
            format!(
                "the builder gives no value `{name}`; it gives {}",
                suggest::enumerate(values.keys().map(String::as_str))
            ),
            name,
            values.keys().map(String::as_str),
        )),
    }
}

fn env(environment: &Environment, arguments: &Arguments<'_>) -> Result<Value, CallError> {
    if !environment.allow_env {
        return Err(failed(
            "`env` is only allowed in the defaults of variables; declare a variable with it and use that",
        ));
    }
    // An absent variable is an empty text, as in Packer.
    text(environment.process.get(arguments.text(0)).unwrap_or_default())
}

fn user(environment: &Environment, arguments: &Arguments<'_>) -> Result<Value, CallError> {
    let name = arguments.text(0);
    let Some(variables) = &environment.user_variables else {
        return Err(failed(format!("`user` exists in legacy JSON templates only; in HCL2 write `${{var.{name}}}`")));
    };
    match variables.get(name) {
        Some(value) => text(value),
        None => Err(unknown_name(
            format!("there is no variable `{name}`; declare it in `variables`"),
            name,
            variables.keys().map(String::as_str),
        )),
    }
}

fn split(_: &Environment, arguments: &Arguments<'_>) -> Result<Value, CallError> {
    let (source, separator, index) = (arguments.text(0), arguments.text(1), arguments.integer(2));
    // Go splits at an empty separator into characters; Rust adds an empty piece at either end.
    let pieces: Vec<String> = if separator.is_empty() {
        source.chars().map(String::from).collect()
    } else {
        source.split(separator).map(str::to_owned).collect()
    };
    match usize::try_from(index).ok().and_then(|index| pieces.get(index)) {
        Some(piece) => text(piece),
        None => Err(failed(format!(
            "`split` has no piece {index}: the separator `{separator}` gives {} (the first is piece 0)",
            pieces.len()
        ))),
    }
}

/// Upper case, character by character as Go has it: `ß` stays.
pub fn upper(source: &str) -> String {
    let upper = |character: char| {
        let mut mapped = character.to_uppercase();
        match (mapped.next(), mapped.next()) {
            (Some(only), None) => only,
            _ => character,
        }
    };
    source.chars().map(upper).collect()
}

/// Lower case, character by character as Go has it.
pub fn lower(source: &str) -> String {
    // Only `İ` has more than one character here, and Go takes the first.
    source.chars().filter_map(|character| character.to_lowercase().next()).collect()
}

/// What an AMI's name may not hold becomes `-`.
fn clean_resource_name(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || "()[] ./-'@_".contains(c) { c } else { '-' }).collect()
}

/// Without `.` and `..`, by the text alone.
fn clean(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut clean, component| {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                clean.pop();
            }
            other => clean.push(other),
        }
        clean
    })
}
