//! What the builder asks of EC2 and IAM: one narrow trait of plain values, so that neither the builder nor its tests know
//! an SDK. Pages are followed and throttled calls tried again behind it; waiting for states is the caller's business.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;
use kiln_core::{Failure, Secret};
use serde::{Deserialize, Serialize};

pub use crate::cloud_values::*;

/// Tags by their keys.
pub type Tags = BTreeMap<String, String>;

/// What an action of the cloud gave.
pub type CloudResult<T> = Result<T, CloudError>;

/// What kind of error an action ended with, as far as callers behave differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The thing is not there, or not visible yet (`Invalid*.NotFound`, `InvalidAMIID.Unavailable`, IAM's `NoSuchEntity`).
    NotFound,
    /// The name is taken (`*.Duplicate`, `*.AlreadyExists`, IAM's `EntityAlreadyExists`).
    Duplicate,
    /// Still needed by something else (`DependencyViolation`, `*.InUse`, IAM's `DeleteConflict`).
    InUse,
    /// Too many calls, after all tries.
    Throttled,
    /// No capacity of this type just now, or a limit of the account is reached.
    Capacity,
    /// The credentials may not do this.
    Unauthorized,
    /// There are no credentials, or they are out of date.
    NoCredentials,
    /// The endpoint cannot be reached; the call was not carried out.
    Unreachable,
    /// The answer was lost, after all tries: the call may have been carried out.
    Lost,
    /// Anything else.
    Other,
}

/// Why an action was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{action}: {}{message}", code_prefix(.code))]
pub struct CloudError {
    /// The action: `RunInstances`.
    pub action: String,
    /// The service's code, e.g. `InvalidAMIID.NotFound`; empty where no answer came.
    pub code: String,
    /// What it said; with `decode_authorization_messages` decoded.
    pub message: String,
    /// What callers go by.
    pub kind: ErrorKind,
    /// The service refused it (a status of 4xx), and no try of it can have been carried out.
    pub is_refusal: bool,
    /// For a talk with AWS's support.
    pub request_id: Option<String>,
}

fn code_prefix(code: &str) -> String {
    if code.is_empty() { String::new() } else { format!("{code}: ") }
}

/// How the cloud is reached and who asks: the access options of a source. Serialised without any key, for the journal.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Access {
    /// `access_key`.
    #[serde(skip)]
    pub access_key: Option<Secret>,
    /// `secret_key`.
    #[serde(skip)]
    pub secret_key: Option<Secret>,
    /// `token`.
    #[serde(skip)]
    pub token: Option<Secret>,
    /// `profile`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// `region`; else what the environment or the profile says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// `shared_credentials_file`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared_credentials_file: Option<String>,
    /// `mfa_code`; asked for where a profile or role needs one and this is absent.
    #[serde(skip)]
    pub mfa_code: Option<Secret>,
    /// `assume_role`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assume_role: Option<AssumeRole>,
    /// `custom_endpoint_ec2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// `insecure_skip_tls_verify`.
    #[serde(default)]
    pub skip_tls_verify: bool,
    /// `max_retries`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_retries: Option<u32>,
    /// `skip_metadata_api_check`: credentials are not looked for at the instance's metadata service.
    #[serde(default)]
    pub skip_metadata: bool,
    /// `decode_authorization_messages`.
    #[serde(default)]
    pub decode_authorization_messages: bool,
}

/// `assume_role { ... }`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssumeRole {
    /// The role.
    #[serde(default)]
    pub role_arn: String,
    /// Name of the session.
    #[serde(default)]
    pub session_name: Option<String>,
    /// How long the credentials hold.
    #[serde(default)]
    pub duration_seconds: Option<u32>,
    /// What the role's owner asks for.
    #[serde(default)]
    pub external_id: Option<String>,
    /// A policy that narrows the role's rights.
    #[serde(default)]
    pub policy: Option<String>,
    /// Managed policies that narrow them.
    #[serde(default)]
    pub policy_arns: Vec<String>,
    /// Tags of the session.
    #[serde(default)]
    pub tags: Tags,
    /// Which of them are handed on to further roles.
    #[serde(default)]
    pub transitive_tag_keys: Vec<String>,
}

/// Who asks, as far as it is known without asking.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Caller {
    /// The access key's id, which is no secret. Temporary credentials get a new one each time.
    pub key: Option<String>,
    /// The account's number, where the credentials tell it.
    pub account: Option<String>,
}

