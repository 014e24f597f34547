//! A server's questions, put to the person at the terminal.

use std::sync::Arc;

use kiln_core::{BuildContext, Secret};

use crate::session::{Prompt, Responder};

/// Asks each question; empty answers where nobody is there, or the build was cancelled.
pub(crate) fn responder(context: &BuildContext, host: &str) -> Responder {
    let (context, host) = (context.clone(), host.to_owned());
    let runtime = tokio::runtime::Handle::current();
    // Called on the session's own thread, which may wait.
    Arc::new(move |instructions: &str, prompts: &[Prompt]| {
        let ask = |prompt: &Prompt| {
            let question = [instructions, &prompt.text].map(str::trim).join(" ");
            let question = format!("{host}: {}", question.trim());
            let answer = context.unless_cancelled(context.prompt.ask(&context.build, &question));
            let answer = runtime.block_on(answer).ok().flatten().unwrap_or_default();
            if !prompt.echo {
                context.redactor.add(&answer);
            }
            Secret::new(answer)
        };
        prompts.iter().map(ask).collect()
    })
}
