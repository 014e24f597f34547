//! Launching: what is asked of EC2, and what the machine tells.

use kiln_core::FailureClass;
use serde_json::json;

use super::{Run, doing};
use crate::cloud::{ErrorKind, ImageInfo, SubnetInfo};
use crate::fake::{FakeCloud, Fault, HOME, SOURCE};

#[tokio::test]
async fn a_build_asks_for_no_more_than_it_needs() {
    let cloud = FakeCloud::new();
    let run = Run::new(&cloud, json!({}));
    let artifact = run.build().await.unwrap();
    let calls = cloud.calls();
    let mut early = calls[2..6].to_vec();
    early.sort_unstable();
    // Made side by side.
    assert_eq!(early, ["AuthorizeSecurityGroupIngress", "CreateSecurityGroup", "ImportKeyPair", "RunInstances"]);
    assert_eq!(doing(&calls[..2]), ["DescribeImages"]);
    let late: Vec<&str> = doing(&calls[6..]);
    let (image, end) = late.split_at(6);
    assert_eq!(
        image,
        ["DescribeInstances", "StopInstances", "DescribeInstances", "CreateImage", "DescribeImages", late[5],]
    );
    let mut end: Vec<&str> =
        end.iter().copied().chain([image[5]]).filter(|call| *call != "DescribeInstances").collect();
    end.sort_unstable();
    assert_eq!(end, ["DeleteKeyPair", "DeleteSecurityGroup", "TerminateInstances"]);
    assert_eq!(artifact.builder_id, "mitchellh.amazonebs");
    let image = artifact.id.strip_prefix(&format!("{HOME}:")).unwrap();
    assert_eq!(artifact.description, format!("AMIs were created:\n{HOME}: {image}\n"));
    assert_eq!(cloud.left(&[image]), Vec::<String>::new());
    // The image alone is what the user gets.
    let open = run.context.journal.open();
    assert_eq!(open.iter().map(|undo| undo.kind.as_str()).collect::<Vec<_>>(), ["aws.image"]);
}

#[tokio::test]
async fn everything_bears_marks_from_its_birth() {
    let cloud = FakeCloud::new();
    let run = Run::new(
        &cloud,
        json!({"run_tags": {"Team": "a {{ .SourceAMIName }} {{ .SourceAMITags.Release }} {{ .BuildRegion }}"}}),
    );
    let _machine = run.launch().await.unwrap();
    let request = cloud.requests().remove(0);
    for spec in &request.tags {
        assert_eq!(spec.tags["kiln.run"], *run.context.run, "{}", spec.resource);
        assert_eq!(spec.tags["kiln.build"], "amazon-ebs.worker");
    }
    let resources: Vec<&str> = request.tags.iter().map(|spec| spec.resource.as_str()).collect();
    assert_eq!(resources, ["instance", "volume", "network-interface"]);
    assert_eq!(request.tags[0].tags["Team"], format!("a debian-12 12 {HOME}"));
    assert_eq!(request.metadata.http_tokens.as_deref(), Some("required"));
    assert_eq!(request.shutdown_behavior.as_deref(), Some("stop"));
    assert!(request.client_token.len() <= 64);
    cloud.here(|region| {
        assert!(region.keys.values().all(|key| key.tags["kiln.run"] == *run.context.run));
        assert!(region.groups.values().all(|group| group.tags["kiln.run"] == *run.context.run));
    });
    assert_eq!(cloud.ingress()[0].cidrs, ["203.0.113.7/32"]);
    // Not one of the entries holds a key.
    let journal = format!("{:?}", run.context.journal.history());
    assert!(!journal.contains("PRIVATE KEY"));
}

#[tokio::test]
async fn marks_can_be_left_out() {
    let cloud = FakeCloud::new();
    let run = Run::new(&cloud, json!({"kiln_tags": false}));
    run.launch().await.unwrap();
    let request = cloud.requests().remove(0);
    assert_eq!(request.tags.len(), 1);
    assert_eq!(request.tags[0].tags.keys().collect::<Vec<_>>(), ["Name"]);
    run.undo().await;
    assert_eq!(run.left(), Vec::<String>::new());
}

