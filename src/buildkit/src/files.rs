//! Files of this host, sent as BuildKit asks for them.
//!
//! BuildKit names a directory and which of its files may matter; it is told the stats of those, compares them with what it
//! has from earlier builds, and asks for the content of the rest.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use bollard_buildkit_proto::fsutil::types::packet::PacketType;
use bollard_buildkit_proto::fsutil::types::{Packet, Stat};
use bollard_buildkit_proto::moby::filesync::v1::file_sync_server::FileSync;
use futures_util::{Stream, StreamExt};
use kiln_docker::ignore::{IgnoreRules, Pattern};
use percent_encoding::percent_decode_str;
use tokio::sync::mpsc;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming};

use crate::follow::follow;
use crate::walk::{Selection, has_content, walk};

/// Bytes of a file in one message.
const CHUNK: usize = 64 * 1024;

/// Messages that wait to be sent.
const WAITING: usize = 64;

/// What is served under a name.
#[derive(Debug, Clone)]
pub enum Directory {
    /// A directory of this host.
    Path(PathBuf),
    /// A few files that need not exist: name, and content. Names have no `/`.
    Files(Vec<(String, Arc<[u8]>)>),
}

/// How much was sent, in all transfers of a session.
#[derive(Debug, Clone, Default)]
pub struct Sent(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    files: AtomicU64,
    bytes: AtomicU64,
}

impl Sent {
    /// Files whose content was asked for.
    pub fn files(&self) -> u64 {
        self.0.files.load(Ordering::Relaxed)
    }

    /// Bytes of their contents.
    pub fn bytes(&self) -> u64 {
        self.0.bytes.load(Ordering::Relaxed)
    }
}

pub(crate) struct FileService {
    pub(crate) directories: Arc<BTreeMap<String, Directory>>,
    pub(crate) sent: Sent,
}

type Answers = mpsc::Sender<Result<Packet, Status>>;

#[async_trait]
impl FileSync for FileService {
    type DiffCopyStream = Pin<Box<dyn Stream<Item = Result<Packet, Status>> + Send>>;
    type TarStreamStream = Pin<Box<dyn Stream<Item = Result<Packet, Status>> + Send>>;

    async fn diff_copy(&self, request: Request<Streaming<Packet>>) -> Result<Response<Self::DiffCopyStream>, Status> {
        let wish = Wish::read(request.metadata());
        let directory = self.directories.get(&wish.directory).cloned().ok_or_else(|| {
            Status::not_found(format!("the directory `{}` is not part of this build", wish.directory))
        })?;
        let (answers, mut waiting) = mpsc::channel(WAITING);
        let transfer = Arc::new(Transfer { contents: Mutex::default(), sent: self.sent.clone() });
        let walker = (Arc::clone(&transfer), answers.clone());
        tokio::task::spawn_blocking(move || walker.0.tell_stats(&directory, &wish, &walker.1));
        tokio::spawn(transfer.answer(request.into_inner(), answers));
        Ok(Response::new(Box::pin(futures_util::stream::poll_fn(move |context| waiting.poll_recv(context)))))
    }

    async fn tar_stream(
        &self,
        _request: Request<Streaming<Packet>>,
    ) -> Result<Response<Self::TarStreamStream>, Status> {
        Err(Status::unimplemented("files are sent by DiffCopy"))
    }
}

/// What is asked for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Wish {
    directory: String,
    included: Vec<String>,
    excluded: Vec<String>,
    followed: Vec<String>,
}

impl Wish {
    fn read(metadata: &MetadataMap) -> Wish {
        let all = |name: &str| -> Vec<String> {
            // Newer versions send what is not ASCII as in a URL's query, and say so.
            let is_encoded = metadata.contains_key(format!("{name}-encoded"));
            let decode = |text: &str| match is_encoded {
                true => percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned(),
                false => text.to_owned(),
            };
            metadata.get_all(name).iter().filter_map(|value| value.to_str().ok()).map(decode).collect()
        };
        Wish {
            directory: all("dir-name").into_iter().next().unwrap_or_default(),
            included: all("include-patterns"),
            excluded: all("exclude-patterns"),
            followed: all("followpaths"),
        }
    }

    fn selection(&self, root: &Path) -> Selection {
        let mut included: Vec<Pattern> = self.included.iter().filter_map(|text| Pattern::parse(text)).collect();
        let mut is_all = self.included.is_empty() && self.followed.is_empty();
        if !self.followed.is_empty() {
            match follow(root, &self.followed) {
                Some(patterns) => included.extend(patterns),
                None => is_all = true,
            }
        }
        Selection {
            included: (!is_all).then_some(included),
            excluded: IgnoreRules::of_patterns(self.excluded.iter().map(String::as_str)),
        }
    }
}

/// Where the content of a file is.
#[derive(Clone)]
enum Content {
    File(PathBuf),
    Bytes(Arc<[u8]>),
}

/// One conversation about one directory.
struct Transfer {
    /// By the place of the file's stat in the row; `None` for what has no content.
    contents: Mutex<Vec<Option<Content>>>,
    sent: Sent,
}

