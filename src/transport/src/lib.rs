//! What communicators share: trees as tar streams, the communicator of this
//! host, and files that a build leaves there.
//!
//! Owns: the pieces every transport needs, and the [`conformance`] suite that each communicator must pass. Must not know:
//! any builder or provisioner.

pub mod absent;
#[doc(hidden)]
pub mod conformance;
pub mod local;
pub mod local_script;
pub mod outputs;
pub mod owner;
pub mod place;
pub mod script;
pub mod tar;
pub mod unpack;

pub use local::LocalCommunicator;
