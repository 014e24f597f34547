//! The closing table: each build's artifact, tags, digest and time.

use kiln_core::event::{ArtifactSummary, Outcome};

use super::human::wall;

/// The builder id of AMIs, whose id names one in each region.
const AMAZON_EBS: &str = "mitchellh.amazonebs";

/// One build's line in the table.
#[derive(Debug, Clone)]
pub(crate) struct TableRow {
    /// The build.
    pub(crate) build: String,
    /// How it ended.
    pub(crate) outcome: Outcome,
    /// Wall time in seconds.
    pub(crate) seconds: f64,
    /// Why nothing had to be done.
    pub(crate) reason: Option<String>,
    /// What failed while it went on.
    pub(crate) tolerated: Vec<String>,
    /// What is left of it.
    pub(crate) artifacts: Vec<ArtifactSummary>,
}

/// Why a build failed.
#[derive(Debug, Clone)]
pub(crate) struct FailureText {
    /// The build.
    pub(crate) build: String,
    /// What failed, where and why; the last lines of output may follow on lines of their own.
    pub(crate) text: String,
    /// What to do.
    pub(crate) hints: Vec<String>,
    /// The last lines that the failed stage printed.
    pub(crate) last_lines: Vec<String>,
}

/// Lines of output that the closing report repeats of each failed build.
const REPEATED_LINES: usize = 5;

impl TableRow {
    fn details(&self) -> Vec<(&'static str, String)> {
        let reason = self.reason.iter().map(|reason| ("why", reason.clone()));
        let tolerated = self.tolerated.iter().map(|failure| ("failed", failure.clone()));
        reason.chain(details(&self.artifacts)).chain(tolerated).collect()
    }
}

/// The table as lines. Several artifacts of one build that show the same image are one entry. Where it would be wider than
/// the terminal, what a build made stands below it.
pub(crate) fn table(rows: &[TableRow], width: Option<usize>) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let name_width = rows.iter().map(|row| row.build.chars().count()).max().unwrap_or(0);
    let details: Vec<_> = rows.iter().map(|row| row.details()).collect();
    let beside = name_width + 20;
    let longest = details.iter().flatten().map(|(_, value)| value.chars().count()).max().unwrap_or(0);
    let is_narrow = width.is_some_and(|width| beside + 10 + longest > width);
    let mut text = String::from("\n");
    for (row, details) in rows.iter().zip(details) {
        let outcome = match row.outcome {
            Outcome::Succeeded => "ok",
            Outcome::Failed => "FAILED",
            Outcome::Cancelled => "cancelled",
            Outcome::Skipped => "skipped",
            Outcome::NotRun => "not run",
        };
        text.push_str(&format!("{:name_width$}  {outcome:<9}  {:>7}", row.build, wall(row.seconds)));
        for (index, (label, value)) in details.iter().enumerate() {
            if is_narrow {
                // Two columns, six of the longest label and one more: a digest of 71 fits into 80.
                text.push_str(&format!("\n  {label:<6} {value}"));
            } else {
                let indent = if index > 0 { format!("\n{:beside$}", "") } else { String::new() };
                text.push_str(&format!("{indent}  {label:<6}  {value}"));
            }
        }
        text.push('\n');
    }
    text
}

/// The failures once more, where other builds' output may have come after them; empty for a run of one build, whose
/// failure stands right above the table.
pub(crate) fn failures(failures: &[FailureText], failed: usize, builds: usize) -> String {
    if failures.is_empty() || builds < 2 {
        return String::new();
    }
    let mut text = format!("\nfailed: {failed} of {builds} builds\n");
    for failure in failures {
        let mut lines = failure.text.lines();
        text.push_str(&format!("\n{}: {}\n", failure.build, lines.next().unwrap_or_default()));
        let mut rest: Vec<String> = lines.map(str::to_owned).collect();
        if rest.is_empty() {
            rest = failure.last_lines.iter().map(|line| format!("    {line}")).collect();
        }
        if rest.len() > REPEATED_LINES {
            text.push_str("    ...\n");
        }
        for line in rest.iter().skip(rest.len().saturating_sub(REPEATED_LINES)) {
            text.push_str(&format!("{line}\n"));
        }
        for hint in &failure.hints {
            text.push_str(&format!("  hint: {hint}\n"));
        }
    }
    text
}

