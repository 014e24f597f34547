//! One build, from the arguments to an image.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kiln_buildkit::{CacheEntry, Directory, Progress, Request, SecretSource, Session, Transport, solve};
use kiln_core::{BuildContext, Failure, Secret, Stream};

use crate::builder::DockerfileBuilder;
use crate::check::{self, Ignored};
use crate::config::{Config, Pull};
use crate::context::{Origin, tidy};
use crate::dockerfile::Dockerfile;
use crate::fault;
use crate::labels::labels;
use crate::logins::SourceLogins;
use crate::named::Named;

/// What the Dockerfile is called where the template holds its text.
const INLINE: &str = "dockerfile_inline";

/// What a build reads, opened.
pub(crate) struct Opened {
    pub(crate) file: Dockerfile,
    /// The Dockerfile's own name, without its directory.
    pub(crate) file_name: String,
    /// The context's directory.
    pub(crate) context: PathBuf,
    /// Rules of a `NAME.dockerignore` beside the Dockerfile.
    pub(crate) own_rules: Option<String>,
}

impl DockerfileBuilder {
    /// Opens the context and reads the Dockerfile.
    pub(crate) async fn open(&self, context: &BuildContext) -> Result<Opened, Failure> {
        let environment = &self.settings.credentials.environment;
        let directory = Origin::parse(&self.config.context, &self.directory).open(environment, context).await?;
        let (config, base) = (Arc::clone(&self.config), self.directory.clone());
        let opened = tokio::task::spawn_blocking(move || read(&config, &base, directory)).await;
        opened.map_err(Failure::build)?
    }

    /// Refuses what cannot be built, before anything is sent.
    pub(crate) fn check(&self, opened: &Opened) -> Result<(), Failure> {
        let file = &opened.file;
        if let Some(diagnostic) = check::mistakes(file).first() {
            return Err(fault::failure(diagnostic));
        }
        if let Some((title, help)) =
            self.config.target.as_deref().and_then(|target| check::missing_target(file, target))
        {
            return Err(Failure::build(title).hint(help));
        }
        let ignored = Ignored::of(&file.name, opened.own_rules.as_deref(), &opened.context);
        let Some(ignored) = ignored.map_err(Failure::build)? else { return Ok(()) };
        let Config { target, build_args, .. } = &*self.config;
        match check::ignored_sources(file, &ignored, target.as_deref(), build_args).first() {
            Some(diagnostic) => Err(fault::failure(diagnostic)),
            None => Ok(()),
        }
    }

    /// What BuildKit may ask for.
    pub(crate) async fn session(
        &self,
        opened: &Opened,
        text: &str,
        context: &BuildContext,
    ) -> Result<Session, Failure> {
        let config = &self.config;
        let origin = Origin::parse(&config.context, &self.directory);
        let mut session = Session::new(&self.session_key(&origin.key()).await);
        session.logins = Arc::new(self.logins(context));
        let mut files = vec![(opened.file_name.clone(), Arc::from(text.as_bytes()))];
        if let Some(rules) = &opened.own_rules {
            files.push((format!("{}.dockerignore", opened.file_name), Arc::from(rules.as_bytes())));
        }
        session.directories.insert("dockerfile".to_owned(), Directory::Files(files));
        session.directories.insert("context".to_owned(), Directory::Path(opened.context.clone()));
        session.secrets = self.secrets(context)?;
        for agent in &config.ssh {
            let (id, socket) = agent.split_once('=').unwrap_or((agent, ""));
            let socket = match socket {
                "" => {
                    self.settings.credentials.environment.get("SSH_AUTH_SOCK").filter(|path| !path.is_empty()).cloned()
                }
                path => Some(path.to_owned()),
            };
            let socket = socket.ok_or_else(|| {
                Failure::environment(format!("`ssh` lends the agent `{id}`, and SSH_AUTH_SOCK is not set")).hint(
                    "start one with `eval $(ssh-agent)` and `ssh-add`, or name its socket: `ssh = [\"default=/path\"]`",
                )
            })?;
            session.agents.insert(id.to_owned(), socket.into());
        }
        Ok(session)
    }

