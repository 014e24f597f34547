//! Files by SFTP: where the machine has no `tar`, or the template asks for it.

use std::collections::VecDeque;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt};
use kiln_core::Payload;
use kiln_core::communicator::{CommunicatorError, Downloaded};
use kiln_transport::place;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::SshCommunicator;
use super::download::{beside, put};
use super::link::{failed, refused};
use super::upload::metadata;
use crate::sftp::{Answer, Handle, OpenFor, PIECE, Sftp, SftpError};

/// How many pieces of one file are on their way at once.
const IN_FLIGHT: usize = 64;

/// How many files are.
const FILES: usize = 32;

/// How many pieces of all files are: they are what is held in memory.
const ALL_IN_FLIGHT: usize = 128;

/// Mode of a file whose own one the machine does not tell.
const PLAIN_FILE: u32 = 0o644;

fn broken(action: &str) -> impl Fn(SftpError) -> CommunicatorError {
    move |error| match error {
        SftpError::Gone(error) => failed(action, error),
        other => refused(action, other),
    }
}

/// What lies in a tree of this host, directories before what is in them.
struct Local {
    directories: Vec<(PathBuf, u32)>,
    files: Vec<PathBuf>,
    links: Vec<(PathBuf, PathBuf)>,
    skipped: Vec<PathBuf>,
}

/// Looks at a tree; paths are inside of it.
fn look(root: &Path) -> Result<Local, CommunicatorError> {
    let mut local = Local { directories: Vec::new(), files: Vec::new(), links: Vec::new(), skipped: Vec::new() };
    let mut next = vec![PathBuf::new()];
    while let Some(inside) = next.pop() {
        let directory = root.join(&inside);
        let unreadable = |source| CommunicatorError::Local { action: "read", path: directory.clone(), source };
        for entry in std::fs::read_dir(&directory).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let (path, metadata) = (inside.join(entry.file_name()), entry.metadata().map_err(unreadable)?);
            if metadata.is_dir() {
                local.directories.push((path.clone(), metadata.mode()));
                next.push(path);
            } else if metadata.is_symlink() {
                let leads_to = std::fs::read_link(entry.path()).map_err(unreadable)?;
                local.links.push((path, leads_to));
            } else if metadata.is_file() {
                local.files.push(path);
            } else {
                local.skipped.push(entry.path());
            }
        }
    }
    Ok(local)
}

impl SshCommunicator {
    async fn sftp(&self, action: &str) -> Result<Sftp, CommunicatorError> {
        Sftp::start(&self.link.session().await?).await.map_err(broken(action))
    }

    pub(super) async fn upload_by_sftp(&self, payload: &Payload, to: &str) -> Result<(), CommunicatorError> {
        let action = format!("upload to {to}");
        let sftp = self.sftp(&action).await?;
        let upload = Upload { sftp: &sftp, action: &action, room: tokio::sync::Semaphore::new(ALL_IN_FLIGHT) };
        match payload {
            Payload::Bytes { content, mode } => {
                upload.parents(to).await?;
                upload.file(io::Cursor::new(content.clone()), Path::new(to), to, *mode).await
            }
            Payload::File { path, mode } => {
                let is_directory = to.ends_with('/') || upload.is_directory(to).await?;
                let target = if is_directory { place::join(to, &place::base_name(path)) } else { to.to_owned() };
                upload.parents(&target).await?;
                upload.local_file(path, &target, *mode).await
            }
            Payload::Directory { path, contents_only } => {
                let target = if *contents_only { to.to_owned() } else { place::join(to, &place::base_name(path)) };
                let root = path.clone();
                let local = tokio::task::spawn_blocking(move || look(&root)).await;
                let local = local.map_err(|error| refused(&action, error))??;
                upload.tree(path, &local, target.trim_end_matches('/')).await?;
                self.warn_skipped(&local.skipped);
                Ok(())
            }
        }
    }

