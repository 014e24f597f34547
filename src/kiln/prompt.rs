//! Questions to the person at the terminal.

use std::io::IsTerminal;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use kiln_core::Prompt;
use tokio::sync::oneshot;

use crate::ui::{QueuedReporter, Screen};

/// Asks on standard error and reads standard input; one question at a time.
pub(crate) struct TerminalPrompt {
    screen: Arc<Screen>,
    reporter: Arc<QueuedReporter>,
    turn: tokio::sync::Mutex<()>,
    answers: Answers,
}

impl TerminalPrompt {
    /// Asks on this screen, after what was reported before.
    pub(crate) fn new(screen: Arc<Screen>, reporter: Arc<QueuedReporter>) -> TerminalPrompt {
        let answers = Answers::new(|| {
            let mut line = String::new();
            std::io::stdin().read_line(&mut line).is_ok_and(|bytes| bytes > 0).then_some(line)
        });
        TerminalPrompt { screen, reporter, turn: tokio::sync::Mutex::default(), answers }
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
        let line = self.answers.next().await.ok().flatten();
        if line.is_some() {
            question.answered();
        }
        line
    }

    fn is_there(&self) -> bool {
        std::io::stdin().is_terminal()
    }
}

/// Reads a line, with its end; `None` where nobody answers any more.
type Read = dyn Fn() -> Option<String> + Send + Sync;

/// Lines for whoever waits for one. They are read by a thread that cannot be stopped while it reads and ends with the
/// process; there is never more than one, and none unless somebody asked. Should the question be given up meanwhile, its
/// reader serves the next one; a line that comes while nobody waits is dropped.
struct Answers {
    read: Arc<Read>,
    waiting: Arc<Mutex<Waiting>>,
}

#[derive(Default)]
struct Waiting {
    /// Where the next line goes.
    asker: Option<oneshot::Sender<Option<String>>>,
    has_reader: bool,
}

impl Answers {
    fn new(read: impl Fn() -> Option<String> + Send + Sync + 'static) -> Answers {
        Answers { read: Arc::new(read), waiting: Arc::default() }
    }

    /// The next line, in place of whoever waited before.
    fn next(&self) -> oneshot::Receiver<Option<String>> {
        let (asker, answer) = oneshot::channel();
        let mut waiting = lock(&self.waiting);
        waiting.asker = Some(asker);
        if !std::mem::replace(&mut waiting.has_reader, true) {
            let (read, waiting) = (Arc::clone(&self.read), Arc::clone(&self.waiting));
            std::thread::spawn(move || {
                let line = read();
                let mut waiting = lock(&waiting);
                waiting.has_reader = false;
                if let Some(asker) = waiting.asker.take() {
                    // Nobody listens any more when the question was given up.
                    let _ = asker.send(line.map(|line| line.trim().to_owned()));
                }
            });
        }
        answer
    }
}

fn lock(waiting: &Mutex<Waiting>) -> MutexGuard<'_, Waiting> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use super::*;

    /// A keyboard: what is sent to it is typed. And how often it was read.
    fn keyboard() -> (mpsc::Sender<&'static str>, Arc<AtomicUsize>, Answers) {
        let (typed, lines) = mpsc::channel::<&'static str>();
        let (lines, reads) = (Mutex::new(lines), Arc::new(AtomicUsize::new(0)));
        let count = Arc::clone(&reads);
        let answers = Answers::new(move || {
            count.fetch_add(1, Ordering::SeqCst);
            lines.lock().unwrap().recv().ok().map(str::to_owned)
        });
        (typed, reads, answers)
    }

    #[tokio::test]
    async fn a_question_that_was_given_up_does_not_take_the_answer_to_the_next() {
        let (typed, reads, answers) = keyboard();
        drop(answers.next());
        drop(answers.next());
        let answer = answers.next();
        typed.send(" r \n").unwrap();
        assert_eq!(answer.await.unwrap().as_deref(), Some("r"));
        assert_eq!(reads.load(Ordering::SeqCst), 1, "one reader for all of them");
        let answer = answers.next();
        typed.send("c\n").unwrap();
        assert_eq!(answer.await.unwrap().as_deref(), Some("c"));
    }

    #[tokio::test]
    async fn an_answer_that_comes_when_nobody_asks_any_more_is_dropped() {
        let (typed, reads, answers) = keyboard();
        drop(answers.next());
        typed.send("late\n").unwrap();
        while lock(&answers.waiting).has_reader {
            tokio::task::yield_now().await;
        }
        let answer = answers.next();
        typed.send("c\n").unwrap();
        assert_eq!(answer.await.unwrap().as_deref(), Some("c"));
        assert_eq!(reads.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn nothing_is_read_unless_somebody_asks_and_the_end_is_no_answer() {
        let (typed, reads, answers) = keyboard();
        assert_eq!(reads.load(Ordering::SeqCst), 0);
        drop(typed);
        assert_eq!(answers.next().await.unwrap(), None);
    }
}
