//! Layers are what the kernel's own overlay shows: random changes over stacked mounts, packed, applied to what was below, and
//! compared. Needs root and overlay mounts; without them it says SKIPPED and passes, unless `KILN_TEST_REQUIRE=1`.
//!
//! `KILN_TEST_CASES=1000` runs more cases, `KILN_TEST_SEED=17` one of them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, reason = "a test says why it is skipped")]

mod apply;
mod changes;
mod difference;
mod overlay;
mod snapshot;
