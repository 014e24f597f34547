//! `kiln shell`.

use clap::Args;

use super::{DockerAs, IgnoredArgs, TemplateArgs};

#[derive(Debug, Args)]
pub(crate) struct ShellArgs {
    /// Build, and the step (number or name) after which, 0 for what it starts from; without a step the last one whose state is kept
    #[arg(value_name = "BUILD[:STEP]")]
    pub(crate) target: Target,
    #[command(flatten)]
    pub(crate) template: TemplateArgs,
    /// Run this instead of a shell (a script for /bin/sh)
    #[arg(long, short = 'c', value_name = "SCRIPT")]
    pub(crate) command: Option<String>,
    /// The user, where the machine's own is not wanted
    #[arg(long, value_name = "USER")]
    pub(crate) user: Option<String>,
    /// Which builder runs `docker` sources; `KILN_DOCKER_AS` says it for all commands
    #[arg(long, value_enum, value_name = "BUILDER")]
    pub(crate) docker_as: Option<DockerAs>,
    #[command(flatten)]
    ignored: IgnoredArgs,
}

/// `BUILD[:STEP]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// The build's name.
    pub(crate) build: String,
    /// The step's number or name.
    pub(crate) step: Option<String>,
}

impl std::str::FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Target, String> {
        let (build, step) = text.split_once(':').map_or((text, None), |(build, step)| (build, Some(step)));
        if build.is_empty() || step.is_some_and(str::is_empty) {
            return Err("write BUILD or BUILD:STEP".to_owned());
        }
        Ok(Target { build: build.to_owned(), step: step.map(str::to_owned) })
    }
}
