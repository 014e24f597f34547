//! Sandboxes: a root file system, isolated, with commands run in it, and no daemon.
//!
//! Owns: the choice of the isolation, namespaces, mounts, our process 1 in the guest, terminals, filters, and file work that
//! must happen as the guest's root. Must not know: templates, builders, registries, the step cache. Linux only.
//!
//! A session is three kinds of processes. The *helper* is this very program again, single-threaded, so that it may fork and
//! unshare safely; it keeps the mounts and waits. Its child is process 1 of the guest: it builds the guest's root, then takes
//! orders from a socket that no guest process can reach. Each command has a *keeper* between it and process 1, which knows all
//! that the command started, so that ending a command ends those, too.
//!
//! ```no_run
//! # use kiln_sandbox::{Exec, HelperProgram, Session, SandboxSpec};
//! # async fn example(spec: SandboxSpec, output: std::os::fd::OwnedFd) -> Result<(), kiln_sandbox::SandboxError> {
//! let session = Session::start(spec, &HelperProgram::this_program()).await?;
//! let exec = Exec::new(["/bin/true"], output);
//! let status = session.exec(exec).await?.wait().await?;
//! session.stop().await?;
//! # Ok(()) }
//! ```

pub mod capabilities;
mod chroot;
pub mod error;
pub mod files;
mod helper;
pub mod idmap;
mod init;
mod mounts;
pub mod probe;
mod program;
mod protocol;
pub mod seccomp;
pub mod session;
pub mod spec;
mod starter;
mod sys;
mod terminal;
mod userns;
pub mod worker;

pub use chroot::COVERED;
pub use error::SandboxError;
pub use files::FileInfo;
pub use helper::{HELPER_ARGUMENT, helper_main};
pub use probe::{Probe, Refusal, probe};
pub use program::{Program, ProgramSpec};
pub use protocol::ScriptFile;
pub use session::{Exec, ExitStatus, Resting, Running, Session};
pub use spec::{
    BindMount, Chosen, Device, HelperProgram, IdKind, IdMap, IdRange, Isolation, Network, RootFs, SandboxSpec, Tmpfs,
};
pub use worker::{Outcome, Task, Worker};
