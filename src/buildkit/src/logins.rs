//! Logins at registries, asked for by BuildKit when it pulls or pushes.

use std::sync::Arc;

use async_trait::async_trait;
use bollard_buildkit_proto::moby::filesync::v1::auth_server::Auth;
use bollard_buildkit_proto::moby::filesync::v1::{
    CredentialsRequest, CredentialsResponse, FetchTokenRequest, FetchTokenResponse, GetTokenAuthorityRequest,
    GetTokenAuthorityResponse, VerifyTokenAuthorityRequest, VerifyTokenAuthorityResponse,
};
use kiln_registry::Credentials;
use tonic::{Request, Response, Status};

/// Finds logins.
#[async_trait]
pub trait Logins: Send + Sync {
    /// The login for a registry, as `registry.example.org` or `docker.io`; `None` for none.
    ///
    /// # Errors
    /// Why the place where it is kept cannot be asked, in words.
    async fn find(&self, registry: &str) -> Result<Option<Credentials>, String>;
}

/// Nobody is logged in anywhere.
pub(crate) struct NoLogins;

#[async_trait]
impl Logins for NoLogins {
    async fn find(&self, _registry: &str) -> Result<Option<Credentials>, String> {
        Ok(None)
    }
}

pub(crate) struct LoginService(pub(crate) Arc<dyn Logins>);

#[async_trait]
impl Auth for LoginService {
    async fn credentials(&self, request: Request<CredentialsRequest>) -> Result<Response<CredentialsResponse>, Status> {
        let host = request.into_inner().host;
        // BuildKit asks for the host that it speaks to; logins bear the registry's name.
        let registry = if host == "registry-1.docker.io" { "docker.io" } else { &host };
        let found = self.0.find(registry).await.map_err(Status::internal)?;
        let answer = found.map(|found| match found.identity_token {
            Some(token) => CredentialsResponse { username: String::new(), secret: token.expose().to_owned() },
            None => CredentialsResponse { username: found.username, secret: found.password.expose().to_owned() },
        });
        Ok(Response::new(answer.unwrap_or_default()))
    }

    // BuildKit goes on with the credentials where these are not there.

    async fn fetch_token(&self, _request: Request<FetchTokenRequest>) -> Result<Response<FetchTokenResponse>, Status> {
        Err(Status::unimplemented("tokens are fetched by BuildKit itself"))
    }

    async fn get_token_authority(
        &self,
        _request: Request<GetTokenAuthorityRequest>,
    ) -> Result<Response<GetTokenAuthorityResponse>, Status> {
        Err(Status::unimplemented("tokens are fetched by BuildKit itself"))
    }

    async fn verify_token_authority(
        &self,
        _request: Request<VerifyTokenAuthorityRequest>,
    ) -> Result<Response<VerifyTokenAuthorityResponse>, Status> {
        Err(Status::unimplemented("tokens are fetched by BuildKit itself"))
    }
}
