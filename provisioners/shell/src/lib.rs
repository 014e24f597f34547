//! The `shell` provisioner: runs scripts on the machine.
//!
//! Two ways lead there. Where the template does not say how scripts are run, a script costs one command and nothing
//! else: its bytes come on standard input, a small wrapper ([`wrapper`]) stores, runs and removes it, and its environment
//! travels beside the command line. Where the template sets `execute_command`, `env_var_format` or `use_env_var_file`,
//! Packer's way is followed to the letter: upload, run, remove.
//!
//! Owns: the arguments, both ways, retrying the start. Must not know: any builder.

mod content;
mod retry;
mod run;
pub mod wrapper;

use std::sync::Arc;
use std::time::Duration;

use kiln_core::{
    Decoded, Diagnostic, Diagnostics, Field, FieldType, PrepareContext, Provisioner, ProvisionerKind, Schema, duration,
};
use kiln_transport::script::{DEFAULT_VARIABLE_FORMAT, Environment, ScriptSource, VariableFormat};
use serde::Deserialize;

/// How Packer writes variables into a file.
const FILE_VARIABLE_FORMAT: &str = "export %s='%s'\n";

/// How Packer runs a script.
const DEFAULT_COMMAND: &str = "chmod +x {{.Path}}; {{.Vars}} {{.Path}}";

/// How Packer runs a script whose environment is a file.
const DEFAULT_FILE_COMMAND: &str = "chmod +x {{.Path}}; . {{.EnvVarFile}} && {{.Path}}";

/// What Packer calls a lost connection among exit statuses.
const DISCONNECT_STATUS: i64 = 2_300_218;

/// Where commands may come from.
const SOURCES: [&str; 3] = ["inline", "script", "scripts"];

/// The arguments of `shell`.
pub const SCHEMA: Schema = Schema {
    kind: "shell",
    title: "a `shell` provisioner",
    doc: "Runs scripts or inline commands on the machine.",
    fields: &[
        Field::strings("inline", "Commands, run as the lines of one script."),
        Field::string("script", "A script of this host, relative to the working directory of kiln."),
        Field::strings("scripts", "Scripts, run one after the other."),
        Field::map("env", "Environment of the scripts; wins over `environment_vars`."),
        Field::strings("environment_vars", "Environment of the scripts, as `NAME=value`."),
        Field::string(
            "env_var_format",
            "How one variable is written: two `%s`, for the name and the value. Without this, `use_env_var_file` and \
             `execute_command`, the environment stands on no command line at all.",
        )
        .default("%s='%s' "),
        Field::bool(
            "use_env_var_file",
            "Upload the environment as a file (mode 0600, removed afterwards), `{{.EnvVarFile}}`, for machines that \
             take no environment.",
        )
        .default("false"),
        Field::string(
            "execute_command",
            "The command that runs a script: `{{.Vars}}` is the environment, `{{.Path}}` the script on the machine, \
             `{{.EnvVarFile}}` the file of `use_env_var_file`. Sensitive values stand in `{{.Vars}}` as \
             `NAME=\"$NAME\"` and travel in the environment.",
        )
        .default(DEFAULT_COMMAND)
        .deferred_with(&["Vars", "Path", "EnvVarFile"]),
        Field::string("inline_shebang", "The interpreter of `inline`; commands that begin with `#!` keep their own.")
            .default("/bin/sh -e"),
        Field::string("remote_folder", "Where on the machine scripts are put.").default("/tmp"),
        Field::string("remote_file", "What a script is called there.").default("script_<number>.sh"),
        Field::string("remote_path", "The whole path there; wins over the two above."),
        Field::bool("binary", "Leave line ends alone; else CRLF becomes LF.").default("false"),
        Field::new("valid_exit_codes", FieldType::IntegerList, "Exit statuses that are fine.").default("[0]"),
        Field::bool("expect_disconnect", "A connection lost while a script runs (a reboot) is fine.").default("false"),
        Field::duration(
            "start_retry_timeout",
            "How long starting a script is tried again while the machine does not answer. What has started is never \
             run twice.",
        )
        .default("5m"),
        Field::bool("skip_clean", "Leave the scripts on the machine.").default("false"),
        Field::duration("pause_after", "Wait after the last script, when all went well."),
    ],
    example: r#"provisioner "shell" {
  inline = ["apt-get update", "apt-get install -y nginx"]
  env    = { DEBIAN_FRONTEND = "noninteractive" }
}"#,
};

