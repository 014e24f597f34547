//! When something that failed is tried again, and when it is given up.

use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use super::endpoint::Endpoint;
use super::shared::Shared;
use crate::error::{Cause, RegistryError};
use crate::options::Note;

/// The wait after the first failure; it doubles with each.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// A host that never answered is more likely misspelt than restarting: this part of the budget must do.
const UNKNOWN_HOST_PART: u32 = 8;

/// Why one attempt did not do.
#[derive(Debug)]
pub(crate) enum Fault {
    /// It may go well next time.
    Again(Again),
    /// It will not.
    Final(RegistryError),
}

/// A failure that may pass.
#[derive(Debug)]
pub(crate) struct Again {
    /// What happened.
    pub(crate) problem: Cause,
    /// The wait that the registry asks for.
    pub(crate) after: Option<Duration>,
    /// How long the attempt went on without any byte moving.
    pub(crate) idle: Duration,
    /// Nothing answered at all.
    pub(crate) unreachable: bool,
}

impl Again {
    pub(crate) fn new(problem: impl Into<Cause>) -> Again {
        Again { problem: problem.into(), after: None, idle: Duration::ZERO, unreachable: false }
    }
}

impl From<RegistryError> for Fault {
    fn from(error: RegistryError) -> Fault {
        Fault::Final(error)
    }
}

impl From<Again> for Fault {
    fn from(again: Again) -> Fault {
        Fault::Again(again)
    }
}

/// The attempts at one thing. What counts against the budget is time in which nothing moved.
#[derive(Debug, Default)]
pub(crate) struct Attempts {
    failures: u32,
    spent: Duration,
}

/// Whose attempts they are, for messages.
pub(crate) struct Subject<'a> {
    pub(crate) registry: &'a str,
    pub(crate) action: &'a str,
    /// The host has answered before.
    pub(crate) is_known: bool,
}

impl Attempts {
    /// How many have failed.
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }

    /// Time went by in something that belongs to an attempt, and nothing moved.
    pub(crate) fn idled(&mut self, again: &Again) {
        self.spent += again.idle;
    }

    /// The last attempt got further than all before: the count starts anew.
    pub(crate) fn progressed(&mut self) {
        *self = Attempts::default();
    }

    /// Waits before the next attempt, or gives up.
    pub(crate) async fn pause(
        &mut self,
        shared: &Shared,
        endpoint: &Endpoint,
        action: &str,
        again: Again,
    ) -> Result<(), RegistryError> {
        let is_known = endpoint.is_known.load(Ordering::Relaxed);
        let subject = Subject { registry: &endpoint.registry, action, is_known };
        let wait = self.next_wait(shared.options.budget, &subject, &again, jitter())?;
        if !again.unreachable || endpoint.may_tell(wait) {
            let problem = describe(again.problem.as_ref());
            shared.note(Note::Retry { action: format!("{action} at {}", endpoint.registry), problem, wait });
        }
        tokio::time::sleep(wait).await;
        Ok(())
    }

    /// `jitter` is between 0 and 1.
    fn next_wait(
        &mut self,
        budget: Duration,
        subject: &Subject<'_>,
        again: &Again,
        jitter: f64,
    ) -> Result<Duration, RegistryError> {
        self.failures += 1;
        self.spent += again.idle;
        let registry = subject.registry.to_owned();
        let action = subject.action.to_owned();
        let left = budget.saturating_sub(self.spent);
        let doubled = FIRST_WAIT.saturating_mul(1 << (self.failures - 1).min(16)).min(LONGEST_WAIT);
        let own = doubled.mul_f64(0.5 + jitter / 2.0);
        let wait = match again.after {
            Some(wait) if wait > left => return Err(RegistryError::TooMany { registry, action, wait }),
            // Everybody was told the same: not all at the same moment again.
            Some(wait) if self.failures == 1 => (wait + Duration::from_millis(250).mul_f64(jitter)).min(left),
            // Who is told to come again at once, again and again, is told nothing.
            Some(wait) => wait.max(own),
            None => own,
        };
        let is_lost = again.unreachable && !subject.is_known;
        let limit = if is_lost { left.saturating_sub(budget - budget / UNKNOWN_HOST_PART) } else { left };
        if wait > limit {
            let source = copy(again.problem.as_ref());
            let (attempts, elapsed) = (self.failures, self.spent);
            return Err(RegistryError::Unavailable { registry, action, attempts, elapsed, source });
        }
        self.spent += wait;
        Ok(wait)
    }
}

/// An error's chain in one line, as an error of its own.
fn copy(error: &(dyn std::error::Error + 'static)) -> Cause {
    describe(error).into()
}

/// Links of a connection's chain of errors that only name a layer of the client.
const LAYERS: [&str; 4] = ["client error (Connect)", "client error (SendRequest)", "tcp connect error", "dns error"];

/// An error's chain in one line; a cause that its parent's text repeats is left out, and so is what only leads to the next.
pub(crate) fn describe(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let part = error.to_string();
        cause = error.source();
        let is_layer = cause.is_some() && LAYERS.contains(&part.as_str());
        if !is_layer && !text.contains(&part) {
            text = format!("{text}: {part}");
        }
    }
    text
}

/// Between 0 and 1; good enough to keep clients apart.
fn jitter() -> f64 {
    f64::from(uuid::Uuid::new_v4().as_fields().0) / f64::from(u32::MAX)
}

/// `Retry-After`: seconds, or a date.
pub(crate) fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    Some(parse_date(value)?.duration_since(now).unwrap_or_default())
}

