//! `kiln validate`.

use std::io::Write;

use kiln_core::render;
use kiln_engine::{PrepareOptions, prepare};

use super::load::{self, Wanted};
use crate::args::ValidateArgs;
use crate::error::{CliError, output_error};
use crate::kinds;
use crate::settings::Settings;
use crate::ui::{self, Format};

/// Reports every mistake of the template, of all its stages that can be reached.
pub(crate) fn run(arguments: &ValidateArgs, settings: &Settings) -> Result<u8, CliError> {
    let settings = &settings.with_docker_as(arguments.docker_as);
    let wanted = Wanted {
        no_push: false,
        warn_undeclared: !arguments.no_warn_undeclared_var,
        allow_unset: false,
        allow_no_builds: true,
        allow_unknown_kinds: arguments.allow_unknown_kinds,
        syntax_only: arguments.syntax_only,
    };
    let mut loaded = if arguments.evaluate_datasources {
        // With `-json`, standard output is one report.
        let format = if arguments.json { Format::Human { timestamps: false } } else { Format::of_messages(settings) };
        super::block_on(load::load_with_data(&arguments.template, wanted, settings, format))?
    } else {
        load::load(&arguments.template, wanted, settings)?
    };
    let redactor = load::redactor(&loaded);
    if let (Some(plan), false) = (loaded.plan.as_ref().or(loaded.partial.as_ref()), arguments.syntax_only) {
        let options = PrepareOptions {
            allow_unknown_kinds: arguments.allow_unknown_kinds,
            sources: std::sync::Arc::new(loaded.sources.clone()),
            ..PrepareOptions::default()
        };
        let (_, findings) = prepare(plan, &kinds::offline(settings)?, &options);
        loaded.diagnostics.extend(findings);
        loaded.diagnostics.sort();
    }
    if arguments.json {
        let findings: Vec<_> =
            loaded.diagnostics.items.iter().map(|item| render::to_json(item, &loaded.sources)).collect();
        let mut report = serde_json::json!({ "valid": !loaded.diagnostics.has_errors(), "diagnostics": findings });
        redactor.redact_json(&mut report);
        writeln!(std::io::stdout(), "{report:#}").map_err(output_error)?;
        let has_errors = loaded.diagnostics.has_errors();
        return Ok(if has_errors { load::class_of(&loaded.diagnostics).exit_code() } else { 0 });
    }
    load::check(&loaded, &redactor, settings)?;
    let what = if arguments.syntax_only { "the syntax" } else { "the template" };
    ui::say(Format::of_messages(settings), &format!("{what} is valid"));
    Ok(0)
}
