//! Instances: one by itself, or one of a fleet.

use aws_sdk_ec2::operation::run_instances::builders::RunInstancesFluentBuilder;
use aws_sdk_ec2::types::{
    AttributeBooleanValue, AttributeValue, BlockDeviceMapping, CapacityReservationPreference,
    CapacityReservationSpecification, CapacityReservationTarget, CreditSpecificationRequest, DefaultTargetCapacityType,
    EnclaveOptionsRequest, FleetLaunchTemplateConfigRequest, FleetLaunchTemplateOverridesRequest,
    FleetLaunchTemplateSpecificationRequest, FleetType, IamInstanceProfileSpecification,
    InstanceMetadataOptionsRequest, InstanceNetworkInterfaceSpecification, InstanceType,
    LaunchTemplateBlockDeviceMappingRequest, LaunchTemplateCapacityReservationSpecificationRequest,
    LaunchTemplateEbsBlockDeviceRequest, LaunchTemplateEnclaveOptionsRequest,
    LaunchTemplateIamInstanceProfileSpecificationRequest, LaunchTemplateInstanceMarketOptionsRequest,
    LaunchTemplateInstanceMetadataOptionsRequest, LaunchTemplateInstanceNetworkInterfaceSpecificationRequest,
    LaunchTemplateLicenseConfigurationRequest, LaunchTemplatePlacementRequest, LaunchTemplateSpotMarketOptionsRequest,
    LaunchTemplateTagSpecificationRequest, LicenseConfigurationRequest, MarketType, Placement as Ec2Placement,
    RequestLaunchTemplateData, ShutdownBehavior, SpotAllocationStrategy, SpotOptionsRequest,
    TargetCapacitySpecificationRequest, Tenancy,
};
use kiln_builder_amazon_ebs::cloud::{
    CapacityReservation, CloudResult, FleetInfo, FleetRequest, InstanceChange, InstanceInfo, LaunchTemplateRequest,
    MetadataOptions, Placement, RunRequest, SpotOptions,
};

use super::{Ec2, convert, given};

/// An empty list is not sent.
fn some<T: Clone>(list: &[T]) -> Option<Vec<T>> {
    (!list.is_empty()).then(|| list.to_vec())
}

impl Ec2 {
    pub(super) async fn run(&self, request: &RunRequest) -> CloudResult<InstanceInfo> {
        let call = with_network(self.client.run_instances(), request)
            .min_count(1)
            .max_count(1)
            .image_id(&request.image)
            .client_token(&request.client_token)
            .set_instance_type(request.instance_type.as_deref().map(InstanceType::from))
            .set_key_name(request.key_name.clone())
            .set_user_data(request.user_data.clone())
            .set_iam_instance_profile(
                request
                    .instance_profile
                    .as_ref()
                    .map(|name| IamInstanceProfileSpecification::builder().name(name).build()),
            )
            .set_block_device_mappings(convert::devices(&request.block_devices))
            .ebs_optimized(request.ebs_optimized)
            .set_instance_initiated_shutdown_behavior(request.shutdown_behavior.as_deref().map(ShutdownBehavior::from))
            .set_metadata_options(metadata(&request.metadata))
            .set_placement(placement(&request.placement))
            .set_capacity_reservation_specification(capacity(&request.capacity))
            .set_license_specifications(some(&request.licenses).map(|licenses| {
                let license = |arn| LicenseConfigurationRequest::builder().license_configuration_arn(arn).build();
                licenses.into_iter().map(license).collect()
            }))
            .set_enclave_options(request.enclave.then(|| EnclaveOptionsRequest::builder().enabled(true).build()))
            .set_credit_specification(request.unlimited_credits.then(unlimited))
            .set_tag_specifications(convert::tag_specs(&request.tags));
        let answer = self.call("RunInstances", call.send()).await?;
        let instance = answer.instances.unwrap_or_default().into_iter().next();
        given("RunInstances", instance.map(|instance| convert::instance(instance, answer.owner_id)))
    }