fn details(artifacts: &[ArtifactSummary]) -> Vec<(&'static str, String)> {
    let mut lines: Vec<(&'static str, String)> = Vec::new();
    let mut add = |label, value: String| {
        if !value.is_empty() && !lines.iter().any(|(_, seen)| *seen == value) {
            lines.push((label, value));
        }
    };
    for artifact in artifacts {
        if artifact.id.starts_with("sha256:") {
            let label = if artifact.platforms.is_empty() { "image" } else { "index" };
            add(label, artifact.id.clone());
        }
        if artifact.builder_id == AMAZON_EBS {
            artifact.id.split(',').for_each(|image| add("ami", image.to_owned()));
        }
        for tag in &artifact.tags {
            add("tag", tag.clone());
        }
        if let Some(digest) = &artifact.digest {
            add("digest", digest.clone());
        }
        for file in &artifact.files {
            add("file", file.clone());
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(build: &str, outcome: Outcome, artifacts: Vec<ArtifactSummary>) -> TableRow {
        let (reason, tolerated) = (None, Vec::new());
        TableRow { build: build.into(), outcome, seconds: 3.21, reason, tolerated, artifacts }
    }

    #[test]
    fn what_was_skipped_and_what_was_tolerated_are_told() {
        let published = ArtifactSummary {
            tags: vec!["r/app:1.2.3".into()],
            digest: Some("sha256:cd".into()),
            ..Default::default()
        };
        let skipped = TableRow {
            reason: Some("r/app:1.2.3 is there already".into()),
            ..row("docker.app", Outcome::Skipped, vec![published])
        };
        let scanned = TableRow {
            tolerated: vec!["shell-local (a.pkr.hcl:9): exit status 1".into()],
            ..row("docker.base", Outcome::Succeeded, vec![])
        };
        let rows = [skipped, scanned, row("docker.child", Outcome::NotRun, vec![])];
        insta::assert_snapshot!(table(&rows, None));
    }

    #[test]
    fn shows_each_thing_once() {
        let image = ArtifactSummary { id: "sha256:ab".into(), ..ArtifactSummary::default() };
        let tagged = ArtifactSummary {
            id: "r/worker:1".into(),
            tags: vec!["r/worker:1".into(), "r/worker:latest".into()],
            digest: Some("sha256:cd".into()),
            ..ArtifactSummary::default()
        };
        let rows = [
            row("docker.worker", Outcome::Succeeded, vec![image, tagged.clone(), tagged]),
            row("docker.bad", Outcome::Failed, vec![]),
        ];
        insta::assert_snapshot!(table(&rows, None));
        assert_eq!(table(&rows, Some(200)), table(&rows, None));
    }

    #[test]
    fn amis_are_shown_by_region() {
        let amis = ArtifactSummary {
            builder_id: AMAZON_EBS.into(),
            id: "eu-west-1:ami-1,us-east-1:ami-2".into(),
            ..ArtifactSummary::default()
        };
        assert_eq!(details(&[amis]), [("ami", "eu-west-1:ami-1".to_owned()), ("ami", "us-east-1:ami-2".to_owned())]);
    }

    #[test]
    fn a_digest_fits_into_eighty_columns() {
        let digest = format!("sha256:{}", "0".repeat(64));
        let image = ArtifactSummary { id: digest.clone(), digest: Some(digest), ..ArtifactSummary::default() };
        let row = TableRow { seconds: 3.0, ..row("worker", Outcome::Succeeded, vec![image]) };
        let text = table(&[row], Some(80));
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert!(text.starts_with("\nworker  ok "), "{text}");
    }

    #[test]
    fn among_several_builds_the_failed_ones_are_told_at_the_end() {
        let failure = |build: &str, text: &str, last_lines: &[&str]| FailureText {
            build: build.into(),
            text: text.into(),
            hints: vec!["look".into()],
            last_lines: last_lines.iter().map(|line| (*line).to_owned()).collect(),
        };
        let output: String = (1..8).map(|line| format!("\n    {line}")).collect();
        let all = [
            failure("docker.a", &format!("step 2 of 3, `shell` (a.json:9), failed: exit 3{output}"), &["7"]),
            failure("docker.b", "cannot commit", &["last words"]),
        ];
        assert_eq!(failures(&all[..1], 1, 1), "");
        assert_eq!(failures(&[], 0, 3), "");
        insta::assert_snapshot!(failures(&all, 2, 3), @r"

        failed: 2 of 3 builds

        docker.a: step 2 of 3, `shell` (a.json:9), failed: exit 3
            ...
            3
            4
            5
            6
            7
          hint: look

        docker.b: cannot commit
            last words
          hint: look
        ");
    }
}
