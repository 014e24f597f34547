//! Decoding by schema.

use indexmap::IndexMap;

use super::*;
use crate::config::{Attribute, Node, Value};
use crate::source::SourceId;

const BUILD: Schema = Schema {
    kind: "build",
    title: "a `build` block",
    doc: "",
    fields: &[Field::string("path", "the Dockerfile").required()],
    example: "",
};

const SCHEMA: Schema = Schema {
    kind: "docker",
    title: "a `docker` source",
    doc: "",
    fields: &[
        Field::string("image", "the base image").required(),
        Field::bool("commit", "keep the image"),
        Field::strings("changes", "Dockerfile instructions"),
        Field::map("volumes", "host to container"),
        Field::duration("timeout", "how long"),
        Field::new("network", FieldType::OneOf(&["host", "none", ""]), "what it sees"),
        Field::new("pull", FieldType::BoolOr(&["always", "missing"]), "when to pull"),
        Field::new("build", FieldType::Block(&BUILD), "build the base"),
    ],
    example: "",
};

fn span() -> Span {
    Span::new(SourceId(0), 0..1)
}

fn body(weak: bool, attributes: Vec<(&str, Value)>) -> Body {
    let attributes: IndexMap<String, Attribute> = attributes
        .into_iter()
        .map(|(name, value)| (name.to_owned(), Attribute { name_span: span(), node: Node::new(value, span()) }))
        .collect();
    Body { attributes, blocks: Vec::new(), span: span(), weak }
}

fn text(value: &str) -> Value {
    Value::String(value.to_owned())
}

fn titles(diagnostics: &Diagnostics) -> Vec<&str> {
    diagnostics.items.iter().map(|item| item.title.as_str()).collect()
}

#[test]
fn entries_that_are_null_are_left_out_and_the_others_keep_their_places() {
    let mut diagnostics = Diagnostics::new();
    let node = |value: Value, at: usize| Node::new(value, Span::new(SourceId(0), at..at + 1));
    let list = Value::List(vec![node(text("a"), 1), node(Value::Null, 2), node(text("b"), 3)]);
    let decoded = SCHEMA.decode(&body(false, vec![("image", text("x")), ("changes", list)]), &mut diagnostics);
    assert_eq!(titles(&diagnostics), Vec::<&str>::new());
    assert_eq!(decoded.values()["changes"], serde_json::json!(["a", "b"]));
    assert_eq!(decoded.span("changes[1]"), Span::new(SourceId(0), 3..4));
}

#[test]
fn json_is_weakly_typed() {
    let mut diagnostics = Diagnostics::new();
    let decoded = SCHEMA.decode(
        &body(
            true,
            vec![
                ("image", text("debian")),
                ("commit", text("true")),
                ("changes", text("USER a,ENV B c")),
                ("pull", Value::Bool(false)),
            ],
        ),
        &mut diagnostics,
    );
    assert!(diagnostics.is_empty(), "{diagnostics:?}");
    assert_eq!(
        Json::Object(decoded.values().clone()),
        serde_json::json!({ "image": "debian", "commit": true, "changes": ["USER a", "ENV B c"], "pull": "false" })
    );
}

#[test]
fn hcl_does_not_take_a_string_for_a_list() {
    let mut diagnostics = Diagnostics::new();
    SCHEMA.decode(&body(false, vec![("image", text("debian")), ("changes", text("USER a"))]), &mut diagnostics);
    assert_eq!(titles(&diagnostics), ["`changes` must be a list of strings, and this is a string"]);
}

#[test]
fn all_mistakes_are_told_at_once() {
    let mut diagnostics = Diagnostics::new();
    SCHEMA.decode(&body(false, vec![("comit", Value::Bool(true)), ("timeout", text("10 seconds"))]), &mut diagnostics);
    assert_eq!(
        titles(&diagnostics),
        [
            "a `docker` source has no argument `comit`",
            "`timeout`: `10 seconds` has an unknown unit; the units are `ns`, `us`, `ms`, `s`, `m` and `h`",
            "a `docker` source needs `image`"
        ]
    );
    assert_eq!(diagnostics.items[0].fix.as_ref().map(|fix| fix.replacement.as_str()), Some("commit"));
}

#[test]
fn an_unknown_value_is_neither_missing_nor_wrong() {
    let mut diagnostics = Diagnostics::new();
    let decoded = SCHEMA.decode(&body(false, vec![("image", Value::Unknown)]), &mut diagnostics);
    assert!(diagnostics.is_empty(), "{diagnostics:?}");
    assert!(decoded.is_unknown("image") && decoded.is_set("image"));
}

