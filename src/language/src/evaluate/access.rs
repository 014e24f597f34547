//! Names, attributes, indices and splats.

use kiln_core::{Diagnostic, Span};

use super::{Evaluator, failed};
use crate::convert::{convert, unify};
use crate::syntax::{Expression, ExpressionKind, Name, SplatStep};
use crate::value::{Data, Type, Value, number_text, parse_number};

impl Evaluator<'_> {
    pub(super) fn variable(&mut self, name: &str, span: Span) -> Value {
        if let Some(value) = self.lookup(name) {
            return value.clone();
        }
        if let Some(diagnostic) = self.scope.variables.missing_root(name, span) {
            return self.report(diagnostic);
        }
        let mut known = self.scope.variables.root_names();
        known.extend(self.bound.iter().map(|(name, _)| name.as_str()));
        let diagnostic = Diagnostic::error("unknown-name", span, format!("nothing is called `{name}` here"));
        let is_shell =
            name.chars().all(|letter| letter.is_ascii_uppercase() || letter.is_ascii_digit() || letter == '_');
        if let Some(call) = crate::functions::usage(name) {
            return self.report(diagnostic.help(format!("`{name}` is a function: call it as `{call}`")));
        }
        if is_shell && kiln_core::suggest::nearest(name, known.iter().copied()).is_none() {
            let help = format!("a variable of the shell is written `${name}`, or `$${{{name}}}`, in a text");
            return self.report(diagnostic.help(help));
        }
        let diagnostic = match kiln_core::suggest::nearest(name, known.iter().copied()) {
            Some(_) => diagnostic.did_you_mean(span, name, known),
            None if known.is_empty() => diagnostic.help("put quotes around a text"),
            None => diagnostic.help(format!(
                "put quotes around a text; known here: {}",
                kiln_core::suggest::enumerate(known.iter().copied())
            )),
        };
        self.report(diagnostic)
    }

    fn lookup(&self, name: &str) -> Option<&Value> {
        let bound = self.bound.iter().rev().find(|(bound, _)| bound == name).map(|(_, value)| value);
        bound.or_else(|| self.scope.variables.root(name))
    }

    /// The value of a plain path and whether something on the way is sensitive, without a copy. `None` for anything
    /// else, mistakes included: the general way finds and tells them.
    fn borrow(&self, expression: &Expression) -> Option<(&Value, bool)> {
        match &expression.kind {
            ExpressionKind::Variable(name) => self.lookup(name).map(|value| (value, value.sensitive)),
            ExpressionKind::Attribute { object, name } => {
                if let Some(found) = self.found_out(object, name) {
                    return found.ok().map(|value| (value, value.sensitive));
                }
                let (value, sensitive) = self.borrow(object)?;
                let found = value.as_entries()?.get(&name.text)?;
                Some((found, sensitive || found.sensitive))
            }
            ExpressionKind::Index { collection, key } => {
                let (value, sensitive) = self.borrow(collection)?;
                let found = match &key.kind {
                    ExpressionKind::String(text) => value.as_entries()?.get(text)?,
                    ExpressionKind::Number(text) => list_elements(value)?.get(text.parse::<usize>().ok()?)?,
                    _ => return None,
                };
                Some((found, sensitive || found.sensitive))
            }
            ExpressionKind::Parenthesis(inner) => self.borrow(inner),
            _ => None,
        }
    }

    /// `root.name` of a root whose attributes are found out when they are asked for.
    fn found_out(&self, object: &Expression, name: &Name) -> Option<Result<&Value, Box<Diagnostic>>> {
        let ExpressionKind::Variable(root) = &object.kind else { return None };
        let is_bound = self.bound.iter().any(|(bound, _)| bound == root);
        if is_bound { None } else { self.scope.variables.found_out(root, name) }
    }

    pub(super) fn attribute(&mut self, whole: &Expression, object: &Expression, name: &Name) -> Value {
        if let Some((value, sensitive)) = self.borrow(whole) {
            return value.clone().marked(sensitive);
        }
        if let Some(Err(diagnostic)) = self.found_out(object, name) {
            return self.report(*diagnostic);
        }
        if let ExpressionKind::Variable(root) = &object.kind
            && !self.bound.iter().any(|(bound, _)| bound == root)
            && let Some(Value { data: Data::Object(_) | Data::Map(..), .. }) = self.scope.variables.root(root)
            && let Some(diagnostic) = self.scope.variables.missing_attribute(root, name)
        {
            return self.report(diagnostic);
        }
        let value = self.evaluate(object);
        self.attribute_of(&value, name, object.span)
    }

    /// `value.name`; `span` is the value's place.
    fn attribute_of(&mut self, value: &Value, name: &Name, span: Span) -> Value {
        let word = &name.text;
        let found = match &value.data {
            Data::Map(_, entries) | Data::Object(entries) => match entries.get(word) {
                Some(found) => found.clone(),
                None => {
                    let keys: Vec<&str> = entries.keys().map(String::as_str).collect();
                    let diagnostic =
                        Diagnostic::error("unknown-attribute", name.span, format!("there is no attribute `{word}`"));
                    // The names in a secret map may be secret too.
                    let keys = if value.sensitive { Vec::new() } else { keys };
                    return self.report(diagnostic.did_you_mean(name.span, word, keys));
                }
            },
            Data::Unknown(Type::Any) => Value::unknown(Type::Any),
            Data::Unknown(Type::Map(element)) => Value::unknown((**element).clone()),
            Data::Unknown(Type::Object(fields)) => match fields.get(word) {
                Some(field) => Value::unknown(field.kind.clone()),
                None => {
                    let known: Vec<&str> = fields.keys().map(String::as_str).collect();
                    let diagnostic =
                        Diagnostic::error("unknown-attribute", name.span, format!("there is no attribute `{word}`"));
                    return self.report(diagnostic.did_you_mean(name.span, word, known));
                }
            },
            Data::Null(_) => {
                let diagnostic = Diagnostic::error("null-value", span, "this is null: it has no attributes");
                return self.report(diagnostic.also(name.span, "asked for here"));
            }
            _ => {
                let kind = value.type_of();
                let title = format!("{} has no attribute `{word}`", kind.friendly());
                let diagnostic = Diagnostic::error("unknown-attribute", name.span, title);
                let diagnostic = match kind {
                    Type::List(_) | Type::Set(_) | Type::Tuple(_) => diagnostic.help(format!(
                        "for the attribute of each element write `[*].{word}`, of the first `[0].{word}`"
                    )),
                    _ => diagnostic,
                };
                return self.report(diagnostic);
            }
        };
        found.marked(value.sensitive)
    }

    pub(super) fn index_expression(&mut self, whole: &Expression, collection: &Expression, key: &Expression) -> Value {
        if let Some((value, sensitive)) = self.borrow(whole) {
            return value.clone().marked(sensitive);
        }
        let key_value = self.evaluate(key);
        // A large collection is not copied for one element of it.
        let element = self.borrow(collection).and_then(|(value, sensitive)| {
            let found = element_by_key(value, &key_value)?;
            Some(found.clone().marked(sensitive || key_value.sensitive))
        });
        if let Some(element) = element {
            return element;
        }
        let value = self.evaluate(collection);
        self.index_of(&value, &key_value, collection.span, key.span)
    }

    /// `value[key]`.
    fn index_of(&mut self, value: &Value, key: &Value, span: Span, key_span: Span) -> Value {
        let sensitive = value.sensitive || key.any_sensitive();
        if value.is_null() {
            let diagnostic = Diagnostic::error("null-value", span, "this is null: it has no elements");
            return self.report(diagnostic.also(key_span, "asked for here"));
        }
        if key.is_null() {
            return self.report(Diagnostic::error("null-value", key_span, "the index is null"));
        }
        let kind = value.type_of();
        let key_type = match &kind {
            Type::List(_) | Type::Tuple(_) => Type::Number,
            Type::Map(_) | Type::Object(_) => Type::String,
            Type::Any => return Value::unknown(Type::Any).marked(sensitive),
            _ => {
                let title = format!("{} has no elements to index", kind.friendly());
                let diagnostic = Diagnostic::error("not-indexable", span, title);
                let is_set = matches!(kind, Type::Set(_));
                return self.report(if is_set {
                    diagnostic.help("a set has no order; convert it: `convert(value, list(string))`")
                } else {
                    diagnostic
                });
            }
        };
        let Some(key) = self.converted(key, &key_type, key_span, "the index") else { return failed() };
        if let Some(found) = element_by_key(value, &key) {
            return found.clone().marked(sensitive);
        }
        if key.is_unknown() || value.is_unknown() {
            return Value::unknown(element_type(&kind, &key)).marked(sensitive);
        }
        let diagnostic = missing_element(value, &key, key_span);
        self.report(diagnostic)
    }

    /// `value[*]` with steps for each element. Null has no elements, what is no list is a list of itself.
    pub(super) fn splat(&mut self, value: &Value, steps: &[SplatStep], span: Span) -> Value {
        let elements: Vec<Value> = match &value.data {
            Data::Null(_) => return Value::tuple([]).marked(value.sensitive),
            Data::List(_, elements) | Data::Set(_, elements) | Data::Tuple(elements) => elements.clone(),
            Data::Unknown(Type::List(element) | Type::Set(element)) => {
                let each = self.splat_steps(Value::unknown((**element).clone()), steps, span);
                return Value::unknown(Type::list(each.type_of())).marked(value.sensitive);
            }
            Data::Unknown(Type::Tuple(kinds)) => kinds.iter().cloned().map(Value::unknown).collect(),
            // It may turn out to be null, a list or anything else.
            Data::Unknown(_) => return Value::unknown(Type::Any).marked(value.sensitive),
            _ => vec![value.clone()],
        };
        let mut results = Vec::new();
        for element in elements {
            let mistakes = self.diagnostics.items.len();
            results.push(self.splat_steps(element.marked(value.sensitive), steps, span));
            if self.diagnostics.items.len() > mistakes {
                return failed();
            }
        }
        let kinds: Vec<Type> = results.iter().map(Value::type_of).collect();
        let is_list = matches!(value.data, Data::List(..) | Data::Set(..));
        let result = match unify(&kinds) {
            Some(kind) if is_list && !results.iter().any(Value::has_unknown_type) => {
                let list = convert(&Value::tuple(results.clone()), &Type::list(kind));
                list.unwrap_or_else(|_| Value::tuple(results))
            }
            _ => Value::tuple(results),
        };
        result.marked(value.sensitive)
    }

    fn splat_steps(&mut self, element: Value, steps: &[SplatStep], span: Span) -> Value {
        steps.iter().fold(element, |value, step| match step {
            SplatStep::Attribute(name) => self.attribute_of(&value, name, span),
            SplatStep::Index(key) => {
                let key_value = self.evaluate(key);
                self.index_of(&value, &key_value, span, key.span)
            }
            SplatStep::Splat(steps) => self.splat(&value, steps, span),
        })
    }
}

