//! What the lexer does about brackets, quotes and heredocs that are not closed, and characters that do not belong.

use std::ops::Range;

use kiln_core::Diagnostic;

use super::{Frame, Lexer, Token, TokenKind};

/// How far out is looked for what a mistake may belong to: the parser takes fewer levels, and who leaves thousands open must
/// not wait.
const REACH: usize = 256;

impl Lexer<'_> {
    /// A closing bracket: closes what it fits; what stands open inside is reported.
    pub(super) fn close(&mut self, closer: char) {
        let at = self.position;
        let fits = |frame: &Frame| {
            matches!(
                (closer, frame),
                ('}', Frame::Brace { .. } | Frame::Sequence { .. })
                    | (']', Frame::Bracket { .. })
                    | (')', Frame::Parenthesis { .. })
            )
        };
        // Closers reach over brackets only; a quote, a heredoc or a sequence of which they are inside holds them.
        let mut depth = self.frames.len();
        let farthest = depth.saturating_sub(REACH);
        while depth > 0 && !fits(&self.frames[depth - 1]) {
            match self.frames[depth - 1] {
                Frame::Bracket { .. } | Frame::Parenthesis { .. } if depth > farthest => depth -= 1,
                _ => depth = 0,
            }
        }
        if depth == 0 {
            return self.stray_closer(closer);
        }
        if self.frames.len() > depth {
            let opening = self.frames[self.frames.len() - 1].at();
            let diagnostic = self.unclosed(opening).also(self.span(at..at + 1), "found this instead");
            self.report(diagnostic, opening..at + 1);
            self.close_frames(depth, at);
        }
        match self.frames.pop() {
            Some(Frame::Sequence { .. }) => self.push(TokenKind::TemplateClose, at + 1),
            Some(Frame::Brace { at: opening }) => {
                self.braces.push((opening, at));
                self.push(TokenKind::BraceClose, at + 1);
            }
            Some(frame) => self.push(frame.closer(), at + 1),
            None => {}
        }
    }

    fn stray_closer(&mut self, closer: char) {
        let at = self.position;
        let span = self.span(at..at + 1);
        let mut diagnostic = Diagnostic::error("stray-bracket", span, format!("this `{closer}` closes nothing")).fix(
            span,
            "",
            "remove it",
        );
        if closer == '}'
            && let Some(pair) = self.misindented_brace()
        {
            diagnostic = diagnostic.also(self.span(pair.1..pair.1 + 1), "perhaps this one closes too early");
        }
        self.report(diagnostic, at..self.line_end(at));
        self.position = at + 1;
    }

    /// The first closed pair of braces whose closing one stands at the head of a line that is indented less than the
    /// opening one's: its own closing brace is likely to be the missing one.
    fn misindented_brace(&mut self) -> Option<(usize, usize)> {
        let disagrees = |(open, close): &(usize, usize)| {
            let line_start = self.line_start(*close);
            self.text[line_start..*close].trim().is_empty() && self.indentation(*open) > self.indentation(*close)
        };
        // Thousands of stray braces must not look at thousands of pairs each.
        let agreeing = self.braces[self.agreeing..].iter().take_while(|pair| !disagrees(pair)).count();
        self.agreeing += agreeing;
        self.braces.get(self.agreeing).copied()
    }

    fn line_start(&self, offset: usize) -> usize {
        self.text[..offset].rfind('\n').map_or(0, |newline| newline + 1)
    }

    fn indentation(&self, offset: usize) -> usize {
        let line = &self.text[self.line_start(offset)..];
        line.chars().take_while(|character| matches!(character, ' ' | '\t')).count()
    }

    /// "this `[` is not closed" at an opening.
    fn unclosed(&self, opening: usize) -> Diagnostic {
        let text = &self.text[opening..];
        let (length, closer, what) = match text.as_bytes() {
            [b'{', ..] => (1, "}", "brace"),
            [b'[', ..] => (1, "]", "bracket"),
            [b'(', ..] => (1, ")", "parenthesis"),
            [b'$', ..] => (2, "}", "interpolation"),
            [b'%', ..] => (2, "}", "directive"),
            _ => (1, "\"", "quote"),
        };
        let code = match what {
            "interpolation" | "directive" => "unclosed-interpolation",
            "quote" => "unclosed-quote",
            _ => "unclosed-bracket",
        };
        let opener = &text[..length];
        let title = match what {
            "quote" => "this quote is not closed on its line".to_owned(),
            _ => format!("this `{opener}` is not closed"),
        };
        let diagnostic = Diagnostic::error(code, self.span(opening..opening + length), title);
        match what {
            "quote" => diagnostic
                .label("opens here")
                .help("close it with `\"`; for a text of several lines use a heredoc (`<<-EOF`) or `\\n`"),
            "interpolation" => diagnostic
                .label("opens here")
                .help("close it with `}`; to write a literal `${` double the dollar: `$${`"),
            "directive" => diagnostic
                .label("opens here")
                .help("close it with `}`; to write a literal `%{` double the percent sign: `%%{`"),
            _ => diagnostic.label("opens here").help(format!("close it with `{closer}`")),
        }
    }

    /// Closes all frames above `depth` by empty tokens at `at`.
    fn close_frames(&mut self, depth: usize, at: usize) {
        while self.frames.len() > depth {
            if let Some(frame) = self.frames.pop() {
                self.out.tokens.push(Token { kind: frame.closer(), start: at, end: at });
            }
        }
    }

    /// A line ends inside quotes.
    pub(super) fn unclosed_quote(&mut self) {
        let at = self.position;
        let Some(Frame::Quote { at: opening }) = self.frames.last().cloned() else { return };
        // `"${name"`: the closing quote was taken for an opening one, nothing but closers follows it.
        let enclosing = self.frames.len().checked_sub(2).map(|index| self.frames[index].clone());
        let only_closers = self.text[opening + 1..at].chars().all(|character| " )],}".contains(character));
        if let Some(depth) = self.outer_quote()
            && only_closers
            && !matches!(enclosing, Some(Frame::Quote { .. }))
        {
            let sequence = self.frames[depth + 1].at();
            let diagnostic = self.unclosed(sequence);
            self.report(diagnostic, self.frames[depth].at()..at);
            return self.close_frames(depth, at);
        }
        let depth = self.outer_quote().unwrap_or(self.frames.len() - 1);
        let diagnostic = self.unclosed(opening);
        self.report(diagnostic, opening..at);
        self.close_frames(depth, at);
    }

    /// The index of the outermost quote that was opened on the current line and holds a sequence that is still open.
    fn outer_quote(&self) -> Option<usize> {
        let line = self.line_start(self.position);
        let last = self.frames.len() - 1;
        let on_line = (0..last).rev().take_while(|&index| self.frames[index].at() >= line);
        on_line.filter(|&index| matches!(self.frames[index], Frame::Quote { .. })).last()
    }

    /// `name =` on a new line cannot stand inside `[`, `(` or a sequence: what is open there was meant to be closed.
    pub(super) fn close_before_assignment(&mut self) {
        if !matches!(
            self.frames.last(),
            Some(Frame::Bracket { .. } | Frame::Parenthesis { .. } | Frame::Sequence { .. })
        ) {
            return;
        }
        let mut head = self.out.tokens.len();
        match self.out.tokens.last() {
            Some(Token { kind: TokenKind::Identifier, .. }) => head -= 1,
            _ => return,
        }
        if head == 0 || self.out.tokens[head - 1].kind != TokenKind::Newline {
            return;
        }
        let is_brace = |frame: &Frame| matches!(frame, Frame::Brace { .. });
        let depth = match self.nearest(is_brace) {
            Some(top) => top + 1,
            None if self.frames.len() > REACH => return,
            None => 0,
        };
        if self.frames[depth..].iter().any(|frame| matches!(frame, Frame::Heredoc { .. } | Frame::File)) {
            return;
        }
        while head > 0 && matches!(self.out.tokens[head - 1].kind, TokenKind::Newline | TokenKind::Comment) {
            head -= 1;
        }
        let tail = self.out.tokens.split_off(head);
        let end = self.out.tokens.last().map_or(0, |token| token.end);
        let sequence = self.frames[depth..].iter().find(|frame| matches!(frame, Frame::Sequence { .. }));
        let blamed = sequence.or(self.frames.last()).map_or(0, Frame::at);
        let diagnostic = self.unclosed(blamed);
        let from = self.frames[depth].at();
        self.report(diagnostic, from..end.max(from + 1));
        self.close_frames(depth, end);
        self.out.tokens.extend(tail);
    }

    /// The index of the innermost frame of a kind, if it is near.
    fn nearest(&self, is_wanted: impl Fn(&Frame) -> bool) -> Option<usize> {
        let farthest = self.frames.len().saturating_sub(REACH);
        self.frames[farthest..].iter().rposition(is_wanted).map(|index| farthest + index)
    }

    /// `${name` in a heredoc whose closing tag is on the next line.
    pub(super) fn close_sequence_before_heredoc_tag(&mut self) {
        let line = &self.text[self.position..self.line_end(self.position)];
        // Few lines are one word, and much may be open.
        if line.is_empty() || !line.trim().chars().all(super::continues_name) {
            return;
        }
        let Some(depth) = self.nearest(|frame| matches!(frame, Frame::Heredoc { .. })) else { return };
        if depth + 1 == self.frames.len() {
            return;
        }
        let Frame::Heredoc { tag, .. } = &self.frames[depth] else { return };
        if line.trim() != &self.text[tag.clone()] {
            return;
        }
        let opening = self.frames[depth + 1].at();
        let diagnostic = self.unclosed(opening);
        self.report(diagnostic, opening..self.position);
        let at = self.position;
        self.close_frames(depth + 1, at);
        let end = at + line.trim_end().len();
        self.push(TokenKind::HeredocClose, end);
        self.frames.pop();
    }

    /// No line closes the heredoc. Tells it and returns where its text is cut: at the line that looks most like a
    /// closing one, or else behind the opening line.
    pub(super) fn unclosed_heredoc(&mut self, at: usize, tag: &Range<usize>, body: usize) -> usize {
        let word = &self.text[tag.clone()];
        let opening = self.span(at..tag.end);
        let mut diagnostic =
            Diagnostic::error("unclosed-heredoc", opening, "this heredoc is not closed").label("opens here");
        let mut start = body;
        for line in self.text[body..].split_inclusive('\n') {
            let trimmed = line.trim_start();
            let blanks = line.len() - trimmed.len();
            if trimmed.starts_with(word) && !trimmed[word.len()..].starts_with(super::continues_name) {
                let after = start + blanks + word.len();
                diagnostic = diagnostic
                    .also(self.span(start + blanks..after), "this is not its end: something follows on the line")
                    .help(format!("`{word}` must stand alone on its line; move what follows to the next one"));
                self.report(diagnostic, at..self.line_end(after));
                return start;
            }
            start += line.len();
        }
        diagnostic = diagnostic.help(format!("close it by a line that holds `{word}` alone"));
        self.report(diagnostic, at..self.text.len());
        self.text.len()
    }

    pub(super) fn bad_heredoc_tag(&mut self, tag: Range<usize>, line_end: usize) {
        let at = self.position;
        let diagnostic = if tag.is_empty() {
            Diagnostic::error("heredoc-tag", self.span(at..tag.end), "a heredoc needs a tag behind `<<`")
                .help("write `<<EOF`, without quotes, and end the text by a line that holds `EOF` alone")
        } else {
            Diagnostic::error(
                "heredoc-tag",
                self.span(tag.end..line_end),
                "nothing may follow a heredoc's tag on its line",
            )
            .help("the text begins on the next line")
        };
        self.report(diagnostic, at..self.text.len());
        self.position = line_end;
    }

    /// A character that begins no token.
    pub(super) fn strange(&mut self, first: char) {
        let at = self.position;
        let line_end = self.line_end(at);
        let length = first.len_utf8();
        let span = self.span(at..at + length);
        if matches!(first, '\'' | '`' | '“' | '”' | '‘' | '’') && self.wrong_quotes(first, line_end) {
            return;
        }
        let error = |title: String| Diagnostic::error("unexpected-character", span, title);
        let diagnostic = match first {
            ';' => error("`;` does not belong here".to_owned()).help("arguments are separated by line ends"),
            '&' => error("there is no operator `&`".to_owned()).fix(span, "&&", "did you mean \"and\"?"),
            '|' => error("there is no operator `|`".to_owned()).fix(span, "||", "did you mean \"or\"?"),
            '$' if self.rest().starts_with("${") => error("`${` belongs inside quotes".to_owned())
                .help("write the expression without `${` and `}`, or put quotes around all of it"),
            '\'' => error("texts are quoted with `\"`, not with `'`".to_owned()),
            '\\' => error("a line cannot be continued with `\\`".to_owned())
                .help("put parentheses around an expression of several lines"),
            _ if first.is_whitespace() => {
                error(format!("unexpected blank U+{:04X}", u32::from(first))).fix(span, " ", "write an ordinary space")
            }
            _ if first.is_control() => error(format!("unexpected character U+{:04X}", u32::from(first))),
            _ => error(format!("unexpected character `{first}`")),
        };
        self.report(diagnostic, at..line_end);
        self.position = at + length;
        if first.is_whitespace() {
            self.out.poisoned.pop();
        }
    }

    /// `'text'` and its like: reported, and read as a quoted text. False where no closing one is on the line.
    fn wrong_quotes(&mut self, first: char, line_end: usize) -> bool {
        let at = self.position;
        let inside = at + first.len_utf8();
        let closer = match first {
            '“' => '”',
            '‘' => '’',
            other => other,
        };
        let Some(length) = self.text[inside..line_end].find(closer) else { return false };
        let close = inside + length;
        let end = close + closer.len_utf8();
        let content = &self.text[inside..close];
        let span = self.span(at..end);
        let diagnostic = Diagnostic::error(
            "wrong-quotes",
            span,
            format!("texts are quoted with `\"`, not with `{first}`"),
        )
        .fix(span, format!("\"{}\"", content.replace('"', "\\\"")), "use double quotes");
        self.report(diagnostic, at..end);
        self.push(TokenKind::QuoteOpen, inside);
        if close > inside {
            self.push(TokenKind::Literal, close);
        }
        self.push(TokenKind::QuoteClose, end);
        true
    }

    /// At the end of the text: reports what is still open, once, and closes everything.
    pub(super) fn finish(&mut self) {
        let at = self.text.len();
        // A quote or heredoc that the text's end cuts.
        if let Some(Frame::Quote { .. }) = self.frames.last() {
            self.unclosed_quote();
        }
        if let Some(Frame::Heredoc { tag, forced_end, at: opening }) = self.frames.last().cloned() {
            if forced_end.is_none() && !self.text[tag.clone()].is_empty() && self.at_line_start() {
                // Only an unclosed inner construct can leave a closed heredoc open.
                let diagnostic =
                    Diagnostic::error("unclosed-heredoc", self.span(opening..tag.end), "this heredoc is not closed");
                self.report(diagnostic, opening..at);
            }
            self.frames.pop();
            self.out.tokens.push(Token { kind: TokenKind::HeredocClose, start: at, end: at });
        }
        let keep = usize::from(matches!(self.frames.first(), Some(Frame::File)));
        if self.frames.len() > keep {
            let all_braces = self.frames.iter().all(|frame| matches!(frame, Frame::Brace { .. }));
            let guess = if all_braces { self.misindented_brace() } else { None };
            let diagnostic = match guess {
                Some((open, close)) => self.unclosed(open).also(
                    self.span(close..close + 1),
                    "this brace would close it, but is indented like an outer one's",
                ),
                None => self.unclosed(self.blamed_at_end(keep)),
            };
            let start = diagnostic.primary.as_ref().map_or(0, |label| label.span.range().start);
            self.report(diagnostic, start..at + 1);
            self.close_frames(keep, at);
        }
        self.position = at;
    }

    /// A sequence before brackets (a template swallows everything), else the innermost opening.
    fn blamed_at_end(&self, keep: usize) -> usize {
        let open = &self.frames[keep..];
        let sequence = open.iter().find(|frame| matches!(frame, Frame::Sequence { .. }));
        sequence.or(open.last()).map_or(0, Frame::at)
    }
}
