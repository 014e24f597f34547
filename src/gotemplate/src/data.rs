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

/// A text whose braces at these offsets are no action.
pub(crate) fn protect_at(text: &str, starts: &[usize]) -> String {
    let mut protected = String::new();
    let mut offset = 0;
    for start in starts {
        protected.push_str(&text[offset..*start]);
        protected.push_str(PROTECTED);
        offset = start + 2;
    }
    protected + &text[offset..]
}

/// Where an offset in a text of [`protect_at`] stood before the braces at `start` were protected: those in front first.
pub(crate) fn written(offset: usize, start: usize) -> usize {
    if offset > start { offset.saturating_sub(PROTECTED.len() - 2).max(start) } else { offset }
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