/// Makes connections to regions.
#[async_trait]
pub trait Clouds: Send + Sync {
    /// The cloud in a region: the given one, else that of the access options, else that of the surroundings. Finds the
    /// region and the credentials; speaks to no EC2 yet. Asked for again with the same options, it gives the same credentials
    /// without a further question to the person (MFA).
    ///
    /// # Errors
    /// No region, no credentials: [`kiln_core::FailureClass::Environment`].
    async fn cloud(&self, access: &Access, region: Option<&str>) -> Result<Arc<dyn Cloud>, Failure>;

    /// The address that machines in the cloud see this host with: of AWS's own `https://checkip.amazonaws.com`; with an
    /// endpoint that is not AWS's, the local address of the way to it.
    ///
    /// # Errors
    /// It cannot be found out.
    async fn caller_address(&self, access: &Access) -> Result<IpAddr, Failure>;
}

/// EC2 (and the little of IAM and SSM that a build needs) in one region.
///
/// Every mutating call may be carried out although it fails with [`ErrorKind::Lost`]; and, since calls are tried again
/// behind this trait, [`ErrorKind::Duplicate`] may mean that an earlier try of the same call was carried out.
#[async_trait]
pub trait Cloud: Send + Sync {
    /// The region's name.
    fn region(&self) -> &str;

    /// Who asks. No service is asked for it, but those that credentials come from.
    async fn caller(&self) -> Caller;
    /// STS: `GetCallerIdentity`, the number of the account that asks.
    async fn account(&self) -> CloudResult<String>;
    /// STS: `GetAccessKeyInfo`, the number of the account that an access key is of.
    async fn account_of_key(&self, key: &str) -> CloudResult<String>;

    /// `DescribeRegions`: the names of those that the account may use.
    async fn describe_regions(&self) -> CloudResult<Vec<String>>;
    /// `DescribeImages`. An id that is not there is [`ErrorKind::NotFound`].
    async fn describe_images(&self, query: &ImageQuery) -> CloudResult<Vec<ImageInfo>>;
    /// `DescribeInstances` by ids, or by filters where no ids are given.
    async fn describe_instances(&self, ids: &[String], filters: &[Filter]) -> CloudResult<Vec<InstanceInfo>>;
    /// `DescribeInstanceTypeOfferings`: the availability zones that offer a type.
    async fn describe_offerings(&self, instance_type: &str) -> CloudResult<Vec<String>>;
    /// `DescribeVpcs`.
    async fn describe_vpcs(&self, ids: &[String], filters: &[Filter]) -> CloudResult<Vec<VpcInfo>>;
    /// `DescribeSubnets`.
    async fn describe_subnets(&self, ids: &[String], filters: &[Filter]) -> CloudResult<Vec<SubnetInfo>>;
    /// `DescribeSecurityGroups`.
    async fn describe_security_groups(&self, ids: &[String], filters: &[Filter])
    -> CloudResult<Vec<SecurityGroupInfo>>;
    /// `DescribeVolumes`.
    async fn describe_volumes(&self, ids: &[String], filters: &[Filter]) -> CloudResult<Vec<VolumeInfo>>;
    /// `DescribeSnapshots` of one's own.
    async fn describe_snapshots(&self, ids: &[String], filters: &[Filter]) -> CloudResult<Vec<SnapshotInfo>>;
    /// `DescribeKeyPairs`.
    async fn describe_key_pairs(&self, names: &[String]) -> CloudResult<Vec<KeyPairInfo>>;
    /// `GetConsoleOutput`, decoded; `None` while there is none.
    async fn console_output(&self, instance: &str) -> CloudResult<Option<String>>;

    /// `ImportKeyPair` of a public key in OpenSSH's form.
    async fn import_key_pair(&self, name: &str, public_key: &str, tags: &Tags) -> CloudResult<KeyPairInfo>;
    /// `DeleteKeyPair`; one that is not there is no error.
    async fn delete_key_pair(&self, name: &str) -> CloudResult<()>;
    /// `CreateSecurityGroup`; gives the id.
    async fn create_security_group(&self, request: &SecurityGroupRequest) -> CloudResult<String>;
    /// `AuthorizeSecurityGroupIngress` for one port. Rules that are there already are [`ErrorKind::Duplicate`].
    async fn authorize_ingress(&self, group: &str, ingress: &Ingress) -> CloudResult<()>;
    /// `DeleteSecurityGroup`.
    async fn delete_security_group(&self, group: &str) -> CloudResult<()>;

