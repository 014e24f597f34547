//! Blobs of one registry as the source for another.

use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use kiln_image::Digest;

use super::body::{Feed, Meter, Source};
use super::repository::Repository;
use super::retry::{Again, Fault};
use super::shared::silence;

/// A blob of a repository. It goes through memory, piece by piece; the receiving registry checks it.
#[derive(Debug)]
pub(crate) struct RemoteSource {
    repository: Repository,
    digest: Digest,
}

impl RemoteSource {
    pub(crate) fn new(repository: Repository, digest: Digest) -> RemoteSource {
        RemoteSource { repository, digest }
    }
}

#[async_trait]
impl Source for RemoteSource {
    async fn open(&self, from: u64, length: u64, meter: Arc<Meter>) -> Result<Feed, Fault> {
        let call = self.repository.blob_call(&self.digest);
        let mut answer = self.repository.open_blob(&call, from).await?;
        if from > 0 && answer.status() != 206 {
            return Err(Again::new("the source does not give parts of a blob").into());
        }
        let stall = self.repository.shared.stall();
        let (sender, feed) = Feed::new(Some(length), meter);
        tokio::spawn(async move {
            let mut left = length;
            while left > 0 {
                let piece = match tokio::time::timeout(stall, answer.response.chunk()).await {
                    Ok(Ok(Some(piece))) => Ok(piece),
                    Ok(Ok(None)) => return,
                    Ok(Err(error)) => Err(io::Error::other(error.without_url())),
                    Err(_) => Err(io::Error::other(silence(stall).problem)),
                };
                // A part ends amid what the source sends.
                let piece =
                    piece.map(|mut piece| piece.split_to(piece.len().min(usize::try_from(left).unwrap_or(usize::MAX))));
                let is_over = piece.is_err();
                left -= piece.as_ref().map_or(0, |piece| piece.len() as u64);
                if sender.send(piece).await.is_err() || is_over {
                    return;
                }
            }
        });
        Ok(feed)
    }
}