/// The arguments as they are read.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Config {
    use_env_var_file: bool,
    execute_command: Option<String>,
    inline_shebang: Option<String>,
    remote_folder: Option<String>,
    remote_file: Option<String>,
    remote_path: Option<String>,
    binary: bool,
    valid_exit_codes: Option<Vec<i64>>,
    expect_disconnect: bool,
    #[serde(deserialize_with = "duration::deserialize_option")]
    start_retry_timeout: Option<Duration>,
    skip_clean: bool,
    #[serde(deserialize_with = "duration::deserialize_option")]
    pause_after: Option<Duration>,
}

/// How scripts are run where the template says so itself.
#[derive(Debug)]
struct Explicit {
    command: String,
    format: VariableFormat,
    use_env_var_file: bool,
}

/// A configured `shell`.
#[derive(Debug)]
struct Shell {
    source: ScriptSource,
    environment: Environment,
    /// `None`: the way of one command a script.
    explicit: Option<Explicit>,
    inline_shebang: Option<String>,
    remote_folder: String,
    remote_file: Option<String>,
    remote_path: Option<String>,
    is_binary: bool,
    valid_exit_codes: Vec<i64>,
    expects_disconnect: bool,
    start_retry_timeout: Duration,
    skips_clean: bool,
    pause_after: Duration,
}

/// The kind `shell`.
#[derive(Debug, Clone, Copy, Default)]
pub struct ShellKind;

impl ProvisionerKind for ShellKind {
    fn schema(&self) -> &'static Schema {
        &SCHEMA
    }

    fn prepare(
        &self,
        config: &Decoded,
        _context: &PrepareContext,
        diagnostics: &mut Diagnostics,
    ) -> Option<Arc<dyn Provisioner>> {
        let shell = Shell::prepare(config, diagnostics)?;
        Some(Arc::new(shell))
    }
}

impl Shell {
    fn prepare(config: &Decoded, diagnostics: &mut Diagnostics) -> Option<Shell> {
        let source = ScriptSource::read(config, &SOURCES, SCHEMA.title, diagnostics);
        let environment = Environment::read(config, diagnostics);
        let read: Config = config.read_or_tell(diagnostics)?;
        let default_format = if read.use_env_var_file { FILE_VARIABLE_FORMAT } else { DEFAULT_VARIABLE_FORMAT };
        let format = VariableFormat::read(config, default_format, diagnostics);
        check_command(config, &read, diagnostics);
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        let default_command = if read.use_env_var_file { DEFAULT_FILE_COMMAND } else { DEFAULT_COMMAND };
        let is_explicit = read.use_env_var_file || config.is_set("execute_command") || config.is_set("env_var_format");
        let explicit = Explicit {
            command: given(read.execute_command).unwrap_or_else(|| default_command.to_owned()),
            format: format?,
            use_env_var_file: read.use_env_var_file,
        };
        let mut valid_exit_codes = read.valid_exit_codes.unwrap_or_default();
        if valid_exit_codes.is_empty() {
            valid_exit_codes.push(0);
        }
        Some(Shell {
            source: source?,
            environment,
            explicit: is_explicit.then_some(explicit),
            inline_shebang: given(read.inline_shebang),
            remote_folder: given(read.remote_folder).unwrap_or_else(|| "/tmp".to_owned()),
            remote_file: given(read.remote_file),
            remote_path: given(read.remote_path),
            is_binary: read.binary,
            expects_disconnect: read.expect_disconnect || valid_exit_codes.contains(&DISCONNECT_STATUS),
            valid_exit_codes,
            start_retry_timeout: read.start_retry_timeout.unwrap_or(Duration::from_secs(5 * 60)),
            skips_clean: read.skip_clean,
            pause_after: read.pause_after.unwrap_or(Duration::ZERO),
        })
    }
}

/// Warns where an environment is given and the command drops it.
fn check_command(config: &Decoded, read: &Config, diagnostics: &mut Diagnostics) {
    let Some(command) = read.execute_command.as_deref() else { return };
    let has_environment = config.is_set("env") || config.is_set("environment_vars");
    let is_used = command.contains(".Vars") || (read.use_env_var_file && command.contains(".EnvVarFile"));
    if has_environment && !is_used {
        let wanted = if read.use_env_var_file { "{{.EnvVarFile}}" } else { "{{.Vars}}" };
        let title = format!("`execute_command` does not use `{wanted}`, so the scripts do not get their environment");
        let place = if config.is_set("env") { "env" } else { "environment_vars" };
        diagnostics.push(
            Diagnostic::warning("unused-environment", config.span("execute_command"), title)
                .also(config.span(place), "this environment"),
        );
    }
}

#[cfg(test)]
mod tests;
