//! An AMI build that is stopped or killed after any of its calls leaves nothing: at once, or after `kiln cleanup`.

use std::fs::File;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};

use crate::support::World;
use crate::support::aws::Account;

/// A moment of a build: once a call was carried out, and before its answer arrives.
#[derive(Clone, Copy)]
struct Point {
    action: &'static str,
    /// Which of its calls.
    nth: u32,
    /// Whether the AMI may be there afterwards: everything about it is done.
    complete: bool,
}

const fn at(action: &'static str, nth: u32) -> Point {
    Point { action, nth, complete: false }
}

const POINTS: &[Point] = &[
    at("DescribeImages", 1),
    at("ImportKeyPair", 1),
    at("CreateSecurityGroup", 1),
    at("AuthorizeSecurityGroupIngress", 1),
    at("CreateRole", 1),
    at("PutRolePolicy", 1),
    at("CreateInstanceProfile", 1),
    at("AddRoleToInstanceProfile", 1),
    at("RunInstances", 1),
    at("DescribeInstances", 1),
    at("StopInstances", 1),
    at("CreateImage", 1),
    at("DescribeImages", 4),
    at("CopyImage", 1),
    at("CopyImage", 2),
    at("ModifyImageAttribute", 1),
    at("ModifySnapshotAttribute", 1),
    Point { action: "TerminateInstances", nth: 1, complete: true },
    Point { action: "DeleteSecurityGroup", nth: 1, complete: true },
    Point { action: "DeleteKeyPair", nth: 1, complete: true },
    Point { action: "DeleteRole", nth: 1, complete: true },
];

fn template(account: &Account) -> Json {
    let policy = json!({ "Version": "2012-10-17", "Statement": [
        { "Action": ["s3:GetObject"], "Effect": "Allow", "Resource": ["*"] },
    ] });
    let source = json!({ "ami_regions": ["us-west-2", "eu-west-1"], "ami_users": ["111122223333"], "snapshot_users": ["111122223333"],
        "tags": { "Team": "a" }, "temporary_iam_instance_profile_policy_document": policy });
    account.template(&source, &json!([{ "type": "shell", "inline": ["true"] }]))
}

/// A build that runs in the background, its output in a file.
struct Started {
    account: Account,
    world: World,
    child: Child,
}

impl Started {
    fn start(point: Point) -> Started {
        let account = Account::new().unwrap();
        let mut world = World::new();
        account.enter(&mut world);
        world.write("a.json", &template(&account).to_string());
        let hold = json!({ "action": point.action, "from": point.nth, "times": 1, "hold": 60 });
        account.set(json!({ "faults": [hold], "lags": { "image": 0.6, "copy": 0.6, "terminated": 0.3 } }));
        let output = File::create(world.path().join("output")).unwrap();
        let mut command = world.command(&["build", "a.json"]);
        command.stdout(output.try_clone().unwrap()).stderr(output);
        let child = command.spawn().unwrap();
        Started { account, world, child }
    }

