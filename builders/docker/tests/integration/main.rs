//! The `docker` source against a real engine (with `debian:bookworm` in its store), and against the fake one.

// The lint's own exception covers test functions, not their helpers; a skipped test says so.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod arguments;
mod dropped;
mod engine;
mod fake;
mod states;
mod support;
