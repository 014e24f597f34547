//! Taking a name of a layout back, from a run's journal alone.

use std::path::{Path, PathBuf};

use kiln_core::{Undo, UndoOutcome};
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::error::ImageError;
use crate::layout::Layout;

/// A name that an image of a layout was given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameUndo {
    /// The layout.
    layout: PathBuf,
    /// The name.
    name: String,
    /// The image that it means from now on.
    image: Digest,
    /// The image that it meant before.
    before: Option<Digest>,
}

impl NameUndo {
    /// The kind of its journal entries.
    pub const KIND: &'static str = "image.name";

    /// Gives an image a name, having told `note` the journal's entry for that; nobody else can change the name in between.
    /// Nothing is told or done where the image has the name already; nothing is done where `note` fails. Blocks.
    ///
    /// # Errors
    /// The outer one: the layout cannot be read or written. The inner one: what `note` says.
    pub fn give<E>(
        layout: &Layout,
        name: &str,
        image: &Digest,
        note: impl FnOnce(Undo) -> Result<(), E>,
    ) -> Result<Result<(), E>, ImageError> {
        let root = std::path::absolute(layout.root()).map_err(ImageError::io("find", layout.root()))?;
        let mut noted = Ok(());
        layout.set_name_after(name, image, |before| {
            if before.as_ref() == Some(image) {
                return false;
            }
            noted = note(NameUndo { layout: root, name: name.to_owned(), image: image.clone(), before }.entry());
            noted.is_ok()
        })?;
        Ok(noted)
    }

    fn entry(&self) -> Undo {
        Undo {
            kind: NameUndo::KIND.to_owned(),
            data: serde_json::json!(self),
            description: format!("name {} in {}", self.name, self.layout.display()),
        }
    }

    /// Takes the name back, and gives it to the image that had it. A name that means another image by now is somebody else's.
    ///
    /// # Errors
    /// The layout cannot be read or written.
    pub fn undo(&self) -> Result<UndoOutcome, ImageError> {
        if !is_layout(&self.layout) {
            return Ok(UndoOutcome::AlreadyGone);
        }
        let layout = Layout::create(&self.layout)?;
        let is_ours = match self.before.as_ref().filter(|before| layout.has(before)) {
            Some(before) => layout.set_name_after(&self.name, before, |now| now.as_ref() == Some(&self.image))?,
            None => layout.take_name(&self.name, &self.image)?,
        };
        Ok(if is_ours { UndoOutcome::Removed } else { UndoOutcome::AlreadyGone })
    }
}

fn is_layout(path: &Path) -> bool {
    path.join("oci-layout").is_file()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(layout: &Layout, mark: &str) -> Digest {
        let document =
            serde_json::json!({"schemaVersion": 2, "config": {}, "layers": [], "annotations": {"mark": mark}});
        layout.put_document(document.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn a_name_goes_back_to_whom_it_was_taken_from() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::create(directory.path()).unwrap();
        let (one, two) = (manifest(&layout, "1"), manifest(&layout, "2"));
        let give = |image: &Digest| {
            let mut noted = None;
            let note = |undo: Undo| {
                noted = Some(NameUndo::deserialize(undo.data).unwrap());
                Ok::<(), ()>(())
            };
            NameUndo::give(&layout, "a:1", image, note).unwrap().unwrap();
            noted
        };
        let first = give(&one).unwrap();
        assert_eq!(give(&one), None);
        let second = give(&two).unwrap();
        assert_eq!(NameUndo::give(&layout, "a:1", &one, |_| Err("full")).unwrap(), Err("full"));
        assert_eq!(layout.resolve_name("a:1").unwrap(), Some(two.clone()), "what cannot be noted is not done");
        assert_eq!(first.undo().unwrap(), UndoOutcome::AlreadyGone, "it means another image");
        assert_eq!(second.undo().unwrap(), UndoOutcome::Removed);
        assert_eq!(layout.resolve_name("a:1").unwrap(), Some(one));
        assert_eq!(first.undo().unwrap(), UndoOutcome::Removed);
        assert_eq!(layout.resolve_name("a:1").unwrap(), None);
        assert_eq!(second.undo().unwrap(), UndoOutcome::AlreadyGone);
    }
}
