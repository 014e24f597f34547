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

    /// Of a name before it is given; `None` where the image has it already.
    ///
    /// # Errors
    /// The layout's index cannot be read.
    pub fn of(layout: &Layout, name: &str, image: &Digest) -> Result<Option<NameUndo>, ImageError> {
        let before = layout.resolve_name(name)?;
        if before.as_ref() == Some(image) {
            return Ok(None);
        }
        let root = std::path::absolute(layout.root()).map_err(ImageError::io("find", layout.root()))?;
        Ok(Some(NameUndo { layout: root, name: name.to_owned(), image: image.clone(), before }))
    }

    /// The journal's entry.
    pub fn entry(&self) -> Undo {
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
        if layout.resolve_name(&self.name)?.as_ref() != Some(&self.image) {
            return Ok(UndoOutcome::AlreadyGone);
        }
        match self.before.as_ref().filter(|before| layout.has(before)) {
            Some(before) => layout.set_name(&self.name, before)?,
            None => drop(layout.remove_name(&self.name)?),
        }
        Ok(UndoOutcome::Removed)
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
        let first = NameUndo::of(&layout, "a:1", &one).unwrap().unwrap();
        layout.set_name("a:1", &one).unwrap();
        assert_eq!(NameUndo::of(&layout, "a:1", &one).unwrap(), None);
        let second = NameUndo::of(&layout, "a:1", &two).unwrap().unwrap();
        layout.set_name("a:1", &two).unwrap();
        assert_eq!(first.undo().unwrap(), UndoOutcome::AlreadyGone, "it means another image");
        assert_eq!(second.undo().unwrap(), UndoOutcome::Removed);
        assert_eq!(layout.resolve_name("a:1").unwrap(), Some(one));
        assert_eq!(first.undo().unwrap(), UndoOutcome::Removed);
        assert_eq!(layout.resolve_name("a:1").unwrap(), None);
        assert_eq!(second.undo().unwrap(), UndoOutcome::AlreadyGone);
    }
}
