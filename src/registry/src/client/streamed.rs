//! Blobs that are uploaded while they are being made.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use kiln_image::Digest;
use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use url::Url;

use super::body::{Feed, Meter, Payload};
use super::exchange::{Call, Target};
use super::repository::Repository;
use super::retry::{Attempts, Fault};
use super::shared::silence;
use super::token::Scope;
use super::upload::OCTETS;
use crate::error::RegistryError;

/// An upload on its way. It cannot be replayed: when it fails, push the blob from a file.
pub struct Upload {
    repository: Repository,
    pieces: Option<mpsc::Sender<io::Result<Bytes>>>,
    /// Ends with the place of the finished upload.
    transfer: JoinHandle<Result<Url, RegistryError>>,
    location: Url,
}

impl Upload {
    pub(crate) async fn start(repository: Repository) -> Result<Upload, RegistryError> {
        let action = format!("POST {}", repository.path);
        let mut attempts = Attempts::default();
        let location = loop {
            match repository.open_upload().await {
                Ok(opened) => break opened.location,
                Err(fault) => repository.pause(&mut attempts, &action, fault).await?,
            }
        };
        let meter = Meter::silent();
        let (body, feed) = Feed::new(None, meter.clone());
        let (pieces, mut made) = mpsc::channel(1);
        let action = format!("PATCH {}", repository.path);
        let call = Call::new(Method::PATCH, Target::Url(location.clone()), Scope::push(&repository.path), action)
            .header(CONTENT_TYPE, OCTETS)
            .payload(Payload::Once(Arc::new(Mutex::new(Some((feed, meter))))));
        let sender = repository.clone();
        let transfer = tokio::spawn(async move {
            // Ends with the request, which whoever waits to write more must notice; the connection may keep the body for long.
            let relay = async move {
                while let Some(piece) = made.recv().await {
                    if body.send(piece).await.is_err() {
                        break;
                    }
                }
                drop(body);
                std::future::pending::<std::convert::Infallible>().await
            };
            let answer = tokio::select! {
                answer = sender.once(&call) => answer,
                never = relay => match never {},
            };
            let answer = match answer {
                Ok(answer) => answer,
                // One try is all there is: the error is what the pause would end with.
                Err(fault) => return Err(sender.give_up(&call.action, fault)),
            };
            if !answer.is_success() {
                return Err(sender.unexpected(&call, answer).await);
            }
            sender.location(&answer.response, &answer.url, &call.action)
        });
        Ok(Upload { repository, pieces: Some(pieces), transfer, location })
    }

    /// Sends more; waits while the registry is slower.
    ///
    /// # Errors
    /// The upload has failed; it is of no use any more.
    pub async fn write(&mut self, bytes: Bytes) -> Result<(), RegistryError> {
        let Some(pieces) = &self.pieces else { return Err(self.ended()) };
        let stall = self.repository.shared.stall();
        match tokio::time::timeout(stall, pieces.send(Ok(bytes))).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => {
                self.pieces = None;
                match (&mut self.transfer).await {
                    Ok(Err(error)) => Err(error),
                    _ => Err(self.ended()),
                }
            }
            Err(_) => {
                self.pieces = None;
                let again = silence(stall);
                Err(self.repository.give_up(&format!("PATCH {}", self.repository.path), again.into()))
            }
        }
    }

    /// The same for callers outside of asynchronous code.
    ///
    /// # Errors
    /// The upload has failed; it is of no use any more.
    pub fn blocking_write(&mut self, bytes: Bytes) -> Result<(), RegistryError> {
        match &self.pieces {
            Some(pieces) if pieces.blocking_send(Ok(bytes)).is_ok() => Ok(()),
            _ => {
                self.pieces = None;
                Err(self.ended())
            }
        }
    }

    /// Ends it; the registry checks the digest.
    ///
    /// # Errors
    /// The upload has failed.
    pub async fn finish(mut self, digest: &Digest) -> Result<(), RegistryError> {
        self.pieces = None;
        let location = (&mut self.transfer).await.map_err(|error| RegistryError::Setup(error.into()))??;
        let call = self.repository.ending(location, digest).payload(Payload::empty());
        let mut attempts = Attempts::default();
        loop {
            match self.repository.once(&call).await {
                Ok(answer) if answer.is_success() => return Ok(()),
                Ok(answer) => return Err(self.repository.unexpected(&call, answer).await),
                Err(fault) => self.repository.pause(&mut attempts, &call.action, fault).await?,
            }
            // It may have arrived, and only the answer was lost: the upload is over then, and cannot be ended again.
            match self.repository.has_blob(digest, None).await {
                Ok(true) => return Ok(()),
                Err(Fault::Again(again)) => attempts.idled(&again),
                _ => {}
            }
        }
    }

    /// Gives it up; what the registry has of it is removed as far as it can be.
    pub async fn abort(self) {
        self.transfer.abort();
        let action = format!("DELETE {}", self.repository.path);
        let scope = Scope::push(&self.repository.path);
        let call = Call::new(Method::DELETE, Target::Url(self.location.clone()), scope, action);
        // Registries drop unfinished uploads in time.
        let _ = self.repository.once(&call).await;
    }

    fn ended(&self) -> RegistryError {
        self.repository.refused(&format!("PATCH {}", self.repository.path), "the upload has ended")
    }
}

/// Without the address, which may hold what is nobody's business.
impl fmt::Debug for Upload {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Upload").field("repository", &self.repository).finish_non_exhaustive()
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.transfer.abort();
    }
}
