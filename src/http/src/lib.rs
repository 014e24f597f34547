//! What every HTTP client of kiln shares: certificate roots, proxies, the name it bears.
//!
//! ```text
//!   environment ──► Options ──► reqwest::ClientBuilder ──► time limits of the caller's ──► a client
//! ```
//!
//! Owns: which certificates are trusted, which hosts are asked through a proxy. Must not know: what is asked, tries,
//! logins; the process's environment (it is handed in).
//!
//! ```
//! let environment = std::collections::BTreeMap::new();
//! let options = kiln_http::Options::new(&environment);
//! let client = options.client()?.connect_timeout(std::time::Duration::from_secs(10)).build()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod proxies;
mod roots;
mod tls;

use std::collections::BTreeMap;
use std::path::PathBuf;

use reqwest::ClientBuilder;

pub use tls::tls_error;

/// How hosts are reached.
#[derive(Debug, Clone, Copy)]
pub struct Options<'a> {
    /// Holds the proxies (`HTTPS_PROXY`, `HTTP_PROXY`, `NO_PROXY`) and `SSL_CERT_FILE`.
    pub environment: &'a BTreeMap<String, String>,
    /// PEM files of certificate authorities, trusted besides the usual ones.
    pub ca_files: &'a [PathBuf],
    /// Any certificate is taken; only for hosts that the user named as insecure.
    pub is_lax: bool,
    /// Hosts that are never asked through a proxy, besides loopback addresses and those of `NO_PROXY`.
    pub direct: &'a [&'a str],
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of certificates is of no use.
    #[error("cannot read certificates from {}", path.display())]
    Certificates {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A proxy's address cannot be read, or TLS cannot be set up.
    #[error("cannot set up connections")]
    Setup(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl From<reqwest::Error> for Error {
    fn from(error: reqwest::Error) -> Error {
        Error::Setup(error.without_url().into())
    }
}

impl<'a> Options<'a> {
    /// The usual: every certificate is checked.
    pub fn new(environment: &'a BTreeMap<String, String>) -> Options<'a> {
        Options { environment, ca_files: &[], is_lax: false, direct: &[] }
    }

    /// A client to be, which follows no redirection by itself and has no time limits yet.
    ///
    /// # Errors
    /// `SSL_CERT_FILE`, one of the files or a proxy's address cannot be read.
    pub fn client(&self) -> Result<ClientBuilder, Error> {
        let mut builder = reqwest::Client::builder()
            .tls_backend_preconfigured(tls::config(self)?)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(format!("kiln/{}", kiln_core::VERSION))
            .tcp_nodelay(true)
            .no_proxy();
        for proxy in proxies::proxies(self.environment, self.direct)? {
            builder = builder.proxy(proxy);
        }
        Ok(builder)
    }
}

#[cfg(test)]
mod tests;
