//! A tree that comes by SFTP. It is made an archive on the way, so that the one careful unpacker writes it: the machine is
//! not trusted.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use kiln_core::communicator::CommunicatorError;
use kiln_transport::tar::ByteStream;
use kiln_transport::unpack::{UnpackOptions, unpack_stream};
use tokio::sync::mpsc;

use super::link::{failed, refused};
use super::sftp::Reading;
use crate::sftp::{Attributes, Sftp, SftpError};

/// How many pieces may wait to be written.
const PIECES_WAITING: usize = 16;

/// Size of a block of an archive, in bytes.
const BLOCK: u64 = 512;

/// Brings a directory's content to `to`.
pub(super) async fn fetch(sftp: Sftp, from: &str, action: &str, to: &Path) -> Result<(), CommunicatorError> {
    let (pieces, mut receiver) = mpsc::channel::<io::Result<Bytes>>(PIECES_WAITING);
    let failure: Arc<Mutex<Option<SftpError>>> = Arc::default();
    let stream: ByteStream = Box::pin(futures_util::stream::poll_fn(move |context| receiver.poll_recv(context)));
    let root = from.trim_end_matches('/').to_owned();
    let walk = async {
        let archive = Archive { sftp: &sftp, pieces };
        if let Err(error) = archive.all(&root).await {
            // The unpacker must not take a part for the whole.
            let _ = archive.pieces.send(Err(io::ErrorKind::ConnectionAborted.into())).await;
            *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        }
    };
    let ((), unpacked) = tokio::join!(walk, unpack_stream(stream, to, UnpackOptions::as_tar_does(false)));
    let failure = failure.lock().unwrap_or_else(PoisonError::into_inner).take();
    match failure {
        // The unpacker gave up first, and says why.
        Some(SftpError::Ended) if unpacked.is_err() => unpacked.map(drop).map_err(Into::into),
        Some(SftpError::Gone(error)) => Err(failed(action, error)),
        Some(error) => Err(refused(action, error)),
        None => unpacked.map(drop).map_err(Into::into),
    }
}

struct Archive<'a> {
    sftp: &'a Sftp,
    pieces: mpsc::Sender<io::Result<Bytes>>,
}

impl Archive<'_> {
    async fn all(&self, root: &str) -> Result<(), SftpError> {
        let attributes = self.sftp.stat(&format!("{root}/")).await?;
        self.header(".", &attributes, tar::EntryType::Directory, 0, None).await?;
        let mut next = vec![String::new()];
        while let Some(inside) = next.pop() {
            for entry in self.sftp.list(&format!("{root}/{inside}")).await? {
                if entry.name.is_empty() || entry.name.contains('/') {
                    return Err(SftpError::Protocol("a name"));
                }
                let path = format!("{inside}{}", entry.name);
                let whole = format!("{root}/{path}");
                if entry.attributes.is_directory() {
                    self.header(&path, &entry.attributes, tar::EntryType::Directory, 0, None).await?;
                    next.push(format!("{path}/"));
                } else if entry.attributes.is_link() {
                    let leads_to = self.sftp.read_link(&whole).await?;
                    self.header(&path, &entry.attributes, tar::EntryType::Symlink, 0, Some(&leads_to)).await?;
                } else if entry.attributes.is_file() {
                    self.file(&path, &whole, &entry.attributes).await?;
                }
            }
        }
        self.send(Bytes::from(vec![0; 2 * BLOCK as usize])).await
    }

    async fn file(&self, path: &str, whole: &str, attributes: &Attributes) -> Result<(), SftpError> {
        let size = attributes.size.ok_or(SftpError::Protocol("a file without a size"))?;
        self.header(path, attributes, tar::EntryType::Regular, size, None).await?;
        let mut left = size;
        let mut reading = Reading::open(self.sftp, whole).await?;
        // One that grows meanwhile is taken as long as it was: it may have no end.
        while left > 0
            && let Some(piece) = reading.next(self.sftp).await?
        {
            let length = (piece.len() as u64).min(left);
            left -= length;
            self.send(piece.slice(..length as usize)).await?;
        }
        if left == 0 {
            reading.close(self.sftp).await?;
        } else {
            return Err(SftpError::Refused(format!("{whole} became shorter while it was read")));
        }
        let padding = (BLOCK - size % BLOCK) % BLOCK;
        self.send(Bytes::from(vec![0; padding as usize])).await
    }

    /// What stands before an entry's content, with its whole name however long.
    async fn header(
        &self,
        path: &str,
        attributes: &Attributes,
        kind: tar::EntryType,
        size: u64,
        leads_to: Option<&str>,
    ) -> Result<(), SftpError> {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(attributes.mode.unwrap_or(0o644) & 0o7777);
        let (user, group) = attributes.owner.unwrap_or_default();
        header.set_uid(user.into());
        header.set_gid(group.into());
        header.set_mtime(attributes.modified.unwrap_or(0).into());
        header.set_size(size);
        let mut builder = tar::Builder::new(Vec::new());
        let written = match leads_to {
            Some(leads_to) => builder.append_link(&mut header, path, leads_to),
            None => builder.append_data(&mut header, path, io::empty()),
        };
        written.map_err(|_| SftpError::Protocol("a name"))?;
        self.send(Bytes::from(std::mem::take(builder.get_mut()))).await
    }

    async fn send(&self, piece: Bytes) -> Result<(), SftpError> {
        self.pieces.send(Ok(piece)).await.map_err(|_| SftpError::Ended)
    }
}
