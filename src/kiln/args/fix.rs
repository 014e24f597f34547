//! `kiln fix`.

use std::path::PathBuf;

use clap::Args;

use super::go_bool;

#[derive(Debug, Args)]
pub(crate) struct FixArgs {
    /// A legacy JSON template; - for standard input
    #[arg(value_name = "TEMPLATE")]
    pub(crate) template: PathBuf,
    /// Check the mended template
    #[arg(long, value_parser = go_bool, num_args = 0..=1, require_equals = true, default_value_t = true, default_missing_value = "true", value_name = "BOOL")]
    pub(crate) validate: bool,
}
