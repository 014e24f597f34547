//! Values and types.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;

use bigdecimal::{BigDecimal, ToPrimitive};
use unicode_normalization::{UnicodeNormalization, is_nfc};

pub(crate) use crate::number::shown;
pub use crate::number::{LARGEST_EXPONENT, SIGNIFICANT_DIGITS, number_text, parse_number, rounded};

/// A type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Type {
    /// Not known, or any.
    Any,
    /// `string`.
    String,
    /// `number`.
    Number,
    /// `bool`.
    Bool,
    /// `list(T)`.
    List(Box<Type>),
    /// `set(T)`.
    Set(Box<Type>),
    /// `map(T)`.
    Map(Box<Type>),
    /// `tuple([T, ...])`.
    Tuple(Vec<Type>),
    /// `object({ ... })`.
    Object(BTreeMap<String, ObjectField>),
}

/// One attribute of an object type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectField {
    /// Its type.
    pub kind: Type,
    /// Whether it may be absent (`optional(T)`).
    pub optional: bool,
    /// Its value where it is absent (`optional(T, default)`).
    pub default: Option<Box<Value>>,
}

/// A value and whether it is, or derives from, a sensitive one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value {
    /// The value.
    pub data: Data,
    /// Whether it must not be shown. Elements bear marks of their own; a mark on a collection covers all of it.
    pub sensitive: bool,
}

/// A value without its mark. Texts are NFC-normalised. Maps, objects and sets are sorted: their order is observable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data {
    /// `null` of a type.
    Null(Type),
    /// Not known yet, but its type is (or `Any`).
    Unknown(Type),
    /// `true`, `false`.
    Bool(bool),
    /// An exact decimal number.
    Number(BigDecimal),
    /// A text.
    String(String),
    /// Elements of one type.
    List(Type, Vec<Value>),
    /// Distinct elements of one type, in canonical order.
    Set(Type, Vec<Value>),
    /// Elements of any types.
    Tuple(Vec<Value>),
    /// Text to elements of one type.
    Map(Type, BTreeMap<String, Value>),
    /// Names to elements of any types.
    Object(BTreeMap<String, Value>),
}

impl Data {
    /// What a sentence calls it: `null`, `a string`, `a list of numbers`.
    pub fn kind_name(&self) -> String {
        match self {
            Data::Null(_) => "null".to_owned(),
            Data::Unknown(kind) => kind.friendly(),
            Data::Bool(_) => "a bool".to_owned(),
            Data::Number(_) => "a number".to_owned(),
            Data::String(_) => "a string".to_owned(),
            Data::List(element, _) => Type::list(element.clone()).friendly(),
            Data::Set(element, _) => Type::set(element.clone()).friendly(),
            Data::Map(element, _) => Type::map(element.clone()).friendly(),
            Data::Tuple(_) => "a list".to_owned(),
            Data::Object(_) => "an object".to_owned(),
        }
    }
}

impl From<Data> for Value {
    fn from(data: Data) -> Value {
        Value { data, sensitive: false }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::string(text)
    }
}

impl From<String> for Value {
    fn from(text: String) -> Value {
        Value::string(text)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Value {
        Value::bool(value)
    }
}

/// Making values.
impl Value {
    /// A text, NFC-normalised.
    pub fn string(text: impl Into<String>) -> Value {
        let text = text.into();
        let text = if is_nfc(&text) { text } else { text.nfc().collect() };
        Data::String(text).into()
    }

    /// A number.
    pub fn number(number: impl Into<BigDecimal>) -> Value {
        Data::Number(number.into()).into()
    }

    /// A truth value.
    pub fn bool(value: bool) -> Value {
        Data::Bool(value).into()
    }

    /// The literal `null`, of no type yet.
    pub fn null() -> Value {
        Value::null_of(Type::Any)
    }

    /// `null` of a type.
    pub fn null_of(kind: Type) -> Value {
        Data::Null(kind).into()
    }

    /// A value to come, of a type (or [`Type::Any`]).
    pub fn unknown(kind: Type) -> Value {
        Data::Unknown(kind).into()
    }

