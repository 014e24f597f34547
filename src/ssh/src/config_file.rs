//! OpenSSH's client configuration, `~/.ssh/config`: what of it says how a host is reached.
//!
//! As in OpenSSH, the first value that is found for an option holds. What concerns only a person at a terminal is passed
//! over; commands that a configuration wants run to decide whether it applies (`Match exec`) are not run.

mod read;
mod tokens;

use std::path::PathBuf;
use std::time::Duration;

pub(crate) use read::ConfigError;
use read::Line;
pub(crate) use tokens::{Tokens, expand};

use crate::pattern;
use crate::process::SshProcess;

/// A configuration, its `Include`s read.
#[derive(Debug, Clone, Default)]
pub(crate) struct ConfigFile {
    lines: Vec<Line>,
}

/// What a configuration says of one host; nothing in it is resolved yet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct HostConfig {
    pub(crate) host_name: Option<String>,
    pub(crate) user: Option<String>,
    pub(crate) port: Option<u16>,
    pub(crate) identity_files: Vec<String>,
    pub(crate) certificate_files: Vec<String>,
    pub(crate) identities_only: Option<bool>,
    pub(crate) identity_agent: Option<String>,
    pub(crate) proxy_jump: Option<String>,
    pub(crate) proxy_command: Option<String>,
    pub(crate) user_known_hosts: Option<Vec<String>>,
    pub(crate) global_known_hosts: Option<Vec<String>>,
    pub(crate) host_key_alias: Option<String>,
    pub(crate) strict_host_key_checking: Option<String>,
    pub(crate) ciphers: Option<Vec<String>>,
    pub(crate) key_exchange: Option<Vec<String>>,
    pub(crate) connect_timeout: Option<Duration>,
    pub(crate) alive_interval: Option<Duration>,
    pub(crate) forward_agent: Option<ForwardAgent>,
    /// Things that this does not heed and that matter, one sentence each.
    pub(crate) warnings: Vec<String>,
}

/// `ForwardAgent`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ForwardAgent {
    No,
    /// The agent at `SSH_AUTH_SOCK`.
    Yes,
    /// The agent at this path, or at that of a variable (`$NAME`).
    At(String),
}

impl ForwardAgent {
    fn read(value: &str) -> ForwardAgent {
        match value.to_ascii_lowercase().as_str() {
            "no" | "false" => ForwardAgent::No,
            "yes" | "true" => ForwardAgent::Yes,
            _ => ForwardAgent::At(value.to_owned()),
        }
    }
}

impl ConfigFile {
    /// Reads a file and what it includes.
    ///
    /// # Errors
    /// A file cannot be read, a line has no value, or files include each other without end.
    pub(crate) fn read(path: &std::path::Path, process: &SshProcess) -> Result<ConfigFile, ConfigError> {
        read::read(path, process).map(|lines| ConfigFile { lines })
    }

    #[cfg(test)]
    pub(crate) fn parse(text: &str) -> Result<ConfigFile, ConfigError> {
        read::parse(text, std::path::Path::new("config")).map(|lines| ConfigFile { lines })
    }

    /// What is said of a host: `name` as it was written by the user, `user` as far as it is known already.
    pub(crate) fn host(&self, name: &str, user: Option<&str>, local_user: Option<&str>) -> HostConfig {
        let mut config = HostConfig::default();
        let mut applies = true;
        // Where an `Include` stands in a section that does not apply, nothing in it does.
        let mut outer: Vec<bool> = Vec::new();
        for line in &self.lines {
            match line.keyword.as_str() {
                read::ENTER => outer.push(applies),
                read::LEAVE => applies = outer.pop().unwrap_or(true),
                "host" => applies = outer_applies(&outer) && pattern::fits_list(line.words(), name),
                "match" => {
                    let target = config.host_name.clone().unwrap_or_else(|| name.to_owned());
                    let login = user.map(str::to_owned).or_else(|| config.user.clone());
                    let login = login.as_deref().or(local_user).unwrap_or_default();
                    let asked = Asked { name, host: &target, user: login, local_user: local_user.unwrap_or_default() };
                    applies = outer_applies(&outer) && matches(line, &asked, &mut config.warnings);
                }
                _ if applies => config.take(line),
                _ => {}
            }
        }
        config
    }
}

fn outer_applies(outer: &[bool]) -> bool {
    outer.iter().all(|applies| *applies)
}

