//! Requests and answers of [`crate::cloud::Cloud`]: EC2's own words, as plain values. An absent text is `None`; a list that is
//! empty is not sent.

use crate::cloud::Tags;
use kiln_core::Secret;

/// A filter of a `Describe*` call: any of the values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// EC2's name of it, e.g. `tag:Name`.
    pub name: String,
    /// Values; `*` and `?` are wild cards where EC2 has it so.
    pub values: Vec<String>,
}

impl Filter {
    /// A filter with one value.
    pub fn new(name: impl Into<String>, value: impl Into<String>) -> Filter {
        Filter { name: name.into(), values: vec![value.into()] }
    }
}

/// Which images.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageQuery {
    /// Ids; empty for any.
    pub ids: Vec<String>,
    /// Owners: account ids, `self`, `amazon`, `aws-marketplace`.
    pub owners: Vec<String>,
    /// Filters.
    pub filters: Vec<Filter>,
    /// Whether deprecated ones count.
    pub include_deprecated: bool,
}

/// An image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageInfo {
    /// `ami-...`.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its description.
    pub description: Option<String>,
    /// `pending`, `available`, `failed`, `error`, `invalid`, `deregistered`, ...
    pub state: String,
    /// Why it failed.
    pub state_reason: Option<String>,
    /// The owner's account.
    pub owner: String,
    /// The owner's alias, e.g. `amazon`.
    pub owner_alias: Option<String>,
    /// When it was made, RFC 3339.
    pub creation_date: String,
    /// `x86_64`, `arm64`, ...
    pub architecture: String,
    /// `hvm`, `paravirtual`.
    pub virtualization_type: Option<String>,
    /// `ebs`, `instance-store`.
    pub root_device_type: Option<String>,
    /// `/dev/sda1`, ...
    pub root_device_name: Option<String>,
    /// `windows`, where it is one.
    pub platform: Option<String>,
    /// Enhanced networking.
    pub ena_support: bool,
    /// `v2.0` where instances of it ask for IMDSv2.
    pub imds_support: Option<String>,
    /// When it is deprecated, RFC 3339.
    pub deprecation_time: Option<String>,
    /// `enabled`, `enabled-with-cooldown`, `enabled-without-cooldown`, `disabled`.
    pub deregistration_protection: Option<String>,
    /// Its devices.
    pub block_devices: Vec<BlockDevice>,
    /// Its tags.
    pub tags: Tags,
}

/// A device of an instance or image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BlockDevice {
    /// `/dev/sda1`, ...
    pub device_name: String,
    /// `ephemeral0`, ...: not an EBS volume then.
    pub virtual_name: Option<String>,
    /// Takes the device of the image away.
    pub no_device: bool,
    /// The EBS volume.
    pub ebs: Option<Ebs>,
}

/// An EBS volume of a block device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ebs {
    /// Whether it goes with its instance.
    pub delete_on_termination: Option<bool>,
    /// Encrypted; `None` leaves it to the snapshot and the account.
    pub encrypted: Option<bool>,
    /// With this key.
    pub kms_key: Option<String>,
    /// IO operations a second.
    pub iops: Option<i32>,
    /// MiB a second.
    pub throughput: Option<i32>,
    /// GiB.
    pub size: Option<i32>,
    /// `gp2`, `gp3`, `io1`, ...
    pub volume_type: Option<String>,
    /// The snapshot that it begins with; of an image: that holds it.
    pub snapshot: Option<String>,
}

/// An instance.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InstanceInfo {
    /// `i-...`.
    pub id: String,
    /// `pending`, `running`, `shutting-down`, `terminated`, `stopping`, `stopped`.
    pub state: String,
    /// Why it is so, e.g. `Client.VolumeLimitExceeded: ...`.
    pub state_reason: Option<String>,
    /// Its type.
    pub instance_type: String,
    /// Its image.
    pub image: String,
    /// Names and addresses by which it is reached.
    pub public_ip: Option<String>,
    /// In its network.
    pub private_ip: Option<String>,
    /// The first of its IPv6 addresses.
    pub ipv6: Option<String>,
    /// Public name.
    pub public_dns: Option<String>,
    /// Private name.
    pub private_dns: Option<String>,
    /// Its VPC.
    pub vpc: Option<String>,
    /// Its subnet.
    pub subnet: Option<String>,
    /// Its zone.
    pub availability_zone: Option<String>,
    /// The name of its root device.
    pub root_device_name: Option<String>,
    /// Devices and their volumes.
    pub volumes: Vec<(String, String)>,
    /// Volumes among them that do not go with the instance (`DeleteOnTermination` is false).
    pub staying_volumes: Vec<String>,
    /// Security groups.
    pub security_groups: Vec<String>,
    /// `spot`, where it is.
    pub lifecycle: Option<String>,
    /// The spot request that it came from.
    pub spot_request: Option<String>,
    /// Enhanced networking.
    pub ena_support: bool,
    /// The token it was asked for with.
    pub client_token: Option<String>,
    /// Number of the account that it is of.
    pub owner: Option<String>,
    /// Its tags.
    pub tags: Tags,
}

