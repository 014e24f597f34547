//! Pages that people write, with tables that the code makes: what stands between `<!-- generated: KEY -->` and `<!-- end -->` is
//! made anew from the schemas.

use std::fmt::Write;

use kiln_core::{Field, Kinds, Schema};
use kiln_language::functions::{self, Function};
use kiln_template::grammar;

use super::{cell, check, is_without_effect, root, table};

const OPEN: &str = "<!-- generated: ";
const CLOSE: &str = "<!-- end -->";

fn kinds() -> Kinds {
    crate::kinds::offline(&crate::settings::Settings::for_tests()).unwrap()
}

/// Makes all regions of a page anew and gives the keys found.
fn remake(page: &str, kinds: &Kinds) -> Vec<String> {
    let path = root().join("docs/reference").join(page);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut result = String::new();
    let mut rest = text.as_str();
    let mut keys = Vec::new();
    while let Some((before, after)) = rest.split_once(OPEN) {
        let (key, after) = after.split_once(" -->").unwrap_or_else(|| panic!("{page}: a region without ` -->`"));
        let (_, after) =
            after.split_once(CLOSE).unwrap_or_else(|| panic!("{page}: the region `{key}` has no `{CLOSE}`"));
        let content = content(key, kinds).unwrap_or_else(|| panic!("{page}: there is nothing for the region `{key}`"));
        write!(result, "{before}{OPEN}{key} -->\n{}\n{CLOSE}", content.trim_end()).unwrap();
        keys.push(key.to_owned());
        rest = after;
    }
    result.push_str(rest);
    check(page, &result);
    keys
}

/// What belongs into a region.
fn content(key: &str, kinds: &Kinds) -> Option<String> {
    match key.split_once(' ') {
        Some(("builder", kind)) => Some(component(kinds.builder(kind)?.schema())),
        Some(("provisioner", kind)) => Some(component(kinds.provisioner(kind)?.schema())),
        Some(("post-processor", kind)) => Some(component(kinds.post_processor(kind)?.schema())),
        None if key == "blocks" => Some(template_blocks()),
        None if key == "functions" => Some(function_table()),
        None if key == "provisioner-meta" => Some(rows(&grammar::PROVISIONER)),
        None if key == "post-processor-meta" => Some(rows(&grammar::POST_PROCESSOR)),
        _ => None,
    }
}

/// Its example and its table, nested blocks behind.
fn component(schema: &Schema) -> String {
    let mut text = format!("```hcl\n{}\n```\n\n", schema.example);
    table(&mut text, schema);
    for field in schema.fields.iter().filter(|field| !is_without_effect(field)) {
        if let Some(inner) = field.kind.block() {
            write!(text, "\n`{}`: {}\n\n", field.name, field.doc).unwrap();
            table(&mut text, inner);
        }
    }
    text
}

fn rows(schema: &Schema) -> String {
    let mut text = String::new();
    table(&mut text, schema);
    text
}

fn template_blocks() -> String {
    let mut text = String::new();
    for schema in grammar::BLOCKS {
        let title = match schema.title {
            "a `source` block in a build" => "`source` in `build`".to_owned(),
            _ => format!("`{}`", schema.kind),
        };
        write!(text, "## {title}\n\n{}\n\n```hcl\n{}\n```\n\n", schema.doc, schema.example).unwrap();
        let (nested, arguments): (Vec<&Field>, Vec<&Field>) =
            schema.fields.iter().partition(|field| field.kind.block().is_some());
        if !arguments.is_empty() {
            table(&mut text, &Schema { fields: &[], ..*schema });
            for field in arguments {
                text.push_str(&super::row(field));
            }
            text.push('\n');
        }
        if !nested.is_empty() {
            let names: Vec<String> = nested.iter().map(|field| format!("`{}`", field.name)).collect();
            write!(text, "Blocks: {}.\n\n", names.join(", ")).unwrap();
        }
    }
    text
}

/// What the evaluator does itself, since it takes expressions or types.
const OF_THE_EVALUATOR: [(&str, &str, &str, &str); 5] = [
    ("can", "can(expression) -> bool", "Whether the expression can be evaluated.", "can(local.missing) = false"),
    (
        "convert",
        "convert(value: any, type)",
        "The value as a type: one of those that a variable's `type` may be.",
        "convert(\"5\", number) = 5",
    ),
    (
        "templatefile",
        "templatefile(path: string, vars: any) -> string",
        "The text of a file, with `${...}` and `%{...}` in it evaluated; `vars` is what it knows.",
        "templatefile(\"motd.tpl\", { name = \"worker\" })",
    ),
    (
        "templatestring",
        "templatestring(text: string, vars: any) -> string",
        "As `templatefile`, from a text. Beyond Packer.",
        "templatestring(\"for $${name}\", { name = \"worker\" }) = \"for worker\"",
    ),
    (
        "try",
        "try(expression ...) -> any",
        "The value of the first expression that can be evaluated.",
        "try(local.missing, \"none\") = \"none\"",
    ),
];

