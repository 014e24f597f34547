//! Scripts on this host: the core of the provisioner and of the post-processor `shell-local`.
//!
//! A kind takes [`FIELDS`] as its schema's fields, calls [`LocalScript::prepare`] in its own `prepare`, and
//! [`LocalScript::run`] with the communicator of this host when its turn comes.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use kiln_core::{BuildContext, Command, Communicator, Decoded, Diagnostic, Diagnostics, Failure, Field};
use kiln_gotemplate::Data;
use serde::Deserialize;

use crate::script::{
    DEFAULT_VARIABLE_FORMAT, Environment, ScriptSource, VariableFormat, check_exit, hidden, inline_script, render,
};
use kiln_core::lines::LineSink;

/// Go's names of operating systems, for `only_on`.
const SYSTEMS: [&str; 8] = ["darwin", "dragonfly", "freebsd", "linux", "netbsd", "openbsd", "solaris", "windows"];

/// Programs whose `-c` takes a command in the language of `sh`.
const SHELLS: [&str; 6] = ["sh", "bash", "dash", "ash", "ksh", "zsh"];

/// Where commands may come from.
const SOURCES: [&str; 4] = ["inline", "command", "script", "scripts"];

/// The arguments of `shell-local`.
pub const FIELDS: &[Field] = &[
    Field::strings("inline", "Commands, run as the lines of one script."),
    Field::string("script", "A script of this host, relative to the working directory of kiln. It must be executable."),
    Field::strings("scripts", "Scripts, run one after the other."),
    Field::string("command", "One command.").deprecated("write `inline = [\"...\"]`"),
    Field::map("env", "Environment of the scripts; wins over `environment_vars`."),
    Field::strings("environment_vars", "Environment of the scripts, as `NAME=value`."),
    Field::string(
        "env_var_format",
        "How one variable is written into `{{.Vars}}`: two `%s`, for the name and the value. Without it, and without \
         `execute_command`, the environment is handed to the process and stands on no command line.",
    )
    .default("%s='%s' "),
    Field::strings(
        "execute_command",
        "Program and arguments that run a script; `{{.Vars}}` is the environment, `{{.Script}}` the script's path. \
         Sensitive values stand in `{{.Vars}}` as `NAME=\"$NAME\"` and travel in the environment.",
    )
    .default("[\"/bin/sh\", \"-c\", \"{{.Vars}} {{.Script}}\"]")
    .deferred_with(&["Vars", "Script", "Command"]),
    Field::string("inline_shebang", "The interpreter of `inline`; commands that begin with `#!` keep their own.")
        .default("/bin/sh -e"),
    Field::new("valid_exit_codes", kiln_core::FieldType::IntegerList, "Exit statuses that are fine.").default("[0]"),
    Field::strings("only_on", "Run only on these systems (`linux`, `darwin`, ...); skipped with a message elsewhere."),
    Field::string("tempfile_extension", "Extension of the script made of `inline`, e.g. `.py`."),
    Field::bool("use_linux_pathing", "For Windows with WSL; without effect elsewhere.").default("false"),
];

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Config {
    execute_command: Option<Vec<String>>,
    inline_shebang: Option<String>,
    valid_exit_codes: Option<Vec<i64>>,
    only_on: Vec<String>,
    tempfile_extension: String,
}

/// The longest `NAME=value` of an environment with the zero behind it, in bytes.
const LONGEST_VARIABLE: usize = 128 * 1024;

/// What a component adds to its scripts.
#[derive(Debug, Clone, Default)]
pub struct LocalData {
    /// Further fields for `execute_command` (`{{.ArtifactId}}`).
    pub fields: BTreeMap<String, String>,
    /// Further environment; what the template sets wins.
    pub environment: BTreeMap<String, String>,
}

/// A configured `shell-local`.
#[derive(Debug)]
pub struct LocalScript {
    source: ScriptSource,
    environment: Environment,
    format: VariableFormat,
    /// `Some` where the template says how scripts are run, or how variables are written.
    execute_command: Option<Vec<String>>,
    inline_shebang: Option<String>,
    valid_exit_codes: Vec<i64>,
    only_on: Vec<String>,
    tempfile_extension: String,
}