/// A VPC.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VpcInfo {
    /// `vpc-...`.
    pub id: String,
    /// Whether it is the account's default.
    pub is_default: bool,
}

/// A subnet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SubnetInfo {
    /// `subnet-...`.
    pub id: String,
    /// Its VPC.
    pub vpc: String,
    /// Its zone.
    pub availability_zone: String,
    /// Addresses left.
    pub free_addresses: i32,
    /// Whether it is the default of its zone.
    pub is_default: bool,
}

/// A security group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SecurityGroupInfo {
    /// `sg-...`.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its VPC.
    pub vpc: Option<String>,
    /// Its tags.
    pub tags: Tags,
}

/// A volume.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VolumeInfo {
    /// `vol-...`.
    pub id: String,
    /// `creating`, `available`, `in-use`, `deleting`, ...
    pub state: String,
    /// Its tags.
    pub tags: Tags,
}

/// A snapshot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// `snap-...`.
    pub id: String,
    /// `pending`, `completed`, `error`.
    pub state: String,
    /// EC2 writes there which image it was made for.
    pub description: Option<String>,
    /// Its tags.
    pub tags: Tags,
}

/// A key pair.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyPairInfo {
    /// Its name.
    pub name: String,
    /// EC2's fingerprint: for ed25519 the base64 of SHA-256, as `ssh-keygen -l` shows behind `SHA256:`.
    pub fingerprint: Option<String>,
    /// Its tags.
    pub tags: Tags,
}

/// A security group to make.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SecurityGroupRequest {
    /// Its name.
    pub name: String,
    /// Its description.
    pub description: String,
    /// Its VPC.
    pub vpc: Option<String>,
    /// Its tags.
    pub tags: Tags,
}

/// Who may reach a TCP port.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ingress {
    /// The port.
    pub port: u16,
    /// Networks of IPv4 and IPv6, told apart by the colon.
    pub cidrs: Vec<String>,
}

/// Tags for one kind of thing that a call makes: `instance`, `volume`, `network-interface`, `spot-instances-request`,
/// `fleet`, `image`, `snapshot`, `launch-template`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TagSpec {
    /// The kind.
    pub resource: String,
    /// The tags.
    pub tags: Tags,
}

/// `metadata_options`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MetadataOptions {
    /// `enabled`, `disabled`.
    pub http_endpoint: Option<String>,
    /// `required`, `optional`.
    pub http_tokens: Option<String>,
    /// Hops an answer may take.
    pub http_put_response_hop_limit: Option<i32>,
    /// `enabled`, `disabled`.
    pub instance_metadata_tags: Option<String>,
    /// `enabled`, `disabled`.
    pub http_protocol_ipv6: Option<String>,
}

/// Where an instance runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Placement {
    /// The zone.
    pub availability_zone: Option<String>,
    /// `default`, `dedicated`, `host`.
    pub tenancy: Option<String>,
    /// A dedicated host.
    pub host_id: Option<String>,
    /// A group of dedicated hosts.
    pub host_resource_group_arn: Option<String>,
}

/// `capacity_reservation_*`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CapacityReservation {
    /// `open`, `none`, `capacity-reservations-only`.
    pub preference: Option<String>,
    /// One reservation.
    pub id: Option<String>,
    /// A group of them.
    pub group_arn: Option<String>,
}

/// One instance to run. Where `associate_public_ip` is set, subnet and groups go into a network interface of the call.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunRequest {
    /// The image.
    pub image: String,
    /// The type; absent in the template of a fleet, whose overrides have it.
    pub instance_type: Option<String>,
    /// Makes the call safe to repeat. At most 64 characters.
    pub client_token: String,
    /// The key pair.
    pub key_name: Option<String>,
    /// User data, base64.
    pub user_data: Option<String>,
    /// The subnet.
    pub subnet: Option<String>,
    /// Ids of security groups.
    pub security_groups: Vec<String>,
    /// Whether it gets a public address; `None` leaves it to the subnet.
    pub associate_public_ip: Option<bool>,
    /// The name of an instance profile.
    pub instance_profile: Option<String>,
    /// Devices that differ from the image's.
    pub block_devices: Vec<BlockDevice>,
    /// EBS-optimised.
    pub ebs_optimized: bool,
    /// `stop`, `terminate`.
    pub shutdown_behavior: Option<String>,
    /// Metadata service.
    pub metadata: MetadataOptions,
    /// Where it runs.
    pub placement: Placement,
    /// Reserved capacity.
    pub capacity: CapacityReservation,
    /// License configurations, by ARN.
    pub licenses: Vec<String>,
    /// Nitro enclaves.
    pub enclave: bool,
    /// Unlimited CPU credits.
    pub unlimited_credits: bool,
    /// Tags of what the call makes.
    pub tags: Vec<TagSpec>,
}

