//! What can go wrong with a request. Places are shown without what may be secret in them.

use std::error::Error;
use std::path::PathBuf;

type Cause = Box<dyn Error + Send + Sync>;

/// Why an HTTP data source could not be read.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// TLS or a proxy cannot be set up.
    #[error("cannot set up HTTP")]
    Client(#[source] Cause),
    /// The file of `SSL_CERT_FILE` cannot be read, or holds no certificate.
    #[error("cannot read certificates from {}", .path.display())]
    Certificates {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Cause,
    },
    /// No answer came.
    #[error("no answer from {place}")]
    NoAnswer {
        /// Whom was asked.
        place: String,
        /// Why.
        #[source]
        source: Cause,
    },
    /// An answer other than success.
    #[error("{place} answers {status}")]
    Status {
        /// Whom was asked.
        place: String,
        /// Number and name of the answer.
        status: String,
    },
    /// A redirection that cannot be followed.
    #[error("{place} redirects {problem}")]
    Redirect {
        /// Whom was asked.
        place: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The answer is larger than what is read.
    #[error("the answer of {place} is larger than {limit} MiB")]
    TooLarge {
        /// Whom was asked.
        place: String,
        /// The bound.
        limit: usize,
    },
    /// The answer is no text.
    #[error("the answer of {place} is not UTF-8 text")]
    NotText {
        /// Whom was asked.
        place: String,
    },
    /// It took too long as a whole.
    #[error("{place} did not finish its answer within {seconds} seconds")]
    TooSlow {
        /// Whom was asked.
        place: String,
        /// The bound.
        seconds: u64,
    },
}
