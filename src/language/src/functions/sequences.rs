//! Lists, tuples and what works on them.

use std::collections::BTreeSet;

use unicode_segmentation::UnicodeSegmentation;

use super::{
    Function, FunctionContext, Outcome, any, any_or_null, define, elements_argument, fail, fail_at, integer_argument,
    list_of_strings, number, parameter, texts_argument,
};
use crate::convert::{convert, unify};
use crate::value::{Data, Ordered, Type, Value, total_order};

pub(super) fn functions() -> Vec<Function> {
    let mut functions = checks();
    functions.extend(choices());
    functions.extend(parts());
    functions.extend(reshaped());
    functions
}

/// Equal without conversion: `1` is not `"1"`. Marks do not count.
fn equal(left: &Value, right: &Value) -> bool {
    total_order(left, right).is_eq()
}

fn checks() -> Vec<Function> {
    vec![
        define(
            "alltrue",
            vec![parameter("list", Type::list(Type::Bool))],
            Type::Bool,
            "Whether all elements are true; so they are in an empty list.",
            |arguments, _| {
                Ok(Value::bool(elements_argument(arguments, 0)?.iter().all(|element| element.as_bool() == Some(true))))
            },
        )
        .example("alltrue([true, false])", "false"),
        define(
            "anytrue",
            vec![parameter("list", Type::list(Type::Bool))],
            Type::Bool,
            "Whether at least one element is true.",
            |arguments, _| {
                Ok(Value::bool(elements_argument(arguments, 0)?.iter().any(|element| element.as_bool() == Some(true))))
            },
        )
        .example("anytrue([true, false])", "true"),
        define(
            "contains",
            vec![any("list"), any("value")],
            Type::Bool,
            "Whether a list holds a value; nothing is converted, `1` is not `\"1\"`.",
            |arguments, _| {
                let elements = elements_argument(arguments, 0)?;
                Ok(Value::bool(elements.iter().any(|element| equal(element, &arguments[1]))))
            },
        )
        .example(r#"contains(["a", "b"], "b")"#, "true"),
        define(
            "index",
            vec![any("list"), any("value")],
            Type::Number,
            "The position of a value in a list, from 0.",
            |arguments, _| {
                let elements = elements_argument(arguments, 0)?;
                match elements.iter().position(|element| equal(element, &arguments[1])) {
                    Some(position) => Ok(count(position)),
                    None => fail_at(1, "the list does not hold this value; `contains` tells whether it does"),
                }
            },
        )
        .example(r#"index(["a", "b"], "b")"#, "1"),
        define(
            "length",
            vec![any("value")],
            Type::Number,
            "How many elements a list, map or object has, or characters a text.",
            |arguments, _| match &arguments[0].data {
                Data::String(text) => Ok(count(text.graphemes(true).count())),
                Data::List(_, elements) | Data::Set(_, elements) | Data::Tuple(elements) => Ok(count(elements.len())),
                Data::Map(_, entries) | Data::Object(entries) => Ok(count(entries.len())),
                _ => {
                    let found = arguments[0].type_of().friendly();
                    fail_at(0, format!("a text, list, set, tuple, map or object is required, not {found}"))
                }
            },
        )
        .example(r#"length(["a", "b"])"#, "2"),
    ]
}

fn count(number: usize) -> Value {
    Value::number(u64::try_from(number).unwrap_or(u64::MAX))
}

fn choices() -> Vec<Function> {
    vec![
        define("coalesce", vec![], Type::Any, "The first argument that is neither null nor an empty text.", coalesce)
            .variadic(any_or_null("values"))
            .example(r#"coalesce(null, "", "kiln")"#, r#""kiln""#),
        define("coalescelist", vec![], Type::Any, "The first list that is not empty.", coalescelist)
            .variadic(any("lists"))
            .example(r#"coalescelist([], ["a"])"#, r#"["a"]"#),
        define(
            "compact",
            vec![parameter("list", list_of_strings())],
            list_of_strings(),
            "A list without its empty texts and nulls.",
            |arguments, _| {
                let elements = elements_argument(arguments, 0)?.iter();
                let kept = elements.filter(|element| element.as_str().is_some_and(|text| !text.is_empty()));
                Ok(Value::list(Type::String, kept.cloned()))
            },
        )
        .example(r#"compact(["a", "", "b"])"#, r#"["a", "b"]"#),
        define(
            "distinct",
            vec![parameter("list", Type::list(Type::Any))],
            Type::list(Type::Any),
            "A list with every value once, at its first place.",
            |arguments, _| {
                let mut seen = BTreeSet::new();
                let kept = elements_argument(arguments, 0)?.iter().filter(|element| seen.insert(Ordered(element)));
                Ok(Value::list(element_type(&arguments[0]), kept.cloned()))
            },
        )
        .example(r#"distinct(["a", "b", "a"])"#, r#"["a", "b"]"#),
    ]
}

/// The element type of a list or set, `any` for all else.
fn element_type(value: &Value) -> Type {
    match &value.data {
        Data::List(kind, _) | Data::Set(kind, _) => kind.clone(),
        _ => Type::Any,
    }
}

fn coalesce(arguments: &[Value], _: &FunctionContext) -> Outcome {
    let kinds: Vec<Type> = arguments.iter().map(Value::type_of).collect();
    // A bare null leaves open what the others are to become.
    let kind = if kinds.contains(&Type::Any) { Some(Type::Any) } else { unify(&kinds) };
    let Some(kind) = kind else { return fail("all arguments must have the same type") };
    for argument in arguments {
        if argument.is_null() || argument.as_str() == Some("") {
            continue;
        }
        return match convert(argument, &kind) {
            Ok(value) => Ok(value),
            Err(error) => fail(format!("all arguments must have the same type: {error}")),
        };
    }
    fail("every argument is null or an empty text; end with a value that is neither")
}

fn coalescelist(arguments: &[Value], _: &FunctionContext) -> Outcome {
    // All of them are looked at, so that a mistake does not wait until the earlier ones are empty.
    for (index, argument) in arguments.iter().enumerate() {
        if !matches!(argument.data, Data::List(..) | Data::Tuple(_)) {
            return fail_at(index, format!("a list or tuple is required, not {}", argument.data.kind_name()));
        }
    }
    match arguments.iter().find(|argument| argument.as_elements().is_some_and(|elements| !elements.is_empty())) {
        Some(found) => Ok(found.clone()),
        None => fail("every list is empty; end with one that is not"),
    }
}

fn parts() -> Vec<Function> {
    vec![
        define(
            "chunklist",
            vec![parameter("list", Type::list(Type::Any)), number("size")],
            Type::list(Type::list(Type::Any)),
            "Cuts a list into lists of a size; size 0 gives one with everything.",
            chunklist,
        )
        .example(r#"chunklist(["a", "b", "c"], 2)"#, r#"[["a", "b"], ["c"]]"#),
        define(
            "element",
            vec![any("list"), number("index")],
            Type::Any,
            "The element at a position; beyond the end it starts over.",
            |arguments, _| {
                if matches!(arguments[0].data, Data::Set(..)) {
                    return fail_at(0, "the elements of a set have no positions; sort it into a list first");
                }
                let elements = elements_argument(arguments, 0)?;
                if elements.is_empty() {
                    return fail_at(0, "an empty list has no elements");
                }
                match usize::try_from(integer_argument(arguments, 1)?) {
                    Ok(index) => Ok(elements[index % elements.len()].clone()),
                    Err(_) => fail_at(1, "the position must not be negative"),
                }
            },
        )
        .example(r#"element(["a", "b"], 3)"#, r#""b""#),
        define(
            "slice",
            vec![any("list"), number("start"), number("end")],
            Type::Any,
            "The elements from one position up to, and without, another.",
            slice,
        )
        .example(r#"slice(["a", "b", "c"], 1, 3)"#, r#"["b", "c"]"#),
    ]
}

fn chunklist(arguments: &[Value], _: &FunctionContext) -> Outcome {
    let elements = elements_argument(arguments, 0)?;
    let kind = element_type(&arguments[0]);
    let size = match usize::try_from(integer_argument(arguments, 1)?) {
        Ok(0) => elements.len().max(1),
        Ok(size) => size,
        Err(_) => return fail_at(1, "the size must not be negative"),
    };
    let chunks = elements.chunks(size).map(|chunk| Value::list(kind.clone(), chunk.iter().cloned()));
    Ok(Value::list(Type::list(kind.clone()), chunks))
}

fn slice(arguments: &[Value], _: &FunctionContext) -> Outcome {
    if matches!(arguments[0].data, Data::Set(..)) {
        return fail_at(0, "the elements of a set have no positions; sort it into a list first");
    }
    let elements = elements_argument(arguments, 0)?;
    let position = |index: usize| match usize::try_from(integer_argument(arguments, index)?) {
        Ok(position) if position <= elements.len() => Ok(position),
        Ok(position) => {
            fail_at(index, format!("position {position} is beyond the end; the list has {} elements", elements.len()))
        }
        Err(_) => fail_at(index, "a position must not be negative"),
    };
    let (start, end) = (position(1)?, position(2)?);
    if start > end {
        return fail_at(1, "the start must not be greater than the end");
    }
    Ok(like(&arguments[0], elements[start..end].to_vec()))
}

/// Elements as a list or a tuple, as the original was.
fn like(original: &Value, elements: Vec<Value>) -> Value {
    match &original.data {
        Data::List(kind, _) | Data::Set(kind, _) => Value::list(kind.clone(), elements),
        _ => Value::tuple(elements),
    }
}

fn reshaped() -> Vec<Function> {
    vec![
        define("concat", vec![], Type::Any, "Lists one after the other, as one list.", concat)
            .variadic(any("lists"))
            .example(r#"concat(["a"], ["b", "c"])"#, r#"["a", "b", "c"]"#),
        define(
            "flatten",
            vec![any("list")],
            Type::Any,
            "Replaces lists inside a list, at any depth, by their elements.",
            |arguments, _| {
                let mut flat = Vec::new();
                flatten(elements_argument(arguments, 0)?, &mut flat);
                Ok(Value::tuple(flat))
            },
        )
        .example("flatten([[1, [2]], 3])", "[1, 2, 3]"),
        define(
            "reverse",
            vec![any("list")],
            Type::Any,
            "A list in the opposite order; for texts there is `strrev`.",
            |arguments, _| {
                let mut elements = elements_argument(arguments, 0)?.to_vec();
                elements.reverse();
                Ok(like(&arguments[0], elements))
            },
        )
        .example("reverse([1, 2])", "[2, 1]"),
        define(
            "sort",
            vec![parameter("list", list_of_strings())],
            list_of_strings(),
            "Sorts texts by their code points; numbers become texts first.",
            |arguments, _| {
                texts_argument(arguments, 0)?;
                let mut elements = elements_argument(arguments, 0)?.to_vec();
                elements.sort_by(total_order);
                Ok(Value::list(Type::String, elements))
            },
        )
        .example(r#"sort(["b", "a"])"#, r#"["a", "b"]"#),
    ]
}

/// Lists that have a common type give a list, all else a tuple.
fn concat(arguments: &[Value], _: &FunctionContext) -> Outcome {
    if arguments.is_empty() {
        return fail("at least one list is required");
    }
    let mut joined = Vec::new();
    for (index, argument) in arguments.iter().enumerate() {
        if !matches!(argument.data, Data::List(..) | Data::Tuple(_)) {
            let found = argument.type_of().friendly();
            return fail_at(index, format!("a list or tuple is required, not {found}"));
        }
        joined.extend_from_slice(elements_argument(arguments, index)?);
    }
    if arguments.iter().all(|argument| matches!(argument.data, Data::List(..))) {
        let kinds: Vec<Type> = arguments.iter().map(element_type).collect();
        if let Some(kind) = unify(&kinds) {
            let elements: Result<Vec<Value>, _> = joined.iter().map(|element| convert(element, &kind)).collect();
            if let Ok(elements) = elements {
                return Ok(Value::list(kind, elements));
            }
        }
    }
    Ok(Value::tuple(joined))
}

fn flatten(elements: &[Value], flat: &mut Vec<Value>) {
    for element in elements {
        match element.as_elements() {
            // The mark of an inner list passes on to what was in it.
            Some(inner) if element.sensitive => {
                let marked: Vec<Value> = inner.iter().map(|inner| inner.clone().marked(true)).collect();
                flatten(&marked, flat);
            }
            Some(inner) => flatten(inner, flat),
            None => flat.push(element.clone()),
        }
    }
}