    /// Waits for the moment; whether it came before the build ended.
    fn reaches(&mut self) -> bool {
        while self.child.try_wait().unwrap().is_none() {
            if self.account.wait_held(Duration::from_millis(200)) {
                return true;
            }
        }
        false
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    fn end(&mut self) -> i32 {
        let limit = Instant::now() + Duration::from_secs(60);
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code().unwrap_or(-1);
            }
            assert!(Instant::now() < limit, "the build does not end:\n{}", self.world.read("output"));
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn images(&self) -> usize {
        let images = self.account.images();
        images.as_object().unwrap().values().map(|images| images.as_array().unwrap().len()).sum()
    }

    /// Nothing is left, or all of the AMI where it was complete.
    fn check(&self, point: Point, what: &str) {
        let left = self.account.left();
        let kinds: Vec<&String> = left.as_object().unwrap().keys().collect();
        let all = point.complete && kinds == ["images"] && self.images() == 3;
        assert!(all || kinds.is_empty(), "{what}: {left}\n{}", self.world.read("output"));
        assert!(self.world.leftovers().is_empty(), "{what}: {:?}", self.world.leftovers());
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a check for each point, some side by side.
fn for_each_point(check: impl Fn(Point) + Sync) {
    if Account::new().is_none() {
        return;
    }
    for chunk in POINTS.chunks(7) {
        std::thread::scope(|scope| {
            for point in chunk {
                scope.spawn(|| check(*point));
            }
        });
    }
}

#[test]
fn stopped_after_any_call_nothing_is_left() {
    for_each_point(|point| {
        let mut build = Started::start(point);
        let what = format!("SIGINT after {} {}", point.action, point.nth);
        assert!(build.reaches(), "{what}: not reached\n{}", build.world.read("output"));
        build.signal("INT");
        // The signal comes first, then the answer.
        std::thread::sleep(Duration::from_millis(100));
        build.account.release();
        let code = build.end();
        let said = build.world.read("output");
        build.check(point, &what);
        if build.images() == 0 {
            assert_eq!(code, 130, "{what}: {said}");
        } else {
            assert!(said.contains("ami-"), "{what}: {said}");
        }
    });
}

#[test]
fn killed_after_any_call_cleanup_leaves_nothing() {
    for_each_point(|point| {
        let mut build = Started::start(point);
        let what = format!("SIGKILL after {} {}", point.action, point.nth);
        assert!(build.reaches(), "{what}: not reached\n{}", build.world.read("output"));
        build.signal("KILL");
        build.end();
        build.account.release();
        let told = build.world.succeed(&["cleanup"]);
        build.check(point, &format!("{what}\n{}", told.stderr));
    });
}

#[test]
fn killed_while_a_step_runs_cleanup_leaves_nothing() {
    let Some(account) = Account::new() else { return };
    for signal in ["INT", "KILL"] {
        let account = if signal == "INT" { &account } else { &Account::new().unwrap() };
        let mut world = World::new();
        account.enter(&mut world);
        let steps = json!([{ "type": "shell", "inline": ["echo begun; sleep 60"] }]);
        world.write("a.json", &account.template(&json!({}), &steps).to_string());
        let mut running = world.start(&["build", "-json", "a.json"]);
        running
            .wait_for("the step's output", |event| event["event"] == "output" && event.to_string().contains("begun"));
        running.signal(signal);
        let (code, stderr) = running.end();
        if signal == "KILL" {
            world.succeed(&["cleanup"]);
        } else {
            assert_eq!(code, 130, "{stderr}");
        }
        assert_eq!(account.left(), json!({}), "{signal}: {stderr}");
        assert!(world.leftovers().is_empty(), "{signal}: {:?}", world.leftovers());
    }
}

#[test]
fn cleanup_with_the_credentials_of_another_account_forgets_nothing() {
    let (Some(account), Some(other)) = (Account::new(), Account::new()) else { return };
    let mut world = World::new();
    account.enter(&mut world);
    let policy = json!({ "Version": "2012-10-17", "Statement": [
        { "Action": ["s3:GetObject"], "Effect": "Allow", "Resource": ["*"] },
    ] });
    let source = json!({ "temporary_iam_instance_profile_policy_document": policy });
    let steps = json!([{ "type": "shell", "inline": ["echo begun; sleep 60"] }]);
    world.write("a.json", &account.template(&source, &steps).to_string());
    let mut running = world.start(&["build", "-json", "a.json"]);
    running.wait_for("the step's output", |event| event["event"] == "output" && event.to_string().contains("begun"));
    running.signal("KILL");
    running.end();
    let left = account.left();
    other.enter(&mut world);
    // As often as one likes.
    for _ in 0..2 {
        let told = world.run(&["cleanup"]);
        assert_ne!(told.code, 0, "{}", told.stderr);
        let why =
            format!("it was made in account {}, and these credentials are of account {}", account.number, other.number);
        // The instance, its profile, the group, the key pair.
        assert!(told.stderr.matches(&why).count() >= 4, "{}", told.stderr);
        assert_eq!(account.left(), left);
        assert!(!world.leftovers().is_empty());
    }
    assert_eq!(other.count("GetCallerIdentity"), 2);
    account.enter(&mut world);
    world.succeed(&["cleanup"]);
    assert_eq!(account.count("GetCallerIdentity"), 0);
    assert_eq!(account.left(), json!({}));
    assert!(world.leftovers().is_empty(), "{:?}", world.leftovers());
}
