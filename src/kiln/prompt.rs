//! Questions to the person at the terminal.

use std::io::{BufRead, IsTerminal};
use std::sync::Arc;

use async_trait::async_trait;
use kiln_core::Prompt;
use tokio::sync::{Mutex, oneshot};

use crate::ui::{QueuedReporter, Screen};

/// Asks on standard error and reads standard input; one question at a time.
#[derive(Debug)]
pub(crate) struct TerminalPrompt {
    screen: Arc<Screen>,
    reporter: Arc<QueuedReporter>,
    turn: Mutex<()>,
}

impl TerminalPrompt {
    /// Asks on this screen, after what was reported before.
    pub(crate) fn new(screen: Arc<Screen>, reporter: Arc<QueuedReporter>) -> TerminalPrompt {
        TerminalPrompt { screen, reporter, turn: Mutex::new(()) }
    }
}

#[async_trait]
impl Prompt for TerminalPrompt {
    async fn ask(&self, build: &str, question: &str) -> Option<String> {
        let _turn = self.turn.lock().await;
        if !std::io::stdin().is_terminal() {
            return None;
        }
        // The question is about what was said just before.
        self.reporter.flush().await;
        let question = self.screen.ask(&format!("==> {build}: {} ", question.trim_end()));
        // A thread of its own: it cannot be stopped while it reads, is given up when the run is cancelled, and ends with
        // the process.
        let (sender, answer) = oneshot::channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            let read = std::io::stdin().lock().read_line(&mut line);
            // Nobody listens any more when the run was cancelled.
            let _ = sender.send(read.is_ok_and(|bytes| bytes > 0).then(|| line.trim().to_owned()));
        });
        let line = answer.await.ok().flatten();
        if line.is_some() {
            question.answered();
        }
        line
    }
}
