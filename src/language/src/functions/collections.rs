//! Maps, objects and sets.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Function, FunctionContext, FunctionError, Outcome, any, any_or_null, define, elements_argument, fail, fail_at,
    list_of_strings, parameter, string_argument, text, texts_argument,
};
use crate::convert::{convert, unify};
use crate::value::{Data, Ordered, Type, Value};

/// How many combinations `setproduct` gives at most.
const MAX_COMBINATIONS: usize = 100_000;

pub(super) fn functions() -> Vec<Function> {
    let mut functions = maps();
    functions.extend(sets());
    functions
}

fn maps() -> Vec<Function> {
    vec![
        define("keys", vec![any("map")], list_of_strings(), "The keys of a map or object, sorted.", |arguments, _| {
            Ok(Value::string_list(entries(arguments, 0)?.keys()))
        })
        .example("keys({ b = 1, a = 2 })", r#"["a", "b"]"#),
        define(
            "lookup",
            vec![any("map"), text("key"), any("default")],
            Type::Any,
            "The value of a key, or the default where a map or object lacks it.",
            lookup,
        )
        .example(r#"lookup({ a = 1 }, "b", 0)"#, "0"),
        define(
            "merge",
            vec![],
            Type::Any,
            "Maps and objects as one; of a key that several have, the last counts. Nulls are passed over.",
            merge,
        )
        .variadic(any_or_null("maps"))
        .example("merge({ a = 1, b = 2 }, { b = 3 })", "{ a = 1, b = 3 }"),
        define(
            "values",
            vec![any("map")],
            Type::Any,
            "The values of a map or object, in the order of the sorted keys.",
            |arguments, _| {
                let values = entries(arguments, 0)?.values().cloned();
                Ok(match &arguments[0].data {
                    Data::Map(kind, _) => Value::list(kind.clone(), values),
                    _ => Value::tuple(values),
                })
            },
        )
        .example("values({ b = 1, a = 2 })", "[2, 1]"),
        define(
            "zipmap",
            vec![parameter("keys", list_of_strings()), any("values")],
            Type::Any,
            "A map of a list of keys and a list of values.",
            zipmap,
        )
        .example(r#"zipmap(["a", "b"], [1, 2])"#, "{ a = 1, b = 2 }"),
    ]
}

fn entries(arguments: &[Value], index: usize) -> Result<&BTreeMap<String, Value>, FunctionError> {
    match arguments[index].as_entries() {
        Some(entries) => Ok(entries),
        None => fail_at(index, format!("a map or object is required, not {}", arguments[index].type_of().friendly())),
    }
}

fn lookup(arguments: &[Value], _: &FunctionContext) -> Outcome {
    let entries = entries(arguments, 0)?;
    // A map's default is of the type of its elements, whether it is needed or not.
    let default = match &arguments[0].data {
        Data::Map(kind, _) => convert(&arguments[2], kind)
            .or_else(|error| fail_at(2, format!("the default does not fit the map: {error}")))?,
        _ => arguments[2].clone(),
    };
    Ok(entries.get(string_argument(arguments, 1)).cloned().unwrap_or(default))
}

fn merge(arguments: &[Value], _: &FunctionContext) -> Outcome {
    let mut merged = BTreeMap::new();
    let mut kinds = Vec::new();
    let mut all_maps = true;
    for (index, argument) in arguments.iter().enumerate() {
        if argument.is_null() {
            continue;
        }
        let entries = entries(arguments, index)?;
        merged.extend(entries.iter().map(|(key, value)| (key.clone(), value.clone().marked(argument.sensitive))));
        match &argument.data {
            Data::Map(kind, _) => kinds.push(kind.clone()),
            _ => all_maps = false,
        }
    }
    if arguments.iter().all(Value::is_null) {
        return Ok(Value::null());
    }
    match kinds.first() {
        Some(kind) if all_maps && kinds.iter().all(|other| other == kind) => Ok(Value::map(kind.clone(), merged)),
        _ => Ok(Value::object(merged)),
    }
}

fn zipmap(arguments: &[Value], _: &FunctionContext) -> Outcome {
    if matches!(arguments[1].data, Data::Set(..)) {
        return fail_at(1, "the elements of a set have no positions; sort it into a list first");
    }
    let (keys, values) = (texts_argument(arguments, 0)?, elements_argument(arguments, 1)?);
    if keys.len() != values.len() {
        return fail(format!("there are {} keys and {} values; both must be as many", keys.len(), values.len()));
    }
    let entries = keys.into_iter().zip(values.iter().cloned());
    Ok(match &arguments[1].data {
        Data::List(kind, _) => Value::map(kind.clone(), entries),
        _ => Value::object(entries),
    })
}

fn sets() -> Vec<Function> {
    let set_of_any = || parameter("set", Type::set(Type::Any));
    let more_sets = || parameter("sets", Type::set(Type::Any));
    vec![
        define(
            "setintersection",
            vec![set_of_any()],
            Type::set(Type::Any),
            "What all sets have in common.",
            |arguments, _| {
                let (kind, mut sets) = of_one_type(arguments)?;
                let first = sets.remove(0);
                let sets: Vec<BTreeSet<Ordered<'_>>> =
                    sets.iter().map(|set| set.iter().map(Ordered).collect()).collect();
                let common = first.into_iter().filter(|element| sets.iter().all(|set| set.contains(&Ordered(element))));
                Ok(Value::set(kind, common))
            },
        )
        .variadic(more_sets())
        .example(r#"setintersection(["a", "b"], ["b", "c"])"#, r#"["b"]"#),
        define(
            "setproduct",
            vec![],
            Type::Any,
            "All combinations of one element of each of the lists or sets.",
            setproduct,
        )
        .variadic(any("sets"))
        .example(r#"setproduct(["a", "b"], [1])"#, r#"[["a", 1], ["b", 1]]"#),
        define(
            "setunion",
            vec![set_of_any()],
            Type::set(Type::Any),
            "What is in at least one of the sets.",
            |arguments, _| {
                let (kind, sets) = of_one_type(arguments)?;
                Ok(Value::set(kind, sets.into_iter().flatten()))
            },
        )
        .variadic(more_sets())
        .example(r#"setunion(["a", "b"], ["b", "c"])"#, r#"["a", "b", "c"]"#),
    ]
}

/// The elements of several sets, converted to their common type.
fn of_one_type(arguments: &[Value]) -> Result<(Type, Vec<Vec<Value>>), FunctionError> {
    let kinds: Vec<Type> = arguments.iter().map(Value::type_of).collect();
    let (Some(Type::Set(kind)), false) = (unify(&kinds), arguments.is_empty()) else {
        return fail("the sets have elements of types that do not go together");
    };
    let mut sets = Vec::with_capacity(arguments.len());
    for index in 0..arguments.len() {
        let elements = elements_argument(arguments, index)?.iter().map(|element| convert(element, &kind));
        match elements.collect::<Result<Vec<Value>, _>>() {
            Ok(elements) => sets.push(elements),
            Err(error) => return fail_at(index, error.to_string()),
        }
    }
    Ok((*kind, sets))
}

fn setproduct(arguments: &[Value], _: &FunctionContext) -> Outcome {
    if arguments.len() < 2 {
        return fail("at least two lists or sets are required");
    }
    let any_set = arguments.iter().any(|argument| matches!(argument.data, Data::Set(..)));
    let mut kinds = Vec::new();
    let mut columns = Vec::new();
    for (index, argument) in arguments.iter().enumerate() {
        elements_argument(arguments, index)?;
        let list = convert(argument, &Type::list(Type::Any)).or_else(|error| fail_at(index, error.to_string()))?;
        match list.data {
            Data::List(kind, elements) => {
                kinds.push(kind);
                columns.push(elements);
            }
            _ => return fail_at(index, "a list or set is required"),
        }
    }
    let combinations = columns.iter().try_fold(1_usize, |product, column| product.checked_mul(column.len()));
    if combinations.is_none_or(|combinations| combinations > MAX_COMBINATIONS) {
        return fail(format!("there are more than {MAX_COMBINATIONS} combinations"));
    }
    let mut rows: Vec<Vec<Value>> = vec![Vec::new()];
    for column in &columns {
        let extended = |row: &Vec<Value>| {
            let row = row.clone();
            column.iter().map(move |element| row.iter().chain([element]).cloned().collect())
        };
        rows = rows.iter().flat_map(extended).collect();
    }
    let kind = Type::Tuple(kinds);
    let tuples = rows.into_iter().map(Value::tuple);
    Ok(if any_set { Value::set(kind, tuples) } else { Value::list(kind, tuples) })
}
