//! What each action does.

use super::*;

#[async_trait]
impl Cloud for FakeCloud {
    fn region(&self) -> &str {
        &self.region
    }

    async fn caller(&self) -> Caller {
        Caller { key: Some(self.world().caller.0.clone()), account: None }
    }

    async fn account(&self) -> CloudResult<String> {
        self.act("GetCallerIdentity", || Ok(self.world().caller.1.clone()))
    }

    async fn account_of_key(&self, key: &str) -> CloudResult<String> {
        self.act("GetAccessKeyInfo", || match (self.world().tells_keys, key) {
            (true, "AKIAFIRST") => Ok("111111111111".to_owned()),
            _ => Err(error("GetAccessKeyInfo", ErrorKind::Unauthorized, "AccessDenied")),
        })
    }

    async fn describe_regions(&self) -> CloudResult<Vec<String>> {
        self.act("DescribeRegions", || Ok([HOME, "us-east-1", "eu-west-1"].map(str::to_owned).to_vec()))
    }

    async fn describe_images(&self, query: &ImageQuery) -> CloudResult<Vec<ImageInfo>> {
        self.act("DescribeImages", || {
            self.here(|region| {
                if query.ids.iter().any(|id| !region.images.contains_key(id)) {
                    return not_found("DescribeImages");
                }
                let found = region.images.values_mut().filter(|image| {
                    let is_asked = query.ids.is_empty() || query.ids.contains(&image.id);
                    let is_own = !query.owners.contains(&"self".to_owned()) || image.owner == "self";
                    is_asked
                        && is_own
                        && passes(&query.filters, &image.tags, |name| (name == "name").then(|| image.name.clone()))
                });
                // Ready at the second look.
                Ok(found
                    .map(|image| {
                        let seen = image.clone();
                        if image.state == "pending" {
                            image.state = "available".to_owned();
                        }
                        seen
                    })
                    .collect())
            })
        })
    }

    async fn describe_instances(&self, ids: &[String], filters: &[Filter]) -> CloudResult<Vec<InstanceInfo>> {
        self.act("DescribeInstances", || {
            self.here(|region| {
                if ids.iter().any(|id| !region.instances.contains_key(id)) {
                    return not_found("DescribeInstances");
                }
                let mut gone = Vec::new();
                let found: Vec<InstanceInfo> = region
                    .instances
                    .values_mut()
                    .filter(|instance| {
                        let is_asked = ids.is_empty() || ids.contains(&instance.id);
                        is_asked
                            && passes(filters, &instance.tags, |name| match name {
                                "client-token" => instance.client_token.clone(),
                                "instance.group-id" => instance.security_groups.first().cloned(),
                                _ => None,
                            })
                    })
                    .map(|instance| {
                        let seen = instance.clone();
                        instance.state = match instance.state.as_str() {
                            "pending" => "running",
                            "stopping" => "stopped",
                            "shutting-down" => {
                                gone.extend(
                                    instance
                                        .volumes
                                        .iter()
                                        .map(|(_, volume)| volume.clone())
                                        .filter(|volume| !instance.staying_volumes.contains(volume)),
                                );
                                "terminated"
                            }
                            other => other,
                        }
                        .to_owned();
                        seen
                    })
                    .collect();
                gone.iter().for_each(|volume| drop(region.volumes.remove(volume)));
                Ok(found)
            })
        })
    }

    async fn describe_offerings(&self, _instance_type: &str) -> CloudResult<Vec<String>> {
        self.act("DescribeInstanceTypeOfferings", || Ok(vec![format!("{}b", self.region)]))
    }

    async fn describe_vpcs(&self, _ids: &[String], _filters: &[Filter]) -> CloudResult<Vec<VpcInfo>> {
        self.act("DescribeVpcs", || Ok(vec![VpcInfo { id: "vpc-1".to_owned(), is_default: true }]))
    }

    async fn describe_subnets(&self, ids: &[String], _filters: &[Filter]) -> CloudResult<Vec<SubnetInfo>> {
        self.act("DescribeSubnets", || {
            self.here(|region| {
                Ok(region.subnets.iter().filter(|subnet| ids.is_empty() || ids.contains(&subnet.id)).cloned().collect())
            })
        })
    }

