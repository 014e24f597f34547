//! Builds by an engine's own builder, where it has no BuildKit: older engines, those that were built without it, podman.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use kiln_core::{BuildContext, Diagnostic, EntryId, Failure, Stream};
use kiln_docker::engine::BuildRequest;
use kiln_docker::steps::DockerfileSteps;
use kiln_docker::{BaseUndo, EngineError, undo};
use kiln_registry::Reference;

use crate::builder::DockerfileBuilder;
use crate::dockerfile::{Dockerfile, Instruction};
use crate::fault::{self, failure, mistake};
use crate::labels::labels;
use crate::named::Meaning;
use crate::pull;
use crate::run::{Opened, bytes_of};
use crate::substitute::substitute;

/// Flags that only BuildKit knows.
const FLAGS: [&str; 9] = [
    "--mount",
    "--network",
    "--security",
    "--link",
    "--parents",
    "--exclude",
    "--checksum",
    "--keep-git-dir",
    "--chmod",
];

/// What to do where BuildKit is missing.
const HELP: &str = "the engine has none: use an engine of version 18.09 or later that has it, or name a BuildKit daemon with \
                    `buildkitd`";

impl DockerfileBuilder {
    /// Builds it in the engine; returns the image's id.
    pub(crate) async fn build_classic(&self, opened: &Opened, context: &BuildContext) -> Result<String, Failure> {
        if let Some(diagnostic) = needs_buildkit(&opened.file) {
            return Err(failure(&diagnostic));
        }
        if let Some(name) = self.argument_for_buildkit() {
            return Err(Failure::environment(format!("`{name}` needs BuildKit")).hint(HELP));
        }
        self.warn_of_unused(&opened.file, context);
        let request = self.classic_request(opened, context).await?;
        let mut undo = BaseUndo {
            engine: self.settings.engine.address().to_owned(),
            steps: DockerfileSteps::default(),
            at: undo::seconds_since_epoch(),
        };
        let entry = context.journal.record(&context.build, undo.entry())?;
        let built = self.follow(&request, &mut undo, entry, context).await;
        // From here on what the steps made is the engine's build cache, as after `docker build`.
        if !matches!(&built, Err(failure) if failure.is_cancelled()) {
            context.journal.strike(entry)?;
        }
        built.map_err(|failure| with_place(failure, &undo.steps, &opened.file))
    }

    async fn follow(
        &self,
        request: &BuildRequest,
        undo: &mut BaseUndo,
        entry: EntryId,
        context: &BuildContext,
    ) -> Result<String, Failure> {
        let followed = Mutex::new((undo.clone(), Ok(())));
        let on_line = |line: &str| {
            context.events.output(Stream::Stdout, line);
            let Ok(mut followed) = followed.lock() else { return };
            let (undo, noted) = &mut *followed;
            // The journal holds no secrets.
            if undo.steps.follow(&context.redactor.redact(line)) {
                let amended = context.journal.amend(entry, undo.entry());
                *noted = std::mem::replace(noted, Ok(())).and(amended);
            }
        };
        let built = context.unless_cancelled(self.settings.engine.build_image(request, &on_line)).await;
        let (seen, noted) = followed.into_inner().unwrap_or_else(PoisonError::into_inner);
        *undo = seen;
        noted?;
        Ok(built??)
    }

