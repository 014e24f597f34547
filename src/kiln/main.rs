//! The `kiln` command.
//!
//! `main` maps a result to an exit code; everything else has its own file: `args` (what was typed), `settings` (what the
//! environment says), `kinds` (what is built in), `commands/` (one file a command), `ui/` (what is shown).

mod amount;
mod args;
mod aws;
mod commands;
mod emulation;
mod error;
mod kinds;
mod panic;
mod prompt;
#[cfg(test)]
mod reference;
mod replace;
mod settings;
mod ui;

use std::process::ExitCode;

fn main() -> ExitCode {
    // Started again as a sandbox's helper: nothing of the command's own may run before that.
    if let Some(code) = kiln_sandbox::helper_main() {
        return code;
    }
    panic::install();
    // A panic in a build is caught by the engine, which still removes what the build made; this is for all the rest.
    std::panic::catch_unwind(run).unwrap_or_else(|_| {
        ui::show_text("  this is a mistake in kiln itself; please report it with the command and the template\n");
        ExitCode::from(kiln_core::FailureClass::Bug.exit_code())
    })
}

fn run() -> ExitCode {
    let refuses_color = std::env::var_os("PACKER_NO_COLOR").is_some_and(|value| !value.is_empty());
    let arguments = match args::parse(std::env::args_os(), refuses_color) {
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
