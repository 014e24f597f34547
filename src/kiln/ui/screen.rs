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
    /// The question that stands on the terminal's last rows.
    question: Mutex<Option<String>>,
    color: bool,
}

impl Screen {
    /// With bars only where `interactive`.
    pub(crate) fn new(interactive: bool, color: bool) -> Screen {
        let bars = interactive.then(|| MultiProgress::with_draw_target(target()));
        Screen { bars, keyboard: Mutex::new(interactive.then(QuietKeyboard::new)), question: Mutex::new(None), color }
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

    /// Writes whole lines, each with its line end; a question that stands there moves below them.
    pub(crate) fn write(&self, lines: &str) {
        let question = self.question.lock().unwrap_or_else(PoisonError::into_inner);
        let text = match question.as_deref() {
            Some(question) => below(lines, question, self.width().filter(|_| self.bars.is_some())),
            None => lines.to_owned(),
        };
        self.put(&text);
    }

    /// Shows a question and takes the bars away while it stands there. Lines go on above it: whoever answers is slow, and
    /// the builds that run beside must not wait.
    pub(crate) fn ask(&self, question: &str) -> Question<'_> {
        if let Some(bars) = &self.bars {
            // Where the terminal cannot be cleared it can be asked on all the same.
            let _ = bars.clear();
            bars.set_draw_target(ProgressDrawTarget::hidden());
        }
        let mut standing = self.question.lock().unwrap_or_else(PoisonError::into_inner);
        self.put(question);
        *standing = Some(question.to_owned());
        Question { screen: self, is_answered: false }
    }

    fn put(&self, text: &str) {
        // Nothing is left to tell it to when standard error is gone.
        self.suspended(|| {
            let _ = std::io::stderr().write_all(text.as_bytes());
        });
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
    is_answered: bool,
}

impl Question<'_> {
    /// Enter was pressed, so that the next line begins below.
    pub(crate) fn answered(mut self) {
        self.is_answered = true;
    }
}

impl Drop for Question<'_> {
    fn drop(&mut self) {
        let mut standing = self.screen.question.lock().unwrap_or_else(PoisonError::into_inner);
        if standing.take().is_some() && !self.is_answered {
            self.screen.put("\n");
        }
        if let Some(bars) = &self.screen.bars {
            bars.set_draw_target(target());
        }
    }
}

fn target() -> ProgressDrawTarget {
    ProgressDrawTarget::stderr_with_hz(10)
}

/// Lines in place of the question, and the question anew below them. What was typed is not lost: the terminal holds it until
/// Enter. Without a terminal to move on, the question ends where it stands.
fn below(lines: &str, question: &str, width: Option<usize>) -> String {
    let Some(width) = width else { return format!("\n{lines}{question}") };
    let rows_above = question.chars().count().saturating_sub(1) / width;
    let up = if rows_above > 0 { format!("\u{1b}[{rows_above}A") } else { String::new() };
    format!("\r{up}\u{1b}[J{lines}{question}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_stays_below_the_lines() {
        assert_eq!(below("a\n", "go on? ", Some(80)), "\r\u{1b}[Ja\ngo on? ");
        assert_eq!(below("a\n", "go on? ", Some(3)), "\r\u{1b}[2A\u{1b}[Ja\ngo on? ");
        assert_eq!(below("a\n", "go on? ", None), "\na\ngo on? ");
    }
}