    /// A list; the elements are of type `element` already (see [`crate::convert`]).
    pub fn list(element: Type, elements: impl IntoIterator<Item = Value>) -> Value {
        Data::List(element, elements.into_iter().collect()).into()
    }

    /// A list of texts.
    pub fn string_list<T: Into<String>>(texts: impl IntoIterator<Item = T>) -> Value {
        Value::list(Type::String, texts.into_iter().map(Value::string))
    }

    /// A set: sorts, drops repeated elements and moves the elements' marks to the set, where they cannot tell which
    /// element is the secret one.
    pub fn set(element: Type, elements: impl IntoIterator<Item = Value>) -> Value {
        let mut elements: Vec<Value> = elements.into_iter().collect();
        let sensitive = elements.iter().any(Value::any_sensitive);
        for element in &mut elements {
            element.unmark();
        }
        sort_as_set(&mut elements);
        elements.dedup_by(|left, right| total_order(left, right).is_eq());
        Value { data: Data::Set(element, elements), sensitive }
    }

    /// A tuple.
    pub fn tuple(elements: impl IntoIterator<Item = Value>) -> Value {
        Data::Tuple(elements.into_iter().collect()).into()
    }

    /// A map; the elements are of type `element` already.
    pub fn map<K: Into<String>>(element: Type, entries: impl IntoIterator<Item = (K, Value)>) -> Value {
        Data::Map(element, entries.into_iter().map(|(key, value)| (key.into(), value)).collect()).into()
    }

    /// An object.
    pub fn object<K: Into<String>>(entries: impl IntoIterator<Item = (K, Value)>) -> Value {
        Data::Object(entries.into_iter().map(|(key, value)| (key.into(), value)).collect()).into()
    }

    /// The same value, marked when `sensitive` is set (a mark is never taken away).
    #[must_use]
    pub fn marked(mut self, sensitive: bool) -> Value {
        self.sensitive |= sensitive;
        self
    }

    /// Takes all marks away, in depth.
    pub fn unmark(&mut self) {
        self.sensitive = false;
        match &mut self.data {
            Data::List(_, elements) | Data::Set(_, elements) | Data::Tuple(elements) => {
                elements.iter_mut().for_each(Value::unmark);
            }
            Data::Map(_, entries) | Data::Object(entries) => entries.values_mut().for_each(Value::unmark),
            Data::Null(_) | Data::Unknown(_) | Data::Bool(_) | Data::Number(_) | Data::String(_) => {}
        }
    }
}

/// Looking at values.
impl Value {
    /// Its type.
    pub fn type_of(&self) -> Type {
        match &self.data {
            Data::Null(kind) | Data::Unknown(kind) => kind.clone(),
            Data::Bool(_) => Type::Bool,
            Data::Number(_) => Type::Number,
            Data::String(_) => Type::String,
            Data::List(element, _) => Type::List(Box::new(element.clone())),
            Data::Set(element, _) => Type::Set(Box::new(element.clone())),
            Data::Map(element, _) => Type::Map(Box::new(element.clone())),
            Data::Tuple(elements) => Type::Tuple(elements.iter().map(Value::type_of).collect()),
            Data::Object(entries) => Type::object(entries.iter().map(|(name, value)| (name.clone(), value.type_of()))),
        }
    }

    /// Whether it is `null`.
    pub fn is_null(&self) -> bool {
        matches!(self.data, Data::Null(_))
    }

    /// Whether the value as a whole is unknown.
    pub fn is_unknown(&self) -> bool {
        matches!(self.data, Data::Unknown(_))
    }

    /// Whether no part of it is unknown.
    pub fn is_wholly_known(&self) -> bool {
        !self.any(&Value::is_unknown)
    }

    /// Whether any part of it is unknown and its type is not known either.
    pub fn has_unknown_type(&self) -> bool {
        self.any(&|value| matches!(&value.data, Data::Unknown(kind) if kind.has_any()))
    }

    /// Whether any part of it is sensitive.
    pub fn any_sensitive(&self) -> bool {
        self.any(&|value| value.sensitive)
    }

