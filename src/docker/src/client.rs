//! The connection: which engine, over what, and how its errors read.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bollard::{API_DEFAULT_VERSION, Docker};
use kiln_registry::Credentials;
use tokio::sync::OnceCell;

use crate::engine::EngineVersion;
use crate::error::EngineError;
use crate::ssh::{self, Destination};

/// Where Docker listens when nothing else is said.
pub const DEFAULT_HOST: &str = "unix:///var/run/docker.sock";

/// Bound on calls that an engine answers at once, such as an inspection.
const SHORT: Duration = Duration::from_secs(120);

/// For calls that take as long as they take (commit, build, upload): no bound, in bollard's seconds.
const UNBOUNDED: Duration = Duration::from_secs(u32::MAX as u64);

/// The engine behind an address. Nothing is connected before the first call.
pub struct BollardEngine {
    address: String,
    certificates: Option<PathBuf>,
    /// Where an `ssh://` address leads.
    destination: Option<Destination>,
    /// What is wrong with the address, where that is told only when an engine is needed.
    problem: Option<String>,
    connection: OnceCell<Connection>,
}

impl std::fmt::Debug for BollardEngine {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("BollardEngine").field("address", &self.address).finish_non_exhaustive()
    }
}

/// A connection whose API version is agreed.
pub(crate) struct Connection {
    short: Docker,
    unbounded: Docker,
    pub(crate) version: EngineVersion,
    /// Podman in Docker's place.
    pub(crate) is_podman: bool,
}

impl BollardEngine {
    /// The engine at `host`, or else where `environment` says: `DOCKER_HOST` (`unix://`, `tcp://`, `http://`, `https://`,
    /// `ssh://`), with `DOCKER_TLS_VERIFY` and `DOCKER_CERT_PATH` (`ca.pem`, `cert.pem`, `key.pem`; `~/.docker` by `HOME`
    /// where unset) for tcp; or else docker's socket. Connects at the first call, and again at the next one if that fails.
    pub fn connect(host: Option<&str>, environment: &BTreeMap<String, String>) -> Result<BollardEngine, EngineError> {
        let variable = |name: &str| environment.get(name).map(String::as_str).filter(|value| !value.is_empty());
        let address = host.or_else(|| variable("DOCKER_HOST")).unwrap_or(DEFAULT_HOST).to_owned();
        let wrong =
            |message: &str| EngineError::Address { address: without_password(&address), message: message.to_owned() };
        let scheme = address.split_once("://").map(|(scheme, _)| scheme);
        let is_tls = match scheme {
            Some("unix" | "ssh") => false,
            Some("tcp" | "http") => variable("DOCKER_TLS_VERIFY").is_some(),
            Some("https") => true,
            Some(other) => return Err(wrong(&format!("`{other}://` is not supported"))),
            None => return Err(wrong("it has no scheme such as `unix://`")),
        };
        let certificates = match (is_tls, variable("DOCKER_CERT_PATH"), variable("HOME")) {
            (false, ..) => None,
            (true, Some(path), _) => Some(PathBuf::from(path)),
            (true, None, Some(home)) => Some(Path::new(home).join(".docker")),
            (true, None, None) => return Err(wrong("it wants TLS, and DOCKER_CERT_PATH is not set")),
        };
        let destination = match scheme {
            Some("ssh") => Some(Destination::parse(&address).map_err(wrong)?),
            _ => None,
        };
        Ok(BollardEngine { address, certificates, destination, problem: None, connection: OnceCell::new() })
    }

    /// The engine that `environment` names, as [`BollardEngine::connect`]; where that is no address, every call says so.
    pub fn when_needed(environment: &BTreeMap<String, String>) -> BollardEngine {
        let (address, problem) = match BollardEngine::connect(None, environment) {
            Ok(engine) => return engine,
            Err(EngineError::Address { address, message }) => (address, message),
            Err(other) => (DEFAULT_HOST.to_owned(), other.to_string()),
        };
        let problem = Some(problem);
        BollardEngine { address, certificates: None, destination: None, problem, connection: OnceCell::new() }
    }

    pub(crate) fn address_text(&self) -> &str {
        &self.address
    }

    pub(crate) fn certificates(&self) -> Option<&Path> {
        self.certificates.as_deref()
    }