    /// What tells directories of this host from those of others.
    pub(crate) async fn session_key(&self, directory: &str) -> String {
        format!("{} {directory}", this_host().await)
    }

    pub(crate) fn logins(&self, context: &BuildContext) -> SourceLogins {
        SourceLogins::new(&self.config, self.settings.credentials.clone(), Arc::clone(&context.redactor))
    }

    fn secrets(&self, context: &BuildContext) -> Result<BTreeMap<String, SecretSource>, Failure> {
        let config = &self.config;
        let mut secrets = BTreeMap::new();
        for (id, value) in &config.secrets {
            context.redactor.add(value.expose());
            secrets.insert(id.clone(), SecretSource::Value(value.clone()));
        }
        for (id, name) in &config.secret_env {
            let value = self.settings.credentials.environment.get(name).ok_or_else(|| {
                Failure::environment(format!("the secret `{id}` is the variable {name}, which is not set"))
            })?;
            context.redactor.add(value);
            secrets.insert(id.clone(), SecretSource::Value(Secret::new(value)));
        }
        for (id, path) in &config.secret_files {
            let path = self.directory.join(path);
            // One that cannot be read is told where a step asks for it.
            if let Ok(text) = std::fs::read_to_string(&path) {
                context.redactor.add(&text);
            }
            secrets.insert(id.clone(), SecretSource::File(path));
        }
        Ok(secrets)
    }

    /// What the frontend is told.
    pub(crate) fn request(&self, opened: &Opened, context: &BuildContext) -> Request {
        let config = &self.config;
        let mut options = BTreeMap::from([("filename".to_owned(), opened.file_name.clone())]);
        let mut set = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                options.insert(name.to_owned(), value);
            }
        };
        set("target", config.target.clone());
        set("platform", config.platform.clone());
        set("no-cache", config.no_cache.then(String::new));
        set("image-resolve-mode", (config.pull == Pull::Always).then(|| "local".to_owned()));
        let network = config.network.clone().filter(|network| !matches!(network.as_str(), "" | "default"));
        set("force-network-mode", network.clone());
        let hosts: Vec<String> = config.extra_hosts.iter().map(|line| line.replacen(':', "=", 1)).collect();
        set("add-hosts", (!hosts.is_empty()).then(|| hosts.join(",")));
        set("shm-size", config.shm_size.as_deref().and_then(bytes_of).map(|size| size.to_string()));
        set("ulimit", (!config.ulimit.is_empty()).then(|| config.ulimit.join(",")));
        for (name, value) in &config.build_args {
            set(&format!("build-arg:{name}"), Some(value.clone()));
        }
        for (name, value) in labels(&config.labels, config.kiln_labels, context) {
            set(&format!("label:{name}"), Some(value));
        }
        Request {
            frontend: "dockerfile.v0".to_owned(),
            options,
            cache_from: config.cache_from.iter().map(|text| cache_entry(text)).collect(),
            cache_to: config.cache_to.iter().map(|text| cache_entry(text)).collect(),
            entitlements: network
                .filter(|network| network == "host")
                .map(|_| "network.host".to_owned())
                .into_iter()
                .collect(),
            ..Request::default()
        }
    }

    /// Solves it, with the news as events.
    pub(crate) async fn solve(
        &self,
        transport: &Transport,
        session: Session,
        request: Request,
        (file, named): (&Dockerfile, &Named),
        context: &BuildContext,
    ) -> Result<BTreeMap<String, String>, Failure> {
        let sent = session.sent.clone();
        let events = &context.events;
        let mut tell = |progress: Progress| match progress {
            Progress::Started(step) => events.message(named.shown(step)),
            Progress::Cached(step) => events.message(format!("CACHED {}", named.shown(step))),
            Progress::Line { is_error, text, .. } => {
                events.output(if is_error { Stream::Stderr } else { Stream::Stdout }, text);
            }
            Progress::Transfer { item, current, total } => events.progress(named.shown(item), "", current, total),
            Progress::Warning(text) => events.warn(named.shown(text)),
        };
        let answer = context.unless_cancelled(solve(transport, session, request, &mut tell)).await?;
        if sent.files() > 0 {
            let (files, bytes) = (sent.files(), sent.bytes());
            events.message(format!("sent {bytes} bytes of {files} file{}", if files == 1 { "" } else { "s" }));
        }
        let images = named.images(file, &self.config.build_args);
        answer.map_err(|error| fault::of_solve(error, file, &images, &|text| named.shown(text)))
    }
}

