//! `kiln upgrade`.

use std::path::PathBuf;

use clap::Args;

use super::go_bool;

#[derive(Debug, Args)]
pub(crate) struct UpgradeArgs {
    /// A legacy JSON template; - for standard input
    #[arg(value_name = "TEMPLATE")]
    pub(crate) template: PathBuf,
    /// Where the HCL2 template is written: a file, or - for standard output [default: TEMPLATE.pkr.hcl]
    #[arg(long, value_name = "FILE")]
    pub(crate) output_file: Option<PathBuf>,
    /// Explain in comments what was made of what
    #[arg(long, value_parser = go_bool, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", value_name = "BOOL", hide_default_value = true)]
    pub(crate) with_annotations: bool,
}