    pub(super) async fn download_by_sftp(&self, from: &str, to: &Path) -> Result<Downloaded, CommunicatorError> {
        let action = format!("download {from}");
        let sftp = self.sftp(&action).await?;
        let attributes = match sftp.stat(from).await {
            Err(SftpError::NotFound) => return Err(CommunicatorError::NotFound(from.to_owned())),
            other => other.map_err(broken(&action))?,
        };
        if attributes.is_directory() {
            super::sftp_tree::fetch(sftp, from, &action, &place::downloaded_directory(from, to)).await?;
            return Ok(Downloaded::Directory);
        }
        let failed = |source| CommunicatorError::Local { action: "write", path: to.to_path_buf(), source };
        let temporary = beside(to).await.map_err(failed)?;
        let mut file = tokio::fs::File::from_std(temporary.as_file().try_clone().map_err(failed)?);
        let mut reading = Reading::open(&sftp, from).await.map_err(broken(&action))?;
        while let Some(piece) = reading.next(&sftp).await.map_err(broken(&action))? {
            file.write_all(&piece).await.map_err(failed)?;
        }
        file.flush().await.map_err(failed)?;
        put(temporary, attributes.mode.unwrap_or(PLAIN_FILE), to).map_err(failed)?;
        Ok(Downloaded::File)
    }
}

struct Upload<'a> {
    sftp: &'a Sftp,
    action: &'a str,
    room: tokio::sync::Semaphore,
}

impl Upload<'_> {
    async fn is_directory(&self, path: &str) -> Result<bool, CommunicatorError> {
        match self.sftp.stat(path).await {
            Ok(attributes) => Ok(attributes.is_directory()),
            Err(SftpError::NotFound) => Ok(false),
            Err(error) => Err(broken(self.action)(error)),
        }
    }

    /// Makes a directory with its parents; whether it was missing.
    async fn directory(&self, path: &str) -> Result<bool, CommunicatorError> {
        let mut missing = Vec::new();
        let mut path = path.trim_end_matches('/');
        while !path.is_empty() && !self.is_directory(path).await? {
            missing.push(path);
            path = path.rsplit_once('/').map_or("", |(parent, _)| parent.trim_end_matches('/'));
        }
        for path in missing.iter().rev() {
            self.sftp.make_directory(path).await.map_err(broken(self.action))?;
        }
        Ok(!missing.is_empty())
    }

    async fn parents(&self, path: &str) -> Result<(), CommunicatorError> {
        match path.trim_end_matches('/').rsplit_once('/') {
            Some((parent, _)) => self.directory(parent).await.map(drop),
            None => Ok(()),
        }
    }

    async fn local_file(&self, path: &Path, target: &str, mode: Option<u32>) -> Result<(), CommunicatorError> {
        let mode = match mode {
            Some(mode) => mode,
            None => metadata(path).await?.mode(),
        };
        let file = tokio::fs::File::open(path).await;
        let file =
            file.map_err(|source| CommunicatorError::Local { action: "read", path: path.to_path_buf(), source })?;
        self.file(file, path, target, mode).await
    }

    async fn file(
        &self,
        mut content: impl tokio::io::AsyncRead + Unpin,
        path: &Path,
        target: &str,
        mode: u32,
    ) -> Result<(), CommunicatorError> {
        let broken = broken(self.action);
        // Nobody else's, until it has its own mode.
        let file = self.sftp.open(target, OpenFor::Writing, mode & 0o700).await.map_err(&broken)?;
        let mut answers = VecDeque::new();
        let mut at = 0;
        let mut buffer = vec![0; PIECE];
        loop {
            let length = content.read(&mut buffer).await;
            let length = length.map_err(|source| CommunicatorError::Local {
                action: "read",
                path: path.to_path_buf(),
                source,
            })?;
            if length == 0 {
                break;
            }
            if answers.len() == IN_FLIGHT {
                settle(&mut answers).await.map_err(&broken)?;
            }
            let Ok(permit) = self.room.acquire().await else { break };
            let answer = self.sftp.write(&file, at, &buffer[..length]).await.map_err(&broken)?;
            answers.push_back((answer, permit));
            at += length as u64;
        }
        let mode = self.sftp.set_mode(&file, mode).await.map_err(&broken)?;
        let closed = self.sftp.close(&file).await.map_err(&broken)?;
        while !answers.is_empty() {
            settle(&mut answers).await.map_err(&broken)?;
        }
        mode.done().await.map_err(&broken)?;
        closed.done().await.map_err(&broken)
    }

    async fn tree(&self, root: &Path, local: &Local, target: &str) -> Result<(), CommunicatorError> {
        let remote = |inside: &Path| place::join(target, &inside.to_string_lossy());
        let is_new = self.directory(target).await?;
        for (inside, _) in &local.directories {
            let path = remote(inside);
            if let Err(error) = self.sftp.make_directory(&path).await
                && !self.is_directory(&path).await?
            {
                return Err(broken(self.action)(error));
            }
        }
        let mut left = local.files.iter();
        let mut sent = FuturesUnordered::new();
        loop {
            while sent.len() < FILES
                && let Some(inside) = left.next()
            {
                let (path, target) = (root.join(inside), remote(inside));
                sent.push(async move { self.local_file(&path, &target, None).await });
            }
            match sent.next().await {
                Some(result) => result?,
                None => break,
            }
        }
        for (inside, leads_to) in &local.links {
            let (path, leads_to) = (remote(inside), leads_to.to_string_lossy().into_owned());
            if self.sftp.link(&path, &leads_to).await.is_err() {
                // One that is there is replaced.
                self.sftp.remove(&path).await.map_err(broken(self.action))?;
                self.sftp.link(&path, &leads_to).await.map_err(broken(self.action))?;
            }
        }
        // Last, for a directory may not be writable then, and from the inside out.
        for (inside, mode) in local.directories.iter().rev() {
            self.sftp.set_path_mode(&remote(inside), *mode).await.map_err(broken(self.action))?;
        }
        if is_new {
            let mode = metadata(root).await?.mode();
            self.sftp.set_path_mode(target, mode).await.map_err(broken(self.action))?;
        }
        Ok(())
    }
}

