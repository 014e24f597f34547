//! The `null` source: a machine that is there already and is reached over SSH, or none at all (`communicator = "none"`). It is
//! changed in place, and there is no artifact.
//!
//! Owns: the source's arguments and facts. Must not know: how SSH works (`kiln-ssh` does), any provisioner or post-processor.

mod machine;
mod prepare;

pub use prepare::NullBuilderKind;

#[cfg(test)]
mod tests;
