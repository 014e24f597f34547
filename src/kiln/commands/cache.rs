//! `kiln cache`: what is kept of earlier builds.

mod engine;
mod explain;
mod list;
mod prune;

use crate::args::{CacheArgs, CacheCommand};
use crate::error::CliError;
use crate::settings::Settings;

use super::stores;

/// Runs one of its commands.
pub(crate) fn run(arguments: &CacheArgs, settings: &Settings) -> Result<u8, CliError> {
    match &arguments.command {
        CacheCommand::Ls(arguments) => list::run(arguments, settings),
        CacheCommand::Prune(arguments) => prune::run(arguments, settings),
        CacheCommand::Explain(arguments) => explain::run(arguments, settings),
        CacheCommand::Tidy => {
            stores::tidy(settings)?;
            Ok(0)
        }
    }
}
