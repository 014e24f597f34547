//! Where EC2 has no capacity it says so with status 500, which the SDK takes for an error that passes: for a minute it would
//! ask what was answered already.

use aws_sdk_ec2::operation::run_instances::RunInstancesError;
use aws_smithy_runtime_api::client::interceptors::context::InterceptorContext;
use aws_smithy_runtime_api::client::retries::classifiers::{ClassifyRetry, RetryAction};
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use kiln_builder_amazon_ebs::cloud::ErrorKind;

use crate::error::kind;

/// Takes such an answer for the last one.
#[derive(Debug)]
pub(crate) struct NoCapacity;

impl ClassifyRetry for NoCapacity {
    fn classify_retry(&self, context: &InterceptorContext) -> RetryAction {
        let error = context.output_or_error().and_then(Result::err).and_then(|error| error.as_operation_error());
        let code = error.and_then(|error| error.downcast_ref::<RunInstancesError>()).and_then(|error| error.code());
        match code.map(|code| kind(code, "", false)) {
            Some(ErrorKind::Capacity) => RetryAction::RetryForbidden,
            _ => RetryAction::NoActionIndicated,
        }
    }

    fn name(&self) -> &'static str {
        "no capacity"
    }
}
