//! Sockets to speak SSH over.

use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::time::Duration;

use kiln_core::Events;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::{TcpStream, UnixStream};
use tokio_util::sync::CancellationToken;

use crate::options::ProxyOptions;
use crate::proxy;
use crate::session::ChannelStream;

/// How much is copied at once on the way through a bastion.
const PUMP: usize = 256 * 1024;

/// Why there is no socket; for people.
pub(crate) type Unreachable = String;

/// Connects straight away.
pub(crate) async fn tcp(host: &str, port: u16, timeout: Duration) -> Result<TcpStream, Unreachable> {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let stream = match tokio::time::timeout(timeout, TcpStream::connect((host, port))).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(error_text(&error)),
        Err(_) => return Err(format!("no answer within {}", kiln_core::duration::display(timeout))),
    };
    // Small messages go back and forth; a delay for each would be felt.
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

/// An error of the system without its number.
pub(crate) fn error_text(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut letters = text.chars();
    letters.next().map(|first| first.to_lowercase().collect::<String>() + letters.as_str()).unwrap_or_default()
}

/// Connects through a proxy.
pub(crate) async fn through_proxy(
    proxy: &ProxyOptions,
    host: &str,
    port: u16,
    timeout: Duration,
) -> Result<TcpStream, Unreachable> {
    let at = format!("the proxy {}:{}", proxy.host, proxy.port);
    let mut stream = tcp(&proxy.host, proxy.port, timeout).await.map_err(|error| format!("{at}: {error}"))?;
    match tokio::time::timeout(timeout, proxy::connect(&mut stream, proxy, host, port)).await {
        Ok(Ok(())) => Ok(stream),
        Ok(Err(error)) => Err(format!("{at}: {error}")),
        Err(_) => Err(format!("{at}: no answer within {}", kiln_core::duration::display(timeout))),
    }
}

/// A TCP connection as the session wants it.
pub(crate) fn descriptor(stream: TcpStream) -> Result<OwnedFd, Unreachable> {
    stream.into_std().map(OwnedFd::from).map_err(|error| error_text(&error))
}

/// A socket whose other end is a connection from a bastion. The connection ends with the socket.
pub(crate) fn through_bastion(mut stream: ChannelStream) -> Result<OwnedFd, Unreachable> {
    let (ours, mut theirs) = UnixStream::pair().map_err(|error| error_text(&error))?;
    tokio::spawn(async move {
        let _ = tokio::io::copy_bidirectional_with_sizes(&mut theirs, &mut stream, PUMP, PUMP).await;
    });
    ours.into_std().map(OwnedFd::from).map_err(|error| error_text(&error))
}

/// A socket whose other end is a command's input and output. What the command says is shown; it ends with the socket, and
/// at the latest with `end`.
pub(crate) fn through_command(command: &str, events: &Events, end: CancellationToken) -> Result<OwnedFd, Unreachable> {
    let failed = |error: std::io::Error| format!("`ProxyCommand`: {}", error_text(&error));
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().map_err(failed)?;
    let output = theirs.try_clone().map_err(failed)?;
    let mut child = tokio::process::Command::new("/bin/sh")
        .arg("-c")
        .arg(format!("exec {command}"))
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::from(OwnedFd::from(output)))
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    let (events, errors) = (events.clone(), child.stderr.take());
    tokio::spawn(async move {
        let speak = async {
            let Some(errors) = errors else { return };
            let mut lines = BufReader::new(errors).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                events.message(format!("ProxyCommand: {line}"));
            }
        };
        let live = async {
            speak.await;
            let _ = child.wait().await;
        };
        tokio::select! {
            () = end.cancelled() => {}
            () = live => {}
        }
    });
    ours.set_nonblocking(true).map_err(failed)?;
    Ok(OwnedFd::from(ours))
}