    async fn describe_security_groups(
        &self,
        _ids: &[String],
        filters: &[Filter],
    ) -> CloudResult<Vec<SecurityGroupInfo>> {
        self.act("DescribeSecurityGroups", || {
            self.here(|region| {
                let groups = region.groups.values();
                Ok(groups
                    .filter(|group| {
                        passes(filters, &group.tags, |name| (name == "group-name").then(|| group.name.clone()))
                    })
                    .cloned()
                    .collect())
            })
        })
    }

    async fn describe_volumes(&self, _ids: &[String], _filters: &[Filter]) -> CloudResult<Vec<VolumeInfo>> {
        self.act("DescribeVolumes", || self.here(|region| Ok(region.volumes.values().cloned().collect())))
    }

    async fn describe_snapshots(&self, _ids: &[String], filters: &[Filter]) -> CloudResult<Vec<SnapshotInfo>> {
        self.act("DescribeSnapshots", || {
            self.here(|region| {
                let snapshots = region.snapshots.values();
                Ok(snapshots
                    .filter(|snapshot| passes(filters, &snapshot.tags, |_| snapshot.description.clone()))
                    .cloned()
                    .collect())
            })
        })
    }

    async fn describe_key_pairs(&self, names: &[String]) -> CloudResult<Vec<KeyPairInfo>> {
        self.act("DescribeKeyPairs", || {
            self.here(|region| {
                match names.iter().map(|name| region.keys.get(name).cloned()).collect::<Option<Vec<_>>>() {
                    Some(found) => Ok(found),
                    None => not_found("DescribeKeyPairs"),
                }
            })
        })
    }

    async fn console_output(&self, _instance: &str) -> CloudResult<Option<String>> {
        self.act("GetConsoleOutput", || Ok(self.world().console.clone()))
    }

    async fn import_key_pair(&self, name: &str, public_key: &str, tags: &Tags) -> CloudResult<KeyPairInfo> {
        self.act("ImportKeyPair", || {
            let fingerprint = kiln_ssh::HostKey::from_openssh(public_key)
                .map(|key| format!("{}=", key.fingerprint_sha256().trim_start_matches("SHA256:")));
            let info = KeyPairInfo { name: name.to_owned(), fingerprint: fingerprint.ok(), tags: tags.clone() };
            self.here(|region| {
                if region.keys.contains_key(name) {
                    return Err(error("ImportKeyPair", ErrorKind::Duplicate, "InvalidKeyPair.Duplicate"));
                }
                region.keys.insert(name.to_owned(), info.clone());
                Ok(info)
            })
        })
    }

    async fn delete_key_pair(&self, name: &str) -> CloudResult<()> {
        self.act("DeleteKeyPair", || {
            self.here(|region| region.keys.remove(name));
            Ok(())
        })
    }

    async fn create_security_group(&self, request: &SecurityGroupRequest) -> CloudResult<String> {
        self.act("CreateSecurityGroup", || {
            let id = self.id("sg");
            let info = SecurityGroupInfo {
                id: id.clone(),
                name: request.name.clone(),
                vpc: request.vpc.clone(),
                tags: request.tags.clone(),
            };
            self.here(|region| region.groups.insert(id.clone(), info));
            Ok(id)
        })
    }

    async fn authorize_ingress(&self, group: &str, ingress: &Ingress) -> CloudResult<()> {
        self.act("AuthorizeSecurityGroupIngress", || {
            self.world().ingress.push(ingress.clone());
            self.here(|region| {
                if region.groups.contains_key(group) { Ok(()) } else { not_found("AuthorizeSecurityGroupIngress") }
            })
        })
    }

    async fn delete_security_group(&self, group: &str) -> CloudResult<()> {
        self.act("DeleteSecurityGroup", || {
            self.here(|region| {
                let is_used = region.instances.values().any(|instance| {
                    instance.state != "terminated" && instance.security_groups.iter().any(|used| used == group)
                });
                if is_used {
                    return Err(error("DeleteSecurityGroup", ErrorKind::InUse, "DependencyViolation"));
                }
                region.groups.remove(group).map_or_else(|| not_found("DeleteSecurityGroup"), |_| Ok(()))
            })
        })
    }

    async fn run_instance(&self, request: &RunRequest) -> CloudResult<InstanceInfo> {
        self.act("RunInstances", || {
            self.world().requests.push(request.clone());
            Ok(self.start(request, Some(request.client_token.clone()), &request.tags))
        })
    }

