//! Archives into a layout, in one pass: what an entry is for is often told by a later one.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::{Value, json};

use super::*;
use crate::config::ImageConfig;
use crate::image::to_json;
use crate::layout::DOCUMENT_LIMIT;
use crate::media::{LayerCompression, ManifestFormat};
use crate::unpack::stream::Source;
use crate::unpack::tar::{self, Entry, Kind};
use crate::unpack::{Limits, clean_path};

/// Documents of one archive together.
const DOCUMENTS_LIMIT: u64 = 64 << 20;

/// Reads an archive of images into a layout: of `docker save` (all its forms), of skopeo, podman, buildah or bazel, or a tar
/// of an OCI layout; compressed or not. Everything is checked against the digests that the archive tells.
///
/// # Errors
/// It is no such archive, or damaged.
pub fn import_archive(reader: impl Read + Send, layout: &Layout) -> Result<Vec<Imported>, ImageError> {
    let limits = Limits::default();
    let mut members = Members::new(layout);
    std::thread::scope(|scope| {
        let mut source = Source::without_digest(scope, reader, &limits);
        while let Some(entry) = tar::next(&mut source, &limits).map_err(|error| broken(error.to_string()))? {
            members.take(&mut source, &entry)?;
        }
        Ok(())
    })?;
    let described = members.docker_images()?;
    if let Some(index) = members.document("index.json") {
        let index = index.to_vec();
        return members.oci_images(&index, described.as_deref().unwrap_or_default());
    }
    match described {
        Some(described) => described.into_iter().map(|image| members.docker_image(image)).collect(),
        None => Err(broken("it has neither manifest.json nor index.json".to_owned())),
    }
}

fn broken(problem: String) -> ImageError {
    ImageError::Malformed { what: "the archive of images".to_owned(), problem }
}

/// A file of the archive.
enum Member {
    /// Small, and begins as JSON does.
    Document(Vec<u8>),
    /// In the layout.
    Blob { digest: Digest, size: u64, compression: LayerCompression },
    /// Old archives link equal layers to each other.
    Link(String),
}

/// What `manifest.json` says of an image.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Described {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

struct Members<'a> {
    layout: &'a Layout,
    members: HashMap<String, Member>,
    documents: u64,
}

