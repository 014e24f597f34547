//! Both ways of running a script.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, Hasher as _};
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use kiln_core::communicator::{CommunicatorError, NullSink};
use kiln_core::lines::LineSink;
use kiln_core::{
    BuildContext, Command, Communicator, ExitStatus, Failure, Machine, OutputSink, Payload, Provisioner, ScriptRun,
    duration,
};
use kiln_gotemplate::Data;
use kiln_transport::script::{Environment, ScriptSource, check_exit, clean_tail, hidden, inline_script, quote, render};

use crate::content::Script;
use crate::retry::Retries;
use crate::wrapper::{self, StartSink};
use crate::{Explicit, Shell};

/// Why a script could not be run.
#[derive(Debug, thiserror::Error)]
enum ShellError {
    #[error("cannot read script `{path}`")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("cannot start {script}")]
    Start { script: String, source: CommunicatorError },
    #[error("cannot tell how {script} ended")]
    Lost { script: String, source: CommunicatorError },
    #[error("cannot store {script} at `{path}` on the machine{}", lines(tail))]
    Store { script: String, path: String, tail: Vec<String> },
    #[error("cannot remove `{path}`, which holds the environment of the script, from the machine")]
    Remove { path: String },
}

fn lines(tail: &[String]) -> String {
    if tail.is_empty() { String::new() } else { format!("; it says:\n    {}", tail.join("\n    ")) }
}

/// How long the removal of a file may take when a failure is told meanwhile.
const LAST_REMOVAL: Duration = Duration::from_secs(5);

/// How a script's command ended.
enum Ended {
    Exited(ExitStatus),
    Disconnected,
}

/// One script on its way.
#[derive(Clone, Copy)]
struct Task<'a> {
    communicator: &'a dyn Communicator,
    context: &'a BuildContext,
    /// As messages call it: ``script `setup.sh` ``.
    name: &'a str,
    /// Where it lies on the machine meanwhile.
    path: &'a str,
    environment: &'a Environment,
}

#[async_trait]
impl Provisioner for Shell {
    fn title(&self) -> String {
        self.source.title("inline ")
    }

    fn input_files(&self) -> Vec<PathBuf> {
        self.source.files()
    }

    fn path_arguments(&self) -> &'static [&'static str] {
        &["script", "scripts"]
    }

    async fn provision(&self, machine: &dyn Machine, context: &BuildContext) -> Result<(), Failure> {
        let environment = self.environment.complete(context, &BTreeMap::new());
        let path = self.path_on_machine();
        let task = Task {
            communicator: machine.communicator(),
            context,
            name: "the inline commands",
            path: &path,
            environment: &environment,
        };
        match &self.source {
            ScriptSource::Inline(commands) => {
                let script = Script::inline(inline_script(commands, self.inline_shebang.as_deref()), self.is_binary);
                self.run(&task, &script).await?;
            }
            ScriptSource::Files(files) => {
                for file in files {
                    if files.len() > 1 {
                        context.events.message(format!("running {file}"));
                    }
                    let script = Script::file(file.as_ref(), self.is_binary, &context.scratch).await;
                    let script =
                        script.map_err(|source| Failure::build(ShellError::Read { path: file.into(), source }))?;
                    let name = format!("script `{file}`");
                    self.run(&Task { name: &name, ..task }, &script).await?;
                }
            }
        }
        self.pause(context).await
    }
}

impl Shell {
    fn path_on_machine(&self) -> String {
        if let Some(path) = &self.remote_path {
            return path.clone();
        }
        let file = self.remote_file.clone().unwrap_or_else(|| format!("script_{}.sh", random_number()));
        self.in_folder(&file)
    }

    fn in_folder(&self, file: &str) -> String {
        format!("{}/{file}", self.remote_folder.trim_end_matches('/'))
    }

    async fn pause(&self, context: &BuildContext) -> Result<(), Failure> {
        if self.pause_after.is_zero() {
            return Ok(());
        }
        context.events.message(format!("pausing {} after the scripts", duration::display(self.pause_after)));
        context.unless_cancelled(tokio::time::sleep(self.pause_after)).await
    }

    async fn run(&self, task: &Task<'_>, script: &Script) -> Result<(), Failure> {
        match &self.explicit {
            None if task.communicator.has_terminal() => self.run_on_terminal(task, script).await,
            None if task.communicator.runs_scripts() && task.path.starts_with('/') => self.run_kept(task, script).await,
            None => self.run_wrapped(task, script).await,
            Some(explicit) => self.run_explicit(task, script, explicit).await,
        }
    }

