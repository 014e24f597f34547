//! The closing table: each build's artifact, tags, digest and time.

use kiln_core::event::{ArtifactSummary, Outcome};

use super::human::wall;

/// One build's line in the table.
#[derive(Debug, Clone)]
pub(crate) struct TableRow {
    /// The build.
    pub(crate) build: String,
    /// How it ended.
    pub(crate) outcome: Outcome,
    /// Wall time in seconds.
    pub(crate) seconds: f64,
    /// What is left of it.
    pub(crate) artifacts: Vec<ArtifactSummary>,
}

/// The table as lines. Several artifacts of one build that show the same image are one entry.
pub(crate) fn table(rows: &[TableRow]) -> String {
    let name_width = rows.iter().map(|row| row.build.chars().count()).max().unwrap_or(0);
    let mut text = String::from("\n");
    for row in rows {
        let outcome = match row.outcome {
            Outcome::Succeeded => "ok",
            Outcome::Failed => "FAILED",
            Outcome::Cancelled => "cancelled",
        };
        text.push_str(&format!("{:name_width$}  {outcome:<9}  {:>7}", row.build, wall(row.seconds)));
        let details = details(&row.artifacts);
        for (index, (label, value)) in details.iter().enumerate() {
            if index > 0 {
                text.push_str(&format!("\n{:indent$}", "", indent = name_width + 20));
            }
            text.push_str(&format!("  {label:<6}  {value}"));
        }
        text.push('\n');
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
            add("image", artifact.id.clone());
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

    #[test]
    fn shows_each_thing_once() {
        let image = ArtifactSummary { id: "sha256:ab".into(), ..ArtifactSummary::default() };
        let tagged = ArtifactSummary {
            id: "r/worker:1".into(),
            tags: vec!["r/worker:1".into(), "r/worker:latest".into()],
            digest: Some("sha256:cd".into()),
            ..ArtifactSummary::default()
        };
        let row = |build: &str, outcome, artifacts| TableRow { build: build.into(), outcome, seconds: 3.21, artifacts };
        let rows = [
            row("docker.worker", Outcome::Succeeded, vec![image, tagged.clone(), tagged]),
            row("docker.bad", Outcome::Failed, vec![]),
        ];
        insta::assert_snapshot!(table(&rows));
    }
}
