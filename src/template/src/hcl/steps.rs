//! Provisioners and post-processors of a build: what the template itself reads from them.

use std::sync::Arc;
use std::time::Duration;

use kiln_core::{
    ComponentSpec, Diagnostic, Diagnostics, GroupUse, PostProcessorSpec, Severity, Span, StepSpec, duration,
};
use kiln_language::convert::convert;
use kiln_language::syntax::{Attribute, ExpressionKind, Name};
use kiln_language::value::{Type, Value};

use super::component::{HclComponent, Layer, Place, Shared};
use super::dynamic::ExpandedBlock;
use super::repetition::{self, Purpose, Repetition, refers_to_each};
use super::scope::{Bindings, Overlay, Values};
use super::to_config::literal_elements;
use super::variables::collect_secrets;

/// Arguments of a provisioner that are the template's.
pub(crate) const STEP_ARGUMENTS: [&str; 14] = [
    "name",
    "only",
    "except",
    "pause_before",
    "max_retries",
    "timeout",
    "override",
    "continue_on_error",
    "cache",
    "cache_ttl",
    "checkpoint",
    "secrets",
    "for_each",
    "enabled",
];

/// Arguments of a post-processor that are the template's.
pub(crate) const POST_PROCESSOR_ARGUMENTS: [&str; 7] =
    ["name", "only", "except", "keep_input_artifact", "on_error", "for_each", "enabled"];

/// The names that steps of a build may use for its sources.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// `type.name`: what `only` and `except` may name.
    pub(crate) sources: Vec<String>,
    /// Local names of the same, for `override`, which takes both.
    pub(crate) names: Vec<String>,
    /// What the full names of further sources may begin with.
    pub(crate) open: Vec<String>,
    /// `type.name` of all sources of the template.
    pub(crate) declared: Vec<String>,
}

impl Known {
    /// Adds a source.
    pub(crate) fn add(&mut self, kind: &str, name: &str) {
        let full = format!("{kind}.{name}");
        if !self.sources.contains(&full) {
            self.sources.push(full);
        }
        if !self.names.iter().any(|known| known == name) {
            self.names.push(name.to_owned());
        }
    }

    fn has_source(&self, full: &str) -> bool {
        self.sources.iter().any(|known| known == full) || self.open.iter().any(|open| full.starts_with(open))
    }

    fn has_name(&self, name: &str) -> bool {
        let may_have = |open: &String| open.split_once('.').is_some_and(|(_, open)| name.starts_with(open));
        self.names.iter().any(|known| known == name) || self.open.iter().any(may_have)
    }
}

/// The build whose steps are read.
pub(crate) struct BuildContext<'a> {
    pub(crate) shared: &'a Arc<Shared>,
    pub(crate) place: &'a Place,
    /// All sources of the build block.
    pub(crate) known: &'a Known,
    /// The `steps` blocks around, the outermost first.
    pub(crate) groups: &'a [GroupUse],
}

impl BuildContext<'_> {
    /// What `only` and `except` may call the source.
    fn source_names(&self) -> [String; 2] {
        [&self.place.source_name, &self.place.source_family].map(|name| format!("{}.{name}", self.place.source_kind))
    }

    /// Whether `only` and `except` may name a source. Steps of a group are written for several builds, of which each has
    /// some of the sources.
    fn may_have_source(&self, full: &str) -> bool {
        self.known.has_source(full) || (!self.groups.is_empty() && self.known.declared.iter().any(|name| name == full))
    }

    pub(crate) fn component(
        &self,
        block: &ExpandedBlock<'_>,
        kind: Name,
        skip: &'static [&'static str],
    ) -> ComponentSpec {
        let name =
            Arguments::new(block, &self.shared.values, &mut Diagnostics::new()).text("name").map(|(text, _)| text);
        let overrides = block.body.attribute("override").filter(|_| skip.contains(&"override"));
        ComponentSpec {
            kind: kind.text,
            kind_span: kind.span,
            span: block.header,
            name,
            config: Arc::new(HclComponent {
                shared: Arc::clone(self.shared),
                place: self.place.clone(),
                is_source: false,
                layers: vec![Layer {
                    body: Arc::new(block.body.clone()),
                    header: block.header,
                    skip,
                    bindings: block.bindings.iterators(),
                }],
                overrides: overrides.map(|attribute| (attribute.value.clone(), block.bindings.iterators())),
            }),
        }
    }
}

