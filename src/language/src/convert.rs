//! Conversion between types, and the common type of several.

use std::collections::BTreeMap;

use crate::value::{Data, ObjectField, Type, Value, parse_number};

/// A step from a value to the part of it that a conversion fails at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// `.name`.
    Attribute(String),
    /// `[0]`.
    Index(usize),
}

/// Why a value cannot become one of another type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{reason}", place(path))]
pub struct ConvertError {
    /// Where in the value; empty for the value as a whole.
    pub path: Vec<Step>,
    /// What is wrong there.
    pub reason: ConvertReason,
}

/// What is wrong with a value, or a part of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConvertReason {
    /// No conversion leads from one type to the other.
    #[error("{} is required, not {}", expected.friendly(), found.friendly())]
    Mismatch {
        /// The type asked for.
        expected: Type,
        /// The type given.
        found: Type,
    },
    /// A text that is no number. The text itself may be a secret and is not told.
    #[error("a number is required, and this string does not hold one")]
    NotANumber,
    /// A text that is neither `true` nor `false`.
    #[error("a bool is required: write `true` or `false`")]
    NotABool,
    /// An object lacks an attribute.
    #[error("the attribute `{0}` is required")]
    MissingAttribute(String),
    /// A tuple of another length.
    #[error("{expected} elements are required, not {found}")]
    Length {
        /// How many the type has.
        expected: usize,
        /// How many there are.
        found: usize,
    },
    /// The elements of a list, set or map have no common type.
    #[error("all elements must have the same type")]
    Inconsistent,
}

impl ConvertError {
    fn here(reason: ConvertReason) -> ConvertError {
        ConvertError { path: Vec::new(), reason }
    }

    fn at(mut self, step: Step) -> ConvertError {
        self.path.insert(0, step);
        self
    }
}

fn place(path: &[Step]) -> String {
    let mut text = String::new();
    for step in path {
        match step {
            Step::Attribute(name) => text.push_str(&format!(".{name}")),
            Step::Index(index) => text.push_str(&format!("[{index}]")),
        }
    }
    if text.is_empty() { text } else { format!("at `{text}`: ") }
}

/// Converts a value. Marks survive; `null` and unknown values become such of the new type.
///
/// # Errors
/// When no conversion exists for the types, or not for this very value (`"ten"` to a number).
pub fn convert(value: &Value, to: &Type) -> Result<Value, ConvertError> {
    let data = match (&value.data, to) {
        (_, Type::Any) => return Ok(value.clone()),
        (Data::Null(_), _) => Data::Null(to.clone()),
        (Data::Unknown(from), _) => {
            if !may_convert(from, to) {
                return Err(mismatch(value, to));
            }
            Data::Unknown(to.clone())
        }
        (_, Type::String) => Data::String(value.to_text().ok_or_else(|| mismatch(value, to))?),
        (Data::Number(_), Type::Number) | (Data::Bool(_), Type::Bool) => value.data.clone(),
        (Data::String(text), Type::Number) => {
            Data::Number(parse_number(text).ok_or(ConvertError::here(ConvertReason::NotANumber))?)
        }
        // The digits are what Packer takes besides the words.
        (Data::String(text), Type::Bool) => match text.as_str() {
            "true" | "1" => Data::Bool(true),
            "false" | "0" => Data::Bool(false),
            _ => return Err(ConvertError::here(ConvertReason::NotABool)),
        },
        (Data::List(..) | Data::Set(..) | Data::Tuple(_), Type::List(element)) => {
            let (element, elements) = elements_of_one_type(value, element)?;
            Data::List(element, elements)
        }
        (Data::List(..) | Data::Set(..) | Data::Tuple(_), Type::Set(element)) => {
            let (element, elements) = elements_of_one_type(value, element)?;
            return Ok(Value::set(element, elements).marked(value.sensitive));
        }
        (Data::Tuple(elements), Type::Tuple(kinds)) => tuple(elements, kinds)?,
        (Data::Map(_, entries) | Data::Object(entries), Type::Map(element)) => map(entries, element)?,
        (Data::Map(_, entries) | Data::Object(entries), Type::Object(fields)) => object(entries, fields)?,
        _ => return Err(mismatch(value, to)),
    };
    Ok(Value { data, sensitive: value.sensitive })
}

