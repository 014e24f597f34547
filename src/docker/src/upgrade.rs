//! Connections that leave HTTP behind: the engine's BuildKit is spoken to over `/grpc` and `/session`.

use std::future::poll_fn;
use std::io;
use std::path::Path;
use std::sync::Arc;

use hyper::client::conn::http1;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::client::BollardEngine;
use crate::error::EngineError;
use crate::ssh;

/// Bytes both ways.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A connection to somebody who is not asked in HTTP.
pub type Connection = Box<dyn Duplex>;

/// Files of a TLS client, as PEM.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Who may have signed the server's certificate; the system's authorities where absent.
    pub authority: Option<std::path::PathBuf>,
    /// This side's certificate, with its key.
    pub client: Option<(std::path::PathBuf, std::path::PathBuf)>,
    /// The name that the certificate has to bear, where it is not that of the address.
    pub server_name: Option<String>,
    /// What is spoken inside, where both sides have to agree on it: servers of gRPC want `h2`.
    pub protocol: Option<&'static str>,
}

/// Opens a socket of this host.
pub async fn dial_unix(path: &str) -> io::Result<Connection> {
    Ok(Box::new(UnixStream::connect(path).await?))
}

/// Opens a connection to `host:port`, with TLS where files for it are given.
pub async fn dial_tcp(authority: &str, tls: Option<&TlsFiles>) -> io::Result<Connection> {
    let stream = TcpStream::connect(authority).await?;
    stream.set_nodelay(true)?;
    let Some(files) = tls else { return Ok(Box::new(stream)) };
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
    let host = files.server_name.as_deref().unwrap_or(host).trim_start_matches('[').trim_end_matches(']').to_owned();
    let name = ServerName::try_from(host).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    let files = files.clone();
    let config = tokio::task::spawn_blocking(move || tls_config(&files)).await??;
    Ok(Box::new(TlsConnector::from(Arc::new(config)).connect(name, stream).await?))
}

fn tls_config(files: &TlsFiles) -> io::Result<ClientConfig> {
    let unreadable = |path: &Path| {
        let path = path.display().to_string();
        move |error| io::Error::new(io::ErrorKind::InvalidData, format!("cannot read {path}: {error}"))
    };
    let read = |path: &Path| -> io::Result<Vec<CertificateDer<'static>>> {
        let all = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        all.map_err(unreadable(path))
    };
    let mut roots = RootCertStore::empty();
    match &files.authority {
        Some(path) => _ = roots.add_parsable_certificates(read(path)?),
        None => _ = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs),
    }
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots);
    let mut config = match &files.client {
        None => config.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = read(certificate)?;
            let key = PrivateKeyDer::from_pem_file(key).map_err(unreadable(key))?;
            config.with_client_auth_cert(chain, key).map_err(io::Error::other)?
        }
    };
    config.alpn_protocols = files.protocol.iter().map(|name| name.as_bytes().to_vec()).collect();
    Ok(config)
}

impl BollardEngine {
    /// A connection of its own, beside those that bollard keeps.
    async fn dial(&self) -> io::Result<Connection> {
        if let Some(destination) = self.destination() {
            return ssh::dial(destination.clone());
        }
        let (scheme, rest) = self.address_text().split_once("://").unwrap_or(("unix", self.address_text()));
        if scheme == "unix" {
            return dial_unix(rest).await;
        }
        let rest = rest.trim_end_matches('/');
        let authority = match rest.rsplit_once(':') {
            Some((_, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => rest.to_owned(),
            _ => format!("{rest}:{}", if self.certificates().is_some() { 2376 } else { 2375 }),
        };
        let tls = self.certificates().map(|directory| TlsFiles {
            authority: Some(directory.join("ca.pem")),
            client: Some((directory.join("cert.pem"), directory.join("key.pem"))),
            ..TlsFiles::default()
        });
        dial_tcp(&authority, tls.as_ref()).await
    }

    pub(crate) async fn upgrade_call(&self, path: &str, headers: &[(&str, &str)]) -> Result<Connection, EngineError> {
        let action = format!("open {path}");
        let broken = |source: io::Error| EngineError::Connection { action: action.clone(), source: source.into() };
        // The address and what answers there were checked by then.
        self.connection().await?;
        let stream = self.dial().await.map_err(broken)?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| broken(io::Error::other(error)))?;
        let task = tokio::spawn(connection.with_upgrades());
        let mut request = Request::post(path)
            .header("Host", "docker")
            .header("Connection", "Upgrade")
            .header("Upgrade", "h2c")
            .header("Content-Length", "0");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(String::new()).map_err(|error| broken(io::Error::other(error)))?;
        poll_fn(|context| sender.poll_ready(context)).await.map_err(|error| broken(io::Error::other(error)))?;
        let answer = sender.send_request(request).await.map_err(|error| broken(io::Error::other(error)))?;
        let status = answer.status();
        if status != StatusCode::SWITCHING_PROTOCOLS {
            task.abort();
            let refused = |message: String| EngineError::Refused {
                action: action.clone(),
                message,
                status: Some(status.as_u16()),
            };
            return Err(refused(format!("the engine has no BuildKit (it answers {status})")));
        }
        let upgraded = hyper::upgrade::on(answer).await.map_err(|error| broken(io::Error::other(error)))?;
        Ok(Box::new(TokioIo::new(upgraded)))
    }
}
