//! The reference pages that are made of what the code says. The tests compare them; `KILN_UPDATE_DOCS=1 cargo test -p kiln
//! --bin kiln reference` writes them anew.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::fmt::Write;
use std::path::{Path, PathBuf};

use kiln_core::{Field, FieldType, Schema};

use crate::args;

mod data_sources;
mod machines;
mod regions;
mod variables;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Compares a page with what it should be, or writes it.
#[track_caller]
fn check(name: &str, expected: &str) {
    let expected = &expected.replace("|  |", "| |");
    let path = root().join("docs/reference").join(name);
    if std::env::var_os("KILN_UPDATE_DOCS").is_some_and(|value| value == "1") {
        std::fs::write(&path, expected).unwrap();
        return;
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    if let Some((number, (found, expected))) = found
        .lines()
        .chain(std::iter::repeat("<end>"))
        .zip(expected.lines().chain(["<end>"]))
        .enumerate()
        .find(|(_, (found, expected))| found != expected)
    {
        panic!(
            "docs/reference/{name}:{} is `{found}` and should be `{expected}`; run\n  KILN_UPDATE_DOCS=1 cargo test -p kiln \
             --bin kiln reference",
            number + 1
        );
    }
}

/// A cell of a table: a bar would end it.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

#[test]
fn the_command_line_is_documented() {
    let mut definition = args::definition();
    definition.build();
    let mut page = String::from(
        "# Command line\n\nOptions may be written with one dash or two, with their value behind `=` or as the next word, \
         before or after the\ntemplate. Those that take `BOOL` may stand alone, which means `true`; the value needs the \
         `=`. `true`, `t` and `1` are\nthe same, as are `false`, `f` and `0`. Packer's options that have nothing to do in \
         kiln (`-use-sequential-evaluation`,\n`-ignore-prerelease-plugins`, `-skip-enforcement`, \
         `-upgrade`) are accepted.\n\nStandard output carries data only (`inspect`, `plan`, `cache ls`, `cache explain`, `version`, `completions`, \
         `--json`,\n`-machine-readable`); all else goes to standard error. [Exit codes](exit-codes.md), \
         [environment](environment.md), [events of `--json`](events.md).\n",
    );
    page.push_str("\n## All commands\n\n");
    options(&mut page, definition.get_arguments().filter(|argument| argument.is_global_set()));
    let is_shown = |command: &&clap::Command| command.get_name() != "help" && !command.is_hide_set();
    let mut commands: Vec<(String, &clap::Command)> = Vec::new();
    for command in definition.get_subcommands().filter(is_shown) {
        let inner = command.get_subcommands().filter(is_shown);
        let name = command.get_name();
        let inner: Vec<_> = inner.map(|inner| (format!("{name} {}", inner.get_name()), inner)).collect();
        // One that only leads to others has nothing of its own to tell.
        if inner.is_empty() { commands.push((name.to_owned(), command)) } else { commands.extend(inner) }
    }
    for (name, command) in commands {
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        writeln!(page, "\n## `kiln {name}`\n\n{about}.\n").unwrap();
        let usage = command.clone().render_usage().to_string();
        writeln!(page, "```text\n{}\n```\n", usage.trim_start_matches("Usage: ")).unwrap();
        let own = command.get_arguments().filter(|argument| !argument.is_global_set() && argument.get_id() != "help");
        options(&mut page, own);
    }
    check("cli.md", &page);
}

fn options<'a>(page: &mut String, arguments: impl Iterator<Item = &'a clap::Arg>) {
    let arguments: Vec<_> = arguments.filter(|argument| !argument.is_hide_set()).collect();
    if arguments.is_empty() {
        page.push_str("No options of its own.\n");
        return;
    }
    page.push_str("| option | default | |\n|---|---|---|\n");
    for argument in arguments {
        let value = argument
            .get_value_names()
            .map(|names| names.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
            .filter(|_| argument.get_action().takes_values() || argument.is_require_equals_set());
        let option = match (argument.get_long(), value) {
            (None, Some(value)) => value,
            (Some(long), Some(value)) if argument.is_require_equals_set() => format!("-{long}[={value}]"),
            (Some(long), Some(value)) => format!("-{long}={value}"),
            (long, None) => format!("-{}", long.unwrap_or_default()),
        };
        let defaults = argument.get_default_values().iter().filter(|_| !argument.is_hide_default_value_set());
        let default: Vec<String> = defaults.map(|text| format!("`{}`", text.to_string_lossy())).collect();
        let mut text = argument.get_help().map(ToString::to_string).unwrap_or_default();
        let choices: Vec<_> = argument
            .get_possible_values()
            .into_iter()
            .filter(|choice| choice.get_help().is_some() || argument.get_long() == Some("config-type"))
            .map(|choice| match choice.get_help() {
                Some(help) => format!("`{}`: {}", choice.get_name(), help.to_string().to_lowercase()),
                None => format!("`{}`", choice.get_name()),
            })
            .collect();
        if !choices.is_empty() {
            text.push_str(". ");
            text.push_str(&choices.join("; "));
        }
        let repeats = matches!(argument.get_action(), clap::ArgAction::Append);
        let again = if repeats { ". May be given several times" } else { "" };
        writeln!(page, "| `{option}` | {} | {}{again}. |", default.join(", "), cell(&text)).unwrap();
    }
}

#[test]
fn the_environment_is_documented() {
    let mut page = String::from(
        "# Environment\n\nEvery variable that kiln reads. One that is empty counts as not set, but for the values of a \
         template's variables.\nScripts on this host (`shell-local`) get the whole environment; containers get none of \
         it but what\n`run_command` passes on with `-e NAME`.\n",
    );
    for (title, variables) in variables::GROUPS {
        writeln!(page, "\n## {title}\n\n| variable | |\n|---|---|").unwrap();
        for (name, text) in *variables {
            writeln!(page, "| `{name}` | {} |", cell(text)).unwrap();
        }
    }
    check("environment.md", &page);
}

/// Looks for the ways in which the crates read variables: the table must not miss one.
#[test]
fn no_variable_is_missing_in_the_table() {
    let known: Vec<&str> =
        variables::GROUPS.iter().flat_map(|(_, variables)| variables.iter().map(|(name, _)| *name)).collect();
    let reads = regex::Regex::new(
        r#"(?:\bset|variable|environment\.get|var_os|vars?)\(\s*"([A-Z][A-Z0-9_]+)"|^\s+\("(CI_[A-Z_]+)", "([A-Za-z_-]+)", "(CI_[A-Z_]+)"\)"#,
    )
    .unwrap();
    let mut found = 0;
    let files = ["src", "builders", "provisioners"].iter().flat_map(|name| sources(&root().join(name)));
    // The sandbox sets variables of the machines in it; it reads none.
    for file in files.filter(|file| !file.starts_with(root().join("src/sandbox"))) {
        let text = std::fs::read_to_string(&file).unwrap();
        // What stands behind the tests of a file is not read by kiln.
        let code = text.split("#[cfg(test)]").next().unwrap();
        for captures in
            code.lines().filter(|line| !line.trim_start().starts_with("//")).flat_map(|line| reads.captures_iter(line))
        {
            for name in captures.iter().skip(1).flatten().map(|name| name.as_str()) {
                if name.chars().next().is_some_and(char::is_lowercase) || name.starts_with("KILN_TEST") {
                    continue;
                }
                found += 1;
                assert!(
                    known.contains(&name),
                    "{}: `{name}` is not in src/kiln/reference/variables.rs",
                    file.display()
                );
            }
        }
    }
    assert!(found >= 15, "only {found} places found: does the expression still fit the code?");
}

/// The sources of kiln below a directory, without tests.
fn sources(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && !matches!(name.as_str(), "tests" | "testkit" | "reference" | "examples") {
            found.extend(sources(&path));
        } else if name.ends_with(".rs") && !name.contains("test") && path != root().join(file!()) {
            found.push(path);
        }
    }
    found
}

