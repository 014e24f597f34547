//! `kiln plan`.

use clap::Args;

use super::{IgnoredArgs, StepCacheArgs, TemplateArgs, go_bool};

#[derive(Debug, Args)]
pub(crate) struct PlanArgs {
    #[command(flatten)]
    pub(crate) template: TemplateArgs,
    /// Print JSON
    #[arg(long, value_parser = go_bool, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", value_name = "BOOL", hide_default_value = true)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) steps: StepCacheArgs,
    #[command(flatten)]
    ignored: IgnoredArgs,
}
