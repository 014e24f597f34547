//! Files of this host as a tar stream: packed on a blocking thread, handed on in big chunks through a short channel, so
//! that neither a file nor the archive is ever held whole.

use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;

use bytes::{Bytes, BytesMut};
use flate2::write::GzEncoder;
use futures_util::Stream;
use kiln_core::Payload;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Size of the chunks, in bytes.
const CHUNK: usize = 1024 * 1024;

/// How many chunks may wait to be sent.
const CHUNKS_WAITING: usize = 4;

/// Mode of directories that are made only so that something can lie in them.
const PARENT_MODE: u32 = 0o755;

/// Bytes on their way.
pub type ByteStream = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

/// Numeric owner of what is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// User id.
    pub user: u64,
    /// Group id.
    pub group: u64,
}

/// Why packing failed.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// A file of this host.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It shrank while it was read, and its size was promised already.
    #[error("{0} became shorter while it was read")]
    Shrank(PathBuf),
    /// Nobody takes the archive any more: the transfer itself failed, and its own error says why.
    #[error("the transfer ended before all was sent")]
    Abandoned(#[source] io::Error),
}

/// An archive that is being packed.
pub struct Packing {
    /// Its bytes. Dropping them ends the packing.
    pub stream: ByteStream,
    /// How packing ended: what was left out because a tar cannot hold it (sockets). When a transfer failed, this knows
    /// better why, unless it is [`PackError::Abandoned`].
    pub outcome: JoinHandle<Result<Vec<PathBuf>, PackError>>,
}

/// Packs on a blocking thread what `write` writes; `compress` puts gzip around it.
pub fn pack<F>(compress: bool, write: F) -> Packing
where
    F: FnOnce(&mut TarWriter) -> Result<(), PackError> + Send + 'static,
{
    let (sender, receiver) = mpsc::channel(CHUNKS_WAITING);
    let outcome = tokio::task::spawn_blocking(move || {
        let result = write_all(sender.clone(), compress, write);
        if let Err(error) = &result {
            // The receiver must not take a half archive for a whole one.
            let _ = sender.blocking_send(Err(io::Error::other(error.to_string())));
        }
        result
    });
    let stream = futures_util::stream::unfold(receiver, |mut receiver: mpsc::Receiver<io::Result<Bytes>>| async {
        receiver.recv().await.map(|item| (item, receiver))
    });
    Packing { stream: Box::pin(stream), outcome }
}

fn write_all<F>(sender: mpsc::Sender<io::Result<Bytes>>, compress: bool, write: F) -> Result<Vec<PathBuf>, PackError>
where
    F: FnOnce(&mut TarWriter) -> Result<(), PackError>,
{
    let channel = ChannelWriter { sender, buffer: BytesMut::new() };
    let sink = if compress {
        Sink::Gzip(Box::new(GzEncoder::new(channel, flate2::Compression::fast())))
    } else {
        Sink::Plain(channel)
    };
    let mut writer = TarWriter { builder: tar::Builder::new(sink), owner: None, skipped: Vec::new() };
    write(&mut writer)?;
    let skipped = writer.skipped;
    let channel = match writer.builder.into_inner().map_err(PackError::Abandoned)? {
        Sink::Plain(channel) => Ok(channel),
        Sink::Gzip(encoder) => encoder.finish(),
    };
    channel.and_then(|mut channel| channel.flush()).map_err(PackError::Abandoned)?;
    Ok(skipped)
}

enum Sink {
    Plain(ChannelWriter),
    Gzip(Box<GzEncoder<ChannelWriter>>),
}

impl Write for Sink {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match self {
            Sink::Plain(writer) => writer.write(buffer),
            Sink::Gzip(writer) => writer.write(buffer),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Sink::Plain(writer) => writer.flush(),
            Sink::Gzip(writer) => writer.flush(),
        }
    }
}

struct ChannelWriter {
    sender: mpsc::Sender<io::Result<Bytes>>,
    buffer: BytesMut,
}

impl Write for ChannelWriter {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let taken = buffer.len().min(CHUNK - self.buffer.len());
        self.buffer.extend_from_slice(&buffer[..taken]);
        if self.buffer.len() == CHUNK {
            self.flush()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let chunk = self.buffer.split().freeze();
        self.sender.blocking_send(Ok(chunk)).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// Writes entries into an archive. Names in the archive have no slash in front.
pub struct TarWriter {
    builder: tar::Builder<Sink>,
    owner: Option<Owner>,
    skipped: Vec<PathBuf>,
}

/// Notices whether a file gives as many bytes as it promised.
struct Counted<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.left = self.left.saturating_sub(length as u64);
        Ok(length)
    }
}

impl TarWriter {
    /// Gives all that follows this owner; `None`: the numeric owner on this host (root for what is no file).
    pub fn set_owner(&mut self, owner: Option<Owner>) {
        self.owner = owner;
    }