impl Transfer {
    /// Sends the stats, and a packet without one at their end. Blocks.
    fn tell_stats(&self, directory: &Directory, wish: &Wish, answers: &Answers) {
        let tell = |stat: Stat, content: Content| {
            let content = has_content(&stat).then_some(content);
            self.contents.lock().unwrap_or_else(PoisonError::into_inner).push(content);
            answers.blocking_send(Ok(packet(PacketType::PacketStat, Some(stat)))).is_ok()
        };
        let told = match directory {
            Directory::Path(root) => {
                let selection = wish.selection(root);
                walk(root, &selection, &mut |stat, path| tell(stat, Content::File(path.to_path_buf())))
            }
            Directory::Files(files) => {
                let mut files: Vec<_> = files.iter().collect();
                files.sort_unstable_by(|one, other| one.0.cmp(&other.0));
                for (name, content) in files {
                    tell(made_up(name, content), Content::Bytes(Arc::clone(content)));
                }
                Ok(())
            }
        };
        // Whoever went away does not need the end either.
        let _ = match told {
            Ok(()) => answers.blocking_send(Ok(packet(PacketType::PacketStat, None))),
            Err(error) => {
                let source = std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
                answers.blocking_send(Err(Status::internal(format!("{error}{source}"))))
            }
        };
    }

    /// Sends contents as they are asked for.
    async fn answer(self: Arc<Transfer>, mut asked: Streaming<Packet>, answers: Answers) {
        let (ids, wanted) = std::sync::mpsc::channel();
        let (reader, to) = (Arc::clone(&self), answers.clone());
        let reading = tokio::task::spawn_blocking(move || {
            for id in wanted {
                if !reader.send_content(id, &to) {
                    return;
                }
            }
        });
        while let Some(Ok(packet)) = asked.next().await {
            match PacketType::try_from(packet.r#type) {
                Ok(PacketType::PacketReq) => {
                    if ids.send(packet.id).is_err() {
                        return;
                    }
                }
                Ok(PacketType::PacketFin) => break,
                _ => return,
            }
        }
        drop(ids);
        if reading.await.is_ok() {
            // Whoever went away needs no farewell.
            let _ = answers.send(Ok(packet(PacketType::PacketFin, None))).await;
        }
    }

    /// Sends one file and a packet without data at its end; whether to go on. Blocks.
    fn send_content(&self, id: u32, answers: &Answers) -> bool {
        let known = self.contents.lock().unwrap_or_else(PoisonError::into_inner).get(id as usize).cloned().flatten();
        self.sent.0.files.fetch_add(1, Ordering::Relaxed);
        let sent = match known {
            None => Err(Status::invalid_argument(format!("there is no file {id}"))),
            Some(Content::Bytes(bytes)) => self.send_chunks(id, &bytes[..], answers),
            Some(Content::File(path)) => match std::fs::File::open(&path) {
                Ok(file) => self.send_chunks(id, file, answers),
                Err(error) => Err(error.into()),
            }
            .map_err(|error: Status| Status::internal(format!("cannot read {}: {}", path.display(), error.message()))),
        };
        match sent {
            Ok(is_wanted) => is_wanted,
            Err(status) => {
                let _ = answers.blocking_send(Err(status));
                false
            }
        }
    }

    fn send_chunks(&self, id: u32, mut content: impl Read, answers: &Answers) -> Result<bool, Status> {
        loop {
            let mut data = vec![0; CHUNK];
            let length = content.read(&mut data)?;
            data.truncate(length);
            self.sent.0.bytes.fetch_add(length as u64, Ordering::Relaxed);
            let packet = Packet { id, data, ..packet(PacketType::PacketData, None) };
            if answers.blocking_send(Ok(packet)).is_err() {
                return Ok(false);
            }
            if length == 0 {
                return Ok(true);
            }
        }
    }
}

fn packet(kind: PacketType, stat: Option<Stat>) -> Packet {
    Packet { r#type: kind.into(), stat, ..Packet::default() }
}

/// The stat of a file that is none. It was changed now: what BuildKit has from an earlier build is not taken for it.
fn made_up(name: &str, content: &[u8]) -> Stat {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    Stat {
        path: name.to_owned(),
        mode: 0o644,
        size: i64::try_from(content.len()).unwrap_or(i64::MAX),
        mod_time: i64::try_from(now).unwrap_or(i64::MAX),
        ..Stat::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_stands_in_the_metadata() {
        let mut metadata = MetadataMap::new();
        metadata.append("dir-name", "context".parse().unwrap());
        metadata.append("followpaths", "a+b%C3%A4".parse().unwrap());
        metadata.append("followpaths-encoded", "1".parse().unwrap());
        metadata.append("exclude-patterns", "*.md".parse().unwrap());
        metadata.append("exclude-patterns", "!a+b.md".parse().unwrap());
        let wish = Wish::read(&metadata);
        assert_eq!((wish.directory.as_str(), wish.followed.as_slice()), ("context", &["a bä".to_owned()][..]));
        assert_eq!(wish.excluded, ["*.md", "!a+b.md"]);
    }
}
