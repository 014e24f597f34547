//! The contracts of kiln: the plain values and traits that every other crate agrees on.
//!
//! ```text
//!   template ──► Plan ──► engine ──► Builder ──► Machine ──► Communicator
//!                           │                      ▲
//!                           ├──► Provisioner ──────┘
//!                           ├──► PostProcessor (Artifact ──► Artifact)
//!                           └──► Event ──► Reporter
//! ```
//!
//! Owns: shapes that cross a crate's border, and the small pure helpers that all sides need to agree on (schemas,
//! diagnostics, redaction, Go durations). Must not know: any template syntax, any engine outside, the terminal, the
//! user's home. Nothing here performs I/O but the scratch directory.

pub mod artifact;
pub mod cache;
pub mod communicator;
pub mod config;
pub mod context;
pub mod data;
pub mod diagnostic;
pub mod duration;
pub mod event;
pub mod failure;
pub mod health;
pub mod history;
pub mod hook;
pub mod journal;
pub mod kinds;
pub mod lines;
pub mod origin;
pub mod outline;
pub mod plan;
pub mod platform;
pub mod redact;
pub mod render;
pub mod schema;
pub mod source;
pub mod suggest;
pub mod trial;

pub use artifact::{
    ARTIFACT_VALUES, Artifact, ArtifactOwner, ArtifactShape, ArtifactValue, ArtifactValues, Content, Image, Variant,
};
pub use cache::{
    ContentRecord, FilesRecord, Input, Kept, Key, Link, PlanMemory, PlanRecord, Sealed, Snapshots, StateInfo,
    StepRecord,
};
pub use communicator::{
    Command, Communicator, ExitStatus, OutputSink, Payload, Script, ScriptRun, SshAccess, Stdin, Stream, Terminal,
};
pub use config::{Block, Body, Node, Value};
pub use context::{BuildContext, Prompt, RunOptions};
pub use data::{DataOutputs, DataReader, DataSource, DataSourceKind, Output};
pub use diagnostic::{Diagnostic, Diagnostics, Edit, Fix, Label, Severity};
pub use event::{Event, EventKind, Events, Reporter};
pub use failure::{Failure, FailureClass};
pub use history::{History, Published, Tolerated};
pub use hook::{Hook, HookEvent, HookKind, HookSpec};
pub use journal::{EntryId, Journal, Undo, UndoOutcome, Undoer};
pub use kinds::{
    Builder, BuilderKind, Caching, Joined, Kinds, Launched, Machine, PostProcessor, PostProcessorKind, PrepareContext,
    Processed, Provisioner, ProvisionerKind,
};
pub use origin::Origin;
pub use plan::{
    Artifacts, BuildSpec, CacheRules, ComponentConfig, ComponentSpec, Extension, Facts, GroupUse, Parent, Plan,
    PostProcessorSpec, ProcessEnvironment, StepSpec, TestSpec, TextScope, Unclean, VariantSpec,
};
pub use platform::{PLATFORMS, Platform};
pub use redact::{Redactor, Secret};
pub use schema::{Decoded, Field, FieldType, Schema};
pub use source::{SourceFile, SourceId, SourceMap, Span};
pub use trial::{Test, TestEnd, TestRun, Tester};

/// kiln's version, as it stands in labels, user agents and `kiln version`.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The newest Packer release whose documented behaviour kiln follows: what `packer.version` and `{{packer_version}}`
/// give, and what `required_version` is checked against.
pub const PACKER_VERSION: &str = "1.16.0";
