//! Services of which kiln needs a few calls only: signed and tried again here, so that their SDKs need not be compiled.

use std::time::{Duration, SystemTime};

use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use bytes::Bytes;
use kiln_builder_amazon_ebs::cloud::{CloudError, CloudResult, ErrorKind};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use crate::error::kind;
use crate::http::root_cause;
use crate::session::{Session, TRIES};

const FIRST_WAIT: Duration = Duration::from_millis(300);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// What a form leaves as it is.
const FORM: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// A service, as AWS names it in its three ways.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Service {
    /// In configuration: `Secrets Manager`.
    id: &'static str,
    /// In signatures: `secretsmanager`.
    signing: &'static str,
    /// In host names: `secretsmanager`.
    host: &'static str,
    /// One address for all regions of a partition.
    is_global: bool,
}

impl Service {
    pub(crate) const SECRETS: Service = Service::new("Secrets Manager", "secretsmanager", "secretsmanager");
    pub(crate) const SYSTEMS: Service = Service::new("SSM", "ssm", "ssm");
    pub(crate) const REGISTRY: Service = Service::new("ECR", "ecr", "api.ecr");
    pub(crate) const PUBLIC_REGISTRY: Service = Service::new("ECR PUBLIC", "ecr-public", "api.ecr-public");
    pub(crate) const IAM: Service = Service { is_global: true, ..Service::new("IAM", "iam", "iam") };

    const fn new(id: &'static str, signing: &'static str, host: &'static str) -> Service {
        Service { id, signing, host, is_global: false }
    }

    /// Its address in a region, and the region that its calls are signed for.
    pub(crate) fn address(&self, session: &Session, region: &str) -> (String, String) {
        let (suffix, home) = partition(region);
        let signed = if self.is_global { home } else { region };
        let usual = || match (self.is_global, region) {
            (true, region) if region.starts_with("cn-") => format!("https://{}.{home}.{suffix}", self.host),
            (true, region) if region.starts_with("us-gov-") => format!("https://{}.us-gov.{suffix}", self.host),
            (true, _) => format!("https://{}.{suffix}", self.host),
            (false, region) => {
                let fips = if session.config.use_fips().unwrap_or(false) { "-fips" } else { "" };
                format!("https://{}{fips}.{region}.{suffix}", self.host)
            }
        };
        (session.endpoint(self.id).unwrap_or_else(usual), signed.to_owned())
    }
}

/// The domain of a region's services, and where those that are the same for all regions are signed for.
pub(crate) fn partition(region: &str) -> (&'static str, &'static str) {
    match region {
        region if region.starts_with("cn-") => ("amazonaws.com.cn", "cn-north-1"),
        region if region.starts_with("us-gov-") => ("amazonaws.com", "us-gov-west-1"),
        region if region.starts_with("us-iso-") => ("c2s.ic.gov", "us-iso-east-1"),
        region if region.starts_with("us-isob-") => ("sc2s.sgov.gov", "us-isob-east-1"),
        region if region.starts_with("eusc-") => ("amazonaws.eu", "eusc-de-east-1"),
        _ => ("amazonaws.com", "us-east-1"),
    }
}

/// A request but for its signature.
struct Unsigned {
    action: String,
    service: Service,
    headers: Vec<(&'static str, String)>,
    body: String,
}

/// An answer.
struct Answer {
    status: u16,
    request_id: Option<String>,
    /// The header in which services that speak JSON may put their errors' codes.
    error_type: Option<String>,
    body: Bytes,
}

impl Session {
    /// A call of a service that speaks JSON. `target` is its family of actions: `secretsmanager`.
    pub(crate) async fn json(
        &self,
        service: Service,
        region: &str,
        (target, action): (&str, &str),
        body: &Value,
    ) -> CloudResult<Value> {
        let unsigned = Unsigned {
            action: action.to_owned(),
            service,
            headers: vec![
                ("content-type", "application/x-amz-json-1.1".to_owned()),
                ("x-amz-target", format!("{target}.{action}")),
            ],
            body: body.to_string(),
        };
        let answer = self.send(&unsigned, region, json_error).await?;
        serde_json::from_slice(&answer.body).map_err(|error| CloudError {
            message: format!("the answer is not JSON: {error}"),
            ..failure(&unsigned, ErrorKind::Other)
        })
    }

    /// A call of IAM, whose answers matter only when they are errors.
    pub(crate) async fn iam(&self, region: &str, action: &str, parameters: &[(&str, &str)]) -> CloudResult<()> {
        let mut body = format!("Action={action}&Version=2010-05-08");
        for (name, value) in parameters {
            body.push_str(&format!("&{name}={}", utf8_percent_encode(value, FORM)));
        }
        let unsigned = Unsigned {
            action: action.to_owned(),
            service: Service::IAM,
            headers: vec![("content-type", "application/x-www-form-urlencoded; charset=utf-8".to_owned())],
            body,
        };
        self.send(&unsigned, region, xml_error).await.map(|_| ())
    }

