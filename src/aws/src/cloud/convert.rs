//! Plain values to the SDK's types and back.

use aws_sdk_ec2::types::{
    BlockDeviceMapping, EbsBlockDevice, Filter as Ec2Filter, Image, Instance, InstanceBlockDeviceMapping, IpPermission,
    IpRange, Ipv6Range, ResourceType, Tag, TagSpecification, VolumeType,
};
use kiln_builder_amazon_ebs::cloud::{BlockDevice, Ebs, Filter, ImageInfo, Ingress, InstanceInfo, TagSpec, Tags};

/// The word of one of the SDK's enumerations; unknown ones keep theirs.
pub(super) fn word(word: Option<&str>) -> String {
    word.unwrap_or_default().to_owned()
}

/// EC2 sends empty texts for what is absent.
fn text(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

pub(super) fn tags(list: Option<Vec<Tag>>) -> Tags {
    let pair = |tag: Tag| Some((tag.key?, tag.value.unwrap_or_default()));
    list.unwrap_or_default().into_iter().filter_map(pair).collect()
}

pub(super) fn tag_list(tags: &Tags) -> Vec<Tag> {
    tags.iter().map(|(key, value)| Tag::builder().key(key).value(value).build()).collect()
}

/// Tags of one kind of thing, at its birth.
pub(super) fn tags_of(resource: &str, tags: &Tags) -> Option<Vec<TagSpecification>> {
    tag_specs(&[TagSpec { resource: resource.to_owned(), tags: tags.clone() }])
}

/// EC2 refuses specifications without tags.
pub(super) fn tag_specs(specs: &[TagSpec]) -> Option<Vec<TagSpecification>> {
    let specs: Vec<TagSpecification> = specs
        .iter()
        .filter(|spec| !spec.tags.is_empty())
        .map(|spec| {
            TagSpecification::builder()
                .resource_type(ResourceType::from(spec.resource.as_str()))
                .set_tags(Some(tag_list(&spec.tags)))
                .build()
        })
        .collect();
    (!specs.is_empty()).then_some(specs)
}

pub(super) fn filters(filters: &[Filter]) -> Option<Vec<Ec2Filter>> {
    let filter =
        |filter: &Filter| Ec2Filter::builder().name(&filter.name).set_values(Some(filter.values.clone())).build();
    (!filters.is_empty()).then(|| filters.iter().map(filter).collect())
}

pub(super) fn ingress(ingress: &Ingress) -> IpPermission {
    let port = i32::from(ingress.port);
    let mut permission = IpPermission::builder().ip_protocol("tcp").from_port(port).to_port(port);
    for cidr in &ingress.cidrs {
        permission = if cidr.contains(':') {
            permission.ipv6_ranges(Ipv6Range::builder().cidr_ipv6(cidr).build())
        } else {
            permission.ip_ranges(IpRange::builder().cidr_ip(cidr).build())
        };
    }
    permission.build()
}

pub(super) fn devices(devices: &[BlockDevice]) -> Option<Vec<BlockDeviceMapping>> {
    let device = |device: &BlockDevice| {
        BlockDeviceMapping::builder()
            .device_name(&device.device_name)
            .set_virtual_name(device.virtual_name.clone())
            // An empty text takes the device away.
            .set_no_device(device.no_device.then(String::new))
            .set_ebs(device.ebs.as_ref().map(ebs))
            .build()
    };
    (!devices.is_empty()).then(|| devices.iter().map(device).collect())
}

fn ebs(ebs: &Ebs) -> EbsBlockDevice {
    EbsBlockDevice::builder()
        .set_delete_on_termination(ebs.delete_on_termination)
        .set_encrypted(ebs.encrypted)
        .set_kms_key_id(ebs.kms_key.clone())
        .set_iops(ebs.iops)
        .set_throughput(ebs.throughput)
        .set_volume_size(ebs.size)
        .set_volume_type(ebs.volume_type.as_deref().map(VolumeType::from))
        .set_snapshot_id(ebs.snapshot.clone())
        .build()
}

fn block_device(device: BlockDeviceMapping) -> BlockDevice {
    BlockDevice {
        device_name: device.device_name.unwrap_or_default(),
        virtual_name: device.virtual_name,
        no_device: device.no_device.is_some(),
        ebs: device.ebs.map(|ebs| Ebs {
            delete_on_termination: ebs.delete_on_termination,
            encrypted: ebs.encrypted,
            kms_key: ebs.kms_key_id,
            iops: ebs.iops,
            throughput: ebs.throughput,
            size: ebs.volume_size,
            volume_type: ebs.volume_type.map(|kind| kind.as_str().to_owned()),
            snapshot: text(ebs.snapshot_id),
        }),
    }
}

pub(super) fn image(image: Image) -> ImageInfo {
    ImageInfo {
        id: image.image_id.unwrap_or_default(),
        name: image.name.unwrap_or_default(),
        description: text(image.description),
        state: word(image.state.as_ref().map(|state| state.as_str())),
        state_reason: image.state_reason.and_then(reason),
        owner: image.owner_id.unwrap_or_default(),
        owner_alias: text(image.image_owner_alias),
        creation_date: image.creation_date.unwrap_or_default(),
        architecture: word(image.architecture.as_ref().map(|architecture| architecture.as_str())),
        virtualization_type: image.virtualization_type.map(|kind| kind.as_str().to_owned()),
        root_device_type: image.root_device_type.map(|kind| kind.as_str().to_owned()),
        root_device_name: text(image.root_device_name),
        platform: image.platform.map(|platform| platform.as_str().to_owned()),
        ena_support: image.ena_support.unwrap_or_default(),
        imds_support: image.imds_support.map(|support| support.as_str().to_owned()),
        deprecation_time: text(image.deprecation_time),
        deregistration_protection: text(image.deregistration_protection),
        block_devices: image.block_device_mappings.unwrap_or_default().into_iter().map(block_device).collect(),
        tags: tags(image.tags),
    }
}

fn reason(reason: aws_sdk_ec2::types::StateReason) -> Option<String> {
    text(reason.message).or_else(|| text(reason.code))
}

/// An instance, and the account of its reservation.
pub(super) fn instance(instance: Instance, owner: Option<String>) -> InstanceInfo {
    let mut interfaces = instance.network_interfaces.iter().flatten();
    let ipv6 = interfaces.find_map(|interface| interface.ipv6_addresses().first()?.ipv6_address.clone());
    let mappings = instance.block_device_mappings.unwrap_or_default();
    let staying = mappings.iter().filter_map(|mapping| mapping.ebs.as_ref());
    let staying =
        staying.filter(|ebs| ebs.delete_on_termination == Some(false)).filter_map(|ebs| ebs.volume_id.clone());
    let staying_volumes = staying.collect();
    let volume = |mapping: InstanceBlockDeviceMapping| Some((mapping.device_name?, mapping.ebs?.volume_id?));
    let groups = instance.security_groups.unwrap_or_default();
    InstanceInfo {
        id: instance.instance_id.unwrap_or_default(),
        state: word(instance.state.and_then(|state| state.name).as_ref().map(|name| name.as_str())),
        state_reason: instance.state_reason.and_then(reason).or_else(|| text(instance.state_transition_reason)),
        instance_type: word(instance.instance_type.as_ref().map(|kind| kind.as_str())),
        image: instance.image_id.unwrap_or_default(),
        public_ip: text(instance.public_ip_address),
        private_ip: text(instance.private_ip_address),
        ipv6: ipv6.or_else(|| text(instance.ipv6_address)),
        public_dns: text(instance.public_dns_name),
        private_dns: text(instance.private_dns_name),
        vpc: text(instance.vpc_id),
        subnet: text(instance.subnet_id),
        availability_zone: instance.placement.and_then(|placement| placement.availability_zone),
        root_device_name: text(instance.root_device_name),
        volumes: mappings.into_iter().filter_map(volume).collect(),
        staying_volumes,
        security_groups: groups.into_iter().filter_map(|group| group.group_id).collect(),
        lifecycle: instance.instance_lifecycle.map(|lifecycle| lifecycle.as_str().to_owned()),
        spot_request: text(instance.spot_instance_request_id),
        ena_support: instance.ena_support.unwrap_or_default(),
        client_token: text(instance.client_token),
        owner: text(owner),
        tags: tags(instance.tags),
    }
}
