//! Checks the arguments: all mistakes at once, without touching anything.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use kiln_core::{
    Builder, BuilderKind, Decoded, Diagnostic, Diagnostics, Failure, PrepareContext, Schema, Span, TextScope, Variant,
    suggest,
};
use kiln_docker::run_command::{self, HostScope};
use kiln_docker::{login_mistakes, secret_in_image};
use kiln_gotemplate::{Data, Rendered, Scope, render};
use kiln_image::Layout;
use kiln_image::changes::Changes;
use kiln_image::compress::Compression;
use kiln_registry::{Platform, Reference};
use kiln_sandbox::capabilities::Capabilities;
use kiln_services::Service;

use crate::OciSettings;
use crate::config::{Config, Format};
use crate::docker::DockerAsOci;
use crate::error;
use crate::from::From;
use crate::index::{self, IndexBuilder};
use crate::launch::OciBuilder;
use crate::missing;
use crate::place::Places;
use crate::runtime;
use crate::schema::OCI;
use crate::services;

/// The kind `oci`.
pub struct OciBuilderKind {
    settings: OciSettings,
    places: Arc<Places>,
}

impl OciBuilderKind {
    /// Works with these surroundings. Nothing is looked at yet.
    pub fn new(settings: OciSettings) -> OciBuilderKind {
        let places = Arc::new(Places::new(settings.cache.clone(), settings.helper.clone()));
        OciBuilderKind { settings, places }
    }

    /// A kind that takes the arguments of a `docker` source, checked by that source's own kind, and makes its machines here.
    pub fn as_docker(&self, docker: Arc<dyn BuilderKind>) -> Arc<dyn BuilderKind> {
        Arc::new(DockerAsOci::new(self.settings.clone(), Arc::clone(&self.places), docker))
    }

    /// The images of the store that machines have here, for images that are made without one. What is put there stays until
    /// this process ends, and for good if it gets a name.
    ///
    /// # Errors
    /// No isolation works here; the store cannot be opened.
    pub async fn layout(&self) -> Result<Layout, Failure> {
        let place = self.places.get(None).await?;
        place.store.hold().map_err(error::cache)?;
        Ok(place.store.layout().clone())
    }
}

/// Names of the `build.*` values that this builder adds.
pub(crate) const FACTS: [&str; 3] = ["ImageSha256", "SourceImageDigest", "SourceImageSha256"];

impl BuilderKind for OciBuilderKind {
    fn schema(&self) -> &'static Schema {
        &OCI
    }

    fn fact_names(&self) -> &'static [&'static str] {
        &FACTS
    }

    fn prepare(
        &self,
        decoded: &Decoded,
        context: &PrepareContext,
        diagnostics: &mut Diagnostics,
    ) -> Option<Arc<dyn Builder>> {
        let config: Config = decoded.read_or_tell(diagnostics)?;
        prepare(config, decoded, context, &self.settings, &self.places, false, diagnostics)
            .map(|builder| builder as Arc<dyn Builder>)
    }

    fn prepare_index(
        &self,
        decoded: &Decoded,
        variants: Option<Vec<Variant>>,
        context: &PrepareContext,
        diagnostics: &mut Diagnostics,
    ) -> Option<Arc<dyn Builder>> {
        let config: Config = decoded.read_or_tell(diagnostics)?;
        prepare_index(config, decoded, variants.unwrap_or_default(), context, &self.settings, &self.places, diagnostics)
    }
}

/// What the arguments ask for, checked.
#[derive(Debug, Clone)]
pub(crate) struct Recipe {
    pub(crate) config: Config,
    pub(crate) from: From,
    pub(crate) platform: Platform,
    pub(crate) changes: Changes,
    pub(crate) compression: Compression,
    pub(crate) push: Vec<Reference>,
    /// Their places in the template.
    pub(crate) push_spans: Vec<Span>,
    /// It goes to registries, perhaps under names that are not known yet.
    pub(crate) is_pushed: bool,
    /// The arguments are those of a `docker` source.
    pub(crate) is_docker: bool,
    /// Names and pushes wait for tests.
    pub(crate) is_tested: bool,
}

impl Recipe {
    /// Whether an image is sealed.
    pub(crate) fn makes_image(&self) -> bool {
        let is_export_only = self.config.export_path.is_some() && self.config.commit != Some(true);
        !self.config.discard && (!is_export_only || self.has_image_outputs())
    }

