//! A person at the terminal who answers as told.

use std::collections::VecDeque;
use std::sync::Mutex;

use async_trait::async_trait;
use kiln_core::Prompt;

use crate::lock;

/// Answers questions with fixed texts, then with silence (`None`, as without a terminal).
#[derive(Debug, Default)]
pub struct FixedPrompt {
    answers: Mutex<VecDeque<String>>,
    questions: Mutex<Vec<String>>,
    is_waiting_forever: bool,
}

impl FixedPrompt {
    /// Nobody is there.
    pub fn absent() -> FixedPrompt {
        FixedPrompt::default()
    }

    /// Gives these answers in turn.
    pub fn answering<S: Into<String>>(answers: impl IntoIterator<Item = S>) -> FixedPrompt {
        let answers = Mutex::new(answers.into_iter().map(Into::into).collect());
        FixedPrompt { answers, ..FixedPrompt::default() }
    }

    /// Never answers: somebody is there, and away for coffee.
    pub fn waiting() -> FixedPrompt {
        FixedPrompt { is_waiting_forever: true, ..FixedPrompt::default() }
    }

    /// The questions asked so far.
    pub fn questions(&self) -> Vec<String> {
        lock(&self.questions).clone()
    }
}

#[async_trait]
impl Prompt for FixedPrompt {
    async fn ask(&self, _build: &str, question: &str) -> Option<String> {
        lock(&self.questions).push(question.to_owned());
        if self.is_waiting_forever {
            std::future::pending::<()>().await;
        }
        lock(&self.answers).pop_front()
    }

    fn is_there(&self) -> bool {
        self.is_waiting_forever || !lock(&self.answers).is_empty()
    }
}
