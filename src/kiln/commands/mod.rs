//! One file a command.

mod build;
mod cache;
mod cleanup;
mod completions;
mod console;
mod fix;
mod fmt;
mod graph;
mod init;
mod inspect;
mod load;
mod plan;
mod prepared;
mod refresh;
mod shell;
mod signals;
pub(crate) mod stores;
mod upgrade;
mod validate;
mod version;

use std::future::Future;
use std::time::Duration;

use kiln_core::Failure;

use crate::args::{Arguments, Command};
use crate::error::CliError;
use crate::settings::Settings;

/// Runs the command and gives the exit code.
pub(crate) fn run(arguments: Arguments, settings: &Settings) -> Result<u8, CliError> {
    match arguments.command {
        Command::Build(arguments) => block_on(build::run(&arguments, settings)),
        Command::Plan(arguments) => block_on(plan::run(&arguments, settings)),
        Command::Graph(arguments) => graph::run(&arguments, settings),
        Command::Refresh(arguments) => block_on(refresh::run(&arguments, settings)),
        Command::Shell(arguments) => block_on(shell::run(&arguments, settings)),
        Command::Cache(arguments) => cache::run(&arguments, settings),
        Command::Validate(arguments) => validate::run(&arguments, settings),
        Command::Inspect(arguments) => inspect::run(&arguments, settings),
        Command::Console(arguments) => console::run(&arguments, settings),
        Command::Fmt(arguments) => fmt::run(&arguments, settings),
        Command::Fix(arguments) => fix::run(&arguments, settings),
        Command::Upgrade(arguments) => upgrade::run(&arguments, settings),
        Command::Cleanup(arguments) => block_on(cleanup::run(&arguments, settings)),
        Command::Init(arguments) => init::run(&arguments, settings),
        Command::Completions(arguments) => completions::run(&arguments),
        Command::Version(arguments) => version::run(&arguments, settings),
    }
}

fn block_on<T>(work: impl Future<Output = Result<T, CliError>>) -> Result<T, CliError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::environment(RuntimeError(error)))?;
    let result = runtime.block_on(work);
    // A thread that still reads the terminal must not hold up the exit.
    runtime.shutdown_timeout(Duration::from_millis(100));
    result
}

#[derive(Debug, thiserror::Error)]
#[error("cannot start the threads that builds run on")]
struct RuntimeError(#[source] std::io::Error);
