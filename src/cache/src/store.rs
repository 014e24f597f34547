//! The store as a whole: opening, locks, leases, secrets' digests.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kiln_core::Key;
use kiln_image::Layout;

use crate::disk::{self, Durability};
use crate::error::CacheError;
use crate::files;
use crate::lease::Lease;
use crate::mac;
use crate::states::StateEntry;

/// Version of what lies in a store; it stands in its `version` file.
pub(crate) const FORMAT: &str = "1";

/// Directories of a store.
pub(crate) const DIRECTORIES: [&str; 10] =
    ["layers", "bases", "steps", "sealed", "ids", "results", "plans", "work", "tmp", "leases"];

/// Removes trees of a store.
pub trait Remover: Send + Sync {
    /// Removes a directory with all in it, or a file.
    ///
    /// # Errors
    /// Something is left.
    fn remove(&self, path: &Path) -> io::Result<()>;
}

/// Removes with the rights of this process; for stores whose files all belong to it.
#[derive(Debug, Clone, Copy, Default)]
pub struct PlainRemover;

impl Remover for PlainRemover {
    fn remove(&self, path: &Path) -> io::Result<()> {
        if !files::is_directory(path) {
            return std::fs::remove_file(path);
        }
        match std::fs::remove_dir_all(path) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                open_up(path)?;
                std::fs::remove_dir_all(path)
            }
            other => other,
        }
    }
}

/// Makes directories of ours removable: images have some that nobody may write to, overlays one that nobody may read.
fn open_up(path: &Path) -> io::Result<()> {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700))?;
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            open_up(&entry.path())?;
        }
    }
    Ok(())
}

/// How a store is used.
#[derive(Clone)]
pub struct StoreOptions {
    /// Removes trees. A rootless store needs one that works inside the user namespace.
    pub remover: Arc<dyn Remover>,
    /// The boot of the machine; for tests.
    pub boot: Option<String>,
}

impl Default for StoreOptions {
    fn default() -> StoreOptions {
        StoreOptions { remover: Arc::new(PlainRemover), boot: disk::boot_id() }
    }
}

impl std::fmt::Debug for StoreOptions {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("StoreOptions").field("boot", &self.boot).finish_non_exhaustive()
    }
}

/// A store of this user and one id map. What is found in it or put into it is protected from collection as long as the
/// value lives. Share it by `Arc`; several processes may use one store at the same time.
#[derive(Debug)]
pub struct Store {
    pub(crate) root: PathBuf,
    pub(crate) options: StoreOptions,
    pub(crate) durability: Durability,
    layout: Layout,
    secret: [u8; 32],
    lease: Mutex<Option<Lease>>,
    /// States that were found whole, down to their base; they are leased, so they stay.
    pub(crate) found: Mutex<HashMap<Key, StateEntry>>,
    changed: AtomicBool,
}

/// The store's lock, held.
pub(crate) struct Locked {
    _file: File,
}

impl Store {
    /// Opens a store, or makes it.
    ///
    /// # Errors
    /// It cannot be made or read, or somebody else may write to it.
    pub fn open(root: &Path, options: &StoreOptions) -> Result<Store, CacheError> {
        if let Some(place) = root.parent().filter(|place| !place.as_os_str().is_empty()) {
            make_place(place)?;
        }
        let version = root.join("version");
        let fresh = !version.exists();
        if fresh {
            files::create_private(root)?;
        }
        check_owner(root)?;
        if fresh {
            for name in DIRECTORIES {
                files::create_private(&root.join(name))?;
            }
            files::write_whole(&root.join("tmp"), &version, FORMAT.as_bytes(), false)?;
        } else if files::read_limited(&version, 16).as_deref() != Some(FORMAT.as_bytes()) {
            adopt(root, options)?;
        }
        let durability = Durability::of(root, options.boot.clone());
        if durability.is_first_look(root) {
            let _locked = lock(root, File::lock)?;
            durability.forget_unsynced(root)?;
        }
        Ok(Store {
            layout: Layout::create(root)?,
            secret: secret(root)?,
            root: root.to_owned(),
            options: options.clone(),
            durability,
            lease: Mutex::new(None),
            found: Mutex::new(HashMap::new()),
            changed: AtomicBool::new(false),
        })
    }