impl LocalScript {
    /// Checks the arguments; `title` is the schema's. All mistakes go into `diagnostics`.
    pub fn prepare(config: &Decoded, title: &str, diagnostics: &mut Diagnostics) -> Option<LocalScript> {
        let source = ScriptSource::read(config, &SOURCES, title, diagnostics);
        let environment = Environment::read(config, diagnostics);
        let format = VariableFormat::read(config, DEFAULT_VARIABLE_FORMAT, diagnostics);
        let read: Config = match config.read() {
            Ok(read) => read,
            Err(diagnostic) => {
                diagnostics.push(*diagnostic);
                return None;
            }
        };
        let is_empty = read.execute_command.as_ref().is_some_and(Vec::is_empty);
        if is_empty {
            let diagnostic =
                Diagnostic::error("empty-value", config.span("execute_command"), "`execute_command` is empty");
            diagnostics.push(diagnostic.help("the default is `[\"/bin/sh\", \"-c\", \"{{.Vars}} {{.Script}}\"]`"));
        }
        let mut is_known = true;
        for (index, name) in read.only_on.iter().enumerate() {
            let place = format!("only_on[{index}]");
            if !SYSTEMS.contains(&name.as_str()) && !config.is_unknown(&place) {
                let span = config.span(&place);
                diagnostics.push(
                    Diagnostic::error("wrong-value", span, format!("`{name}` is no operating system that kiln knows"))
                        .help(format!("known: {}", kiln_core::suggest::enumerate(SYSTEMS))),
                );
                is_known = false;
            }
        }
        if is_empty || !is_known {
            return None;
        }
        let is_explicit = config.is_set("execute_command") || config.is_set("env_var_format");
        let default = || ["/bin/sh", "-c", "{{.Vars}} {{.Script}}"].map(str::to_owned).to_vec();
        Some(LocalScript {
            source: source?,
            environment,
            format: format?,
            execute_command: is_explicit.then(|| read.execute_command.unwrap_or_else(default)),
            inline_shebang: read.inline_shebang.filter(|shebang| !shebang.is_empty()),
            valid_exit_codes: read.valid_exit_codes.filter(|codes| !codes.is_empty()).unwrap_or_else(|| vec![0]),
            only_on: read.only_on,
            tempfile_extension: read.tempfile_extension,
        })
    }

    /// In a few words.
    pub fn title(&self) -> String {
        self.source.title("local ")
    }

    /// The scripts.
    pub fn input_files(&self) -> Vec<PathBuf> {
        self.source.files()
    }

    /// Runs the scripts one after the other through the communicator of this host. Heeds `context.cancel`.
    pub async fn run(
        &self,
        communicator: &dyn Communicator,
        context: &BuildContext,
        data: &LocalData,
    ) -> Result<(), Failure> {
        let system = system();
        if !self.only_on.is_empty() && !self.only_on.iter().any(|name| name == system) {
            let text = format!("skipped: this host is `{system}`, and `only_on` lists {}", self.only_on.join(", "));
            context.events.message(text);
            return Ok(());
        }
        match &self.source {
            ScriptSource::Inline(commands) => {
                let content = inline_script(commands, self.inline_shebang.as_deref());
                let file = temporary_script(context.scratch.clone(), self.tempfile_extension.clone(), content).await?;
                self.run_one(communicator, context, data, "the inline commands", &file).await
            }
            ScriptSource::Files(files) => {
                for file in files {
                    if files.len() > 1 {
                        context.events.message(format!("running {file}"));
                    }
                    let path = std::path::absolute(file)
                        .map_err(|source| LocalScriptError::Path { path: file.into(), source });
                    let path = path.map_err(Failure::build)?;
                    self.run_one(communicator, context, data, &format!("script `{file}`"), &path).await?;
                }
                Ok(())
            }
        }
    }

    async fn run_one(
        &self,
        communicator: &dyn Communicator,
        context: &BuildContext,
        data: &LocalData,
        name: &str,
        path: &Path,
    ) -> Result<(), Failure> {
        let command = self.command(context, data, path)?;
        let mut sink = LineSink::new(context.events.clone());
        let status = tokio::select! {
            biased;
            () = context.cancel.cancelled() => return Err(Failure::cancelled()),
            result = communicator.exec(&command, &mut sink) => result,
        };
        sink.finish();
        let status = status.map_err(|source| {
            Failure::build(LocalScriptError::Start { script: name.to_owned(), source })
                .hint("look at `execute_command` and the `#!` line: is what they name there on this host?")
        })?;
        check_exit(name, status, &self.valid_exit_codes, &sink, &context.redactor)
    }

