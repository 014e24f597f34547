//! Uploads by the machine's own programs: `cat` for a file, `tar` for a tree, in one command each.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use kiln_core::communicator::{CaptureSink, CommunicatorError};
use kiln_core::{ExitStatus, Payload};
use kiln_transport::place;
use kiln_transport::tar::{Layout, Owner, PackError, Packing, pack_payload};

use super::SshCommunicator;
use super::command::quote;
use super::feed::Source;
use super::link::refused;

/// The status that tells that the machine has no `tar`.
pub(super) const NO_TAR: i64 = 93;

/// Archives name root as the owner of everything; `tar -o` makes it the login's user on the machine.
const NOBODY: Owner = Owner { user: 0, group: 0 };

impl SshCommunicator {
    pub(super) async fn upload_by_programs(&self, payload: &Payload, to: &str) -> Result<(), CommunicatorError> {
        match payload {
            Payload::Bytes { content, mode } => {
                self.upload_content(Source::Bytes(content.clone()), None, *mode, to).await
            }
            Payload::File { path, mode } => {
                let mode = match mode {
                    Some(mode) => *mode,
                    None => metadata(path).await?.mode(),
                };
                self.upload_content(Source::file(path).await?, Some(&place::base_name(path)), mode, to).await
            }
            Payload::Directory { path, contents_only } => self.upload_tree(payload, path, *contents_only, to).await,
        }
    }

    /// A file; with a name it goes into a directory that is there or is asked for by a slash at the end.
    async fn upload_content(
        &self,
        source: Source,
        name: Option<&str>,
        mode: u32,
        to: &str,
    ) -> Result<(), CommunicatorError> {
        let mut shell = format!("_kt={}; ", quote(&anchored(to)));
        if let Some(name) = name {
            let inside = format!("_kt=${{_kt%/}}/{}", quote(name));
            if to.ends_with('/') {
                shell.push_str(&format!("{inside}; "));
            } else {
                shell.push_str(&format!("if [ -d \"$_kt\" ]; then {inside}; fi; "));
            }
        }
        let whole = source.size().map(|size| format!(" && [ $(wc -c <\"$_kt\") -eq {size} ]")).unwrap_or_default();
        // The parent, and the file with nobody else's rights until it has its own mode.
        shell.push_str(&format!(
            "_kd=${{_kt%/*}}; [ -d \"${{_kd:-/}}\" ] || mkdir -p \"$_kd\" || exit; \
             (umask 077; exec cat >\"$_kt\"){whole} && chmod {:o} \"$_kt\"",
            mode & 0o7777
        ));
        let action = format!("upload to {to}");
        let mut sink = CaptureSink::default();
        let status = self.run_own(&action, &shell, source, &mut sink).await?;
        succeeded(status, &action, &sink)
    }

    async fn upload_tree(
        &self,
        payload: &Payload,
        path: &Path,
        contents_only: bool,
        to: &str,
    ) -> Result<(), CommunicatorError> {
        let target = if contents_only { to.to_owned() } else { place::join(to, &place::base_name(path)) };
        let mode = metadata(path).await?.mode() & 0o7777;
        let shell = format!(
            "command -v tar >/dev/null 2>&1 || exit {NO_TAR}; _kt={}; _km=; \
             [ -d \"$_kt\" ] || {{ mkdir -p \"$_kt\" && _km={mode:o}; }} || exit; \
             tar -xpof - -C \"$_kt\" && {{ [ -z \"$_km\" ] || chmod $_km \"$_kt\"; }}",
            quote(&anchored(&target)),
        );
        let layout = Layout { owner: Some(NOBODY), ..Layout::default() };
        let Packing { stream, outcome } = pack_payload(payload.clone(), layout);
        let action = format!("upload to {to}");
        let mut sink = CaptureSink::default();
        let sent = self.run_own(&action, &shell, Source::Stream(stream), &mut sink).await;
        if matches!(sent, Ok(ExitStatus::Exited(NO_TAR))) {
            return self.upload_by_sftp(payload, to).await.map_err(without_tar);
        }
        let sent = sent.and_then(|status| succeeded(status, &action, &sink));
        match outcome.await.unwrap_or(Ok(Vec::new())) {
            Ok(skipped) => {
                self.warn_skipped(&skipped);
                sent
            }
            // The other side gave up first and says why.
            Err(PackError::Abandoned(_)) if sent.is_err() => sent,
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn warn_skipped(&self, skipped: &[PathBuf]) {
        for path in skipped {
            self.events.warn(format!("{} is a socket or device and was not uploaded", path.display()));
        }
    }
}

/// That a machine has no `tar` either is told with what SFTP says.
pub(super) fn without_tar(error: CommunicatorError) -> CommunicatorError {
    match error {
        CommunicatorError::Transport { action, source } => {
            refused(action, format!("the machine has no `tar`, and SFTP fails too: {source}"))
        }
        other => other,
    }
}

/// A path that no program takes for an option. What is relative starts at the login's home.
pub(super) fn anchored(path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("./{path}") }
}

pub(super) async fn metadata(path: &Path) -> Result<std::fs::Metadata, CommunicatorError> {
    let metadata = tokio::fs::metadata(path).await;
    metadata.map_err(|source| CommunicatorError::Local { action: "read", path: path.to_path_buf(), source })
}

/// What a program said where it failed.
pub(super) fn succeeded(status: ExitStatus, action: &str, sink: &CaptureSink) -> Result<(), CommunicatorError> {
    if status.is_success() {
        return Ok(());
    }
    let words = Bytes::from([sink.stdout.as_slice(), sink.stderr.as_slice()].concat());
    let words = String::from_utf8_lossy(&words).trim().to_owned();
    let text = if words.is_empty() { format!("the shell on the machine ended with {}", status.code()) } else { words };
    Err(refused(action, text))
}