/// What `Match` compares with.
struct Asked<'a> {
    name: &'a str,
    host: &'a str,
    user: &'a str,
    local_user: &'a str,
}

/// Whether all conditions of a `Match` hold.
fn matches(line: &Line, asked: &Asked<'_>, warnings: &mut Vec<String>) -> bool {
    let mut words = line.words();
    let mut all = true;
    while let Some(word) = words.next() {
        let (negated, word) = word.strip_prefix('!').map_or((false, word), |word| (true, word));
        let mut fits = |text: &str| words.next().is_some_and(|list| pattern::fits_list(list.split(','), text));
        let holds = match word.to_ascii_lowercase().as_str() {
            "all" => true,
            "host" => fits(asked.host),
            "originalhost" => fits(asked.name),
            "user" => fits(asked.user),
            "localuser" => fits(asked.local_user),
            other => {
                warnings.push(format!("{}: `Match {other}` is not heeded", line.place));
                return false;
            }
        };
        all &= holds != negated;
    }
    all
}

impl HostConfig {
    /// Heeds a line, unless an earlier one said the same.
    fn take(&mut self, line: &Line) {
        let value = || line.value.clone();
        let list = || line.words().map(str::to_owned).collect::<Vec<_>>();
        let yes = || matches!(line.value.to_ascii_lowercase().as_str(), "yes" | "true");
        match line.keyword.as_str() {
            "hostname" => first(&mut self.host_name, value),
            "user" => first(&mut self.user, value),
            "port" => match line.value.parse::<u16>() {
                Ok(port) if port != 0 => first(&mut self.port, || port),
                _ => self.warnings.push(format!("{}: `{}` is not a port", line.place, line.value)),
            },
            "identityfile" => self.identity_files.push(value()),
            "certificatefile" => self.certificate_files.push(value()),
            "identitiesonly" => first(&mut self.identities_only, yes),
            "identityagent" => first(&mut self.identity_agent, value),
            // Whichever of these comes first keeps the other out.
            "proxyjump" if self.proxy_command.is_none() => first(&mut self.proxy_jump, value),
            "proxycommand" if self.proxy_jump.is_none() => first(&mut self.proxy_command, || line.raw.clone()),
            "userknownhostsfile" => first(&mut self.user_known_hosts, list),
            "globalknownhostsfile" => first(&mut self.global_known_hosts, list),
            "hostkeyalias" => first(&mut self.host_key_alias, value),
            "stricthostkeychecking" => first(&mut self.strict_host_key_checking, || value().to_ascii_lowercase()),
            "ciphers" => first(&mut self.ciphers, || algorithms(&line.value)),
            "kexalgorithms" => first(&mut self.key_exchange, || algorithms(&line.value)),
            "connecttimeout" => first_some(&mut self.connect_timeout, seconds(&line.value)),
            "serveraliveinterval" => first_some(&mut self.alive_interval, seconds(&line.value)),
            "forwardagent" => first(&mut self.forward_agent, || ForwardAgent::read(&line.value)),
            _ => {}
        }
    }
}

fn first<T>(slot: &mut Option<T>, value: impl FnOnce() -> T) {
    if slot.is_none() {
        *slot = Some(value());
    }
}

fn first_some<T>(slot: &mut Option<T>, value: Option<T>) {
    if slot.is_none() {
        *slot = value;
    }
}

/// A list of algorithms as a whole. Lists that change OpenSSH's own (`+`, `-`, `^`) mean nothing here.
fn algorithms(value: &str) -> Vec<String> {
    if value.starts_with(['+', '-', '^']) {
        return Vec::new();
    }
    value.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect()
}

/// OpenSSH's times: `30`, `1m`, `1h30m`.
fn seconds(value: &str) -> Option<Duration> {
    if let Ok(seconds) = value.parse::<u32>() {
        return Some(Duration::from_secs(seconds.into()));
    }
    kiln_core::duration::parse(&value.to_ascii_lowercase()).ok()
}

/// The files of a list, `~` and tokens resolved; `none` is no file.
pub(crate) fn files(list: &[String], tokens: &Tokens<'_>) -> Vec<PathBuf> {
    list.iter().filter(|file| *file != "none").map(|file| tokens.process.path(&expand(file, tokens))).collect()
}

#[cfg(test)]
mod tests;