/// Waits for the oldest answer.
async fn settle<P>(answers: &mut VecDeque<(Answer, P)>) -> Result<(), SftpError> {
    match answers.pop_front() {
        Some((answer, _permit)) => answer.done().await,
        None => Ok(()),
    }
}

/// A file that is read ahead.
pub(super) struct Reading {
    file: Handle,
    asked: VecDeque<(u64, usize, Answer)>,
    next: u64,
    is_ended: bool,
}

impl Reading {
    pub(super) async fn open(sftp: &Sftp, path: &str) -> Result<Reading, SftpError> {
        let file = sftp.open(path, OpenFor::Reading, 0).await?;
        Ok(Reading { file, asked: VecDeque::new(), next: 0, is_ended: false })
    }

    /// The next piece; `None` at the end, where it is closed.
    pub(super) async fn next(&mut self, sftp: &Sftp) -> Result<Option<Bytes>, SftpError> {
        // A short file costs few questions: there are twice as many as answers came.
        let wanted = usize::try_from(self.next / PIECE as u64).unwrap_or(IN_FLIGHT).clamp(2, IN_FLIGHT);
        while !self.is_ended && self.asked.len() < wanted {
            let answer = sftp.read(&self.file, self.next, PIECE).await?;
            self.asked.push_back((self.next, PIECE, answer));
            self.next += PIECE as u64;
        }
        let Some((at, length, answer)) = self.asked.pop_front() else {
            sftp.close(&self.file).await?.done().await?;
            return Ok(None);
        };
        let data = answer.data().await?;
        if data.is_empty() {
            self.close(sftp).await?;
            return Ok(None);
        }
        if data.len() > length {
            return Err(SftpError::Protocol("more than was asked for"));
        }
        if data.len() < length {
            // The rest is asked for again, before what follows it.
            let rest = sftp.read(&self.file, at + data.len() as u64, length - data.len()).await?;
            self.asked.push_front((at + data.len() as u64, length - data.len(), rest));
        }
        Ok(Some(data))
    }

    /// Reads no further.
    pub(super) async fn close(&mut self, sftp: &Sftp) -> Result<(), SftpError> {
        self.is_ended = true;
        self.asked.clear();
        sftp.close(&self.file).await?.done().await
    }
}
