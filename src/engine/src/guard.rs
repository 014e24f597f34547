//! Runs foreign code under a watch: it can be cancelled, it can time out, it can panic, and the engine goes on.

use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;
use kiln_core::{Events, Failure, FailureClass, duration};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::error::EngineError;

/// How long work may go on after it was told to stop.
pub(crate) const GRACE: Duration = Duration::from_secs(5);
/// How long removing one thing may take once the user is in a hurry (a second Ctrl-C).
pub(crate) const HURRIED_LIMIT: Duration = Duration::from_secs(5);
/// After this long, a wait says what it waits for.
const NOTICE: Duration = Duration::from_secs(3);

/// How the user stops a run: first politely, then in a hurry.
#[derive(Debug, Clone)]
pub(crate) struct Stop {
    pub(crate) cancel: CancellationToken,
    pub(crate) hurry: CancellationToken,
}

impl Stop {
    /// Fails once the user stopped the run.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        if self.cancel.is_cancelled() { Err(Failure::cancelled()) } else { Ok(()) }
    }
}

/// Runs work that heeds `token`. When the user stops the run, or `timeout` is over, the token is cancelled and the work
/// gets [`GRACE`] to end by itself; then it is dropped. Work that ends well although the run was stopped gives its
/// value: there may be a machine in it that must be removed.
pub(crate) async fn supervise<T>(
    stop: &Stop,
    token: &CancellationToken,
    timeout: Option<Duration>,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let work = catch(work);
    tokio::pin!(work);
    let expired = async {
        match timeout {
            Some(limit) => {
                sleep(limit).await;
                limit
            }
            None => std::future::pending().await,
        }
    };
    let overdue = tokio::select! {
        biased;
        result = &mut work => return as_cancelled(stop, result),
        () = stop.cancel.cancelled() => None,
        limit = expired => Some(limit),
    };
    token.cancel();
    let grace = async {
        tokio::select! {
            () = sleep(GRACE) => {}
            () = stop.hurry.cancelled() => {}
        }
    };
    let ended = tokio::select! {
        biased;
        result = &mut work => Some(result),
        () = grace => None,
    };
    match (overdue, ended) {
        // Done just in time: what it was to do is done.
        (Some(_), Some(Ok(value))) => Ok(value),
        (Some(limit), _) => Err(Failure::build(EngineError::TimedOut { limit })
            .hint("raise its `timeout`, or find out what it waits for with `-debug`")),
        (None, Some(result)) => as_cancelled(stop, result),
        (None, None) => Err(Failure::cancelled()),
    }
}

/// Whatever fails once the run is stopped fails because of that; a bug stays a bug.
fn as_cancelled<T>(stop: &Stop, result: Result<T, Failure>) -> Result<T, Failure> {
    match result {
        Err(failure) if stop.cancel.is_cancelled() && failure.class != FailureClass::Bug => Err(Failure::cancelled()),
        other => other,
    }
}

/// Runs work that removes something: bounded, also in a hurry, and not stopped by the user's first Ctrl-C. `what` reads
/// on from "still", e.g. `removing the machine`.
pub(crate) async fn bounded<T>(
    hurry: &CancellationToken,
    events: &Events,
    what: &str,
    limit: Duration,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let work = catch(work);
    tokio::pin!(work);
    let most = limit;
    let limit = async {
        tokio::select! {
            () = sleep(most) => most,
            () = async { hurry.cancelled().await; sleep(HURRIED_LIMIT).await } => HURRIED_LIMIT,
        }
    };
    tokio::pin!(limit);
    let too_long = |limit| Err(Failure::build(EngineError::TookTooLong { what: what.to_owned(), limit }));
    tokio::select! {
        biased;
        result = &mut work => return result,
        limit = &mut limit => return too_long(limit),
        () = sleep(NOTICE) => {}
    }
    events.message(format!("still {what}; waiting at most {}", duration::display(most)));
    tokio::select! {
        biased;
        result = &mut work => result,
        limit = &mut limit => too_long(limit),
    }
}

async fn catch<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    // A component is not used again after a panic, but for `destroy`, which must be safe in any state.
    AssertUnwindSafe(work).catch_unwind().await.unwrap_or_else(|panic| Err(bug(panic.as_ref())))
}

/// A panic as a failure.
pub(crate) fn bug(panic: &(dyn Any + Send)) -> Failure {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let message = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "it panicked".to_owned());
    Failure::new(FailureClass::Bug, EngineError::Panicked { message })
        .hint("this is a mistake in kiln itself; please report it with the template and the output")
}
