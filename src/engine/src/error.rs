//! What can go wrong in a build, in the engine's own words; the component's words follow as the cause.

use std::path::PathBuf;
use std::time::Duration;

use kiln_core::{Failure, duration};

/// A stage of a build failed. The build's name is not part of the text: events and reports carry it beside it.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The machine did not start.
    #[error("cannot start the `{kind}` source ({place})")]
    Launch {
        /// The builder's kind.
        kind: String,
        /// `file:line` of the source.
        place: String,
        /// The builder's failure.
        source: Failure,
    },
    /// What steps need beside the machine did not start.
    #[error("cannot start what the `{kind}` source ({place}) needs beside its machine")]
    Services {
        /// The builder's kind.
        kind: String,
        /// `file:line` of the source.
        place: String,
        /// The builder's failure.
        source: Failure,
    },
    /// A step failed, after all its retries.
    #[error("step {index} of {total}, `{kind}` ({place}), failed")]
    Step {
        /// The build.
        build: String,
        /// Position in the build, from 1.
        index: usize,
        /// How many steps the build has.
        total: usize,
        /// The provisioner's kind.
        kind: String,
        /// `file:line` of the step.
        place: String,
        /// The last try's failure.
        source: Failure,
    },
    /// The machine could not be turned into an artifact.
    #[error("cannot turn the machine of the `{kind}` source ({place}) into an artifact")]
    Seal {
        /// The builder's kind.
        kind: String,
        /// `file:line` of the source.
        place: String,
        /// The builder's failure.
        source: Failure,
    },
    /// What was sealed and passed its tests could not be brought to where it is to be.
    #[error("cannot name or send what the `{kind}` source ({place}) made")]
    HandOut {
        /// The builder's kind.
        kind: String,
        /// `file:line` of the source.
        place: String,
        /// The builder's failure.
        source: Failure,
    },
    /// A state that was kept is of no use.
    #[error("cannot restore what an earlier build kept")]
    Restore {
        /// The builder's failure.
        source: Failure,
    },
    /// `--post-only` found nothing to go on from.
    #[error("there is no earlier result to go on from{}", would_run(steps))]
    NothingSealed {
        /// The steps that would run, each as messages call it.
        steps: Vec<String>,
    },
    /// `--post-only` for a build that keeps nothing.
    #[error("nothing is kept of the `{kind}` source ({place}), so its post-processors cannot run alone")]
    NothingKept {
        /// The builder's kind.
        kind: String,
        /// `file:line` of the source.
        place: String,
    },
    /// A test failed.
    #[error("test `{name}` ({place}) failed")]
    Test {
        /// Its name.
        name: String,
        /// `file:line` of the test.
        place: String,
        /// Its failure.
        source: Failure,
    },
    /// A post-processor failed.
    #[error("post-processor `{kind}` ({place}) failed")]
    PostProcessor {
        /// Its kind.
        kind: String,
        /// `file:line` of the post-processor.
        place: String,
        /// Its failure.
        source: Failure,
    },
    /// An artifact that is not kept could not be removed.
    #[error("cannot remove {artifact}, which is not to be kept")]
    Discard {
        /// The artifact's id.
        artifact: String,
        /// Its owner's failure.
        source: Failure,
    },
    /// The source depends on what only its machine could tell.
    #[error("the source at {place} uses a value that is known only once its machine runs")]
    SourceNotKnown {
        /// `file:line` of the source.
        place: String,
    },
}

fn would_run(steps: &[String]) -> String {
    match steps {
        [] => String::new(),
        [step] => format!(": {step}, would run"),
        [first, .., last] => format!(": {first}, to {last}, would run"),
    }
}

/// What the engine itself finds wrong.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// A try of a step was longer than its bound.
    #[error("it took longer than its `timeout` of {}", duration::display(*limit))]
    TimedOut {
        /// The bound.
        limit: Duration,
    },
    /// Cleaning up took too long.
    #[error("{what} took longer than {}", duration::display(*limit))]
    TookTooLong {
        /// What was done, e.g. `removing the machine`.
        what: String,
        /// The bound.
        limit: Duration,
    },
    /// A component panicked.
    #[error("kiln stumbled over itself: {message}")]
    Panicked {
        /// The panic's message.
        message: String,
    },
    /// Arguments turned out wrong when the machine's values were put in.
    #[error("with the values of the running machine its arguments are wrong: {problems}")]
    WrongArguments {
        /// `file:line: title`, joined by `; `.
        problems: String,
    },
    /// A step has secrets, and the machine no place for them.
    #[error("this machine has no directory in memory for `secrets`")]
    NoSecretsDirectory,
    /// A secret could not be brought to the machine.
    #[error("cannot bring the secret `{name}` to the machine: {why}")]
    Secret {
        /// Its name.
        name: String,
        /// What the machine said.
        why: String,
    },
    /// A secret could not be removed from the machine.
    #[error("cannot remove the secrets of this step from the machine: {why}")]
    SecretStays {
        /// What the machine said.
        why: String,
    },
    /// Two builds of a run push one name, which neither said beforehand.
    #[error("`{name}` is pushed by `{other}` in this run")]
    SameName {
        /// The name, in full.
        name: String,
        /// The build that has it.
        other: String,
    },
    /// A push wants somebody's word, and nobody is there.
    #[error("it asks before it pushes {names}, and nobody is there to answer")]
    Unconfirmed {
        /// What it would push.
        names: String,
    },
    /// A build wants a clean work tree.
    #[error("`{build}` is built from a clean work tree only (`require_clean`): {why}")]
    Unclean {
        /// Its name.
        build: String,
        /// What speaks against it.
        why: String,
    },
    /// Somebody said no.
    #[error("pushing {names} was not confirmed")]
    Declined {
        /// What it would push.
        names: String,
    },
    /// A push that comes after one that failed.
    #[error("it is not pushed, as an earlier push of this build failed")]
    EarlierPushFailed,
    /// No build has the step of `--from-step`.
    #[error("no build has a step {choice}")]
    NoSuchStep {
        /// As it was asked for.
        choice: String,
    },
    /// No state to enter.
    #[error("{why}")]
    NoState {
        /// Which, and why not.
        why: String,
    },
    /// A kind of undo that no component of this kiln knows.
    #[error("this kiln cannot undo `{kind}`")]
    UnknownUndo {
        /// The kind.
        kind: String,
    },
    /// What was made later is to be removed before.
    #[error("what its build made after it is not removed yet")]
    LaterFirst,
    /// The scratch directory could not be made.
    #[error("cannot make the scratch directory {}", path.display())]
    Scratch {
        /// It.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}
