//! The `oci` source: its arguments, and machines on a base of busybox (as root).

// The lint's own exception covers test functions, not their helpers; a skipped test says so.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod arguments;
mod bases;
mod machine;
mod states;
mod support;