    pub(crate) fn destination(&self) -> Option<&Destination> {
        self.destination.as_ref()
    }

    pub(crate) async fn connection(&self) -> Result<&Connection, EngineError> {
        self.connection.get_or_try_init(|| self.open()).await
    }

    /// For calls that the engine answers at once.
    pub(crate) async fn short(&self) -> Result<&Docker, EngineError> {
        Ok(&self.connection().await?.short)
    }

    /// For calls that may take long.
    pub(crate) async fn unbounded(&self) -> Result<&Docker, EngineError> {
        Ok(&self.connection().await?.unbounded)
    }

    async fn open(&self) -> Result<Connection, EngineError> {
        if let Some(message) = self.problem.clone() {
            return Err(EngineError::Address { address: self.address.clone(), message });
        }
        let docker = self.client().map_err(|error| self.unreachable(error))?;
        let docker = docker.with_request_modifier(with_url_safe_credentials).with_timeout(SHORT);
        let docker = docker.negotiate_version().await.map_err(|error| self.unreachable(error))?;
        let version = docker.version().await.map_err(|error| self.unreachable(error))?;
        let parts = version.components.unwrap_or_default();
        Ok(Connection {
            is_podman: parts.iter().any(|part| part.name.starts_with("Podman")),
            unbounded: docker.clone().with_timeout(UNBOUNDED),
            short: docker,
            version: EngineVersion {
                version: version.version.unwrap_or_default(),
                api: version.api_version.unwrap_or_default(),
                os: version.os.unwrap_or_default(),
                architecture: version.arch.unwrap_or_default(),
            },
        })
    }

    fn client(&self) -> Result<Docker, bollard::errors::Error> {
        let (address, seconds, version) = (self.address.as_str(), SHORT.as_secs(), API_DEFAULT_VERSION);
        if let Some(directory) = &self.certificates {
            let file = |name: &str| directory.join(name);
            return Docker::connect_with_ssl(
                address,
                &file("key.pem"),
                &file("cert.pem"),
                &file("ca.pem"),
                seconds,
                version,
            );
        }
        if let Some(destination) = &self.destination {
            return ssh::client(destination.clone(), seconds);
        }
        match address.split_once("://").map(|(scheme, _)| scheme) {
            Some("unix") => Docker::connect_with_unix(address, seconds, version),
            _ => Docker::connect_with_http(address, seconds, version),
        }
    }

    fn unreachable(&self, error: bollard::errors::Error) -> EngineError {
        use bollard::errors::Error;
        let source: Box<dyn std::error::Error + Send + Sync> = match error {
            Error::SocketNotFoundError(path) => {
                Box::new(std::io::Error::new(std::io::ErrorKind::NotFound, format!("the socket {path} does not exist")))
            }
            Error::RequestTimeoutError => format!("no answer within {} seconds", SHORT.as_secs()).into(),
            // Its own text repeats what its causes say.
            Error::HyperLegacyError { err } => Box::new(err),
            other => Box::new(other),
        };
        EngineError::Unreachable { address: self.address.clone(), source }
    }
}

/// The engine reads credentials as URL-safe base64; bollard writes the other alphabet, and the engine then silently takes
/// them for none.
fn with_url_safe_credentials(mut request: bollard::BollardRequest) -> bollard::BollardRequest {
    for (name, value) in request.headers_mut() {
        if !matches!(name.as_str(), "x-registry-auth" | "x-registry-config") {
            continue;
        }
        let fixed = value.to_str().map(|text| text.replace('+', "-").replace('/', "_"));
        if let Some(mut fixed) = fixed.ok().and_then(|text| text.parse::<http::HeaderValue>().ok()) {
            fixed.set_sensitive(true);
            *value = fixed;
        }
    }
    request
}

pub(crate) fn docker_credentials(credentials: &Credentials, registry: &str) -> bollard::auth::DockerCredentials {
    // Docker Hub goes by this name in everything that is older than its new one.
    let server = if registry == "docker.io" { "https://index.docker.io/v1/" } else { registry };
    let identity = credentials.identity_token.as_ref().map(|token| token.expose().to_owned());
    let has_identity = identity.is_some();
    bollard::auth::DockerCredentials {
        username: (!credentials.username.is_empty()).then(|| credentials.username.clone()),
        password: (!has_identity).then(|| credentials.password.expose().to_owned()),
        serveraddress: Some(server.to_owned()),
        identitytoken: identity,
        ..Default::default()
    }
}

