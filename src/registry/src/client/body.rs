//! Bodies that stream, and the watch over them.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::sync::mpsc;

use super::retry::{Again, Fault};
use crate::options::{Progress, ProgressSink, Stage};
use kiln_image::{Digest, ImageError};

/// Large enough that the cost of handing pieces on is nothing, small enough that several blobs at once take little memory.
pub(crate) const PIECE: usize = 512 * 1024;
/// Pieces that are read ahead.
pub(crate) const AHEAD: usize = 2;

/// Counts what moves.
pub(crate) struct Meter {
    started: Instant,
    moved: AtomicU64,
    /// Milliseconds from the start to when something last moved.
    last: AtomicU64,
    is_complete: AtomicBool,
    /// The connection would take more, and whoever makes the bytes has none.
    is_starving: AtomicBool,
    /// Where its bytes wait; tells whether there are any.
    queue: Mutex<Option<mpsc::WeakSender<io::Result<Bytes>>>>,
    tell: Box<dyn Fn(u64) + Send + Sync>,
}

impl Meter {
    pub(crate) fn new(tell: impl Fn(u64) + Send + Sync + 'static) -> Arc<Meter> {
        Arc::new(Meter {
            started: Instant::now(),
            moved: AtomicU64::new(0),
            last: AtomicU64::new(0),
            is_complete: AtomicBool::new(false),
            is_starving: AtomicBool::new(false),
            queue: Mutex::default(),
            tell: Box::new(tell),
        })
    }

    /// For bodies whose progress nobody follows.
    pub(crate) fn silent() -> Arc<Meter> {
        Meter::new(|_| {})
    }

    pub(crate) fn add(&self, bytes: usize) {
        let moved = self.moved.fetch_add(bytes as u64, Ordering::Relaxed) + bytes as u64;
        let elapsed = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(elapsed, Ordering::Relaxed);
        self.is_starving.store(false, Ordering::Relaxed);
        (self.tell)(moved);
    }

    pub(crate) fn complete(&self) {
        self.is_complete.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.is_complete.load(Ordering::Relaxed)
    }

    /// The connection would take more than there is.
    fn is_starving(&self) -> bool {
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let sender = queue.as_ref().and_then(mpsc::WeakSender::upgrade);
        let has_more = sender.is_some_and(|sender| sender.capacity() < sender.max_capacity());
        self.is_starving.load(Ordering::Relaxed) && !has_more
    }

    /// How long nothing has moved.
    pub(crate) fn idle(&self) -> Duration {
        self.started.elapsed().saturating_sub(Duration::from_millis(self.last.load(Ordering::Relaxed)))
    }
}

/// A teller that reports a blob's progress.
pub(crate) fn moving(progress: &ProgressSink, digest: &Digest, total: u64) -> impl Fn(u64) + Send + Sync + 'static {
    let (progress, digest) = (progress.clone(), digest.clone());
    move |done| progress(Progress { digest: digest.clone(), done, total, stage: Stage::Moving })
}

/// A body fed through a channel. Its length is sent where it is known, else it goes in chunks.
pub(crate) struct Feed {
    receiver: mpsc::Receiver<io::Result<Bytes>>,
    left: Option<u64>,
    meter: Arc<Meter>,
}

impl Feed {
    /// A sender and its body.
    pub(crate) fn new(length: Option<u64>, meter: Arc<Meter>) -> (mpsc::Sender<io::Result<Bytes>>, Feed) {
        let (sender, receiver) = mpsc::channel(AHEAD);
        if length == Some(0) {
            meter.complete();
        }
        *meter.queue.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender.downgrade());
        (sender, Feed { receiver, left: length, meter })
    }
}

