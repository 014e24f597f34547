//! Work with a guest's files, by a process of ours that has the guest's root.

use std::os::fd::OwnedFd;

use rustix::fs::FileType;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::error::{Report, SandboxError, Trying};
use crate::init::Guest;
use crate::protocol::{Channel, FilesRequest, FromKeeper};
use crate::sys;

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileInfo {
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
    let _ = files;
    let done = confine(guest).and_then(|()| match request {
        FilesRequest::Stat { path } => stat(path).map(FromKeeper::Stat),
    });
    let answer = done.unwrap_or_else(|error| FromKeeper::Failed(Report::from(&error)));
    _ = answers.send(&answer, &[]);
    sys::exit(0)
}

/// No more rights than the guest's root has.
fn confine(guest: &Guest) -> Result<(), SandboxError> {
    sys::reset_signals();
    if let Some(capabilities) = guest.capabilities {
        capabilities.bound().trying("drop capabilities")?;
        capabilities.hold().trying("drop capabilities")?;
    }
    Ok(())
}

fn stat(path: &str) -> Result<Option<FileInfo>, SandboxError> {
    let stat = match rustix::fs::lstat(path) {
        Ok(stat) => stat,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        Err(error) => return Err(SandboxError::system(format!("look at {path}"), error)),
    };
    let link = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Symlink => {
            let link = rustix::fs::readlink(path, Vec::new()).trying(&format!("read the link {path}"))?;
            Some(link.to_string_lossy().into_owned())
        }
        _ => None,
    };
    let size = u64::try_from(stat.st_size).unwrap_or_default();
    Ok(Some(FileInfo { mode: stat.st_mode, uid: stat.st_uid, gid: stat.st_gid, size, link }))
}
