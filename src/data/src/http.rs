//! `http`: one request, for a text.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kiln_core::{DataOutputs, DataSource, DataSourceKind, Decoded, Diagnostic, Diagnostics, Failure, Field, FieldType};
use kiln_core::{Output, Schema};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue, LOCATION, RETRY_AFTER};
use reqwest::{Client, Method, Response, StatusCode, Url};
use serde_json::json;
use tokio::sync::OnceCell;

use crate::DataSettings;
use crate::client;
use crate::error::HttpError;

/// The most that is read of an answer, in MiB.
const LARGEST_MIB: usize = 16;
const LONGEST: Duration = Duration::from_secs(300);
const MOST_REDIRECTIONS: usize = 10;
/// Waits before the second and third try.
const WAITS: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(2)];
/// A server may ask for more patience, up to this.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

const METHODS: &[&str] = &["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"];

const SCHEMA: Schema = Schema {
    kind: "http",
    title: "an `http` data source",
    doc: "Asks an HTTP server for a text. Redirections are followed; arguments in `request_headers` are not sent to \
          another host. An answer other than 2xx is an error, and so is one that is not UTF-8 or larger than 16 MiB.",
    fields: &[
        Field::string("url", "The address, `http://` or `https://`.").required(),
        Field::new("method", FieldType::OneOf(METHODS), "The method of the request.").default("GET"),
        Field::map("request_headers", "Headers of the request."),
        Field::string("request_body", "What is sent with the request."),
    ],
    example: "data \"http\" \"release\" {\n  url             = \"https://example.com/release.txt\"\n  request_headers = { \
              Accept = \"text/plain\" }\n}",
};

const OUTPUTS: &[Output] = &[
    Output::new("url", FieldType::String, "The address that was asked, as given."),
    Output::new("body", FieldType::String, "The text of the answer."),
    Output::new(
        "request_headers",
        FieldType::StringMap,
        "The headers of the answer (Packer's name for them), such as `Content-Type`; repeated ones joined by `, `.",
    ),
];

/// The kind `http`. All its data sources share one client.
#[derive(Debug)]
pub struct HttpKind {
    settings: DataSettings,
    client: Arc<OnceCell<Client>>,
}

impl HttpKind {
    /// Looks at nothing before the first reading.
    pub fn new(settings: DataSettings) -> HttpKind {
        HttpKind { settings, client: Arc::new(OnceCell::new()) }
    }
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
struct Arguments {
    url: String,
    method: Option<String>,
    request_headers: BTreeMap<String, String>,
    request_body: Option<String>,
}

impl DataSourceKind for HttpKind {
    fn schema(&self) -> &'static Schema {
        &SCHEMA
    }

    fn outputs(&self) -> &'static [Output] {
        OUTPUTS
    }

    fn prepare(&self, config: &Decoded, diagnostics: &mut Diagnostics) -> Option<Arc<dyn DataSource>> {
        let arguments: Arguments = config.read_or_tell(diagnostics)?;
        let url = if config.is_unknown("url") || !config.is_set("url") {
            None
        } else {
            let url = read_url(&arguments.url);
            if let Err(problem) = &url {
                let title = format!("`url` {problem}");
                diagnostics.push(
                    Diagnostic::error("wrong-value", config.span("url"), title)
                        .help("write the whole address: `https://example.com/file`"),
                );
            }
            Some(url.ok()?)
        };
        let headers = headers(config, &arguments, diagnostics)?;
        Some(Arc::new(Http {
            place: url.as_ref().map_or_else(String::new, |url| place(url, config.is_sensitive("url"))),
            url,
            given_url: arguments.url,
            is_secret: config.is_sensitive("url"),
            method: arguments.method.and_then(|method| method.parse().ok()).unwrap_or(Method::GET),
            headers,
            body: arguments.request_body,
            environment: self.settings.environment.clone(),
            client: Arc::clone(&self.client),
        }))
    }
}

fn read_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("is no address: {error}"))?;
    match url.scheme() {
        "http" | "https" => Ok(url),
        scheme => Err(format!("must begin with `http://` or `https://`, not with `{scheme}:`")),
    }
}

/// The headers as they are sent; `None` with an error told. Values of headers are never cited.
fn headers(config: &Decoded, arguments: &Arguments, diagnostics: &mut Diagnostics) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    let mut is_fine = true;
    for (name, value) in &arguments.request_headers {
        let span = config.span(&format!("request_headers.{name}"));
        match (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value)) {
            (Ok(name), Ok(mut value)) => {
                value.set_sensitive(true);
                headers.insert(name, value);
            }
            (Err(_), _) => {
                is_fine = false;
                let title = format!("`{name}` is not the name of a header");
                diagnostics.push(Diagnostic::error("wrong-value", span, title));
            }
            (_, Err(_)) => {
                is_fine = false;
                let title = format!("the value of the header `{name}` cannot be sent");
                diagnostics.push(
                    Diagnostic::error("wrong-value", span, title)
                        .help("a line end at its end, as of a file, is removed by `chomp(...)`"),
                );
            }
        }
    }
    is_fine.then_some(headers)
}

/// Whom messages say was asked: without user, query and fragment, which may be secret.
fn place(url: &Url, is_secret: bool) -> String {
    if is_secret {
        return "the server".to_owned();
    }
    let mut shown = url.clone();
    // These fail for addresses without a host alone.
    let _ = shown.set_username("");
    let _ = shown.set_password(None);
    shown.set_query(None);
    shown.set_fragment(None);
    format!("`{shown}`")
}

