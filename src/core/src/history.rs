//! What happened in a build that its artifact does not show.

use std::collections::BTreeMap;

use crate::artifact::{Artifact, Content};

/// The history of a build, as far as it has come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    /// Nothing was built: what it would give is in its registry already.
    pub is_skipped: bool,
    /// Post-processors that failed while the build went on (`on_error = "continue"`).
    pub tolerated: Vec<Tolerated>,
}

/// A failure that a build went on after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tolerated {
    /// The post-processor's kind.
    pub kind: String,
    /// `file:line` of the post-processor.
    pub place: String,
    /// What went wrong, in one line.
    pub error: String,
}

/// What a build would give is in its registry already.
#[derive(Debug, Clone)]
pub struct Published {
    /// The image there.
    pub artifact: Artifact,
    /// Why nothing is built, in a few words: `registry.example.org/app:1.2.3 is there already`.
    pub reason: String,
    /// Names that it does not have there yet and can be given without building anything, in full, each with the digest that
    /// it is to mean.
    pub missing: BTreeMap<String, String>,
}

impl Published {
    /// It bears these names now, too.
    #[must_use]
    pub fn named(mut self, names: Vec<String>) -> Published {
        if names.is_empty() {
            return self;
        }
        self.reason = format!("{}; named {}, too", self.reason, names.join(", "));
        if let Content::Image(image) = &mut self.artifact.content {
            image.tags.extend(names);
        }
        self
    }

    /// As it is when it has been given all that it lacks.
    #[must_use]
    pub fn completed(&self) -> Published {
        self.clone().named(self.missing.keys().cloned().collect())
    }

    /// Both, where a build would push to several places: the image of the first, under all names.
    #[must_use]
    pub fn and(mut self, other: &Published) -> Published {
        if let (Content::Image(image), Some(more)) = (&mut self.artifact.content, other.artifact.image()) {
            let new = more.tags.iter().filter(|tag| !image.tags.contains(tag)).cloned().collect::<Vec<_>>();
            image.tags.extend(new);
        }
        self.missing.extend(other.missing.clone());
        if self.reason != other.reason {
            self.reason = format!("{}; {}", self.reason, other.reason);
        }
        self
    }
}
