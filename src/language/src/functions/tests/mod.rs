//! Expected values were compared with `packer console` 1.6.6 for every function that it has; the rest with the
//! documentation. Arguments stand as JSON, results as [`crate::print::one_line`] shows them.

mod formats;
mod properties;
mod values;
mod world;

use std::collections::BTreeSet;
use std::time::Duration;

use super::*;
use crate::convert::convert;
use crate::evaluate::{NoVariables, Scope, evaluate};
use crate::print::one_line;
use crate::syntax::parse_expression;

fn context() -> FunctionContext {
    FunctionContext {
        template_dir: PathBuf::from("templates"),
        working_dir: PathBuf::from("/work"),
        home: Some(PathBuf::from("/home/user")),
        environment: BTreeMap::from([("KILN_EXAMPLE".to_owned(), "given".to_owned())]).into(),
        // 2026-11-23T00:37:16.474163Z
        started: SystemTime::UNIX_EPOCH + Duration::from_micros(1_795_394_236_474_163),
        allow_env: true,
    }
}

/// Calls as the evaluator does: counts, converts, refuses nulls.
fn call_in(name: &str, values: &[Value], context: &FunctionContext) -> Outcome {
    let function = function(name).unwrap_or_else(|| panic!("no function {name}"));
    let fixed = function.parameters.len();
    assert!(values.len() >= fixed && (function.variadic.is_some() || values.len() == fixed), "{name}: count");
    let parameters = function.parameters.iter().chain(std::iter::repeat_with(|| function.variadic.as_ref().unwrap()));
    let mut converted = Vec::new();
    for (index, (value, parameter)) in values.iter().zip(parameters).enumerate() {
        if value.is_null() && !parameter.nullable {
            return fail_at(index, "null");
        }
        converted.push(convert(value, &parameter.kind).or_else(|error| fail_at(index, error.to_string()))?);
    }
    (function.call)(&converted, context)
}

fn call(name: &str, arguments: &str) -> Outcome {
    let decoded = (function("jsondecode").unwrap().call)(&[Value::string(arguments)], &context()).expect(arguments);
    call_in(name, decoded.as_elements().expect(arguments), &context())
}

#[track_caller]
fn gives(rows: &[(&str, &str, &str)]) {
    for (name, arguments, expected) in rows {
        let result = call(name, arguments);
        assert_eq!(result.as_ref().map(one_line), Ok((*expected).to_owned()), "{name}({arguments})");
    }
}

/// The argument at fault counts from 0.
#[track_caller]
fn fails(rows: &[(&str, &str, Option<usize>, &str)]) {
    for (name, arguments, argument, message) in rows {
        let error = call(name, arguments).expect_err(&format!("{name}({arguments})"));
        assert!(error.message.contains(message), "{name}({arguments}): {}", error.message);
        assert_eq!(error.argument, *argument, "{name}({arguments}): {}", error.message);
    }
}

#[test]
fn the_table_is_complete_and_documented() {
    let expected = "abs abspath alltrue anytrue aws_secretsmanager aws_secretsmanager_raw basename base64decode base64encode \
        base64gzip bcrypt can ceil chomp chunklist cidrhost cidrnetmask cidrsubnet cidrsubnets coalesce coalescelist compact \
        concat consul_key contains convert csvdecode dirname distinct element endswith env file filebase64 fileexists \
        fileset flatten floor format formatdate formatlist indent index join jsondecode jsonencode keys legacy_isotime \
        legacy_strftime length log lookup lower max md5 merge min parseint pathexpand pow range reverse replace regex \
        regexall regex_replace rfc3339_parse rsadecrypt setintersection setproduct setunion sha1 sha256 sha512 signum slice slug \
        sort split startswith strcontains strrev substr sum templatefile templatestring textdecodebase64 textencodebase64 timestamp \
        timeadd title trim trimprefix trimspace trimsuffix try unix_timestamp_parse upper urlencode uuidv4 uuidv5 values \
        vault yamldecode yamlencode zipmap";
    let expected: BTreeSet<&str> = expected.split_whitespace().collect();
    assert_eq!(expected.len(), 106);
    assert_eq!(function_names().into_iter().collect::<BTreeSet<&str>>(), expected);
    for function in functions() {
        assert!(function.doc.ends_with('.'), "{}", function.name);
        assert!(!function.example.0.is_empty(), "{}", function.name);
    }
}

#[test]
fn every_example_is_true() {
    let context = context();
    for function in functions() {
        let (expression, expected) = function.example;
        let mut diagnostics = kiln_core::Diagnostics::new();
        let parsed = parse_expression(kiln_core::SourceId(0), expression, &mut diagnostics);
        let parsed = parsed.unwrap_or_else(|| panic!("{expression}: {diagnostics:?}"));
        let scope = Scope { variables: &NoVariables, functions: &context };
        let value = evaluate(&parsed, &scope, &mut diagnostics);
        assert!(!diagnostics.has_errors(), "{expression}: {diagnostics:?}");
        assert_eq!(one_line(&value), expected, "{expression}");
    }
}
