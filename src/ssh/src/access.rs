//! How programs of this host reach the machine by OpenSSH.
//!
//! They get a `known_hosts` with the key that kiln verified, and the private key in a file. Where the way leads through
//! bastions or proxies, they do not go it themselves (a password of a bastion could not be handed to them): they connect to a
//! port of this host, from which kiln goes on.

use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::PathBuf;
use std::sync::{Arc, Weak};

use kiln_core::SshAccess;
use tokio::net::TcpListener;
use tokio_util::sync::DropGuard;

use crate::SshError;
use crate::algorithms;
use crate::known_hosts::{self, HostName};
use crate::walk::Walker;

/// A port of this host that leads to the machine's.
pub(crate) struct Forwarder {
    port: u16,
    _ends: DropGuard,
}

/// Writes the files. Called again, it writes the same ones.
pub(crate) async fn access(walker: &Arc<Walker>, forwarder: &mut Option<Forwarder>) -> Result<SshAccess, SshError> {
    let machine = &walker.route.machine;
    let (host, port) = if walker.route.is_direct() {
        (machine.host.clone(), machine.port)
    } else {
        if forwarder.is_none() {
            *forwarder = Some(forward(walker).await?);
        }
        ("127.0.0.1".to_owned(), forwarder.as_ref().map_or(0, |forwarder| forwarder.port))
    };
    let directory = walker.scratch.join("ssh");
    let files = Files { directory };
    files.make().map_err(|error| files.failed(&error))?;
    let written = files.write(walker, &HostName::new(&host, port)).map_err(|error| files.failed(&error))?;
    Ok(SshAccess { host, port, user: machine.user.clone(), password: machine.password.clone(), ..written })
}

struct Files {
    directory: PathBuf,
}

impl Files {
    fn failed(&self, error: &std::io::Error) -> SshError {
        SshError::Host { action: format!("write {}", self.directory.display()), reason: error.to_string() }
    }

    fn make(&self) -> std::io::Result<()> {
        std::fs::create_dir_all(&self.directory)?;
        std::fs::set_permissions(&self.directory, std::fs::Permissions::from_mode(0o700))
    }

    fn write(&self, walker: &Walker, name: &HostName) -> std::io::Result<SshAccess> {
        let machine = &walker.route.machine;
        let key = machine.trust.accepted();
        let line =
            key.map(|key| known_hosts::authority_line(name, &key).unwrap_or_else(|| known_hosts::line(name, &key)));
        let known_hosts = self.file("known_hosts", &line.unwrap_or_default())?;
        let mut identity_file = None;
        let mut certificate_file = None;
        if let Some(identity) = &machine.identity {
            identity_file = match identity.key.opened() {
                Some(text) => Some(self.file("identity", &ending(text.expose()))?),
                None => identity.key.file.clone(),
            };
            if let Some(certificate) = &identity.certificate {
                certificate_file = Some(self.file("identity-cert.pub", &ending(certificate))?);
            }
        }
        let lists = config(&machine.ciphers, &machine.key_exchange);
        let config_file = if lists.is_empty() { None } else { Some(self.file("config", &lists)?) };
        let (host, user) = (String::new(), String::new());
        let access = SshAccess {
            host,
            port: 0,
            user,
            identity_file,
            certificate_file,
            password: None,
            known_hosts,
            config_file,
        };
        Ok(access)
    }

    /// Writes a file that only this user may read, and puts it in the place of an older one.
    fn file(&self, name: &str, text: &str) -> std::io::Result<PathBuf> {
        let (path, new) = (self.directory.join(name), self.directory.join(format!(".{name}.new")));
        let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(text.as_bytes())?;
        std::fs::rename(&new, &path)?;
        Ok(path)
    }
}

/// OpenSSH wants the last line ended.
fn ending(text: &str) -> String {
    format!("{}\n", text.trim_end())
}

/// Lists of algorithms that a template asks for, as far as OpenSSH still has them: one that it does not know is an error to it.
fn config(ciphers: &[String], key_exchange: &[String]) -> String {
    let list = |keyword: &str, chosen: &[String], own: &[&str], gone: &[&str]| {
        let names: Vec<&str> = chosen.iter().map(String::as_str).filter(|name| !gone.contains(name)).collect();
        if chosen == own || names.is_empty() { String::new() } else { format!("{keyword} {}\n", names.join(",")) }
    };
    let gone = ["rijndael-cbc@lysator.liu.se", "blowfish-cbc", "cast128-cbc", "arcfour128", "arcfour"];
    let new = ["mlkem768x25519-sha256", "mlkem768nistp256-sha256", "mlkem1024nistp384-sha384"];
    list("Ciphers", ciphers, algorithms::SAFE_CIPHERS, &gone)
        + &list("KexAlgorithms", key_exchange, algorithms::SAFE_KEY_EXCHANGES, &new)
}

/// Listens on a port of this host, and goes on to the machine from there.
async fn forward(walker: &Arc<Walker>) -> Result<Forwarder, SshError> {
    let failed = |error: std::io::Error| SshError::Host {
        action: "listen on a port of this host".to_owned(),
        reason: error.to_string(),
    };
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(failed)?;
    let port = listener.local_addr().map_err(failed)?.port();
    let end = tokio_util::sync::CancellationToken::new();
    let walker: Weak<Walker> = Arc::downgrade(walker);
    let serve = async move {
        while let Ok((incoming, _)) = listener.accept().await {
            let Some(walker) = walker.upgrade() else { return };
            tokio::spawn(async move { serve_one(walker, incoming).await });
        }
    };
    tokio::spawn(end.clone().run_until_cancelled_owned(serve));
    Ok(Forwarder { port, _ends: end.drop_guard() })
}

async fn serve_one(walker: Arc<Walker>, mut incoming: tokio::net::TcpStream) {
    let _ = incoming.set_nodelay(true);
    let socket = walker.socket().await;
    let events = walker.events.clone();
    // The connection must not keep the machine's own alive.
    drop(walker);
    let onward = match socket {
        Ok(socket) => stream(socket),
        Err(error) => return events.warn(error.to_string()),
    };
    if let Ok(mut onward) = onward {
        let _ = tokio::io::copy_bidirectional(&mut incoming, &mut *onward).await;
    }
}

trait Duplex: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send {}
impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send> Duplex for T {}

/// A socket of either family as a stream.
fn stream(socket: std::os::fd::OwnedFd) -> std::io::Result<Box<dyn Duplex>> {
    match rustix::net::sockopt::socket_domain(&socket)? {
        rustix::net::AddressFamily::UNIX => {
            let stream = std::os::unix::net::UnixStream::from(socket);
            stream.set_nonblocking(true)?;
            Ok(Box::new(tokio::net::UnixStream::from_std(stream)?))
        }
        _ => {
            let stream = std::net::TcpStream::from(socket);
            stream.set_nonblocking(true)?;
            Ok(Box::new(tokio::net::TcpStream::from_std(stream)?))
        }
    }
}
