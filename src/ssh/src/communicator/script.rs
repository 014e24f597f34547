//! A script in one command: it comes on standard input behind the header, is stored, run and removed.

use kiln_core::communicator::CommunicatorError;
use kiln_core::{Command, ExitStatus, OutputSink, Script, ScriptRun, Stream};

use super::SshCommunicator;
use super::command::{self, quote};
use super::feed::Source;
use super::link::refused;

/// The status of a script that was not stored.
const NOT_STORED: i64 = 125;

/// How much of what was said before the start is kept, in bytes.
const LONGEST_WORDS: usize = 4096;

/// Takes out the line that tells that the script runs now, and keeps what was said before it.
struct StartSink<'a> {
    inner: &'a mut dyn OutputSink,
    mark: Vec<u8>,
    before: Vec<u8>,
    is_started: bool,
}

impl OutputSink for StartSink<'_> {
    fn write(&mut self, stream: Stream, chunk: &[u8]) {
        if self.is_started || stream == Stream::Stdout {
            return self.inner.write(stream, chunk);
        }
        self.before.extend_from_slice(chunk);
        if let Some(at) = find(&self.before, &self.mark) {
            self.is_started = true;
            // A login's banner, for example.
            let before = std::mem::take(&mut self.before);
            for part in [&before[..at], &before[at + self.mark.len()..]] {
                if !part.is_empty() {
                    self.inner.write(stream, part);
                }
            }
        }
        // The mark itself may be cut at any place.
        let surplus = self.before.len().saturating_sub(LONGEST_WORDS + self.mark.len());
        self.before.drain(..surplus);
    }
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

/// Stores the script and tells that it starts; `_ks` is its path. What breaks off is not run.
pub(super) fn store(path: &str, size: Option<u64>, mark: &str) -> String {
    let whole = size.map(|size| format!(" && [ $(wc -c <\"$_ks\") -eq {size} ]")).unwrap_or_default();
    format!(
        "_ks={}; (umask 077; cat >\"$_ks\"){whole} && chmod 0755 \"$_ks\" || exit {NOT_STORED}; echo {mark} >&2; ",
        quote(path)
    )
}

impl SshCommunicator {
    pub(super) async fn run_stored(
        &self,
        script: &Script,
        command: &Command,
        sink: &mut dyn OutputSink,
    ) -> Result<ScriptRun, CommunicatorError> {
        let source = Source::of(&script.content).await?;
        let mark = self.link.mark();
        let started = format!("kiln-started-{mark}{:016x}", random());
        let before = store(&script.path, source.size(), &started);
        let remove = if script.stays { "" } else { "rm -f \"$_ks\"; " };
        // The environment is for the script alone: `PATH` may be in it.
        let run = |environment| format!("{before}({environment}exec \"$_ks\") </dev/null; _kr=$?; {remove}exit $_kr");
        let header = command::environment(command, &mark).map(run).and_then(|action| command::header(command, &action));
        let header = header.map_err(|error| refused("run a script", error))?;
        let mut sink =
            StartSink { inner: sink, mark: format!("{started}\n").into_bytes(), before: Vec::new(), is_started: false };
        let ended = self.link.run(self.request(), mark, header, source, &mut sink).await;
        let StartSink { before, is_started, .. } = sink;
        match ended {
            Ok(status) if is_started => Ok(ScriptRun::Ended(status)),
            Err(error) if is_started => Ok(ScriptRun::Lost(error)),
            Ok(status) => Ok(ScriptRun::NotStored(words(&before, status))),
            Err(error) => Err(error),
        }
    }
}

/// What a shell said, or how it ended where it said nothing.
fn words(said: &[u8], status: ExitStatus) -> String {
    match String::from_utf8_lossy(said).trim() {
        "" => format!("the shell on the machine ended with {}", status.code()),
        words => words.to_owned(),
    }
}

/// Nobody on the machine may guess it and print it before.
fn random() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}
