//! Texts in other clothes: base64, URL, character sets, CSV.

use std::io::Write;

use base64::Engine;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use encoding_rs::Encoding;
use flate2::Compression;
use flate2::write::GzEncoder;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::{Function, FunctionError, csv, define, fail_at, string_argument, text};
use crate::value::{Type, Value};

/// What Go's `url.QueryEscape` writes with a percent sign; the space becomes a plus.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b' ');

/// As Go: bits left over at the end may be set.
const LENIENT: GeneralPurpose =
    GeneralPurpose::new(&alphabet::STANDARD, GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true));

pub(super) fn functions() -> Vec<Function> {
    vec![
        define("base64decode", vec![text("base64")], Type::String, "Decodes base64 to text.", |arguments, _| {
            match String::from_utf8(base64_bytes(arguments)?) {
                Ok(text) => Ok(Value::string(text)),
                Err(_) => fail_at(0, "the decoded bytes are not UTF-8 text; `textdecodebase64` knows other encodings"),
            }
        })
        .example(r#"base64decode("a2lsbg==")"#, r#""kiln""#),
        define("base64encode", vec![text("text")], Type::String, "Encodes a text as base64.", |arguments, _| {
            Ok(Value::string(STANDARD.encode(string_argument(arguments, 0))))
        })
        .example(r#"base64encode("kiln")"#, r#""a2lsbg==""#),
        define(
            "base64gzip",
            vec![text("text")],
            Type::String,
            "Compresses a text with gzip and encodes that as base64.",
            |arguments, _| {
                // No time stamp: the same text gives the same result.
                let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
                let written = encoder.write_all(string_argument(arguments, 0).as_bytes());
                match written.and_then(|()| encoder.finish()) {
                    Ok(bytes) => Ok(Value::string(STANDARD.encode(bytes))),
                    Err(error) => fail_at(0, format!("cannot compress the text: {error}")),
                }
            },
        )
        .example(r#"startswith(base64gzip("kiln"), "H4sI")"#, "true"),
        define(
            "csvdecode",
            vec![text("csv")],
            Type::list(Type::Any),
            "Reads CSV; every line but the first becomes an object with the names of the first as attributes.",
            csv::decode,
        )
        .example(r#"csvdecode("a,b\n1,2")"#, r#"[{ a = "1", b = "2" }]"#),
        define(
            "textdecodebase64",
            vec![text("base64"), text("encoding")],
            Type::String,
            "Decodes base64 to text of a character encoding such as `UTF-16LE`.",
            |arguments, _| {
                let bytes = base64_bytes(arguments)?;
                let encoding = encoding(arguments)?;
                match encoding.decode_without_bom_handling_and_without_replacement(&bytes) {
                    Some(text) => Ok(Value::string(text)),
                    None => fail_at(0, format!("the decoded bytes are no text in {}", string_argument(arguments, 1))),
                }
            },
        )
        .example(r#"textdecodebase64("awBpAA==", "UTF-16LE")"#, r#""ki""#),
        define(
            "textencodebase64",
            vec![text("text"), text("encoding")],
            Type::String,
            "Writes a text in a character encoding such as `UTF-16LE`, and that as base64.",
            |arguments, _| {
                let source = string_argument(arguments, 0);
                let encoding = encoding(arguments)?;
                let bytes = if encoding == encoding_rs::UTF_16LE {
                    source.encode_utf16().flat_map(u16::to_le_bytes).collect()
                } else if encoding == encoding_rs::UTF_16BE {
                    source.encode_utf16().flat_map(u16::to_be_bytes).collect()
                } else {
                    let (bytes, _, has_gaps) = encoding.encode(source);
                    if has_gaps {
                        let name = string_argument(arguments, 1);
                        return fail_at(0, format!("the text has characters that {name} has not"));
                    }
                    bytes.into_owned()
                };
                Ok(Value::string(STANDARD.encode(bytes)))
            },
        )
        .example(r#"textencodebase64("ki", "UTF-16LE")"#, r#""awBpAA==""#),
        define("urlencode", vec![text("text")], Type::String, "Escapes a text for a URL's query.", |arguments, _| {
            let escaped = utf8_percent_encode(string_argument(arguments, 0), QUERY).to_string();
            Ok(Value::string(escaped.replace(' ', "+")))
        })
        .example(r#"urlencode("a b/c")"#, r#""a+b%2Fc""#),
    ]
}

/// The bytes of a base64 argument; line ends in it do not count.
fn base64_bytes(arguments: &[Value]) -> Result<Vec<u8>, FunctionError> {
    let compact = string_argument(arguments, 0).replace(['\n', '\r'], "");
    LENIENT.decode(compact).or_else(|error| fail_at(0, format!("the text is not valid base64: {error}")))
}

fn encoding(arguments: &[Value]) -> Result<&'static Encoding, FunctionError> {
    let name = string_argument(arguments, 1);
    match Encoding::for_label_no_replacement(name.as_bytes()) {
        Some(encoding) => Ok(encoding),
        None => fail_at(1, format!("there is no encoding `{name}`; common ones are UTF-8, UTF-16LE and ISO-8859-1")),
    }
}
