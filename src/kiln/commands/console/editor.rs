//! The console on a terminal: a line editor with history, completion and input over several lines.

use std::borrow::Cow;
use std::cell::Cell;
use std::io::Write;
use std::path::PathBuf;

use kiln_core::{Diagnostics, Failure, SourceMap};
use kiln_language::syntax::parse_expression;
use rustyline::completion::Completer;
use rustyline::config::Configurer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{CompletionType, Context, Editor, Helper};

use super::complete::Names;
use super::session::{Answer, Session};
use crate::error::{CliError, output_error};
use crate::settings::Settings;
use crate::ui;

/// Lines that are kept.
const HISTORY: usize = 1_000;

/// Reads and answers until the end.
pub(super) fn run(session: &mut Session, settings: &Settings) -> Result<(), CliError> {
    let mut editor =
        Editor::<Typing, FileHistory>::new().map_err(|error| Failure::environment(TerminalError(error)))?;
    editor.set_helper(Some(Typing { names: session.names(), is_hcl: session.is_hcl(), has_text: Cell::new(false) }));
    editor.set_completion_type(CompletionType::List);
    editor.set_history_ignore_space(true);
    // A history that cannot be kept is no reason not to begin.
    let _ = editor.set_max_history_size(HISTORY);
    let history = history_file(settings);
    if let Some(file) = &history {
        let _ = editor.load_history(file);
    }
    let language = if session.is_hcl() { "HCL2 expressions" } else { "texts of legacy JSON templates" };
    ui::show_text(&format!("kiln console: {language}; `help` explains, `exit` or Ctrl-D ends\n"));
    let result = answer_lines(&mut editor, session);
    if let Some(file) = &history {
        let _ = editor.save_history(file);
    }
    result
}

fn answer_lines(editor: &mut Editor<Typing, FileHistory>, session: &mut Session) -> Result<(), CliError> {
    loop {
        let text = match editor.readline("> ") {
            Ok(text) => text,
            // What was begun is given up; where nothing was, it is the console, as in Packer.
            Err(ReadlineError::Interrupted) if editor.helper().is_some_and(|helper| helper.has_text.take()) => continue,
            Err(ReadlineError::Interrupted) => return Ok(()),
            Err(ReadlineError::Eof) => return Ok(()),
            Err(error) => return Err(Failure::environment(TerminalError(error)).into()),
        };
        if session.is_harmless(&text) {
            let _ = editor.add_history_entry(text.as_str());
        }
        match session.answer(with_line_end(text.trim()).as_ref()) {
            Answer::Value { text, remarks } => {
                ui::show_text(&remarks);
                if !text.is_empty() {
                    writeln!(std::io::stdout(), "{text}").map_err(output_error)?;
                }
            }
            Answer::Mistakes(text) => ui::show_text(&text),
            Answer::Exit => return Ok(()),
        }
    }
}

/// The end of a heredoc needs a line of its own, with its end.
fn with_line_end(text: &str) -> Cow<'_, str> {
    if text.contains('\n') { Cow::Owned(format!("{text}\n")) } else { Cow::Borrowed(text) }
}

/// In kiln's state directory, which is made where it is missing; `None` where that cannot be or is somebody else's.
fn history_file(settings: &Settings) -> Option<PathBuf> {
    use std::os::unix::fs::DirBuilderExt;
    settings.check_state_dir().ok()?;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&settings.state_dir).ok()?;
    Some(settings.state_dir.join("console_history"))
}

/// What the editor asks while somebody types.
struct Typing {
    names: Names,
    is_hcl: bool,
    /// Whether the line is not empty.
    has_text: Cell<bool>,
}

impl Helper for Typing {}

impl Hinter for Typing {
    type Hint = String;

    /// Is told of every change; there is no hint.
    fn hint(&self, line: &str, _: usize, _: &Context<'_>) -> Option<String> {
        self.has_text.set(!line.is_empty());
        None
    }
}

impl Highlighter for Typing {}

impl Completer for Typing {
    type Candidate = String;

    fn complete(&self, line: &str, position: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        let (start, found) = self.names.at(&line[..position]);
        Ok((start, found.into_iter().map(str::to_owned).collect()))
    }
}

impl Validator for Typing {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        let is_open = self.is_hcl && is_open(context.input());
        Ok(if is_open { ValidationResult::Incomplete } else { ValidationResult::Valid(None) })
    }
}

/// Whether a bracket, an interpolation, a comment or a heredoc waits for its end. An empty line ends all but heredocs.
fn is_open(text: &str) -> bool {
    let mut sources = SourceMap::new();
    let text = with_line_end(text.trim_start());
    let source = sources.add("<console>", None, text.as_ref());
    let mut diagnostics = Diagnostics::new();
    parse_expression(source, &text, &mut diagnostics);
    let has = |code: &str| diagnostics.items.iter().any(|item| item.code == code);
    let is_given_up = text.ends_with("\n\n");
    has("unclosed-heredoc")
        || (!is_given_up && ["unclosed-bracket", "unclosed-interpolation", "unclosed-comment"].into_iter().any(has))
}

#[derive(Debug, thiserror::Error)]
#[error("cannot read from the terminal")]
struct TerminalError(#[source] ReadlineError);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_for_its_end_goes_on_in_the_next_line() {
        for open in ["[1,", "upper(", "{ a = 1", "[\n  1,", "<<EOT", "<<EOT\nhello", "/* x", "(1 +", "\"${upper("] {
            assert!(is_open(open), "{open}");
        }
        for closed in ["", "1", "[1]", "1 +", "]", "\"open", "<<EOT\nhello\nEOT", "[1,\n\n", "[\n1\n]", "exit"] {
            assert!(!is_open(closed), "{closed}");
        }
    }
}
