//! The `oci` source: images without a daemon.