    fn command(&self, context: &BuildContext, data: &LocalData, path: &Path) -> Result<Command, Failure> {
        let environment = self.environment.complete(context, &as_far_as_they_fit(&data.environment, context));
        let path = path.display().to_string();
        let Some(words) = &self.execute_command else {
            // `$0` needs no quoting; the shell runs a script without a `#!` line itself, as the default command does.
            let argv = ["/bin/sh", "-c", "\"$0\"", &path];
            return Ok(Command { environment: environment.pairs(), ..Command::new(argv) });
        };
        let assignments = environment.assignments(&self.format, &context.redactor);
        let mut fields: BTreeMap<String, Data> = BTreeMap::new();
        fields.extend(data.fields.iter().map(|(name, value)| (name.clone(), Data::Text(value.clone()))));
        fields.insert("Script".to_owned(), Data::Text(path));
        let render = |word: &String| render("execute_command", word, context, &fields, &assignments.text);
        let mut argv = words.iter().map(render).collect::<Result<Vec<String>, Failure>>()?;
        let mut environment = assignments.beside;
        if let [program, option, command, ..] = argv.as_mut_slice()
            && option == "-c"
            && SHELLS.contains(&program.rsplit('/').next().unwrap_or_default())
            && let Some((text, variable)) = hidden(command, &context.redactor)
        {
            *command = text;
            environment.push(variable);
        }
        if argv.iter().any(|word| matches!(context.redactor.redact(word), Cow::Owned(_))) {
            context.events.warn(
                "`execute_command` puts a sensitive value on a command line, where all users of this host can see it; \
                 hand it over in `env`",
            );
        }
        Ok(Command { environment, ..Command::new(argv) })
    }
}

/// What fits into a process's environment: Linux takes no string of more than 32 pages (`MAX_ARG_STRLEN`), and would not
/// start the program at all. The rest is left out, and told.
fn as_far_as_they_fit(variables: &BTreeMap<String, String>, context: &BuildContext) -> BTreeMap<String, String> {
    let fits = |(name, value): &(&String, &String)| {
        let fits = name.len() + value.len() + "=\0".len() <= LONGEST_VARIABLE;
        if !fits {
            let size = value.len() / 1024;
            context.events.warn(format!("`{name}` is left out: its {size} KiB do not fit into a variable"));
        }
        fits
    };
    let fitting = variables.iter().filter(fits);
    fitting.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// Why a local script could not be run.
#[derive(Debug, thiserror::Error)]
pub enum LocalScriptError {
    /// The temporary file for `inline`.
    #[error("cannot write the inline commands to a file in {directory}")]
    Temporary {
        /// The build's scratch directory.
        directory: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The working directory is gone.
    #[error("cannot tell where {path} lies")]
    Path {
        /// The script.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The process did not start.
    #[error("cannot run {script}")]
    Start {
        /// What should have run.
        script: String,
        /// Why.
        source: kiln_core::communicator::CommunicatorError,
    },
}

/// Go's name of this host's operating system.
fn system() -> &'static str {
    match std::env::consts::OS {
        "macos" => "darwin",
        other => other,
    }
}

/// Writes a script that only its owner can read and run; it is removed when the returned path is dropped.
async fn temporary_script(
    directory: PathBuf,
    extension: String,
    content: String,
) -> Result<tempfile::TempPath, Failure> {
    let place = directory.clone();
    let write = move || -> std::io::Result<tempfile::TempPath> {
        let suffix = match extension.as_str() {
            "" => String::new(),
            extension => format!(".{}", extension.trim_start_matches('.')),
        };
        let mut file = tempfile::Builder::new()
            .prefix("shell-local-")
            .suffix(&suffix)
            .permissions(std::fs::Permissions::from_mode(0o700))
            .tempfile_in(&directory)?;
        file.write_all(content.as_bytes())?;
        // Closed here: a file that is open for writing cannot be executed.
        Ok(file.into_temp_path())
    };
    let written = tokio::task::spawn_blocking(write).await.map_err(std::io::Error::other).and_then(|written| written);
    written.map_err(|source| Failure::environment(LocalScriptError::Temporary { directory: place, source }))
}

#[cfg(test)]
mod tests;
