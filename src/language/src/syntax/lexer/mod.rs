//! Text to tokens. Brackets, quotes and heredocs come out balanced: what is not closed in the text is reported at its
//! opening and closed by an empty token, so that the parser never has to guess.

mod mend;
mod token;

use std::collections::HashMap;
use std::ops::Range;

use kiln_core::{Diagnostic, SourceId, Span};
pub use token::{Token, TokenKind};
use unicode_normalization::char::is_combining_mark;

/// What comes out of a text.
#[derive(Debug)]
pub struct Lexed {
    /// All tokens, the last one [`TokenKind::End`]. Blanks between tokens are left out.
    pub tokens: Vec<Token>,
    /// Mistakes found.
    pub diagnostics: Vec<Diagnostic>,
    /// Where the tokens are guesswork: mistakes found there are likely to be consequences of one reported already.
    pub poisoned: Vec<Range<usize>>,
}

/// What is open around a place in the text; `at` is where it opens.
#[derive(Debug, Clone)]
enum Frame {
    Brace {
        at: usize,
    },
    Bracket {
        at: usize,
    },
    Parenthesis {
        at: usize,
    },
    Quote {
        at: usize,
    },
    /// `forced_end` is set where no closing line exists: the text is cut there.
    Heredoc {
        at: usize,
        tag: Range<usize>,
        forced_end: Option<usize>,
    },
    /// `${` and `%{`.
    Sequence {
        at: usize,
    },
    /// The whole text is a template.
    File,
}

impl Frame {
    fn at(&self) -> usize {
        match self {
            Frame::Brace { at }
            | Frame::Bracket { at }
            | Frame::Parenthesis { at }
            | Frame::Quote { at }
            | Frame::Heredoc { at, .. }
            | Frame::Sequence { at } => *at,
            Frame::File => 0,
        }
    }

    fn closer(&self) -> TokenKind {
        match self {
            Frame::Brace { .. } => TokenKind::BraceClose,
            Frame::Bracket { .. } => TokenKind::BracketClose,
            Frame::Parenthesis { .. } => TokenKind::ParenthesisClose,
            Frame::Quote { .. } => TokenKind::QuoteClose,
            Frame::Heredoc { .. } => TokenKind::HeredocClose,
            Frame::Sequence { .. } => TokenKind::TemplateClose,
            Frame::File => TokenKind::End,
        }
    }
}

struct Lexer<'a> {
    source: SourceId,
    text: &'a str,
    position: usize,
    frames: Vec<Frame>,
    /// Braces closed so far, by their places: where indentation disagrees, one in between is missing.
    braces: Vec<(usize, usize)>,
    /// How many of them agree for sure.
    agreeing: usize,
    /// Where the last line stands that holds a word alone, for each word: only there can a heredoc end. Made for the
    /// first heredoc.
    words: Option<HashMap<&'a str, usize>>,
    out: Lexed,
}

/// Tokens of a body or an expression.
pub fn lex(source: SourceId, text: &str) -> Lexed {
    let mut lexer = Lexer::new(source, text);
    // A byte order mark is no part of the language; places still count it.
    if text.starts_with('\u{feff}') {
        lexer.position = '\u{feff}'.len_utf8();
    }
    lexer.run()
}

/// Tokens of a template file: literals, interpolations and directives.
pub fn lex_template(source: SourceId, text: &str) -> Lexed {
    let mut lexer = Lexer::new(source, text);
    lexer.frames.push(Frame::File);
    lexer.run()
}

/// Whether a name may begin with it.
pub fn begins_name(character: char) -> bool {
    character == '_' || character.is_alphabetic()
}

/// Whether a name may go on with it.
pub fn continues_name(character: char) -> bool {
    matches!(character, '_' | '-') || character.is_alphanumeric() || is_combining_mark(character)
}

impl<'a> Lexer<'a> {
    fn new(source: SourceId, text: &'a str) -> Lexer<'a> {
        let out = Lexed { tokens: Vec::new(), diagnostics: Vec::new(), poisoned: Vec::new() };
        let (frames, braces) = (Vec::new(), Vec::new());
        Lexer { source, text, position: 0, frames, braces, agreeing: 0, words: None, out }
    }

    fn run(mut self) -> Lexed {
        while self.position < self.text.len() {
            match self.frames.last() {
                Some(Frame::Quote { .. }) => self.quoted(),
                Some(Frame::Heredoc { .. }) => self.heredoc(),
                Some(Frame::File) => self.lines(self.text.len()),
                _ => self.code(),
            }
        }
        self.finish();
        self.push(TokenKind::End, self.text.len());
        self.out
    }

    fn rest(&self) -> &'a str {
        &self.text[self.position..]
    }

    fn span(&self, range: Range<usize>) -> Span {
        Span::new(self.source, range)
    }

