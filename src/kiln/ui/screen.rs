//! Standard error, shared by lines, bars and prompts.

use std::io::Write;
use std::sync::{Mutex, PoisonError};

use indicatif::{MultiProgress, ProgressDrawTarget};

use super::keyboard::QuietKeyboard;

/// Writes lines above the bars, where there are bars.
#[derive(Debug)]
pub(crate) struct Screen {
    bars: Option<MultiProgress>,
    keyboard: Mutex<Option<QuietKeyboard>>,
    color: bool,
}

impl Screen {
    /// With bars only where `interactive`.
    pub(crate) fn new(interactive: bool, color: bool) -> Screen {
        let bars = interactive.then(|| MultiProgress::with_draw_target(target()));
        Screen { bars, keyboard: Mutex::new(interactive.then(QuietKeyboard::new)), color }
    }

    /// Rows that bars may take: at most half of the terminal, and never more than eight.
    pub(crate) fn rows_for_bars(&self) -> usize {
        let height = rustix::termios::tcgetwinsize(std::io::stderr()).map_or(24, |size| usize::from(size.ws_row));
        (height / 2).clamp(1, 8)
    }

    /// Columns of standard error, where it is a terminal.
    pub(crate) fn width(&self) -> Option<usize> {
        let size = rustix::termios::tcgetwinsize(std::io::stderr()).ok()?;
        Some(usize::from(size.ws_col)).filter(|width| *width > 0)
    }

    /// Sets the terminal back as it was; no bars come after this.
    pub(crate) fn release(&self) {
        if let Some(mut keyboard) = self.keyboard.lock().unwrap_or_else(PoisonError::into_inner).take() {
            keyboard.restore();
        }
    }

    /// Whether colours may be used.
    pub(crate) fn color(&self) -> bool {
        self.color
    }

    /// The bars, on a terminal.
    pub(crate) fn bars(&self) -> Option<&MultiProgress> {
        self.bars.as_ref()
    }

    /// Writes whole lines, each with its line end, or a question without.
    pub(crate) fn write(&self, lines: &str) {
        // Nothing is left to tell it to when standard error is gone.
        self.suspended(|| {
            let _ = std::io::stderr().write_all(lines.as_bytes());
        });
    }

    /// Shows a question and takes the bars away while it stands there. Lines go on above and below it: whoever answers is
    /// slow, and the builds that run beside must not wait.
    pub(crate) fn ask(&self, question: &str) -> Question<'_> {
        if let Some(bars) = &self.bars {
            // Where the terminal cannot be cleared it can be asked on all the same.
            let _ = bars.clear();
            bars.set_draw_target(ProgressDrawTarget::hidden());
        }
        self.write(question);
        Question { screen: self }
    }

    fn suspended<R>(&self, work: impl FnOnce() -> R) -> R {
        match &self.bars {
            Some(bars) => bars.suspend(work),
            None => work(),
        }
    }
}

/// A question on the screen; the bars come back when it is dropped.
#[must_use]
pub(crate) struct Question<'a> {
    screen: &'a Screen,
}

impl Drop for Question<'_> {
    fn drop(&mut self) {
        if let Some(bars) = &self.screen.bars {
            bars.set_draw_target(target());
        }
    }
}

fn target() -> ProgressDrawTarget {
    ProgressDrawTarget::stderr_with_hz(10)
}
