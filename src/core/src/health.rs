//! Whether something that was started is ready: health checks, and the arguments by which templates describe them.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::duration;
use crate::schema::{Field, FieldType, Schema};

/// How it is found out whether something is ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Health {
    /// Runs in it.
    pub command: Vec<String>,
    /// The longest wait between two checks.
    pub interval: Duration,
    /// Bound on one check.
    pub timeout: Duration,
    /// How many intervals it may be unhealthy.
    pub retries: u32,
    /// How long failures are not counted.
    pub start_period: Duration,
}

impl Default for Health {
    /// As Docker has it.
    fn default() -> Health {
        Health {
            command: Vec::new(),
            interval: Duration::from_secs(30),
            timeout: Duration::from_secs(30),
            retries: 3,
            start_period: Duration::ZERO,
        }
    }
}

impl Health {
    /// How long it may be unhealthy after its start before it is given up.
    pub fn patience(&self) -> Duration {
        self.start_period + self.interval * self.retries.max(1)
    }
}

/// What is said of health.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum HealthCheck {
    /// There is none, whatever the image says.
    Off,
    /// This one.
    By(Health),
}

impl HealthCheck {
    /// The words of compose and of images: `["CMD", ...]`, `["CMD-SHELL", TEXT]`, `["NONE"]`; other lists are commands. `None`
    /// where nothing is said.
    pub fn of_words(words: &[String], rest: Health) -> Option<HealthCheck> {
        let command = match words {
            [] => return None,
            [none] if none == "NONE" => return Some(HealthCheck::Off),
            [first, command @ ..] if first == "CMD" => command.to_vec(),
            [first, script @ ..] if first == "CMD-SHELL" => shell(&script.join(" ")),
            words => words.to_vec(),
        };
        if command.is_empty() { None } else { Some(HealthCheck::By(Health { command, ..rest })) }
    }
}

/// A text as `/bin/sh` runs it.
pub fn shell(script: &str) -> Vec<String> {
    ["/bin/sh", "-c", script].map(str::to_owned).to_vec()
}

/// A command: a list of words, or a text for the shell.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Words {
    /// As it is.
    List(Vec<String>),
    /// For `/bin/sh -c`.
    Text(String),
}

impl Words {
    /// As words.
    pub fn into_words(self) -> Vec<String> {
        match self {
            Words::List(words) => words,
            Words::Text(text) => shell(&text),
        }
    }
}

/// Paths that are held in memory.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Tmpfs {
    /// With their options.
    Map(BTreeMap<String, String>),
    /// Each as `PATH[:OPTIONS]`.
    List(Vec<String>),
}

impl Tmpfs {
    /// Paths and options.
    pub fn into_paths(self) -> BTreeMap<String, String> {
        let split = |text: String| match text.split_once(':') {
            Some((path, options)) => (path.to_owned(), options.to_owned()),
            None => (text, String::new()),
        };
        match self {
            Tmpfs::Map(paths) => paths,
            Tmpfs::List(paths) => paths.into_iter().map(split).collect(),
        }
    }
}

/// A block of [`HEALTH_CHECK`] as decoded.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct HealthBlock {
    command: Option<Words>,
    test: Option<Words>,
    #[serde(default, deserialize_with = "duration::deserialize_option")]
    interval: Option<Duration>,
    #[serde(default, deserialize_with = "duration::deserialize_option")]
    timeout: Option<Duration>,
    retries: Option<u32>,
    #[serde(default, deserialize_with = "duration::deserialize_option")]
    start_period: Option<Duration>,
}

impl HealthBlock {
    /// What it says; `None` where it names no command.
    pub fn read(self) -> Option<HealthCheck> {
        let default = Health::default();
        let rest = Health {
            command: Vec::new(),
            interval: self.interval.unwrap_or(default.interval),
            timeout: self.timeout.unwrap_or(default.timeout),
            retries: self.retries.unwrap_or(default.retries),
            start_period: self.start_period.unwrap_or(default.start_period),
        };
        HealthCheck::of_words(&self.command.or(self.test)?.into_words(), rest)
    }
}

/// A health check.
pub const HEALTH_CHECK: Schema = Schema {
    kind: "health_check",
    title: "a `health_check` block",
    doc: "How it is found out whether it is ready. kiln runs the command in it, at short intervals first, \
          until it exits with 0.",
    fields: &[
        Field::new(
            "command",
            FieldType::Any,
            "A list of words, or a text for `/bin/sh -c`. Lists that begin with `CMD`, `CMD-SHELL` or `NONE` mean what they \
             mean to compose.",
        ),
        Field::new("test", FieldType::Any, "The same as `command`, under compose's name."),
        Field::duration("interval", "The longest wait between two checks.").default("30s"),
        Field::duration("timeout", "Bound on one check; one that takes longer has failed.").default("30s"),
        Field::new(
            "retries",
            FieldType::Integer,
            "How many intervals it may be unhealthy, after its `start_period`, before it is given up.",
        )
        .default("3"),
        Field::duration("start_period", "How long failures of the check are not counted.").default("0s"),
    ],
    example: "",
};

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Option<Vec<String>> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        match HealthCheck::of_words(&words, Health::default())? {
            HealthCheck::By(health) => Some(health.command),
            HealthCheck::Off => Some(vec!["off".to_owned()]),
        }
    }

    #[test]
    fn composes_words() {
        assert_eq!(words(&["CMD", "true", "x"]).unwrap(), ["true", "x"]);
        assert_eq!(words(&["CMD-SHELL", "a && b"]).unwrap(), ["/bin/sh", "-c", "a && b"]);
        assert_eq!(words(&["pg_isready", "-q"]).unwrap(), ["pg_isready", "-q"]);
        assert_eq!(words(&["NONE"]).unwrap(), ["off"]);
        assert_eq!((words(&[]), words(&["CMD"])), (None, None));
    }
}
