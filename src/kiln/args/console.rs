//! `kiln console`.

use clap::Args;

use super::{IgnoredArgs, TemplateArgs};

#[derive(Debug, Args)]
pub(crate) struct ConsoleArgs {
    #[command(flatten)]
    pub(crate) template: TemplateArgs,
    #[command(flatten)]
    ignored: IgnoredArgs,
}
