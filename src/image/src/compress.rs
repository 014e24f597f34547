//! Compression of layers: blocks side by side, in order, with both digests on the way.
//!
//! ```text
//!   write ──► block ──┬──► workers (compress) ──► in order ──► digest ──► the blob
//!                     └──► hash of the plain bytes (diff id)
//! ```
//!
//! Each block is a gzip member or a zstd frame of its own, which every reader of layers takes as one stream. The result
//! depends on the bytes and the settings alone, not on the number of threads.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io::{self, Write};
use std::str::FromStr;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use libdeflater::{CompressionLvl, Compressor};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::digest::Digest;
use crate::media::LayerCompression;

/// What a block holds before compression; less under test, where nothing is optimised.
const BLOCK: usize = if cfg!(test) { 1 << 16 } else { 1 << 20 };
/// Threads beyond this would only wait for the one that reads and hashes.
const MOST_THREADS: usize = 16;

/// How a layer is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Not at all.
    None,
    /// What everything reads.
    Gzip {
        /// 0 to 12, libdeflate's: 1 is as fast as zlib's 1 and nearly as small as its 6.
        level: u8,
    },
    /// Smaller and faster; the Docker engine pulls it, but does not load it from an archive.
    Zstd {
        /// 1 to 19.
        level: u8,
    },
}

impl Default for Compression {
    fn default() -> Compression {
        Compression::Gzip { level: 1 }
    }
}

impl From<Compression> for LayerCompression {
    fn from(compression: Compression) -> LayerCompression {
        match compression {
            Compression::None => LayerCompression::None,
            Compression::Gzip { .. } => LayerCompression::Gzip,
            Compression::Zstd { .. } => LayerCompression::Zstd,
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Compression::None => formatter.write_str("none"),
            Compression::Gzip { level } => write!(formatter, "gzip:{level}"),
            Compression::Zstd { level } => write!(formatter, "zstd:{level}"),
        }
    }
}

/// A text that names no compression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no compression: `none`, `gzip`, `gzip:0` to `gzip:12`, `zstd`, `zstd:1` to `zstd:19`")]
pub struct UnknownCompression(pub String);

impl FromStr for Compression {
    type Err = UnknownCompression;

    fn from_str(text: &str) -> Result<Compression, UnknownCompression> {
        let (name, level) = match text.split_once(':') {
            Some((name, level)) => (name, Some(level.parse::<u8>().map_err(|_| UnknownCompression(text.to_owned()))?)),
            None => (text, None),
        };
        match (name, level) {
            ("none", None) => Ok(Compression::None),
            ("gzip", None) => Ok(Compression::Gzip { level: 1 }),
            ("gzip", Some(level @ 0..=12)) => Ok(Compression::Gzip { level }),
            ("zstd", None) => Ok(Compression::Zstd { level: 3 }),
            ("zstd", Some(level @ 1..=19)) => Ok(Compression::Zstd { level }),
            _ => Err(UnknownCompression(text.to_owned())),
        }
    }
}

/// What names a finished layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerDigests {
    /// Of the plain tar archive.
    pub diff_id: Digest,
    /// Of the blob.
    pub digest: Digest,
    /// Bytes of the blob.
    pub size: u64,
    /// Bytes of the plain tar archive.
    pub uncompressed: u64,
}

/// Takes a tar archive's bytes and hands compressed ones on, in order, as they are ready.
pub struct LayerWriter<W: Write> {
    output: Output<W>,
    compression: Compression,
    threads: usize,
    block: Vec<u8>,
    uncompressed: u64,
    /// Started when a second block begins: a small layer needs no threads.
    pipeline: Option<Pipeline>,
    /// The inner writer failed: what it got is no beginning of anything, and nothing more comes.
    is_broken: bool,
}

impl<W: Write> LayerWriter<W> {
    /// With as many threads as the machine has processors.
    pub fn new(inner: W, compression: Compression) -> LayerWriter<W> {
        let threads = std::thread::available_parallelism().map_or(1, |count| count.get()).min(MOST_THREADS);
        LayerWriter::with_threads(inner, compression, threads)
    }

    /// With so many threads for compression; at least one.
    pub fn with_threads(inner: W, compression: Compression, threads: usize) -> LayerWriter<W> {
        LayerWriter {
            output: Output { inner, hashes: compression != Compression::None, hash: Sha256::new(), size: 0 },
            compression,
            threads: threads.clamp(1, MOST_THREADS),
            block: Vec::with_capacity(BLOCK),
            uncompressed: 0,
            pipeline: None,
            is_broken: false,
        }
    }