    /// Sends it, again after what may pass by itself.
    async fn send(
        &self,
        unsigned: &Unsigned,
        region: &str,
        told: fn(&Answer) -> (String, Option<String>),
    ) -> CloudResult<Answer> {
        let mut may_have_run = false;
        let mut wait = FIRST_WAIT;
        for attempt in 1.. {
            let error = match self.send_once(unsigned, region).await {
                Ok(answer) if answer.status < 300 => return Ok(answer),
                Ok(answer) => {
                    let (code, message) = told(&answer);
                    may_have_run |= answer.status >= 500 && answer.status != 503;
                    let message = message.unwrap_or_else(|| format!("HTTP status {}", answer.status));
                    let kind = kind(&code, &message, may_have_run);
                    let may_pass = answer.status >= 500 || answer.status == 429 || kind == ErrorKind::Throttled;
                    let is_refusal = (400..500).contains(&answer.status) && !code.is_empty() && !may_have_run;
                    let request_id = answer.request_id;
                    let error = CloudError { code, message, is_refusal, request_id, ..failure(unsigned, kind) };
                    if !may_pass {
                        return Err(error);
                    }
                    error
                }
                Err(error) if error.kind == ErrorKind::NoCredentials => return Err(error),
                Err(error) => {
                    may_have_run |= error.kind == ErrorKind::Lost;
                    let kind = if may_have_run { ErrorKind::Lost } else { error.kind };
                    CloudError { kind, ..error }
                }
            };
            if attempt >= TRIES {
                return Err(error);
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
        Err(failure(unsigned, ErrorKind::Other))
    }

    async fn send_once(&self, unsigned: &Unsigned, region: &str) -> CloudResult<Answer> {
        let request = self.signed(unsigned, region).await?;
        let other = |message: String| CloudError { message, ..failure(unsigned, ErrorKind::Other) };
        let client = self.http.client(None).map_err(|error| other(root_cause(&error)))?;
        let request: reqwest::Request =
            request.try_into().map_err(|error: reqwest::Error| other(root_cause(&error)))?;
        let unanswered = |error: reqwest::Error| {
            let (kind, what) = match error.is_connect() {
                true => (ErrorKind::Unreachable, "the service cannot be reached"),
                false => (ErrorKind::Lost, "no good answer came"),
            };
            let message = format!("{what}: {}", root_cause(&error.without_url()));
            CloudError { message, ..failure(unsigned, kind) }
        };
        let response = client.execute(request).await.map_err(unanswered)?;
        let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let (request_id, error_type) = (header("x-amzn-requestid"), header("x-amzn-errortype"));
        let status = response.status().as_u16();
        let body = response.bytes().await.map_err(unanswered)?;
        Ok(Answer { status, request_id, error_type, body })
    }

    async fn signed(&self, unsigned: &Unsigned, region: &str) -> CloudResult<http::Request<String>> {
        let credentials = self.credentials().await.map_err(|error| CloudError {
            message: root_cause(&error),
            ..failure(unsigned, ErrorKind::NoCredentials)
        })?;
        let other = |error: &(dyn std::error::Error + 'static)| CloudError {
            message: format!("the request cannot be signed: {}", root_cause(error)),
            ..failure(unsigned, ErrorKind::Other)
        };
        let (address, region) = unsigned.service.address(self, region);
        let address = format!("{}/", address.trim_end_matches('/'));
        let mut request = http::Request::post(&address).body(unsigned.body.clone()).map_err(|error| other(&error))?;
        for (name, value) in &unsigned.headers {
            let value = value.parse().map_err(|error: http::header::InvalidHeaderValue| other(&error))?;
            request.headers_mut().insert(*name, value);
        }
        let identity = credentials.into();
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(&region)
            .name(unsigned.service.signing)
            .time(SystemTime::now())
            .settings(SigningSettings::default())
            .build()
            .map_err(|error| other(&error))?
            .into();
        let headers = unsigned.headers.iter().map(|(name, value)| (*name, value.as_str()));
        let signable = SignableRequest::new("POST", &address, headers, SignableBody::Bytes(unsigned.body.as_bytes()));
        let signed = sign(signable.map_err(|error| other(&error))?, &parameters).map_err(|error| other(&error))?;
        signed.into_parts().0.apply_to_request_http1x(&mut request);
        Ok(request)
    }
}

fn failure(unsigned: &Unsigned, kind: ErrorKind) -> CloudError {
    CloudError {
        action: unsigned.action.clone(),
        code: String::new(),
        message: String::new(),
        kind,
        is_refusal: false,
        request_id: None,
    }
}

/// `{"__type":"com.amazonaws.secretsmanager#ResourceNotFoundException","Message":"..."}`.
fn json_error(answer: &Answer) -> (String, Option<String>) {
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let text = |names: &[&str]| names.iter().find_map(|name| body.get(name)?.as_str()).map(str::to_owned);
    let code = answer.error_type.clone().or_else(|| text(&["__type", "code"])).unwrap_or_default();
    let code = code.split(':').next().unwrap_or_default().rsplit('#').next().unwrap_or_default();
    (code.to_owned(), text(&["message", "Message"]))
}

/// `<ErrorResponse><Error><Code>NoSuchEntity</Code><Message>...</Message></Error></ErrorResponse>`.
fn xml_error(answer: &Answer) -> (String, Option<String>) {
    let body = String::from_utf8_lossy(&answer.body);
    let text = |name: &str| {
        let (_, rest) = body.split_once(&format!("<{name}>"))?;
        let (text, _) = rest.split_once(&format!("</{name}>"))?;
        Some(
            text.replace("&lt;", "<")
                .replace("&gt;", ">")
                .replace("&quot;", "\"")
                .replace("&#39;", "'")
                .replace("&amp;", "&"),
        )
    };
    (text("Code").unwrap_or_default(), text("Message"))
}
