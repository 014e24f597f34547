//! Components that are prepared again once the machine's facts are known.

use std::sync::Arc;

use super::{PreparedTest, checked_test, collect_secrets, silent_refusal};
use crate::error::EngineError;
use kiln_core::trial::TEST;
use kiln_core::{
    Body, ComponentSpec, Decoded, Diagnostic, Diagnostics, Facts, Failure, FailureClass, Hook, HookKind, PostProcessor,
    PostProcessorKind, PrepareContext, Provisioner, ProvisionerKind, Schema, SourceMap, Test, Tester,
};

/// A component with the kind that can prepare it again.
pub(crate) struct Bound<T: ?Sized, K: ?Sized> {
    pub(crate) ready: Arc<T>,
    /// The arguments it was made of.
    pub(crate) body: Arc<Body>,
    pub(super) kind: Arc<K>,
    pub(super) needs_facts: bool,
}

/// What binding a component to the machine's facts needs.
pub(crate) struct Binding<'a> {
    pub(crate) facts: &'a Facts,
    pub(crate) context: &'a PrepareContext,
    pub(crate) sources: &'a SourceMap,
    pub(crate) redactor: &'a kiln_core::Redactor,
}

/// A provisioner with the arguments it was made of.
pub(crate) type BoundStep = (Arc<dyn Provisioner>, Arc<Body>);

impl Bound<dyn Provisioner, dyn ProvisionerKind> {
    /// The arguments of its kind.
    pub(crate) fn schema(&self) -> &'static Schema {
        self.kind.schema()
    }

    /// The component with the machine's facts in its arguments.
    pub(crate) fn bind(&self, spec: &ComponentSpec, binding: &Binding<'_>) -> Result<BoundStep, Failure> {
        if !self.needs_facts {
            return Ok((Arc::clone(&self.ready), Arc::clone(&self.body)));
        }
        binding.again(spec, self.kind.schema(), |decoded, diagnostics| {
            self.kind.prepare(decoded, binding.context, diagnostics)
        })
    }
}

impl Bound<dyn PostProcessor, dyn PostProcessorKind> {
    /// The component with the machine's facts in its arguments.
    pub(crate) fn bind(&self, spec: &ComponentSpec, binding: &Binding<'_>) -> Result<Arc<dyn PostProcessor>, Failure> {
        if !self.needs_facts {
            return Ok(Arc::clone(&self.ready));
        }
        let prepare = |decoded: &_, diagnostics: &mut _| self.kind.prepare(decoded, binding.context, diagnostics);
        binding.again(spec, self.kind.schema(), prepare).map(|(ready, _)| ready)
    }
}

impl Bound<dyn Hook, dyn HookKind> {
    /// The component with the machine's facts in its arguments.
    pub(crate) fn bind(&self, spec: &ComponentSpec, binding: &Binding<'_>) -> Result<Arc<dyn Hook>, Failure> {
        if !self.needs_facts {
            return Ok(Arc::clone(&self.ready));
        }
        let prepare = |decoded: &_, diagnostics: &mut _| self.kind.prepare(decoded, binding.context, diagnostics);
        binding.again(spec, self.kind.schema(), prepare).map(|(ready, _)| ready)
    }
}

impl<T: ?Sized, K: ?Sized> Bound<T, K> {
    /// Whether its arguments are evaluated again once the machine runs.
    pub(crate) fn needs_facts(&self) -> bool {
        self.needs_facts
    }
}

impl PreparedTest {
    /// The test with the machine's facts in its arguments.
    pub(crate) fn bind(&self, tester: &dyn Tester, binding: &Binding<'_>) -> Result<Arc<Test>, Failure> {
        if let Some(ready) = &self.ready {
            return Ok(Arc::clone(ready));
        }
        let bound = binding.again(&self.spec.component, &TEST, |decoded, diagnostics| {
            checked_test(&self.spec, decoded, Some(tester), diagnostics)
        });
        Ok(bound?.0)
    }
}

impl Binding<'_> {
    fn again<T: ?Sized>(
        &self,
        spec: &ComponentSpec,
        schema: &Schema,
        prepare: impl FnOnce(&Decoded, &mut Diagnostics) -> Option<Arc<T>>,
    ) -> Result<(Arc<T>, Arc<Body>), Failure> {
        let mut diagnostics = Diagnostics::new();
        let body = spec.config.evaluate(schema, self.facts, &mut diagnostics);
        let mut secrets = std::mem::take(&mut diagnostics.secrets);
        collect_secrets(&body, &mut secrets);
        secrets.iter().for_each(|secret| self.redactor.add(secret));
        let decoded = schema.decode(&body, &mut diagnostics);
        let ready = prepare(&decoded, &mut diagnostics);
        if ready.is_none() && !diagnostics.has_errors() {
            diagnostics.push(silent_refusal(spec));
        }
        match ready {
            // Its warnings were told before the run.
            Some(ready) if !diagnostics.has_errors() => Ok((ready, Arc::new(body))),
            _ => Err(wrong_arguments(&diagnostics, self.sources).at(spec.span)),
        }
    }
}

/// What is wrong with arguments that are known only while the template runs.
pub(super) fn wrong_arguments(diagnostics: &Diagnostics, sources: &SourceMap) -> Failure {
    let told = |item: &Diagnostic| match kiln_core::render::file_and_line(item, sources) {
        Some(place) => format!("{place}: {}", item.title),
        None => item.title.clone(),
    };
    let problems: Vec<String> = diagnostics.items.iter().filter(|item| item.is_error()).map(told).collect();
    Failure::new(FailureClass::Template, EngineError::WrongArguments { problems: problems.join("; ") })
}
