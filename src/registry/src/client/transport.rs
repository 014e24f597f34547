//! HTTP connections: certificates, proxies.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use reqwest::{NoProxy, Proxy};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::error::RegistryError;
use crate::options::ClientOptions;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The two ways to connect. Neither follows redirections by itself.
#[derive(Debug)]
pub(crate) struct Transport {
    strict: reqwest::Client,
    lax: reqwest::Client,
}

impl Transport {
    pub(crate) fn new(options: &ClientOptions) -> Result<Transport, RegistryError> {
        let environment = &options.credentials.environment;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = || {
            ClientConfig::builder_with_provider(provider.clone())
                .with_safe_default_protocol_versions()
                .map_err(|error| RegistryError::Setup(error.into()))
        };
        let strict = config()?.with_root_certificates(roots(options)?).with_no_client_auth();
        let unverified = Arc::new(Unverified(provider.clone()));
        let lax = config()?.dangerous().with_custom_certificate_verifier(unverified).with_no_client_auth();
        Ok(Transport { strict: connect(strict, environment)?, lax: connect(lax, environment)? })
    }

    /// For a host that is named as insecure, or for any other.
    pub(crate) fn client(&self, insecure: bool) -> &reqwest::Client {
        if insecure { &self.lax } else { &self.strict }
    }
}

fn connect(tls: ClientConfig, environment: &BTreeMap<String, String>) -> Result<reqwest::Client, RegistryError> {
    let failed = |error: reqwest::Error| RegistryError::Setup(error.without_url().into());
    let mut builder = reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .connect_timeout(CONNECT_TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(format!("kiln/{}", kiln_core::VERSION))
        .tcp_nodelay(true)
        .no_proxy();
    for proxy in proxies(environment).map_err(failed)? {
        builder = builder.proxy(proxy);
    }
    builder.build().map_err(failed)
}

/// Those of `SSL_CERT_FILE` alone where it is set, as in Go and OpenSSL; else the system's. Those of the options besides.
fn roots(options: &ClientOptions) -> Result<RootCertStore, RegistryError> {
    let mut store = RootCertStore::empty();
    match options.credentials.environment.get("SSL_CERT_FILE").filter(|file| !file.is_empty()) {
        Some(file) => add_file(&mut store, Path::new(file))?,
        // A system without any certificate still reaches plain HTTP, and what the options vouch for.
        None => _ = store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs),
    }
    for file in &options.ca_files {
        add_file(&mut store, file)?;
    }
    Ok(store)
}

fn add_file(store: &mut RootCertStore, path: &Path) -> Result<(), RegistryError> {
    let failed = |source| RegistryError::Certificates { path: path.to_owned(), source };
    let certificates: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let (added, _) = store.add_parsable_certificates(certificates.map_err(|error| failed(error.into()))?);
    if added == 0 { Err(failed("it holds no certificate".into())) } else { Ok(()) }
}

/// `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY`, also in lower case, which goes first as in curl.
fn proxies(environment: &BTreeMap<String, String>) -> reqwest::Result<Vec<Proxy>> {
    let set = |name: &str| {
        let either = environment.get(&name.to_lowercase()).or_else(|| environment.get(name));
        either.filter(|value| !value.is_empty())
    };
    // Go's clients never ask a proxy for loopback addresses, and people rely on it.
    let except = format!("localhost,127.0.0.0/8,::1,{}", set("NO_PROXY").map_or("", String::as_str));
    let except = NoProxy::from_string(&except);
    let mut proxies = Vec::new();
    if let Some(url) = set("HTTP_PROXY") {
        proxies.push(Proxy::http(url.as_str())?.no_proxy(except.clone()));
    }
    if let Some(url) = set("HTTPS_PROXY") {
        proxies.push(Proxy::https(url.as_str())?.no_proxy(except));
    }
    Ok(proxies)
}

/// Takes any certificate; only for hosts that the user named as insecure.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Whether an answer's head is longer than the client takes. Its words are all that clients are given of that.
pub(crate) fn is_head_too_large(error: &(dyn std::error::Error + 'static)) -> bool {
    error.to_string() == "message head is too large" || error.source().is_some_and(is_head_too_large)
}

/// The TLS error behind a failed connection, if that is what it is.
pub(crate) fn tls_error(error: &(dyn std::error::Error + 'static)) -> Option<rustls::Error> {
    if let Some(tls) = error.downcast_ref::<rustls::Error>() {
        return Some(tls.clone());
    }
    // What an I/O error wraps is not among its sources.
    let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    inner.and_then(|inner| tls_error(inner)).or_else(|| tls_error(error.source()?))
}
