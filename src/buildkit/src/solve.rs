//! One solve, from the request to its answer.

use std::collections::BTreeMap;
use std::time::Duration;

use bollard_buildkit_proto::moby::buildkit::v1::control_client::ControlClient;
use bollard_buildkit_proto::moby::buildkit::v1::{
    CacheOptions, CacheOptionsEntry, SolveRequest, StatusRequest, StatusResponse,
};
use futures_util::StreamExt;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;
use tonic::transport::Channel;

use crate::error::{SolveError, details};
use crate::progress::{Follower, Progress};
use crate::session::Session;
use crate::transport::{Broken, Transport};

/// How long the last news are waited for once the answer is there.
const LAST_NEWS: Duration = Duration::from_secs(2);

/// Where a cache is: `type=registry,ref=...`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CacheEntry {
    /// `registry`, `local`, `inline`, ...
    pub kind: String,
    /// Everything else.
    pub attributes: BTreeMap<String, String>,
}

/// What to solve.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// `dockerfile.v0`.
    pub frontend: String,
    /// Options of the frontend.
    pub options: BTreeMap<String, String>,
    /// What to make of the result; nothing where `None`.
    pub exporter: Option<String>,
    /// Options of the exporter.
    pub exporter_options: BTreeMap<String, String>,
    /// Caches to look into.
    pub cache_from: Vec<CacheEntry>,
    /// Caches to fill.
    pub cache_to: Vec<CacheEntry>,
    /// What the caller allows beyond the usual: `network.host`.
    pub entitlements: Vec<String>,
}

/// Solves, and tells what happens meanwhile. Where the future is dropped, BuildKit stops.
///
/// Returns what the exporter says of the result: `containerimage.digest`, `containerimage.config.digest`, ...
///
/// # Errors
/// [`SolveError`]; of a step that failed with its name, lines and last output.
pub async fn solve(
    transport: &Transport,
    session: Session,
    request: Request,
    tell: &mut (dyn FnMut(Progress) + Send),
) -> Result<BTreeMap<String, String>, SolveError> {
    let broken = Broken::default();
    let answer = solve_over(transport, &broken, session, request, tell).await;
    answer.map_err(|error| broken.explain(error))
}

async fn solve_over(
    transport: &Transport,
    broken: &Broken,
    session: Session,
    request: Request,
    tell: &mut (dyn FnMut(Progress) + Send),
) -> Result<BTreeMap<String, String>, SolveError> {
    let mut control = transport.control(broken).await?;
    let session_id = session.id().to_owned();
    // Dropped with this future, and all that is served with it.
    let serving = session.serve(transport, &control).await?;
    let reference = uuid::Uuid::new_v4().simple().to_string();
    let (sender, mut news) = mpsc::channel(64);
    let following = AbortOnDropHandle::new(tokio::spawn(follow(control.clone(), reference.clone(), sender)));
    let mut follower = Follower::default();
    let answer = {
        let solving = control.solve(message(request, reference, session_id));
        tokio::pin!(solving);
        let mut is_open = true;
        loop {
            tokio::select! {
                status = news.recv(), if is_open => match status {
                    Some(status) => follower.take(status, tell),
                    None => is_open = false,
                },
                answer = &mut solving => break answer,
            }
        }
    };
    let rest = async {
        while let Some(status) = news.recv().await {
            follower.take(status, tell);
        }
    };
    // News that do not come are no reason to fail.
    let _ = tokio::time::timeout(LAST_NEWS, rest).await;
    drop(following);
    drop(serving);
    match answer {
        Ok(answer) => Ok(answer.into_inner().exporter_response.into_iter().collect()),
        Err(status) => Err(failed(&status, &follower)),
    }
}

async fn follow(mut control: ControlClient<Channel>, reference: String, news: mpsc::Sender<StatusResponse>) {
    // What it cannot tell the solve's own answer will.
    let Ok(stream) = control.status(StatusRequest { r#ref: reference }).await else { return };
    let mut stream = stream.into_inner();
    while let Some(Ok(status)) = stream.next().await {
        if news.send(status).await.is_err() {
            return;
        }
    }
}

fn message(mut request: Request, reference: String, session: String) -> SolveRequest {
    if !request.cache_from.is_empty() {
        // It is the frontend that looks into caches.
        let entry = |entry: &CacheEntry| serde_json::json!({ "Type": entry.kind, "Attrs": entry.attributes });
        let imports: Vec<serde_json::Value> = request.cache_from.iter().map(entry).collect();
        request.options.insert("cache-imports".to_owned(), serde_json::Value::from(imports).to_string());
    }
    let entries = |entries: Vec<CacheEntry>| -> Vec<CacheOptionsEntry> {
        let entry =
            |entry: CacheEntry| CacheOptionsEntry { r#type: entry.kind, attrs: entry.attributes.into_iter().collect() };
        entries.into_iter().map(entry).collect()
    };
    SolveRequest {
        r#ref: reference,
        session,
        frontend: request.frontend,
        frontend_attrs: request.options.into_iter().collect(),
        // The form that all versions read.
        exporter_deprecated: request.exporter.unwrap_or_default(),
        exporter_attrs_deprecated: request.exporter_options.into_iter().collect(),
        cache: Some(CacheOptions {
            exports: entries(request.cache_to),
            imports: entries(request.cache_from),
            ..CacheOptions::default()
        }),
        entitlements: request.entitlements,
        ..SolveRequest::default()
    }
}

fn failed(status: &tonic::Status, follower: &Follower) -> SolveError {
    let is_connection = status.code() == tonic::Code::Unavailable || std::error::Error::source(status).is_some();
    if is_connection {
        return SolveError::Connection(status.message().into());
    }
    let details = details(status);
    let (step, output) = follower.failed(details.vertex.as_deref());
    SolveError::Failed { message: status.message().to_owned(), range: details.range, step, output }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_frontend_is_told_of_caches() {
        let attributes = BTreeMap::from([("ref".to_owned(), "host/cache".to_owned())]);
        let cache_from = vec![CacheEntry { kind: "registry".to_owned(), attributes }];
        let message = message(Request { cache_from, ..Request::default() }, String::new(), String::new());
        let told: serde_json::Value = serde_json::from_str(&message.frontend_attrs["cache-imports"]).unwrap();
        assert_eq!(told, serde_json::json!([{ "Type": "registry", "Attrs": { "ref": "host/cache" } }]));
        assert_eq!(message.cache.unwrap().imports.len(), 1);
    }
}
