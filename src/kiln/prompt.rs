//! Questions to the person at the terminal.

use std::io::{BufRead, IsTerminal, Write};
use std::sync::Arc;

use async_trait::async_trait;
use kiln_core::Prompt;
use tokio::sync::Mutex;

use crate::ui::Screen;

/// Asks on standard error and reads standard input; one question at a time.
#[derive(Debug)]
pub(crate) struct TerminalPrompt {
    screen: Arc<Screen>,
    turn: Mutex<()>,
}

impl TerminalPrompt {
    /// Asks on this screen.
    pub(crate) fn new(screen: Arc<Screen>) -> TerminalPrompt {
        TerminalPrompt { screen, turn: Mutex::new(()) }
    }
}

#[async_trait]
impl Prompt for TerminalPrompt {
    async fn ask(&self, build: &str, question: &str) -> Option<String> {
        let _turn = self.turn.lock().await;
        if !std::io::stdin().is_terminal() {
            return None;
        }
        let screen = Arc::clone(&self.screen);
        let line = format!("==> {build}: {question} ");
        // Reading a terminal blocks; the thread is given up when the run is cancelled, and ends with the process.
        tokio::task::spawn_blocking(move || {
            screen.suspended(|| {
                let mut stderr = std::io::stderr();
                stderr.write_all(line.as_bytes()).and_then(|()| stderr.flush()).ok()?;
                let mut answer = String::new();
                match std::io::stdin().lock().read_line(&mut answer) {
                    Ok(0) | Err(_) => None,
                    Ok(_) => Some(answer.trim().to_owned()),
                }
            })
        })
        .await
        .ok()
        .flatten()
    }
}
