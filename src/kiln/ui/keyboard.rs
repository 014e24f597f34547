//! The echo of keys, which would tear the bars.

use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcgetpgrp, tcsetattr};

/// While it lives, `^C` is not written to the terminal: it would stand at the end of the last bar, wrap, and leave that bar
/// behind. Dropping it sets the terminal back.
#[derive(Debug)]
pub(super) struct QuietKeyboard {
    /// Whether keys were echoed by name before.
    changed: bool,
}

impl QuietKeyboard {
    /// Does nothing where standard input is no terminal, or is another job's: to set that one would stop the process.
    pub(super) fn new() -> QuietKeyboard {
        QuietKeyboard { changed: set(false) }
    }

    /// Sets the terminal back now.
    pub(super) fn restore(&mut self) {
        if std::mem::take(&mut self.changed) {
            set(true);
        }
    }
}

impl Drop for QuietKeyboard {
    fn drop(&mut self) {
        self.restore();
    }
}

/// Whether anything changed.
fn set(echo: bool) -> bool {
    let terminal = std::io::stdin();
    if tcgetpgrp(&terminal).ok() != Some(rustix::process::getpgrp()) {
        return false;
    }
    let Ok(mut modes) = tcgetattr(&terminal) else { return false };
    if modes.local_modes.contains(LocalModes::ECHOCTL) == echo {
        return false;
    }
    modes.local_modes.set(LocalModes::ECHOCTL, echo);
    tcsetattr(&terminal, OptionalActions::Now, &modes).is_ok()
}
