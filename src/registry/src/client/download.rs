//! Blobs on their way from a registry.

use std::io::Write;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kiln_image::{BlobWriter, Digest, ImageError, Layout};
use reqwest::Method;
use reqwest::header::{CONTENT_RANGE, HeaderValue, RANGE};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::exchange::{Answer, Call, Target};
use super::manifest::Part;
use super::repository::Repository;
use super::retry::{Again, Attempts, Fault, describe};
use super::shared::silence;
use super::token::Scope;
use crate::error::RegistryError;
use crate::options::{Progress, ProgressSink, Stage};

/// Pieces between network and disk.
const AHEAD: usize = 8;
/// Whoever gets this much further than before has a connection that works at times; the budget starts anew.
const PROGRESS: u64 = 1024 * 1024;
/// Less than this within the time in which a registry may settle is nothing.
const LEAST: u64 = 64 * 1024;

/// A blob that is written and hashed on a thread of its own, so that it keeps pace with the network.
struct Sink {
    pieces: mpsc::Sender<Bytes>,
    writer: JoinHandle<Result<BlobWriter, ImageError>>,
    received: u64,
}

impl Sink {
    fn new(layout: &Layout) -> Sink {
        let (pieces, mut receiver) = mpsc::channel::<Bytes>(AHEAD);
        let layout = layout.clone();
        let writer = tokio::task::spawn_blocking(move || {
            let mut writer = layout.blob_writer()?;
            while let Some(piece) = receiver.blocking_recv() {
                writer.write_all(&piece).map_err(ImageError::io("write", layout.root()))?;
            }
            Ok(writer)
        });
        Sink { pieces, writer, received: 0 }
    }

    /// `false`: the disk does not take any more; [`Sink::close`] tells why.
    async fn write(&mut self, piece: Bytes) -> bool {
        self.received += piece.len() as u64;
        self.pieces.send(piece).await.is_ok()
    }

    async fn close(self) -> Result<BlobWriter, RegistryError> {
        drop(self.pieces);
        let joined = self.writer.await.map_err(|error| RegistryError::Setup(error.into()))?;
        Ok(joined?)
    }
}

/// Who sends a blob byte by byte keeps it for ever.
struct Pace {
    since: Instant,
    bytes: u64,
}

impl Default for Pace {
    fn default() -> Pace {
        Pace { since: Instant::now(), bytes: 0 }
    }
}

impl Pace {
    fn check(&mut self, bytes: u64, window: Duration) -> Result<(), Again> {
        self.bytes += bytes;
        let elapsed = self.since.elapsed();
        if self.bytes >= LEAST {
            *self = Pace::default();
        } else if elapsed >= window {
            let problem = format!("only {} bytes in {} s", self.bytes, elapsed.as_secs());
            return Err(Again { idle: elapsed, ..Again::new(problem) });
        }
        Ok(())
    }
}

/// How far one attempt came.
enum Got {
    All,
    /// The disk failed.
    Full,
}

impl Repository {
    /// Brings a blob into a layout, checked.
    pub(crate) async fn pull_blob(
        &self,
        part: &Part,
        layout: &Layout,
        progress: &ProgressSink,
    ) -> Result<(), RegistryError> {
        let call = self.blob_call(&part.digest);
        let mut attempts = Attempts::default();
        let mut sink = Sink::new(layout);
        let mut furthest = 0;
        let mut is_second = false;
        loop {
            let problem = match self.receive(&call, part, &mut sink, layout, progress).await {
                Ok(_) => {
                    let finished = std::mem::replace(&mut sink, Sink::new(layout));
                    let error = match self.settle(finished, part).await? {
                        None => break,
                        Some(error) => error,
                    };
                    if is_second {
                        return Err(self.damaged(part, error));
                    }
                    is_second = true;
                    Fault::from(Again::new(describe(&error)))
                }
                Err(fault) => fault,
            };
            if sink.received > furthest + PROGRESS {
                attempts.progressed();
                furthest = sink.received;
            }
            self.pause(&mut attempts, &call.action, problem).await?;
        }
        let (digest, total) = (part.digest.clone(), part.size);
        progress(Progress { digest, done: total, total, stage: Stage::Moved });
        Ok(())
    }