/// The elements of what can be indexed by number.
fn list_elements(value: &Value) -> Option<&[Value]> {
    match &value.data {
        Data::List(_, elements) | Data::Tuple(elements) => Some(elements),
        _ => None,
    }
}

/// The element of a known key; `None` when there is none or it takes more to say.
fn element_by_key<'v>(value: &'v Value, key: &Value) -> Option<&'v Value> {
    match (&value.data, &key.data) {
        (Data::Map(_, entries) | Data::Object(entries), Data::String(text)) => entries.get(text),
        (Data::Map(_, entries) | Data::Object(entries), Data::Number(number)) => entries.get(&number_text(number)),
        (Data::List(_, elements) | Data::Tuple(elements), Data::Number(_)) => {
            elements.get(usize::try_from(key.as_i64()?).ok()?)
        }
        (Data::List(_, elements) | Data::Tuple(elements), Data::String(text)) => {
            let number = Value::number(parse_number(text)?);
            elements.get(usize::try_from(number.as_i64()?).ok()?)
        }
        _ => None,
    }
}

fn element_type(kind: &Type, key: &Value) -> Type {
    match kind {
        Type::List(element) | Type::Map(element) => (**element).clone(),
        Type::Tuple(kinds) => {
            let index = key.as_i64().and_then(|index| usize::try_from(index).ok());
            index.and_then(|index| kinds.get(index)).cloned().unwrap_or(Type::Any)
        }
        Type::Object(fields) => {
            key.as_str().and_then(|name| fields.get(name)).map_or(Type::Any, |field| field.kind.clone())
        }
        _ => Type::Any,
    }
}

