//! Checks the arguments: all mistakes at once, without any engine.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use kiln_core::{Builder, BuilderKind, Decoded, Diagnostic, Diagnostics, PrepareContext, Schema, TextScope, suggest};
use kiln_docker::run_command::{self, HostScope};
use kiln_docker::services::Wiring;
use kiln_docker::{login_mistakes, secret_in_image};
use kiln_gotemplate::{Data, Rendered, Scope, render};
use kiln_services::Service;
use tokio::sync::Mutex;

use crate::DockerSettings;
use crate::changes::Changes;
use crate::config::Config;
use crate::launch::DockerBuilder;
use crate::schema::DOCKER;
use crate::states::States;

/// Communicators of Packer's docker sources that kiln does not have.
pub(crate) const UNAVAILABLE: [&str; 3] = ["ssh", "winrm", "dockerWindowsContainer"];

/// The kind `docker`.
pub struct DockerBuilderKind {
    settings: DockerSettings,
    states: Arc<States>,
}

impl DockerBuilderKind {
    /// Works with this engine.
    pub fn new(settings: DockerSettings) -> DockerBuilderKind {
        let states = Arc::new(States::new(Arc::clone(&settings.engine), settings.store.clone()));
        DockerBuilderKind { settings, states }
    }
}

impl BuilderKind for DockerBuilderKind {
    fn schema(&self) -> &'static Schema {
        &DOCKER
    }

    fn fact_names(&self) -> &'static [&'static str] {
        &["ImageSha256", "SourceImageDigest", "SourceImageSha256"]
    }

    fn prepare(
        &self,
        decoded: &Decoded,
        context: &PrepareContext,
        diagnostics: &mut Diagnostics,
    ) -> Option<Arc<dyn Builder>> {
        let config: Config = decoded.read_or_tell(diagnostics)?;
        let mut check = Check { decoded, config: &config, found: Diagnostics::new() };
        check.exactly_one(&["image", "build"]);
        check.result();
        if context.is_variant {
            check.variant();
        }
        check.unavailable();
        check.login(context);
        let server = config.login_server.as_deref();
        config.ecr.check(decoded, server, &self.settings.credentials.amazon, &mut check.found);
        let changes = check.changes();
        let (kept_words, network) = check.run_command(&self.settings, context);
        let services = check.services(&self.settings, network.or_else(|| config.network.clone()));
        check.secrets(&kept_words);
        check.without_effect();
        let settings =
            self.settings.on_host_of(config.platform.as_deref(), &config.platform_hosts, decoded, &mut check.found);
        let is_wrong = check.found.has_errors();
        diagnostics.extend(check.found);
        if is_wrong {
            return None;
        }
        let states = match settings.usual {
            Some(_) => Arc::new(States::new(Arc::clone(&settings.engine), settings.store.clone())),
            None => Arc::clone(&self.states),
        };
        let mut settings = settings;
        settings.credentials.amazon = settings.credentials.amazon.choose(&config.ecr, server);
        Some(Arc::new(DockerBuilder {
            settings,
            config,
            changes,
            states,
            services,
            service_images: Mutex::default(),
            resolved: Mutex::default(),
            marks: OnceLock::new(),
        }))
    }
}

struct Check<'a> {
    decoded: &'a Decoded,
    config: &'a Config,
    found: Diagnostics,
}

