//! `kiln upgrade`.

use crate::args::UpgradeArgs;
use crate::error::CliError;
use crate::settings::Settings;

pub(crate) fn run(arguments: &UpgradeArgs, settings: &Settings) -> Result<u8, CliError> {
    let _ = (arguments, settings);
    Ok(0)
}
