//! A script's bytes, with line ends that a Unix interpreter takes.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use kiln_core::{Payload, Stdin};

/// A script, ready to be sent.
#[derive(Debug)]
pub(crate) enum Script {
    /// Made of inline commands.
    Bytes(Bytes),
    /// As it lies on this host.
    File(PathBuf),
    /// A copy with other line ends; goes away with this value.
    Converted(tempfile::TempPath),
}

impl Script {
    /// From inline commands.
    pub(crate) fn inline(text: String, is_binary: bool) -> Script {
        Script::Bytes(Bytes::from(if is_binary { text } else { text.replace("\r\n", "\n") }))
    }

    /// From a file; a copy is made in `scratch` only where it has CRLF line ends that must go.
    pub(crate) async fn file(path: &Path, is_binary: bool, scratch: &Path) -> io::Result<Script> {
        let (path, scratch) = (path.to_owned(), scratch.to_owned());
        let load = move || {
            let mut file = std::fs::File::open(&path)?;
            if is_binary || copy_with_unix_line_ends(&mut file, &mut io::sink())? == 0 {
                return Ok(Script::File(path));
            }
            // Readable by its owner alone, as tempfile makes them: a script may hold secrets.
            let mut copy = tempfile::Builder::new().prefix("script-").tempfile_in(scratch)?;
            let mut writer = io::BufWriter::new(copy.as_file_mut());
            copy_with_unix_line_ends(&mut std::fs::File::open(&path)?, &mut writer)?;
            writer.flush()?;
            drop(writer);
            Ok(Script::Converted(copy.into_temp_path()))
        };
        tokio::task::spawn_blocking(load).await.map_err(io::Error::other)?
    }

    /// For standard input.
    pub(crate) fn stdin(&self) -> Stdin {
        match self {
            Script::Bytes(bytes) => Stdin::Bytes(bytes.clone()),
            Script::File(path) => Stdin::File(path.clone()),
            Script::Converted(path) => Stdin::File(path.to_path_buf()),
        }
    }

    /// For an upload.
    pub(crate) fn payload(&self, mode: u32) -> Payload {
        match self {
            Script::Bytes(content) => Payload::Bytes { content: content.clone(), mode },
            Script::File(path) => Payload::File { path: path.clone(), mode: Some(mode) },
            Script::Converted(path) => Payload::File { path: path.to_path_buf(), mode: Some(mode) },
        }
    }
}

/// Copies, writing CRLF as LF; a CR alone stays. Returns how many line ends changed.
fn copy_with_unix_line_ends(reader: &mut impl Read, writer: &mut impl Write) -> io::Result<u64> {
    let mut buffer = vec![0; 64 * 1024];
    let mut changed = 0;
    // A CR at the end of a chunk waits for what follows it.
    let mut has_held = false;
    loop {
        let length = match reader.read(&mut buffer) {
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let Some(first) = buffer[..length].first() else { break };
        if has_held {
            if *first == b'\n' {
                changed += 1;
            } else {
                writer.write_all(b"\r")?;
            }
        }
        has_held = buffer[length - 1] == b'\r';
        let mut rest = &buffer[..length - usize::from(has_held)];
        while let Some(at) = rest.windows(2).position(|pair| pair == b"\r\n") {
            writer.write_all(&rest[..at])?;
            rest = &rest[at + 1..];
            changed += 1;
        }
        writer.write_all(rest)?;
    }
    if has_held {
        writer.write_all(b"\r")?;
    }
    Ok(changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives its pieces one read at a time, so that chunks end where the test wants.
    struct Pieces(Vec<&'static [u8]>);

    impl Read for Pieces {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.0.is_empty() {
                return Ok(0);
            }
            let piece = self.0.remove(0);
            buffer[..piece.len()].copy_from_slice(piece);
            Ok(piece.len())
        }
    }

    #[test]
    fn line_ends_change_also_across_chunks_and_a_lone_cr_stays() {
        for (pieces, expected, changed) in [
            (vec![&b"a\r\nb\r\n"[..]], &b"a\nb\n"[..], 2),
            (vec![&b"a\r"[..], b"\nb\r", b"\r", b"\n"], b"a\nb\r\n", 2),
            (vec![&b"a\rb\r"[..], b"c\r"], b"a\rb\rc\r", 0),
            (vec![&b"plain\n"[..]], b"plain\n", 0),
            (vec![], b"", 0),
        ] {
            let mut written = Vec::new();
            let count = copy_with_unix_line_ends(&mut Pieces(pieces), &mut written).unwrap();
            assert_eq!((written.as_slice(), count), (expected, changed));
        }
    }

    #[tokio::test]
    async fn only_a_file_with_such_line_ends_is_copied() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.sh");
        std::fs::write(&path, "echo a\r\n").unwrap();
        let Script::Converted(copy) = Script::file(&path, false, directory.path()).await.unwrap() else {
            panic!("CRLF must go");
        };
        assert_eq!(std::fs::read_to_string(&copy).unwrap(), "echo a\n");
        assert_eq!(std::fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(
            matches!(Script::file(&path, true, directory.path()).await.unwrap(), Script::File(same) if same == path)
        );
        std::fs::write(&path, "echo a\n").unwrap();
        assert!(matches!(Script::file(&path, false, directory.path()).await.unwrap(), Script::File(_)));
    }
}
