//! What is wrong with services, as far as their arguments tell.

use std::collections::BTreeMap;

use kiln_core::{Decoded, Diagnostic, Diagnostics};
use serde_json::Value as Json;

use crate::service::{Block, Port};

pub(crate) struct Check<'a> {
    pub(crate) decoded: &'a Decoded,
    pub(crate) diagnostics: &'a mut Diagnostics,
}

impl Check<'_> {
    fn error(&mut self, path: &str, title: String, help: Option<&str>) {
        let mut diagnostic = Diagnostic::error("service", self.decoded.span(path), title);
        diagnostic.help = help.map(str::to_owned);
        self.diagnostics.push(diagnostic);
    }

    /// A block as decoded, without what is of no type that its argument may be of, which is told.
    pub(crate) fn block(&mut self, index: usize, block: &Json) -> Option<Block> {
        let words = ["/command", "/entrypoint", "/health_check/command", "/health_check/test"];
        let mut block = without_nulls(block);
        for pointer in words.into_iter().chain(["/tmpfs"]) {
            let (is_well, what): (fn(&Json) -> bool, &str) = match pointer {
                "/tmpfs" => (is_tmpfs, "is neither a list of paths nor a map from path to options"),
                _ => (is_words, "is neither a list of strings nor a string"),
            };
            let name = pointer.trim_start_matches('/').replace('/', ".");
            if let Some(value) = block.pointer_mut(pointer).filter(|value| !is_well(value)) {
                *value = Json::Null;
                let path = format!("service[{index}].{name}");
                if !self.decoded.is_unknown(&path) {
                    let diagnostic = Diagnostic::error("service", self.decoded.span(&path), format!("`{name}` {what}"));
                    self.diagnostics.push(diagnostic);
                }
            }
        }
        // What else does not fit was told when it was decoded.
        serde_json::from_value(block).ok()
    }

    /// Checks all services together.
    pub(crate) fn all(&mut self, services: &[(usize, Block)]) {
        for (index, block) in services {
            self.one(*index, block);
        }
        self.names(services);
        self.order(services);
    }

    fn one(&mut self, index: usize, block: &Block) {
        let path = format!("service[{index}]");
        if !is_host_name(&block.name) {
            let title = format!("`{}` is no host name, by which the service would be reached", block.name);
            self.error(&path, title, Some("use letters, digits, `-`, `_` and `.`"));
        }
        for (number, alias) in block.aliases.iter().enumerate().filter(|(_, alias)| !is_host_name(alias)) {
            let path = format!("{path}.aliases[{number}]");
            if !self.decoded.is_unknown(&path) {
                self.error(&path, format!("`{alias}` is no host name"), Some("use letters, digits, `-`, `_` and `.`"));
            }
        }
        let health = format!("{path}.health_check");
        let written = &self.decoded.values()["service"][index];
        let has = |name: &str| {
            written["health_check"].get(name).is_some() || self.decoded.is_unknown(&format!("{health}.{name}"))
        };
        let (command, test) = (has("command"), has("test"));
        let (is_there, wait) = (written.get("health_check").is_some(), written["wait"].as_str());
        if command && test {
            self.error(&format!("{health}.test"), "`command` and `test` are the same; write one".to_owned(), None);
        } else if is_there && !command && !test {
            let help = "`command` (list or string): what exits with 0 once the service is ready";
            self.error(&health, "a `health_check` block needs `command`".to_owned(), Some(help));
        }
        if is_there && wait == Some("completed") {
            let title = "`health_check` has no effect where its end is waited for (`wait = \"completed\"`)";
            self.diagnostics.push(Diagnostic::warning("without-effect", self.decoded.span(&health), title));
        }
    }

    /// No two services answer to one name.
    fn names(&mut self, services: &[(usize, Block)]) {
        let mut taken: BTreeMap<&str, usize> = BTreeMap::new();
        for (index, block) in services {
            let names = std::iter::once((format!("service[{index}]"), &block.name)).chain(
                block
                    .aliases
                    .iter()
                    .enumerate()
                    .map(|(number, alias)| (format!("service[{index}].aliases[{number}]"), alias)),
            );
            for (path, name) in names {
                match taken.get(name.as_str()) {
                    Some(other) if other != index => {
                        let title = format!("two services are reached by the name `{name}`");
                        let first = self.decoded.span(&format!("service[{other}]"));
                        let twice = Diagnostic::error("service", self.decoded.span(&path), title);
                        self.diagnostics.push(twice.also(first, "the other one"));
                    }
                    _ => {
                        taken.insert(name, *index);
                    }
                }
            }
        }
    }

    /// What `after` names exists, and leads to no ring.
    fn order(&mut self, services: &[(usize, Block)]) {
        let names: Vec<&str> = services.iter().map(|(_, block)| block.name.as_str()).collect();
        for (index, block) in services {
            for (number, name) in block.after.iter().enumerate().filter(|(_, name)| !names.contains(&name.as_str())) {
                let path = format!("service[{index}].after[{number}]");
                if !self.decoded.is_unknown(&path) {
                    let span = self.decoded.span(&path);
                    let title = format!("there is no service `{name}`");
                    let others = names.iter().copied().filter(|other| *other != block.name);
                    self.diagnostics.push(Diagnostic::error("service", span, title).did_you_mean(
                        span,
                        name,
                        others.collect::<Vec<_>>(),
                    ));
                }
            }
        }
        if let Some(ring) = ring(services) {
            let named = ring.iter().map(|position| format!("`{}`", services[*position].1.name));
            let title = format!("services wait for each other: {}", named.collect::<Vec<_>>().join(" -> "));
            let index = services[ring[0]].0;
            self.error(&format!("service[{index}].after"), title, None);
        }
    }

    pub(crate) fn ports(&mut self, index: usize, block: &Block) -> Vec<Port> {
        let mut ports = Vec::new();
        for (number, text) in block.ports.iter().enumerate() {
            let path = format!("service[{index}].ports[{number}]");
            match port(text) {
                Some(port) => ports.push(port),
                None if self.decoded.is_unknown(&path) => {}
                None => {
                    let title = format!("`{text}` is no port");
                    self.error(&path, title, Some("write `5432`, `55432:5432` or `0.0.0.0:55432:5432`"));
                }
            }
        }
        ports
    }
}

