//! `docker-push`: an image under all its names to its registries.

mod asking;
mod hints;
mod retry;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kiln_core::{
    Artifact, BuildContext, Content, Decoded, Diagnostic, Diagnostics, Failure, Field, FieldType, Image, PostProcessor,
    PostProcessorKind, PrepareContext, Processed, Published, Schema, Secret,
};
use kiln_docker::Engine;
use kiln_docker::engine::Pushed;
use kiln_registry::reference::DOCKER_HUB;
use kiln_registry::{
    Client, ClientOptions, CredentialSources, Credentials, EcrOptions, Found, Reference, normalize_registry,
};
use serde::Deserialize;

use crate::error::PublishError;
use crate::index;
use crate::layout::{self, LayoutImage};
use crate::prepare;
use crate::progress::Progress;
use crate::settings::EngineProvider;
use asking::{Candidate, Immutable};
use hints::Login;
use retry::Backoff;

const KIND: &str = "docker-push";

/// What is asked where the template only says that something is to be asked.
const QUESTION: &str = "Push the image?";

/// The registry that a block's own login is for.
type OwnServer = String;

/// Arguments that mean something only where no engine pushes.
const LAYOUT_ARGUMENTS: [&str; 2] = ["insecure_registries", "registry_ca_files"];

/// `ecr_login` and its company.
const ECR: &[Field] = EcrOptions::FIELDS;

static SCHEMA: Schema = Schema {
    kind: KIND,
    title: "a `docker-push` post-processor",
    doc: "Pushes an image under each of its names once. Logins come from the block, or else from docker's and podman's configuration and GitLab CI's variables. The image is kept.",
    fields: &[
        Field::bool("login", "Use the login of this block, at `login_server` and nowhere else.").default("false"),
        Field::string(
            "login_server",
            "The registry of the login. Without one it is the registry that all names of the image go to, or Docker Hub where they go to several.",
        ),
        Field::string("login_username", "The user of the login."),
        Field::string("login_password", "The password or token of the login. It is not shown anywhere."),
        Field::string("platform", "Push only this platform of the image, e.g. `linux/arm64`."),
        Field::strings(
            "insecure_registries",
            "Registries whose certificate is not checked, or that speak plain HTTP, for images of builds without an engine. Beyond Packer.",
        ),
        Field::strings(
            "registry_ca_files",
            "Files (PEM) of certificate authorities to trust besides the usual ones, for images of builds without an engine. Beyond Packer.",
        ),
        ECR[0],
        ECR[1],
        ECR[2],
        ECR[3],
        ECR[4],
        ECR[5],
        Field::bool(
            "skip_if_exists",
            "Ask the registries before the build begins: where all names that look as if they never moved (or all names, where none does) are there, nothing is built, and the build counts as `skipped`. Other names that are missing, such as `latest`, are put beside them then. `-force` builds all the same. Beyond Packer.",
        )
        .default("false"),
        Field::new(
            "immutable_tags",
            FieldType::OneOf(&["refuse", "warn", "off"]),
            "What to do where a tag that looks as if it never moved (`1.2.3`, `2026-11-23`, `release-3f2a91c`) is in the registry and means another image: `refuse` to push anything, `warn` and move it, or do not ask (`off`). `-force` moves it. Beyond Packer.",
        )
        .default("refuse"),
        Field::string(
            "confirm",
            "Ask at the terminal before the build begins: `true`, or the question. `-yes` answers it; without a terminal nothing is built without that. Beyond Packer.",
        )
        .default("false"),
        Field::string("docker_path", "Taken for Packer's sake, without effect."),
    ],
    example: "post-processors {\n  post-processor \"docker-tag\" {\n    repository = \"registry.example.org/group/image\"\n    tags       = [\"1.2\"]\n  }\n  post-processor \"docker-push\" {}\n}",
};

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Arguments {
    login: bool,
    login_server: String,
    login_username: String,
    login_password: Secret,
    platform: Option<String>,
    insecure_registries: Vec<String>,
    registry_ca_files: Vec<PathBuf>,
    skip_if_exists: bool,
    immutable_tags: Immutable,
    confirm: String,
    #[serde(flatten)]
    ecr: EcrOptions,
}

