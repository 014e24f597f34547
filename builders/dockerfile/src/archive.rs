//! Contexts that are tar files.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::Path;

/// Unpacks an archive, plain or compressed, below a directory; nothing is written outside of it.
pub(crate) fn unpack(mut file: File, to: &Path) -> io::Result<()> {
    let mut head = [0; 6];
    let length = file.read(&mut head)?;
    file.rewind()?;
    let reader = decompressed(file, &head[..length])?;
    let mut archive = tar::Archive::new(reader);
    archive.set_preserve_permissions(true);
    archive.set_preserve_mtime(true);
    archive.set_preserve_ownerships(false);
    archive.unpack(to)
}

fn decompressed(file: File, head: &[u8]) -> io::Result<Box<dyn Read>> {
    let file = io::BufReader::with_capacity(1 << 20, file);
    Ok(match head {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(file)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Box::new(zstd::Decoder::with_buffer(file)?),
        [b'B', b'Z', b'h', ..] | [0xfd, b'7', b'z', b'X', b'Z', ..] => {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "it is neither plain nor gzip nor zstd"));
        }
        _ => Box::new(file),
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn archives_are_unpacked_whatever_their_compression() {
        let directory = tempfile::tempdir().unwrap();
        let mut plain = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(2);
        header.set_mode(0o755);
        plain.append_data(&mut header, "bin/tool", &b"hi"[..]).unwrap();
        let plain = plain.into_inner().unwrap();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&plain).unwrap();
        let all = [plain.clone(), gzip.finish().unwrap(), zstd::encode_all(&plain[..], 1).unwrap()];
        for (index, bytes) in all.iter().enumerate() {
            let path = directory.path().join(format!("{index}.tar"));
            std::fs::write(&path, bytes).unwrap();
            let to = directory.path().join(index.to_string());
            std::fs::create_dir(&to).unwrap();
            unpack(File::open(&path).unwrap(), &to).unwrap();
            assert_eq!(std::fs::read(to.join("bin/tool")).unwrap(), b"hi");
        }
    }
}
