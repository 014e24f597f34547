//! The HTTP client: certificates, proxies, time limits.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use reqwest::{Client, NoProxy, Proxy};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use crate::error::HttpError;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two pieces of an answer.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// A client that follows no redirection by itself.
pub(crate) fn build(environment: &BTreeMap<String, String>) -> Result<Client, HttpError> {
    let mut builder = Client::builder()
        .tls_backend_preconfigured(tls(environment)?)
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(format!("kiln/{}", kiln_core::VERSION))
        .no_proxy();
    for proxy in proxies(environment).map_err(|error| HttpError::Client(error.into()))? {
        builder = builder.proxy(proxy);
    }
    builder.build().map_err(|error| HttpError::Client(error.without_url().into()))
}

fn tls(environment: &BTreeMap<String, String>) -> Result<ClientConfig, HttpError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| HttpError::Client(error.into()))?;
    Ok(config.with_root_certificates(roots(environment)?).with_no_client_auth())
}

/// Those of `SSL_CERT_FILE` alone where it is set, as in Go and OpenSSL; else the system's.
fn roots(environment: &BTreeMap<String, String>) -> Result<RootCertStore, HttpError> {
    let mut store = RootCertStore::empty();
    let Some(file) = environment.get("SSL_CERT_FILE").filter(|file| !file.is_empty()) else {
        // A system without any certificate still speaks plain HTTP.
        store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        return Ok(store);
    };
    let path = Path::new(file);
    let failed = |source| HttpError::Certificates { path: path.to_owned(), source };
    let certificates: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let certificates = certificates.map_err(|error| failed(error.into()))?;
    let (added, _) = store.add_parsable_certificates(certificates);
    if added == 0 {
        return Err(failed("it holds no certificate".into()));
    }
    Ok(store)
}

/// `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY`, also in lower case, which goes first as in curl.
fn proxies(environment: &BTreeMap<String, String>) -> reqwest::Result<Vec<Proxy>> {
    let set = |name: &str| {
        let either = environment.get(&name.to_lowercase()).or_else(|| environment.get(name));
        either.filter(|value| !value.is_empty())
    };
    let except = set("NO_PROXY").and_then(|hosts| NoProxy::from_string(hosts));
    let mut proxies = Vec::new();
    if let Some(url) = set("HTTP_PROXY") {
        proxies.push(Proxy::http(url.as_str())?.no_proxy(except.clone()));
    }
    if let Some(url) = set("HTTPS_PROXY") {
        proxies.push(Proxy::https(url.as_str())?.no_proxy(except));
    }
    Ok(proxies)
}