    fn header(&self, kind: tar::EntryType, mode: u32, size: u64, metadata: Option<&std::fs::Metadata>) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode & 0o7777);
        header.set_size(size);
        let owner = self.owner.unwrap_or_else(|| match metadata {
            Some(metadata) => Owner { user: metadata.uid().into(), group: metadata.gid().into() },
            None => Owner { user: 0, group: 0 },
        });
        header.set_uid(owner.user);
        header.set_gid(owner.group);
        let now =
            || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |time| time.as_secs());
        header.set_mtime(metadata.map_or_else(now, |metadata| u64::try_from(metadata.mtime()).unwrap_or(0)));
        header
    }

    /// A directory.
    pub fn directory(&mut self, name: &Path, mode: u32) -> Result<(), PackError> {
        let mut header = self.header(tar::EntryType::Directory, mode, 0, None);
        self.builder.append_data(&mut header, name, io::empty()).map_err(PackError::Abandoned)
    }

    /// A file with this content.
    pub fn bytes(&mut self, name: &Path, content: &[u8], mode: u32) -> Result<(), PackError> {
        let mut header = self.header(tar::EntryType::Regular, mode, content.len() as u64, None);
        self.builder.append_data(&mut header, name, content).map_err(PackError::Abandoned)
    }

    /// A file of this host, links followed; `mode` in place of its own.
    pub fn file(&mut self, path: &Path, name: &Path, mode: Option<u32>) -> Result<(), PackError> {
        let unreadable = |source| PackError::Read { path: path.to_path_buf(), source };
        let file = std::fs::File::open(path).map_err(unreadable)?;
        let metadata = file.metadata().map_err(unreadable)?;
        if metadata.is_dir() {
            return Err(unreadable(io::ErrorKind::IsADirectory.into()));
        }
        let mode = mode.unwrap_or_else(|| metadata.mode());
        let mut header = self.header(tar::EntryType::Regular, mode, metadata.len(), Some(&metadata));
        // A file that grows meanwhile is sent as long as it was.
        let mut content = Counted { inner: file.take(metadata.len()), left: metadata.len() };
        self.builder.append_data(&mut header, name, &mut content).map_err(PackError::Abandoned)?;
        if content.left > 0 {
            return Err(PackError::Shrank(path.to_path_buf()));
        }
        Ok(())
    }

    /// A directory of this host with all that is in it and that `wanted` wants (asked with the path inside the tree and
    /// whether it is a directory; what is not wanted is not entered). Links are kept as links, hard links become copies.
    /// `include_root`: whether the directory itself is an entry, with its mode.
    pub fn tree(
        &mut self,
        path: &Path,
        name: &Path,
        include_root: bool,
        wanted: &mut dyn FnMut(&Path, bool) -> bool,
    ) -> Result<(), PackError> {
        if include_root && !name.as_os_str().is_empty() {
            let metadata =
                std::fs::metadata(path).map_err(|source| PackError::Read { path: path.to_path_buf(), source })?;
            self.entry_directory(name, &metadata)?;
        }
        self.children(path, name, Path::new(""), wanted)
    }

    fn entry_directory(&mut self, name: &Path, metadata: &std::fs::Metadata) -> Result<(), PackError> {
        let mut header = self.header(tar::EntryType::Directory, metadata.mode(), 0, Some(metadata));
        self.builder.append_data(&mut header, name, io::empty()).map_err(PackError::Abandoned)
    }

    fn children(
        &mut self,
        path: &Path,
        name: &Path,
        inside: &Path,
        wanted: &mut dyn FnMut(&Path, bool) -> bool,
    ) -> Result<(), PackError> {
        let unreadable = |source| PackError::Read { path: path.to_path_buf(), source };
        let mut entries = std::fs::read_dir(path)
            .and_then(|entries| {
                entries.map(|entry| entry.map(|entry| entry.file_name())).collect::<io::Result<Vec<_>>>()
            })
            .map_err(unreadable)?;
        // The same tree gives the same archive.
        entries.sort();
        for entry in entries {
            let (child, inside) = (path.join(&entry), inside.join(&entry));
            let metadata =
                std::fs::symlink_metadata(&child).map_err(|source| PackError::Read { path: child.clone(), source })?;
            if wanted(&inside, metadata.is_dir()) {
                self.child(&child, &name.join(&entry), &inside, &metadata, wanted)?;
            }
        }
        Ok(())
    }

    fn child(
        &mut self,
        path: &Path,
        name: &Path,
        inside: &Path,
        metadata: &std::fs::Metadata,
        wanted: &mut dyn FnMut(&Path, bool) -> bool,
    ) -> Result<(), PackError> {
        if metadata.is_dir() {
            self.entry_directory(name, metadata)?;
            self.children(path, name, inside, wanted)
        } else if metadata.is_symlink() {
            let target =
                std::fs::read_link(path).map_err(|source| PackError::Read { path: path.to_path_buf(), source })?;
            let mut header = self.header(tar::EntryType::Symlink, 0o777, 0, Some(metadata));
            self.builder.append_link(&mut header, name, &target).map_err(PackError::Abandoned)
        } else if metadata.is_file() {
            self.file(path, name, None)
        } else {
            self.skipped.push(path.to_path_buf());
            Ok(())
        }
    }
}

