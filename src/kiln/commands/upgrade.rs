//! `kiln upgrade`.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use kiln_core::{Failure, FailureClass, Redactor};
use kiln_template::upgrade::upgrade;

use super::fix::legacy_options;
use crate::args::UpgradeArgs;
use crate::error::{CliError, output_error};
use crate::kinds;
use crate::replace;
use crate::settings::Settings;
use crate::ui::{self, Format};

/// Writes the template as HCL2, and says what may not be the same.
pub(crate) fn run(arguments: &UpgradeArgs, settings: &Settings) -> Result<u8, CliError> {
    let mut options = legacy_options(&arguments.template, settings)?;
    options.environment.clone_from(&settings.environment);
    options.home.clone_from(&settings.home);
    let upgraded = upgrade(&options, &kinds::offline(settings)?, arguments.with_annotations);
    let format = Format::of_messages(settings);
    let redactor = Redactor::new();
    upgraded.diagnostics.secrets.iter().for_each(|secret| redactor.add(secret));
    ui::show_diagnostics(format, &upgraded.diagnostics, &upgraded.sources, &redactor, settings);
    let Some(text) = &upgraded.text else { return Err(CliError::Reported(FailureClass::Template)) };
    match target(arguments) {
        None => std::io::stdout().write_all(text.as_bytes()).map_err(output_error)?,
        Some(path) => {
            write(&path, text, arguments)?;
            ui::say(format, &format!("wrote {}", path.display()));
        }
    }
    Ok(0)
}

/// The file to write; `None` for standard output.
fn target(arguments: &UpgradeArgs) -> Option<PathBuf> {
    let is_dash = |path: &Path| path.as_os_str() == "-";
    match &arguments.output_file {
        Some(path) if is_dash(path) => None,
        Some(path) => Some(path.clone()),
        None if is_dash(&arguments.template) => None,
        None => {
            let mut name = arguments.template.as_os_str().to_owned();
            name.push(".pkr.hcl");
            Some(name.into())
        }
    }
}

/// Writes a file whole or not at all. A new one may be read by those who may read the template: both may hold secrets.
fn write(path: &Path, text: &str, arguments: &UpgradeArgs) -> Result<(), CliError> {
    let template = std::fs::metadata(&arguments.template).ok().filter(std::fs::Metadata::is_file);
    let mode = template.map_or(0o666, |template| template.permissions().mode() & 0o666);
    let failed = |source| Failure::environment(WriteError { path: path.to_owned(), source });
    replace::write(path, text.as_bytes(), mode).map_err(failed)?;
    Ok(())
}

#[derive(Debug, thiserror::Error)]
#[error("cannot write `{}`", path.display())]
struct WriteError {
    path: PathBuf,
    source: std::io::Error,
}
