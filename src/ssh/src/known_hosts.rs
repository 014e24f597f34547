//! `known_hosts` files: reading, looking up, writing.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use sha1::Sha1;

use crate::certificate::Certificate;
use crate::hostkey::HostKey;
use crate::options::DEFAULT_PORT;
use crate::pattern;

/// What is known of hosts.
#[derive(Debug, Clone, Default)]
pub struct KnownHosts {
    entries: Vec<Entry>,
}

/// What an entry's key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Marker {
    /// The host's.
    None,
    /// That of who signs hosts' keys.
    Authority,
    /// One that was given up.
    Revoked,
}

#[derive(Debug, Clone)]
struct Entry {
    marker: Marker,
    hosts: Hosts,
    key: HostKey,
    place: String,
}

#[derive(Debug, Clone)]
enum Hosts {
    Patterns(Vec<String>),
    Hashed { salt: Vec<u8>, hash: Vec<u8> },
}

/// What looking a key up gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known {
    /// It is the host's; where that stands.
    Yes(String),
    /// Nothing is known of the host.
    No,
    /// The host is known by other keys: each with its place.
    Other(Vec<(HostKey, String)>),
    /// The key was given up; where that stands.
    Revoked(String),
    /// The certificate is not good, for this reason.
    Certificate(String),
}

/// A host as files name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostName {
    host: String,
    port: u16,
}

impl HostName {
    /// A host and its port.
    pub fn new(host: &str, port: u16) -> HostName {
        HostName { host: host.trim_end_matches('.').to_ascii_lowercase(), port }
    }

    /// `host`, or `host:port`.
    pub(crate) fn for_people(&self) -> String {
        match self.port {
            DEFAULT_PORT => self.host.clone(),
            port if self.host.contains(':') => format!("[{}]:{port}", self.host),
            port => format!("{}:{port}", self.host),
        }
    }

    /// As it stands in files: `host`, or `[host]:port`.
    pub fn written(&self) -> String {
        if self.port == DEFAULT_PORT { self.host.clone() } else { format!("[{}]:{}", self.host, self.port) }
    }
}

impl KnownHosts {
    /// Reads files, in order; one that is not there holds nothing.
    ///
    /// # Errors
    /// One that is there cannot be read.
    pub fn read(files: &[PathBuf]) -> Result<KnownHosts, (PathBuf, std::io::Error)> {
        let mut known = KnownHosts::default();
        for file in files {
            match std::fs::read(file) {
                Ok(bytes) => known.add(&String::from_utf8_lossy(&bytes), file),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err((file.clone(), error)),
            }
        }
        Ok(known)
    }

    /// Adds the lines of a text; those that are no entries are passed over, as OpenSSH does.
    pub fn add(&mut self, text: &str, file: &Path) {
        for (index, line) in text.lines().enumerate() {
            if let Some((marker, hosts, key)) = parse_line(line) {
                let place = format!("{}:{}", file.display(), index + 1);
                self.entries.push(Entry { marker, hosts, key, place });
            }
        }
    }

    /// Looks a key up that a host shows.
    pub fn look_up(&self, name: &HostName, key: &HostKey) -> Known {
        let found = self.look_up_as(&name.written(), name, key);
        // OpenSSH takes what it knows of the host at the usual port, too, but only as proof of a key.
        if found == Known::No && name.port != DEFAULT_PORT {
            let plain = HostName { port: DEFAULT_PORT, ..name.clone() };
            let without_port = self.look_up_as(&plain.written(), name, key);
            if matches!(without_port, Known::Yes(_) | Known::Revoked(_)) {
                return without_port;
            }
        }
        found
    }

