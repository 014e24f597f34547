//! What AWS may do to an AMI build: each ends with a clear message, and nothing is left.

use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};

use crate::support::aws::Account;
use crate::support::{Outcome, World};

/// The actions by which a build changes something.
const CHANGES: &[&str] = &[
    "ImportKeyPair",
    "CreateSecurityGroup",
    "AuthorizeSecurityGroupIngress",
    "RunInstances",
    "StopInstances",
    "CreateImage",
    "CopyImage",
    "CreateTags",
    "ModifyImageAttribute",
    "ModifySnapshotAttribute",
    "TerminateInstances",
    "DeleteSecurityGroup",
    "DeleteKeyPair",
];

struct Build {
    account: Account,
    world: World,
}

impl Build {
    fn new(source: &Json, step: &str) -> Option<Build> {
        let account = Account::new()?;
        let mut world = World::new();
        account.enter(&mut world);
        let steps = json!([{ "type": "shell", "inline": [step] }]);
        world.write("a.json", &account.template(source, &steps).to_string());
        Some(Build { account, world })
    }

    fn with(source: Json, settings: Json) -> Option<Build> {
        let build = Build::new(&source, "true")?;
        build.account.set(settings);
        Some(build)
    }

    /// A build that copies, shares and tags, so that it makes all kinds of calls.
    fn of_everything(settings: Json) -> Option<Build> {
        let source = json!({ "ami_regions": ["us-west-2"], "ami_users": ["111122223333"], "snapshot_users": ["111122223333"],
            "tags": { "Team": "a" }, "snapshot_tags": { "Kind": "snapshot" }, "run_volume_tags": { "Kind": "volume" } });
        Build::with(source, settings)
    }

    fn run(&self) -> Outcome {
        self.world.run(&["build", "a.json"])
    }

    /// The build must fail, say so, and leave nothing.
    #[track_caller]
    fn fails(&self, said: &[&str]) -> Outcome {
        let outcome = self.run();
        assert_ne!(outcome.code, 0, "{}", outcome.stderr);
        for text in said {
            assert!(outcome.stderr.contains(text), "`{text}` is not said:\n{}", outcome.stderr);
        }
        self.leaves_nothing(&outcome.stderr);
        outcome
    }

    #[track_caller]
    fn succeeds(&self) -> Outcome {
        let outcome = self.run();
        assert_eq!(outcome.code, 0, "{}", outcome.stderr);
        let left = self.account.left();
        assert_eq!(left.as_object().unwrap().keys().collect::<Vec<_>>(), ["images"], "{left}\n{}", outcome.stderr);
        assert!(self.world.leftovers().is_empty(), "{:?}", self.world.leftovers());
        outcome
    }

    #[track_caller]
    fn leaves_nothing(&self, said: &str) {
        assert_eq!(self.account.left(), json!({}), "{said}");
        assert!(self.world.leftovers().is_empty(), "{:?}\n{said}", self.world.leftovers());
    }
}

fn fault(action: &str, times: u32, code: &str, status: u16) -> Json {
    json!({ "action": action, "times": times, "code": code, "status": status })
}

#[test]
fn throttled_calls_are_tried_again() {
    let Some(build) = Build::of_everything(json!({ "faults": [fault("*", 2, "RequestLimitExceeded", 503)] })) else {
        return;
    };
    build.succeeds();
}

#[test]
fn errors_of_the_service_are_tried_again() {
    for (code, status) in [("InternalError", 500), ("Unavailable", 503)] {
        let Some(build) = Build::of_everything(json!({ "faults": [fault("*", 1, code, status)] })) else { return };
        build.succeeds();
    }
}

#[test]
fn answers_that_are_lost_make_nothing_twice() {
    let faults: Vec<Json> = CHANGES.iter().map(|action| json!({ "action": action, "drop_reply": true })).collect();
    let Some(build) = Build::of_everything(json!({ "faults": faults })) else { return };
    build.succeeds();
    let images = build.account.images();
    for region in ["us-east-1", "us-west-2"] {
        assert_eq!(images[region].as_array().unwrap().len(), 1, "{images}");
        assert_eq!(images[region][0]["tags"]["Team"], "a", "{images}");
    }
    assert_eq!(build.account.instances().len(), 1);
    // Connections that end before anything was done are another matter for the client, and the same for the user.
    let faults: Vec<Json> = CHANGES.iter().map(|action| json!({ "action": action, "drop": true })).collect();
    let Some(build) = Build::of_everything(json!({ "faults": faults })) else { return };
    build.succeeds();
}

