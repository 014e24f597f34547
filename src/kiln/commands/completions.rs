//! `kiln completions`.

use crate::args::{self, CompletionsArgs};
use crate::error::{CliError, output_error};

/// Prints the script on standard output.
pub(crate) fn run(arguments: &CompletionsArgs) -> Result<u8, CliError> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut args::definition(), "kiln", &mut script);
    std::io::Write::write_all(&mut std::io::stdout(), &script).map_err(output_error)?;
    Ok(0)
}