fn mismatch(value: &Value, to: &Type) -> ConvertError {
    ConvertError::here(ConvertReason::Mismatch { expected: to.clone(), found: value.type_of() })
}

fn elements_of_one_type(value: &Value, element: &Type) -> Result<(Type, Vec<Value>), ConvertError> {
    let converted = value
        .as_elements()
        .unwrap_or_default()
        .iter()
        .enumerate()
        .map(|(index, value)| convert(value, element).map_err(|error| error.at(Step::Index(index))))
        .collect::<Result<Vec<Value>, ConvertError>>()?;
    if !element.has_any() {
        return Ok((element.clone(), converted));
    }
    if let (true, Data::List(kind, _) | Data::Set(kind, _)) = (converted.is_empty(), &value.data) {
        return Ok((kind.clone(), converted));
    }
    // `any` stands for one type, which the elements decide.
    let common = common_type(converted.iter(), element)?;
    let converted = converted
        .iter()
        .enumerate()
        .map(|(index, value)| convert(value, &common).map_err(|error| error.at(Step::Index(index))))
        .collect::<Result<Vec<Value>, ConvertError>>()?;
    Ok((common, converted))
}

fn common_type<'a>(values: impl Iterator<Item = &'a Value>, declared: &Type) -> Result<Type, ConvertError> {
    let mut kinds = Vec::new();
    for value in values {
        // What a value of unknown type will be is not for the others to decide.
        if value.has_unknown_type() {
            return Ok(Type::Any);
        }
        kinds.push(value.type_of());
    }
    if kinds.is_empty() {
        return Ok(declared.clone());
    }
    unify(&kinds).ok_or(ConvertError::here(ConvertReason::Inconsistent))
}

fn tuple(elements: &[Value], kinds: &[Type]) -> Result<Data, ConvertError> {
    if elements.len() != kinds.len() {
        let reason = ConvertReason::Length { expected: kinds.len(), found: elements.len() };
        return Err(ConvertError::here(reason));
    }
    let elements = elements.iter().zip(kinds).enumerate();
    let elements = elements.map(|(index, (value, kind))| convert(value, kind).map_err(|e| e.at(Step::Index(index))));
    Ok(Data::Tuple(elements.collect::<Result<_, _>>()?))
}

fn map(entries: &BTreeMap<String, Value>, element: &Type) -> Result<Data, ConvertError> {
    let convert_all = |entries: &BTreeMap<String, Value>, kind: &Type| {
        entries
            .iter()
            .map(|(key, value)| {
                let value = convert(value, kind).map_err(|error| error.at(Step::Attribute(key.clone())))?;
                Ok((key.clone(), value))
            })
            .collect::<Result<BTreeMap<String, Value>, ConvertError>>()
    };
    let converted = convert_all(entries, element)?;
    if !element.has_any() {
        return Ok(Data::Map(element.clone(), converted));
    }
    let common = common_type(converted.values(), element)?;
    Ok(Data::Map(common.clone(), convert_all(&converted, &common)?))
}

/// Attributes that the type does not know are dropped, as Packer does.
fn object(entries: &BTreeMap<String, Value>, fields: &BTreeMap<String, ObjectField>) -> Result<Data, ConvertError> {
    let mut converted = BTreeMap::new();
    for (name, field) in fields {
        let value = match (entries.get(name), &field.default) {
            // A null stands for the default too: both mean "not given".
            (Some(value), Some(default)) if value.is_null() => convert(default, &field.kind),
            (Some(value), _) => convert(value, &field.kind),
            (None, Some(default)) => convert(default, &field.kind),
            (None, None) if field.optional => Ok(Value::null_of(field.kind.clone())),
            (None, None) => return Err(ConvertError::here(ConvertReason::MissingAttribute(name.clone()))),
        };
        converted.insert(name.clone(), value.map_err(|error| error.at(Step::Attribute(name.clone())))?);
    }
    Ok(Data::Object(converted))
}

