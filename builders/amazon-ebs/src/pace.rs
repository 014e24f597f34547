//! Waiting for states: half a second at first, then less and less often, within a bound, and saying what for.

use std::time::Duration;

use kiln_core::{BuildContext, Failure, duration};
use tokio::time::Instant;

use crate::cloud::{CloudError, CloudResult, ErrorKind};
use crate::config::Polling;
use crate::error::failure;

/// After so long, the output says what is still waited for, and again each time it has passed.
const NOTICE: Duration = Duration::from_secs(30);

/// How long a thing that was made just now may be unknown to other calls.
pub(crate) const SETTLING: Duration = Duration::from_secs(60);

/// How often states are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Before the second look.
    pub first: Duration,
    /// Between two looks, at most.
    pub most: Duration,
    /// A bound on each wait, in place of its own.
    pub limit: Option<Duration>,
}

impl Default for Pace {
    fn default() -> Pace {
        Pace { first: Duration::from_millis(500), most: Duration::from_secs(5), limit: None }
    }
}

impl Pace {
    /// With what a template says of it.
    pub(crate) fn with(self, polling: &Polling) -> Pace {
        let seconds = |value: Option<i64>| value.and_then(|value| u64::try_from(value).ok()).filter(|value| *value > 0);
        let delay = seconds(polling.delay_seconds);
        let most = delay.map_or(self.most, Duration::from_secs);
        // Packer's delay is 15 seconds where it is not set.
        let limit =
            seconds(polling.max_attempts).map(|times| Duration::from_secs(times.saturating_mul(delay.unwrap_or(15))));
        Pace { first: self.first.min(most), most, limit: limit.or(self.limit) }
    }

    /// Soon there is asked less often: a whole build has to make do with as many calls as Packer, which asks every 15 seconds.
    fn after(self, last: Duration) -> Duration {
        (last * 3).min(self.most)
    }
}

/// What a look showed.
pub(crate) enum Look<T> {
    /// What was waited for.
    Done(T),
    /// Not yet; the state it is in.
    NotYet(String),
}

/// A wait.
pub(crate) struct Wait<'a> {
    /// Reads on from "waiting until": `instance i-1 runs`.
    pub(crate) what: String,
    /// Its own bound.
    pub(crate) limit: Duration,
    pub(crate) pace: Pace,
    /// Where it is told, and what ends it; without one it goes on to its bound.
    pub(crate) context: Option<&'a BuildContext>,
}

/// It did not come in time.
#[derive(Debug, thiserror::Error)]
#[error("waited {} until {what}, and it is still {state}", duration::display(*.limit))]
struct TooLong {
    what: String,
    limit: Duration,
    state: String,
}

impl Wait<'_> {
    /// Looks until it is done. The first look is after the shortest delay. Calls that were throttled or lost count as looks that
    /// showed nothing.
    pub(crate) async fn until<T, F>(&self, mut look: impl FnMut() -> F + Send) -> Result<T, Failure>
    where
        F: Future<Output = Result<CloudResult<Look<T>>, Failure>> + Send,
    {
        let limit = self.pace.limit.unwrap_or(self.limit);
        let (start, mut delay) = (Instant::now(), self.pace.first);
        let mut told = start;
        loop {
            self.sleep(delay).await?;
            let state = match look().await? {
                Ok(Look::Done(value)) => return Ok(value),
                Ok(Look::NotYet(state)) => state,
                Err(error) if is_passing(&error) => format!("unknown ({error})"),
                Err(error) => return Err(failure(format!("find out whether {}", self.what), error)),
            };
            if start.elapsed() >= limit {
                return Err(Failure::build(TooLong { what: self.what.clone(), limit, state })
                    .hint("`aws_polling { delay_seconds = ..., max_attempts = ... }` says how long to wait"));
            }
            if let Some(context) = self.context.filter(|_| told.elapsed() >= NOTICE) {
                told = Instant::now();
                let waited = duration::display(start.elapsed());
                context.events.message(format!("still waiting until {}; it is {state} ({waited})", self.what));
            }
            delay = self.pace.after(delay);
        }
    }

    async fn sleep(&self, delay: Duration) -> Result<(), Failure> {
        match self.context {
            Some(context) => context.unless_cancelled(tokio::time::sleep(delay)).await,
            None => {
                tokio::time::sleep(delay).await;
                Ok(())
            }
        }
    }
}

/// Whether the same question may be answered the next time.
pub(crate) fn is_passing(error: &CloudError) -> bool {
    matches!(error.kind, ErrorKind::Throttled | ErrorKind::Lost | ErrorKind::Unreachable)
}

/// Makes a call again while it fails because what it refers to is too new to be known, or is still in use.
pub(crate) async fn again_while<T, F: Future<Output = CloudResult<T>> + Send>(
    pace: Pace,
    limit: Duration,
    is_reason: impl Fn(&CloudError) -> bool + Send,
    mut call: impl FnMut() -> F + Send,
) -> CloudResult<T> {
    let limit = pace.limit.map_or(limit, |own| limit.min(own));
    let (start, mut delay) = (Instant::now(), pace.first);
    loop {
        match call().await {
            Err(error) if is_reason(&error) && start.elapsed() < limit => {}
            result => return result,
        }
        tokio::time::sleep(delay).await;
        delay = pace.after(delay);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_become_rarer() {
        let pace = Pace::default();
        let mut delays = vec![pace.first];
        for _ in 0..4 {
            delays.push(pace.after(delays[delays.len() - 1]));
        }
        let seconds: Vec<f32> = delays.iter().map(Duration::as_secs_f32).collect();
        assert_eq!(seconds[..5], [0.5, 1.5, 4.5, 5.0, 5.0]);
    }

    #[test]
    fn a_template_says_how_long() {
        let with = |delay_seconds, max_attempts| Pace::default().with(&Polling { delay_seconds, max_attempts });
        assert_eq!(with(None, None), Pace::default());
        assert_eq!(with(Some(30), Some(10)).limit, Some(Duration::from_secs(300)));
        assert_eq!(with(Some(30), None).most, Duration::from_secs(30));
        assert_eq!(with(None, Some(10)).limit, Some(Duration::from_secs(150)));
        assert_eq!(with(Some(0), Some(0)), Pace::default());
    }
}
