//! Images that this process built: BuildKit gives two builds of the same steps one image, which neither may take from the other.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use kiln_builder_docker::image_artifact;
use kiln_core::{Artifact, ArtifactOwner, BuildContext, EntryId, Failure, Journal};
use kiln_docker::{Engine, ImageUndo};

/// By the engine's address and the image's id.
type Images = BTreeMap<(String, String), First>;

/// Who came to an image first, and its entry while the image is that build's alone.
struct First {
    build: Arc<str>,
    entry: Option<(Arc<dyn Journal>, EntryId)>,
}

#[derive(Default)]
pub(crate) struct Made(Mutex<Images>);

impl Made {
    /// Notes that a build came to an image. One that is `new` goes again with a build that fails, unless another build came to it
    /// too: then it stays in any case, as BuildKit's cache does.
    pub(crate) fn note(&self, engine: &str, id: &str, is_new: bool, context: &BuildContext) -> Result<(), Failure> {
        let mut made = self.images();
        let key = (engine.to_owned(), id.to_owned());
        match made.get_mut(&key) {
            Some(first) if first.build != context.build => match first.entry.take() {
                Some((journal, entry)) => journal.strike(entry),
                None => Ok(()),
            },
            _ => {
                let undo = ImageUndo { engine: engine.to_owned(), id: Some(id.to_owned()), ..ImageUndo::default() };
                let record = || context.journal.record(&context.build, undo.entry());
                let entry = is_new.then(record).transpose()?.map(|entry| (Arc::clone(&context.journal), entry));
                made.insert(key, First { build: Arc::clone(&context.build), entry });
                Ok(())
            }
        }
    }

    fn images(&self) -> MutexGuard<'_, Images> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it was not there before, and one build alone came to it.
    fn is_of_one_build(&self, engine: &str, id: &str) -> bool {
        self.images().get(&(engine.to_owned(), id.to_owned())).is_some_and(|first| first.entry.is_some())
    }
}

/// What a Dockerfile built: it is removed where it is not kept, unless it is somebody else's too.
pub(crate) fn artifact(made: &Arc<Made>, engine: &Arc<dyn Engine>, id: String) -> Artifact {
    let artifact = image_artifact(engine, id);
    let owner = artifact.owner.clone().map(|all| {
        let owner: Arc<dyn ArtifactOwner> =
            Arc::new(Owner { all, made: Arc::clone(made), engine: engine.address().to_owned() });
        owner
    });
    Artifact { owner, ..artifact }
}

struct Owner {
    /// Removes any image.
    all: Arc<dyn ArtifactOwner>,
    made: Arc<Made>,
    engine: String,
}

#[async_trait]
impl ArtifactOwner for Owner {
    fn removal_limit(&self) -> Duration {
        self.all.removal_limit()
    }

    async fn destroy(&self, artifact: &Artifact, context: &BuildContext) -> Result<(), Failure> {
        if self.made.is_of_one_build(&self.engine, &artifact.id) {
            return self.all.destroy(artifact, context).await;
        }
        Ok(())
    }
}
