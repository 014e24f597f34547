//! A tar stream from a machine to a directory of this host. The machine is not trusted: nothing lands outside. A file
//! takes its place only when it is complete: what breaks off leaves the old one.

use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime};

use bytes::{Buf, Bytes};
use futures_util::StreamExt;
use tokio::sync::mpsc;

use crate::tar::ByteStream;

/// What the names of files begin with that are not complete.
const TEMPORARY: &str = ".kiln-";

/// Why unpacking failed.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The stream broke or is no tar.
    #[error("cannot read the archive")]
    Archive(#[source] io::Error),
    /// An entry's name leads out of the directory.
    #[error("the archive holds {0:?}, which leads out of the directory; nothing more was unpacked")]
    Escapes(PathBuf),
    /// An entry would be written through a symbolic link.
    #[error("the archive writes {entry:?} through the symbolic link {link}; nothing more was unpacked")]
    ThroughLink {
        /// The entry.
        entry: PathBuf,
        /// The link on this host.
        link: PathBuf,
    },
    /// A file of this host.
    #[error("cannot write {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The archive ended before the file that was asked for.
    #[error("the archive holds no file")]
    NoFile,
}

/// How to unpack.
#[derive(Debug, Clone, Default)]
pub struct UnpackOptions {
    /// Drop the first component of every name (the directory itself, where only its content is wanted).
    pub strip_first: bool,
    /// Keep numeric owners; only root may.
    pub keep_owners: bool,
    /// Keep set-user-id and set-group-id, which a machine that is not trusted must not hand out on this host.
    pub keep_set_id: bool,
}

impl UnpackOptions {
    /// Keeps owners where this process is root, as `tar -x` does; but nobody gets another's rights by what is unpacked.
    pub fn as_tar_does(strip_first: bool) -> UnpackOptions {
        UnpackOptions { strip_first, keep_owners: rustix::process::geteuid().is_root(), keep_set_id: false }
    }

    fn mode<R: Read>(&self, entry: &tar::Entry<'_, R>) -> io::Result<u32> {
        // A directory's only says whose what is made in it will be.
        let is_kept = self.keep_set_id || entry.header().entry_type().is_dir();
        let mask = if is_kept { 0o7777 } else { 0o1777 };
        Ok(entry.header().mode()? & mask)
    }
}

/// Unpacks a stream in a directory, which is made with its parents. Returns the names of device nodes, FIFOs and the
/// like, which are left out.
pub async fn unpack_stream(stream: ByteStream, to: &Path, options: UnpackOptions) -> Result<Vec<PathBuf>, UnpackError> {
    let to = to.to_path_buf();
    on_blocking_thread(stream, move |reader| unpack(reader, &to, &options)).await
}

/// Writes the first file of a stream to a path, whose parents are made.
pub async fn unpack_file(stream: ByteStream, to: &Path, options: UnpackOptions) -> Result<(), UnpackError> {
    let to = to.to_path_buf();
    on_blocking_thread(stream, move |reader| first_file(reader, &to, &options)).await
}

async fn on_blocking_thread<T, F>(mut stream: ByteStream, work: F) -> Result<T, UnpackError>
where
    T: Send + 'static,
    F: FnOnce(ChannelReader) -> Result<T, UnpackError> + Send + 'static,
{
    let (sender, receiver) = mpsc::channel(4);
    let work =
        tokio::task::spawn_blocking(move || work(ChannelReader { receiver, chunk: Bytes::new(), is_ended: false }));
    loop {
        let item = stream.next().await.transpose();
        let is_last = !matches!(item, Ok(Some(_)));
        if sender.send(item).await.is_err() || is_last {
            break;
        }
    }
    drop(sender);
    work.await.unwrap_or_else(|error| Err(UnpackError::Archive(io::Error::other(error))))
}

/// Reads until `None` comes. A channel that closes before is an error: whoever wanted the files was dropped.
struct ChannelReader {
    receiver: mpsc::Receiver<io::Result<Option<Bytes>>>,
    chunk: Bytes,
    is_ended: bool,
}

impl Read for ChannelReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() {
            if self.is_ended {
                return Ok(0);
            }
            match self.receiver.blocking_recv() {
                None => return Err(io::ErrorKind::ConnectionAborted.into()),
                Some(item) => match item? {
                    Some(chunk) => self.chunk = chunk,
                    None => self.is_ended = true,
                },
            }
        }
        let length = buffer.len().min(self.chunk.len());
        self.chunk.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}

