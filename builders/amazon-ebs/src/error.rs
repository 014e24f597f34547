//! What goes wrong in the cloud, as failures with what to do about them.

use kiln_core::{Failure, FailureClass};

use crate::cloud::{CloudError, ErrorKind};

/// An action of the cloud, or what was meant by it, failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action}")]
struct NotDone {
    action: String,
    source: CloudError,
}

/// What was tried, as a verb, and why it failed.
pub(crate) fn failure(action: impl Into<String>, error: CloudError) -> Failure {
    let class = match error.kind {
        ErrorKind::Unauthorized | ErrorKind::NoCredentials | ErrorKind::Unreachable => FailureClass::Environment,
        _ => FailureClass::Build,
    };
    let hint = match error.kind {
        ErrorKind::Unauthorized => Some(format!(
            "the credentials need the right for {}; `decode_authorization_messages = true` shows more",
            error.action
        )),
        ErrorKind::NoCredentials => {
            Some("set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run `aws sso login`".to_owned())
        }
        ErrorKind::Capacity => {
            Some("try another `instance_type`, zone or region, or ask AWS for a higher limit".to_owned())
        }
        ErrorKind::Throttled => Some("too many calls from this account; try again later".to_owned()),
        _ => None,
    };
    let failure = Failure::new(class, NotDone { action: action.into(), source: error });
    hint.into_iter().fold(failure, Failure::hint)
}

/// The template asks for what is not there, or not so.
pub(crate) fn wrong(text: impl Into<String>) -> Failure {
    Failure::new(FailureClass::Build, text.into())
}