    async fn create_launch_template(&self, request: &LaunchTemplateRequest) -> CloudResult<String> {
        self.act("CreateLaunchTemplate", || {
            let id = self.id("lt");
            self.world().requests.push(request.run.clone());
            let info = LaunchTemplateInfo { id: id.clone(), name: request.name.clone(), tags: request.tags.clone() };
            self.here(|region| region.templates.insert(id.clone(), info));
            Ok(id)
        })
    }

    async fn describe_launch_templates(&self, names: &[String]) -> CloudResult<Vec<LaunchTemplateInfo>> {
        self.act("DescribeLaunchTemplates", || {
            self.here(|region| {
                Ok(region.templates.values().filter(|template| names.contains(&template.name)).cloned().collect())
            })
        })
    }

    async fn delete_launch_template(&self, id: &str) -> CloudResult<()> {
        self.act("DeleteLaunchTemplate", || {
            self.here(|region| {
                region.templates.remove(id).map_or_else(|| not_found("DeleteLaunchTemplate"), |_| Ok(()))
            })
        })
    }

    async fn create_fleet(&self, request: &FleetRequest) -> CloudResult<FleetInfo> {
        self.act("CreateFleet", || {
            let run = self.world().requests.last().cloned().unwrap_or_default();
            let info = self.start(&run, None, &request.tags);
            Ok(FleetInfo { id: "fleet-1".to_owned(), instances: vec![info.id], errors: Vec::new() })
        })
    }

    async fn stop_instance(&self, id: &str) -> CloudResult<()> {
        self.act("StopInstances", || self.turn(id, "stopping"))
    }

    async fn terminate_instance(&self, id: &str) -> CloudResult<()> {
        self.act("TerminateInstances", || self.turn(id, "shutting-down"))
    }

    async fn modify_instance(&self, _id: &str, _change: InstanceChange) -> CloudResult<()> {
        self.act("ModifyInstanceAttribute", || Ok(()))
    }

    async fn delete_volume(&self, id: &str) -> CloudResult<()> {
        self.act("DeleteVolume", || {
            self.here(|region| region.volumes.remove(id).map_or_else(|| not_found("DeleteVolume"), |_| Ok(())))
        })
    }

    async fn create_image(&self, request: &ImageRequest) -> CloudResult<String> {
        self.act("CreateImage", || {
            self.here(|region| match region.images.values().any(|image| image.name == request.name) {
                true => Err(error("CreateImage", ErrorKind::Duplicate, "InvalidAMIName.Duplicate")),
                false => Ok(()),
            })?;
            Ok(self.image(&request.name, request.description.clone(), &request.tags, "Created by CreateImage(i-1) for"))
        })
    }

    async fn copy_image(&self, request: &CopyRequest) -> CloudResult<String> {
        self.act("CopyImage", || {
            Ok(self.image(&request.name, request.description.clone(), &request.tags, "Copied for DestinationAmi"))
        })
    }

    async fn deregister_image(&self, id: &str) -> CloudResult<()> {
        self.act("DeregisterImage", || {
            self.here(|region| region.images.remove(id).map_or_else(|| not_found("DeregisterImage"), |_| Ok(())))
        })
    }

    async fn delete_snapshot(&self, id: &str) -> CloudResult<()> {
        self.act("DeleteSnapshot", || {
            self.here(|region| {
                let is_used = region.images.values().any(|image| {
                    image
                        .block_devices
                        .iter()
                        .any(|device| device.ebs.as_ref().and_then(|ebs| ebs.snapshot.as_deref()) == Some(id))
                });
                if is_used {
                    return Err(error("DeleteSnapshot", ErrorKind::InUse, "InvalidSnapshot.InUse"));
                }
                region.snapshots.remove(id).map_or_else(|| not_found("DeleteSnapshot"), |_| Ok(()))
            })
        })
    }

    async fn create_tags(&self, _resources: &[String], _tags: &Tags) -> CloudResult<()> {
        self.act("CreateTags", || Ok(()))
    }

    async fn modify_image(&self, id: &str, change: &ImageChange) -> CloudResult<()> {
        self.act("ModifyImageAttribute", || {
            self.world().changes.push((id.to_owned(), change.clone()));
            Ok(())
        })
    }

    async fn share_snapshot(&self, _id: &str, _share: &SnapshotShare) -> CloudResult<()> {
        self.act("ModifySnapshotAttribute", || Ok(()))
    }