/// Turns bollard's errors into ours: `what` for "does not exist", `action` for all else.
pub(crate) fn failed<'a>(action: &'a str, what: &'a str) -> impl Fn(bollard::errors::Error) -> EngineError + 'a {
    use bollard::errors::Error;
    move |error| match error {
        Error::DockerResponseServerError { status_code: 404, message } => {
            EngineError::NotFound { what: what.to_owned(), message: tidy(&message) }
        }
        Error::DockerResponseServerError { status_code, message } => {
            EngineError::Refused { action: action.to_owned(), message: tidy(&message), status: Some(status_code) }
        }
        Error::DockerStreamError { error } => {
            EngineError::Refused { action: action.to_owned(), message: tidy(&error), status: None }
        }
        Error::HyperLegacyError { err } => EngineError::Connection { action: action.to_owned(), source: Box::new(err) },
        other => EngineError::Connection { action: action.to_owned(), source: Box::new(other) },
    }
}

/// An address as it may be shown: whoever put a password there will see it refused, not printed.
fn without_password(address: &str) -> String {
    let (scheme, rest) = address.split_once("://").unwrap_or(("", address));
    match rest.rsplit_once('@').and_then(|(login, host)| Some((login.split_once(':')?.0, host))) {
        Some((user, host)) => format!("{scheme}://{user}:***@{host}"),
        None => address.to_owned(),
    }
}

/// Podman answers with a document where Docker has words, inside streams and in `message` itself.
fn tidy(message: &str) -> String {
    let document = serde_json::from_str::<serde_json::Value>(message).ok();
    let words = |name: &str| document.as_ref()?.get(name)?.as_str().map(str::to_owned);
    let words = words("message").or_else(|| words("error")).unwrap_or_else(|| message.to_owned());
    words.trim().trim_end_matches('.').to_owned()
}

/// A reference goes into the path of a request, so what could change that path is refused here.
pub(crate) fn checked_reference(reference: &str) -> Result<&str, EngineError> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-:/@".contains(&byte);
    let is_safe = !reference.is_empty()
        && reference.bytes().all(is_plain)
        && !reference.split('/').any(|part| matches!(part, "" | "." | ".."));
    if is_safe {
        return Ok(reference);
    }
    Err(EngineError::Refused {
        action: format!("read the image reference `{reference}`"),
        message: "it is no image reference such as registry.example.org/group/image:tag".to_owned(),
        status: Some(400),
    })
}

