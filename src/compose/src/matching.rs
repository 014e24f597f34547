//! Which service uses which image.

use kiln_core::Span;
use kiln_registry::Reference;

use crate::model::{Project, Service};

/// The names that a build gives to its image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// The build.
    pub build: String,
    /// In full: registry, repository and tag.
    pub names: Vec<String>,
}

/// A service that uses a build's image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Used {
    /// The service, by its index in the project.
    pub service: usize,
    /// The build.
    pub build: String,
    /// The name by which it is used, in full.
    pub name: String,
    /// Where the compose file names it.
    pub span: Span,
    /// The service has an image of its own, which is built upon it.
    pub is_base: bool,
}

/// A service that names the same repository, and yet another image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Near {
    /// The service, by its index in the project.
    pub service: usize,
    /// As the compose file writes it.
    pub written: String,
    /// Where that is.
    pub span: Span,
    /// What the build of the same repository gives.
    pub offered: Vec<String>,
    /// Why it does not use that.
    pub because: Because,
}

/// Why a service does not use an image, although it names the same repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Because {
    /// It wants another tag.
    OtherTag,
    /// It is pinned by a digest, so that no local image takes its place.
    Pinned,
    /// It builds the image itself, under this very name.
    BuiltThere,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Matches {
    /// Services that use an image of a build, in the order of the text; one may use several.
    pub used: Vec<Used>,
    /// Services that do not, but nearly.
    pub near: Vec<Near>,
}

impl Project {
    /// Finds the services that use what builds give. Two spellings of one name are one.
    pub fn matches(&self, offers: &[Offer]) -> Matches {
        let mut matches = Matches::default();
        for (index, service) in self.services.iter().enumerate() {
            let before = matches.used.len();
            for (written, span, is_base) in images(service) {
                let Ok(reference) = Reference::parse(written) else { continue };
                let name = reference.in_full();
                let offer = offers.iter().find(|offer| offer.names.contains(&name));
                let same =
                    |other: &&String| Reference::parse(other).is_ok_and(|other| other.name() == reference.name());
                match offer {
                    Some(offer) if reference.digest.is_none() => {
                        let is_known = matches.used[before..].iter().any(|known| known.name == name);
                        if !is_known {
                            let build = offer.build.clone();
                            matches.used.push(Used { service: index, build, name, span, is_base });
                        }
                    }
                    _ => {
                        let offered: Vec<String> =
                            offers.iter().flat_map(|offer| &offer.names).filter(same).cloned().collect();
                        if !offered.is_empty() {
                            let because = if reference.digest.is_some() { Because::Pinned } else { Because::OtherTag };
                            matches.near.push(Near {
                                service: index,
                                written: written.to_owned(),
                                span,
                                offered,
                                because,
                            });
                        }
                    }
                }
            }
            matches.near.extend(built_there(index, service, offers));
        }
        matches
    }
}

/// A service that gives the name of a build's image to one that it builds itself: whichever was made last has it.
fn built_there(index: usize, service: &Service, offers: &[Offer]) -> Option<Near> {
    let image = service.image.as_ref().filter(|_| service.is_built)?;
    let name = Reference::parse(&image.text).ok()?.in_full();
    let offered: Vec<String> =
        offers.iter().flat_map(|offer| &offer.names).filter(|it| **it == name).cloned().collect();
    let near =
        Near { service: index, written: image.text.clone(), span: image.span, offered, because: Because::BuiltThere };
    (!near.offered.is_empty()).then_some(near)
}

/// The images that a service names: its own, unless it is built here, and those that it is built upon.
fn images(service: &Service) -> impl Iterator<Item = (&str, Span, bool)> {
    let own = service.image.iter().filter(|_| !service.is_built).map(|image| (image.text.as_str(), image.span, false));
    own.chain(service.bases.iter().map(|base| (base.image.as_str(), base.span, true)))
}
