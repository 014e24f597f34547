//! JSON to values: numbers keep all their digits.

use super::MAX_NESTING;
use crate::value::{Value, parse_number};

/// Reads a JSON document. Arrays become tuples and objects objects, as every element has a type of its own; of a
/// repeated key the last value counts.
///
/// # Errors
/// What is wrong, with line and column.
pub(super) fn read(text: &str) -> Result<Value, String> {
    let mut reader = Reader { text, at: 0, depth: 0 };
    let value = reader.value()?;
    reader.blanks();
    if reader.at < text.len() {
        return Err(reader.wrong("something stands behind the value"));
    }
    Ok(value)
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
    depth: usize,
}

impl<'t> Reader<'t> {
    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn wrong(&self, what: &str) -> String {
        let before = &self.text[..self.at.min(self.text.len())];
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|character| *character != '\n').count() + 1;
        format!("{what}, at line {line} column {column}")
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn takes(&mut self, byte: u8) -> bool {
        self.blanks();
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn value(&mut self) -> Result<Value, String> {
        self.blanks();
        match self.peek() {
            Some(b'{') => self.nested(Reader::object),
            Some(b'[') => self.nested(Reader::array),
            Some(b'"') => self.string().map(Value::string),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(_) => self.word(),
            None => Err(self.wrong("the text ends where a value is expected")),
        }
    }

    fn nested(&mut self, read: fn(&mut Self) -> Result<Value, String>) -> Result<Value, String> {
        self.depth += 1;
        if self.depth > MAX_NESTING {
            return Err(self.wrong(&format!("values are nested more than {MAX_NESTING} deep")));
        }
        self.at += 1;
        let value = read(self)?;
        self.depth -= 1;
        Ok(value)
    }

    fn object(&mut self) -> Result<Value, String> {
        let mut entries = Vec::new();
        if self.takes(b'}') {
            return Ok(Value::object(entries));
        }
        loop {
            self.blanks();
            if self.peek() != Some(b'"') {
                return Err(self.wrong("a key in double quotes is expected"));
            }
            let key = self.string()?;
            if !self.takes(b':') {
                return Err(self.wrong("a `:` is expected"));
            }
            // The key is compared as values are: normalised.
            let key = Value::string(key).to_text().unwrap_or_default();
            entries.push((key, self.value()?));
            if self.takes(b'}') {
                return Ok(Value::object(entries));
            }
            if !self.takes(b',') {
                return Err(self.wrong("a `,` or `}` is expected"));
            }
        }
    }

    fn array(&mut self) -> Result<Value, String> {
        let mut elements = Vec::new();
        if self.takes(b']') {
            return Ok(Value::tuple(elements));
        }
        loop {
            elements.push(self.value()?);
            if self.takes(b']') {
                return Ok(Value::tuple(elements));
            }
            if !self.takes(b',') {
                return Err(self.wrong("a `,` or `]` is expected"));
            }
        }
    }

    fn word(&mut self) -> Result<Value, String> {
        let end = self.rest().find(|letter: char| !letter.is_ascii_alphanumeric()).unwrap_or(self.rest().len());
        let value = match &self.rest()[..end] {
            "true" => Value::bool(true),
            "false" => Value::bool(false),
            "null" => Value::null(),
            _ => return Err(self.wrong("a value is expected")),
        };
        self.at += end;
        Ok(value)
    }

    fn number(&mut self) -> Result<Value, String> {
        let is_part = |byte: &u8| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
        let length = self.rest().bytes().take_while(is_part).count();
        let text = &self.rest()[..length];
        let digits = text.strip_prefix('-').unwrap_or(text);
        let (mantissa, _) = digits.split_once(['e', 'E']).unwrap_or((digits, ""));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, "0"));
        let is_json = !whole.is_empty() && !fraction.is_empty() && (whole == "0" || !whole.starts_with('0'));
        match parse_number(text).filter(|_| is_json) {
            Some(number) => {
                self.at += length;
                Ok(Value::number(number))
            }
            None => Err(self.wrong("this is no number that JSON knows")),
        }
    }

    fn string(&mut self) -> Result<String, String> {
        let start = self.at;
        self.at += 1;
        let mut out = String::new();
        loop {
            let rest = self.rest();
            let end = rest.find(|c: char| c == '"' || c == '\\' || c < ' ').unwrap_or(rest.len());
            out.push_str(&rest[..end]);
            self.at += end;
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(out);
                }
                Some(b'\\') => self.escape(&mut out)?,
                Some(_) => return Err(self.wrong("a line end or control character stands in a text; write `\\n`")),
                None => {
                    self.at = start;
                    return Err(self.wrong("the text in quotes is not closed"));
                }
            }
        }
    }

    fn escape(&mut self, out: &mut String) -> Result<(), String> {
        let letter = self.text.as_bytes().get(self.at + 1).copied();
        let plain = match letter {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                let Some(first) = self.unit(self.at) else {
                    return Err(self.wrong("`\\u` takes four hexadecimal digits"));
                };
                self.at += 6;
                // Two escapes can make one character; a half alone stands for none.
                let second = self.unit(self.at).filter(|_| (0xd800..0xdc00).contains(&first));
                let mut units = [first, second.unwrap_or_default()].into_iter();
                return match (char::decode_utf16(units.by_ref()).next(), second) {
                    (Some(Ok(character)), _) => {
                        self.at += if u32::from(character) > 0xffff { 6 } else { 0 };
                        out.push(character);
                        Ok(())
                    }
                    _ => {
                        out.push(char::REPLACEMENT_CHARACTER);
                        Ok(())
                    }
                };
            }
            _ => return Err(self.wrong("there is no such escape")),
        };
        self.at += 2;
        out.push(plain);
        Ok(())
    }

    /// The code of a `\uXXXX` that stands at an offset.
    fn unit(&self, at: usize) -> Option<u16> {
        let digits = self.text.get(at..)?.strip_prefix("\\u")?.get(..4)?;
        let is_hexadecimal = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_hexadecimal.then(|| u16::from_str_radix(digits, 16).ok())?
    }
}
