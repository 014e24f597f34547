//! Which builds of a run are needed: those that it is for, and what these are built upon, unless they turn out to have
//! nothing to do.

use kiln_core::{ArtifactValue, ArtifactValues, BuildSpec, suggest};

use crate::prepare::PreparedBuild;

/// How many registries are asked at a time.
pub(crate) const ASKED_AT_ONCE: usize = 16;

/// The builds of a run, by their index, as far as it matters here.
struct Member {
    name: String,
    parents: Vec<usize>,
    /// Of an image for one of several platforms, the build that joins them, where that one is in the run.
    index: Option<usize>,
    /// It is there for others alone.
    is_brought: bool,
    is_needed: bool,
}

/// What is needed, as far as it is known.
pub(crate) struct Needs(Vec<Member>);

impl Needs {
    pub(crate) fn of(builds: &[PreparedBuild]) -> Needs {
        let index_of = |name: &str| {
            let joins = |build: &PreparedBuild| build.spec.variants.iter().any(|variant| *variant.build == *name);
            builds.iter().position(joins)
        };
        let member = |build: &PreparedBuild| Member {
            name: build.name.to_string(),
            parents: build.parents.clone(),
            index: build.spec.platform.as_ref().and_then(|_| index_of(&build.name)),
            is_brought: build.is_brought(),
            is_needed: false,
        };
        Needs(builds.iter().map(member).collect())
    }

    /// The builds that the run is for. Images of an index are there for the index.
    pub(crate) fn first(&mut self) -> Vec<usize> {
        let wanted = |index: &usize| !self.0[*index].is_brought && self.0[*index].index.is_none();
        let first: Vec<usize> = (0..self.0.len()).filter(wanted).collect();
        first.iter().for_each(|index| self.0[*index].is_needed = true);
        first
    }

    /// A build has something to do: what is needed for that, and was not before. Instead of an image of an index comes the
    /// index: if that is published, so is the image.
    pub(crate) fn is_built(&mut self, index: usize) -> Vec<usize> {
        let mut new = Vec::new();
        for parent in self.0[index].parents.clone() {
            let parent = self.0[parent].index.filter(|joining| *joining != index).unwrap_or(parent);
            if !std::mem::replace(&mut self.0[parent].is_needed, true) {
                new.push(parent);
            }
        }
        new
    }

    pub(crate) fn is_needed(&self, index: usize) -> bool {
        self.0[index].is_needed
    }

    /// The build that joins it with others.
    pub(crate) fn index_of(&self, index: usize) -> Option<usize> {
        self.0[index].index
    }

    /// Why a build that is not needed is not.
    pub(crate) fn why_not(&self, index: usize) -> String {
        let children = self.0.iter().filter(|member| member.parents.contains(&index));
        let names = match self.0[index].index {
            Some(joining) => vec![self.0[joining].name.as_str()],
            None => children.map(|member| member.name.as_str()).collect(),
        };
        let be = if names.len() == 1 { "is" } else { "are" };
        format!("not needed: {} {be} not built", suggest::enumerate(names))
    }
}

/// What those may use that are built upon a published build. Of an index, its images bear its digest: whoever pulls that
/// for a platform gets the image for it.
pub(crate) fn published_values(spec: &BuildSpec, mut values: ArtifactValues) -> ArtifactValues {
    let Some(ArtifactValue::Text(image)) = values.get("image").cloned() else { return values };
    if !spec.variants.is_empty() {
        let images = spec.variants.iter().map(|variant| (variant.platform.to_string(), image.clone())).collect();
        values.insert("images", ArtifactValue::Map(images));
    }
    values
}
