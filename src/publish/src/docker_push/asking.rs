//! What names mean in their registries before anything is pushed: whether a build has anything to do, and whether a name
//! that looks as if it never moved would be moved.
//!
//! There are three answers: it means this image, it is not there, and nobody can tell. The third one is an error, and
//! nothing is built or pushed then. kiln asks itself, as it would push an image without an engine; where it cannot reach a
//! registry that the engine may reach, the engine is asked.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kiln_core::{Artifact, BuildContext, Content, Failure, Image, Published};
use kiln_docker::Engine;
use kiln_registry::tag::looks_immutable;
use kiln_registry::{Client, Reference, RegistryError};

use super::hints::Login;
use super::{DockerPush, KIND, OwnServer};
use crate::error::PublishError;
use crate::layout::LayoutImage;

/// How long asking is tried again.
pub(super) const BUDGET: Duration = Duration::from_secs(30);

/// What is done about a name that looks as if it never moved, and would be moved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Immutable {
    /// Nothing is pushed.
    #[default]
    Refuse,
    /// It is told.
    Warn,
    /// It is not asked.
    Off,
}

/// The image that is to be pushed.
pub(super) enum Candidate<'a> {
    /// Of a layout: its digest is known.
    Layout(&'a LayoutImage),
    /// Of an engine.
    Engine(&'a Arc<dyn Engine>, &'a Image),
}

/// Asks registries.
pub(super) struct Asker<'a> {
    push: &'a DockerPush,
    context: &'a BuildContext,
    client: Client,
    logins: BTreeMap<String, Login>,
}

impl<'a> Asker<'a> {
    /// With the push's own logins, certificates and exceptions.
    pub(super) async fn new(
        push: &'a DockerPush,
        references: &[&Reference],
        own_server: &OwnServer,
        context: &'a BuildContext,
    ) -> Result<Asker<'a>, Failure> {
        let mut logins = BTreeMap::new();
        for reference in references {
            push.add_login(&mut logins, reference, own_server, context).await?;
        }
        let client = push.client(&logins, push.ask_budget, context);
        Ok(Asker { push, context, client, logins })
    }

    /// The digest that a name means; `None` where it is not there.
    pub(super) async fn ask(&self, reference: &Reference) -> Result<Option<String>, Failure> {
        let asked = self.context.unless_cancelled(self.client.resolve(reference)).await?;
        let error = match asked {
            Ok(resolved) => return Ok(Some(resolved.digest.to_string())),
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => error,
        };
        // The engine may know a way, an authority or an exception that this host does not.
        if error.is_environment()
            && let Some(answer) = self.ask_engine(reference).await?
        {
            return Ok(answer);
        }
        Err(unknown(reference, error, &self.logins[&reference.name()]))
    }

    /// The same by the engine; `None` where it cannot tell either.
    async fn ask_engine(&self, reference: &Reference) -> Result<Option<Option<String>>, Failure> {
        if self.push.is_without_engine {
            return Ok(None);
        }
        let asking = async {
            let engine = self.push.engine.engine().await.ok()?;
            let login = &self.logins[&reference.name()];
            engine.registry_has(&reference.to_string(), login.credentials.as_ref()).await.ok()
        };
        self.context.unless_cancelled(asking).await
    }

    /// Whether what a name means is the image at hand.
    async fn is_same(&self, reference: &Reference, found: &str, candidate: &Candidate<'_>) -> Result<bool, Failure> {
        let (engine, image) = match candidate {
            Candidate::Layout(layout) => return Ok(layout.manifest().as_str() == found),
            Candidate::Engine(engine, image) => (engine, image),
        };
        if image.digest.as_deref() == Some(found) || image.id == found {
            return Ok(true);
        }
        let inspected = self.context.unless_cancelled(engine.inspect_image(&image.id)).await?;
        let inspected = inspected.map_err(PublishError::engine(format!("look up {}", image.id)))?;
        let named = format!("{}@{found}", reference.familiar_name());
        let Some(inspected) = inspected.filter(|image| !image.digests.contains(&named)) else { return Ok(true) };
        // What the engine pushed from elsewhere, or before it forgot: the id says the same of the content.
        let id = self.context.unless_cancelled(self.client.image_id(reference)).await?;
        Ok(id.is_ok_and(|id| id.is_some_and(|id| id.as_str() == inspected.id)))
    }
}

