//! Commands on a pseudo terminal, and a person at it.

use bytes::Bytes;
use kiln_core::communicator::{CaptureSink, CommunicatorError};
use kiln_core::{Command, ExitStatus, Stream, Terminal};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::SshCommunicator;
use super::command;
use super::feed::Source;
use super::link::{refused, status};
use crate::session::{ChannelEvent, Ending, ExecRequest, PseudoTerminal};

/// How much is read from a keyboard at once, in bytes.
const TYPED: usize = 4096;

impl SshCommunicator {
    /// A command for a pseudo terminal. It would echo what comes on standard input, so an environment travels before, in a
    /// file that only the login's user can read; it is removed before anything runs.
    pub(super) async fn on_terminal(
        &self,
        command: &Command,
        terminal: PseudoTerminal,
    ) -> Result<(ExecRequest, String), CommunicatorError> {
        let action = "run a command";
        if command.user.is_some() {
            return Err(refused(action, "over SSH another user cannot be given a terminal"));
        }
        let mark = self.link.mark();
        let header = command::whole(command, &mark).map_err(|error| refused(action, error))?;
        let code = if command.environment.is_empty() {
            header.trim_end().to_owned()
        } else {
            let path = self.store_header(header).await?;
            let path = command::quote(&path);
            format!("exec 3<{path} && rm -f {path} && IFS= read -r _kiln <&3 && exec 3<&- && eval \"$_kiln\"")
        };
        let line = format!("exec /bin/sh -c '{}'", code.replace('\'', "'\\''"));
        Ok((ExecRequest { terminal: Some(terminal), ..ExecRequest::command(line) }, mark))
    }

    async fn store_header(&self, header: String) -> Result<String, CommunicatorError> {
        let size = header.len();
        let shell = format!(
            "umask 077; _kf=$(mktemp) && cat >\"$_kf\" && [ $(wc -c <\"$_kf\") -eq {size} ] && printf %s \"$_kf\""
        );
        let mut sink = CaptureSink::default();
        let action = "store an environment";
        let status = self.run_own(action, &shell, Source::Bytes(header.into()), &mut sink).await?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        match text(&sink.stdout) {
            path if status.is_success() && !path.is_empty() => Ok(path),
            _ => Err(refused(action, text(&sink.stderr))),
        }
    }

    pub(super) async fn sit_at(
        &self,
        command: &Command,
        mut terminal: Terminal,
    ) -> Result<ExitStatus, CommunicatorError> {
        let (columns, rows) = *terminal.size.borrow_and_update();
        let pseudo = PseudoTerminal { kind: "xterm-256color".to_owned(), columns, rows };
        let (request, _) = self.on_terminal(command, pseudo).await?;
        let mut channel = self.link.open(request).await?;
        let mut input = channel.input();
        let mut typed = [0; TYPED];
        let mut has_size = true;
        loop {
            tokio::select! {
                event = channel.next() => match event {
                    Some(ChannelEvent::Output(Stream::Stdout | Stream::Stderr, chunk)) => {
                        // A screen that is gone: the end of the command follows from the end of what is typed.
                        let _ = terminal.output.write_all(&chunk).await;
                        let _ = terminal.output.flush().await;
                    }
                    Some(ChannelEvent::OutputEnded) => {}
                    Some(ChannelEvent::Ended(ending)) => return status(ending),
                    None => return status(Ending::Exited(0)),
                },
                read = terminal.input.read(&mut typed), if input.is_some() => match (read, input.take()) {
                    (Ok(length), Some(open)) if length > 0 => {
                        if open.send(Bytes::copy_from_slice(&typed[..length])).await.is_ok() {
                            input = Some(open);
                        }
                    }
                    (_, Some(open)) => {
                        let _ = open.finish().await;
                    }
                    (_, None) => {}
                },
                changed = terminal.size.changed(), if has_size => match changed {
                    Ok(()) => {
                        let (columns, rows) = *terminal.size.borrow_and_update();
                        channel.resize(columns, rows);
                    }
                    Err(_) => has_size = false,
                },
            }
        }
    }
}