#[tokio::test]
async fn keys_of_the_template_are_in_no_journal() {
    let cloud = FakeCloud::new();
    let run =
        Run::new(&cloud, json!({"access_key": "AKIAEXAMPLE", "secret_key": "hidden-key", "token": "hidden-token"}));
    run.launch().await.unwrap();
    let journal = serde_json::to_string(&run.context.journal.history()).unwrap();
    for secret in ["AKIAEXAMPLE", "hidden-key", "hidden-token"] {
        assert!(!journal.contains(secret), "{secret} in {journal}");
    }
    run.undo().await;
    assert_eq!(run.left(), Vec::<String>::new());
}

#[tokio::test]
async fn the_machine_tells_what_packers_does() {
    let cloud = FakeCloud::new();
    let run = Run::new(&cloud, json!({}));
    let machine = run.launch().await.unwrap();
    let facts = machine.facts();
    assert!(facts["ID"].starts_with("i-"));
    assert_eq!(
        (facts["Host"].as_str(), facts["Port"].as_str(), facts["User"].as_str()),
        ("198.51.100.9", "22", "admin")
    );
    assert_eq!((facts["SourceAMI"].as_str(), facts["SourceAMIName"].as_str()), (SOURCE, "debian-12"));
    assert_eq!((facts["BuildRegion"].as_str(), facts["SourceAMIOwner"].as_str()), (HOME, "136693071363"));
    assert!(facts["SSHPublicKey"].starts_with("ssh-ed25519 ") && facts["SSHPrivateKey"].contains("PRIVATE KEY"));
}

#[tokio::test]
async fn interfaces_choose_addresses() {
    for (interface, host, cidr) in
        [("private_ip", "10.0.0.9", "10.0.0.0/8"), ("public_ip", "198.51.100.9", "203.0.113.7/32")]
    {
        let cloud = FakeCloud::new();
        let run = Run::new(&cloud, json!({"ssh_interface": interface}));
        assert_eq!(run.launch().await.unwrap().facts()["Host"], host);
        assert_eq!(cloud.ingress()[0].cidrs[0], cidr);
    }
    let cloud = FakeCloud::new();
    let Err(failure) = Run::new(&cloud, json!({"ssh_interface": "public_dns"})).launch().await else {
        panic!("launched")
    };
    assert!(failure.to_string().contains("has no address for `ssh_interface = \"public_dns\"`"), "{failure}");
}

#[tokio::test]
async fn source_amis_must_be_one() {
    let filter = json!({"source_ami": "", "source_ami_filter": {"filters": {"name": "web-*"}, "owners": ["self"]}});
    let cloud = FakeCloud::new();
    let Err(failure) = Run::new(&cloud, filter.clone()).launch().await else { panic!("launched") };
    assert!(
        failure
            .to_string()
            .starts_with("no AMI in eu-central-1 matches `source_ami_filter`: name = web-*; owners = self"),
        "{failure}"
    );
    for (id, date) in [("ami-old", "2025-01-01"), ("ami-new", "2025-02-01")] {
        let image = ImageInfo {
            id: id.into(),
            name: format!("web-{id}"),
            owner: "self".into(),
            state: "available".into(),
            creation_date: date.into(),
            ..ImageInfo::default()
        };
        cloud.here(|region| region.images.insert(id.to_owned(), image));
    }
    let Err(failure) = Run::new(&cloud, filter).launch().await else { panic!("launched") };
    assert!(failure.to_string().contains("2 AMIs in eu-central-1 match"), "{failure}");
    assert!(cloud.left(&["ami-old", "ami-new"]).is_empty(), "nothing was made");
    let newest = json!({"source_ami": "", "source_ami_filter": {"filters": {"name": "web-*"}, "owners": ["self"], "most_recent": true}});
    Run::new(&cloud, newest).launch().await.unwrap();
    assert_eq!(cloud.requests()[0].image, "ami-new");
}

