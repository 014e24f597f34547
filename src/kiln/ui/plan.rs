//! A plan for people.

use std::time::{Duration, SystemTime};

use kiln_engine::{BuildPlan, PlanReport, SealPlan, StepAction, StepPlan};

use super::human::{called, wall};
use super::text::tame;
use crate::amount;

/// The kind whose images BuildKit makes, whether steps follow or not.
const BY_BUILDKIT: &str = "dockerfile";

/// All builds, and a closing line that counts.
pub(crate) fn plan_text(report: &PlanReport) -> String {
    text_at(report, SystemTime::now())
}

fn text_at(report: &PlanReport, now: SystemTime) -> String {
    let mut lines: Vec<String> = Vec::new();
    for build in &report.builds {
        lines.extend(build_lines(build, now));
        lines.push(String::new());
    }
    lines.push(counted(report));
    lines.iter().map(|line| format!("{}\n", tame(line, false))).collect()
}

fn build_lines(build: &BuildPlan, now: SystemTime) -> Vec<String> {
    let mut lines = vec![format!("{} ({}, {})", build.build, build.builder, build.place)];
    if let Some(error) = &build.error {
        let word = if build.is_failing() { "fails" } else { "unknown" };
        lines.extend(error.lines().map(|line| format!("  {word:<7}  {line}")));
    }
    lines.extend(build.refused.iter().map(|why| format!("  refused  {why}")));
    if !build.parents.is_empty() {
        lines.push(format!("  after    {}", build.parents.join(", ")));
    }
    if build.is_taken && build.error.is_none() {
        lines.push("  taken    as it was built before".to_owned());
        return lines;
    }
    if let Some(reason) = &build.skipped {
        lines.push(format!("  skipped  {reason}"));
        lines.extend(build.post_processors.iter().map(|chain| format!("  runs     {}", chain.join(", then "))));
        return lines;
    }
    if is_dockerfile_built(build) {
        lines.push("  runs     the Dockerfile: what builds it decides what is repeated".to_owned());
    } else if let Some(shown) = build.base.first().and_then(|input| input.shown.as_deref()) {
        // The first is what it is built upon; a change of any other one is told as the reason of what runs.
        lines.push(format!("  base     {shown}"));
    }
    let steps: Vec<(String, String)> = build.steps.iter().map(|step| step_columns(step, now)).collect();
    let width = steps.iter().map(|(what, _)| what.chars().count()).max().unwrap_or(0);
    let total = steps.len();
    for (step, (what, why)) in build.steps.iter().zip(&steps) {
        let place = format!("[{}/{total}]", step.index);
        lines.push(format!("  {:<7}  {place} {what:<width$}  {why}", action(step.action)).trim_end().to_owned());
    }
    lines.extend(sealing_line(build));
    lines.extend(build.post_processors.iter().map(|chain| format!("  runs     {}", chain.join(", then "))));
    lines
}

/// Whether an image is made from a Dockerfile: not where builds for single platforms do it.
fn is_dockerfile_built(build: &BuildPlan) -> bool {
    build.builder == BY_BUILDKIT && build.platforms.is_empty() && build.sealing == SealPlan::Runs
}

/// What becomes of the machine; nothing where there is none, as the Dockerfile's image is the result.
fn sealing_line(build: &BuildPlan) -> Option<String> {
    Some(match build.sealing {
        _ if !build.platforms.is_empty() => format!("  joins    {}", build.platforms.join(", ")),
        SealPlan::Cached => "  cached   seal: the artifact is there".to_owned(),
        SealPlan::Runs if is_dockerfile_built(build) && build.steps.is_empty() => return None,
        SealPlan::Runs => "  runs     seal".to_owned(),
        SealPlan::Skipped => "  skipped  seal".to_owned(),
    })
}

/// What it does, and why it runs or from when its result is.
fn step_columns(step: &StepPlan, now: SystemTime) -> (String, String) {
    let used: String =
        step.groups.iter().rev().map(|group| format!(", by {} at {}", group.name, group.place)).collect();
    let what = format!("{}: {} ({}{used})", called(&step.kind, step.name.as_deref()), step.title, step.place);
    let why = match (&step.because, &step.kept, step.action) {
        (Some(because), _, _) => because.clone(),
        (None, Some(kept), StepAction::Cached) => {
            let age = now.duration_since(kept.created).unwrap_or(Duration::ZERO);
            format!("{}, took {}", amount::shown_age(age), wall(kept.took.as_secs_f64()))
        }
        _ => String::new(),
    };
    (what, why)
}

fn action(action: StepAction) -> &'static str {
    match action {
        StepAction::Cached => "cached",
        StepAction::Runs => "runs",
        StepAction::Skipped => "skipped",
    }
}

