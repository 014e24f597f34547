//! Waiting for a machine, and getting into it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use kiln_core::{BuildContext, Failure, FailureClass, Secret, duration};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::communicator::{Habits, SshCommunicator, Transfer};
use crate::options::{FileTransfer, Patience, SshOptions};
use crate::policy::HostKeyPolicy;
use crate::process::SshProcess;
use crate::route;
use crate::tunnel::Tunnels;
use crate::walk::{Arrived, WalkError, Walker};

/// Between two tries to reach a machine: at first, and at most.
const SHORTEST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// After a refused login, as in Packer: a machine that starts may not have the key yet.
const LOGIN_PAUSE: Duration = Duration::from_secs(2);

/// What a builder knows of a machine beyond the options of the template.
#[derive(Debug, Clone, Default)]
pub struct Endpoint {
    /// Name or address.
    pub host: String,
    /// Port; that of the options where absent.
    pub port: Option<u16>,
    /// User; that of the options where absent.
    pub user: Option<String>,
    /// A private key, in PEM form, besides those of the options.
    pub key: Option<Secret>,
    /// Which keys the machine may show, where the template says nothing about it; known hosts where absent.
    pub host_keys: Option<HostKeyPolicy>,
}

impl Endpoint {
    /// A machine of which only the options are known; `None` without `ssh_host`.
    pub fn of_options(options: &SshOptions) -> Option<Endpoint> {
        let host = options.host.clone()?;
        Some(Endpoint { host, ..Endpoint::default() })
    }
}

/// The machine was not reached in time.
#[derive(Debug)]
struct NotReached {
    host: String,
    /// `within 5m`, `after 10 tries`.
    bound: String,
    last: Option<WalkError>,
}

impl fmt::Display for NotReached {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "cannot log in to {} {}", self.host, self.bound)
    }
}

impl std::error::Error for NotReached {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.last.as_ref().map(|error| error as _)
    }
}

/// Waits until the machine can be logged in to, within `ssh_timeout` and `ssh_handshake_attempts`, and says meanwhile what it
/// waits for.
///
/// # Errors
/// The machine cannot be reached in time, refuses the login, or shows a key that is not its own; or the build was cancelled.
pub async fn connect(
    options: &SshOptions,
    endpoint: Endpoint,
    process: &SshProcess,
    context: &BuildContext,
) -> Result<SshCommunicator, Failure> {
    let (walker, arrived) = establish(options, &endpoint, process, context).await?;
    let habits = Habits {
        pty: options.pty,
        transfer: match options.file_transfer {
            FileTransfer::Sftp => Transfer::Sftp,
            FileTransfer::Tar | FileTransfer::Scp => Transfer::Programs,
        },
    };
    let communicator = SshCommunicator::new(Arc::new(walker), habits, context.events.clone());
    Ok(communicator.with_session(arrived.session))
}

/// Everything but the communicator.
async fn establish(
    options: &SshOptions,
    endpoint: &Endpoint,
    process: &SshProcess,
    context: &BuildContext,
) -> Result<(Arc<Walker>, Arrived), Failure> {
    let route = route::plan(options, endpoint, process, context).await?;
    let end = CancellationToken::new();
    let tunnels = Tunnels::open(&options.local_tunnels, &options.remote_tunnels, &context.events, end.clone()).await;
    let tunnels = tunnels.map_err(Failure::environment)?;
    let walker = Arc::new(Walker::new(route, context.events.clone(), tunnels, context.scratch.clone(), end));
    let mut arrived = wait(&walker, options.patience, context).await?;
    if !options.pause_before_connecting.is_zero() {
        // Somebody wants the machine to come to rest: what was there first may be a system that restarts itself.
        arrived.session.close().await;
        drop(arrived);
        let pause = duration::display(options.pause_before_connecting);
        context.events.message(format!("the machine is there; waiting for {pause} before connecting"));
        context.unless_cancelled(tokio::time::sleep(options.pause_before_connecting)).await?;
        arrived = wait(&walker, options.patience, context).await?;
    }
    Ok((walker, arrived))
}

