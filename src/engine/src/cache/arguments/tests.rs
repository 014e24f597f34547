use super::*;

#[test]
fn the_words_of_actions_are_functions_and_keywords() {
    for (text, expected) in [
        ("chmod +x {{.Path}}; {{.Vars}} {{ .Path }}", vec![]),
        ("{{if .Vars}}{{.Vars}}{{end}}", vec!["if", "end"]),
        ("{{ build `ID` }} {{user \"name of build\"}}", vec!["build", "user"]),
        ("{{ $x.y.z | lower }}{{- timestamp -}}", vec!["lower", "timestamp"]),
        ("{{ isotime \"2006", vec!["isotime"]),
        ("{{ .Vars }} {{", vec![]),
        ("{{ 'ä' }}{{.}}{{$}}", vec![]),
    ] {
        assert_eq!(words(text), expected, "{text}");
    }
}

static SCHEMA: Schema = Schema { kind: "x", title: "", doc: "", fields: &[], example: "" };

fn node(value: Value) -> Node {
    Node::new(value, kiln_core::Span::new(kiln_core::SourceId(0), 0..0))
}

fn digests(arguments: Vec<(&str, Value)>) -> Vec<(String, String)> {
    let span = node(Value::Null).span;
    let mut body = Body::empty(span, false);
    for (name, value) in arguments {
        body.attributes.insert(name.into(), kiln_core::config::Attribute { name_span: span, node: node(value) });
    }
    let memory: Arc<dyn PlanMemory> = Arc::new(kiln_testkit::MemoryPlans::new());
    let around = Surroundings {
        memory: &memory,
        redactor: &Redactor::new(),
        secrets: &[],
        are_secret: false,
        text_scope: &TextScope::default(),
        build_name: "w",
    };
    let read = read(&body, &SCHEMA, &["skipped"], &around).unwrap();
    read.inputs.into_iter().map(|input| (input.name, input.digest)).collect()
}

fn map(entries: &[(&str, &str)]) -> Value {
    Value::Map(entries.iter().map(|(name, value)| ((*name).to_owned(), node(Value::String((*value).into())))).collect())
}

fn list(items: &[&str]) -> Value {
    Value::List(items.iter().map(|item| node(Value::String((*item).into()))).collect())
}

#[test]
fn what_is_null_or_skipped_is_not_there() {
    assert!(digests(vec![("a", Value::Null), ("skipped", Value::Bool(true))]).is_empty());
}

#[test]
fn the_order_of_arguments_does_not_matter() {
    let (one, two) = (("a", Value::Bool(true)), ("b", list(&["x"])));
    assert_eq!(digests(vec![one.clone(), two.clone()]), digests(vec![two, one]));
}

#[test]
fn the_order_of_a_map_does_not_matter() {
    assert_eq!(
        digests(vec![("env", map(&[("a", "1"), ("b", "2")]))]),
        digests(vec![("env", map(&[("b", "2"), ("a", "1")]))])
    );
}

#[test]
fn values_that_differ_have_digests_that_differ() {
    let values = [
        Value::Bool(true),
        Value::Bool(false),
        Value::Number("1".into()),
        Value::String("1".into()),
        Value::String("true".into()),
        Value::String(String::new()),
        list(&[]),
        list(&["a", "b"]),
        list(&["b", "a"]),
        list(&["ab"]),
        list(&["a", "b", ""]),
        Value::List(vec![node(list(&["a"])), node(list(&["b"]))]),
        map(&[]),
        map(&[("a", "b")]),
        map(&[("a", ""), ("b", "")]),
        map(&[("ab", "")]),
    ];
    let count = values.len();
    let different: std::collections::BTreeSet<_> =
        values.into_iter().map(|value| digests(vec![("a", value)]).remove(0).1).collect();
    assert_eq!(different.len(), count);
}

#[test]
fn short_values_are_shown() {
    for (value, expected) in [
        (Value::Bool(true), Some("true")),
        (Value::Number("10".into()), Some("10")),
        (Value::String("bookworm".into()), Some("\"bookworm\"")),
        (Value::String("a\nb".into()), None),
        (Value::String("x".repeat(41)), None),
        (list(&["a"]), None),
    ] {
        assert_eq!(shown(&value).as_deref(), expected);
    }
}
