//! What was found out is remembered in the store, since trying takes longer than a whole rebuild of nothing: as long as the
//! machine has not been started anew, the caller is the same in all that counts, and for an hour.
//!
//! What is remembered wrongly shows when a session cannot be started; nobody gains a right by it.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{Read, Write as _};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::spec::{Chosen, Isolation};

const AGE: Duration = Duration::from_secs(3600);
/// Counts up when the meaning of a finding changes.
const FORMAT: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Remembered {
    circumstances: String,
    chosen: Vec<(Option<Isolation>, Chosen)>,
}

/// The store's memory, for one caller under one set of circumstances.
pub(super) struct Memory {
    file: PathBuf,
    circumstances: String,
}

impl Memory {
    pub(super) fn of(store: &Path, uid: u32) -> Memory {
        Memory { file: store.join(format!(".probe-{uid}.json")), circumstances: circumstances(store) }
    }

    /// What was chosen before, when the same was wanted.
    pub(super) fn recall(&self, wanted: Option<Isolation>) -> Option<Chosen> {
        let remembered = self.read()?;
        remembered.chosen.into_iter().find(|(before, _)| *before == wanted).map(|(_, chosen)| chosen)
    }

    /// Where it cannot be kept it is found out again.
    pub(super) fn keep(&self, wanted: Option<Isolation>, chosen: &Chosen) {
        let mut all = self.read().map_or_else(Vec::new, |remembered| remembered.chosen);
        all.retain(|(before, _)| *before != wanted);
        all.push((wanted, chosen.clone()));
        let remembered = Remembered { circumstances: self.circumstances.clone(), chosen: all };
        let written = serde_json::to_vec(&remembered).ok().and_then(|text| {
            let draft = self.file.with_extension(format!("{}.draft", std::process::id()));
            // Of a killed process with this number; or a link that leads to a file of ours.
            _ = fs::remove_file(&draft);
            File::options().write(true).create_new(true).mode(0o600).open(&draft).ok()?.write_all(&text).ok()?;
            fs::rename(&draft, &self.file).map_err(|_| fs::remove_file(&draft)).ok()
        });
        _ = written;
    }

    pub(super) fn forget(&self) {
        _ = fs::remove_file(&self.file);
    }

    /// What somebody else wrote, what is old, and what was found under other circumstances is not there.
    fn read(&self) -> Option<Remembered> {
        let mut file =
            File::options().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(&self.file).ok()?;
        let metadata = file.metadata().ok()?;
        let ours = metadata.uid() == rustix::process::geteuid().as_raw() && metadata.mode() & 0o022 == 0;
        let fresh = metadata.modified().ok()?.elapsed().ok()? < AGE;
        if !metadata.is_file() || !ours || !fresh {
            return None;
        }
        let mut text = Vec::new();
        file.read_to_end(&mut text).ok()?;
        let remembered: Remembered = serde_json::from_slice(&text).ok()?;
        (remembered.circumstances == self.circumstances).then_some(remembered)
    }
}

/// Everything that the outcome depends on and that can be read cheaply.
fn circumstances(store: &Path) -> String {
    let mut text = format!("{FORMAT} {}\n", env!("CARGO_PKG_VERSION"));
    let wanted = ["Uid:", "Gid:", "Cap", "NoNewPrivs:", "Seccomp"];
    for line in read("/proc/self/status").lines().filter(|line| wanted.iter().any(|name| line.starts_with(name))) {
        text.push_str(line);
        text.push('\n');
    }
    for file in [
        "/proc/sys/kernel/random/boot_id",
        "/proc/self/uid_map",
        "/proc/self/gid_map",
        "/proc/self/attr/current",
        "/proc/sys/user/max_user_namespaces",
        "/proc/sys/kernel/unprivileged_userns_clone",
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
    ] {
        text.push_str(&read(file));
    }
    // Another container on the same store: other name spaces, and maybe other parts of /proc hidden.
    for name in ["mnt", "pid", "user"] {
        let link = fs::read_link(format!("/proc/self/ns/{name}")).unwrap_or_default();
        _ = writeln!(text, "{}", link.display());
    }
    for file in [Path::new("/etc/subuid"), Path::new("/etc/subgid"), Path::new("/usr/bin/newuidmap"), store] {
        match fs::metadata(file) {
            // The store itself changes with everything that is put into it.
            Ok(metadata) if file == store => _ = writeln!(text, "{}", metadata.dev()),
            Ok(metadata) => _ = writeln!(text, "{} {}", metadata.ino(), metadata.ctime()),
            Err(_) => text.push_str("none\n"),
        }
    }
    text
}

fn read(file: &str) -> String {
    fs::read(file).map_or_else(|_| String::new(), |text| String::from_utf8_lossy(&text).into_owned())
}
