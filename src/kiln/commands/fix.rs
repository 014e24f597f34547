//! `kiln fix`.

use crate::args::FixArgs;
use crate::error::CliError;
use crate::settings::Settings;

pub(crate) fn run(arguments: &FixArgs, settings: &Settings) -> Result<u8, CliError> {
    let _ = (arguments, settings);
    Ok(0)
}
