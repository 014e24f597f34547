//! A cloud in memory: things appear, change their states when they are looked at, and every action can fail, lose its
//! answer, or stop the build.

mod calls;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use kiln_core::{Failure, Secret};
use tokio_util::sync::CancellationToken;

use crate::cloud::*;

/// What happens to an action.
#[derive(Clone)]
pub(crate) enum Fault {
    /// It fails with this kind and code, so many times.
    Fails(ErrorKind, &'static str, usize),
    /// It is carried out, and its answer is lost.
    LosesAnswer,
    /// It is carried out, and the user stops the build.
    Stops(CancellationToken),
}

/// Everything in one region.
#[derive(Default)]
pub(crate) struct Region {
    pub(crate) images: BTreeMap<String, ImageInfo>,
    pub(crate) instances: BTreeMap<String, InstanceInfo>,
    pub(crate) keys: BTreeMap<String, KeyPairInfo>,
    pub(crate) groups: BTreeMap<String, SecurityGroupInfo>,
    pub(crate) snapshots: BTreeMap<String, SnapshotInfo>,
    pub(crate) volumes: BTreeMap<String, VolumeInfo>,
    pub(crate) templates: BTreeMap<String, LaunchTemplateInfo>,
    pub(crate) profiles: BTreeMap<String, Option<String>>,
    pub(crate) roles: BTreeMap<String, Option<String>>,
    pub(crate) subnets: Vec<SubnetInfo>,
}

#[derive(Default)]
struct World {
    regions: BTreeMap<String, Region>,
    faults: Vec<(String, Fault)>,
    calls: Vec<String>,
    console: Option<String>,
    requests: Vec<RunRequest>,
    changes: Vec<(String, ImageChange)>,
    ingress: Vec<Ingress>,
    last: usize,
    /// Id of the access key that asks, and its account.
    caller: (String, String),
    /// Whether `GetAccessKeyInfo` may be asked.
    tells_keys: bool,
}

/// One region of the cloud.
pub(crate) struct FakeCloud {
    world: Arc<Mutex<World>>,
    region: String,
}

/// All of it.
pub(crate) struct FakeClouds(pub(crate) Arc<FakeCloud>);

pub(crate) const HOME: &str = "eu-central-1";
pub(crate) const SOURCE: &str = "ami-source";

impl FakeCloud {
    /// A region with one AMI.
    pub(crate) fn new() -> Arc<FakeCloud> {
        let cloud = FakeCloud { world: Arc::default(), region: HOME.to_owned() };
        let source = ImageInfo {
            id: SOURCE.to_owned(),
            name: "debian-12".to_owned(),
            state: "available".to_owned(),
            owner: "136693071363".to_owned(),
            creation_date: "2026-01-01T00:00:00.000Z".to_owned(),
            root_device_type: Some("ebs".to_owned()),
            virtualization_type: Some("hvm".to_owned()),
            tags: Tags::from([("Release".to_owned(), "12".to_owned())]),
            ..ImageInfo::default()
        };
        cloud.here(|region| region.images.insert(SOURCE.to_owned(), source));
        cloud.ask_as("AKIAFIRST", "111111111111");
        Arc::new(cloud)
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at, or changes, this region.
    pub(crate) fn here<T>(&self, act: impl FnOnce(&mut Region) -> T) -> T {
        self.at(&self.region, act)
    }

    /// The same of any region.
    pub(crate) fn at<T>(&self, region: &str, act: impl FnOnce(&mut Region) -> T) -> T {
        act(self.world().regions.entry(region.to_owned()).or_default())
    }

    /// Makes an action fail.
    pub(crate) fn fault(&self, action: &str, fault: Fault) {
        self.world().faults.push((action.to_owned(), fault));
    }

    /// Others ask from now on.
    pub(crate) fn ask_as(&self, key: &str, account: &str) {
        self.world().caller = (key.to_owned(), account.to_owned());
    }

    /// From now on accounts of access keys are told.
    pub(crate) fn tell_keys(&self) {
        self.world().tells_keys = true;
    }

    pub(crate) fn show_on_console(&self, text: &str) {
        self.world().console = Some(text.to_owned());
    }

    /// Names of all actions so far.
    pub(crate) fn calls(&self) -> Vec<String> {
        self.world().calls.clone()
    }

    pub(crate) fn requests(&self) -> Vec<RunRequest> {
        self.world().requests.clone()
    }

    pub(crate) fn changes(&self) -> Vec<(String, ImageChange)> {
        self.world().changes.clone()
    }

    pub(crate) fn ingress(&self) -> Vec<Ingress> {
        self.world().ingress.clone()
    }

    /// What a build left, but for images that were there before and those with these ids.
    pub(crate) fn left(&self, except: &[&str]) -> Vec<String> {
        let world = self.world();
        let mut left = Vec::new();
        for (name, region) in &world.regions {
            let kept: Vec<&ImageInfo> =
                region.images.values().filter(|image| except.contains(&image.id.as_str())).collect();
            let is_kept = |snapshot: &str| {
                kept.iter().any(|image| {
                    image
                        .block_devices
                        .iter()
                        .any(|device| device.ebs.as_ref().and_then(|ebs| ebs.snapshot.as_deref()) == Some(snapshot))
                })
            };
            let mut note = |id: &str| left.push(format!("{name}:{id}"));
            region.images.keys().filter(|id| *id != SOURCE && !except.contains(&id.as_str())).for_each(|id| note(id));
            region
                .instances
                .values()
                .filter(|instance| instance.state != "terminated")
                .for_each(|instance| note(&instance.id));
            region.snapshots.keys().filter(|id| !is_kept(id)).for_each(|id| note(id));
            [
                &region.keys.keys().collect::<Vec<_>>(),
                &region.groups.keys().collect(),
                &region.volumes.keys().collect(),
            ]
            .into_iter()
            .flatten()
            .for_each(|id| note(id));
            region.templates.keys().chain(region.profiles.keys()).chain(region.roles.keys()).for_each(|id| note(id));
        }
        left
    }

    fn id(&self, prefix: &str) -> String {
        let mut world = self.world();
        world.last += 1;
        format!("{prefix}-{}", world.last)
    }

    /// Notes an action, and carries it out as the faults say.
    fn act<T>(&self, action: &str, act: impl FnOnce() -> CloudResult<T>) -> CloudResult<T> {
        let fault = {
            let mut world = self.world();
            world.calls.push(action.to_owned());
            let found = world.faults.iter().position(|(name, _)| name == action);
            found.map(|index| match &mut world.faults[index].1 {
                Fault::Fails(_, _, times) if *times > 1 => {
                    *times -= 1;
                    world.faults[index].1.clone()
                }
                _ => world.faults.remove(index).1,
            })
        };
        match fault {
            None => act(),
            Some(Fault::Fails(kind, code, _)) => Err(error(action, kind, code)),
            Some(Fault::LosesAnswer) => act().and_then(|_| Err(error(action, ErrorKind::Lost, ""))),
            Some(Fault::Stops(token)) => {
                let result = act();
                token.cancel();
                result
            }
        }
    }
}

fn error(action: &str, kind: ErrorKind, code: &str) -> CloudError {
    CloudError {
        action: action.to_owned(),
        code: code.to_owned(),
        message: "as the test says".to_owned(),
        kind,
        is_refusal: !code.is_empty() && code != "InternalError" && kind != ErrorKind::Throttled,
        request_id: None,
    }
}

fn not_found<T>(action: &str) -> CloudResult<T> {
    Err(error(action, ErrorKind::NotFound, "Invalid.NotFound"))
}

fn tags_of(specs: &[TagSpec], resource: &str) -> Tags {
    specs.iter().find(|spec| spec.resource == resource).map(|spec| spec.tags.clone()).unwrap_or_default()
}

/// Whether a thing with these properties and tags passes.
fn passes(filters: &[Filter], tags: &Tags, property: impl Fn(&str) -> Option<String>) -> bool {
    filters.iter().all(|filter| {
        let value = match filter.name.strip_prefix("tag:") {
            Some(key) => tags.get(key).cloned(),
            None => property(&filter.name),
        };
        value.is_some_and(|value| {
            filter.values.iter().any(|wanted| {
                let core = wanted.trim_matches('*');
                value == *wanted || (core != wanted && value.contains(core))
            })
        })
    })
}

#[async_trait]
impl Clouds for FakeClouds {
    async fn cloud(&self, access: &Access, region: Option<&str>) -> Result<Arc<dyn Cloud>, Failure> {
        let region = region.or(access.region.as_deref()).unwrap_or(HOME).to_owned();
        Ok(Arc::new(FakeCloud { world: Arc::clone(&self.0.world), region }))
    }

