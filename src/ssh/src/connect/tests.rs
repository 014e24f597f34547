//! Getting into real servers: OpenSSH's, on loopback.

mod hosts;
mod logins;
mod ways;

use kiln_core::{Decoded, Schema};
use kiln_testkit::{Arguments, Sshd, TestContext, context, prepare_context};
use serde_json::{Value as Json, json};

use super::*;
use crate::connect::establish;
use crate::session::{ChannelEvent, ExecRequest};

const SCHEMA: Schema = Schema { kind: "null", title: "a `null` source", doc: "", fields: crate::FIELDS, example: "" };

fn decode(arguments: &Arguments) -> Decoded {
    let (decoded, diagnostics) = arguments.decode(&SCHEMA);
    assert!(!diagnostics.has_errors(), "{diagnostics:?}");
    decoded
}

fn options(json: &Json, process: &SshProcess) -> SshOptions {
    let mut diagnostics = kiln_core::Diagnostics::new();
    let options =
        SshOptions::read(&decode(&Arguments::new(json.clone())), process, &prepare_context(), &mut diagnostics);
    options.unwrap_or_else(|| panic!("{diagnostics:?}"))
}

/// Options that get into a server by its user's key, with its host key known; the second set wins.
fn with(sshd: &Sshd, more: Json) -> Json {
    let mut json = json!({
        "ssh_host": sshd.host(),
        "ssh_port": sshd.port(),
        "ssh_username": sshd.user(),
        "ssh_private_key_file": sshd.user_key(),
        "ssh_host_key": [sshd.host_key()],
        "ssh_timeout": "20s",
        "ssh_handshake_attempts": 1,
    });
    for (name, value) in more.as_object().unwrap() {
        if value.is_null() {
            json.as_object_mut().unwrap().remove(name);
        } else {
            json[name] = value.clone();
        }
    }
    json
}

type Entered = (Arc<Walker>, Arrived);

async fn enter(json: &Json, process: &SshProcess, context: &TestContext) -> Result<Entered, Failure> {
    let options = options(json, process);
    let endpoint = Endpoint::of_options(&options).unwrap();
    establish(&options, &endpoint, process, context).await
}

/// Gets in with these options, and runs a command.
async fn works(json: &Json) -> TestContext {
    let context = context().build();
    let (_walker, arrived) =
        enter(json, &SshProcess::default(), &context).await.unwrap_or_else(|failure| panic!("{}", failure.chain()));
    assert_eq!(run(&arrived, "echo works").await, "works\n");
    context
}

/// Does not get in, for this reason.
async fn fails(json: &Json) -> Failure {
    enter(json, &SshProcess::default(), &context().build()).await.err().expect("it got in")
}

async fn run(arrived: &Arrived, line: &str) -> String {
    let mut channel = arrived.session.exec(ExecRequest::command(line)).await.unwrap();
    let mut text = Vec::new();
    loop {
        match channel.next().await.unwrap() {
            ChannelEvent::Output(_, chunk) => text.extend_from_slice(&chunk),
            ChannelEvent::OutputEnded => {}
            ChannelEvent::Ended(_) => return String::from_utf8(text).unwrap(),
        }
    }
}

/// A home with files in `.ssh`.
fn home(files: &[(&str, &str)]) -> (tempfile::TempDir, SshProcess) {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join(".ssh")).unwrap();
    for (name, text) in files {
        std::fs::write(directory.path().join(".ssh").join(name), text).unwrap();
    }
    let process = SshProcess { home: Some(directory.path().to_owned()), ..SshProcess::default() };
    (directory, process)
}
