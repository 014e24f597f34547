//! `docs/reference/post-processors.md` says what the schemas say.

use std::sync::Arc;

use kiln_core::{Kinds, Schema};
use kiln_docker::fake::FakeEngine;
use kiln_registry::CredentialSources;

use crate::PublishSettings;
use crate::test_support::provider;

fn kinds() -> Kinds {
    let mut kinds = Kinds::new();
    let engine = provider(&Arc::new(FakeEngine::new()));
    crate::register(&mut kinds, PublishSettings { engine, credentials: CredentialSources::default(), store: None });
    kinds
}

/// A kind's table, as it stands in the reference.
fn table(schema: &Schema) -> String {
    let mut table = "| argument | type | default | |\n|---|---|---|---|\n".to_owned();
    for field in schema.fields {
        let default = match (field.required, field.default) {
            (true, _) => " required".to_owned(),
            (false, Some(text)) => format!(" `{text}`"),
            (false, None) => String::new(),
        };
        let doc = match field.deprecated {
            Some(instead) => format!("{} Out of date: {instead}.", field.doc),
            None => field.doc.to_owned(),
        };
        // A bar inside a cell would end it.
        let kind = field.kind.name().replace('|', "\\|");
        table.push_str(&format!("| `{}` | {kind} |{default} | {doc} |\n", field.name));
    }
    table
}

#[test]
fn the_reference_has_every_kind_with_its_table_and_example() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/post-processors.md");
    let text = std::fs::read_to_string(path).unwrap();
    let kinds = kinds();
    for name in kinds.post_processor_names() {
        let schema = kinds.post_processor(name).unwrap().schema();
        let start = text.find(&format!("\n## `{name}`\n")).unwrap_or_else(|| panic!("`{name}` is not there"));
        let rest = &text[start + 1..];
        let section = &rest[..rest.find("\n## ").unwrap_or(rest.len())];
        let table = table(schema);
        // Its table stands with the provisioner, and is not ours.
        let has_table = section.contains(&table) || name == "shell-local";
        assert!(has_table, "the table of `{name}` must be\n\n{table}");
        let example = format!("```hcl\n{}\n```", schema.example);
        assert!(section.contains(&example), "the example of `{name}` must be\n\n{example}");
        assert!(section.contains(schema.doc), "the text of `{name}` must hold\n\n{}", schema.doc);
    }
}

#[test]
fn everything_is_registered() {
    let kinds = kinds();
    let expected = [
        "artifice",
        "checksum",
        "compress",
        "docker-import",
        "docker-load",
        "docker-push",
        "docker-save",
        "docker-tag",
        "manifest",
        "shell-local",
    ];
    assert_eq!(kinds.post_processor_names(), expected);
    assert!(kinds.undoer("file.temp").is_some());
}

#[test]
#[ignore = "prints the tables for whoever edits the reference"]
#[expect(clippy::print_stdout, reason = "that is what it is for")]
fn print_tables() {
    let kinds = kinds();
    for name in kinds.post_processor_names() {
        let schema = kinds.post_processor(name).unwrap().schema();
        println!("## `{name}`\n\n{}\n\n```hcl\n{}\n```\n\n{}", schema.doc, schema.example, table(schema));
    }
}
