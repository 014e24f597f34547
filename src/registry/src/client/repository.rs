//! One repository of one registry: what all requests begin with.

use std::fmt;
use std::sync::Arc;

use super::endpoint::Endpoint;
use super::shared::Shared;

/// A repository.
#[derive(Clone)]
pub(crate) struct Repository {
    pub(crate) shared: Arc<Shared>,
    pub(crate) endpoint: Arc<Endpoint>,
    /// As its registry names it.
    pub(crate) path: String,
}

impl Repository {
    pub(crate) fn new(shared: Arc<Shared>, endpoint: Arc<Endpoint>, path: String) -> Repository {
        Repository { shared, endpoint, path }
    }

    /// Whether both are in the same registry.
    pub(crate) fn is_beside(&self, other: &Repository) -> bool {
        self.endpoint.registry == other.endpoint.registry
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.endpoint.registry, self.path)
    }
}

impl fmt::Debug for Repository {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}