/// How a spot instance is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SpotOptions {
    /// The most that is paid an hour; `None` is the on-demand price.
    pub max_price: Option<String>,
    /// `block_duration_minutes`.
    pub block_duration_minutes: Option<i32>,
}

/// A launch template to make.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LaunchTemplateRequest {
    /// Its name.
    pub name: String,
    /// Makes the call safe to repeat.
    pub client_token: String,
    /// What it launches; `client_token` and `subnet` of it are not part of a template.
    pub run: RunRequest,
    /// Spot.
    pub spot: Option<SpotOptions>,
    /// Tags of the template itself.
    pub tags: Tags,
}

/// A launch template.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LaunchTemplateInfo {
    /// `lt-...`.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its tags.
    pub tags: Tags,
}

/// An instant fleet of one instance.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FleetRequest {
    /// Makes the call safe to repeat.
    pub client_token: String,
    /// The launch template.
    pub launch_template: String,
    /// Types to choose from.
    pub instance_types: Vec<String>,
    /// The subnet.
    pub subnet: Option<String>,
    /// The zone, without a subnet.
    pub availability_zone: Option<String>,
    /// The most that is paid an hour.
    pub max_price: Option<String>,
    /// `lowest-price`, `capacity-optimized`, ...
    pub allocation_strategy: Option<String>,
    /// Tags of the fleet, and of what it makes.
    pub tags: Vec<TagSpec>,
}

/// What a fleet gave.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FleetInfo {
    /// `fleet-...`.
    pub id: String,
    /// Its instances.
    pub instances: Vec<String>,
    /// Why there are none, one `code: message` each.
    pub errors: Vec<String>,
}

/// What is changed of an instance that is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InstanceChange {
    /// Enhanced networking (ENA).
    Ena(bool),
    /// Enhanced networking by a virtual function (`simple`).
    Sriov,
}

/// An image to make of an instance.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageRequest {
    /// The instance.
    pub instance: String,
    /// The image's name.
    pub name: String,
    /// Its description.
    pub description: Option<String>,
    /// Whether the instance runs on while its disks are read.
    pub no_reboot: bool,
    /// Devices that differ from the instance's.
    pub block_devices: Vec<BlockDevice>,
    /// Tags of image and snapshots.
    pub tags: Vec<TagSpec>,
}

/// An image to copy into the cloud's region.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CopyRequest {
    /// The image.
    pub source_image: String,
    /// Where it is.
    pub source_region: String,
    /// The copy's name.
    pub name: String,
    /// Its description.
    pub description: Option<String>,
    /// Encrypted; `None` is as the source.
    pub encrypted: Option<bool>,
    /// With this key.
    pub kms_key: Option<String>,
    /// Makes the call safe to repeat.
    pub client_token: String,
    /// `CopyImageTags`: one's own tags of the source come along.
    pub copy_tags: bool,
    /// Bound on the copy of its snapshots, for a time-based copy.
    pub snapshot_minutes: Option<i32>,
    /// Tags of image and snapshots.
    pub tags: Vec<TagSpec>,
}

/// One change of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageChange {
    /// Its description.
    Description(String),
    /// Who may launch it.
    Share(ImageShare),
    /// Product codes.
    ProductCodes(Vec<String>),
    /// `v2.0`.
    ImdsSupport(String),
}

/// Who may launch an image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageShare {
    /// Accounts.
    pub users: Vec<String>,
    /// `all`.
    pub groups: Vec<String>,
    /// Organizations, by ARN.
    pub organizations: Vec<String>,
    /// Organizational units, by ARN.
    pub units: Vec<String>,
}

/// Who may make volumes of a snapshot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SnapshotShare {
    /// Accounts.
    pub users: Vec<String>,
    /// `all`.
    pub groups: Vec<String>,
}

/// `fast_launch`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FastLaunchRequest {
    /// The image.
    pub image: String,
    /// The launch template's id or name, and its version.
    pub launch_template: Option<LaunchTemplateRef>,
    /// Instances launched at once.
    pub max_parallel_launches: Option<i32>,
    /// Snapshots kept ready.
    pub target_resource_count: Option<i32>,
}

/// A version of a launch template.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LaunchTemplateRef {
    /// Either this ...
    pub id: Option<String>,
    /// ... or this.
    pub name: Option<String>,
    /// The version's number, as text.
    pub version: String,
}

/// A way to a port of an instance through Systems Manager.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SessionRequest {
    /// The instance.
    pub instance: String,
    /// The port on the instance.
    pub remote_port: u16,
    /// The port on this host.
    pub local_port: u16,
}

/// What AWS's plug-in `session-manager-plugin` needs to open it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SessionInfo {
    /// The session.
    pub id: String,
    /// Where.
    pub stream_url: String,
    /// With what right.
    pub token: Secret,
    /// SSM's endpoint.
    pub endpoint: String,
    /// The profile that was used, for the plug-in's reconnects.
    pub profile: Option<String>,
}
