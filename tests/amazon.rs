//! The AMI builder beside Packer 1.6.6: the same template leaves the same AMIs, and nothing else.
//!
//! What Packer left and asked for is recorded in `tests/fixtures/amazon`, a file for each case; with `KILN_TEST_PACKER=1` the records are
//! compared with it, and with `INSTA_UPDATE=always` beside that written anew.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Map, Value as Json, json};

use crate::support::World;
use crate::support::aws::Account;
use crate::support::packer;

/// Calls that ask how things are, as often as it takes.
const POLLS: &[&str] = &["DescribeInstances", "DescribeImages", "DescribeSnapshots", "DescribeSecurityGroups"];

struct Case {
    name: &'static str,
    /// Of its template, for people.
    what: &'static str,
    source: Json,
    steps: Json,
    /// Builds one after the other.
    runs: usize,
}

fn shell(line: &str) -> Json {
    json!([{ "type": "shell", "inline": [line] }])
}

fn cases() -> Vec<Case> {
    let mark = || shell("echo marked | sudo tee /etc/marker");
    let case = |name, what, source, steps| Case { name, what, source, steps, runs: 1 };
    let regions = json!({ "ami_regions": ["us-west-2", "eu-west-1"], "tags": { "Team": "a" } });
    vec![
        case("minimal", "a name and a source AMI", json!({}), mark()),
        case(
            "tags",
            "`tags`, `snapshot_tags`, `run_tags`, `run_volume_tags`, with `{{ .SourceAMI }}` and the like",
            tags(),
            mark(),
        ),
        case(
            "attributes",
            "description, users, groups, snapshot users, ENA, SR-IOV, devices of both kinds, user data",
            attributes(),
            mark(),
        ),
        case("encrypted", "`encrypt_boot` with a key for each of two regions", encrypted(), mark()),
        case("regions", "`ami_regions`: two copies, with tags", regions, mark()),
        case(
            "network",
            "`vpc_filter`, `subnet_filter`, a public address, a network that may connect",
            network(),
            mark(),
        ),
        case("spot", "`spot_price = \"auto\"` with two types", spot(), mark()),
        case("failed_step", "a step that fails", json!({ "tags": { "Team": "a" } }), shell("exit 3")),
        case("no_such_image", "`source_ami_filter` that fits nothing", no_such_image(), mark()),
        case("two_images", "`source_ami_filter` that fits two AMIs", two_images(false), mark()),
        case("most_recent", "the same with `most_recent`", two_images(true), mark()),
        Case { runs: 2, ..case("name_is_taken", "two builds of one name", json!({}), mark()) },
        Case {
            runs: 2,
            ..case(
                "forced",
                "two builds of one name with `force_deregister`, `force_delete_snapshot` and a copy",
                forced(),
                mark(),
            )
        },
    ]
}

fn tags() -> Json {
    json!({
        "tags": { "Name": "worker", "Base": "{{ .SourceAMI }}", "Base_Name": "{{ .SourceAMIName }}", "Region": "{{ .BuildRegion }}" },
        "snapshot_tags": { "Kind": "snapshot" },
        "run_tags": { "Name": "the builder", "From": "{{ .SourceAMI }}" },
        "run_volume_tags": { "Kind": "volume" },
    })
}

fn attributes() -> Json {
    json!({
        "ami_description": "a worker",
        "ami_users": ["111122223333", "444455556666"],
        "ami_groups": ["all"],
        "snapshot_users": ["111122223333"],
        "ena_support": true,
        "sriov_support": true,
        "ebs_optimized": true,
        "shutdown_behavior": "terminate",
        "user_data": "#!/bin/sh\ntrue\n",
        "launch_block_device_mappings": [
            { "device_name": "/dev/xvda", "volume_size": 12, "volume_type": "gp2", "delete_on_termination": true },
            { "device_name": "/dev/sdf", "volume_size": 4, "volume_type": "io1", "iops": 100, "delete_on_termination": true },
        ],
        "ami_block_device_mappings": [
            { "device_name": "/dev/sdg", "volume_size": 2, "volume_type": "gp2", "delete_on_termination": true },
            { "device_name": "/dev/sdh", "virtual_name": "ephemeral0" },
        ],
    })
}

