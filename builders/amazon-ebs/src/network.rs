//! Where the instance runs: VPC, subnet, zone.

use kiln_core::Failure;

use crate::cloud::{Filter, SubnetInfo};
use crate::config::SubnetFilter;
use crate::error::{failure, wrong};
use crate::launch::Attempt;
use crate::source::filters;

/// What is known of it; what is absent, EC2 chooses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Network {
    pub(crate) vpc: Option<String>,
    pub(crate) subnet: Option<String>,
    pub(crate) zone: Option<String>,
}

impl Network {
    fn in_subnet(subnet: SubnetInfo) -> Network {
        Network { vpc: Some(subnet.vpc), subnet: Some(subnet.id), zone: Some(subnet.availability_zone) }
    }
}

impl Attempt<'_> {
    /// Finds what the template asks for.
    pub(crate) async fn network(&self) -> Result<Network, Failure> {
        let config = self.config();
        let full = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let zone = full(&config.availability_zone);
        if let Some(id) = full(&config.subnet_id) {
            let found = self.cloud.describe_subnets(std::slice::from_ref(&id), &[]).await;
            let found = found.map_err(|error| failure(format!("look up the subnet {id}"), error))?;
            let subnet = found.into_iter().next().ok_or_else(|| wrong(format!("there is no subnet {id}")))?;
            return Ok(Network::in_subnet(subnet));
        }
        let mut vpc = full(&config.vpc_id);
        if vpc.is_none()
            && let Some(filter) = &config.vpc_filter
        {
            let found = self.cloud.describe_vpcs(&[], &filters(filter)).await;
            let found = found.map_err(|error| failure("look up the VPC", error))?;
            let [one] = found.as_slice() else {
                return Err(wrong(format!("{} VPCs match `vpc_filter`; exactly one has to", found.len())));
            };
            vpc = Some(one.id.clone());
        }
        if let Some(filter) = &config.subnet_filter {
            return Ok(Network::in_subnet(self.filtered_subnet(filter, vpc, zone).await?));
        }
        // EC2 wants a subnet where a VPC or a public address is asked for.
        if vpc.is_some() || config.associate_public_ip_address.is_some() {
            return Ok(Network::in_subnet(self.default_subnet(vpc, zone).await?));
        }
        Ok(Network { vpc, subnet: None, zone })
    }

    async fn filtered_subnet(
        &self,
        filter: &SubnetFilter,
        vpc: Option<String>,
        zone: Option<String>,
    ) -> Result<SubnetInfo, Failure> {
        let mut all = filters(&filter.by);
        all.push(Filter::new("state", "available"));
        all.extend(vpc.map(|vpc| Filter::new("vpc-id", vpc)));
        all.extend(zone.map(|zone| Filter::new("availability-zone", zone)));
        let found = self.cloud.describe_subnets(&[], &all).await;
        let mut found = found.map_err(|error| failure("look up the subnet", error))?;
        if found.len() > 1 && !filter.most_free && !filter.random {
            let ids: Vec<&str> = found.iter().map(|subnet| subnet.id.as_str()).collect();
            return Err(wrong(format!("{} subnets match `subnet_filter`: {}", found.len(), ids.join(", ")))
                .hint("set `most_free = true` or `random = true`, or narrow the filter"));
        }
        if filter.most_free {
            found.sort_by_key(|subnet| std::cmp::Reverse(subnet.free_addresses));
        } else if !found.is_empty() {
            // A version 4 UUID is random enough to choose by.
            let random = usize::try_from(uuid::Uuid::new_v4().as_u128() % found.len() as u128).unwrap_or_default();
            found.swap(0, random);
        }
        found.into_iter().next().ok_or_else(|| wrong("no subnet matches `subnet_filter`"))
    }

    /// The default subnet of a zone that has instances of this type, the one with the most addresses left.
    async fn default_subnet(&self, vpc: Option<String>, zone: Option<String>) -> Result<SubnetInfo, Failure> {
        let mut all = vec![Filter::new("state", "available"), Filter::new("default-for-az", "true")];
        all.extend(vpc.iter().map(|vpc| Filter::new("vpc-id", vpc)));
        all.extend(zone.iter().map(|zone| Filter::new("availability-zone", zone)));
        let found = self.cloud.describe_subnets(&[], &all).await;
        let mut found = found.map_err(|error| failure("look up the default subnets", error))?;
        if let Some(kind) = self.config().instance_type.as_deref().filter(|kind| zone.is_none() && !kind.is_empty())
            && found.len() > 1
        {
            let zones = self.cloud.describe_offerings(kind).await;
            let zones = zones.map_err(|error| failure(format!("look up the zones with {kind}"), error))?;
            found.retain(|subnet| zones.contains(&subnet.availability_zone));
        }
        found.sort_by_key(|subnet| std::cmp::Reverse(subnet.free_addresses));
        found.into_iter().next().ok_or_else(|| {
            let place = vpc.map_or_else(|| "the default VPC".to_owned(), |vpc| format!("the VPC {vpc}"));
            wrong(format!("{place} has no default subnet for this instance")).hint("set `subnet_id` or `subnet_filter`")
        })
    }
}