#[test]
fn what_was_made_may_be_seen_late() {
    let faults = json!([
        fault("DescribeInstances", 2, "InvalidInstanceID.NotFound", 400),
        fault("AuthorizeSecurityGroupIngress", 1, "InvalidGroup.NotFound", 400),
        { "action": "DescribeImages", "from": 3, "times": 2, "code": "InvalidAMIID.NotFound", "status": 400 },
    ]);
    let Some(build) = Build::of_everything(json!({ "faults": faults })) else { return };
    build.succeeds();
}

#[test]
fn a_group_that_is_still_in_use_is_waited_for() {
    let faults = json!([fault("DeleteSecurityGroup", 2, "DependencyViolation", 400)]);
    let Some(build) = Build::with(json!({}), json!({ "faults": faults })) else { return };
    build.succeeds();
}

/// Whatever call is refused for good, the message names it, and what can be removed is removed.
#[test]
fn a_refused_call_is_named_and_nothing_is_left() {
    if Account::new().is_none() {
        return;
    }
    let removing = ["TerminateInstances", "DeleteSecurityGroup", "DeleteKeyPair"];
    std::thread::scope(|scope| {
        for action in CHANGES {
            scope.spawn(move || {
                let start = Instant::now();
                let refused = json!({ "faults": [fault(action, 1000, "UnauthorizedOperation", 403)] });
                let build = Build::of_everything(refused).unwrap();
                let outcome = build.run();
                let said = outcome.stderr;
                if build.account.count(action) == 0 {
                    // Not every call is needed.
                    assert_eq!(outcome.code, 0, "{action}: {said}");
                    return;
                }
                assert!(
                    said.contains(action) && said.contains("UnauthorizedOperation"),
                    "{action} is not named:\n{said}"
                );
                if removing.contains(action) {
                    // The AMI is there; what could not be removed stays in the journal, and is not tried for long.
                    assert!(start.elapsed() < Duration::from_secs(60), "{action}: {:?}", start.elapsed());
                    assert_eq!(build.account.images()["us-east-1"].as_array().unwrap().len(), 1, "{action}: {said}");
                    build.account.set(json!({ "faults": [] }));
                    build.world.succeed(&["cleanup"]);
                    let left = build.account.left();
                    assert_eq!(
                        left.as_object().unwrap().keys().collect::<Vec<_>>(),
                        ["images"],
                        "{action}: {left}\n{said}"
                    );
                } else {
                    assert_ne!(outcome.code, 0, "{action}: {said}");
                    build.leaves_nothing(&format!("{action}: {said}"));
                }
            });
        }
    });
}

#[test]
fn without_capacity_there_is_no_waiting() {
    let settings = json!({ "no_capacity": { "t3.micro": "InsufficientInstanceCapacity" } });
    let Some(build) = Build::with(json!({}), settings.clone()) else { return };
    let start = Instant::now();
    build.fails(&["InsufficientInstanceCapacity", "t3.micro"]);
    assert!(start.elapsed() < Duration::from_secs(40), "{:?}", start.elapsed());
    // A fleet takes the next type.
    let spot = json!({ "spot_price": "auto", "spot_instance_types": ["t3.micro", "t3.small"] });
    let Some(build) = Build::with(spot.clone(), settings) else { return };
    build.succeeds();
    assert_eq!(build.account.instances()[0]["type"], "t3.small");
    let none = json!({ "t3.micro": "InsufficientInstanceCapacity", "t3.small": "MaxSpotInstanceCountExceeded" });
    let Some(build) = Build::with(spot, json!({ "no_capacity": none })) else { return };
    build.fails(&["InsufficientInstanceCapacity", "MaxSpotInstanceCountExceeded"]);
}

#[test]
fn an_instance_that_is_never_reached_is_given_up() {
    let Some(build) = Build::with(json!({ "ssh_timeout": "4s" }), json!({ "reachable": false })) else { return };
    let start = Instant::now();
    build.fails(&["ssh_timeout"]);
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
}

#[test]
fn an_image_that_fails_is_removed() {
    let Some(build) = Build::with(json!({}), json!({ "image_fails": true, "lags": { "image": 0.5 } })) else { return };
    build.fails(&["failed"]);
}

