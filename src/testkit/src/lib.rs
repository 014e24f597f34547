//! What unit tests of builders, provisioners and post-processors share: a machine that only records, a communicator that
//! answers as it was told, a private SSH server, and a ready build context. A dev-dependency only.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! use kiln_core::{Command, Communicator, communicator::CaptureSink};
//! use kiln_testkit::{Reply, ScriptedCommunicator};
//!
//! let communicator = ScriptedCommunicator::new();
//! communicator.on_exec(Reply::exit(3).stderr("no such package\n"));
//! let mut sink = CaptureSink::default();
//! let status = communicator.exec(&Command::shell("apt-get install x"), &mut sink).await.unwrap();
//! assert_eq!(status.code(), 3);
//! assert_eq!(communicator.execs()[0].argv[2], "apt-get install x");
//! # }
//! ```
//!
//! Owns: fakes of the contracts in `kiln-core`. Must not know: any other crate of kiln.

mod arguments;
mod communicator;
mod context;
mod document;
mod journal;
mod machine;
mod plans;
mod processes;
mod prompt;
mod reporter;
mod ssh_agent;
mod sshd;

pub use arguments::{Arguments, titles};
pub use communicator::{Call, Executed, Reply, ScriptedCommunicator, Uploaded};
pub use context::{ContextBuilder, TestContext, context, prepare_context};
pub use document::undocumented;
pub use journal::MemoryJournal;
pub use machine::FakeMachine;
pub use plans::MemoryPlans;
pub use prompt::FixedPrompt;
pub use reporter::RecordingReporter;
pub use ssh_agent::SshAgent;
pub use sshd::{Sshd, SshdBuilder, generate_key};

/// Locks a mutex even when a test that held it has panicked: its data is then only looked at.
fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
