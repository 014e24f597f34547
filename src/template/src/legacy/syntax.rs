//! What is wrong with a text that is not JSON, where, and how to mend it.

use jsonc_parser::ParseStringErrorKind;
use jsonc_parser::errors::{ParseError, ParseErrorKind};
use kiln_core::{Diagnostic, SourceId, Span};

/// Where the quote stands that has no partner on its line, and the diagnostic for it.
pub(super) type Unclosed = (usize, Box<Diagnostic>);

/// Checks what the parser lets pass: a byte order mark, raw control characters in strings, blanks that JSON does not
/// know. A string that its line does not close is handed back, since something before it may be the cause.
pub(super) fn check_text(text: &str, source: SourceId) -> Result<Option<Unclosed>, Box<Diagnostic>> {
    if text.starts_with('\u{feff}') {
        let mark = Span::new(source, 0..'\u{feff}'.len_utf8());
        return Err(Box::new(
            Diagnostic::error(
                "byte-order-mark",
                mark,
                "the file starts with a byte order mark, which JSON does not allow",
            )
            .help("save it as UTF-8 without BOM, for example with `sed -i '1s/^\\xEF\\xBB\\xBF//' FILE`"),
        ));
    }
    let mut string_start: Option<usize> = None;
    let mut is_escaped = false;
    for (position, character) in text.char_indices() {
        match (string_start, character) {
            (Some(_), _) if is_escaped => is_escaped = false,
            (Some(_), '\\') => is_escaped = true,
            (Some(_), '"') => string_start = None,
            (Some(start), '\n' | '\r') => return Ok(Some((start, Box::new(unclosed(text, source, start, position))))),
            (Some(_), '\u{0}'..='\u{1f}') => return Err(Box::new(control_character(source, position, character))),
            (None, '"') => string_start = Some(position),
            (None, other) if other != ' ' && !matches!(other, '\t' | '\n' | '\r') && other.is_whitespace() => {
                let span = Span::new(source, position..position + other.len_utf8());
                return Err(Box::new(
                    Diagnostic::error("json-syntax", span, format!("U+{:04X} is no blank in JSON", u32::from(other)))
                        .fix(span, " ", "write a plain blank"),
                ));
            }
            _ => {}
        }
    }
    Ok(string_start.map(|start| (start, Box::new(unclosed(text, source, start, text.len())))))
}

/// A text that is not even meant to be JSON: HCL2 or YAML, by how it begins.
pub(super) fn other_language(text: &str, source: SourceId) -> Option<Diagnostic> {
    let mut rest = text;
    // Comments before the first word; JSON has none of them.
    loop {
        rest = rest.trim_start();
        rest = match (rest.starts_with('#') || rest.starts_with("//"), rest.strip_prefix("/*")) {
            (true, _) => rest.split_once('\n')?.1,
            (false, Some(comment)) => comment.split_once("*/")?.1,
            (false, None) => break,
        };
    }
    let word_end = rest.find(|c: char| !c.is_alphanumeric() && !matches!(c, '_' | '-')).unwrap_or(rest.len());
    let (word, behind) = rest.split_at(word_end);
    let behind = behind.trim_start_matches([' ', '\t']);
    let at = text.len() - rest.len();
    let span = |length: usize| Span::new(source, at..at + length);
    if word == "---" || (!word.is_empty() && behind.starts_with(':')) {
        let end = if word == "---" { 3 } else { word.len() + 1 };
        let title = "this is YAML, and the file is read as a legacy JSON template";
        return Some(
            Diagnostic::error("wrong-language", span(end), title).help("templates are written in HCL2 or JSON"),
        );
    }
    let is_hcl = word.starts_with(|c: char| c.is_alphabetic())
        && !matches!(word, "true" | "false" | "null")
        && (behind.starts_with(['"', '{']) || (behind.starts_with('=') && !behind.starts_with("==")));
    is_hcl.then(|| {
        Diagnostic::error("wrong-language", span(word.len()), "this is HCL2, and the file is read as legacy JSON")
            .help("name HCL2 templates `*.pkr.hcl`, and files of values `*.pkrvars.hcl`; `-config-type=hcl2` reads a template as HCL2 whatever its name")
    })
}

fn unclosed(text: &str, source: SourceId, start: usize, line_end: usize) -> Diagnostic {
    let line = &text[start..line_end];
    let content = line.trim_end_matches([' ', '\t', ',', '}', ']']);
    let end = start + content.len();
    let insertion = Span::new(source, end..end);
    Diagnostic::error("json-syntax", Span::new(source, start..line_end), "this string is not closed on its line")
        .label("opened here")
        .fix(insertion, "\"", "close it (write a line break in a string as `\\n`)")
}