/// Whether some value of type `from` can become one of type `to`.
pub fn may_convert(from: &Type, to: &Type) -> bool {
    match (from, to) {
        (Type::Any, _) | (_, Type::Any) => true,
        (from, to) if from == to => true,
        (Type::String, Type::Number | Type::Bool) => true,
        (Type::Map(from), Type::Object(fields)) => fields.values().all(|field| may_convert(from, &field.kind)),
        (from, to) => converts_by(from, to, may_convert),
    }
}

/// Whether every value of type `from` can become one of type `to`.
pub fn always_converts(from: &Type, to: &Type) -> bool {
    from == to || *from == Type::Any || *to == Type::Any || converts_by(from, to, always_converts)
}

/// The conversions that depend on the types alone; `inner` judges the elements.
fn converts_by(from: &Type, to: &Type, inner: fn(&Type, &Type) -> bool) -> bool {
    match (from, to) {
        (Type::Number | Type::Bool, Type::String) => true,
        (Type::List(from) | Type::Set(from), Type::List(to) | Type::Set(to)) | (Type::Map(from), Type::Map(to)) => {
            inner(from, to)
        }
        (Type::Tuple(kinds), Type::List(to) | Type::Set(to)) => kinds.iter().all(|kind| inner(kind, to)),
        (Type::Tuple(from), Type::Tuple(to)) => {
            from.len() == to.len() && from.iter().zip(to).all(|(from, to)| inner(from, to))
        }
        (Type::Object(fields), Type::Map(to)) => fields.values().all(|field| inner(&field.kind, to)),
        (Type::Object(from), Type::Object(to)) => to.iter().all(|(name, field)| match from.get(name) {
            Some(given) => inner(&given.kind, &field.kind),
            None => field.optional,
        }),
        _ => false,
    }
}

/// The type that values of all these types can become without fail; `None` where there is none. `any` (the type of a
/// bare `null`) fits everything. Objects of different attributes become a map, tuples of different lengths a list.
pub fn unify(kinds: &[Type]) -> Option<Type> {
    // Of thousands of elements most have the same type.
    let mut distinct: Vec<&Type> = Vec::new();
    for kind in kinds {
        if *kind != Type::Any && !distinct.contains(&kind) {
            distinct.push(kind);
        }
    }
    let kinds = match distinct.as_slice() {
        [] => return Some(Type::Any),
        [only] => return Some((*only).clone()),
        _ => distinct,
    };
    if let Some(objects) = kinds.iter().map(|kind| object_fields(kind)).collect::<Option<Vec<_>>>() {
        return unify_objects(&objects);
    }
    if let Some(tuples) = kinds.iter().map(|kind| tuple_kinds(kind)).collect::<Option<Vec<_>>>() {
        return unify_tuples(&tuples);
    }
    if let Some(unified) = unify_collections(&kinds) {
        return Some(unified);
    }
    kinds.iter().find(|to| kinds.iter().all(|from| always_converts(from, to))).map(|kind| (*kind).clone())
}

fn object_fields(kind: &Type) -> Option<&BTreeMap<String, ObjectField>> {
    match kind {
        Type::Object(fields) => Some(fields),
        _ => None,
    }
}

fn tuple_kinds(kind: &Type) -> Option<&[Type]> {
    match kind {
        Type::Tuple(kinds) => Some(kinds),
        _ => None,
    }
}

/// As [`unify`], but a bare null leaves the type to each of the collections that are to have one.
fn unify_open(kinds: &[Type]) -> Option<Type> {
    if kinds.contains(&Type::Any) { Some(Type::Any) } else { unify(kinds) }
}

fn unify_objects(objects: &[&BTreeMap<String, ObjectField>]) -> Option<Type> {
    let first = objects.first()?;
    if !objects.iter().all(|fields| fields.keys().eq(first.keys())) {
        let kinds: Vec<Type> =
            objects.iter().flat_map(|fields| fields.values()).map(|field| field.kind.clone()).collect();
        return unify_open(&kinds).map(Type::map);
    }
    let mut unified = BTreeMap::new();
    for name in first.keys() {
        let kinds: Vec<Type> = objects.iter().filter_map(|fields| Some(fields.get(name)?.kind.clone())).collect();
        unified.insert(name.clone(), ObjectField::required(unify(&kinds)?));
    }
    Some(Type::Object(unified))
}