    fn has_image_outputs(&self) -> bool {
        let config = &self.config;
        !config.tags.is_empty()
            || !config.push.is_empty()
            || config.oci_layout.is_some()
            || config.docker_archive.is_some()
            || config.load
    }
}

/// Checks what an index needs of the arguments; the rest is checked for each of its images.
pub(crate) fn prepare_index(
    config: Config,
    decoded: &Decoded,
    variants: Vec<Variant>,
    context: &PrepareContext,
    settings: &OciSettings,
    places: &Arc<Places>,
    diagnostics: &mut Diagnostics,
) -> Option<Arc<dyn Builder>> {
    let mut check = Check { decoded, config: &config, is_docker: false, found: Diagnostics::new() };
    let push = check.references();
    let is_wrong = check.found.has_errors();
    diagnostics.extend(check.found);
    if is_wrong {
        return None;
    }
    let mut settings = settings.clone();
    let server = config.login_server.as_deref();
    settings.credentials.amazon = settings.credentials.amazon.choose(&config.ecr, server);
    let kind = Arc::clone(&context.builder_kind);
    let is_pushed = decoded.is_unknown("push");
    Some(Arc::new(IndexBuilder::new(config, (push, is_pushed), variants, kind, settings, Arc::clone(places))))
}

/// Checks, and makes the builder if nothing is wrong.
pub(crate) fn prepare(
    mut config: Config,
    decoded: &Decoded,
    context: &PrepareContext,
    settings: &OciSettings,
    places: &Arc<Places>,
    is_docker: bool,
    diagnostics: &mut Diagnostics,
) -> Option<Arc<OciBuilder>> {
    let mut found = Diagnostics::new();
    if context.is_variant {
        index::of_variant(&mut config, decoded, &mut found);
    }
    let mut check = Check { decoded, config: &config, is_docker, found };
    let from = check.from();
    let platform = check.platform();
    check.result();
    let changes = check.changes();
    let compression = check.compression();
    let (push, push_spans): (Vec<_>, Vec<_>) = check.references().into_iter().unzip();
    if !is_docker {
        check.login(context);
        config.ecr.check(decoded, config.login_server.as_deref(), &settings.credentials.amazon, &mut check.found);
        check.communicator();
    }
    check.sandbox(settings, context);
    check.secrets();
    let services = check.services(settings);
    let is_wrong = check.found.has_errors();
    diagnostics.extend(check.found);
    if is_wrong {
        return None;
    }
    let mut settings = settings.clone();
    let server = config.login_server.as_deref();
    settings.credentials.amazon = settings.credentials.amazon.choose(&config.ecr, server);
    let recipe = Recipe {
        is_pushed: !push.is_empty() || (decoded.is_unknown("push") && !context.is_variant),
        is_tested: context.has_tests,
        config,
        from,
        platform,
        changes,
        compression,
        push,
        push_spans,
        is_docker,
    };
    Some(Arc::new(OciBuilder::new(settings, Arc::clone(places), recipe).with_services(services)))
}

struct Check<'a> {
    decoded: &'a Decoded,
    config: &'a Config,
    is_docker: bool,
    found: Diagnostics,
}

