//! EC2 in one region, by the SDK; IAM and SSM by calls of our own.

mod convert;
mod describe;
mod images;
mod launch;

use std::future::Future;
use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_ec2::Client;
use aws_sdk_ec2::config::Region;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use kiln_builder_amazon_ebs::cloud::{
    Access, Caller, Cloud, CloudError, CloudResult, CopyRequest, ErrorKind, FastLaunchRequest, Filter, FleetInfo,
    FleetRequest, ImageChange, ImageInfo, ImageQuery, ImageRequest, Ingress, InstanceChange, InstanceInfo, KeyPairInfo,
    LaunchTemplateInfo, LaunchTemplateRequest, RunRequest, SecurityGroupInfo, SecurityGroupRequest, SessionInfo,
    SessionRequest, SnapshotInfo, SnapshotShare, SubnetInfo, Tags, VolumeInfo, VpcInfo,
};
use kiln_core::Secret;
use serde_json::{Value, json};

use crate::capacity::NoCapacity;
use crate::error::cloud_error;
use crate::http::watch;
use crate::service::{Service, partition};
use crate::session::{Session, retries};

/// Who may assume a role that an instance bears.
const EC2_MAY_ASSUME: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"ec2.DOMAIN"},"Action":"sts:AssumeRole"}]}"#;
/// What STS has to read out, in EC2's message.
const ENCODED: &str = "Encoded authorization failure message: ";

/// EC2 in one region.
pub(crate) struct Ec2 {
    client: Client,
    session: Arc<Session>,
    region: String,
    profile: Option<String>,
    decodes: bool,
}

impl Ec2 {
    pub(crate) fn new(session: Arc<Session>, access: &Access, region: String) -> Ec2 {
        let mut config = aws_sdk_ec2::config::Builder::from(&session.config)
            .region(Region::new(region.clone()))
            .retry_config(retries(access.max_retries))
            .retry_classifier(NoCapacity);
        if let Some(endpoint) = access.endpoint.as_ref().filter(|endpoint| !endpoint.is_empty()) {
            config = config.endpoint_url(endpoint);
        }
        Ec2 {
            client: Client::from_conf(config.build()),
            session,
            region,
            profile: access.profile.clone(),
            decodes: access.decode_authorization_messages,
        }
    }

    /// Runs one call with its tries, and says what its error means.
    async fn call<T, E>(
        &self,
        action: &str,
        call: impl Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    ) -> CloudResult<T>
    where
        E: std::error::Error + ProvideErrorMetadata + 'static,
    {
        let (result, may_have_run) = watch(call).await;
        match result {
            Ok(answer) => Ok(answer),
            Err(error) => Err(self.read_out(cloud_error(action, &error, may_have_run)).await),
        }
    }

    fn sts(&self) -> aws_sdk_sts::Client {
        aws_sdk_sts::Client::new(&self.session.config.to_builder().region(Region::new(self.region.clone())).build())
    }

    /// With `decode_authorization_messages`, what a refusal says in a form that only STS can read.
    async fn read_out(&self, error: CloudError) -> CloudError {
        let Some((said, encoded)) = error.message.split_once(ENCODED).filter(|_| self.decodes) else { return error };
        let request = self.sts().decode_authorization_message().encoded_message(encoded.trim());
        match request.send().await.ok().and_then(|answer| answer.decoded_message) {
            Some(decoded) => CloudError { message: format!("{said}{decoded}"), ..error },
            None => error,
        }
    }

    async fn iam(&self, action: &str, parameters: &[(&str, &str)]) -> CloudResult<()> {
        self.session.iam(&self.region, action, parameters).await
    }

    async fn ssm(&self, action: &str, body: Value) -> CloudResult<Value> {
        self.session.json(Service::SYSTEMS, &self.region, ("AmazonSSM", action), &body).await
    }
}