    pub(super) async fn launch_template(&self, request: &LaunchTemplateRequest) -> CloudResult<String> {
        let call = self
            .client
            .create_launch_template()
            .launch_template_name(&request.name)
            .client_token(&request.client_token)
            .launch_template_data(template_data(&request.run, request.spot.as_ref()))
            .set_tag_specifications(convert::tags_of("launch-template", &request.tags));
        let answer = self.call("CreateLaunchTemplate", call.send()).await?;
        given("CreateLaunchTemplate", answer.launch_template.and_then(|template| template.launch_template_id))
    }

    pub(super) async fn fleet(&self, request: &FleetRequest) -> CloudResult<FleetInfo> {
        let template = FleetLaunchTemplateSpecificationRequest::builder()
            .launch_template_id(&request.launch_template)
            .version("1")
            .build();
        let choice = |kind: &String| {
            FleetLaunchTemplateOverridesRequest::builder()
                .instance_type(InstanceType::from(kind.as_str()))
                .set_subnet_id(request.subnet.clone())
                .set_availability_zone(request.availability_zone.clone())
                .set_max_price(request.max_price.clone())
                .build()
        };
        let config = FleetLaunchTemplateConfigRequest::builder()
            .launch_template_specification(template)
            .set_overrides(Some(request.instance_types.iter().map(choice).collect()))
            .build();
        let spot = request.allocation_strategy.as_deref().map(|strategy| {
            SpotOptionsRequest::builder().allocation_strategy(SpotAllocationStrategy::from(strategy)).build()
        });
        let capacity = TargetCapacitySpecificationRequest::builder()
            .total_target_capacity(1)
            .default_target_capacity_type(DefaultTargetCapacityType::Spot)
            .build();
        let call = self
            .client
            .create_fleet()
            .client_token(&request.client_token)
            .r#type(FleetType::Instant)
            .launch_template_configs(config)
            .target_capacity_specification(capacity)
            .set_spot_options(spot)
            .set_tag_specifications(convert::tag_specs(&request.tags));
        let answer = self.call("CreateFleet", call.send()).await?;
        let instances = answer.instances.unwrap_or_default().into_iter();
        let error = |error: aws_sdk_ec2::types::CreateFleetError| {
            format!("{}: {}", error.error_code.unwrap_or_default(), error.error_message.unwrap_or_default())
        };
        Ok(FleetInfo {
            id: answer.fleet_id.unwrap_or_default(),
            instances: instances.flat_map(|group| group.instance_ids.unwrap_or_default()).collect(),
            errors: answer.errors.unwrap_or_default().into_iter().map(error).collect(),
        })
    }

    pub(super) async fn change_instance(&self, id: &str, change: InstanceChange) -> CloudResult<()> {
        let call = self.client.modify_instance_attribute().instance_id(id);
        let call = match change {
            InstanceChange::Ena(value) => call.ena_support(AttributeBooleanValue::builder().value(value).build()),
            InstanceChange::Sriov => call.sriov_net_support(AttributeValue::builder().value("simple").build()),
        };
        self.call("ModifyInstanceAttribute", call.send()).await.map(|_| ())
    }
}

/// Where the call says whether there is a public address, it has to describe the whole interface.
fn with_network(call: RunInstancesFluentBuilder, request: &RunRequest) -> RunInstancesFluentBuilder {
    let Some(is_public) = request.associate_public_ip else {
        return call.set_subnet_id(request.subnet.clone()).set_security_group_ids(some(&request.security_groups));
    };
    call.network_interfaces(
        InstanceNetworkInterfaceSpecification::builder()
            .device_index(0)
            .associate_public_ip_address(is_public)
            .delete_on_termination(true)
            .set_subnet_id(request.subnet.clone())
            .set_groups(some(&request.security_groups))
            .build(),
    )
}

