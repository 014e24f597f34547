//! HTTP for the SDK over kiln's own client, so that certificates and proxies are the same everywhere. It also notes what
//! the SDK does not tell: whether a call that failed may have reached the service.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_smithy_runtime_api::client::connector_metadata::ConnectorMetadata;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;

/// Between a request and its answer, and between two pieces of the answer; as long as AWS's own tools wait.
const SILENCE: Duration = Duration::from_secs(60);
/// Where the SDK asks for no bound of its own.
const CONNECT: Duration = Duration::from_secs(5);

/// Hosts of the metadata services of instances and containers. They are never behind a proxy.
const METADATA: [&str; 4] = ["169.254.169.254", "169.254.170.2", "169.254.170.23", "[fd00:ec2::254]"];

/// One client for all services, with the surroundings it was made for.
#[derive(Clone)]
pub(crate) struct Http(Arc<Inner>);

struct Inner {
    environment: BTreeMap<String, String>,
    /// Certificates are not checked.
    is_lax: bool,
    /// By how long connecting may take. Made when first needed: that reads certificates.
    clients: Mutex<HashMap<Duration, reqwest::Client>>,
}

impl fmt::Debug for Http {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Http").field("is_lax", &self.0.is_lax).finish_non_exhaustive()
    }
}

impl Http {
    /// Nothing is connected to yet.
    pub(crate) fn new(environment: BTreeMap<String, String>, is_lax: bool) -> Http {
        Http(Arc::new(Inner { environment, is_lax, clients: Mutex::default() }))
    }

    /// The client itself.
    pub(crate) fn client(&self, connect: Option<Duration>) -> Result<reqwest::Client, kiln_http::Error> {
        let connect = connect.unwrap_or(CONNECT);
        let mut clients = self.0.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&connect) {
            return Ok(client.clone());
        }
        let client = build(&self.0, connect)?;
        clients.insert(connect, client.clone());
        Ok(client)
    }

    /// Whether a machine's metadata service may be asked.
    fn refuses(&self, host: &str) -> bool {
        let is_disabled = |value: &String| value.eq_ignore_ascii_case("true");
        host == METADATA[0] && self.0.environment.get("AWS_EC2_METADATA_DISABLED").is_some_and(is_disabled)
    }

    async fn send(&self, request: HttpRequest, connect: Option<Duration>) -> Result<HttpResponse, ConnectorError> {
        let request = request.try_into_http1x().map_err(|error| ConnectorError::user(error.into()))?;
        let host = request.uri().host().unwrap_or_default().to_owned();
        if self.refuses(&host) {
            return Err(ConnectorError::user("AWS_EC2_METADATA_DISABLED is set".into()));
        }
        let (head, body) = request.into_parts();
        let body = body.bytes().map(Bytes::copy_from_slice);
        let body = body.ok_or_else(|| ConnectorError::user("requests whose body is a stream are not sent".into()))?;
        let client = self.client(connect).map_err(|error| ConnectorError::user(error.into()))?;
        let request = http::Request::from_parts(head, body);
        let request = request.try_into().map_err(|error: reqwest::Error| ConnectorError::user(error.into()))?;
        // Until an answer is there whole, nobody knows whether the service has carried it out. That goes for a call that is
        // given up, too.
        let unknown = Unknown::begin();
        let failed = |error: reqwest::Error, unknown: Unknown| {
            if error.is_connect() {
                unknown.never_sent();
            }
            connector_error(error)
        };
        let response = match client.execute(request).await {
            Ok(response) => response,
            Err(error) => return Err(failed(error, unknown)),
        };
        let status = response.status();
        let headers = response.headers().clone();
        let body = match response.bytes().await {
            Ok(body) => body,
            Err(error) => return Err(failed(error, unknown)),
        };
        unknown.answered(status.as_u16());
        let mut answer = http::Response::new(SdkBody::from(body));
        *answer.status_mut() = status;
        *answer.headers_mut() = headers;
        HttpResponse::try_from(answer).map_err(|error| ConnectorError::other(error.into(), None))
    }
}

fn build(inner: &Inner, connect: Duration) -> Result<reqwest::Client, kiln_http::Error> {
    let builder =
        kiln_http::Options { environment: &inner.environment, is_lax: inner.is_lax, direct: &METADATA, ca_files: &[] };
    let builder = builder.client()?.connect_timeout(connect).read_timeout(SILENCE);
    builder.build().map_err(kiln_http::Error::from)
}

fn connector_error(error: reqwest::Error) -> ConnectorError {
    let error = error.without_url();
    if error.is_timeout() {
        ConnectorError::timeout(error.into())
    } else if error.is_builder() {
        ConnectorError::user(error.into())
    } else if error.is_connect() {
        // A certificate that is not trusted, a name that does not exist: that does not mend itself, but a daemon that
        // restarts does, and the two look alike from here.
        ConnectorError::io(error.into()).never_connected()
    } else {
        ConnectorError::io(error.into())
    }
}

impl HttpClient for Http {
    fn http_connector(&self, settings: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(Connector { http: self.clone(), connect: settings.connect_timeout() })
    }

    fn connector_metadata(&self) -> Option<ConnectorMetadata> {
        Some(ConnectorMetadata::new("reqwest", None))
    }
}

#[derive(Debug)]
struct Connector {
    http: Http,
    connect: Option<Duration>,
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let (http, connect) = (self.http.clone(), self.connect);
        HttpConnectorFuture::new(async move { http.send(request, connect).await })
    }
}

tokio::task_local! {
    /// Whether some try of the call that runs here may have been carried out although no good answer came.
    static MAY_HAVE_RUN: Cell<bool>;
}

/// Runs a call with all its tries. Beside the result: whether one of the tries may have been carried out unseen.
pub(crate) async fn watch<T>(call: impl Future<Output = T>) -> (T, bool) {
    MAY_HAVE_RUN
        .scope(Cell::new(false), async {
            let result = call.await;
            (result, MAY_HAVE_RUN.with(Cell::get))
        })
        .await
}

/// A request on its way. Dropped without a word, it may have been carried out.
struct Unknown {
    is_open: bool,
}

impl Unknown {
    fn begin() -> Unknown {
        Unknown { is_open: true }
    }

    fn never_sent(mut self) {
        self.is_open = false;
    }

    /// Of an internal error nobody knows how far the service came; 503 is said before anything is done.
    fn answered(mut self, status: u16) {
        self.is_open = status >= 500 && status != 503;
    }
}

impl Drop for Unknown {
    fn drop(&mut self) {
        if self.is_open {
            // Credentials are fetched outside of watched calls, too.
            let _ = MAY_HAVE_RUN.try_with(|seen| seen.set(true));
        }
    }
}

/// The innermost cause, which names what is wrong with a connection.
pub(crate) fn root_cause(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
