//! EC2 on loopback with real machines behind its instances (`tests/aws/README.md`). Each test has an account of its own.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};

use super::World;

/// An AMI that the harness has in all regions.
pub(crate) const STOCK: &str = "ami-0deb1a12000000001";

/// An account; its machines end with it.
pub(crate) struct Account {
    /// Its access key, which is its name too.
    pub(crate) key: String,
    /// `http://127.0.0.1:PORT`.
    pub(crate) endpoint: String,
    /// Where machines listen.
    pub(crate) ssh_port: String,
    /// Its number.
    pub(crate) number: String,
}

impl Account {
    /// A new account, where the harness runs.
    pub(crate) fn new() -> Option<Account> {
        let endpoint = std::env::var("KILN_TEST_AWS").unwrap_or_default();
        if !super::available("the EC2 harness (KILN_TEST_AWS)", !endpoint.is_empty()) {
            return None;
        }
        let ssh_port = std::env::var("KILN_TEST_AWS_SSH_PORT").unwrap_or_else(|_| "22".to_owned());
        let key = format!("AKIA{:016X}", RandomState::new().build_hasher().finish());
        let mut account = Account { key, endpoint, ssh_port, number: String::new() };
        account.number = account.set(json!({}))["number"].as_str().unwrap().to_owned();
        Some(account)
    }

    fn ask(&self, method: &str, what: &str, body: &str) -> Json {
        let url = format!("{}/_/{}/{what}", self.endpoint, self.key);
        let arguments = ["--silent", "--fail", "--max-time", "60", "-X", method, "--data-binary", body];
        let output = Command::new("curl").args(&arguments[..if body.is_empty() { 6 } else { 8 }]).arg(url).output();
        let output = output.unwrap();
        assert!(output.status.success(), "the harness answers {what}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Sets lags, faults and other settings of the harness.
    pub(crate) fn set(&self, settings: Json) -> Json {
        self.ask("POST", "settings", &settings.to_string())
    }

    /// The account's calls so far.
    pub(crate) fn log(&self) -> Vec<Json> {
        self.ask("GET", "log", "").as_array().unwrap().clone()
    }

    /// The actions of the account's calls so far.
    pub(crate) fn actions(&self) -> Vec<String> {
        self.log().iter().map(|call| call["action"].as_str().unwrap().to_owned()).collect()
    }

    /// How often an action was called.
    pub(crate) fn count(&self, action: &str) -> usize {
        self.actions().iter().filter(|name| *name == action).count()
    }

    /// What the account has, but for what it always has.
    pub(crate) fn left(&self) -> Json {
        self.ask("GET", "left", "")
    }

    /// Its images by region, with all their attributes.
    pub(crate) fn images(&self) -> Json {
        self.ask("GET", "images", "")
    }

    /// Its instances, also those that ended.
    pub(crate) fn instances(&self) -> Vec<Json> {
        self.ask("GET", "instances", "").as_array().unwrap().clone()
    }

    /// Ends (`KILL`) or freezes (`STOP`) the connections to its machines: how many there were.
    pub(crate) fn drop_ssh(&self, signal: &str) -> u64 {
        self.ask("POST", &format!("drop-ssh?signal={signal}"), "")["sessions"].as_u64().unwrap()
    }

    /// Waits until a call is held that a fault told to hold.
    #[track_caller]
    pub(crate) fn wait_held(&self, within: Duration) -> bool {
        let end = Instant::now() + within;
        while Instant::now() < end {
            if self.ask("GET", "held", "").as_array().is_some_and(|held| !held.is_empty()) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    }

    /// Lets all calls go that are held.
    pub(crate) fn release(&self) {
        self.ask("POST", "release", "");
    }

    /// Gives a world the account's credentials, by its environment.
    pub(crate) fn enter(&self, world: &mut World) {
        for (name, value) in self.environment() {
            world.env(name, &value);
        }
    }

    /// The environment in which a client of AWS uses this account.
    pub(crate) fn environment(&self) -> [(&'static str, String); 5] {
        [
            ("AWS_ACCESS_KEY_ID", self.key.clone()),
            ("AWS_SECRET_ACCESS_KEY", "not-checked".to_owned()),
            ("AWS_REGION", "us-east-1".to_owned()),
            ("AWS_ENDPOINT_URL", self.endpoint.clone()),
            ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
        ]
    }

    /// A legacy template of one `amazon-ebs` source that Packer and kiln both read, with more arguments and provisioners.
    pub(crate) fn template(&self, more: &Json, provisioners: &Json) -> Json {
        let mut source = json!({
            "type": "amazon-ebs",
            "region": "us-east-1",
            "custom_endpoint_ec2": self.endpoint,
            "skip_metadata_api_check": true,
            "source_ami": STOCK,
            "instance_type": "t3.micro",
            "ami_name": "kiln-test",
            "ssh_username": "admin",
            "ssh_port": self.ssh_port.parse::<u16>().unwrap(),
            "ssh_timeout": "5m",
        });
        source.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let members = source.as_object_mut().unwrap();
        for (given, instead) in [("source_ami_filter", "source_ami"), ("spot_instance_types", "instance_type")] {
            if members.contains_key(given) {
                members.remove(instead);
            }
        }
        json!({ "builders": [source], "provisioners": provisioners })
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let url = format!("{}/_/{}/forget", self.endpoint, self.key);
        let arguments = ["--silent", "--max-time", "30", "-X", "POST", &url];
        let _ = Command::new("curl").args(arguments).stdout(Stdio::null()).status();
    }
}
