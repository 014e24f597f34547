//! Undoing what a run made in the cloud, from the journal alone.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kiln_core::{Failure, FailureClass, Undo, UndoOutcome, Undoer};
use serde::{Deserialize, Serialize};

use crate::access::Connections;
use crate::accounts::Maker;
use crate::cloud::{Access, Cloud, Filter, Tags};
use crate::pace::Pace;
use crate::remove::{self, Found};

/// Where a thing is, and who can reach it; without any key.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Place {
    /// The access options.
    pub(crate) access: Access,
    /// The region.
    pub(crate) region: String,
    /// Who made it.
    #[serde(default, skip_serializing_if = "Maker::is_unknown")]
    pub(crate) maker: Maker,
}

/// What undoing an instance needs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct InstanceUndo {
    pub(crate) place: Place,
    /// Name and value of the filters that fit this instance alone, for when its id is not known.
    pub(crate) filters: Vec<(String, String)>,
    /// When it was asked for, in seconds since the epoch.
    pub(crate) at: u64,
    /// The instance, once it is known.
    #[serde(default)]
    pub(crate) id: Option<String>,
}

/// What undoing a key pair needs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct KeyPairUndo {
    pub(crate) place: Place,
    pub(crate) name: String,
    /// Of the key that kiln made: somebody else's of that name stays. As EC2 shows it, without padding.
    pub(crate) fingerprint: String,
}

/// What undoing a security group needs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct GroupUndo {
    pub(crate) place: Place,
    /// Its name, which no other group has.
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) id: Option<String>,
}

/// What undoing an instance profile with its role needs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct ProfileUndo {
    pub(crate) place: Place,
    /// Name of the profile, of its role and of the role's policy.
    pub(crate) name: String,
}

/// What undoing a launch template needs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct TemplateUndo {
    pub(crate) place: Place,
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) id: Option<String>,
}

/// What undoing an image needs: also a copy, and all snapshots of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct ImageUndo {
    pub(crate) place: Place,
    pub(crate) name: String,
    /// When it was asked for, in seconds since the epoch.
    pub(crate) at: u64,
    /// The instance that it is made of.
    #[serde(default)]
    pub(crate) instance: Option<String>,
    /// Ours (`kiln.run`, `kiln.build`): an image of that name without them is somebody else's. Empty with `kiln_tags = false`.
    #[serde(default)]
    pub(crate) tags: Tags,
    #[serde(default)]
    pub(crate) id: Option<String>,
}

fn entry(kind: &str, data: &impl Serialize, description: String) -> Undo {
    // Plain strings and maps of strings always serialise.
    let data = serde_json::to_value(data).unwrap_or_default();
    Undo { kind: kind.to_owned(), data, description }
}

impl InstanceUndo {
    pub(crate) fn entry(&self) -> Undo {
        let which = self.id.as_deref().unwrap_or("that was asked for");
        entry("aws.instance", self, format!("instance {which} in {}", self.place.region))
    }

    pub(crate) fn filters(&self) -> Vec<Filter> {
        self.filters.iter().map(|(name, value)| Filter::new(name, value)).collect()
    }
}

impl KeyPairUndo {
    pub(crate) fn entry(&self) -> Undo {
        entry("aws.key-pair", self, format!("key pair {} in {}", self.name, self.place.region))
    }
}

impl GroupUndo {
    pub(crate) fn entry(&self) -> Undo {
        entry("aws.security-group", self, format!("security group {} in {}", self.name, self.place.region))
    }
}

impl ProfileUndo {
    pub(crate) fn entry(&self) -> Undo {
        entry("aws.instance-profile", self, format!("instance profile and role {}", self.name))
    }
}

impl TemplateUndo {
    pub(crate) fn entry(&self) -> Undo {
        entry("aws.launch-template", self, format!("launch template {} in {}", self.name, self.place.region))
    }
}

impl ImageUndo {
    pub(crate) fn entry(&self) -> Undo {
        let which = self.id.as_ref().map(|id| format!("{id} ")).unwrap_or_default();
        entry("aws.image", self, format!("AMI {which}`{}` in {} with its snapshots", self.name, self.place.region))
    }
}

/// Undoes `aws.*`.
pub struct AmazonUndoer {
    connections: Arc<Connections>,
    pace: Pace,
}

impl AmazonUndoer {
    pub(crate) fn new(connections: Arc<Connections>, pace: Pace) -> AmazonUndoer {
        AmazonUndoer { connections, pace }
    }

    async fn run(&self, undo: &Undo) -> Result<bool, Failure> {
        if !self.kinds().contains(&undo.kind.as_str()) {
            return Err(Failure::new(FailureClass::Bug, format!("`{}` is no kind of AWS's", undo.kind)));
        }
        let Placed { place } = read(undo)?;
        let (cloud, is_own) = self.connections.reach_again(&place).await?;
        let found = self.remove(undo, &*cloud).await?;
        let accounts = &self.connections.accounts;
        match found {
            Found::Nothing if is_own => {}
            Found::Nothing => accounts.check_gone(&place.maker, &*cloud).await?,
            Found::Ended | Found::Removed => accounts.found(&place.maker, cloud.caller().await),
        }
        if found == Found::Nothing && undo.kind == "aws.instance" {
            remove::check_instance_gone(&*cloud, &read(undo)?)?;
        }
        Ok(found == Found::Removed)
    }

    async fn remove(&self, undo: &Undo, cloud: &dyn Cloud) -> Result<Found, Failure> {
        let was_there = match undo.kind.as_str() {
            "aws.instance" => return remove::instance(cloud, &read(undo)?, self.pace).await,
            "aws.key-pair" => remove::key_pair(cloud, &read(undo)?).await,
            "aws.security-group" => remove::group(cloud, &read(undo)?, self.pace).await,
            "aws.instance-profile" => remove::profile(cloud, &read(undo)?, self.pace).await,
            "aws.launch-template" => remove::launch_template(cloud, &read(undo)?).await,
            _ => remove::image(cloud, &read(undo)?, self.pace).await,
        };
        Ok(if was_there? { Found::Removed } else { Found::Nothing })
    }
}

/// What all of them have.
#[derive(Deserialize)]
struct Placed {
    place: Place,
}

fn read<'a, T: Deserialize<'a>>(undo: &'a Undo) -> Result<T, Failure> {
    T::deserialize(&undo.data).map_err(Failure::build)
}

#[async_trait]
impl Undoer for AmazonUndoer {
    fn kinds(&self) -> &'static [&'static str] {
        &[
            "aws.instance",
            "aws.key-pair",
            "aws.security-group",
            "aws.instance-profile",
            "aws.launch-template",
            "aws.image",
        ]
    }

    fn limit(&self) -> Duration {
        remove::LIMIT
    }

    async fn undo(&self, undo: &Undo) -> Result<UndoOutcome, Failure> {
        Ok(if self.run(undo).await? { UndoOutcome::Removed } else { UndoOutcome::AlreadyGone })
    }
}

/// The time, in seconds since the epoch.
pub(crate) fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |time| time.as_secs())
}