    /// A token from the current position to `end`.
    fn push(&mut self, kind: TokenKind, end: usize) {
        self.out.tokens.push(Token { kind, start: self.position, end });
        self.position = end;
    }

    fn report(&mut self, diagnostic: Diagnostic, poisoned: Range<usize>) {
        self.out.diagnostics.push(diagnostic);
        self.out.poisoned.push(poisoned);
    }

    /// Where the line of an offset ends, without the line's end characters.
    fn line_end(&self, offset: usize) -> usize {
        let end = self.text[offset..].find('\n').map_or(self.text.len(), |length| offset + length);
        if end > offset && self.text[..end].ends_with('\r') { end - 1 } else { end }
    }

    /// Text between quotes, up to the closing one or the next sequence.
    fn quoted(&mut self) {
        let bytes = self.text.as_bytes();
        let mut end = self.position;
        loop {
            let rest = &bytes[end..];
            match bytes.get(end) {
                None | Some(b'\n') => break,
                Some(b'\r') if rest.starts_with(b"\r\n") => break,
                Some(b'"') => break,
                Some(b'\\') => {
                    let escaped =
                        self.text[end + 1..].chars().next().filter(|character| !matches!(character, '\r' | '\n'));
                    end += 1 + escaped.map_or(0, char::len_utf8);
                }
                Some(b'$' | b'%') if rest.starts_with(b"$${") || rest.starts_with(b"%%{") => end += 3,
                Some(b'$' | b'%') if rest.starts_with(b"${") || rest.starts_with(b"%{") => break,
                Some(_) => end += 1,
            }
        }
        if end > self.position {
            self.push(TokenKind::Literal, end);
        }
        match bytes.get(end) {
            Some(b'"') => {
                self.push(TokenKind::QuoteClose, end + 1);
                self.frames.pop();
            }
            Some(b'$' | b'%') => self.sequence(),
            _ => self.unclosed_quote(),
        }
    }

    /// One line of a heredoc, or its closing tag.
    fn heredoc(&mut self) {
        let Some(Frame::Heredoc { tag, forced_end, .. }) = self.frames.last().cloned() else { return };
        if self.at_line_start() {
            let line = &self.text[self.position..self.line_end(self.position)];
            if line.trim() == &self.text[tag] || forced_end == Some(self.position) {
                let blanks = line.len() - line.trim_start().len();
                let end = match forced_end {
                    None => self.position + line.trim_end().len(),
                    Some(_) => self.position + blanks + self.tag_length(),
                };
                self.push(TokenKind::HeredocClose, end);
                self.frames.pop();
                return;
            }
        }
        self.lines(forced_end.unwrap_or(self.text.len()));
    }

    fn tag_length(&self) -> usize {
        match self.frames.last() {
            Some(Frame::Heredoc { tag, .. }) => tag.len(),
            _ => 0,
        }
    }

    /// Whether the last token ends a line, so that a heredoc's tag may follow.
    fn at_line_start(&self) -> bool {
        self.out.tokens.last().is_some_and(|token| {
            matches!(token.kind, TokenKind::HeredocOpen | TokenKind::Literal) && self.text[..token.end].ends_with('\n')
        })
    }

    /// Text outside of quotes: one token a line, which is what `~` takes blanks from.
    fn lines(&mut self, limit: usize) {
        let bytes = self.text.as_bytes();
        let mut end = self.position;
        while end < limit {
            let rest = &bytes[end..];
            match bytes[end] {
                b'\n' => {
                    end += 1;
                    break;
                }
                b'$' | b'%' if rest.starts_with(b"$${") || rest.starts_with(b"%%{") => end += 3,
                b'$' | b'%' if rest.starts_with(b"${") || rest.starts_with(b"%{") => break,
                _ => end += 1,
            }
        }
        if end > self.position {
            self.push(TokenKind::Literal, end);
        } else if end < limit {
            self.sequence();
        } else {
            // A forced end in the middle of nothing: leave the frame.
            self.push(TokenKind::HeredocClose, end);
            self.frames.pop();
        }
    }

    /// `${` or `%{`, with or without `~`.
    fn sequence(&mut self) {
        let at = self.position;
        let kind = if self.rest().starts_with('$') { TokenKind::InterpolationOpen } else { TokenKind::DirectiveOpen };
        let length = if self.rest()[2..].starts_with('~') { 3 } else { 2 };
        self.push(kind, at + length);
        self.frames.push(Frame::Sequence { at });
    }

