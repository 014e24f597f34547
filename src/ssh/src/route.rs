//! The way to a machine: which hosts it leads through, and how each lets in. Options of the template come first, then what
//! the builder knows, then an OpenSSH configuration.

use std::path::PathBuf;
use std::time::Duration;

use kiln_core::{BuildContext, Failure, Secret};

use crate::address::parse_jump;
use crate::algorithms;
use crate::config_file::{ConfigFile, ForwardAgent, HostConfig, Tokens, expand, files};
use crate::connect::Endpoint;
use crate::interactive;
use crate::keyring::{self, Keyring, LoadedKey};
use crate::known_hosts::HostName;
use crate::login::{Way, password_responder};
use crate::options::{DEFAULT_PORT, LoginOptions, ProxyOptions, SshOptions};
use crate::policy::HostKeyPolicy;
use crate::process::SshProcess;
use crate::session::{LoginMethod, SessionSettings};
use crate::trust::Trust;

/// How long one TCP connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// How long one key exchange may take, as in Packer.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(60);
/// Below that, a peer is not taken for dead: it may be busy.
const DEAD_AFTER: Duration = Duration::from_secs(30);
/// More bastions than anybody has.
const MOST_HOPS: usize = 10;

/// A host to log in to.
#[derive(Debug)]
pub(crate) struct Hop {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) user: String,
    pub(crate) ways: Vec<Way>,
    pub(crate) trust: Trust,
    pub(crate) ciphers: Vec<String>,
    pub(crate) key_exchange: Vec<String>,
    /// For programs of this host that log in by themselves.
    pub(crate) identity: Option<Identity>,
    pub(crate) password: Option<Secret>,
    /// The socket of the agent that it may ask.
    pub(crate) lent_agent: Option<PathBuf>,
}

/// A key, with its certificate.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) key: LoadedKey,
    pub(crate) certificate: Option<String>,
}

impl Hop {
    /// `host`, or `host:port`.
    pub(crate) fn label(&self) -> String {
        HostName::new(&self.host, self.port).for_people()
    }
}

/// How the first host is reached.
#[derive(Debug)]
pub(crate) enum FirstLeg {
    Direct,
    Proxy(ProxyOptions),
    /// What `ProxyCommand` runs.
    Command(String),
}

/// The whole way.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) first: FirstLeg,
    pub(crate) bastions: Vec<Hop>,
    pub(crate) machine: Hop,
    pub(crate) connect_timeout: Duration,
    pub(crate) settings: SessionSettings,
}

impl Route {
    /// Whether nothing stands between this host and the machine.
    pub(crate) fn is_direct(&self) -> bool {
        matches!(self.first, FirstLeg::Direct) && self.bastions.is_empty()
    }
}

/// A host as options and configurations name it.
struct Stop {
    name: String,
    user: Option<String>,
    port: Option<u16>,
    config: HostConfig,
}

/// Plans the way. Keys are read, and passphrases asked for, here and once.
pub(crate) async fn plan(
    options: &SshOptions,
    endpoint: &Endpoint,
    process: &SshProcess,
    context: &BuildContext,
) -> Result<Route, Failure> {
    let file = match &options.config_file {
        Some(path) => ConfigFile::read(path, process).map_err(Failure::environment)?,
        None => ConfigFile::default(),
    };
    let mut planner = Planner { options, endpoint, file, keyring: Keyring::new(process, context), process };
    planner.plan().await
}

struct Planner<'a> {
    options: &'a SshOptions,
    endpoint: &'a Endpoint,
    file: ConfigFile,
    keyring: Keyring<'a>,
    process: &'a SshProcess,
}