fn counted(report: &PlanReport) -> String {
    let steps = || report.builds.iter().flat_map(|build| &build.steps);
    let running = steps().filter(|step| step.action == StepAction::Runs).count();
    let saved: Duration = steps()
        .filter(|step| step.action == StepAction::Cached)
        .filter_map(|step| step.kept.as_ref())
        .map(|kept| kept.took)
        .sum();
    let saved = if saved >= Duration::from_secs(1) {
        format!("; what is restored took {} when it ran", wall(saved.as_secs_f64()))
    } else {
        String::new()
    };
    let total = steps().count();
    let plural = if total == 1 { "" } else { "s" };
    let sealed = report.builds.iter().filter(|build| build.sealing == SealPlan::Runs).count();
    let of_steps = match (running, sealed) {
        (0, 1) if total == 0 => "1 build without steps would be sealed".to_owned(),
        (0, 1..) if total == 0 => format!("{sealed} builds without steps would be sealed"),
        (0, _) if total == 0 => "nothing would run".to_owned(),
        (0, _) => format!("no step would run{saved}"),
        _ => format!("{running} of {total} step{plural} would run{saved}"),
    };
    let is_told = |build: &&BuildPlan| build.error.is_none() && !build.is_taken && is_dockerfile_built(build);
    let of_dockerfiles = match report.builds.iter().filter(is_told).count() {
        0 => return of_steps,
        1 => "1 Dockerfile would be built".to_owned(),
        count => format!("{count} Dockerfiles would be built"),
    };
    if total == 0 { of_dockerfiles } else { format!("{of_steps}; {of_dockerfiles}") }
}

#[cfg(test)]
mod tests {
    use kiln_core::Input;
    use std::collections::BTreeSet;

    use kiln_engine::{GroupPlan, KeptState, PLAN_FORMAT, Reason};

    use super::*;

    fn step(index: usize, action: StepAction, reason: Option<Reason>) -> StepPlan {
        StepPlan {
            index,
            kind: "shell".to_owned(),
            name: (index == 2).then(|| "install".to_owned()),
            title: "scripts/apt.sh".to_owned(),
            place: format!("a.pkr.hcl:{index}"),
            groups: Vec::from_iter(
                (index == 3).then(|| GroupPlan { name: "common".to_owned(), place: "a.pkr.hcl:30".to_owned() }),
            ),
            action,
            because: reason.as_ref().map(Reason::to_string),
            reason,
            key: None,
            kept: (action == StepAction::Cached)
                .then(|| KeptState { created: SystemTime::UNIX_EPOCH, took: Duration::from_millis(61_500) }),
        }
    }

