//! Blobs on their way to a registry.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use kiln_image::Digest;
use reqwest::Method;
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderValue};
use url::Url;

use super::body::{Meter, Payload, Source, moving};
use super::exchange::{Answer, Call, Target};
use super::repository::Repository;
use super::retry::{Again, Attempts, Fault};
use super::token::Scope;
use crate::error::RegistryError;
use crate::options::{Progress, ProgressSink, Stage};

/// The size of a part where a blob must go in parts; proxies that limit bodies usually do so at 100 MB.
const PART: u64 = 64 * 1024 * 1024;
/// A registry that wants larger parts than this is not obeyed: the memory is not at stake, but the limit is nonsense.
const LARGEST_PART: u64 = 4 * 1024 * 1024 * 1024;

pub(crate) const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// How the bytes are sent. The first is the fastest, and all but a few registries take it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Manner {
    /// In the request that ends the upload.
    Whole,
    /// In one request before it.
    Stream,
    /// In several.
    Parts,
}

impl Manner {
    pub(crate) fn from_number(number: u8) -> Manner {
        match number {
            0 => Manner::Whole,
            1 => Manner::Stream,
            _ => Manner::Parts,
        }
    }
}

/// A blob to bring into a repository.
#[derive(Clone)]
pub(crate) struct Job {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    pub(crate) source: Arc<dyn Source>,
    /// Repositories of the same registry that may have it.
    pub(crate) mount_from: Vec<String>,
    pub(crate) progress: ProgressSink,
}

impl Job {
    pub(crate) fn tell(&self, stage: Stage) {
        let (digest, total) = (self.digest.clone(), self.size);
        (self.progress)(Progress { digest, done: total, total, stage });
    }

    fn part(&self, from: u64, length: u64) -> Payload {
        let tell = Arc::new(moving(&self.progress, &self.digest, self.size));
        let meter = Arc::new(move || {
            let tell = tell.clone();
            Meter::new(move |moved| tell(from + moved))
        });
        Payload::Part { source: self.source.clone(), from, length, meter }
    }
}

/// How one attempt went.
enum Tried {
    Done(Stage),
    /// The registry does not take it this way.
    Otherwise(Manner),
}

/// An upload that a registry has opened.
pub(crate) struct Opened {
    pub(crate) location: Url,
    /// The least size of a part.
    least: u64,
}

impl Repository {
    /// Brings a blob into the repository unless it is there. The whole of it is tried again when something breaks:
    /// registries do not go on where they stopped.
    pub(crate) async fn push_blob(&self, job: &Job) -> Result<Stage, RegistryError> {
        let action = format!("PUT {}@{}", self.path, job.digest);
        let mut manner = Manner::from_number(self.endpoint.manner.load(Ordering::Relaxed));
        let mut attempts = Attempts::default();
        loop {
            match self.push_blob_once(job, manner, attempts.failures() > 0).await {
                Ok(Tried::Done(stage)) => {
                    job.tell(stage);
                    return Ok(stage);
                }
                Ok(Tried::Otherwise(other)) => {
                    self.endpoint.manner.fetch_max(other as u8, Ordering::Relaxed);
                    manner = other;
                }
                Err(fault) => {
                    self.pause(&mut attempts, &action, fault).await?;
                    // Some proxies hang up on large bodies without a word.
                    if attempts.failures() >= 2 && job.size > PART {
                        manner = Manner::Parts;
                    }
                }
            }
        }
    }

    async fn push_blob_once(&self, job: &Job, manner: Manner, is_again: bool) -> Result<Tried, Fault> {
        if self.has_blob(&job.digest, Some(job.size)).await? {
            // After a failure it is there because it had arrived, and only the answer was lost.
            return Ok(Tried::Done(if is_again { Stage::Moved } else { Stage::Present }));
        }
        let opened = match self.mount(job).await? {
            Mount::Done => return Ok(Tried::Done(Stage::Mounted)),
            Mount::Opened(opened) => opened,
            Mount::No => self.open_upload().await?,
        };
        match manner {
            Manner::Whole => self.send_whole(job, opened).await,
            Manner::Stream => self.send_parts(job, opened, job.size, Manner::Stream).await,
            Manner::Parts => {
                let part = PART.max(opened.least.min(LARGEST_PART));
                self.send_parts(job, opened, part, Manner::Parts).await
            }
        }
    }

    /// Whether the repository has a blob. A registry that does not answer that question, or has something of another size,
    /// is taken not to have it.
    pub(crate) async fn has_blob(&self, digest: &Digest, size: Option<u64>) -> Result<bool, Fault> {
        let action = format!("HEAD {}@{digest}", self.path);
        let call = Call::new(Method::HEAD, Target::Path(format!("blobs/{digest}")), Scope::push(&self.path), action);
        let answer = self.once(&call).await?;
        let said = answer.header(CONTENT_LENGTH).and_then(|text| text.parse::<u64>().ok()).filter(|length| *length > 0);
        let is_other = said.is_some_and(|length| size.is_some_and(|size| size != length));
        Ok(answer.is_success() && !is_other)
    }