    pub(crate) fn blob_call(&self, digest: &Digest) -> Call {
        let action = format!("GET {}@{digest}", self.path);
        Call::new(Method::GET, Target::Path(format!("blobs/{digest}")), Scope::pull(&self.path), action)
    }

    /// Puts the blob in its place; says what is wrong with it.
    async fn settle(&self, sink: Sink, part: &Part) -> Result<Option<ImageError>, RegistryError> {
        let writer = sink.close().await?;
        let (digest, size) = (part.digest.clone(), part.size);
        let finished = tokio::task::spawn_blocking(move || writer.finish_as(&digest, Some(size))).await;
        match finished.map_err(|error| RegistryError::Setup(error.into()))? {
            Ok(()) => Ok(None),
            Err(error @ (ImageError::Mismatch { .. } | ImageError::Size { .. })) => Ok(Some(error)),
            Err(error) => Err(error.into()),
        }
    }

    fn damaged(&self, part: &Part, error: ImageError) -> RegistryError {
        let (registry, wanted) = (self.endpoint.registry.clone(), part.digest.clone());
        RegistryError::Damaged { registry, wanted, source: error.into() }
    }

    /// Receives what is missing; starts anew where the registry does.
    async fn receive(
        &self,
        call: &Call,
        part: &Part,
        sink: &mut Sink,
        layout: &Layout,
        progress: &ProgressSink,
    ) -> Result<Got, Fault> {
        if sink.received >= part.size && part.size > 0 {
            *sink = Sink::new(layout);
        }
        let mut answer = self.open_blob(call, sink.received).await?;
        let continues = answer.status() == 206 && starts_at(&answer, sink.received);
        if sink.received > 0 && !continues {
            *sink = Sink::new(layout);
            if answer.status() != 200 {
                return Err(Again::new("it does not go on where it stopped").into());
            }
        }
        let stall = self.shared.stall();
        let mut pace = Pace::default();
        loop {
            let piece = match tokio::time::timeout(stall, answer.response.chunk()).await {
                Ok(piece) => piece.map_err(Again::from)?,
                Err(_) => return Err(silence(stall).into()),
            };
            let Some(piece) = piece else { break };
            pace.check(piece.len() as u64, self.shared.settling())?;
            if sink.received + piece.len() as u64 > part.size {
                let (wanted, found) = (part.size, sink.received + piece.len() as u64);
                let error = ImageError::Size { digest: part.digest.clone(), wanted, found };
                return Err(self.damaged(part, error).into());
            }
            if !sink.write(piece).await {
                return Ok(Got::Full);
            }
            let (digest, done, total) = (part.digest.clone(), sink.received, part.size);
            progress(Progress { digest, done, total, stage: Stage::Moving });
        }
        if sink.received < part.size {
            return Err(Again::new(format!("it ended after {} of {} bytes", sink.received, part.size)).into());
        }
        Ok(Got::All)
    }

    /// Asks for a blob from a byte on.
    pub(crate) async fn open_blob(&self, call: &Call, from: u64) -> Result<Answer, Fault> {
        let mut call = call.clone();
        if from > 0 {
            let range = HeaderValue::try_from(format!("bytes={from}-"));
            call.headers.insert(RANGE, range.map_err(|error| RegistryError::Setup(error.into()))?);
        }
        let answer = self.once(&call).await?;
        match answer.status() {
            200 | 206 => Ok(answer),
            // It does not know what comes after what we have; the caller starts anew.
            416 if from > 0 => Ok(answer),
            _ => Err(self.unexpected(&call, answer).await.into()),
        }
    }
}

fn starts_at(answer: &Answer, from: u64) -> bool {
    let range = answer.header(CONTENT_RANGE).and_then(|text| text.trim().strip_prefix("bytes "));
    range.and_then(|range| range.split('-').next()).and_then(|start| start.parse().ok()) == Some(from)
}