/// What is set on a directory once all is in it: a read-only one could not be filled.
struct DirectoryMetadata {
    path: PathBuf,
    mode: u32,
    modified: u64,
    owner: Option<(u64, u64)>,
}

/// As [`unpack_stream`], on this thread.
pub fn unpack(reader: impl Read, to: &Path, options: &UnpackOptions) -> Result<Vec<PathBuf>, UnpackError> {
    let is_new = !to.exists();
    std::fs::create_dir_all(to).map_err(|source| UnpackError::Write { path: to.to_path_buf(), source })?;
    let mut skipped = Vec::new();
    let mut directories = Vec::new();
    let mut archive = tar::Archive::new(reader);
    for entry in archive.entries().map_err(UnpackError::Archive)? {
        let mut entry = entry.map_err(UnpackError::Archive)?;
        let name = entry.path().map_err(UnpackError::Archive)?.into_owned();
        let Some(inside) = safe_name(&name, options.strip_first)? else {
            // An existing directory stays as it is; a new one gets what the archive says of its root.
            if is_new && entry.header().entry_type().is_dir() {
                let made = make_directory(&entry, to, options);
                directories.push(made.map_err(|source| UnpackError::Write { path: to.to_path_buf(), source })?);
            }
            continue;
        };
        let target = checked_target(to, &inside, &name)?;
        let kind = entry.header().entry_type();
        let failed = |source| UnpackError::Write { path: target.clone(), source };
        match kind {
            tar::EntryType::Directory => directories.push(make_directory(&entry, &target, options).map_err(failed)?),
            tar::EntryType::Regular | tar::EntryType::Continuous | tar::EntryType::GNUSparse => {
                write_file(&mut entry, &target, options)?;
            }
            tar::EntryType::Symlink => {
                replace(&target).map_err(failed)?;
                make_link(&entry, &target, options).map_err(failed)?;
            }
            tar::EntryType::Link => make_hard_link(&entry, to, &target, options)?,
            tar::EntryType::XGlobalHeader | tar::EntryType::XHeader => {}
            _ => skipped.push(inside),
        }
    }
    for directory in directories.iter().rev() {
        finish_directory(directory).map_err(|source| UnpackError::Write { path: directory.path.clone(), source })?;
    }
    Ok(skipped)
}

/// The name without `/` and `./` in front; `None` for the root itself.
fn safe_name(name: &Path, strip_first: bool) -> Result<Option<PathBuf>, UnpackError> {
    let mut parts = Vec::new();
    for component in name.components() {
        match component {
            Component::Normal(part) => parts.push(part),
            Component::CurDir | Component::RootDir => {}
            Component::ParentDir | Component::Prefix(_) => return Err(UnpackError::Escapes(name.to_path_buf())),
        }
    }
    let inside: PathBuf = parts.into_iter().skip(usize::from(strip_first)).collect();
    Ok((!inside.as_os_str().is_empty()).then_some(inside))
}

/// The path on this host, after making its parents; none of them may be a symbolic link, whoever made it.
fn checked_target(to: &Path, inside: &Path, name: &Path) -> Result<PathBuf, UnpackError> {
    let mut path = to.to_path_buf();
    for part in inside.parent().into_iter().flat_map(Path::components) {
        path.push(part);
        match std::fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_symlink() => {
                return Err(UnpackError::ThroughLink { entry: name.to_path_buf(), link: path });
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                std::fs::create_dir(&path).map_err(|source| UnpackError::Write { path: path.clone(), source })?;
            }
            Err(source) => return Err(UnpackError::Write { path, source }),
        }
    }
    Ok(to.join(inside))
}