    /// Asks the registry to take the blob over from another of its repositories.
    async fn mount(&self, job: &Job) -> Result<Mount, Fault> {
        for from in job.mount_from.iter().filter(|from| **from != self.path) {
            if self.endpoint.cannot_mount.load(Ordering::Relaxed) {
                break;
            }
            let pair = (self.path.clone(), from.clone());
            if self.endpoint.may_not_mount.lock().unwrap_or_else(PoisonError::into_inner).contains(&pair) {
                continue;
            }
            let target = Target::Path(format!("blobs/uploads/?mount={}&from={from}", job.digest));
            let action = format!("POST {}@{} from {from}", self.path, job.digest);
            let mut call = Call::new(Method::POST, target, Scope::push(&self.path), action).payload(Payload::empty());
            call.scopes.push(Scope::pull(from));
            let answer = match self.once(&call).await {
                // Nobody may know what is in the other repository; then it is uploaded.
                Err(Fault::Final(RegistryError::Denied { .. })) => {
                    self.endpoint.may_not_mount.lock().unwrap_or_else(PoisonError::into_inner).insert(pair);
                    continue;
                }
                answered => answered?,
            };
            match answer.status() {
                201 => return Ok(Mount::Done),
                202 => return Ok(Mount::Opened(self.opened(&call, &answer)?)),
                404 | 405 | 411 | 501 => self.endpoint.cannot_mount.store(true, Ordering::Relaxed),
                _ => {}
            }
        }
        Ok(Mount::No)
    }

    /// Opens an upload.
    pub(crate) async fn open_upload(&self) -> Result<Opened, Fault> {
        let action = format!("POST {}", self.path);
        let target = Target::Path("blobs/uploads/".to_owned());
        let call = Call::new(Method::POST, target, Scope::push(&self.path), action).payload(Payload::empty());
        let answer = self.once(&call).await?;
        if answer.status() != 202 {
            return Err(self.unexpected(&call, answer).await.into());
        }
        Ok(self.opened(&call, &answer)?)
    }

    fn opened(&self, call: &Call, answer: &Answer) -> Result<Opened, RegistryError> {
        let location = self.location(&answer.response, &answer.url, &call.action)?;
        let least = answer.header("oci-chunk-min-length").and_then(|text| text.trim().parse().ok()).unwrap_or(0);
        Ok(Opened { location, least })
    }

    async fn send_whole(&self, job: &Job, opened: Opened) -> Result<Tried, Fault> {
        let call = self.ending(opened.location, &job.digest).payload(job.part(0, job.size));
        let answer = self.once(&call).await?;
        if answer.is_success() {
            return Ok(Tried::Done(Stage::Moved));
        }
        match answer.status() {
            413 => Ok(Tried::Otherwise(Manner::Parts)),
            404 | 405 | 411 | 415 | 416 | 501 => Ok(Tried::Otherwise(Manner::Stream)),
            _ => Err(self.unexpected(&call, answer).await.into()),
        }
    }

    /// Sends the bytes in requests of at most `part`, then ends the upload.
    async fn send_parts(&self, job: &Job, opened: Opened, part: u64, manner: Manner) -> Result<Tried, Fault> {
        let mut location = opened.location;
        let mut from = 0;
        while from < job.size {
            let length = part.min(job.size - from);
            let action = format!("PATCH {}@{}", self.path, job.digest);
            let mut call = Call::new(Method::PATCH, Target::Url(location.clone()), Scope::push(&self.path), action)
                .header(CONTENT_TYPE, OCTETS)
                .payload(job.part(from, length));
            if manner == Manner::Parts {
                call.headers.insert(CONTENT_RANGE, range(from, length));
            }
            let answer = self.once(&call).await?;
            match answer.status() {
                200..=299 => location = self.location(&answer.response, &answer.url, &call.action)?,
                413 if manner == Manner::Stream => return Ok(Tried::Otherwise(Manner::Parts)),
                // The registry lost the upload, or is not where we are in it.
                404 | 416 => return Err(Again::new(format!("it has lost the upload ({})", answer.status())).into()),
                _ => return Err(self.unexpected(&call, answer).await.into()),
            }
            from += length;
        }
        let call = self.ending(location, &job.digest).payload(Payload::empty());
        let answer = self.once(&call).await?;
        match answer.status() {
            200..=299 => Ok(Tried::Done(Stage::Moved)),
            404 => Err(Again::new("it has lost the upload (404)").into()),
            _ => Err(self.unexpected(&call, answer).await.into()),
        }
    }

    /// The request that ends an upload.
    pub(crate) fn ending(&self, mut location: Url, digest: &Digest) -> Call {
        location.query_pairs_mut().append_pair("digest", digest.as_str());
        let action = format!("PUT {}@{digest}", self.path);
        Call::new(Method::PUT, Target::Url(location), Scope::push(&self.path), action).header(CONTENT_TYPE, OCTETS)
    }
}

enum Mount {
    Done,
    Opened(Opened),
    No,
}

fn range(from: u64, length: u64) -> HeaderValue {
    HeaderValue::try_from(format!("{from}-{}", from + length - 1)).unwrap_or_else(|_| HeaderValue::from_static(""))
}