/// The date form that HTTP prescribes: `Sun, 06 Nov 1994 08:49:37 GMT`. Source: RFC 9110, 5.6.7.
fn parse_date(text: &str) -> Option<SystemTime> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let rest = text.split_once(", ")?.1.strip_suffix(" GMT")?;
    let mut words = rest.split(' ');
    let day: i64 = words.next()?.parse().ok().filter(|day| (1..=31).contains(day))?;
    let name = words.next()?;
    let month = MONTHS.iter().position(|month| *month == name)? as i64 + 1;
    // Four digits, as the form has it: what is made of more fits no clock.
    let year: i64 = words.next()?.parse().ok().filter(|year| (0..10_000).contains(year))?;
    let mut time =
        words.next()?.splitn(3, ':').map(|part| part.parse::<i64>().ok().filter(|part| (0..=60).contains(part)));
    let (hour, minute, second) = (time.next()??, time.next()??, time.next()??);
    // Days since 1970 by the civil calendar, years counted from March.
    let (shifted_year, shifted_month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * shifted_year + shifted_year / 4 - shifted_year / 100
        + shifted_year / 400
        + (153 * shifted_month + 2) / 5
        + day
        - 1
        - 719_468;
    let seconds = u64::try_from(((days * 24 + hour) * 60 + minute) * 60 + second).ok()?;
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUBJECT: Subject<'_> = Subject { registry: "r", action: "GET x", is_known: true };

    #[test]
    fn a_wait_is_given_in_seconds_or_as_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777 - 30);
        assert_eq!(retry_after("2", now), Some(Duration::from_secs(2)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:37 GMT", now), Some(Duration::from_secs(30)));
        let leap = SystemTime::UNIX_EPOCH + Duration::from_secs(1_709_164_800);
        assert_eq!(retry_after("Thu, 29 Feb 2024 00:00:10 GMT", leap), Some(Duration::from_secs(10)));
        assert_eq!(retry_after("Thu, 29 Feb 2024 00:00:00 GMT", SystemTime::now()), Some(Duration::ZERO));
        let malicious = format!("Sun, 06 Nov {} 08:49:37 GMT", i64::MAX);
        let late = "Sun, 06 Nov 1994 9223372036854775807:49:37 GMT";
        let wrong = ["", "-1", "soon", "Sun, 06 Foo 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:49 GMT", &malicious, late];
        for wrong in wrong {
            assert_eq!(retry_after(wrong, now), None, "{wrong}");
        }
    }

    #[test]
    fn an_error_is_told_without_the_layers_of_the_client() {
        #[derive(Debug, thiserror::Error)]
        #[error("{0}")]
        struct Link(&'static str, #[source] Option<Box<Link>>);
        let chain = ["refused (os error 111)", "tcp connect error", "client error (Connect)", "error sending request"];
        let whole = chain.into_iter().fold(None, |below, text| Some(Box::new(Link(text, below)))).unwrap();
        assert_eq!(describe(&whole), "error sending request: refused (os error 111)");
        assert_eq!(describe(&Link("failed", Some(Box::new(Link("dns error", None))))), "failed: dns error");
    }

    #[test]
    fn waits_double_up_to_the_budget() {
        let mut attempts = Attempts::default();
        let mut waits = Vec::new();
        let error = loop {
            match attempts.next_wait(Duration::from_secs(60), &SUBJECT, &Again::new("503"), 1.0) {
                Ok(wait) => waits.push(wait.as_secs_f64()),
                Err(error) => break error,
            }
        };
        assert_eq!(waits, [0.5, 1.0, 2.0, 4.0, 8.0, 16.0]);
        assert!(matches!(error, RegistryError::Unavailable { attempts: 7, .. }), "{error:?}");
    }

    #[test]
    fn idle_time_counts_and_a_host_that_never_answered_gets_less() {
        let mut attempts = Attempts::default();
        let again = Again { idle: Duration::from_secs(60), ..Again::new("silence") };
        assert!(attempts.next_wait(Duration::from_secs(60), &SUBJECT, &again, 0.0).is_err());

        let unknown = Subject { is_known: false, ..SUBJECT };
        let refused = || Again { unreachable: true, ..Again::new("refused") };
        let mut attempts = Attempts::default();
        let mut waits = 0;
        while attempts.next_wait(Duration::from_secs(80), &unknown, &refused(), 1.0).is_ok() {
            waits += 1;
        }
        assert_eq!(waits, 4);
    }

    #[test]
    fn the_wait_that_a_registry_asks_for_holds_within_the_budget() {
        let asked = |seconds| Again { after: Some(Duration::from_secs(seconds)), ..Again::new("429") };
        let mut attempts = Attempts::default();
        assert_eq!(attempts.next_wait(Duration::from_secs(60), &SUBJECT, &asked(7), 0.0).unwrap().as_secs(), 7);
        let error = attempts.next_wait(Duration::from_secs(60), &SUBJECT, &asked(54), 0.0).unwrap_err();
        assert!(error.to_string().contains("54 s"), "{error}");
    }

    #[test]
    fn who_is_told_to_come_again_at_once_does_so_once() {
        let mut attempts = Attempts::default();
        let again = || Again { after: Some(Duration::ZERO), ..Again::new("429") };
        let mut waits = Vec::new();
        let error = loop {
            match attempts.next_wait(Duration::from_secs(20), &SUBJECT, &again(), 1.0) {
                Ok(wait) => waits.push(wait.as_secs_f64()),
                Err(error) => break error,
            }
        };
        assert_eq!(waits, [0.25, 1.0, 2.0, 4.0, 8.0]);
        assert!(matches!(error, RegistryError::Unavailable { .. }), "{error:?}");
    }
}