/// Where a payload lands in an archive.
#[derive(Debug, Clone, Default)]
pub struct Layout {
    /// A file's path in the archive, or the directory that a directory's content lands in; without a slash in front,
    /// empty for the archive's root.
    pub target: PathBuf,
    /// Whether a directory is an entry itself, so that it gets the mode and owner of the one on this host. Not wanted
    /// where it exists already.
    pub include_root: bool,
    /// Directories to make first, outermost first.
    pub parents: Vec<PathBuf>,
    /// Whose everything is; `None`: numeric owners of this host.
    pub owner: Option<Owner>,
}

/// Packs a payload.
pub fn pack_payload(payload: Payload, layout: Layout) -> Packing {
    pack(false, move |writer| {
        writer.set_owner(layout.owner);
        for parent in &layout.parents {
            writer.directory(parent, PARENT_MODE)?;
        }
        match payload {
            Payload::Bytes { content, mode } => writer.bytes(&layout.target, &content, mode),
            Payload::File { path, mode } => writer.file(&path, &layout.target, mode),
            Payload::Directory { path, .. } => {
                writer.tree(&path, &layout.target, layout.include_root, &mut |_, _| true)
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use futures_util::StreamExt;

    use super::*;

    async fn collect(mut packing: Packing) -> (Vec<u8>, Result<Vec<PathBuf>, PackError>) {
        let mut archive = Vec::new();
        while let Some(Ok(chunk)) = packing.stream.next().await {
            assert!(chunk.len() <= CHUNK);
            archive.extend_from_slice(&chunk);
        }
        (archive, packing.outcome.await.unwrap())
    }

    fn names(archive: &[u8]) -> Vec<String> {
        let mut reader = tar::Archive::new(archive);
        reader.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().display().to_string()).collect()
    }

    #[tokio::test]
    async fn a_tree_keeps_modes_links_long_names_and_order() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        let long = "n".repeat(180);
        std::fs::create_dir(root.join("b")).unwrap();
        std::fs::write(root.join("b").join(&long), "x").unwrap();
        std::fs::write(root.join("a.sh"), "#!").unwrap();
        std::fs::set_permissions(root.join("a.sh"), std::fs::Permissions::from_mode(0o4751)).unwrap();
        std::os::unix::fs::symlink("nowhere/at/all", root.join("c")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap();
        let payload = Payload::Directory { path: root.to_path_buf(), contents_only: true };
        let layout = Layout {
            target: "opt/app".into(),
            parents: vec!["opt".into()],
            owner: Some(Owner { user: 3_000_000, group: 7 }),
            include_root: true,
        };
        let (archive, outcome) = collect(pack_payload(payload, layout)).await;
        assert_eq!(outcome.unwrap(), [root.join("socket")]);
        let deep = format!("opt/app/b/{long}");
        assert_eq!(names(&archive), ["opt", "opt/app", "opt/app/a.sh", "opt/app/b", deep.as_str(), "opt/app/c"]);
        let mut reader = tar::Archive::new(archive.as_slice());
        for entry in reader.entries().unwrap().map(Result::unwrap) {
            assert_eq!((entry.header().uid().unwrap(), entry.header().gid().unwrap()), (3_000_000, 7));
            let path = entry.path().unwrap().into_owned();
            if path.ends_with("a.sh") {
                assert_eq!(entry.header().mode().unwrap(), 0o4751);
            }
            if path.ends_with("c") {
                assert_eq!(entry.link_name().unwrap().unwrap().to_str(), Some("nowhere/at/all"));
            }
        }
    }

    #[tokio::test]
    async fn a_missing_file_is_named_and_breaks_the_stream() {
        let payload = Payload::File { path: "/nowhere/at/all".into(), mode: None };
        let mut packing = pack_payload(payload, Layout { target: "x".into(), ..Layout::default() });
        assert!(packing.stream.next().await.unwrap().is_err());
        let error = packing.outcome.await.unwrap().unwrap_err();
        assert_eq!(error.to_string(), "cannot read /nowhere/at/all");
    }

    #[tokio::test]
    async fn a_dropped_stream_ends_the_packing() {
        let directory = tempfile::tempdir().unwrap();
        let big = directory.path().join("big");
        std::fs::File::create(&big).unwrap().set_len(64 * CHUNK as u64).unwrap();
        let payload = Payload::File { path: big, mode: None };
        let packing = pack_payload(payload, Layout { target: "big".into(), ..Layout::default() });
        drop(packing.stream);
        assert!(matches!(packing.outcome.await.unwrap(), Err(PackError::Abandoned(_))));
    }

    #[tokio::test]
    async fn what_is_not_wanted_is_not_entered_and_gzip_is_gzip() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(directory.path().join("target/deep")).unwrap();
        std::fs::write(directory.path().join("keep"), "k").unwrap();
        let root = directory.path().to_path_buf();
        let packing = pack(true, move |writer| {
            writer.tree(&root, Path::new(""), true, &mut |path, _| path != Path::new("target"))
        });
        let (archive, outcome) = collect(packing).await;
        outcome.unwrap();
        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(archive.as_slice()).read_to_end(&mut plain).unwrap();
        assert_eq!(names(&plain), ["keep"]);
    }
}
