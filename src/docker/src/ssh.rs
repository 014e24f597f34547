//! `ssh://` addresses. Each connection is an `ssh` process that runs `docker system dial-stdio` on the far host, as the
//! docker program does it: host keys, keys, jump hosts and shared connections are the user's ssh configuration.
//!
//! No connection outlives kiln: the process ends with its input, however kiln ends. So no control master is made here.

use std::future::{Ready, ready};
use std::io;
use std::pin::Pin;
use std::process::Stdio;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bollard::{API_DEFAULT_VERSION, BollardRequest, Docker};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::task::JoinHandle;

/// How long a connection that is not needed any more may take to end by itself. It is not cut at once: it may be the one
/// that other connections share (`ControlMaster auto`).
const ENDING: Duration = Duration::from_secs(2);

/// How long what `ssh` says is waited for once it has closed its output.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Bound on what is kept of that, in bytes.
const LONGEST_WORDS: usize = 4096;

/// Bound on a connection's making, in seconds (as the docker program has it).
const CONNECT_TIMEOUT: &str = "ConnectTimeout=30";

/// What stands in requests in place of a host; ssh alone decides where they go.
const HOST: &str = "http://engine";

/// Where an address leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Destination {
    user: Option<String>,
    host: String,
    port: Option<u16>,
}

impl Destination {
    /// Reads `ssh://[user@]host[:port]`.
    pub(crate) fn parse(address: &str) -> Result<Destination, &'static str> {
        let url = url::Url::parse(address).map_err(|_| "it is not of the form ssh://user@host:port")?;
        if url.password().is_some() {
            return Err("a password cannot be part of it; use a key or an agent");
        }
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            return Err("nothing may follow host and port");
        }
        let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err("it names no host");
        }
        let user = Some(url.username()).filter(|user| !user.is_empty()).map(str::to_owned);
        Ok(Destination { user, host: host.to_owned(), port: url.port() })
    }

    /// Never asks anything: nobody may be there to answer, and many connections would each ask.
    fn arguments(&self) -> Vec<String> {
        let mut arguments: Vec<String> = ["-T", "-o", "BatchMode=yes", "-o", CONNECT_TIMEOUT].map(str::to_owned).into();
        if let Some(user) = &self.user {
            arguments.extend(["-l".to_owned(), user.clone()]);
        }
        if let Some(port) = self.port {
            arguments.extend(["-p".to_owned(), port.to_string()]);
        }
        // A host that begins with a dash is no option.
        arguments.extend(["--", &self.host, "docker", "system", "dial-stdio"].map(str::to_owned));
        arguments
    }
}

/// A client whose connections are `ssh` processes; `seconds` bounds a request until its answer begins.
pub(crate) fn client(destination: Destination, seconds: u64) -> Result<Docker, bollard::errors::Error> {
    let client = Client::builder(TokioExecutor::new()).build(Dialer(Arc::new(destination)));
    let transport = move |request: BollardRequest| {
        let answer = client.request(request);
        async move { answer.await.map_err(bollard::errors::Error::from) }
    };
    Docker::connect_with_custom_transport(transport, Some(HOST), seconds, API_DEFAULT_VERSION)
}

/// One connection, for whoever speaks over it himself.
pub(crate) fn dial(destination: Destination) -> io::Result<crate::upgrade::Connection> {
    let stream = Dialer(Arc::new(destination)).dial().map_err(io::Error::other)?;
    Ok(Box::new(stream))
}

/// Why a connection gave nothing.
#[derive(Debug, thiserror::Error)]
enum SshError {
    #[error("cannot start `ssh`")]
    Start(#[source] io::Error),
    #[error("`ssh` to {host} ended without an answer{}", after(words))]
    Ended { host: String, words: String },
}

fn after(words: &str) -> String {
    if words.is_empty() { String::new() } else { format!("; it says: {words}") }
}

/// Makes connections.
#[derive(Clone)]
struct Dialer(Arc<Destination>);

impl Dialer {
    fn dial(&self) -> Result<SshStream, SshError> {
        let mut child = Command::new("ssh")
            .args(self.0.arguments())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C is for kiln, which still needs the connection to clean up.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(SshError::Start)?;
        let (input, output, errors) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let missing = || SshError::Start(io::ErrorKind::BrokenPipe.into());
        Ok(SshStream {
            host: self.0.host.clone(),
            input: Some(input.ok_or_else(missing)?),
            output: output.ok_or_else(missing)?,
            errors: tokio::spawn(last_words(errors.ok_or_else(missing)?)),
            patience: None,
            has_answered: false,
            has_failed: false,
            child: Some(child),
        })
    }
}

impl tower_service::Service<http::Uri> for Dialer {
    type Response = TokioIo<SshStream>;
    type Error = SshError;
    type Future = Ready<Result<TokioIo<SshStream>, SshError>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), SshError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _destination: http::Uri) -> Self::Future {
        ready(self.dial().map(TokioIo::new))
    }
}

