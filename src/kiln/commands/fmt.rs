//! `kiln fmt`.

mod diff;
mod files;

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use kiln_core::{Diagnostics, Failure, FailureClass, Redactor, SourceMap};
use kiln_language::format;
use kiln_language::syntax::{self, Decoded, NotUtf8};

use crate::args::FmtArgs;
use crate::error::{CliError, output_error};
use crate::replace;
use crate::settings::Settings;
use crate::ui::{self, Format};

/// Some file was not formatted: it has mistakes, cannot be read, is none.
const FAILED: u8 = 1;
/// With `-check`: some file is not in the usual layout.
const WOULD_CHANGE: u8 = 3;

/// Brings files into the usual layout. A file that fails does not stop the others.
pub(crate) fn run(arguments: &FmtArgs, settings: &Settings) -> Result<u8, CliError> {
    let (mut changed, mut failed) = (false, false);
    for path in &arguments.paths {
        let found =
            if path.as_os_str() == "-" { Ok(vec![path.clone()]) } else { files::find(path, arguments.recursive) };
        let results = match found {
            Ok(files) => files.iter().map(|file| format_one(file, arguments, settings)).collect(),
            Err(error) => vec![Err(failure(error))],
        };
        for result in results {
            match result {
                Ok(is_changed) => changed |= is_changed,
                Err(CliError::ClosedPipe) => return Err(CliError::ClosedPipe),
                Err(error) => {
                    ui::show_error(&error, settings);
                    failed = true;
                }
            }
        }
    }
    Ok(match (failed, changed && arguments.check) {
        (true, _) => FAILED,
        (false, true) => WOULD_CHANGE,
        (false, false) => 0,
    })
}

/// Formats one file, or standard input for `-`, and tells whether that changes it.
fn format_one(path: &Path, arguments: &FmtArgs, settings: &Settings) -> Result<bool, CliError> {
    let is_stdin = path.as_os_str() == "-";
    let name = if is_stdin { "<stdin>".to_owned() } else { path.display().to_string() };
    let decoded = read(path, is_stdin).map_err(failure)?;
    let text = &decoded.text;
    let formatted = formatted(&name, text, settings)?;
    let is_changed = formatted != *text;
    let mut stdout = std::io::stdout().lock();
    // The text itself is the data: nothing else may stand beside it.
    if is_stdin && !arguments.check && !arguments.diff {
        stdout.write_all(&decoded.encode(formatted)).map_err(output_error)?;
        return Ok(is_changed);
    }
    if !is_changed {
        return Ok(false);
    }
    let diff = if arguments.diff { diff::unified(&name, text, &formatted) } else { String::new() };
    if arguments.write && !arguments.check && !is_stdin {
        let bytes = decoded.encode(formatted);
        replace::replace(path, &bytes).map_err(|error| failure(FmtError::Write(path.to_owned(), error)))?;
    }
    writeln!(stdout, "{name}").and_then(|()| stdout.write_all(&decoded.encode(diff))).map_err(output_error)?;
    Ok(true)
}

fn read(path: &Path, is_stdin: bool) -> Result<Decoded, FmtError> {
    let cannot_read = |error| FmtError::Read(path.to_owned(), error);
    let mut bytes = Vec::new();
    if is_stdin {
        std::io::stdin().read_to_end(&mut bytes).map_err(cannot_read)?;
    } else {
        bytes = std::fs::read(path).map_err(cannot_read)?;
    }
    syntax::decode(bytes).map_err(|error| FmtError::NoText(path.to_owned(), error))
}

/// The text in the usual layout; a text with mistakes is shown and refused, for nobody knows what is meant there.
fn formatted(name: &str, text: &str, settings: &Settings) -> Result<String, CliError> {
    let mut sources = SourceMap::new();
    let source = sources.add(name, None, text);
    let mut diagnostics = Diagnostics::new();
    // Both take their time with large files, and neither needs the other.
    let formatted = std::thread::scope(|scope| {
        let formatting = scope.spawn(|| format::format(text));
        syntax::parse_body(source, text, &mut diagnostics);
        formatting.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    if diagnostics.has_errors() {
        diagnostics.sort();
        ui::show_diagnostics(Format::of_messages(settings), &diagnostics, &sources, &Redactor::new(), settings);
        return Err(CliError::Reported(FailureClass::Template));
    }
    Ok(formatted)
}

fn failure(error: FmtError) -> CliError {
    let hint = match &error {
        FmtError::OtherKind(path) if path.extension().is_some_and(|extension| extension == "json") => {
            Some("JSON has a layout of its own; `kiln upgrade` writes a JSON template as HCL2")
        }
        FmtError::OtherKind(_) => Some(
            "files end in .pkr.hcl, .pkrvars.hcl or .kiln.hcl; others go through standard input: kiln fmt - < FILE",
        ),
        _ => None,
    };
    let failure = Failure::environment(error);
    CliError::Failure(match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    })
}

/// Why a file is not formatted, but for mistakes in its text.
#[derive(Debug, thiserror::Error)]
enum FmtError {
    #[error("cannot read `{}`", .0.display())]
    Read(PathBuf, #[source] std::io::Error),
    #[error("cannot list `{}`", .0.display())]
    List(PathBuf, #[source] std::io::Error),
    #[error("cannot write `{}`", .0.display())]
    Write(PathBuf, #[source] std::io::Error),
    #[error("cannot read `{}`", .0.display())]
    NoText(PathBuf, #[source] NotUtf8),
    #[error("`{}` does not look like an HCL2 template by its name", .0.display())]
    OtherKind(PathBuf),
}