    async fn deprecate_image(&self, _id: &str, _at: &str) -> CloudResult<()> {
        self.act("EnableImageDeprecation", || Ok(()))
    }

    async fn protect_image(&self, id: &str, _with_cooldown: bool) -> CloudResult<()> {
        self.act("EnableImageDeregistrationProtection", || {
            self.here(|region| {
                if let Some(image) = region.images.get_mut(id) {
                    image.deregistration_protection = Some("enabled-without-cooldown".to_owned());
                }
            });
            Ok(())
        })
    }

    async fn unprotect_image(&self, _id: &str) -> CloudResult<()> {
        self.act("DisableImageDeregistrationProtection", || Ok(()))
    }

    async fn enable_fast_launch(&self, _request: &FastLaunchRequest) -> CloudResult<()> {
        self.act("EnableFastLaunch", || Ok(()))
    }

    async fn fast_launch_state(&self, _image: &str) -> CloudResult<Option<String>> {
        self.act("DescribeFastLaunchImages", || Ok(Some("enabled".to_owned())))
    }

    async fn has_instance_profile(&self, name: &str) -> CloudResult<bool> {
        self.act("GetInstanceProfile", || self.here(|region| Ok(region.profiles.contains_key(name))))
    }

    async fn create_role(&self, name: &str, _description: &str, _tags: &Tags) -> CloudResult<()> {
        self.act("CreateRole", || {
            self.here(|region| region.roles.insert(name.to_owned(), None));
            Ok(())
        })
    }

    async fn put_role_policy(&self, role: &str, _policy: &str, document: &str) -> CloudResult<()> {
        self.act("PutRolePolicy", || {
            self.here(|region| region.roles.insert(role.to_owned(), Some(document.to_owned())));
            Ok(())
        })
    }

    async fn create_instance_profile(&self, name: &str, _tags: &Tags) -> CloudResult<()> {
        self.act("CreateInstanceProfile", || {
            self.here(|region| region.profiles.insert(name.to_owned(), None));
            Ok(())
        })
    }

    async fn add_role(&self, profile: &str, role: &str) -> CloudResult<()> {
        self.act("AddRoleToInstanceProfile", || {
            self.here(|region| region.profiles.insert(profile.to_owned(), Some(role.to_owned())));
            Ok(())
        })
    }

    async fn remove_role(&self, profile: &str, _role: &str) -> CloudResult<()> {
        self.act("RemoveRoleFromInstanceProfile", || {
            self.here(|region| match region.profiles.get_mut(profile) {
                Some(role) => {
                    *role = None;
                    Ok(())
                }
                None => not_found("RemoveRoleFromInstanceProfile"),
            })
        })
    }

    async fn delete_instance_profile(&self, name: &str) -> CloudResult<()> {
        self.act("DeleteInstanceProfile", || {
            self.here(|region| match region.profiles.get(name) {
                None => not_found("DeleteInstanceProfile"),
                Some(Some(_)) => Err(error("DeleteInstanceProfile", ErrorKind::InUse, "DeleteConflict")),
                Some(None) => {
                    region.profiles.remove(name);
                    Ok(())
                }
            })
        })
    }

    async fn delete_role_policy(&self, role: &str, _policy: &str) -> CloudResult<()> {
        self.act("DeleteRolePolicy", || {
            self.here(|region| match region.roles.get_mut(role) {
                Some(policy @ Some(_)) => {
                    *policy = None;
                    Ok(())
                }
                _ => not_found("DeleteRolePolicy"),
            })
        })
    }

    async fn delete_role(&self, name: &str) -> CloudResult<()> {
        self.act("DeleteRole", || {
            self.here(|region| match region.roles.get(name) {
                None => not_found("DeleteRole"),
                Some(Some(_)) => Err(error("DeleteRole", ErrorKind::InUse, "DeleteConflict")),
                Some(None) => {
                    region.roles.remove(name);
                    Ok(())
                }
            })
        })
    }

    async fn start_session(&self, request: &SessionRequest) -> CloudResult<SessionInfo> {
        self.act("StartSession", || {
            let endpoint = "https://ssm".to_owned();
            Ok(SessionInfo {
                id: request.instance.clone(),
                stream_url: "wss://x".to_owned(),
                token: Secret::new("token"),
                endpoint,
                profile: None,
            })
        })
    }

    async fn terminate_session(&self, _id: &str) -> CloudResult<()> {
        self.act("TerminateSession", || Ok(()))
    }
}
