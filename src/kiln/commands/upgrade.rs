//! `kiln upgrade`.

use std::io::Write;
use std::path::{Path, PathBuf};

use kiln_core::{Failure, FailureClass, Redactor};
use kiln_template::upgrade::upgrade;

use super::fix::legacy_options;
use crate::args::UpgradeArgs;
use crate::error::{CliError, output_error};
use crate::kinds;
use crate::settings::Settings;
use crate::ui::{self, Format};

/// Writes the template as HCL2, and says what may not be the same.
pub(crate) fn run(arguments: &UpgradeArgs, settings: &Settings) -> Result<u8, CliError> {
    let mut options = legacy_options(&arguments.template, settings)?;
    options.environment.clone_from(&settings.environment);
    options.home.clone_from(&settings.home);
    let upgraded = upgrade(&options, &kinds::offline(settings)?, arguments.with_annotations);
    let format = Format::of_messages(settings);
    ui::show_diagnostics(format, &upgraded.diagnostics, &upgraded.sources, &Redactor::new(), settings);
    let Some(text) = &upgraded.text else { return Err(CliError::Reported(FailureClass::Template)) };
    match target(arguments) {
        None => std::io::stdout().write_all(text.as_bytes()).map_err(output_error)?,
        Some(path) => {
            write(&settings.working_dir.join(&path), text)?;
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

/// Writes a file whole or not at all.
fn write(path: &Path, text: &str) -> Result<(), CliError> {
    let failed = |source| Failure::environment(WriteError { path: path.to_owned(), source });
    let directory = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().prefix(".kiln-").tempfile_in(directory).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)?;
    #[cfg(unix)]
    set_mode(file.as_file(), path).map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    Ok(())
}

/// The mode of the file that is replaced; of a new one, what any new file has here.
#[cfg(unix)]
fn set_mode(file: &std::fs::File, path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;

    let mode = std::fs::metadata(path).map_or(0o644, |old| old.permissions().mode() & 0o7777);
    file.set_permissions(std::fs::Permissions::from_mode(mode))
}

#[derive(Debug, thiserror::Error)]
#[error("cannot write `{}`", path.display())]
struct WriteError {
    path: PathBuf,
    source: std::io::Error,
}
