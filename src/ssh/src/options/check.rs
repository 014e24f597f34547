//! What the options mean together, and what is wrong with them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use kiln_core::{Decoded, Diagnostic, Diagnostics, PrepareContext, Secret, duration, suggest};

use super::raw::Raw;
use super::{
    BastionOptions, FileTransfer, KeySource, LoginOptions, Patience, ProxyKind, ProxyOptions, Reach, SshOptions,
};
use crate::algorithms;
use crate::keys::{self, KeyError, KeyKind};
use crate::pin::Pin;
use crate::process::SshProcess;
use crate::tunnel::Tunnel;

const TIMEOUT: Duration = Duration::from_secs(5 * 60);
const ATTEMPTS: u32 = 10;
const KEEP_ALIVE: Duration = Duration::from_secs(5);
const PROXY_PORT: u16 = 1080;

/// Looks at everything, then makes the options of it.
pub(super) fn read(
    config: &Decoded,
    process: &SshProcess,
    context: &PrepareContext,
    diagnostics: &mut Diagnostics,
) -> Option<SshOptions> {
    let raw: Raw = config.read_or_tell(diagnostics)?;
    let mut check = Check { config, process, context, found: Diagnostics::new() };
    let options = check.options(raw);
    let has_errors = check.found.has_errors();
    diagnostics.items.append(&mut check.found.items);
    (!has_errors).then_some(options)
}

struct Check<'a> {
    config: &'a Decoded,
    process: &'a SshProcess,
    context: &'a PrepareContext,
    found: Diagnostics,
}

