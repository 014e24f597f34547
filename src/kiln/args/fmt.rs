//! `kiln fmt`.

use std::path::PathBuf;

use clap::Args;

use super::go_bool;

#[derive(Debug, Args)]
pub(crate) struct FmtArgs {
    /// Files or directories; - for standard input
    #[arg(value_name = "PATH", required = true)]
    pub(crate) paths: Vec<PathBuf>,
    /// Change nothing; exit with 3 when something would change
    #[arg(long, value_parser = go_bool, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", value_name = "BOOL", hide_default_value = true)]
    pub(crate) check: bool,
    /// Show what changes
    #[arg(long, value_parser = go_bool, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", value_name = "BOOL", hide_default_value = true)]
    pub(crate) diff: bool,
    /// Write the files anew
    #[arg(long, value_parser = go_bool, num_args = 0..=1, require_equals = true, default_value_t = true, default_missing_value = "true", value_name = "BOOL")]
    pub(crate) write: bool,
    /// Go into the directories below, too
    #[arg(long, value_parser = go_bool, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", value_name = "BOOL", hide_default_value = true)]
    pub(crate) recursive: bool,
}