    async fn caller_address(&self, _access: &Access) -> Result<IpAddr, Failure> {
        Ok("203.0.113.7".parse().unwrap_or(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST)))
    }
}

impl FakeCloud {
    /// An instance that starts, with its root volume and those of the request.
    fn start(&self, request: &RunRequest, token: Option<String>, tags: &[TagSpec]) -> InstanceInfo {
        if let Some(token) = &token
            && let Some(known) = self.here(|region| {
                region.instances.values().find(|instance| instance.client_token.as_ref() == Some(token)).cloned()
            })
        {
            return known;
        }
        let id = self.id("i");
        let mut volumes = vec![("/dev/sda1".to_owned(), self.id("vol"))];
        let mut staying = Vec::new();
        for device in request.block_devices.iter().filter(|device| device.ebs.is_some()) {
            let volume = self.id("vol");
            if device.ebs.as_ref().and_then(|ebs| ebs.delete_on_termination) == Some(false) {
                staying.push(volume.clone());
            }
            volumes.push((device.device_name.clone(), volume));
        }
        let info = InstanceInfo {
            id: id.clone(),
            state: "pending".to_owned(),
            image: request.image.clone(),
            public_ip: Some("198.51.100.9".to_owned()),
            private_ip: Some("10.0.0.9".to_owned()),
            volumes: volumes.clone(),
            staying_volumes: staying,
            security_groups: request.security_groups.clone(),
            client_token: token,
            owner: Some(self.world().caller.1.clone()),
            tags: tags_of(tags, "instance"),
            ..InstanceInfo::default()
        };
        self.here(|region| {
            for (_, volume) in volumes {
                region
                    .volumes
                    .insert(volume.clone(), VolumeInfo { id: volume, state: "in-use".to_owned(), tags: Tags::new() });
            }
            region.instances.insert(id, info.clone());
        });
        info
    }