    /// One token of code.
    fn code(&mut self) {
        let rest = self.rest();
        let Some(first) = rest.chars().next() else { return };
        match first {
            ' ' | '\t' => self.position += 1,
            '\n' => self.newline(1),
            '\r' if rest.starts_with("\r\n") => self.newline(2),
            '#' => self.push(TokenKind::Comment, self.line_end(self.position)),
            '/' if rest.starts_with("//") => self.push(TokenKind::Comment, self.line_end(self.position)),
            '/' if rest.starts_with("/*") => self.block_comment(),
            '"' => {
                self.frames.push(Frame::Quote { at: self.position });
                self.push(TokenKind::QuoteOpen, self.position + 1);
            }
            '<' if rest.starts_with("<<") => self.heredoc_open(),
            '0'..='9' => self.number(),
            first if begins_name(first) => {
                let length = rest.find(|character| !continues_name(character)).unwrap_or(rest.len());
                self.push(TokenKind::Identifier, self.position + length);
            }
            _ => self.punctuation(first),
        }
    }

    fn newline(&mut self, length: usize) {
        self.push(TokenKind::Newline, self.position + length);
        self.close_sequence_before_heredoc_tag();
    }

    fn block_comment(&mut self) {
        // Behind the opening: `/*/` does not close itself.
        if let Some(length) = self.rest()[2..].find("*/") {
            return self.push(TokenKind::Comment, self.position + length + 4);
        }
        let opening = self.position..self.position + 2;
        let diagnostic = Diagnostic::error("unclosed-comment", self.span(opening), "this comment is not closed")
            .label("opens here")
            .help("close it with `*/`");
        self.report(diagnostic, self.position..self.text.len());
        self.push(TokenKind::Comment, self.text.len());
    }

    /// Digits, points and exponents up to the last digit, as in other readers of HCL: `1.5.0` is one bad number, not a
    /// number with an index.
    fn number(&mut self) {
        let bytes = self.text.as_bytes();
        let mut end = self.position;
        let mut next = end;
        while let Some(byte) = bytes.get(next) {
            next += 1;
            match byte {
                b'0'..=b'9' => end = next,
                b'.' => {}
                b'e' | b'E' => {
                    next += usize::from(matches!(bytes.get(next), Some(b'+' | b'-')));
                    if !bytes.get(next).is_some_and(u8::is_ascii_digit) {
                        break;
                    }
                }
                _ => break,
            }
        }
        self.push(TokenKind::Number, end);
    }

    fn heredoc_open(&mut self) {
        let at = self.position;
        let rest = self.rest();
        let dash = usize::from(rest[2..].starts_with('-'));
        let tag_start = 2 + dash;
        let tag_length =
            rest[tag_start..].find(|character| !continues_name(character)).unwrap_or(rest.len() - tag_start);
        let tag = at + tag_start..at + tag_start + tag_length;
        let line_end = self.line_end(at);
        let begins = self.text[tag.clone()].starts_with(begins_name);
        if !begins || !self.text[tag.end..line_end].trim().is_empty() {
            return self.bad_heredoc_tag(tag, line_end);
        }
        let body = self.text[line_end..].find('\n').map_or(self.text.len(), |length| line_end + length + 1);
        let closed = self.last_line_of(&self.text[tag.clone()]).is_some_and(|line| body <= line);
        let forced_end = if closed { None } else { Some(self.unclosed_heredoc(at, &tag, body)) };
        self.push(TokenKind::HeredocOpen, body);
        self.frames.push(Frame::Heredoc { at, tag, forced_end });
    }

    /// Where the last line starts that holds a word alone.
    fn last_line_of(&mut self, word: &str) -> Option<usize> {
        let words = self.words.get_or_insert_with(|| {
            let mut start = 0;
            let mut words = HashMap::new();
            for line in self.text.split_inclusive('\n') {
                let word = line.trim();
                // Names begin so; this is cheaper than to look at all of a line.
                if word.starts_with(begins_name) && !word.contains([' ', '"']) {
                    words.insert(word, start);
                }
                start += line.len();
            }
            words
        });
        words.get(word).copied()
    }

    /// Operators and brackets.
    fn punctuation(&mut self, first: char) {
        let rest = self.rest();
        let at = self.position;
        if rest.starts_with("~}") && matches!(self.frames.last(), Some(Frame::Sequence { .. })) {
            self.frames.pop();
            return self.push(TokenKind::TemplateClose, at + 2);
        }
        match first {
            '{' => self.open(TokenKind::BraceOpen, Frame::Brace { at }),
            '[' => self.open(TokenKind::BracketOpen, Frame::Bracket { at }),
            '(' => self.open(TokenKind::ParenthesisOpen, Frame::Parenthesis { at }),
            '}' | ']' | ')' => self.close(first),
            _ => match operator(rest) {
                Some((TokenKind::Assign, _)) => {
                    self.close_before_assignment();
                    self.push(TokenKind::Assign, at + 1);
                }
                Some((kind, length)) => self.push(kind, at + length),
                None => self.strange(first),
            },
        }
    }

    fn open(&mut self, kind: TokenKind, frame: Frame) {
        self.frames.push(frame);
        self.push(kind, self.position + 1);
    }
}

