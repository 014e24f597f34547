//! Certificate authorities.

use std::path::Path;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::{Error, Options};

/// Those of `SSL_CERT_FILE` alone where it is set, as in Go and OpenSSL; else the system's. Those of the options besides.
pub(crate) fn load(options: &Options<'_>) -> Result<RootCertStore, Error> {
    let mut store = RootCertStore::empty();
    match options.environment.get("SSL_CERT_FILE").filter(|file| !file.is_empty()) {
        Some(file) => add_file(&mut store, Path::new(file))?,
        // A system without any certificate still reaches plain HTTP, and what the options vouch for.
        None => _ = store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs),
    }
    for file in options.ca_files {
        add_file(&mut store, file)?;
    }
    Ok(store)
}

fn add_file(store: &mut RootCertStore, path: &Path) -> Result<(), Error> {
    let failed = |source| Error::Certificates { path: path.to_owned(), source };
    let certificates: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let (added, _) = store.add_parsable_certificates(certificates.map_err(|error| failed(error.into()))?);
    if added == 0 { Err(failed("it holds no certificate".into())) } else { Ok(()) }
}
