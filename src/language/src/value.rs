//! Values and types.

use std::collections::BTreeMap;

use bigdecimal::BigDecimal;

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

impl From<Data> for Value {
    fn from(data: Data) -> Value {
        Value { data, sensitive: false }
    }
}