fn unlimited() -> CreditSpecificationRequest {
    CreditSpecificationRequest::builder().cpu_credits("unlimited").build()
}

fn metadata(options: &MetadataOptions) -> Option<InstanceMetadataOptionsRequest> {
    (*options != MetadataOptions::default()).then(|| {
        InstanceMetadataOptionsRequest::builder()
            .set_http_endpoint(options.http_endpoint.as_deref().map(Into::into))
            .set_http_tokens(options.http_tokens.as_deref().map(Into::into))
            .set_http_put_response_hop_limit(options.http_put_response_hop_limit)
            .set_instance_metadata_tags(options.instance_metadata_tags.as_deref().map(Into::into))
            .set_http_protocol_ipv6(options.http_protocol_ipv6.as_deref().map(Into::into))
            .build()
    })
}

fn placement(place: &Placement) -> Option<Ec2Placement> {
    (*place != Placement::default()).then(|| {
        Ec2Placement::builder()
            .set_availability_zone(place.availability_zone.clone())
            .set_tenancy(place.tenancy.as_deref().map(Tenancy::from))
            .set_host_id(place.host_id.clone())
            .set_host_resource_group_arn(place.host_resource_group_arn.clone())
            .build()
    })
}

fn capacity_target(capacity: &CapacityReservation) -> Option<CapacityReservationTarget> {
    (capacity.id.is_some() || capacity.group_arn.is_some()).then(|| {
        CapacityReservationTarget::builder()
            .set_capacity_reservation_id(capacity.id.clone())
            .set_capacity_reservation_resource_group_arn(capacity.group_arn.clone())
            .build()
    })
}

fn capacity(capacity: &CapacityReservation) -> Option<CapacityReservationSpecification> {
    (*capacity != CapacityReservation::default()).then(|| {
        CapacityReservationSpecification::builder()
            .set_capacity_reservation_preference(
                capacity.preference.as_deref().map(CapacityReservationPreference::from),
            )
            .set_capacity_reservation_target(capacity_target(capacity))
            .build()
    })
}

/// The same request as a launch template's data: EC2 has types of its own for nearly each part.
fn template_data(run: &RunRequest, spot: Option<&SpotOptions>) -> RequestLaunchTemplateData {
    let network = run.associate_public_ip.map(|is_public| {
        vec![
            LaunchTemplateInstanceNetworkInterfaceSpecificationRequest::builder()
                .device_index(0)
                .associate_public_ip_address(is_public)
                .delete_on_termination(true)
                .set_groups(some(&run.security_groups))
                .build(),
        ]
    });
    let groups = if network.is_some() { None } else { some(&run.security_groups) };
    let profile = |name| LaunchTemplateIamInstanceProfileSpecificationRequest::builder().name(name).build();
    let license =
        |arn: &String| LaunchTemplateLicenseConfigurationRequest::builder().license_configuration_arn(arn).build();
    let devices =
        convert::devices(&run.block_devices).map(|devices| devices.into_iter().map(template_device).collect());
    RequestLaunchTemplateData::builder()
        .image_id(&run.image)
        .set_instance_type(run.instance_type.as_deref().map(InstanceType::from))
        .set_key_name(run.key_name.clone())
        .set_user_data(run.user_data.clone())
        .set_network_interfaces(network)
        .set_security_group_ids(groups)
        .set_iam_instance_profile(run.instance_profile.as_ref().map(profile))
        .set_block_device_mappings(devices)
        .ebs_optimized(run.ebs_optimized)
        .set_instance_initiated_shutdown_behavior(run.shutdown_behavior.as_deref().map(ShutdownBehavior::from))
        .set_metadata_options(template_metadata(&run.metadata))
        .set_placement(template_placement(&run.placement))
        .set_capacity_reservation_specification(template_capacity(&run.capacity))
        .set_license_specifications((!run.licenses.is_empty()).then(|| run.licenses.iter().map(license).collect()))
        .set_enclave_options(run.enclave.then(|| LaunchTemplateEnclaveOptionsRequest::builder().enabled(true).build()))
        .set_credit_specification(run.unlimited_credits.then(unlimited))
        .set_instance_market_options(spot.map(market))
        .set_tag_specifications(template_tags(run))
        .build()
}

