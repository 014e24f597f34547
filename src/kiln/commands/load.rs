//! From the arguments to a loaded template, alike for all commands.

use std::io::Read;
use std::time::SystemTime;

use kiln_core::{Failure, FailureClass, Redactor};
use kiln_template::{ConfigType, LoadOptions, Loaded};

use crate::args::{self, TemplateArgs};
use crate::error::CliError;
use crate::settings::Settings;
use crate::ui::{self, Format};

/// What a command wants of the template.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Wanted {
    /// Warn about undeclared variables in variable files.
    pub(crate) warn_undeclared: bool,
    /// A variable without value is no mistake.
    pub(crate) allow_unset: bool,
    /// Stop after the syntax.
    pub(crate) syntax_only: bool,
}

/// Reads and evaluates the template. Its mistakes are in the result, not in the error.
pub(crate) fn load(arguments: &TemplateArgs, wanted: Wanted, settings: &Settings) -> Result<Loaded, CliError> {
    let mut options = LoadOptions::new(&arguments.template, &settings.working_dir);
    if options.is_stdin() {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map_err(|error| Failure::environment(StdinError(error)))?;
        // Packer takes standard input for JSON; a legacy template is an object and nothing else.
        let is_json = text.trim_start_matches('\u{feff}').trim_start().starts_with('{');
        options.config_type = Some(if is_json { ConfigType::Json } else { ConfigType::Hcl2 });
        options.stdin = Some(text);
    }
    if let Some(form) = arguments.config_type {
        options.config_type = Some(match form {
            args::ConfigType::Json => ConfigType::Json,
            args::ConfigType::Hcl2 => ConfigType::Hcl2,
        });
    }
    options.variables.clone_from(&arguments.var);
    options.variable_files.clone_from(&arguments.var_file);
    options.environment.clone_from(&settings.environment);
    options.only.clone_from(&arguments.only);
    options.except.clone_from(&arguments.except);
    options.home.clone_from(&settings.home);
    options.host = settings.host;
    options.started = SystemTime::now();
    options.warn_undeclared = wanted.warn_undeclared;
    options.allow_unset = wanted.allow_unset;
    options.syntax_only = wanted.syntax_only;
    Ok(kiln_template::load(&options))
}

/// A redactor that knows the template's secrets.
pub(crate) fn redactor(loaded: &Loaded) -> Redactor {
    let redactor = Redactor::new();
    let planned = loaded.plan.iter().flat_map(|plan| &plan.secrets);
    for secret in loaded.secrets.iter().chain(planned) {
        redactor.add(secret);
    }
    redactor
}

/// Shows what was found, and stops at errors.
pub(crate) fn check(loaded: &Loaded, redactor: &Redactor, settings: &Settings) -> Result<(), CliError> {
    let format = Format::of_messages(settings);
    ui::show_diagnostics(format, &loaded.diagnostics, &loaded.sources, redactor, settings);
    if loaded.diagnostics.has_errors() {
        return Err(CliError::Reported(FailureClass::Template));
    }
    Ok(())
}

#[derive(Debug, thiserror::Error)]
#[error("cannot read the template from standard input")]
struct StdinError(#[source] std::io::Error);
