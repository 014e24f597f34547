//! Ctrl-C and its kin: the first stops the run in order, the second hurries, the third gives up.

use std::sync::Arc;

use kiln_core::{Events, FailureClass};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::ui::Screen;

/// What signals set off.
#[derive(Debug, Clone, Default)]
pub(crate) struct Interruption {
    /// Unwind.
    pub(crate) cancel: CancellationToken,
    /// Unwind without waiting for anything graceful.
    pub(crate) hurry: CancellationToken,
}

/// Listens until the returned task is aborted.
pub(crate) fn listen(interruption: &Interruption, events: Events, screen: Arc<Screen>) -> tokio::task::JoinHandle<()> {
    let Interruption { cancel, hurry } = interruption.clone();
    tokio::spawn(async move {
        let streams = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()), signal(SignalKind::hangup()));
        let (Ok(mut interrupt), Ok(mut terminate), Ok(mut hangup)) = streams else { return };
        let mut count = 0;
        loop {
            let is_hangup = tokio::select! {
                _ = interrupt.recv() => false,
                _ = terminate.recv() => false,
                _ = hangup.recv() => true,
            };
            // Of a terminal that closes, the shell and the kernel both tell, and the shell twice: nobody is in a hurry.
            if is_hangup && count > 0 {
                continue;
            }
            count += 1;
            let words = match count {
                1 => {
                    cancel.cancel();
                    "stopping: removing what was started (interrupt again to hurry)"
                }
                2 => {
                    hurry.cancel();
                    "hurrying (interrupt again to leave at once; `kiln cleanup` does the rest then)"
                }
                _ => leave(&screen),
            };
            // Where nobody reads what is shown, this waits; the next signal must not.
            let events = events.clone();
            tokio::task::spawn_blocking(move || events.warn(words));
        }
    })
}

/// The journal on disk knows what is left.
#[expect(clippy::exit, reason = "the user asked three times")]
fn leave(screen: &Screen) -> ! {
    screen.release();
    std::process::exit(i32::from(FailureClass::Cancelled.exit_code()));
}