    /// `RunInstances`, exactly one.
    async fn run_instance(&self, request: &RunRequest) -> CloudResult<InstanceInfo>;
    /// `CreateLaunchTemplate`; gives the id.
    async fn create_launch_template(&self, request: &LaunchTemplateRequest) -> CloudResult<String>;
    /// `DescribeLaunchTemplates` by name: their ids.
    async fn describe_launch_templates(&self, names: &[String]) -> CloudResult<Vec<LaunchTemplateInfo>>;
    /// `DeleteLaunchTemplate`.
    async fn delete_launch_template(&self, id: &str) -> CloudResult<()>;
    /// `CreateFleet` of type `instant` for one instance.
    async fn create_fleet(&self, request: &FleetRequest) -> CloudResult<FleetInfo>;
    /// `StopInstances`.
    async fn stop_instance(&self, id: &str) -> CloudResult<()>;
    /// `TerminateInstances`.
    async fn terminate_instance(&self, id: &str) -> CloudResult<()>;
    /// `ModifyInstanceAttribute`: ENA and SR-IOV.
    async fn modify_instance(&self, id: &str, change: InstanceChange) -> CloudResult<()>;
    /// `DeleteVolume`.
    async fn delete_volume(&self, id: &str) -> CloudResult<()>;

    /// `CreateImage`; gives the id.
    async fn create_image(&self, request: &ImageRequest) -> CloudResult<String>;
    /// `CopyImage` into this region; gives the id.
    async fn copy_image(&self, request: &CopyRequest) -> CloudResult<String>;
    /// `DeregisterImage`.
    async fn deregister_image(&self, id: &str) -> CloudResult<()>;
    /// `DeleteSnapshot`.
    async fn delete_snapshot(&self, id: &str) -> CloudResult<()>;
    /// `CreateTags`.
    async fn create_tags(&self, resources: &[String], tags: &Tags) -> CloudResult<()>;
    /// `ModifyImageAttribute`, one call for each kind of attribute (description, launch permission, product codes, IMDS).
    async fn modify_image(&self, id: &str, change: &ImageChange) -> CloudResult<()>;
    /// `ModifySnapshotAttribute`: who may make volumes of it.
    async fn share_snapshot(&self, id: &str, share: &SnapshotShare) -> CloudResult<()>;
    /// `EnableImageDeprecation` at a time in RFC 3339.
    async fn deprecate_image(&self, id: &str, at: &str) -> CloudResult<()>;
    /// `EnableImageDeregistrationProtection`.
    async fn protect_image(&self, id: &str, with_cooldown: bool) -> CloudResult<()>;
    /// `DisableImageDeregistrationProtection`.
    async fn unprotect_image(&self, id: &str) -> CloudResult<()>;
    /// `EnableFastLaunch`.
    async fn enable_fast_launch(&self, request: &FastLaunchRequest) -> CloudResult<()>;
    /// `DescribeFastLaunchImages`: the state of one image (`enabling`, `enabled`, `enabling-failed`, ...).
    async fn fast_launch_state(&self, image: &str) -> CloudResult<Option<String>>;

    /// IAM's `GetInstanceProfile`: whether it is there.
    async fn has_instance_profile(&self, name: &str) -> CloudResult<bool>;
    /// IAM: `CreateRole`, that EC2 may assume.
    async fn create_role(&self, name: &str, description: &str, tags: &Tags) -> CloudResult<()>;
    /// IAM: `PutRolePolicy` of a JSON document.
    async fn put_role_policy(&self, role: &str, policy: &str, document: &str) -> CloudResult<()>;
    /// IAM: `CreateInstanceProfile`.
    async fn create_instance_profile(&self, name: &str, tags: &Tags) -> CloudResult<()>;
    /// IAM: `AddRoleToInstanceProfile`.
    async fn add_role(&self, profile: &str, role: &str) -> CloudResult<()>;
    /// IAM: `RemoveRoleFromInstanceProfile`.
    async fn remove_role(&self, profile: &str, role: &str) -> CloudResult<()>;
    /// IAM: `DeleteInstanceProfile`.
    async fn delete_instance_profile(&self, name: &str) -> CloudResult<()>;
    /// IAM: `DeleteRolePolicy`.
    async fn delete_role_policy(&self, role: &str, policy: &str) -> CloudResult<()>;
    /// IAM: `DeleteRole`.
    async fn delete_role(&self, name: &str) -> CloudResult<()>;

    /// SSM: `StartSession` for a port of an instance.
    async fn start_session(&self, request: &SessionRequest) -> CloudResult<SessionInfo>;
    /// SSM: `TerminateSession`.
    async fn terminate_session(&self, id: &str) -> CloudResult<()>;
}