/// Reads what `ssh` says to its end, and keeps the last of it, on one line.
async fn last_words(mut errors: ChildStderr) -> String {
    let mut words = Vec::new();
    let mut buffer = [0; 1024];
    // What cannot be read was not said.
    let read = async {
        while let Ok(length @ 1..) = errors.read(&mut buffer).await {
            words.extend_from_slice(&buffer[..length]);
            words.drain(..words.len().saturating_sub(LONGEST_WORDS));
        }
    };
    read.await;
    let text = String::from_utf8_lossy(&words);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines.join("; ")
}

/// A connection.
struct SshStream {
    host: String,
    /// Gone once this side is closed.
    input: Option<ChildStdin>,
    output: ChildStdout,
    errors: JoinHandle<String>,
    /// Set while the last words are waited for.
    patience: Option<Pin<Box<tokio::time::Sleep>>>,
    has_answered: bool,
    /// It was told why, which can be told once.
    has_failed: bool,
    child: Option<Child>,
}

impl SshStream {
    /// The error of a connection that ended before it gave a byte.
    fn poll_why(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        let patience = self.patience.get_or_insert_with(|| Box::pin(tokio::time::sleep(LAST_WORDS)));
        // A shared connection that ssh leaves in the background holds the pipe open: no wait without an end.
        let is_over = patience.as_mut().poll(context).is_ready();
        let words = match Pin::new(&mut self.errors).poll(context) {
            Poll::Ready(words) => words.unwrap_or_default(),
            Poll::Pending if is_over => String::new(),
            Poll::Pending => return Poll::Pending,
        };
        Poll::Ready(io::Error::other(SshError::Ended { host: self.host.clone(), words }))
    }
}

impl Drop for SshStream {
    fn drop(&mut self) {
        self.input = None;
        self.errors.abort();
        let (Some(mut child), Ok(runtime)) = (self.child.take(), tokio::runtime::Handle::try_current()) else { return };
        runtime.spawn(async move {
            // Dropped, and so killed, when it does not end by itself.
            let _ = tokio::time::timeout(ENDING, child.wait()).await;
        });
    }
}

impl AsyncRead for SshStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.output).poll_read(context, buffer))?;
        if buffer.filled().len() > before {
            self.has_answered = true;
        } else if !self.has_answered && !self.has_failed && buffer.remaining() > 0 {
            let why = ready!(self.poll_why(context));
            self.has_failed = true;
            return Poll::Ready(Err(why));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for SshStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.input {
            Some(input) => Pin::new(input).poll_write(context, bytes),
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.input {
            Some(input) => Pin::new(input).poll_flush(context),
            None => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.as_mut().poll_flush(context))?;
        // Only closing the pipe tells the other side.
        self.input = None;
        Poll::Ready(Ok(()))
    }
}

impl Connection for SshStream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_becomes_arguments_of_ssh() {
        let arguments =
            |address: &str| Destination::parse(address).map(|destination| destination.arguments().join(" "));
        let options = "-T -o BatchMode=yes -o ConnectTimeout=30";
        let command = "docker system dial-stdio";
        assert_eq!(arguments("ssh://far"), Ok(format!("{options} -- far {command}")));
        assert_eq!(arguments("ssh://me@far:2222/"), Ok(format!("{options} -l me -p 2222 -- far {command}")));
        assert_eq!(arguments("ssh://[::1]:22"), Ok(format!("{options} -p 22 -- ::1 {command}")));
        for bad in ["ssh://", "ssh://me:secret@far", "ssh://far/run/docker.sock", "ssh://far?x", "ssh://far:port"] {
            assert!(arguments(bad).is_err(), "{bad}");
        }
    }
}