    /// Bytes handed on so far.
    pub fn size(&self) -> u64 {
        self.output.size
    }

    /// Compresses what is left and tells the digests.
    ///
    /// # Errors
    /// The inner writer's.
    pub fn finish(mut self) -> io::Result<(W, LayerDigests)> {
        self.check()?;
        let diff_id = match self.pipeline.take() {
            Some(mut pipeline) => {
                if !self.block.is_empty() {
                    pipeline.push(std::mem::take(&mut self.block), &mut self.output)?;
                }
                pipeline.finish(&mut self.output)?
            }
            None => {
                if !self.block.is_empty() || self.compression != Compression::None {
                    let compressed = Encoder::new(self.compression)?.encode(&self.block)?;
                    self.output.write(compressed.as_deref().unwrap_or(&self.block))?;
                }
                Digest::of(&self.block)
            }
        };
        let digest = match self.compression {
            Compression::None => diff_id.clone(),
            _ => Digest::from_hash(self.output.hash.finalize().into()),
        };
        let digests = LayerDigests { diff_id, digest, size: self.output.size, uncompressed: self.uncompressed };
        Ok((self.output.inner, digests))
    }

    /// Gives the layer up: the inner writer, with whatever it got.
    pub fn abandon(self) -> W {
        self.output.inner
    }

    fn check(&self) -> io::Result<()> {
        if self.is_broken { Err(io::Error::other("the layer could not be written")) } else { Ok(()) }
    }

    fn push_block(&mut self) -> io::Result<()> {
        if self.pipeline.is_none() {
            self.pipeline = Some(Pipeline::start(self.compression, self.threads)?);
        }
        let Some(pipeline) = &mut self.pipeline else { return Ok(()) };
        let empty = pipeline.spare.pop().unwrap_or_else(|| Vec::with_capacity(BLOCK));
        pipeline.push(std::mem::replace(&mut self.block, empty), &mut self.output)
    }
}

impl<W: Write> Write for LayerWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.check()?;
        if self.block.len() == BLOCK {
            self.push_block().inspect_err(|_| self.is_broken = true)?;
        }
        let taken = bytes.len().min(BLOCK - self.block.len());
        self.block.extend_from_slice(&bytes[..taken]);
        self.uncompressed += taken as u64;
        Ok(taken)
    }

    /// Blocks are of one size whatever the caller flushes: the digest depends on it.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The compressed side.
struct Output<W> {
    inner: W,
    /// Without compression the blob is what is hashed already.
    hashes: bool,
    hash: Sha256,
    size: u64,
}

impl<W: Write> Output<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.inner.write_all(bytes)?;
        if self.hashes {
            self.hash.update(bytes);
        }
        self.size += bytes.len() as u64;
        Ok(())
    }
}

struct Job {
    number: u64,
    block: Arc<Vec<u8>>,
}

type Compressed = (u64, io::Result<Vec<u8>>);

/// Threads at work. They end when their channels close, also when the writer is dropped half-way.
struct Pipeline {
    /// `None` where nothing is compressed.
    jobs: Option<Sender<Job>>,
    results: Receiver<Compressed>,
    to_hash: SyncSender<Arc<Vec<u8>>>,
    hasher: JoinHandle<[u8; 32]>,
    /// Blocks handed out and not yet written, the oldest first.
    flying: VecDeque<Arc<Vec<u8>>>,
    /// Bounds the memory.
    most_flying: usize,
    /// Of the oldest in `flying`.
    first: u64,
    /// Came back before their turn.
    early: BTreeMap<u64, Vec<u8>>,
    /// Blocks to use again.
    spare: Vec<Vec<u8>>,
}

impl Pipeline {
    fn start(compression: Compression, threads: usize) -> io::Result<Pipeline> {
        let most_flying = 2 * threads + 2;
        let (to_hash, blocks) = sync_channel::<Arc<Vec<u8>>>(most_flying);
        let hasher = std::thread::Builder::new().name("layer-hash".to_owned()).spawn(move || {
            let mut hash = Sha256::new();
            for block in blocks {
                hash.update(block.as_slice());
            }
            hash.finalize().into()
        })?;
        let (sender, results) = channel();
        let jobs =
            if compression == Compression::None { None } else { Some(start_workers(compression, threads, sender)?) };
        let (flying, early, spare) = (VecDeque::new(), BTreeMap::new(), Vec::new());
        Ok(Pipeline { jobs, results, to_hash, hasher, flying, most_flying, first: 0, early, spare })
    }

