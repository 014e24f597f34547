//! The `breakpoint` provisioner: holds a build until the person at the terminal lets it go on.

use std::sync::Arc;

use async_trait::async_trait;
use kiln_core::{
    BuildContext, Caching, Decoded, Diagnostics, Failure, Field, Machine, PrepareContext, Provisioner, ProvisionerKind,
    Schema,
};
use serde::Deserialize;

/// The arguments of `breakpoint`.
pub const SCHEMA: Schema = Schema {
    kind: "breakpoint",
    title: "a `breakpoint` provisioner",
    doc: "Holds the build until Enter is pressed, so that the machine can be looked at. Without a terminal it warns and \
          goes on.",
    fields: &[
        Field::string("note", "Shown while the build is held."),
        Field::bool("disable", "Do not hold the build.").default("false"),
    ],
    example: r#"provisioner "breakpoint" {
  note = "after the packages are installed"
}"#,
};

/// The kind `breakpoint`.
#[derive(Debug, Clone, Copy, Default)]
pub struct BreakpointKind;

/// A configured `breakpoint`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Breakpoint {
    note: String,
    disable: bool,
}

impl ProvisionerKind for BreakpointKind {
    fn schema(&self) -> &'static Schema {
        &SCHEMA
    }

    fn prepare(
        &self,
        config: &Decoded,
        _context: &PrepareContext,
        diagnostics: &mut Diagnostics,
    ) -> Option<Arc<dyn Provisioner>> {
        match config.read::<Breakpoint>() {
            Ok(breakpoint) => Some(Arc::new(breakpoint)),
            Err(diagnostic) => {
                diagnostics.push(*diagnostic);
                None
            }
        }
    }
}

impl Breakpoint {
    /// ` "note"`, where there is one.
    fn noted(&self) -> String {
        if self.note.is_empty() { String::new() } else { format!(" \"{}\"", self.note) }
    }
}

#[async_trait]
impl Provisioner for Breakpoint {
    fn title(&self) -> String {
        match (self.disable, self.note.is_empty()) {
            (true, _) => "disabled".to_owned(),
            (false, true) => "press Enter to go on".to_owned(),
            (false, false) => self.note.clone(),
        }
    }

    /// A restored step would not hold the build. One that is disabled needs no machine.
    fn caching(&self) -> Caching {
        if self.disable { Caching::Passing } else { Caching::Outside }
    }

    async fn provision(&self, machine: &dyn Machine, context: &BuildContext) -> Result<(), Failure> {
        if self.disable {
            context.events.message(format!("breakpoint{} is disabled; going on", self.noted()));
            return Ok(());
        }
        context.events.message(format!("held at breakpoint{}", self.noted()));
        if let Some(hint) = machine.enter_hint() {
            context.events.message(format!("to look at the machine: {hint}"));
        }
        let answer = tokio::select! {
            biased;
            () = context.cancel.cancelled() => return Err(Failure::cancelled()),
            answer = context.prompt.ask(&context.build, "Press Enter to continue.") => answer,
        };
        if answer.is_none() {
            context.events.warn("nobody is at the terminal; going on");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use kiln_testkit::{Arguments, FakeMachine, FixedPrompt, context};
    use serde_json::{Value as Json, json};

    use super::*;

    fn breakpoint(json: Json) -> Arc<dyn Provisioner> {
        Arguments::new(json).provisioner(&BreakpointKind).0.unwrap()
    }

    #[tokio::test]
    async fn it_asks_and_goes_on_after_enter() {
        let context = context().prompt(FixedPrompt::answering([""])).build();
        let step = breakpoint(json!({ "note": "look" }));
        assert_eq!((step.title().as_str(), step.caching()), ("look", Caching::Outside));
        step.provision(&FakeMachine::new(), &context).await.unwrap();
        assert_eq!(context.prompt.questions(), ["Press Enter to continue."]);
        let messages = ["held at breakpoint \"look\"", "to look at the machine: enter the fake machine"];
        assert_eq!(context.reporter.messages(), messages);
        assert!(context.reporter.warnings().is_empty());
    }

    #[tokio::test]
    async fn without_a_terminal_it_warns_and_goes_on() {
        let context = context().build();
        breakpoint(json!({})).provision(&FakeMachine::new(), &context).await.unwrap();
        assert_eq!(context.reporter.warnings(), ["nobody is at the terminal; going on"]);
    }

    #[tokio::test]
    async fn a_disabled_one_does_not_ask() {
        let context = context().build();
        assert_eq!(breakpoint(json!({ "disable": true })).caching(), Caching::Passing);
        breakpoint(json!({ "disable": true })).provision(&FakeMachine::new(), &context).await.unwrap();
        assert!(context.prompt.questions().is_empty());
        assert_eq!(context.reporter.messages(), ["breakpoint is disabled; going on"]);
    }

    #[tokio::test]
    async fn it_can_be_cancelled() {
        let context = context().prompt(FixedPrompt::waiting()).build();
        let (machine, step) = (FakeMachine::new(), breakpoint(json!({})));
        let stop = async {
            while context.prompt.questions().is_empty() {
                tokio::task::yield_now().await;
            }
            context.cancel.cancel();
        };
        let (result, ()) = tokio::join!(step.provision(&machine, &context), stop);
        assert!(result.unwrap_err().is_cancelled());
    }

    #[test]
    fn the_reference_says_what_the_schema_says() {
        let page = include_str!("../../../docs/reference/provisioners.md");
        assert_eq!(kiln_testkit::undocumented(&SCHEMA, page), Vec::<String>::new());
    }
}
