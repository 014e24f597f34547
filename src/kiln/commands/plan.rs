//! `kiln plan`: what a build would run, what it would restore, and why.

use std::io::Write;

use kiln_core::FailureClass;
use kiln_engine::BuildPlan;

use super::load::Wanted;
use super::prepared::{self, Stage};
use crate::args::PlanArgs;
use crate::error::{CliError, output_error};
use crate::settings::Settings;
use crate::ui::{self, Format};

/// Prints the plan on standard output. Where a build's base cannot be resolved nothing is known of it, which is a failure
/// of the surroundings; where post-processors alone shall run and nothing is sealed, one of the build.
pub(crate) async fn run(arguments: &PlanArgs, settings: &Settings) -> Result<u8, CliError> {
    let settings = &settings.with_docker_as(arguments.steps.docker_as);
    // With `-json`, standard output is one report.
    let format = if arguments.json { Format::Human { timestamps: false } } else { Format::of_messages(settings) };
    let ready = prepared::ready(&arguments.template, Wanted::default(), false, settings, format).await?;
    let stage = Stage::set(format, false, &ready.redactor, settings);
    let cache = prepared::cache_policy(&arguments.template, &arguments.steps, settings, format);
    kiln_engine::check_choice(&ready.run, &cache)?;
    let run_settings = prepared::run_settings(&arguments.template, cache, settings).await;
    let surroundings = stage.surroundings(&ready.kinds, &ready.redactor);
    let report = kiln_engine::plan(&ready.run, &run_settings, &surroundings).await;
    stage.close();
    let text = if arguments.json {
        let mut value = serde_json::to_value(&report).unwrap_or_default();
        ready.redactor.redact_json(&mut value);
        format!("{value:#}\n")
    } else {
        let shown = ready.redactor.redact(&ui::plan_text(&report)).into_owned();
        if settings.machine_readable { ui::said(&shown) } else { shown }
    };
    std::io::stdout().write_all(text.as_bytes()).map_err(output_error)?;
    let is_unknown = |build: &BuildPlan| build.error.is_some() && !build.is_failing();
    Ok(if report.builds.iter().any(is_unknown) {
        FailureClass::Environment.exit_code()
    } else if report.builds.iter().any(BuildPlan::is_failing) {
        FailureClass::Build.exit_code()
    } else {
        0
    })
}