    fn push<W: Write>(&mut self, block: Vec<u8>, output: &mut Output<W>) -> io::Result<()> {
        while self.flying.len() >= self.most_flying {
            self.take_one(output)?;
        }
        let block = Arc::new(block);
        self.to_hash.send(Arc::clone(&block)).map_err(|_| thread_ended())?;
        let number = self.first + self.flying.len() as u64;
        match &self.jobs {
            Some(jobs) => jobs.send(Job { number, block: Arc::clone(&block) }).map_err(|_| thread_ended())?,
            None => output.write(&block)?,
        }
        self.flying.push_back(block);
        self.take_ready(output)
    }

    /// Waits for the oldest block and hands it on.
    fn take_one<W: Write>(&mut self, output: &mut Output<W>) -> io::Result<()> {
        while self.jobs.is_some() && !self.early.contains_key(&self.first) {
            let (number, compressed) = self.results.recv().map_err(|_| thread_ended())?;
            self.early.insert(number, compressed?);
        }
        self.hand_on(output)
    }

    /// Hands on what is ready, without waiting.
    fn take_ready<W: Write>(&mut self, output: &mut Output<W>) -> io::Result<()> {
        while let Ok((number, compressed)) = self.results.try_recv() {
            self.early.insert(number, compressed?);
        }
        while self.early.contains_key(&self.first) {
            self.hand_on(output)?;
        }
        Ok(())
    }

    fn hand_on<W: Write>(&mut self, output: &mut Output<W>) -> io::Result<()> {
        if let Some(compressed) = self.early.remove(&self.first) {
            output.write(&compressed)?;
        }
        self.first += 1;
        // Still being hashed: then it is freed there.
        if let Some(mut block) = self.flying.pop_front().and_then(|block| Arc::try_unwrap(block).ok()) {
            block.clear();
            self.spare.push(block);
        }
        Ok(())
    }

    fn finish<W: Write>(mut self, output: &mut Output<W>) -> io::Result<Digest> {
        while !self.flying.is_empty() {
            self.take_one(output)?;
        }
        drop(self.to_hash);
        self.hasher.join().map(Digest::from_hash).map_err(|_| thread_ended())
    }
}

fn thread_ended() -> io::Error {
    io::Error::other("a thread of the compression ended early")
}

fn start_workers(compression: Compression, threads: usize, results: Sender<Compressed>) -> io::Result<Sender<Job>> {
    let (sender, jobs) = channel::<Job>();
    let jobs = Arc::new(Mutex::new(jobs));
    for _ in 0..threads {
        let (jobs, results, mut encoder) = (Arc::clone(&jobs), results.clone(), Encoder::new(compression)?);
        std::thread::Builder::new().name("layer-compress".to_owned()).spawn(move || {
            loop {
                let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
                let Ok(Job { number, block }) = job else { return };
                let compressed = encoder.encode(&block).map(Option::unwrap_or_default);
                drop(block);
                if results.send((number, compressed)).is_err() {
                    return;
                }
            }
        })?;
    }
    Ok(sender)
}

/// Compresses blocks; keeps its tables between them.
enum Encoder {
    None,
    Gzip(Compressor),
    Zstd(zstd::bulk::Compressor<'static>),
}

impl Encoder {
    fn new(compression: Compression) -> io::Result<Encoder> {
        Ok(match compression {
            Compression::None => Encoder::None,
            Compression::Gzip { level } => {
                let level = CompressionLvl::new(i32::from(level))
                    .map_err(|_| io::Error::other(format!("gzip has no level {level}")))?;
                Encoder::Gzip(Compressor::new(level))
            }
            Compression::Zstd { level } => Encoder::Zstd(zstd::bulk::Compressor::new(i32::from(level))?),
        })
    }

    /// `None` where the block stays as it is.
    fn encode(&mut self, block: &[u8]) -> io::Result<Option<Vec<u8>>> {
        match self {
            Encoder::None => Ok(None),
            Encoder::Gzip(compressor) => {
                let mut out = vec![0; compressor.gzip_compress_bound(block.len())];
                let size =
                    compressor.gzip_compress(block, &mut out).map_err(|_| io::Error::other("gzip has no space"))?;
                out.truncate(size);
                Ok(Some(out))
            }
            Encoder::Zstd(compressor) => compressor.compress(block).map(Some),
        }
    }
}

#[cfg(test)]
mod tests;
