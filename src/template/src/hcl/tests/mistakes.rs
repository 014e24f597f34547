//! What is said of mistakes: place, words, suggestion.

use super::Fixture;

/// Loads a text and compares what is said with the snapshot `name`.
fn mistake(name: &str, text: &str) {
    insta::assert_snapshot!(name, Fixture::file(text.trim_start()).report());
}

const BUILD: &str = r#"
source "docker" "base" {
  image = "debian"
}
build {
  sources = ["source.docker.base"]
}
"#;

#[test]
fn blocks_and_labels() {
    mistake("unknown_top_level_block", &format!("sorce \"docker\" \"x\" {{\n}}\n{}", BUILD.trim()));
    mistake("unrelated_top_level_block", &format!("banana {{\n}}\n{}", BUILD.trim()));
    mistake("argument_outside_of_blocks", &format!("region = \"eu\"\n{}", BUILD.trim()));
    mistake("block_written_as_argument", &format!("locals = {{ a = 1 }}\n{}", BUILD.trim()));
    mistake("missing_label", "source \"docker\" {\n}\nbuild {\n  sources = []\n}\nvariable {\n}\n");
    mistake("extra_label", "build \"images\" {\n}\nvariable \"a\" \"b\" {\n}\n");
    mistake("unknown_block_in_build", "build {\n  sources = []\n  provisoner \"shell\" {\n  }\n}\n");
    mistake("unknown_argument_in_build", "build {\n  source = [\"docker.x\"]\n  nmae = \"x\"\n  sources = []\n}\n");
    mistake("sources_as_block", "build {\n  sources {\n  }\n}\n");
    mistake("build_without_sources", "build {\n  name = \"x\"\n}\n");
    mistake("provisioner_without_type", &BUILD.replace("\"]\n", "\"]\n  provisioner {\n    inline = []\n  }\n"));
    mistake("registry_is_ignored", &format!("hcp_packer_registry {{\n}}\n{}", BUILD.trim()));
}

#[test]
fn declared_twice() {
    mistake("duplicate_source", &format!("{}source \"docker\" \"base\" {{\n}}\n", BUILD.trim_start()));
    mistake(
        "duplicate_variable_and_local",
        &format!(
            "variable \"a\" {{\n  default = 1\n}}\nvariables {{\n  a = 2\n}}\nlocals {{\n  l = 1\n}}\nlocal \"l\" \
             {{\n  expression = 2\n}}\n{}",
            BUILD.trim()
        ),
    );
    let standalone = format!("variable \"a\" {{\n  default = 1\n}}\n{}", BUILD.trim());
    let files = Fixture::directory(&[("a.pkr.hcl", standalone.as_str()), ("b.pkr.hcl", standalone.as_str())]);
    insta::assert_snapshot!("duplicates_between_files", files.report());
    mistake("duplicate_argument", &BUILD.replace("  sources", "  name = \"a\"\n  name = \"b\"\n  sources"));
    mistake("duplicate_build", &BUILD.replace("base\"]", "base\", \"docker.base\"]"));
}

#[test]
fn sources() {
    mistake("undeclared_source", &BUILD.replace(".base\"]", ".bse\", \"docker.base\"]"));
    mistake(
        "undeclared_source_block",
        &BUILD.replace("sources = [\"source.docker.base\"]", "source \"source.docker.vase\" {\n  }"),
    );
    mistake("malformed_source", &BUILD.replace("source.docker.base", "base"));
    mistake("unquoted_source", &BUILD.replace("\"source.docker.base\"", "source.docker.base"));
    mistake("no_source_declared", "build {\n  sources = [\"source.docker.x\"]\n}\n");
    mistake(
        "source_argument_twice",
        &BUILD.replace(
            "sources = [\"source.docker.base\"]",
            "source \"docker.base\" {\n    name  = \"b\"\n    image = \"ubuntu\"\n  }",
        ),
    );
    mistake("machine_value_in_local", &format!("locals {{\n  a = source.name\n}}\n{}", BUILD.trim()));
}

