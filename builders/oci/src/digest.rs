//! Digests of values that keys are made of: length-prefixed, so that no two lists of parts give one.

use kiln_core::{Input, Key};
use sha2::{Digest as _, Sha256};

/// Collects parts.
pub(crate) struct Parts(Sha256);

impl Parts {
    /// Of one purpose; those of another never meet.
    pub(crate) fn new(purpose: &str) -> Parts {
        Parts(Sha256::new()).with(purpose)
    }

    /// Adds a part.
    #[must_use]
    pub(crate) fn with(mut self, part: impl AsRef<[u8]>) -> Parts {
        let part = part.as_ref();
        self.0.update((part.len() as u64).to_be_bytes());
        self.0.update(part);
        self
    }

    /// Adds a list of parts, with its length.
    #[must_use]
    pub(crate) fn list<T: AsRef<[u8]>>(self, parts: impl IntoIterator<Item = T>) -> Parts {
        let parts: Vec<T> = parts.into_iter().collect();
        let start = self.with((parts.len() as u64).to_be_bytes());
        parts.iter().fold(start, |all, part| all.with(part))
    }

    pub(crate) fn key(self) -> Key {
        Key::from_digest(self.0.finalize().into())
    }

    pub(crate) fn hex(self) -> String {
        self.key().to_string()
    }
}

/// An input of a state by its text.
pub(crate) fn input(name: &str, value: &str) -> Input {
    Input { name: name.to_owned(), digest: Parts::new(name).with(value).hex(), shown: Some(value.to_owned()) }
}

/// An input whose value may be a secret, or is too long to show.
pub(crate) fn hidden_input(name: &str, parts: Parts) -> Input {
    Input { name: name.to_owned(), digest: parts.hex(), shown: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_run_into_each_other() {
        let digest = |parts: &[&str]| parts.iter().fold(Parts::new("x"), |all, part| all.with(part)).hex();
        assert_ne!(digest(&["ab", "c"]), digest(&["a", "bc"]));
        assert_ne!(Parts::new("x").list(["a"]).list(["b"]).hex(), Parts::new("x").list(["a", "b"]).list([""; 0]).hex());
    }
}
