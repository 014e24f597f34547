//! Trying to start again while the machine does not answer (it may just reboot).

use std::time::Duration;

use kiln_core::communicator::CommunicatorError;
use kiln_core::{BuildContext, Failure, duration};
use tokio::time::Instant;

/// The first pause; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// How often a transport may refuse before it is believed: waiting does not bring `/bin/sh` into an image.
const REFUSALS: u32 = 2;

/// Tells whether, and waits before, something is tried again.
#[derive(Debug)]
pub(crate) struct Retries {
    deadline: Instant,
    pause: Duration,
    refusals: u32,
}

impl Retries {
    /// Gives up after this time.
    pub(crate) fn new(timeout: Duration) -> Retries {
        let now = Instant::now();
        // Beyond what the clock can hold is a year: nobody waits that long.
        let deadline = now.checked_add(timeout).unwrap_or(now + Duration::from_secs(365 * 24 * 3600));
        Retries { deadline, pause: FIRST_PAUSE, refusals: 0 }
    }

    /// Waits and returns `true` where another try may help, else `false`; fails when cancelled meanwhile.
    pub(crate) async fn again(
        &mut self,
        error: &CommunicatorError,
        what: &str,
        context: &BuildContext,
    ) -> Result<bool, Failure> {
        let may_help = match error {
            CommunicatorError::Disconnected(_) => true,
            CommunicatorError::Transport { .. } => {
                self.refusals += 1;
                self.refusals <= REFUSALS
            }
            CommunicatorError::Impossible { .. }
            | CommunicatorError::Ended(_)
            | CommunicatorError::NotFound(_)
            | CommunicatorError::Local { .. } => false,
        };
        let left = self.deadline.saturating_duration_since(Instant::now());
        if !may_help || left.is_zero() {
            return Ok(false);
        }
        let pause = self.pause.min(left);
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        let (pause_text, left_text) = (duration::display(pause), duration::display(left));
        context
            .events
            .warn(format!("cannot {what}: {error}; trying again in {pause_text}, for at most {left_text} more"));
        context.unless_cancelled(tokio::time::sleep(pause)).await.map(|()| true)
    }
}
