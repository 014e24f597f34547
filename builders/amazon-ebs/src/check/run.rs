//! What is wrong with what is said of the instance and of how it is reached.

use std::net::IpAddr;

use kiln_ssh::SshOptions;

use super::Check;
use crate::config::{Filtered, NamedFilter};

/// Families of types with CPU credits.
const BURSTABLE: [&str; 4] = ["t2.", "t3.", "t3a.", "t4g."];

impl Check<'_> {
    pub(super) fn run(&mut self) {
        self.source();
        self.instance_type();
        self.network();
        self.not_both("user_data", "user_data_file");
        if let Some(path) = self.config.user_data_file.as_deref().filter(|path| !path.as_os_str().is_empty())
            && !path.is_file()
        {
            self.error("user_data_file", format!("`user_data_file`: there is no file {}", path.display()));
        }
        self.profile();
        let config = self.config;
        if let Some(hops) = config.metadata_options.http_put_response_hop_limit.filter(|hops| !(1..=64).contains(hops))
        {
            let path = "metadata_options.http_put_response_hop_limit";
            self.error(path, format!("`http_put_response_hop_limit` is {hops}; it goes from 1 to 64"));
        }
        if config.terminate_after.is_some() {
            if config.shutdown_behavior.as_deref() == Some("stop") {
                self.error(
                    "terminate_after",
                    "`terminate_after` needs `shutdown_behavior = \"terminate\"`, which is its default",
                );
            }
            if config.disable_stop_instance {
                self.error("terminate_after", "`terminate_after` and `disable_stop_instance` exclude each other: a shutdown would terminate the instance before there is an AMI");
            }
        } else if config.disable_stop_instance && config.shutdown_behavior.as_deref() == Some("terminate") {
            self.error(
                "shutdown_behavior",
                "with `disable_stop_instance`, a shutdown must not terminate the instance before there is an AMI",
            );
        }
        if config.capacity_reservation_preference.as_deref() == Some("none")
            && (self.is_given("capacity_reservation_id") || self.is_given("capacity_reservation_group_arn"))
        {
            self.error(
                "capacity_reservation_preference",
                "`capacity_reservation_preference` is `none`, and a reservation is named",
            );
        }
        self.not_both("capacity_reservation_id", "capacity_reservation_group_arn");
    }

    fn source(&mut self) {
        let has_filter = self.decoded.is_set("source_ami_filter");
        if !self.is_given("source_ami") && !has_filter {
            self.error("", "an `amazon-ebs` source needs `source_ami` or `source_ami_filter`");
        }
        let ami = self.config.source_ami.clone().unwrap_or_default();
        if !ami.is_empty() && !ami.starts_with("ami-") && !self.decoded.is_unknown("source_ami") {
            let title = format!("`{ami}` is no id of an AMI; one looks like `ami-0123456789abcdef0`");
            self.error("source_ami", title).help = Some("`source_ami_filter` finds AMIs by their names".into());
        }
        let Some(filter) = self.config.source_ami_filter.as_ref().filter(|_| has_filter) else { return };
        if filter.owners.is_empty() && !self.decoded.is_unknown("source_ami_filter") {
            self.error(
                "source_ami_filter",
                "`source_ami_filter` needs `owners`: anybody may name an AMI as they like",
            )
            .help = Some("write for example `owners = [\"amazon\"]`, `[\"self\"]` or the number of an account".into());
        }
        if is_empty(&filter.by) && ami.is_empty() && !self.decoded.is_unknown("source_ami_filter") {
            self.error("source_ami_filter", "`source_ami_filter` has no `filters`");
        }
        self.filters("source_ami_filter", &filter.by.filter);
    }

    fn filters(&mut self, name: &str, filters: &[NamedFilter]) {
        for (index, filter) in filters.iter().enumerate() {
            let path = format!("{name}.filter[{index}]");
            if filter.name.is_none() && filter.key.is_none() && !self.decoded.is_unknown(&path) {
                self.error(&path, "a `filter` block needs `name` and `value`");
            }
        }
    }

    fn instance_type(&mut self) {
        let config = self.config;
        self.not_both("instance_type", "spot_instance_types");
        let is_spot = is_spot(config.spot_price.as_deref()) || self.is_given("spot_instance_types");
        if !self.is_given("instance_type") && !self.is_given("spot_instance_types") {
            self.error("", "an `amazon-ebs` source needs `instance_type` or `spot_instance_types`");
        }
        if let Some(price) = config.spot_price.as_deref().filter(|price| is_spot_price(price))
            && price.parse::<f64>().is_err()
        {
            self.error("spot_price", format!("`{price}` is neither a price such as `0.05` nor `auto`"));
        }
        if let Some(minutes) =
            config.block_duration_minutes.filter(|minutes| minutes % 60 != 0 || !(60..=360).contains(minutes))
        {
            self.error(
                "block_duration_minutes",
                format!("`block_duration_minutes` is {minutes}; it is 60, 120, 180, 240, 300 or 360"),
            );
        }
        for name in
            ["spot_tags", "spot_tag", "fleet_tags", "fleet_tag", "spot_allocation_strategy", "block_duration_minutes"]
        {
            if !is_spot && self.is_given(name) {
                self.error(name, format!("`{name}` needs `spot_price`"));
            }
        }
        let unlimited =
            if config.enable_unlimited_credits { "enable_unlimited_credits" } else { "enable_t2_unlimited" };
        if config.enable_unlimited_credits || config.enable_t2_unlimited {
            if is_spot {
                self.error(unlimited, format!("`{unlimited}` cannot be used with spot instances"));
            }
            let kind = config.instance_type.as_deref().unwrap_or("t2.");
            if !kind.is_empty() && !BURSTABLE.iter().any(|family| kind.starts_with(family)) {
                self.error(unlimited, format!("instances of type `{kind}` have no CPU credits"));
            }
        }
    }

    fn network(&mut self) {
        let config = self.config;
        self.not_both("security_group_id", "security_group_ids");
        self.not_both("temporary_security_group_source_cidrs", "temporary_security_group_source_public_ip");
        for (index, cidr) in config.temporary_security_group_source_cidrs.iter().enumerate() {
            let path = format!("temporary_security_group_source_cidrs[{index}]");
            if !is_network(cidr) && !self.decoded.is_unknown(&path) {
                self.error(&path, format!("`{cidr}` is no network; one looks like `203.0.113.7/32`"));
            }
        }
        let filters = [
            ("vpc_filter", config.vpc_filter.as_ref()),
            ("security_group_filter", config.security_group_filter.as_ref()),
            ("subnet_filter", config.subnet_filter.as_ref().map(|filter| &filter.by)),
        ];
        for (name, filter) in filters {
            if let Some(filter) = filter {
                if is_empty(filter) && !self.decoded.is_unknown(name) {
                    self.error(name, format!("`{name}` has no `filters`"));
                }
                self.filters(name, &filter.filter);
            }
        }
        let by_tenancy = config.placement.tenancy.as_deref().filter(|tenancy| !tenancy.is_empty());
        if self.is_given("tenancy") && by_tenancy.is_some() && by_tenancy != config.tenancy.as_deref() {
            self.error("placement.tenancy", "`tenancy` and `placement.tenancy` say different things");
        }
        let tenancy = by_tenancy.or(config.tenancy.as_deref().filter(|tenancy| !tenancy.is_empty()));
        if config.placement.host_id.is_some() && tenancy.is_some_and(|tenancy| tenancy != "host") {
            self.error("placement.host_id", "`host_id` needs the tenancy `host`");
        }
    }

    fn profile(&mut self) {
        let Some(policy) = &self.config.temporary_iam_instance_profile_policy_document else { return };
        let name = "temporary_iam_instance_profile_policy_document";
        if self.is_given("iam_instance_profile") {
            self.warn(name, "the policy document has no effect beside `iam_instance_profile`");
        }
        if policy.statement.is_empty() && !self.decoded.is_unknown(name) {
            self.error(name, "the policy document has no `Statement`");
        }
        for (index, statement) in policy.statement.iter().enumerate() {
            let path = format!("{name}.Statement[{index}]");
            if self.decoded.is_unknown(&path) {
                continue;
            }
            if !matches!(statement.effect.as_str(), "Allow" | "Deny") {
                self.error(&path, "a `Statement` needs `Effect`: `Allow` or `Deny`");
            }
            if statement.action.is_empty() {
                self.error(&path, "a `Statement` needs `Action`");
            }
        }
    }

    /// How it is reached.
    pub(super) fn reach(&mut self, ssh: &SshOptions) {
        let has_login = ssh.login.key.is_some() || ssh.login.agent || ssh.login.password.is_some();
        if ssh.keypair_name.is_some() && !has_login {
            let title =
                "`ssh_keypair_name` needs the private key of that pair: `ssh_private_key_file` or `ssh_agent_auth`";
            self.error("ssh_keypair_name", title);
        }
        if ssh.keypair_name.is_some() && ssh.temporary_key_pair_name.is_some() {
            self.not_both("ssh_keypair_name", "temporary_key_pair_name");
        }
        let is_session = self.config.ssh_interface.as_deref() == Some("session_manager");
        if is_session
            && !self.is_given("iam_instance_profile")
            && !self.decoded.is_set("temporary_iam_instance_profile_policy_document")
        {
            let title = "`session_manager` needs an instance profile that lets the instance talk to Systems Manager";
            self.error("ssh_interface", title).help =
                Some("set `iam_instance_profile` to one with the policy AmazonSSMManagedInstanceCore".into());
        }
        if is_session && !ssh.bastions.is_empty() {
            self.error("ssh_interface", "`session_manager` cannot be used with a bastion");
        }
        if !is_session && self.is_given("session_manager_port") {
            self.warn(
                "session_manager_port",
                "`session_manager_port` has no effect without `ssh_interface = \"session_manager\"`",
            );
        }
        if let Some(port) = self.config.session_manager_port.filter(|port| u16::try_from(*port).is_err()) {
            self.error("session_manager_port", format!("{port} is not a port; ports go from 1 to 65535"));
        }
    }
}

/// Whether a spot instance is asked for: an empty text and zero mean none.
pub(crate) fn is_spot(price: Option<&str>) -> bool {
    price.is_some_and(|price| !price.is_empty() && price != "0")
}

fn is_spot_price(price: &str) -> bool {
    is_spot(Some(price)) && price != "auto"
}

fn is_empty(filter: &Filtered) -> bool {
    filter.filters.is_empty() && filter.filter.is_empty()
}

fn is_network(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else { return false };
    let most = match address.parse() {
        Ok(IpAddr::V4(_)) => 32,
        Ok(IpAddr::V6(_)) => 128,
        Err(_) => return false,
    };
    bits.parse::<u8>().is_ok_and(|bits| bits <= most)
}