fn is_words(value: &Json) -> bool {
    match value {
        Json::Array(words) => words.iter().all(Json::is_string),
        value => value.is_string(),
    }
}

fn is_tmpfs(value: &Json) -> bool {
    match value {
        Json::Array(paths) => paths.iter().all(Json::is_string),
        Json::Object(paths) => paths.values().all(Json::is_string),
        _ => false,
    }
}

/// Values that are not known yet stand as nulls; those in lists keep their place.
fn without_nulls(value: &Json) -> Json {
    match value {
        Json::Null => Json::from(""),
        Json::Array(items) => items.iter().map(without_nulls).collect(),
        Json::Object(members) => {
            let known = members.iter().filter(|(_, value)| !value.is_null());
            Json::Object(known.map(|(name, value)| (name.clone(), without_nulls(value))).collect())
        }
        other => other.clone(),
    }
}

fn is_host_name(name: &str) -> bool {
    let is_inner = |character: char| character.is_ascii_alphanumeric() || "-_.".contains(character);
    name.starts_with(|first: char| first.is_ascii_alphanumeric()) && name.len() <= 63 && name.chars().all(is_inner)
}

/// `[[ADDRESS:]PORT:]PORT[/PROTOCOL]`.
fn port(text: &str) -> Option<Port> {
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    if !matches!(protocol, "tcp" | "udp" | "sctp") {
        return None;
    }
    let number = |text: &str| text.parse::<u16>().ok().filter(|port| *port != 0);
    let (outer, inner) = ports.rsplit_once(':').map_or((None, ports), |(outer, inner)| (Some(outer), inner));
    let (address, host) = match outer.map(|outer| outer.rsplit_once(':').unwrap_or(("", outer))) {
        Some((address, host)) => (address, if host.is_empty() { None } else { Some(number(host)?) }),
        None => ("", None),
    };
    let address = address.trim_start_matches('[').trim_end_matches(']');
    let is_address = address.is_empty() || address.parse::<std::net::IpAddr>().is_ok();
    is_address.then_some(())?;
    let address = if address.is_empty() { "127.0.0.1" } else { address };
    Some(Port { address: address.to_owned(), host, inner: number(inner)?, protocol: protocol.to_owned() })
}

/// Positions along a ring of `after`, the first once more at the end.
fn ring(services: &[(usize, Block)]) -> Option<Vec<usize>> {
    let after = |position: usize| {
        let names = &services[position].1.after;
        names.iter().filter_map(|name| services.iter().position(|(_, other)| other.name == *name))
    };
    let mut way: Vec<usize> = Vec::new();
    fn follow(at: usize, way: &mut Vec<usize>, after: &dyn Fn(usize) -> Vec<usize>) -> Option<Vec<usize>> {
        if let Some(start) = way.iter().position(|seen| *seen == at) {
            return Some(way[start..].iter().copied().chain([at]).collect());
        }
        way.push(at);
        let found = after(at).into_iter().find_map(|next| follow(next, way, after));
        way.pop();
        found
    }
    (0..services.len()).find_map(|start| follow(start, &mut way, &|position| after(position).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_in_all_their_spellings() {
        let seen = |text: &str| port(text).map(|port| (port.address, port.host, port.inner, port.protocol));
        let port =
            |address: &str, host, inner, protocol: &str| Some((address.to_owned(), host, inner, protocol.to_owned()));
        assert_eq!(seen("5432"), port("127.0.0.1", None, 5432, "tcp"));
        assert_eq!(seen("55432:5432"), port("127.0.0.1", Some(55432), 5432, "tcp"));
        assert_eq!(seen("0.0.0.0:53:53/udp"), port("0.0.0.0", Some(53), 53, "udp"));
        assert_eq!(seen("[::1]:53:53"), port("::1", Some(53), 53, "tcp"));
        assert_eq!(seen("0.0.0.0::53"), port("0.0.0.0", None, 53, "tcp"));
        for wrong in ["", "0", "x", "1:2:3", "70000", "80/ip", "a.b:1:2"] {
            assert_eq!(seen(wrong), None, "{wrong}");
        }
    }
}