fn control_character(source: SourceId, position: usize, character: char) -> Diagnostic {
    let span = Span::new(source, position..position + character.len_utf8());
    let (name, written) = match character {
        '\t' => ("a tab".to_owned(), "\\t".to_owned()),
        other => (format!("the control character U+{:04X}", u32::from(other)), format!("\\u{:04x}", u32::from(other))),
    };
    Diagnostic::error("json-syntax", span, format!("{name} must not stand raw in a string")).fix(
        span,
        written.clone(),
        format!("write `{written}`"),
    )
}

/// The parser's error in our words.
pub(super) fn diagnose(text: &str, source: SourceId, error: &ParseError) -> Diagnostic {
    let start = error.range().start.min(text.len());
    let end = error.range().end.clamp(start, text.len());
    let place = Place { text, source, start, end };
    match error.kind() {
        ParseErrorKind::CommentsNotAllowed | ParseErrorKind::UnterminatedCommentBlock => place
            .error("JSON has no comments")
            .help("at the root, a key that starts with `_` holds a comment: `\"_comment\": \"...\"`"),
        ParseErrorKind::TrailingCommasNotAllowed => {
            let comma = Span::new(source, start..end);
            place.error("a comma after the last item").label("nothing follows it").fix(comma, "", "remove it")
        }
        ParseErrorKind::ExpectedComma => {
            let point = Span::new(source, start..start);
            let mut diagnostic = place.error("a comma is missing").label("after this").fix(point, ",", "add it");
            // An empty range is drawn at the next line's start where it ends a line; mark the last character instead.
            if let Some(primary) = &mut diagnostic.primary {
                primary.span = Span::new(source, place.last_character_start()..start);
            }
            diagnostic
        }
        ParseErrorKind::SingleQuotedStringsNotAllowed => place.single_quoted(),
        ParseErrorKind::ExpectedStringObjectProperty | ParseErrorKind::UnexpectedWord => place.word(error.kind()),
        ParseErrorKind::ExpectedColonAfterObjectKey => {
            let diagnostic = place.error("a key must be followed by `:` and a value").label("expected `:`");
            match text[start..].starts_with('=') {
                true => diagnostic.fix(Span::new(source, start..start + 1), ":", "write `:`"),
                false => diagnostic,
            }
        }
        ParseErrorKind::ExpectedObjectValue => place.error("the value of this key is missing"),
        ParseErrorKind::UnterminatedObject => place.unterminated("object", '}'),
        ParseErrorKind::UnterminatedArray => place.unterminated("list", ']'),
        ParseErrorKind::UnexpectedCloseBrace | ParseErrorKind::UnexpectedCloseBracket => place.closer(),
        ParseErrorKind::UnexpectedComma => place.error("`,` where a value is expected").help("two commas in a row?"),
        ParseErrorKind::UnexpectedColon => {
            place.error("`:` where a value is expected").help("is the key's quote missing?")
        }
        ParseErrorKind::MultipleRootJsonValues if text[start..].starts_with(['}', ']']) => {
            place.error(format!("{} closes nothing", place.what()))
        }
        ParseErrorKind::MultipleRootJsonValues => place.error("text after the end of the template"),
        ParseErrorKind::UnexpectedTokenInObject if text[start..].starts_with(']') => place.closer(),
        ParseErrorKind::UnexpectedTokenInObject => {
            place.error(format!("{} where a key in double quotes is expected", place.what()))
        }
        ParseErrorKind::NestingDepthExceeded => place.error("more than 512 nested levels"),
        ParseErrorKind::String(kind) => place.string(kind),
        ParseErrorKind::UnexpectedToken if text[start..].starts_with('=') => {
            let equals = Span::new(source, start..start + 1);
            place.error("a key is followed by `:` in JSON, not by `=`").fix(equals, ":", "write `:`")
        }
        ParseErrorKind::UnexpectedToken if text[start..].starts_with('#') => place
            .error("JSON has no comments")
            .help("at the root, a key that starts with `_` holds a comment: `\"_comment\": \"...\"`"),
        ParseErrorKind::UnexpectedToken if text[start..].starts_with(['“', '”', '„']) => {
            place.error("typographic quotes do not quote in JSON").help("write `\"`")
        }
        ParseErrorKind::UnexpectedToken => place.error(format!("unexpected {}", place.what())),
        _ => place.error("this is not a number in JSON").help("write digits, for example `-1`, `0.5` or `1e3`"),
    }
}

/// A line with an odd number of quotes, in which something went wrong before its last one: the string that ends where the
/// parser stumbled took the next string's opening quote for its end.
pub(super) fn missing_quote(text: &str, source: SourceId, error: usize, unpaired: usize) -> Option<Diagnostic> {
    let line_start = text[..unpaired].rfind('\n').map_or(0, |newline| newline + 1);
    if !(line_start..unpaired).contains(&error) {
        return None;
    }
    let closing = text[line_start..error].trim_end().strip_suffix('"')?.len() + line_start;
    let opening = line_start + text[line_start..closing].rfind('"')?;
    let content = &text[opening + 1..closing];
    let cut = content.find([',', ':']).map_or(closing, |length| opening + 1 + length);
    let insertion = Span::new(source, cut..cut);
    Some(
        Diagnostic::error("json-syntax", Span::new(source, opening..closing + 1), "a quote is missing on this line")
            .label("this string is not closed where it should be")
            .fix(insertion, "\"", "close it"),
    )
}

