//! Why a solve failed, and which lines BuildKit blames.

use bollard_buildkit_proto::pb;
use kiln_docker::EngineError;
use prost::Message;

/// Lines of a source, from 1, both inclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceRange {
    /// The first.
    pub first: usize,
    /// The last.
    pub last: usize,
}

/// Why a solve gave no result.
#[derive(Debug, thiserror::Error)]
pub enum SolveError {
    /// The engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The daemon's address is none.
    #[error("cannot use the BuildKit daemon's address {address}: {message}")]
    Address {
        /// As given.
        address: String,
        /// What is wrong.
        message: String,
    },
    /// Nobody answers there.
    #[error("no BuildKit daemon answers at {address}")]
    Unreachable {
        /// The address tried.
        address: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The connection broke.
    #[error("the connection to BuildKit broke")]
    Connection(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// BuildKit refused, or what it ran failed.
    #[error("{message}")]
    Failed {
        /// BuildKit's words.
        message: String,
        /// The lines that it blames, of the file that the frontend read.
        range: Option<SourceRange>,
        /// The step that failed, as BuildKit calls it.
        step: Option<String>,
        /// The last lines of that step's output.
        output: Vec<String>,
    },
}

/// What stands in the details of a refusal.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Details {
    pub(crate) range: Option<SourceRange>,
    pub(crate) vertex: Option<String>,
}

/// A source and the ranges in it, as BuildKit's errors carry it.
#[derive(Clone, PartialEq, Message)]
struct ErrorSource {
    #[prost(message, optional, tag = "1")]
    info: Option<pb::SourceInfo>,
    #[prost(message, repeated, tag = "2")]
    ranges: Vec<pb::Range>,
}

/// The step that failed.
#[derive(Clone, PartialEq, Message)]
struct ErrorVertex {
    #[prost(string, tag = "1")]
    digest: String,
}

/// Reads what BuildKit adds to the words of a refusal.
pub(crate) fn details(status: &tonic::Status) -> Details {
    let mut details = Details::default();
    let Ok(whole) = bollard_buildkit_proto::google::rpc::Status::decode(status.details()) else { return details };
    for detail in whole.details {
        let kind = detail.type_url.rsplit('/').next().unwrap_or_default();
        match kind.trim_end_matches("+json") {
            "errdefs.Source" => details.range = source_range(&detail.value).or(details.range),
            "errdefs.Vertex" => details.vertex = vertex(&detail.value).or(details.vertex),
            _ => {}
        }
    }
    details
}

/// The detail as a message, or as the JSON that some versions write.
fn source_range(value: &[u8]) -> Option<SourceRange> {
    let lines: Vec<(usize, usize)> = if value.first() == Some(&b'{') {
        let json: serde_json::Value = serde_json::from_slice(value).ok()?;
        let line = |range: &serde_json::Value, end: &str| range[end]["line"].as_u64().unwrap_or(0) as usize;
        json["ranges"].as_array()?.iter().map(|range| (line(range, "start"), line(range, "end"))).collect()
    } else {
        let source = ErrorSource::decode(value).ok()?;
        let line = |position: Option<pb::Position>| position.map_or(0, |position| position.line.max(0) as usize);
        source.ranges.iter().map(|range| (line(range.start), line(range.end))).collect()
    };
    let first = lines.iter().map(|(first, _)| *first).min().filter(|first| *first > 0)?;
    let last = lines.iter().map(|(_, last)| *last).max().unwrap_or(first).max(first);
    Some(SourceRange { first, last })
}

fn vertex(value: &[u8]) -> Option<String> {
    let digest = if value.first() == Some(&b'{') {
        let json: serde_json::Value = serde_json::from_slice(value).ok()?;
        json["digest"].as_str()?.to_owned()
    } else {
        ErrorVertex::decode(value).ok()?.digest
    };
    Some(digest).filter(|digest| !digest.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_a_detail_are_read() {
        let json = br#"{"info":{"filename":"Dockerfile"},"ranges":[{"start":{"line":3},"end":{"line":4}}]}"#;
        assert_eq!(source_range(json), Some(SourceRange { first: 3, last: 4 }));
        let position = |line| Some(pb::Position { line, character: 0 });
        let range = pb::Range { start: position(7), end: position(7) };
        let message = ErrorSource { info: None, ranges: vec![range] }.encode_to_vec();
        assert_eq!(source_range(&message), Some(SourceRange { first: 7, last: 7 }));
        assert_eq!(source_range(b""), None);
        assert_eq!(vertex(br#"{"digest":"sha256:0"}"#).as_deref(), Some("sha256:0"));
    }
}
