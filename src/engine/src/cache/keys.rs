//! Keys: digests of all that led to a state. Every field carries its length, so that no two lists of fields look alike.

use kiln_core::{Input, Key};
use sha2::{Digest, Sha256};

/// Changes whenever the same inputs may lead to another state than before.
const FORMAT: &str = "kiln state 1";

/// Feeds fields into a digest.
pub(crate) struct Fields(Sha256);

impl Fields {
    pub(crate) fn new(what: &str) -> Fields {
        Fields(Sha256::new()).field(FORMAT).field(what)
    }

    #[must_use]
    pub(crate) fn field(mut self, bytes: impl AsRef<[u8]>) -> Fields {
        self.add(bytes);
        self
    }

    pub(crate) fn add(&mut self, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        self.0.update((bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }

    /// Bytes of the last field, whose length only its end tells: nothing may follow.
    pub(crate) fn more(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn inputs(mut self, inputs: &[Input]) -> Fields {
        self.add((inputs.len() as u64).to_le_bytes());
        for input in inputs {
            self.add(&input.name);
            self.add(&input.digest);
        }
        self
    }

    pub(crate) fn key(self) -> Key {
        Key::from_digest(self.0.finalize().into())
    }
}

/// The state that a builder's machines start as.
pub(crate) fn base(builder: &str, inputs: &[Input]) -> Key {
    Fields::new("base").field(builder).inputs(inputs).key()
}

/// What a step depends on. Where its files lie does not matter: `is_file` tells which of the inputs are named by that.
pub(crate) fn inputs(inputs: &[Input], is_file: impl Fn(usize) -> bool) -> Key {
    let nameless = |(index, input): (usize, &Input)| match is_file(index) {
        true => Input { name: "file".to_owned(), ..input.clone() },
        false => input.clone(),
    };
    let inputs: Vec<Input> = inputs.iter().enumerate().map(nameless).collect();
    Fields::new("inputs").inputs(&inputs).key()
}

/// The state after a step that depends on [`inputs`].
pub(crate) fn step(before: &Key, kind: &str, inputs: &Key) -> Key {
    Fields::new("step").field(before.as_str()).field(kind).field(inputs.as_str()).key()
}

/// The name of a state that is made anew although its key is known; `maker` names the run, or the run and the build.
pub(crate) fn anew(key: &Key, maker: &[&str]) -> Key {
    maker.iter().fold(Fields::new("anew").field(key.as_str()), Fields::field).key()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(name: &str, digest: &str) -> Input {
        Input { name: name.into(), digest: digest.into(), shown: None }
    }

    #[test]
    fn fields_do_not_run_into_each_other() {
        let before = base("oci", &[input("image", "a")]);
        let keys = [
            base("oci", &[]),
            base("oc", &[input("i", "")]),
            before.clone(),
            base("oci", &[input("imagea", "")]),
            base("oci", &[input("", "imagea")]),
            inputs(&[input("a", "b"), input("c", "d")], |_| false),
            inputs(&[input("a", "bc"), input("", "d")], |_| false),
            inputs(&[input("a", "b"), input("c", "d")], |index| index == 1),
            step(&before, "shell", &before),
            step(&before, "file", &before),
            anew(&before, &["run", "build"]),
            anew(&before, &["runbuild"]),
            anew(&before, &["run"]),
        ];
        let different: std::collections::BTreeSet<&Key> = keys.iter().collect();
        assert_eq!(different.len(), keys.len());
    }

    #[test]
    fn what_is_shown_of_an_input_does_not_matter() {
        let shown = Input { shown: Some("debian:bookworm".into()), ..input("image", "a") };
        assert_eq!(base("oci", &[input("image", "a")]), base("oci", &[shown]));
    }

    /// A key that changes without a new format would let old states pass for new ones.
    #[test]
    fn keys_stay_what_they_are() {
        let before = base("oci", &[input("image", "sha256:0c1d")]);
        let after = step(&before, "shell", &inputs(&[input("inline", "5f")], |_| false));
        assert_eq!(before.as_str(), "2bae7198da5ee13a3afddd3d21dc04a85e9c0da7d407ef962cec26996b212414");
        assert_eq!(after.as_str(), "229f9a5eed3adfbbee162ab975cfb6ff4d21dc033675d3dda627cfc916608c28");
    }
}