    /// The way of machines that keep scripts themselves: nothing runs around the script.
    async fn run_kept(&self, task: &Task<'_>, script: &Script) -> Result<(), Failure> {
        let kept = kiln_core::Script { path: task.path.to_owned(), content: script.stdin(), stays: self.skips_clean };
        let command = Command { environment: task.environment.pairs(), ..Command::default() };
        let mut retries = Retries::new(self.start_retry_timeout);
        loop {
            let mut lines = LineSink::new(task.context.events.clone());
            let Ok(result) =
                task.context.unless_cancelled(task.communicator.run_script(&kept, &command, &mut lines)).await
            else {
                task.remove_quietly(&[task.path]).await;
                return Err(Failure::cancelled());
            };
            lines.finish();
            match result {
                Ok(ScriptRun::Ended(status)) => return self.check(task, Ended::Exited(status), &lines),
                Ok(ScriptRun::NotStored(why)) => {
                    let path = task.path.to_owned();
                    let failure = ShellError::Store { script: task.name.to_owned(), path, tail: vec![why] };
                    return Err(Failure::build(failure).hint(
                        "scripts are put into `remote_folder` (default `/tmp`), which must exist and be writable",
                    ));
                }
                Ok(ScriptRun::Lost(source)) => {
                    let ended = self.disconnected(task, source)?;
                    if !self.skips_clean {
                        self.remove_after_disconnect(task, &[task.path]).await?;
                    }
                    return self.check(task, ended, &lines);
                }
                Err(source) => {
                    if !retries.again(&source, &format!("start {}", task.name), task.context).await? {
                        return Err(task.not_started(source));
                    }
                }
            }
        }
    }

    /// The way of one command.
    async fn run_wrapped(&self, task: &Task<'_>, script: &Script) -> Result<(), Failure> {
        let command = Command {
            environment: task.environment.pairs(),
            stdin: script.stdin(),
            ..Command::new(wrapper::argv(task.path, self.skips_clean))
        };
        let stored = wrapper::anchored(task.path);
        let mut retries = Retries::new(self.start_retry_timeout);
        loop {
            let mut sink = StartSink::new(LineSink::new(task.context.events.clone()));
            let Ok(result) = task.exec(&command, &mut sink).await else {
                task.remove_quietly(&[&stored]).await;
                return Err(Failure::cancelled());
            };
            let (lines, is_started) = sink.finish();
            match result {
                Ok(status) if status.code() == wrapper::NOT_STORED && !is_started => {
                    return Err(task.not_stored(&lines));
                }
                Ok(status) => return self.check(task, Ended::Exited(status), &lines),
                Err(source) if is_started => {
                    let ended = self.disconnected(task, source)?;
                    if !self.skips_clean {
                        self.remove_after_disconnect(task, &[&stored]).await?;
                    }
                    return self.check(task, ended, &lines);
                }
                Err(source) => {
                    if !retries.again(&source, &format!("start {}", task.name), task.context).await? {
                        return Err(task.not_started(source));
                    }
                }
            }
        }
    }

    /// The same with a terminal for the script, which cannot come to it through the terminal.
    async fn run_on_terminal(&self, task: &Task<'_>, script: &Script) -> Result<(), Failure> {
        let store = Command { stdin: script.stdin(), ..Command::new(wrapper::store_argv(task.path)) };
        let run = Command {
            environment: task.environment.pairs(),
            ..Command::new(wrapper::run_argv(task.path, self.skips_clean))
        };
        let stored = wrapper::anchored(task.path);
        let mut retries = Retries::new(self.start_retry_timeout);
        loop {
            let mut lines = LineSink::new(task.context.events.clone());
            let source = match task.exec(&store, &mut lines).await? {
                Ok(status) if !status.is_success() => {
                    lines.finish();
                    return Err(task.not_stored(&lines));
                }
                Err(source) => source,
                Ok(_) => {
                    let Ok(result) = task.exec(&run, &mut lines).await else {
                        task.remove_quietly(&[&stored]).await;
                        return Err(Failure::cancelled());
                    };
                    lines.finish();
                    match result {
                        Ok(status) => return self.check(task, Ended::Exited(status), &lines),
                        // It may have run: it is not run twice.
                        Err(source @ CommunicatorError::Disconnected(_)) => {
                            let ended = self.disconnected(task, source)?;
                            if !self.skips_clean {
                                self.remove_after_disconnect(task, &[&stored]).await?;
                            }
                            return self.check(task, ended, &lines);
                        }
                        Err(source) => source,
                    }
                }
            };
            if !retries.again(&source, &format!("start {}", task.name), task.context).await? {
                return Err(task.not_started(source));
            }
        }
    }

