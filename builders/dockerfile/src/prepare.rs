//! Checks the arguments, and what the Dockerfile shows already: all mistakes at once, without any engine.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use kiln_builder_docker::{DockerSettings, ImageMachines};
use kiln_buildkit::DaemonAddress;
use kiln_core::{Builder, BuilderKind, Decoded, Diagnostic, Diagnostics, PrepareContext, Schema};
use kiln_docker::login_mistakes;
use kiln_docker::upgrade::TlsFiles;

use crate::builder::DockerfileBuilder;
use crate::check::{self, Ignored};
use crate::config::Config;
use crate::context::Origin;
use crate::dockerfile::Dockerfile;
use crate::made::Made;
use crate::run::{bytes_of, cache_entry, dockerfile_path};
use crate::schema::{DOCKERFILE, machine_arguments};

/// The kind `dockerfile`.
pub struct DockerfileKind {
    settings: DockerSettings,
    machines: ImageMachines,
    made: Arc<Made>,
}

impl DockerfileKind {
    /// Works with this engine, where a source names no BuildKit daemon.
    pub fn new(settings: DockerSettings) -> DockerfileKind {
        DockerfileKind { machines: ImageMachines::new(settings.clone()), settings, made: Arc::default() }
    }
}

impl BuilderKind for DockerfileKind {
    fn schema(&self) -> &'static Schema {
        &DOCKERFILE
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
        let mut check = Check { decoded, config: &config, context, found: Diagnostics::new() };
        check.dockerfile();
        check.values();
        check.caches();
        check.steps();
        let daemon = check.daemon();
        check.files();
        if !config.ecr.ecr_login {
            check.found.extend(login_mistakes(decoded, config.login, "dockerfile-source", context));
        }
        let server = config.login_server.as_deref();
        config.ecr.check(decoded, server, &self.settings.credentials.amazon, &mut check.found);
        let settings =
            self.settings.on_host_of(config.platform.as_deref(), &config.platform_hosts, decoded, &mut check.found);
        let machines = settings.usual.as_ref().map(|_| ImageMachines::new(settings.clone()));
        let machine =
            machines.as_ref().unwrap_or(&self.machines).prepare(decoded, machine_arguments(), &mut check.found);
        let is_wrong = check.found.has_errors();
        diagnostics.extend(check.found);
        if is_wrong {
            return None;
        }
        let mut settings = settings;
        settings.credentials.amazon = settings.credentials.amazon.choose(&config.ecr, server);
        let directory = context.directory.clone();
        let (has_steps, made) = (context.has_steps, Arc::clone(&self.made));
        Some(Arc::new(DockerfileBuilder::new(settings, config, directory, daemon, has_steps, machine?, made)))
    }
}

struct Check<'a> {
    decoded: &'a Decoded,
    config: &'a Config,
    context: &'a PrepareContext,
    found: Diagnostics,
}

