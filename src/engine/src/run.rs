//! A run: all builds of a plan, side by side.

use std::collections::BTreeMap;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use kiln_core::event::Outcome;
use kiln_core::{
    Artifact, EventKind, Events, Failure, FailureClass, Kinds, Origin, Prompt, Redactor, Reporter, RunOptions,
    SourceMap, TextScope, Tolerated,
};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use crate::cache::memory::RunMemory;
use crate::cache::{CachePolicy, check_choice};
use crate::cleanup::{blocking, remove_directory, scratch_name};
use crate::error::EngineError;
use crate::guard::Stop;
use crate::journal::{FileJournal, RunHeader};
use crate::policy::{OnError, ParallelBuilds};
use crate::prepare::{PrepareOptions, PreparedBuild, PreparedRun};
use crate::publication::{Claims, unanswerable, unclean};
use crate::schedule::schedule;

/// How a run is to go.
#[derive(Debug, Clone)]
pub struct RunSettings {
    /// The run's id, a UUID: label `kiln.run`, `PackerRunUUID`.
    pub run_id: Arc<str>,
    /// Builds at a time. `debug` makes it 1.
    pub parallel_builds: ParallelBuilds,
    /// What to do when a build fails.
    pub on_error: OnError,
    /// `-debug`: one build at a time, with a pause at each stage.
    pub debug: bool,
    /// `-force`.
    pub force: bool,
    /// `-yes`: questions before pushes are answered with it.
    pub yes: bool,
    /// Where journals are kept, e.g. `~/.local/state/kiln`.
    pub state_dir: PathBuf,
    /// Where the run's scratch directory is made, e.g. `/tmp`.
    pub scratch_root: PathBuf,
    /// The template as the user named it; stands in the journal.
    pub template: String,
    /// The git commit of the template's work tree.
    pub origin: Origin,
    /// What is restored instead of run.
    pub cache: CachePolicy,
}

/// Who a run talks to.
#[derive(Clone)]
pub struct Surroundings {
    /// All kinds; their undoers remove what failed builds leave.
    pub kinds: Arc<Kinds>,
    /// Takes the events.
    pub reporter: Arc<dyn Reporter>,
    /// Hides secrets; the run adds those of the plan.
    pub redactor: Arc<Redactor>,
    /// Asks the user.
    pub prompt: Arc<dyn Prompt>,
    /// The first Ctrl-C: every build unwinds.
    pub cancel: CancellationToken,
    /// The second Ctrl-C: waits are cut short, removing is tried for a few seconds only.
    pub hurry: CancellationToken,
}

/// How a run went.
#[derive(Debug)]
pub struct RunReport {
    /// The run's id.
    pub run: Arc<str>,
    /// Every build, in the template's order.
    pub builds: Vec<BuildReport>,
    /// Why nothing ran at all.
    pub failure: Option<Failure>,
    /// Whether the user stopped it before all builds had come to their ends.
    pub is_cancelled: bool,
    /// Whether the user stopped it at all.
    pub is_interrupted: bool,
    /// The journal, where something is left for `kiln cleanup`.
    pub journal: Option<PathBuf>,
    /// Wall time.
    pub duration: Duration,
}

/// How a build went.
#[derive(Debug)]
pub struct BuildReport {
    /// The build.
    pub name: Arc<str>,
    /// The builder's kind.
    pub builder_kind: Arc<str>,
    /// How it ended.
    pub outcome: Outcome,
    /// Why nothing had to be done, where it was skipped.
    pub reason: Option<String>,
    /// Post-processors that failed while it went on.
    pub tolerated: Vec<Tolerated>,
    /// What is left of it, in the order of Packer's artifact list. A failed build may leave some.
    pub artifacts: Vec<Artifact>,
    /// What failed, in order: one stage, or several chains of post-processors. Empty for success and cancellation.
    pub failures: Vec<Failure>,
    /// The last lines that the failed stage printed.
    pub last_lines: Vec<String>,
    /// Wall time.
    pub duration: Duration,
}

/// The exit code of a run whose artifacts are there, and whose cleaning up the user stopped.
const UNCLEAN: u8 = 5;

