//! The session: what BuildKit may ask of its caller while it solves, served over a connection that this side opened.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use bollard_buildkit_proto::health::health_check_response::ServingStatus;
use bollard_buildkit_proto::health::health_server::{Health, HealthServer};
use bollard_buildkit_proto::health::{HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse};
use bollard_buildkit_proto::moby::buildkit::secrets::v1::secrets_server::SecretsServer;
use bollard_buildkit_proto::moby::buildkit::v1::BytesMessage;
use bollard_buildkit_proto::moby::buildkit::v1::control_client::ControlClient;
use bollard_buildkit_proto::moby::filesync::v1::auth_server::AuthServer;
use bollard_buildkit_proto::moby::filesync::v1::file_send_server::FileSendServer;
use bollard_buildkit_proto::moby::filesync::v1::file_sync_server::FileSyncServer;
use bollard_buildkit_proto::moby::sshforward::v1::ssh_server::SshServer;
use futures_util::StreamExt;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use kiln_docker::upgrade::Connection;
use tokio::io::AsyncWriteExt;
use tokio_util::io::ReaderStream;
use tokio_util::task::AbortOnDropHandle;
use tonic::metadata::{Ascii, MetadataKey, MetadataValue};
use tonic::service::Routes;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use crate::agent::AgentService;
use crate::error::SolveError;
use crate::files::{Directory, FileService, Sent};
use crate::logins::{LoginService, Logins, NoLogins};
use crate::output::OutputService;
use crate::secrets::{SecretService, SecretSource};
use crate::transport::{LARGEST_MESSAGE, Transport};

/// Bytes on their way between the two halves of a connection inside of another one.
const WINDOW: usize = 1 << 20;

/// What BuildKit may ask for.
pub struct Session {
    /// Directories by the names that the frontend knows: `context`, `dockerfile`.
    pub directories: BTreeMap<String, Directory>,
    /// Secrets by id.
    pub secrets: BTreeMap<String, SecretSource>,
    /// Sockets of SSH agents by id.
    pub agents: BTreeMap<String, PathBuf>,
    /// Logins at registries.
    pub logins: Arc<dyn Logins>,
    /// The file that an exported archive becomes.
    pub output: Option<PathBuf>,
    /// Counts what was sent.
    pub sent: Sent,
    id: String,
    /// Tells directories of the same name apart: BuildKit compares with what it has under the same key.
    key: String,
}

impl Session {
    /// Serves nothing yet. With the same `key` and the same name, a directory is the same one as in an earlier session.
    pub fn new(key: &str) -> Session {
        Session {
            directories: BTreeMap::new(),
            secrets: BTreeMap::new(),
            agents: BTreeMap::new(),
            logins: Arc::new(NoLogins),
            output: None,
            sent: Sent::default(),
            id: uuid::Uuid::new_v4().simple().to_string(),
            key: key.to_owned(),
        }
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// What a BuildKit is told about the session when it begins.
    fn introduction(&self) -> Vec<(&'static str, String)> {
        let mut told = vec![
            ("x-docker-expose-session-uuid", self.id.clone()),
            ("x-docker-expose-session-name", "kiln".to_owned()),
            ("x-docker-expose-session-sharedkey", self.key.clone()),
        ];
        let mut methods = vec![
            "/grpc.health.v1.Health/Check",
            "/moby.filesync.v1.FileSync/DiffCopy",
            "/moby.filesync.v1.Auth/Credentials",
            "/moby.buildkit.secrets.v1.Secrets/GetSecret",
        ];
        if !self.agents.is_empty() {
            methods.extend(["/moby.sshforward.v1.SSH/CheckAgent", "/moby.sshforward.v1.SSH/ForwardAgent"]);
        }
        if self.output.is_some() {
            methods.push("/moby.filesync.v1.FileSend/DiffCopy");
        }
        told.extend(methods.into_iter().map(|method| ("x-docker-expose-session-grpc-method", method.to_owned())));
        told
    }

    /// Opens the session's connection and serves on it, until the handle is dropped.
    pub(crate) async fn serve(
        self,
        transport: &Transport,
        control: &ControlClient<Channel>,
    ) -> Result<AbortOnDropHandle<Result<(), hyper::Error>>, SolveError> {
        let introduction = self.introduction();
        let connection = match transport {
            Transport::Engine(engine) => {
                let headers: Vec<(&str, &str)> =
                    introduction.iter().map(|(name, value)| (*name, value.as_str())).collect();
                engine.upgrade("/session", &headers).await?
            }
            Transport::Daemon(_) => within(control.clone(), &introduction).await?,
        };
        let service = TowerToHyperService::new(self.routes());
        let mut server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        server.initial_stream_window_size(1 << 20).initial_connection_window_size(4 << 20).max_send_buf_size(1 << 20);
        let serving = server.serve_connection(TokioIo::new(connection), service);
        Ok(AbortOnDropHandle::new(tokio::spawn(serving)))
    }

    fn routes(self) -> Routes {
        let files = FileService { directories: Arc::new(self.directories), sent: self.sent };
        let mut routes = Routes::new(HealthServer::new(Healthy))
            .add_service(FileSyncServer::new(files).max_decoding_message_size(LARGEST_MESSAGE))
            .add_service(AuthServer::new(LoginService(self.logins)))
            .add_service(SecretsServer::new(SecretService(self.secrets)));
        if !self.agents.is_empty() {
            routes = routes.add_service(SshServer::new(AgentService(self.agents)));
        }
        if let Some(output) = self.output {
            let output = FileSendServer::new(OutputService(output)).max_decoding_message_size(LARGEST_MESSAGE);
            routes = routes.add_service(output);
        }
        routes.prepare()
    }
}

/// A connection inside of a call of the control API: how a daemon takes a session.
async fn within(
    mut control: ControlClient<Channel>,
    introduction: &[(&'static str, String)],
) -> Result<Connection, SolveError> {
    let (ours, theirs) = tokio::io::duplex(WINDOW);
    let (reading, mut writing) = tokio::io::split(theirs);
    let outgoing = ReaderStream::with_capacity(reading, 64 * 1024)
        .filter_map(|chunk| std::future::ready(chunk.ok()))
        .map(|chunk| BytesMessage { data: chunk.to_vec() });
    let mut request = Request::new(outgoing);
    for (name, value) in introduction {
        let value: MetadataValue<Ascii> = value.parse().map_err(|error| SolveError::Connection(Box::new(error)))?;
        request.metadata_mut().append(MetadataKey::from_static(name), value);
    }
    let refused = |status: Status| SolveError::Connection(status.message().into());
    let mut incoming = control.session(request).await.map_err(refused)?.into_inner();
    tokio::spawn(async move {
        // Either side's end is the end: the solve tells why.
        while let Some(Ok(message)) = incoming.next().await {
            if writing.write_all(&message.data).await.is_err() {
                return;
            }
        }
        let _ = writing.shutdown().await;
    });
    Ok(Box::new(ours))
}

/// BuildKit asks from time to time whether its caller still lives.
struct Healthy;

#[async_trait::async_trait]
impl Health for Healthy {
    type WatchStream = futures_util::stream::Empty<Result<HealthCheckResponse, Status>>;

    async fn check(&self, _request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        Ok(Response::new(HealthCheckResponse { status: ServingStatus::Serving.into() }))
    }

    async fn list(&self, _request: Request<HealthListRequest>) -> Result<Response<HealthListResponse>, Status> {
        Err(Status::unimplemented("one service, which is well"))
    }

    async fn watch(&self, _request: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        Err(Status::unimplemented("ask again"))
    }
}
