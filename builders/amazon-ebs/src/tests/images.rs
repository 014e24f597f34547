//! Sealing: AMIs, copies, tags, rights.

use serde_json::json;

use super::{Run, doing};
use crate::cloud::{ErrorKind, ImageChange, ImageInfo};
use crate::fake::{FakeCloud, Fault, HOME};

fn images(artifact: &kiln_core::Artifact) -> Vec<(String, String)> {
    let parts = artifact.id.split(',').map(|part| part.split_once(':').unwrap());
    parts.map(|(region, image)| (region.to_owned(), image.to_owned())).collect()
}

fn left(cloud: &FakeCloud, artifact: &kiln_core::Artifact) -> Vec<String> {
    let images = images(artifact);
    cloud.left(&images.iter().map(|(_, image)| image.as_str()).collect::<Vec<_>>())
}

#[tokio::test]
async fn copies_go_to_all_regions_at_once() {
    let cloud = FakeCloud::new();
    let run = Run::new(
        &cloud,
        json!({"ami_regions": ["us-east-1", "eu-west-1", HOME], "ami_description": "from {{ .SourceAMI }}"}),
    );
    let artifact = run.build().await.unwrap();
    let regions: Vec<String> = images(&artifact).into_iter().map(|(region, _)| region).collect();
    assert_eq!(regions, ["eu-central-1", "eu-west-1", "us-east-1"]);
    assert_eq!(left(&cloud, &artifact), Vec::<String>::new());
    for (region, id) in images(&artifact) {
        let image = cloud.at(&region, |region| region.images[&id].clone());
        assert_eq!((image.name.as_str(), image.description.as_deref()), ("worker-1", Some("from ami-source")));
        assert_eq!(image.tags["kiln.build"], "amazon-ebs.worker");
    }
}

#[tokio::test]
async fn a_copy_that_fails_takes_all_with_it() {
    let cloud = FakeCloud::new();
    let run = Run::new(&cloud, json!({"ami_regions": ["us-east-1", "eu-west-1"]}));
    cloud.fault("CopyImage", Fault::Fails(ErrorKind::Other, "InvalidRequest", 1));
    let failure = run.build().await.unwrap_err();
    assert!(failure.to_string().contains("copy the AMI to"), "{failure}");
    assert_eq!(run.left(), Vec::<String>::new());
}

#[tokio::test]
async fn encryption_leaves_only_encrypted_images() {
    let cloud = FakeCloud::new();
    let more = json!({"encrypt_boot": true, "kms_key_id": "alias/a", "ami_regions": ["us-east-1"], "region_kms_key_ids": {"us-east-1": "alias/b"}});
    let run = Run::new(&cloud, more);
    let artifact = run.build().await.unwrap();
    assert_eq!(images(&artifact).len(), 2);
    assert_eq!(left(&cloud, &artifact), Vec::<String>::new());
    let names: Vec<String> = cloud.here(|region| {
        region.images.values().filter(|image| image.owner == "self").map(|image| image.name.clone()).collect()
    });
    assert_eq!(names, ["worker-1"]);
}

#[tokio::test]
async fn the_region_of_the_build_may_be_left_out() {
    let cloud = FakeCloud::new();
    let run = Run::new(&cloud, json!({"skip_save_build_region": true, "ami_regions": ["us-east-1"]}));
    let artifact = run.build().await.unwrap();
    assert_eq!(images(&artifact).into_iter().map(|(region, _)| region).collect::<Vec<_>>(), ["us-east-1"]);
    assert_eq!(left(&cloud, &artifact), Vec::<String>::new());
}

#[tokio::test]
async fn tags_are_there_at_birth_and_win_in_order() {
    let cloud = FakeCloud::new();
    let more = json!({
        "run_tags": {"Team": "run", "Only": "run"},
        "tags": {"Team": "image", "Base": "{{ .SourceAMIName }}"},
        "tag": [{"key": "Extra", "value": "1"}],
        "snapshot_tags": {"Team": "snapshot"},
    });
    let run = Run::new(&cloud, more);
    let artifact = run.build().await.unwrap();
    let image = cloud.here(|region| region.images[&images(&artifact)[0].1].clone());
    let tag = |key: &str| image.tags.get(key).map(String::as_str);
    assert_eq!(
        (tag("Team"), tag("Only"), tag("Base"), tag("Extra")),
        (Some("image"), Some("run"), Some("debian-12"), Some("1"))
    );
    let snapshot = cloud.here(|region| region.snapshots.values().next().unwrap().clone());
    assert_eq!((snapshot.tags["Team"].as_str(), snapshot.tags["Base"].as_str()), ("snapshot", "debian-12"));
    assert!(!cloud.calls().contains(&"CreateTags".to_owned()));
    let run = Run::new(&FakeCloud::new(), json!({"run_tags": {"Only": "run"}, "skip_ami_run_tags": true}));
    let artifact = run.build().await.unwrap();
    assert!(!run.cloud.here(|region| region.images[&images(&artifact)[0].1].clone()).tags.contains_key("Only"));
}

#[tokio::test]
async fn rights_and_times_are_set() {
    let cloud = FakeCloud::new();
    let more = json!({
        "ami_users": ["123456789012"], "ami_groups": ["all"], "ami_product_codes": ["abc"], "imds_support": "v2.0",
        "snapshot_users": ["123456789012"], "deprecate_at": "2040-01-01T00:00:00Z",
        "deregistration_protection": {"enabled": true},
    });
    let run = Run::new(&cloud, more);
    let artifact = run.build().await.unwrap();
    let changes: Vec<ImageChange> = cloud.changes().into_iter().map(|(_, change)| change).collect();
    assert_eq!(changes.len(), 3);
    assert!(
        matches!(&changes[0], ImageChange::Share(share) if share.users == ["123456789012"] && share.groups == ["all"])
    );
    let calls = cloud.calls();
    for call in ["ModifySnapshotAttribute", "EnableImageDeprecation", "EnableImageDeregistrationProtection"] {
        assert!(calls.iter().any(|name| name == call), "{call}");
    }
    // Who does not keep the artifact gets rid of a protected one as well.
    artifact.owner.as_ref().unwrap().destroy(&artifact, &run.context).await.unwrap();
    assert!(cloud.calls().contains(&"DisableImageDeregistrationProtection".to_owned()));
    assert_eq!(run.left(), Vec::<String>::new());
}

#[tokio::test]
async fn force_frees_the_name() {
    let cloud = FakeCloud::new();
    let old = ImageInfo {
        id: "ami-old".into(),
        name: "worker-1".into(),
        owner: "self".into(),
        state: "available".into(),
        ..ImageInfo::default()
    };
    cloud.here(|region| region.images.insert("ami-old".into(), old));
    let run = Run::new(&cloud, json!({"force_deregister": true}));
    let artifact = run.build().await.unwrap();
    assert!(cloud.here(|region| !region.images.contains_key("ami-old")));
    assert_eq!(left(&cloud, &artifact), Vec::<String>::new());
}

#[tokio::test]
async fn no_image_is_made_where_none_is_wanted() {
    let cloud = FakeCloud::new();
    let run = Run::new(&cloud, json!({"skip_create_ami": true}));
    let artifact = run.build().await.unwrap();
    assert_eq!((artifact.id.as_str(), artifact.owner.is_none()), ("", true));
    assert!(!doing(&cloud.calls()).contains(&"CreateImage"));
    assert_eq!(run.left(), Vec::<String>::new());
}
