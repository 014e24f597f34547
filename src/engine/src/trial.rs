//! Tests of what was sealed, before anything is made of it, and before it gets a name or leaves this host.

use std::sync::Arc;
use std::time::Instant;

use kiln_core::lines::LineSink;
use kiln_core::{Artifact, EventKind, Events, Facts, Failure, OutputSink, Stream, Test, TestEnd, Tester};

use crate::build::{BuildRun, Stopped, wrap};
use crate::error::BuildError;
use crate::guard::supervise;
use crate::policy::Decision;
use crate::post_process::Product;
use crate::prepare::PreparedTest;
use crate::step::outcome;
use crate::walk::{Live, Made};

/// Of what a test prints, so many bytes are matched: the last ones.
const MATCHED: usize = 4 << 20;

/// What a test that ran through got wrong.
#[derive(Debug, thiserror::Error)]
enum Unexpected {
    /// Another exit status.
    #[error("it ended with status {status}, and {} is expected", in_words(expected))]
    Status { status: i64, expected: Vec<i64> },
    /// Another output.
    #[error("what it printed does not match `{pattern}`")]
    Output { pattern: String },
}

fn in_words(statuses: &[i64]) -> String {
    statuses.iter().map(i64::to_string).collect::<Vec<_>>().join(" or ")
}

/// Shows a test's output line by line, and keeps the end of it.
struct Printed {
    lines: LineSink,
    all: Vec<u8>,
}

impl Printed {
    fn new(events: &Events) -> Printed {
        Printed { lines: LineSink::new(events.clone()), all: Vec::new() }
    }
}

impl OutputSink for Printed {
    fn write(&mut self, stream: Stream, chunk: &[u8]) {
        self.all.extend_from_slice(chunk);
        if self.all.len() > 2 * MATCHED {
            self.all.drain(..self.all.len() - MATCHED);
        }
        self.lines.write(stream, chunk);
    }
}

impl BuildRun {
    /// Tries out what was sealed, and hands it out then. What does not come through is removed.
    pub(crate) async fn pass_tests(&self, made: Made, live: Option<&Live>) -> Result<Made, Stopped> {
        let Made { product, facts } = made;
        let passed = match self.test(&product, &facts, live).await {
            Ok(()) if self.prepared.is_handed_out() => self.hand_out(&product, &facts).await,
            Ok(()) => Ok(None),
            Err(stopped) => Err(stopped),
        };
        match passed {
            Ok(None) => Ok(Made { product, facts }),
            Ok(Some(artifact)) => Ok(Made { product: Product { artifact, ..product }, facts }),
            Err(mut stopped) => {
                let is_left = matches!(stopped.decision, Decision::Leave { .. });
                stopped.is_stuck = !is_left && !self.undo_scope(&product.scope).await.is_empty();
                Err(stopped)
            }
        }
    }

    /// Lets the builder give names and push, which it did not do before the tests. What came of it, where that is another
    /// thing than before.
    async fn hand_out(&self, product: &Product, facts: &Arc<Facts>) -> Result<Option<Artifact>, Stopped> {
        let before = product.artifact.summary();
        loop {
            if let Err(failure) = self.shared.stop.check() {
                return Err(Stopped::new(failure, Decision::CleanUp));
            }
            self.tail.clear();
            let context = self.stage_context(product.scope.clone(), Arc::clone(facts));
            let work = self.prepared.builder.hand_out(product.artifact.clone(), &context);
            let failure = match supervise(&self.shared.stop, &context.cancel, None, work).await {
                Ok(artifact) => {
                    if artifact.summary() != before {
                        self.events.emit(EventKind::Artifact { artifact: artifact.summary() });
                    }
                    return Ok(Some(artifact));
                }
                Err(failure) => failure,
            };
            let (kind, place) = (self.prepared.builder_kind.to_string(), self.prepared.place.clone());
            let failure = wrap(failure, |source| BuildError::HandOut { kind, place, source });
            let failure = failure.within(self.prepared.source_span);
            match self.decide(&failure).await {
                Decision::Retry => {}
                decision => return Err(Stopped::new(failure, decision)),
            }
        }
    }

