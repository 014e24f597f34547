//! The wrapper of the one-command way: stores the script that comes on standard input, runs it, removes it. On a terminal
//! it takes two commands, for a terminal cannot carry the script.

use kiln_core::lines::LineSink;
use kiln_core::{OutputSink, Stream};

/// The wrapper's own exit status when the script could not be stored; a script's own 125 comes after [`STARTED`].
pub const NOT_STORED: i64 = 125;

/// The line on standard error that tells that the script is stored and starts now. It tells a machine that is not
/// reached (try again) from one that went away under the script (do not run it twice).
pub const STARTED: &str = "kiln: script started";

/// Stores the script. `$0` is the script's path, which so needs no quoting; it sets no variable outside the subshell, because
/// one that the machine exports under the same name would change for the script. The template may set `PATH` for the
/// script, so the wrapper's own programs are also looked for in the usual places.
const STORE: &str = r#"(PATH="${PATH:-/bin}:/usr/bin:/bin"; umask 077 && cat >"$0" && chmod 0755 "$0") || exit 125
"#;

/// Tells that the script starts now.
const TELL: &str = "echo 'kiln: script started' >&2\n";

/// Runs the script, which reads nothing: nobody answers.
const RUN: &str = "\"$0\" </dev/null\nset -- \"$?\"\n";

/// Removes the script; one that is gone already is fine, for clean-up scripts empty `/tmp`.
const CLEAN: &str = "PATH=\"${PATH:-/bin}:/usr/bin:/bin\"\nrm -f \"$0\"\n";

/// Passes the script's status on.
const EXIT: &str = "exit \"$1\"\n";

/// Program and arguments that run a script from standard input, stored at `path` on the machine meanwhile.
pub fn argv(path: &str, skips_clean: bool) -> Vec<String> {
    shell(format!("{STORE}{TELL}{RUN}{}{EXIT}", clean(skips_clean)), path)
}

/// Program and arguments that only store the script that comes on standard input.
pub fn store_argv(path: &str) -> Vec<String> {
    shell(STORE.to_owned(), path)
}

/// Program and arguments that run a script that is stored already.
pub fn run_argv(path: &str, skips_clean: bool) -> Vec<String> {
    shell(format!("{RUN}{}{EXIT}", clean(skips_clean)), path)
}

fn clean(skips_clean: bool) -> &'static str {
    if skips_clean { "" } else { CLEAN }
}

fn shell(script: String, path: &str) -> Vec<String> {
    vec!["/bin/sh".to_owned(), "-c".to_owned(), script, anchored(path)]
}

/// The path with a directory in front, so that it is neither looked up in `PATH` nor taken for an option.
pub fn anchored(path: &str) -> String {
    if path.contains('/') && !path.starts_with('-') { path.to_owned() } else { format!("./{path}") }
}

/// Takes out the line [`STARTED`] and remembers that it came.
pub(crate) struct StartSink {
    lines: LineSink,
    is_started: bool,
    partial: Vec<u8>,
}

impl StartSink {
    pub(crate) fn new(lines: LineSink) -> StartSink {
        StartSink { lines, is_started: false, partial: Vec::new() }
    }

    /// Ends the output: the lines, and whether the script had started.
    pub(crate) fn finish(mut self) -> (LineSink, bool) {
        self.lines.write(Stream::Stderr, &self.partial);
        self.lines.finish();
        (self.lines, self.is_started)
    }
}

impl OutputSink for StartSink {
    fn write(&mut self, stream: Stream, chunk: &[u8]) {
        if self.is_started || stream == Stream::Stdout {
            self.lines.write(stream, chunk);
            return;
        }
        self.partial.extend_from_slice(chunk);
        while let Some(end) = self.partial.iter().position(|byte| *byte == b'\n') {
            let rest = self.partial.split_off(end + 1);
            let line = std::mem::replace(&mut self.partial, rest);
            if line.trim_ascii_end() == STARTED.as_bytes() {
                self.is_started = true;
                self.lines.write(stream, &std::mem::take(&mut self.partial));
                return;
            }
            self.lines.write(stream, &line);
        }
    }
}
