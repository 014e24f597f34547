//! Values as text: what `console` and `inspect` show.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use bigdecimal::{BigDecimal, ToPrimitive};
use regex::Regex;

use crate::value::{Data, Value, number_text};

/// What stands for a sensitive value.
pub const SENSITIVE: &str = "<sensitive>";

/// What stands for a value that is not known yet.
pub const UNKNOWN: &str = "<unknown>";

/// A value as `packer console` prints it: a string on its own as it is, collections over several lines, texts in them as
/// Go quotes them, attributes that are null left out, numbers beyond 64 bits as floats, a collection with an unknown part
/// as unknown. Sensitive parts are masked.
pub fn to_hcl(value: &Value) -> String {
    match &value.data {
        Data::String(text) if !is_hidden(value) => text.clone(),
        Data::String(_) => SENSITIVE.to_owned(),
        _ if !value.is_wholly_known() => UNKNOWN.to_owned(),
        _ => Printer { style: Style::Console, out: String::new() }.print(value),
    }
}

/// A value as an HCL expression, collections over several lines; nothing is left out or rounded. Sensitive parts are
/// masked.
pub fn written(value: &Value) -> String {
    Printer { style: Style::Exact, out: String::new() }.print(value)
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
            '$' | '%' if characters.peek() == Some(&'{') => {
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

/// A text in quotes as Go's `%q` writes it: what `packer inspect` and `packer console` show. No HCL: `${` stays as it is.
pub fn go_quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            character if is_printable(character) => out.push(character),
            character => out.push_str(&match u32::from(character) {
                code if code < 0x80 => format!("\\x{code:02x}"),
                code if code < 0x1_0000 => format!("\\u{code:04x}"),
                code => format!("\\U{code:08x}"),
            }),
        }
    }
    out.push('"');
    out
}

/// As Go's `unicode.IsPrint`: of the white space, only the ASCII blank.
fn is_printable(character: char) -> bool {
    #[expect(clippy::expect_used, reason = "a constant pattern")]
    static VISIBLE: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"^[\p{L}\p{M}\p{N}\p{P}\p{S}]$").expect("a valid pattern"));
    match character {
        ' '..='~' => true,
        character if character.is_ascii() => false,
        character => VISIBLE.is_match(character.encode_utf8(&mut [0; 4])),
    }
}

fn key_text(key: &str) -> String {
    let mut characters = key.chars();
    let is_name = characters.next().is_some_and(|first| first.is_alphabetic() || first == '_')
        && characters.all(|character| character.is_alphanumeric() || matches!(character, '_' | '-'));
    if is_name { key.to_owned() } else { quoted(key) }
}

/// Whether a mark hides the value. Emptiness is no secret: it says that a value is yet to be given.
fn is_hidden(value: &Value) -> bool {
    let is_empty = match &value.data {
        Data::Null(_) | Data::Unknown(_) => true,
        Data::String(text) => text.is_empty(),
        Data::Bool(_) | Data::Number(_) => false,
        _ => value.children().next().is_none(),
    };
    value.sensitive && !is_empty
}