/// The label that names a component's kind.
pub(crate) fn kind_label(block: &ExpandedBlock<'_>, diagnostics: &mut Diagnostics) -> Option<Name> {
    let kind = &block.kind.text;
    match block.labels.as_slice() {
        [label] => Some(label.clone()),
        [] => {
            let title = format!("a `{kind}` block needs its type as label");
            diagnostics.push(
                Diagnostic::error("missing-label", block.header, title)
                    .help(format!("write `{kind} \"TYPE\" {{ ... }}`")),
            );
            None
        }
        [_, extra, ..] => {
            let title = format!("a `{kind}` block takes one label, its type");
            diagnostics.push(
                Diagnostic::error("extra-label", extra.span, title)
                    .label("one label too many")
                    .help("a name of its own goes inside: `name = \"...\"`"),
            );
            None
        }
    }
}

/// A step as often as its `for_each` says, and not at all where its `enabled` is false. Neither is looked at where the step
/// does not run for this source.
pub(crate) fn repeat_step<'a>(
    block: ExpandedBlock<'a>,
    context: &BuildContext<'_>,
    diagnostics: &mut Diagnostics,
) -> Vec<ExpandedBlock<'a>> {
    let values = &context.shared.values;
    let argument = |name: &str| block.body.attribute(name);
    let Some(first) = argument("for_each").or(argument("enabled")) else { return vec![block] };
    let tells_elements = ["only", "except"].iter().filter_map(|name| argument(name));
    let is_common = !tells_elements.into_iter().any(|attribute| refers_to_each(&attribute.value));
    if is_common && !Arguments::new(&block, values, diagnostics).runs_for(context) {
        return Vec::new();
    }
    if block.kind.text == "error-cleanup-provisioner" && first.name.text == "for_each" {
        let title = "an `error-cleanup-provisioner` cannot be repeated: a build has only one";
        diagnostics.push(
            Diagnostic::error("unknown-argument", first.name.span, title).help("`enabled` switches it on and off"),
        );
        return vec![block];
    }
    let scope = Overlay { values, bindings: &block.bindings };
    match repetition::read(block.body, &scope, Purpose::Steps, diagnostics) {
        Repetition::Once => vec![block],
        Repetition::Never(_) => Vec::new(),
        Repetition::Each { elements, .. } => {
            let repeated = elements.iter();
            repeated.map(|element| ExpandedBlock { bindings: element.bind(&block.bindings), ..block.clone() }).collect()
        }
    }
}

/// Reads a provisioner; `None` where it does not run for this source, or with an error told.
pub(crate) fn read_step(
    block: &ExpandedBlock<'_>,
    context: &BuildContext<'_>,
    diagnostics: &mut Diagnostics,
) -> Option<StepSpec> {
    let kind = kind_label(block, diagnostics)?;
    let mut arguments = Arguments::new(block, &context.shared.values, diagnostics);
    let runs = arguments.runs_for(context);
    arguments.text("name");
    let pause_before = arguments.duration("pause_before").unwrap_or_default();
    let timeout = arguments.duration("timeout").filter(|timeout| !timeout.is_zero());
    let max_retries = arguments.count("max_retries").unwrap_or_default();
    let continue_on_error = arguments.truth("continue_on_error").unwrap_or_default();
    let cache = arguments.cache_rules();
    let is_checkpoint = arguments.truth("checkpoint").unwrap_or_default();
    let secrets = arguments.secrets();
    arguments.check_override(context);
    let component = context.component(block, kind, &STEP_ARGUMENTS);
    if runs {
        context.shared.note(block.body);
    }
    runs.then_some(StepSpec {
        component,
        groups: context.groups.to_vec(),
        pause_before,
        max_retries,
        timeout,
        continue_on_error,
        cache,
        is_checkpoint,
        secrets,
    })
}

/// Reads a post-processor, as [`read_step`].
pub(crate) fn read_post_processor(
    block: &ExpandedBlock<'_>,
    context: &BuildContext<'_>,
    diagnostics: &mut Diagnostics,
) -> Option<PostProcessorSpec> {
    let kind = kind_label(block, diagnostics)?;
    let mut arguments = Arguments::new(block, &context.shared.values, diagnostics);
    let runs = arguments.runs_for(context);
    arguments.text("name");
    let keep_input = arguments.truth("keep_input_artifact");
    let continue_on_error = arguments.continues_on_error();
    let component = context.component(block, kind, &POST_PROCESSOR_ARGUMENTS);
    if runs {
        context.shared.note(block.body);
    }
    runs.then_some(PostProcessorSpec { component, keep_input, continue_on_error })
}

/// Reads the template's own arguments of a block.
pub(crate) struct Arguments<'a> {
    block: &'a ExpandedBlock<'a>,
    values: &'a Values,
    bindings: &'a Bindings,
    pub(crate) diagnostics: &'a mut Diagnostics,
}

