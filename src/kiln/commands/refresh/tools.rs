//! The tools that run projects: which are here, and how they restart services.

use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use kiln_compose::{Project, Tool};
use kiln_core::{Failure, FailureClass};
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

use crate::args::RefreshArgs;
use crate::settings::Settings;

/// How long a tool may take to say its version, and to restart services: images may have to be built for them.
const VERSION_LIMIT: Duration = Duration::from_secs(20);
const RESTART_LIMIT: Duration = Duration::from_secs(30 * 60);

/// A program that is here, with the words in front of its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Program(Vec<&'static str>);

impl Program {
    /// Compose as a plug-in of docker, which knows more options.
    fn is_plugin(&self) -> bool {
        self.0.len() > 1
    }
}

/// Those that can run a project, the better one first.
fn programs(tool: Tool) -> Vec<Program> {
    match tool {
        Tool::Compose => vec![Program(vec!["docker", "compose"]), Program(vec!["docker-compose"])],
        Tool::Ddev => vec![Program(vec!["ddev"])],
    }
}

/// What to say where none is here.
pub(super) fn missing(tool: Tool) -> &'static str {
    match tool {
        Tool::Compose => "neither `docker compose` nor `docker-compose` is here",
        Tool::Ddev => "`ddev` is not here",
    }
}

/// The first program that answers.
pub(super) async fn found(tool: Tool, settings: &Settings) -> Option<Program> {
    for program in programs(tool) {
        let mut command = command(&program, settings);
        let word = if tool == Tool::Ddev { "--version" } else { "version" };
        command.arg(word).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let asked = tokio::time::timeout(VERSION_LIMIT, command.status()).await;
        if asked.is_ok_and(|status| status.is_ok_and(|status| status.success())) {
            return Some(program);
        }
    }
    None
}

fn command(program: &Program, settings: &Settings) -> Command {
    let mut command = Command::new(program.0[0]);
    command.args(&program.0[1..]).env_clear().envs(&settings.environment).kill_on_drop(true);
    command
}

/// Restarting services of a project.
#[derive(Debug)]
pub(super) struct Restart {
    tool: Tool,
    directory: PathBuf,
    /// Arguments in front of compose's own command.
    project: Vec<String>,
    services: Vec<String>,
    /// Some have images of their own, built upon what was refreshed.
    builds: bool,
    /// Some would be pulled again.
    pulls: bool,
    /// They get new anonymous volumes.
    renews: bool,
}

impl Restart {
    /// Of these services, by their index.
    pub(super) fn of(project: &Project, services: &[usize], arguments: &RefreshArgs) -> Restart {
        let mut words = Vec::new();
        for file in &arguments.file {
            let file = file.canonicalize().unwrap_or_else(|_| file.clone());
            words.extend(["-f".to_owned(), file.display().to_string()]);
        }
        words.extend(arguments.project_name.iter().flat_map(|name| ["-p".to_owned(), name.clone()]));
        let services = services.iter().map(|index| &project.services[*index]);
        Restart {
            tool: project.tool,
            directory: project.directory.clone(),
            project: words,
            builds: services.clone().any(|service| service.is_built),
            renews: arguments.renew_anon_volumes,
            pulls: !arguments.pull && services.clone().any(|service| service.pull_policy.is_some()),
            services: services.map(|service| service.name.clone()).collect(),
        }
    }

    /// The arguments; without a program, as the plug-in of docker takes them.
    fn words(&self, program: Option<&Program>) -> Vec<String> {
        if self.tool == Tool::Ddev {
            return vec!["restart".to_owned()];
        }
        let mut words = self.project.clone();
        words.extend(["up", "-d", "--no-deps"].map(str::to_owned));
        if self.builds {
            words.push("--build".to_owned());
        }
        if self.renews {
            words.push("--renew-anon-volumes".to_owned());
        }
        // The image is here: the registry's must not take its place.
        if self.pulls && program.is_none_or(Program::is_plugin) {
            words.extend(["--pull", "never"].map(str::to_owned));
        }
        words.extend(self.services.iter().cloned());
        words
    }

