//! `for_each` and `enabled`: one block written, many meant, or none.

use kiln_core::{Diagnostic, Diagnostics, Span};
use kiln_language::convert::convert;
use kiln_language::evaluate::references;
use kiln_language::syntax::{Attribute, Body, Expression};
use kiln_language::value::{Data, Type, Value};

use super::scope::{Bindings, Overlay};
use super::steps::needs_builds;

/// The arguments of a source, a build or a step that say how often it is meant.
pub(crate) const ARGUMENTS: [&str; 2] = ["for_each", "enabled"];

/// What the element is called in a repeated block.
pub(crate) const EACH: &str = "each";

/// One element of a `for_each`.
#[derive(Debug, Clone)]
pub(crate) struct Element {
    /// `each.key`.
    pub(crate) key: Value,
    /// `each.value`.
    pub(crate) value: Value,
}

impl Element {
    /// Stands for the elements of a collection that is not known: what it is part of can still be checked.
    pub(crate) fn unknown() -> Element {
        Element { key: Value::unknown(Type::String), value: Value::unknown(Type::Any) }
    }

    /// `name-key`; the name alone where the key is not known.
    pub(crate) fn name_after(&self, name: &str) -> String {
        match self.key.to_text() {
            Some(key) if name.is_empty() => key,
            Some(key) => format!("{name}-{key}"),
            None => name.to_owned(),
        }
    }

    /// `each` on top of other names.
    pub(crate) fn bind(&self, bindings: &Bindings) -> Bindings {
        let each = Value::object([("key", self.key.clone()), ("value", self.value.clone())]);
        bindings.with_iterator(EACH, each)
    }
}

/// Whether an expression refers to `each`.
pub(crate) fn refers_to_each(expression: &Expression) -> bool {
    references(expression).iter().any(|reference| reference.root == EACH)
}

/// An argument that has the same value for all elements, so that it can be looked at before them.
fn common<'a>(body: &'a Body, name: &str) -> Option<&'a Attribute> {
    body.attribute(name).filter(|attribute| !refers_to_each(&attribute.value))
}

/// What a repeated block is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A source or a build: the keys become part of names, which are seen and must differ.
    Names,
    /// A module: as names, which are words of others.
    Modules,
    /// A step: the elements are gone through in order.
    Steps,
}

/// How often a block is meant.
#[derive(Debug)]
pub(crate) enum Repetition {
    /// As it stands: it has no `for_each`.
    Once,
    /// Once for each element.
    Each {
        elements: Vec<Element>,
        /// Those that `enabled` drops.
        dropped: Vec<Element>,
        /// Where it is said that some are not there: an empty `for_each`, or `enabled`.
        left_out: Option<Span>,
    },
    /// Not at all: `enabled` is false, at this place.
    Never(Span),
}

/// Reads `for_each` and `enabled`, of which the latter may refer to `each`: then it chooses elements.
pub(crate) fn read(body: &Body, scope: &Overlay<'_>, purpose: Purpose, diagnostics: &mut Diagnostics) -> Repetition {
    if let Some(enabled) = common(body, "enabled")
        && !is_true(enabled, scope, diagnostics)
    {
        return Repetition::Never(enabled.span);
    }
    let Some(for_each) = body.attribute("for_each") else {
        // `enabled` refers to an `each` of a block around it, or to none, which is told.
        return match body.attribute("enabled").filter(|enabled| refers_to_each(&enabled.value)) {
            Some(enabled) if !is_true(enabled, scope, diagnostics) => Repetition::Never(enabled.span),
            _ => Repetition::Once,
        };
    };
    let elements = elements(for_each, scope, purpose, diagnostics);
    let left_out = elements.is_empty().then_some(for_each.span);
    let Some(enabled) = body.attribute("enabled").filter(|enabled| refers_to_each(&enabled.value)) else {
        return Repetition::Each { elements, dropped: Vec::new(), left_out };
    };
    let (elements, dropped): (Vec<_>, Vec<_>) = elements.into_iter().partition(|element| {
        let bindings = element.bind(scope.bindings);
        is_true(enabled, &Overlay { values: scope.values, bindings: &bindings }, diagnostics)
    });
    let left_out = if dropped.is_empty() { left_out } else { Some(enabled.span) };
    Repetition::Each { elements, dropped, left_out }
}

/// `enabled`; true where it is null, and where it is wrong: then what it switches is still checked.
fn is_true(attribute: &Attribute, scope: &Overlay<'_>, diagnostics: &mut Diagnostics) -> bool {
    let value = scope.evaluate(&attribute.value, diagnostics);
    if value.is_null() {
        return true;
    }
    if value.is_unknown() {
        report_unknown(attribute, scope, diagnostics);
        return true;
    }
    let converted = convert(&value, &Type::Bool).map(|value| value.as_bool());
    match converted {
        Ok(truth) => truth.unwrap_or(true),
        Err(error) => {
            let title = format!("`enabled`: {error}");
            diagnostics.push(Diagnostic::error("wrong-type", attribute.value.span, title));
            true
        }
    }
}