/// One request to make.
struct Http {
    /// `None` while it is not known.
    url: Option<Url>,
    given_url: String,
    is_secret: bool,
    place: String,
    method: Method,
    headers: HeaderMap,
    body: Option<String>,
    environment: BTreeMap<String, String>,
    client: Arc<OnceCell<Client>>,
}

#[async_trait]
impl DataSource for Http {
    async fn read(&self) -> Result<DataOutputs, Failure> {
        let too_slow = HttpError::TooSlow { place: self.place.clone(), seconds: LONGEST.as_secs() };
        let outcome = tokio::time::timeout(LONGEST, self.exchange()).await;
        outcome.unwrap_or(Err(too_slow)).map_err(Failure::environment)
    }
}

impl Http {
    async fn exchange(&self) -> Result<DataOutputs, HttpError> {
        let client = self.client.get_or_try_init(|| client::build(&self.environment)).await?;
        let mut tries = WAITS.iter();
        loop {
            let outcome = self.follow(client).await;
            let patience = match &outcome {
                Ok(response) => transient(response),
                Err(HttpError::NoAnswer { .. }) => Some(Duration::ZERO),
                Err(_) => None,
            };
            let is_repeatable = matches!(self.method, Method::GET | Method::HEAD | Method::OPTIONS);
            if let Some(wait) = patience.filter(|_| is_repeatable)
                && let Some(least) = tries.next()
            {
                tokio::time::sleep(wait.max(*least).min(LONGEST_WAIT)).await;
                continue;
            }
            let response = outcome?;
            if !response.status().is_success() {
                return Err(HttpError::Status { place: self.place.clone(), status: response.status().to_string() });
            }
            return self.outputs(response).await;
        }
    }

    /// Sends the request, and again to where a redirection leads.
    async fn follow(&self, client: &Client) -> Result<Response, HttpError> {
        let Some(mut url) = self.url.clone() else { return Err(HttpError::Client("the address is not known".into())) };
        let origin = url.origin();
        let (mut method, mut body) = (self.method.clone(), self.body.clone());
        for _ in 0..=MOST_REDIRECTIONS {
            let mut request = client.request(method.clone(), url.clone());
            if url.origin() == origin {
                request = request.headers(self.headers.clone());
            } else if body.is_some() {
                return Err(self.redirect("a request with content to another host"));
            }
            if let Some(body) = &body {
                request = request.body(body.clone());
            }
            let response = request.send().await.map_err(|error| self.no_answer(error))?;
            let status = response.status();
            if !matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(response);
            }
            let target = response.headers().get(LOCATION).and_then(|target| target.to_str().ok());
            // Some servers say "not modified" and the like without a target.
            let Some(target) = target else { return Ok(response) };
            let next = url.join(target).ok().filter(|next| matches!(next.scheme(), "http" | "https"));
            url = next.ok_or_else(|| self.redirect("to something that is not HTTP"))?;
            if matches!(status.as_u16(), 301..=303) && method != Method::HEAD {
                (method, body) = (Method::GET, None);
            }
        }
        Err(self.redirect("too often"))
    }

    fn redirect(&self, problem: &'static str) -> HttpError {
        HttpError::Redirect { place: self.place.clone(), problem }
    }

    fn no_answer(&self, error: reqwest::Error) -> HttpError {
        let source: Box<dyn std::error::Error + Send + Sync> = match (error.is_timeout(), self.is_secret) {
            (true, _) => "it took too long".into(),
            // Causes cite the host.
            (_, true) => "the connection failed".into(),
            _ => error.without_url().into(),
        };
        HttpError::NoAnswer { place: self.place.clone(), source }
    }

    async fn outputs(&self, mut response: Response) -> Result<DataOutputs, HttpError> {
        let limit = LARGEST_MIB << 20;
        let headers = response_headers(response.headers());
        let mut bytes = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(|error| self.no_answer(error))? {
            bytes.extend_from_slice(&piece);
            if bytes.len() > limit {
                return Err(HttpError::TooLarge { place: self.place.clone(), limit: LARGEST_MIB });
            }
        }
        let body = String::from_utf8(bytes).map_err(|_| HttpError::NotText { place: self.place.clone() })?;
        let mut outputs = DataOutputs::new();
        outputs.insert("url".to_owned(), json!(self.given_url));
        outputs.insert("body".to_owned(), json!(body));
        outputs.insert("request_headers".to_owned(), json!(headers));
        Ok(outputs)
    }
}

/// How long to wait at least before the next try, where another one may help.
fn transient(response: &Response) -> Option<Duration> {
    let is_transient = matches!(
        response.status(),
        StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
    );
    let asked = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    is_transient.then(|| Duration::from_secs(asked.unwrap_or_default()))
}

/// Names as Go writes them (`Content-Type`), repeated ones joined.
fn response_headers(headers: &HeaderMap) -> BTreeMap<String, String> {
    let mut found: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in headers {
        let words = name.as_str().split('-').map(|word| {
            let (first, rest) = word.split_at(word.len().min(1));
            format!("{}{rest}", first.to_ascii_uppercase())
        });
        let name = words.collect::<Vec<_>>().join("-");
        let value = String::from_utf8_lossy(value.as_bytes());
        let joined = found.entry(name).or_default();
        if !joined.is_empty() {
            joined.push_str(", ");
        }
        joined.push_str(&value);
    }
    found
}

#[cfg(test)]
mod tests;
