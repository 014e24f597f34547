//! The person's terminal while it belongs to a machine.

use std::io;

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// A terminal in raw mode: whatever is typed goes to the machine, Ctrl-C too. Its end puts the terminal back.
pub(super) struct RawTerminal {
    before: Termios,
}

impl RawTerminal {
    /// Of standard input.
    pub(super) fn enter() -> io::Result<RawTerminal> {
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Flush, &raw)?;
        Ok(RawTerminal { before })
    }

    /// Its size, now and whenever that changes.
    pub(super) fn size_changes(&self) -> io::Result<watch::Receiver<(u16, u16)>> {
        let (sender, receiver) = watch::channel(size()?);
        let mut resized = signal(SignalKind::window_change())?;
        tokio::spawn(async move {
            while resized.recv().await.is_some() {
                let Ok(size) = size() else { return };
                if sender.send(size).is_err() {
                    return;
                }
            }
        });
        Ok(receiver)
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        // A terminal that is gone needs no mode.
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &self.before);
    }
}

fn size() -> io::Result<(u16, u16)> {
    let size = tcgetwinsize(io::stdout())?;
    Ok((size.ws_col, size.ws_row))
}