/// A moment as the engine writes it (RFC 3339, in UTC, such as `2024-03-01T12:00:00.5Z`), in seconds since the epoch.
pub(crate) fn seconds_of(text: &str) -> Option<i64> {
    let text = text.strip_suffix('Z')?;
    let (date, time) = text.split_once('T')?;
    let mut date = date.splitn(3, '-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let mut time = time.split('.').next()?.splitn(3, ':').map(|part| part.parse::<i64>().ok());
    let (hour, minute, second) = (time.next()??, time.next()??, time.next()??);
    // Years begin in March here, so that the leap day is the last one.
    let year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + day_of_year - 719_468;
    Some(days * 86_400 + hour * 3600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use kiln_core::{Failure, FailureClass, Secret};

    use super::*;
    use crate::engine::Engine;

    #[test]
    fn moments_of_the_engine() {
        assert_eq!(seconds_of("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(seconds_of("2024-02-29T12:00:01.123456789Z"), Some(1_709_208_001));
        assert_eq!(seconds_of("2000-03-01T00:00:00Z"), Some(951_868_800));
        assert_eq!(seconds_of("yesterday"), None);
    }

    #[test]
    fn what_podman_answers_is_read_out() {
        let stream = r#"{"errorDetail":{"message":"no such host"},"error":"no such host"}"#;
        let answer = r#"{"cause":"in use","message":"image is in use by a container","response":409}"#;
        for (said, told) in
            [("denied.\n", "denied"), (stream, "no such host"), (answer, "image is in use by a container")]
        {
            assert_eq!(tidy(said), told);
        }
    }

    fn environment(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn the_address_comes_from_the_argument_the_environment_or_the_default() {
        let host = environment(&[("DOCKER_HOST", "tcp://far:2375")]);
        assert_eq!(BollardEngine::connect(None, &environment(&[])).unwrap().address, DEFAULT_HOST);
        assert_eq!(BollardEngine::connect(None, &host).unwrap().address, "tcp://far:2375");
        assert_eq!(BollardEngine::connect(Some("ssh://me@far"), &host).unwrap().address, "ssh://me@far");
        let tls = environment(&[("DOCKER_HOST", "tcp://far:2376"), ("DOCKER_TLS_VERIFY", "1"), ("HOME", "/home/me")]);
        let engine = BollardEngine::connect(None, &tls).unwrap();
        assert_eq!(engine.certificates.as_deref(), Some(Path::new("/home/me/.docker")));
        let error = BollardEngine::connect(Some("gopher://x"), &tls).unwrap_err();
        assert!(error.to_string().contains("`gopher://` is not supported"), "{error}");
        assert!(BollardEngine::connect(Some("/run/docker.sock"), &tls).is_err());
        let error = BollardEngine::connect(Some("ssh://me:hunter22@far"), &tls).unwrap_err().to_string();
        assert!(error.contains("ssh://me:***@far") && !error.contains("hunter22"), "{error}");
    }

    #[tokio::test]
    async fn an_address_that_is_none_is_told_by_the_first_call() {
        let engine = BollardEngine::when_needed(&environment(&[("DOCKER_HOST", "gopher://me:hunter22@x")]));
        for _ in 0..2 {
            let failure = Failure::from(engine.inspect_image("x").await.unwrap_err());
            assert_eq!(failure.class, FailureClass::Environment);
            let told = failure.chain();
            assert!(told.contains("`gopher://` is not supported") && !told.contains("hunter22"), "{told}");
            assert!(failure.hints[0].contains("DOCKER_HOST"), "{:?}", failure.hints);
        }
    }

    #[tokio::test]
    async fn nobody_at_the_address_is_an_error_of_the_environment() {
        let directory = tempfile::tempdir().unwrap();
        let address = format!("unix://{}/none.sock", directory.path().display());
        let engine = BollardEngine::connect(Some(&address), &environment(&[])).unwrap();
        let failure = Failure::from(engine.inspect_image("x").await.unwrap_err());
        assert_eq!(failure.class, FailureClass::Environment);
        assert!(failure.hints[0].contains("does not exist"), "{:?}", failure.hints);
        // A socket that nobody listens on any more.
        let dead = directory.path().join("dead.sock");
        drop(std::os::unix::net::UnixListener::bind(&dead).unwrap());
        let engine = BollardEngine::connect(Some(&format!("unix://{}", dead.display())), &environment(&[])).unwrap();
        let failure = Failure::from(engine.version().await.unwrap_err());
        assert!(failure.hints[0].contains("nothing listens"), "{:?} {}", failure.hints, failure.chain());
        let engine = BollardEngine::connect(Some("tcp://127.0.0.1:1"), &environment(&[])).unwrap();
        let failure = Failure::from(engine.version().await.unwrap_err());
        assert!(failure.chain().contains("refused"), "{}", failure.chain());
    }

    #[test]
    fn credentials_travel_in_the_alphabet_that_the_engine_reads() {
        let request = http::Request::builder().header("X-Registry-Auth", "ab+/c=").header("X-Other", "a+b");
        let body = bollard::body_full(bytes::Bytes::new());
        let request = with_url_safe_credentials(request.body(body).unwrap());
        assert_eq!(request.headers()["x-registry-auth"], "ab-_c=");
        assert_eq!(request.headers()["x-other"], "a+b");
        let token = Credentials { identity_token: Some(Secret::new("t")), ..Credentials::default() };
        let sent = docker_credentials(&token, "docker.io");
        assert_eq!((sent.password, sent.identitytoken.as_deref()), (None, Some("t")));
        assert_eq!(sent.serveraddress.as_deref(), Some("https://index.docker.io/v1/"));
    }

    #[test]
    fn a_reference_cannot_change_the_request() {
        assert!(checked_reference("registry:5000/a/b:1@sha256:ab").is_ok());
        for bad in ["", "a?force=1", "a/../b", "a b", "a//b", "a%2f", "#x"] {
            assert!(checked_reference(bad).is_err(), "{bad}");
        }
    }
}