/// The kind.
pub(crate) struct DockerPushKind {
    pub(crate) engine: Arc<dyn EngineProvider>,
    pub(crate) credentials: CredentialSources,
}

struct DockerPush {
    engine: Arc<dyn EngineProvider>,
    sources: CredentialSources,
    /// The block's own login, where it has one.
    own: Option<Credentials>,
    /// The registry that the own login is for, where the block says.
    own_server: Option<String>,
    platform: Option<String>,
    /// For images in layouts.
    insecure: Vec<String>,
    ca_files: Vec<PathBuf>,
    /// Names of those two arguments, where they are set.
    layout_arguments: Vec<&'static str>,
    backoff: Backoff,
    skips_existing: bool,
    immutable: Immutable,
    /// What is asked before anything is pushed.
    question: Option<String>,
    /// No engine has to do with the image.
    is_without_engine: bool,
    /// How long asking is tried again.
    ask_budget: Duration,
}

impl PostProcessorKind for DockerPushKind {
    fn schema(&self) -> &'static Schema {
        &SCHEMA
    }

    fn prepare(
        &self,
        config: &Decoded,
        context: &PrepareContext,
        diagnostics: &mut Diagnostics,
    ) -> Option<Arc<dyn PostProcessor>> {
        self.prepare_push(config, context, diagnostics).map(|push| Arc::new(push) as Arc<dyn PostProcessor>)
    }
}

impl DockerPushKind {
    fn prepare_push(
        &self,
        config: &Decoded,
        context: &PrepareContext,
        diagnostics: &mut Diagnostics,
    ) -> Option<DockerPush> {
        let arguments: Arguments = config.read_or_tell(diagnostics)?;
        prepare::warn_unused(config, "docker_path", prepare::DOCKER_PATH_UNUSED, diagnostics);
        let mut sources = self.credentials.clone();
        let server = Some(arguments.login_server.as_str());
        arguments.ecr.check(config, server, &sources.amazon, diagnostics);
        sources.amazon = sources.amazon.choose(&arguments.ecr, server);
        check_login(config, &arguments, context, diagnostics);
        let has_login = arguments.login && !arguments.ecr.ecr_login && !arguments.login_username.is_empty();
        let own = has_login.then_some(Credentials {
            username: arguments.login_username,
            password: arguments.login_password,
            identity_token: None,
        });
        let server = arguments.login_server;
        Some(DockerPush {
            engine: Arc::clone(&self.engine),
            sources,
            own,
            own_server: (!server.is_empty()).then(|| normalize_registry(&server)),
            platform: arguments.platform.filter(|platform| !platform.is_empty()),
            insecure: arguments.insecure_registries,
            ca_files: arguments.registry_ca_files,
            layout_arguments: LAYOUT_ARGUMENTS.into_iter().filter(|name| config.is_set(name)).collect(),
            backoff: Backoff::default(),
            skips_existing: arguments.skip_if_exists,
            immutable: arguments.immutable_tags,
            question: match arguments.confirm.as_str() {
                "" | "false" => None,
                "true" => Some(QUESTION.to_owned()),
                question => Some(question.to_owned()),
            },
            is_without_engine: *context.builder_kind == *"oci",
            ask_budget: asking::BUDGET,
        })
    }
}

/// Half a login is a mistake; a login that `login` does not switch on does nothing, as in Packer, but is said.
fn check_login(config: &Decoded, arguments: &Arguments, context: &PrepareContext, diagnostics: &mut Diagnostics) {
    let names = ["login_username", "login_password"];
    if arguments.ecr.ecr_login {
        return;
    }
    if !arguments.login && !config.is_unknown("login") {
        if let Some(name) = names.into_iter().find(|name| config.is_set(name)) {
            let title = format!("`{name}` has no effect without `login = true`");
            diagnostics.push(Diagnostic::warning("unused-argument", config.span(name), title));
        }
        return;
    }
    let values = [arguments.login_username.as_str(), arguments.login_password.expose()];
    let is_empty = |index: usize| values[index].is_empty() && !config.is_unknown(names[index]);
    if is_empty(0) != is_empty(1) {
        let (missing, given) = if is_empty(0) { (names[0], names[1]) } else { (names[1], names[0]) };
        let state = if config.is_set(missing) { "empty" } else { "not" };
        let title = format!("`{given}` is set and `{missing}` is {state}; a login needs both");
        let diagnostic = Diagnostic::error("missing-argument", config.span(missing), title);
        let diagnostic = context.unless_checked(diagnostic);
        diagnostics.push(match state {
            "empty" => diagnostic.help(prepare::UNSET),
            _ => diagnostic,
        });
    }
}

