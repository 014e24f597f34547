//! Work with a guest's files, by a process of ours that has the guest's root and no more rights than the guest's own.

mod pack;
mod unpack;

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::FileType;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::error::{Report, SandboxError, Trying};
use crate::init::Guest;
use crate::protocol::{Channel, FilesRequest, FromKeeper};
use crate::sys;

/// Bytes that are read or written at once.
const CHUNK: usize = 256 * 1024;

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileInfo {
    /// Its path without any link, where links were followed.
    pub path: String,
    /// Type and permission bits, as `stat` gives them.
    pub mode: u32,
    /// Its owner, as the guest counts.
    pub uid: u32,
    /// Its group, as the guest counts.
    pub gid: u32,
    /// Bytes.
    pub size: u64,
    /// Where a symbolic link points.
    pub link: Option<String>,
}

impl FileInfo {
    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        self.mode & libc::S_IFMT == libc::S_IFDIR
    }
}

/// Does the work and ends the process.
pub(crate) fn serve(answers: &Channel, request: &FilesRequest, guest: &Guest, files: Vec<OwnedFd>) -> ! {
    let done = confine(guest).and_then(|()| work(request, files));
    let answer = done.unwrap_or_else(|error| FromKeeper::Failed(Report::from(&error)));
    _ = answers.send(&answer, &[]);
    sys::exit(0)
}

/// No more rights than the guest's root has.
fn confine(guest: &Guest) -> Result<(), SandboxError> {
    _ = rustix::thread::set_name(c"kiln-files");
    sys::reset_signals();
    // Its broken pipe is an error that is told.
    sys::ignore_broken_pipes();
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    if let Some(capabilities) = guest.capabilities {
        capabilities.bound().trying("drop capabilities")?;
        capabilities.hold().trying("drop capabilities")?;
    }
    Ok(())
}

fn work(request: &FilesRequest, files: Vec<OwnedFd>) -> Result<FromKeeper, SandboxError> {
    let stream = || {
        let stream = files.into_iter().next().map(File::from);
        stream.ok_or_else(|| SandboxError::Protocol("there is no stream".to_owned()))
    };
    match request {
        FilesRequest::Stat { path, follow } => stat(path, *follow).map(FromKeeper::Stat),
        FilesRequest::Unpack { to } => {
            let stream = io::BufReader::with_capacity(CHUNK, stream()?);
            unpack::unpack(stream, Path::new(to)).map(FromKeeper::Moved)
        }
        FilesRequest::Pack { from } => {
            let stream = io::BufWriter::with_capacity(CHUNK, stream()?);
            pack::pack(Path::new(from), stream).map(FromKeeper::Moved)
        }
    }
}

fn stat(path: &str, follow: bool) -> Result<Option<FileInfo>, SandboxError> {
    let gone = |error: &io::Error| {
        let errno = error.raw_os_error().map(Errno::from_raw_os_error);
        matches!(errno, Some(Errno::NOENT | Errno::NOTDIR))
    };
    let resolved = if follow { std::fs::canonicalize(path) } else { Ok(Path::new(path).to_owned()) };
    let found = resolved.and_then(|path| Ok((rustix::fs::lstat(&path)?, path)));
    let (stat, path) = match found {
        Ok(found) => found,
        Err(error) if gone(&error) => return Ok(None),
        Err(error) => return Err(SandboxError::system(format!("look at {path}"), error)),
    };
    let link = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Symlink => {
            let link = rustix::fs::readlink(&path, Vec::new()).trying("read a link")?;
            Some(link.to_string_lossy().into_owned())
        }
        _ => None,
    };
    let size = u64::try_from(stat.st_size).unwrap_or_default();
    let path = path.to_string_lossy().into_owned();
    Ok(Some(FileInfo { path, mode: stat.st_mode, uid: stat.st_uid, gid: stat.st_gid, size, link }))
}
