//! Tunnels: ports of one side that lead to the other.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kiln_core::Events;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::dial;
use crate::session::Session;

/// How long the other side of a tunnel may take to answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// `PORT:HOST:HOSTPORT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tunnel {
    /// The port that listens, on the loopback address.
    pub port: u16,
    /// Where its connections go on to.
    pub host: String,
    /// The port there.
    pub host_port: u16,
}

impl std::str::FromStr for Tunnel {
    type Err = String;

    fn from_str(text: &str) -> Result<Tunnel, String> {
        let form = || format!("`{text}` is not of the form `PORT:HOST:HOSTPORT`");
        let (port, target) = text.split_once(':').ok_or_else(form)?;
        let (host, host_port) = target.rsplit_once(':').ok_or_else(form)?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        if host.is_empty() || (bare.is_none() && host.contains([':', '[', ']'])) {
            return Err(form());
        }
        let number = |port: &str| port.parse::<u16>().map_err(|_| format!("`{port}` in `{text}` is not a port"));
        let host = bare.unwrap_or(host).to_owned();
        Ok(Tunnel { port: number(port)?, host, host_port: number(host_port)? })
    }
}

/// The tunnels of one machine. Local ones live as long as this, whatever session is there; remote ones are opened in each session.
#[derive(Debug)]
pub(crate) struct Tunnels {
    remote: Vec<Tunnel>,
    has_local: bool,
    session: Arc<Mutex<Option<Session>>>,
    events: Events,
    end: CancellationToken,
}

impl Tunnels {
    /// Listens for the local ones.
    pub(crate) async fn open(
        local: &[Tunnel],
        remote: &[Tunnel],
        events: &Events,
        end: CancellationToken,
    ) -> Result<Tunnels, String> {
        let session = Arc::new(Mutex::new(None));
        for tunnel in local {
            let listener = TcpListener::bind(("127.0.0.1", tunnel.port))
                .await
                .map_err(|error| format!("port {} of this host: {}", tunnel.port, dial::error_text(&error)))?;
            let serve = serve_local(listener, tunnel.clone(), Arc::clone(&session), end.clone());
            tokio::spawn(end.clone().run_until_cancelled_owned(serve));
        }
        Ok(Tunnels { remote: remote.to_vec(), has_local: !local.is_empty(), session, events: events.clone(), end })
    }

    /// From now on they lead through this session.
    pub(crate) async fn follow(&self, session: &Session) {
        if !self.has_any() {
            return;
        }
        *self.session.lock().unwrap_or_else(PoisonError::into_inner) = Some(session.clone());
        for tunnel in &self.remote {
            match session.listen("localhost", tunnel.port).await {
                Ok(mut listener) => {
                    let (tunnel, end) = (tunnel.clone(), self.end.clone());
                    let serve = async move {
                        while let Some(mut incoming) = listener.accept().await {
                            let tunnel = tunnel.clone();
                            let serve = async move {
                                if let Ok(mut onward) = dial::tcp(&tunnel.host, tunnel.host_port, CONNECT_TIMEOUT).await
                                {
                                    let _ = tokio::io::copy_bidirectional(&mut incoming, &mut onward).await;
                                }
                            };
                            tokio::spawn(end.clone().run_until_cancelled_owned(serve));
                        }
                    };
                    tokio::spawn(self.end.clone().run_until_cancelled_owned(serve));
                }
                Err(error) => self.events.warn(format!("no tunnel from port {} of the machine: {error}", tunnel.port)),
            }
        }
    }

    /// Without any, no session need be held on to.
    fn has_any(&self) -> bool {
        self.has_local || !self.remote.is_empty()
    }
}

async fn serve_local(
    listener: TcpListener,
    tunnel: Tunnel,
    session: Arc<Mutex<Option<Session>>>,
    end: CancellationToken,
) {
    loop {
        let Ok((mut incoming, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let Some(session) = session.lock().unwrap_or_else(PoisonError::into_inner).clone() else { continue };
        let tunnel = tunnel.clone();
        let serve = async move {
            if let Ok(mut onward) = session.open_direct(&tunnel.host, tunnel.host_port).await {
                // The stream alone holds the connection from here on.
                drop(session);
                let _ = tokio::io::copy_bidirectional(&mut incoming, &mut onward).await;
            }
        };
        tokio::spawn(end.clone().run_until_cancelled_owned(serve));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_read() {
        let read = |text: &str| text.parse::<Tunnel>().map(|tunnel| (tunnel.port, tunnel.host, tunnel.host_port));
        assert_eq!(read("8080:web:80"), Ok((8080, "web".to_owned(), 80)));
        assert_eq!(read("8080:[::1]:80"), Ok((8080, "::1".to_owned(), 80)));
        assert_eq!(read("80:a:b"), Err("`b` in `80:a:b` is not a port".to_owned()));
        for wrong in ["x", "1:2:3:4", "80::80", "80:[::1:80"] {
            assert_eq!(read(wrong), Err(format!("`{wrong}` is not of the form `PORT:HOST:HOSTPORT`")));
        }
    }
}
