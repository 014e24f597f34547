//! Writing a file anew without ever losing it.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::Path;

use tempfile::NamedTempFile;

/// Writes a file: anew where there is one, as [`replace`] does it, else with these mode bits but for those of the umask. A
/// pipe or a terminal is written to.
pub(crate) fn write(path: &Path, text: &[u8], mode: u32) -> io::Result<()> {
    match path.metadata() {
        Ok(old) if old.is_file() => replace(path, text),
        Ok(_) => OpenOptions::new().write(true).open(path)?.write_all(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut new = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path)?;
            let written = new.write_all(text).and_then(|()| new.sync_all());
            // Half a file is worse than none.
            written.inspect_err(|_| drop(std::fs::remove_file(path)))
        }
        Err(error) => Err(error),
    }
}

/// Gives a file a new text: the new file is complete on the disk, with the owner and the mode of the old one, before it
/// takes its place. Of a link the target is replaced.
///
/// Where that cannot be (a directory that may not be written, a file that is a mount point or has several names), the text
/// is written over the old one.
pub(crate) fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let path = path.canonicalize()?;
    // A file that may not be written is left alone, whatever the directory allows.
    let file = OpenOptions::new().read(true).write(true).open(&path)?;
    let metadata = file.metadata()?;
    if metadata.nlink() > 1 {
        return overwrite(file, text);
    }
    let replaced = beside(&path, &metadata, text).and_then(|new| new.persist(&path).map_err(|error| error.error));
    match replaced {
        Ok(_) => sync_directory(&path),
        // Writing over the old text would lose it.
        Err(error) if is_full(&error) => Err(error),
        Err(_) => overwrite(file, text),
    }
}

/// Whether there is no room for another file.
fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

/// A new file in the same directory, which goes away again unless it is kept.
fn beside(path: &Path, metadata: &Metadata, text: &[u8]) -> io::Result<NamedTempFile> {
    let directory = path.parent().unwrap_or_else(|| Path::new("."));
    // Hidden, and by its name no template: if the machine dies now, nothing picks it up.
    let mut new = tempfile::Builder::new().prefix(".kiln-fmt-").suffix(".tmp").tempfile_in(directory)?;
    new.write_all(text)?;
    let own = new.as_file().metadata()?;
    if (own.uid(), own.gid()) != (metadata.uid(), metadata.gid()) {
        fchown(new.as_file(), Some(metadata.uid()), Some(metadata.gid()))?;
    }
    // After the owner: a change of it clears mode bits.
    new.as_file().set_permissions(metadata.permissions())?;
    new.as_file().sync_all()?;
    Ok(new)
}

fn sync_directory(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(directory) => File::open(directory).and_then(|directory| directory.sync_all()).or(Ok(())),
        None => Ok(()),
    }
}

/// Writes over the old text, which is put back if that fails.
fn overwrite(mut file: File, text: &[u8]) -> io::Result<()> {
    let mut old = Vec::new();
    file.read_to_end(&mut old)?;
    let mut set = |text: &[u8]| {
        file.rewind()?;
        file.write_all(text)?;
        file.set_len(text.len() as u64)?;
        file.sync_all()
    };
    set(text).inspect_err(|_| drop(set(&old)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed test is meant to panic")]

    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_mode_stays_and_nothing_else_is_left() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        fs::write(&path, "a longer text").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let before = fs::metadata(&path).unwrap();
        replace(&path, b"b").unwrap();
        let after = fs::metadata(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "b");
        assert_eq!(after.permissions().mode() & 0o7777, 0o640);
        assert_ne!(before.ino(), after.ino());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn links_and_second_names_keep_naming_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let (path, link, name) = (directory.path().join("a"), directory.path().join("b"), directory.path().join("c"));
        fs::write(&path, "a longer text").unwrap();
        std::os::unix::fs::symlink("a", &link).unwrap();
        replace(&link, b"x").unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(&path).unwrap(), "x");
        fs::hard_link(&path, &name).unwrap();
        replace(&path, b"y").unwrap();
        assert_eq!(fs::read_to_string(&name).unwrap(), "y");
    }

    #[test]
    fn a_new_file_has_the_mode_asked_for_and_what_is_no_file_is_written_to() {
        let directory = tempfile::tempdir().unwrap();
        let (path, link) = (directory.path().join("a"), directory.path().join("b"));
        std::os::unix::fs::symlink("a", &link).unwrap();
        write(&link, b"x", 0o600).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        write(&link, b"yz", 0o644).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(&path).unwrap(), "yz");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        write(Path::new("/dev/null"), b"x", 0o600).unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
        assert!(write(directory.path(), b"x", 0o600).is_err());
    }
}
