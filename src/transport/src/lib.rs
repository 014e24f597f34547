//! What communicators share: output as lines, trees as tar streams, and the communicator of this host.
//!
//! Owns: the pieces every transport needs, and the conformance suite that each communicator must pass (in
//! `kiln-testkit`). Must not know: any builder or provisioner.

pub mod lines;
pub mod local_script;
pub mod script;