    fn look_up_as(&self, written: &str, name: &HostName, key: &HostKey) -> Known {
        let entries: Vec<&Entry> = self.entries.iter().filter(|entry| entry.hosts.include(written)).collect();
        let is_revoked = |key: &HostKey| entries.iter().find(|e| e.marker == Marker::Revoked && e.key == *key);
        if let Some(entry) = is_revoked(key) {
            return Known::Revoked(entry.place.clone());
        }
        let mut key = key.clone();
        let mut wrong = None;
        if key.is_certificate() {
            let Some(certified) = Certificate::read(&key) else {
                return Known::Certificate("it cannot be read".to_owned());
            };
            for revoked in [&certified.authority, &certified.key] {
                if let Some(entry) = is_revoked(revoked) {
                    return Known::Revoked(entry.place.clone());
                }
            }
            let authority =
                entries.iter().find(|entry| entry.marker == Marker::Authority && entry.key == certified.authority);
            if let Some(authority) = authority {
                match certified.check_host(&name.host, now()) {
                    Ok(()) => return Known::Yes(authority.place.clone()),
                    Err(why) => wrong = Some(why),
                }
            }
            // What is certified may still be known by itself.
            key = certified.key;
        }
        let plain: Vec<&&Entry> = entries.iter().filter(|entry| entry.marker == Marker::None).collect();
        if let Some(entry) = plain.iter().find(|entry| entry.key == key) {
            return Known::Yes(entry.place.clone());
        }
        match wrong {
            Some(why) => Known::Certificate(why),
            None if plain.is_empty() => Known::No,
            None => Known::Other(plain.iter().map(|entry| (entry.key.clone(), entry.place.clone())).collect()),
        }
    }

    /// The kinds of a host's known keys, and whether an authority for it is known.
    pub fn kinds(&self, name: &HostName) -> (Vec<String>, bool) {
        let plain = HostName { port: DEFAULT_PORT, ..name.clone() }.written();
        let written = name.written();
        let of = |name: &str| {
            let entries = self.entries.iter().filter(|entry| entry.hosts.include(name));
            let (authorities, own): (Vec<&Entry>, Vec<&Entry>) =
                entries.filter(|entry| entry.marker != Marker::Revoked).partition(|e| e.marker == Marker::Authority);
            (own.into_iter().map(|entry| entry.key.algorithm.clone()).collect::<Vec<_>>(), !authorities.is_empty())
        };
        let (kinds, has_authority) = of(&written);
        if kinds.is_empty() && !has_authority && written != plain { of(&plain) } else { (kinds, has_authority) }
    }
}

/// A line that says that a host has a key.
pub fn line(name: &HostName, key: &HostKey) -> String {
    format!("{} {}\n", name.written(), key.to_openssh())
}

/// A line that says that an authority signs a host's keys.
pub(crate) fn authority_line(name: &HostName, key: &HostKey) -> Option<String> {
    let certified = Certificate::read(key)?;
    Some(format!("@cert-authority {} {}\n", name.written(), certified.authority.to_openssh()))
}

/// Seconds since the epoch.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

fn parse_line(line: &str) -> Option<(Marker, Hosts, HostKey)> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let (marker, rest) = match line.split_once(char::is_whitespace) {
        Some(("@cert-authority", rest)) => (Marker::Authority, rest.trim_start()),
        Some(("@revoked", rest)) => (Marker::Revoked, rest.trim_start()),
        // A marker of the future must not be taken for a host.
        Some((marker, _)) if marker.starts_with('@') => return None,
        _ => (Marker::None, line),
    };
    let (hosts, key) = rest.split_once(char::is_whitespace)?;
    Some((marker, Hosts::parse(hosts)?, HostKey::from_openssh(key).ok()?))
}

impl Hosts {
    fn parse(text: &str) -> Option<Hosts> {
        let Some(hashed) = text.strip_prefix("|1|") else {
            return Some(Hosts::Patterns(text.split(',').map(str::to_owned).collect()));
        };
        let (salt, hash) = hashed.split_once('|')?;
        Some(Hosts::Hashed { salt: STANDARD.decode(salt).ok()?, hash: STANDARD.decode(hash).ok()? })
    }

    fn include(&self, name: &str) -> bool {
        match self {
            Hosts::Patterns(patterns) => pattern::fits_list(patterns.iter().map(String::as_str), name),
            Hosts::Hashed { salt, hash } => Hmac::<Sha1>::new_from_slice(salt).is_ok_and(|mut mac| {
                mac.update(name.as_bytes());
                mac.verify_slice(hash).is_ok()
            }),
        }
    }
}

#[cfg(test)]
mod tests;
