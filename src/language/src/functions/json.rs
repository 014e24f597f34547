//! JSON, as Go writes it: `<`, `>` and `&` escaped, keys sorted.

use std::fmt::Write;

use super::{Function, any_or_null, define, fail_at, json_reader, string_argument, text};
use crate::value::{Data, Type, Value, number_text};

pub(super) fn functions() -> Vec<Function> {
    vec![
        define(
            "jsondecode",
            vec![text("json")],
            Type::Any,
            "Reads JSON; of a repeated key the last value counts.",
            |arguments, _| match json_reader::read(string_argument(arguments, 0)) {
                Ok(value) => Ok(value),
                Err(message) => fail_at(0, format!("the text is not valid JSON: {message}")),
            },
        )
        .example(r#"jsondecode("{\"a\": [1, true]}")"#, "{ a = [1, true] }"),
        define(
            "jsonencode",
            vec![any_or_null("value")],
            Type::String,
            "Writes a value as JSON on one line, keys sorted.",
            |arguments, _| match arguments.first().map(encode) {
                Some(Ok(json)) => Ok(Value::string(json)),
                Some(Err(message)) => fail_at(0, message),
                None => fail_at(0, "a value is required"),
            },
        )
        .example(r#"jsonencode({ a = [1, true] })"#, r#""{\"a\":[1,true]}""#),
    ]
}

/// A value as JSON.
pub(super) fn encode(value: &Value) -> Result<String, String> {
    let mut output = String::new();
    write_value(&mut output, value)?;
    Ok(output)
}

/// A text as a JSON string, with its quotes.
pub(super) fn quote(text: &str) -> String {
    let mut output = String::with_capacity(text.len() + 2);
    write_string(&mut output, text);
    output
}

fn write_value(output: &mut String, value: &Value) -> Result<(), String> {
    match &value.data {
        Data::Null(_) => output.push_str("null"),
        Data::Unknown(_) => return Err("a value that is not known yet cannot be encoded".to_owned()),
        Data::Bool(value) => output.push_str(if *value { "true" } else { "false" }),
        Data::Number(number) => output.push_str(&number_text(number)),
        Data::String(text) => write_string(output, text),
        Data::List(_, elements) | Data::Set(_, elements) | Data::Tuple(elements) => {
            output.push('[');
            for (index, element) in elements.iter().enumerate() {
                if index > 0 {
                    output.push(',');
                }
                write_value(output, element)?;
            }
            output.push(']');
        }
        Data::Map(_, entries) | Data::Object(entries) => {
            output.push('{');
            for (index, (key, value)) in entries.iter().enumerate() {
                if index > 0 {
                    output.push(',');
                }
                write_string(output, key);
                output.push(':');
                write_value(output, value)?;
            }
            output.push('}');
        }
    }
    Ok(())
}

fn write_string(output: &mut String, text: &str) {
    output.push('"');
    for character in text.chars() {
        match character {
            '"' => output.push_str("\\\""),
            '\\' => output.push_str("\\\\"),
            '\n' => output.push_str("\\n"),
            '\r' => output.push_str("\\r"),
            '\t' => output.push_str("\\t"),
            '\0'..='\u{1f}' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                // Writing into a String cannot fail.
                let _ = write!(output, "\\u{:04x}", u32::from(character));
            }
            other => output.push(other),
        }
    }
    output.push('"');
}
