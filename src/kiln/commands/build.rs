//! `kiln build`.

use std::sync::Arc;

use kiln_compose::Offer;
use kiln_core::event::Outcome;
use kiln_core::{Event, Failure, FailureClass, Kinds, Reporter, suggest};
use kiln_engine::{BuildReport, ParallelBuilds, RunReport, RunSettings, Surroundings};

use super::load::Wanted;
use super::prepared::{self, Stage};
use super::{refresh, stores};
use crate::args::{BuildArgs, OnError};
use crate::emulation;
use crate::error::CliError;
use crate::settings::Settings;
use crate::ui::{self, FailureText, Format, TableRow};

/// Loads, checks and runs the template. Whatever goes wrong is shown in the format that was asked for, so that standard
/// output holds nothing else.
pub(crate) async fn run(arguments: &BuildArgs, settings: &Settings) -> Result<u8, CliError> {
    let settings = &settings.with_docker_as(arguments.steps.docker_as);
    let format = match (arguments.json, settings.machine_readable) {
        (true, _) => Format::Json,
        (_, true) => Format::MachineReadable,
        _ => Format::Human { timestamps: arguments.timestamp_ui },
    };
    match build(arguments, format, settings).await {
        Err(CliError::Failure(failure)) => {
            ui::show_failure(format, &failure, settings);
            Err(CliError::Reported(failure.class))
        }
        other => other,
    }
}

/// A limit for a builder that does not exist would bound nothing.
fn check_limits(limits: &ParallelBuilds, kinds: &Kinds) -> Result<(), Failure> {
    let Some(unknown) = limits.kinds.keys().find(|kind| kinds.builder(kind).is_none()) else { return Ok(()) };
    let failure = Failure::new(
        FailureClass::Usage,
        format!("`-parallel-builds` names a builder `{unknown}`, which kiln does not have"),
    );
    let names = kinds.builder_names();
    Err(match suggest::nearest(unknown, names.iter().copied()) {
        Some(nearest) => failure.hint(format!("did you mean `{nearest}`?")),
        None => failure.hint(format!("there are {}", names.join(", "))),
    })
}

async fn build(arguments: &BuildArgs, format: Format, settings: &Settings) -> Result<u8, CliError> {
    let wanted =
        Wanted { warn_undeclared: arguments.warn_on_undeclared_var, no_push: arguments.no_push, ..Wanted::default() };
    let ready = prepared::ready(&arguments.template, wanted, arguments.force, settings, format).await?;
    check_limits(&arguments.parallel_builds, &ready.kinds)?;
    let stage = Stage::set(format, matches!(format, Format::Human { .. }), &ready.redactor, settings);
    let cache = prepared::cache_policy(&arguments.template, &arguments.steps, settings, format);
    let run_settings = RunSettings {
        parallel_builds: arguments.parallel_builds.clone(),
        on_error: on_error(arguments.on_error),
        debug: arguments.debug,
        force: arguments.force,
        yes: arguments.yes,
        ..prepared::run_settings(&arguments.template, cache, settings).await
    };
    let offers = refresh::offers(&ready.run);
    let surroundings = stage.surroundings(&ready.kinds, &ready.redactor);
    let quiet = Surroundings { reporter: Arc::new(Quiet), ..surroundings.clone() };
    let plan = async || kiln_engine::plan(&ready.run, &run_settings, &quiet).await;
    if let Err(failure) = emulation::check(&ready.run, &settings.scratch_root, plan).await {
        stage.close();
        return Err(failure.into());
    }
    let report = kiln_engine::run(ready.run, run_settings, surroundings).await;
    stage.close();
    if matches!(format, Format::Human { .. }) {
        ui::show_text(&ready.redactor.redact(&closing(&report, stage.screen.width())));
        let built = built(&report, offers);
        if let Some(hint) = refresh::hint(&built, &arguments.template.template, settings) {
            ui::show_message(format, &ready.redactor.redact(&hint));
        }
    }
    stores::start_tidying(settings);
    Ok(report.exit_code())
}

/// Shows nothing: of what is found out on the side.
struct Quiet;

impl Reporter for Quiet {
    fn report(&self, _event: Event) {}
}

/// Of what builds offer, that of those which made something.
fn built(report: &RunReport, mut offers: Vec<Offer>) -> Vec<Offer> {
    let is_built =
        |name: &str| report.builds.iter().any(|build| &*build.name == name && build.outcome == Outcome::Succeeded);
    offers.retain(|offer| is_built(&offer.build));
    offers
}

fn on_error(choice: OnError) -> kiln_engine::OnError {
    match choice {
        OnError::Cleanup => kiln_engine::OnError::Cleanup,
        OnError::Abort => kiln_engine::OnError::Abort,
        OnError::Ask => kiln_engine::OnError::Ask,
        OnError::RunCleanupProvisioner => kiln_engine::OnError::RunCleanupProvisioner,
    }
}

/// The closing table, the failures of a run of many builds, and what is left to do.
pub(super) fn closing(report: &RunReport, width: Option<usize>) -> String {
    let rows: Vec<TableRow> = report
        .builds
        .iter()
        .map(|build| TableRow {
            build: build.name.to_string(),
            outcome: build.outcome,
            seconds: build.duration.as_secs_f64(),
            reason: build.reason.clone(),
            tolerated: build.tolerated.iter().map(|it| format!("{} ({}): {}", it.kind, it.place, it.error)).collect(),
            artifacts: build.artifacts.iter().map(kiln_core::Artifact::summary).collect(),
        })
        .collect();
    let mut text = ui::table(&rows, width);
    let failed: Vec<_> = report.builds.iter().filter(|build| !build.failures.is_empty()).collect();
    let failures: Vec<FailureText> = failed.iter().flat_map(|build| failure_texts(build)).collect();
    text.push_str(&ui::failures(&failures, failed.len(), report.builds.len()));
    if report.class() == Some(FailureClass::Cancelled) {
        text.push_str("\nstopped\n");
    }
    if report.is_left_unclean() {
        text.push_str("\nall artifacts are there; removing what the builds used was interrupted\n");
    }
    if report.journal.is_some() {
        text.push_str("\nsomething is left of this run: `kiln cleanup` removes it\n");
    }
    text
}

fn failure_texts(build: &BuildReport) -> impl Iterator<Item = FailureText> {
    build.failures.iter().enumerate().map(|(index, failure)| FailureText {
        build: build.name.to_string(),
        text: failure.chain(),
        hints: failure.hints.clone(),
        // They belong to the stage that failed first.
        last_lines: if index == 0 { build.last_lines.clone() } else { Vec::new() },
    })
}