fn encrypted() -> Json {
    json!({
        "encrypt_boot": true,
        "kms_key_id": "alias/here",
        "ami_regions": ["us-west-2"],
        "region_kms_key_ids": { "us-west-2": "alias/there" },
        "tags": { "Team": "a" },
        "snapshot_tags": { "Kind": "snapshot" },
    })
}

fn network() -> Json {
    json!({
        "vpc_filter": { "filters": { "isDefault": "true" } },
        "subnet_filter": { "filters": { "default-for-az": "true" }, "most_free": true },
        "associate_public_ip_address": true,
        "temporary_security_group_source_cidrs": ["127.0.0.0/8"],
    })
}

fn spot() -> Json {
    json!({ "spot_price": "auto", "spot_instance_types": ["t3.micro", "t3.small"], "run_tags": { "Name": "spot" } })
}

fn no_such_image() -> Json {
    json!({ "source_ami_filter": { "filters": { "name": "no-such-*" }, "owners": ["136693071363"] } })
}

fn two_images(most_recent: bool) -> Json {
    let filters = json!({ "name": "debian-12-amd64-*", "root-device-type": "ebs" });
    json!({ "source_ami_filter": { "filters": filters, "owners": ["136693071363"], "most_recent": most_recent } })
}

fn forced() -> Json {
    json!({ "force_deregister": true, "force_delete_snapshot": true, "ami_regions": ["us-west-2"], "tags": { "Team": "a" } })
}

fn record_of(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/amazon/{name}.json"))
}

fn record(name: &str) -> Json {
    serde_json::from_str(&std::fs::read_to_string(record_of(name)).unwrap()).unwrap()
}

/// Names by which one account's things are told apart, in the order in which they appear.
struct Names {
    known: BTreeMap<String, String>,
    account: String,
}

impl Names {
    fn replace(&mut self, text: &str) -> String {
        let pattern = regex::Regex::new(r"\b(ami|snap|vol|i|sg|subnet|vpc)-[0-9a-f]{8,}\b").unwrap();
        let text = text.replace(&self.account, "ACCOUNT");
        let replaced = pattern.replace_all(&text, |found: &regex::Captures<'_>| {
            let count = self.known.len();
            if found[0].starts_with("ami-0deb1a12") {
                return found[0].to_owned();
            }
            self.known.entry(found[0].to_owned()).or_insert_with(|| format!("{}-{count}", &found[1])).clone()
        });
        replaced.into_owned()
    }

    fn stable(&mut self, value: &Json) -> Json {
        match value {
            Json::Array(items) => items.iter().map(|item| self.stable(item)).collect(),
            Json::Object(members) => {
                let mut sorted: Vec<_> = members.iter().collect();
                sorted.sort_by_key(|(name, _)| name.as_str());
                Json::Object(sorted.into_iter().map(|(name, value)| (name.clone(), self.stable(value))).collect())
            }
            Json::String(text) => Json::String(self.replace(text)),
            other => other.clone(),
        }
    }
}

/// What builds left in an account and what they asked for.
fn left_by(account: &Account, codes: &[i32]) -> Json {
    let images = account.images();
    let instances: Vec<Json> = account
        .instances()
        .iter()
        .map(|instance| {
            let fields = ["image", "type", "region", "behaviour", "state", "devices", "tags", "volume_tags"];
            fields.iter().map(|field| ((*field).to_owned(), instance[*field].clone())).collect::<Map<_, _>>().into()
        })
        .collect();
    let mut others = account.left();
    others.as_object_mut().unwrap().remove("images");
    let mut calls: BTreeMap<String, usize> = BTreeMap::new();
    account.actions().into_iter().for_each(|action| *calls.entry(action).or_default() += 1);
    let ok: Vec<bool> = codes.iter().map(|code| *code == 0).collect();
    // Each part has numbers of its own, so that a difference in one does not show in the next.
    let stable = |value: Json| Names { known: BTreeMap::new(), account: account.number.clone() }.stable(&value);
    json!({ "ok": ok, "calls": calls, "images": stable(images), "instances": stable(instances.into()), "others": stable(others) })
}

