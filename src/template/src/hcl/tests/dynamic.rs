//! The form of `dynamic` blocks: Packer refuses what is wrong in it also where `for_each` is empty.

use super::Fixture;

fn with_dynamic(body: &str) -> String {
    format!(
        "source \"docker\" \"base\" {{\n  image  = \"debian:12\"\n  commit = true\n}}\n\
         build {{\n  sources = [\"docker.base\"]\n{body}}}\n"
    )
}

#[track_caller]
fn snapshot(name: &str, body: &str) {
    insta::assert_snapshot!(name, Fixture::file(&with_dynamic(body)).report());
}

#[test]
fn labels_are_checked_before_anything_is_made() {
    snapshot(
        "no_label_for_a_provisioner",
        "  dynamic \"provisioner\" {\n    for_each = []\n    content {\n    }\n  }\n",
    );
    snapshot("no_label_for_a_source", "  dynamic \"source\" {\n    for_each = [1]\n    content {\n    }\n  }\n");
    snapshot(
        "two_labels_for_a_post_processor",
        "  dynamic \"post-processor\" {\n    for_each = []\n    labels   = [\"manifest\", \"b\"]\n    content {\n    }\n  }\n",
    );
    snapshot(
        "a_label_for_a_chain",
        "  dynamic \"post-processors\" {\n    for_each = []\n    labels   = [\"manifest\"]\n    content {\n    }\n  }\n",
    );
}

#[test]
fn there_is_one_content() {
    snapshot(
        "two_contents",
        "  dynamic \"provisioner\" {\n    for_each = []\n    labels   = [\"shell\"]\n    content {\n    }\n    content {\n    }\n  }\n",
    );
}

#[test]
fn chains_may_be_dynamic_and_hold_dynamic_ones() {
    let text = with_dynamic(
        "  dynamic \"post-processors\" {\n    for_each = [\"x\"]\n    content {\n      dynamic \"post-processor\" {\n        \
         for_each = [\"sha256\"]\n        labels   = [\"checksum\"]\n        content {\n          \
         output = \"${post-processors.value}.${post-processor.value}\"\n        }\n      }\n    }\n  }\n",
    );
    assert_eq!(Fixture::file(&text).report(), "");
}
