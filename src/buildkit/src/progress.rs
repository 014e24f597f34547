//! What BuildKit tells while it solves, as news: each thing once.

use std::collections::{HashMap, VecDeque};

use bollard_buildkit_proto::moby::buildkit::v1::{StatusResponse, Vertex, VertexLog};

/// Lines of output that are kept of a step that may yet fail.
const LAST_LINES: usize = 20;

/// One piece of news.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// A step runs.
    Started(String),
    /// A step's result was there already.
    Cached(String),
    /// A line that a step wrote.
    Line {
        /// The step.
        step: String,
        /// On its standard error.
        is_error: bool,
        /// Without its end.
        text: String,
    },
    /// Something is on its way: a layer, a context.
    Transfer {
        /// What.
        item: String,
        /// Bytes done.
        current: u64,
        /// Bytes in all, where known.
        total: Option<u64>,
    },
    /// BuildKit warns.
    Warning(String),
}

/// What was told so far.
#[derive(Default)]
pub(crate) struct Follower {
    steps: HashMap<String, Step>,
}

#[derive(Default)]
struct Step {
    name: String,
    is_started: bool,
    is_done: bool,
    has_failed: bool,
    /// What no line end came after yet, by stream.
    partial: HashMap<i64, Vec<u8>>,
    last: VecDeque<String>,
}

impl Step {
    /// BuildKit's own doings are no news to people.
    fn is_internal(&self) -> bool {
        self.name.is_empty() || self.name.starts_with("[internal]") || self.name.starts_with("exporting to ")
    }
}

impl Follower {
    pub(crate) fn take(&mut self, status: StatusResponse, tell: &mut dyn FnMut(Progress)) {
        for vertex in &status.vertexes {
            self.vertex(vertex, tell);
        }
        for log in &status.logs {
            self.log(log, tell);
        }
        for vertex in status.vertexes.iter().filter(|vertex| vertex.completed.is_some()) {
            self.flush(&vertex.digest, tell);
        }
        for item in &status.statuses {
            let amount = |number: i64| u64::try_from(number).unwrap_or(0);
            if item.total > 0 || item.id.starts_with("transferring") {
                let total = Some(amount(item.total)).filter(|total| *total > 0);
                let name = item.id.trim_end_matches(':').to_owned();
                tell(Progress::Transfer { item: name, current: amount(item.current), total });
            }
        }
        for warning in &status.warnings {
            tell(Progress::Warning(String::from_utf8_lossy(&warning.short).into_owned()));
        }
    }

    /// The name of a step that failed, and the last lines of its output: of the one that BuildKit blames, or else of the
    /// first.
    pub(crate) fn failed(&self, blamed: Option<&str>) -> (Option<String>, Vec<String>) {
        let blamed = blamed.and_then(|digest| self.steps.get(digest));
        let Some(step) = blamed.or_else(|| self.steps.values().find(|step| step.has_failed)) else {
            return (None, Vec::new());
        };
        (Some(step.name.clone()).filter(|name| !name.is_empty()), step.last.iter().cloned().collect())
    }

    fn vertex(&mut self, vertex: &Vertex, tell: &mut dyn FnMut(Progress)) {
        let step = self.steps.entry(vertex.digest.clone()).or_default();
        step.name.clone_from(&vertex.name);
        // One that ended because of another's failure is not to blame.
        step.has_failed |= !vertex.error.is_empty() && !vertex.error.ends_with("context canceled");
        let is_silent = step.is_internal();
        if vertex.cached && !step.is_done && !step.is_started {
            (step.is_started, step.is_done) = (true, true);
            if !is_silent {
                tell(Progress::Cached(vertex.name.clone()));
            }
        }
        if vertex.started.is_some() && !step.is_started {
            step.is_started = true;
            if !is_silent {
                tell(Progress::Started(vertex.name.clone()));
            }
        }
        step.is_done |= vertex.completed.is_some();
    }