    /// Whether it is a value of its own, not made of others.
    fn children_are_none(&self) -> bool {
        self.as_elements().is_none() && self.as_entries().is_none()
    }

    /// Whether `test` holds for it or anything in it.
    pub fn any(&self, test: &dyn Fn(&Value) -> bool) -> bool {
        test(self) || self.children().any(|child| child.any(test))
    }

    /// The values directly in it, in order; none in a primitive value.
    pub fn children(&self) -> impl Iterator<Item = &Value> {
        let entries = self.as_entries().into_iter().flat_map(BTreeMap::values);
        self.as_elements().unwrap_or_default().iter().chain(entries)
    }

    /// The text of a string.
    pub fn as_str(&self) -> Option<&str> {
        match &self.data {
            Data::String(text) => Some(text),
            _ => None,
        }
    }

    /// The truth value of a bool.
    pub fn as_bool(&self) -> Option<bool> {
        match self.data {
            Data::Bool(value) => Some(value),
            _ => None,
        }
    }

    /// The number of a number.
    pub fn as_number(&self) -> Option<&BigDecimal> {
        match &self.data {
            Data::Number(number) => Some(number),
            _ => None,
        }
    }

    /// The number of a whole number that fits.
    pub fn as_i64(&self) -> Option<i64> {
        self.as_number().filter(|number| number.is_integer()).and_then(BigDecimal::to_i64)
    }

    /// The elements of a list, set or tuple.
    pub fn as_elements(&self) -> Option<&[Value]> {
        match &self.data {
            Data::List(_, elements) | Data::Set(_, elements) | Data::Tuple(elements) => Some(elements),
            _ => None,
        }
    }

    /// The entries of a map or object.
    pub fn as_entries(&self) -> Option<&BTreeMap<String, Value>> {
        match &self.data {
            Data::Map(_, entries) | Data::Object(entries) => Some(entries),
            _ => None,
        }
    }

    /// The canonical text of a string, number or bool, as a template prints it.
    pub fn to_text(&self) -> Option<String> {
        match &self.data {
            Data::String(text) => Some(text.clone()),
            Data::Number(number) => Some(number_text(number)),
            Data::Bool(value) => Some(value.to_string()),
            _ => None,
        }
    }
}

impl Type {
    /// `list(element)`.
    pub fn list(element: Type) -> Type {
        Type::List(Box::new(element))
    }

    /// `set(element)`.
    pub fn set(element: Type) -> Type {
        Type::Set(Box::new(element))
    }

    /// `map(element)`.
    pub fn map(element: Type) -> Type {
        Type::Map(Box::new(element))
    }

    /// An object type whose attributes are all required.
    pub fn object<K: Into<String>>(fields: impl IntoIterator<Item = (K, Type)>) -> Type {
        Type::Object(fields.into_iter().map(|(name, kind)| (name.into(), ObjectField::required(kind))).collect())
    }

    /// Whether it is `string`, `number` or `bool`.
    pub fn is_primitive(&self) -> bool {
        matches!(self, Type::String | Type::Number | Type::Bool)
    }

    /// Whether `any` occurs in it: a value of it may have a more precise type.
    pub fn has_any(&self) -> bool {
        match self {
            Type::Any => true,
            Type::String | Type::Number | Type::Bool => false,
            Type::List(element) | Type::Set(element) | Type::Map(element) => element.has_any(),
            Type::Tuple(elements) => elements.iter().any(Type::has_any),
            Type::Object(fields) => fields.values().any(|field| field.kind.has_any()),
        }
    }

    /// What a sentence calls a value of it: `a string`, `a list of numbers`, `an object`.
    pub fn friendly(&self) -> String {
        match self {
            Type::Any => "a value of any type".to_owned(),
            Type::String => "a string".to_owned(),
            Type::Number => "a number".to_owned(),
            Type::Bool => "a bool".to_owned(),
            Type::List(element) => format!("a list of {}", element.plural()),
            Type::Set(element) => format!("a set of {}", element.plural()),
            Type::Map(element) => format!("a map of {}", element.plural()),
            // Who writes `[1, 2]` calls it a list.
            Type::Tuple(_) => "a list".to_owned(),
            Type::Object(_) => "an object".to_owned(),
        }
    }

