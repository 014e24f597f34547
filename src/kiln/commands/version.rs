//! `kiln version`.

use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::args::VersionArgs;
use crate::error::{CliError, output_error};
use crate::settings::Settings;

/// Prints the version on standard output.
pub(crate) fn run(arguments: &VersionArgs, settings: &Settings) -> Result<u8, CliError> {
    let version = kiln_core::VERSION;
    let text = if arguments.json {
        serde_json::json!({ "kiln": version, "packer": kiln_core::PACKER_VERSION }).to_string()
    } else if settings.machine_readable {
        let time = SystemTime::now().duration_since(UNIX_EPOCH).map(|time| time.as_secs()).unwrap_or_default();
        format!(
            "{time},,version,{version}\n{time},,version-prelease,\n{time},,version-commit,\n{time},,ui,say,kiln {version}"
        )
    } else {
        format!("kiln {version}")
    };
    writeln!(std::io::stdout(), "{text}").map_err(output_error)?;
    Ok(0)
}