#[tokio::test]
async fn a_taken_name_is_refused_before_anything_is_made() {
    let cloud = FakeCloud::new();
    let image = ImageInfo {
        id: "ami-mine".into(),
        name: "worker-1".into(),
        owner: "self".into(),
        state: "available".into(),
        ..ImageInfo::default()
    };
    cloud.here(|region| region.images.insert("ami-mine".to_owned(), image));
    let Err(failure) = Run::new(&cloud, json!({})).launch().await else { panic!("launched") };
    assert!(failure.to_string().contains("the name `worker-1` is taken by ami-mine"), "{failure}");
    assert_eq!(doing(&cloud.calls()), ["DescribeImages"]);
}

#[tokio::test]
async fn networks_are_found() {
    let subnet = |id: &str, zone: &str, free| SubnetInfo {
        id: id.into(),
        vpc: "vpc-1".into(),
        availability_zone: format!("{HOME}{zone}"),
        free_addresses: free,
        is_default: true,
    };
    let cloud = FakeCloud::new();
    cloud.here(|region| region.subnets = vec![subnet("subnet-a", "a", 9), subnet("subnet-b", "b", 5)]);
    Run::new(&cloud, json!({"subnet_filter": {"filters": {"tag:Role": "build"}, "most_free": true}}))
        .launch()
        .await
        .unwrap();
    assert_eq!(cloud.requests()[0].subnet.as_deref(), Some("subnet-a"));
    let Err(failure) = Run::new(&cloud, json!({"subnet_filter": {"filters": {"tag:Role": "build"}}})).launch().await
    else {
        panic!("launched")
    };
    assert!(failure.to_string().contains("2 subnets match"), "{failure}");
    // Only zone b has instances of the type.
    Run::new(&cloud, json!({"associate_public_ip_address": true})).launch().await.unwrap();
    assert_eq!(cloud.requests()[1].subnet.as_deref(), Some("subnet-b"));
    assert_eq!(cloud.requests()[1].associate_public_ip, Some(true));
}

#[tokio::test]
async fn a_spot_instance_comes_from_a_template_and_a_fleet() {
    let cloud = FakeCloud::new();
    let run = Run::new(
        &cloud,
        json!({"spot_price": "auto", "instance_type": null, "spot_instance_types": ["t3.micro", "t3a.micro"]}),
    );
    let artifact = run.build().await.unwrap();
    let calls = cloud.calls();
    for call in ["CreateLaunchTemplate", "CreateFleet", "DeleteLaunchTemplate", "TerminateInstances"] {
        assert!(calls.iter().any(|name| name == call), "{call}");
    }
    assert!(!calls.contains(&"StopInstances".to_owned()));
    let image = artifact.id.split(':').nth(1).unwrap();
    assert_eq!(cloud.left(&[image]), Vec::<String>::new());
}

#[tokio::test]
async fn a_temporary_profile_comes_and_goes() {
    let policy = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": ["s3:GetObject"], "Resource": ["*"]}]});
    let cloud = FakeCloud::new();
    let run = Run::new(&cloud, json!({"temporary_iam_instance_profile_policy_document": policy}));
    // EC2 learns of a profile seconds after IAM.
    cloud.fault("RunInstances", Fault::Fails(ErrorKind::NotFound, "InvalidGroup.NotFound", 2));
    let machine = run.launch().await.unwrap();
    cloud.here(|region| {
        let document = region.roles.values().next().unwrap().clone().unwrap();
        assert!(document.contains("s3:GetObject"), "{document}");
    });
    assert!(cloud.requests()[0].instance_profile.as_ref().unwrap().starts_with("kiln-amazon-ebs.worker-"));
    machine.destroy(&run.context).await.unwrap();
    machine.destroy(&run.context).await.unwrap();
    assert_eq!(run.left(), Vec::<String>::new());
    assert!(run.context.journal.open().is_empty());
}

