//! Writes files into one, on a thread that may block.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufWriter, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use tokio_util::sync::CancellationToken;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::encoder::Encoder;
use super::format::{Archive, Format};
use crate::error::PublishError;

/// What to write.
pub(super) struct Task<'a> {
    pub(super) format: Format,
    /// From 1 to 9.
    pub(super) level: u32,
    pub(super) inputs: &'a [PathBuf],
    /// What errors call the output.
    pub(super) target: &'a Path,
    /// Ends the work.
    pub(super) cancel: &'a CancellationToken,
}

/// Writes it to a fresh file.
pub(super) fn write(task: &Task<'_>, file: File) -> Result<(), PublishError> {
    if task.format.archive == Archive::Zip {
        return write_zip(task, file);
    }
    let mut encoder = Encoder::new(task.format.compression, task.level, file);
    if task.format.archive == Archive::Tar {
        encoder = write_tar(task, encoder)?;
    } else if let [input] = task.inputs {
        let mut input = Input::open(input, task.cancel)?;
        io::copy(&mut input, &mut encoder).map_err(PublishError::file("write", task.target))?;
    }
    encoder.finish().map_err(PublishError::file("write", task.target))
}

/// Like Packer: only the files' names, neither owners nor times. So the same files give the same bytes.
fn write_tar(task: &Task<'_>, encoder: Encoder) -> Result<Encoder, PublishError> {
    let mut names = BTreeSet::new();
    let mut builder = tar::Builder::new(encoder);
    for path in task.inputs {
        let name = path.file_name().unwrap_or(path.as_os_str());
        if !names.insert(name) {
            return Err(PublishError::SameName { name: name.to_string_lossy().into_owned() });
        }
        let mut input = Input::open(path, task.cancel)?;
        let mut header = tar::Header::new_gnu();
        header.set_size(input.size);
        header.set_mode(input.mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        builder.append_data(&mut header, name, &mut input).map_err(PublishError::file("write", task.target))?;
        input.check_whole()?;
    }
    builder.into_inner().map_err(PublishError::file("write", task.target))
}

/// Like Packer: with the files' directories, and the earliest time that zip knows.
fn write_zip(task: &Task<'_>, file: File) -> Result<(), PublishError> {
    let failed = |source| PublishError::Archive { path: task.target.to_path_buf(), source };
    let mut writer = ZipWriter::new(BufWriter::new(file));
    let mut names = BTreeSet::new();
    for path in task.inputs {
        let name = name_in_zip(path);
        if !names.insert(name.clone()) {
            return Err(PublishError::SameName { name });
        }
        let mut input = Input::open(path, task.cancel)?;
        let options = SimpleFileOptions::default()
            .compression_method(zip::CompressionMethod::Deflated)
            .compression_level(Some(i64::from(task.level)))
            .unix_permissions(input.mode)
            .large_file(input.size >= u64::from(u32::MAX));
        writer.start_file(name, options).map_err(failed)?;
        io::copy(&mut input, &mut writer).map_err(PublishError::file("write", task.target))?;
        input.check_whole()?;
    }
    let sink = writer.finish().map_err(failed)?;
    sink.into_inner().map_err(|error| PublishError::file("write", task.target)(error.into_error()))?;
    Ok(())
}

/// The path without its root and without `..`: an archive must not reach out of the place it is unpacked in.
fn name_in_zip(path: &Path) -> String {
    let parts = path.components().filter_map(|component| match component {
        Component::Normal(part) => Some(part.to_string_lossy()),
        _ => None,
    });
    parts.collect::<Vec<_>>().join("/")
}

/// A file that is read to the size it had, unless the user stops the build.
struct Input<'a> {
    path: &'a Path,
    file: io::Take<File>,
    size: u64,
    mode: u32,
    cancel: &'a CancellationToken,
}

impl<'a> Input<'a> {
    fn open(path: &'a Path, cancel: &'a CancellationToken) -> Result<Input<'a>, PublishError> {
        let file = File::open(path).map_err(PublishError::file("read", path))?;
        let metadata = file.metadata().map_err(PublishError::file("read", path))?;
        if metadata.is_dir() {
            return Err(PublishError::file("read", path)(io::ErrorKind::IsADirectory.into()));
        }
        let (size, mode) = (metadata.len(), metadata.permissions().mode() & 0o7777);
        Ok(Input { path, file: file.take(size), size, mode, cancel })
    }

    /// A file that got shorter would leave an archive that cannot be read.
    fn check_whole(&self) -> Result<(), PublishError> {
        if self.file.limit() == 0 { Ok(()) } else { Err(PublishError::Changed { path: self.path.to_path_buf() }) }
    }
}

impl Read for Input<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.cancel.is_cancelled() {
            return Err(io::Error::other("stopped"));
        }
        self.file.read(buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_a_zip_stay_inside() {
        assert_eq!(name_in_zip(Path::new("out/a")), "out/a");
        assert_eq!(name_in_zip(Path::new("/var/../tmp/./a")), "var/tmp/a");
        assert_eq!(name_in_zip(Path::new("../../a")), "a");
    }
}
