//! The names of a layout's images: `index.json`, changed by one process at a time.

use std::fs::File;
use std::path::Path;

use rustix::fs::FlockOperation;
use serde_json::{Map, Value, json};

use crate::digest::Digest;
use crate::error::ImageError;
use crate::image::to_json;
use crate::layout::{DOCUMENT_LIMIT, Layout};
use crate::media;

/// OCI's annotation for a name (a tag, or a whole reference).
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// containerd's annotation for a whole reference; `docker save` writes it.
pub const CONTAINERD_NAME: &str = "io.containerd.image.name";

/// An entry of a layout's index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// `None`: the entry has no name.
    pub name: Option<String>,
    /// Of the manifest, or of an index of several.
    pub digest: Digest,
    /// What it is.
    pub media_type: String,
    /// Of the document, in bytes.
    pub size: u64,
}

impl Layout {
    /// All entries of the index, in its order.
    ///
    /// # Errors
    /// `index.json` cannot be read, or is none.
    pub fn names(&self) -> Result<Vec<Named>, ImageError> {
        let index = self.read_index()?;
        let entries = index.get("manifests").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        entries.iter().map(|entry| named(entry).map_err(|problem| self.malformed_index(problem))).collect()
    }

    /// The digest that bears this name.
    ///
    /// # Errors
    /// As [`Layout::names`].
    pub fn resolve_name(&self, name: &str) -> Result<Option<Digest>, ImageError> {
        // The last one counts: writers that only append exist.
        let found = self.names()?.into_iter().rev().find(|entry| entry.name.as_deref() == Some(name));
        Ok(found.map(|entry| entry.digest))
    }

    /// Gives an image of the layout a name, which leaves the image that had it.
    ///
    /// # Errors
    /// The image is not there; the index cannot be read or written.
    pub fn set_name(&self, name: &str, digest: &Digest) -> Result<(), ImageError> {
        self.set_name_after(name, digest, |_| true).map(drop)
    }

    /// Gives a name as [`Layout::set_name`] does if `may` says so, who is told the image that has it now. Nobody can change it in
    /// between. Tells whether it was given.
    ///
    /// # Errors
    /// As [`Layout::set_name`].
    pub fn set_name_after(
        &self,
        name: &str,
        digest: &Digest,
        may: impl FnOnce(Option<Digest>) -> bool,
    ) -> Result<bool, ImageError> {
        let mut entry = self.entry(digest)?;
        entry.insert("annotations".to_owned(), json!({REF_NAME: name}));
        self.change_index(|entries| {
            let is_given = may(image_of(entries, name));
            if is_given {
                entries.retain(|entry| name_of(entry) != Some(name));
                entries.push(Value::Object(entry));
            }
            is_given
        })
    }

    /// Takes a name away from this image, and from no other that may have it by now. Says whether it had it.
    ///
    /// # Errors
    /// The index cannot be read or written.
    pub fn take_name(&self, name: &str, from: &Digest) -> Result<bool, ImageError> {
        self.change_index(|entries| {
            let is_its = image_of(entries, name).as_ref() == Some(from);
            if is_its {
                entries.retain(|entry| name_of(entry) != Some(name));
            }
            is_its
        })
    }

    /// Lists an image of the layout without a name, unless it is listed.
    ///
    /// # Errors
    /// The image is not there; the index cannot be read or written.
    pub fn add_unnamed(&self, digest: &Digest) -> Result<(), ImageError> {
        let entry = self.entry(digest)?;
        self.change_index(|entries| {
            let is_new = !entries.iter().any(|entry| digest_of(entry) == Some(digest.as_str()));
            if is_new {
                entries.push(Value::Object(entry));
            }
            is_new
        })
        .map(drop)
    }

    fn entry(&self, digest: &Digest) -> Result<Map<String, Value>, ImageError> {
        let document = self.document(digest)?;
        let media_type = media_type_of(&document).ok_or_else(|| ImageError::Malformed {
            what: digest.to_string(),
            problem: "it is no manifest".to_owned(),
        })?;
        let mut entry = Map::new();
        entry.insert("mediaType".to_owned(), json!(media_type));
        entry.insert("digest".to_owned(), json!(digest.as_str()));
        entry.insert("size".to_owned(), json!(document.len()));
        Ok(entry)
    }

    /// Takes a name away; the image stays. Says whether there was one.
    ///
    /// # Errors
    /// The index cannot be read or written.
    pub fn remove_name(&self, name: &str) -> Result<bool, ImageError> {
        self.change_index(|entries| {
            let before = entries.len();
            entries.retain(|entry| name_of(entry) != Some(name));
            entries.len() != before
        })
    }

    /// Lets `change` look at the entries and change them, and tell whether it did.
    fn change_index(&self, change: impl FnOnce(&mut Vec<Value>) -> bool) -> Result<bool, ImageError> {
        // The file `oci-layout` never changes, so it can be the lock: no file of our own is left in a layout.
        let lock_path = self.root().join("oci-layout");
        let lock = File::open(&lock_path).map_err(ImageError::io("read", &lock_path))?;
        rustix::fs::flock(&lock, FlockOperation::LockExclusive)
            .map_err(|errno| ImageError::io("lock", &lock_path)(errno.into()))?;
        let mut index = self.read_index()?;
        let mut entries = match index.get_mut("manifests").map(Value::take) {
            Some(Value::Array(entries)) => entries,
            _ => Vec::new(),
        };
        if !change(&mut entries) {
            return Ok(false);
        }
        index.insert("manifests".to_owned(), Value::Array(entries));
        let path = self.root().join("index.json");
        let temporary = self.root().join(".index.json.tmp");
        std::fs::write(&temporary, to_json(&index)?).map_err(ImageError::io("write", &temporary))?;
        std::fs::rename(&temporary, &path).map_err(ImageError::io("write", path))?;
        Ok(true)
    }

