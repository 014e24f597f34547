//! HTTP connections: made when the first request needs them, as reading all certificates takes longer than a whole build from
//! what the store has.

use std::time::Duration;

use tokio::sync::OnceCell;

use crate::error::RegistryError;
use crate::options::ClientOptions;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The two ways to connect. Neither follows redirections by itself.
#[derive(Debug, Default)]
pub(crate) struct Transport {
    strict: OnceCell<reqwest::Client>,
    lax: OnceCell<reqwest::Client>,
}

impl Transport {
    /// For a host that is named as insecure, or for any other.
    pub(crate) async fn client(
        &self,
        is_insecure: bool,
        options: &ClientOptions,
    ) -> Result<&reqwest::Client, RegistryError> {
        let cell = if is_insecure { &self.lax } else { &self.strict };
        cell.get_or_try_init(|| connect(is_insecure, options)).await
    }
}

async fn connect(is_lax: bool, options: &ClientOptions) -> Result<reqwest::Client, RegistryError> {
    let (environment, ca_files) = (options.credentials.environment.clone(), options.ca_files.clone());
    // It reads files.
    let made = tokio::task::spawn_blocking(move || {
        let options = kiln_http::Options { ca_files: &ca_files, is_lax, ..kiln_http::Options::new(&environment) };
        Ok::<_, kiln_http::Error>(options.client()?.connect_timeout(CONNECT_TIMEOUT).build()?)
    });
    Ok(made.await.map_err(|error| RegistryError::Setup(error.into()))??)
}

impl From<kiln_http::Error> for RegistryError {
    fn from(error: kiln_http::Error) -> RegistryError {
        match error {
            kiln_http::Error::Certificates { path, source } => RegistryError::Certificates { path, source },
            kiln_http::Error::Setup(source) => RegistryError::Setup(source),
        }
    }
}

/// Whether an answer's head is longer than the client takes. Its words are all that clients are given of that.
pub(crate) fn is_head_too_large(error: &(dyn std::error::Error + 'static)) -> bool {
    error.to_string() == "message head is too large" || error.source().is_some_and(is_head_too_large)
}