/// The operator at the head of a text and its length.
fn operator(text: &str) -> Option<(TokenKind, usize)> {
    use TokenKind::{
        And, Arrow, Assign, Bang, Colon, Comma, Dot, Ellipsis, Equal, Greater, GreaterOrEqual, Less, LessOrEqual,
        Minus, NotEqual, Or, Percent, Plus, Question, Slash, Star,
    };
    // Longer ones first.
    const OPERATORS: [(&str, TokenKind); 21] = [
        ("...", Ellipsis),
        ("=>", Arrow),
        ("==", Equal),
        ("!=", NotEqual),
        ("<=", LessOrEqual),
        (">=", GreaterOrEqual),
        ("&&", And),
        ("||", Or),
        ("=", Assign),
        ("<", Less),
        (">", Greater),
        ("+", Plus),
        ("-", Minus),
        ("*", Star),
        ("/", Slash),
        ("%", Percent),
        ("!", Bang),
        (",", Comma),
        (".", Dot),
        (":", Colon),
        ("?", Question),
    ];
    OPERATORS.iter().find(|(spelling, _)| text.starts_with(spelling)).map(|(spelling, kind)| (*kind, spelling.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spelt(lexed: &Lexed, text: &str) -> Vec<String> {
        lexed.tokens.iter().map(|token| format!("{:?} {}", token.kind, &text[token.range()])).collect()
    }

    #[test]
    fn a_heredoc_is_cut_into_lines_and_a_quoted_text_is_not() {
        let text = "a = <<-EOT\n x\n ${b}\n  EOT\n\"c\\n${~ d ~}\" # e\n";
        let lexed = lex(SourceId(0), text);
        assert!(lexed.diagnostics.is_empty());
        let expected = [
            "Identifier a",
            "Assign =",
            "HeredocOpen <<-EOT\n",
            "Literal  x\n",
            "Literal  ",
            "InterpolationOpen ${",
            "Identifier b",
            "TemplateClose }",
            "Literal \n",
            "HeredocClose   EOT",
            "Newline \n",
            "QuoteOpen \"",
            "Literal c\\n",
            "InterpolationOpen ${~",
            "Identifier d",
            "TemplateClose ~}",
            "QuoteClose \"",
            "Comment # e",
            "Newline \n",
            "End ",
        ];
        assert_eq!(spelt(&lexed, text), expected);
    }

    #[test]
    fn numbers_names_and_operators_take_the_longest_spelling() {
        let text = "1.5e-3 1.x a-b_c9 >= => == = ... . ?: && || != !";
        let kinds: Vec<TokenKind> = lex(SourceId(0), text).tokens.iter().map(|token| token.kind).collect();
        use TokenKind::{
            And, Arrow, Assign, Bang, Colon, Dot, Ellipsis, End, Equal, GreaterOrEqual, Identifier, NotEqual, Number,
            Or, Question,
        };
        let expected = [
            Number,
            Number,
            Dot,
            Identifier,
            Identifier,
            GreaterOrEqual,
            Arrow,
            Equal,
            Assign,
            Ellipsis,
            Dot,
            Question,
            Colon,
            And,
            Or,
            NotEqual,
            Bang,
            End,
        ];
        assert_eq!(kinds, expected);
    }

    #[test]
    fn a_block_comment_does_not_close_itself() {
        assert_eq!(spelt(&lex(SourceId(0), "/*/ a */ b"), "/*/ a */ b"), ["Comment /*/ a */", "Identifier b", "End "]);
    }

    #[test]
    fn what_is_not_closed_is_closed_by_empty_tokens() {
        for text in ["a = [1, (2\nb = 3\n", "a {\n b = \"x${f(\"\n}\n", "a = <<X\n${b", "a = {[(\"${%", "${", "\"\\"] {
            let lexed = lex(SourceId(0), text);
            assert!(!lexed.diagnostics.is_empty(), "{text:?}");
            let mut depth = 0_i32;
            for token in &lexed.tokens {
                depth += i32::from(token.kind.opens()) - i32::from(token.kind.closes());
                assert!(depth >= 0, "{text:?}");
            }
            assert_eq!(depth, 0, "{text:?}: {:?}", spelt(&lexed, text));
        }
    }

    #[test]
    fn tokens_cover_all_but_blanks() {
        let text = "\u{feff}a \"b\" {\r\n  c = <<E\r\n $${x} %{if d}y%{endif}\r\nE\r\n  # z\r\n}\r\n";
        let mut end = '\u{feff}'.len_utf8();
        for token in lex(SourceId(0), text).tokens {
            assert!(text[end..token.start].chars().all(|character| character == ' '), "{token:?}");
            end = token.end;
        }
        assert_eq!(end, text.len());
    }
}
