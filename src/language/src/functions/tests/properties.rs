//! What holds for every function: a sensitive argument marks the result, an unknown one makes it unknown.

use super::*;
use crate::evaluate::Variables;
use crate::syntax::{Expression, ExpressionKind};

/// The arguments of a call under one name, as `argument.a0`, `argument.a1`, ...
struct Arguments(Value);

impl Variables for Arguments {
    fn root(&self, name: &str) -> Option<&Value> {
        (name == "argument").then_some(&self.0)
    }

    fn root_names(&self) -> Vec<&str> {
        vec!["argument"]
    }
}

fn evaluated(expression: &Expression, variables: &dyn Variables) -> (Value, kiln_core::Diagnostics) {
    let mut diagnostics = kiln_core::Diagnostics::new();
    let context = context();
    let value = evaluate(expression, &Scope { variables, functions: &context }, &mut diagnostics);
    (value, diagnostics)
}

fn parsed(text: &str) -> Expression {
    let mut diagnostics = kiln_core::Diagnostics::new();
    parse_expression(kiln_core::SourceId(0), text, &mut diagnostics)
        .unwrap_or_else(|| panic!("{text}: {diagnostics:?}"))
}

/// The call of a function in its example, which may stand inside another.
fn find<'e>(expression: &'e Expression, wanted: &str) -> Option<&'e Expression> {
    match &expression.kind {
        ExpressionKind::Call { name, .. } if name.text == wanted => Some(expression),
        ExpressionKind::Call { arguments, .. } => arguments.iter().find_map(|argument| find(argument, wanted)),
        ExpressionKind::Attribute { object, .. } => find(object, wanted),
        _ => None,
    }
}

/// Calls a function with values.
fn call_with(name: &str, values: &[Value]) -> (Value, kiln_core::Diagnostics) {
    let names: Vec<String> = (0..values.len()).map(|index| format!("a{index}")).collect();
    let call = names.iter().map(|name| format!("argument.{name}")).collect::<Vec<_>>().join(", ");
    let root = Arguments(Value::object(names.into_iter().zip(values.iter().cloned())));
    evaluated(&parsed(&format!("{name}({call})")), &root)
}

/// The arguments that the example of a function has.
fn example_arguments(function: &Function) -> Vec<Value> {
    let example = parsed(function.example.0);
    let call = find(&example, function.name).unwrap_or_else(|| panic!("{} is not in its example", function.name));
    let ExpressionKind::Call { arguments, .. } = &call.kind else { return Vec::new() };
    arguments.iter().map(|argument| evaluated(argument, &NoVariables).0).collect()
}

#[test]
fn a_sensitive_argument_marks_the_result_and_no_message_tells_it() {
    for function in functions() {
        let arguments = example_arguments(function);
        for index in 0..arguments.len() {
            let mut values = arguments.clone();
            values[index].sensitive = true;
            let (value, diagnostics) = call_with(function.name, &values);
            if !diagnostics.has_errors() {
                assert!(value.any_sensitive(), "{} with a sensitive argument {index}", function.name);
            }
            // A wrong value of the argument is not cited either.
            values[index] = Value::string("hunter2 (").marked(true);
            let (value, diagnostics) = call_with(function.name, &values);
            assert!(diagnostics.has_errors() || value.any_sensitive(), "{} with a secret", function.name);
            for diagnostic in &diagnostics.items {
                assert!(!format!("{diagnostic:?}").contains("hunter2"), "{diagnostic:?}");
            }
        }
    }
}

#[test]
fn an_unknown_argument_gives_an_unknown_result_of_the_right_type() {
    for function in functions() {
        let arguments = example_arguments(function);
        for index in 0..arguments.len() {
            for kind in [arguments[index].type_of(), Type::Any] {
                let mut values = arguments.clone();
                values[index] = Value::unknown(kind).marked(true);
                let (value, diagnostics) = call_with(function.name, &values);
                assert!(!diagnostics.has_errors(), "{}: {diagnostics:?}", function.name);
                assert_eq!(value.data, crate::value::Data::Unknown(function.result.clone()), "{}", function.name);
                assert!(value.sensitive, "{}", function.name);
            }
        }
    }
}

#[test]
fn a_null_or_an_odd_argument_never_panics() {
    let odd = [
        Value::null(),
        Value::null_of(Type::list(Type::String)),
        Value::tuple([]),
        Value::object(Vec::<(String, Value)>::new()),
        Value::tuple([Value::null(), Value::unknown(Type::Any)]),
        Value::list(Type::Any, []),
        Value::set(Type::String, [Value::null_of(Type::String), Value::string("\u{0}é")]),
        Value::string("\u{1f468}\u{200d}\u{1f469}"),
        Value::number(-1),
        Value::number(u64::MAX),
        Value::number(crate::value::parse_number("1e9999").unwrap()),
        Value::number(crate::value::parse_number("-0.5").unwrap()),
        Value::bool(true),
    ];
    for function in functions().filter(|function| function.name != "bcrypt") {
        let arguments = example_arguments(function);
        for index in 0..arguments.len() {
            for value in &odd {
                let mut values = arguments.clone();
                values[index] = value.clone();
                let _ = call_with(function.name, &values);
            }
        }
    }
}
