//! Commands that run in a container, and ending those whose call was dropped: the engine has no call for that.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use kiln_core::Command;

/// The variable that tells the processes of one command from all others in the container.
pub(crate) const VARIABLE: &str = "KILN_EXEC";

/// Kills all processes that bear one of the marks in their environment, and all of their sessions (each command of the
/// engine has a session of its own), so that children which cleared their environment go too. Needs no program but the
/// shell. A process that forks while it is killed is caught in the next round. Prints the sessions.
///
/// `$1` is the variable, `$2` the sessions known already, the marks follow.
const KILL: &str = r#"
session_of() { read -r stat <"$1/stat" || return 1; set -- ${stat##*) }; session=$4; }
is_marked() {
    while IFS= read -r entry || [ -n "$entry" ]; do
        for mark; do case $entry in *"$variable=$mark"*) return 0 ;; esac; done
    done <"$process/environ"
    return 1
}
variable=$1 sessions=$2
shift 2
for round in 1 2 3 4 5 6 7 8 9 10; do
    pids=
    for process in /proc/[0-9]*; do
        pid=${process#/proc/}
        [ "$pid" -ne 1 ] && is_marked "$@" && session_of "$process" || continue
        pids="$pids $pid"
        case "$session $sessions " in 0\ * | 1\ * | *" $session "*) ;; *) sessions="$sessions $session" ;; esac
    done 2>/dev/null
    for process in /proc/[0-9]*; do
        pid=${process#/proc/}
        [ "$pid" -ne 1 ] && session_of "$process" || continue
        case "$stat" in *") Z "* | *") X "*) continue ;; esac
        case "$sessions " in *" $session "*) pids="$pids $pid" ;; esac
    done 2>/dev/null
    [ -n "$pids" ] || break
    kill -9 $pids 2>/dev/null
done
echo "$sessions"
[ -z "$pids" ] || { echo "these processes do not end:$pids" >&2; exit 1; }
"#;

/// The command that ends what bears these marks, and these sessions. It has to run as the user of the commands first, who
/// alone can read their environment, and then as root, because a command may have become another user.
pub(crate) fn kill(user: Option<String>, sessions: &str, marks: &[String]) -> Command {
    let argv = ["/bin/sh", "-c", KILL, "sh", VARIABLE, sessions].map(str::to_owned).into_iter();
    Command { user, ..Command::new(argv.chain(marks.iter().cloned())) }
}

/// The marks of the commands whose end was not seen, with their users.
#[derive(Debug, Default)]
pub(crate) struct Running {
    last: AtomicU64,
    marks: Mutex<BTreeMap<String, Option<String>>>,
}

impl Running {
    /// A mark for a new command of this user; no other command of this container has it.
    pub(crate) fn start(&self, user: Option<&str>) -> String {
        // The full stop keeps 1 apart from 10.
        let mark = format!("{}.", self.last.fetch_add(1, Ordering::Relaxed) + 1);
        self.marks().insert(mark.clone(), user.map(str::to_owned));
        mark
    }

    /// Its end was seen.
    pub(crate) fn end(&self, mark: &str) {
        self.marks().remove(mark);
    }

    /// All marks and the users of their commands; they are forgotten then.
    pub(crate) fn take(&self) -> (Vec<String>, BTreeSet<Option<String>>) {
        std::mem::take(&mut *self.marks()).into_iter().unzip()
    }

    fn marks(&self) -> MutexGuard<'_, BTreeMap<String, Option<String>>> {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
