//! Who may reach the instance.

use std::net::{IpAddr, UdpSocket};

use kiln_core::{EntryId, Failure};

use crate::cloud::{CloudError, ErrorKind, Filter, Ingress, SecurityGroupRequest};
use crate::error::{failure, wrong};
use crate::launch::Attempt;
use crate::pace::{SETTLING, again_while};
use crate::source::filters;
use crate::undo::GroupUndo;

/// Networks that are not routed in the internet: where the instance is reached inside of its network, the address of this
/// host may be translated on the way (VPN, peering), so its own tells nothing.
const PRIVATE: [&str; 4] = ["10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16"];

/// The security groups of the instance, and the temporary one among them.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    pub(crate) ids: Vec<String>,
    pub(crate) temporary: Option<(EntryId, GroupUndo)>,
}

impl Attempt<'_> {
    /// Finds the groups of the template, or makes one.
    pub(crate) async fn groups(&self, vpc: Option<String>) -> Result<Groups, Failure> {
        let config = self.config();
        let mut ids = config.security_group_ids.clone();
        ids.extend(config.security_group_id.clone().filter(|id| !id.is_empty()));
        if !ids.is_empty() {
            return Ok(Groups { ids, temporary: None });
        }
        if let Some(filter) = &config.security_group_filter {
            let mut filters = filters(filter);
            filters.extend(vpc.map(|vpc| Filter::new("vpc-id", vpc)));
            let found = self.cloud.describe_security_groups(&[], &filters).await;
            let found = found.map_err(|error| failure("look up the security groups", error))?;
            if found.is_empty() {
                return Err(wrong("no security group matches `security_group_filter`"));
            }
            return Ok(Groups { ids: found.into_iter().map(|group| group.id).collect(), temporary: None });
        }
        self.temporary_group(vpc).await
    }

    async fn temporary_group(&self, vpc: Option<String>) -> Result<Groups, Failure> {
        let name = self.marks.name();
        let cidrs = if self.is_reached() && !self.is_session() { self.sources().await? } else { Vec::new() };
        let mut undo = GroupUndo { place: self.place(), name: name.clone(), id: None };
        let entry = self.record(undo.entry())?;
        let port = self.builder.ssh.port();
        let from = if cidrs.is_empty() { "nowhere".to_owned() } else { cidrs.join(", ") };
        self.context.events.message(format!("making the security group {name}: port {port} from {from}"));
        let request = SecurityGroupRequest {
            name: name.clone(),
            description: "Temporary group of a kiln build".to_owned(),
            vpc,
            tags: self.run_tags(),
        };
        let id = match self.cloud.create_security_group(&request).await {
            Ok(id) => id,
            Err(error) => {
                if error.kind != ErrorKind::Duplicate {
                    self.strike_refused(entry, &error)?;
                }
                self.lost_group(&name, error).await?
            }
        };
        undo.id = Some(id.clone());
        self.context.journal.amend(entry, undo.entry())?;
        if !cidrs.is_empty() {
            let ingress = Ingress { port, cidrs };
            let is_new = |error: &CloudError| error.kind == ErrorKind::NotFound;
            let authorized = again_while(self.pace(), SETTLING, is_new, || self.cloud.authorize_ingress(&id, &ingress));
            match authorized.await {
                // By an earlier try of the same call.
                Err(error) if error.kind != ErrorKind::Duplicate => {
                    return Err(failure(format!("open port {port} of the security group {name}"), error));
                }
                _ => {}
            }
        }
        Ok(Groups { ids: vec![id], temporary: Some((entry, undo)) })
    }

    /// The group of a call whose answer was lost: nobody else has that name.
    async fn lost_group(&self, name: &str, error: CloudError) -> Result<String, Failure> {
        if matches!(error.kind, ErrorKind::Duplicate | ErrorKind::Lost)
            && let Ok(found) = self.cloud.describe_security_groups(&[], &[Filter::new("group-name", name)]).await
            && let Some(group) = found.into_iter().find(|group| group.name == name)
        {
            return Ok(group.id);
        }
        Err(failure(format!("make the security group {name}"), error))
    }

    /// The networks that are let in.
    async fn sources(&self) -> Result<Vec<String>, Failure> {
        let config = self.config();
        if !config.temporary_security_group_source_cidrs.is_empty() {
            return Ok(config.temporary_security_group_source_cidrs.clone());
        }
        let ssh = &self.builder.ssh;
        let is_private = matches!(config.ssh_interface.as_deref(), Some("private_ip" | "private_dns"));
        let is_indirect = !ssh.bastions.is_empty() || ssh.proxy.is_some();
        if !config.temporary_security_group_source_public_ip && (is_private || is_indirect) {
            let mut cidrs: Vec<String> = PRIVATE.map(str::to_owned).to_vec();
            let last = ssh.bastions.last().map(|bastion| bastion.host.as_str());
            if let Some(host) = last.or(ssh.proxy.as_ref().map(|proxy| proxy.host.as_str())) {
                cidrs.extend(addresses(host, ssh.port()).await.into_iter().map(only));
            }
            return Ok(cidrs);
        }
        if config.ssh_interface.as_deref() == Some("ipv6")
            && let Some(address) = local_ipv6()
        {
            return Ok(vec![only(address)]);
        }
        let asked = self.builder.connections.clouds().caller_address(&self.builder.access);
        let address = self.context.unless_cancelled(asked).await?.map_err(|failure| {
            failure.hint("set `temporary_security_group_source_cidrs` to the networks that the build comes from")
        })?;
        Ok(vec![only(address)])
    }
}

/// A network of one address.
fn only(address: IpAddr) -> String {
    format!("{address}/{}", if address.is_ipv4() { 32 } else { 128 })
}

/// Public addresses of a host on the way; private ones are let in anyway.
async fn addresses(host: &str, port: u16) -> Vec<IpAddr> {
    let found = tokio::net::lookup_host((host, port)).await;
    found.map(|found| found.map(|address| address.ip()).collect()).unwrap_or_default()
}

/// The address that this host has in the internet of IPv6, where nothing is translated. Nothing is sent.
fn local_ipv6() -> Option<IpAddr> {
    let socket = UdpSocket::bind("[::]:0").ok()?;
    socket.connect("[2600::]:22").ok()?;
    socket.local_addr().ok().map(|address| address.ip())
}
