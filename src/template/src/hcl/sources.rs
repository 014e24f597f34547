//! The sources that builds may name: `for_each` makes a family of a source, `enabled` leaves it out.

use std::collections::BTreeMap;
use std::sync::Arc;

use kiln_core::{Diagnostic, Diagnostics, Span, suggest};

use super::blocks::{Declarations, SourceDeclaration, is_identifier};
use super::repetition::{self, Element, Purpose, Repetition};
use super::scope::{Bindings, Overlay, Values};
use super::steps::Quoted;

/// A source as a build may use it: declared as it is, or one of a family.
#[derive(Debug, Clone)]
pub(crate) struct Instance {
    pub(crate) declaration: Arc<SourceDeclaration>,
    /// `NAME`, or `NAME-KEY`.
    pub(crate) name: String,
    /// The element it was made for.
    pub(crate) element: Option<Element>,
}

impl Instance {
    /// `type.name`.
    pub(crate) fn full_name(&self) -> String {
        format!("{}.{}", self.declaration.kind.text, self.name)
    }

    /// Names that its body knows.
    pub(crate) fn bindings(&self) -> Bindings {
        self.element.as_ref().map(|element| element.bind(&Bindings::default())).unwrap_or_default()
    }
}

/// What a declaration stands for.
#[derive(Debug, Clone, Default)]
struct Family {
    instances: Vec<Instance>,
    /// Those that `enabled` leaves out.
    dropped: Vec<Instance>,
    /// Where it is said that something is left out.
    left_out: Option<Span>,
    /// Whether which elements it would have was not looked at.
    is_open: bool,
}

/// What a reference means.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// The sources; none where all of them are left out.
    pub(crate) instances: Vec<Instance>,
    /// Sources that are left out.
    pub(crate) dropped: Vec<Instance>,
    /// What they all belong to, also where there are none: kind and name as declared.
    pub(crate) family: (String, String),
    /// Where it is said that something is left out.
    pub(crate) left_out: Option<Span>,
    /// A family of which no element is known: names that begin so may be meant for it.
    pub(crate) open: Option<String>,
    /// Whether it is not declared, which was told, and this is what was probably meant.
    pub(crate) is_guess: bool,
}

/// All sources of a template, each looked at when a build first names it.
pub(crate) struct Sources<'a> {
    declarations: &'a Declarations,
    values: &'a Values,
    families: BTreeMap<(String, String), Family>,
    /// The families' instances by kind and name, with the place of the `for_each`.
    made: BTreeMap<(String, String), Span>,
    /// `type.name` of those that are named and not declared.
    pub(crate) undeclared: Vec<String>,
}

