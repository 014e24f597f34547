//! Both ways to their end, with this host in the machine's place.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;

use async_trait::async_trait;
use kiln_core::{Artifact, BuildContext, Communicator, Failure, Machine};
use kiln_testkit::{TestContext, context};
use kiln_transport::LocalCommunicator;
use serde_json::json;

use super::*;

struct ThisHost;

#[async_trait]
impl Machine for ThisHost {
    fn facts(&self) -> BTreeMap<String, String> {
        BTreeMap::new()
    }

    fn communicator(&self) -> &dyn Communicator {
        &LocalCommunicator
    }

    async fn seal(&self, _context: &BuildContext) -> Result<Artifact, Failure> {
        Err(Failure::build("this host is not sealed"))
    }

    async fn destroy(&self, _context: &BuildContext) -> Result<(), Failure> {
        Ok(())
    }
}

/// Where scripts are put; must be empty afterwards.
fn folder(context: &TestContext) -> std::path::PathBuf {
    let folder = context.scratch.join("it's a folder");
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

async fn run(context: &TestContext, mut arguments: Json) -> Result<Vec<String>, Failure> {
    let folder = folder(context);
    arguments["remote_folder"] = json!(folder);
    let before = context.reporter.output().len();
    let result = shell(arguments).provision(&ThisHost, context).await;
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0, "nothing is left on the machine");
    result.map(|()| context.reporter.output().split_off(before))
}

#[tokio::test]
async fn every_way_gives_the_script_the_same_environment() {
    let context = context().secret("hunt'er\" $22").build();
    let inline = ["printf '%s|' \"$TOKEN\" \"$PLAIN\" \"$PACKER_BUILD_NAME\" | od -An -v -to1 | tr -d ' \\n'"];
    let env = json!({ "TOKEN": "hunt'er\" $22", "PLAIN": "it's $HOME \\ `id`\nand a line" });
    // In octal, which the redactor does not know.
    let expected: String =
        "hunt'er\" $22|it's $HOME \\ `id`\nand a line|worker|".bytes().map(|byte| format!("{byte:03o}")).collect();
    for how in [
        json!({}),
        json!({ "execute_command": "chmod +x \"{{.Path}}\"; {{.Vars}} \"{{.Path}}\"" }),
        json!({ "execute_command": "env {{.Vars}} sh -e \"{{.Path}}\"", "env_var_format": "%s='%s' " }),
        json!({ "execute_command": "{{.Vars}} sh -e \"{{.Path}}\"", "env_var_format": "export %s='%s'; " }),
        json!({ "execute_command": ". \"{{.EnvVarFile}}\" && sh -e \"{{.Path}}\"", "use_env_var_file": true }),
    ] {
        let mut arguments = json!({ "inline": inline, "env": env });
        arguments.as_object_mut().unwrap().extend(how.as_object().unwrap().clone());
        assert_eq!(run(&context, arguments).await.unwrap().concat(), expected, "{how}");
    }
    assert!(context.reporter.warnings().is_empty(), "{:?}", context.reporter.warnings());
}

#[tokio::test]
async fn failures_and_storing_problems_are_told_apart() {
    let context = context().build();
    let failure = run(&context, json!({ "inline": ["echo last words", "false"] })).await.unwrap_err();
    assert_eq!(
        failure.to_string(),
        "the inline commands exited with status 1 (allowed: 0); the last lines of its output:\n    last words"
    );
    let failure = run(&context, json!({ "inline": ["true"], "remote_file": "no/such/x.sh" })).await.unwrap_err();
    assert!(failure.to_string().starts_with("cannot store the inline commands at `"), "{failure}");
}

#[tokio::test]
async fn a_script_file_with_its_own_interpreter_runs_from_any_mode() {
    let context = context().build();
    let path = context.scratch.join("dos.sh");
    std::fs::write(&path, "#!/bin/sh\r\necho \"$0\" | sed 's/.*_//'\r\n").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let output = run(&context, json!({ "script": path, "remote_file": "script_x.sh" })).await.unwrap();
    assert_eq!(output, ["x.sh"]);
}
