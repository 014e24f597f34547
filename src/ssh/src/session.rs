//! One SSH connection. A thread of its own owns it and serves all its channels; the handles here talk to that thread
//! over bounded channels, and may be used from any task.

mod actor;
mod channel;
mod failure;
mod lent;
mod login;
mod request;
mod slot;
mod socket;
mod stream;
#[cfg(test)]
mod tests;
mod wake;

use std::os::fd::OwnedFd;
use std::sync::{Arc, OnceLock};

pub use channel::{Channel, ChannelEvent, ChannelInput, Ending, InputClosed};
pub use request::{
    ExecRequest, LentAgent, Login, LoginMethod, Prompt, PseudoTerminal, Responder, SessionSettings, Start,
};
pub use stream::{ChannelStream, Listener};
use tokio::sync::{mpsc, oneshot};

use crate::{HostKey, SshError};
use actor::{Order, Reply, Shared};

/// How many orders may wait for the session's thread.
const ORDERS_WAITING: usize = 64;

/// A connection. It ends when the last handle and the last channel of it are dropped.
#[derive(Clone)]
pub struct Session {
    handle: Arc<Handle>,
}

struct Handle {
    /// Only the end of the last handle takes it.
    orders: Option<mpsc::Sender<Order>>,
    shared: Arc<Shared>,
    host_key: HostKey,
}

impl Drop for Handle {
    fn drop(&mut self) {
        // The thread is woken to see that nobody has orders any more.
        self.orders = None;
        self.shared.wake.wake();
    }
}

/// Gives up a key exchange that nobody waits for any more.
struct Abandon<'a>(&'a Shared);

impl Drop for Abandon<'_> {
    fn drop(&mut self) {
        self.0.wake.wake();
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Session").field("host_key", &self.handle.host_key).finish_non_exhaustive()
    }
}

impl Session {
    /// Exchanges keys over a connected socket: TCP, or one end of a pair.
    ///
    /// # Errors
    /// The peer speaks no SSH, no common algorithm, or not within `settings.handshake_timeout`.
    pub async fn handshake(socket: OwnedFd, settings: SessionSettings) -> Result<Session, SshError> {
        let host = |action: &str, error: std::io::Error| SshError::Host {
            action: action.to_owned(),
            reason: error.to_string(),
        };
        let wake = wake::Wake::new().map_err(|error| host("make a descriptor", error))?;
        let shared = Arc::new(Shared { wake, end: OnceLock::new() });
        // Declared first, so that it is dropped last: the thread looks whether there are senders when it is woken.
        let _abandon = Abandon(&shared);
        let (orders, receiver) = mpsc::channel(ORDERS_WAITING);
        let (ready, is_ready) = oneshot::channel();
        let agent = settings.lent_agent.clone().map(lent::serve);
        actor::start(socket, settings, Arc::clone(&shared), receiver, agent, ready)
            .map_err(|error| host("start a thread", error))?;
        let host_key = is_ready.await.unwrap_or_else(|_| Err(broken()))?;
        Ok(Session { handle: Arc::new(Handle { orders: Some(orders), shared: Arc::clone(&shared), host_key }) })
    }

    /// What the peer showed. Nothing may be sent that matters before this was checked.
    pub fn host_key(&self) -> &HostKey {
        &self.handle.host_key
    }

    /// Tries one way to log in.
    ///
    /// # Errors
    /// The connection broke, or the key cannot be used. A refusal is none.
    pub async fn login(&self, user: &str, method: LoginMethod) -> Result<Login, SshError> {
        self.ask(|reply| Order::Login(user.to_owned(), method, reply)).await
    }

    /// What the peer offers for this user; empty where it lets in without any.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn methods(&self, user: &str) -> Result<Vec<String>, SshError> {
        self.ask(|reply| Order::Methods(user.to_owned(), reply)).await
    }

    /// Starts a command, a subsystem or a login shell. It may be given input at once, and that the peer refuses is told as
    /// its end: waiting for the answer would cost a round trip.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn exec(&self, request: ExecRequest) -> Result<Channel, SshError> {
        let (channel, inlet) = channel::pair(&self.handle.shared);
        self.order(Order::Exec(request, inlet)).await?;
        Ok(channel)
    }

    /// A connection from the peer to somewhere else: for bastions and local tunnels.
    ///
    /// # Errors
    /// The connection broke, or the peer does not get there.
    pub async fn open_direct(&self, host: &str, port: u16) -> Result<ChannelStream, SshError> {
        self.ask(|reply| Order::Direct(host.to_owned(), port, reply)).await.map(ChannelStream::new)
    }

    /// Lets the peer listen: for remote tunnels. Port 0: one that the peer chooses.
    ///
    /// # Errors
    /// The connection broke, or the peer refused.
    pub async fn listen(&self, host: &str, port: u16) -> Result<Listener, SshError> {
        let (port, channels) = self.ask(|reply| Order::Listen(host.to_owned(), port, reply)).await?;
        Ok(Listener::new(port, channels, Arc::clone(&self.handle.shared)))
    }

    /// Why the connection is gone; `None` while it lives.
    pub fn closed(&self) -> Option<SshError> {
        self.handle.shared.end.get().cloned()
    }

    /// Says goodbye and waits until the connection is closed. Channels that are open end as lost.
    pub async fn close(&self) {
        let (reply, is_done) = oneshot::channel();
        if self.order(Order::Close(reply)).await.is_ok() {
            // Without an answer it was gone already.
            let _ = is_done.await;
        }
    }

    async fn ask<T>(&self, order: impl FnOnce(Reply<T>) -> Order) -> Result<T, SshError> {
        let (reply, answer) = oneshot::channel();
        self.order(order(reply)).await?;
        answer.await.unwrap_or_else(|_| Err(self.handle.shared.reason()))
    }

    async fn order(&self, order: Order) -> Result<(), SshError> {
        let shared = &self.handle.shared;
        let Some(orders) = self.handle.orders.as_ref().filter(|_| shared.end.get().is_none()) else {
            return Err(shared.reason());
        };
        orders.send(order).await.map_err(|_| shared.reason())?;
        shared.wake.wake();
        Ok(())
    }
}

impl Shared {
    /// Why the connection is gone, once it is.
    fn reason(&self) -> SshError {
        self.end.get().cloned().unwrap_or_else(broken)
    }
}

/// Where the thread ended without a word, which it does not.
fn broken() -> SshError {
    SshError::Lost("its thread ended".to_owned())
}