    #[test]
    fn every_step_is_told_with_its_reason() {
        let input = Input { name: "image".to_owned(), digest: "00".to_owned(), shown: Some("debian:12".to_owned()) };
        let build = BuildPlan {
            build: "oci.worker".to_owned(),
            builder: "oci".to_owned(),
            place: "a.pkr.hcl:1".to_owned(),
            parents: vec!["oci.base".to_owned()],
            is_taken: false,
            platforms: Vec::new(),
            skipped: None,
            base: vec![input],
            base_key: None,
            steps: vec![
                step(1, StepAction::Cached, None),
                step(2, StepAction::Runs, Some(Reason::NeverBuilt)),
                step(3, StepAction::Runs, Some(Reason::StepBefore)),
                step(4, StepAction::Skipped, None),
            ],
            sealing: SealPlan::Runs,
            post_processors: vec![vec!["docker-tag".to_owned(), "docker-push".to_owned()]],
            names: vec!["registry.example.org/worker:1".to_owned()],
            pushed: Vec::new(),
            refused: None,
            error: None,
        };
        let unknown = BuildPlan {
            build: "oci.other".to_owned(),
            parents: Vec::new(),
            base: Vec::new(),
            steps: Vec::new(),
            sealing: SealPlan::Cached,
            post_processors: Vec::new(),
            error: Some("no answer\nfrom the registry".to_owned()),
            ..build.clone()
        };
        let published = BuildPlan {
            build: "oci.app".to_owned(),
            refused: Some("`a` is changed".to_owned()),
            skipped: Some("r/app:1.2.3 is in its registry already".to_owned()),
            error: None,
            post_processors: vec![vec!["manifest".to_owned()]],
            sealing: SealPlan::Skipped,
            ..unknown.clone()
        };
        let mut report = PlanReport { format_version: PLAN_FORMAT, builds: vec![build, unknown, published] };
        insta::assert_snapshot!(text_at(&report, SystemTime::UNIX_EPOCH + Duration::from_secs(7200)), @r#"
        oci.worker (oci, a.pkr.hcl:1)
          after    oci.base
          base     debian:12
          cached   [1/4] shell: scripts/apt.sh (a.pkr.hcl:1)                             2 hours ago, took 1m 1s
          runs     [2/4] shell "install": scripts/apt.sh (a.pkr.hcl:2)                   never built
          runs     [3/4] shell: scripts/apt.sh (a.pkr.hcl:3, by common at a.pkr.hcl:30)  a step before it runs
          skipped  [4/4] shell: scripts/apt.sh (a.pkr.hcl:4)
          runs     seal
          runs     docker-tag, then docker-push

        oci.other (oci, a.pkr.hcl:1)
          unknown  no answer
          unknown  from the registry
          cached   seal: the artifact is there

        oci.app (oci, a.pkr.hcl:1)
          refused  `a` is changed
          skipped  r/app:1.2.3 is in its registry already
          runs     manifest

        2 of 4 steps would run; what is restored took 1m 1s when it ran
        "#);
        report.builds.truncate(1);
        let with_steps = &mut report.builds[0];
        with_steps.builder = "dockerfile".to_owned();
        with_steps.steps.drain(..2);
        let alone = BuildPlan { parents: Vec::new(), base: Vec::new(), steps: Vec::new(), ..with_steps.clone() };
        let joining = BuildPlan { platforms: vec!["linux/amd64".to_owned()], ..alone.clone() };
        report.builds.extend([alone, joining]);
        insta::assert_snapshot!(text_at(&report, SystemTime::UNIX_EPOCH), @r#"
        oci.worker (dockerfile, a.pkr.hcl:1)
          after    oci.base
          runs     the Dockerfile: what builds it decides what is repeated
          runs     [3/2] shell: scripts/apt.sh (a.pkr.hcl:3, by common at a.pkr.hcl:30)  a step before it runs
          skipped  [4/2] shell: scripts/apt.sh (a.pkr.hcl:4)
          runs     seal
          runs     docker-tag, then docker-push

        oci.worker (dockerfile, a.pkr.hcl:1)
          runs     the Dockerfile: what builds it decides what is repeated
          runs     docker-tag, then docker-push

        oci.worker (dockerfile, a.pkr.hcl:1)
          joins    linux/amd64
          runs     docker-tag, then docker-push

        1 of 2 steps would run; 2 Dockerfiles would be built
        "#);
        report.builds.drain(..1);
        assert!(text_at(&report, SystemTime::UNIX_EPOCH).ends_with("\n1 Dockerfile would be built\n"));
    }

    /// Every name of a JSON object, in depth.
    fn names_in(value: &serde_json::Value, names: &mut BTreeSet<String>) {
        match value {
            serde_json::Value::Object(entries) => entries.iter().for_each(|(name, inner)| {
                names.insert(name.clone());
                names_in(inner, names);
            }),
            serde_json::Value::Array(items) => items.iter().for_each(|item| names_in(item, names)),
            _ => {}
        }
    }

    #[test]
    fn every_field_of_the_json_is_documented_and_no_other() {
        let key = || Some(kiln_core::Key::parse(&"0".repeat(64)).unwrap());
        let step = StepPlan {
            name: Some("install".to_owned()),
            key: key(),
            ..StepPlan {
                groups: vec![GroupPlan { name: "common".to_owned(), place: "a.pkr.hcl:30".to_owned() }],
                ..step(2, StepAction::Cached, Some(Reason::NeverBuilt))
            }
        };
        let text = "text".to_owned();
        let build = BuildPlan {
            build: text.clone(),
            builder: text.clone(),
            place: text.clone(),
            parents: vec![text.clone()],
            is_taken: true,
            platforms: vec![text.clone()],
            skipped: Some(text.clone()),
            base: vec![Input { name: text.clone(), digest: text.clone(), shown: Some(text.clone()) }],
            base_key: key(),
            steps: vec![step],
            sealing: SealPlan::Runs,
            post_processors: vec![vec![text.clone()]],
            names: vec![text.clone()],
            pushed: vec![text.clone()],
            refused: Some(text.clone()),
            error: Some(text),
        };
        let report = PlanReport { format_version: PLAN_FORMAT, builds: vec![build] };
        let mut written = BTreeSet::new();
        names_in(&serde_json::to_value(&report).unwrap(), &mut written);
        let page = include_str!("../../../docs/reference/plan.md");
        let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
        let told: BTreeSet<String> = rows.map(str::to_owned).collect();
        assert_eq!(written, told);
        assert!(page.contains(&format!("`\"{PLAN_FORMAT}\"`")), "the version");
    }
}
