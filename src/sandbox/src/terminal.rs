//! Pseudo terminals.

use std::io;
use std::os::fd::BorrowedFd;

use rustix::termios::Winsize;

/// Tells a terminal its size.
pub(crate) fn set_size(terminal: BorrowedFd<'_>, columns: u16, rows: u16) -> io::Result<()> {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(terminal, size)?;
    Ok(())
}
