//! `kiln shell`: a person in a machine as it is after a step.

mod terminal;

use std::io::{IsTerminal, Write};

use kiln_core::{
    BuildContext, Command, ExitStatus, Failure, FailureClass, Machine, OutputSink, Stdin, Stream, Terminal,
};
use kiln_engine::{StateChoice, StepChoice};

use super::load::Wanted;
use super::prepared::{self, Stage};
use crate::args::{ShellArgs, StepCacheArgs};
use crate::error::CliError;
use crate::settings::Settings;
use crate::ui::Format;
use terminal::RawTerminal;

/// The best shell there is.
const SHELL: &str = "command -v bash >/dev/null 2>&1 && exec bash; exec /bin/sh";

/// Starts a machine in the state, and gives the exit status of what ran in it. Nothing that is changed there is kept.
pub(crate) async fn run(arguments: &ShellArgs, settings: &Settings) -> Result<u8, CliError> {
    let settings = &settings.with_docker_as(arguments.docker_as);
    // Standard output belongs to the machine.
    let format = Format::Human { timestamps: false };
    let sitting = Sitting::of_process();
    let mut command = command(arguments, sitting)?;
    if let Some(kind) = settings.environment.get("TERM").filter(|_| sitting == Sitting::Terminal) {
        command.environment.push(("TERM".to_owned(), kind.clone()));
    }
    let ready = prepared::ready(&arguments.template, Wanted::default(), false, settings, format).await?;
    let stage = Stage::set(format, false, &ready.redactor, settings);
    let cache = prepared::cache_policy(&arguments.template, &StepCacheArgs::default(), settings, format);
    let run_settings = prepared::run_settings(&arguments.template, cache, settings).await;
    let surroundings = stage.surroundings(&ready.kinds, &ready.redactor);
    let names: Vec<&str> = ready.run.builds.iter().map(|build| &*build.name).collect();
    let choice = StateChoice {
        build: whole_name(&arguments.target.build, &names).to_owned(),
        step: arguments.target.step.as_deref().map(StepChoice::from),
    };
    let reporter = stage.reporter.clone();
    let work = async move |machine: &dyn Machine, context: &BuildContext| {
        // Lines of ours must not come between those of the machine.
        reporter.flush().await;
        let work = async {
            match sitting {
                Sitting::Terminal => interact(machine, &command).await,
                Sitting::Pipes { .. } => execute(machine, &command).await,
            }
        };
        tokio::select! {
            status = work => status,
            () = context.cancel.cancelled() => {
                // What still runs there goes with the machine.
                Err(Failure::cancelled())
            }
        }
    };
    let status = kiln_engine::visit(ready.run, &choice, run_settings, surroundings, work).await;
    stage.close();
    Ok(u8::try_from(status?.code()).unwrap_or(u8::MAX))
}

/// `worker` is `oci.worker` where there is but one build of that name.
fn whole_name<'a>(name: &'a str, builds: &[&'a str]) -> &'a str {
    let is_short = |build: &&&str| build.rsplit_once('.').is_some_and(|(_, last)| last == name);
    let mut found = builds.iter().filter(is_short);
    match (builds.contains(&name), found.next(), found.next()) {
        (false, Some(whole), None) => whole,
        _ => name,
    }
}

/// What kiln itself sits at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sitting {
    /// A person's terminal.
    Terminal,
    /// Something else. Whether standard input is a terminal all the same.
    Pipes { typed: bool },
}

impl Sitting {
    fn of_process() -> Sitting {
        let typed = std::io::stdin().is_terminal();
        if typed && std::io::stdout().is_terminal() { Sitting::Terminal } else { Sitting::Pipes { typed } }
    }
}

/// What is to run, and what it reads.
fn command(arguments: &ShellArgs, sitting: Sitting) -> Result<Command, Failure> {
    let stdin = match sitting {
        Sitting::Terminal | Sitting::Pipes { typed: true } => Stdin::Closed,
        Sitting::Pipes { typed: false } => Stdin::File("/dev/stdin".into()),
    };
    let command = match (&arguments.command, sitting) {
        (Some(script), _) => Command::shell(script.clone()),
        (None, Sitting::Terminal) => Command::shell(SHELL),
        (None, Sitting::Pipes { typed: false }) => Command::new(["/bin/sh"]),
        (None, Sitting::Pipes { typed: true }) => return Err(Failure::new(FailureClass::Usage, NoTerminal)),
    };
    Ok(Command { stdin, user: arguments.user.clone(), pty: sitting == Sitting::Terminal, ..command })
}

/// A person types.
async fn interact(machine: &dyn Machine, command: &Command) -> Result<ExitStatus, Failure> {
    let failed = |error: std::io::Error| Failure::environment(TerminalError(error));
    let raw = RawTerminal::enter().map_err(failed)?;
    let size = raw.size_changes().map_err(failed)?;
    let terminal = Terminal { input: Box::new(tokio::io::stdin()), output: Box::new(tokio::io::stdout()), size };
    let status = machine.communicator().interact(command, terminal).await;
    drop(raw);
    status.map_err(Failure::build)
}

/// A script runs.
async fn execute(machine: &dyn Machine, command: &Command) -> Result<ExitStatus, Failure> {
    machine.communicator().exec(command, &mut PassOn).await.map_err(Failure::build)
}

/// Writes what comes where it belongs.
struct PassOn;

impl OutputSink for PassOn {
    fn write(&mut self, stream: Stream, chunk: &[u8]) {
        // A reader that went away does not change what runs on the machine.
        let _ = match stream {
            Stream::Stdout => write_through(std::io::stdout(), chunk),
            Stream::Stderr => write_through(std::io::stderr(), chunk),
        };
    }
}

fn write_through(mut to: impl Write, chunk: &[u8]) -> std::io::Result<()> {
    to.write_all(chunk)?;
    to.flush()
}

#[derive(Debug, thiserror::Error)]
#[error("`kiln shell` needs a terminal, a script on standard input, or `-c SCRIPT`")]
struct NoTerminal;

#[derive(Debug, thiserror::Error)]
#[error("cannot use the terminal")]
struct TerminalError(#[source] std::io::Error);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args;

    fn arguments(line: &str) -> ShellArgs {
        match args::parse(line.split(' ').map(Into::into), false).unwrap().command {
            args::Command::Shell(arguments) => arguments,
            other => panic!("not a shell: {other:?}"),
        }
    }

    #[test]
    fn a_build_may_be_named_shortly() {
        let builds = ["oci.worker", "oci.base", "docker.base", "worker2"];
        for (name, whole) in [("worker", "oci.worker"), ("base", "base"), ("worker2", "worker2"), ("none", "none")] {
            assert_eq!(whole_name(name, &builds), whole);
        }
    }

    #[test]
    fn what_runs_depends_on_where_kiln_sits() {
        let plain = arguments("kiln shell oci.worker:2 a.pkr.hcl");
        assert_eq!(plain.target.step.as_deref(), Some("2"));
        let at = |sitting| command(&plain, sitting);
        assert!(at(Sitting::Terminal).unwrap().pty);
        let piped = at(Sitting::Pipes { typed: false }).unwrap();
        assert_eq!(piped.argv, ["/bin/sh"]);
        assert!(matches!(piped.stdin, Stdin::File(_)) && !piped.pty);
        assert_eq!(at(Sitting::Pipes { typed: true }).unwrap_err().class, FailureClass::Usage);
        let script = command(&arguments("kiln shell w -c id --user app"), Sitting::Pipes { typed: true }).unwrap();
        assert_eq!((script.argv[2].as_str(), script.user.as_deref()), ("id", Some("app")));
    }
}
