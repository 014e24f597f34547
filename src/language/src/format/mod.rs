//! The usual layout of HCL2 texts, the same that `packer fmt` gives, byte for byte. (Of release 1.6.6, but for `!x`, which
//! it writes `! x`.)
//!
//! Only blanks between tokens change: lines are neither added nor removed, and what stands in texts, heredocs and
//! comments stays. Four things are done, in this order:
//!
//! 1. a blank between two tokens of a line, or none (`spacing`);
//! 2. the indentation, two blanks for each line with unclosed brackets above;
//! 3. `=` below `=` in neighbouring lines;
//! 4. comments behind code below each other in neighbouring lines.

mod spacing;
#[cfg(test)]
mod tests;

use kiln_core::SourceId;
use unicode_segmentation::UnicodeSegmentation;

use crate::syntax::lexer::{self, Token, TokenKind};

/// Blanks for one level of indentation.
const INDENT: usize = 2;

/// Brings a text into the usual layout.
///
/// A text that cannot be cut into tokens (an unclosed quote, a stray bracket) comes back as it is: what is meant there is
/// guesswork. Other mistakes do no harm.
///
/// ```
/// let text = "source \"docker\"   \"base\" {\nimage=\"debian\"\n  commit   = true\n}\n";
/// let formatted = "source \"docker\" \"base\" {\n  image  = \"debian\"\n  commit = true\n}\n";
/// assert_eq!(kiln_language::format::format(text), formatted);
/// assert_eq!(kiln_language::format::format(formatted), formatted);
/// ```
pub fn format(text: &str) -> String {
    let lexed = lexer::lex(SourceId(0), text);
    if !lexed.diagnostics.is_empty() {
        return text.to_owned();
    }
    let mut layout = Layout::new(text, lexed.tokens);
    layout.space();
    layout.indent();
    layout.align_values();
    layout.align_comments();
    layout.print()
}

/// Tokens of one line, by index: `start..assign` is its head, `assign..comment` what is assigned, `comment..end` a comment
/// behind code. The parts may be empty. The line's end belongs to none of them.
#[derive(Debug, Clone, Copy)]
struct Line {
    start: usize,
    assign: usize,
    comment: usize,
    end: usize,
}

struct Layout<'a> {
    text: &'a str,
    tokens: Vec<Token>,
    /// Blanks before each token.
    blanks: Vec<usize>,
    lines: Vec<Line>,
}

