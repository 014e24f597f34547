//! Standard error, shared by lines, bars and prompts.

use std::io::Write;

use indicatif::{MultiProgress, ProgressDrawTarget};

/// Writes lines above the bars, where there are bars.
#[derive(Debug)]
pub(crate) struct Screen {
    bars: Option<MultiProgress>,
    color: bool,
}

impl Screen {
    /// With bars only where `interactive`.
    pub(crate) fn new(interactive: bool, color: bool) -> Screen {
        let bars = interactive.then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10)));
        Screen { bars, color }
    }

    /// Whether colours may be used.
    pub(crate) fn color(&self) -> bool {
        self.color
    }

    /// The bars, on a terminal.
    pub(crate) fn bars(&self) -> Option<&MultiProgress> {
        self.bars.as_ref()
    }

    /// Writes whole lines, each with its line end.
    pub(crate) fn write(&self, lines: &str) {
        // Nothing is left to tell it to when standard error is gone.
        self.suspended(|| {
            let _ = std::io::stderr().write_all(lines.as_bytes());
        });
    }

    /// Runs something that uses the terminal itself.
    pub(crate) fn suspended<R>(&self, work: impl FnOnce() -> R) -> R {
        match &self.bars {
            Some(bars) => bars.suspend(work),
            None => work(),
        }
    }
}
