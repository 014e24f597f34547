//! Each template in `tests/fixtures/fix` and what Packer 1.6.6 makes of it. With `KILN_TEST_PACKER=1` and Packer 1.6.6
//! installed, the records themselves are checked against it.

use std::path::{Path, PathBuf};
use std::process::Command;

use kiln_core::render;

use super::{FIXERS, Fixed, fix, fixers};
use crate::load::{ConfigType, LoadOptions};

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/fix")
}

/// The templates, by name.
fn templates() -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(directory())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter_map(|name| name.strip_suffix(".json").map(str::to_owned))
        .collect();
    names.sort();
    names
}

fn fix_text(text: &str) -> Fixed {
    let mut options = LoadOptions::new("-", "/work");
    options.stdin = Some(text.to_owned());
    options.config_type = Some(ConfigType::Json);
    fix(&options)
}

fn said(fixed: &Fixed) -> String {
    let mut text: String = fixed
        .changes
        .iter()
        .map(|change| format!("{} {}: {}\n", fixed.sources.place(change.span), change.fixer, change.text))
        .collect();
    for item in &fixed.diagnostics.items {
        text.push_str(&render::render(item, &fixed.sources, false));
        text.push('\n');
    }
    text
}

#[test]
fn mends_as_packer_does_byte_for_byte() {
    let mut used = Vec::new();
    let names = templates();
    assert!(names.len() >= 40, "only {} templates", names.len());
    for name in names {
        let fixed = fix(&LoadOptions::new(format!("{name}.json"), directory()));
        let recorded = std::fs::read_to_string(directory().join(format!("{name}.fixed"))).unwrap();
        assert_eq!(fixed.text.as_deref(), Some(recorded.as_str()), "{name}: {}", said(&fixed));
        used.extend(fixed.changes.iter().map(|change| change.fixer));
    }
    for fixer in FIXERS {
        assert!(used.contains(&fixer.name), "no template needs `{}`", fixer.name);
    }
}

#[test]
fn the_records_are_what_packer_says() {
    if std::env::var_os("KILN_TEST_PACKER").is_none() {
        return;
    }
    for name in templates() {
        let output = Command::new("packer")
            .args(["fix", "-validate=false"])
            .arg(directory().join(format!("{name}.json")))
            .env("CHECKPOINT_DISABLE", "1")
            .env("PACKER_NO_COLOR", "1")
            .output()
            .unwrap();
        let recorded = std::fs::read_to_string(directory().join(format!("{name}.fixed"))).unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), recorded, "{name}");
    }
}

#[test]
fn what_is_mended_needs_no_mending() {
    for name in templates() {
        let recorded = std::fs::read_to_string(directory().join(format!("{name}.fixed"))).unwrap();
        let again = fix_text(&recorded);
        // A text for a bool is left as it is where `disk_type_id` is missing, and only there.
        if name != "vmware_compaction" {
            assert_eq!(again.text.as_deref(), Some(recorded.as_str()), "{name}: {}", said(&again));
            assert_eq!(again.changes, [], "{name}");
        }
    }
}

#[test]
fn changes_have_their_places() {
    let fixed = fix_text(
        r#"{
  "builders": [
    { "type": "vmware", "iso_md5": "abc", "ssh_key_path": "a", "ssh_private_key_file": "b", "remote_type": "esx5" },
    { "type": "amazon-ebs", "ssh_private_ip": "{{user `private`}}" }
  ],
  "post-processors": [["manifest", { "type": "docker-tag", "tag": "a,b" }]]
}"#,
    );
    insta::assert_snapshot!(said(&fixed));
}

#[test]
fn what_crashes_packer_is_left_as_it_is() {
    let rows = [
        (r#"{"builders":[{"iso_md5":"a"},"x",null]}"#, r#""iso_checksum": "md5:a""#),
        (r#"{"builders":[{"type":5,"ssh_wait_timeout":"1m"}]}"#, r#""ssh_timeout": "1m""#),
        (r#"{"builders":[{"type":"vsphere-iso","network":"n","storage":5,"disk_size":1}]}"#, r#""disk_size": 1"#),
        (
            r#"{"builders":[],"provisioners":[{"type":"powershell","elevated_user":5,"environment_vars":null}]}"#,
            r#""elevated_user": 5"#,
        ),
        (
            r#"{"builders":[],"post-processors":[{"type":"vagrant","aws":{"a":1},"override":{"x":{"b":2}}}]}"#,
            r#""x": {"#,
        ),
        (r#"{"builders":[{"type":"q","a":12345678901234567890}]}"#, "12345678901234567890"),
        (r#"{"builders":[{"type":"q","a":"\\u003c"}]}"#, r#""\\u003c""#),
    ];
    for (template, expected) in rows {
        let fixed = fix_text(template);
        let text = fixed.text.clone().unwrap_or_default();
        assert!(text.contains(expected), "{template}\n{text}\n{}", said(&fixed));
    }
}

#[test]
fn wrong_forms_are_told() {
    for template in ["[1]", r#"{"builders": 3}"#, r#"{"builders": [}"#, "", r#"{"post-processors": {"type": "x"}}"#] {
        let fixed = fix_text(template);
        assert!(fixed.text.is_none() && fixed.diagnostics.has_errors(), "{template}");
    }
    let hcl = fix(&LoadOptions::new("x.pkr.hcl", "/work"));
    insta::assert_snapshot!(said(&hcl));
}

#[test]
fn the_guide_lists_all_fixers_in_their_order() {
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/guide/from-json.md");
    let guide = std::fs::read_to_string(guide).unwrap();
    let mut rows: Vec<String> = fixers().map(|(name, does)| format!("| `{name}` | {does} |")).collect();
    rows.dedup();
    assert!(guide.ends_with(&(rows.join("\n") + "\n")), "{}", rows.join("\n"));
}
