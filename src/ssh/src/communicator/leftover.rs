//! Ending commands whose call was dropped: the machine closes their input and output, which many do not notice.

use kiln_core::Command;
use kiln_core::communicator::{CaptureSink, CommunicatorError};

use super::SshCommunicator;
use super::command::MARK;
use super::feed::Source;
use super::link::refused;

/// Kills the sessions of all processes that bear one of the marks: the server gives each command a session of its own, so
/// children go too that cleared their environment. Its own session is spared. Needs no program but the shell; with `sleep`, it
/// waits for processes that take their time to end, on a busy machine or with much memory to give back.
const KILL: &str = r#"
session_of() { IFS= read -r stat <"$1/stat" || return 1; set -- ${stat##*) }; session=$4; }
is_marked() {
    while IFS= read -r entry || [ -n "$entry" ]; do
        for mark; do case $entry in *"$variable=$mark"*) return 0 ;; esac; done
    done <"$process/environ"
    return 1
}
variable=$1
shift
session_of /proc/$$ && own=$session || exit 1
sessions=
for process in /proc/[0-9]*; do
    session_of "$process" && is_marked "$@" || continue
    case $session in 0 | 1 | "$own") continue ;; esac
    case "$sessions " in *" $session "*) ;; *) sessions="$sessions $session" ;; esac
done 2>/dev/null
round=0
while [ $round -lt 40 ]; do
    round=$((round + 1))
    pids=
    for process in /proc/[0-9]*; do
        session_of "$process" || continue
        case $stat in *") Z "* | *") X "*) continue ;; esac
        case "$sessions " in *" $session "*) pids="$pids ${process#/proc/}" ;; esac
    done 2>/dev/null
    [ -n "$pids" ] || exit 0
    kill -9 $pids 2>/dev/null
    [ $round -lt 3 ] || sleep 0.1 2>/dev/null || sleep 1 2>/dev/null
done
echo "these processes do not end:$pids" >&2
exit 1
"#;

impl SshCommunicator {
    pub(super) async fn end_leftovers(&self) -> Result<(), CommunicatorError> {
        let marks = self.link.take_dropped();
        if marks.is_empty() {
            return Ok(());
        }
        let action = "end commands";
        let argv = ["/bin/sh", "-c", KILL, "sh", MARK].map(str::to_owned).into_iter().chain(marks);
        let command = Command::new(argv);
        let header =
            super::command::header(&command, &super::command::exec(&command).map_err(|error| refused(action, error))?);
        let header = header.map_err(|error| refused(action, error))?;
        let mut sink = CaptureSink::default();
        let source = Source::Bytes(bytes::Bytes::new());
        // Without a mark of its own.
        let status = self.link.run(self.request(), String::new(), header, source, &mut sink).await?;
        if status.is_success() {
            return Ok(());
        }
        Err(refused(action, String::from_utf8_lossy(&sink.stderr).trim().to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn what_takes_its_time_to_end_is_waited_for() {
        let mark = format!("slow.{}.", std::process::id());
        let mut sleep = Command::new("setsid");
        sleep.args(["sleep", "60"]).env(MARK, &mark).stdin(Stdio::null());
        let mut sleep = sleep.spawn().unwrap();
        // A signal that has no effect for a second is what a process is like that gets no processor.
        let slow = format!("kill() {{ (sleep 1; command kill \"$@\") & }}\n{KILL}");
        let is_marked = || {
            let environment = std::fs::read(format!("/proc/{}/environ", sleep.id())).unwrap_or_default();
            String::from_utf8_lossy(&environment).contains(&mark)
        };
        let since = std::time::Instant::now();
        while !is_marked() {
            assert!(since.elapsed().as_secs() < 20, "it did not start");
            std::thread::yield_now();
        }
        let output = Command::new("/bin/sh").args(["-c", &slow, "sh", MARK, &mark]).output().unwrap();
        let words = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{words}");
        assert!(!sleep.wait().unwrap().success());
    }
}