    /// For several of its values.
    fn plural(&self) -> String {
        match self {
            Type::Any => "values of any type".to_owned(),
            Type::String => "strings".to_owned(),
            Type::Number => "numbers".to_owned(),
            Type::Bool => "bools".to_owned(),
            Type::List(element) => format!("lists of {}", element.plural()),
            Type::Set(element) => format!("sets of {}", element.plural()),
            Type::Map(element) => format!("maps of {}", element.plural()),
            Type::Tuple(_) => "lists".to_owned(),
            Type::Object(_) => "objects".to_owned(),
        }
    }
}

/// As HCL writes types: `list(object({ a = optional(number) }))`.
impl fmt::Display for Type {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Type::Any => formatter.write_str("any"),
            Type::String => formatter.write_str("string"),
            Type::Number => formatter.write_str("number"),
            Type::Bool => formatter.write_str("bool"),
            Type::List(element) => write!(formatter, "list({element})"),
            Type::Set(element) => write!(formatter, "set({element})"),
            Type::Map(element) => write!(formatter, "map({element})"),
            Type::Tuple(elements) => {
                formatter.write_str("tuple([")?;
                for (index, element) in elements.iter().enumerate() {
                    write!(formatter, "{}{element}", if index == 0 { "" } else { ", " })?;
                }
                formatter.write_str("])")
            }
            Type::Object(fields) if fields.is_empty() => formatter.write_str("object({})"),
            Type::Object(fields) => {
                formatter.write_str("object({")?;
                for (index, (name, field)) in fields.iter().enumerate() {
                    write!(formatter, "{} {name} = {field}", if index == 0 { "" } else { "," })?;
                }
                formatter.write_str(" })")
            }
        }
    }
}

impl ObjectField {
    /// An attribute that must be there.
    pub fn required(kind: Type) -> ObjectField {
        ObjectField { kind, optional: false, default: None }
    }

    /// An attribute that may be absent.
    pub fn optional(kind: Type, default: Option<Value>) -> ObjectField {
        ObjectField { kind, optional: true, default: default.map(Box::new) }
    }
}

impl fmt::Display for ObjectField {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.default, self.optional) {
            (Some(default), _) => write!(formatter, "optional({}, {})", self.kind, crate::print::one_line(default)),
            (None, true) => write!(formatter, "optional({})", self.kind),
            (None, false) => write!(formatter, "{}", self.kind),
        }
    }
}

/// Brings a set's elements into the order that they are walked over in: numbers by size, texts by code point, `false`
/// before `true`, then null and unknown values. Collections have Packer's order, which is that of a text that stands for
/// them.
fn sort_as_set(elements: &mut [Value]) {
    if elements.iter().any(|element| !element.children_are_none()) {
        elements.sort_by_cached_key(|element| (late_rank(element), set_text(element)));
    } else {
        elements.sort_by(|left, right| late_rank(left).cmp(&late_rank(right)).then_with(|| total_order(left, right)));
    }
}

fn late_rank(value: &Value) -> u8 {
    match value.data {
        Data::Null(_) => 1,
        Data::Unknown(_) => 2,
        _ => 0,
    }
}

/// What a collection in a set is sorted by.
fn set_text(value: &Value) -> String {
    let mut out = String::new();
    push_set_text(value, &mut out);
    out
}