impl http_body::Body for Feed {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match self.receiver.poll_recv(context) {
            Poll::Pending => {
                self.meter.is_starving.store(true, Ordering::Relaxed);
                Poll::Pending
            }
            Poll::Ready(None) if self.left.is_some_and(|left| left > 0) => {
                Poll::Ready(Some(Err(io::Error::other("the source ended too early"))))
            }
            Poll::Ready(None) => {
                self.meter.complete();
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(error))),
            Poll::Ready(Some(Ok(bytes))) => {
                self.meter.add(bytes.len());
                if let Some(left) = self.left {
                    let Some(left) = left.checked_sub(bytes.len() as u64) else {
                        return Poll::Ready(Some(Err(io::Error::other("the source is longer than was said"))));
                    };
                    self.left = Some(left);
                    if left == 0 {
                        self.meter.complete();
                    }
                }
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.left == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// Where the bytes of a blob come from; it can be opened again for another attempt.
#[async_trait]
pub(crate) trait Source: Send + Sync {
    /// All of it, or a part.
    async fn open(&self, from: u64, length: u64, meter: Arc<Meter>) -> Result<Feed, Fault>;
}

/// A blob in a file.
#[derive(Debug)]
pub(crate) struct FileSource {
    path: PathBuf,
    digest: Digest,
    size: u64,
}

impl FileSource {
    /// It is looked at when it is needed; its content is checked by the registry.
    pub(crate) fn new(path: &Path, digest: &Digest, size: u64) -> FileSource {
        FileSource { path: path.to_owned(), digest: digest.clone(), size }
    }
}

#[async_trait]
impl Source for FileSource {
    async fn open(&self, from: u64, length: u64, meter: Arc<Meter>) -> Result<Feed, Fault> {
        let failed = |error| Fault::Final(ImageError::io("read", &self.path)(error).into());
        let mut file = File::open(&self.path).map_err(failed)?;
        let found = file.metadata().map_err(failed)?.len();
        if found != self.size {
            let error = ImageError::Size { digest: self.digest.clone(), wanted: self.size, found };
            return Err(Fault::Final(error.into()));
        }
        io::Seek::seek(&mut file, io::SeekFrom::Start(from)).map_err(failed)?;
        let (sender, feed) = Feed::new(Some(length), meter);
        tokio::task::spawn_blocking(move || read_into(file, length, &sender));
        Ok(feed)
    }
}

/// Ends early when nobody listens any more.
fn read_into(mut file: File, mut left: u64, sender: &mpsc::Sender<io::Result<Bytes>>) {
    while left > 0 {
        let wanted = left.min(PIECE as u64);
        let mut piece = Vec::with_capacity(wanted as usize);
        let piece = match (&mut file).take(wanted).read_to_end(&mut piece) {
            Ok(0) => return,
            Ok(_) => Ok(Bytes::from(piece)),
            Err(error) => Err(error),
        };
        let is_over = piece.is_err();
        left -= piece.as_ref().map_or(0, |piece| piece.len() as u64);
        if sender.blocking_send(piece).is_err() || is_over {
            return;
        }
    }
}

/// A body that is there for one attempt.
pub(crate) type Once = Arc<Mutex<Option<(Feed, Arc<Meter>)>>>;

/// What is sent along with a request.
#[derive(Clone, Default)]
pub(crate) enum Payload {
    /// Nothing, not even a length.
    #[default]
    None,
    /// A document; an empty one has the length 0.
    Bytes(Bytes),
    /// A part of a blob.
    Part {
        /// The blob.
        source: Arc<dyn Source>,
        /// Where the part begins.
        from: u64,
        /// How long it is.
        length: u64,
        /// Makes the meter of an attempt.
        meter: Arc<dyn Fn() -> Arc<Meter> + Send + Sync>,
    },
    /// What can be sent only once, of unknown length.
    Once(Once),
}

impl Payload {
    /// Nothing, and said so: some servers insist on a length.
    pub(crate) fn empty() -> Payload {
        Payload::Bytes(Bytes::new())
    }

    /// The body of one attempt, its length, and what watches it.
    pub(crate) async fn open(&self) -> Result<(Option<(reqwest::Body, Option<u64>)>, Arc<Meter>), Fault> {
        match self {
            Payload::None => {
                let meter = Meter::silent();
                Ok((None, meter))
            }
            Payload::Bytes(bytes) => {
                let meter = Meter::silent();
                Ok((Some((bytes.clone().into(), Some(bytes.len() as u64))), meter))
            }
            Payload::Part { source, from, length, meter } => {
                let meter = meter();
                let feed = source.open(*from, *length, meter.clone()).await?;
                Ok((Some((reqwest::Body::wrap(feed), Some(*length))), meter))
            }
            Payload::Once(once) => {
                let taken = once.lock().unwrap_or_else(PoisonError::into_inner).take();
                let (feed, meter) =
                    taken.ok_or_else(|| Again::new("it wants a streamed upload again, which cannot be replayed"))?;
                Ok((Some((reqwest::Body::wrap(feed), None)), meter))
            }
        }
    }

    /// Whether the answer may take long after the last byte.
    pub(crate) fn is_large(&self) -> bool {
        matches!(self, Payload::Part { .. } | Payload::Once(_))
    }

    /// Whether whoever makes the bytes may pause for any time.
    pub(crate) fn is_patient(&self) -> bool {
        matches!(self, Payload::Once(_))
    }
}

/// How long nothing may move.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// While bytes are on their way.
    pub(crate) stall: Duration,
    /// After the last of them.
    pub(crate) settling: Duration,
    /// Whoever makes the bytes may take any time for it.
    pub(crate) is_patient: bool,
}

impl Patience {
    fn limit(&self, meter: &Meter) -> Option<Duration> {
        match (meter.is_complete(), self.is_patient && meter.is_starving()) {
            (true, _) => Some(self.settling),
            (false, true) => None,
            (false, false) => Some(self.stall),
        }
    }
}

/// Waits for an answer as long as something moves.
pub(crate) async fn watch<T>(answer: impl Future<Output = T>, meter: &Meter, patience: Patience) -> Result<T, Again> {
    tokio::pin!(answer);
    // When whoever makes the bytes was last waited for.
    let mut waited = Instant::now();
    loop {
        let idle = || meter.idle().min(waited.elapsed());
        let left = patience.limit(meter).map_or(patience.stall, |limit| limit.saturating_sub(idle()));
        tokio::select! {
            answer = &mut answer => return Ok(answer),
            () = tokio::time::sleep(left.max(Duration::from_millis(20))) => match patience.limit(meter) {
                Some(limit) if idle() >= limit => return Err(super::shared::silence(limit)),
                Some(_) => {}
                None => waited = Instant::now(),
            }
        }
    }
}