    /// As it would be typed.
    pub(super) fn shown(&self, program: Option<&Program>) -> String {
        let usual = programs(self.tool).into_iter().next();
        let name = program.or(usual.as_ref()).map(|program| program.0.join(" ")).unwrap_or_default();
        let words: Vec<String> = self.words(program).iter().map(|word| quoted(word)).collect();
        let command = format!("{name} {}", words.join(" "));
        match self.directory.as_os_str().is_empty() || self.directory.as_os_str() == "." {
            true => command,
            false => format!("cd {} && {command}", quoted(&self.directory.display().to_string())),
        }
    }

    /// Does it. What the tool says goes to standard error.
    pub(super) async fn run(
        &self,
        program: &Program,
        settings: &Settings,
        cancel: CancellationToken,
    ) -> Result<(), Failure> {
        let name = program.0.join(" ");
        let mut command = command(program, settings);
        let stderr = std::io::stderr().as_fd().try_clone_to_owned().map_err(Failure::environment)?;
        command.args(self.words(Some(program))).current_dir(settings.working_dir.join(&self.directory));
        command.stdin(Stdio::null()).stdout(Stdio::from(stderr)).stderr(Stdio::inherit());
        let mut child =
            command.spawn().map_err(|source| Failure::environment(Started { name: name.clone(), source }))?;
        let status = tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(Failure::cancelled()),
            status = tokio::time::timeout(RESTART_LIMIT, child.wait()) => status,
        };
        let what = format!("`{name} {}`", self.words(Some(program)).join(" "));
        match status {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(Failure::build(format!("{what} failed: {status}"))
                .hint("the image is in the local engine; the command can be run again by hand")),
            Ok(Err(source)) => Err(Failure::environment(Started { name, source })),
            Err(_) => {
                let minutes = RESTART_LIMIT.as_secs() / 60;
                Err(Failure::new(FailureClass::Build, format!("{what} did not end within {minutes} minutes")))
            }
        }
    }

    /// What keeps, and what would take away again, what was just done.
    pub(super) fn advice(&self, arguments: &RefreshArgs) -> Vec<String> {
        if self.tool != Tool::Ddev || arguments.pull {
            return Vec::new();
        }
        let services = self.services.iter().map(|service| format!("`ddev utility rebuild -s {service}`"));
        let services = services.collect::<Vec<_>>().join(", ");
        vec![format!(
            "`ddev restart` takes the local image; once it is pushed, {services} pulls it, and would put what the registry \
             has in the place of the local one, as `ddev restart --no-cache` would"
        )]
    }
}

pub(super) fn quoted(word: &str) -> String {
    let is_plain = |character: char| character.is_ascii_alphanumeric() || "-_./:=@,+".contains(character);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[derive(Debug, thiserror::Error)]
#[error("cannot run `{name}`")]
struct Started {
    name: String,
    source: std::io::Error,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn restart(tool: Tool) -> Restart {
        Restart {
            tool,
            directory: PathBuf::from("my shop"),
            project: vec!["-p".to_owned(), "shop".to_owned()],
            services: vec!["worker".to_owned(), "web".to_owned()],
            builds: false,
            pulls: true,
            renews: false,
        }
    }

    #[test]
    fn commands_can_be_typed_as_they_are_shown() {
        let plugin = Program(vec!["docker", "compose"]);
        let old = Program(vec!["docker-compose"]);
        let all = "up -d --no-deps --pull never worker web";
        assert_eq!(restart(Tool::Compose).shown(None), format!("cd 'my shop' && docker compose -p shop {all}"));
        assert_eq!(restart(Tool::Compose).shown(Some(&plugin)), restart(Tool::Compose).shown(None));
        let renewed = Restart { renews: true, pulls: false, ..restart(Tool::Compose) };
        assert!(renewed.shown(None).ends_with("up -d --no-deps --renew-anon-volumes worker web"));
        let built = Restart { builds: true, directory: PathBuf::from("."), ..restart(Tool::Compose) };
        assert_eq!(built.shown(Some(&old)), "docker-compose -p shop up -d --no-deps --build worker web");
        assert_eq!(restart(Tool::Ddev).shown(None), "cd 'my shop' && ddev restart");
    }
}
