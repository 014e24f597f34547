//! Questions: what is there.

use aws_sdk_ec2::types::{LocationType, Snapshot};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kiln_builder_amazon_ebs::cloud::{
    CloudResult, Filter, ImageInfo, ImageQuery, InstanceInfo, KeyPairInfo, LaunchTemplateInfo, SecurityGroupInfo,
    SnapshotInfo, SubnetInfo, VolumeInfo, VpcInfo,
};

use super::{Ec2, convert};

/// An empty list is not sent.
fn some<T: Clone>(list: &[T]) -> Option<Vec<T>> {
    (!list.is_empty()).then(|| list.to_vec())
}

impl Ec2 {
    pub(super) async fn regions(&self) -> CloudResult<Vec<String>> {
        let answer = self.call("DescribeRegions", self.client.describe_regions().send()).await?;
        Ok(answer.regions.unwrap_or_default().into_iter().filter_map(|region| region.region_name).collect())
    }

    pub(super) async fn images(&self, query: &ImageQuery) -> CloudResult<Vec<ImageInfo>> {
        let call = self
            .client
            .describe_images()
            .set_image_ids(some(&query.ids))
            .set_owners(some(&query.owners))
            .set_filters(convert::filters(&query.filters))
            .set_include_deprecated(query.include_deprecated.then_some(true));
        let found = call.into_paginator().items().send();
        let images = self.call("DescribeImages", found.try_collect()).await?;
        Ok(images.into_iter().map(convert::image).collect())
    }

    pub(super) async fn instances(&self, ids: &[String], filters: &[Filter]) -> CloudResult<Vec<InstanceInfo>> {
        let call = self.client.describe_instances().set_instance_ids(some(ids)).set_filters(convert::filters(filters));
        let found = call.into_paginator().items().send();
        let reservations = self.call("DescribeInstances", found.try_collect()).await?;
        let instances = reservations.into_iter().flat_map(|reservation| {
            let owner = reservation.owner_id;
            let instances = reservation.instances.unwrap_or_default().into_iter();
            instances.map(move |instance| convert::instance(instance, owner.clone()))
        });
        Ok(instances.collect())
    }

    pub(super) async fn offerings(&self, instance_type: &str) -> CloudResult<Vec<String>> {
        let call = self
            .client
            .describe_instance_type_offerings()
            .location_type(LocationType::AvailabilityZone)
            .set_filters(convert::filters(&[Filter::new("instance-type", instance_type)]));
        let found = call.into_paginator().items().send();
        let offerings = self.call("DescribeInstanceTypeOfferings", found.try_collect()).await?;
        Ok(offerings.into_iter().filter_map(|offering| offering.location).collect())
    }

    pub(super) async fn vpcs(&self, ids: &[String], filters: &[Filter]) -> CloudResult<Vec<VpcInfo>> {
        let call = self.client.describe_vpcs().set_vpc_ids(some(ids)).set_filters(convert::filters(filters));
        let found = call.into_paginator().items().send();
        let vpcs = self.call("DescribeVpcs", found.try_collect()).await?;
        let info = |vpc: aws_sdk_ec2::types::Vpc| VpcInfo {
            id: vpc.vpc_id.unwrap_or_default(),
            is_default: vpc.is_default.unwrap_or_default(),
        };
        Ok(vpcs.into_iter().map(info).collect())
    }

    pub(super) async fn subnets(&self, ids: &[String], filters: &[Filter]) -> CloudResult<Vec<SubnetInfo>> {
        let call = self.client.describe_subnets().set_subnet_ids(some(ids)).set_filters(convert::filters(filters));
        let found = call.into_paginator().items().send();
        let subnets = self.call("DescribeSubnets", found.try_collect()).await?;
        let info = |subnet: aws_sdk_ec2::types::Subnet| SubnetInfo {
            id: subnet.subnet_id.unwrap_or_default(),
            vpc: subnet.vpc_id.unwrap_or_default(),
            availability_zone: subnet.availability_zone.unwrap_or_default(),
            free_addresses: subnet.available_ip_address_count.unwrap_or_default(),
            is_default: subnet.default_for_az.unwrap_or_default(),
        };
        Ok(subnets.into_iter().map(info).collect())
    }

