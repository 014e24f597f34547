//! `kiln cache explain`: what the steps of a build depended on when it ran last, and what is kept of them.

use std::io::Write;
use std::time::{Duration, SystemTime};

use kiln_builder_docker::states::KeptImage;
use kiln_cache::{PlanEntry, Store};
use kiln_core::cache::StepRecord;
use kiln_core::{Failure, FailureClass, Input, Key, suggest};
use serde_json::json;

use super::super::stores;
use super::engine;
use crate::amount;
use crate::args::{ExplainArgs, Target};
use crate::error::{CliError, output_error};
use crate::settings::Settings;
use crate::ui;

/// Prints the record of a build's last run on standard output.
pub(crate) fn run(arguments: &ExplainArgs, settings: &Settings) -> Result<u8, CliError> {
    let memory = stores::memory(settings).map_err(stores::not_usable)?;
    let template = arguments.template.as_ref().map(|path| settings.working_dir.join(path));
    let template = template.map(|path| path.canonicalize().unwrap_or(path));
    let plans: Vec<PlanEntry> =
        memory.plans().into_iter().filter(|plan| template.as_ref().is_none_or(|path| *path == plan.template)).collect();
    let entry = choose(&plans, &arguments.target.build)?;
    let steps = chosen_steps(entry, &arguments.target)?;
    let mut kept = Vec::new();
    for place in stores::places(settings) {
        // One that cannot be opened keeps nothing that could be used.
        kept.extend(stores::open(&place).ok());
    }
    let engine = if entry.record.builder == "docker" { engine::kept(settings)? } else { None };
    let kept = Kept { stores: kept, images: engine.map(|engine| engine.states).unwrap_or_default() };
    let text =
        if arguments.json { as_json(entry, &steps, &kept) } else { as_text(entry, &steps, &kept, SystemTime::now()) };
    std::io::stdout().write_all(text.as_bytes()).map_err(output_error)?;
    Ok(0)
}

/// Where states may be kept.
#[derive(Default)]
struct Kept {
    stores: Vec<Store>,
    images: Vec<KeptImage>,
}

/// The build of this name that ran last. Names need not be told whole: `worker` is `oci.worker`.
fn choose<'a>(plans: &'a [PlanEntry], build: &str) -> Result<&'a PlanEntry, Failure> {
    let is_short = |name: &str| name.rsplit_once('.').is_some_and(|(_, short)| short == build);
    let found = plans.iter().find(|plan| plan.build == build).or(plans.iter().find(|plan| is_short(&plan.build)));
    found.ok_or_else(|| {
        let known: Vec<&str> = plans.iter().map(|plan| plan.build.as_str()).collect();
        let failure = Failure::new(FailureClass::Usage, NoBuild(build.to_owned()));
        match suggest::nearest(build, known.iter().copied()) {
            Some(near) => failure.hint(format!("did you mean `{near}`?")),
            None if known.is_empty() => failure.hint("`kiln plan` shows what a build would do"),
            None => failure.hint(format!("known are {}", known.join(", "))),
        }
    })
}

/// The steps that were asked for, with their numbers.
fn chosen_steps<'a>(entry: &'a PlanEntry, target: &Target) -> Result<Vec<(usize, &'a StepRecord)>, Failure> {
    let steps = entry.record.steps.iter().enumerate().map(|(index, step)| (index + 1, step));
    let Some(wanted) = &target.step else { return Ok(steps.collect()) };
    let number: Option<usize> = wanted.parse().ok();
    let chosen: Vec<_> =
        steps.filter(|(index, step)| number == Some(*index) || step.name.as_ref() == Some(wanted)).collect();
    if chosen.is_empty() {
        let known = entry.record.steps.len();
        return Err(Failure::new(
            FailureClass::Usage,
            NoStep { build: entry.build.clone(), step: wanted.clone(), known },
        ));
    }
    Ok(chosen)
}

fn as_text(entry: &PlanEntry, steps: &[(usize, &StepRecord)], kept: &Kept, now: SystemTime) -> String {
    let ago = |time: SystemTime| amount::shown_age(now.duration_since(time).unwrap_or(Duration::ZERO));
    let mut lines = vec![format!(
        "{} ({}) of {}, {}",
        entry.build,
        entry.record.builder,
        entry.template.display(),
        ago(entry.made)
    )];
    let base = entry.record.base.iter().filter(|input| is_set(input));
    lines.extend(base.map(|input| input_line("  ", input)));
    for (number, step) in steps {
        let name = step.name.as_ref().map(|name| format!(" \"{name}\"")).unwrap_or_default();
        lines.push(format!("[{number}] {}{name}: {}", step.kind, step.title));
        lines.extend(step.inputs.iter().filter(|input| is_set(input)).map(|input| input_line("    ", input)));
        lines.push(match (&step.state, &step.not_kept) {
            (_, Some(why)) => format!("    not kept: {why}"),
            (None, None) if step.has_failed => "    it failed".to_owned(),
            (None, None) => "    it leads to no state of its own".to_owned(),
            (Some(key), None) => match found(key, kept) {
                Some((size, created)) => {
                    format!("    kept as {}, {}, {}", key.short(), amount::shown_size(size), ago(created))
                }
                None => format!("    {} is not in this cache", key.short()),
            },
        });
    }
    lines.iter().map(|line| format!("{}\n", ui::tame(line))).collect()
}

