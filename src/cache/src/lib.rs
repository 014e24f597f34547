//! The store of the step cache.
