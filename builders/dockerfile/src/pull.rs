//! Images in `FROM`: which there are, and bringing them into the engine as `pull` says.

use std::collections::BTreeSet;

use kiln_core::{BuildContext, Failure};
use kiln_docker::Engine;
use kiln_registry::Reference;

use crate::config::{Config, Pull};
use crate::dockerfile::{Dockerfile, Word, expand};
use crate::fault::{failure, mistake};
use crate::logins::SourceLogins;

/// An image that a Dockerfile is built upon, at its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Base {
    pub(crate) name: String,
    pub(crate) word: Word,
}

/// The images of `FROM`s that are neither stages nor given by the template, each once. One whose name depends on what only
/// BuildKit knows is left out.
pub(crate) fn bases(file: &Dockerfile, config: &Config) -> Vec<Base> {
    let arguments = file.global_arguments(&config.build_args);
    let mut known: BTreeSet<String> = config.contexts.keys().map(|name| name.to_ascii_lowercase()).collect();
    known.insert("scratch".to_owned());
    let mut found: Vec<Base> = Vec::new();
    for (from, stage) in file.stages() {
        for word in from.references() {
            let name = expand(&word.text, &arguments);
            if !name.contains('$') && known.insert(name.to_ascii_lowercase()) {
                found.push(Base { name, word });
            }
        }
        known.extend(stage.map(str::to_ascii_lowercase));
    }
    found
}

/// Pulls or looks for them, as `pull` says; `missing` is left to BuildKit, which does the same.
pub(crate) async fn bring(
    engine: &dyn Engine,
    file: &Dockerfile,
    config: &Config,
    logins: &SourceLogins,
    context: &BuildContext,
) -> Result<(), Failure> {
    if config.pull == Pull::Missing {
        return Ok(());
    }
    for base in bases(file, config) {
        if config.pull == Pull::Never {
            if engine.inspect_image(&base.name).await?.is_none() {
                let title =
                    format!("image {} is not in the engine's store, and `pull` does not allow to fetch it", base.name);
                return Err(failure(&mistake("dockerfile", file, base.word.range, title))
                    .hint(format!("run `docker pull {}`, or set `pull = \"missing\"`", base.name)));
            }
            continue;
        }
        pull(engine, &base, file, config, logins, context).await?;
    }
    Ok(())
}

async fn pull(
    engine: &dyn Engine,
    base: &Base,
    file: &Dockerfile,
    config: &Config,
    logins: &SourceLogins,
    context: &BuildContext,
) -> Result<(), Failure> {
    let credentials = match Reference::parse(&base.name) {
        Ok(reference) => logins.credentials(&reference.registry).await?,
        Err(_) => None,
    };
    context.events.message(format!("pulling {}", base.name));
    let platform = config.platform.as_deref();
    let tell = |step: kiln_docker::engine::TransferProgress| {
        if !step.item.is_empty() {
            context.events.progress(step.item, step.status, step.current, step.total);
        }
    };
    let work = engine.pull(&base.name, platform, credentials.as_ref(), &tell);
    context.unless_cancelled(work).await?.map_err(|error| {
        let title = format!("cannot pull {}: {error}", base.name);
        failure(&mistake("dockerfile", file, base.word.range.clone(), title)).hint(
            "an image that is only in the engine's store needs `pull = \"missing\"`; one of another build belongs to `contexts`",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_and_contexts_are_no_images_to_pull() {
        let text = "ARG V=12\nFROM debian:$V AS build\nFROM build AS next\nFROM scratch\nFROM base\nFROM ${UNKNOWN}\nFROM debian:12\n";
        let file = Dockerfile::parse("Dockerfile", text);
        let config: Config = serde_json::from_value(serde_json::json!({ "contexts": { "base": "x" } })).unwrap();
        let names: Vec<String> = bases(&file, &config).into_iter().map(|base| base.name).collect();
        assert_eq!(names, ["debian:12"]);
    }
}
