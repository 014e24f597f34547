//! Data fields as the engine's values.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use gotmpl::Value;

use crate::Data;

/// Stands for `{{` of a data value while it renders, so that it is never taken for an action. Both are noncharacters.
const PROTECTED: &str = "\u{fdd0}\u{fdd1}";

/// A text that is not a template, whatever it holds.
pub(crate) fn protect(text: &str) -> Value {
    Value::String(text.replace("{{", PROTECTED).into())
}

/// Gives protected braces their look again.
pub(crate) fn unprotect(text: String) -> String {
    if text.contains(PROTECTED) { text.replace(PROTECTED, "{{") } else { text }
}

/// The engine's dot.
pub(crate) fn fields(data: &BTreeMap<String, Data>) -> Value {
    let value = |data: &Data| match data {
        Data::Text(text) => protect(text),
        Data::Map(map) => fields(map),
    };
    Value::Map(Arc::new(data.iter().map(|(name, data)| (Arc::from(name.as_str()), value(data))).collect()))
}

/// All fields with their leading dots.
pub(crate) fn field_paths(data: &BTreeMap<String, Data>) -> BTreeSet<String> {
    let mut paths = BTreeSet::new();
    for (name, data) in data {
        paths.insert(format!(".{name}"));
        if let Data::Map(map) = data {
            paths.extend(field_paths(map).into_iter().map(|path| format!(".{name}{path}")));
        }
    }
    paths
}
