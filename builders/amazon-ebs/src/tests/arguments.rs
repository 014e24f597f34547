//! Mistakes in arguments: all at once, at their places.

use kiln_testkit::titles;
use serde_json::{Value, json};

use super::{arguments, prepared};
use crate::fake::FakeCloud;

fn found(more: Value) -> Vec<String> {
    let (_, _, diagnostics) = prepared(&FakeCloud::new(), more);
    titles(&diagnostics).into_iter().map(str::to_owned).collect()
}

#[test]
fn the_least_is_enough() {
    assert_eq!(found(json!({})), Vec::<String>::new());
}

#[test]
fn all_mistakes_come_at_once() {
    let more = json!({
        "ami_name": "a:b",
        "instance_type": "",
        "source_ami": "debian-12",
        "ami_regions": ["frankfurt"],
        "user_data": "#!/bin/sh",
        "user_data_file": "/nowhere/data.sh",
        "temporary_security_group_source_cidrs": ["203.0.113.7"],
        "deprecate_at": "soon",
        "tags": {"aws:x": "1"},
        "launch_block_device_mappings": [{"device_name": "/dev/sdf", "volume_type": "io1"}],
        "fast_launch": {"enable_fast_launch": true, "max_parallel_launches": 2},
        "snapshot_copy_duration_minutes": 17,
    });
    insta::assert_snapshot!(found(more).join("\n"));
}

#[test]
fn what_does_not_go_together_is_told() {
    let cases = [
        (
            json!({"security_group_id": "sg-1", "security_group_ids": ["sg-2"]}),
            "either `security_group_id` or `security_group_ids`, not both",
        ),
        (json!({"spot_instance_types": ["t3.micro"]}), "either `instance_type` or `spot_instance_types`, not both"),
        (json!({"spot_tags": {"a": "b"}}), "`spot_tags` needs `spot_price`"),
        (json!({"access_key": "a"}), "`access_key` is set, and `secret_key` is not"),
        (
            json!({"source_ami_filter": {"filters": {"name": "x"}}}),
            "`source_ami_filter` needs `owners`: anybody may name an AMI as they like",
        ),
        (json!({"skip_save_build_region": true}), "`skip_save_build_region` without `ami_regions` leaves no AMI"),
        (
            json!({"encrypt_boot": true, "snapshot_users": ["1"]}),
            "`snapshot_users`: nothing that is encrypted with the default key can be shared",
        ),
        (
            json!({"ssh_interface": "session_manager"}),
            "`session_manager` needs an instance profile that lets the instance talk to Systems Manager",
        ),
        (
            json!({"ssh_keypair_name": "mine"}),
            "`ssh_keypair_name` needs the private key of that pair: `ssh_private_key_file` or `ssh_agent_auth`",
        ),
        (
            json!({"enable_unlimited_credits": true, "instance_type": "m5.large"}),
            "instances of type `m5.large` have no CPU credits",
        ),
        (json!({"vault_aws_engine": {"name": "x"}}), "kiln does not have `vault_aws_engine`"),
        (
            json!({"region_kms_key_ids": {"us-east-1": ""}, "encrypt_boot": true}),
            "`region_kms_key_ids` names `us-east-1`, which is not in `ami_regions`",
        ),
    ];
    for (more, title) in cases {
        let found = found(more);
        assert!(found.iter().any(|found| found == title), "{title} in {found:?}");
    }
}

#[test]
fn mistakes_stand_at_their_places() {
    let more = json!({"ami_regions": ["us-east-1", "frankfurt"]});
    let (_, _, diagnostics) = prepared(&FakeCloud::new(), more.clone());
    let place = diagnostics.items[0].primary.as_ref().unwrap().span;
    assert_eq!(arguments(more).text_at(place), "\"frankfurt\"");
}

#[test]
fn what_is_not_known_yet_is_not_wrong() {
    let kind = super::kind(&FakeCloud::new());
    let unknown = arguments(json!({"ami_name": "?", "ami_regions": ["?"], "instance_type": "?", "source_ami": "?"}))
        .unknown("ami_name")
        .unknown("ami_regions[0]")
        .unknown("instance_type")
        .unknown("source_ami");
    use kiln_core::BuilderKind;
    let (decoded, mut diagnostics) = unknown.decode(kind.schema());
    kind.prepare(&decoded, &kiln_testkit::prepare_context(), &mut diagnostics);
    assert_eq!(titles(&diagnostics), Vec::<&str>::new());
}