/// Takes away what stands where a link goes.
fn replace(target: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(target) {
        Ok(metadata) if metadata.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
        Ok(_) => std::fs::remove_file(target),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn owner<R: Read>(entry: &tar::Entry<'_, R>, options: &UnpackOptions) -> io::Result<Option<(u64, u64)>> {
    if !options.keep_owners {
        return Ok(None);
    }
    Ok(Some((entry.header().uid()?, entry.header().gid()?)))
}

fn own(path: &Path, owner: Option<(u64, u64)>) -> io::Result<()> {
    let Some((user, group)) = owner else { return Ok(()) };
    let narrow = |id: u64| u32::try_from(id).map_err(|_| io::Error::from(io::ErrorKind::InvalidData));
    std::os::unix::fs::lchown(path, Some(narrow(user)?), Some(narrow(group)?))
}

/// Writes beside the target and then takes its place, whatever stands there but a directory: nothing is written through
/// a link or into a file with other names.
fn write_file<R: Read>(
    entry: &mut tar::Entry<'_, R>,
    target: &Path,
    options: &UnpackOptions,
) -> Result<(), UnpackError> {
    let failed = |source| UnpackError::Write { path: target.to_path_buf(), source };
    if std::fs::symlink_metadata(target).is_ok_and(|metadata| metadata.is_dir()) {
        return Err(failed(io::ErrorKind::IsADirectory.into()));
    }
    let directory = target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Mode 0600 and a random name; it removes itself when dropped.
    let mut temporary = tempfile::Builder::new().prefix(TEMPORARY).tempfile_in(directory).map_err(failed)?;
    copy_entry(entry, temporary.as_file_mut(), target)?;
    let metadata = || -> io::Result<()> {
        own(temporary.path(), owner(entry, options)?)?;
        let file = temporary.as_file();
        // After chown, which takes setuid bits away.
        file.set_permissions(std::fs::Permissions::from_mode(options.mode(entry)?))?;
        file.set_modified(modified(entry.header().mtime()?))
    };
    metadata().map_err(failed)?;
    temporary.persist(target).map(drop).map_err(|error| failed(error.error))
}

fn copy_entry<R: Read>(
    entry: &mut tar::Entry<'_, R>,
    file: &mut std::fs::File,
    target: &Path,
) -> Result<(), UnpackError> {
    let size = entry.size();
    let mut buffer = vec![0; 256 * 1024];
    let mut copied = 0;
    loop {
        let length = entry.read(&mut buffer).map_err(UnpackError::Archive)?;
        if length == 0 {
            break;
        }
        copied += length as u64;
        io::Write::write_all(file, &buffer[..length])
            .map_err(|source| UnpackError::Write { path: target.to_path_buf(), source })?;
    }
    if copied < size {
        return Err(UnpackError::Archive(io::ErrorKind::UnexpectedEof.into()));
    }
    Ok(())
}

fn modified(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).unwrap_or(SystemTime::UNIX_EPOCH)
}

fn make_directory<R: Read>(
    entry: &tar::Entry<'_, R>,
    target: &Path,
    options: &UnpackOptions,
) -> io::Result<DirectoryMetadata> {
    match std::fs::symlink_metadata(target) {
        Ok(metadata) if metadata.is_dir() => {}
        Ok(_) => return Err(io::ErrorKind::AlreadyExists.into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => std::fs::create_dir(target)?,
        Err(error) => return Err(error),
    }
    Ok(DirectoryMetadata {
        path: target.to_path_buf(),
        mode: options.mode(entry)?,
        modified: entry.header().mtime()?,
        owner: owner(entry, options)?,
    })
}

fn finish_directory(directory: &DirectoryMetadata) -> io::Result<()> {
    own(&directory.path, directory.owner)?;
    std::fs::File::open(&directory.path)?.set_modified(modified(directory.modified))?;
    std::fs::set_permissions(&directory.path, std::fs::Permissions::from_mode(directory.mode))
}

fn make_link<R: Read>(entry: &tar::Entry<'_, R>, target: &Path, options: &UnpackOptions) -> io::Result<()> {
    let leads_to = entry.link_name()?.ok_or(io::ErrorKind::InvalidData)?;
    std::os::unix::fs::symlink(&leads_to, target)?;
    own(target, owner(entry, options)?)
}

fn make_hard_link<R: Read>(
    entry: &tar::Entry<'_, R>,
    to: &Path,
    target: &Path,
    options: &UnpackOptions,
) -> Result<(), UnpackError> {
    let failed = |source| UnpackError::Write { path: target.to_path_buf(), source };
    let name = entry.link_name().map_err(UnpackError::Archive)?.map(std::borrow::Cow::into_owned);
    let name = name.ok_or_else(|| UnpackError::Archive(io::ErrorKind::InvalidData.into()))?;
    let Some(inside) = safe_name(&name, options.strip_first)? else { return Err(UnpackError::Escapes(name)) };
    let existing = checked_target(to, &inside, &name)?;
    replace(target).map_err(failed)?;
    std::fs::hard_link(existing, target).map_err(failed)
}

fn first_file(reader: impl Read, to: &Path, options: &UnpackOptions) -> Result<(), UnpackError> {
    let failed = |source| UnpackError::Write { path: to.to_path_buf(), source };
    let mut archive = tar::Archive::new(reader);
    for entry in archive.entries().map_err(UnpackError::Archive)? {
        let mut entry = entry.map_err(UnpackError::Archive)?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        if let Some(parent) = to.parent() {
            std::fs::create_dir_all(parent).map_err(failed)?;
        }
        return write_file(&mut entry, to, options);
    }
    Err(UnpackError::NoFile)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An archive of raw entries: name, type, content or link target.
    fn archive(entries: &[(&str, tar::EntryType, &str, u32)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, kind, content, mode) in entries {
            let mut header = tar::Header::new_gnu();
            // Written by hand: the builder refuses the names that an attacker would use.
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_entry_type(*kind);
            header.set_mode(*mode);
            header.set_uid(12);
            header.set_gid(34);
            header.set_mtime(1_000_000);
            let is_link = matches!(kind, tar::EntryType::Symlink | tar::EntryType::Link);
            let data = if is_link { "" } else { *content };
            if is_link {
                header.as_old_mut().linkname[..content.len()].copy_from_slice(content.as_bytes());
            }
            header.set_size(data.len() as u64);
            header.set_cksum();
            builder.append(&header, data.as_bytes()).unwrap();
        }
        builder.into_inner().unwrap()
    }

    use tar::EntryType::{Char, Directory, Link, Regular, Symlink};

    #[test]
    fn modes_owners_times_and_links_are_kept_and_devices_left_out() {
        let home = tempfile::tempdir().unwrap();
        let to = home.path().join("deep/out");
        let archive = archive(&[
            ("./app", Directory, "", 0o555),
            ("./app/run.sh", Regular, "#!", 0o4755),
            ("app/hard", Link, "app/run.sh", 0o644),
            ("app/soft", Symlink, "/etc/passwd", 0o777),
            ("app/null", Char, "", 0o666),
        ]);
        let is_root = rustix::process::geteuid().is_root();
        let skipped = unpack(archive.as_slice(), &to, &UnpackOptions::as_tar_does(false)).unwrap();
        assert_eq!(skipped, [Path::new("app/null")]);
        let metadata = std::fs::metadata(to.join("app/run.sh")).unwrap();
        // The rights of whoever runs kiln are not the machine's to give away.
        assert_eq!(metadata.permissions().mode() & 0o7777, 0o755);
        assert_eq!(metadata.modified().unwrap(), modified(1_000_000));
        let root = std::fs::metadata(to.join("app")).unwrap();
        assert_eq!(root.permissions().mode() & 0o7777, 0o555);
        if is_root {
            use std::os::unix::fs::MetadataExt;
            assert_eq!((metadata.uid(), metadata.gid(), root.uid()), (12, 34, 12));
        }
        assert_eq!(std::fs::read_link(to.join("app/soft")).unwrap(), Path::new("/etc/passwd"));
        assert_eq!(std::fs::read(to.join("app/hard")).unwrap(), b"#!");
        std::fs::set_permissions(to.join("app"), std::fs::Permissions::from_mode(0o755)).unwrap();
        let trusted = UnpackOptions { keep_set_id: true, ..UnpackOptions::default() };
        let to = home.path().join("trusted");
        unpack(archive.as_slice(), &to, &trusted).unwrap();
        assert_eq!(std::fs::metadata(to.join("app/run.sh")).unwrap().permissions().mode() & 0o7777, 0o4755);
        std::fs::set_permissions(to.join("app"), std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn nothing_leads_out() {
        let home = tempfile::tempdir().unwrap();
        let to = home.path().join("out");
        std::fs::write(home.path().join("secret"), "s").unwrap();
        let options = UnpackOptions::default();
        let refused = |entries: &[(&str, tar::EntryType, &str, u32)]| {
            unpack(archive(entries).as_slice(), &to, &options).unwrap_err().to_string()
        };
        assert!(refused(&[("../evil", Regular, "x", 0o644)]).contains("leads out"));
        assert!(refused(&[("a/../../evil", Regular, "x", 0o644)]).contains("leads out"));
        assert!(refused(&[("h", Link, "../secret", 0o644)]).contains("leads out"));
        let through = refused(&[("link", Symlink, "..", 0o777), ("link/evil", Regular, "x", 0o644)]);
        assert!(through.contains("through the symbolic link"), "{through}");
        assert!(!home.path().join("evil").exists());
        // An absolute name lands inside, and a link in a file's place is replaced, not followed.
        std::os::unix::fs::symlink(home.path().join("secret"), to.join("etc")).unwrap();
        unpack(archive(&[("/etc", Regular, "mine", 0o644)]).as_slice(), &to, &options).unwrap();
        assert_eq!(std::fs::read_to_string(to.join("etc")).unwrap(), "mine");
        assert_eq!(std::fs::read_to_string(home.path().join("secret")).unwrap(), "s");
    }

    #[test]
    fn a_cut_archive_is_an_error() {
        let home = tempfile::tempdir().unwrap();
        let whole = archive(&[("file", Regular, &"x".repeat(5000), 0o644)]);
        let error = unpack(&whole[..2048], home.path(), &UnpackOptions::default()).unwrap_err();
        assert!(matches!(error, UnpackError::Archive(_)), "{error}");
    }

    /// What a directory holds, and what its file `old` says.
    fn state(directory: &Path) -> (Vec<String>, String) {
        let entries = std::fs::read_dir(directory).unwrap();
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        (names, std::fs::read_to_string(directory.join("old")).unwrap())
    }

    #[tokio::test]
    async fn a_stream_that_breaks_halfway_leaves_the_old_file_and_nothing_else() {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("old"), "old").unwrap();
        let untouched = (vec!["old".to_owned()], "old".to_owned());
        let whole = Bytes::from(archive(&[("old", Regular, &"x".repeat(5000), 0o644)]));
        let broken = |at: usize| -> ByteStream {
            let error = io::Error::from(io::ErrorKind::ConnectionReset);
            Box::pin(futures_util::stream::iter([Ok(whole.slice(..at)), Err(error)]))
        };
        for at in [100, 512, 2048] {
            let error = unpack_file(broken(at), &home.path().join("old"), UnpackOptions::default()).await.unwrap_err();
            assert!(matches!(error, UnpackError::Archive(_)), "{at}: {error}");
            assert_eq!(state(home.path()), untouched, "file, {at}");
            unpack_stream(broken(at), home.path(), UnpackOptions::default()).await.unwrap_err();
            assert_eq!(state(home.path()), untouched, "directory, {at}");
        }
        let stream: ByteStream = Box::pin(futures_util::stream::iter([Ok(whole.clone())]));
        unpack_file(stream, &home.path().join("old"), UnpackOptions::default()).await.unwrap();
        assert_eq!(state(home.path()), (vec!["old".to_owned()], "x".repeat(5000)));
    }

    #[test]
    fn a_dropped_call_leaves_the_old_file_and_nothing_else() {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("old"), "old").unwrap();
        let first = archive(&[("new", Regular, "new", 0o644)]);
        let whole = archive(&[("old", Regular, &"x".repeat(5000), 0o644)]);
        // In the middle of a file, and between two, where the archive might as well be complete.
        let between = first[..1024].to_vec();
        for (start, left) in [(whole[..2048].to_vec(), vec!["old"]), (between, vec!["new", "old"])] {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let (asked, was_asked) = tokio::sync::oneshot::channel();
                let stalled = futures_util::stream::once(async move {
                    let _ = asked.send(());
                    std::future::pending().await
                });
                let stream: ByteStream = Box::pin(futures_util::stream::iter([Ok(Bytes::from(start))]).chain(stalled));
                tokio::select! {
                    ended = unpack_stream(stream, home.path(), UnpackOptions::default()) => panic!("{ended:?}"),
                    _ = was_asked => {}
                }
            });
            // Waits for the thread that unpacks.
            drop(runtime);
            let left: Vec<String> = left.into_iter().map(str::to_owned).collect();
            assert_eq!(state(home.path()), (left, "old".to_owned()));
        }
    }

    #[test]
    fn a_channel_that_closes_early_is_no_end() {
        let (sender, receiver) = mpsc::channel(1);
        drop(sender);
        let mut reader = ChannelReader { receiver, chunk: Bytes::new(), is_ended: false };
        assert_eq!(reader.read(&mut [0; 8]).unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
        let (sender, receiver) = mpsc::channel(1);
        sender.try_send(Ok(None)).unwrap();
        drop(sender);
        let mut reader = ChannelReader { receiver, chunk: Bytes::new(), is_ended: false };
        assert_eq!((reader.read(&mut [0; 8]).unwrap(), reader.read(&mut [0; 8]).unwrap()), (0, 0));
    }
}
