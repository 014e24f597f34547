//! Names that look as if they never moved, where a source pushes by itself: they are not moved.

use kiln_core::Failure;
use kiln_image::Digest;
use kiln_registry::tag::looks_immutable;
use serde::Deserialize;

use crate::error::OciError;
use crate::outputs::{Bringing, familiar};

/// What is done about a name that looks as if it never moved, and would be moved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ImmutableTags {
    /// Nothing is pushed.
    #[default]
    Refuse,
    /// It is told.
    Warn,
    /// It is not asked.
    Off,
}

impl Bringing<'_> {
    /// Looks at what such names mean in their registries before anything is pushed.
    ///
    /// # Errors
    /// One means another image, or nobody can tell.
    pub(crate) async fn check_moves(&self, manifest: &Digest) -> Result<(), Failure> {
        let rule = self.recipe.config.immutable_tags;
        if rule == ImmutableTags::Off || self.context.options.force {
            return Ok(());
        }
        let places = self.recipe.push.iter().enumerate();
        for (index, reference) in places.filter(|(_, reference)| looks_immutable(reference.tag_or_latest())) {
            let asked = self.context.unless_cancelled(self.client.meaning(reference)).await?;
            let found = asked.map_err(|error| {
                self.not_pushed(error)
                    .hint("as long as that is not known, nothing is overwritten; `-force` asks nobody")
            })?;
            let Some(found) = found.filter(|found| found != manifest) else { continue };
            let moved = OciError::Moved {
                reference: familiar(reference),
                found: found.to_string(),
                ours: manifest.to_string(),
            };
            if rule == ImmutableTags::Warn {
                self.context.events.warn(format!("{moved}; it is moved (`immutable_tags = \"warn\"`)"));
                continue;
            }
            let failure = Failure::build(moved).hint(
                "give the new image a tag of its own; `-force` moves this one, and `immutable_tags = \"off\"` never asks",
            );
            return Err(match self.recipe.push_spans.get(index) {
                Some(span) => failure.at(*span),
                None => failure,
            });
        }
        Ok(())
    }
}
