//! Images and snapshots.

use aws_sdk_ec2::types::{
    AttributeValue, CreateVolumePermission, CreateVolumePermissionModifications,
    FastLaunchLaunchTemplateSpecificationRequest, FastLaunchSnapshotConfigurationRequest, LaunchPermission,
    LaunchPermissionModifications, PermissionGroup, SnapshotAttributeName,
};
use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use kiln_builder_amazon_ebs::cloud::{
    CloudError, CloudResult, CopyRequest, ErrorKind, FastLaunchRequest, ImageChange, ImageRequest, ImageShare,
    SnapshotShare,
};

use super::{Ec2, convert, given};

impl Ec2 {
    pub(super) async fn make_image(&self, request: &ImageRequest) -> CloudResult<String> {
        let call = self
            .client
            .create_image()
            .instance_id(&request.instance)
            .name(&request.name)
            .set_description(request.description.clone())
            .set_no_reboot(request.no_reboot.then_some(true))
            .set_block_device_mappings(convert::devices(&request.block_devices))
            .set_tag_specifications(convert::tag_specs(&request.tags));
        given("CreateImage", self.call("CreateImage", call.send()).await?.image_id)
    }

    pub(super) async fn copy(&self, request: &CopyRequest) -> CloudResult<String> {
        let call = self
            .client
            .copy_image()
            .source_image_id(&request.source_image)
            .source_region(&request.source_region)
            .name(&request.name)
            .set_description(request.description.clone())
            .set_encrypted(request.encrypted)
            .set_kms_key_id(request.kms_key.clone())
            .client_token(&request.client_token)
            .set_copy_image_tags(request.copy_tags.then_some(true))
            .set_snapshot_copy_completion_duration_minutes(request.snapshot_minutes.map(i64::from))
            .set_tag_specifications(convert::tag_specs(&request.tags));
        given("CopyImage", self.call("CopyImage", call.send()).await?.image_id)
    }

    pub(super) async fn change_image(&self, id: &str, change: &ImageChange) -> CloudResult<()> {
        let call = self.client.modify_image_attribute().image_id(id);
        let value = |text: &String| AttributeValue::builder().value(text).build();
        let call = match change {
            ImageChange::Description(text) => call.description(value(text)),
            ImageChange::ImdsSupport(text) => call.imds_support(value(text)),
            ImageChange::ProductCodes(codes) => call.attribute("productCodes").set_product_codes(Some(codes.clone())),
            ImageChange::Share(share) => call.launch_permission(permissions(share)),
        };
        self.call("ModifyImageAttribute", call.send()).await.map(|_| ())
    }

    pub(super) async fn share(&self, id: &str, share: &SnapshotShare) -> CloudResult<()> {
        let users = share.users.iter().map(|user| CreateVolumePermission::builder().user_id(user).build());
        let groups = share
            .groups
            .iter()
            .map(|group| CreateVolumePermission::builder().group(PermissionGroup::from(group.as_str())).build());
        let added = CreateVolumePermissionModifications::builder().set_add(Some(users.chain(groups).collect())).build();
        let call = self
            .client
            .modify_snapshot_attribute()
            .snapshot_id(id)
            .attribute(SnapshotAttributeName::CreateVolumePermission)
            .create_volume_permission(added);
        self.call("ModifySnapshotAttribute", call.send()).await.map(|_| ())
    }

    pub(super) async fn deprecate(&self, id: &str, at: &str) -> CloudResult<()> {
        let time = DateTime::from_str(at, Format::DateTimeWithOffset).map_err(|error| CloudError {
            action: "EnableImageDeprecation".to_owned(),
            code: String::new(),
            message: format!("`{at}` is no time: {error}"),
            kind: ErrorKind::Other,
            is_refusal: false,
            request_id: None,
        })?;
        let call = self.client.enable_image_deprecation().image_id(id).deprecate_at(time);
        self.call("EnableImageDeprecation", call.send()).await.map(|_| ())
    }

    pub(super) async fn fast_launch(&self, request: &FastLaunchRequest) -> CloudResult<()> {
        let template = request.launch_template.as_ref().map(|template| {
            FastLaunchLaunchTemplateSpecificationRequest::builder()
                .set_launch_template_id(template.id.clone())
                .set_launch_template_name(template.name.clone())
                .version(&template.version)
                .build()
        });
        let snapshots = request
            .target_resource_count
            .map(|count| FastLaunchSnapshotConfigurationRequest::builder().target_resource_count(count).build());
        let call = self
            .client
            .enable_fast_launch()
            .image_id(&request.image)
            .resource_type("snapshot")
            .set_launch_template(template)
            .set_snapshot_configuration(snapshots)
            .set_max_parallel_launches(request.max_parallel_launches);
        self.call("EnableFastLaunch", call.send()).await.map(|_| ())
    }
}

fn permissions(share: &ImageShare) -> LaunchPermissionModifications {
    let permission = LaunchPermission::builder;
    let users = share.users.iter().map(|user| permission().user_id(user));
    let groups = share.groups.iter().map(|group| permission().group(PermissionGroup::from(group.as_str())));
    let organizations = share.organizations.iter().map(|arn| permission().organization_arn(arn));
    let units = share.units.iter().map(|arn| permission().organizational_unit_arn(arn));
    let all = users.chain(groups).chain(organizations).chain(units).map(|permission| permission.build());
    LaunchPermissionModifications::builder().set_add(Some(all.collect())).build()
}