fn unify_tuples(tuples: &[&[Type]]) -> Option<Type> {
    let first = tuples.first()?;
    if !tuples.iter().all(|kinds| kinds.len() == first.len()) {
        return unify_open(&tuples.concat()).map(Type::list);
    }
    let column = |index: usize| unify(&tuples.iter().map(|kinds| kinds[index].clone()).collect::<Vec<_>>());
    (0..first.len()).map(column).collect::<Option<Vec<_>>>().map(Type::Tuple)
}

/// Lists with lists (and tuples), sets with sets, maps with maps (and objects): the elements decide.
fn unify_collections(kinds: &[&Type]) -> Option<Type> {
    let mut elements = Vec::new();
    let (mut lists, mut sets, mut maps) = (0, 0, 0);
    for kind in kinds {
        match kind {
            Type::List(element) => {
                lists += 1;
                elements.push((**element).clone());
            }
            Type::Set(element) => {
                sets += 1;
                elements.push((**element).clone());
            }
            Type::Map(element) => {
                maps += 1;
                elements.push((**element).clone());
            }
            Type::Tuple(kinds) => elements.extend(kinds.iter().cloned()),
            Type::Object(fields) => elements.extend(fields.values().map(|field| field.kind.clone())),
            _ => return None,
        }
    }
    if let (0, 1.., 0, Some(set)) = (lists, sets, maps, set_of_all(kinds)) {
        return Some(set.clone());
    }
    let has_tuple = kinds.iter().any(|kind| matches!(kind, Type::Tuple(_)));
    let has_object = kinds.iter().any(|kind| matches!(kind, Type::Object(_)));
    let wrap = match (lists, sets, maps) {
        (1.., _, 0) if !has_object => Type::list,
        (0, 1.., 0) if !has_object => Type::set,
        (0, 0, 1..) if !has_tuple => Type::map,
        _ => return None,
    };
    unify(&elements).map(wrap)
}

