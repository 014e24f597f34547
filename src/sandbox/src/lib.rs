//! Sandboxes: a root file system, isolated, with commands run in it.