impl<'a> Members<'a> {
    fn new(layout: &'a Layout) -> Members<'a> {
        Members { layout, members: HashMap::new(), documents: 0 }
    }

    fn take(&mut self, source: &mut Source<'_>, entry: &Entry) -> Result<(), ImageError> {
        let name = clean_path(&entry.path).map_err(|problem| broken(format!("an entry {problem}")))?;
        let name = String::from_utf8_lossy(&name).into_owned();
        let damaged = |error: io::Error| broken(error.to_string());
        let member = match entry.kind {
            Kind::File if entry.sparse.is_none() => self.file(source, &name, entry.size)?,
            Kind::Symlink => {
                let above = name.rsplit_once('/').map_or("", |(above, _)| above);
                Some(Member::Link(beside(above, &String::from_utf8_lossy(&entry.link))))
            }
            Kind::HardLink => Some(Member::Link(beside("", &String::from_utf8_lossy(&entry.link)))),
            _ => {
                source.skip(entry.size).map_err(damaged)?;
                None
            }
        };
        source.skip(tar::padding(entry.size)).map_err(damaged)?;
        if let Some(member) = member {
            self.members.insert(name, member);
        }
        Ok(())
    }

    fn file(&mut self, source: &mut Source<'_>, name: &str, size: u64) -> Result<Option<Member>, ImageError> {
        let told = name.strip_prefix("blobs/sha256/").and_then(|hex| Digest::parse(&format!("sha256:{hex}")).ok());
        let mut start = vec![0; usize::try_from(size.min(4)).unwrap_or_default()];
        fill(source, &mut start)?;
        if matches!(start.first(), Some(b'{' | b'[')) && size <= DOCUMENT_LIMIT {
            return self.keep_document(source, start, size, told).map(Some);
        }
        let compression = LayerCompression::detect(&start);
        let digest = match told {
            Some(told) if self.layout.has(&told) => {
                source.skip(size - start.len() as u64).map_err(|error| broken(error.to_string()))?;
                told
            }
            told => self.put_blob(source, &start, size, told)?,
        };
        Ok(Some(Member::Blob { digest, size, compression }))
    }

    fn keep_document(
        &mut self,
        source: &mut Source<'_>,
        start: Vec<u8>,
        size: u64,
        told: Option<Digest>,
    ) -> Result<Member, ImageError> {
        self.documents += size;
        if self.documents > DOCUMENTS_LIMIT {
            return Err(broken(format!("its documents have more than {} MiB", DOCUMENTS_LIMIT >> 20)));
        }
        let mut document = start;
        let begun = document.len();
        document.resize(usize::try_from(size).unwrap_or_default(), 0);
        fill(source, &mut document[begun..])?;
        let found = Digest::of(&document);
        match told.filter(|told| *told != found) {
            Some(wanted) => Err(ImageError::Mismatch { wanted, found }),
            None => Ok(Member::Document(document)),
        }
    }

    fn put_blob(
        &self,
        source: &mut Source<'_>,
        start: &[u8],
        size: u64,
        told: Option<Digest>,
    ) -> Result<Digest, ImageError> {
        let unwritable = || ImageError::io("write", self.layout.root());
        let mut writer = self.layout.blob_writer()?;
        writer.write_all(start).map_err(unwritable())?;
        while writer.size() < size {
            let part = source.take(size - writer.size()).map_err(|error| broken(error.to_string()))?;
            if part.is_empty() {
                return Err(broken(crate::unpack::stream::truncated().to_string()));
            }
            writer.write_all(part).map_err(unwritable())?;
        }
        match told {
            Some(told) => writer.finish_as(&told, Some(size)).map(|()| told),
            None => writer.finish().map(|(digest, _)| digest),
        }
    }

    /// Follows links, but not in circles.
    fn member(&self, name: &str) -> Option<&Member> {
        let mut name = beside("", name);
        for _ in 0..8 {
            match self.members.get(&name)? {
                Member::Link(target) => name = target.clone(),
                member => return Some(member),
            }
        }
        None
    }

    fn document(&self, name: &str) -> Option<&[u8]> {
        match self.member(name)? {
            Member::Document(bytes) => Some(bytes),
            _ => None,
        }
    }

    fn docker_images(&self) -> Result<Option<Vec<Described>>, ImageError> {
        let Some(document) = self.document("manifest.json") else { return Ok(None) };
        let described = serde_json::from_slice(document).map_err(|error| broken(format!("manifest.json: {error}")))?;
        Ok(Some(described))
    }

    /// An image of the old form: it gets a manifest; its config, and so its id, stays.
    fn docker_image(&self, described: Described) -> Result<Imported, ImageError> {
        let raw = self.document(&described.config).ok_or_else(|| {
            broken(format!("manifest.json names the config `{}`, which is not there", described.config))
        })?;
        let config_digest = Digest::of(raw);
        let stem = described.config.rsplit('/').next().unwrap_or_default().trim_end_matches(".json");
        let told = Digest::parse(&format!("sha256:{}", stem.trim_start_matches("sha256:")));
        if let Some(wanted) = told.ok().filter(|told| *told != config_digest) {
            return Err(ImageError::Mismatch { wanted, found: config_digest });
        }
        let config = ImageConfig::parse(raw, &config_digest)?;
        let names = described.layers.unwrap_or_default();
        let diff_ids = &config.rootfs.diff_ids;
        if names.len() != diff_ids.len() {
            return Err(broken(format!("an image has {} layers, its config {}", names.len(), diff_ids.len())));
        }
        let mut layers = Vec::new();
        for (name, diff_id) in names.iter().zip(diff_ids) {
            let Some(Member::Blob { digest, size, compression }) = self.member(name) else {
                return Err(broken(format!("manifest.json names the layer `{name}`, which is not there")));
            };
            // What is compressed is checked when it is unpacked.
            if *compression == LayerCompression::None && digest != diff_id {
                return Err(ImageError::Mismatch { wanted: diff_id.clone(), found: digest.clone() });
            }
            let media_type = ManifestFormat::Oci.layer(*compression)?;
            layers.push(json!({"mediaType": media_type, "digest": digest.as_str(), "size": size}));
        }
        self.layout.put_document(raw)?;
        let format = ManifestFormat::Oci;
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": format.manifest(),
            "config": {"mediaType": format.config(), "digest": config_digest.as_str(), "size": raw.len()},
            "layers": layers,
        });
        let digest = self.layout.put_document(&to_json(&manifest)?)?;
        let names = described.repo_tags.unwrap_or_default();
        Ok(Imported { names, digest, media_type: format.manifest().to_owned() })
    }

    /// Images of a layout; names come from `manifest.json` where it knows the same image, and are then as people write them.
    fn oci_images(&self, index: &[u8], described: &[Described]) -> Result<Vec<Imported>, ImageError> {
        let index: Value = serde_json::from_slice(index).map_err(|error| broken(format!("index.json: {error}")))?;
        let entries = index.get("manifests").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let mut imported: Vec<Imported> = Vec::new();
        for entry in entries {
            let named = names::named(entry).map_err(|problem| broken(format!("index.json: {problem}")))?;
            let config = self.put_image(&named.digest)?;
            let containerd = entry.get("annotations").and_then(|all| all.get(names::CONTAINERD_NAME)?.as_str());
            let tags = config.and_then(|config| {
                let same = described.iter().find(|image| image.config.ends_with(config.hex()));
                same.and_then(|image| image.repo_tags.clone()).filter(|tags| !tags.is_empty())
            });
            let of_entry = || containerd.map(str::to_owned).or(named.name).into_iter().collect();
            let names = tags.unwrap_or_else(of_entry);
            match imported.iter_mut().find(|earlier| earlier.digest == named.digest) {
                Some(earlier) => {
                    let new = names.into_iter().filter(|name| !earlier.names.contains(name)).collect::<Vec<_>>();
                    earlier.names.extend(new);
                }
                None => imported.push(Imported { names, digest: named.digest, media_type: named.media_type }),
            }
        }
        if imported.is_empty() { Err(broken("its index.json names no image".to_owned())) } else { Ok(imported) }
    }

    /// Puts the documents of an image, or of all of an index that are there, into the layout. Tells the config of an image.
    fn put_image(&self, digest: &Digest) -> Result<Option<Digest>, ImageError> {
        let raw = self.blob_document(digest)?;
        let Some(children) = children(raw, digest)? else { return self.put_one(digest).map(Some) };
        self.layout.put_document(raw)?;
        for child in children.iter().filter(|child| self.blob_document(child).is_ok()) {
            self.put_one(child)?;
        }
        Ok(None)
    }

    /// Puts the documents of an image into the layout, and tells its config. An index is none, whatever another one says.
    fn put_one(&self, digest: &Digest) -> Result<Digest, ImageError> {
        let raw = self.blob_document(digest)?;
        self.layout.put_document(raw)?;
        let value: Value = serde_json::from_slice(raw).map_err(|error| broken(format!("{digest}: {error}")))?;
        let config = value.pointer("/config/digest").and_then(Value::as_str).unwrap_or_default();
        let config = Digest::parse(config)?;
        // What is no image (a signature, an attestation) may have anything for its config.
        match self.member(&format!("blobs/sha256/{}", config.hex())) {
            Some(Member::Document(raw)) => drop(self.layout.put_document(raw)?),
            Some(_) => {}
            None => {
                return Err(ImageError::Missing { digest: config, layout: self.layout.root().to_owned() });
            }
        }
        Ok(config)
    }

    fn blob_document(&self, digest: &Digest) -> Result<&[u8], ImageError> {
        self.document(&format!("blobs/sha256/{}", digest.hex()))
            .ok_or_else(|| broken(format!("it names {digest}, which is not there")))
    }
}

fn fill(source: &mut Source<'_>, buffer: &mut [u8]) -> Result<(), ImageError> {
    let is_full = source.fill(buffer).map_err(|error| broken(error.to_string()))?;
    if is_full || buffer.is_empty() { Ok(()) } else { Err(broken(crate::unpack::stream::truncated().to_string())) }
}

/// A path as seen from a directory of the archive, without `.` and `..`; above the root is the root.
fn beside(directory: &str, path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in directory.split('/').filter(|_| !path.starts_with('/')).chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}
