//! `kiln inspect`: what a template declares, in Packer's layout or as JSON.

mod json;
mod text;

pub(super) use text::values;

use std::io::Write;

use kiln_core::{FailureClass, Severity};

use super::load::{self, Wanted};
use crate::args::InspectArgs;
use crate::error::{CliError, output_error};
use crate::settings::Settings;
use crate::ui::{self, Format};

/// Prints the template's variables, locals and builds on standard output. As with Packer, mistakes in locals and builds do
/// not keep it from showing the rest; here they are told all the same, as warnings.
pub(crate) fn run(arguments: &InspectArgs, settings: &Settings) -> Result<u8, CliError> {
    let wanted = Wanted { allow_unset: true, ..Wanted::default() };
    let mut loaded = load::load(&arguments.template, wanted, settings)?;
    let redactor = load::redactor(&loaded);
    if loaded.is_declared {
        for item in &mut loaded.diagnostics.items {
            item.severity = Severity::Warning;
        }
    }
    let format = Format::of_messages(settings);
    let plan = loaded.plan.take().or(loaded.partial.take()).filter(|_| loaded.is_declared);
    let Some(plan) = plan else {
        ui::show_diagnostics(format, &loaded.diagnostics, &loaded.sources, &redactor, settings);
        return Err(CliError::Reported(FailureClass::Template));
    };
    let text = if arguments.json {
        let mut value = json::of(&plan, &loaded.sources);
        redactor.redact_json(&mut value);
        format!("{value:#}\n")
    } else {
        let said = text::of(&plan, &loaded.sources);
        redactor.redact(&text::lines(&said, settings.machine_readable)).into_owned()
    };
    // Standard output first: what is asked for stands above what is remarked.
    std::io::stdout().write_all(text.as_bytes()).map_err(output_error)?;
    ui::show_diagnostics(format, &loaded.diagnostics, &loaded.sources, &redactor, settings);
    Ok(0)
}

/// `file:line`.
fn place(span: kiln_core::Span, sources: &kiln_core::SourceMap) -> String {
    let file = sources.get(span.source).map_or("<unknown>", |file| file.name.as_str());
    format!("{file}:{}", sources.line_column(span).0)
}