impl<'a> Arguments<'a> {
    pub(crate) fn new(
        block: &'a ExpandedBlock<'a>,
        values: &'a Values,
        diagnostics: &'a mut Diagnostics,
    ) -> Arguments<'a> {
        Arguments { block, values, bindings: &block.bindings, diagnostics }
    }

    /// The value of an argument, of a type; `None` where it is absent or null, or with an error told.
    pub(crate) fn value(&mut self, name: &str, kind: &Type) -> Option<(&'a Attribute, Value)> {
        let attribute = self.block.body.attribute(name)?;
        let value =
            Overlay { values: self.values, bindings: self.bindings }.evaluate(&attribute.value, self.diagnostics);
        let span = attribute.value.span;
        if !value.is_wholly_known() {
            // An unknown value without a reference to the machine follows from a mistake told elsewhere.
            if kiln_language::evaluate::references(&attribute.value).iter().any(|found| found.root == "build") {
                let title = format!("`{name}` cannot depend on the machine: it is needed before one runs");
                self.diagnostics.push(Diagnostic::error("unknown-value", span, title));
            } else if self.values.is_deferred(&attribute.value) {
                self.diagnostics.push(needs_builds(name, span));
            }
            return None;
        }
        if value.is_null() {
            return None;
        }
        // Names are shown; a text that derives from a secret is known to nobody yet.
        collect_secrets(&value, false, &mut self.diagnostics.secrets);
        match convert(&value, kind) {
            Ok(value) => Some((attribute, value)),
            Err(error) => {
                let title = format!("`{name}`: {error}");
                self.diagnostics.push(Diagnostic::error("wrong-type", span, title));
                None
            }
        }
    }

    /// A text with its place.
    pub(crate) fn text(&mut self, name: &str) -> Option<(String, Span)> {
        let (attribute, value) = self.value(name, &Type::String)?;
        Some((value.as_str()?.to_owned(), attribute.value.span))
    }

    /// Texts with the place of each.
    pub(crate) fn texts(&mut self, name: &str) -> Option<Vec<(String, Span)>> {
        let (attribute, value) = self.value(name, &Type::list(Type::String))?;
        let elements = value.as_elements()?;
        let written = literal_elements(Some(&attribute.value)).filter(|written| written.len() == elements.len());
        let spans = (0..elements.len()).map(|index| match written {
            Some(written) => written[index].span,
            None => attribute.value.span,
        });
        Some(elements.iter().map(|element| element.as_str().unwrap_or_default().to_owned()).zip(spans).collect())
    }

    pub(crate) fn truth(&mut self, name: &str) -> Option<bool> {
        self.value(name, &Type::Bool)?.1.as_bool()
    }

    /// `on_error` of a post-processor.
    fn continues_on_error(&mut self) -> bool {
        let known = ["fail", "continue"];
        let Some((text, span)) = self.text("on_error") else { return false };
        if !known.contains(&text.as_str()) {
            let title = format!("`on_error` is `fail` or `continue`, not `{text}`");
            self.diagnostics
                .push(Diagnostic::error("wrong-value", span, title).did_you_mean_quoted(span, &text, known));
        }
        text == "continue"
    }

    fn count(&mut self, name: &str) -> Option<u32> {
        let (attribute, value) = self.value(name, &Type::Number)?;
        let count = value.as_i64().and_then(|count| u32::try_from(count).ok());
        if count.is_none() {
            let title = format!("`{name}` must be a whole number from 0 on");
            self.diagnostics.push(Diagnostic::error("wrong-value", attribute.value.span, title));
        }
        count
    }

    pub(crate) fn duration(&mut self, name: &str) -> Option<Duration> {
        let (text, span) = self.text(name)?;
        match duration::parse(&text) {
            Ok(duration) => Some(duration),
            Err(error) => {
                self.diagnostics.push(duration::mistake(name, &text, span, &error));
                None
            }
        }
    }

    /// `only` and `except`: exact names of sources, `type.name`.
    pub(crate) fn runs_for(&mut self, context: &BuildContext<'_>) -> bool {
        let own = context.source_names();
        let (only, except) = (self.texts("only"), self.texts("except"));
        if let (Some(_), Some(except)) = (self.block.body.attribute("only"), self.block.body.attribute("except")) {
            let only = self.block.body.attribute("only").map_or(self.block.header, |only| only.name.span);
            self.diagnostics.push(
                Diagnostic::error("only-and-except", except.name.span, "`only` and `except` exclude each other")
                    .also(only, "`only` is here"),
            );
            return true;
        }
        let is_known = |(name, _): &(String, Span)| context.may_have_source(name);
        let unknown: Vec<(String, Span)> =
            only.iter().chain(&except).flatten().filter(|item| !is_known(item)).cloned().collect();
        if self.is_computed(&unknown) {
            // One of several that are made alike, of which others run; but not where nothing at all has such a name.
            let may_fit = |item: &(String, Span)| is_known(item) || context.known.declared.contains(&item.0);
            let is_pointless = only.as_ref().is_some_and(|only| !only.is_empty() && !only.iter().any(may_fit));
            if is_pointless && let Some((name, span)) = unknown.first() {
                let mut warning = unknown_source(name, *span, &context.known.sources);
                warning.severity = Severity::Warning;
                self.diagnostics.push(warning.label("so this does not run here"));
            }
        } else if !unknown.is_empty() {
            let told = unknown.iter().map(|(name, span)| unknown_source(name, *span, &context.known.sources));
            self.diagnostics.extend(told);
            // So that its body is checked all the same.
            return true;
        }
        let has = |list: &[(String, Span)]| list.iter().any(|(name, _)| own.contains(name));
        only.is_none_or(|only| only.is_empty() || has(&only)) && except.is_none_or(|except| !has(&except))
    }

    /// Whether names of sources are not all written as they are, once and for good: then some of them may fit elsewhere.
    fn is_computed(&self, names: &[(String, Span)]) -> bool {
        let arguments = ["only", "except"].into_iter().filter_map(|name| self.block.body.attribute(name));
        let written: Vec<Span> = arguments
            .flat_map(|attribute| literal_elements(Some(&attribute.value)).unwrap_or_default())
            .filter(|element| matches!(element.kind, ExpressionKind::String(_)))
            .map(|element| element.span)
            .collect();
        !self.bindings.iterators().is_empty() || !names.iter().all(|(_, span)| written.contains(span))
    }

    /// Warns of a source in `override` that the build does not have. Packer passes over it in silence.
    fn check_override(&mut self, context: &BuildContext<'_>) {
        let sources = context.known;
        if !context.groups.is_empty() {
            // It is written for several builds.
            return;
        }
        use kiln_language::syntax::ExpressionKind::{Object, String as Text};
        let Some(attribute) = self.block.body.attribute("override") else { return };
        let Object(entries) = &attribute.value.kind else { return };
        for (key, _) in entries {
            if let Text(name) = &key.kind
                && !sources.has_name(name)
                && !sources.has_source(name)
            {
                let known = if name.contains('.') { &sources.sources } else { &sources.names };
                let known = known.iter().map(String::as_str);
                let title = format!("`override` is for a source `{name}`, which this build does not have");
                self.diagnostics
                    .push(Diagnostic::warning("unknown-source", key.span, title).did_you_mean(key.span, name, known));
            }
        }
    }
}

