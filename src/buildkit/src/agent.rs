//! SSH agents of this host, lent to steps with `RUN --mount=type=ssh`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::pin::Pin;

use async_trait::async_trait;
use bollard_buildkit_proto::moby::sshforward::v1::ssh_server::Ssh;
use bollard_buildkit_proto::moby::sshforward::v1::{BytesMessage, CheckAgentRequest, CheckAgentResponse};
use futures_util::{Stream, StreamExt};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio_util::io::ReaderStream;
use tonic::{Request, Response, Status, Streaming};

/// What a step that names no agent asks for.
const DEFAULT: &str = "default";

/// Sockets of agents, by id.
pub(crate) struct AgentService(pub(crate) BTreeMap<String, PathBuf>);

impl AgentService {
    fn socket(&self, id: &str) -> Result<&PathBuf, Status> {
        let id = if id.is_empty() { DEFAULT } else { id };
        self.0.get(id).ok_or_else(|| Status::not_found(format!("no SSH agent `{id}` is lent to this build")))
    }
}

#[async_trait]
impl Ssh for AgentService {
    type ForwardAgentStream = Pin<Box<dyn Stream<Item = Result<BytesMessage, Status>> + Send>>;

    async fn check_agent(&self, request: Request<CheckAgentRequest>) -> Result<Response<CheckAgentResponse>, Status> {
        self.socket(&request.into_inner().id)?;
        Ok(Response::new(CheckAgentResponse {}))
    }

    async fn forward_agent(
        &self,
        request: Request<Streaming<BytesMessage>>,
    ) -> Result<Response<Self::ForwardAgentStream>, Status> {
        let id = request.metadata().get("buildkit.ssh.id").and_then(|id| id.to_str().ok()).unwrap_or_default();
        let path = self.socket(id)?.clone();
        let unreachable = |error| Status::unavailable(format!("the SSH agent at {} is gone: {error}", path.display()));
        let (answers, mut questions) = UnixStream::connect(&path).await.map_err(unreachable)?.into_split();
        let mut asked = request.into_inner();
        tokio::spawn(async move {
            // Either side's end is the end; nobody is left to tell why.
            while let Some(Ok(message)) = asked.next().await {
                if questions.write_all(&message.data).await.is_err() {
                    break;
                }
            }
        });
        let answers = ReaderStream::new(answers).map(|chunk| match chunk {
            Ok(data) => Ok(BytesMessage { data: data.to_vec() }),
            Err(error) => Err(Status::unavailable(error.to_string())),
        });
        Ok(Response::new(Box::pin(answers)))
    }
}
