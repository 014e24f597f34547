//! Image references: `registry.example.org:5000/group/image:tag@sha256:...`.

/// A parsed reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// Host with port; `docker.io` where none is written.
    pub registry: String,
    /// Path; with `library/` in front where docker.io's short form is written.
    pub repository: String,
    /// Tag, where written.
    pub tag: Option<String>,
    /// `sha256:...`, where written.
    pub digest: Option<String>,
}
