//! Times of one connection, for the figures: `measure HOST:PORT USER KEY put FILE TO | get FROM TO | run COUNT [AT ONCE]`.
#![allow(clippy::print_stdout, clippy::unwrap_used)] // A tool for whoever works on this crate.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use futures_util::StreamExt;
use kiln_core::communicator::NullSink;
use kiln_core::{Command, Communicator, Events, Payload, Redactor, Reporter, Secret, SshAccess};
use kiln_ssh::session::{Login, LoginMethod, SessionSettings};
use kiln_ssh::{Connector, Habits, Session, SshCommunicator, SshError, Transfer};

struct Silent;

impl Reporter for Silent {
    fn report(&self, _: kiln_core::Event) {}
}

struct Plain {
    address: String,
    user: String,
    key: PathBuf,
}

#[async_trait]
impl Connector for Plain {
    async fn connect(&self) -> Result<Session, SshError> {
        let stream = tokio::net::TcpStream::connect(&self.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let settings = SessionSettings {
            ciphers: std::env::var("CIPHERS").map(|list| vec![list]).unwrap_or_default(),
            ..SessionSettings::default()
        };
        let session = Session::handshake(OwnedFd::from(stream.into_std().unwrap()), settings).await?;
        let private = Secret::new(std::fs::read_to_string(&self.key).unwrap());
        let method = LoginMethod::PrivateKey { private, certificate: None, passphrase: None };
        assert_eq!(session.login(&self.user, method).await?, Login::Done);
        Ok(session)
    }

    async fn access(&self) -> Result<Option<SshAccess>, SshError> {
        Ok(None)
    }
}

#[tokio::main]
async fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [address, user, key, verb, rest @ ..] = words.as_slice() else { panic!("too few words") };
    let connector = Plain { address: address.clone(), user: user.clone(), key: key.into() };
    let events = Events::new(Arc::new(Silent), Arc::new(Redactor::default()));
    let transfer = if std::env::var_os("SFTP").is_some() { Transfer::Sftp } else { Transfer::Programs };
    let machine = SshCommunicator::new(Arc::new(connector), Habits { transfer, ..Habits::default() }, events);
    machine.exec(&Command::new(["true"]), &mut NullSink).await.unwrap();
    let start = Instant::now();
    match (verb.as_str(), rest) {
        ("put", [from, to]) => {
            let path = PathBuf::from(from);
            let payload = if path.is_dir() {
                Payload::Directory { path, contents_only: true }
            } else {
                Payload::File { path, mode: None }
            };
            machine.upload(&payload, to).await.unwrap();
        }
        ("get", [from, to]) => {
            machine.download(from, to.as_ref()).await.unwrap();
        }
        ("run", [count, at_once @ ..]) => {
            let at_once = at_once.first().map_or(1, |text| text.parse().unwrap());
            let runs = (0..count.parse::<usize>().unwrap())
                .map(|_| async { machine.exec(&Command::new(["true"]), &mut NullSink).await.unwrap() });
            futures_util::stream::iter(runs).buffer_unordered(at_once).for_each(|_| async {}).await;
        }
        _ => panic!("put, get or run"),
    }
    println!("{:.3}", start.elapsed().as_secs_f64());
}
