//! The ways to a BuildKit.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bollard_buildkit_proto::moby::buildkit::v1::control_client::ControlClient;
use hyper_util::rt::TokioIo;
use kiln_docker::Engine;
use kiln_docker::upgrade::{Connection, TlsFiles, dial_tcp, dial_unix};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::{Channel, Endpoint};

use crate::error::SolveError;

/// Bound on one message; BuildKit's own.
pub(crate) const LARGEST_MESSAGE: usize = 16 << 20;

/// Where BuildKit is.
#[derive(Clone)]
pub enum Transport {
    /// In a Docker engine.
    Engine(Arc<dyn Engine>),
    /// A daemon of its own.
    Daemon(DaemonAddress),
}

/// The address of a BuildKit daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DaemonAddress {
    text: String,
    is_unix: bool,
    place: String,
    tls: Option<TlsFiles>,
}

impl DaemonAddress {
    /// Reads `unix:///path` or `tcp://host:port`; with TLS where files for it are given.
    ///
    /// # Errors
    /// [`SolveError::Address`].
    pub fn parse(text: &str, tls: Option<TlsFiles>) -> Result<DaemonAddress, SolveError> {
        let wrong = |message: &str| SolveError::Address { address: text.to_owned(), message: message.to_owned() };
        let (scheme, rest) = text.split_once("://").ok_or_else(|| wrong("it has no scheme such as `unix://`"))?;
        let place = match scheme {
            "unix" if !rest.is_empty() => rest.to_owned(),
            "tcp" if !rest.is_empty() => {
                let rest = rest.trim_end_matches('/');
                let has_port = rest
                    .rsplit_once(':')
                    .is_some_and(|(_, port)| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()));
                if has_port { rest.to_owned() } else { format!("{rest}:1234") }
            }
            "unix" | "tcp" => return Err(wrong("it leads nowhere")),
            other => return Err(wrong(&format!("`{other}://` is not supported; unix:// and tcp:// are"))),
        };
        if scheme == "unix" && tls.is_some() {
            return Err(wrong("TLS is for tcp:// alone"));
        }
        let tls = tls.map(|files| TlsFiles { protocol: Some("h2"), ..files });
        Ok(DaemonAddress { text: text.to_owned(), is_unix: scheme == "unix", place, tls })
    }

    async fn dial(&self) -> Result<Connection, SolveError> {
        let dialled = match self.is_unix {
            true => dial_unix(&self.place).await,
            false => dial_tcp(&self.place, self.tls.as_ref()).await,
        };
        dialled.map_err(|source| SolveError::Unreachable { address: self.text.clone(), source: source.into() })
    }
}

impl fmt::Display for DaemonAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl Transport {
    pub(crate) async fn control(&self, broken: &Broken) -> Result<ControlClient<Channel>, SolveError> {
        let connection = match self {
            Transport::Engine(engine) => engine.upgrade("/grpc", &[]).await?,
            Transport::Daemon(address) => address.dial().await?,
        };
        let connection = Watched { connection, broken: broken.clone() };
        let failed = |error: tonic::transport::Error| SolveError::Connection(error.into());
        let channel = Endpoint::from_static("http://buildkit")
            .connect_with_connector(Once(Mutex::new(Some(connection))))
            .await
            .map_err(failed)?;
        let client = ControlClient::new(channel);
        Ok(client.max_decoding_message_size(LARGEST_MESSAGE).max_encoding_message_size(LARGEST_MESSAGE))
    }
}

/// Why a connection broke, once it did.
#[derive(Clone, Default)]
pub(crate) struct Broken(Arc<Mutex<Option<String>>>);

impl Broken {
    fn note(&self, error: &io::Error) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
    }

    /// The same failure with the reason that was noted, where the connection is all that it tells of.
    pub(crate) fn explain(&self, error: SolveError) -> SolveError {
        let noted = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        match (error, noted) {
            (SolveError::Connection(_), Some(why)) => SolveError::Connection(why.into()),
            (error, _) => error,
        }
    }
}

/// A connection that notes why it broke: a server that refuses this side's certificate says so only to who reads from it.
struct Watched {
    connection: Connection,
    broken: Broken,
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.connection).poll_read(context, into);
        if let Poll::Ready(Err(error)) = &read {
            self.broken.note(error);
        }
        read
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.connection).poll_write(context, data);
        if let Poll::Ready(Err(_)) = &written {
            // Nobody reads any more; the last words of the other side may lie there.
            let mut space = [0; 1];
            let _ = self.poll_read(context, &mut ReadBuf::new(&mut space));
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_shutdown(context)
    }
}

/// Hands out the one connection there is.
struct Once(Mutex<Option<Watched>>);

impl tower_service::Service<http::Uri> for Once {
    type Response = TokioIo<Watched>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<TokioIo<Watched>>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _address: http::Uri) -> Self::Future {
        let connection = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let gone = || io::Error::new(io::ErrorKind::NotConnected, "the connection is over");
        Box::pin(std::future::ready(connection.map(TokioIo::new).ok_or_else(gone)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        let place = |text: &str| DaemonAddress::parse(text, None).map(|address| address.place);
        assert_eq!(place("unix:///run/buildkit/buildkitd.sock").unwrap(), "/run/buildkit/buildkitd.sock");
        assert_eq!(place("tcp://build.example.org").unwrap(), "build.example.org:1234");
        assert_eq!(place("tcp://build.example.org:5/").unwrap(), "build.example.org:5");
        for bad in ["/run/x.sock", "unix://", "docker-container://x", "tcp://"] {
            assert!(place(bad).is_err(), "{bad}");
        }
        assert!(DaemonAddress::parse("unix:///x", Some(TlsFiles::default())).is_err());
    }
}