/// The image's names, each once, in their order, but `latest` last: it never means what is not there under its own name.
fn references(image: &Image) -> Result<Vec<(&str, Reference)>, PublishError> {
    let mut references: Vec<(&str, Reference)> = Vec::new();
    for name in &image.tags {
        let reference = Reference::parse(name).map_err(|source| PublishError::Name { name: name.clone(), source })?;
        if !references.iter().any(|(_, known)| *known == reference) {
            references.push((name, reference));
        }
    }
    references.sort_by_key(|(_, reference)| reference.digest.is_none() && reference.tag_or_latest() == "latest");
    Ok(references)
}

#[async_trait]
impl PostProcessor for DockerPush {
    fn pushes(&self) -> bool {
        true
    }

    fn sends(&self, artifact: &Artifact) -> Vec<String> {
        let references = artifact.image().and_then(|image| references(image).ok()).unwrap_or_default();
        references.into_iter().map(|(_, reference)| reference.pushed_name()).collect()
    }

    fn asks_before(&self) -> bool {
        self.skips_existing
    }

    async fn published(&self, names: &[String], context: &BuildContext) -> Result<Option<Published>, Failure> {
        self.hide_login(context);
        asking::published(self, names, context).await
    }

    async fn name_published(
        &self,
        names: &BTreeMap<String, String>,
        context: &BuildContext,
    ) -> Result<Vec<String>, Failure> {
        self.hide_login(context);
        asking::name_published(self, names, context).await
    }

    fn question(&self) -> Option<&str> {
        self.question.as_deref()
    }

    async fn process(&self, artifact: &Artifact, context: &BuildContext) -> Result<Processed, Failure> {
        let image = artifact.image().ok_or_else(|| PublishError::not_an_image(KIND, artifact))?;
        if image.tags.is_empty() {
            return Err(PublishError::NoName { id: image.id.clone() }.into());
        }
        self.hide_login(context);
        let references = references(image)?;
        let all: Vec<&Reference> = references.iter().map(|(_, reference)| reference).collect();
        let own_server = self.own_server(&all);
        let joined = index::brought_together(image, self.engine.as_ref(), context).await?;
        if let Some(layout) = joined.map_or_else(|| LayoutImage::of(image), |joined| Ok(Some(joined)))? {
            let digest = self.push_from_layout(&layout, &references, &own_server, context).await?;
            return Ok(pushed_artifact(artifact, image, Some(digest)));
        }
        for name in &self.layout_arguments {
            context
                .events
                .warn(format!("`{name}` has no effect on the push: the Docker engine does it, as it is set up"));
        }
        let digest = self.push_from_engine(image, &references, &own_server, context).await?;
        Ok(pushed_artifact(artifact, image, digest))
    }
}

/// How far a push of several names has come.
struct Pushes {
    done: Vec<String>,
    left: Vec<String>,
}

impl Pushes {
    fn new(references: &[(&str, Reference)], there: &BTreeMap<String, String>) -> Pushes {
        let left = references.iter().map(|(_, reference)| reference);
        let left = left.filter(|reference| !there.contains_key(&reference.in_full())).map(Reference::to_string);
        Pushes { done: Vec::new(), left: left.collect() }
    }

    fn done(&mut self, reference: &Reference) {
        let name = reference.to_string();
        self.left.retain(|left| *left != name);
        self.done.push(name);
    }

    /// The first failure ends it: what is there and what is not is told.
    fn stopped(&self, failure: Failure) -> Failure {
        if self.done.is_empty() {
            return failure;
        }
        failure.hint(format!("pushed before: {}; not pushed: {}", self.done.join(", "), self.left.join(", ")))
    }
}

