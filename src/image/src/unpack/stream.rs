//! The uncompressed archive as a stream of chunks: one thread decompresses, one hashes, the caller's takes.

use std::io::{self, BufRead, BufReader, Read};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Scope, ScopedJoinHandle};

use sha2::{Digest as _, Sha256};

use crate::digest::Digest;
use crate::media::LayerCompression;
use crate::unpack::Limits;

/// Large enough that passing one on costs nothing, small enough for the caches of a processor.
const CHUNK: usize = 256 * 1024;
/// Chunks on the way to each taker.
const QUEUE: usize = 16;
/// A frame that wants more memory than 2^27 bytes is refused; `zstd --long` asks for as much.
const ZSTD_WINDOW: u32 = 27;
/// Below this many bytes a ratio says nothing.
const RATIO_FROM: u64 = 4 << 30;

type Chunk = Arc<Vec<u8>>;

/// Takes the chunks of an archive.
pub(crate) struct Source<'scope> {
    chunks: Receiver<io::Result<Chunk>>,
    hash: Option<ScopedJoinHandle<'scope, Digest>>,
    current: Chunk,
    position: usize,
}

impl<'scope> Source<'scope> {
    /// Starts the threads.
    pub(crate) fn start<'environment>(
        scope: &'scope Scope<'scope, 'environment>,
        reader: impl Read + Send + 'scope,
        limits: &Limits,
    ) -> Source<'scope> {
        let (to_hash, hashed) = sync_channel::<Chunk>(QUEUE);
        let mut source = Source::spawn(scope, reader, limits, Some(to_hash));
        source.hash = Some(scope.spawn(move || {
            let mut hash = Sha256::new();
            while let Ok(chunk) = hashed.recv() {
                hash.update(chunk.as_slice());
            }
            Digest::from_hash(hash.finalize().into())
        }));
        source
    }

    /// Starts them without the one that hashes.
    pub(crate) fn without_digest<'environment>(
        scope: &'scope Scope<'scope, 'environment>,
        reader: impl Read + Send + 'scope,
        limits: &Limits,
    ) -> Source<'scope> {
        Source::spawn(scope, reader, limits, None)
    }

    fn spawn<'environment>(
        scope: &'scope Scope<'scope, 'environment>,
        reader: impl Read + Send + 'scope,
        limits: &Limits,
        to_hash: Option<SyncSender<Chunk>>,
    ) -> Source<'scope> {
        let (sender, chunks) = sync_channel(QUEUE);
        let limits = limits.clone();
        scope.spawn(move || decompress(reader, &limits, &sender, to_hash.as_ref()));
        Source { chunks, hash: None, current: Arc::default(), position: 0 }
    }

    /// Up to `most` bytes that lie together; empty only at the end.
    pub(crate) fn take(&mut self, most: u64) -> io::Result<&[u8]> {
        if self.position == self.current.len() && !self.advance()? {
            return Ok(&[]);
        }
        let start = self.position;
        let length = usize::try_from(most).unwrap_or(usize::MAX).min(self.current.len() - start);
        self.position += length;
        Ok(&self.current[start..start + length])
    }

    /// The next chunk that is not empty; false at the end.
    fn advance(&mut self) -> io::Result<bool> {
        while let Ok(chunk) = self.chunks.recv() {
            self.current = chunk?;
            self.position = 0;
            if !self.current.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Fills the buffer; false when the archive ended before the first byte.
    pub(crate) fn fill(&mut self, buffer: &mut [u8]) -> io::Result<bool> {
        let mut filled = 0;
        while filled < buffer.len() {
            let part = self.take((buffer.len() - filled) as u64)?;
            if part.is_empty() {
                return if filled == 0 { Ok(false) } else { Err(truncated()) };
            }
            buffer[filled..filled + part.len()].copy_from_slice(part);
            filled += part.len();
        }
        Ok(true)
    }

    /// Leaves out so many bytes.
    pub(crate) fn skip(&mut self, mut length: u64) -> io::Result<()> {
        while length > 0 {
            let part = self.take(length)?.len() as u64;
            if part == 0 {
                return Err(truncated());
            }
            length -= part;
        }
        Ok(())
    }

    /// Reads what follows the archive and tells the digest of all.
    pub(crate) fn finish(mut self) -> io::Result<Digest> {
        while !self.take(u64::MAX)?.is_empty() {}
        let hash = self.hash.take().ok_or_else(|| io::Error::other("nobody hashed the layer"))?;
        hash.join().map_err(|_| io::Error::other("the thread that hashes the layer panicked"))
    }
}

pub(crate) fn truncated() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "it ends in the middle of an entry")
}