fn function_table() -> String {
    let mut rows: Vec<(String, String)> = functions::functions()
        .map(|function| {
            let (expression, result) = function.example;
            let example = if result.is_empty() { expression.to_owned() } else { format!("{expression} = {result}") };
            (function.name.to_owned(), row(&signature(function), function.doc, &example))
        })
        .collect();
    rows.extend(
        OF_THE_EVALUATOR
            .iter()
            .map(|(name, signature, doc, example)| ((*name).to_owned(), row(signature, doc, example))),
    );
    rows.sort();
    let names: Vec<&str> = rows.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, functions::function_names(), "every function has one row");
    let rows: String = rows.into_iter().map(|(_, row)| row).collect();
    format!("| function | | example |\n|---|---|---|\n{rows}")
}

fn row(signature: &str, doc: &str, example: &str) -> String {
    // Two back quotes where the text itself holds one.
    let code = |text: &str| if text.contains('`') { format!("`` {text} ``") } else { format!("`{text}`") };
    format!("| {} | {} | {} |\n", cell(&code(signature)), cell(doc), cell(&code(example)))
}

fn signature(function: &Function) -> String {
    let mut parameters: Vec<String> =
        function.parameters.iter().map(|parameter| format!("{}: {}", parameter.name, parameter.kind)).collect();
    if let Some(last) = &function.variadic {
        parameters.push(format!("{}: {} ...", last.name, last.kind));
    }
    format!("{}({}) -> {}", function.name, parameters.join(", "), function.result)
}

#[test]
fn every_block_and_function_is_documented() {
    let kinds = kinds();
    assert_eq!(remake("blocks.md", &kinds), ["blocks"]);
    assert_eq!(remake("functions.md", &kinds), ["functions"]);
}

#[test]
fn every_kind_is_documented() {
    let kinds = kinds();
    let expected = |sort: &str, names: Vec<&str>| -> Vec<String> {
        let mut expected: Vec<String> = names.iter().map(|name| format!("{sort} {name}")).collect();
        expected.push(format!("{sort}-meta"));
        expected.sort();
        expected
    };
    let mut found = remake("provisioners.md", &kinds);
    found.sort();
    assert_eq!(found, expected("provisioner", kinds.provisioner_names()));
    let mut found = remake("post-processors.md", &kinds);
    found.sort();
    assert_eq!(found, expected("post-processor", kinds.post_processor_names()));
}

/// Every example is HCL, and for components it fits the schema.
#[test]
fn every_example_is_right() {
    let kinds = kinds();
    let mut wrong = Vec::new();
    let examples = grammar::BLOCKS.iter().map(|schema| schema.example);
    for example in examples {
        let mut diagnostics = kiln_core::Diagnostics::new();
        let mut sources = kiln_core::SourceMap::new();
        let source = sources.add("example", None, example);
        kiln_language::syntax::parse_body(source, example, &mut diagnostics);
        wrong.extend(diagnostics.items.iter().map(|item| format!("{}\n{example}", item.title)));
    }
    let builders = kinds.builder_names().into_iter().map(|name| kinds.builder(name).unwrap().schema());
    let steps = kinds.provisioner_names().into_iter().map(|name| kinds.provisioner(name).unwrap().schema());
    let chains = kinds.post_processor_names().into_iter().map(|name| kinds.post_processor(name).unwrap().schema());
    for (sort, schema) in builders
        .map(|schema| ("source", schema))
        .chain(steps.map(|schema| ("", schema)))
        .chain(chains.map(|schema| ("", schema)))
    {
        wrong.extend(mistakes(sort, schema, &kinds));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// Checks a component's example as a part of a whole template.
fn mistakes(sort: &str, schema: &Schema, kinds: &Kinds) -> Vec<String> {
    let template = match sort {
        "source" => format!(
            "{}\nsource \"docker\" \"base\" {{\n  image = \"x\"\n  commit = true\n}}\nbuild {{ sources = [\"{}.worker\", \"docker.base\"] }}\n",
            schema.example, schema.kind
        ),
        _ => format!(
            "source \"docker\" \"worker\" {{\n  image = \"x\"\n  commit = true\n}}\nvariable \"release\" {{ default = \"x\" }}\nbuild {{\n  sources = [\"docker.worker\"]\n{}\n}}\n",
            schema.example
        ),
    };
    let mut options = kiln_template::LoadOptions::new("-", "/");
    options.stdin = Some(template);
    options.config_type = Some(kiln_template::ConfigType::Hcl2);
    let mut loaded = kiln_template::load(&options);
    if let Some(plan) = loaded.plan.as_ref().or(loaded.partial.as_ref()) {
        loaded.diagnostics.extend(kiln_engine::prepare(plan, kinds, &kiln_engine::PrepareOptions::default()).1);
    }
    // Files that an example names are not here.
    let is_told = |item: &&kiln_core::Diagnostic| {
        item.is_error() && !item.title.contains("no such file") && !item.code.contains("file")
    };
    loaded
        .diagnostics
        .items
        .iter()
        .filter(is_told)
        .map(|item| format!("{}: [{}] {}", schema.title, item.code, item.title))
        .collect()
}
