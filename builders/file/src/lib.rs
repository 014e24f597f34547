//! The `file` source: a file of this host, with content from the template or copied, for post-processors to work on.
//!
//! Owns: the source's arguments and the writing. There is no machine: the steps of such a build may run commands on this host,
//! and are told so where they want to run any on a machine. Must not know: any provisioner or post-processor.

mod machine;
mod prepare;
mod write;

pub use prepare::FileBuilderKind;

#[cfg(test)]
mod tests;
