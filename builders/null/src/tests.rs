//! The source from its arguments to its facts, and a real login.

use std::collections::BTreeMap;
use std::sync::Arc;

use kiln_core::communicator::CaptureSink;
use kiln_core::{Builder, BuilderKind as _, Command, Content, Launched, Machine};
use kiln_ssh::SshProcess;
use kiln_testkit::{Arguments, Sshd, TestContext, context, prepare_context, titles};
use serde_json::{Value as Json, json};

use crate::NullBuilderKind;

fn prepare(arguments: Arguments) -> (Option<Arc<dyn Builder>>, Vec<String>) {
    let kind = NullBuilderKind::new(SshProcess::default());
    let (decoded, mut diagnostics) = arguments.decode(kind.schema());
    let builder = kind.prepare(&decoded, &prepare_context(), &mut diagnostics);
    (builder, titles(&diagnostics).into_iter().map(str::to_owned).collect())
}

fn mistakes(arguments: Json) -> Vec<String> {
    let (builder, found) = prepare(Arguments::new(arguments));
    assert_eq!(builder.is_none(), !found.is_empty(), "{found:?}");
    found
}

async fn launch(arguments: Json, context: &TestContext) -> Box<dyn Machine> {
    let (builder, titles) = prepare(Arguments::new(arguments));
    match builder.unwrap_or_else(|| panic!("{titles:?}")).launch(context).await.unwrap() {
        Launched::Machine(machine) => machine,
        Launched::Artifact(_) => panic!("steps run before the artifact"),
    }
}

fn facts(expected: &[(&str, &str)]) -> BTreeMap<String, String> {
    expected.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[tokio::test]
async fn without_a_machine_only_the_artifact_is_there() {
    let context = context().build();
    let machine = launch(json!({"communicator": "none"}), &context).await;
    assert_eq!(machine.facts()["ID"], "Null");
    let error = machine.communicator().exec(&Command::shell("true"), &mut CaptureSink::default()).await.unwrap_err();
    assert!(std::error::Error::source(&error).unwrap().to_string().contains("has no machine"));

    let artifact = machine.seal(&context).await.unwrap();
    assert_eq!((artifact.builder_id.as_str(), artifact.id.as_str()), ("fnoeding.null", "Null"));
    assert_eq!(artifact.description, "Did not export anything. This is the null builder");
    assert_eq!(artifact.content, Content::Nothing);
}

#[test]
fn what_a_login_needs_is_asked_for_at_once() {
    assert_eq!(
        mistakes(json!({})),
        [
            "`ssh_username` is missing",
            "`ssh_host` is missing: a null source starts no machine",
            "there is no way to log in"
        ]
    );
    let with = |login: Json| {
        let mut arguments = json!({"ssh_host": "example.org", "ssh_username": "root"});
        arguments.as_object_mut().unwrap().extend(login.as_object().unwrap().clone());
        mistakes(arguments)
    };
    assert_eq!(with(json!({"ssh_password": "", "ssh_agent_auth": false})), ["there is no way to log in"]);
    assert_eq!(with(json!({"ssh_password": "x"})), [""; 0]);
}

#[test]
fn of_a_communicator_that_kiln_does_not_have_nothing_else_is_asked() {
    assert_eq!(
        mistakes(json!({ "communicator": "winrm", "winrm_host": "h", "winrm_username": "u" })),
        ["kiln does not have the communicator `winrm`"]
    );
}

#[test]
fn what_is_not_known_yet_is_not_missing() {
    let arguments = json!({"ssh_host": "x", "ssh_username": "x", "ssh_password": "x"});
    let unknown = ["ssh_host", "ssh_username", "ssh_password"];
    let arguments = unknown.iter().fold(Arguments::new(arguments), |arguments, name| arguments.unknown(name));
    let (builder, found) = prepare(arguments);
    assert!(builder.is_some() && found.is_empty(), "{found:?}");
}

#[tokio::test]
async fn a_machine_is_logged_in_to_and_changed_in_place() {
    let Some(sshd) = Sshd::start() else { return };
    let context = context().build();
    let arguments = json!({
        "ssh_host": sshd.host(),
        "ssh_port": sshd.port(),
        "ssh_username": sshd.user(),
        "ssh_private_key_file": sshd.user_key(),
        "ssh_host_key": [sshd.host_fingerprint()],
    });
    let machine = launch(arguments, &context).await;
    let (port, user) = (sshd.port().to_string(), sshd.user());
    assert_eq!(
        machine.facts(),
        facts(&[
            ("ConnType", "ssh"),
            ("Host", sshd.host()),
            ("ID", "Null"),
            ("Password", ""),
            ("Port", &port),
            ("SSHPrivateKey", ""),
            ("SSHPublicKey", ""),
            ("User", &user),
        ])
    );
    assert_eq!(machine.enter_hint().unwrap(), format!("ssh -p {port} {user}@{}", sshd.host()));
    let mut sink = CaptureSink::default();
    let status = machine.communicator().exec(&Command::shell("id -un"), &mut sink).await.unwrap();
    assert_eq!((status.code(), String::from_utf8(sink.stdout).unwrap()), (0, format!("{user}\n")));
    machine.destroy(&context).await.unwrap();
}
