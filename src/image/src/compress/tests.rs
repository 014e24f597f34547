use std::io::Read;

use super::*;

/// Half of it compresses.
fn bytes(size: usize) -> Vec<u8> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..size).map(|place| if place / 1000 % 2 == 0 { b'k' } else { next() }).collect()
}

fn compressed(content: &[u8], compression: Compression, threads: usize, piece: usize) -> (Vec<u8>, LayerDigests) {
    let mut writer = LayerWriter::with_threads(Vec::new(), compression, threads);
    for piece in content.chunks(piece.max(1)) {
        writer.write_all(piece).unwrap();
    }
    writer.finish().unwrap()
}

fn plain(blob: &[u8], compression: Compression) -> Vec<u8> {
    let mut content = Vec::new();
    match compression {
        Compression::None => content.extend_from_slice(blob),
        Compression::Gzip { .. } => {
            flate2::read::MultiGzDecoder::new(blob).read_to_end(&mut content).map(|_| ()).unwrap();
        }
        Compression::Zstd { .. } => {
            zstd::stream::read::Decoder::new(blob).unwrap().read_to_end(&mut content).map(|_| ()).unwrap();
        }
    }
    content
}

const ALL: [Compression; 5] = [
    Compression::None,
    Compression::Gzip { level: 0 },
    Compression::Gzip { level: 1 },
    Compression::Zstd { level: 1 },
    Compression::Zstd { level: 3 },
];

#[test]
fn every_compression_gives_the_content_back() {
    for size in [0, 1, BLOCK, BLOCK + 1, 7 * BLOCK + 17] {
        let content = bytes(size);
        for compression in ALL {
            let (blob, digests) = compressed(&content, compression, 2, 100_000);
            assert!(plain(&blob, compression) == content, "{compression} of {size} bytes");
            assert_eq!(digests.diff_id, Digest::of(&content), "{compression} of {size} bytes");
            assert_eq!(digests.digest, Digest::of(&blob), "{compression} of {size} bytes");
            assert_eq!((digests.size, digests.uncompressed), (blob.len() as u64, size as u64));
        }
    }
}

#[test]
fn the_blob_depends_neither_on_threads_nor_on_how_it_was_written() {
    let content = bytes(4 * BLOCK + 5);
    for compression in ALL {
        let wanted = compressed(&content, compression, 1, usize::MAX);
        assert!(wanted == compressed(&content, compression, 5, 4096), "{compression}");
    }
}

#[test]
fn a_failing_writer_ends_it() {
    struct Full(usize);
    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 = self.0.checked_sub(bytes.len()).ok_or(io::ErrorKind::StorageFull)?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    for compression in ALL {
        let mut writer = LayerWriter::with_threads(Full(BLOCK), compression, 2);
        let written = writer.write_all(&bytes(8 * BLOCK)).and_then(|()| writer.finish().map(|_| ()));
        assert_eq!(written.unwrap_err().kind(), io::ErrorKind::StorageFull, "{compression}");

        // Whoever goes on all the same is told again, and not kept waiting for a block that is gone.
        let mut writer = LayerWriter::with_threads(Full(BLOCK), compression, 2);
        assert!(writer.write_all(&bytes(12 * BLOCK)).is_err(), "{compression}");
        assert!(writer.write_all(b"more").is_err(), "{compression}");
        assert!(writer.finish().is_err(), "{compression}");
    }
}

#[test]
fn what_names_a_compression() {
    for (text, wanted) in [
        ("none", Compression::None),
        ("gzip", Compression::Gzip { level: 1 }),
        ("gzip:9", Compression::Gzip { level: 9 }),
        ("zstd", Compression::Zstd { level: 3 }),
        ("zstd:19", Compression::Zstd { level: 19 }),
    ] {
        assert_eq!(text.parse(), Ok(wanted));
        assert_eq!(wanted.to_string().parse(), Ok(wanted));
    }
    for text in ["", "gz", "gzip:", "gzip:13", "zstd:0", "zstd:20", "none:1", "zstd:-1", "gzip:1:1"] {
        assert_eq!(text.parse::<Compression>(), Err(UnknownCompression(text.to_owned())));
    }
}