    /// The images in it, and their blobs. Blobs are safe from collection while any store value other than the
    /// collector's holds a lease; see [`Store::hold`].
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Its directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where a living build works: `work/NAME`. Not made here: its undo is to be noted first.
    pub fn work_directory(&self, name: &str) -> PathBuf {
        self.root.join("work").join(name)
    }

    /// Digest of a secret that says nothing to those who do not have this store's key.
    pub fn keyed_digest(&self, secret: &[u8]) -> String {
        mac::hmac_sha256(&self.secret, secret)
    }

    /// From now on, while this value lives, no blob is collected, nor anything that is being made in the store. Finding or
    /// beginning anything does the same; this is for who works on the layout alone.
    ///
    /// # Errors
    /// The lease cannot be written.
    pub fn hold(&self) -> Result<(), CacheError> {
        let locked = self.lock_shared()?;
        self.lease(&locked, None)
    }

    /// Whether this value added anything; then [`Store::sync`] and a collection are worth their time.
    pub fn has_changed(&self) -> bool {
        self.changed.load(Ordering::Relaxed)
    }

    /// Brings everything to the disk, so that it counts after the next boot. Slow: builds leave it to a process of its own.
    ///
    /// # Errors
    /// The disk fails.
    pub fn sync(&self) -> Result<(), CacheError> {
        disk::sync(&self.root)
    }

    pub(crate) fn note_change(&self) {
        self.changed.store(true, Ordering::Relaxed);
    }

    pub(crate) fn temporary(&self) -> PathBuf {
        self.root.join("tmp")
    }

    /// Held while something is looked up and leased; a collector waits for that.
    pub(crate) fn lock_shared(&self) -> Result<Locked, CacheError> {
        lock(&self.root, File::lock_shared)
    }

    /// Held while entries are taken away.
    pub(crate) fn lock_exclusive(&self) -> Result<Locked, CacheError> {
        lock(&self.root, File::lock)
    }

    /// Adds an entry to the lease; `None` only starts it.
    pub(crate) fn lease(&self, _locked: &Locked, entry: Option<String>) -> Result<(), CacheError> {
        let mut guard = self.own_lease();
        let lease = match guard.take() {
            Some(lease) => lease,
            None => Lease::start(&self.root.join("leases"))?,
        };
        let lease = guard.insert(lease);
        entry.map_or(Ok(()), |entry| lease.add(entry))
    }

    pub(crate) fn own_lease(&self) -> MutexGuard<'_, Option<Lease>> {
        self.lease.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves an entry out of sight, to be removed by [`Store::remove`].
    pub(crate) fn discard(&self, path: &Path) -> Result<PathBuf, CacheError> {
        let to = self.temporary().join(format!("trash-{}", files::random_name()));
        std::fs::rename(path, &to).map_err(CacheError::io("remove", path))?;
        Ok(to)
    }

    /// Removes what nobody sees any more. What cannot be removed now is tried again by the next collection.
    pub(crate) fn remove(&self, path: &Path) {
        let _ = self.options.remover.remove(path);
    }

    /// Puts a filled directory in its place; `false` where a usable one is there already, and then ours is dropped.
    pub(crate) fn place(&self, filled: &Path, to: &Path, is_usable: impl Fn() -> bool) -> Result<bool, CacheError> {
        self.note_change();
        // Where somebody was first, the kernel refuses: the directory there is not empty.
        let moved = std::fs::rename(filled, to);
        match moved {
            Ok(()) => return Ok(true),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory
                ) => {}
            Err(error) => return Err(CacheError::io("write", to)(error)),
        }
        let mut trash = None;
        let placed = {
            // Exclusive, so that of two who find the same broken entry only one takes it away.
            let _locked = self.lock_exclusive()?;
            if is_usable() {
                false
            } else {
                trash = Some(self.discard(to)?);
                std::fs::rename(filled, to).map_err(CacheError::io("write", to))?;
                true
            }
        };
        if let Some(trash) = trash {
            self.remove(&trash);
        }
        if !placed {
            self.remove(filled);
        }
        Ok(placed)
    }
}

fn lock(root: &Path, how: fn(&File) -> io::Result<()>) -> Result<Locked, CacheError> {
    let path = root.join("lock");
    let file = File::options().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = file.map_err(CacheError::io("open", &path))?;
    how(&file).map_err(CacheError::io("lock", &path))?;
    Ok(Locked { _file: file })
}