impl Check<'_> {
    fn error(&mut self, path: &str, title: impl Into<String>, help: Option<String>) {
        let mut diagnostic = Diagnostic::error("docker-source", self.decoded.span(path), title);
        diagnostic.help = help;
        self.found.push(diagnostic);
    }

    /// Of some arguments, exactly one may be set; an empty text counts as none.
    /// What joins the images of several platforms needs one of each.
    fn variant(&mut self) {
        for name in ["discard", "export_path"] {
            if self.decoded.is_set(name) && self.decoded.values().get(name) != Some(&serde_json::Value::Bool(false)) {
                let title = format!("`{name}` leaves no image, and `platforms` joins images");
                let diagnostic = Diagnostic::error("one-platform", self.decoded.span(name), title);
                self.found.push(diagnostic.help("write `commit = true`, or one `platform`"));
            }
        }
    }

    fn exactly_one(&mut self, names: &[&str]) {
        let is_set = |name: &str| {
            let is_empty = self.decoded.values().get(name).is_some_and(|value| value.as_str() == Some(""));
            self.decoded.is_set(name) && (!is_empty || self.decoded.is_unknown(name))
        };
        let set: Vec<&str> = names.iter().copied().filter(|name| is_set(name)).collect();
        self.one_of(&set, names);
    }

    fn one_of(&mut self, set: &[&str], names: &[&str]) {
        let known = suggest::enumerate(names.iter().copied());
        match set {
            [_] => {}
            [] => self.error("", format!("a docker source takes one of {known}"), None),
            [first, .., last] => {
                let both = if set.len() == 2 { "both " } else { "all " };
                let title = format!(
                    "{} are {both}set; a docker source takes exactly one of {known}",
                    suggest::enumerate(set.iter().copied())
                );
                let diagnostic = Diagnostic::error("docker-source", self.decoded.span(last), title)
                    .also(self.decoded.span(first), "set here too");
                self.found.push(diagnostic);
            }
        }
    }

    fn result(&mut self) {
        let is_export = self.config.export_path.as_ref().is_some_and(|path| !path.as_os_str().is_empty());
        let asked = [
            ("commit", self.config.commit || self.decoded.is_unknown("commit")),
            ("discard", self.config.discard || self.decoded.is_unknown("discard")),
            ("export_path", is_export || self.decoded.is_unknown("export_path")),
        ];
        let set: Vec<&str> = asked.iter().filter(|(_, is_set)| *is_set).map(|(name, _)| *name).collect();
        self.one_of(&set, &["commit", "discard", "export_path"]);
    }

    fn unavailable(&mut self) {
        if self.config.windows_container {
            self.error("windows_container", "Windows containers are not available", None);
        }
        self.communicator();
    }

    /// What Packer checks of communicators. One that kiln lacks is a mistake of no template: such a build fails.
    fn communicator(&mut self) {
        let Some(name) = self.config.communicator.as_deref() else { return };
        if matches!(name, "ssh" | "winrm") {
            let user = format!("{name}_username");
            if !self.decoded.is_set(&user) {
                self.error("communicator", format!("the communicator `{name}` needs `{user}`"), None);
            }
        }
        let span = self.decoded.span("communicator");
        if name == "none" {
            let title = "the communicator `none` has no effect: a container is reached through the engine";
            self.found.push(Diagnostic::warning("communicator", span, title));
        } else if UNAVAILABLE.contains(&name) {
            let title = format!("kiln does not have the communicator `{name}` for docker sources yet");
            self.found.push(
                Diagnostic::warning("communicator", span, title)
                    .label("a build of this source fails")
                    .help("leave `communicator` out: commands and files go through the engine"),
            );
        } else if !matches!(name, "" | "docker") {
            let known = UNAVAILABLE.iter().copied().chain(["docker", "none"]);
            let title = format!("there is no communicator `{name}`");
            let diagnostic = Diagnostic::error("communicator", span, title);
            self.found.push(match suggest::nearest(name, known) {
                Some(nearest) => diagnostic.value(span, format!("\"{nearest}\""), format!("did you mean `{nearest}`?")),
                None => diagnostic.help("leave `communicator` out: commands and files go through the engine"),
            });
        }
    }

    fn login(&mut self, context: &PrepareContext) {
        if !self.config.ecr.ecr_login {
            self.found.extend(login_mistakes(self.decoded, self.config.login, "docker-source", context));
        }
    }

    fn changes(&mut self) -> Changes {
        let (changes, errors) = Changes::parse(&self.config.changes);
        for (index, error) in errors {
            let path = format!("changes[{index}]");
            if !self.decoded.is_unknown(&path) {
                self.error(&path, error.message, error.help);
            }
        }
        if !self.config.commit && self.decoded.is_set("changes") && !self.decoded.is_unknown("commit") {
            self.warn("changes", "`changes` has no effect without `commit = true`");
        }
        changes
    }

    /// A commit keeps these for everybody who has the image; an export has the files alone.
    fn secrets(&mut self, kept_words: &[usize]) {
        if !self.config.commit {
            return;
        }
        let changes = (0..self.config.changes.len()).map(|index| format!("changes[{index}]"));
        let words = kept_words.iter().map(|index| format!("run_command[{index}]"));
        let texts = ["author", "message"].map(str::to_owned);
        let paths: Vec<String> = changes.chain(words).chain(texts).collect();
        self.found.extend(paths.iter().filter_map(|path| secret_in_image(self.decoded, path)));
    }

    /// What runs beside the container, which is to take part in this network.
    fn services(&mut self, settings: &DockerSettings, network: Option<String>) -> Vec<Service> {
        let services = kiln_services::read(self.decoded, &mut self.found);
        let wiring = Wiring::of(network.as_deref(), self.config.share_network);
        kiln_docker::services::check(&services, &wiring, self.decoded, settings.home.as_deref(), &mut self.found);
        if self.config.share_network && !self.decoded.is_set("service") {
            self.warn("share_network", "`share_network` has no effect without a `service` block");
        }
        services
    }

    /// Reads `run_command` with a made-up image, only to find its mistakes, the words that a commit keeps, and the network.
    fn run_command(&mut self, settings: &DockerSettings, context: &PrepareContext) -> (Vec<usize>, Option<String>) {
        if self.config.run_command.is_empty() || self.decoded.is_unknown("run_command") {
            return (Vec::new(), None);
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
        let mut is_known = true;
        let mut unknown = |word: &String| {
            is_known = false;
            word.clone()
        };
        for (index, word) in self.config.run_command.iter().enumerate() {
            words.push(match render(word, &scope, &data) {
                Ok(Rendered::Text(word)) => word,
                // `{{build}}` and `{{user}}` depend on what is not known here.
                Ok(Rendered::Unknown) => unknown(word),
                Err(_) if word.contains("user") => unknown(word),
                Err(error) => {
                    let title = format!("`run_command[{index}]`: {error}");
                    self.error(&format!("run_command[{index}]"), title, None);
                    return (Vec::new(), None);
                }
            });
        }
        let host = HostScope { environment: &settings.credentials.environment, home: settings.home.as_deref() };
        match run_command::parse(&words, host) {
            Ok(run) => (run.kept_words, run.config.host_config.and_then(|host| host.network_mode)),
            Err(error) => {
                if is_known {
                    self.error(&format!("run_command[{}]", error.index), error.message, error.help);
                }
                (Vec::new(), None)
            }
        }
    }

    fn without_effect(&mut self) {
        if self.config.container_dir.is_some() {
            self.warn("container_dir", "`container_dir` is made, and holds nothing: kiln needs no shared directory");
        }
        if self.decoded.is_set("docker_path") {
            self.warn("docker_path", "`docker_path` has no effect: kiln speaks to the engine's API (see DOCKER_HOST)");
        }
        if self.config.build.is_some() && self.decoded.is_set("pull") {
            self.warn("pull", "`pull` has no effect beside `build`; `build.pull` has");
        }
    }

    fn warn(&mut self, path: &str, title: impl Into<String>) {
        self.found.push(Diagnostic::warning("without-effect", self.decoded.span(path), title));
    }
}
