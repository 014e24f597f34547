//! The arguments, and what is wrong with them.

use std::sync::Arc;

use async_trait::async_trait;
use kiln_core::{
    BuildContext, Builder, BuilderKind, Decoded, Diagnostic, Diagnostics, Failure, Launched, PrepareContext, Schema,
};
use kiln_ssh::options::Reach;
use kiln_ssh::{Endpoint, FIELDS, SshOptions, SshProcess};

use crate::machine::NullMachine;

const NULL: Schema = Schema {
    kind: "null",
    title: "a `null` source",
    doc: "Logs in to a machine that is there already and lets the provisioners change it in place. With `communicator = \
          \"none\"` there is no machine, and only steps of this host run. Nothing is started, and nothing is sealed.",
    fields: FIELDS,
    example: r#"source "null" "worker" {
  ssh_host       = "staging.example.org"
  ssh_username   = "deploy"
  ssh_agent_auth = true
}"#,
};

/// The kind `null`.
pub struct NullBuilderKind {
    process: SshProcess,
}

impl NullBuilderKind {
    /// With what SSH may know of this process.
    pub fn new(process: SshProcess) -> NullBuilderKind {
        NullBuilderKind { process }
    }
}

impl BuilderKind for NullBuilderKind {
    fn schema(&self) -> &'static Schema {
        &NULL
    }

    fn fact_names(&self) -> &'static [&'static str] {
        &["SSHPrivateKey", "SSHPublicKey"]
    }

    fn prepare(
        &self,
        decoded: &Decoded,
        context: &PrepareContext,
        diagnostics: &mut Diagnostics,
    ) -> Option<Arc<dyn Builder>> {
        let options = SshOptions::read(decoded, &self.process, context, diagnostics);
        let mut found = Diagnostics::new();
        // Of other communicators, what matters is told by the options.
        if matches!(decoded.values().get("communicator").and_then(|value| value.as_str()), None | Some("" | "ssh")) {
            check(decoded, &mut found);
        }
        let is_wrong = found.has_errors();
        diagnostics.extend(found);
        let options = options.filter(|_| !is_wrong)?;
        let way = match options.reach {
            Reach::None => Way::None,
            // A host that is not known yet is known when the source is prepared to run.
            Reach::Ssh => {
                Way::Ssh { endpoint: Endpoint::of_options(&options).unwrap_or_default(), options: options.into() }
            }
        };
        Some(Arc::new(NullBuilder { way, process: self.process.clone() }))
    }
}

/// What a machine that nobody launched must have written down.
fn check(decoded: &Decoded, found: &mut Diagnostics) {
    let has = |name: &str| {
        let is_empty = decoded
            .values()
            .get(name)
            .is_some_and(|value| value.as_str() == Some("") || value.as_bool() == Some(false));
        decoded.is_unknown(name) || (decoded.is_set(name) && !is_empty)
    };
    if !has("ssh_host") {
        let span = decoded.span(if decoded.is_set("ssh_host") { "ssh_host" } else { "" });
        let missing =
            Diagnostic::error("missing-argument", span, "`ssh_host` is missing: a null source starts no machine");
        found.push(missing.help("name the machine, or write `communicator = \"none\"` for a build without one"));
    }
    let logins = ["ssh_password", "ssh_private_key_file", "ssh_private_key", "ssh_agent_auth", "ssh_config_file"];
    if !logins.iter().any(|name| has(name)) {
        let missing = Diagnostic::error("missing-argument", decoded.body_span(), "there is no way to log in");
        let help = "set one of `ssh_private_key_file`, `ssh_password`, `ssh_agent_auth`";
        found.push(missing.help(help));
    }
}

/// Whether there is a machine.
enum Way {
    None,
    Ssh { endpoint: Endpoint, options: Box<SshOptions> },
}

/// A configured `null` source.
struct NullBuilder {
    way: Way,
    process: SshProcess,
}

#[async_trait]
impl Builder for NullBuilder {
    async fn launch(&self, context: &BuildContext) -> Result<Launched, Failure> {
        let Way::Ssh { endpoint, options } = &self.way else {
            return Ok(Launched::Machine(Box::new(NullMachine::absent())));
        };
        let communicator = kiln_ssh::connect(options, endpoint.clone(), &self.process, context).await?;
        Ok(Launched::Machine(Box::new(NullMachine::over_ssh(communicator, options, endpoint))))
    }
}
