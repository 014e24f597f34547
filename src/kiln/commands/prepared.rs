//! From a template to builds that are ready to run, and the stage that they run on; alike for all commands that need a
//! machine or ask about one.

use std::path::PathBuf;
use std::sync::Arc;

use kiln_core::{Events, Kinds, Origin, Plan, ProcessEnvironment, Prompt, Redactor, SourceMap};
use kiln_engine::{
    CachePolicy, OnError, ParallelBuilds, PrepareOptions, PreparedRun, RunSettings, StepChoice, Surroundings, prepare,
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::load::{self, Wanted};
use super::signals::{self, Interruption};
use super::stores;
use crate::args::{StepCacheArgs, TemplateArgs};
use crate::error::CliError;
use crate::kinds;
use crate::prompt::TerminalPrompt;
use crate::settings::Settings;
use crate::ui::{self, Format, QueuedReporter, Screen};

/// Builds without a mistake.
pub(crate) struct Ready {
    pub(crate) run: PreparedRun,
    pub(crate) kinds: Arc<Kinds>,
    pub(crate) redactor: Arc<Redactor>,
}

/// Loads and checks a template. All mistakes are shown in the format.
pub(crate) async fn ready(
    template: &TemplateArgs,
    wanted: Wanted,
    force: bool,
    settings: &Settings,
    format: Format,
) -> Result<Ready, CliError> {
    ready_with(template, wanted, force, settings, format, |_, _, _| {}).await
}

/// The same, of those builds that `choose` leaves in a plan without mistakes.
pub(crate) async fn ready_with(
    template: &TemplateArgs,
    wanted: Wanted,
    force: bool,
    settings: &Settings,
    format: Format,
    choose: impl FnOnce(&mut Plan, &Kinds, &Arc<SourceMap>),
) -> Result<Ready, CliError> {
    let mut loaded = load::load_with_data(template, wanted, settings, format).await?;
    let redactor = Arc::new(load::redactor(&loaded));
    let kinds = Arc::new(kinds::all(settings)?);
    let sources: Arc<SourceMap> = Arc::new(std::mem::take(&mut loaded.sources));
    let mut findings = std::mem::take(&mut loaded.diagnostics);
    let mut prepared = None;
    if let Some(plan) = &mut loaded.plan {
        choose(plan, &kinds, &sources);
    }
    // With errors in the template, preparing what is left of it tells of the mistakes in its components too.
    if let Some(plan) = loaded.plan.as_ref().or(loaded.partial.as_ref()) {
        let options = PrepareOptions {
            force,
            will_run: true,
            no_push: wanted.no_push,
            sources: Arc::clone(&sources),
            ..PrepareOptions::default()
        };
        let (run, more) = prepare(plan, &kinds, &options);
        prepared = run;
        findings.extend(more);
        findings.sort();
    }
    ui::show_diagnostics(format, &findings, &sources, &redactor, settings);
    let Some(run) = prepared.filter(|_| !findings.has_errors()) else {
        return Err(CliError::Reported(load::class_of(&findings)));
    };
    // Mistakes in the template come before those in the surroundings.
    kinds::check_engine(run.builds.iter().map(|build| &*build.builder_kind), settings)?;
    settings.check_state_dir()?;
    Ok(Ready { run, kinds, redactor })
}

/// Where a run is shown, and what stops it.
pub(crate) struct Stage {
    pub(crate) screen: Arc<Screen>,
    pub(crate) reporter: Arc<QueuedReporter>,
    prompt: Arc<dyn Prompt>,
    interruption: Interruption,
    listener: JoinHandle<()>,
}

impl Stage {
    /// Sets it; from here on signals are heard.
    pub(crate) fn set(format: Format, bars: bool, redactor: &Arc<Redactor>, settings: &Settings) -> Stage {
        let screen = Arc::new(Screen::new(bars && settings.interactive, settings.color));
        let reporter = Arc::new(ui::reporter(format, &screen));
        let interruption = Interruption::default();
        let prompt: Arc<dyn Prompt> = Arc::new(TerminalPrompt::new(Arc::clone(&screen), reporter.clone()));
        settings.aws.ask_on(&prompt);
        let events = Events::new(reporter.clone(), Arc::clone(redactor));
        let listener = signals::listen(&interruption, events, Arc::clone(&screen));
        Stage { screen, reporter, prompt, interruption, listener }
    }

    /// Who a run talks to.
    pub(crate) fn surroundings(&self, kinds: &Arc<Kinds>, redactor: &Arc<Redactor>) -> Surroundings {
        Surroundings {
            kinds: Arc::clone(kinds),
            reporter: self.reporter.clone(),
            redactor: Arc::clone(redactor),
            prompt: Arc::clone(&self.prompt),
            cancel: self.interruption.cancel.clone(),
            hurry: self.interruption.hurry.clone(),
        }
    }

    /// Cancelled once somebody wants to stop.
    pub(crate) fn cancelled(&self) -> CancellationToken {
        self.interruption.cancel.clone()
    }

    /// Waits until all is shown.
    pub(crate) fn close(&self) {
        // Signals count as long as somebody may be slow to read.
        self.reporter.finish();
        self.listener.abort();
    }
}

/// How a run goes where nothing else is asked for.
pub(crate) async fn run_settings(template: &TemplateArgs, cache: CachePolicy, settings: &Settings) -> RunSettings {
    RunSettings {
        run_id: Arc::from(uuid::Uuid::new_v4().to_string()),
        parallel_builds: ParallelBuilds::default(),
        on_error: OnError::Cleanup,
        debug: false,
        force: false,
        yes: false,
        state_dir: settings.state_dir.clone(),
        scratch_root: settings.scratch_root.clone(),
        template: template.template.display().to_string(),
        origin: origin(settings.working_dir.join(&template.template), settings).await,
        cache,
    }
}

/// What is restored instead of run. Where the cache cannot be used, that is said, and everything runs.
pub(crate) fn cache_policy(
    template: &TemplateArgs,
    steps: &StepCacheArgs,
    settings: &Settings,
    format: Format,
) -> CachePolicy {
    let path = settings.working_dir.join(&template.template);
    let memory = match stores::memory(settings) {
        Ok(store) => Some(store as Arc<dyn kiln_core::PlanMemory>),
        Err(error) => {
            let failure = kiln_core::Failure::environment(error);
            ui::show_message(format, &format!("warning: nothing is restored or kept: {}", failure.chain()));
            None
        }
    };
    CachePolicy {
        memory,
        template: path.canonicalize().unwrap_or(path),
        no_cache: steps.no_cache,
        from_step: steps.from_step.as_deref().map(StepChoice::from),
        post_only: steps.post_only,
    }
}

/// Where the template comes from by git; nothing outside of a work tree.
async fn origin(template: PathBuf, settings: &Settings) -> Origin {
    let environment = ProcessEnvironment::from(settings.environment.clone());
    let find = move || {
        let directory = if template.is_dir() { Some(template.as_path()) } else { template.parent() };
        directory.map(|directory| kiln_template::hcl::origin(directory, &environment)).unwrap_or_default()
    };
    tokio::task::spawn_blocking(find).await.unwrap_or_default()
}
