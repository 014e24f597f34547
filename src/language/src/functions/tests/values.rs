//! Texts, numbers, lists, maps.

use super::*;

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
        ("coalesce", r#"[null, 1, "a"]"#, "1"),
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
        ("merge", r#"[{"a": 1, "b": 2}, null, {"b": "x", "c": null}]"#, r#"{ a = 1, b = "x", c = null }"#),
        ("merge", r#"[{"a": {"x": 1}}, {"a": {"y": 2}}]"#, "{ a = { y = 2 } }"),
        ("merge", "[]", "null"),
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