/// Tries until it is in, or patience is at its end.
async fn wait(walker: &Walker, patience: Patience, context: &BuildContext) -> Result<Arrived, Failure> {
    let machine = &walker.route.machine;
    let host = machine.label();
    context.events.message(format!("waiting for SSH on {host}"));
    let deadline = patience.timeout.map(|timeout| Instant::now() + timeout);
    let has_command = matches!(walker.route.first, route::FirstLeg::Command(_));
    let mut tries = Tries { host, has_command, patience, refused: 0, said: None, last: None, pause: SHORTEST_PAUSE };
    loop {
        match context.unless_cancelled(until(deadline, walker.walk())).await? {
            Some(Ok(arrived)) => {
                say(walker, &arrived, context);
                return Ok(arrived);
            }
            Some(Err(error)) => tries.failed(error, context)?,
            None => return Err(tries.out_of_time()),
        }
        if context.unless_cancelled(until(deadline, tokio::time::sleep(tries.pause))).await?.is_none() {
            return Err(tries.out_of_time());
        }
    }
}

async fn until<T>(deadline: Option<Instant>, future: impl Future<Output = T>) -> Option<T> {
    match deadline {
        Some(deadline) => tokio::time::timeout_at(deadline, future).await.ok(),
        None => Some(future.await),
    }
}

fn say(walker: &Walker, arrived: &Arrived, context: &BuildContext) {
    let machine = &walker.route.machine;
    arrived.key.say(&context.events);
    let (host, user) = (machine.label(), &machine.user);
    context.events.message(format!("connected to {host} as `{user}`"));
}

/// What was tried so far.
struct Tries {
    host: String,
    /// A command of the user's leads there.
    has_command: bool,
    patience: Patience,
    refused: u32,
    /// What was said last: the same reason is told once.
    said: Option<String>,
    last: Option<WalkError>,
    pause: Duration,
}

impl Tries {
    /// Notes a failure; an error where there is no sense in going on.
    fn failed(&mut self, error: WalkError, context: &BuildContext) -> Result<(), Failure> {
        if !error.may_pass() {
            return Err(lasting(error));
        }
        if matches!(error, WalkError::Login(_)) {
            self.refused += 1;
            if self.patience.attempts.is_some_and(|attempts| self.refused >= attempts) {
                let bound = match self.refused {
                    1 => String::new(),
                    count => format!("after {count} tries"),
                };
                return Err(self.not_reached(bound, Some(error)));
            }
            self.pause = LOGIN_PAUSE;
        } else {
            self.pause = if self.last.is_none() { SHORTEST_PAUSE } else { (self.pause * 3 / 2).min(LONGEST_PAUSE) };
        }
        let text = error.to_string();
        // The first try mostly comes too early; what is still so later is worth a line.
        if self.last.is_some() && self.said.as_ref() != Some(&text) {
            context.events.message(format!("not yet: {text}"));
            self.said = Some(text);
        }
        self.last = Some(error);
        Ok(())
    }

    fn out_of_time(self) -> Failure {
        let bound = self.patience.timeout.map(|timeout| format!("within {}", duration::display(timeout)));
        let last = self.last.clone();
        self.not_reached(bound.unwrap_or_default(), last)
    }

    fn not_reached(&self, bound: String, last: Option<WalkError>) -> Failure {
        let hint = match &last {
            Some(WalkError::Login(refused)) if refused.host != self.host => {
                "check what the bastion is told: `ssh_bastion_username`, its key or its password"
            }
            Some(WalkError::Login(_)) => "check `ssh_username`, the key or the password",
            _ if self.has_command => {
                "the `ProxyCommand` of the SSH configuration leads there: does it work by hand? `ssh_timeout` sets how long to wait"
            }
            _ => "is it running, and does its firewall let this host in? `ssh_timeout` sets how long to wait",
        };
        Failure::environment(NotReached { host: self.host.clone(), bound, last }).hint(hint)
    }
}

/// What another try cannot mend.
fn lasting(error: WalkError) -> Failure {
    let hints = match &error {
        WalkError::Trust(error) => error.hints(),
        _ => Vec::new(),
    };
    let mut failure = Failure::new(FailureClass::Environment, error);
    failure.hints = hints;
    failure
}

#[cfg(test)]
mod tests;