const SECRETS_IN_IMAGES: &str = "
## Secrets

Whoever has an image can read its configuration and its history. `validate` and `build` warn where a sensitive value would
stand there: in `changes`, `message` and `author`, in `-e`, `--label` and the command of `run_command`, with `commit = true`;
likewise in the `changes` of [`docker-import`](post-processors.md#docker-import). Hand it to a step by `env` instead: that is
gone when the step ends. An exported root file system has no configuration, and `discard` leaves no image.
";

#[test]
fn the_docker_source_is_documented() {
    let settings = crate::settings::Settings::for_tests();
    let kinds = crate::kinds::offline(&settings).unwrap();
    let schema = kinds.builder("docker").unwrap().schema();
    let mut page = format!("# The `docker` source\n\n{}\n\n```hcl\n{}\n```\n\n", schema.doc, schema.example);
    page.push_str(
        "No `docker` program is needed: kiln speaks to the engine's API, at `DOCKER_HOST` or docker's usual socket. The \
         arguments are\nthose of Packer's plug-in, `network`, `kiln_labels` and the words for `pull`; what differs is said in \
         [compatibility](../compatibility.md). In legacy JSON they\nstand beside `\"type\": \"docker\"`.\n\n",
    );
    tables(&mut page, schema);
    page.push_str(SECRETS_IN_IMAGES);
    of_other_communicators(&mut page, schema);
    check("docker.md", &page);
}

#[test]
fn the_dockerfile_source_is_documented() {
    let settings = crate::settings::Settings::for_tests();
    let kinds = crate::kinds::offline(&settings).unwrap();
    let schema = kinds.builder("dockerfile").unwrap().schema();
    let mut page =
        format!("# The `dockerfile` source\n\n{}\n\n```hcl\n{}\n```\n\n", wrapped(schema.doc), schema.example);
    page.push_str(
        "Neither `docker` nor `buildx` is needed: kiln speaks to the engine's BuildKit at `DOCKER_HOST` or docker's usual \
         socket, or to the\ndaemon of `buildkitd`. How it is used, and what to expect where: the [guide to \
         Dockerfiles](../guide/dockerfiles.md).\n\n",
    );
    tables(&mut page, schema);
    check("dockerfile.md", &page);
}

#[test]
fn the_oci_source_is_documented() {
    let settings = crate::settings::Settings::for_tests();
    let kinds = crate::kinds::offline(&settings).unwrap();
    let schema = kinds.builder("oci").unwrap().schema();
    let mut page = format!("# The `oci` source\n\n{}\n\n```hcl\n{}\n```\n\n", wrapped(schema.doc), schema.example);
    page.push_str(
        "What the [`docker` source](docker.md) has too has the same name here, so that a build runs on both by changing \
         the kind;\n`-docker-as=oci`, or `KILN_DOCKER_AS=oci`, runs the `docker` sources of a template that way without a \
         change to it. Every\nstep's result is kept: see the [guide to the cache](../guide/cache.md).\n\n",
    );
    tables(&mut page, schema);
    of_other_communicators(&mut page, schema);
    check("oci.md", &page);
}

/// The arguments, and those of nested blocks.
fn tables(page: &mut String, schema: &Schema) {
    table(page, schema);
    blocks_of(page, schema, "##", "");
}

/// The tables of nested blocks, and of those nested in them.
fn blocks_of(page: &mut String, schema: &Schema, heading: &str, around: &str) {
    for field in schema.fields {
        if let Some(inner) = field.kind.block() {
            write!(page, "\n{heading} `{}`{around}\n\n{}\n\n", field.name, field.doc).unwrap();
            table(page, inner);
            blocks_of(page, inner, &format!("{heading}#"), &format!(" in `{}`", field.name));
        }
    }
}

fn of_other_communicators(page: &mut String, schema: &Schema) {
    let fields = schema.fields.iter().filter(|field| is_without_effect(field));
    let names: Vec<String> = fields.map(|field| format!("`{}`", field.name)).collect();
    if names.is_empty() {
        return;
    }
    page.push_str(
        "\n## Of other communicators\n\nAccepted for templates that serve several sources; without effect here:\n",
    );
    page.push_str(&wrapped(&names.join(", ")));
    page.push_str(".\n");
}

/// Arguments of other communicators share one sentence and need no row each.
fn is_without_effect(field: &Field) -> bool {
    matches!(field.kind, FieldType::Any) && field.doc.starts_with("Accepted for templates that serve several sources")
}

fn table(page: &mut String, schema: &Schema) {
    page.push_str("| argument | type | default | |\n|---|---|---|---|\n");
    for field in schema.fields.iter().filter(|field| !is_without_effect(field)) {
        page.push_str(&row(field));
    }
}

/// One argument's line.
fn row(field: &Field) -> String {
    let default = match (field.required, field.default) {
        (true, _) => "required".to_owned(),
        (false, Some(text)) => format!("`{text}`"),
        (false, None) => String::new(),
    };
    let doc = match field.deprecated {
        Some(instead) => format!("{} Out of date: {instead}.", field.doc),
        None => field.doc.to_owned(),
    };
    format!("| `{}` | {} | {} | {} |\n", field.name, cell(&field.kind.name()), cell(&default), cell(&doc))
}

/// Breaks a text into lines of at most 120 columns.
fn wrapped(text: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.last_mut().unwrap();
        if last.is_empty() {
            last.push_str(word);
        } else if last.len() + 1 + word.len() <= 120 {
            last.push(' ');
            last.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines.join("\n")
}