impl Check<'_> {
    fn error(&mut self, path: &str, title: impl Into<String>, help: Option<String>) {
        let mut diagnostic = Diagnostic::error("oci-source", self.decoded.span(path), title);
        diagnostic.help = help;
        self.found.push(diagnostic);
    }

    fn warn(&mut self, path: &str, title: impl Into<String>) {
        self.found.push(Diagnostic::warning("without-effect", self.decoded.span(path), title));
    }

    fn from(&mut self) -> From {
        let is_empty = |name: &str| self.decoded.values().get(name).and_then(|value| value.as_str()) == Some("");
        let is_set = |name: &str| self.decoded.is_unknown(name) || (self.decoded.is_set(name) && !is_empty(name));
        let (value, path) = match (is_set("from"), is_set("image")) {
            (true, true) => {
                self.error("image", "`from` and `image` are both set; an oci source takes one of them", None);
                return From::Scratch;
            }
            (true, false) => (self.config.from.clone(), "from"),
            (false, true) => (self.config.image.clone().map(serde_json::Value::String), "image"),
            (false, false) => {
                let help = "what to start from: `from = \"debian:bookworm\"`, `from = { busybox = true }`, `from = \"scratch\"`";
                self.error("", "an oci source takes one of `from`, `image`", Some(help.to_owned()));
                return From::Scratch;
            }
        };
        // What is not known yet is checked when it is.
        let Some(value) = value.filter(|_| !self.decoded.is_unknown(path)) else { return From::Scratch };
        match From::parse(&value) {
            Ok(from) => {
                self.found.extend(missing::base(&from, path, self.decoded));
                from
            }
            Err(error) => {
                self.error(&format!("{path}{}", error.path), error.message, error.help);
                From::Scratch
            }
        }
    }

    fn platform(&mut self) -> Platform {
        let Some(text) = self.config.platform.as_deref().filter(|text| !text.is_empty()) else {
            return Platform::host();
        };
        match Platform::parse(text) {
            Some(platform) if platform.os == "linux" => platform,
            Some(_) => {
                self.error("platform", format!("`{text}` does not run here: sandboxes are of Linux"), None);
                Platform::host()
            }
            None => {
                self.error("platform", format!("`{text}` is no platform such as `linux/arm64`"), None);
                Platform::host()
            }
        }
    }

    /// What is to come out of it fits together.
    fn result(&mut self) {
        if self.is_docker {
            return;
        }
        let config = self.config;
        if config.discard {
            let others = ["commit", "export_path", "tags", "push", "oci_layout", "docker_archive", "load"]
                .into_iter()
                .find(|name| {
                    self.decoded.is_set(name)
                        && self.decoded.values().get(*name) != Some(&serde_json::Value::Bool(false))
                });
            if let Some(name) = others {
                let title = format!("`discard` throws away what `{name}` asks for");
                let diagnostic = Diagnostic::error("oci-source", self.decoded.span(name), title)
                    .also(self.decoded.span("discard"), "set here");
                self.found.push(diagnostic);
            }
        }
        if (config.load || config.docker_archive.is_some())
            && config.tags.is_empty()
            && !self.decoded.is_unknown("tags")
        {
            let name = if config.load { "load" } else { "docker_archive" };
            let help = "the engine then shows it by its id alone; `tags` gives it names";
            let diagnostic =
                Diagnostic::warning("nameless-image", self.decoded.span(name), format!("`{name}` without `tags`"));
            self.found.push(diagnostic.help(help));
        }
    }

    fn changes(&mut self) -> Changes {
        let (changes, errors) = Changes::parse(&self.config.changes);
        // The docker source has told these itself; of values an engine tells its own mistakes, at the end of a build.
        let told = if self.is_docker { Vec::new() } else { errors };
        for (index, error) in told.into_iter().chain(changes.check()) {
            let path = format!("changes[{index}]");
            if !self.decoded.is_unknown(&path) {
                self.error(&path, error.message, error.help);
            }
        }
        changes
    }

    fn compression(&mut self) -> Compression {
        let Some(text) = self.config.compression.as_deref().filter(|text| !text.is_empty()) else {
            return Compression::default();
        };
        match text.parse() {
            Ok(Compression::Zstd { .. }) if self.config.format == Format::Docker => {
                let help = "`format = \"oci\"` can, or take `compression = \"gzip\"`";
                self.error(
                    "compression",
                    "images in Docker's format cannot have layers in zstd",
                    Some(help.to_owned()),
                );
                Compression::default()
            }
            Ok(compression) => compression,
            Err(error) => {
                self.error("compression", error.to_string(), None);
                Compression::default()
            }
        }
    }

    /// What is pushed, as far as it is known, with its places.
    fn references(&mut self) -> Vec<(Reference, Span)> {
        let mut push = Vec::new();
        for (name, list) in [("push", &self.config.push), ("tags", &self.config.tags)] {
            for (index, text) in list.iter().enumerate() {
                let path = format!("{name}[{index}]");
                if self.decoded.is_unknown(&path) {
                    continue;
                }
                match Reference::parse(text) {
                    Ok(reference) if reference.digest.is_some() => {
                        self.error(&path, format!("`{text}` names a digest, which the image has or has not"), None);
                    }
                    Ok(reference) if name == "push" => push.push((reference, self.decoded.span(&path))),
                    Ok(_) => {}
                    Err(error) => self.error(&path, error.to_string(), None),
                }
            }
        }
        push
    }

    fn login(&mut self, context: &PrepareContext) {
        if !self.config.ecr.ecr_login {
            self.found.extend(login_mistakes(self.decoded, self.config.login, "oci-source", context));
        }
    }

    fn communicator(&mut self) {
        let Some(name) = self.config.communicator.as_deref() else { return };
        if !matches!(name, "" | "oci" | "docker" | "none") {
            let help = "leave `communicator` out: commands and files go to the sandbox directly";
            self.error("communicator", format!("an oci source has no communicator `{name}`"), Some(help.to_owned()));
        }
    }

    /// Mounts, devices and the flags of `run_command`.
    fn sandbox(&mut self, settings: &OciSettings, context: &PrepareContext) {
        let words = match self.run_command(context) {
            Ok(words) => words,
            Err(()) => return,
        };
        let host = HostScope { environment: &settings.credentials.environment, home: settings.home.as_deref() };
        let run = match words.as_deref().map(|words| run_command::parse(words, host)).transpose() {
            Ok(run) => run,
            Err(error) => {
                if !self.is_docker {
                    self.error(&format!("run_command[{}]", error.index), error.message, error.help);
                }
                return;
            }
        };
        match runtime::Runtime::new(self.config, run, settings.home.as_deref()) {
            Ok(runtime) => {
                for unheeded in &runtime.unheeded {
                    let index = words.as_deref().and_then(|words| unheeded.index(words));
                    let path = index.map_or_else(|| "run_command".to_owned(), |index| format!("run_command[{index}]"));
                    self.warn(&path, unheeded.to_string());
                }
                self.found.extend(missing::mounts(&runtime, self.decoded));
            }
            Err(error) => self.error(&error.path, error.message, error.help),
        }
        self.capabilities();
    }

    fn capabilities(&mut self) {
        for (name, list) in [("cap_add", &self.config.cap_add), ("cap_drop", &self.config.cap_drop)] {
            for (index, capability) in list.iter().enumerate() {
                let path = format!("{name}[{index}]");
                if let Err(error) = Capabilities::named(capability)
                    && !self.decoded.is_unknown(&path)
                {
                    let upper = capability.to_uppercase();
                    let nearest = suggest::nearest(upper.trim_start_matches("CAP_"), Capabilities::names());
                    self.error(&path, error.to_string(), nearest.map(|nearest| format!("did you mean `{nearest}`?")));
                }
            }
        }
    }

    /// The words of `run_command` with a made-up image; `None` where they are not all known, or none are written.
    fn run_command(&mut self, context: &PrepareContext) -> Result<Option<Vec<String>>, ()> {
        if self.config.run_command.is_empty() || self.decoded.is_unknown("run_command") {
            return Ok(None);
        }
        let text = TextScope::default();
        let scope = Scope {
            text: &text,
            build_name: Some(&context.build_name),
            build_type: Some(&context.builder_kind),
            build: None,
            allow_env: false,
        };
        let data = BTreeMap::from([("Image".to_owned(), Data::Text("image".to_owned()))]);
        let mut words = Vec::new();
        for (index, word) in self.config.run_command.iter().enumerate() {
            match render(word, &scope, &data) {
                Ok(Rendered::Text(word)) => words.push(word),
                // `{{build}}` and `{{user}}` depend on what is not known here.
                Ok(Rendered::Unknown) => return Ok(None),
                Err(_) if word.contains("user") => return Ok(None),
                Err(error) => {
                    if !self.is_docker {
                        let title = format!("`run_command[{index}]`: {error}");
                        self.error(&format!("run_command[{index}]"), title, None);
                    }
                    return Err(());
                }
            }
        }
        Ok(Some(words))
    }

    fn services(&mut self, settings: &OciSettings) -> Vec<Service> {
        // The docker source has told of those mistakes that are not of sandboxes alone.
        let mut told = Diagnostics::new();
        let services = kiln_services::read(self.decoded, if self.is_docker { &mut told } else { &mut self.found });
        services::check(&services, self.config, self.decoded, settings.home.as_deref(), &mut self.found);
        services
    }

    /// What everybody who has the image can read.
    fn secrets(&mut self) {
        if self.is_docker || self.config.discard {
            return;
        }
        let changes = (0..self.config.changes.len()).map(|index| format!("changes[{index}]"));
        let labels = self.config.labels.keys().map(|name| format!("labels.{name}"));
        let texts = ["author", "message"].map(str::to_owned);
        let paths: Vec<String> = changes.chain(labels).chain(texts).collect();
        self.found.extend(paths.iter().filter_map(|path| secret_in_image(self.decoded, path)));
    }
}

/// A path of the template's as this process sees it.
pub(crate) fn absolute(path: &Path) -> std::path::PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf())
}