impl<'a> Layout<'a> {
    fn new(text: &'a str, tokens: Vec<Token>) -> Layout<'a> {
        let mut lines = Vec::new();
        let mut start = 0;
        for (index, token) in tokens.iter().enumerate() {
            if matches!(token.kind, TokenKind::Newline | TokenKind::End) {
                lines.push(Line::new(text, &tokens, start, index));
                start = index + 1;
            }
        }
        Layout { text, blanks: vec![0; tokens.len()], tokens, lines }
    }

    /// One blank or none between the tokens of a line.
    fn space(&mut self) {
        for line in &self.lines {
            for index in line.start + 1..line.end {
                let before = (index >= line.start + 2).then(|| self.tokens[index - 2]);
                let is_apart = spacing::is_apart(self.text, before, self.tokens[index - 1], self.tokens[index]);
                self.blanks[index] = usize::from(is_apart);
            }
        }
    }

    /// Two blanks for each line above that left brackets open. However many it opened, it counts once, until as many are
    /// closed again.
    fn indent(&mut self) {
        let mut open: Vec<usize> = Vec::new();
        for line in &self.lines {
            let (mut opened, mut closed) = (0, 0);
            let line_tokens = &self.tokens[line.start..line.end];
            for token in line_tokens.iter().take_while(|token| token.kind != TokenKind::HeredocOpen) {
                match bracket(token.kind) {
                    1 => opened += 1,
                    -1 => closed += 1,
                    _ => {}
                }
            }
            let mut closing: usize = closed - closed.min(opened);
            while closing > 0
                && let Some(top) = open.last_mut()
            {
                let matched = closing.min(*top);
                closing -= matched;
                *top -= matched;
                if *top == 0 {
                    open.pop();
                }
            }
            if line.start < line.end {
                self.blanks[line.start] = INDENT * open.len();
            }
            if opened > closed {
                open.push(opened - closed);
            }
        }
    }

    /// `=` below `=` in each run of lines that assign.
    fn align_values(&mut self) {
        self.align(|line| (line.assign < line.comment).then_some((line.start, line.assign)));
    }

    /// Comments behind code below each other in each run of lines that have one.
    fn align_comments(&mut self) {
        self.align(|line| (line.start < line.comment && line.comment < line.end).then_some((line.start, line.comment)));
    }

    /// Moves a token of each line of a run one blank behind the widest text before it. `part` gives the first token of
    /// that text and the one to move.
    fn align(&mut self, part: impl Fn(&Line) -> Option<(usize, usize)>) {
        let mut first = 0;
        while first < self.lines.len() {
            let run: Vec<(usize, usize)> = self.lines[first..].iter().map_while(&part).collect();
            let widths: Vec<usize> = run.iter().map(|(start, end)| self.width(*start, *end)).collect();
            let widest = widths.iter().copied().max().unwrap_or(0);
            for ((_, moved), width) in run.iter().zip(&widths) {
                self.blanks[*moved] = widest - width + 1;
            }
            first += run.len() + 1;
        }
    }

    /// Columns of the tokens `start..end` with the blanks before each.
    fn width(&self, start: usize, end: usize) -> usize {
        (start..end).map(|index| self.blanks[index] + columns(&self.text[self.tokens[index].range()])).sum()
    }

    fn print(mut self) -> String {
        let mut out = String::with_capacity(self.text.len() + self.text.len() / 8);
        let mut end = 0;
        for (index, token) in self.tokens.iter().enumerate() {
            let range = match token.kind {
                // Packer keeps blanks behind a heredoc's closing tag, and counts those at the text's end.
                TokenKind::HeredocClose => token.start..self.tokens[index + 1].start,
                TokenKind::End => {
                    self.blanks[index] = token.start - end;
                    token.range()
                }
                _ => token.range(),
            };
            push_blanks(&mut out, self.blanks[index]);
            end = range.end;
            out.push_str(&self.text[range]);
        }
        out
    }
}

impl Line {
    fn new(text: &str, tokens: &[Token], start: usize, end: usize) -> Line {
        let line = &tokens[start..end];
        let comment = match line.last() {
            // On the last line, if nothing ends it, Packer takes a block comment for one as well.
            Some(last)
                if line.len() > 1
                    && last.kind == TokenKind::Comment
                    && (is_line_comment(text, *last) || tokens[end].kind == TokenKind::End) =>
            {
                end - 1
            }
            _ => end,
        };
        let assign = tokens[start..comment]
            .iter()
            .position(|token| token.kind == TokenKind::Assign)
            .filter(|index| *index > 0)
            .map(|index| start + index)
            .filter(|index| tokens[*index..comment].iter().map(|token| bracket(token.kind)).sum::<i32>() == 0)
            .unwrap_or(comment);
        Line { start, assign, comment, end }
    }
}

/// Whether it is a comment up to the line's end.
fn is_line_comment(text: &str, token: Token) -> bool {
    token.kind == TokenKind::Comment && !text[token.range()].starts_with("/*")
}

/// 1 for what opens a bracket, -1 for what closes one.
fn bracket(kind: TokenKind) -> i32 {
    use TokenKind::{
        BraceClose, BraceOpen, BracketClose, BracketOpen, DirectiveOpen, InterpolationOpen, ParenthesisClose,
        ParenthesisOpen, TemplateClose,
    };
    match kind {
        BraceOpen | BracketOpen | ParenthesisOpen | InterpolationOpen | DirectiveOpen => 1,
        BraceClose | BracketClose | ParenthesisClose | TemplateClose => -1,
        _ => 0,
    }
}

fn push_blanks(out: &mut String, count: usize) {
    const BLANKS: &str = "                                ";
    match BLANKS.get(..count) {
        Some(blanks) => out.push_str(blanks),
        None => out.extend(std::iter::repeat_n(' ', count)),
    }
}

/// How many characters people see.
fn columns(text: &str) -> usize {
    // A line's end of two bytes, inside a comment, is one character.
    if text.is_ascii() && !text.contains('\r') { text.len() } else { text.graphemes(true).count() }
}
