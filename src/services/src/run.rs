//! Starting services in their order, and finding out when they are ready.

use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use kiln_core::health::{Health, HealthCheck};
use kiln_core::{BuildContext, Failure, duration};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::log::keep_log;
use crate::service::{Service, Wait};

/// Between the first two looks at something that is waited for; each further wait is twice as long.
const FIRST_LOOK: Duration = Duration::from_millis(50);
/// The longest wait between two looks, whatever a check's interval is.
const LAST_LOOK: Duration = Duration::from_secs(1);

/// After this long, a service that was just started is looked at once more: one that cannot even begin has ended by then.
const SETTLED: Duration = Duration::from_millis(100);

/// How a service's first process is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It runs.
    Running,
    /// It ended with this status.
    Ended(i64),
}

/// What services run in. `service` is a position in the list of all.
#[async_trait]
pub trait ServiceHost: Send + Sync {
    /// Starts a service. Notes every undo in the journal first. Not stopped halfway.
    async fn start(&self, service: usize, context: &BuildContext) -> Result<(), Failure>;

    /// How it is doing.
    async fn status(&self, service: usize) -> Result<Status, Failure>;

    /// Runs a command in it, as its user; returns the exit status and what it printed.
    async fn run(&self, service: usize, command: &[String]) -> Result<(i64, Vec<u8>), Failure>;

    /// The health check that its image brings.
    fn image_health(&self, service: usize) -> Option<HealthCheck>;

    /// What it has written to its log so far; bounded, the end is there in any case.
    async fn log(&self, service: usize) -> Result<Vec<u8>, Failure>;
}

/// Why a service is not as it is waited for.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// Its health check never succeeded.
    #[error("service `{name}` did not become healthy within {}: {last}", duration::display(*waited))]
    NotHealthy {
        /// Its name.
        name: String,
        /// How long it was waited for.
        waited: Duration,
        /// What the last check said.
        last: String,
    },
    /// It ended, and was to run on.
    #[error("service `{name}` ended with status {status} {}", when(*wait))]
    Ended {
        /// Its name.
        name: String,
        /// Of its first process.
        status: i64,
        /// What it was waited for.
        wait: Wait,
    },
    /// It was to end, and has failed.
    #[error("service `{name}` failed with status {status}")]
    Failed {
        /// Its name.
        name: String,
        /// Of its first process.
        status: i64,
    },
    /// It was to end, and runs on.
    #[error("service `{name}` did not end within {}", duration::display(*waited))]
    NotEnded {
        /// Its name.
        name: String,
        /// How long it was waited for.
        waited: Duration,
    },
    /// Nobody knows how it is to be found out.
    #[error("service `{name}` is waited for to be healthy, and neither the template nor its image has a health check")]
    NoHealthCheck {
        /// Its name.
        name: String,
    },
}

fn when(wait: Wait) -> &'static str {
    match wait {
        Wait::Healthy => "before it was healthy",
        Wait::Started | Wait::Completed => "as soon as it was started",
    }
}

/// Starts all services, side by side but for those that come after others, and waits until all are ready. Where one is not, its
/// log is shown, and those of all are kept; what was started is left as it is.
///
/// # Errors
/// The first failure in the order of the list, with the place of the service's block.
pub async fn start_all(host: &dyn ServiceHost, services: &[Service], context: &BuildContext) -> Result<(), Failure> {
    let ready: Vec<watch::Sender<bool>> = services.iter().map(|_| watch::Sender::new(false)).collect();
    // Ends the waiting alone: what is being made is made, so that somebody knows of it.
    let stop = context.cancel.child_token();
    let start = Start { host, services, context, ready: &ready, stop: &stop };
    let results = join_all((0..services.len()).map(|index| start.one(index))).await;
    if context.cancel.is_cancelled() {
        return Err(Failure::cancelled());
    }
    let has_failed: Vec<bool> = results.iter().map(Result::is_err).collect();
    let failed = results.into_iter().zip(services).find_map(|(result, service)| Some((result.err()?, service)));
    let Some((failure, service)) = failed else { return Ok(()) };
    for (index, (service, has_failed)) in services.iter().zip(has_failed).enumerate() {
        match host.log(index).await {
            Ok(log) => keep_log(&service.name, log, has_failed, context).await,
            // One that was not started has none.
            Err(error) if has_failed => {
                let text = format!("cannot read the log of service {}: {}", service.name, error.chain());
                context.events.warn(text);
            }
            Err(_) => {}
        }
    }
    Err(failure.within(service.span))
}

/// Services that are being started.
#[derive(Clone, Copy)]
struct Start<'a> {
    host: &'a dyn ServiceHost,
    services: &'a [Service],
    context: &'a BuildContext,
    ready: &'a [watch::Sender<bool>],
    stop: &'a CancellationToken,
}

impl Start<'_> {
    /// One of them, when its turn has come. Where another one fails meanwhile, which is told, this one is no failure.
    async fn one(self, index: usize) -> Result<(), Failure> {
        for before in &self.services[index].after {
            let mut ready = self.ready[*before].subscribe();
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return Ok(()),
                _ = ready.wait_for(|is_ready| *is_ready) => {}
            }
        }
        let started = self.begin(index).await;
        match &started {
            Ok(()) => {
                self.ready[index].send_replace(true);
            }
            Err(_) => self.stop.cancel(),
        }
        started
    }

    async fn begin(self, index: usize) -> Result<(), Failure> {
        let (service, events) = (&self.services[index], &self.context.events);
        events.message(format!("starting service {} ({})", service.name, service.image));
        let began = Instant::now();
        self.host.start(index, self.context).await?;
        let ready = tokio::select! {
            biased;
            () = self.stop.cancelled() => return Ok(()),
            ready = until_ready(self.host, index, service) => ready?,
        };
        let took = duration::display(began.elapsed());
        match ready {
            Wait::Healthy => events.message(format!("service {} is healthy after {took}", service.name)),
            Wait::Completed => events.message(format!("service {} is done after {took}", service.name)),
            Wait::Started => {}
        }
        Ok(())
    }
}

