//! Where a template comes from, as far as git knows.

use std::collections::BTreeMap;

/// Variables by which git takes another repository for the one to work in, as it sets them for a hook: what kiln asks about
/// or checks out is never that one.
pub const OTHER_REPOSITORY_VARIABLES: [&str; 7] = [
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_COMMON_DIR",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_NAMESPACE",
];

/// The place of a template in git.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origin {
    /// The commit of the work tree that holds it.
    pub revision: Option<String>,
    /// Where the repository comes from, without credentials.
    pub source: Option<String>,
    /// A tag of the commit.
    pub version: Option<String>,
}

impl Origin {
    /// The labels of an image that tell it, by the OCI image specification's annotations. None of them changes from run to
    /// run of one commit.
    pub fn labels(&self) -> BTreeMap<String, String> {
        let labels = [("revision", &self.revision), ("source", &self.source), ("version", &self.version)];
        let known = labels.into_iter().filter_map(|(name, value)| Some((name, value.clone()?)));
        known.map(|(name, value)| (format!("org.opencontainers.image.{name}"), value)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_is_a_label() {
        let origin = Origin { revision: Some("0123abcd".into()), version: Some("v1".into()), ..Origin::default() };
        let expected = [("org.opencontainers.image.revision", "0123abcd"), ("org.opencontainers.image.version", "v1")];
        assert_eq!(origin.labels(), expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
        assert!(Origin::default().labels().is_empty());
    }
}