#[test]
fn variables() {
    mistake(
        "unset_variables",
        &format!("variable \"release\" {{}}\nvariable \"token\" {{\n  sensitive = true\n}}\n{}", BUILD.trim()),
    );
    mistake(
        "unknown_argument_in_variable",
        &format!("variable \"a\" {{\n  defautl = 1\n  default = 2\n}}\n{}", BUILD.trim()),
    );
    mistake(
        "default_does_not_fit",
        &format!("variable \"a\" {{\n  type    = number\n  default = \"ten\"\n}}\n{}", BUILD.trim()),
    );
    mistake("default_refers", &format!("variable \"a\" {{\n  default = \"${{var.b}}-x\"\n}}\n{}", BUILD.trim()));
    mistake(
        "undeclared_reference",
        &format!(
            "variable \"release\" {{\n  default = 1\n}}\nlocals {{\n  a = var.relase\n  b = local.c\n}}\n{}",
            BUILD.trim()
        ),
    );
    let validated = |message: &str| {
        format!(
            "variable \"region\" {{\n  default = \"mars\"\n  validation {{\n    condition     = substr(var.region, 0, \
             3) == \"eu-\"\n    error_message = \"{message}\"\n  }}\n}}\n{}",
            BUILD.trim()
        )
    };
    mistake("validation_fails", &validated("The region must be in Europe."));
    mistake("validation_message_is_no_sentence", &validated("wrong region"));
    mistake(
        "validation_refers_elsewhere",
        &validated("The region must be in Europe.").replace("var.region, 0", "local.region, 0"),
    );
}

#[test]
fn values_from_outside() {
    let text = format!(
        "variable \"count\" {{\n  type    = number\n  default = 1\n}}\nvariable \"names\" {{\n  type    = \
         list(string)\n  default = []\n}}\n{}",
        BUILD.trim()
    );
    let fixture = || Fixture::file(&text);
    insta::assert_snapshot!("undeclared_var", fixture().var("cuont", "s3cret").report());
    insta::assert_snapshot!("var_does_not_fit", fixture().var("count", "ten").report());
    insta::assert_snapshot!("environment_does_not_fit", fixture().env("PKR_VAR_count", "ten").report());
    insta::assert_snapshot!("var_is_no_expression", fixture().var("names", "a,b").report());
    let mut with_file = fixture();
    with_file.write("a.pkrvars.hcl", "count = \"ten\"\nvariable \"x\" {}\nnmes = []\n");
    with_file.options.variable_files.push("a.pkrvars.hcl".into());
    with_file.options.warn_undeclared = true;
    insta::assert_snapshot!("mistakes_in_var_file", with_file.report());
    with_file.write("b.pkrvars.json", "{\n  \"count\": [1]\n}\n");
    with_file.write("c.json", "{ \"count\": 1,, }");
    with_file.write("d.txt", "count = 1");
    with_file.options.variable_files = vec!["b.pkrvars.json".into()];
    insta::assert_snapshot!("json_var_file_does_not_fit", with_file.report());
    with_file.options.variable_files = vec!["c.json".into(), "d.txt".into(), "missing.pkrvars.hcl".into()];
    insta::assert_snapshot!(
        "unreadable_var_files",
        with_file.report().replace(&with_file.options.working_dir.display().to_string(), "DIR")
    );
}