/// Counts what is read of the compressed side.
struct Counting<R> {
    inner: R,
    count: Arc<std::sync::atomic::AtomicU64>,
}

impl<R: Read> Read for Counting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.count.fetch_add(read as u64, std::sync::atomic::Ordering::Relaxed);
        Ok(read)
    }
}

/// A reader of what this one has compressed, seen by its first bytes; plain text passes as it is.
///
/// # Errors
/// What reading those bytes gives.
pub fn decoder<'a>(reader: impl Read + Send + 'a) -> io::Result<Box<dyn Read + Send + 'a>> {
    let mut start = [0u8; 4];
    let mut filled = 0;
    let mut reader = reader;
    // The first read of a pipe may give a single byte.
    while filled < start.len() {
        match reader.read(&mut start[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let whole = io::Cursor::new(start).take(filled as u64).chain(reader);
    Ok(match LayerCompression::detect(&start[..filled]) {
        LayerCompression::None => Box::new(whole),
        LayerCompression::Gzip => {
            Box::new(flate2::bufread::MultiGzDecoder::new(BufReader::with_capacity(CHUNK, whole)))
        }
        LayerCompression::Zstd => Box::new(zstd_decoder(BufReader::with_capacity(CHUNK, whole))?),
    })
}

fn zstd_decoder<R: BufRead>(reader: R) -> io::Result<zstd::stream::read::Decoder<'static, R>> {
    let mut decoder = zstd::stream::read::Decoder::with_buffer(reader)?;
    decoder.window_log_max(ZSTD_WINDOW)?;
    Ok(decoder)
}

fn decompress(
    reader: impl Read + Send,
    limits: &Limits,
    sender: &SyncSender<io::Result<Chunk>>,
    to_hash: Option<&SyncSender<Chunk>>,
) {
    let count = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let mut decoder = match decoder(Counting { inner: reader, count: Arc::clone(&count) }) {
        Ok(decoder) => decoder,
        Err(error) => return drop(sender.send(Err(error))),
    };
    let mut total = 0u64;
    loop {
        let mut chunk = Vec::with_capacity(CHUNK);
        let outcome = (&mut decoder).take(CHUNK as u64).read_to_end(&mut chunk).and_then(|read| {
            total += read as u64;
            check(total, count.load(std::sync::atomic::Ordering::Relaxed), limits)
        });
        if let Err(error) = outcome {
            return drop(sender.send(Err(error)));
        }
        if chunk.is_empty() {
            return;
        }
        let chunk = Arc::new(chunk);
        // A taker that is gone has failed and tells it itself.
        if to_hash.is_some_and(|to| to.send(Arc::clone(&chunk)).is_err()) || sender.send(Ok(chunk)).is_err() {
            return;
        }
    }
}

fn check(total: u64, read: u64, limits: &Limits) -> io::Result<()> {
    // Headers and padding come on top of what the files hold.
    let most = limits.bytes.saturating_add(limits.entries.saturating_mul(2048));
    if total > most {
        return Err(io::Error::other(format!("it has more than {most} bytes when decompressed")));
    }
    if total > RATIO_FROM && total / limits.ratio.max(1) > read {
        return Err(io::Error::other(format!(
            "it grows to more than {} times its size when decompressed",
            limits.ratio
        )));
    }
    Ok(())
}
