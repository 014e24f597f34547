//! The HTTP client and its time limits.

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::Client;

use crate::error::HttpError;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two pieces of an answer.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// A client that follows no redirection by itself.
pub(crate) async fn build(environment: &BTreeMap<String, String>) -> Result<Client, HttpError> {
    let environment = environment.clone();
    // It reads certificates.
    let made = tokio::task::spawn_blocking(move || {
        let builder = kiln_http::Options::new(&environment).client()?;
        Ok::<_, kiln_http::Error>(builder.connect_timeout(CONNECT_TIMEOUT).read_timeout(READ_TIMEOUT).build()?)
    });
    match made.await {
        Ok(Ok(client)) => Ok(client),
        Ok(Err(kiln_http::Error::Certificates { path, source })) => Err(HttpError::Certificates { path, source }),
        Ok(Err(kiln_http::Error::Setup(source))) => Err(HttpError::Client(source)),
        Err(error) => Err(HttpError::Client(error.into())),
    }
}
