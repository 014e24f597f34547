//! YAML, written in the style of Packer's (quoted keys and texts, lists not indented).

use std::fmt::Write;

use super::{Function, any_or_null, define, fail_at, string_argument, text, yaml_reader};
use crate::value::{Data, Type, Value, number_text};

/// The width at which long texts in quotes are folded.
const WIDTH: usize = 80;

/// How many bytes a key may have that stands in front of its value without more.
const MAX_SIMPLE_KEY: usize = 128;

pub(super) fn functions() -> Vec<Function> {
    vec![
        define(
            "yamldecode",
            vec![text("yaml")],
            Type::Any,
            "Reads YAML 1.1: `yes` and `on` are bools, as `true` is. Anchors and `<<` work.",
            |arguments, _| match yaml_reader::read(string_argument(arguments, 0)) {
                Ok(value) => Ok(value),
                Err(message) => fail_at(0, format!("the text is not valid YAML: {message}")),
            },
        )
        .example(r#"yamldecode("a: [1, true]")"#, "{ a = [1, true] }"),
        define("yamlencode", vec![any_or_null("value")], Type::String, "Writes a value as YAML.", |arguments, _| {
            let mut writer = Writer::default();
            match writer.document(&arguments[0]) {
                Ok(()) => Ok(Value::string(writer.output)),
                Err(message) => fail_at(0, message),
            }
        })
        .example(r#"yamlencode({ a = ["x", 1] })"#, r#""\"a\":\n- \"x\"\n- 1\n""#),
    ]
}

#[derive(Default)]
struct Writer {
    output: String,
}

/// What a value stands behind, which decides whether it starts on a line of its own.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// The whole document.
    Root,
    /// `key:`.
    Entry,
    /// `-`.
    Element,
}

impl Writer {
    fn document(&mut self, value: &Value) -> Result<(), String> {
        self.value(value, 0, Place::Root)?;
        // A plain scalar leaves the document open, and an end mark closes it.
        if matches!(value.data, Data::Null(_) | Data::Bool(_) | Data::Number(_)) {
            self.output.push_str("...\n");
        }
        Ok(())
    }

    /// Writes a value with its line end; `indent` is that of the collection it is in.
    fn value(&mut self, value: &Value, indent: usize, place: Place) -> Result<(), String> {
        match &value.data {
            Data::List(_, elements) | Data::Set(_, elements) | Data::Tuple(elements) if !elements.is_empty() => {
                return self.sequence(elements, indent, place);
            }
            Data::Map(_, entries) | Data::Object(entries) if !entries.is_empty() => {
                return self.mapping(entries, indent, place);
            }
            _ => {}
        }
        if place != Place::Root {
            self.output.push(' ');
        }
        match &value.data {
            Data::Null(_) => self.output.push_str("null"),
            Data::Unknown(_) => return Err("a value that is not known yet cannot be encoded".to_owned()),
            Data::Bool(value) => self.output.push_str(if *value { "true" } else { "false" }),
            Data::Number(number) => self.output.push_str(&number_text(number)),
            Data::String(text) if is_block(text) => {
                self.block(text, indent + 2);
                return Ok(());
            }
            Data::String(text) => self.quoted(text, Some(indent + 2)),
            Data::List(..) | Data::Set(..) | Data::Tuple(_) => self.output.push_str("[]"),
            Data::Map(..) | Data::Object(_) => self.output.push_str("{}"),
        }
        self.output.push('\n');
        Ok(())
    }

    /// The elements of a list stand as deep as the key before it, but deeper than a dash.
    fn sequence(&mut self, elements: &[Value], indent: usize, place: Place) -> Result<(), String> {
        let indent = if place == Place::Element { indent + 2 } else { indent };
        for (index, element) in elements.iter().enumerate() {
            self.start_line(index, indent, place);
            self.output.push('-');
            self.value(element, indent, Place::Element)?;
        }
        Ok(())
    }

    fn mapping<'a>(
        &mut self,
        entries: impl IntoIterator<Item = (&'a String, &'a Value)>,
        indent: usize,
        place: Place,
    ) -> Result<(), String> {
        let indent = if place == Place::Root { indent } else { indent + 2 };
        for (index, (key, value)) in entries.into_iter().enumerate() {
            self.start_line(index, indent, place);
            if key.len() <= MAX_SIMPLE_KEY && !key.contains('\n') {
                self.quoted(key, None);
                self.output.push(':');
                self.value(value, indent, Place::Entry)?;
                continue;
            }
            // A key that is long, or has several lines, is announced.
            self.output.push('?');
            self.value(&Value::string(key.as_str()), indent, Place::Element)?;
            self.output.push_str(&" ".repeat(indent));
            self.output.push(':');
            self.value(value, indent, Place::Element)?;
        }
        Ok(())
    }

    /// The first part of a collection follows a dash on the same line.
    fn start_line(&mut self, index: usize, indent: usize, place: Place) {
        match (index, place) {
            (0, Place::Element) => self.output.push(' '),
            (0, Place::Entry) => {
                self.output.push('\n');
                self.output.push_str(&" ".repeat(indent));
            }
            _ => self.output.push_str(&" ".repeat(indent)),
        }
    }

    fn block(&mut self, text: &str, indent: usize) {
        self.output.push('|');
        if text.starts_with([' ', '\n']) {
            self.output.push('2');
        }
        let body = text.strip_suffix('\n');
        match body {
            None => self.output.push('-'),
            Some(body) if body.is_empty() || body.ends_with('\n') => self.output.push('+'),
            Some(_) => {}
        }
        self.output.push('\n');
        for line in body.unwrap_or(text).split('\n') {
            if !line.is_empty() {
                self.output.push_str(&" ".repeat(indent));
                self.output.push_str(line);
            }
            self.output.push('\n');
        }
    }

    /// A text in double quotes; where `fold` is given, long ones go on in another line, so deep.
    fn quoted(&mut self, text: &str, fold: Option<usize>) {
        let line_start = self.output.rfind('\n').map_or(0, |newline| newline + 1);
        let mut column = self.output[line_start..].chars().count() + 1;
        self.output.push('"');
        let mut characters = text.char_indices().peekable();
        let mut after_space = false;
        while let Some((offset, character)) = characters.next() {
            let next = characters.peek().map(|(_, next)| *next);
            let inside = offset > 0 && next.is_some();
            if let (' ', Some(indent), false, true) = (character, fold, after_space, inside && column > WIDTH) {
                self.output.push('\n');
                self.output.push_str(&" ".repeat(indent));
                column = indent;
                // A blank at the start of a line would be lost.
                if next == Some(' ') {
                    self.output.push('\\');
                    column += 1;
                }
            } else {
                let before = self.output.len();
                push_escaped(&mut self.output, character);
                column += self.output[before..].chars().count();
            }
            after_space = character == ' ';
        }
        self.output.push('"');
    }
}