    fn read_index(&self) -> Result<Map<String, Value>, ImageError> {
        let bytes = read_bounded(&self.root().join("index.json"))?;
        serde_json::from_slice(&bytes).map_err(|error| self.malformed_index(error.to_string()))
    }

    fn malformed_index(&self, problem: String) -> ImageError {
        ImageError::Malformed { what: self.root().join("index.json").display().to_string(), problem }
    }
}

/// A document's bytes, refused when it is too long for one.
pub(crate) fn read_bounded(path: &Path) -> Result<Vec<u8>, ImageError> {
    use std::io::Read;
    let file = File::open(path).map_err(ImageError::io("read", path))?;
    let mut bytes = Vec::new();
    file.take(DOCUMENT_LIMIT + 1).read_to_end(&mut bytes).map_err(ImageError::io("read", path))?;
    if bytes.len() as u64 > DOCUMENT_LIMIT {
        let problem = format!("it is larger than {} MiB", DOCUMENT_LIMIT >> 20);
        return Err(ImageError::Malformed { what: path.display().to_string(), problem });
    }
    Ok(bytes)
}

fn digest_of(entry: &Value) -> Option<&str> {
    entry.get("digest").and_then(Value::as_str)
}

/// The image that bears a name. The last one counts: writers that only append exist.
fn image_of(entries: &[Value], name: &str) -> Option<Digest> {
    let found = entries.iter().rev().find(|entry| name_of(entry) == Some(name))?;
    Digest::parse(digest_of(found)?).ok()
}

fn name_of(entry: &Value) -> Option<&str> {
    let annotation = |key: &str| entry.get("annotations")?.get(key)?.as_str();
    annotation(REF_NAME)
}

pub(crate) fn named(entry: &Value) -> Result<Named, String> {
    let text = |key: &str| entry.get(key).and_then(Value::as_str);
    let digest = text("digest").ok_or("an entry has no digest")?;
    Ok(Named {
        name: name_of(entry).map(str::to_owned),
        digest: Digest::parse(digest).map_err(|error| error.to_string())?,
        media_type: text("mediaType").unwrap_or_default().to_owned(),
        size: entry.get("size").and_then(Value::as_u64).unwrap_or_default(),
    })
}

/// What a manifest or an index is: by what it says, else by what it holds.
pub(crate) fn media_type_of(document: &[u8]) -> Option<String> {
    let value: Value = serde_json::from_slice(document).ok()?;
    if let Some(said) = value.get("mediaType").and_then(Value::as_str) {
        return Some(said.to_owned()).filter(|said| media::is_index(said) || media::is_manifest(said));
    }
    if value.get("manifests").is_some() {
        return Some(media::OCI_INDEX.to_owned());
    }
    value.get("layers").is_some().then(|| media::OCI_MANIFEST.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(layout: &Layout, mark: &str) -> Digest {
        let document = json!({"schemaVersion": 2, "config": {}, "layers": [], "annotations": {"mark": mark}});
        layout.put_document(document.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn a_name_moves_from_image_to_image() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::create(directory.path()).unwrap();
        let (one, two) = (manifest(&layout, "1"), manifest(&layout, "2"));
        layout.set_name("app:1", &one).unwrap();
        layout.set_name("app:latest", &one).unwrap();
        layout.set_name("app:latest", &two).unwrap();
        assert_eq!(layout.resolve_name("app:1").unwrap(), Some(one.clone()));
        assert_eq!(layout.resolve_name("app:latest").unwrap(), Some(two));
        assert_eq!(layout.names().unwrap().len(), 2);
        assert!(layout.remove_name("app:1").unwrap());
        assert!(!layout.remove_name("app:1").unwrap());
        assert_eq!(layout.resolve_name("app:1").unwrap(), None);
        assert!(layout.has(&one), "only the name goes");
    }

    #[test]
    fn only_what_is_there_and_a_manifest_gets_a_name() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::create(directory.path()).unwrap();
        assert!(matches!(layout.set_name("a", &Digest::of(b"x")), Err(ImageError::Missing { .. })));
        let blob = layout.put_document(b"{}").unwrap();
        assert!(matches!(layout.set_name("a", &blob), Err(ImageError::Malformed { .. })));
    }

    #[test]
    fn writers_at_the_same_time_lose_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::create(directory.path()).unwrap();
        let digest = manifest(&layout, "1");
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let (layout, digest) = (&layout, &digest);
                scope.spawn(move || {
                    for round in 0..8 {
                        layout.set_name(&format!("n:{thread}-{round}"), digest).unwrap();
                    }
                });
            }
        });
        assert_eq!(layout.names().unwrap().len(), 64);
    }
}
