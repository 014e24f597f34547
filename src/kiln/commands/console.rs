//! `kiln console`: expressions, one line at a time, with the values of a template.

mod complete;
mod editor;
mod session;

use std::io::{BufRead, IsTerminal, Write};

use kiln_core::{Diagnostic, Failure, FailureClass, Severity};
use kiln_template::{ConfigType, Loaded};

use super::load::{self, Wanted};
use crate::args::{self, ConsoleArgs};
use crate::error::{CliError, output_error};
use crate::settings::Settings;
use crate::ui;
use session::{Answer, Session};

/// Reads lines: with an editor on a terminal, else as Packer does. Of a pipe, that prints the value of the last line only;
/// of a file, those of all.
pub(crate) fn run(arguments: &ConsoleArgs, settings: &Settings) -> Result<u8, CliError> {
    if arguments.template.as_ref().is_some_and(|template| template.as_os_str() == "-") {
        return Err(Failure::new(FailureClass::Usage, TemplateOnStdin).into());
    }
    let wanted = Wanted { allow_unset: true, ..Wanted::default() };
    // Packer's rule: without a template, what is typed are texts of legacy JSON unless told.
    let language = match arguments.config_type {
        Some(args::ConfigType::Hcl2) => ConfigType::Hcl2,
        _ => ConfigType::Json,
    };
    let mut options = load::options(&arguments.template_arguments("-"), wanted, settings);
    if arguments.template.is_none() {
        options.config_type = Some(language);
        options.stdin = Some(if language == ConfigType::Json { "{}" } else { "" }.to_owned());
    }
    let mut loaded = kiln_template::load(&options);
    // Nothing is to be built, and what is given may be for the lines to use.
    let is_beside_the_point = |item: &Diagnostic| match item.code {
        "no-builders" => arguments.template.is_none(),
        "undeclared-variable" => !item.is_error(),
        _ => false,
    };
    loaded.diagnostics.items.retain(|item| !is_beside_the_point(item));
    let mut session = begin(loaded, arguments.template.is_some(), settings)?;
    if std::io::stdin().is_terminal() && std::io::stdout().is_terminal() {
        editor::run(&mut session, settings)?;
        return Ok(0);
    }
    let kind = rustix::fs::fstat(std::io::stdin()).map(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode));
    let shown = if kind.is_ok_and(|kind| kind.is_file()) { Shown::All } else { Shown::Last };
    answer_lines(&mut session, std::io::stdin().lock(), shown)
}

/// The values that are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shown {
    All,
    Last,
}

/// A session with a template's values. Mistakes in locals and builds are remarked; the rest has its values all the same.
fn begin(mut loaded: Loaded, has_template: bool, settings: &Settings) -> Result<Session, CliError> {
    if loaded.is_declared {
        for item in &mut loaded.diagnostics.items {
            item.severity = Severity::Warning;
        }
    }
    let redactor = load::redactor(&loaded);
    load::check(&loaded, &redactor, settings)?;
    Ok(Session::new(loaded, has_template, redactor, settings))
}

/// Every line is evaluated; mistakes are told as they come.
fn answer_lines(session: &mut Session, input: impl BufRead, shown: Shown) -> Result<u8, CliError> {
    let mut last = (shown == Shown::Last).then(String::new);
    let mut has_failed = false;
    for line in input.split(b'\n') {
        let line = line.map_err(|error| Failure::environment(InputError(error)))?;
        last = match session.answer(String::from_utf8_lossy(&line).trim()) {
            Answer::Value { text, remarks } => {
                ui::show_text(&remarks);
                Some(text)
            }
            Answer::Mistakes(text) => {
                ui::show_text(&text);
                has_failed = true;
                None
            }
            Answer::Exit if shown == Shown::All => break,
            // As in Packer, what follows is read all the same.
            Answer::Exit => Some(String::new()),
        };
        if shown == Shown::All
            && let Some(text) = last.take()
        {
            writeln!(std::io::stdout(), "{text}").map_err(output_error)?;
        }
    }
    if let Some(text) = last {
        writeln!(std::io::stdout(), "{text}").map_err(output_error)?;
    }
    Ok(u8::from(has_failed))
}

#[derive(Debug, thiserror::Error)]
#[error("cannot read standard input")]
struct InputError(#[source] std::io::Error);

#[derive(Debug, thiserror::Error)]
#[error("`kiln console` reads expressions from standard input, so the template cannot come from there")]
struct TemplateOnStdin;
