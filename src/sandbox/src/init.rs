//! Process 1 of a guest.

use crate::error::SandboxError;
use crate::protocol::Channel;
use crate::spec::SandboxSpec;

/// Makes the guest and serves it until the socket ends.
pub(crate) fn session(spec: &SandboxSpec, channel: &Channel) -> Result<(), SandboxError> {
    let _ = (spec, channel);
    Err(SandboxError::Unavailable("not yet".to_owned()))
}