    /// Packer's way: upload, run what the template says, remove.
    async fn run_explicit(&self, task: &Task<'_>, script: &Script, explicit: &Explicit) -> Result<(), Failure> {
        let variables = explicit.use_env_var_file.then(|| self.in_folder(&format!("varfile_{}.sh", random_number())));
        let command = explicit.command(task, variables.as_deref())?;
        let files = Files { script, explicit, variables: variables.as_deref() };
        let mut lines = LineSink::new(task.context.events.clone());
        let ended = self.start_explicit(task, &files, &command, &mut lines).await;
        lines.finish();
        // The environment goes in any case: it may hold secrets.
        let mut left: Vec<&str> = variables.iter().map(String::as_str).collect();
        if !self.skips_clean {
            left.insert(0, task.path);
        }
        let removed = match &ended {
            _ if left.is_empty() => Ok(()),
            Ok(Ended::Exited(_)) => task.remove(&left, variables.as_deref()).await,
            Ok(Ended::Disconnected) => self.remove_after_disconnect(task, &left).await,
            Err(_) => {
                task.remove_quietly(&left).await;
                Ok(())
            }
        };
        // What the script says about itself comes before what became of its file.
        self.check(task, ended?, &lines)?;
        removed
    }

    /// Uploads and runs; again, as long as nothing was started.
    async fn start_explicit(
        &self,
        task: &Task<'_>,
        files: &Files<'_>,
        command: &Command,
        lines: &mut LineSink,
    ) -> Result<Ended, Failure> {
        let mut retries = Retries::new(self.start_retry_timeout);
        loop {
            let error = match task.upload(files).await? {
                Ok(()) => match task.exec(command, lines).await? {
                    Ok(status) => return Ok(Ended::Exited(status)),
                    // The uploads had come through, so the command may have run: it is not run twice.
                    Err(error @ CommunicatorError::Disconnected(_)) => return self.disconnected(task, error),
                    Err(error) => error,
                },
                Err(error) => error,
            };
            if !retries.again(&error, &format!("start {}", task.name), task.context).await? {
                return Err(task.not_started(error));
            }
        }
    }

    /// Decides what a connection lost under a script means.
    fn disconnected(&self, task: &Task<'_>, source: CommunicatorError) -> Result<Ended, Failure> {
        if self.expects_disconnect && matches!(source, CommunicatorError::Disconnected(_)) {
            task.context.events.message(format!("{} ended the connection, as expected", task.name));
            return Ok(Ended::Disconnected);
        }
        Err(Failure::build(ShellError::Lost { script: task.name.to_owned(), source })
            .hint("if the script restarts the machine, set `expect_disconnect = true`"))
    }

    fn check(&self, task: &Task<'_>, ended: Ended, lines: &LineSink) -> Result<(), Failure> {
        match ended {
            Ended::Exited(status) => {
                check_exit(task.name, status, &self.valid_exit_codes, lines, &task.context.redactor)
            }
            Ended::Disconnected => Ok(()),
        }
    }

    /// Removes files once the machine answers again; warns when it does not.
    async fn remove_after_disconnect(&self, task: &Task<'_>, paths: &[&str]) -> Result<(), Failure> {
        let command = remove_command(paths);
        let mut retries = Retries::new(self.start_retry_timeout);
        loop {
            match task.exec(&command, &mut NullSink).await? {
                Ok(status) if status.is_success() => return Ok(()),
                Err(error) if retries.again(&error, "remove the script from the machine", task.context).await? => {}
                _ => {
                    let text = format!("`{}` stays on the machine: it could not be removed", paths.join("`, `"));
                    task.context.events.warn(text);
                    return Ok(());
                }
            }
        }
    }
}

/// What the explicit way uploads.
struct Files<'a> {
    script: &'a Script,
    explicit: &'a Explicit,
    /// Where the environment goes, where it goes as a file.
    variables: Option<&'a str>,
}