/// Whether a text may stand as a block: it has several lines, and nothing that a block could not show.
fn is_block(text: &str) -> bool {
    text.contains('\n')
        && !text.ends_with(' ')
        && !text.contains(" \n")
        && text.chars().all(|character| character == '\n' || is_plain(character))
}

/// Characters that need no escape. Those beyond the basic plane are escaped, as the writer of the original does.
fn is_plain(character: char) -> bool {
    matches!(character, ' '..='~' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}')
        && !matches!(character, '\u{feff}' | '\u{2028}' | '\u{2029}')
}

fn push_escaped(output: &mut String, character: char) {
    let short = match character {
        '\0' => '0',
        '\u{7}' => 'a',
        '\u{8}' => 'b',
        '\t' => 't',
        '\n' => 'n',
        '\u{b}' => 'v',
        '\u{c}' => 'f',
        '\r' => 'r',
        '\u{1b}' => 'e',
        '"' => '"',
        '\\' => '\\',
        '\u{85}' => 'N',
        '\u{2028}' => 'L',
        '\u{2029}' => 'P',
        plain if is_plain(plain) => return output.push(plain),
        other => {
            let code = u32::from(other);
            // Writing into a String cannot fail.
            let _ = match code {
                0..=0xff => write!(output, "\\x{code:02X}"),
                0x100..=0xffff => write!(output, "\\u{code:04X}"),
                _ => write!(output, "\\U{code:08X}"),
            };
            return;
        }
    };
    output.push('\\');
    output.push(short);
}