/// The same image, with its digest in the registry.
fn pushed_artifact(artifact: &Artifact, image: &Image, digest: Option<String>) -> Processed {
    let content = Content::Image(Image { digest, ..image.clone() });
    Processed { artifact: Artifact { content, ..artifact.clone() }, keep_input: true, force_keep: false }
}

impl DockerPush {
    fn hide_login(&self, context: &BuildContext) {
        if let Some(credentials) = &self.own {
            context.redactor.add(credentials.password.expose());
        }
    }

    /// Lets the engine push name after name.
    async fn push_from_engine(
        &self,
        image: &Image,
        references: &[(&str, Reference)],
        own_server: &OwnServer,
        context: &BuildContext,
    ) -> Result<Option<String>, Failure> {
        let engine = context.unless_cancelled(self.engine.engine_of(image)).await??;
        let candidate = Candidate::Engine(&engine, image);
        let there = asking::settled(self, references, own_server, &candidate, context).await?;
        let mut logins = BTreeMap::new();
        let mut digest = image.digest.clone();
        let mut progress = Pushes::new(references, &there);
        for (name, reference) in references {
            if let Some(found) = there.get(&reference.in_full()) {
                digest = Some(found.clone());
                continue;
            }
            self.add_login(&mut logins, reference, own_server, context).await?;
            let login = &logins[&reference.name()];
            let pushed = self.push(engine.as_ref(), name, login, context).await.map_err(|error| {
                let lines = hints::hints(&error, reference, login, engine.address());
                progress.stopped(lines.into_iter().fold(Failure::from(error), Failure::hint))
            })?;
            progress.done(reference);
            if let Some(pushed) = pushed.digest {
                context.events.message(format!("{name}: digest: {pushed}"));
                digest = Some(pushed);
            }
        }
        Ok(digest)
    }

    /// The same for an image that no engine has: kiln's own client brings it there, name after name.
    async fn push_from_layout(
        &self,
        layout: &LayoutImage,
        references: &[(&str, Reference)],
        own_server: &OwnServer,
        context: &BuildContext,
    ) -> Result<String, Failure> {
        let layout = &layout.for_platform(self.platform.as_deref())?;
        let there = asking::settled(self, references, own_server, &Candidate::Layout(layout), context).await?;
        let mut progress = Pushes::new(references, &there);
        let references: Vec<&Reference> =
            references.iter().map(|(_, reference)| reference).filter(|it| !there.contains_key(&it.in_full())).collect();
        let mut logins: BTreeMap<String, Login> = BTreeMap::new();
        for reference in &references {
            self.add_login(&mut logins, reference, own_server, context).await?;
        }
        let client = self.client(&logins, ClientOptions::default().budget, context);
        // The first name of each repository that has the image.
        let mut filled: Vec<Reference> = Vec::new();
        for reference in references {
            let beside = filled.iter().find(|known| known.name() == reference.name());
            let pushed = match beside {
                Some(known) => layout.name_beside(&client, known, reference, context).await,
                None => {
                    let mount_from = layout.relatives(reference, &filled, context).await?;
                    let names = std::slice::from_ref(reference);
                    layout.push(&client, names, mount_from, context).await.map(|_| filled.push(reference.clone()))
                }
            };
            pushed.map_err(|error| {
                let lines = hints::hints(&error, reference, &logins[&reference.name()], "");
                progress.stopped(lines.into_iter().fold(Failure::from(error), Failure::hint))
            })?;
            progress.done(reference);
            context.events.message(format!("{reference}: digest: {}", layout.manifest()));
        }
        Ok(layout.manifest().to_string())
    }

    /// A client with these logins, by repository.
    fn client(&self, logins: &BTreeMap<String, Login>, budget: Duration, context: &BuildContext) -> Client {
        let explicit = logins.iter().filter_map(|(name, login)| Some((name.clone(), login.credentials.clone()?)));
        let options = ClientOptions {
            credentials: self.sources.clone(),
            explicit: explicit.collect(),
            ca_files: self.ca_files.clone(),
            insecure: self.insecure.clone(),
            budget,
            ..ClientOptions::default()
        };
        layout::client(options, context)
    }

