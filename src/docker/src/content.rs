//! What an image has at a path, without a container that runs.

use futures_util::TryStreamExt;
use kiln_core::{Failure, Journal};
use sha2::{Digest, Sha256};

use crate::engine::{ContainerSpec, Engine};
use crate::undo::{self, ContainerUndo};

/// What is larger is not compared.
const MAX_COMPARED: u64 = 512 << 20;

/// What these containers are called in the journal.
const BUILD: &str = "look";

/// What an image has at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Nothing, or an empty directory.
    Nothing,
    /// Too much to compare.
    Large,
    /// Files, by a digest over their names, attributes and bytes.
    Files([u8; 32]),
}

/// Looks into an image by a container that is never started. It is noted in the journal first, and gone afterwards; `run` is the
/// journal's.
///
/// # Errors
/// The engine does not answer, or the journal cannot be written.
pub async fn content(
    engine: &dyn Engine,
    image: &str,
    path: &str,
    run: &str,
    journal: &dyn Journal,
) -> Result<Content, Failure> {
    let name = format!("kiln-look-{run}");
    let mut noted = ContainerUndo {
        engine: engine.address().to_owned(),
        name: name.clone(),
        run: Some(run.to_owned()),
        build: Some(BUILD.to_owned()),
        at: undo::seconds_since_epoch(),
        id: None,
    };
    let entry = journal.record(BUILD, noted.entry())?;
    let labels = [("kiln.run", run), ("kiln.build", BUILD)].map(|(name, value)| (name.to_owned(), value.to_owned()));
    let mut spec = ContainerSpec { name, ..ContainerSpec::default() };
    spec.config.image = Some(image.to_owned());
    spec.config.labels = Some(labels.into_iter().collect());
    // An image may say nothing of what is run in it.
    spec.config.cmd = Some(vec!["true".to_owned()]);
    let looked = match engine.create_container(&spec).await {
        Ok(created) => {
            noted.id = Some(created.id.clone());
            journal.amend(entry, noted.entry())?;
            read(engine, &created.id, path).await
        }
        Err(error) => Err(error.into()),
    };
    undo::remove_container(engine, &noted).await?;
    journal.strike(entry)?;
    looked
}

async fn read(engine: &dyn Engine, container: &str, path: &str) -> Result<Content, Failure> {
    if engine.stat_path(container, path).await?.is_none() {
        return Ok(Content::Nothing);
    }
    let mut stream = engine.get_archive(container, path).await?;
    let mut summary = Summary::default();
    while let Some(chunk) = stream.try_next().await.map_err(Failure::environment)? {
        summary.add(&chunk);
        if summary.length > MAX_COMPARED {
            return Ok(Content::Large);
        }
    }
    Ok(summary.content())
}

const BLOCK: usize = 512;

/// The digest of a tar without the times in it, block by block.
#[derive(Default)]
struct Summary {
    digest: Sha256,
    header: Vec<u8>,
    /// Bytes that are left of an entry, with what fills its last block.
    left: u64,
    length: u64,
    has_files: bool,
    entries: u64,
}

impl Summary {
    fn add(&mut self, mut bytes: &[u8]) {
        self.length += bytes.len() as u64;
        while !bytes.is_empty() {
            if self.left > 0 {
                let taken = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
                self.digest.update(&bytes[..taken]);
                self.left -= taken as u64;
                bytes = &bytes[taken..];
                continue;
            }
            let taken = (BLOCK - self.header.len()).min(bytes.len());
            self.header.extend_from_slice(&bytes[..taken]);
            bytes = &bytes[taken..];
            if self.header.len() == BLOCK {
                self.entry();
            }
        }
    }

    /// Fields of a header: size at 124, time at 136, checksum at 148, type at 156.
    fn entry(&mut self) {
        let mut header = std::mem::take(&mut self.header);
        if header.iter().all(|byte| *byte == 0) {
            return;
        }
        self.left = size(&header[124..136]).next_multiple_of(BLOCK as u64);
        // What belongs to the next entry is none of its own.
        if !matches!(header[156], b'x' | b'g' | b'L' | b'K') {
            self.entries += 1;
            self.has_files |= header[156] != b'5';
        }
        header[136..156].fill(0);
        self.digest.update(&header);
    }

    /// The first entry is the path itself.
    fn content(self) -> Content {
        match self.entries > 1 || self.has_files {
            true => Content::Files(self.digest.finalize().into()),
            false => Content::Nothing,
        }
    }
}

/// Octal digits; beyond 8 GiB a number in base 256.
fn size(field: &[u8]) -> u64 {
    if field[0] & 0x80 != 0 {
        return field[4..].iter().fold(0, |size, byte| (size << 8) | u64::from(*byte));
    }
    let digits = field.iter().filter(|byte| (b'0'..=b'7').contains(byte));
    digits.fold(0, |size, digit| size * 8 + u64::from(digit - b'0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tar(entries: &[(&str, Option<&str>)], time: u64) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, text) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_mtime(time);
            header.set_mode(0o755);
            header.set_size(text.map_or(0, |text| text.len() as u64));
            let kind = if text.is_some() { tar::EntryType::Regular } else { tar::EntryType::Directory };
            header.set_entry_type(kind);
            builder.append_data(&mut header, name, text.unwrap_or_default().as_bytes()).unwrap();
        }
        builder.into_inner().unwrap()
    }

    /// In pieces of several sizes, as they may come.
    fn content(tar: &[u8]) -> Content {
        let of = |size: usize| {
            let mut summary = Summary::default();
            tar.chunks(size).for_each(|chunk| summary.add(chunk));
            summary.content()
        };
        assert!(of(1) == of(4096) && of(700) == of(4096));
        of(4096)
    }

    #[test]
    fn content_is_compared_without_times() {
        let long = "n".repeat(150);
        let whole = |text, time| content(&tar(&[("x/", None), ("x/a", Some(text)), (&long, Some("more"))], time));
        assert_eq!(whole("one", 1), whole("one", 2));
        assert_ne!(whole("one", 1), whole("two", 1));
        assert_ne!(whole("one", 1), content(&tar(&[("x/", None), ("x/a", Some("one"))], 1)));
        assert_eq!(content(&tar(&[("x/", None)], 1)), Content::Nothing);
        assert_ne!(content(&tar(&[("x", Some("a file"))], 1)), Content::Nothing);
    }
}