#[test]
fn of_copies_none_is_left_when_one_fails() {
    let regions = json!({ "ami_regions": ["us-west-2", "eu-west-1"] });
    let settings = json!({ "copy_fails": ["eu-west-1"], "lags": { "image": 0.3, "copy": 0.5 } });
    let Some(build) = Build::with(regions.clone(), settings) else { return };
    build.fails(&["eu-west-1"]);
    let refused = json!([{ "action": "CopyImage", "region": "eu-west-1", "times": 99, "code": "ResourceLimitExceeded", "status": 400 }]);
    let Some(build) = Build::with(regions, json!({ "faults": refused, "lags": { "copy": 0.5 } })) else { return };
    build.fails(&["eu-west-1", "ResourceLimitExceeded"]);
}

#[test]
fn a_connection_that_drops_in_a_step_is_told() {
    let Some(build) = Build::new(&json!({}), "echo begun; sleep 60") else { return };
    let mut running = build.world.start(&["build", "-json", "a.json"]);
    running.wait_for("the step's output", |event| event["event"] == "output" && event.to_string().contains("begun"));
    assert!(build.account.drop_ssh("KILL") > 0);
    let start = Instant::now();
    let (code, stderr) = running.end();
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
    assert_eq!(code, 1, "{stderr}");
    build.leaves_nothing(&stderr);
}

#[test]
fn a_host_key_comes_by_user_data_or_is_accepted_with_a_word() {
    let Some(build) = Build::with(json!({}), json!({})) else { return };
    build.succeeds();
    assert_eq!(build.account.count("GetConsoleOutput"), 0);
    // An image that does not read its user data shows its key on the console, after a while.
    let Some(build) = Build::with(json!({}), json!({ "cloud_init": false })) else { return };
    build.succeeds();
    let Some(build) = Build::with(json!({}), json!({ "cloud_init": false, "lags": { "console": 600 } })) else {
        return;
    };
    let said = build.succeeds().stderr;
    assert!(said.contains("host key"), "{said}");
}

#[test]
fn a_reboot_in_a_step_is_waited_for() {
    let Some(account) = Account::new() else { return };
    let mut world = World::new();
    account.enter(&mut world);
    let steps = json!([
        { "type": "shell", "inline": ["sudo touch /run/before; sudo reboot; sleep 120"], "expect_disconnect": true },
        { "type": "shell", "inline": ["test ! -e /run/before"], "pause_before": "1s" },
    ]);
    world.write("a.json", &account.template(&json!({}), &steps).to_string());
    world.succeed(&["build", "a.json"]);
}

#[test]
fn a_dead_mans_switch_ends_the_instance() {
    let Some(build) = Build::new(&json!({ "terminate_after": "12s" }), "echo begun; sleep 60") else { return };
    let mut running = build.world.start(&["build", "-json", "a.json"]);
    running.wait_for("the step's output", |event| event["event"] == "output" && event.to_string().contains("begun"));
    running.signal("KILL");
    running.end();
    let end = Instant::now() + Duration::from_secs(30);
    while build.account.left()["instances"] != Json::Null {
        assert!(Instant::now() < end, "{:?}", build.account.instances());
        std::thread::sleep(Duration::from_millis(200));
    }
    build.world.succeed(&["cleanup"]);
    assert_eq!(build.account.left(), json!({}));
}

#[test]
fn a_temporary_profile_comes_and_goes() {
    let policy = json!({ "Version": "2012-10-17", "Statement": [
        { "Action": ["s3:GetObject"], "Effect": "Allow", "Resource": ["*"] },
    ] });
    let source = json!({ "temporary_iam_instance_profile_policy_document": policy });
    // A profile takes a while until EC2 knows it.
    let message = "Value (x) for parameter iamInstanceProfile.name is invalid. Invalid IAM Instance Profile name";
    let unknown =
        json!([{ "action": "RunInstances", "times": 2, "code": "InvalidParameterValue", "message": message }]);
    for faults in [json!([]), unknown] {
        let Some(build) = Build::with(source.clone(), json!({ "faults": faults })) else { return };
        build.succeeds();
        assert_eq!(build.account.count("CreateInstanceProfile"), 1);
    }
    let Some(build) = Build::new(&source, "exit 1") else { return };
    build.fails(&[]);
}
