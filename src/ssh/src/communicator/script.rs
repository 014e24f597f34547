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

/// The longest script that comes within the header, in bytes: a shell reads that byte by byte.
const SHORT: usize = 1024;

/// Stores the script and tells that it starts; `_ks` is its path. What breaks off is not run.
///
/// A short one comes as a word of the header too, which the shell writes down by itself: what starts no program is fast. It
/// may have no `printf` of its own, and other people would see what a program is given; then, as with whatever else fails, the
/// script is read from standard input.
pub(super) fn store(path: &str, source: &Source, mark: &str) -> String {
    let whole = source.size().map(|size| format!(" && [ $(wc -c <\"$_ks\") -eq {size} ]")).unwrap_or_default();
    let read = format!("(umask 077; cat >\"$_ks\"){whole}");
    let written = match short(source) {
        Some(text) => format!(
            "{{ (umask 077; PATH=/dev/null; printf %s {} >\"$_ks\") 2>/dev/null || {{ {read}; }}; }}",
            quote(text)
        ),
        None => read,
    };
    format!("_ks={}; {written} && chmod 0755 \"$_ks\" || exit {NOT_STORED}; echo {mark} >&2; ", quote(path))
}

/// The text of a short script.
fn short(source: &Source) -> Option<&str> {
    let Source::Bytes(content) = source else { return None };
    let text = std::str::from_utf8(content).ok()?;
    (text.len() <= SHORT && !text.contains('\0')).then_some(text)
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
        let before = store(&script.path, &source, &started);
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

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::Stdio;

    use super::*;

    /// What `shell` stores of `text`, where standard input brings `input`.
    fn stored(shell: &[&str], before: &str, text: &str, input: &str) -> (Option<i32>, String) {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("it's a script");
        let source = Source::Bytes(text.to_owned().into());
        let action = format!("{before}{}exit 0", store(&path.display().to_string(), &source, "started"));
        let header = command::header(&Command::default(), &action).unwrap();
        let mut child = std::process::Command::new(shell[0])
            .args(&shell[1..])
            .args(["-c", "IFS= read -r _kiln && eval \"$_kiln\""])
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(header.as_bytes()).unwrap();
        // What was stored already is not read.
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        let status = child.wait().unwrap();
        (status.code(), std::fs::read_to_string(path).unwrap_or_default())
    }

    const ODD: &str = "#!/bin/sh\n\n\techo 'it''s' \"100 %s\\n\" \\\\ $x `y` ü\n# end";

    #[test]
    fn a_short_script_needs_no_input() {
        let shells: [&[&str]; 3] = [&["/bin/dash"], &["/bin/bash"], &["/bin/busybox", "sh"]];
        for shell in shells.into_iter().filter(|shell| std::path::Path::new(shell[0]).exists()) {
            assert_eq!(stored(shell, "", ODD, ""), (Some(0), ODD.to_owned()), "{shell:?}");
        }
    }

    #[test]
    fn a_shell_without_printf_reads_it() {
        let before = "enable -n printf; ";
        assert_eq!(stored(&["/bin/bash"], before, ODD, ODD), (Some(0), ODD.to_owned()));
        assert_eq!(stored(&["/bin/bash"], before, ODD, "#!/bin").0, Some(125), "a part of it");
    }

    #[test]
    fn a_long_script_is_read() {
        let long = ODD.repeat(100);
        assert_eq!(stored(&["/bin/sh"], "", &long, &long), (Some(0), long.clone()));
        assert_eq!(stored(&["/bin/sh"], "", &long, &long[1..]).0, Some(125));
    }
}
