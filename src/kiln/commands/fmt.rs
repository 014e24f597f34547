//! `kiln fmt`.

use crate::args::FmtArgs;
use crate::error::CliError;
use crate::settings::Settings;

pub(crate) fn run(arguments: &FmtArgs, settings: &Settings) -> Result<u8, CliError> {
    let _ = (arguments, settings);
    Ok(0)
}