#[test]
fn a_secret_value_is_not_quoted() {
    let text = format!(
        "variable \"pin\" {{\n  type      = number\n  sensitive = true\n}}\nvariable \"keys\" {{\n  type      = \
         list(string)\n  sensitive = true\n}}\n{}",
        BUILD.trim()
    );
    let fixture = Fixture::file(&text).var("pin", "hunter2").env("PKR_VAR_keys", "[\"topsecret\", }");
    let report = fixture.report();
    assert!(!report.contains("hunter2") && !report.contains("topsecret"), "{report}");
    assert!(report.contains("<sensitive>") && report.contains("*********"), "{report}");
    let secrets = fixture.load().secrets;
    assert!(secrets.iter().any(|secret| secret == "hunter2"), "{secrets:?}");

    // The line of a default is quoted whether it fits or not, and whether it counts or not.
    let text = "variable \"pin\" {\n  type = number\n  default = \"hunter2\"\n  sensitive = true\n}\n";
    let fixture = Fixture::file(&format!("{text}{}", BUILD.trim()));
    for fixture in [Fixture::file(&format!("{text}{}", BUILD.trim())).var("pin", "1"), fixture] {
        let secrets = fixture.load().secrets;
        assert!(secrets.iter().any(|secret| secret == "hunter2"), "{secrets:?}");
    }
}

#[test]
fn locals() {
    mistake(
        "cycle",
        &format!(
            "locals {{\n  a = \"${{local.b}}-x\"\n  b = upper(local.c)\n  c = local.a\n  d = local.c\n}}\n{}",
            BUILD.trim()
        ),
    );
    mistake("self_reference", &format!("locals {{\n  a = local.a\n}}\n{}", BUILD.trim()));
    mistake("local_without_expression", &format!("local \"a\" {{\n  value = 1\n}}\n{}", BUILD.trim()));
    mistake("block_in_locals", &format!("locals {{\n  tags {{\n    a = 1\n  }}\n}}\n{}", BUILD.trim()));
    mistake(
        "data_source",
        &format!(
            "data \"htpp\" \"x\" {{\n  url = \"https://example.org\"\n}}\nlocals {{\n  a = data.htpp.x.body\n}}\n{}",
            BUILD.trim()
        ),
    );
}

#[test]
fn settings() {
    let packer = |body: &str| format!("packer {{\n{body}}}\n{}", BUILD.trim());
    mistake("version_mismatch", &packer("  required_version = \">= 1.7, < 1.10\"\n"));
    mistake("version_is_no_constraint", &packer("  required_version = \"latest\"\n"));
    mistake(
        "plugin_shapes",
        &packer(
            "  required_plugins {\n    docker = \">= 1.0\"\n    amazon = {\n      versoin = \"1\"\n      source  = \
             \"github.com/hashicorp/amazon\"\n    }\n    ansible {\n    }\n    vagrant = { version = \"~> 1\" }\n  }\n",
        ),
    );
    mistake("unknown_argument_in_packer", &packer("  require_version = \">= 1.7\"\n"));
}

fn with_steps(steps: &str) -> String {
    BUILD.replace("\"]\n", &format!("\"]\n{steps}"))
}

#[test]
fn steps() {
    mistake(
        "only_and_except",
        &with_steps("  provisioner \"shell\" {\n    only   = [\"docker.base\"]\n    except = [\"docker.base\"]\n  }\n"),
    );
    mistake(
        "unknown_source_in_only",
        &with_steps("  provisioner \"shell\" {\n    only = [\"docker.base\", \"docker.bse\"]\n  }\n"),
    );
    mistake(
        "wrong_durations",
        &with_steps(
            "  provisioner \"shell\" {\n    pause_before = \"10 seconds\"\n    timeout      = \"5\"\n    max_retries  = -1\n  }\n",
        ),
    );
    mistake(
        "wrong_types",
        &with_steps("  provisioner \"shell\" {\n    continue_on_error = \"yes\"\n    only = \"docker.base\"\n  }\n"),
    );
    mistake(
        "unknown_source_in_override",
        &with_steps("  provisioner \"shell\" {\n    override = {\n      bsae = { inline = [] }\n    }\n  }\n"),
    );
    mistake(
        "two_error_cleanups",
        &with_steps("  error-cleanup-provisioner \"shell\" {\n  }\n  error-cleanup-provisioner \"shell\" {\n  }\n"),
    );
    mistake(
        "provisioner_in_post_processors",
        &with_steps("  post-processors {\n    provisioner \"shell\" {\n    }\n  }\n"),
    );
    mistake("dynamic_without_content", &with_steps("  dynamic \"provisioner\" {\n    for_eahc = []\n  }\n"));
    mistake(
        "dynamic_over_a_string",
        &with_steps(
            "  dynamic \"provisioner\" {\n    for_each = \"a\"\n    labels   = [\"shell\"]\n    content {\n    }\n  }\n",
        ),
    );
    mistake(
        "dynamic_of_unknown_blocks",
        &with_steps("  dynamic \"provisoner\" {\n    for_each = []\n    content {\n    }\n  }\n"),
    );
    mistake(
        "dynamic_over_the_machine",
        &with_steps(
            "  dynamic \"provisioner\" {\n    for_each = [build.ID]\n    labels   = [\"shell\"]\n    content {\n    }\n  }\n",
        ),
    );
    mistake("only_depends_on_the_machine", &with_steps("  provisioner \"shell\" {\n    only = [build.ID]\n  }\n"));
}

