//! `kiln cache`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::{Target, go_bool};
use crate::amount;

#[derive(Debug, Args)]
pub(crate) struct CacheArgs {
    #[command(subcommand)]
    pub(crate) command: CacheCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CacheCommand {
    /// List what is kept, with sizes and ages
    Ls(ListArgs),
    /// Remove what is not wanted any more; without options, what is beyond the usual size
    Prune(PruneArgs),
    /// Show what the steps of the last build depended on, and what is kept of them
    Explain(ExplainArgs),
    /// What builds leave to a process of its own
    #[command(hide = true)]
    Tidy,
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Print JSON
    #[arg(long, value_parser = go_bool, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", value_name = "BOOL", hide_default_value = true)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PruneArgs {
    /// What was not used for so long (12h, 30d, 4w)
    #[arg(long, value_name = "AGE", value_parser = amount::age)]
    pub(crate) older_than: Option<Duration>,
    /// What was not used longest, until no more than this is left (500MB, 20GiB)
    #[arg(long, value_name = "SIZE", value_parser = amount::size)]
    pub(crate) max_size: Option<u64>,
    /// What these builds made, unless others build upon it (comma-separated)
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub(crate) builds: Vec<String>,
    /// Everything but images that have a name
    #[arg(long, value_parser = go_bool, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", value_name = "BOOL", hide_default_value = true)]
    pub(crate) all: bool,
    /// Take named images for what can go like all else; they lose their names
    #[arg(long, value_parser = go_bool, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", value_name = "BOOL", hide_default_value = true)]
    pub(crate) images: bool,
    /// Show what would be removed, and remove nothing
    #[arg(long, value_parser = go_bool, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", value_name = "BOOL", hide_default_value = true)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// Build, and a step of it (number or name)
    #[arg(value_name = "BUILD[:STEP]")]
    pub(crate) target: Target,
    /// The template, where several have a build of that name; the one that was built last unless told
    #[arg(value_name = "TEMPLATE")]
    pub(crate) template: Option<PathBuf>,
    /// Print JSON
    #[arg(long, value_parser = go_bool, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", value_name = "BOOL", hide_default_value = true)]
    pub(crate) json: bool,
}