impl Check<'_> {
    fn error(&mut self, path: &str, title: impl Into<String>, help: Option<&str>) {
        let diagnostic = Diagnostic::error("dockerfile-source", self.decoded.span(path), title);
        self.found.push(match help {
            Some(help) => diagnostic.help(help),
            None => diagnostic,
        });
    }

    fn warn(&mut self, path: &str, title: impl Into<String>) {
        self.found.push(Diagnostic::warning("without-effect", self.decoded.span(path), title));
    }

    fn dockerfile(&mut self) {
        if self.decoded.is_set("dockerfile") && self.decoded.is_set("dockerfile_inline") {
            let title = "`dockerfile` and `dockerfile_inline` are both set; a dockerfile source takes one of them";
            let place = self.decoded.span("dockerfile");
            let diagnostic = Diagnostic::error("dockerfile-source", self.decoded.span("dockerfile_inline"), title);
            self.found.push(diagnostic.also(place, "set here too"));
        }
    }

    /// Directories as caches are served by the session, which kiln's does not.
    fn caches(&mut self) {
        let config = self.config;
        for (name, entries) in [("cache_from", &config.cache_from), ("cache_to", &config.cache_to)] {
            for (index, text) in entries.iter().enumerate() {
                if cache_entry(text).kind == "local" {
                    let title = format!("`{name}` takes no directories (`type=local`)");
                    let help = "keep it in a registry (`type=registry,ref=NAME`), or in the image (`type=inline`)";
                    self.error(&format!("{name}[{index}]"), title, Some(help));
                }
            }
        }
    }

    fn values(&mut self) {
        if let Some(size) = self.config.shm_size.as_deref().filter(|size| bytes_of(size).is_none()) {
            self.error("shm_size", format!("`{size}` is no size"), Some("write bytes, or `64m`, `1g`"));
        }
        for (index, line) in self.config.extra_hosts.iter().enumerate() {
            if !line.contains(':') {
                self.error(&format!("extra_hosts[{index}]"), format!("`{line}` is not of the form NAME:ADDRESS"), None);
            }
        }
        let secrets =
            self.config.secrets.keys().chain(self.config.secret_files.keys()).chain(self.config.secret_env.keys());
        let mut ids: Vec<&String> = secrets.collect();
        ids.sort_unstable();
        if let Some(twice) = ids.windows(2).find(|pair| pair[0] == pair[1]) {
            let title = format!("the secret `{}` is given twice", twice[0]);
            self.error("secrets", title, Some("one of `secrets`, `secret_files`, `secret_env`"));
        }
        for name in self.config.build_args.keys() {
            let path = format!("build_args.{name}");
            if self.decoded.is_sensitive(&path) || self.decoded.is_sensitive("build_args") {
                let title = format!("`build_args` shows `{name}`, which is sensitive, in the image's history");
                self.found.push(
                    Diagnostic::warning("secret-in-image", self.decoded.span("build_args"), title)
                        .help("hand it over in `secrets`, and read it by `RUN --mount=type=secret,id=...`"),
                );
                break;
            }
        }
    }

    fn steps(&mut self) {
        if self.context.has_steps {
            if self.decoded.is_set("buildkitd") {
                let title = "steps need a container of the Docker engine, and `buildkitd` builds without one";
                self.error(
                    "buildkitd",
                    title,
                    Some("build it without steps, and go on in an `oci` source with `from = artifact.NAME.image`"),
                );
            }
            return;
        }
        if let Some(name) = machine_arguments().find(|name| self.decoded.is_set(name)) {
            self.warn(name, format!("`{name}` has no effect: the build has no steps"));
        }
    }

    fn daemon(&mut self) -> Option<DaemonAddress> {
        let config = self.config;
        let files = [
            ("buildkitd_ca", &config.buildkitd_ca),
            ("buildkitd_cert", &config.buildkitd_cert),
            ("buildkitd_key", &config.buildkitd_key),
        ];
        let Some(text) = config.buildkitd.as_deref().filter(|text| !text.is_empty()) else {
            if let Some((name, _)) = files.iter().find(|(_, file)| file.is_some()) {
                self.warn(name, format!("`{name}` has no effect without `buildkitd`"));
            }
            return None;
        };
        if self.decoded.is_set("platform_hosts") {
            let title = "`buildkitd` and `platform_hosts` exclude each other: one daemon builds for all platforms";
            self.error("platform_hosts", title, None);
        }
        let path = |file: &Option<PathBuf>| file.as_ref().map(|file| self.context.directory.join(file));
        let client = match (path(&config.buildkitd_cert), path(&config.buildkitd_key)) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            _ => {
                self.error("buildkitd", "`buildkitd_cert` and `buildkitd_key` belong together", None);
                None
            }
        };
        let has_tls = config.buildkitd_ca.is_some() || client.is_some();
        let tls = has_tls.then(|| TlsFiles { authority: path(&config.buildkitd_ca), client, ..TlsFiles::default() });
        match DaemonAddress::parse(text, tls) {
            Ok(address) => Some(address),
            Err(error) => {
                if !self.decoded.is_unknown("buildkitd") {
                    self.error("buildkitd", error.to_string(), None);
                }
                None
            }
        }
    }

    /// What shows in the files, where they are there: a checkout is not made for a check.
    fn files(&mut self) {
        if self.decoded.is_unknown("context") || self.decoded.is_unknown("dockerfile") {
            return;
        }
        let base = self.context.directory.clone();
        let context = match Origin::parse(&self.config.context, &base) {
            Origin::Path(path) => path,
            Origin::Git(_) => return,
        };
        let file = match &self.config.dockerfile_inline {
            Some(_) if self.decoded.is_unknown("dockerfile_inline") => return,
            Some(text) => Dockerfile::parse_for("dockerfile_inline", text, &self.config.build_args),
            None => match self.read(&context, &base) {
                Some(file) => file,
                None => return,
            },
        };
        self.found.extend(check::mistakes(&file));
        if let Some(target) = self.config.target.as_deref().filter(|_| !self.decoded.is_unknown("target"))
            && let Some((title, help)) = check::missing_target(&file, target)
        {
            self.error("target", title, Some(&help));
            return;
        }
        self.ignored_sources(&file, &context);
    }

    /// What the rules keep out of the context, as far as it shows which stages are built.
    fn ignored_sources(&mut self, file: &Dockerfile, context: &Path) {
        let config = self.config;
        let unknown = ["target", "build_args"].into_iter().any(|name| self.decoded.is_unknown(name));
        if unknown || !context.is_dir() {
            return;
        }
        let beside = || std::fs::read_to_string(format!("{}.dockerignore", file.name)).ok();
        let own = if config.dockerfile_inline.is_some() { None } else { beside() };
        // Rules that cannot be read are told by the build.
        if let Ok(Some(ignored)) = Ignored::of(&file.name, own.as_deref(), context) {
            self.found.extend(check::ignored_sources(file, &ignored, config.target.as_deref(), &config.build_args));
        }
    }

    fn read(&mut self, context: &Path, base: &Path) -> Option<Dockerfile> {
        let unless_there = |check: &mut Check<'_>, name: &str, title: String| {
            let diagnostic = Diagnostic::error("dockerfile-source", check.decoded.span(name), title);
            let diagnostic = check.context.unless_checked(diagnostic.help("it is relative to the template"));
            check.found.push(diagnostic);
        };
        if !context.exists() {
            unless_there(self, "context", format!("the context {} does not exist", context.display()));
            return None;
        }
        // A tar file is opened when it is built.
        if !context.is_dir() && self.config.dockerfile.is_none() {
            return None;
        }
        let path = dockerfile_path(self.config, base, context);
        match std::fs::read_to_string(&path) {
            Ok(text) => Some(Dockerfile::parse_for(&path.display().to_string(), &text, &self.config.build_args)),
            Err(_) if !context.is_dir() => None,
            Err(error) => {
                let title = format!("cannot read the Dockerfile {}: {error}", path.display());
                unless_there(self, if self.config.dockerfile.is_some() { "dockerfile" } else { "context" }, title);
                None
            }
        }
    }
}
