//! Wakes a session's thread while it waits for its socket.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{EventfdFlags, eventfd};

/// An event descriptor that is written at most once until the thread looked.
#[derive(Debug)]
pub(super) struct Wake {
    descriptor: OwnedFd,
    is_pending: AtomicBool,
}

impl Wake {
    pub(super) fn new() -> io::Result<Wake> {
        let descriptor = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Wake { descriptor, is_pending: AtomicBool::new(false) })
    }

    /// Tells the thread that there is something for it. What it is must have been put where it looks before.
    pub(super) fn wake(&self) {
        if !self.is_pending.swap(true, Ordering::SeqCst) {
            // The counter cannot overflow, as it is written once at most.
            let _ = rustix::io::write(&self.descriptor, &1_u64.to_ne_bytes());
        }
    }

    /// Whether it was woken since [`Wake::clear`]. To be asked before waiting.
    pub(super) fn is_pending(&self) -> bool {
        self.is_pending.load(Ordering::SeqCst)
    }

    /// Takes note; to be called before looking for what there is to do.
    pub(super) fn clear(&self) {
        if self.is_pending.swap(false, Ordering::SeqCst) {
            let _ = rustix::io::read(&self.descriptor, &mut [0_u8; 8]);
        }
    }
}

impl AsFd for Wake {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}
