//! `kiln console`.

use crate::args::ConsoleArgs;
use crate::error::CliError;
use crate::settings::Settings;

pub(crate) fn run(arguments: &ConsoleArgs, settings: &Settings) -> Result<u8, CliError> {
    let _ = (arguments, settings);
    Ok(0)
}