impl Explicit {
    fn command(&self, task: &Task<'_>, variables_path: Option<&str>) -> Result<Command, Failure> {
        let assignments = task.environment.assignments(&self.format, &task.context.redactor);
        let text = |text: &str| Data::Text(text.to_owned());
        let fields = BTreeMap::from([
            ("Path".to_owned(), text(task.path)),
            ("EnvVarFile".to_owned(), text(variables_path.unwrap_or_default())),
        ]);
        let line = render("execute_command", &self.command, task.context, &fields, &assignments.text)?;
        let mut environment = if self.command.contains(".Vars") { assignments.beside } else { Vec::new() };
        if !environment.is_empty() && is_in_single_quotes(&self.command, ".Vars") {
            let names: Vec<&str> = environment.iter().map(|(name, _)| name.as_str()).collect();
            task.context.events.warn(format!(
                "{} travels in the environment and not on the command line, because it is secret; `execute_command` has \
                 `{{{{.Vars}}}}` inside single quotes, where programs that clear the environment (`sudo` without `-E`) \
                 leave it empty: use `sudo -E`, or `use_env_var_file`",
                kiln_core::suggest::enumerate(names)
            ));
        }
        let line = match hidden(&line, &task.context.redactor) {
            Some((text, variable)) => {
                environment.push(variable);
                text
            }
            None => line,
        };
        Ok(Command { environment, ..Command::shell(line) })
    }
}

impl Task<'_> {
    /// Runs a command; fails only when cancelled.
    async fn exec(
        &self,
        command: &Command,
        sink: &mut dyn OutputSink,
    ) -> Result<Result<ExitStatus, CommunicatorError>, Failure> {
        self.context.unless_cancelled(self.communicator.exec(command, sink)).await
    }

    /// Uploads script and environment; the outer error is a cancellation.
    async fn upload(&self, files: &Files<'_>) -> Result<Result<(), CommunicatorError>, Failure> {
        let upload = async {
            if let Some(path) = files.variables {
                let content = Bytes::from(self.environment.in_clear(&files.explicit.format));
                self.communicator.upload(&Payload::Bytes { content, mode: 0o600 }, path).await?;
            }
            self.communicator.upload(&files.script.payload(0o755), self.path).await
        };
        self.context.unless_cancelled(upload).await
    }

    /// Removes files from a machine that answers. That one with the environment stays is a failure, else a warning.
    async fn remove(&self, paths: &[&str], variables: Option<&str>) -> Result<(), Failure> {
        let mut lines = LineSink::new(self.context.events.clone());
        let result = self.exec(&remove_command(paths), &mut lines).await?;
        lines.finish();
        if result.is_ok_and(ExitStatus::is_success) {
            return Ok(());
        }
        if let Some(path) = variables {
            return Err(Failure::build(ShellError::Remove { path: path.to_owned() }));
        }
        self.context.events.warn(format!("`{}` stays on the machine: it could not be removed", self.path));
        Ok(())
    }

    /// Removes files after something else failed or was cancelled: tries once, briefly, and says nothing.
    async fn remove_quietly(&self, paths: &[&str]) {
        let command = remove_command(paths);
        let mut sink = NullSink;
        let removal = self.communicator.exec(&command, &mut sink);
        // The failure that led here is what is told; the machine mostly goes away with it.
        let _ = tokio::time::timeout(LAST_REMOVAL, removal).await;
    }

    fn not_started(&self, source: CommunicatorError) -> Failure {
        let is_ended = matches!(source, CommunicatorError::Ended(_));
        let is_refused = matches!(source, CommunicatorError::Transport { .. });
        let failure = Failure::build(ShellError::Start { script: self.name.to_owned(), source });
        if is_ended {
            return failure.hint("its first process must run for as long as there are steps; see what ended it");
        }
        if is_refused { failure.hint("the machine needs `/bin/sh` to run scripts") } else { failure }
    }

    fn not_stored(&self, lines: &LineSink) -> Failure {
        Failure::build(ShellError::Store {
            script: self.name.to_owned(),
            path: self.path.to_owned(),
            tail: clean_tail(lines, &self.context.redactor),
        })
        .hint(
            "scripts are put into `remote_folder` (default `/tmp`), which must be writable; where the machine has no \
             `cat` or `chmod`, set `execute_command`, then they are uploaded",
        )
    }
}

fn remove_command(paths: &[&str]) -> Command {
    let words: Vec<String> = paths.iter().map(|path| quote(path)).collect();
    Command::shell(format!("rm -f {}", words.join(" ")))
}

/// Whether an action that uses `field` stands inside single quotes.
fn is_in_single_quotes(text: &str, field: &str) -> bool {
    let before = text.find(field).map_or("", |at| &text[..at]);
    before.matches('\'').count() % 2 == 1
}

/// A number that no other script of the machine has; the hasher's keys are random.
fn random_number() -> u32 {
    let hash = std::hash::RandomState::new().build_hasher().finish();
    u32::try_from(hash >> 32).unwrap_or_default()
}
