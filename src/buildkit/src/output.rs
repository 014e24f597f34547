//! What BuildKit exports: an archive, written to a file of this host while it arrives.

use std::path::PathBuf;
use std::pin::Pin;

use async_trait::async_trait;
use bollard_buildkit_proto::moby::filesync::v1::BytesMessage;
use bollard_buildkit_proto::moby::filesync::v1::file_send_server::FileSend;
use futures_util::{Stream, StreamExt};
use tokio::io::AsyncWriteExt;
use tonic::{Request, Response, Status, Streaming};

pub(crate) struct OutputService(pub(crate) PathBuf);

#[async_trait]
impl FileSend for OutputService {
    type DiffCopyStream = Pin<Box<dyn Stream<Item = Result<BytesMessage, Status>> + Send>>;

    async fn diff_copy(
        &self,
        request: Request<Streaming<BytesMessage>>,
    ) -> Result<Response<Self::DiffCopyStream>, Status> {
        let failed = |error| Status::internal(format!("cannot write {}: {error}", self.0.display()));
        let file = tokio::fs::File::create(&self.0).await.map_err(failed)?;
        let mut file = tokio::io::BufWriter::with_capacity(1 << 20, file);
        let mut chunks = request.into_inner();
        while let Some(chunk) = chunks.next().await {
            file.write_all(&chunk?.data).await.map_err(failed)?;
        }
        file.flush().await.map_err(failed)?;
        Ok(Response::new(Box::pin(futures_util::stream::empty())))
    }
}
