//! `kiln fix`.

use std::io::{Read, Write};
use std::path::Path;

use kiln_core::{Diagnostics, Failure, FailureClass, Redactor, SourceMap};
use kiln_template::fix::{Change, Fixed, fix};
use kiln_template::{ConfigType, LoadOptions, TemplateText, legacy};

use crate::args::FixArgs;
use crate::error::{CliError, output_error};
use crate::settings::Settings;
use crate::ui::{self, Format};

/// Prints the mended template on standard output, and what was mended on standard error.
pub(crate) fn run(arguments: &FixArgs, settings: &Settings) -> Result<u8, CliError> {
    let fixed = fix(&legacy_options(&arguments.template, settings)?);
    let format = Format::of_messages(settings);
    let redactor = Redactor::new();
    fixed.diagnostics.secrets.iter().for_each(|secret| redactor.add(secret));
    ui::show_diagnostics(format, &fixed.diagnostics, &fixed.sources, &redactor, settings);
    let Some(text) = &fixed.text else { return Err(CliError::Reported(FailureClass::Template)) };
    ui::show_text(&changes(&fixed));
    std::io::stdout().write_all(text.as_bytes()).map_err(output_error)?;
    if arguments.validate {
        validate(&arguments.template, text, settings)?;
    }
    Ok(0)
}

fn changes(fixed: &Fixed) -> String {
    let line = |change: &Change| format!("{}: {} ({})\n", fixed.sources.place(change.span), change.text, change.fixer);
    fixed.changes.iter().map(line).collect()
}

/// Loads what was printed. The places of its mistakes are those of the mended text.
fn validate(template: &Path, text: &str, settings: &Settings) -> Result<(), CliError> {
    let mut options = LoadOptions::new(template, &settings.working_dir);
    options.environment.clone_from(&settings.environment);
    options.home.clone_from(&settings.home);
    // Values come with the build.
    options.syntax_only = true;
    let mut sources = SourceMap::new();
    let source = sources.add(format!("{} (mended)", template.display()), None, text);
    let mut diagnostics = Diagnostics::new();
    let mended = TemplateText { source, text: text.into() };
    let outcome = legacy::load(&mended, &options, &mut sources, &mut diagnostics);
    diagnostics.items.retain(kiln_core::Diagnostic::is_error);
    diagnostics.sort();
    let redactor = Redactor::new();
    outcome.secrets.iter().chain(&diagnostics.secrets).for_each(|secret| redactor.add(secret));
    if diagnostics.has_errors() {
        ui::show_diagnostics(Format::of_messages(settings), &diagnostics, &sources, &redactor, settings);
        return Err(CliError::Reported(FailureClass::Template));
    }
    Ok(())
}

/// Where a legacy template is, and its text where it comes by standard input.
pub(super) fn legacy_options(template: &Path, settings: &Settings) -> Result<LoadOptions, CliError> {
    let mut options = LoadOptions::new(template, &settings.working_dir);
    if options.is_stdin() {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map_err(|error| Failure::environment(StdinError(error)))?;
        options.stdin = Some(text);
        options.config_type = Some(ConfigType::Json);
    }
    Ok(options)
}

#[derive(Debug, thiserror::Error)]
#[error("cannot read the template from standard input")]
struct StdinError(#[source] std::io::Error);
