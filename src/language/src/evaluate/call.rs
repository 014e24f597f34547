//! Calls of functions, and the functions that need more than the values of their arguments.

use std::collections::BTreeMap;

use kiln_core::{Diagnostic, Diagnostics, SourceId, Span};

use super::{Evaluator, Scope, Variables, failed};
use crate::convert::convert;
use crate::functions::{Function, function, function_names, usage};
use crate::syntax::{Expression, Name, parse_template};
use crate::value::{Data, Type, Value};

/// An argument's value and the place it was written at.
type Argument = (Value, Span);

impl Evaluator<'_> {
    pub(super) fn call(&mut self, name: &Name, arguments: &[Expression], expand_last: bool, span: Span) -> Value {
        match name.text.as_str() {
            "try" => return self.call_try(arguments, span),
            "can" => return self.call_can(arguments, span),
            "convert" => return self.call_convert(arguments, span),
            _ => {}
        }
        let (Some(arguments), sensitive) = self.arguments(arguments, expand_last) else { return failed() };
        if name.text == "templatefile" {
            return self.call_template_file(&arguments, span).marked(sensitive);
        }
        if name.text == "templatestring" {
            return self.call_template_string(&arguments, span).marked(sensitive);
        }
        let Some(function) = function(&name.text) else { return self.unknown_function(name) };
        let Some(values) = self.check_arguments(function, &arguments, span) else { return failed() };
        if !values.iter().all(Value::is_wholly_known) {
            return Value::unknown(function.result.clone()).marked(sensitive);
        }
        match (function.call)(&values, self.scope.functions) {
            Ok(value) => value.marked(sensitive),
            Err(error) => {
                let place = error.argument.and_then(|index| arguments.get(index)).map(|(_, span)| *span);
                let place = place.unwrap_or(span);
                let diagnostic = if sensitive {
                    // A reason tends to cite the argument.
                    let title = format!("`{}` failed", name.text);
                    Diagnostic::error("function-failed", place, title)
                        .note("the reason is not shown: an argument is sensitive")
                } else {
                    let title = format!("`{}` failed: {}", name.text, error.message);
                    Diagnostic::error("function-failed", place, title)
                };
                self.report(diagnostic)
            }
        }
    }

    fn unknown_function(&mut self, name: &Name) -> Value {
        let known = function_names();
        let mut diagnostic =
            Diagnostic::error("unknown-function", name.span, format!("there is no function `{}`", name.text));
        if let Some(nearest) = kiln_core::suggest::nearest(&name.text, known) {
            diagnostic = diagnostic.rename(name.span, nearest, format!("did you mean `{nearest}`?"));
        }
        self.report(diagnostic)
    }

    /// The values of all arguments, the last one expanded where `...` asks for it, and whether any is sensitive. No
    /// values when it is not known how many there are.
    fn arguments(&mut self, expressions: &[Expression], expand_last: bool) -> (Option<Vec<Argument>>, bool) {
        let mut arguments: Vec<Argument> =
            expressions.iter().map(|expression| (self.evaluate(expression), expression.span)).collect();
        let sensitive = arguments.iter().any(|(value, _)| value.any_sensitive());
        if expand_last && let Some((last, span)) = arguments.pop() {
            match last.data {
                Data::List(_, elements) | Data::Set(_, elements) | Data::Tuple(elements) => {
                    arguments.extend(elements.into_iter().map(|element| (element, span)));
                }
                Data::Unknown(Type::Tuple(kinds)) => {
                    arguments.extend(kinds.into_iter().map(|kind| (Value::unknown(kind), span)));
                }
                Data::Unknown(Type::Any | Type::List(_) | Type::Set(_)) => return (None, sensitive),
                data => {
                    let kind = data.kind_name();
                    self.report(
                        Diagnostic::error("wrong-type", span, format!("`...` cannot expand {kind}"))
                            .help("it takes a list or a set"),
                    );
                    return (None, sensitive);
                }
            }
        }
        (Some(arguments), sensitive)
    }

    /// Checks count, null and types.
    fn check_arguments(&mut self, function: &Function, arguments: &[Argument], span: Span) -> Option<Vec<Value>> {
        let least = function.parameters.len();
        if arguments.len() < least || (arguments.len() > least && function.variadic.is_none()) {
            let diagnostic = wrong_count(function, arguments, span);
            self.report(diagnostic);
            return None;
        }
        let parameters = function.parameters.iter().chain(std::iter::repeat(function.variadic.as_ref()).flatten());
        let mut values = Vec::new();
        let mut is_fine = true;
        for ((value, place), parameter) in arguments.iter().zip(parameters) {
            let what = format!("the argument `{}` of `{}`", parameter.name, function.name);
            if value.is_null() && !parameter.nullable {
                self.report(Diagnostic::error("null-value", *place, format!("{what} must not be null")));
                is_fine = false;
                continue;
            }
            match self.converted(value, &parameter.kind, *place, &what) {
                Some(value) => values.push(value),
                None => is_fine = false,
            }
        }
        is_fine.then_some(values)
    }

    /// The first argument that evaluates without a mistake.
    fn call_try(&mut self, arguments: &[Expression], span: Span) -> Value {
        let mut last = None;
        for argument in arguments {
            let (value, mistakes) = self.evaluate_apart(argument);
            if !mistakes.has_errors() {
                self.diagnostics.extend(mistakes);
                return value;
            }
            last = Some((argument.span, mistakes));
        }
        let Some((place, mistakes)) = last else {
            return self.report(Diagnostic::error("wrong-count", span, "`try` needs at least one argument"));
        };
        let mut diagnostic = Diagnostic::error("function-failed", span, "no argument of `try` can be evaluated");
        if let Some(reason) = mistakes.items.iter().find(|item| item.is_error()) {
            let at = reason.primary.as_ref().map_or(place, |label| label.span);
            diagnostic = diagnostic.also(at, format!("the last one: {}", reason.title));
        }
        self.report(diagnostic)
    }

    /// Whether the argument evaluates without a mistake.
    fn call_can(&mut self, arguments: &[Expression], span: Span) -> Value {
        let [argument] = arguments else {
            return self.report(Diagnostic::error("wrong-count", span, "`can` takes one argument"));
        };
        let (value, mistakes) = self.evaluate_apart(argument);
        if !mistakes.has_errors() && !value.is_wholly_known() {
            return Value::unknown(Type::Bool).marked(value.any_sensitive());
        }
        Value::bool(!mistakes.has_errors()).marked(value.any_sensitive())
    }

    /// `convert(value, type)`: the second argument is a type, not a value.
    fn call_convert(&mut self, arguments: &[Expression], span: Span) -> Value {
        let [argument, kind] = arguments else {
            let diagnostic = Diagnostic::error("wrong-count", span, "`convert` takes a value and a type")
                .help("for example: `convert(var.ports, list(number))`");
            return self.report(diagnostic);
        };
        let value = self.evaluate(argument);
        let Some(kind) = self.type_expression(kind) else { return failed() };
        match convert(&value, &kind) {
            Ok(value) => value,
            Err(error) => {
                let title = format!("this cannot be converted to `{kind}`");
                self.report(Diagnostic::error("wrong-type", argument.span, title).label(error.to_string()))
            }
        }
    }

    /// `templatefile(path, variables)`: the file's text as a template, with names of its own only.
    fn call_template_file(&mut self, arguments: &[Argument], span: Span) -> Value {
        let [(path, path_span), (variables, variables_span)] = arguments else {
            let diagnostic = Diagnostic::error("wrong-count", span, "`templatefile` takes a path and variables")
                .help("for example: `templatefile(\"motd.tpl\", { name = var.name })`");
            return self.report(diagnostic);
        };
        if self.in_template_file {
            let title = "a template file cannot call `templatefile`";
            return self.report(Diagnostic::error("function-failed", span, title));
        }
        if path.is_unknown() || variables.is_unknown() {
            return Value::unknown(Type::Any);
        }
        if path.sensitive {
            let title = "the path of a template file must not be sensitive: messages show it";
            return self.report(Diagnostic::error("wrong-type", *path_span, title));
        }
        let Some(path) = path.as_str() else {
            return self.report(Diagnostic::error("wrong-type", *path_span, "the path is no text"));
        };
        let Some(entries) = variables.as_entries() else {
            let title = format!("the variables are {}, not an object", variables.data.kind_name());
            return self.report(Diagnostic::error("wrong-type", *variables_span, title));
        };
        let file = self.scope.functions.template_dir.join(path);
        let text = match std::fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) => {
                let is_missing = error.kind() == std::io::ErrorKind::NotFound;
                let title = match is_missing {
                    true => format!("there is no template file `{path}`"),
                    false => format!("cannot read the template file `{path}`: {error}"),
                };
                let diagnostic = Diagnostic::error("unreadable-file", *path_span, title);
                let nearest = kiln_core::suggest::nearest_file(&self.scope.functions.template_dir, path);
                return self.report(match nearest.filter(|_| is_missing) {
                    Some(nearest) => {
                        diagnostic.value(*path_span, format!("\"{nearest}\""), format!("did you mean `{nearest}`?"))
                    }
                    None => diagnostic.note(format!(
                        "the path is relative to the template's directory, `{}`",
                        self.scope.functions.template_dir.display()
                    )),
                });
            }
        };
        let variables = FileVariables(entries);
        self.template_file(path, &text, &variables, span)
    }

    /// `templatestring(text, variables)`: as `templatefile`, from a text.
    fn call_template_string(&mut self, arguments: &[Argument], span: Span) -> Value {
        let [(text, text_span), (variables, variables_span)] = arguments else {
            let diagnostic = Diagnostic::error("wrong-count", span, "`templatestring` takes a text and variables")
                .help("for example: `templatestring(file(\"motd.tpl\"), { name = var.name })`");
            return self.report(diagnostic);
        };
        if self.in_template_file {
            let title = "a template cannot call `templatestring`";
            return self.report(Diagnostic::error("function-failed", span, title));
        }
        if text.is_unknown() || variables.is_unknown() {
            return Value::unknown(Type::Any);
        }
        let Some(template) = text.as_str() else {
            let title = format!("the template is {}, not a text", text.data.kind_name());
            return self.report(Diagnostic::error("wrong-type", *text_span, title));
        };
        let Some(entries) = variables.as_entries() else {
            let title = format!("the variables are {}, not an object", variables.data.kind_name());
            return self.report(Diagnostic::error("wrong-type", *variables_span, title));
        };
        let before = self.diagnostics.items.len();
        let value = self.template_file("templatestring", template, &FileVariables(entries), span);
        if text.sensitive && self.diagnostics.items.len() > before {
            // What is told of a mistake shows the text.
            self.diagnostics.items.truncate(before);
            let title = "the template has a mistake; it is not shown, as the text is sensitive";
            return self.report(Diagnostic::error("function-failed", *text_span, title));
        }
        value
    }

    fn template_file(&mut self, path: &str, text: &str, variables: &FileVariables<'_>, span: Span) -> Value {
        let mut mistakes = Diagnostics::new();
        let value = match parse_template(SourceId::OWN, text, &mut mistakes) {
            Some(expression) if !mistakes.has_errors() => {
                let scope = Scope { variables, functions: self.scope.functions };
                let mut inner =
                    Evaluator { scope: &scope, bound: Vec::new(), in_template_file: true, diagnostics: &mut mistakes };
                inner.evaluate(&expression)
            }
            _ => failed(),
        };
        let at_call = |mistake: Diagnostic| mistake.also(span, format!("`{path}` is rendered here")).text(path, text);
        self.diagnostics.extend(mistakes.into_iter().map(at_call));
        value
    }
}

/// What a template file may refer to.
struct FileVariables<'a>(&'a BTreeMap<String, Value>);

impl Variables for FileVariables<'_> {
    fn root(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    fn root_names(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).collect()
    }
}

fn wrong_count(function: &Function, arguments: &[Argument], span: Span) -> Diagnostic {
    let least = function.parameters.len();
    let bound = if function.variadic.is_some() { "at least " } else { "" };
    let plural = if least == 1 { "" } else { "s" };
    let given = arguments.len();
    let title = format!("`{}` takes {bound}{least} argument{plural}, not {given}", function.name);
    let place = arguments.get(least).filter(|_| function.variadic.is_none()).map_or(span, |(_, span)| *span);
    let usage = usage(function.name).unwrap_or_default();
    let diagnostic = Diagnostic::error("wrong-count", place, title).help(format!("call it as `{usage}`"));
    match function.parameters.get(given) {
        Some(missing) => diagnostic.label(format!("`{}` is missing", missing.name)),
        None => diagnostic.label("one too many"),
    }
}
