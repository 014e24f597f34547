//! AWS behind the traits of those who use it: the only crate that knows the SDK.
//!
//! ```text
//!   Access ──► Session: credentials, region, addresses ──► Ec2 (the SDK)            ──► Cloud, for amazon-ebs
//!   environment    files, STS, MFA                         signed calls (service.rs) ──► data sources, ECR logins, IAM, SSM
//! ```
//!
//! Owns: how AWS is reached, who asks, what its errors mean. Must not know: templates, steps of a build, what a call is
//! for. The process's environment comes in [`AwsSettings`].

mod capacity;
mod cloud;
mod data;
mod ecr;
mod error;
mod http;
mod role;
mod service;
mod session;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use kiln_builder_amazon_ebs::cloud::{Access, Cloud, Clouds};
use kiln_core::{Failure, Prompt};
use tokio::sync::OnceCell;

use cloud::Ec2;
pub use data::register;
use session::Session;

/// Says which address asks it. AWS's own.
const CHECK_IP: &str = "https://checkip.amazonaws.com";
const CHECK_IP_BOUND: Duration = Duration::from_secs(15);

/// What AWS's clients need of the process's surroundings.
#[derive(Clone, Default)]
pub struct AwsSettings {
    /// The environment: `AWS_*`, `HOME` for `~/.aws`, proxies and certificates.
    pub environment: BTreeMap<String, String>,
    /// Asks for codes of a second factor; without it they have to be in the template.
    pub prompt: Option<Arc<dyn Prompt>>,
}

/// Connections to AWS. Clones share their credentials.
#[derive(Clone)]
pub struct Aws(Arc<Inner>);

/// A session, or who is about to begin it.
type Begun = Arc<OnceCell<Arc<Session>>>;

struct Inner {
    settings: AwsSettings,
    sessions: Mutex<Vec<(Access, Begun)>>,
    logins: ecr::Given,
}

impl fmt::Debug for Aws {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Aws")
    }
}

impl Aws {
    /// Looks at nothing before it is asked for something.
    pub fn new(settings: AwsSettings) -> Aws {
        Aws(Arc::new(Inner { settings, sessions: Mutex::default(), logins: ecr::Given::default() }))
    }

    /// The session of these options: the same for all that differ only in what is asked, and where.
    async fn session(&self, access: &Access) -> Result<Arc<Session>, Failure> {
        let key = Access {
            region: None,
            endpoint: None,
            max_retries: None,
            decode_authorization_messages: false,
            ..access.clone()
        };
        let cell = {
            let mut sessions = self.0.sessions.lock().unwrap_or_else(PoisonError::into_inner);
            match sessions.iter().find(|(known, _)| *known == key) {
                Some((_, cell)) => Arc::clone(cell),
                None => {
                    let cell = Arc::new(OnceCell::new());
                    sessions.push((key, Arc::clone(&cell)));
                    cell
                }
            }
        };
        let begin = || async { Session::begin(access, &self.0.settings).await.map(Arc::new) };
        cell.get_or_try_init(begin).await.cloned()
    }

    /// The session, and the region that is meant.
    async fn in_region(&self, access: &Access, region: Option<&str>) -> Result<(Arc<Session>, String), Failure> {
        let session = self.session(access).await?;
        let given = region.or(access.region.as_deref()).filter(|region| !region.is_empty());
        let region = match given {
            Some(region) => region.to_owned(),
            None => session.region().await?,
        };
        Ok((session, region))
    }
}

#[async_trait]
impl Clouds for Aws {
    async fn cloud(&self, access: &Access, region: Option<&str>) -> Result<Arc<dyn Cloud>, Failure> {
        let (session, region) = self.in_region(access, region).await?;
        Ok(Arc::new(Ec2::new(session, access, region)))
    }

    async fn caller_address(&self, access: &Access) -> Result<IpAddr, Failure> {
        let session = self.session(access).await?;
        let endpoint = access.endpoint.clone().or_else(|| session.endpoint("EC2"));
        let address = match endpoint.as_deref().and_then(foreign) {
            Some((host, port)) => way_to(&host, port).await,
            None => asked(&session).await,
        };
        address.map_err(|source| {
            Failure::environment(NoAddress { source })
                .hint("name the networks that may reach the instance: `temporary_security_group_source_cidrs`")
        })
    }
}

#[derive(Debug, thiserror::Error)]
#[error("cannot find out the address that AWS sees this host with")]
struct NoAddress {
    source: Box<dyn std::error::Error + Send + Sync>,
}

/// Host and port of an endpoint that is not AWS's.
fn foreign(endpoint: &str) -> Option<(String, u16)> {
    let address: reqwest::Url = endpoint.parse().ok()?;
    let host = address.host_str()?;
    let is_aws =
        [".amazonaws.com", ".amazonaws.com.cn", ".api.aws", ".amazonaws.eu"].iter().any(|end| host.ends_with(end));
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    if is_aws { None } else { Some((host, address.port_or_known_default()?)) }
}

/// The local address of the way to a host. Nothing is sent.
async fn way_to(host: &str, port: u16) -> Result<IpAddr, Box<dyn std::error::Error + Send + Sync>> {
    let target = tokio::net::lookup_host((host, port)).await?.next().ok_or("its name leads nowhere")?;
    let any: SocketAddr = match target {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (std::net::Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = tokio::net::UdpSocket::bind(any).await?;
    socket.connect(target).await?;
    Ok(socket.local_addr()?.ip())
}

async fn asked(session: &Session) -> Result<IpAddr, Box<dyn std::error::Error + Send + Sync>> {
    let request = session.http.client(None)?.get(CHECK_IP).timeout(CHECK_IP_BOUND);
    let answer = request.send().await?.error_for_status()?.text().await?;
    Ok(answer.trim().parse()?)
}

#[cfg(test)]
mod tests;