fn push_set_text(value: &Value, out: &mut String) {
    let mut all = |open: char, values: &mut dyn Iterator<Item = &Value>, close: char| {
        out.push(open);
        for value in values {
            push_set_text(value, out);
            out.push(';');
        }
        out.push(close);
    };
    match &value.data {
        Data::Null(_) => out.push('~'),
        Data::Unknown(_) => out.push('?'),
        Data::Bool(value) => out.push(if *value { 'T' } else { 'F' }),
        Data::Number(number) => out.push_str(&crate::functions::short_number(number)),
        Data::String(text) => out.push_str(&crate::print::quoted(text)),
        Data::List(_, elements) | Data::Set(_, elements) => all('[', &mut elements.iter(), ']'),
        Data::Tuple(elements) => all('<', &mut elements.iter(), '>'),
        Data::Object(entries) => all('<', &mut entries.values(), '>'),
        Data::Map(_, entries) => {
            out.push('{');
            for (key, value) in entries {
                out.push_str(&crate::print::quoted(key));
                out.push(':');
                push_set_text(value, out);
                out.push(';');
            }
            out.push('}');
        }
    }
}

/// A total order that calls equal what is equal without conversion (`1` is not `"1"`) and marks aside: for finding values.
pub fn total_order(left: &Value, right: &Value) -> Ordering {
    let rank = |value: &Value| match value.data {
        Data::Null(_) => 0,
        Data::Bool(_) => 1,
        Data::Number(_) => 2,
        Data::String(_) => 3,
        Data::List(..) | Data::Set(..) | Data::Tuple(_) => 4,
        Data::Map(..) | Data::Object(_) => 5,
        Data::Unknown(_) => 6,
    };
    match (&left.data, &right.data) {
        (Data::Bool(left), Data::Bool(right)) => left.cmp(right),
        (Data::Number(left), Data::Number(right)) => left.cmp(right),
        (Data::String(left), Data::String(right)) => left.cmp(right),
        _ => rank(left)
            .cmp(&rank(right))
            .then_with(|| keys(left).cmp(keys(right)))
            .then_with(|| children_order(left, right)),
    }
}

fn keys(value: &Value) -> impl Iterator<Item = &String> {
    value.as_entries().into_iter().flat_map(BTreeMap::keys)
}

/// A value in a sorted collection, found as [`total_order`] has it.
#[derive(Debug, Clone, Copy)]
pub struct Ordered<'v>(pub &'v Value);

impl Ord for Ordered<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        total_order(self.0, other.0)
    }
}

impl PartialOrd for Ordered<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Ordered<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Ordered<'_> {}

fn children_order(left: &Value, right: &Value) -> Ordering {
    let mut right = right.children();
    for child in left.children() {
        let Some(other) = right.next() else { return Ordering::Greater };
        let order = total_order(child, other);
        if order != Ordering::Equal {
            return order;
        }
    }
    if right.next().is_some() { Ordering::Less } else { Ordering::Equal }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_orders_numbers_by_size_and_texts_by_code_point() {
        let numbers = Value::set(Type::Number, [10, 9, -1, 10].map(Value::number));
        assert_eq!(numbers.as_elements().unwrap(), [-1, 9, 10].map(Value::number));
        let tuples = |numbers: [i32; 2]| Value::tuple(numbers.map(Value::number));
        let set = Value::set(Type::Any, [tuples([2, 1]), tuples([1, 2]), tuples([1, 1]), tuples([1, 2])]);
        assert_eq!(set.as_elements().unwrap(), [tuples([1, 1]), tuples([1, 2]), tuples([2, 1])]);
        // By the text that stands for a collection, in which 10 comes before 1 and 2.
        let set = Value::set(Type::Any, [tuples([1, 1]), tuples([2, 1]), tuples([10, 1])]);
        assert_eq!(set.as_elements().unwrap(), [tuples([10, 1]), tuples([1, 1]), tuples([2, 1])]);
        let set = Value::set(Type::Number, [Value::null(), Value::number(3), Value::number(-1)]);
        assert_eq!(set.as_elements().unwrap(), [Value::number(-1), Value::number(3), Value::null()]);
    }

    #[test]
    fn types_are_written_as_in_a_template() {
        let kind = Type::object([("a", Type::list(Type::map(Type::Any))), ("b", Type::Tuple(vec![Type::Bool]))]);
        assert_eq!(kind.to_string(), "object({ a = list(map(any)), b = tuple([bool]) })");
        assert_eq!(Type::list(Type::set(Type::String)).friendly(), "a list of sets of strings");
    }
}
