//! The machine and its facts.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use kiln_core::{Artifact, BuildContext, Communicator, Content, Failure, Machine};
use kiln_ssh::{Endpoint, SshCommunicator, SshOptions};
use kiln_transport::absent::AbsentMachine;

/// Why nothing can be done on the machine.
const WHY: &str = "this source has no machine (`communicator = \"none\"`); `shell-local` runs commands on this host";

/// How long ending what a stopped step started may take.
const GRACE: Duration = Duration::from_secs(5);

/// A machine that nobody launched, or none.
pub(crate) struct NullMachine {
    facts: BTreeMap<String, String>,
    communicator: Box<dyn Communicator>,
    enter: Option<String>,
}

impl NullMachine {
    /// `communicator = "none"`.
    pub(crate) fn absent() -> NullMachine {
        let facts = facts([("ConnType", "none".to_owned())]);
        NullMachine { facts, communicator: Box::new(AbsentMachine::new(WHY)), enter: None }
    }

    /// A machine that kiln is logged in to.
    pub(crate) fn over_ssh(communicator: SshCommunicator, options: &SshOptions, endpoint: &Endpoint) -> NullMachine {
        let port = endpoint.port.unwrap_or(options.port()).to_string();
        let user = endpoint.user.clone().or_else(|| options.user.clone()).unwrap_or_default();
        let password = options.login.password.as_ref().map(|password| password.expose().to_owned());
        let enter = match user.as_str() {
            "" => format!("ssh -p {port} {}", endpoint.host),
            user => format!("ssh -p {port} {user}@{}", endpoint.host),
        };
        let facts = facts([
            ("Host", endpoint.host.clone()),
            ("Port", port),
            ("User", user),
            ("Password", password.unwrap_or_default()),
            ("ConnType", "ssh".to_owned()),
        ]);
        NullMachine { facts, communicator: Box::new(communicator), enter: Some(enter) }
    }
}

/// Those given, and those that Packer has for every machine.
fn facts<const COUNT: usize>(given: [(&str, String); COUNT]) -> BTreeMap<String, String> {
    let mut facts: BTreeMap<String, String> = ["Host", "Password", "Port", "SSHPrivateKey", "SSHPublicKey", "User"]
        .map(|name| (name.to_owned(), String::new()))
        .into();
    facts.insert("ID".to_owned(), "Null".to_owned());
    facts.extend(given.map(|(name, value)| (name.to_owned(), value)));
    facts
}

#[async_trait]
impl Machine for NullMachine {
    fn facts(&self) -> BTreeMap<String, String> {
        self.facts.clone()
    }

    fn communicator(&self) -> &dyn Communicator {
        &*self.communicator
    }

    async fn seal(&self, _context: &BuildContext) -> Result<Artifact, Failure> {
        Ok(Artifact {
            // Packer's, which its post-processors look at.
            builder_id: "fnoeding.null".to_owned(),
            id: "Null".to_owned(),
            description: "Did not export anything. This is the null builder".to_owned(),
            content: Content::Nothing,
            owner: None,
        })
    }

    async fn destroy(&self, context: &BuildContext) -> Result<(), Failure> {
        // The machine is somebody else's, and stays: what a stopped step started there would go on.
        let why = match tokio::time::timeout(GRACE, self.communicator.end_dropped()).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => Failure::environment(error).chain(),
            Err(_) => "the machine does not answer".to_owned(),
        };
        context.events.warn(format!("what the last step started may still run on the machine: {why}"));
        Ok(())
    }

    fn enter_hint(&self) -> Option<String> {
        self.enter.clone()
    }
}