impl RunReport {
    /// The class of the whole run; `None` when all went well.
    ///
    /// Cancelled when the user stopped it; a bug when there is any; otherwise the class that all failures share, or
    /// [`FailureClass::Build`].
    pub fn class(&self) -> Option<FailureClass> {
        if self.is_cancelled {
            return Some(FailureClass::Cancelled);
        }
        let mut classes: Vec<FailureClass> = self.failures().map(|failure| failure.class).collect();
        if classes.contains(&FailureClass::Bug) {
            return Some(FailureClass::Bug);
        }
        classes.dedup();
        match classes.as_slice() {
            [] => None,
            [class] => Some(*class),
            _ => Some(FailureClass::Build),
        }
    }

    /// Whether every build came to its end, and the user stopped the run while it removed what they had used: something
    /// of that is left.
    pub fn is_left_unclean(&self) -> bool {
        self.is_interrupted && self.class().is_none() && self.journal.is_some()
    }

    /// The exit code of the process; see `docs/reference/exit-codes.md`.
    pub fn exit_code(&self) -> u8 {
        let complete = if self.is_left_unclean() { UNCLEAN } else { 0 };
        self.class().map_or(complete, FailureClass::exit_code)
    }

    /// All failures, those of the run first, then build by build.
    pub fn failures(&self) -> impl Iterator<Item = &Failure> {
        self.failure.iter().chain(self.builds.iter().flat_map(|build| &build.failures))
    }

    /// The first build that failed.
    pub fn first_failed(&self) -> Option<&BuildReport> {
        self.builds.iter().find(|build| !build.failures.is_empty())
    }
}

/// What all builds of a run share.
pub(crate) struct Shared {
    pub(crate) settings: RunSettings,
    pub(crate) kinds: Arc<Kinds>,
    pub(crate) reporter: Arc<dyn Reporter>,
    pub(crate) redactor: Arc<Redactor>,
    pub(crate) prompt: Arc<dyn Prompt>,
    pub(crate) stop: Stop,
    pub(crate) options: Arc<RunOptions>,
    pub(crate) journal: Arc<FileJournal>,
    pub(crate) scratch: PathBuf,
    pub(crate) text_scope: Arc<TextScope>,
    pub(crate) sources: Arc<SourceMap>,
    pub(crate) secrets: Arc<[String]>,
    pub(crate) run_memory: Arc<RunMemory>,
    pub(crate) prepare: PrepareOptions,
    pub(crate) claims: Claims,
}

/// Questions of builds that run side by side come one after the other.
struct OneAtATime {
    inner: Arc<dyn Prompt>,
    turn: Mutex<()>,
}

#[async_trait]
impl Prompt for OneAtATime {
    async fn ask(&self, build: &str, question: &str) -> Option<String> {
        let _turn = self.turn.lock().await;
        self.inner.ask(build, question).await
    }

    fn is_there(&self) -> bool {
        self.inner.is_there()
    }
}

/// Runs all builds to their end, whatever happens to some of them. When it returns, every machine is gone and every
/// journal entry is struck, unless `on_error` left them, or removing them failed; both are told, and
/// [`RunReport::journal`] names the journal.
pub async fn run(prepared: PreparedRun, settings: RunSettings, surroundings: Surroundings) -> RunReport {
    let started = Instant::now();
    let run = Arc::clone(&settings.run_id);
    let cancel = surroundings.cancel.clone();
    let events = Events::new(Arc::clone(&surroundings.reporter), Arc::clone(&surroundings.redactor));
    prepared.secrets.iter().for_each(|secret| surroundings.redactor.add(secret));
    let mut report = RunReport {
        run: Arc::clone(&run),
        builds: Vec::new(),
        failure: None,
        is_cancelled: false,
        is_interrupted: false,
        journal: None,
        duration: Duration::ZERO,
    };
    let is_nobody_there = !settings.yes && !surroundings.prompt.is_there();
    let unanswerable = is_nobody_there.then(|| unanswerable(&prepared.builds, settings.force)).flatten();
    let unclean = prepared.builds.iter().find_map(|build| unclean(build, prepared.options.no_push));
    let refused = unclean.or(unanswerable);
    let opened = match check_choice(&prepared, &settings.cache).and(refused.map_or(Ok(()), Err)) {
        Ok(()) => open(settings, surroundings, &prepared).await,
        Err(failure) => Err(failure),
    };
    let shared = match opened {
        Ok(shared) => shared,
        Err(failure) => {
            events.error(&failure);
            report.failure = Some(failure);
            report.duration = started.elapsed();
            return report;
        }
    };
    let builds = prepared.builds.iter().map(|build| build.name.to_string()).collect();
    events.emit(EventKind::RunStarted { run: run.to_string(), builds });
    report.builds = schedule(prepared.builds, &shared).await;
    report.journal = close(&shared, &events).await;
    report.is_interrupted = cancel.is_cancelled();
    report.is_cancelled = report.is_interrupted && report.builds.iter().any(|build| !build.outcome.is_good());
    report.duration = started.elapsed();
    let count = |outcome| report.builds.iter().filter(|build| build.outcome == outcome).count();
    let (succeeded, skipped) = (count(Outcome::Succeeded), count(Outcome::Skipped));
    let failed = report.builds.len() - succeeded - skipped;
    events.emit(EventKind::RunFinished { succeeded, skipped, failed, seconds: report.duration.as_secs_f64() });
    report
}

