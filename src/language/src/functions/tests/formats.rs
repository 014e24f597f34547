//! `format`, JSON, YAML.

use super::*;
use crate::value::Data;

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
        ("format", r#"["%.5q", "hello world"]"#, r#""\"hello\"""#),
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
        ("jsondecode", r#"["1e99999"]"#, Some(0), "not valid JSON"),
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
