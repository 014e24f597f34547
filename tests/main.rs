//! Integration tests of the `kiln` command: one binary, a file per command or builder.
//!
//! Tests that need a Docker engine or a registry run against real ones on this machine: `make test` starts them. Without
//! one such a test says SKIPPED and passes, unless `KILN_TEST_REQUIRE=1` (as in `make test` and CI): then it fails.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "tests fail by panicking and say what they skip"
)]

mod support;

mod amazon;
mod amazon_faults;
mod ansible;
mod bases;
mod beyond_packer;
mod build_docker;
mod buildkitd;
mod cache;
mod cleanup_images;
mod cli;
mod console;
mod daemonless;
mod data_sources;
mod dockerfile;
mod dockerfile_options;
mod dockerfile_syntax;
mod engines;
mod examples;
mod faults;
mod fix;
mod fmt;
mod graph;
mod inspect;
mod kill;
mod kill_amazon;
mod kill_oci;
mod mistakes;
mod plan_json;
mod platforms;
mod podman;
mod publishing;
mod push;
mod readme;
mod refresh;
mod remote;
mod robustness;
mod roundtrip;
mod secrets;
mod services;
mod services_oci;
mod sharing;
mod ssh;
mod ssh_faults;
mod ssh_packer;
mod test_blocks;
mod upgrade;
mod validate;