pub(crate) async fn open(
    settings: RunSettings,
    surroundings: Surroundings,
    prepared: &PreparedRun,
) -> Result<Arc<Shared>, Failure> {
    let scratch = settings.scratch_root.join(scratch_name(&settings.run_id));
    let header = RunHeader::new(&settings.run_id, &settings.template, &scratch);
    let (state_dir, directory) = (settings.state_dir.clone(), scratch.clone());
    let journal = blocking(move || -> Result<FileJournal, Failure> {
        let journal = FileJournal::create(&state_dir, &header)?;
        if let Err(failure) = make_scratch(&directory) {
            journal.close()?;
            return Err(failure);
        }
        Ok(journal)
    })
    .await??;
    let options = RunOptions {
        force: settings.force,
        debug: settings.debug,
        origin: settings.origin.clone(),
        looks_only: false,
        no_push: prepared.options.no_push,
        logs: Some(settings.state_dir.join("logs")),
    };
    Ok(Arc::new(Shared {
        kinds: surroundings.kinds,
        reporter: surroundings.reporter,
        redactor: surroundings.redactor,
        prompt: Arc::new(OneAtATime { inner: surroundings.prompt, turn: Mutex::new(()) }),
        stop: Stop { cancel: surroundings.cancel, hurry: surroundings.hurry },
        options: Arc::new(options),
        journal: Arc::new(journal),
        scratch,
        text_scope: Arc::clone(&prepared.text_scope),
        sources: Arc::clone(&prepared.sources),
        secrets: Arc::clone(&prepared.secrets),
        run_memory: Arc::default(),
        prepare: prepared.options.clone(),
        claims: Claims::default(),
        settings,
    }))
}

/// Makes a directory that only its owner may enter; its parent may be anyone's. Blocking.
pub(crate) fn make_scratch(path: &Path) -> Result<(), Failure> {
    let failed = |source| {
        Failure::environment(EngineError::Scratch { path: path.to_owned(), source })
            .hint("set KILN_TMP_DIR to a directory that you may write to and that has space")
    };
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(failed)?;
    }
    std::fs::DirBuilder::new().mode(0o700).create(path).map_err(failed)
}

/// Removes the scratch directory and the journal, if nothing is left that needs them.
pub(crate) async fn close(shared: &Arc<Shared>, events: &Events) -> Option<PathBuf> {
    let journal = Arc::clone(&shared.journal);
    // A machine that was left alive may use files in it; `kiln cleanup` removes it then.
    if journal.open_entries(None).is_empty() {
        let scratch = shared.scratch.clone();
        if let Ok(Err(error)) = blocking(move || remove_directory(&scratch)).await {
            events.warn(format!("cannot remove the scratch directory {}: {error}", shared.scratch.display()));
        }
    }
    let path = journal.path().to_owned();
    match blocking(move || journal.close()).await {
        Ok(Ok(true)) => None,
        Ok(Ok(false)) => Some(path),
        Ok(Err(error)) => {
            events.warn(format!("cannot remove the cleanup journal: {}", Failure::from(error).chain()));
            Some(path)
        }
        Err(failure) => {
            events.error(&failure);
            Some(path)
        }
    }
}

/// What the journal calls the builds: their names, numbered where two bear the same (two `build` blocks without a name
/// may use one source).
pub(crate) fn journal_keys(builds: &[PreparedBuild]) -> Vec<Arc<str>> {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    let key = |build: &'_ PreparedBuild, count: usize| match count {
        1 => Arc::clone(&build.name),
        _ => format!("{} #{count}", build.name).into(),
    };
    let mut keys = Vec::with_capacity(builds.len());
    for build in builds {
        let count = seen.entry(&build.name).or_default();
        *count += 1;
        keys.push(key(build, *count));
    }
    keys
}