    fn turn(&self, id: &str, state: &str) -> CloudResult<()> {
        self.here(|region| match region.instances.get_mut(id) {
            Some(instance) => {
                instance.state = state.to_owned();
                Ok(())
            }
            None => not_found("state"),
        })
    }

    /// An image that is pending, with one snapshot.
    fn image(&self, name: &str, description: Option<String>, tags: &[TagSpec], about: &str) -> String {
        let (id, snapshot) = (self.id("ami"), self.id("snap"));
        let ebs = Ebs { snapshot: Some(snapshot.clone()), ..Ebs::default() };
        let info = ImageInfo {
            id: id.clone(),
            name: name.to_owned(),
            description,
            state: "pending".to_owned(),
            owner: "self".to_owned(),
            creation_date: jiff::Timestamp::now().to_string(),
            block_devices: vec![BlockDevice {
                device_name: "/dev/sda1".to_owned(),
                ebs: Some(ebs),
                ..BlockDevice::default()
            }],
            tags: tags_of(tags, "image"),
            ..ImageInfo::default()
        };
        let description = Some(format!("{about} {id} from somewhere"));
        let shot = SnapshotInfo {
            id: snapshot.clone(),
            state: "pending".to_owned(),
            description,
            tags: tags_of(tags, "snapshot"),
        };
        self.here(|region| {
            region.snapshots.insert(snapshot, shot);
            region.images.insert(id.clone(), info);
        });
        id
    }
}
