//! What the SDK and the services answer when something fails, as the kinds that callers go by.

use std::error::Error;

use aws_credential_types::provider::error::CredentialsError;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use aws_types::request_id::RequestId;
use kiln_builder_amazon_ebs::cloud::{CloudError, ErrorKind};

use crate::http::root_cause;

/// The error of one action. `may_have_run` tells whether one of its tries may have been carried out unseen.
pub(crate) fn cloud_error<E>(action: &str, error: &SdkError<E, HttpResponse>, may_have_run: bool) -> CloudError
where
    E: Error + ProvideErrorMetadata + 'static,
{
    let found = |kind, message| CloudError {
        action: action.to_owned(),
        code: String::new(),
        message,
        kind,
        is_refusal: false,
        request_id: None,
    };
    match error {
        SdkError::ServiceError(answer) => {
            let meta = answer.err().meta();
            let status = answer.raw().status().as_u16();
            let code = meta.code().unwrap_or_default();
            CloudError {
                action: action.to_owned(),
                code: code.to_owned(),
                message: meta.message().map_or_else(|| format!("HTTP status {status}"), str::to_owned),
                kind: kind(code, meta.message().unwrap_or_default(), may_have_run),
                is_refusal: (400..500).contains(&status) && !code.is_empty() && !may_have_run,
                request_id: meta.request_id().map(str::to_owned),
            }
        }
        other => {
            let source: &(dyn Error + 'static) = match other {
                SdkError::DispatchFailure(failure) => match failure.as_connector_error() {
                    Some(error) => error,
                    None => other,
                },
                other => other,
            };
            if let Some(reason) = no_credentials(source) {
                return found(ErrorKind::NoCredentials, reason);
            }
            let kind = match other {
                _ if may_have_run => ErrorKind::Lost,
                SdkError::DispatchFailure(_) | SdkError::TimeoutError(_) => ErrorKind::Unreachable,
                _ => ErrorKind::Other,
            };
            let message = match kind {
                ErrorKind::Lost => format!("no good answer came: {}", root_cause(source)),
                ErrorKind::Unreachable => format!("the service cannot be reached: {}", root_cause(source)),
                _ => root_cause(source),
            };
            found(kind, message)
        }
    }
}

/// Why there were no credentials to sign with, if that is what it is.
fn no_credentials(error: &(dyn Error + 'static)) -> Option<String> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.is::<CredentialsError>() {
            return Some(root_cause(error));
        }
        cause = error.source();
    }
    None
}

/// What a code means to callers.
pub(crate) fn kind(code: &str, message: &str, may_have_run: bool) -> ErrorKind {
    match code {
        "InvalidAMIID.Unavailable" | "NoSuchEntity" | "ParameterNotFound" | "ParameterVersionNotFound" => {
            ErrorKind::NotFound
        }
        "EntityAlreadyExists" => ErrorKind::Duplicate,
        "DependencyViolation" | "DeleteConflict" | "VolumeInUse" => ErrorKind::InUse,
        _ if THROTTLED.contains(&code) => {
            if may_have_run {
                ErrorKind::Lost
            } else {
                ErrorKind::Throttled
            }
        }
        "UnauthorizedOperation"
        | "AccessDenied"
        | "AccessDeniedException"
        | "OptInRequired"
        | "Blocked"
        | "UnauthorizedException"
        | "NotAuthorized" => ErrorKind::Unauthorized,
        // It is also the answer about a thing that is somebody else's.
        "AuthFailure" if !message.contains("credentials") => ErrorKind::Unauthorized,
        "AuthFailure"
        | "InvalidClientTokenId"
        | "ExpiredToken"
        | "ExpiredTokenException"
        | "RequestExpired"
        | "UnrecognizedClientException"
        | "InvalidSignatureException"
        | "SignatureDoesNotMatch"
        | "MissingAuthenticationToken" => ErrorKind::NoCredentials,
        "SpotMaxPriceTooLow" | "MaxSpotInstanceCountExceeded" | "Unsupported.Capacity" => ErrorKind::Capacity,
        _ => by_form(code, may_have_run),
    }
}

const THROTTLED: [&str; 8] = [
    "EC2ThrottledException",
    "RequestLimitExceeded",
    "RequestThrottled",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "ThrottledException",
    "TooManyRequestsException",
];

/// EC2's codes are `Thing.Problem`; the problem is what matters.
fn by_form(code: &str, may_have_run: bool) -> ErrorKind {
    let ends = |ends: &[&str]| ends.iter().any(|end| code.ends_with(end));
    if ends(&[".NotFound", ".NotFoundException", "ResourceNotFoundException", "DoesNotExist"]) {
        ErrorKind::NotFound
    } else if ends(&[".Duplicate", ".AlreadyExists", ".AlreadyExistsException", "ResourceExistsException"]) {
        ErrorKind::Duplicate
    } else if ends(&[".InUse"]) {
        ErrorKind::InUse
    } else if code.starts_with("Insufficient") || ends(&["LimitExceeded"]) {
        ErrorKind::Capacity
    } else if may_have_run {
        ErrorKind::Lost
    } else {
        ErrorKind::Other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_what_callers_go_by() {
        for (code, expected) in [
            ("InvalidInstanceID.NotFound", ErrorKind::NotFound),
            ("InvalidAMIID.Unavailable", ErrorKind::NotFound),
            ("InvalidLaunchTemplateName.NotFoundException", ErrorKind::NotFound),
            ("InvalidAMIID.Malformed", ErrorKind::Other),
            ("InvalidKeyPair.Duplicate", ErrorKind::Duplicate),
            ("InvalidAMIName.Duplicate", ErrorKind::Duplicate),
            ("InvalidLaunchTemplateName.AlreadyExistsException", ErrorKind::Duplicate),
            ("EntityAlreadyExists", ErrorKind::Duplicate),
            ("DependencyViolation", ErrorKind::InUse),
            ("InvalidSnapshot.InUse", ErrorKind::InUse),
            ("RequestLimitExceeded", ErrorKind::Throttled),
            ("InsufficientInstanceCapacity", ErrorKind::Capacity),
            ("InsufficientFreeAddressesInSubnet", ErrorKind::Capacity),
            ("VcpuLimitExceeded", ErrorKind::Capacity),
            ("UnauthorizedOperation", ErrorKind::Unauthorized),
            ("ExpiredToken", ErrorKind::NoCredentials),
            ("InternalError", ErrorKind::Other),
        ] {
            assert_eq!(kind(code, "", false), expected, "{code}");
        }
        let validate = "AWS was not able to validate the provided access credentials";
        assert_eq!(kind("AuthFailure", validate, false), ErrorKind::NoCredentials);
        assert_eq!(kind("AuthFailure", "Not authorized for image", false), ErrorKind::Unauthorized);
    }

    #[test]
    fn a_try_that_may_have_been_carried_out_is_told_where_the_last_answer_does_not_settle_it() {
        for (code, expected) in [
            ("InternalError", ErrorKind::Lost),
            ("RequestLimitExceeded", ErrorKind::Lost),
            ("", ErrorKind::Lost),
            ("InvalidAMIName.Duplicate", ErrorKind::Duplicate),
            ("InvalidInstanceID.NotFound", ErrorKind::NotFound),
        ] {
            assert_eq!(kind(code, "", true), expected, "{code}");
        }
    }
}
