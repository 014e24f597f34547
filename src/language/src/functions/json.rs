//! JSON, as Go writes it: `<`, `>` and `&` escaped, keys sorted.

use std::fmt::Write;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Number;

use super::{Function, any_or_null, define, fail_at, string_argument, text};
use crate::value::{Data, Type, Value, number_text, parse_number, rounded};

pub(super) fn functions() -> Vec<Function> {
    vec![
        define(
            "jsondecode",
            vec![text("json")],
            Type::Any,
            "Reads JSON; of a repeated key the last value counts.",
            |arguments, _| match serde_json::from_str::<Decoded>(string_argument(arguments, 0)) {
                Ok(Decoded(value)) => Ok(value),
                Err(error) => fail_at(0, format!("the text is not valid JSON: {error}")),
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

/// A value read by serde; JSON's arrays are tuples and its objects objects, as every element has a type of its own.
pub(super) struct Decoded(pub(super) Value);

impl<'de> Deserialize<'de> for Decoded {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Decoded, D::Error> {
        deserializer.deserialize_any(DecodedVisitor)
    }
}

struct DecodedVisitor;

impl<'de> Visitor<'de> for DecodedVisitor {
    type Value = Decoded;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Decoded, E> {
        Ok(Decoded(Value::bool(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Decoded, E> {
        Ok(Decoded(Value::number(value)))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Decoded, E> {
        Ok(Decoded(Value::number(value)))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Decoded, E> {
        let number = Number::from_f64(value).and_then(|number| parse_number(&number.to_string()));
        match number {
            Some(number) => Ok(Decoded(Value::number(rounded(&number).normalized()))),
            None => Err(E::custom("a number is out of range")),
        }
    }

    fn visit_str<E>(self, value: &str) -> Result<Decoded, E> {
        Ok(Decoded(Value::string(value)))
    }

    fn visit_string<E>(self, value: String) -> Result<Decoded, E> {
        Ok(Decoded(Value::string(value)))
    }

    fn visit_unit<E>(self) -> Result<Decoded, E> {
        Ok(Decoded(Value::null()))
    }

    fn visit_none<E>(self) -> Result<Decoded, E> {
        Ok(Decoded(Value::null()))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Decoded, D::Error> {
        Decoded::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Decoded, A::Error> {
        let mut elements = Vec::new();
        while let Some(Decoded(element)) = sequence.next_element()? {
            elements.push(element);
        }
        Ok(Decoded(Value::tuple(elements)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Decoded, A::Error> {
        let mut entries = Vec::new();
        while let Some((Decoded(key), Decoded(value))) = map.next_entry()? {
            let Some(key) = key.to_text() else { return Err(de::Error::custom("a key must be a text")) };
            entries.push((key, value));
        }
        Ok(Decoded(Value::object(entries)))
    }
}