impl Check<'_> {
    fn error(&mut self, path: &str, title: impl Into<String>) -> &mut Diagnostic {
        self.push(Diagnostic::error("ssh", self.config.span(path), title))
    }

    fn warn(&mut self, path: &str, title: impl Into<String>) -> &mut Diagnostic {
        self.push(Diagnostic::warning("ssh", self.config.span(path), title))
    }

    fn push(&mut self, diagnostic: Diagnostic) -> &mut Diagnostic {
        let index = self.found.items.len();
        self.found.push(diagnostic);
        &mut self.found.items[index]
    }

    fn options(&mut self, raw: Raw) -> SshOptions {
        let reach = self.reach(raw.communicator.as_deref());
        let is_ssh = reach == Reach::Ssh && !self.is_winrm(&raw);
        let login = self.login(&raw);
        let bastion_login = self.bastion_login(&raw, &login);
        let options = SshOptions {
            reach,
            pause_before_connecting: raw.pause_before_connecting.unwrap_or_default(),
            port: self.port("ssh_port", raw.ssh_port),
            login,
            lends_agent: self.lends_agent(&raw),
            temporary_key_kind: self.temporary_key_kind(&raw),
            clears_authorized_keys: raw.ssh_clear_authorized_keys,
            ciphers: self.algorithms("ssh_ciphers", &raw.ssh_ciphers, algorithms::CIPHERS),
            key_exchange: self.algorithms(
                "ssh_key_exchange_algorithms",
                &raw.ssh_key_exchange_algorithms,
                algorithms::KEY_EXCHANGES,
            ),
            pty: raw.ssh_pty,
            patience: self.patience(&raw),
            keep_alive: self.keep_alive(raw.ssh_keep_alive_interval.as_deref()),
            read_write_timeout: raw.ssh_read_write_timeout.filter(|timeout| !timeout.is_zero()),
            file_transfer: match raw.ssh_file_transfer_method.as_deref() {
                Some("sftp") => FileTransfer::Sftp,
                Some("scp") => FileTransfer::Scp,
                _ => FileTransfer::Tar,
            },
            bastions: self.bastions(&raw),
            bastion_login,
            proxy: self.proxy(&raw),
            local_tunnels: self.tunnels("ssh_local_tunnels", &raw.ssh_local_tunnels),
            remote_tunnels: self.tunnels("ssh_remote_tunnels", &raw.ssh_remote_tunnels),
            host_keys: self.pins("ssh_host_key", raw.ssh_host_key),
            bastion_host_keys: self.pins("ssh_bastion_host_key", raw.ssh_bastion_host_key),
            known_hosts_file: self.file("ssh_known_hosts_file", raw.ssh_known_hosts_file.as_deref()),
            accepts_any_host_key: raw.ssh_accept_any_host_key,
            config_file: self.file("ssh_config_file", raw.ssh_config_file.as_deref()),
            host: full(raw.ssh_host),
            user: full(raw.ssh_username),
            keypair_name: full(raw.ssh_keypair_name),
            temporary_key_pair_name: full(raw.temporary_key_pair_name),
        };
        if is_ssh {
            self.together(&options);
        }
        options
    }

    fn is_winrm(&self, raw: &Raw) -> bool {
        raw.communicator.as_deref() == Some("winrm")
    }

    fn reach(&mut self, name: Option<&str>) -> Reach {
        match name {
            None | Some("" | "ssh") => {}
            Some("none") => return Reach::None,
            Some("winrm") => {
                let title = "kiln does not have the communicator `winrm`";
                let error = Diagnostic::error("communicator", self.config.span("communicator"), title)
                    .label("a build of this source fails")
                    .help("Windows machines need Packer; those with an SSH server can be reached by `ssh`");
                self.found.push(self.context.unless_checked(error));
            }
            Some(other) => {
                let span = self.config.span("communicator");
                let error = Diagnostic::error("communicator", span, format!("there is no communicator `{other}`"));
                self.found.push(match suggest::nearest(other, ["ssh", "none", "winrm"]) {
                    Some(nearest) => error.value(span, format!("\"{nearest}\""), format!("did you mean `{nearest}`?")),
                    None => error.help("write `ssh` or `none`"),
                });
            }
        }
        Reach::Ssh
    }

    /// What does not go together.
    fn together(&mut self, options: &SshOptions) {
        if options.user.is_none() && options.config_file.is_none() && !self.config.is_set("ssh_username") {
            let error = Diagnostic::error("missing-argument", self.config.body_span(), "`ssh_username` is missing")
                .help("write the name of the user to log in as, such as `ssh_username = \"root\"`");
            self.found.push(error);
        }
        if !options.bastions.is_empty() && options.proxy.is_some() {
            let span = self.config.span("ssh_proxy_host");
            let error = Diagnostic::error("ssh", span, "either `ssh_bastion_host` or `ssh_proxy_host`, not both");
            self.found.push(error.also(self.config.span("ssh_bastion_host"), "the bastion"));
        }
        let logins =
            ["ssh_bastion_password", "ssh_bastion_private_key_file", "ssh_private_key_file", "ssh_private_key"];
        if !options.bastions.is_empty()
            && options.bastion_login.is_empty()
            && options.config_file.is_none()
            && !logins.iter().any(|name| self.config.is_unknown(name))
        {
            self.error("ssh_bastion_host", "there is no way to log in to the bastion").help = Some(
                "set one of `ssh_bastion_private_key_file`, `ssh_bastion_password`, `ssh_bastion_agent_auth`"
                    .to_owned(),
            );
        }
        let knows = [
            ("ssh_host_key", !options.host_keys.is_empty()),
            ("ssh_known_hosts_file", options.known_hosts_file.is_some()),
        ];
        if options.accepts_any_host_key
            && let Some((name, _)) = knows.iter().find(|(_, is_set)| *is_set)
        {
            let title = format!("either `ssh_accept_any_host_key` or `{name}`, not both");
            self.error("ssh_accept_any_host_key", title);
        }
        if options.login.certificate_file.is_some() && options.login.key.is_none() && !options.login.agent {
            let title = "`ssh_certificate_file` is without effect: there is no `ssh_private_key_file` that it is for";
            self.warn("ssh_certificate_file", title);
        }
    }

    fn login(&mut self, raw: &Raw) -> LoginOptions {
        let text = raw.ssh_private_key.as_ref().and_then(serde_json::Value::as_str).filter(|text| !text.is_empty());
        let file = self.key_file("ssh_private_key_file", raw.ssh_private_key_file.as_deref());
        if let Some(text) = text.filter(|_| !self.config.is_unknown("ssh_private_key"))
            && let Err(error) = keys::inspect(text)
        {
            self.error("ssh_private_key", format!("`ssh_private_key`: {error}"));
        }
        if text.is_some() && file.is_some() {
            self.error("ssh_private_key", "either `ssh_private_key` or `ssh_private_key_file`, not both");
        }
        let text = text.map(|text| KeySource::Text(Secret::new(text)));
        LoginOptions {
            password: raw.ssh_password.clone().filter(|password| !password.expose().is_empty()),
            key: file.map(KeySource::File).or(text),
            certificate_file: self.certificate_file("ssh_certificate_file", raw.ssh_certificate_file.as_deref()),
            agent: self.agent("ssh_agent_auth", raw.ssh_agent_auth),
            is_interactive: false,
        }
    }

    /// What the bastions have no login of their own for is that of the machine, as in Packer.
    fn bastion_login(&mut self, raw: &Raw, main: &LoginOptions) -> LoginOptions {
        let file = self.key_file("ssh_bastion_private_key_file", raw.ssh_bastion_private_key_file.as_deref());
        let certificate =
            self.certificate_file("ssh_bastion_certificate_file", raw.ssh_bastion_certificate_file.as_deref());
        let inherits = file.is_none();
        LoginOptions {
            password: raw.ssh_bastion_password.clone().filter(|password| !password.expose().is_empty()),
            key: file.map(KeySource::File).or_else(|| main.key.clone()),
            certificate_file: certificate.or_else(|| main.certificate_file.clone().filter(|_| inherits)),
            agent: self.agent("ssh_bastion_agent_auth", raw.ssh_bastion_agent_auth),
            is_interactive: raw.ssh_bastion_interactive,
        }
    }

    /// The agent is one of the surroundings: a template may well be checked where none runs.
    fn agent(&mut self, name: &str, is_wanted: bool) -> bool {
        // The configuration may name one.
        let is_configured = self.config.is_set("ssh_config_file");
        if is_wanted && !is_configured && self.process.agent().is_none() {
            let title = format!("`{name}` is set, and no agent runs: `SSH_AUTH_SOCK` is not set");
            let error = Diagnostic::error("ssh", self.config.span(name), title)
                .help("start one, `eval \"$(ssh-agent)\"; ssh-add`, or name a key by `ssh_private_key_file`");
            self.found.push(self.context.unless_checked(error));
        }
        is_wanted
    }

    fn lends_agent(&mut self, raw: &Raw) -> Option<bool> {
        if raw.ssh_agent_forwarding && raw.ssh_disable_agent_forwarding {
            self.error(
                "ssh_agent_forwarding",
                "`ssh_agent_forwarding` and `ssh_disable_agent_forwarding` are both set",
            );
        }
        let is_said = raw.ssh_agent_forwarding || raw.ssh_disable_agent_forwarding;
        is_said.then_some(!raw.ssh_disable_agent_forwarding)
    }

    fn temporary_key_kind(&mut self, raw: &Raw) -> KeyKind {
        let bits = raw.temporary_key_pair_bits.map(|bits| u32::try_from(bits).unwrap_or(1));
        match KeyKind::from_options(raw.temporary_key_pair_type.as_deref(), bits) {
            Ok(kind) => kind,
            Err(error) => {
                let field = match error {
                    KeyError::Bits { .. } => "temporary_key_pair_bits",
                    _ => "temporary_key_pair_type",
                };
                self.error(field, format!("`{field}`: {error}"));
                KeyKind::default()
            }
        }
    }

    /// Each has its default only where the other is not set.
    fn patience(&mut self, raw: &Raw) -> Patience {
        let timeout = raw.ssh_timeout.or(raw.ssh_wait_timeout).filter(|timeout| !timeout.is_zero());
        let attempts = raw.ssh_handshake_attempts.filter(|attempts| *attempts > 0);
        let attempts = attempts.map(|attempts| u32::try_from(attempts).unwrap_or(u32::MAX));
        match (timeout, attempts) {
            (None, None) => Patience { timeout: Some(TIMEOUT), attempts: Some(ATTEMPTS) },
            (timeout, attempts) => Patience { timeout, attempts },
        }
    }

    fn keep_alive(&mut self, text: Option<&str>) -> Option<Duration> {
        let Some(text) = text.filter(|text| !text.is_empty()) else { return Some(KEEP_ALIVE) };
        let is_off = text.starts_with('-');
        match duration::parse(text.trim_start_matches('-')) {
            Ok(_) if is_off => None,
            Ok(interval) if interval.is_zero() => Some(KEEP_ALIVE),
            Ok(interval) => Some(interval),
            Err(error) => {
                let name = "ssh_keep_alive_interval";
                self.found.push(duration::mistake(name, text, self.config.span(name), &error));
                None
            }
        }
    }

    fn bastions(&mut self, raw: &Raw) -> Vec<BastionOptions> {
        let port = self.port("ssh_bastion_port", raw.ssh_bastion_port);
        let Some(hosts) = raw.ssh_bastion_host.as_deref().filter(|hosts| !hosts.is_empty()) else { return Vec::new() };
        let mut bastions = Vec::new();
        for host in hosts.split(',') {
            match crate::address::parse_jump(host.trim()) {
                Some(jump) => bastions.push(BastionOptions {
                    port: jump.port.or(port),
                    user: jump.user.or_else(|| full(raw.ssh_bastion_username.clone())),
                    host: jump.host,
                }),
                None if self.config.is_unknown("ssh_bastion_host") => {}
                None => {
                    let title = format!("`ssh_bastion_host`: `{host}` is not of the form `[USER@]HOST[:PORT]`");
                    self.error("ssh_bastion_host", title);
                }
            }
        }
        bastions
    }

    fn proxy(&mut self, raw: &Raw) -> Option<ProxyOptions> {
        let host = full(raw.ssh_proxy_host.clone())?;
        let user = full(raw.ssh_proxy_username.clone());
        Some(ProxyOptions {
            kind: if raw.ssh_proxy_type.as_deref() == Some("http") { ProxyKind::Http } else { ProxyKind::Socks5 },
            host,
            port: self.port("ssh_proxy_port", raw.ssh_proxy_port).unwrap_or(PROXY_PORT),
            login: user.map(|user| (user, raw.ssh_proxy_password.clone().unwrap_or_default())),
        })
    }

    fn tunnels(&mut self, name: &str, texts: &[String]) -> Vec<Tunnel> {
        let mut tunnels = Vec::new();
        for (index, text) in texts.iter().enumerate() {
            let path = format!("{name}[{index}]");
            match text.parse::<Tunnel>() {
                Ok(tunnel) => tunnels.push(tunnel),
                Err(_) if self.config.is_unknown(&path) => {}
                Err(error) => {
                    self.error(&path, format!("`{name}`: {error}"));
                }
            }
        }
        tunnels
    }

    fn pins(&mut self, name: &str, texts: Vec<String>) -> Vec<String> {
        for (index, text) in texts.iter().enumerate() {
            let path = format!("{name}[{index}]");
            if let Err(error) = text.parse::<Pin>()
                && !self.config.is_unknown(&path)
            {
                self.error(&path, format!("`{name}`: {error}"));
            }
        }
        texts
    }

    fn algorithms(&mut self, name: &str, wanted: &[String], known: &[&str]) -> Vec<String> {
        for (index, algorithm) in wanted.iter().enumerate() {
            let path = format!("{name}[{index}]");
            if known.contains(&algorithm.as_str()) || self.config.is_unknown(&path) {
                continue;
            }
            let span = self.config.span(&path);
            let warning =
                Diagnostic::warning("ssh", span, format!("kiln does not have `{algorithm}`; it is not offered"));
            self.found.push(match suggest::nearest(algorithm, known.iter().copied()) {
                Some(nearest) => warning.value(span, format!("\"{nearest}\""), format!("did you mean `{nearest}`?")),
                None => warning.help(format!("those it has: {}", known.join(", "))),
            });
        }
        let usable: Vec<String> = wanted.iter().filter(|name| known.contains(&name.as_str())).cloned().collect();
        let all_known = wanted.is_empty() || self.config.is_unknown(name);
        if usable.is_empty() && !all_known {
            self.error(name, format!("none of `{name}` is one that kiln has"));
        }
        usable
    }

    fn port(&mut self, name: &str, port: Option<i64>) -> Option<u16> {
        // 0 is "not set" in Packer.
        let port = port.filter(|port| *port != 0)?;
        let valid = u16::try_from(port).ok();
        if valid.is_none() {
            self.error(name, format!("`{name}`: {port} is not a port; ports go from 1 to 65535"));
        }
        valid
    }

    fn file(&mut self, name: &str, text: Option<&str>) -> Option<PathBuf> {
        let path = self.path(name, text)?;
        if !path.is_file() {
            self.missing(name, &path, None);
        }
        Some(path)
    }

    fn path(&self, name: &str, text: Option<&str>) -> Option<PathBuf> {
        let text = text.filter(|text| !text.is_empty() && !self.config.is_unknown(name))?;
        Some(self.process.path(text))
    }

    fn missing(&mut self, name: &str, path: &Path, error: Option<std::io::Error>) {
        let path = self.process.shown(path);
        let why = error.map_or_else(|| "there is no such file".to_owned(), |error| error.to_string());
        self.error(name, format!("`{name}`: cannot read {path}: {why}"));
    }

    fn key_file(&mut self, name: &str, text: Option<&str>) -> Option<PathBuf> {
        let path = self.path(name, text)?;
        match std::fs::read_to_string(&path) {
            Ok(content) => {
                if let Err(error) = keys::inspect(&content) {
                    let shown = self.process.shown(&path);
                    self.error(name, format!("`{name}`: {shown}: {error}"));
                }
            }
            Err(error) => self.missing(name, &path, Some(error)),
        }
        Some(path)
    }

    fn certificate_file(&mut self, name: &str, text: Option<&str>) -> Option<PathBuf> {
        let path = self.path(name, text)?;
        match std::fs::read_to_string(&path) {
            Ok(content) => {
                if let Err(error) = keys::check_certificate(&content) {
                    let shown = self.process.shown(&path);
                    self.error(name, format!("`{name}`: {shown}: {error}"));
                }
            }
            Err(error) => self.missing(name, &path, Some(error)),
        }
        Some(path)
    }
}

/// An empty text is no value.
fn full(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}
