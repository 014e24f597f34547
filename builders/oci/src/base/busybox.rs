//! A base of one program: busybox, and links to it under the names of what it can do. For tests and small tools.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use kiln_core::Failure;
use kiln_image::Digest;
use kiln_image::compress::{Compression, LayerWriter};

use super::{Bases, rootfs};
use crate::digest::Parts;
use crate::error::{self, OciError};

/// Where distributions put a busybox that is one file.
const PLACES: [&str; 4] = ["/bin/busybox", "/usr/bin/busybox", "/bin/busybox.static", "/usr/lib/busybox/bin/busybox"];

/// Part of the key: another set of files is another base.
const VERSION: &str = "1";

/// Directories with their modes.
const DIRECTORIES: [(&str, u32); 15] = [
    ("bin", 0o755),
    ("dev", 0o755),
    ("etc", 0o755),
    ("home", 0o755),
    ("proc", 0o755),
    ("root", 0o700),
    ("run", 0o755),
    ("sys", 0o755),
    ("tmp", 0o1777),
    ("usr", 0o755),
    ("usr/bin", 0o755),
    ("usr/local", 0o755),
    ("usr/local/bin", 0o755),
    ("var", 0o755),
    ("var/tmp", 0o1777),
];

/// Files of text.
const FILES: [(&str, &str); 3] = [
    ("etc/group", "root:x:0:\nnogroup:x:65534:\n"),
    ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n"),
    ("etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n"),
];

impl Bases<'_> {
    pub(super) async fn import_busybox(&self, path: Option<&Path>) -> Result<Digest, Failure> {
        let found =
            path.map(Path::to_path_buf).or_else(|| PLACES.iter().map(PathBuf::from).find(|path| is_static(path)));
        let path = found.ok_or_else(|| {
            Failure::environment(OciError::Base("this host has no busybox that is linked statically".to_owned()))
                .hint("install one (`apt-get install busybox-static`), or name it: `from = { busybox = PATH }`")
        })?;
        let key = Parts::new("busybox").with(VERSION).with(self.file_key("busybox", &path)?.as_str()).key();
        let _one_at_a_time = self.place.lock(key.as_str()).await;
        if let Some(entry) = self.known(&key)? {
            return Ok(entry.manifest);
        }
        self.context.events.message(format!("making a base of {}", path.display()));
        self.store().hold().map_err(error::cache)?;
        let layout = self.store().layout().clone();
        let rootfs = rootfs(&self.recipe.platform, Some("sh"), "busybox");
        let manifest = error::blocking(move || {
            let mut content = Vec::new();
            std::fs::File::open(&path)
                .and_then(|mut file| file.read_to_end(&mut content))
                .map_err(error::local("read", &path))?;
            let applets = applets(&path)?;
            let writer = LayerWriter::new(layout.blob_writer().map_err(error::image)?, Compression::default());
            let writer = write(writer, &content, &applets).map_err(error::local("write", layout.root()))?;
            rootfs.finish(writer, &layout, None).map_err(error::image)
        });
        let manifest = manifest.await?;
        self.note(&key, &manifest, None)?;
        Ok(manifest)
    }
}

/// Whether a program needs no loader: its program headers name none.
fn is_static(path: &Path) -> bool {
    let mut start = vec![0; 4096];
    let read = std::fs::File::open(path).and_then(|mut file| file.read(&mut start));
    let Ok(length) = read else { return false };
    let start = &start[..length];
    let number =
        |at: usize| start.get(at..at + 2).map_or(0, |bytes| usize::from(u16::from_le_bytes([bytes[0], bytes[1]])));
    let is_64_bit = start.starts_with(b"\x7fELF") && start.get(4) == Some(&2);
    let headers = start.get(32..40).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes);
    let (size, count) = (number(54), number(56));
    let interpreter = |index: usize| {
        let at = usize::try_from(headers).unwrap_or(usize::MAX).saturating_add(index * size);
        start.get(at..at.saturating_add(4)) == Some(&[3, 0, 0, 0])
    };
    is_64_bit && !(0..count).any(interpreter)
}

/// The names that it goes by.
fn applets(path: &Path) -> Result<Vec<String>, Failure> {
    let failed = |source| Failure::environment(OciError::Program { program: path.display().to_string(), source });
    let output = Command::new(path).arg("--list").env_clear().output().map_err(failed)?;
    let text = String::from_utf8_lossy(&output.stdout);
    let is_plain = |name: &&str| {
        !name.is_empty() && name.chars().all(|letter| letter.is_ascii_alphanumeric() || "[_-.".contains(letter))
    };
    let mut names: Vec<String> = text.lines().map(str::trim).filter(is_plain).map(str::to_owned).collect();
    names.retain(|name| !matches!(name.as_str(), "busybox" | "." | ".."));
    names.sort();
    names.dedup();
    if names.iter().any(|name| name == "sh") {
        return Ok(names);
    }
    Err(Failure::environment(OciError::Base(format!("{} is no busybox with a shell", path.display()))))
}

fn write<W: std::io::Write>(to: LayerWriter<W>, content: &[u8], applets: &[String]) -> std::io::Result<LayerWriter<W>> {
    let mut tar = tar::Builder::new(to);
    let header = |kind: tar::EntryType, mode: u32, size: u64| {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(size);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header
    };
    for (name, mode) in DIRECTORIES {
        tar.append_data(&mut header(tar::EntryType::Directory, mode, 0), format!("{name}/"), std::io::empty())?;
    }
    for (name, text) in FILES {
        tar.append_data(&mut header(tar::EntryType::Regular, 0o644, text.len() as u64), name, text.as_bytes())?;
    }
    tar.append_data(&mut header(tar::EntryType::Regular, 0o755, content.len() as u64), "bin/busybox", content)?;
    for name in applets {
        tar.append_link(&mut header(tar::EntryType::Symlink, 0o777, 0), format!("bin/{name}"), "busybox")?;
    }
    tar.into_inner()
}
