//! `kiln graph`: which builds are built upon which, as a picture.

mod formats;
mod svg;

use std::io::Write;
use std::sync::Arc;

use kiln_core::{BuildSpec, Plan};
use serde_json::{Value as Json, json};

use super::load::{self, Wanted};
use crate::args::{GraphArgs, GraphFormat};
use crate::error::{CliError, output_error};
use crate::settings::Settings;

/// Prints the builds of a template on standard output, each with those that it is built upon.
pub(crate) fn run(arguments: &GraphArgs, settings: &Settings) -> Result<u8, CliError> {
    let mut loaded = load::load(&arguments.template, Wanted::default(), settings)?;
    let redactor = load::redactor(&loaded);
    load::check(&loaded, &redactor, settings)?;
    let plan = loaded.plan.take().unwrap_or_default();
    if arguments.json {
        let mut value = json(&plan);
        redactor.redact_json(&mut value);
        return print(&format!("{value:#}\n"));
    }
    let graph = Graph::of(&plan);
    let text = match arguments.format {
        GraphFormat::Text => formats::text(&graph),
        GraphFormat::Dot => formats::dot(&graph),
        GraphFormat::Mermaid => formats::mermaid(&graph),
        GraphFormat::Svg => svg::picture(&graph),
    };
    print(&redactor.redact(&text))
}

fn print(text: &str) -> Result<u8, CliError> {
    std::io::stdout().write_all(text.as_bytes()).map_err(output_error)?;
    Ok(0)
}

/// The form of the JSON, as that of plans: see `docs/reference/plan.md`.
const FORMAT: &str = "1.0";

fn json(plan: &Plan) -> Json {
    let build = |build: &BuildSpec| {
        let parents: Vec<&str> = build.parents.iter().map(|parent| &*parent.build).collect();
        let mut value = json!({ "build": &*build.name, "builder": build.source.kind, "parents": parents });
        if build.is_taken {
            value["is_taken"] = Json::from(true);
        }
        if let Some(platform) = &build.platform {
            value["platform"] = Json::from(platform.to_string());
        }
        if !build.variants.is_empty() {
            let platforms = build.variants.iter().map(|variant| variant.platform.to_string());
            value["platforms"] = platforms.collect::<Vec<_>>().into();
        }
        value
    };
    json!({ "format_version": FORMAT, "builds": plan.builds.iter().map(build).collect::<Vec<_>>() })
}

/// Builds by their index in the template.
#[derive(Debug, Default)]
struct Graph {
    names: Vec<Arc<str>>,
    /// Of each, those that it is built upon.
    parents: Vec<Vec<usize>>,
    /// Those that do not run, and are taken as they are.
    taken: Vec<bool>,
}

impl Graph {
    fn of(plan: &Plan) -> Graph {
        let names: Vec<Arc<str>> = plan.builds.iter().map(|build| Arc::clone(&build.name)).collect();
        let parents = |build: &BuildSpec| {
            build.parents.iter().filter_map(|parent| names.iter().position(|name| *name == parent.build)).collect()
        };
        let parents = plan.builds.iter().map(parents).collect();
        Graph { parents, taken: plan.builds.iter().map(|build| build.is_taken).collect(), names }
    }

    fn children(&self, build: usize) -> Vec<usize> {
        (0..self.names.len()).filter(|child| self.parents[*child].contains(&build)).collect()
    }

    /// How many builds come before each, at the longest.
    fn ranks(&self) -> Vec<usize> {
        let mut ranks = vec![0; self.names.len()];
        // There is no ring, so that each round settles one more rank.
        for _ in 0..self.names.len() {
            let next: Vec<usize> = (0..self.names.len())
                .map(|build| self.parents[build].iter().map(|parent| ranks[*parent] + 1).max().unwrap_or(0))
                .collect();
            if next == ranks {
                break;
            }
            ranks = next;
        }
        ranks
    }

    fn shown(&self, build: usize) -> String {
        let taken = if self.taken[build] { " (taken as it is)" } else { "" };
        format!("{}{taken}", self.names[build])
    }
}

#[cfg(test)]
fn diamond() -> Graph {
    Graph {
        names: ["oci.base", "oci.dev", "docker.prod", "docker.\"odd\" <name>"].map(Into::into).into(),
        parents: vec![vec![], vec![0], vec![0, 1], vec![]],
        taken: vec![true, false, false, false],
    }
}
