//! Values as text: what `console` and `inspect` show.

use std::collections::BTreeMap;

use crate::value::{Data, Value, number_text};

/// What stands for a sensitive value.
pub const SENSITIVE: &str = "<sensitive>";

/// What stands for a value that is not known yet.
pub const UNKNOWN: &str = "<unknown>";

/// A value as `packer console` prints it: a string on its own as it is, everything inside a collection in HCL syntax over
/// several lines. Sensitive parts are masked. Unlike Packer, `null` attributes are shown and numbers keep their digits.
pub fn to_hcl(value: &Value) -> String {
    match &value.data {
        Data::String(text) if !value.sensitive => text.clone(),
        _ => written(value),
    }
}

/// A value in HCL syntax, collections over several lines. Sensitive parts are masked.
pub fn written(value: &Value) -> String {
    let mut out = String::new();
    nested(value, 0, &mut out);
    out
}

/// A value in HCL syntax on one line, for messages: `{ a = [1, "x"] }`. Sensitive parts are masked.
pub fn one_line(value: &Value) -> String {
    if value.sensitive {
        return SENSITIVE.to_owned();
    }
    match &value.data {
        Data::List(_, elements) | Data::Set(_, elements) | Data::Tuple(elements) => {
            let elements: Vec<String> = elements.iter().map(one_line).collect();
            format!("[{}]", elements.join(", "))
        }
        Data::Map(_, entries) | Data::Object(entries) if entries.is_empty() => "{}".to_owned(),
        Data::Map(_, entries) | Data::Object(entries) => {
            let entries: Vec<String> =
                entries.iter().map(|(key, value)| format!("{} = {}", key_text(key), one_line(value))).collect();
            format!("{{ {} }}", entries.join(", "))
        }
        _ => leaf(value),
    }
}

/// A text as an HCL quoted string, quotes included.
pub fn quoted(text: &str) -> String {
    escaped(text, true)
}

/// A text in quotes. The console leaves `${` and `%{` as they are: it shows the text, not its spelling.
fn escaped(text: &str, double_sequences: bool) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '$' | '%' if double_sequences && characters.peek() == Some(&'{') => {
                out.push(character);
                out.push(character);
            }
            character if character.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(character))),
            character => out.push(character),
        }
    }
    out.push('"');
    out
}

fn key_text(key: &str) -> String {
    let mut characters = key.chars();
    let is_name = characters.next().is_some_and(|first| first.is_alphabetic() || first == '_')
        && characters.all(|character| character.is_alphanumeric() || matches!(character, '_' | '-'));
    if is_name { key.to_owned() } else { quoted(key) }
}

fn nested(value: &Value, depth: usize, out: &mut String) {
    if value.sensitive {
        out.push_str(SENSITIVE);
        return;
    }
    match &value.data {
        Data::List(_, elements) | Data::Set(_, elements) | Data::Tuple(elements) if elements.is_empty() => {
            out.push_str("[]");
        }
        Data::List(_, elements) | Data::Set(_, elements) | Data::Tuple(elements) => {
            out.push_str("[\n");
            for element in elements {
                indent(depth + 1, out);
                nested(element, depth + 1, out);
                out.push_str(",\n");
            }
            indent(depth, out);
            out.push(']');
        }
        Data::Map(_, entries) | Data::Object(entries) => nested_entries(entries, depth, out),
        Data::String(text) => out.push_str(&escaped(text, false)),
        _ => out.push_str(&leaf(value)),
    }
}

fn nested_entries(entries: &BTreeMap<String, Value>, depth: usize, out: &mut String) {
    if entries.is_empty() {
        out.push_str("{}");
        return;
    }
    out.push_str("{\n");
    for (key, value) in entries {
        indent(depth + 1, out);
        out.push_str(&escaped(key, false));
        out.push_str(" = ");
        nested(value, depth + 1, out);
        out.push('\n');
    }
    indent(depth, out);
    out.push('}');
}

fn indent(depth: usize, out: &mut String) {
    out.extend(std::iter::repeat_n("  ", depth));
}

/// The text of a value without parts.
fn leaf(value: &Value) -> String {
    match &value.data {
        Data::Unknown(_) => UNKNOWN.to_owned(),
        Data::Bool(value) => value.to_string(),
        Data::Number(number) => number_text(number),
        Data::String(text) => quoted(text),
        _ => "null".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::Type;

    #[test]
    fn a_text_alone_is_raw_and_quoted_inside() {
        let text = "a\n\"${b}\" \\ \u{1}";
        assert_eq!(to_hcl(&Value::string(text)), text);
        let list = Value::tuple([Value::string(text), Value::null(), Value::unknown(Type::Any)]);
        assert_eq!(to_hcl(&list), "[\n  \"a\\n\\\"${b}\\\" \\\\ \\u0001\",\n  null,\n  <unknown>,\n]");
        assert_eq!(quoted("${a} %{b} $ %"), "\"$${a} %%{b} $ %\"");
    }

    #[test]
    fn secrets_are_masked_wherever_they_stand() {
        let secret = Value::string("hunter2").marked(true);
        assert_eq!(to_hcl(&secret), SENSITIVE);
        let nested = Value::object([("a", Value::tuple([secret])), ("b c", Value::bool(true))]);
        assert_eq!(to_hcl(&nested), "{\n  \"a\" = [\n    <sensitive>,\n  ]\n  \"b c\" = true\n}");
        assert_eq!(one_line(&nested), "{ a = [<sensitive>], \"b c\" = true }");
    }
}
