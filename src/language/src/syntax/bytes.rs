//! Bytes to text. Templates are UTF-8; but in comments, which some people still write in Latin-1, nobody minds.

use kiln_core::SourceId;

use super::lexer::{self, TokenKind};

/// The bytes 0x80 to 0xff that are no UTF-8 become the last 128 characters there are, which are for private use.
const STAND_INS: u32 = 0x10_FF00;

/// A file's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decoded {
    /// The text. Bytes of comments that are no UTF-8 are characters for private use.
    pub text: String,
    has_stand_ins: bool,
}

/// There are bytes outside of comments that are no UTF-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is not UTF-8 text (line {line})")]
pub struct NotUtf8 {
    /// The line of the first of them, counted from 1.
    pub line: usize,
}

/// Reads bytes as a text.
pub fn decode(bytes: Vec<u8>) -> Result<Decoded, NotUtf8> {
    let bytes = match String::from_utf8(bytes) {
        Ok(text) => return Ok(Decoded { text, has_stand_ins: false }),
        Err(error) => error.into_bytes(),
    };
    let mut text = String::with_capacity(bytes.len() + bytes.len() / 8);
    let mut places = Vec::new();
    for chunk in bytes.utf8_chunks() {
        // What looks like a stand-in and is none could not be told from one later.
        places.extend(chunk.valid().char_indices().filter(|(_, c)| byte(*c).is_some()).map(|(at, _)| text.len() + at));
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            places.push(text.len());
            text.extend(char::from_u32(STAND_INS + u32::from(*byte)));
        }
    }
    let lexed = lexer::lex(SourceId(0), &text);
    let mut comments = lexed.tokens.iter().filter(|token| token.kind == TokenKind::Comment).peekable();
    for place in places {
        while comments.next_if(|comment| comment.end <= place).is_some() {}
        if comments.peek().is_none_or(|comment| comment.start > place) {
            return Err(NotUtf8 { line: text[..place].matches('\n').count() + 1 });
        }
    }
    Ok(Decoded { text, has_stand_ins: true })
}

impl Decoded {
    /// The bytes of a text that was made from this one.
    pub fn encode(&self, text: String) -> Vec<u8> {
        if !self.has_stand_ins {
            return text.into_bytes();
        }
        let mut bytes = Vec::with_capacity(text.len());
        for character in text.chars() {
            match byte(character) {
                Some(byte) => bytes.push(byte),
                None => bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        bytes
    }
}

/// The byte that a stand-in stands for.
fn byte(character: char) -> Option<u8> {
    u8::try_from(u32::from(character).checked_sub(STAND_INS)?).ok().filter(|byte| !byte.is_ascii())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed test is meant to panic")]

    use super::*;

    #[test]
    fn comments_may_hold_any_bytes_and_get_them_back() {
        let bytes = b"# caf\xe9\na = 1 /* \xff\xc3 */ // \x80\n".to_vec();
        let decoded = decode(bytes.clone()).unwrap();
        assert!(decoded.text.starts_with("# caf\u{10FFE9}\n"));
        assert_eq!(decoded.encode(decoded.text.clone()), bytes);
        let text = "a = \"\u{10FFE9}\" # é\n";
        let decoded = decode(text.into()).unwrap();
        assert_eq!(decoded.encode(decoded.text.clone()), text.as_bytes());
    }

    #[test]
    fn code_and_texts_may_not() {
        for (bytes, line) in [
            (&b"a = \"\xe9\"\n"[..], 1),
            (b"# \xe9\n\na\xe9 = 1\n", 3),
            (b"a = <<E # \xe9\n \xe9\nE\n", 1),
            (b"\xe9", 1),
        ] {
            assert_eq!(decode(bytes.to_vec()), Err(NotUtf8 { line }), "{bytes:?}");
        }
    }

    #[test]
    fn a_true_stand_in_beside_other_bytes_is_refused_outside_of_comments() {
        let mut bytes = "a = \"\u{10FFE9}\"\n# ".as_bytes().to_vec();
        bytes.extend_from_slice(b"\xe9\n");
        assert_eq!(decode(bytes), Err(NotUtf8 { line: 1 }));
    }
}
