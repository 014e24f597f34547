//! Health checks.

use std::time::Duration;

use serde::Serialize;

/// How it is found out whether a service is ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Health {
    /// Runs in the service.
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
    /// How long a service may be unhealthy after its start before it is given up.
    pub fn patience(&self) -> Duration {
        self.start_period + self.interval * self.retries.max(1)
    }
}

/// What is said of a service's health.
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
pub(crate) fn shell(script: &str) -> Vec<String> {
    ["/bin/sh", "-c", script].map(str::to_owned).to_vec()
}

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