fn packer_in(world: &World, account: &Account, program: &Path) -> i32 {
    let mut command = Command::new(program);
    command.args(["build", "-color=false", "a.json"]).current_dir(world.path()).env_clear();
    command.env("PATH", std::env::var("PATH").unwrap()).env("HOME", world.path()).env("CHECKPOINT_DISABLE", "1");
    command.env("AWS_POLL_DELAY_SECONDS", "1").envs(account.environment());
    command.output().unwrap().status.code().unwrap_or(-1)
}

#[test]
fn the_records_are_packers() {
    let Some(program) = packer() else { return };
    let cases = cases();
    std::thread::scope(|scope| {
        for case in &cases {
            let program = &program;
            scope.spawn(move || {
                let Some(account) = Account::new() else { return };
                let world = World::new();
                world.write("a.json", &account.template(&case.source, &case.steps).to_string());
                let codes: Vec<i32> = (0..case.runs).map(|_| packer_in(&world, &account, program)).collect();
                let found = left_by(&account, &codes);
                if std::env::var_os("INSTA_UPDATE").is_some_and(|value| value == "always") {
                    std::fs::create_dir_all(record_of(case.name).parent().unwrap()).unwrap();
                    std::fs::write(record_of(case.name), format!("{found:#}\n")).unwrap();
                }
                let (mut found, mut recorded) = (found, record(case.name));
                for polled in POLLS {
                    for side in [&mut found, &mut recorded] {
                        side["calls"].as_object_mut().unwrap().remove(*polled);
                    }
                }
                assert_eq!(found, recorded, "{}", case.name);
            });
        }
    });
}

/// Takes out by what kiln and Packer say that a thing is theirs: tags of kiln's, and names of instances that have no other.
fn without_marks(value: &mut Json) {
    match value {
        Json::Array(items) => items.iter_mut().for_each(without_marks),
        Json::Object(members) => {
            let is_mark = |name: &str, value: &Json| match name {
                "Name" => value == "Packer Builder" || value == "kiln amazon-ebs",
                _ => name.starts_with("kiln."),
            };
            members.retain(|name, value| !is_mark(name, value));
            members.values_mut().for_each(without_marks);
        }
        _ => {}
    }
}

#[test]
fn a_template_leaves_what_packer_leaves() {
    if Account::new().is_none() {
        return;
    }
    let cases = cases();
    let rows: Vec<String> = std::thread::scope(|scope| {
        let runs: Vec<_> = cases.iter().map(|case| scope.spawn(move || compare(case))).collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect()
    });
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/amazon-vs-packer.md");
    let text = std::fs::read_to_string(&page).unwrap();
    let (before, rest) = text.split_once(TABLE).unwrap();
    let (_, after) = rest.split_once("\n\n").unwrap();
    let expected = format!("{before}{TABLE}{}\n\n{after}", rows.concat().trim_end());
    if std::env::var_os("KILN_UPDATE_DOCS").is_some_and(|value| value == "1") {
        std::fs::write(&page, &expected).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&page).unwrap(), expected, "KILN_UPDATE_DOCS=1 writes {}", page.display());
}

/// The head of the table in the documentation.
const TABLE: &str =
    "| template | AMIs | calls that change something: Packer, kiln | all calls: Packer |\n|---|---|---|---|\n";

/// Compares what kiln leaves with what Packer left: a row of the table.
fn compare(case: &Case) -> String {
    let account = Account::new().unwrap();
    let mut world = World::new();
    account.enter(&mut world);
    let mut source = case.source.clone();
    // Newer releases give the AMI the instance's tags too, and so does kiln.
    source["skip_ami_run_tags"] = true.into();
    world.write("a.json", &account.template(&source, &case.steps).to_string());
    let outcomes: Vec<_> = (0..case.runs).map(|_| world.run(&["build", "a.json"])).collect();
    let codes: Vec<i32> = outcomes.iter().map(|outcome| outcome.code).collect();
    let (mut found, mut recorded) = (left_by(&account, &codes), record(case.name));
    without_marks(&mut found);
    without_marks(&mut recorded);
    let said: Vec<&str> = outcomes.iter().map(|outcome| outcome.stderr.as_str()).collect();
    for part in ["ok", "images", "instances", "others"] {
        assert_eq!(found[part], recorded[part], "{}: {part}\n{}", case.name, said.join("\n"));
    }
    let count = |side: &Json, changing: bool| -> u64 {
        let calls = side["calls"].as_object().unwrap().iter();
        let counted = calls.filter(|(name, _)| !changing || !name.starts_with("Describe"));
        counted.filter_map(|(_, count)| count.as_u64()).sum()
    };
    let told = format!("{}: {:#}\nPacker: {:#}", case.name, found["calls"], recorded["calls"]);
    assert!(count(&found, false) <= count(&recorded, false), "{told}");
    assert!(count(&found, true) <= count(&recorded, true), "{told}");
    assert_eq!(world.leftovers(), Vec::<PathBuf>::new(), "{}", case.name);
    let regions = recorded["images"].as_object().unwrap();
    let images = regions.values().map(|images| images.as_array().unwrap().len()).sum::<usize>();
    let changing = format!("{}, {}", count(&recorded, true), count(&found, true));
    format!("| {} | {images} | {changing} | {} |\n", case.what, count(&recorded, false))
}