impl<'a> Sources<'a> {
    pub(crate) fn new(declarations: &'a Declarations, values: &'a Values) -> Sources<'a> {
        Sources { declarations, values, families: BTreeMap::new(), made: BTreeMap::new(), undeclared: Vec::new() }
    }

    /// The sources that `type.name` or `source.type.name` means. `None` where the mistake is told and nothing near is
    /// declared. As in Packer, of three parts the first is passed over, and so is what stands behind the third.
    pub(crate) fn find(&mut self, reference: &str, span: Span, diagnostics: &mut Diagnostics) -> Option<Found> {
        let meanings = meanings(reference);
        if meanings.is_empty() {
            diagnostics.push(self.malformed(reference, span));
            return None;
        }
        for (kind, name) in &meanings {
            if let Some(found) = self.declared(kind, name, diagnostics) {
                self.check_name(kind, name, span, diagnostics);
                return Some(found);
            }
        }
        for (kind, name) in &meanings {
            if let Some(found) = self.member(kind, name, diagnostics) {
                return Some(found);
            }
        }
        let (kind, name) = &meanings[0];
        let parts = reference.split('.').count();
        if parts > 3
            && let Some(found) = self.declared(kind, shortened(name), diagnostics)
        {
            let title =
                format!("this means the source `{kind}.{}`; what stands behind is passed over", shortened(name));
            diagnostics.push(Diagnostic::warning("long-reference", span, title));
            return Some(found);
        }
        let of_family = meanings.iter().find(|(kind, name)| !self.families_of(kind, name).is_empty());
        let (kind, name) = of_family.unwrap_or(&meanings[0]).clone();
        self.undeclared(reference, &kind, &name, span, diagnostics)
    }

    /// As in Packer, a source may be declared under any name, and used under one that is a bare name only.
    fn check_name(&self, kind: &str, name: &str, span: Span, diagnostics: &mut Diagnostics) {
        let Some(wrong) = [kind, name].into_iter().find(|part| !is_identifier(part)) else { return };
        let title = format!("`{wrong}` is not a name: letters, digits, `_` and `-`, and no digit or `-` first");
        let diagnostic = Diagnostic::error("wrong-name", span, title);
        let declared = self.declarations.sources.get(&(kind.to_owned(), name.to_owned()));
        diagnostics.push(match declared {
            Some(declared) => diagnostic.also(declared.header, "declared here"),
            None => diagnostic,
        });
    }

    /// Kind and place of the sources that nothing has asked for.
    pub(crate) fn unused(&self) -> Vec<(String, Span)> {
        let unused = self.declarations.sources.iter().filter(|(key, _)| !self.families.contains_key(*key));
        unused.map(|(_, source)| (source.kind.text.clone(), source.kind.span)).collect()
    }

    /// A source, or all of a family.
    fn declared(&mut self, kind: &str, name: &str, diagnostics: &mut Diagnostics) -> Option<Found> {
        let family = self.family(kind, name, diagnostics)?;
        Some(Found {
            instances: family.instances,
            dropped: family.dropped,
            family: (kind.to_owned(), name.to_owned()),
            left_out: family.left_out,
            open: family.is_open.then(|| format!("{kind}.{name}-")),
            is_guess: false,
        })
    }

    /// One of a family: `name-key`.
    fn member(&mut self, kind: &str, name: &str, diagnostics: &mut Diagnostics) -> Option<Found> {
        for family_name in self.families_of(kind, name) {
            let family = self.family(kind, &family_name, diagnostics)?;
            let of_name = |instances: &[Instance]| -> Vec<Instance> {
                instances.iter().filter(|instance| instance.name == name).cloned().collect()
            };
            let (instances, dropped) = (of_name(&family.instances), of_name(&family.dropped));
            if family.is_open || !instances.is_empty() || !dropped.is_empty() {
                let open = family.is_open.then(|| format!("{kind}.{family_name}-"));
                let whole = (kind.to_owned(), family_name);
                let left_out = family.left_out;
                return Some(Found { instances, dropped, family: whole, left_out, open, is_guess: false });
            }
        }
        None
    }

    /// Names of the families that something of this name may belong to.
    fn families_of(&self, kind: &str, name: &str) -> Vec<String> {
        let declared = self.declarations.sources.values().filter(|declared| {
            declared.kind.text == kind
                && declared.body.attribute("for_each").is_some()
                && name.strip_prefix(&declared.name.text).is_some_and(|rest| rest.starts_with('-'))
        });
        declared.map(|declared| declared.name.text.clone()).collect()
    }

    fn family(&mut self, kind: &str, name: &str, diagnostics: &mut Diagnostics) -> Option<Family> {
        let key = (kind.to_owned(), name.to_owned());
        if let Some(family) = self.families.get(&key) {
            return Some(family.clone());
        }
        let declaration = self.declarations.sources.get(&key)?;
        let family = self.expand(declaration, diagnostics);
        self.families.insert(key, family.clone());
        Some(family)
    }

    fn expand(&mut self, declaration: &Arc<SourceDeclaration>, diagnostics: &mut Diagnostics) -> Family {
        let plain =
            || Instance { declaration: Arc::clone(declaration), name: declaration.name.text.clone(), element: None };
        let instance = |element: Element| Instance {
            declaration: Arc::clone(declaration),
            name: element.name_after(&declaration.name.text),
            element: Some(element),
        };
        let scope = Overlay { values: self.values, bindings: &Bindings::default() };
        match repetition::read(&declaration.body, &scope, Purpose::Names, diagnostics) {
            Repetition::Once => Family { instances: vec![plain()], ..Family::default() },
            Repetition::Never(span) => Family {
                dropped: vec![plain()],
                left_out: Some(span),
                is_open: declaration.body.attribute("for_each").is_some(),
                ..Family::default()
            },
            Repetition::Each { elements, dropped, left_out } => {
                let mut instances: Vec<Instance> = elements.into_iter().map(instance).collect();
                instances.retain(|instance| self.has_own_name(declaration, instance, diagnostics));
                let dropped = dropped.into_iter().map(instance).collect();
                Family { instances, dropped, left_out, is_open: false }
            }
        }
    }

    /// Whether no other source is called like one of a family, which is told.
    fn has_own_name(&mut self, family: &SourceDeclaration, instance: &Instance, diagnostics: &mut Diagnostics) -> bool {
        // An unknown element has no name of its own.
        if instance.name == family.name.text {
            return true;
        }
        let span = family.body.attribute("for_each").map_or(family.header, |for_each| for_each.span);
        let key = (family.kind.text.clone(), instance.name.clone());
        let declared = self.declarations.sources.get(&key).map(|other| other.header);
        let Some(other) = declared.or_else(|| self.made.get(&key).copied()) else {
            self.made.insert(key, span);
            return true;
        };
        let title = format!("a second source is called `{}`", instance.full_name());
        diagnostics.push(
            Diagnostic::error("duplicate-declaration", span, title)
                .label(format!("makes one for each element, `{}-KEY`", family.name.text))
                .also(other, "first here"),
        );
        false
    }

    /// `type.name` of all sources, of families as far as they were looked at.
    pub(crate) fn names(&self) -> Vec<String> {
        let made = self.made.keys().map(|(kind, name)| format!("{kind}.{name}"));
        self.declarations.source_names().into_iter().chain(made).collect()
    }

    fn malformed(&self, reference: &str, span: Span) -> Diagnostic {
        let title = format!("`{reference}` does not name a source");
        let diagnostic = Diagnostic::error("wrong-reference", span, title);
        match self.declarations.sources.keys().find(|(_, name)| name == reference) {
            Some((kind, name)) => {
                let full = format!("source.{kind}.{name}");
                diagnostic.fix(span, format!("\"{full}\""), format!("did you mean `{full}`?"))
            }
            None => diagnostic.help("write `source.TYPE.NAME`"),
        }
    }

    /// Tells that a source is not declared. The one that was probably meant is given, so that the rest is checked with it.
    fn undeclared(
        &mut self,
        reference: &str,
        kind: &str,
        name: &str,
        span: Span,
        diagnostics: &mut Diagnostics,
    ) -> Option<Found> {
        let prefix = reference.strip_suffix(&format!("{kind}.{name}")).unwrap_or_default();
        let full = format!("{kind}.{name}");
        let names: Vec<String> = self.names().into_iter().map(|name| format!("{prefix}{name}")).collect();
        let diagnostic = Diagnostic::error("unknown-source", span, format!("the source `{full}` is not declared"));
        let diagnostic = diagnostic.did_you_mean_quoted(span, reference, names.iter().map(String::as_str));
        let has_advice = diagnostic.fix.is_some() || diagnostic.help.is_some();
        diagnostics.push(if has_advice {
            diagnostic
        } else {
            diagnostic.help(format!("declare it: `source \"{kind}\" \"{name}\" {{ ... }}`"))
        });
        self.undeclared.push(full);
        let meant = suggest::nearest(reference, names.iter().map(String::as_str)).map(str::to_owned);
        let found = self::meanings(&meant?).into_iter().find_map(|(kind, name)| {
            self.declared(&kind, &name, diagnostics).or_else(|| self.member(&kind, &name, diagnostics))
        });
        found.map(|found| Found { is_guess: true, ..found })
    }
}

/// A name up to its first dot.
fn shortened(name: &str) -> &str {
    name.split('.').next().unwrap_or(name)
}

/// What a reference may mean, as kind and name: what Packer takes it for first, then names with dots in them.
fn meanings(reference: &str) -> Vec<(String, String)> {
    let parts: Vec<&str> = reference.split('.').collect();
    let from = |first: usize| (parts[first].to_owned(), parts[first + 1..].join("."));
    match parts.len() {
        0 | 1 => Vec::new(),
        2 => vec![from(0)],
        _ => vec![from(1), from(0)],
    }
}