    /// Which registry the block's own login is for. Packer would take Docker Hub where the block does not say; but then
    /// the login could only be meant for the one registry that the image goes to.
    fn own_server(&self, references: &[&Reference]) -> OwnServer {
        let mut registries = references.iter().map(|reference| &reference.registry);
        match (&self.own_server, registries.next()) {
            (Some(server), _) => server.clone(),
            (None, Some(first)) if registries.all(|registry| registry == first) => first.clone(),
            _ => DOCKER_HUB.to_owned(),
        }
    }

    /// Finds the login for a repository, where it is not among these yet.
    async fn add_login(
        &self,
        logins: &mut BTreeMap<String, Login>,
        reference: &Reference,
        own_server: &OwnServer,
        context: &BuildContext,
    ) -> Result<(), Failure> {
        if let Entry::Vacant(entry) = logins.entry(reference.name()) {
            entry.insert(context.unless_cancelled(self.login(reference, own_server, context)).await??);
        }
        Ok(())
    }

    /// The login for a registry: the block's own, else what is found; and says which.
    async fn login(&self, reference: &Reference, own_server: &str, context: &BuildContext) -> Result<Login, Failure> {
        let registry = &reference.registry;
        if let Some(credentials) = &self.own {
            if own_server == registry {
                context.events.message_once(format!("logging in to {registry} as {}", credentials.username));
                return Ok(Login { credentials: Some(credentials.clone()), ..Login::default() });
            }
            context.events.warn(format!(
                "the login of this docker-push is for {own_server} (`login_server`), and {reference} goes to {registry}"
            ));
        }
        let own_server = self.own.as_ref().map(|_| own_server.to_owned());
        let found = self.sources.find(&reference.name()).await;
        let found = found.map_err(|source| PublishError::Credentials { registry: registry.clone(), source })?;
        let Some(Found { credentials, origin }) = found else {
            context.events.message_once(format!("no login found for {registry}; going on without"));
            return Ok(Login { own_server, ..Login::default() });
        };
        context.redactor.add(credentials.password.expose());
        if let Some(token) = &credentials.identity_token {
            context.redactor.add(token.expose());
        }
        context.events.message_once(format!("logging in to {registry} with {origin}"));
        Ok(Login { credentials: Some(credentials), origin: Some(origin), own_server })
    }

    /// Pushes one name, again after what may pass by itself.
    async fn push(
        &self,
        engine: &dyn Engine,
        name: &str,
        login: &Login,
        context: &BuildContext,
    ) -> Result<Pushed, PublishError> {
        context.events.message(format!("pushing {name}"));
        let progress = Progress::new(name, context.events.clone());
        let report = |step| progress.report(step);
        let mut tries = 0;
        loop {
            let push = engine.push(name, self.platform.as_deref(), login.credentials.as_ref(), &report);
            let pushed = tokio::select! {
                biased;
                () = context.cancel.cancelled() => return Err(PublishError::Cancelled),
                pushed = push => pushed,
            };
            let source = match pushed {
                Ok(pushed) => return Ok(pushed),
                Err(source) => source,
            };
            tries += 1;
            let wait = self.backoff.wait(tries).filter(|_| retry::is_transient(&source));
            let Some(wait) = wait else {
                let after = if tries > 1 { format!(" after {tries} tries") } else { String::new() };
                return Err(PublishError::Push { reference: name.to_owned(), after, source });
            };
            let reason = Failure::build(source).chain();
            let wait_text = kiln_core::duration::display(wait);
            context.events.warn(format!("cannot push {name}: {reason}; trying again in {wait_text}"));
            tokio::select! {
                () = context.cancel.cancelled() => return Err(PublishError::Cancelled),
                () = tokio::time::sleep(wait) => {}
            }
        }
    }
}

/// A push that waits hardly at all before it tries again.
#[cfg(test)]
pub(crate) fn quick(kind: &DockerPushKind, arguments: kiln_testkit::Arguments) -> impl PostProcessor + use<> {
    tests::quick(kind, arguments)
}

#[cfg(test)]
mod tests;
