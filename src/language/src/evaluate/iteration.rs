//! `for` in expressions.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use kiln_core::{Diagnostic, Span};

use super::{Evaluator, failed};
use crate::syntax::{Expression, ForExpression};
use crate::value::{Data, Type, Value};

impl Evaluator<'_> {
    /// What a `for` walks over: keys and elements, and whether the whole is sensitive. `None` for unknown or after a
    /// mistake.
    pub(super) fn items(&mut self, collection: &Expression) -> (Option<Vec<(Value, Value)>>, bool) {
        let value = self.evaluate(collection);
        let sensitive = value.sensitive;
        let span = collection.span;
        let items = match value.data {
            Data::List(_, elements) | Data::Tuple(elements) => {
                let numbered = elements.into_iter().enumerate();
                Some(numbered.map(|(index, element)| (Value::number(index as u64), element)).collect())
            }
            Data::Set(_, elements) => Some(elements.into_iter().map(|element| (element.clone(), element)).collect()),
            Data::Map(_, entries) | Data::Object(entries) => {
                Some(entries.into_iter().map(|(key, value)| (Value::string(key), value)).collect())
            }
            Data::Null(_) => {
                self.report(
                    Diagnostic::error("null-value", span, "this is null: `for` cannot walk over it")
                        .help("write `coalesce(value, [])`, or a conditional, where it may be null"),
                );
                None
            }
            Data::Unknown(Type::String | Type::Number | Type::Bool)
            | Data::String(_)
            | Data::Number(_)
            | Data::Bool(_) => {
                let kind = value.data.kind_name();
                self.report(
                    Diagnostic::error("not-iterable", span, format!("`for` cannot walk over {kind}"))
                        .help("it takes lists, sets, maps and objects"),
                );
                None
            }
            Data::Unknown(_) => None,
        };
        let marked = items.map(|items: Vec<(Value, Value)>| {
            items.into_iter().map(|(key, value)| (key.marked(sensitive), value.marked(sensitive))).collect()
        });
        (marked, sensitive)
    }

    /// Runs `body` with names bound to one item.
    pub(super) fn with_item<T>(
        &mut self,
        names: (Option<&str>, &str),
        item: (Value, Value),
        body: impl FnOnce(&mut Self) -> T,
    ) -> T {
        let before = self.bound.len();
        if let Some(name) = names.0 {
            self.bound.push((name.to_owned(), item.0));
        }
        self.bound.push((names.1.to_owned(), item.1));
        let result = body(self);
        self.bound.truncate(before);
        result
    }

    pub(super) fn for_expression(&mut self, expression: &ForExpression) -> Value {
        let (items, sensitive) = self.items(&expression.collection);
        let Some(items) = items else { return failed().marked(sensitive) };
        let names = (expression.key_name.as_ref().map(|name| name.text.as_str()), expression.value_name.text.as_str());
        let mut results = Results { sensitive, ..Results::default() };
        for item in items {
            let mistakes = self.diagnostics.items.len();
            let is_known = self.with_item(names, item, |evaluator| evaluator.for_item(expression, &mut results));
            // The other elements would bring the same mistakes again.
            if !is_known && self.diagnostics.items.len() > mistakes {
                return failed();
            }
            results.is_unknown |= !is_known;
        }
        let data = if results.is_unknown {
            Data::Unknown(Type::Any)
        } else if expression.key.is_none() {
            Data::Tuple(results.elements)
        } else if expression.group {
            Data::Object(results.groups.into_iter().map(|(key, values)| (key, Value::tuple(values))).collect())
        } else {
            Data::Object(results.entries)
        };
        Value { data, sensitive: results.sensitive }
    }

    /// One item; false when the result cannot be known from here on.
    fn for_item(&mut self, expression: &ForExpression, results: &mut Results) -> bool {
        if let Some(condition) = &expression.condition {
            let (holds, sensitive) = self.condition(condition);
            results.sensitive |= sensitive;
            match holds {
                Some(true) => {}
                Some(false) => return true,
                None => return false,
            }
        }
        let Some(key) = &expression.key else {
            let mistakes = self.diagnostics.items.len();
            results.elements.push(self.evaluate(&expression.value));
            return self.diagnostics.items.len() == mistakes;
        };
        let key_value = self.evaluate(key);
        results.sensitive |= key_value.any_sensitive();
        let Some(text) = self.key_text(&key_value, key.span) else { return false };
        let mistakes = self.diagnostics.items.len();
        let value = self.evaluate(&expression.value);
        if self.diagnostics.items.len() > mistakes {
            return false;
        }
        if expression.group {
            results.groups.entry(text).or_default().push(value);
            return true;
        }
        match results.entries.entry(text) {
            Entry::Vacant(place) => {
                place.insert(value);
                true
            }
            Entry::Occupied(place) => {
                let shown = if key_value.any_sensitive() { None } else { Some(place.key().as_str()) };
                self.duplicate_key(shown, key.span, expression.value.span);
                false
            }
        }
    }

    fn duplicate_key(&mut self, key: Option<&str>, key_span: Span, value_span: Span) {
        let mut diagnostic = Diagnostic::error("duplicate-key", key_span, "two elements yield the same key");
        if let Some(key) = key {
            diagnostic = diagnostic.label(format!("`{key}` comes twice"));
        }
        let end = Span { start: value_span.end, ..value_span };
        self.report(diagnostic.fix(end, "...", "to collect the values of a key in a list, add `...`"));
    }
}

#[derive(Default)]
struct Results {
    elements: Vec<Value>,
    entries: BTreeMap<String, Value>,
    groups: BTreeMap<String, Vec<Value>>,
    sensitive: bool,
    is_unknown: bool,
}