fn missing_element(value: &Value, key: &Value, span: Span) -> Diagnostic {
    if let Some(number) = key.as_number() {
        let count = value.as_elements().map_or(0, <[Value]>::len);
        let diagnostic = Diagnostic::error("out-of-range", span, "there is no element of this index");
        return match count {
            _ if !number.is_integer() => diagnostic.label("an index is a whole number"),
            0 => diagnostic.label("the list is empty"),
            1 => diagnostic.label("the list has one element, 0"),
            _ => diagnostic.label(format!("the list has {count} elements: 0 to {}", count - 1)),
        };
    }
    let diagnostic = Diagnostic::error("unknown-key", span, "there is no element of this key");
    let (Some(text), Some(entries), false) = (key.as_str(), value.as_entries(), key.sensitive || value.sensitive)
    else {
        return diagnostic;
    };
    let diagnostic = diagnostic.label(format!("the key is `{text}`"));
    match kiln_core::suggest::nearest(text, entries.keys().map(String::as_str)) {
        Some(nearest) => diagnostic.help(format!("did you mean `{nearest}`?")),
        None if (1..=12).contains(&entries.len()) => {
            diagnostic.help(format!("known: {}", kiln_core::suggest::enumerate(entries.keys().map(String::as_str))))
        }
        None => diagnostic,
    }
}