fn read(config: &Config, base: &Path, context: PathBuf) -> Result<Opened, Failure> {
    if let Some(text) = &config.dockerfile_inline {
        let file = Dockerfile::parse_for(INLINE, text, &config.build_args);
        return Ok(Opened { file, file_name: "Dockerfile".to_owned(), context, own_rules: None });
    }
    let path = dockerfile_path(config, base, &context);
    let text = std::fs::read_to_string(&path).map_err(|error| {
        Failure::build(format!("cannot read the Dockerfile {}: {error}", path.display()))
            .hint("`dockerfile` is relative to the template, or else to the context")
    })?;
    let own_rules = std::fs::read_to_string(format!("{}.dockerignore", path.display())).ok();
    let file_name = path.file_name().map_or("Dockerfile".into(), |name| name.to_string_lossy().into_owned());
    let file = Dockerfile::parse_for(&path.display().to_string(), &text, &config.build_args);
    Ok(Opened { file, file_name, context, own_rules })
}

/// Beside the template where it is there, else in the context.
pub(crate) fn dockerfile_path(config: &Config, base: &Path, context: &Path) -> PathBuf {
    match &config.dockerfile {
        None => tidy(&context.join("Dockerfile")),
        Some(given) => {
            let beside = base.join(given);
            tidy(&if beside.is_file() { beside } else { context.join(given) })
        }
    }
}

/// `128m` in bytes.
pub(crate) fn bytes_of(text: &str) -> Option<u64> {
    let text = text.trim().to_ascii_lowercase();
    let text = text.strip_suffix('b').unwrap_or(&text);
    let (number, power) = match text.chars().last()? {
        'k' => (&text[..text.len() - 1], 10),
        'm' => (&text[..text.len() - 1], 20),
        'g' => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    number.parse::<u64>().ok()?.checked_mul(1 << power)
}

/// `type=registry,ref=NAME`, or just the name.
pub(crate) fn cache_entry(text: &str) -> CacheEntry {
    if !text.contains('=') {
        let attributes = BTreeMap::from([("ref".to_owned(), text.to_owned())]);
        return CacheEntry { kind: "registry".to_owned(), attributes };
    }
    let mut entry = CacheEntry::default();
    for (name, value) in text.split(',').filter_map(|pair| pair.trim().split_once('=')) {
        match name {
            "type" => entry.kind = value.to_owned(),
            name => _ = entry.attributes.insert(name.to_owned(), value.to_owned()),
        }
    }
    entry
}

/// Tells this host from others whose files lie at the same paths.
async fn this_host() -> String {
    let mut name = String::new();
    // Where neither can be read, contexts are told apart by their paths alone.
    for path in ["/etc/machine-id", "/proc/sys/kernel/hostname"] {
        name.push_str(tokio::fs::read_to_string(path).await.unwrap_or_default().trim());
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_caches_are_read() {
        assert_eq!(bytes_of("128m"), Some(128 << 20));
        assert_eq!(bytes_of("64KB"), Some(64 << 10));
        assert_eq!(bytes_of("12"), Some(12));
        assert_eq!(bytes_of("many"), None);
        assert_eq!(cache_entry("host/app:cache").attributes["ref"], "host/app:cache");
        let entry = cache_entry("type=registry,ref=host/app,mode=max");
        assert_eq!((entry.kind.as_str(), entry.attributes["mode"].as_str()), ("registry", "max"));
    }
}
