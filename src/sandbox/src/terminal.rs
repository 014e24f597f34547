//! Pseudo terminals of a guest.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;

use crate::error::{SandboxError, Trying};

/// A new terminal of the guest: our side and the command's. Both come from our own file of the guest's `devpts`, never by a path
/// in the guest.
pub(crate) fn open(terminals: Option<&OwnedFd>, columns: u16, rows: u16) -> Result<(OwnedFd, OwnedFd), SandboxError> {
    let Some(terminals) = terminals else {
        return Err(SandboxError::Unavailable("this guest has no terminals".to_owned()));
    };
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let master = rustix::fs::openat(terminals, "ptmx", flags, Mode::empty()).trying("open a terminal")?;
    rustix::pty::unlockpt(&master).trying("unlock the terminal")?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags).trying("open the terminal's other side")?;
    use std::os::fd::AsFd;
    set_size(master.as_fd(), columns, rows).trying("size the terminal")?;
    Ok((master, slave))
}

/// Tells a terminal its size.
pub(crate) fn set_size(terminal: BorrowedFd<'_>, columns: u16, rows: u16) -> io::Result<()> {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(terminal, size)?;
    Ok(())
}