/// Nobody can tell what a name means.
fn unknown(reference: &Reference, source: RegistryError, login: &Login) -> Failure {
    let own = source.hints();
    let error = PublishError::Unknown { reference: reference.to_string(), source };
    let refused = super::hints::hints(&error, reference, login, "");
    let hints = if refused.is_empty() { own } else { refused };
    let failure = hints.into_iter().fold(Failure::from(error), Failure::hint);
    failure.hint("as long as that is not known, nothing is built or overwritten; `-force` asks nobody")
}

/// What is decided by: names that never mean another image, or all where there are none.
fn deciding(references: &[Reference]) -> Vec<&Reference> {
    let fixed: Vec<&Reference> =
        references.iter().filter(|reference| looks_immutable(reference.tag_or_latest())).collect();
    if fixed.is_empty() { references.iter().collect() } else { fixed }
}

/// Whether all that would be pushed is there.
pub(super) async fn published(
    push: &DockerPush,
    names: &[String],
    context: &BuildContext,
) -> Result<Option<Published>, Failure> {
    let references = names.iter().map(|name| parse(name)).collect::<Result<Vec<_>, _>>()?;
    let all: Vec<&Reference> = references.iter().collect();
    let asker = Asker::new(push, &all, &push.own_server(&all), context).await?;
    let deciding = deciding(&references);
    let mut found: Vec<(&Reference, String)> = Vec::new();
    let mut missing: Vec<&Reference> = Vec::new();
    for reference in &deciding {
        match asker.ask(reference).await? {
            Some(digest) => found.push((reference, digest)),
            None => missing.push(reference),
        }
    }
    if let Some(absent) = missing.first() {
        let text = match found.first() {
            None => format!("{absent} is not in its registry yet"),
            Some((present, _)) => format!("{present} is in its registry already, and {absent} is not"),
        };
        context.events.message(format!("{text}: it is built"));
        return Ok(None);
    }
    let Some((first, digest)) = found.first().cloned() else { return Ok(None) };
    let mut same: Vec<String> = Vec::new();
    let mut missing: BTreeMap<String, String> = BTreeMap::new();
    for reference in &references {
        let meant = match found.iter().find(|(known, _)| *known == reference) {
            Some((_, digest)) => Some(digest.clone()),
            None => match asker.ask(reference).await {
                Ok(meant) => meant,
                // It does not decide, so it may stay unknown.
                Err(failure) => {
                    context.events.warn(failure.chain());
                    continue;
                }
            },
        };
        let is_beside = || found.iter().any(|(known, its)| known.name() == reference.name() && *its == digest);
        match meant {
            Some(meant) if meant == digest => same.push(reference.to_string()),
            Some(meant) => context.events.warn(format!("{reference} means {meant}, and {first} means {digest}")),
            None if is_beside() => {
                missing.insert(reference.pushed_name(), digest.clone());
            }
            None => context.events.warn(format!("{reference} is not there, and {first} is")),
        }
    }
    let reason = match deciding.len() {
        1 => format!("{first} is in its registry already"),
        count => format!("{first} and {} more are in their registries already", count - 1),
    };
    Ok(Some(Published { artifact: artifact(first, &digest, same), reason, missing }))
}

fn parse(name: &str) -> Result<Reference, PublishError> {
    Reference::parse(name).map_err(|source| PublishError::Name { name: name.to_owned(), source })
}

