//! The sandbox's helper alone, for this crate's tests: a test program itself starts threads before anything of ours runs.

use std::process::ExitCode;

fn main() -> ExitCode {
    kiln_sandbox::helper_main().unwrap_or(ExitCode::FAILURE)
}