/// An argument that was left out counts, too, but says nothing.
fn is_set(input: &Input) -> bool {
    input.shown.as_deref() != Some("")
}

fn input_line(indent: &str, input: &Input) -> String {
    let digest = input.digest.strip_prefix("sha256:").unwrap_or(&input.digest);
    // What can be read says more than its digest.
    let said = input.shown.as_deref().unwrap_or_else(|| digest.get(..12).unwrap_or(digest));
    format!("{indent}{}: {said}", input.name)
}

/// Size and time of a state.
fn found(key: &Key, kept: &Kept) -> Option<(u64, SystemTime)> {
    if let Some(image) = kept.images.iter().find(|image| image.key == *key) {
        return Some((image.size, image.info.created));
    }
    let entry = kept.stores.iter().find_map(|store| store.find_state(key).ok().flatten())?;
    Some((entry.size, entry.info.created))
}

fn as_json(entry: &PlanEntry, steps: &[(usize, &StepRecord)], kept: &Kept) -> String {
    let steps: Vec<_> = steps
        .iter()
        .map(|(number, step)| {
            let mut value = json!(step);
            value["index"] = json!(number);
            value["kept"] = json!(step.state.as_ref().is_some_and(|key| found(key, kept).is_some()));
            value
        })
        .collect();
    let value = json!({
        "build": entry.build,
        "builder": entry.record.builder,
        "template": entry.template,
        "made": entry.made.duration_since(SystemTime::UNIX_EPOCH).map(|time| time.as_secs()).unwrap_or_default(),
        "base": entry.record.base,
        "steps": steps,
    });
    format!("{value:#}\n")
}

#[derive(Debug, thiserror::Error)]
#[error("no build `{0}` has run that kiln remembers")]
struct NoBuild(String);

#[derive(Debug, thiserror::Error)]
#[error("`{build}` had no step `{step}` when it ran last; it had {known}")]
struct NoStep {
    build: String,
    step: String,
    known: usize,
}

#[cfg(test)]
mod tests {
    use kiln_core::cache::PlanRecord;

    use super::*;

    fn entry(build: &str) -> PlanEntry {
        let input = |name: &str, shown: Option<&str>| Input {
            name: name.to_owned(),
            digest: format!("sha256:{}", "0".repeat(64)),
            shown: shown.map(str::to_owned),
        };
        let step = |name: Option<&str>, state| StepRecord {
            kind: "shell".to_owned(),
            name: name.map(str::to_owned),
            title: "scripts/apt.sh".to_owned(),
            inputs: vec![input("scripts/apt.sh", None), input("user", Some("root"))],
            state,
            ..StepRecord::default()
        };
        let record = PlanRecord {
            builder: "oci".to_owned(),
            base: vec![input("image", Some("debian:12"))],
            steps: vec![step(None, Some(Key::from_digest([7; 32]))), step(Some("late"), None)],
            ..PlanRecord::default()
        };
        PlanEntry { template: "/t/a.pkr.hcl".into(), build: build.to_owned(), made: SystemTime::UNIX_EPOCH, record }
    }

    #[test]
    fn inputs_and_what_is_kept_are_told() {
        let entry = entry("oci.worker");
        let target: Target = "oci.worker".parse().unwrap();
        let steps = chosen_steps(&entry, &target).unwrap();
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(90);
        insta::assert_snapshot!(as_text(&entry, &steps, &Kept::default(), now), @r#"
        oci.worker (oci) of /t/a.pkr.hcl, 1 minute ago
          image: debian:12
        [1] shell: scripts/apt.sh
            scripts/apt.sh: 000000000000
            user: root
            070707070707 is not in this cache
        [2] shell "late": scripts/apt.sh
            scripts/apt.sh: 000000000000
            user: root
            it leads to no state of its own
        "#);
        let target: Target = "oci.worker:late".parse().unwrap();
        assert_eq!(chosen_steps(&entry, &target).unwrap()[0].0, 2);
        let target: Target = "oci.worker:9".parse().unwrap();
        assert_eq!(
            chosen_steps(&entry, &target).unwrap_err().to_string(),
            "`oci.worker` had no step `9` when it ran last; it had 2"
        );
    }

    #[test]
    fn a_build_is_found_by_its_short_name() {
        let plans = [entry("oci.worker"), entry("other")];
        assert_eq!(choose(&plans, "worker").unwrap().build, "oci.worker");
        assert_eq!(choose(&plans, "other").unwrap().build, "other");
        let failure = choose(&plans, "othr").unwrap_err();
        assert_eq!(failure.hints, ["did you mean `other`?"]);
    }
}