impl Planner<'_> {
    async fn plan(&mut self) -> Result<Route, Failure> {
        let options = self.options;
        let user = self.endpoint.user.clone().or_else(|| options.user.clone());
        let machine = self.stop(&self.endpoint.host, user, self.endpoint.port.or(options.port));
        self.warn(&machine);
        let mut stops = self.jumps(&machine)?;
        let first = stops.first().unwrap_or(&machine);
        let first = match (&options.proxy, &first.config.proxy_command) {
            (Some(proxy), _) => FirstLeg::Proxy(proxy.clone()),
            (None, Some(command)) if options.bastions.is_empty() && command != "none" => {
                let host = first.config.host_name.clone().unwrap_or_else(|| first.name.clone());
                FirstLeg::Command(self.expand(command, first, &host))
            }
            _ => FirstLeg::Direct,
        };
        let connect_timeout = machine.config.connect_timeout.unwrap_or(CONNECT_TIMEOUT);
        let machine = self.machine(machine).await?;
        let mut bastions = Vec::new();
        for stop in stops.drain(..) {
            bastions.push(self.bastion(stop, &machine.user).await?);
        }
        Ok(Route { first, bastions, machine, connect_timeout, settings: self.settings() })
    }

    fn settings(&self) -> SessionSettings {
        let keep_alive = self.options.keep_alive;
        SessionSettings {
            handshake_timeout: HANDSHAKE_TIMEOUT,
            keep_alive,
            // Three signs of life may be lost on the way.
            dead_after: keep_alive.map_or(DEAD_AFTER, |interval| DEAD_AFTER.max(interval * 4)),
            read_write_timeout: self.options.read_write_timeout,
            ..SessionSettings::default()
        }
    }

    fn stop(&self, name: &str, user: Option<String>, port: Option<u16>) -> Stop {
        let config = self.file.host(name, user.as_deref(), self.process.user());
        Stop { name: name.to_owned(), user, port, config }
    }

    /// The hosts before one, in order.
    fn jumps(&self, machine: &Stop) -> Result<Vec<Stop>, Failure> {
        let options = self.options;
        let mut stops: Vec<Stop> = options
            .bastions
            .iter()
            .map(|bastion| self.stop(&bastion.host, bastion.user.clone(), bastion.port))
            .collect();
        if options.proxy.is_some() {
            return Ok(stops);
        }
        // What leads to the first of them.
        loop {
            let first = stops.first().unwrap_or(machine);
            let Some(list) = first.config.proxy_jump.as_deref().filter(|list| *list != "none") else {
                return Ok(stops);
            };
            let mut before = Vec::new();
            for text in list.split(',') {
                let jump = parse_jump(&self.expand(text.trim(), first, &first.name)).ok_or_else(|| {
                    Failure::environment(format!("`ProxyJump {list}` is not of the form `[USER@]HOST[:PORT]`"))
                })?;
                before.push(self.stop(&jump.host, jump.user, jump.port));
            }
            before.append(&mut stops);
            stops = before;
            if stops.len() > MOST_HOPS {
                let error = format!("the way to {} leads through more than {MOST_HOPS} hosts", machine.name);
                return Err(Failure::environment(error).hint("does a `ProxyJump` lead back to where it came from?"));
            }
        }
    }

    /// What a configuration says and kiln does not heed.
    fn warn(&self, stop: &Stop) {
        let events = &self.keyring.context.events;
        stop.config.warnings.iter().for_each(|warning| events.warn(warning.clone()));
        let policy = stop.config.strict_host_key_checking.as_deref();
        if matches!(policy, Some("no" | "off" | "accept-new")) && !self.options.accepts_any_host_key {
            events.warn(
                "`StrictHostKeyChecking` of the SSH configuration is not heeded: unknown keys are accepted only with \
                 `ssh_accept_any_host_key = true`",
            );
        }
    }

    async fn machine(&mut self, stop: Stop) -> Result<Hop, Failure> {
        let mut ways = Vec::new();
        let mut identity = None;
        if let Some(text) = &self.endpoint.key {
            let key = LoadedKey { text: text.clone(), passphrase: None, file: None };
            ways.push(key.way("the key of this build".to_owned(), None));
            identity = Some(Identity { key, certificate: None });
        }
        let policy = self.machine_policy(&stop);
        let login = self.options.login.clone();
        let lent_agent = self.lent_agent(&stop).await;
        let hop = self.hop(stop, &login, policy, None, ways, identity).await?;
        Ok(Hop { lent_agent, ..hop })
    }

    /// The agent that commands on the machine may ask, where the template or the configuration says so.
    async fn lent_agent(&self, stop: &Stop) -> Option<PathBuf> {
        // As with OpenSSH, that is the one whose keys log in, unless another one is named.
        let (wanted, socket) = match (self.options.lends_agent, &stop.config.forward_agent) {
            (Some(false), _) | (None, None | Some(ForwardAgent::No)) => return None,
            (None, Some(ForwardAgent::At(path))) => (path.as_str(), self.socket(path, stop, &stop.name)),
            (Some(true), _) | (None, Some(ForwardAgent::Yes)) => {
                let named = stop.config.identity_agent.as_deref();
                (named.unwrap_or("$SSH_AUTH_SOCK"), self.agent(stop, &stop.name))
            }
        };
        // A socket that nobody listens at any more is there still.
        if let Some(socket) = socket
            && tokio::net::UnixStream::connect(&socket).await.is_ok()
        {
            return Some(socket);
        }
        let events = &self.keyring.context.events;
        events.warn(format!("commands on the machine are to use the SSH agent at `{wanted}`, and there is none"));
        None
    }

    async fn bastion(&mut self, stop: Stop, machine_user: &str) -> Result<Hop, Failure> {
        let options = self.options;
        let policy = if options.accepts_any_host_key {
            HostKeyPolicy::AcceptAny
        } else if !options.bastion_host_keys.is_empty() {
            HostKeyPolicy::Pinned(options.bastion_host_keys.clone())
        } else {
            self.known_hosts(&stop)
        };
        let login = options.bastion_login.clone();
        self.hop(stop, &login, policy, Some(machine_user), Vec::new(), None).await
    }

    fn machine_policy(&self, stop: &Stop) -> HostKeyPolicy {
        let options = self.options;
        if options.accepts_any_host_key {
            return HostKeyPolicy::AcceptAny;
        }
        if !options.host_keys.is_empty() {
            return HostKeyPolicy::Pinned(options.host_keys.clone());
        }
        match &self.endpoint.host_keys {
            Some(policy) if options.known_hosts_file.is_none() => policy.clone(),
            _ => self.known_hosts(stop),
        }
    }

    fn known_hosts(&self, stop: &Stop) -> HostKeyPolicy {
        if let Some(file) = &self.options.known_hosts_file {
            return HostKeyPolicy::KnownHosts(vec![file.clone()]);
        }
        let config = &stop.config;
        if config.user_known_hosts.is_none() && config.global_known_hosts.is_none() {
            return HostKeyPolicy::KnownHosts(self.process.known_hosts());
        }
        let defaults = self.process.known_hosts();
        let (global, user): (Vec<PathBuf>, Vec<PathBuf>) =
            defaults.into_iter().partition(|path| path.starts_with("/etc"));
        let host = config.host_name.clone().unwrap_or_else(|| stop.name.clone());
        let resolve = |list: &Option<Vec<String>>, default: Vec<PathBuf>| match list {
            Some(list) => files(list, &self.tokens(stop, &host)),
            None => default,
        };
        let mut paths = resolve(&config.user_known_hosts, user);
        paths.extend(resolve(&config.global_known_hosts, global));
        HostKeyPolicy::KnownHosts(paths)
    }

    async fn hop(
        &mut self,
        stop: Stop,
        login: &LoginOptions,
        policy: HostKeyPolicy,
        user: Option<&str>,
        mut ways: Vec<Way>,
        mut identity: Option<Identity>,
    ) -> Result<Hop, Failure> {
        let config = &stop.config;
        let host =
            config.host_name.as_deref().map_or_else(|| stop.name.clone(), |name| self.expand(name, &stop, &stop.name));
        let port = stop.port.or(config.port).unwrap_or(DEFAULT_PORT);
        let login_name = stop.user.clone().or_else(|| config.user.clone()).or_else(|| user.map(str::to_owned));
        let local_user = || self.process.user().filter(|_| self.options.config_file.is_some()).map(str::to_owned);
        let Some(login_name) = login_name.or_else(local_user) else {
            let error = format!("it is not said who logs in to {host}");
            return Err(Failure::new(kiln_core::FailureClass::Template, error).hint("set `ssh_username`"));
        };
        let known_as = match &config.host_key_alias {
            Some(alias) => HostName::new(alias, DEFAULT_PORT),
            None => HostName::new(&host, port),
        };
        if let Some(source) = &login.key {
            let key = self.keyring.load(source).await?;
            let certificate = self.certificate(login.certificate_file.as_ref())?;
            ways.push(key.way(self.key_label(&key), certificate.clone()));
            identity = identity.or(Some(Identity { key, certificate }));
        }
        if login.agent {
            ways.extend(agent_way(self.agent(&stop, &host)));
        }
        if self.options.config_file.is_some() {
            self.configured(&stop, &host, &mut ways, &mut identity).await?;
        }
        let password = login.password.clone();
        if let Some(password) = &password {
            ways.push(Way { label: "password".to_owned(), method: LoginMethod::Password(password.clone()) });
            let responder = password_responder(password.clone());
            let label = "password (keyboard-interactive)".to_owned();
            ways.push(Way { label, method: LoginMethod::KeyboardInteractive(responder) });
        }
        if login.is_interactive {
            let responder = interactive::responder(self.keyring.context, &host);
            ways.push(Way { label: "answers".to_owned(), method: LoginMethod::KeyboardInteractive(responder) });
        }
        let ciphers = choose(&self.options.ciphers, config.ciphers.as_deref(), algorithms::SAFE_CIPHERS);
        let key_exchange =
            choose(&self.options.key_exchange, config.key_exchange.as_deref(), algorithms::SAFE_KEY_EXCHANGES);
        let trust = Trust::new(policy, known_as);
        let lent_agent = None;
        Ok(Hop { host, port, user: login_name, ways, trust, ciphers, key_exchange, identity, password, lent_agent })
    }

    /// The agent that has keys for a host.
    fn agent(&self, stop: &Stop, host: &str) -> Option<PathBuf> {
        match stop.config.identity_agent.as_deref() {
            Some("none") => None,
            Some("SSH_AUTH_SOCK") | None => self.process.agent(),
            Some(path) => self.socket(path, stop, host),
        }
    }

    /// A socket that a configuration names: by a path, or by a variable that holds one (`$NAME`).
    fn socket(&self, written: &str, stop: &Stop, host: &str) -> Option<PathBuf> {
        match written.strip_prefix('$').filter(|name| !name.starts_with('{')) {
            Some(name) => self.process.variable(name).map(PathBuf::from),
            None => Some(self.process.path(&self.expand(written, stop, host))),
        }
    }

    /// What a configuration has for logging in, or `ssh` itself would try.
    async fn configured(
        &mut self,
        stop: &Stop,
        host: &str,
        ways: &mut Vec<Way>,
        identity: &mut Option<Identity>,
    ) -> Result<(), Failure> {
        let config = &stop.config;
        let names: Vec<String> = if config.identity_files.is_empty() && ways.is_empty() {
            ["id_ed25519", "id_ecdsa", "id_rsa"].map(|name| format!("~/.ssh/{name}")).to_vec()
        } else {
            config.identity_files.clone()
        };
        let paths = files(&names, &self.tokens(stop, host));
        let certificates = files(&config.certificate_files, &self.tokens(stop, host));
        let agent = self.agent(stop, host).filter(|socket| socket.exists() && config.identities_only != Some(true));
        for path in paths.iter().filter(|path| path.is_file()) {
            // The agent most likely has it; asking for its passphrase is the last resort.
            if agent.is_some() && !Keyring::is_open(path) {
                continue;
            }
            let key = self.keyring.load_file(path).await?;
            let beside =
                path.with_file_name(format!("{}-cert.pub", path.file_name().unwrap_or_default().to_string_lossy()));
            let certificate = certificates.first().cloned().or_else(|| beside.is_file().then_some(beside));
            let certificate = self.certificate(certificate.as_ref())?;
            ways.push(key.way(self.key_label(&key), certificate.clone()));
            identity.get_or_insert(Identity { key, certificate });
        }
        if !ways.iter().any(|way| matches!(way.method, LoginMethod::Agent { .. })) {
            ways.extend(agent_way(agent));
        }
        Ok(())
    }

    fn certificate(&self, path: Option<&PathBuf>) -> Result<Option<String>, Failure> {
        path.map(|path| keyring::read(path, &self.process.shown(path)).map(|text| text.trim().to_owned())).transpose()
    }

    fn key_label(&self, key: &LoadedKey) -> String {
        let file = key.file.as_ref().map(|file| format!("key {}", self.process.shown(file)));
        file.unwrap_or_else(|| "`ssh_private_key`".to_owned())
    }

    fn tokens<'t>(&'t self, stop: &'t Stop, host: &'t str) -> Tokens<'t> {
        let user = stop.user.as_deref().or(stop.config.user.as_deref()).or(self.process.user()).unwrap_or_default();
        let port = stop.port.or(stop.config.port).unwrap_or(DEFAULT_PORT);
        Tokens { host, name: &stop.name, port, user, process: self.process }
    }

    fn expand(&self, value: &str, stop: &Stop, host: &str) -> String {
        expand(value, &self.tokens(stop, host))
    }
}

fn agent_way(socket: Option<PathBuf>) -> Option<Way> {
    socket.map(|socket| Way { label: "the agent's keys".to_owned(), method: LoginMethod::Agent { socket } })
}

/// A list of the template, or of a configuration, or our own.
fn choose(template: &[String], config: Option<&[String]>, own: &[&str]) -> Vec<String> {
    if !template.is_empty() {
        return template.to_vec();
    }
    match config {
        Some(list) if !list.is_empty() => list.to_vec(),
        _ => own.iter().map(|name| (*name).to_owned()).collect(),
    }
}
