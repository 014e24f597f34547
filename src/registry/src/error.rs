//! What can go wrong with a registry. No text holds a secret: addresses are shown without their queries, and what a
//! registry says is shown without the login that was sent to it.

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use kiln_image::{Digest, ImageError};

use crate::credentials::CredentialError;

/// The cause of an error.
pub type Cause = Box<dyn Error + Send + Sync>;

/// Why a registry did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The login is wrong, missing, or may not do this. Trying again does not help.
    #[error("{registry} denies {action}: {reason}")]
    Denied {
        /// Host with port.
        registry: String,
        /// `GET group/image:1`.
        action: String,
        /// What access lacks, or the registry's own words.
        reason: String,
        /// As whom; `None` without a login.
        username: Option<String>,
    },
    /// The image, tag or blob is not there.
    #[error("{what} does not exist")]
    NotFound {
        /// `registry.example.org/group/image:1`.
        what: String,
    },
    /// It failed again and again until the budget was spent, or cannot be reached at all.
    #[error("{registry} is unavailable: {action} failed {attempts} times in {} s", .elapsed.as_secs())]
    Unavailable {
        /// Host with port.
        registry: String,
        /// What was tried.
        action: String,
        /// How often.
        attempts: u32,
        /// From the first failure on.
        elapsed: Duration,
        /// The last failure.
        #[source]
        source: Cause,
    },
    /// The registry asks for a wait that is longer than the budget.
    #[error("{registry} takes no more requests for now: it asks to wait {} s before {action}", .wait.as_secs())]
    TooMany {
        /// Host with port.
        registry: String,
        /// What was tried.
        action: String,
        /// What it asks for.
        wait: Duration,
    },
    /// The registry understands and refuses, or does something that no registry should do.
    #[error("{registry} refuses {action}: {reason}")]
    Refused {
        /// Host with port.
        registry: String,
        /// What was tried.
        action: String,
        /// Its own words, or what is wrong with its answer.
        reason: String,
    },
    /// A connection cannot be trusted.
    #[error("cannot trust {registry}")]
    Untrusted {
        /// Host with port.
        registry: String,
        /// What is wrong with the certificate.
        #[source]
        source: Cause,
    },
    /// No image of the index runs on the platform.
    #[error("{reference} has no image for {platform}; it has {available}")]
    Platform {
        /// The image.
        reference: String,
        /// What was wanted.
        platform: String,
        /// What there is.
        available: String,
    },
    /// What came is not what its digest or size says.
    #[error("{registry} sends something else than {wanted}")]
    Damaged {
        /// Host with port.
        registry: String,
        /// What was asked for.
        wanted: Digest,
        /// What is wrong with it.
        #[source]
        source: Cause,
    },
    /// A document from the registry is not what it should be.
    #[error("{what} from {registry} is malformed: {problem}")]
    Malformed {
        /// Host with port.
        registry: String,
        /// `the manifest of group/image:1`.
        what: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A login cannot be read.
    #[error(transparent)]
    Credentials(#[from] CredentialError),
    /// The image on this host.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// A file with certificates cannot be read, or holds none.
    #[error("cannot read certificates from {}", .path.display())]
    Certificates {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Cause,
    },
    /// TLS or a proxy cannot be set up.
    #[error("cannot set up connections to registries")]
    Setup(#[source] Cause),
}

impl RegistryError {
    /// Which registry it is about, host with port, where it is about one.
    pub fn registry(&self) -> Option<&str> {
        use RegistryError as E;
        match self {
            E::Denied { registry, .. }
            | E::Unavailable { registry, .. }
            | E::TooMany { registry, .. }
            | E::Refused { registry, .. }
            | E::Untrusted { registry, .. }
            | E::Damaged { registry, .. }
            | E::Malformed { registry, .. } => Some(registry),
            E::NotFound { .. }
            | E::Platform { .. }
            | E::Credentials(_)
            | E::Image(_)
            | E::Certificates { .. }
            | E::Setup(_) => None,
        }
    }

    /// What to do about it; one sentence each.
    pub fn hints(&self) -> Vec<String> {
        let hint = match self {
            RegistryError::Denied { registry, username: None, .. } => {
                format!("log in with `docker login {registry}`, or give a login in the template")
            }
            RegistryError::Denied { registry, username: Some(username), .. } => {
                format!("check what {username} may do at {registry}, and that the password or token is still valid")
            }
            RegistryError::Untrusted { registry, .. } => {
                format!(
                    "name the certificate authority of {registry} in SSL_CERT_FILE or in kiln's options for registries"
                )
            }
            RegistryError::Unavailable { registry, .. } => {
                format!(
                    "check that {registry} is its name and that this host reaches it; HTTPS_PROXY and NO_PROXY count"
                )
            }
            RegistryError::TooMany { .. } => {
                "try again later, or log in: registries allow more with a login".to_owned()
            }
            RegistryError::Certificates { .. } => "the file must hold certificates in PEM form".to_owned(),
            _ => return Vec::new(),
        };
        vec![hint]
    }

    /// Whether the thing that was asked for is not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, RegistryError::NotFound { .. })
    }

    /// Whether something outside is at fault that may be well again later: exit code 4 instead of 1.
    pub fn is_environment(&self) -> bool {
        use RegistryError as E;
        matches!(
            self,
            E::Unavailable { .. } | E::TooMany { .. } | E::Untrusted { .. } | E::Certificates { .. } | E::Setup(_)
        )
    }
}