/// Tells an argument that must be known before anything runs.
pub(crate) fn needs_builds(name: &str, span: Span) -> Diagnostic {
    let title = format!("`{name}` cannot depend on what a build leaves: it is needed before one runs");
    Diagnostic::error("unknown-value", span, title)
}

/// `only` and `except` take `type.name`; a name alone is completed.
fn unknown_source(name: &str, span: Span, known: &[String]) -> Diagnostic {
    let diagnostic = Diagnostic::error("unknown-source", span, format!("this build has no source `{name}`"));
    let short = name.strip_prefix("source.").unwrap_or(name);
    let mut same = known
        .iter()
        .filter(|known| known.as_str() == short || known.split_once('.').is_some_and(|(_, name)| name == short));
    match (same.next(), same.next()) {
        (Some(full), None) => diagnostic.rename(span, full.as_str(), format!("did you mean `{full}`?")),
        _ => diagnostic.did_you_mean_quoted(span, name, known.iter().map(String::as_str)),
    }
}

/// [`Diagnostic::did_you_mean`] for a name in quotes.
pub(crate) trait Quoted {
    /// Offers the nearest name as a replacement for the quoted text at `span`.
    fn did_you_mean_quoted<'a>(
        self,
        span: Span,
        name: &str,
        known: impl IntoIterator<Item = &'a str> + Clone,
    ) -> Diagnostic;
}

impl Quoted for Diagnostic {
    fn did_you_mean_quoted<'a>(
        self,
        span: Span,
        name: &str,
        known: impl IntoIterator<Item = &'a str> + Clone,
    ) -> Diagnostic {
        let mut diagnostic = self.did_you_mean(span, name, known);
        if let Some(fix) = &mut diagnostic.fix {
            fix.replacement = format!("\"{}\"", fix.replacement);
        }
        diagnostic
    }
}

#[cfg(test)]
mod reference_tests {
    use crate::grammar;

    #[test]
    fn what_steps_take_is_documented() {
        assert_eq!(grammar::arguments(&grammar::PROVISIONER), super::STEP_ARGUMENTS);
        assert_eq!(grammar::arguments(&grammar::POST_PROCESSOR), super::POST_PROCESSOR_ARGUMENTS);
    }
}