fn template_tags(run: &RunRequest) -> Option<Vec<LaunchTemplateTagSpecificationRequest>> {
    let specs = convert::tag_specs(&run.tags)?;
    let spec = |spec: aws_sdk_ec2::types::TagSpecification| {
        LaunchTemplateTagSpecificationRequest::builder()
            .set_resource_type(spec.resource_type)
            .set_tags(spec.tags)
            .build()
    };
    Some(specs.into_iter().map(spec).collect())
}

fn market(spot: &SpotOptions) -> LaunchTemplateInstanceMarketOptionsRequest {
    LaunchTemplateInstanceMarketOptionsRequest::builder()
        .market_type(MarketType::Spot)
        .spot_options(
            LaunchTemplateSpotMarketOptionsRequest::builder()
                .set_max_price(spot.max_price.clone())
                .set_block_duration_minutes(spot.block_duration_minutes)
                .build(),
        )
        .build()
}

fn template_device(device: BlockDeviceMapping) -> LaunchTemplateBlockDeviceMappingRequest {
    let ebs = device.ebs.map(|ebs| {
        LaunchTemplateEbsBlockDeviceRequest::builder()
            .set_delete_on_termination(ebs.delete_on_termination)
            .set_encrypted(ebs.encrypted)
            .set_kms_key_id(ebs.kms_key_id)
            .set_iops(ebs.iops)
            .set_throughput(ebs.throughput)
            .set_volume_size(ebs.volume_size)
            .set_volume_type(ebs.volume_type)
            .set_snapshot_id(ebs.snapshot_id)
            .build()
    });
    LaunchTemplateBlockDeviceMappingRequest::builder()
        .set_device_name(device.device_name)
        .set_virtual_name(device.virtual_name)
        .set_no_device(device.no_device)
        .set_ebs(ebs)
        .build()
}

fn template_metadata(options: &MetadataOptions) -> Option<LaunchTemplateInstanceMetadataOptionsRequest> {
    (*options != MetadataOptions::default()).then(|| {
        LaunchTemplateInstanceMetadataOptionsRequest::builder()
            .set_http_endpoint(options.http_endpoint.as_deref().map(Into::into))
            .set_http_tokens(options.http_tokens.as_deref().map(Into::into))
            .set_http_put_response_hop_limit(options.http_put_response_hop_limit)
            .set_instance_metadata_tags(options.instance_metadata_tags.as_deref().map(Into::into))
            .set_http_protocol_ipv6(options.http_protocol_ipv6.as_deref().map(Into::into))
            .build()
    })
}

fn template_placement(place: &Placement) -> Option<LaunchTemplatePlacementRequest> {
    (*place != Placement::default()).then(|| {
        LaunchTemplatePlacementRequest::builder()
            .set_availability_zone(place.availability_zone.clone())
            .set_tenancy(place.tenancy.as_deref().map(Tenancy::from))
            .set_host_id(place.host_id.clone())
            .set_host_resource_group_arn(place.host_resource_group_arn.clone())
            .build()
    })
}

fn template_capacity(capacity: &CapacityReservation) -> Option<LaunchTemplateCapacityReservationSpecificationRequest> {
    (*capacity != CapacityReservation::default()).then(|| {
        LaunchTemplateCapacityReservationSpecificationRequest::builder()
            .set_capacity_reservation_preference(
                capacity.preference.as_deref().map(CapacityReservationPreference::from),
            )
            .set_capacity_reservation_target(capacity_target(capacity))
            .build()
    })
}