    async fn classic_request(&self, opened: &Opened, context: &BuildContext) -> Result<BuildRequest, Failure> {
        let config = &self.config;
        let mut names = BTreeMap::new();
        for (name, text) in &config.contexts {
            let image = match Meaning::parse(text, &self.directory) {
                Meaning::Image(image) => image,
                Meaning::Local(id) => self.settings.handed(context, &id).await?.id,
                Meaning::Directory(_) => {
                    let text = format!("`contexts` gives `{name}` a directory, which needs BuildKit");
                    return Err(Failure::environment(text).hint(HELP));
                }
            };
            names.insert(name.clone(), image);
        }
        let (text, _) = substitute(&opened.file, &names, &config.build_args);
        let dockerfile = context.scratch.join(&opened.file_name);
        let local = |error: std::io::Error| Failure::build(format!("cannot write {}: {error}", dockerfile.display()));
        tokio::fs::write(&dockerfile, text).await.map_err(local)?;
        if let Some(rules) = &opened.own_rules {
            let path = context.scratch.join(format!("{}.dockerignore", opened.file_name));
            tokio::fs::write(&path, rules).await.map_err(local)?;
        }
        let logins = self.logins(context);
        let mut credentials = BTreeMap::new();
        for base in pull::bases(&opened.file, config) {
            if let Ok(reference) = Reference::parse(&base.name)
                && let Some(found) = logins.credentials(&reference.registry).await?
            {
                credentials.insert(reference.registry, found);
            }
        }
        Ok(BuildRequest {
            dockerfile,
            context: opened.context.clone(),
            arguments: config.build_args.clone(),
            labels: labels(&config.labels, config.kiln_labels, context),
            // They were pulled before, where that was asked for.
            pull: false,
            compress: false,
            target: config.target.clone(),
            no_cache: config.no_cache,
            network: config.network.clone().filter(|network| network != "default"),
            cache_from: config.cache_from.clone(),
            extra_host: config.extra_hosts.first().cloned(),
            shm_size: config.shm_size.as_deref().and_then(bytes_of),
            platform: config.platform.clone(),
            credentials,
        })
    }

    /// An argument that an engine's own builder cannot follow.
    fn argument_for_buildkit(&self) -> Option<&'static str> {
        let config = &self.config;
        let has_secrets =
            !(config.secrets.is_empty() && config.secret_files.is_empty() && config.secret_env.is_empty());
        [
            ("secrets", has_secrets),
            ("ssh", !config.ssh.is_empty()),
            ("cache_to", !config.cache_to.is_empty()),
            ("cache_from", config.cache_from.iter().any(|text| text.contains('='))),
            ("ulimit", !config.ulimit.is_empty()),
            ("extra_hosts", config.extra_hosts.len() > 1),
        ]
        .into_iter()
        .find_map(|(name, is_used)| is_used.then_some(name))
    }
}

/// The first instruction that an engine's own builder does not understand.
fn needs_buildkit(file: &Dockerfile) -> Option<Diagnostic> {
    file.instructions.iter().find_map(|instruction| {
        let (what, range) = feature(instruction)?;
        Some(mistake("dockerfile", file, range, format!("{what} needs BuildKit")).help(HELP))
    })
}

fn feature(instruction: &Instruction) -> Option<(String, std::ops::Range<usize>)> {
    if instruction.has_heredoc {
        let end = instruction.words.last().map_or(instruction.range.end, |word| word.range.end);
        return Some(("a here-document".to_owned(), instruction.range.start..end));
    }
    let known = |flag: &str| FLAGS.iter().find(|known| flag == **known || flag.starts_with(&format!("{known}=")));
    instruction.flags().find_map(|word| {
        known(&word.text).map(|flag| (format!("`{} {flag}`", instruction.keyword), word.range.clone()))
    })
}

/// Adds the lines of the step that was under way.
fn with_place(failure: Failure, steps: &DockerfileSteps, file: &Dockerfile) -> Failure {
    let is_of_engine = failure.error.downcast_ref::<EngineError>().is_some();
    let found = steps.step.as_deref().filter(|_| is_of_engine).and_then(|step| fault::instruction_of(file, step));
    let Some(instruction) = found else { return failure };
    let diagnostic = mistake("dockerfile", file, instruction.range.clone(), failure.chain());
    Failure { hints: failure.hints.clone(), ..fault::failure(&diagnostic) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_needs_buildkit_is_named_at_its_line() {
        let title = |text: &str| needs_buildkit(&Dockerfile::parse("Dockerfile", text)).map(|found| found.title);
        assert_eq!(title("FROM x\nRUN --mount=type=cache,target=/c true\n").unwrap(), "`RUN --mount` needs BuildKit");
        assert_eq!(title("FROM x\nCOPY --link a b\n").unwrap(), "`COPY --link` needs BuildKit");
        assert_eq!(title("FROM x\nRUN <<EOF\ntrue\nEOF\n").unwrap(), "a here-document needs BuildKit");
        assert_eq!(title("FROM x\nCOPY --from=x --chown=1 a b\nRUN echo --mount\n"), None);
    }
}
