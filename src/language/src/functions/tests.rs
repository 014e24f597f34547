//! Expected values were compared with `packer console` 1.6.6 for every function that it has; the rest with the
//! documentation. Arguments stand as JSON, results as [`crate::print::one_line`] shows them.

use std::collections::BTreeSet;
use std::time::Duration;

use super::*;
use crate::convert::convert;
use crate::print::one_line;
use crate::value::Data;

fn context() -> FunctionContext {
    FunctionContext {
        template_dir: PathBuf::from("templates"),
        working_dir: PathBuf::from("/work"),
        home: Some(PathBuf::from("/home/user")),
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
        regexall regex_replace rfc3339_parse rsadecrypt setintersection setproduct setunion sha1 sha256 sha512 signum slice \
        sort split startswith strcontains strrev substr sum templatefile textdecodebase64 textencodebase64 timestamp \
        timeadd title trim trimprefix trimspace trimsuffix try unix_timestamp_parse upper urlencode uuidv4 uuidv5 values \
        vault yamldecode yamlencode zipmap";
    let expected: BTreeSet<&str> = expected.split_whitespace().collect();
    assert_eq!(expected.len(), 104);
    assert_eq!(function_names().into_iter().collect::<BTreeSet<&str>>(), expected);
    for function in functions() {
        assert!(function.doc.ends_with('.'), "{}", function.name);
        assert!(!function.example.0.is_empty(), "{}", function.name);
    }
}

#[test]
fn texts() {
    gives(&[
        ("upper", r#"["straße ǆ"]"#, r#""STRAßE Ǆ""#),
        ("lower", r#"["ÀÉ"]"#, r#""àé""#),
        (
            "title",
            r#"["it's a wonderful-day foo_bar 1st ǆ élan x.y(z)"]"#,
            r#""It'S A Wonderful-Day Foo_bar 1st ǅ Élan X.Y(Z)""#,
        ),
        ("trim", r#"["??hello?!?", "!?"]"#, r#""hello""#),
        ("trimprefix", r#"["helloworld", "hello"]"#, r#""world""#),
        ("trimsuffix", r#"["helloworld", "world"]"#, r#""hello""#),
        ("trimspace", r#"["\t a b\n\u00a0"]"#, r#""a b""#),
        ("chomp", r#"["a\r\n\n\n"]"#, r#""a""#),
        ("indent", r#"[4, "a\nb\n\nc"]"#, r#""a\n    b\n    \n    c""#),
        ("strrev", r#"["e\u0301x"]"#, r#""xé""#),
        ("strrev", r#"["héllo👍🏽"]"#, r#""👍🏽olléh""#),
        ("substr", r#"["hello", 1, 2]"#, r#""el""#),
        ("substr", r#"["hello", -3, -1]"#, r#""llo""#),
        ("substr", r#"["hello", -9, 2]"#, r#""he""#),
        ("substr", r#"["hello", 2, 99]"#, r#""llo""#),
        ("substr", r#"["hello", 9, 2]"#, r#""""#),
        ("substr", r#"["hello", 1, -2]"#, r#""ello""#),
        ("split", r#"[",", ""]"#, r#"[""]"#),
        ("split", r#"["", "abc"]"#, r#"["a", "b", "c"]"#),
        ("join", r#"["-", ["a", "b"], ["c"]]"#, r#""a-b-c""#),
        ("join", r#"["-", [1, true]]"#, r#""1-true""#),
        ("join", r#"["-", []]"#, r#""""#),
        ("replace", r#"["abc", "/b/", "x"]"#, r#""abc""#),
        ("replace", r#"["abc", "", "-"]"#, r#""-a-b-c-""#),
        ("replace", r#"[1, "1", 2]"#, r#""2""#),
        ("startswith", r#"["kiln", "in"]"#, "false"),
        ("endswith", r#"["kiln", "ki"]"#, "false"),
        ("strcontains", r#"["kiln", "x"]"#, "false"),
    ]);
    fails(&[
        ("indent", r#"[-1, "a"]"#, Some(0), "must not be negative"),
        ("indent", r#"[1.5, "a"]"#, Some(0), "whole number"),
        ("substr", r#"["hello", 1.5, 1]"#, Some(1), "whole number"),
        ("join", r#"["-"]"#, None, "at least one list"),
        ("join", r#"["-", ["a", null]]"#, Some(1), "element 1 is null"),
        ("split", r#"["x", null]"#, Some(1), "null"),
    ]);
}

#[test]
fn regular_expressions() {
    gives(&[
        ("regex_replace", r#"["hello world", "(?P<f>\\w+) (\\w+)", "$2-$f-$$-$1x"]"#, r#""world-hello-$-""#),
        ("regex_replace", r#"["aaa", "a*", "x"]"#, r#""x""#),
        ("regex_replace", r#"["-ab-axxb-", "a(x*)b", "$1W"]"#, r#""---""#),
        ("regex_replace", r#"["a.c", "\\Q.\\E", "x"]"#, r#""axc""#),
        ("regex_replace", r#"["é", "\\w", "x"]"#, r#""é""#),
        ("regex_replace", r#"["é d", "\\bd", "x"]"#, r#""é x""#),
        ("regex_replace", r#"["a\nb", "a.b", "x"]"#, r#""a\nb""#),
        ("regex_replace", r#"["a[b]&c", "[[\\]&]", "-"]"#, r#""a-b--c""#),
        ("regex_replace", r#"["a1é b", "[[:alpha:]]", "-"]"#, r#""-1é -""#),
        ("regex_replace", r#"["a]b", "[]]", "-"]"#, r#""a-b""#),
        ("regex_replace", r#"["a-1_", "[^\\w-]|[\\d]", "x"]"#, r#""a-x_""#),
        ("regex", r#"["([a-z]+)-([0-9]+)", "ab-12"]"#, r#"["ab", "12"]"#),
        ("regex", r#"["(?P<name>[a-z]+)", "ab-12"]"#, r#"{ name = "ab" }"#),
        ("regex", r#"["(a)|(b)", "b"]"#, r#"[null, "b"]"#),
        ("regexall", r#"["[a-z]+", "ab-cd"]"#, r#"["ab", "cd"]"#),
        ("regexall", r#"["x", "ab"]"#, "[]"),
    ]);
    fails(&[
        ("regex_replace", r#"["abc", "b(", ""]"#, Some(1), "regular expression is wrong"),
        ("regex", r#"["x", "ab"]"#, Some(1), "matches nothing"),
        ("regex", r#"["(?P<n>a)(b)", "ab"]"#, Some(0), "all have names"),
    ]);
}

#[test]
fn numbers() {
    gives(&[
        ("abs", "[-1.5]", "1.5"),
        ("ceil", "[-1.2]", "-1"),
        ("ceil", "[1.2]", "2"),
        ("floor", "[\"1.9\"]", "1"),
        ("log", "[8, 2]", "3"),
        ("log", "[2.5, 2.5]", "1"),
        ("max", "[1, 5, 3]", "5"),
        ("min", "[1.5, -2]", "-2"),
        ("parseint", r#"["FF", 16]"#, "255"),
        ("parseint", r#"["zZ", 62]"#, "2231"),
        ("parseint", r#"["Z", 36]"#, "35"),
        ("parseint", r#"["-ff", 16]"#, "-255"),
        ("parseint", r#"["+5", 10]"#, "5"),
        ("pow", "[2, 0.5]", "1.4142135623730951"),
        ("pow", "[2, -1]", "0.5"),
        ("pow", "[0, 0]", "1"),
        ("pow", "[10, 30]", "1000000000000000000000000000000"),
        ("signum", "[0]", "0"),
        ("range", "[3]", "[0, 1, 2]"),
        ("range", "[3, 0]", "[3, 2, 1]"),
        ("range", "[3, 0, -2]", "[3, 1]"),
        ("range", "[0]", "[]"),
        ("range", "[-3]", "[0, -1, -2]"),
        ("range", "[0, 1, 0.25]", "[0, 0.25, 0.5, 0.75]"),
        ("sum", r#"[[0.1, 0.2, "3"]]"#, "3.3"),
    ]);
    fails(&[
        ("log", "[0, 2]", None, "no finite number"),
        ("log", "[-1, 2]", None, "no finite number"),
        ("max", "[]", None, "at least one number"),
        ("parseint", r#"["1_0", 10]"#, Some(0), "base 10"),
        ("parseint", r#"["", 10]"#, Some(0), "base 10"),
        ("parseint", r#"["0x1", 16]"#, Some(0), "base 16"),
        ("parseint", r#"["1", 63]"#, Some(1), "from 2 to 62"),
        ("parseint", "[12, 10]", Some(0), "string"),
        ("signum", "[1.5]", Some(0), "whole number"),
        ("range", "[0, 3, -1]", Some(2), "negative step"),
        ("range", "[3, 0, 1]", Some(2), "positive step"),
        ("range", "[1, 4, 0]", Some(2), "must not be 0"),
        ("range", "[1025]", None, "more than 1024"),
        ("range", "[1, 2, 3, 4]", None, "one, two or three"),
        ("abs", "[\"x\"]", Some(0), "number"),
        ("sum", "[[]]", Some(0), "empty list"),
    ]);
    assert_eq!(call("range", "[1024]").unwrap().as_elements().unwrap().len(), 1024);
}

#[test]
fn lists() {
    gives(&[
        ("alltrue", "[[]]", "true"),
        ("alltrue", r#"[[true, "true", null]]"#, "false"),
        ("anytrue", "[[]]", "false"),
        ("concat", r#"[[1, 2], ["a"], []]"#, r#"[1, 2, "a"]"#),
        ("contains", r#"[["a", 1], 1]"#, "true"),
        ("contains", r#"[["a", 1], "1"]"#, "false"),
        ("contains", "[[[1]], [1]]", "true"),
        ("distinct", r#"[["a", 1, true, "1"]]"#, r#"["a", "1", "true"]"#),
        ("element", r#"[["a", "b"], 3]"#, r#""b""#),
        ("flatten", r#"[[[1, [2]], 3, [], {"a": [1]}, [null]]]"#, "[1, 2, 3, { a = [1] }, null]"),
        ("index", r#"[["a", "b"], "b"]"#, "1"),
        ("length", r#"["é👍🏽"]"#, "2"),
        ("length", r#"["a\r\nb"]"#, "3"),
        ("length", r#"[{"a": 1}]"#, "1"),
        ("reverse", r#"[[1, "a"]]"#, r#"["a", 1]"#),
        ("slice", r#"[["a", 1, true], 1, 3]"#, "[1, true]"),
        ("slice", "[[], 0, 0]", "[]"),
        ("sort", r#"[["b", "a", "B", "é"]]"#, r#"["B", "a", "b", "é"]"#),
        ("sort", "[[3, 10, 1]]", r#"["1", "10", "3"]"#),
        ("chunklist", r#"[["a", "b", "c"], 2]"#, r#"[["a", "b"], ["c"]]"#),
        ("chunklist", r#"[["a", "b", "c"], 0]"#, r#"[["a", "b", "c"]]"#),
        ("chunklist", "[[], 2]", "[]"),
        ("coalesce", r#"["", "a"]"#, r#""a""#),
        ("coalesce", r#"[null, 1, "a"]"#, r#""1""#),
        ("coalesce", r#"["", 1]"#, r#""1""#),
        ("coalesce", "[0, 1]", "0"),
        ("coalesce", "[false, true]", "false"),
        ("coalesce", r#"[[], ["a"]]"#, "[]"),
        ("coalescelist", r#"[[], [1], ["a"]]"#, "[1]"),
        ("compact", r#"[["a", "", null, "b"]]"#, r#"["a", "b"]"#),
    ]);
    fails(&[
        ("concat", "[]", None, "at least one"),
        ("concat", r#"[[], "a"]"#, Some(1), "list or tuple"),
        ("contains", r#"[{"a": 1}, 1]"#, Some(0), "list"),
        ("contains", "[[null], null]", Some(1), "null"),
        ("element", "[[], 0]", Some(0), "empty list"),
        ("element", r#"[["a"], -1]"#, Some(1), "negative"),
        ("element", r#"[["a"], 0.5]"#, Some(1), "whole number"),
        ("index", r#"[["a"], "b"]"#, Some(1), "does not hold"),
        ("length", "[5]", Some(0), "not a number"),
        ("reverse", r#"["abc"]"#, Some(0), "list"),
        ("slice", r#"[["a"], 1, 0]"#, Some(1), "greater than the end"),
        ("slice", r#"[["a"], 0, 4]"#, Some(2), "beyond the end"),
        ("slice", r#"[["a"], -1, 1]"#, Some(1), "negative"),
        ("sort", r#"[["a", null]]"#, Some(0), "element 1 is null"),
        ("chunklist", "[[1], -1]", Some(1), "negative"),
        ("coalesce", r#"["", null]"#, None, "null or an empty text"),
        ("coalesce", "[1, true]", None, "same type"),
        ("coalescelist", "[[], []]", None, "every list is empty"),
    ]);
}

#[test]
fn lists_of_one_type_stay_lists() {
    let numbers = || Value::list(Type::Number, [Value::number(1)]);
    let joined = call_in("concat", &[numbers(), Value::string_list(["a"])], &context()).unwrap();
    assert_eq!(joined, Value::string_list(["1", "a"]));
    assert_eq!(call_in("reverse", &[numbers()], &context()), Ok(numbers()));
    let values = call_in("values", &[Value::map(Type::Number, [("a", Value::number(1))])], &context());
    assert_eq!(values, Ok(numbers()));
}

#[test]
fn maps_and_sets() {
    gives(&[
        ("keys", r#"[{"b": 1, "a": 2}]"#, r#"["a", "b"]"#),
        ("values", r#"[{"b": 1, "a": "x"}]"#, r#"["x", 1]"#),
        ("lookup", r#"[{"a": 1}, "a", 5]"#, "1"),
        ("lookup", r#"[{"a": 1, "c": "q"}, "b", "x"]"#, r#""x""#),
        ("lookup", r#"[{}, "b", null]"#, "null"),
        ("merge", r#"[{"a": 1, "b": 2}, null, {"b": "x", "c": null}]"#, r#"{ a = 1, b = "x", c = null }"#),
        ("merge", r#"[{"a": {"x": 1}}, {"a": {"y": 2}}]"#, "{ a = { y = 2 } }"),
        ("merge", "[]", "{}"),
        ("zipmap", r#"[["a", "b"], [1, "x"]]"#, r#"{ a = 1, b = "x" }"#),
        ("zipmap", r#"[["a", "a"], [1, 2]]"#, "{ a = 2 }"),
        ("zipmap", r#"[[1], ["x"]]"#, r#"{ "1" = "x" }"#),
        ("setintersection", r#"[["a", "b"], ["b", "c"]]"#, r#"["b"]"#),
        ("setintersection", r#"[[1], ["1"]]"#, r#"["1"]"#),
        ("setunion", r#"[["a", "b"], ["c", "b"]]"#, r#"["a", "b", "c"]"#),
        ("setunion", r#"[[1], ["a"]]"#, r#"["1", "a"]"#),
        ("setproduct", r#"[["a", "b"], [1, 2]]"#, r#"[["a", 1], ["a", 2], ["b", 1], ["b", 2]]"#),
        ("setproduct", r#"[[], ["a"]]"#, "[]"),
    ]);
    fails(&[
        ("keys", "[[]]", Some(0), "map or object"),
        ("lookup", r#"["a", "b", 1]"#, Some(0), "map or object"),
        ("merge", r#"[{"a": 1}, []]"#, Some(1), "map or object"),
        ("zipmap", r#"[["a"], [1, 2]]"#, None, "1 keys and 2 values"),
        ("setproduct", r#"[["a"]]"#, None, "at least two"),
        ("setunion", r#"[[1], [["a"]]]"#, None, "do not go together"),
    ]);
}

#[test]
fn formats() {
    gives(&[
        ("format", r#"["%v %s %d %q %t", [1, "a"], "x", 3, "q\"\n", true]"#, r#""[1,\"a\"] x 3 \"q\\\"\\n\" true""#),
        ("format", r#"["%#v", {"a": [1, null, "é<"]}]"#, r#""{\"a\":[1,null,\"é\\u003c\"]}""#),
        ("format", r#"["%v|%v|%v", "a<b", null, true]"#, r#""a<b|null|true""#),
        (
            "format",
            r#"["%v|%v|%v|%v|%v", 1000000, 123456789, 0.1, 0.00001, 99999]"#,
            r#""1e+06|1.23456789e+08|0.1|1e-05|99999""#,
        ),
        ("format", r#"["%s|%q|%#v", 1000000, 1.5, 1000000]"#, r#""1000000|\"1.5\"|1000000""#),
        ("format", r#"["%5d|%-5d|%05d|%+d|% d", 1, 2, 3, 4, 5]"#, r#""    1|2    |00003|+4| 5""#),
        (
            "format",
            r#"["%5d|%-5d|%05d|% d|%+05d|%-05d|", -3, -3, -3, -3, 3, 3]"#,
            r#""   -3|-3   |-0003|-3|+0003|3    |""#,
        ),
        ("format", r#"["%x %X %o %b %x", 255, 48879, 8, 5, -255]"#, r#""ff BEEF 10 101 -ff""#),
        ("format", r#"["%#x %#o %#b %#X %#08x %#o", 255, 8, 5, 255, 255, 0]"#, r#""0xff 010 0b101 0XFF 0x0000ff 00""#),
        ("format", r#"["%.3d|%8.3d|%.0d|%08.3d|%+.3d", 5, 5, 0, 5, 5]"#, r#""005|     005||     005|+005""#),
        (
            "format",
            r#"["%.2f|%8.3f|%-8.1f|%08.2f|%.0f", 3.14159, 3.14159, 3.14159, -3.14159, 2.5]"#,
            r#""3.14|   3.142|3.1     |-0003.14|2""#,
        ),
        (
            "format",
            r#"["%10.3e|%-12.2e|%012.2e|%e", 12345.678, 12345.678, -12345.678, 0]"#,
            r#"" 1.235e+04|1.23e+04    |-0001.23e+04|0.000000e+00""#,
        ),
        (
            "format",
            r#"["%g|%G|%.3g|%.10g|%+g|%010g", 1234567, 1e-10, 1234.5678, 1234.5678, 1.5, -1.5]"#,
            r#""1.234567e+06|1E-10|1.23e+03|1234.5678|+1.5|-0000001.5""#,
        ),
        ("format", r#"["%.f|%.20g|%g|%g", 2.55, 0.1, 0.00012345, -0.5]"#, r#""3|0.1|0.00012345|-0.5""#),
        (
            "format",
            r#"["%10s|%-10s|%.2s|%010s|%5.1s|%05s", "hello", "hello", "éa", "hello", "héllo", "é"]"#,
            r#""     hello|hello     |éa|00000hello|    h|0000é""#,
        ),
        (
            "format",
            r#"["%-8v|%8v|%.1v|%10q|%5t", [1, 2], {"a": 1}, "hello", "a", true]"#,
            r#""[1,2]   | {\"a\":1}|hello|       \"a\"|true""#,
        ),
        ("format", r#"["%[1]d %[1]x|%5[2]d", 10, 2]"#, r#""10 a|    2""#),
        ("format", r#"["%%|%v%%|%d|%t|%f", 5, "5", "true", "1.5"]"#, r#""%|5%|5|true|1.500000""#),
        ("formatlist", r#"["%s-%s", ["a", "b"], "c"]"#, r#"["a-c", "b-c"]"#),
        ("formatlist", r#"["%s-%d", ["a", "b"], [1, 2]]"#, r#"["a-1", "b-2"]"#),
        ("formatlist", r#"["%s", []]"#, "[]"),
        ("formatlist", r#"["x"]"#, r#"["x"]"#),
        ("formatlist", r#"["%s %d", "a", 1]"#, r#"["a 1"]"#),
        ("formatlist", r#"["%v", [[1, 2], [3]]]"#, r#"["[1,2]", "[3]"]"#),
    ]);
    fails(&[
        ("format", r#"["%s", null]"#, Some(1), "cannot show null"),
        ("format", r#"["%s", [1]]"#, Some(1), "string is required"),
        ("format", r#"["%d", 1.5]"#, Some(1), "whole numbers"),
        ("format", r#"["%d", "x"]"#, Some(1), "number"),
        ("format", r#"["%d", true]"#, Some(1), "number"),
        ("format", r#"["%t", 1]"#, Some(1), "bool"),
        ("format", r#"["%[2]s %[1]s %s", "a", "b", "c"]"#, Some(3), "uses only 2"),
        ("format", r#"["%[2]s %s", "a", "b"]"#, Some(0), "needs value 3, and there are 2"),
        ("format", r#"["%[1]5d", 1]"#, Some(0), "no verb `%[1]5`"),
        ("format", r#"["%*d", 5, 42]"#, Some(0), "no verb `%*`"),
        ("format", r#"["%[0]d", 10]"#, Some(0), "from 1 on"),
        ("format", r#"["%"]"#, Some(0), "ends in the middle"),
        ("format", r#"["%5", 1]"#, Some(0), "ends in the middle"),
        ("format", r#"["%z", 1]"#, Some(0), "no verb `%z`"),
        ("format", r#"["%F", 1]"#, Some(0), "no verb `%F`"),
        ("format", r#"["%5%|"]"#, Some(0), "no verb `%5%`"),
        ("format", r#"["%d"]"#, Some(0), "needs value 1"),
        ("format", r#"["x", 1]"#, Some(1), "uses no values"),
        ("format", r#"["%99999999d", 1]"#, Some(0), "go up to"),
        ("formatlist", r#"["%s-%s", ["a", "b"], ["c"]]"#, Some(2), "has 1 elements, and the one in argument 2 has 2"),
    ]);
}

#[test]
fn json() {
    let value = r#"[{"b": "<a>&\u2028é\u0001\t\n\"\\/\u007f", "a": [1, 1.5, true, null], "c": 1e30}]"#;
    let expected = Value::string(
        "{\"a\":[1,1.5,true,null],\"b\":\"\\u003ca\\u003e\\u0026\\u2028é\\u0001\\t\\n\\\"\\\\/\u{7f}\",\
         \"c\":1000000000000000000000000000000}",
    );
    assert_eq!(call("jsonencode", value), Ok(expected));
    gives(&[
        ("jsonencode", "[0.0000001]", r#""0.0000001""#),
        ("jsonencode", "[null]", r#""null""#),
        (
            "jsondecode",
            r#"["{\"a\":1,\"b\":[1,\"x\",null,true],\"c\":{}}"]"#,
            r#"{ a = 1, b = [1, "x", null, true], c = {} }"#,
        ),
        ("jsondecode", r#"["{\"a\":1,\"a\":2}"]"#, "{ a = 2 }"),
        ("jsondecode", r#"["0.1"]"#, "0.1"),
    ]);
    fails(&[
        ("jsondecode", r#"["1 2"]"#, Some(0), "not valid JSON"),
        ("jsondecode", r#"["{"]"#, Some(0), "not valid JSON"),
        ("jsondecode", r#"[""]"#, Some(0), "not valid JSON"),
        ("jsondecode", r#"["1e400"]"#, Some(0), "not valid JSON"),
    ]);
    assert!(matches!(call("jsonencode", "[1]").unwrap().data, Data::String(_)));
}

#[test]
fn yaml() {
    let written = [
        (
            r#"{"b": "a", "a": [1, 1.5, true, null, "x\ny\n"], "c": {}, "d": [], "e": {"f": "true"}}"#,
            "\"a\":\n- 1\n- 1.5\n- true\n- null\n- |\n  x\n  y\n\"b\": \"a\"\n\"c\": {}\n\"d\": []\n\"e\":\n  \"f\": \"true\"\n",
        ),
        (r#""x""#, "\"x\"\n"),
        (r#""a\nb""#, "|-\n  a\n  b\n"),
        (r#""a\nb\n\n""#, "|+\n  a\n  b\n\n"),
        (r#"" a\nb""#, "|2-\n   a\n  b\n"),
        (r#""\na\nb""#, "|2-\n\n  a\n  b\n"),
        (r#""\n""#, "|2+\n\n"),
        (r#""a\n b""#, "|-\n  a\n   b\n"),
        (r#""a\r\nb""#, "\"a\\r\\nb\"\n"),
        (r#""a  \nb""#, "\"a  \\nb\"\n"),
        (r#""a\nb ""#, "\"a\\nb \"\n"),
        (r#""tab\tx\u0001é\"\\'""#, "\"tab\\tx\\x01é\\\"\\\\'\"\n"),
        (
            r#""👍\u2028\u0085\ufeff\u001b/\u0000\u0007\u0008\u000b\u000c""#,
            "\"\\U0001F44D\\L\\N\\uFEFF\\e/\\0\\a\\b\\v\\f\"\n",
        ),
        ("[]", "[]\n"),
        ("1", "1\n...\n"),
        ("null", "null\n...\n"),
        (
            r#"[[1, [2]], {"a": 1, "b": {"c": 2}}, [{"a": 1}, {"b": 2}]]"#,
            "- - 1\n  - - 2\n- \"a\": 1\n  \"b\":\n    \"c\": 2\n- - \"a\": 1\n  - \"b\": 2\n",
        ),
        (
            r#"{"a": [{"b": 1, "c": "m\nn"}], "k y: #": 1, "1": 2}"#,
            "\"1\": 2\n\"a\":\n- \"b\": 1\n  \"c\": |-\n    m\n    n\n\"k y: #\": 1\n",
        ),
        (r#"{"a": {"b": ["x\ny"]}}"#, "\"a\":\n  \"b\":\n  - |-\n    x\n    y\n"),
        (r#"{"a": [[1, 2], [3]]}"#, "\"a\":\n- - 1\n  - 2\n- - 3\n"),
        (
            r#""aaaaaaaaaaaaaaaaaaaaaaa bbbbbbbbbbbbbbbbbbbbbbbbbbbbbb ccccccccccccccccccccccccccccccc dddddddddddddddddddddddd eeeeeeeeeeee ffffffffffff""#,
            "\"aaaaaaaaaaaaaaaaaaaaaaa bbbbbbbbbbbbbbbbbbbbbbbbbbbbbb ccccccccccccccccccccccccccccccc\n  dddddddddddddddddddddddd eeeeeeeeeeee ffffffffffff\"\n",
        ),
    ];
    for (value, expected) in written {
        let encoded = call("yamlencode", &format!("[{value}]")).unwrap();
        assert_eq!(encoded.as_str(), Some(expected), "{value}");
        // What is written is read back as the same value.
        let decoded = call_in("yamldecode", &[encoded], &context()).unwrap();
        let original = call_in("jsondecode", &[Value::string(value)], &context()).unwrap();
        assert_eq!(one_line(&decoded), one_line(&original), "{value}");
    }
    gives(&[
        (
            "yamldecode",
            r#"["a: &x {q: 1}\nb: *x\nc:\n  <<: *x\n  r: 2"]"#,
            "{ a = { q = 1 }, b = { q = 1 }, c = { q = 1, r = 2 } }",
        ),
        ("yamldecode", r#"["a: |\n  x\n  y\nb: >\n  f\n  g"]"#, r#"{ a = "x\ny\n", b = "f g" }"#),
        (
            "yamldecode",
            r#"["[x, 'y', '1', 1.5, true, null, ~, -5, 1e3]"]"#,
            r#"["x", "y", "1", 1.5, true, null, null, -5, 1000]"#,
        ),
        ("yamldecode", r#"["1: x"]"#, r#"{ "1" = "x" }"#),
    ]);
    fails(&[
        ("yamldecode", r#"["{a: [}"]"#, Some(0), "not valid YAML"),
        ("yamldecode", r#"["a\n---\nb"]"#, Some(0), "not valid YAML"),
        ("yamldecode", r#"["!foo a"]"#, Some(0), "tag"),
        ("yamldecode", r#"[".inf"]"#, Some(0), "not finite"),
    ]);
}

#[test]
fn encodings() {
    gives(&[
        ("base64encode", r#"["héllo"]"#, r#""aMOpbGxv""#),
        ("base64decode", r#"["aMOp\nbGxv"]"#, r#""héllo""#),
        ("urlencode", r#"["a b&c=d/é~*'()-_.!"]"#, r#""a+b%26c%3Dd%2F%C3%A9~%2A%27%28%29-_.%21""#),
        ("textencodebase64", r#"["é", "ISO-8859-1"]"#, r#""6Q==""#),
        ("textencodebase64", r#"["é", "UTF-16BE"]"#, r#""AOk=""#),
        ("textdecodebase64", r#"["6Q==", "ISO-8859-1"]"#, r#""é""#),
        ("csvdecode", r#"["a,b\n\n1,2\n3,\"x,y\""]"#, r#"[{ a = "1", b = "2" }, { a = "3", b = "x,y" }]"#),
        ("csvdecode", r#"["a,b"]"#, "[]"),
        ("md5", r#"["é"]"#, r#""66ddcd97cfdeabb2f6fb8a999b4bc76f""#),
        ("sha1", r#"["a"]"#, r#""86f7e437faa5a7fce15d1ddcb9eaeaea377667b8""#),
        ("sha256", r#"["a"]"#, r#""ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb""#),
        ("uuidv5", r#"["x500", "a"]"#, r#""54a0a790-c611-5b5b-b50e-ff01490ecdfa""#),
        (
            "uuidv5",
            r#"["6ba7b810-9dad-11d1-80b4-00c04fd430c8", "a.example"]"#,
            r#""05149b90-bca9-5cf7-9708-f45959ecfde6""#,
        ),
    ]);
    fails(&[
        ("base64decode", r#"["aMOpbGx"]"#, Some(0), "not valid base64"),
        ("base64decode", r#"["/w=="]"#, Some(0), "not UTF-8"),
        ("textencodebase64", r#"["€", "x-none"]"#, Some(1), "no encoding"),
        ("textencodebase64", r#"["ж", "ISO-8859-1"]"#, Some(0), "has not"),
        ("csvdecode", r#"["a,a\n1,2"]"#, Some(0), "two columns `a`"),
        ("csvdecode", r#"["a,b\n1"]"#, Some(0), "not valid CSV"),
        ("csvdecode", r#"[""]"#, Some(0), "header line"),
        ("csvdecode", r#"["a,b\n1,\"2"]"#, Some(0), "not closed"),
        ("bcrypt", r#"["a", 99]"#, Some(1), "up to 31"),
        ("bcrypt", r#"["a", 4, 5]"#, None, "one or two"),
        ("uuidv5", r#"["foo", "a"]"#, Some(0), "namespace"),
        ("rsadecrypt", r#"["", ""]"#, None, "not available in this build"),
        ("vault", r#"["a", "b"]"#, None, "not available in this build"),
    ]);
    let hash = call("bcrypt", r#"["a", 4]"#).unwrap();
    let hash = hash.as_str().unwrap();
    assert!(hash.starts_with("$2a$04$") && bcrypt::verify("a", hash).unwrap(), "{hash}");
    let long = format!("[\"{}\", 4]", "x".repeat(73));
    assert!(call("bcrypt", &long).unwrap_err().message.contains("72 bytes"));
}

#[test]
fn gzip_can_be_undone() {
    use base64::Engine;
    use std::io::Read;
    let encoded = call("base64gzip", r#"["héllo"]"#).unwrap();
    let bytes = base64::engine::general_purpose::STANDARD.decode(encoded.as_str().unwrap()).unwrap();
    let mut text = String::new();
    flate2::read::GzDecoder::new(&bytes[..]).read_to_string(&mut text).unwrap();
    assert_eq!(text, "héllo");
}

#[test]
fn networks() {
    gives(&[
        ("cidrhost", r#"["10.12.113.5/20", 1]"#, r#""10.12.112.1""#),
        ("cidrhost", r#"["10.12.112.0/20", -1]"#, r#""10.12.127.255""#),
        ("cidrhost", r#"["10.12.112.0/20", -4096]"#, r#""10.12.112.0""#),
        ("cidrhost", r#"["fd00:fd12:3456:7890:00a2::/72", 34]"#, r#""fd00:fd12:3456:7890::22""#),
        ("cidrhost", r#"["10.0.0.0/0", 4294967295]"#, r#""255.255.255.255""#),
        ("cidrhost", r#"["10.0.0.0/32", 0]"#, r#""10.0.0.0""#),
        ("cidrhost", r#"["::/0", -1]"#, r#""ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff""#),
        ("cidrnetmask", r#"["10.0.0.0/0"]"#, r#""0.0.0.0""#),
        ("cidrnetmask", r#"["10.0.0.1/32"]"#, r#""255.255.255.255""#),
        ("cidrnetmask", r#"["fd00::/8"]"#, r#""ff00::""#),
        ("cidrsubnet", r#"["10.1.2.0/24", 4, 15]"#, r#""10.1.2.240/28""#),
        ("cidrsubnet", r#"["10.0.0.0/8", 0, 0]"#, r#""10.0.0.0/8""#),
        ("cidrsubnet", r#"["fd00:fd12:3456:7890::/56", 16, 162]"#, r#""fd00:fd12:3456:7800:a200::/72""#),
        (
            "cidrsubnets",
            r#"["10.1.0.0/16", 4, 4, 8, 4]"#,
            r#"["10.1.0.0/20", "10.1.16.0/20", "10.1.32.0/24", "10.1.48.0/20"]"#,
        ),
        ("cidrsubnets", r#"["fd00::/16", 4, 8]"#, r#"["fd00::/20", "fd00:1000::/24"]"#),
        ("cidrsubnets", r#"["255.255.255.0/24", 1, 1]"#, r#"["255.255.255.0/25", "255.255.255.128/25"]"#),
        ("cidrsubnets", r#"["10.0.0.0/8"]"#, "[]"),
    ]);
    fails(&[
        ("cidrhost", r#"["10.12.112.0/20", 4096]"#, Some(1), "no host 4096"),
        ("cidrhost", r#"["10.12.112.0/20", -4097]"#, Some(1), "no host -4097"),
        ("cidrhost", r#"["10.0.0.0/8", 1.5]"#, Some(1), "whole number"),
        ("cidrhost", r#"["10.0.0.0", 1]"#, Some(0), "no network"),
        ("cidrhost", r#"["010.0.0.0/8", 1]"#, Some(0), "no network"),
        ("cidrhost", r#"["10.0.0.0/33", 1]"#, Some(0), "no network"),
        ("cidrhost", r#"["10.0.0.0/+8", 1]"#, Some(0), "no network"),
        ("cidrsubnet", r#"["10.1.2.0/24", 4, 16]"#, Some(2), "no network number 16"),
        ("cidrsubnet", r#"["10.1.2.0/24", 9, 0]"#, Some(1), "cannot be extended by 9"),
        ("cidrsubnet", r#"["10.1.2.0/24", -1, 0]"#, Some(1), "at least 0"),
        ("cidrsubnet", r#"["10.1.2.0/24", 4, -1]"#, Some(2), "no network number -1"),
        ("cidrsubnet", r#"["fd00::/16", 33, 1]"#, Some(1), "at most 32"),
        ("cidrsubnets", r#"["10.0.0.0/24", 0]"#, Some(1), "at least 1"),
        ("cidrsubnets", r#"["10.0.0.0/24", 1, 1, 1]"#, Some(3), "no room is left"),
        ("cidrsubnets", r#"["255.255.255.0/24", 1, 1, 1]"#, Some(3), "no room is left"),
    ]);
}

#[test]
fn times() {
    let long = "D M MM MMMM H HH h hh AA aa m mm s ss Z ZZZZ ZZZZZ 'at' ''";
    gives(&[
        (
            "formatdate",
            r#"["EEE, DD MMM YYYY hh:mm:ss ZZZ", "2018-01-02T23:12:01-08:00"]"#,
            r#""Tue, 02 Jan 2018 23:12:01 -0800""#,
        ),
        (
            "formatdate",
            r#"["EEEE, DD-MMM-YY hh:mm:ss ZZZ", "2018-01-02T23:12:01Z"]"#,
            r#""Tuesday, 02-Jan-18 23:12:01 UTC""#,
        ),
        (
            "formatdate",
            &format!(r#"["{long}", "2018-01-02T23:12:01+05:30"]"#),
            r#""2 1 01 January 11 11 23 23 PM pm 12 12 1 01 +05:30 +0530 +05:30 at '""#,
        ),
        ("formatdate", r#"["HH aa Z ZZZZ ZZZZZ", "2018-01-02T00:12:01.5Z"]"#, r#""12 am Z +0000 +00:00""#),
        ("formatdate", r#"["YYYY年 'it''s'", "2018-01-02T00:12:01Z"]"#, r#""2018年 it's""#),
        ("timeadd", r#"["2017-11-22T00:00:00+02:00", "-1h30m"]"#, r#""2017-11-21T22:30:00+02:00""#),
        ("timeadd", r#"["2017-11-22T00:00:00.25Z", "1.5s"]"#, r#""2017-11-22T00:00:01Z""#),
        ("timeadd", r#"["2017-11-22T00:00:00Z", "+.5h"]"#, r#""2017-11-22T00:30:00Z""#),
        ("legacy_isotime", "[]", r#""2026-11-23T00:37:16Z""#),
        ("legacy_isotime", r#"["Jan 2006"]"#, r#""Nov 2026""#),
        ("legacy_strftime", r#"["%Y-%j"]"#, r#""2026-327""#),
        (
            "rfc3339_parse",
            r#"["2023-07-25 23:43:16.5+02:00"]"#,
            r#"{ day = 25, hour = 23, iso_week = 30, iso_year = 2023, minute = 43, month = 7, month_name = "July", second = 16, unix = 1690321396, weekday = 2, weekday_name = "Tuesday", year = 2023, year_day = 206 }"#,
        ),
    ]);
    fails(&[
        (
            "formatdate",
            r#"["YYY", "2018-01-02T00:12:01Z"]"#,
            Some(0),
            "`YYY` is no part of a date; write `YY` or `YYYY`",
        ),
        ("formatdate", r#"["T", "2018-01-02T00:12:01Z"]"#, Some(0), "single quotes"),
        ("formatdate", r#"["'x", "2018-01-02T00:12:01Z"]"#, Some(0), "not closed"),
        ("formatdate", r#"["E", "2018-01-02T00:12:01Z"]"#, Some(0), "`EEE` or `EEEE`"),
        ("formatdate", r#"["YYYY", "2018-01-02"]"#, Some(1), "`T` before the time"),
        ("formatdate", r#"["YYYY", "2018-01-02 00:12:01Z"]"#, Some(1), "`T` before the time"),
        ("formatdate", r#"["YYYY", "2018-02-30T00:00:00Z"]"#, Some(1), "out of range"),
        ("formatdate", r#"["YYYY", "2018-01-02T23:12:01z"]"#, Some(1), "zone"),
        ("formatdate", r#"["YYYY", "2018-01-02T23:12:01.Z"]"#, Some(1), "digits"),
        ("formatdate", r#"["YYYY", "é"]"#, Some(1), "date is missing"),
        ("timeadd", r#"["2017-11-22T00:00:00Z", "1d"]"#, Some(1), "unknown unit"),
        ("timeadd", r#"["2017-11-22T00:00:00Z", ""]"#, Some(1), "empty"),
        ("legacy_isotime", r#"["a", "b"]"#, None, "at most one"),
    ]);
}

#[test]
fn paths() {
    gives(&[
        ("abspath", r#"["a/../b"]"#, r#""/work/b""#),
        ("abspath", r#"[""]"#, r#""/work""#),
        ("basename", r#"["/a/b/"]"#, r#""b""#),
        ("basename", r#"[""]"#, r#"".""#),
        ("basename", r#"["/"]"#, r#""/""#),
        ("dirname", r#"["/a/b/"]"#, r#""/a/b""#),
        ("dirname", r#"["/a/b"]"#, r#""/a""#),
        ("dirname", r#"["a"]"#, r#"".""#),
        ("dirname", r#"["/"]"#, r#""/""#),
        ("dirname", r#"["a/./../b//c"]"#, r#""b""#),
        ("dirname", r#"["../../a"]"#, r#""../..""#),
        ("pathexpand", r#"["~"]"#, r#""/home/user""#),
        ("pathexpand", r#"["~/x/../y"]"#, r#""/home/user/y""#),
        ("pathexpand", r#"["/a//b/"]"#, r#""/a//b/""#),
    ]);
    fails(&[
        ("pathexpand", r#"["~root/x"]"#, Some(0), "named user"),
        ("file", r#"["nope"]"#, Some(0), "there is no file /work/templates/nope"),
    ]);
}

#[test]
fn files_start_from_the_right_directory() {
    let root = tempfile::tempdir().unwrap();
    let context = FunctionContext { working_dir: root.path().to_path_buf(), ..context() };
    let templates = root.path().join("templates");
    for directory in ["sub/deep", ".hidden"] {
        std::fs::create_dir_all(templates.join(directory)).unwrap();
    }
    for (name, content) in [("a.txt", "kiln"), ("sub/b.txt", ""), ("sub/deep/c.sh", ""), (".hidden/d.txt", "")] {
        std::fs::write(templates.join(name), content).unwrap();
    }
    std::fs::write(templates.join("binary"), [0xff]).unwrap();
    std::fs::write(root.path().join("beside"), "x").unwrap();
    std::os::unix::fs::symlink("..", templates.join("sub/loop")).unwrap();
    let call = |name: &str, arguments: &[&str]| {
        let arguments: Vec<Value> = arguments.iter().map(|argument| Value::string(*argument)).collect();
        call_in(name, &arguments, &context)
    };
    assert_eq!(call("file", &["a.txt"]), Ok(Value::string("kiln")));
    assert_eq!(call("filebase64", &["templates/a.txt"]), Ok(Value::string("a2lsbg==")));
    assert_eq!(call("filebase64", &["beside"]), Ok(Value::string("eA==")));
    assert_eq!(call("fileexists", &["a.txt"]), Ok(Value::bool(true)));
    assert_eq!(call("fileexists", &["beside"]), Ok(Value::bool(false)));
    assert_eq!(call("fileexists", &["a.txt/x"]), Ok(Value::bool(false)));
    assert!(call("fileexists", &["sub"]).unwrap_err().message.ends_with("is a directory, not a file"));
    assert!(call("file", &["binary"]).unwrap_err().message.contains("is not UTF-8 text"));
    assert!(call("file", &["sub"]).unwrap_err().message.contains("is a directory"));
    let found = |path: &str, pattern: &str| one_line(&call("fileset", &[path, pattern]).unwrap());
    assert_eq!(found(".", "*.txt"), r#"["a.txt"]"#);
    assert_eq!(found(".", "**/*.txt"), r#"[".hidden/d.txt", "a.txt", "sub/b.txt"]"#);
    assert_eq!(found("sub", "**"), r#"["b.txt", "deep/c.sh"]"#);
    assert_eq!(found(".", "sub/{b,x}.*"), r#"["sub/b.txt"]"#);
    assert_eq!(found("sub", "../a.*"), r#"["a.txt"]"#);
    assert_eq!(found("nope", "*"), "[]");
    assert_eq!(call("fileset", &[".", "["]).unwrap_err().argument, Some(1));
}

#[test]
fn env_is_for_defaults_only() {
    gives(&[("env", r#"["KILN_SURELY_NOT_SET"]"#, r#""""#)]);
    let elsewhere = FunctionContext { allow_env: false, ..context() };
    let error = call_in("env", &[Value::string("HOME")], &elsewhere).unwrap_err();
    assert!(error.message.contains("only allowed in the default of a variable"), "{}", error.message);
}
