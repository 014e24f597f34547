//! A machine that only records.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use kiln_core::{Artifact, BuildContext, Communicator, Content, Failure, Image, Machine};

use crate::communicator::ScriptedCommunicator;
use crate::lock;

/// A machine whose communicator is scripted; sealing gives an image `sha256:fake`.
#[derive(Debug, Default)]
pub struct FakeMachine {
    /// Its communicator: script it, then look at what it got.
    pub communicator: ScriptedCommunicator,
    facts: BTreeMap<String, String>,
    seals: AtomicUsize,
    destroys: AtomicUsize,
    seal_error: Mutex<Option<String>>,
}

impl FakeMachine {
    /// A machine that does everything well.
    pub fn new() -> FakeMachine {
        FakeMachine::default()
    }

    /// With this value among its facts.
    #[must_use]
    pub fn fact(mut self, name: &str, value: &str) -> FakeMachine {
        self.facts.insert(name.to_owned(), value.to_owned());
        self
    }

    /// The next sealing fails with this message.
    pub fn fail_to_seal(&self, message: &str) {
        *lock(&self.seal_error) = Some(message.to_owned());
    }

    /// How often it was sealed, or tried to be.
    pub fn seals(&self) -> usize {
        self.seals.load(Ordering::Relaxed)
    }

    /// How often it was destroyed.
    pub fn destroys(&self) -> usize {
        self.destroys.load(Ordering::Relaxed)
    }
}

#[async_trait]
impl Machine for FakeMachine {
    fn facts(&self) -> BTreeMap<String, String> {
        self.facts.clone()
    }

    fn communicator(&self) -> &dyn Communicator {
        &self.communicator
    }

    async fn seal(&self, _context: &BuildContext) -> Result<Artifact, Failure> {
        self.seals.fetch_add(1, Ordering::Relaxed);
        if let Some(message) = lock(&self.seal_error).take() {
            return Err(Failure::build(message));
        }
        let id = "sha256:fake".to_owned();
        Ok(Artifact {
            builder_id: "fake".into(),
            id: id.clone(),
            description: "a fake image".into(),
            content: Content::Image(Image { id, ..Image::default() }),
            owner: None,
        })
    }

    async fn destroy(&self, _context: &BuildContext) -> Result<(), Failure> {
        self.destroys.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn enter_hint(&self) -> Option<String> {
        Some("enter the fake machine".into())
    }
}