/// Makes the directory that stores lie in, or looks at one that is there: whoever may rename what is in it can put another
/// store in a store's place. What is ours is closed to others; what somebody else left where everybody may leave things, as in
/// the temporary directory, is refused.
///
/// # Errors
/// It cannot be made, or is somebody else's.
pub fn make_place(directory: &Path) -> Result<(), CacheError> {
    files::create_private(directory)?;
    let caller = rustix::process::geteuid().as_raw();
    let read = |path: &Path| std::fs::symlink_metadata(path).map_err(CacheError::io("read", path));
    let real = directory.canonicalize().map_err(CacheError::io("read", directory))?;
    // The link is somebody's, too.
    for path in [directory, &real] {
        let metadata = read(path)?;
        let owner = metadata.uid();
        let mode = metadata.permissions().mode();
        if owner == caller {
            let is_open = metadata.is_dir() && mode & 0o022 != 0 && mode & 0o1000 == 0;
            if is_open {
                let closed = std::fs::Permissions::from_mode(mode & 0o7755);
                std::fs::set_permissions(path, closed).map_err(CacheError::io("protect", path))?;
            }
            continue;
        }
        let above = path.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let is_anybodys = std::fs::metadata(above).is_ok_and(|above| above.permissions().mode() & 0o002 != 0);
        if owner != 0 && is_anybodys {
            return Err(CacheError::Untrusted { path: path.to_owned(), problem: "belongs to another user" });
        }
    }
    Ok(())
}

/// Refuses what somebody else may have filled.
fn check_owner(root: &Path) -> Result<(), CacheError> {
    let metadata = std::fs::symlink_metadata(root).map_err(CacheError::io("read", root))?;
    let untrusted = |problem| Err(CacheError::Untrusted { path: root.to_owned(), problem });
    if !metadata.is_dir() {
        return untrusted("is not a directory");
    }
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        return untrusted("belongs to another user");
    }
    match metadata.permissions().mode() & 0o777 {
        mode if mode & 0o022 != 0 => untrusted("may be written to by others"),
        // Set-uid programs of images lie in it.
        mode if mode & 0o055 != 0 => std::fs::set_permissions(root, std::fs::Permissions::from_mode(0o700))
            .map_err(CacheError::io("protect", root)),
        _ => Ok(()),
    }
}

/// Takes over a store of another version: its entries mean nothing to us, its blobs are named by what they are.
fn adopt(root: &Path, options: &StoreOptions) -> Result<(), CacheError> {
    let locked = lock(root, File::lock)?;
    let version = root.join("version");
    if files::read_limited(&version, 16).as_deref() == Some(FORMAT.as_bytes()) {
        return Ok(());
    }
    if crate::lease::living(&root.join("leases"), None).others {
        return Err(CacheError::OtherVersion(root.to_owned()));
    }
    let mut trash = Vec::new();
    for name in DIRECTORIES {
        let path = root.join(name);
        if !matches!(name, "tmp" | "leases" | "work") && path.exists() {
            let to = root.join("tmp").join(format!("trash-{}", files::random_name()));
            std::fs::rename(&path, &to).map_err(CacheError::io("remove", &path))?;
            trash.push(to);
        }
        files::create_private(&path)?;
    }
    files::write_whole(&root.join("tmp"), &version, FORMAT.as_bytes(), true)?;
    drop(locked);
    for path in trash {
        let _ = options.remover.remove(&path);
    }
    Ok(())
}

/// The key of [`Store::keyed_digest`]; the first process makes it.
fn secret(root: &Path) -> Result<[u8; 32], CacheError> {
    let path = root.join("hmac-key");
    let read = || files::read_limited(&path, 32).and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    if let Some(secret) = read() {
        return Ok(secret);
    }
    let _locked = lock(root, File::lock)?;
    if let Some(secret) = read() {
        return Ok(secret);
    }
    let mut secret = [0u8; 32];
    let mut filled = 0;
    while filled < secret.len() {
        filled += rustix::rand::getrandom(&mut secret[filled..], rustix::rand::GetRandomFlags::empty())
            .map_err(|error| CacheError::io("create", &path)(error.into()))?;
    }
    files::write_whole(&root.join("tmp"), &path, &secret, false)?;
    Ok(secret)
}
