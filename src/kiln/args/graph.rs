//! Arguments of `kiln graph`.

use clap::{Args, ValueEnum};

use super::TemplateArgs;

#[derive(Debug, Args)]
pub(crate) struct GraphArgs {
    #[command(flatten)]
    pub(crate) template: TemplateArgs,
    /// What to print
    #[arg(long, value_enum, default_value_t = GraphFormat::Text, value_name = "FORMAT")]
    pub(crate) format: GraphFormat,
}

/// Forms of a graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum GraphFormat {
    /// A tree of lines
    Text,
    /// For Graphviz
    Dot,
    /// For Markdown
    Mermaid,
    /// A picture
    Svg,
}
