//! Work with a guest's files, by a process of ours that has the guest's root.

use serde::{Deserialize, Serialize};

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