    pub(super) async fn security_groups(
        &self,
        ids: &[String],
        filters: &[Filter],
    ) -> CloudResult<Vec<SecurityGroupInfo>> {
        let call =
            self.client.describe_security_groups().set_group_ids(some(ids)).set_filters(convert::filters(filters));
        let found = call.into_paginator().items().send();
        let groups = self.call("DescribeSecurityGroups", found.try_collect()).await?;
        let info = |group: aws_sdk_ec2::types::SecurityGroup| SecurityGroupInfo {
            id: group.group_id.unwrap_or_default(),
            name: group.group_name.unwrap_or_default(),
            vpc: group.vpc_id,
            tags: convert::tags(group.tags),
        };
        Ok(groups.into_iter().map(info).collect())
    }

    pub(super) async fn volumes(&self, ids: &[String], filters: &[Filter]) -> CloudResult<Vec<VolumeInfo>> {
        let call = self.client.describe_volumes().set_volume_ids(some(ids)).set_filters(convert::filters(filters));
        let found = call.into_paginator().items().send();
        let volumes = self.call("DescribeVolumes", found.try_collect()).await?;
        let info = |volume: aws_sdk_ec2::types::Volume| VolumeInfo {
            id: volume.volume_id.unwrap_or_default(),
            state: convert::word(volume.state.as_ref().map(|state| state.as_str())),
            tags: convert::tags(volume.tags),
        };
        Ok(volumes.into_iter().map(info).collect())
    }

    pub(super) async fn snapshots(&self, ids: &[String], filters: &[Filter]) -> CloudResult<Vec<SnapshotInfo>> {
        let call = self
            .client
            .describe_snapshots()
            .owner_ids("self")
            .set_snapshot_ids(some(ids))
            .set_filters(convert::filters(filters));
        let found = call.into_paginator().items().send();
        let snapshots = self.call("DescribeSnapshots", found.try_collect()).await?;
        let info = |snapshot: Snapshot| SnapshotInfo {
            id: snapshot.snapshot_id.unwrap_or_default(),
            state: convert::word(snapshot.state.as_ref().map(|state| state.as_str())),
            description: snapshot.description,
            tags: convert::tags(snapshot.tags),
        };
        Ok(snapshots.into_iter().map(info).collect())
    }

    pub(super) async fn key_pairs(&self, names: &[String]) -> CloudResult<Vec<KeyPairInfo>> {
        let call = self.client.describe_key_pairs().set_key_names(some(names));
        let answer = self.call("DescribeKeyPairs", call.send()).await?;
        let info = |pair: aws_sdk_ec2::types::KeyPairInfo| KeyPairInfo {
            name: pair.key_name.unwrap_or_default(),
            fingerprint: pair.key_fingerprint,
            tags: convert::tags(pair.tags),
        };
        Ok(answer.key_pairs.unwrap_or_default().into_iter().map(info).collect())
    }

    pub(super) async fn launch_templates(&self, names: &[String]) -> CloudResult<Vec<LaunchTemplateInfo>> {
        let call = self.client.describe_launch_templates().set_launch_template_names(some(names));
        let found = call.into_paginator().items().send();
        let templates = self.call("DescribeLaunchTemplates", found.try_collect()).await?;
        let info = |template: aws_sdk_ec2::types::LaunchTemplate| LaunchTemplateInfo {
            id: template.launch_template_id.unwrap_or_default(),
            name: template.launch_template_name.unwrap_or_default(),
            tags: convert::tags(template.tags),
        };
        Ok(templates.into_iter().map(info).collect())
    }

    pub(super) async fn console(&self, instance: &str) -> CloudResult<Option<String>> {
        let call = self.client.get_console_output().instance_id(instance);
        let answer = self.call("GetConsoleOutput", call.send()).await?;
        let text: String = answer.output.unwrap_or_default().split_whitespace().collect();
        let bytes = STANDARD.decode(&text).unwrap_or_default();
        Ok((!bytes.is_empty()).then(|| String::from_utf8_lossy(&bytes).into_owned()))
    }
}