/// A thing that is to be gone and is gone already.
fn unless_gone(result: CloudResult<()>) -> CloudResult<()> {
    match result {
        Err(error) if error.kind == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// A field without which an answer is of no use.
fn given<T>(action: &str, value: Option<T>) -> CloudResult<T> {
    value.ok_or_else(|| CloudError {
        action: action.to_owned(),
        code: String::new(),
        message: "the answer lacks what was made".to_owned(),
        kind: ErrorKind::Lost,
        is_refusal: false,
        request_id: None,
    })
}

#[async_trait]
impl Cloud for Ec2 {
    fn region(&self) -> &str {
        &self.region
    }

    async fn caller(&self) -> Caller {
        match self.session.credentials().await {
            Ok(found) => Caller {
                key: Some(found.access_key_id().to_owned()),
                account: found.account_id().map(|account| account.as_str().to_owned()),
            },
            // The next call tells why.
            Err(_) => Caller::default(),
        }
    }

    async fn account(&self) -> CloudResult<String> {
        let answer = self.call("GetCallerIdentity", self.sts().get_caller_identity().send()).await?;
        given("GetCallerIdentity", answer.account)
    }

    async fn account_of_key(&self, key: &str) -> CloudResult<String> {
        let answer = self.call("GetAccessKeyInfo", self.sts().get_access_key_info().access_key_id(key).send()).await?;
        given("GetAccessKeyInfo", answer.account)
    }

    async fn describe_regions(&self) -> CloudResult<Vec<String>> {
        self.regions().await
    }

    async fn describe_images(&self, query: &ImageQuery) -> CloudResult<Vec<ImageInfo>> {
        self.images(query).await
    }

    async fn describe_instances(&self, ids: &[String], filters: &[Filter]) -> CloudResult<Vec<InstanceInfo>> {
        self.instances(ids, filters).await
    }

    async fn describe_offerings(&self, instance_type: &str) -> CloudResult<Vec<String>> {
        self.offerings(instance_type).await
    }

    async fn describe_vpcs(&self, ids: &[String], filters: &[Filter]) -> CloudResult<Vec<VpcInfo>> {
        self.vpcs(ids, filters).await
    }

    async fn describe_subnets(&self, ids: &[String], filters: &[Filter]) -> CloudResult<Vec<SubnetInfo>> {
        self.subnets(ids, filters).await
    }

    async fn describe_security_groups(
        &self,
        ids: &[String],
        filters: &[Filter],
    ) -> CloudResult<Vec<SecurityGroupInfo>> {
        self.security_groups(ids, filters).await
    }

    async fn describe_volumes(&self, ids: &[String], filters: &[Filter]) -> CloudResult<Vec<VolumeInfo>> {
        self.volumes(ids, filters).await
    }

    async fn describe_snapshots(&self, ids: &[String], filters: &[Filter]) -> CloudResult<Vec<SnapshotInfo>> {
        self.snapshots(ids, filters).await
    }

    async fn describe_key_pairs(&self, names: &[String]) -> CloudResult<Vec<KeyPairInfo>> {
        self.key_pairs(names).await
    }

    async fn console_output(&self, instance: &str) -> CloudResult<Option<String>> {
        self.console(instance).await
    }

    async fn import_key_pair(&self, name: &str, public_key: &str, tags: &Tags) -> CloudResult<KeyPairInfo> {
        let call = self
            .client
            .import_key_pair()
            .key_name(name)
            .public_key_material(aws_smithy_types::Blob::new(public_key))
            .set_tag_specifications(convert::tags_of("key-pair", tags));
        let answer = self.call("ImportKeyPair", call.send()).await?;
        Ok(KeyPairInfo {
            name: answer.key_name.unwrap_or_else(|| name.to_owned()),
            fingerprint: answer.key_fingerprint,
            tags: convert::tags(answer.tags),
        })
    }

    async fn delete_key_pair(&self, name: &str) -> CloudResult<()> {
        let call = self.client.delete_key_pair().key_name(name);
        unless_gone(self.call("DeleteKeyPair", call.send()).await.map(|_| ()))
    }

    async fn create_security_group(&self, request: &SecurityGroupRequest) -> CloudResult<String> {
        let call = self
            .client
            .create_security_group()
            .group_name(&request.name)
            .description(&request.description)
            .set_vpc_id(request.vpc.clone())
            .set_tag_specifications(convert::tags_of("security-group", &request.tags));
        given("CreateSecurityGroup", self.call("CreateSecurityGroup", call.send()).await?.group_id)
    }

    async fn authorize_ingress(&self, group: &str, ingress: &Ingress) -> CloudResult<()> {
        let permission = convert::ingress(ingress);
        let call = self.client.authorize_security_group_ingress().group_id(group).ip_permissions(permission);
        self.call("AuthorizeSecurityGroupIngress", call.send()).await.map(|_| ())
    }

    async fn delete_security_group(&self, group: &str) -> CloudResult<()> {
        let call = self.client.delete_security_group().group_id(group);
        self.call("DeleteSecurityGroup", call.send()).await.map(|_| ())
    }

    async fn run_instance(&self, request: &RunRequest) -> CloudResult<InstanceInfo> {
        self.run(request).await
    }

    async fn create_launch_template(&self, request: &LaunchTemplateRequest) -> CloudResult<String> {
        self.launch_template(request).await
    }

    async fn describe_launch_templates(&self, names: &[String]) -> CloudResult<Vec<LaunchTemplateInfo>> {
        self.launch_templates(names).await
    }

    async fn delete_launch_template(&self, id: &str) -> CloudResult<()> {
        let call = self.client.delete_launch_template().launch_template_id(id);
        self.call("DeleteLaunchTemplate", call.send()).await.map(|_| ())
    }

    async fn create_fleet(&self, request: &FleetRequest) -> CloudResult<FleetInfo> {
        self.fleet(request).await
    }

    async fn stop_instance(&self, id: &str) -> CloudResult<()> {
        let call = self.client.stop_instances().instance_ids(id);
        self.call("StopInstances", call.send()).await.map(|_| ())
    }

    async fn terminate_instance(&self, id: &str) -> CloudResult<()> {
        let call = self.client.terminate_instances().instance_ids(id);
        self.call("TerminateInstances", call.send()).await.map(|_| ())
    }

    async fn modify_instance(&self, id: &str, change: InstanceChange) -> CloudResult<()> {
        self.change_instance(id, change).await
    }

    async fn delete_volume(&self, id: &str) -> CloudResult<()> {
        let call = self.client.delete_volume().volume_id(id);
        self.call("DeleteVolume", call.send()).await.map(|_| ())
    }

    async fn create_image(&self, request: &ImageRequest) -> CloudResult<String> {
        self.make_image(request).await
    }

    async fn copy_image(&self, request: &CopyRequest) -> CloudResult<String> {
        self.copy(request).await
    }

    async fn deregister_image(&self, id: &str) -> CloudResult<()> {
        let call = self.client.deregister_image().image_id(id);
        self.call("DeregisterImage", call.send()).await.map(|_| ())
    }

    async fn delete_snapshot(&self, id: &str) -> CloudResult<()> {
        let call = self.client.delete_snapshot().snapshot_id(id);
        self.call("DeleteSnapshot", call.send()).await.map(|_| ())
    }

    async fn create_tags(&self, resources: &[String], tags: &Tags) -> CloudResult<()> {
        let tags = convert::tag_list(tags);
        let call = self.client.create_tags().set_resources(Some(resources.to_vec())).set_tags(Some(tags));
        self.call("CreateTags", call.send()).await.map(|_| ())
    }

    async fn modify_image(&self, id: &str, change: &ImageChange) -> CloudResult<()> {
        self.change_image(id, change).await
    }

    async fn share_snapshot(&self, id: &str, share: &SnapshotShare) -> CloudResult<()> {
        self.share(id, share).await
    }

    async fn deprecate_image(&self, id: &str, at: &str) -> CloudResult<()> {
        self.deprecate(id, at).await
    }

    async fn protect_image(&self, id: &str, with_cooldown: bool) -> CloudResult<()> {
        let call = self.client.enable_image_deregistration_protection().image_id(id).with_cooldown(with_cooldown);
        self.call("EnableImageDeregistrationProtection", call.send()).await.map(|_| ())
    }

    async fn unprotect_image(&self, id: &str) -> CloudResult<()> {
        let call = self.client.disable_image_deregistration_protection().image_id(id);
        self.call("DisableImageDeregistrationProtection", call.send()).await.map(|_| ())
    }

    async fn enable_fast_launch(&self, request: &FastLaunchRequest) -> CloudResult<()> {
        self.fast_launch(request).await
    }

    async fn fast_launch_state(&self, image: &str) -> CloudResult<Option<String>> {
        let call = self.client.describe_fast_launch_images().image_ids(image);
        let answer = self.call("DescribeFastLaunchImages", call.send()).await?;
        let first = answer.fast_launch_images.unwrap_or_default().into_iter().next();
        Ok(first.and_then(|image| image.state).map(|state| state.as_str().to_owned()))
    }

    async fn has_instance_profile(&self, name: &str) -> CloudResult<bool> {
        match self.iam("GetInstanceProfile", &[("InstanceProfileName", name)]).await {
            Ok(()) => Ok(true),
            Err(error) if error.kind == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn create_role(&self, name: &str, description: &str, tags: &Tags) -> CloudResult<()> {
        let (domain, _) = partition(&self.region);
        // China's services bear the name of their domain; everywhere else it is AWS's first one.
        let domain = if domain.ends_with(".cn") { domain } else { "amazonaws.com" };
        let document = EC2_MAY_ASSUME.replace("DOMAIN", domain);
        let parameters =
            [("RoleName", name), ("Description", description), ("AssumeRolePolicyDocument", document.as_str())];
        self.iam("CreateRole", &with_tags(&parameters, &tag_parameters(tags))).await
    }

    async fn put_role_policy(&self, role: &str, policy: &str, document: &str) -> CloudResult<()> {
        self.iam("PutRolePolicy", &[("RoleName", role), ("PolicyName", policy), ("PolicyDocument", document)]).await
    }

    async fn create_instance_profile(&self, name: &str, tags: &Tags) -> CloudResult<()> {
        let tags = tag_parameters(tags);
        self.iam("CreateInstanceProfile", &with_tags(&[("InstanceProfileName", name)], &tags)).await
    }

    async fn add_role(&self, profile: &str, role: &str) -> CloudResult<()> {
        self.iam("AddRoleToInstanceProfile", &[("InstanceProfileName", profile), ("RoleName", role)]).await
    }

    async fn remove_role(&self, profile: &str, role: &str) -> CloudResult<()> {
        self.iam("RemoveRoleFromInstanceProfile", &[("InstanceProfileName", profile), ("RoleName", role)]).await
    }

    async fn delete_instance_profile(&self, name: &str) -> CloudResult<()> {
        self.iam("DeleteInstanceProfile", &[("InstanceProfileName", name)]).await
    }

    async fn delete_role_policy(&self, role: &str, policy: &str) -> CloudResult<()> {
        self.iam("DeleteRolePolicy", &[("RoleName", role), ("PolicyName", policy)]).await
    }

    async fn delete_role(&self, name: &str) -> CloudResult<()> {
        self.iam("DeleteRole", &[("RoleName", name)]).await
    }

    async fn start_session(&self, request: &SessionRequest) -> CloudResult<SessionInfo> {
        let body = json!({
            "Target": request.instance,
            "DocumentName": "AWS-StartPortForwardingSession",
            "Parameters": {
                "portNumber": [request.remote_port.to_string()],
                "localPortNumber": [request.local_port.to_string()],
            },
        });
        let answer = self.ssm("StartSession", body).await?;
        let text = |name: &str| answer.get(name).and_then(Value::as_str).map(str::to_owned);
        Ok(SessionInfo {
            id: given("StartSession", text("SessionId"))?,
            stream_url: given("StartSession", text("StreamUrl"))?,
            token: Secret::new(given("StartSession", text("TokenValue"))?),
            endpoint: Service::SYSTEMS.address(&self.session, &self.region).0,
            profile: self.profile.clone(),
        })
    }

    async fn terminate_session(&self, id: &str) -> CloudResult<()> {
        self.ssm("TerminateSession", json!({ "SessionId": id })).await.map(|_| ())
    }
}

/// IAM's form of tags.
fn tag_parameters(tags: &Tags) -> Vec<(String, &str)> {
    let numbered = (1..).zip(tags);
    numbered
        .flat_map(|(number, (key, value))| {
            [
                (format!("Tags.member.{number}.Key"), key.as_str()),
                (format!("Tags.member.{number}.Value"), value.as_str()),
            ]
        })
        .collect()
}

fn with_tags<'a>(parameters: &[(&'a str, &'a str)], tags: &'a [(String, &'a str)]) -> Vec<(&'a str, &'a str)> {
    parameters.iter().copied().chain(tags.iter().map(|(name, value)| (name.as_str(), *value))).collect()
}
