//! What a build restores instead of running.

use clap::{Args, ValueEnum};

use super::go_bool;

#[derive(Debug, Clone, Default, Args)]
pub(crate) struct StepCacheArgs {
    /// Run every step, whatever is kept; what they lead to is kept anew
    #[arg(long, value_parser = go_bool, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", value_name = "BOOL", hide_default_value = true)]
    pub(crate) no_cache: bool,
    /// Run this step (its number or name) and all after it, whatever is kept
    #[arg(long, value_name = "STEP")]
    pub(crate) from_step: Option<String>,
    /// Run the post-processors alone, on what was sealed before
    #[arg(long, conflicts_with_all = ["no_cache", "from_step"], value_parser = go_bool, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", value_name = "BOOL", hide_default_value = true)]
    pub(crate) post_only: bool,
    /// Which builder runs `docker` sources; `KILN_DOCKER_AS` says it for all commands
    #[arg(long, value_enum, value_name = "BUILDER")]
    pub(crate) docker_as: Option<DockerAs>,
}

/// Who runs `docker` sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DockerAs {
    /// The Docker engine
    Docker,
    /// kiln itself, without a daemon
    Oci,
}
