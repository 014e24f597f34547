//! Runs a plan: prepares every component, schedules the builds, drives each from launch to its last post-processor,
//! and leaves nothing behind.
//!
//! ```text
//!   Plan ──prepare──► PreparedRun ──run──► RunReport
//!                          │
//!                          └─ per build: launch ► steps ► seal ► post-processors
//!                                           │              ▲
//!                                           └── journal ───┘ destroy, undo, hand over
//! ```
//!
//! Owns: the order of things, the on-error policy, retries and time bounds, the cleanup journal on disk, and
//! [`cleanup()`] of runs that died. Must not know: any template syntax, any particular builder, provisioner or
//! post-processor, the terminal.
//!
//! ```no_run
//! # async fn example(plan: kiln_core::Plan, kinds: std::sync::Arc<kiln_core::Kinds>,
//! #     settings: kiln_engine::RunSettings, surroundings: kiln_engine::Surroundings) {
//! let (prepared, diagnostics) = kiln_engine::prepare(&plan, &kinds, &kiln_engine::PrepareOptions::default());
//! if let Some(prepared) = prepared {
//!     let report = kiln_engine::run(prepared, settings, surroundings).await;
//!     std::process::ExitCode::from(report.exit_code());
//! }
//! # }
//! ```

mod build;
pub mod cache;
pub mod cleanup;
mod ecosystem;
pub mod error;
mod guard;
mod hooks;
pub mod journal;
pub mod needs;
mod plan;
pub mod policy;
mod post_process;
pub mod prepare;
mod publication;
pub mod run;
mod schedule;
mod scope;
mod secrets;
mod step;
mod tail;
mod trial;
mod undo;
pub mod visit;
mod walk;

pub use cache::{CachePolicy, Change, ChangeKind, Reason, StepChoice, check_choice};
pub use cleanup::{CleanupReport, RunCleanup, RunState, cleanup};
pub use error::{BuildError, EngineError};
pub use journal::{FileJournal, JournalError, OpenEntry, RunHeader};
pub use plan::{BuildPlan, GroupPlan, KeptState, PLAN_FORMAT, PlanReport, SealPlan, StepAction, StepPlan, plan};
pub use policy::{NoLimit, OnError, ParallelBuilds};
pub use prepare::{PrepareOptions, PreparedBuild, PreparedPostProcessor, PreparedRun, PreparedStep, prepare};
pub use run::{BuildReport, RunReport, RunSettings, Surroundings, run};
pub use visit::{StateChoice, visit};

#[cfg(test)]
mod tests;