#[test]
fn json_objects_serve_as_blocks() {
    let mut diagnostics = Diagnostics::new();
    let path = IndexMap::from([("path".to_owned(), Node::new(text("Dockerfile"), span()))]);
    let decoded = SCHEMA.decode(&body(true, vec![("image", text("a")), ("build", Value::Map(path))]), &mut diagnostics);
    assert!(diagnostics.is_empty(), "{diagnostics:?}");
    assert_eq!(decoded.values()["build"], serde_json::json!({ "path": "Dockerfile" }));
}

/// A mistake in a field is one mistake: nothing is missing because of it.
#[test]
fn what_is_written_wrongly_is_not_missing() {
    let mut diagnostics = Diagnostics::new();
    let wrong = body(true, vec![("imag", text("debian")), ("changes", Value::Map(IndexMap::new()))]);
    let decoded = SCHEMA.decode(&wrong, &mut diagnostics);
    assert_eq!(
        titles(&diagnostics),
        ["a `docker` source has no argument `imag`", "`changes` must be a list of strings, and this is a map",]
    );
    assert!(decoded.is_unknown("image") && decoded.is_set("changes") && !decoded.is_set("commit"));
}

/// `image = artifact.base`.
#[test]
fn a_whole_artifact_where_one_value_is_meant_is_told_with_what_is_missing() {
    let mut diagnostics = Diagnostics::new();
    let whole = crate::ARTIFACT_VALUES.map(|(name, ..)| (name.to_owned(), Node::new(Value::Unknown, span())));
    let whole = Value::Map(IndexMap::from(whole));
    let decoded = SCHEMA.decode(&body(false, vec![("image", whole)]), &mut diagnostics);
    assert_eq!(titles(&diagnostics), ["`image` must be a string, and this is a whole artifact"]);
    let fix = diagnostics.items[0].fix.clone().unwrap();
    assert_eq!((fix.replacement.as_str(), fix.span.start, fix.span.end), (".image", span().end, span().end));
    assert!(decoded.is_unknown("image"));
}

#[test]
fn a_wrong_item_leaves_the_others_their_index() {
    let mut diagnostics = Diagnostics::new();
    let item = |value| Node::new(value, span());
    let items = vec![item(text("a")), item(Value::List(Vec::new())), item(text("c"))];
    let wrong = body(false, vec![("image", text("debian")), ("changes", Value::List(items))]);
    let decoded = SCHEMA.decode(&wrong, &mut diagnostics);
    assert_eq!(titles(&diagnostics), ["`changes[1]` must be a string, and this is a list"]);
    assert_eq!(decoded.values()["changes"], serde_json::json!(["a", "", "c"]));
    assert!(decoded.is_unknown("changes[1]"));
}

#[test]
fn what_was_meant_is_offered() {
    let offers = |weak, name: &'static str, value: Value| {
        let mut diagnostics = Diagnostics::new();
        SCHEMA.decode(&body(weak, vec![("image", text("debian")), (name, value)]), &mut diagnostics);
        let [found] = diagnostics.items.as_slice() else { panic!("{diagnostics:?}") };
        found.fix.as_ref().map(|fix| (fix.replacement.clone(), fix.edit))
    };
    use crate::diagnostic::Edit;
    assert_eq!(offers(false, "commit", text("yes")), Some(("true".to_owned(), Edit::Value)));
    assert_eq!(offers(true, "commit", text("flase")), Some(("false".to_owned(), Edit::Value)));
    assert_eq!(offers(false, "commit", text("maybe")), None);
    assert_eq!(offers(false, "timeout", text("1d")), Some(("\"24h\"".to_owned(), Edit::Value)));
    assert_eq!(offers(false, "changes", text("USER a")), Some(("[".to_owned(), Edit::Around("]"))));
    assert_eq!(offers(false, "volumes", Value::List(Vec::new())), None);
}

#[test]
fn what_counts_as_nothing_is_not_offered() {
    let mut diagnostics = Diagnostics::new();
    SCHEMA.decode(&body(false, vec![("image", text("a")), ("network", text("elsewhere"))]), &mut diagnostics);
    assert_eq!(diagnostics.items[0].help.as_deref(), Some("known: `host` and `none`"));
}

#[test]
fn what_is_wrong_in_its_form_is_set_all_the_same() {
    let mut diagnostics = Diagnostics::new();
    let map = Value::Map(IndexMap::new());
    let decoded = SCHEMA.decode(&body(false, vec![("image", text("a")), ("build", map)]), &mut diagnostics);
    assert_eq!(titles(&diagnostics), ["`build` is a block, not an argument"]);
    assert!(decoded.is_set("build"));
}

#[test]
fn tables_of_fields_are_joined() {
    const SHARED: &[Field] = &[Field::bool("pty", ""), Field::string("host", "").required()];
    const ALL: [Field; 1 + SHARED.len()] = Field::joined(&[&[Field::string("image", "")], SHARED]);
    assert_eq!(ALL.map(|field| field.name), ["image", "pty", "host"]);
    assert!(ALL[2].required);
}