#[test]
fn templates_that_are_not_there() {
    let mut fixture = Fixture::directory(&[("readme.txt", "")]);
    insta::assert_snapshot!("empty_directory", fixture.report());
    fixture.options.template = "missing.pkr.hcl".into();
    insta::assert_snapshot!("missing_file", fixture.report());
    insta::assert_snapshot!("no_builds", Fixture::file("variable \"a\" {\n  default = 1\n}\n").report());
}

#[test]
fn selections() {
    insta::assert_snapshot!("unmatched_only", Fixture::file(BUILD.trim_start()).only(&["images.*"]).report());
    insta::assert_snapshot!("unmatched_except", Fixture::file(BUILD.trim_start()).except(&["amazon*"]).report());
}

#[test]
fn json_syntax() {
    let json = |text: &str| Fixture::directory(&[("a.pkr.json", text)]).report();
    insta::assert_snapshot!("hcl_json_syntax", json("{\n  \"build\": {\n    \"sources\": [],,\n  }\n}\n"));
    insta::assert_snapshot!("hcl_json_labels", json("{\n  \"variable\": [1]\n}\n"));
    insta::assert_snapshot!(
        "hcl_json_shapes",
        json(
            "{\n  \"sorce\": {},\n  \"build\": {\n    \"sources\": [\"docker.x\"],\n    \
             \"name\": \"${var.nowhere}\",\n    \"description\": \"\\\"${local.nowhere}\\\"\"\n  }\n}\n"
        )
    );
}

#[test]
fn a_template_cut_anywhere_is_told_and_nothing_breaks() {
    let text = include_str!("whole.pkr.hcl");
    for end in (0..text.len()).filter(|end| text.is_char_boundary(*end)) {
        let fixture = Fixture::file(&text[..end]);
        let loaded = fixture.load();
        assert_eq!(loaded.plan.is_none(), loaded.diagnostics.has_errors(), "cut at {end}");
        for build in loaded.plan.iter().flat_map(|plan| &plan.builds) {
            super::body(&loaded, &build.source, &kiln_core::Facts::default());
        }
        super::report(&loaded, &loaded.diagnostics);
    }
}

/// Forty such lines would take all memory there is.
#[test]
fn locals_that_double_end_with_a_mistake() {
    for (steps, step) in [(30, "\"${local.aN}${local.aN}\""), (22, "[local.aN, local.aN]"), (300, "[local.aN]")] {
        let lines: String = (1..=steps)
            .map(|number| format!("  a{number} = {}\n", step.replace("aN", &format!("a{}", number - 1))))
            .collect();
        let loaded = Fixture::file(&format!("locals {{\n  a0 = \"x\"\n{lines}}}\n")).load();
        assert!(loaded.diagnostics.items.iter().any(|item| item.code == "too-large"), "{step}");
    }
}