/// Gives images names beside those that they have in the same repository, `latest` last. Where kiln itself does not reach a
/// registry, as an engine may, that is told, and the name is not among those that come back.
pub(super) async fn name_published(
    push: &DockerPush,
    names: &BTreeMap<String, String>,
    context: &BuildContext,
) -> Result<Vec<String>, Failure> {
    let mut named = Vec::new();
    let mut wanted =
        names.iter().map(|(name, digest)| Ok((parse(name)?, digest))).collect::<Result<Vec<_>, Failure>>()?;
    wanted.sort_by_key(|(reference, _)| reference.tag_or_latest() == "latest");
    let all: Vec<&Reference> = wanted.iter().map(|(reference, _)| reference).collect();
    let asker = Asker::new(push, &all, &push.own_server(&all), context).await?;
    for (reference, digest) in &wanted {
        let known = parse(&format!("{}@{digest}", reference.name()))?;
        context.events.message(format!("pushing {reference}: it is to mean {digest}"));
        let tags = [reference.tag_or_latest().to_owned()];
        match context.unless_cancelled(asker.client.retag(&known, &tags)).await? {
            Ok(_) => named.push(reference.to_string()),
            Err(source) if source.is_environment() => {
                let told = Failure::build(source).chain();
                context.events.warn(format!("{reference} is not there, and cannot be put there: {told}"));
            }
            Err(source) => {
                let error = PublishError::Registry { references: reference.to_string(), source };
                let lines = super::hints::hints(&error, reference, &asker.logins[&reference.name()], "");
                return Err(lines.into_iter().fold(Failure::from(error), Failure::hint));
            }
        }
    }
    Ok(named)
}

/// An image that is in a registry, and perhaps nowhere else. Its id is what pulls it.
fn artifact(reference: &Reference, digest: &str, names: Vec<String>) -> Artifact {
    let id = format!("{}@{digest}", reference.name());
    Artifact {
        builder_id: "packer.post-processor.docker-tag".to_owned(),
        id: names.last().cloned().unwrap_or_else(|| id.clone()),
        description: format!("Published Docker image: {reference} ({digest})"),
        content: Content::Image(Image { id, tags: names, digest: Some(digest.to_owned()), ..Image::default() }),
        owner: None,
    }
}

/// Looks at the names that never move: those that mean this image already need not be pushed, and come back with their
/// digests; one that means another image is refused, or told.
pub(super) async fn settled(
    push: &DockerPush,
    references: &[(&str, Reference)],
    own_server: &OwnServer,
    candidate: &Candidate<'_>,
    context: &BuildContext,
) -> Result<BTreeMap<String, String>, Failure> {
    let mut there = BTreeMap::new();
    let fixed: Vec<&Reference> = references
        .iter()
        .map(|(_, reference)| reference)
        .filter(|reference| reference.digest.is_none() && looks_immutable(reference.tag_or_latest()))
        .collect();
    if fixed.is_empty() || context.options.force || push.immutable == Immutable::Off {
        return Ok(there);
    }
    let asker = Asker::new(push, &fixed, own_server, context).await?;
    let ours = match candidate {
        Candidate::Layout(layout) => layout.manifest().to_string(),
        Candidate::Engine(_, image) => image.digest.clone().unwrap_or_else(|| format!("the image {}", image.id)),
    };
    for reference in fixed {
        let Some(found) = asker.ask(reference).await? else { continue };
        if asker.is_same(reference, &found, candidate).await? {
            context.events.message(format!("{reference} means this image already, {found}"));
            there.insert(reference.in_full(), found);
            continue;
        }
        let moved = PublishError::Moved { reference: reference.to_string(), found, ours: ours.clone() };
        if push.immutable == Immutable::Warn {
            context.events.warn(format!("{moved}; {KIND} moves it (`immutable_tags = \"warn\"`)"));
            continue;
        }
        return Err(Failure::from(moved));
    }
    Ok(there)
}

#[cfg(test)]
mod tests;
