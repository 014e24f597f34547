//! The `shell-local` provisioner: runs scripts on this host, beside the machine.
//!
//! All it does lives in [`kiln_transport::local_script`], which the post-processor of the same name shares.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use kiln_core::{
    BuildContext, Caching, Decoded, Diagnostics, Failure, Machine, PrepareContext, Provisioner, ProvisionerKind, Schema,
};
use kiln_transport::LocalCommunicator;
use kiln_transport::local_script::{FIELDS, LocalData, LocalScript};

/// The arguments of `shell-local`.
pub const SCHEMA: Schema = Schema {
    kind: "shell-local",
    title: "a `shell-local` provisioner",
    doc: "Runs scripts or inline commands on this host. It always runs: what it changes lies outside the machine.",
    fields: FIELDS,
    example: r#"provisioner "shell-local" {
  inline = ["ping -c 1 ${build.Host}"]
}"#,
};

/// The kind `shell-local`.
#[derive(Debug, Clone, Copy, Default)]
pub struct ShellLocalKind;

/// A configured `shell-local`.
#[derive(Debug)]
struct ShellLocal(LocalScript);

impl ProvisionerKind for ShellLocalKind {
    fn schema(&self) -> &'static Schema {
        &SCHEMA
    }

    fn prepare(
        &self,
        config: &Decoded,
        _context: &PrepareContext,
        diagnostics: &mut Diagnostics,
    ) -> Option<Arc<dyn Provisioner>> {
        let script = LocalScript::prepare(config, SCHEMA.title, diagnostics)?;
        Some(Arc::new(ShellLocal(script)))
    }
}

#[async_trait]
impl Provisioner for ShellLocal {
    fn title(&self) -> String {
        self.0.title()
    }

    fn input_files(&self) -> Vec<PathBuf> {
        self.0.input_files()
    }

    fn caching(&self) -> Caching {
        Caching::Outside
    }

    async fn provision(&self, _machine: &dyn Machine, context: &BuildContext) -> Result<(), Failure> {
        self.0.run(&LocalCommunicator, context, &LocalData::default()).await
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use kiln_testkit::{Arguments, FakeMachine, context};
    use serde_json::{Value as Json, json};

    use super::*;

    fn shell_local(json: Json) -> Arc<dyn Provisioner> {
        let (step, diagnostics) = Arguments::new(json).provisioner(&ShellLocalKind);
        assert!(!diagnostics.has_errors(), "{diagnostics:?}");
        step.unwrap()
    }

    #[tokio::test]
    async fn inline_commands_run_here_and_not_on_the_machine() {
        let context = context().secret("hunter22").build();
        let machine = FakeMachine::new();
        let step = shell_local(json!({
            "inline": ["echo \"$PACKER_BUILD_NAME has $TOKEN\"", "false", "echo not reached"],
            "env": { "TOKEN": "hunter22" }, "valid_exit_codes": [1],
        }));
        assert_eq!((step.title().as_str(), step.caching()), ("3 local commands", Caching::Outside));
        step.provision(&machine, &context).await.unwrap();
        assert_eq!(context.reporter.output(), ["worker has <sensitive>"]);
        assert!(machine.communicator.calls().is_empty());
        assert_eq!(std::fs::read_dir(&context.scratch).unwrap().count(), 0, "the temporary script is gone");
    }

    #[tokio::test]
    async fn a_script_runs_with_packers_own_command_too() {
        let context = context().secret("hunter22").build();
        let path = context.scratch.join("it's a script.sh");
        std::fs::write(&path, "echo \"[$A] [$TOKEN]\"\nexit 7\n").unwrap();
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(&path, mode).unwrap();
        let env = json!({ "A": "it's two", "TOKEN": "hunter22" });
        for execute_command in [None, Some(["/bin/sh", "-c", "{{.Vars}} \"{{.Script}}\""])] {
            let mut arguments = json!({ "script": path, "env": env });
            if let Some(words) = execute_command {
                arguments["execute_command"] = json!(words);
            }
            let failure = shell_local(arguments).provision(&FakeMachine::new(), &context).await.unwrap_err();
            let expected =
                "exited with status 7 (allowed: 0); the last lines of its output:\n    [it's two] [<sensitive>]";
            assert!(failure.to_string().ends_with(expected), "{failure}");
        }
    }

    #[tokio::test]
    async fn a_script_that_may_not_be_run_tells_what_to_look_at() {
        let context = context().build();
        let path = context.scratch.join("plain.sh");
        std::fs::write(&path, "echo no\n").unwrap();
        let failure =
            shell_local(json!({ "script": path })).provision(&FakeMachine::new(), &context).await.unwrap_err();
        assert!(failure.to_string().contains("exited with status 126"), "{failure}");
        assert!(failure.hints[0].contains("mode"), "{:?}", failure.hints);
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_no_script_that_fails() {
        let context = context().build();
        let step = shell_local(json!({ "inline": ["x"], "execute_command": ["/no/such/program", "{{.Script}}"] }));
        let failure = step.provision(&FakeMachine::new(), &context).await.unwrap_err();
        assert!(failure.to_string().contains("cannot run the inline commands"), "{failure}");
    }

    #[test]
    fn the_reference_says_what_the_schema_says() {
        let page = include_str!("../../../docs/reference/provisioners.md");
        assert_eq!(kiln_testkit::undocumented(&SCHEMA, page), Vec::<String>::new());
    }
}