/// What Packer 1.6.6 did not know yet.
#[test]
fn newer_attributes_are_set() {
    let Some(account) = Account::new() else { return };
    let mut world = World::new();
    account.enter(&mut world);
    let organization = "arn:aws:organizations::111122223333:organization/o-abcdefghij";
    let source = json!({
        "imds_support": "v2.0",
        "deprecate_at": "2030-01-31T12:00:00Z",
        "deregistration_protection": { "enabled": true },
        "ami_org_arns": [organization],
        "ami_regions": ["us-west-2"],
        "skip_save_build_region": true,
        "tags": { "Team": "a" },
    });
    world.write("a.json", &account.template(&source, &shell("true")).to_string());
    world.succeed(&["build", "a.json"]);
    let images = account.images();
    assert_eq!(images["us-east-1"], json!([]), "{images:#}");
    let image = &images["us-west-2"][0];
    assert_eq!(image["imds"], "v2.0", "{image:#}");
    assert!(image["deprecation"].as_str().unwrap().starts_with("2030-01-31T12:00"), "{image:#}");
    assert_eq!(image["protection"], "enabled-without-cooldown", "{image:#}");
    assert_eq!(image["permissions"], json!([{ "organizationArn": organization }]), "{image:#}");
    assert_eq!(image["tags"]["Team"], "a", "{image:#}");
    assert_eq!(account.left().as_object().unwrap().keys().collect::<Vec<_>>(), ["images"]);
    // A trial of the steps alone.
    world.write(
        "b.json",
        &account.template(&json!({ "skip_create_ami": true, "ami_name": "trial" }), &shell("true")).to_string(),
    );
    world.succeed(&["build", "b.json"]);
    assert_eq!(account.count("CreateImage"), 1);
    assert_eq!(account.left().as_object().unwrap().keys().collect::<Vec<_>>(), ["images"]);
}

#[test]
fn an_instance_of_the_ami_has_what_was_provisioned() {
    let Some(account) = Account::new() else { return };
    let mut world = World::new();
    account.enter(&mut world);
    let steps = json!([
        { "type": "file", "source": "greeting", "destination": "/tmp/greeting" },
        { "type": "shell", "inline": ["sudo install -m 640 /tmp/greeting /etc/greeting", "echo {{ build `ID` }} | sudo tee /etc/built-on"] },
    ]);
    world.write("greeting", "hello\n");
    world.write("a.json", &account.template(&json!({}), &steps).to_string());
    world.succeed(&["build", "a.json"]);
    let image = account.images()["us-east-1"][0]["id"].as_str().unwrap().to_owned();
    let instance = account.instances()[0]["id"].as_str().unwrap().to_owned();
    let look = shell(&format!("test \"$(sudo cat /etc/greeting)\" = hello && grep -qx {instance} /etc/built-on"));
    let again = json!({ "source_ami": image, "ami_name": "kiln-test-2" });
    world.write("b.json", &account.template(&again, &look).to_string());
    world.succeed(&["build", "b.json"]);
    assert_eq!(account.images()["us-east-1"].as_array().unwrap().len(), 2);
}

#[test]
fn the_harness_is_as_ec2_documents_it() {
    if Account::new().is_none() {
        return;
    }
    let python = std::env::var("KILN_TEST_AWS_PYTHON").unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/aws/test_harness.py");
    let output = Command::new(python).arg(script).env("PYTHONDONTWRITEBYTECODE", "1").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