/// The elements of `for_each`. Of what is wrong, which is told, or not known where that is no mistake, one unknown element.
fn elements(
    attribute: &Attribute,
    scope: &Overlay<'_>,
    purpose: Purpose,
    diagnostics: &mut Diagnostics,
) -> Vec<Element> {
    let value = scope.evaluate(&attribute.value, diagnostics);
    let span = attribute.value.span;
    if purpose != Purpose::Steps && value.sensitive {
        diagnostics.push(sensitive_keys(span));
        return vec![Element::unknown()];
    }
    let elements = match pairs(&value) {
        Ok(elements) => elements,
        Err(Unfit::Unknown) => {
            report_unknown(attribute, scope, diagnostics);
            return vec![Element::unknown()];
        }
        Err(Unfit::Type) => {
            let found = if value.is_null() { "null".to_owned() } else { value.type_of().friendly() };
            let title = format!("`for_each` must be a list, set or map, and this is {found}");
            let diagnostic = Diagnostic::error("wrong-type", span, title);
            diagnostics.push(match &value.data {
                Data::Null(_) => diagnostic.help("for no element at all write `[]`"),
                Data::Number(_) => diagnostic.help("to count write `range(3)`: the elements are 0, 1 and 2"),
                _ => diagnostic,
            });
            return vec![Element::unknown()];
        }
    };
    match purpose {
        Purpose::Names | Purpose::Modules if !check_names(&elements, purpose, span, diagnostics) => {
            vec![Element::unknown()]
        }
        _ => elements,
    }
}

/// Why a value has no elements.
enum Unfit {
    Unknown,
    Type,
}

/// Key and value of each element. The key is the text itself in lists and sets of texts, the index in other lists, and
/// what a set holds in other sets.
fn pairs(collection: &Value) -> Result<Vec<Element>, Unfit> {
    let mark = collection.sensitive;
    let element = |key: Value, value: &Value| Element {
        key: key.marked(mark || value.sensitive),
        value: value.clone().marked(mark),
    };
    match &collection.data {
        Data::Unknown(_) => Err(Unfit::Unknown),
        Data::List(..) | Data::Tuple(_) | Data::Set(..) => {
            let values = collection.as_elements().unwrap_or_default();
            let is_set = matches!(collection.data, Data::Set(..));
            let are_texts = values.iter().all(|value| value.type_of() == Type::String);
            if (is_set || are_texts) && values.iter().any(Value::is_unknown)
                || values.iter().any(|value| matches!(value.data, Data::Unknown(Type::Any)))
            {
                return Err(Unfit::Unknown);
            }
            if is_set && values.iter().any(|value| value.to_text().is_none()) {
                return Err(Unfit::Type);
            }
            let keyed = values.iter().enumerate().map(|(index, value)| match is_set || are_texts {
                true => element(value.clone(), value),
                // An index tells nothing of the element.
                false => Element { key: Value::number(index as u64).marked(mark), value: value.clone().marked(mark) },
            });
            Ok(keyed.collect())
        }
        Data::Map(_, entries) | Data::Object(entries) => {
            let keyed = entries.iter().map(|(key, value)| Element {
                key: Value::string(key.as_str()).marked(mark),
                value: value.clone().marked(mark),
            });
            Ok(keyed.collect())
        }
        _ => Err(Unfit::Type),
    }
}

/// Whether all keys can be parts of names, and differ.
fn check_names(elements: &[Element], purpose: Purpose, span: Span, diagnostics: &mut Diagnostics) -> bool {
    let mut seen = std::collections::BTreeSet::new();
    for element in elements {
        if element.key.sensitive {
            diagnostics.push(sensitive_keys(span));
            return false;
        }
        let Some(key) = element.key.to_text() else {
            let title = "an element of `for_each` is null, and its key becomes part of a name";
            diagnostics.push(Diagnostic::error("null-value", span, title));
            return false;
        };
        let is_word = purpose != Purpose::Modules || !key.contains(['.', '+']);
        if !makes_a_name(&key) || !is_word {
            let title = format!("the key `{key}` cannot become part of a name");
            diagnostics.push(
                Diagnostic::error("wrong-name", span, title)
                    .note(match purpose {
                        Purpose::Modules => "names of modules consist of letters, digits, `_` and `-`",
                        _ => "names consist of letters, digits and `_`, `-`, `.`, `+`",
                    })
                    .help("use a map whose keys are names: `{ name = value }`"),
            );
            return false;
        }
        if !seen.insert(key.clone()) {
            let title = format!("two elements of `for_each` have the key `{key}`, which becomes part of a name");
            diagnostics
                .push(Diagnostic::error("duplicate-name", span, title).help("`distinct(...)` drops repeated texts"));
            return false;
        }
    }
    true
}

fn makes_a_name(key: &str) -> bool {
    !key.is_empty() && key.chars().all(|letter| letter.is_alphanumeric() || "_-.+".contains(letter))
}

fn sensitive_keys(span: Span) -> Diagnostic {
    Diagnostic::error("sensitive-value", span, "`for_each` is sensitive, and its keys become parts of names")
        .note("names stand in output, labels and the journal")
        .help("use a map whose keys are not secret; its values may be")
}

/// Tells an argument that must be known before anything runs. What follows from a mistake that was told is left.
pub(crate) fn report_unknown(attribute: &Attribute, scope: &Overlay<'_>, diagnostics: &mut Diagnostics) {
    let name = &attribute.name.text;
    let found = references(&attribute.value);
    let machine =
        found.iter().find(|found| found.root == "build" && found.path.first().is_none_or(|path| path.text != "name"));
    if let Some(machine) = machine {
        let title = format!("`{name}` cannot depend on the machine: it is needed before one runs");
        diagnostics.push(Diagnostic::error("unknown-value", machine.span, title));
    } else if scope.values.is_deferred(&attribute.value) {
        diagnostics.push(needs_builds(name, attribute.value.span));
    } else if !scope.values.lenient && !diagnostics.has_errors() {
        let title = format!("`{name}` must be known before anything runs, and this is not");
        diagnostics.push(
            Diagnostic::error("not-known-yet", attribute.value.span, title)
                .note("`validate` does not read data sources")
                .help("to have it read them: `-evaluate-datasources`"),
        );
    }
}
