//! Going the way to a machine: once for each try, and again after it restarted.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kiln_core::{Events, SshAccess, duration};
use tokio::sync::Mutex;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::SshError;
use crate::access::{self, Forwarder};
use crate::communicator::Connector;
use crate::dial;
use crate::login::{self, LoginError, Refused};
use crate::route::{FirstLeg, Hop, Route};
use crate::session::{LentAgent, Session, SessionSettings};
use crate::trust::{Said, TrustError};
use crate::tunnel::Tunnels;

/// How long a login may take, with all questions to a person in it; servers mostly give two minutes.
const LOGIN_TIMEOUT: Duration = Duration::from_secs(300);

/// Why one try failed.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum WalkError {
    #[error("{host}: {reason}")]
    Unreachable { host: String, reason: String },
    #[error("{host}: {error}")]
    Ssh { host: String, error: SshError },
    #[error(transparent)]
    Trust(TrustError),
    #[error(transparent)]
    Login(Refused),
}

impl WalkError {
    /// Whether another try may help.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            WalkError::Unreachable { .. } => true,
            WalkError::Ssh { error, .. } => !matches!(error, SshError::Unusable { .. } | SshError::Host { .. }),
            WalkError::Trust(error) => matches!(error, TrustError::NotYet { .. }),
            WalkError::Login(_) => true,
        }
    }
}

/// What going the way gave.
pub(crate) struct Arrived {
    pub(crate) session: Session,
    pub(crate) key: Said,
}

/// Goes the way.
pub(crate) struct Walker {
    pub(crate) route: Route,
    pub(crate) events: Events,
    pub(crate) tunnels: Tunnels,
    /// Where files for programs of this host are put.
    pub(crate) scratch: PathBuf,
    /// The last bastion: it stays connected while the machine restarts.
    bastion: Mutex<Option<Session>>,
    forwarder: Mutex<Option<Forwarder>>,
    end: CancellationToken,
    _ends: DropGuard,
}

impl Walker {
    pub(crate) fn new(
        route: Route,
        events: Events,
        tunnels: Tunnels,
        scratch: PathBuf,
        end: CancellationToken,
    ) -> Walker {
        let guard = end.clone().drop_guard();
        let (bastion, forwarder) = (Mutex::new(None), Mutex::new(None));
        Walker { route, events, tunnels, scratch, bastion, forwarder, end, _ends: guard }
    }

    /// Tries once; everything in it ends in bounded time.
    pub(crate) async fn walk(&self) -> Result<Arrived, WalkError> {
        let machine = &self.route.machine;
        let socket = self.socket().await?;
        let arrived = self.enter(machine, socket).await?;
        self.tunnels.follow(&arrived.session).await;
        Ok(arrived)
    }

    /// A socket that leads to the machine's port.
    pub(crate) async fn socket(&self) -> Result<OwnedFd, WalkError> {
        let machine = &self.route.machine;
        match self.bastion().await? {
            None => self.first_leg(machine).await,
            Some(bastion) => through(&bastion, machine, self.route.connect_timeout).await,
        }
    }

    async fn bastion(&self) -> Result<Option<Session>, WalkError> {
        let mut kept = self.bastion.lock().await;
        if let Some(session) = kept.as_ref().filter(|session| session.closed().is_none()) {
            return Ok(Some(session.clone()));
        }
        let mut last: Option<Session> = None;
        for hop in &self.route.bastions {
            let socket = match &last {
                None => self.first_leg(hop).await?,
                Some(bastion) => through(bastion, hop, self.route.connect_timeout).await?,
            };
            let arrived = self.enter(hop, socket).await?;
            arrived.key.say(&self.events);
            last = Some(arrived.session);
        }
        kept.clone_from(&last);
        Ok(last)
    }

    async fn first_leg(&self, hop: &Hop) -> Result<OwnedFd, WalkError> {
        let timeout = self.route.connect_timeout;
        let socket = match &self.route.first {
            FirstLeg::Direct => dial::tcp(&hop.host, hop.port, timeout).await.and_then(dial::descriptor),
            FirstLeg::Proxy(proxy) => {
                dial::through_proxy(proxy, &hop.host, hop.port, timeout).await.and_then(dial::descriptor)
            }
            FirstLeg::Command(command) => dial::through_command(command, &self.events, self.end.clone()),
        };
        socket.map_err(|reason| WalkError::Unreachable { host: hop.label(), reason })
    }

    fn lend(&self, socket: PathBuf, host: String) -> LentAgent {
        let events = self.events.clone();
        let on_refusal = Arc::new(move || {
            events.warn(format!(
                "{host} does not let its commands use the SSH agent (`AllowAgentForwarding` of its sshd)"
            ));
        });
        LentAgent { socket, on_refusal }
    }

    /// Exchanges keys with a host, checks its key, logs in.
    async fn enter(&self, hop: &Hop, socket: OwnedFd) -> Result<Arrived, WalkError> {
        let settings = SessionSettings {
            ciphers: hop.ciphers.clone(),
            key_exchange: hop.key_exchange.clone(),
            host_key_algorithms: hop.trust.algorithms(),
            lent_agent: hop.lent_agent.clone().map(|socket| self.lend(socket, hop.label())),
            ..self.route.settings.clone()
        };
        let broken = |error| WalkError::Ssh { host: hop.label(), error };
        let session = Session::handshake(socket, settings).await.map_err(broken)?;
        let key = hop.trust.check(session.host_key()).await.map_err(WalkError::Trust)?;
        let label = hop.label();
        let login = login::log_in(&session, &label, &hop.user, &hop.ways);
        let too_long =
            |_| LoginError::Broken(SshError::Lost(format!("no login within {}", duration::display(LOGIN_TIMEOUT))));
        match tokio::time::timeout(LOGIN_TIMEOUT, login).await.map_err(too_long).flatten() {
            Ok(()) => Ok(Arrived { session, key }),
            Err(LoginError::Refused(refused)) => Err(WalkError::Login(refused)),
            Err(LoginError::Broken(error)) => Err(broken(error)),
        }
    }
}

/// Through a bastion, whose own tries may take minutes.
async fn through(bastion: &Session, hop: &Hop, timeout: Duration) -> Result<OwnedFd, WalkError> {
    let unreachable = |reason: String| WalkError::Unreachable { host: hop.label(), reason };
    let stream = match tokio::time::timeout(timeout, bastion.open_direct(&hop.host, hop.port)).await {
        Ok(stream) => stream.map_err(|error| unreachable(error.to_string()))?,
        Err(_) => return Err(unreachable(format!("no answer within {}", duration::display(timeout)))),
    };
    dial::through_bastion(stream).map_err(unreachable)
}

#[async_trait]
impl Connector for Arc<Walker> {
    async fn connect(&self) -> Result<Session, SshError> {
        match self.walk().await {
            Ok(arrived) => {
                // It may be another key than before, where nobody checks it.
                arrived.key.say(&self.events);
                Ok(arrived.session)
            }
            Err(WalkError::Ssh { error, .. }) => Err(error),
            Err(error) => Err(SshError::Connect { reason: error.to_string(), is_final: !error.may_pass() }),
        }
    }

    async fn access(&self) -> Result<Option<SshAccess>, SshError> {
        let mut forwarder = self.forwarder.lock().await;
        access::access(self, &mut forwarder).await.map(Some)
    }
}
