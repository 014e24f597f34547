//! JSON held against the schemas of the reference: what they say, and that they say all there is.

use serde_json::Value as Json;

/// The schema of a name.
pub(crate) fn read(name: &str) -> Json {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference").join(name);
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Everything in which a value differs from a schema; fields that it does not name count.
pub(crate) fn differences(schema: &Json, value: &Json) -> Vec<String> {
    let mut found = Vec::new();
    check(schema, schema, value, "", &mut found);
    found
}

fn check(whole: &Json, schema: &Json, value: &Json, path: &str, found: &mut Vec<String>) {
    if let Some(target) = schema["$ref"].as_str() {
        return check(whole, whole.pointer(target.trim_start_matches('#')).unwrap(), value, path, found);
    }
    let fits = match schema["type"].as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.is_u64() || value.is_i64(),
        Some("number") => value.is_number(),
        Some(other) => panic!("the test knows no type `{other}`"),
        None => schema["enum"].as_array().unwrap().contains(value),
    };
    let matches = |pattern: &str| regex::Regex::new(pattern).unwrap().is_match(value.as_str().unwrap_or_default());
    if !fits || !schema["pattern"].as_str().is_none_or(matches) {
        found.push(format!("{path}: {value} does not fit {schema}"));
    }
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Json::as_str) {
        if value.get(name).is_none() {
            found.push(format!("{path}: there is no `{name}`"));
        }
    }
    for (name, inner) in value.as_object().into_iter().flatten() {
        match schema["properties"].get(name) {
            Some(schema) => check(whole, schema, inner, &format!("{path}/{name}"), found),
            None => found.push(format!("{path}: `{name}` is not in the schema")),
        }
    }
    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
        check(whole, &schema["items"], item, &format!("{path}/{index}"), found);
    }
}