/// Of one type of sets, and tuples whose elements it may take, which their values decide: that type.
fn set_of_all<'k>(kinds: &[&'k Type]) -> Option<&'k Type> {
    let (set, wanted) = kinds.iter().find_map(|kind| match kind {
        Type::Set(element) => Some((*kind, element)),
        _ => None,
    })?;
    let may_hold = |found: &Type| {
        always_converts(found, wanted) || (*found == Type::String && matches!(**wanted, Type::Number | Type::Bool))
    };
    let fits = |kind: &&Type| match kind {
        Type::Tuple(elements) => elements.iter().all(may_hold),
        other => *other == set,
    };
    kinds.iter().all(fits).then_some(set)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_numbers_and_bools_convert_where_the_text_allows() {
        assert_eq!(convert(&Value::number(5), &Type::String), Ok(Value::string("5")));
        assert_eq!(convert(&Value::string("5."), &Type::Number), Ok(Value::number(5)));
        assert_eq!(convert(&Value::string("1e3"), &Type::Number), Ok(Value::number(1000)));
        assert_eq!(convert(&Value::string("true"), &Type::Bool), Ok(Value::bool(true)));
        for text in ["", " 5", "0x10", "5-", "e5", "1e", ".", "1e99999", "1_000"] {
            assert!(convert(&Value::string(text), &Type::Number).is_err(), "{text}");
        }
        assert!(convert(&Value::string("yes"), &Type::Bool).is_err());
        assert!(convert(&Value::number(1), &Type::Bool).is_err());
        assert!(convert(&Value::bool(true), &Type::Number).is_err());
    }

    #[test]
    fn a_set_is_sorted_and_holds_each_element_once() {
        let tuple = Value::tuple([3, 10, 1, 3].map(Value::number));
        let set = convert(&tuple, &Type::set(Type::Number)).unwrap();
        assert_eq!(set.as_elements().unwrap(), [1, 3, 10].map(Value::number));
        let texts = convert(&tuple, &Type::set(Type::String)).unwrap();
        assert_eq!(texts.as_elements().unwrap(), ["1", "10", "3"].map(Value::string));
    }

    #[test]
    fn any_stands_for_one_type() {
        let tuple = Value::tuple([Value::number(1), Value::string("a")]);
        let list = convert(&tuple, &Type::list(Type::Any)).unwrap();
        assert_eq!(list, Value::string_list(["1", "a"]));
        let mixed = Value::tuple([Value::number(1), Value::tuple([])]);
        assert_eq!(convert(&mixed, &Type::list(Type::Any)).unwrap_err().reason, ConvertReason::Inconsistent);
    }

    #[test]
    fn an_object_type_fills_in_defaults_and_drops_what_it_does_not_know() {
        let kind = Type::Object(BTreeMap::from([
            ("a".to_owned(), ObjectField::required(Type::String)),
            ("b".to_owned(), ObjectField::optional(Type::Number, Some(Value::string("7")))),
            ("c".to_owned(), ObjectField::optional(Type::Bool, None)),
        ]));
        let object = Value::object([("a", Value::number(1)), ("z", Value::bool(true)), ("b", Value::null())]);
        let expected =
            Value::object([("a", Value::string("1")), ("b", Value::number(7)), ("c", Value::null_of(Type::Bool))]);
        assert_eq!(convert(&object, &kind), Ok(expected));
        let error = convert(&Value::object([("b", Value::number(1))]), &kind).unwrap_err();
        assert_eq!(error.to_string(), "the attribute `a` is required");
        assert_eq!(kind.to_string(), "object({ a = string, b = optional(number, \"7\"), c = optional(bool) })");
    }

    #[test]
    fn an_error_names_the_place_in_the_value() {
        let kind = Type::object([("ports", Type::list(Type::Number))]);
        let ports = Value::tuple([Value::number(1), Value::string("http")]);
        let error = convert(&Value::object([("ports", ports)]), &kind).unwrap_err();
        assert_eq!(error.to_string(), "at `.ports[1]`: a number is required, and this string does not hold one");
    }

    #[test]
    fn marks_survive_and_a_set_takes_over_those_of_its_elements() {
        let secret = Value::number(1).marked(true);
        assert!(convert(&secret, &Type::String).unwrap().sensitive);
        let list = convert(&Value::tuple([secret.clone()]), &Type::list(Type::String)).unwrap();
        assert!(!list.sensitive && list.any_sensitive());
        let set = convert(&Value::tuple([secret]), &Type::set(Type::String)).unwrap();
        assert!(set.sensitive);
    }

    #[test]
    fn null_and_unknown_take_the_new_type() {
        assert_eq!(convert(&Value::null(), &Type::Bool), Ok(Value::null_of(Type::Bool)));
        assert_eq!(convert(&Value::unknown(Type::Number), &Type::String), Ok(Value::unknown(Type::String)));
        assert!(convert(&Value::unknown(Type::Number), &Type::Bool).is_err());
    }

    #[test]
    fn common_types() {
        use Type::{Any, Bool, Number, String};
        let tuple = |kinds: &[Type]| Type::Tuple(kinds.to_vec());
        let cases: &[(&[Type], Option<Type>)] = &[
            (&[String, Number], Some(String)),
            (&[Bool, String], Some(String)),
            (&[Bool, Number], None),
            (&[Any, Number], Some(Number)),
            (&[], Some(Any)),
            (&[tuple(&[Number]), tuple(&[String])], Some(tuple(&[String]))),
            (&[tuple(&[Number, Number]), tuple(&[String])], Some(Type::list(String))),
            (&[tuple(&[]), tuple(&[String])], Some(Type::list(String))),
            (&[Type::list(Number), tuple(&[String])], Some(Type::list(String))),
            (&[Type::list(Number), Type::set(Number)], Some(Type::list(Number))),
            (&[Type::object([("a", Number)]), Type::object([("a", String)])], Some(Type::object([("a", String)]))),
            (&[Type::object([("a", Number)]), Type::object([("b", String)])], Some(Type::map(String))),
            (&[Type::object([("a", Number)]), Type::map(Number)], Some(Type::map(Number))),
            (&[Type::object([("a", Number)]), tuple(&[Number])], None),
            (&[String, tuple(&[String])], None),
        ];
        for (kinds, expected) in cases {
            assert_eq!(&unify(kinds), expected, "{kinds:?}");
        }
    }
}
