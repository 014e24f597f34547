//! The `sleep` provisioner: waits.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kiln_core::{
    BuildContext, Caching, Decoded, Diagnostics, Failure, Field, Machine, PrepareContext, Provisioner, ProvisionerKind,
    Schema, duration,
};
use serde::Deserialize;

/// The arguments of `sleep`.
pub const SCHEMA: Schema = Schema {
    kind: "sleep",
    title: "a `sleep` provisioner",
    doc: "Waits.",
    fields: &[Field::duration("duration", "How long.").required()],
    example: r#"provisioner "sleep" {
  duration = "30s"
}"#,
};

/// The kind `sleep`.
#[derive(Debug, Clone, Copy, Default)]
pub struct SleepKind;

/// A configured `sleep`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Sleep {
    // Absent only while it is not known yet.
    #[serde(deserialize_with = "duration::deserialize_option")]
    duration: Option<Duration>,
}

impl ProvisionerKind for SleepKind {
    fn schema(&self) -> &'static Schema {
        &SCHEMA
    }

    fn prepare(
        &self,
        config: &Decoded,
        _context: &PrepareContext,
        diagnostics: &mut Diagnostics,
    ) -> Option<Arc<dyn Provisioner>> {
        match config.read::<Sleep>() {
            Ok(sleep) => Some(Arc::new(sleep)),
            Err(diagnostic) => {
                diagnostics.push(*diagnostic);
                None
            }
        }
    }
}

#[async_trait]
impl Provisioner for Sleep {
    // It may be restored like any step: it leaves nothing on the machine, and a restored machine has nothing running to
    // wait for.
    fn title(&self) -> String {
        self.duration.map(duration::display).unwrap_or_default()
    }

    fn caching(&self) -> Caching {
        Caching::Passing
    }

    async fn provision(&self, _machine: &dyn Machine, context: &BuildContext) -> Result<(), Failure> {
        context.unless_cancelled(tokio::time::sleep(self.duration.unwrap_or_default())).await
    }
}

#[cfg(test)]
mod tests {
    use kiln_testkit::{Arguments, FakeMachine, context, titles};
    use serde_json::json;

    use super::*;

    fn sleep(duration: &str) -> Arc<dyn Provisioner> {
        Arguments::new(json!({ "duration": duration })).provisioner(&SleepKind).0.unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn it_waits_as_long_as_told_and_touches_nothing() {
        let (context, machine) = (context().build(), FakeMachine::new());
        let begin = tokio::time::Instant::now();
        let step = sleep("1m30s");
        assert_eq!((step.title().as_str(), step.caching()), ("1m 30s", Caching::Passing));
        step.provision(&machine, &context).await.unwrap();
        assert_eq!(begin.elapsed(), Duration::from_secs(90));
        assert!(machine.communicator.calls().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn cancelling_ends_the_wait() {
        let (context, machine) = (context().build(), FakeMachine::new());
        let begin = tokio::time::Instant::now();
        let step = sleep("1h");
        let stop = async {
            tokio::time::sleep(Duration::from_secs(2)).await;
            context.cancel.cancel();
        };
        let (result, ()) = tokio::join!(step.provision(&machine, &context), stop);
        assert!(result.unwrap_err().is_cancelled());
        assert_eq!(begin.elapsed(), Duration::from_secs(2));
    }

    #[test]
    fn a_duration_is_needed_and_checked() {
        // The schema tells both mistakes; the engine stops on them whatever `prepare` returns.
        let mistakes = |json| titles(&Arguments::new(json).provisioner(&SleepKind).1).join("\n");
        assert_eq!(mistakes(json!({})), "a `sleep` provisioner needs `duration`");
        assert_eq!(mistakes(json!({ "duration": "5" })), "`duration`: `5` has no unit; write for example `5s`");
        let (step, diagnostics) =
            Arguments::new(json!({ "duration": "1s" })).unknown("duration").provisioner(&SleepKind);
        assert!(step.is_some() && diagnostics.is_empty());
    }

    #[test]
    fn the_reference_says_what_the_schema_says() {
        let page = include_str!("../../../docs/reference/provisioners.md");
        assert_eq!(kiln_testkit::undocumented(&SCHEMA, page), Vec::<String>::new());
    }
}
