//! The `kiln` command.
//!
//! `main` maps a result to an exit code; everything else has its own file: `args` (what was typed), `settings` (what the
//! environment says), `kinds` (what is built in), `commands/` (one file a command), `ui/` (what is shown).

mod args;
mod commands;
mod error;
mod kinds;
mod prompt;
mod settings;
mod ui;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = match args::parse(std::env::args_os()) {
        Ok(arguments) => arguments,
        Err(error) => return ui::usage(&error),
    };
    let settings = settings::Settings::from_process(&arguments);
    match commands::run(arguments, &settings) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            ui::show_error(&error, &settings);
            ExitCode::from(error.exit_code())
        }
    }
}
