//! Go template actions in the template's strings: rendered, and what is wrong told inside the string.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use kiln_core::{Diagnostic, Diagnostics, Facts, Span, TextScope};
use kiln_gotemplate::{MissingField, RenderError, Rendered, Scope, action_ranges, render, render_with_report};

use super::json;
use super::references::references;
use super::variables::Variables;

/// What a text may use that its place decides.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Place<'a> {
    pub(super) build_name: Option<&'a str>,
    pub(super) build_type: Option<&'a str>,
    pub(super) facts: Option<&'a Facts>,
}

/// A rendered text.
pub(super) struct Text {
    /// `None` where it depends on something not known yet.
    pub(super) text: Option<String>,
    pub(super) is_sensitive: bool,
}

/// What all texts of one template share.
#[derive(Debug)]
pub(super) struct Texts {
    /// The template itself, to point into.
    source: Arc<str>,
    pub(super) scope: Arc<TextScope>,
    unresolved: BTreeSet<String>,
    sensitive: BTreeSet<String>,
    secrets: Vec<String>,
}

impl Texts {
    pub(super) fn new(source: Arc<str>, scope: Arc<TextScope>, variables: &Variables) -> Texts {
        Texts {
            source,
            scope,
            unresolved: variables.unresolved.clone(),
            sensitive: variables.sensitive.clone(),
            secrets: variables.secrets.clone(),
        }
    }

    /// Renders the text of a string literal. `None` with a diagnostic where that is impossible.
    pub(super) fn render(
        &self,
        text: &str,
        literal: Span,
        place: Place<'_>,
        diagnostics: &mut Diagnostics,
    ) -> Option<Text> {
        if !text.contains("{{") {
            return Some(self.marked(text, Some(text.to_owned())));
        }
        if self.is_unresolved(text) {
            return Some(self.marked(text, None));
        }
        let scope = Scope {
            text: &self.scope,
            build_name: place.build_name,
            build_type: place.build_type,
            build: place.facts.and_then(|facts| facts.build.as_ref()),
            allow_env: false,
        };
        match render_with_report(text, &scope, &BTreeMap::new()) {
            Ok(report) => {
                self.collect_pieces(text, &scope, diagnostics);
                self.warn_missing(report.missing_fields, literal, diagnostics);
                Some(self.marked(
                    text,
                    match report.rendered {
                        Rendered::Text(rendered) => Some(rendered),
                        Rendered::Unknown => None,
                    },
                ))
            }
            Err(error) => {
                diagnostics.push(render_mistake(&error, self.place(error.range.clone(), literal)));
                None
            }
        }
    }

    /// What each action that uses a sensitive variable prints by itself: a script may show that piece alone.
    fn collect_pieces(&self, text: &str, scope: &Scope<'_>, diagnostics: &mut Diagnostics) {
        if !self.sensitive.is_empty() {
            diagnostics.secrets.extend(sensitive_pieces(text, scope, |name| self.sensitive.contains(name)));
        }
    }

    /// A text whose actions the component renders later, with data of these names; none are looked for without them.
    pub(super) fn deferred(
        &self,
        text: &str,
        literal: Span,
        data: Option<&[&str]>,
        diagnostics: &mut Diagnostics,
    ) -> Text {
        match kiln_gotemplate::check(text, data) {
            Ok(missing) => self.warn_missing(missing, literal, diagnostics),
            Err(error) => diagnostics.push(render_mistake(&error, self.place(error.range.clone(), literal))),
        }
        self.untouched(text)
    }

    /// A text of which nobody knows how it will be rendered.
    pub(super) fn untouched(&self, text: &str) -> Text {
        self.marked(text, (!self.is_unresolved(text)).then(|| text.to_owned()))
    }

    /// Where a range of the text of a literal stands in the template.
    fn place(&self, range: Option<Range<usize>>, literal: Span) -> Span {
        range.map_or(literal, |range| json::inside(&self.source, literal, range))
    }

    fn warn_missing(&self, missing: Vec<MissingField>, literal: Span, diagnostics: &mut Diagnostics) {
        for field in missing {
            let span = self.place(field.range, literal);
            let warning = Diagnostic::warning("no-value", span, format!("`{}` has no value here", field.path))
                .label("becomes `<no value>`");
            diagnostics.push(match field.suggestion {
                Some(name) if self.source.get(span.range()) == Some(&field.path) => {
                    warning.fix(span, name.as_str(), format!("did you mean `{name}`?"))
                }
                Some(name) => warning.help(format!("did you mean `{name}`?")),
                None => warning,
            });
        }
    }

    fn is_unresolved(&self, text: &str) -> bool {
        !self.unresolved.is_empty()
            && references(text).iter().any(|reference| self.unresolved.contains(&reference.name))
    }

    /// A text is sensitive when it uses a sensitive variable, or shows the value of one however it came there.
    fn marked(&self, written: &str, text: Option<String>) -> Text {
        let is_sensitive = !self.sensitive.is_empty()
            && (text.as_ref().is_some_and(|text| self.secrets.iter().any(|secret| text.contains(secret.as_str())))
                || references(written).iter().any(|reference| self.sensitive.contains(&reference.name)));
        Text { text, is_sensitive }
    }
}

/// What the actions of a text print that use a sensitive variable, each by itself.
pub(super) fn sensitive_pieces(text: &str, scope: &Scope<'_>, is_sensitive: impl Fn(&str) -> bool) -> Vec<String> {
    let actions = action_ranges(text).into_iter().map(|range| &text[range]);
    let uses = |action: &&str| references(action).iter().any(|reference| is_sensitive(&reference.name));
    // Half of an `if` is no text of its own; what it prints stands in the whole.
    let piece = |action: &str| match render(action, scope, &BTreeMap::new()) {
        Ok(Rendered::Text(piece)) => Some(piece),
        _ => None,
    };
    actions.filter(uses).filter_map(piece).collect()
}

/// A rendering error at its place.
pub(super) fn render_mistake(error: &RenderError, span: Span) -> Diagnostic {
    let mistake = Diagnostic::error("text-template", span, error.message.as_str());
    match &error.suggestion {
        Some(name) => mistake.fix(span, name.as_str(), format!("did you mean `{name}`?")),
        None => mistake,
    }
}