#[tokio::test]
async fn volumes_of_the_template_may_outlive_the_instance_that_came_to_something() {
    let devices = json!([{"device_name": "/dev/sdf", "volume_size": 8}, {"device_name": "/dev/sdg", "volume_size": 8, "delete_on_termination": true}]);
    let cloud = FakeCloud::new();
    let run = Run::new(&cloud, json!({"launch_block_device_mappings": devices}));
    let artifact = run.build().await.unwrap();
    assert_eq!(cloud.left(&[artifact.id.split(':').nth(1).unwrap()]).len(), 1);
    let cloud = FakeCloud::new();
    let run = Run::new(&cloud, json!({"launch_block_device_mappings": devices}));
    cloud.fault("CreateImage", Fault::Fails(ErrorKind::Other, "InternalError", 1));
    run.build().await.unwrap_err();
    assert_eq!(run.left(), Vec::<String>::new());
}

#[tokio::test]
async fn what_is_not_allowed_is_the_environments_fault() {
    let cloud = FakeCloud::new();
    cloud.fault("RunInstances", Fault::Fails(ErrorKind::Unauthorized, "UnauthorizedOperation", 1));
    let Err(failure) = Run::new(&cloud, json!({})).launch().await else { panic!("launched") };
    assert_eq!(failure.class, FailureClass::Environment);
    assert_eq!(failure.chain(), "cannot launch the instance: RunInstances: UnauthorizedOperation: as the test says");
    assert!(failure.hints[0].contains("RunInstances"));
}

#[tokio::test]
async fn an_instance_that_ends_by_itself_says_why() {
    let cloud = FakeCloud::new();
    let run = Run::new(&cloud, json!({}));
    let machine = run.launch().await.unwrap();
    let id = machine.facts()["ID"].clone();
    cloud.here(|region| {
        let instance = region.instances.get_mut(&id).unwrap();
        instance.state = "terminated".into();
        instance.state_reason = Some("Server.SpotInstanceTermination".into());
    });
    cloud.fault("StopInstances", Fault::Fails(ErrorKind::Other, "IncorrectInstanceState", 100_000));
    let failure = machine.seal(&run.context).await.unwrap_err();
    assert!(failure.chain().contains("IncorrectInstanceState"), "{}", failure.chain());
}

#[tokio::test]
async fn an_instance_of_just_now_that_is_not_shown_is_not_believed_to_be_gone() {
    let cloud = FakeCloud::new();
    let run = Run::new(&cloud, json!({}));
    run.launch().await.unwrap();
    cloud.here(|region| region.instances.clear());
    let entry = run.context.journal.open().into_iter().find(|undo| undo.kind == "aws.instance").unwrap();
    for of_older_version in [false, true] {
        let mut entry = entry.clone();
        if of_older_version {
            entry.data["place"].as_object_mut().unwrap().remove("maker").unwrap();
        }
        let failure = kiln_core::Undoer::undo(&run.kind.undoer(), &entry).await.unwrap_err();
        assert!(failure.to_string().contains("is not shown to these credentials"), "{failure}");
        let hint = if of_older_version { "use the credentials" } else { "two minutes" };
        assert!(failure.hints[0].contains(hint), "{:?}", failure.hints);
    }
}

#[tokio::test]
async fn a_group_and_a_key_of_the_template_that_are_not_there_are_asked_for_once() {
    for (more, code, times) in [
        (json!({"security_group_id": "sg-123"}), "InvalidGroup.NotFound", 1),
        (json!({"ssh_keypair_name": "mine", "ssh_password": "x"}), "InvalidKeyPair.NotFound", 1),
        (json!({}), "InvalidGroup.NotFound", 3),
        (json!({}), "InvalidKeyPair.NotFound", 3),
    ] {
        let cloud = FakeCloud::new();
        cloud.fault("RunInstances", Fault::Fails(ErrorKind::NotFound, code, 2));
        let result = Run::new(&cloud, more).launch().await;
        assert_eq!(result.is_ok(), times == 3, "{code}");
        assert_eq!(cloud.calls().iter().filter(|call| *call == "RunInstances").count(), times, "{code}");
    }
}