    fn log(&mut self, log: &VertexLog, tell: &mut dyn FnMut(Progress)) {
        let step = self.steps.entry(log.vertex.clone()).or_default();
        let mut partial = step.partial.remove(&log.stream).unwrap_or_default();
        partial.extend_from_slice(&log.msg);
        while let Some(end) = partial.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = partial.drain(..=end).collect();
            step.line(log.stream, &line, tell);
        }
        if !partial.is_empty() {
            step.partial.insert(log.stream, partial);
        }
    }

    fn flush(&mut self, digest: &str, tell: &mut dyn FnMut(Progress)) {
        let Some(step) = self.steps.get_mut(digest) else { return };
        for (stream, rest) in std::mem::take(&mut step.partial) {
            step.line(stream, &rest, tell);
        }
    }
}

impl Step {
    fn line(&mut self, stream: i64, line: &[u8], tell: &mut dyn FnMut(Progress)) {
        let text = String::from_utf8_lossy(line);
        // Of what a program drew over itself, the last.
        let text = text.trim_end_matches(['\n', '\r']);
        let text = text.rsplit('\r').next().unwrap_or_default().to_owned();
        if self.last.len() == LAST_LINES {
            self.last.pop_front();
        }
        self.last.push_back(text.clone());
        tell(Progress::Line { step: self.name.clone(), is_error: stream == 2, text });
    }
}

#[cfg(test)]
mod tests {
    use bollard_buildkit_proto::google::protobuf::Timestamp;

    use super::*;

    fn vertex(name: &str) -> Vertex {
        Vertex {
            digest: format!("sha256:{name}"),
            name: name.to_owned(),
            started: Some(Timestamp::default()),
            ..Vertex::default()
        }
    }

    fn log(name: &str, text: &str) -> VertexLog {
        VertexLog { vertex: format!("sha256:{name}"), stream: 1, msg: text.as_bytes().to_vec(), ..VertexLog::default() }
    }

    fn told(follower: &mut Follower, vertexes: Vec<Vertex>, logs: Vec<VertexLog>) -> Vec<String> {
        let mut news = Vec::new();
        follower.take(StatusResponse { vertexes, logs, ..StatusResponse::default() }, &mut |progress| {
            news.push(match progress {
                Progress::Started(name) => format!("+ {name}"),
                Progress::Cached(name) => format!("= {name}"),
                Progress::Line { text, .. } => format!("> {text}"),
                other => format!("{other:?}"),
            });
        });
        news
    }

    #[test]
    fn each_thing_is_told_once_and_lines_are_whole() {
        let mut follower = Follower::default();
        assert_eq!(told(&mut follower, vec![vertex("[1/2] RUN a"), vertex("[internal] x")], vec![]), ["+ [1/2] RUN a"]);
        let cached = Vertex { cached: true, completed: Some(Timestamp::default()), ..vertex("[2/2] COPY b") };
        assert_eq!(told(&mut follower, vec![cached.clone(), vertex("[1/2] RUN a")], vec![]), ["= [2/2] COPY b"]);
        assert_eq!(told(&mut follower, vec![cached], vec![log("[1/2] RUN a", "one\ntw")]), ["> one"]);
        let ended = Vertex { completed: Some(Timestamp::default()), error: "no".into(), ..vertex("[1/2] RUN a") };
        assert_eq!(told(&mut follower, vec![ended], vec![log("[1/2] RUN a", "o 1%\ro 2%")]), ["> o 2%"]);
        let error = "rpc error: code = Canceled desc = context canceled".to_owned();
        told(&mut follower, vec![Vertex { error, ..vertex("[1/2] RUN z") }], vec![]);
        let (name, lines) = follower.failed(None);
        assert_eq!((name.as_deref(), lines), (Some("[1/2] RUN a"), vec!["one".to_owned(), "o 2%".to_owned()]));
    }
}