    /// Runs all tests of the build, one after the other, up to the first that fails.
    async fn test(&self, product: &Product, facts: &Arc<Facts>, live: Option<&Live>) -> Result<(), Stopped> {
        let Some(tester) = self.prepared.builder.tester() else { return Ok(()) };
        if let Some(live) = live.filter(|_| !self.prepared.tests.is_empty()) {
            let context = self.stage_context(live.scope.clone(), Arc::clone(facts));
            let work = live.machine.before_tests(&context);
            // It is tried again with the machine, and told if that fails, too.
            let _ = supervise(&self.shared.stop, &context.cancel, None, work).await;
        }
        for test in &self.prepared.tests {
            self.one_test(tester, test, product, facts).await?;
        }
        Ok(())
    }

    async fn one_test(
        &self,
        tester: &dyn Tester,
        test: &PreparedTest,
        product: &Product,
        facts: &Arc<Facts>,
    ) -> Result<(), Stopped> {
        let (name, place) = (&test.spec.name, &test.place);
        loop {
            if let Err(failure) = self.shared.stop.check() {
                return Err(Stopped::new(failure, Decision::CleanUp));
            }
            self.tail.clear();
            self.debug_pause(&format!("next is the test `{name}`")).await;
            self.events.emit(EventKind::TestStarted { name: name.clone(), place: place.clone() });
            let began = Instant::now();
            let result = self.try_test(tester, test, product, facts).await;
            let (seconds, outcome) = (began.elapsed().as_secs_f64(), outcome(&result));
            self.events.emit(EventKind::TestFinished { name: name.clone(), outcome, seconds });
            let Err(failure) = result else { return Ok(()) };
            let source = |source| BuildError::Test { name: name.clone(), place: place.clone(), source };
            let failure = wrap(failure, source).at(test.spec.component.span);
            match self.decide(&failure).await {
                Decision::Retry => {}
                decision => return Err(Stopped::new(failure, decision)),
            }
        }
    }

    async fn try_test(
        &self,
        tester: &dyn Tester,
        test: &PreparedTest,
        product: &Product,
        facts: &Arc<Facts>,
    ) -> Result<(), Failure> {
        let test = test.bind(tester, &self.binding(facts))?;
        let scope = self.scope();
        let context = self.stage_context(scope.clone(), Arc::clone(facts));
        let mut printed = Printed::new(&self.events);
        let work = tester.run(&product.artifact, &test, &mut printed, &context);
        let ended = supervise(&self.shared.stop, &context.cancel, Some(test.timeout), work).await;
        printed.lines.finish();
        // What a test that was stopped had no time to remove.
        self.undo_scope(&scope).await;
        ended.and_then(|ended| judge(&test, ended, &printed.all))
    }
}

/// What `expect_output` means: output ends with a line end, so `$` is the end of a line and not of all.
pub(crate) fn output_pattern(pattern: &str) -> Result<regex::Regex, regex::Error> {
    regex::RegexBuilder::new(pattern).multi_line(true).build()
}

fn judge(test: &Test, ended: TestEnd, output: &[u8]) -> Result<(), Failure> {
    if !test.expect_exit.contains(&ended.status) {
        let expected = test.expect_exit.clone();
        return Err(Failure::build(Unexpected::Status { status: ended.status, expected }));
    }
    let Some(pattern) = &test.expect_output else { return Ok(()) };
    let regex = output_pattern(pattern).map_err(Failure::build)?;
    if regex.is_match(&String::from_utf8_lossy(output)) {
        return Ok(());
    }
    Err(Failure::build(Unexpected::Output { pattern: pattern.clone() }))
}

#[cfg(test)]
mod tests {
    use super::output_pattern;

    #[test]
    fn patterns_of_output_know_lines() {
        let matches = |pattern: &str, output: &str| output_pattern(pattern).unwrap().is_match(output);
        assert!(matches("^app$", "starting\napp\n"));
        assert!(!matches("^app$", "starting app\n"));
    }
}
