//! What runs on this host when a build has ended: `on_success`, `on_failure`, `always`.
//!
//! A build is over then: its machine is gone, what it made belongs to the user. So a hook changes nothing about how it
//! ended, and its own failure is told as a warning.

use std::collections::BTreeMap;
use std::time::Instant;

use kiln_core::event::Outcome;
use kiln_core::{Artifact, BuildContext, Failure, HookEvent};
use tokio_util::sync::CancellationToken;

use crate::build::BuildRun;
use crate::cleanup::{blocking, remove_directory};
use crate::guard::bounded;
use crate::prepare::PreparedHook;
use crate::run::{BuildReport, make_scratch};

/// Whether hooks of an event run after builds that ended so. Whoever stops a run needs no alarm, but may have to tidy up.
fn fits(event: HookEvent, outcome: Outcome) -> bool {
    match event {
        HookEvent::Success => outcome.is_good(),
        HookEvent::Failure => outcome == Outcome::Failed,
        HookEvent::Always => true,
    }
}

impl BuildRun {
    /// Runs the hooks that fit, one after the other: those for the outcome before those that always run.
    pub(crate) async fn run_hooks(&self, report: &BuildReport) {
        let fitting = |event: HookEvent| {
            let hooks = self.prepared.hooks.iter().filter(move |hook| hook.spec.event == event);
            hooks.filter(move |_| fits(event, report.outcome))
        };
        let hooks: Vec<&PreparedHook> = HookEvent::ALL.into_iter().flat_map(fitting).collect();
        if hooks.is_empty() {
            return;
        }
        let context = BuildContext {
            // They run although the run is cancelled; a second Ctrl-C cuts them short.
            cancel: CancellationToken::new(),
            scratch: self.stage_context(self.scope(), self.facts_at_end()).scratch.join("hooks"),
            ..self.stage_context(self.scope(), self.facts_at_end())
        };
        let directory = context.scratch.clone();
        let made = blocking(move || {
            directory.parent().map(std::fs::create_dir_all).transpose().map_err(Failure::environment)?;
            make_scratch(&directory)
        });
        if let Err(failure) = made.await.and_then(|made| made) {
            self.events.warn(format!("the hooks of this build do not run: {}", failure.chain()));
            return;
        }
        for hook in hooks {
            self.run_hook(hook, report, &context).await;
        }
        let directory = context.scratch.clone();
        // The build's own directory is still there where something was left in it on purpose.
        let removed = blocking(move || {
            remove_directory(&directory)?;
            match directory.parent().map(std::fs::remove_dir) {
                Some(Err(error)) if error.kind() != std::io::ErrorKind::DirectoryNotEmpty => Err(error),
                _ => Ok(()),
            }
        });
        if let Ok(Err(error)) = removed.await {
            self.events.warn(format!("cannot remove {}: {error}", context.scratch.display()));
        }
    }

    async fn run_hook(&self, hook: &PreparedHook, report: &BuildReport, context: &BuildContext) {
        let name = hook.spec.event.block();
        let place = &hook.place;
        self.tail.clear();
        self.events.message(format!("running the hook `{name}` ({place})"));
        let started = Instant::now();
        let facts = self.told_to_hooks(hook, report);
        let work = async {
            let bound = hook.component.bind(&hook.spec.component, &self.binding(&context.facts))?;
            bound.run(facts, context).await
        };
        let what = format!("running the hook `{name}` ({place})");
        let ended = bounded(&self.shared.stop.hurry, &self.events, &what, hook.spec.timeout, work).await;
        if let Err(failure) = ended {
            let seconds = kiln_core::duration::display(started.elapsed());
            let reason = failure.chain();
            self.events.warn(format!("the hook `{name}` ({place}) failed after {seconds}: {reason}"));
        }
    }

    /// What stands in the environment of a hook; see `docs/guide/publishing.md`.
    fn told_to_hooks(&self, hook: &PreparedHook, report: &BuildReport) -> BTreeMap<String, String> {
        let settings = &self.shared.settings;
        let outcome = match report.outcome {
            Outcome::Succeeded => "succeeded",
            Outcome::Skipped => "skipped",
            Outcome::Failed => "failed",
            Outcome::Cancelled => "cancelled",
            Outcome::NotRun => "not-run",
        };
        let clean = |text: String| self.shared.redactor.redact(&text).into_owned();
        let error = report.failures.first().map(Failure::chain).map(clean);
        let mut pairs = vec![
            ("KILN_HOOK", hook.spec.event.block().to_owned()),
            ("KILN_RUN", settings.run_id.to_string()),
            ("KILN_BUILD", report.name.to_string()),
            ("KILN_BUILDER", report.builder_kind.to_string()),
            ("KILN_OUTCOME", outcome.to_owned()),
            ("KILN_ERROR", error.unwrap_or_default()),
            ("KILN_REASON", report.reason.clone().unwrap_or_default()),
            ("KILN_SECONDS", format!("{:.1}", report.duration.as_secs_f64())),
            ("KILN_REVISION", settings.origin.revision.clone().unwrap_or_default()),
            ("KILN_TEMPLATE", settings.template.clone()),
        ];
        let tolerated: Vec<String> =
            report.tolerated.iter().map(|it| clean(format!("{} ({}): {}", it.kind, it.place, it.error))).collect();
        pairs.push(("KILN_TOLERATED", tolerated.join("\n")));
        pairs.extend(artifact_facts(&report.artifacts));
        pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

/// What a build left: of several artifacts of one image the one that knows most.
fn artifact_facts(artifacts: &[Artifact]) -> Vec<(&'static str, String)> {
    let files: Vec<String> =
        artifacts.iter().flat_map(Artifact::files).map(|path| path.display().to_string()).collect();
    let image = artifacts
        .iter()
        .filter_map(Artifact::image)
        .max_by_key(|image| (image.digest.is_some(), image.tags.len()))
        .cloned()
        .unwrap_or_default();
    let digest = image.digest.clone().unwrap_or_default();
    vec![
        ("KILN_ARTIFACT_ID", artifacts.last().map(|artifact| artifact.id.clone()).unwrap_or_default()),
        ("KILN_FILES", files.join("\n")),
        ("KILN_IMAGE", image.id),
        ("KILN_TAGS", image.tags.join("\n")),
        ("KILN_DIGEST", digest),
    ]
}
