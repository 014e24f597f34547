//! Builds that run side by side, also in several processes, take turns at one file.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use kiln_core::BuildContext;
use rustix::fs::FlockOperation;
use rustix::io::Errno;

use crate::error::PublishError;

/// How long another build may hold the file; each holds it for milliseconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// After which it is said that we wait.
const SILENCE: Duration = Duration::from_secs(1);

/// How often it is tried.
const INTERVAL: Duration = Duration::from_millis(20);

/// The right to change a file; given back when dropped.
pub(crate) struct FileLock {
    path: PathBuf,
    _file: File,
}

impl FileLock {
    /// Waits for the right to change `target`: an exclusive `flock` on `TARGET.lock`.
    pub(crate) async fn acquire(context: &BuildContext, target: &Path) -> Result<FileLock, PublishError> {
        let mut name = target.as_os_str().to_owned();
        name.push(".lock");
        let path = PathBuf::from(name);
        if let Some(parent) = path.parent() {
            tokio::fs::create_dir_all(parent).await.map_err(PublishError::file("make the directory", parent))?;
        }
        let started = Instant::now();
        let mut is_told = false;
        loop {
            if let Some(file) = try_lock(&path).await? {
                return Ok(FileLock { path, _file: file });
            }
            if started.elapsed() >= PATIENCE {
                return Err(PublishError::Locked { path, seconds: PATIENCE.as_secs() });
            }
            if !is_told && started.elapsed() >= SILENCE {
                context.events.message(format!("waiting for {}, which another build holds", path.display()));
                is_told = true;
            }
            tokio::select! {
                () = context.cancel.cancelled() => return Err(PublishError::Cancelled),
                () = tokio::time::sleep(INTERVAL) => {}
            }
        }
    }
}

async fn try_lock(path: &Path) -> Result<Option<File>, PublishError> {
    let mut options = tokio::fs::OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o666);
    let file = options.open(path).await.map_err(PublishError::file("open the lock", path))?.into_std().await;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => return Ok(None),
        Err(error) => return Err(PublishError::file("lock", path)(error.into())),
    }
    // The holder before us removes the file when done: a lock on a removed file locks nobody else out.
    let locked = file.metadata().map_err(PublishError::file("look at", path))?;
    let present = tokio::fs::metadata(path).await;
    let is_same = present.is_ok_and(|present| present.ino() == locked.ino() && present.dev() == locked.dev());
    Ok(is_same.then_some(file))
}

impl Drop for FileLock {
    fn drop(&mut self) {
        // Removed while still held, so that nobody locks it between; closing it gives the lock back.
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::Bench;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn only_one_holds_it_at_a_time() {
        use std::sync::Arc;
        use std::sync::atomic::{AtomicUsize, Ordering};
        let bench = Bench::new();
        let target = bench.path("out.json");
        let inside = Arc::new(AtomicUsize::new(0));
        let tasks: Vec<_> = (0..8)
            .map(|_| {
                let (context, target, inside) = (bench.context.clone(), target.clone(), Arc::clone(&inside));
                tokio::spawn(async move {
                    let _lock = FileLock::acquire(&context, &target).await.unwrap();
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                    tokio::task::yield_now().await;
                    inside.fetch_sub(1, Ordering::SeqCst);
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        assert!(!bench.path("out.json.lock").exists());
    }

    #[tokio::test]
    async fn waiting_ends_when_the_build_is_stopped() {
        let bench = Bench::new();
        let target = bench.path("out.json");
        let _held = FileLock::acquire(&bench.context, &target).await.unwrap();
        bench.context.cancel.cancel();
        assert!(matches!(FileLock::acquire(&bench.context, &target).await, Err(PublishError::Cancelled)));
    }
}