/// The last bracket that is open at the end of a text, with its place.
fn innermost_open(text: &str) -> Option<(usize, char)> {
    let mut open = Vec::new();
    let mut in_string = false;
    let mut is_escaped = false;
    for (position, character) in text.char_indices() {
        match character {
            _ if is_escaped => is_escaped = false,
            '\\' if in_string => is_escaped = true,
            '"' => in_string = !in_string,
            '{' | '[' if !in_string => open.push((position, character)),
            '}' | ']' if !in_string => {
                open.pop();
            }
            _ => {}
        }
    }
    open.pop()
}

fn partner(opener: char) -> char {
    if opener == '{' { '}' } else { ']' }
}

struct Place<'a> {
    text: &'a str,
    source: SourceId,
    start: usize,
    end: usize,
}

impl Place<'_> {
    fn error(&self, title: impl Into<String>) -> Diagnostic {
        Diagnostic::error("json-syntax", Span::new(self.source, self.start..self.end), title)
    }

    fn what(&self) -> String {
        self.text[self.start..].chars().next().map_or_else(|| "the end of the file".to_owned(), |c| format!("`{c}`"))
    }

    /// A closing bracket that does not fit what is open.
    fn closer(&self) -> Diagnostic {
        let what = self.what();
        match innermost_open(&self.text[..self.start]) {
            Some((position, opener)) if !self.text[self.start..].starts_with(partner(opener)) => {
                let opening = Span::new(self.source, position..position + 1);
                self.error(format!("{what} does not close `{opener}`"))
                    .label(format!("`{}` is missing before this", partner(opener)))
                    .also(opening, "not closed")
            }
            _ => self.error(format!("{what} where a value is expected")),
        }
    }

    fn last_character_start(&self) -> usize {
        self.text[..self.start].char_indices().next_back().map_or(self.start, |(position, _)| position)
    }

    fn single_quoted(&self) -> Diagnostic {
        let line = self.text[self.start..].lines().next().unwrap_or_default();
        let diagnostic = self.error("strings stand in double quotes in JSON");
        match line[1.min(line.len())..].find('\'') {
            Some(length) => {
                let span = Span::new(self.source, self.start..self.start + length + 2);
                let content = line[1..=length].replace('"', "\\\"");
                diagnostic.fix(span, format!("\"{content}\""), "write")
            }
            None => diagnostic.help("write `\"` in place of `'`"),
        }
    }

    fn word(&self, kind: &ParseErrorKind) -> Diagnostic {
        let word = &self.text[self.start..self.end];
        let span = Span::new(self.source, self.start..self.end);
        if matches!(kind, ParseErrorKind::ExpectedStringObjectProperty) {
            return self.error(format!("the key `{word}` must stand in double quotes")).fix(
                span,
                format!("\"{word}\""),
                "write",
            );
        }
        let lower = word.to_lowercase();
        match lower.as_str() {
            "true" | "false" | "null" => {
                self.error(format!("`{word}` is written in lower case in JSON")).fix(span, lower, "write")
            }
            "none" | "nil" | "undefined" => {
                self.error(format!("`{word}` is no value in JSON")).fix(span, "null", "write")
            }
            _ => self.error(format!("the string `{word}` must stand in double quotes")).fix(
                span,
                format!("\"{word}\""),
                "write",
            ),
        }
    }

    fn unterminated(&self, what: &str, closer: char) -> Diagnostic {
        let opening = Span::new(self.source, self.start..(self.start + 1).min(self.text.len()));
        Diagnostic::error("json-syntax", opening, format!("this {what} is not closed"))
            .label("opened here")
            .help(format!("the file ends before its `{closer}`"))
    }

    fn string(&self, kind: &ParseStringErrorKind) -> Diagnostic {
        match kind {
            ParseStringErrorKind::UnterminatedStringLiteral => self.error("this string is not closed"),
            ParseStringErrorKind::ExpectedFourHexDigits | ParseStringErrorKind::InvalidUnicodeEscapeSequence(_) => {
                self.error("`\\u` takes four hexadecimal digits")
            }
            _ => {
                let slash = Span::new(self.source, self.start..self.start);
                self.error("this is no escape in a JSON string")
                    .help("JSON knows `\\\"`, `\\\\`, `\\/`, `\\b`, `\\f`, `\\n`, `\\r`, `\\t` and `\\uXXXX`")
                    .fix(slash, "\\", "for a backslash, write it twice")
            }
        }
    }
}
