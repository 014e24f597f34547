//! Secrets of `RUN --mount=type=secret`, handed over when a step asks for one.

use std::collections::BTreeMap;

use async_trait::async_trait;
use bollard_buildkit_proto::moby::buildkit::secrets::v1::secrets_server::Secrets;
use bollard_buildkit_proto::moby::buildkit::secrets::v1::{GetSecretRequest, GetSecretResponse};
use tonic::{Request, Response, Status};

/// BuildKit's own bound on a secret, in bytes.
const LARGEST: u64 = 500 * 1024;

/// Where a secret is.
#[derive(Clone)]
pub enum SecretSource {
    /// Here.
    Value(kiln_core::Secret),
    /// In a file of this host, read when it is asked for.
    File(std::path::PathBuf),
}

pub(crate) struct SecretService(pub(crate) BTreeMap<String, SecretSource>);

#[async_trait]
impl Secrets for SecretService {
    async fn get_secret(&self, request: Request<GetSecretRequest>) -> Result<Response<GetSecretResponse>, Status> {
        let id = request.into_inner().id;
        let data = match self.0.get(&id) {
            None => return Err(Status::not_found(format!("secret {id} not found"))),
            Some(SecretSource::Value(value)) => value.expose().as_bytes().to_vec(),
            Some(SecretSource::File(path)) => {
                let failed = |error| Status::internal(format!("cannot read the file of the secret {id}: {error}"));
                let length = tokio::fs::metadata(path).await.map_err(failed)?.len();
                if length > LARGEST {
                    return Err(Status::invalid_argument(format!("the secret {id} is larger than {LARGEST} bytes")));
                }
                tokio::fs::read(path).await.map_err(failed)?
            }
        };
        Ok(Response::new(GetSecretResponse { data }))
    }
}