/// Waits for what a service is waited for; returns what that was.
async fn until_ready(host: &dyn ServiceHost, index: usize, service: &Service) -> Result<Wait, Failure> {
    let name = || service.name.clone();
    let health = match service.health.clone().or_else(|| host.image_health(index)) {
        Some(HealthCheck::By(health)) => Some(health),
        Some(HealthCheck::Off) | None => None,
    };
    match (service.wait, health) {
        (None | Some(Wait::Healthy), Some(health)) => {
            until_healthy(host, index, service, &health).await.map(|()| Wait::Healthy)
        }
        (Some(Wait::Healthy), None) => {
            let failure = Failure::build(ServiceError::NoHealthCheck { name: name() });
            Err(failure.hint("add a `health_check` block, or wait for it to be `started`"))
        }
        (None | Some(Wait::Started), _) => {
            tokio::time::sleep(SETTLED).await;
            match host.status(index).await? {
                Status::Running => Ok(Wait::Started),
                Status::Ended(status) => {
                    let failure = Failure::build(ServiceError::Ended { name: name(), status, wait: Wait::Started });
                    Err(failure.hint("if it is meant to end, write `wait = \"completed\"`"))
                }
            }
        }
        (Some(Wait::Completed), _) => until_ended(host, index, service).await.map(|()| Wait::Completed),
    }
}

async fn until_ended(host: &dyn ServiceHost, index: usize, service: &Service) -> Result<(), Failure> {
    let (began, mut look) = (Instant::now(), FIRST_LOOK);
    loop {
        match host.status(index).await? {
            Status::Ended(0) => return Ok(()),
            Status::Ended(status) => {
                return Err(Failure::build(ServiceError::Failed { name: service.name.clone(), status }));
            }
            Status::Running if began.elapsed() >= service.wait_timeout => {
                let (name, waited) = (service.name.clone(), service.wait_timeout);
                let failure = Failure::build(ServiceError::NotEnded { name, waited });
                return Err(failure.hint("`wait_timeout` bounds how long it is waited for"));
            }
            Status::Running => {}
        }
        tokio::time::sleep(look).await;
        look = (look * 2).min(LAST_LOOK);
    }
}

/// Runs a health check until it succeeds: soon again at first, and at least each second, so that nobody waits for an interval
/// that was chosen for a service which runs for years.
async fn until_healthy(
    host: &dyn ServiceHost,
    index: usize,
    service: &Service,
    health: &Health,
) -> Result<(), Failure> {
    let (name, limit) = (service.name.as_str(), service.wait_timeout);
    let waited = limit.min(health.patience());
    let (began, mut look) = (Instant::now(), FIRST_LOOK);
    let mut last = None;
    loop {
        if let Status::Ended(status) = host.status(index).await? {
            return Err(Failure::build(ServiceError::Ended { name: name.to_owned(), status, wait: Wait::Healthy }));
        }
        // On a busy host the first one may need longer than all are waited for, and nobody would know what it says.
        let until = if last.is_none() { limit } else { waited };
        let bound = health.timeout.min(until.saturating_sub(began.elapsed()).max(FIRST_LOOK));
        let said = match tokio::time::timeout(bound, host.run(index, &health.command)).await {
            Ok(Ok((0, _))) => return Ok(()),
            Ok(Ok((code, output))) => says(&health.command, &format!("exits with {code}"), &output),
            // It ended between the look at it and the check.
            Ok(Err(_)) if matches!(host.status(index).await?, Status::Ended(_)) => continue,
            Ok(Err(failure)) => says(&health.command, "cannot run", failure.chain().as_bytes()),
            // Cut short because the time is up: what the one before said tells more.
            Err(_) if bound < health.timeout && last.is_some() => last.take().unwrap_or_default(),
            Err(_) => {
                let how = format!("did not end within {}", duration::display(bound));
                says(&health.command, &how, &[])
            }
        };
        let last = last.insert(said);
        if began.elapsed() + look >= waited {
            let last = std::mem::take(last);
            let failure = Failure::build(ServiceError::NotHealthy { name: name.to_owned(), waited, last });
            let what =
                if limit <= health.patience() { "`wait_timeout`" } else { "`start_period`, `interval` and `retries`" };
            return Err(failure.hint(format!("if it needs longer to start, {what} bound how long it is waited for")));
        }
        tokio::time::sleep(look).await;
        look = (look * 2).min(LAST_LOOK).min(health.interval.max(FIRST_LOOK));
    }
}

/// What a check said: its end alone, on one line.
fn says(command: &[String], how: &str, output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    let last = text.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or_default();
    let words = match command {
        [shell, flag, script] if shell == "/bin/sh" && flag == "-c" => script.clone(),
        words => words.join(" "),
    };
    let separator = if last.is_empty() { "" } else { ": " };
    format!("its health check `{words}` {how}{separator}{last}")
}

#[cfg(test)]
mod tests;