/// A number as the console shows it: whole numbers of 64 bits with all digits, others as Go's shortest float.
fn console_number(number: &BigDecimal) -> String {
    if number.is_integer()
        && let Some(whole) = number.to_i64()
    {
        return whole.to_string();
    }
    // Through the text: that is rounded to the nearest float.
    let float: f64 = number_text(number).parse().unwrap_or(f64::NAN);
    if float.is_infinite() {
        return if float > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let text = format!("{float:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    match exponent.parse::<i32>() {
        Ok(exponent) if !(-4..6).contains(&exponent) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", exponent.unsigned_abs())
        }
        _ => float.to_string(),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Style {
    /// As Packer's console.
    Console,
    /// As an expression that gives the value again.
    Exact,
}

struct Printer {
    style: Style,
    out: String,
}

impl Printer {
    fn print(mut self, value: &Value) -> String {
        self.value(value, 0);
        self.out
    }

    fn value(&mut self, value: &Value, depth: usize) {
        if is_hidden(value) {
            // Where a text stands, the mask is one.
            let is_text = matches!(value.data, Data::String(_)) && depth > 0 && self.style == Style::Console;
            let mask = if is_text { format!("\"{SENSITIVE}\"") } else { SENSITIVE.to_owned() };
            return self.out.push_str(&mask);
        }
        match &value.data {
            Data::List(_, elements) | Data::Set(_, elements) | Data::Tuple(elements) => self.elements(elements, depth),
            Data::Map(_, entries) | Data::Object(entries) => self.entries(entries, depth),
            Data::String(text) => self.text(text),
            Data::Number(number) if self.style == Style::Console => self.out.push_str(&console_number(number)),
            _ => self.out.push_str(&leaf(value)),
        }
    }

    fn text(&mut self, text: &str) {
        let quoted = if self.style == Style::Console { go_quoted(text) } else { quoted(text) };
        self.out.push_str(&quoted);
    }

    fn elements(&mut self, elements: &[Value], depth: usize) {
        if elements.is_empty() {
            return self.out.push_str("[]");
        }
        self.out.push_str("[\n");
        for element in elements {
            self.indent(depth + 1);
            self.value(element, depth + 1);
            self.out.push_str(",\n");
        }
        self.indent(depth);
        self.out.push(']');
    }

    fn entries(&mut self, entries: &BTreeMap<String, Value>, depth: usize) {
        let shows_null = self.style == Style::Exact;
        let mut shown = entries.iter().filter(|(_, value)| shows_null || !value.is_null()).peekable();
        if shown.peek().is_none() {
            return self.out.push_str("{}");
        }
        self.out.push_str("{\n");
        for (key, value) in shown {
            self.indent(depth + 1);
            self.text(key);
            self.out.push_str(" = ");
            self.value(value, depth + 1);
            self.out.push('\n');
        }
        self.indent(depth);
        self.out.push('}');
    }

    fn indent(&mut self, depth: usize) {
        self.out.extend(std::iter::repeat_n("  ", depth));
    }
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
    use crate::value::{Type, parse_number};

    #[test]
    fn a_text_alone_is_raw_and_quoted_inside() {
        let text = "a\n\"${b}\" \\ \u{1}\u{7f}\u{a0}\u{200b}é😀";
        assert_eq!(to_hcl(&Value::string(text)), text);
        let list = Value::tuple([Value::string(text), Value::null()]);
        let printed = r#""a\n\"${b}\" \\ \x01\x7f\u00a0\u200bé😀""#;
        assert_eq!(to_hcl(&list), format!("[\n  {printed},\n  null,\n]"));
        assert_eq!(quoted("${a} %{b} $ %"), "\"$${a} %%{b} $ %\"");
        assert_eq!(go_quoted("\u{7}\u{8}\u{c}\u{b}\t\r\u{e0001}"), r#""\a\b\f\v\t\r\U000e0001""#);
    }

    #[test]
    fn a_null_attribute_is_shown_where_nothing_may_be_lost() {
        let value = Value::object([("a", Value::null()), ("b", Value::object([("c", Value::null())]))]);
        assert_eq!(to_hcl(&value), "{\n  \"b\" = {}\n}");
        assert_eq!(written(&value), "{\n  \"a\" = null\n  \"b\" = {\n    \"c\" = null\n  }\n}");
    }

    #[test]
    fn a_collection_with_an_unknown_part_is_unknown() {
        let value = Value::tuple([Value::bool(true), Value::unknown(Type::Any)]);
        assert_eq!(to_hcl(&value), UNKNOWN);
        assert_eq!(written(&value), "[\n  true,\n  <unknown>,\n]");
    }

    #[test]
    fn numbers_are_shown_as_go_writes_floats() {
        for (text, expected) in [
            ("1e15", "1000000000000000"),
            ("9223372036854775807", "9223372036854775807"),
            ("9223372036854775808", "9.223372036854776e+18"),
            ("-1e21", "-1e+21"),
            ("0.0001", "0.0001"),
            ("0.00001", "1e-05"),
            ("999999.5", "999999.5"),
            ("1000000.5", "1.0000005e+06"),
            ("-0.5", "-0.5"),
            ("1e400", "+Inf"),
            ("-1e400", "-Inf"),
            ("1e-400", "0"),
        ] {
            let number = Value::number(parse_number(text).unwrap());
            assert_eq!(to_hcl(&number), expected, "{text}");
            assert_eq!(written(&number), leaf(&number), "{text}");
        }
    }

    #[test]
    fn secrets_are_masked_wherever_they_stand() {
        let secret = Value::string("hunter2").marked(true);
        assert_eq!(to_hcl(&secret), SENSITIVE);
        assert_eq!(written(&secret), SENSITIVE);
        let number = Value::number(7).marked(true);
        let nested = Value::object([("a", Value::tuple([secret, number])), ("b c", Value::bool(true))]);
        assert_eq!(to_hcl(&nested), "{\n  \"a\" = [\n    \"<sensitive>\",\n    <sensitive>,\n  ]\n  \"b c\" = true\n}");
        assert_eq!(one_line(&nested), "{ a = [<sensitive>, <sensitive>], \"b c\" = true }");
        assert_eq!(to_hcl(&nested.marked(true)), SENSITIVE);
    }

    #[test]
    fn that_a_secret_is_yet_to_be_given_is_told() {
        for (value, expected) in [
            (Value::null(), "null"),
            (Value::string(""), ""),
            (Value::tuple([]), "[]"),
            (Value::unknown(Type::String), UNKNOWN),
        ] {
            assert_eq!(to_hcl(&value.marked(true)), expected);
        }
    }
}
