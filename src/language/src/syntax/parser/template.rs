//! Quoted texts, heredocs and template files.

use kiln_core::{Diagnostic, Span};
use unicode_segmentation::UnicodeSegmentation;

use super::{Failed, Parsed, Parser, Token, TokenKind};
use crate::syntax::normalised;
use crate::syntax::tree::{Expression, ExpressionKind, Name, TemplatePart};

/// A template before directives are paired.
enum Piece {
    Literal { text: String, span: Span },
    Interpolation(Expression),
    If { condition: Expression, span: Span },
    Else(Span),
    EndIf(Span),
    For { key_name: Option<Name>, value_name: Name, collection: Expression, span: Span },
    EndFor(Span),
}

impl Parser<'_> {
    /// From the opening quote to the closing one.
    pub(super) fn quoted(&mut self) -> Parsed<Expression> {
        let open = self.next();
        let start = self.span(open.range());
        self.template(TokenKind::QuoteClose, false, start)
    }

    /// From `<<` to the closing tag.
    pub(super) fn heredoc(&mut self) -> Parsed<Expression> {
        let open = self.next();
        let is_indented = self.text_of(open).starts_with("<<-");
        let start = self.span(open.range());
        self.template(TokenKind::HeredocClose, is_indented, start)
    }

    /// Everything up to and with the closing token. `dedent` takes the common indentation away (`<<-`).
    pub(super) fn template(&mut self, end: TokenKind, dedent: bool, start: Span) -> Parsed<Expression> {
        let (mut pieces, height) = self.pieces(end)?;
        let close = self.token(self.position);
        self.position += 1;
        if dedent {
            remove_indentation(&mut pieces);
        }
        let span = start.to(self.span(close.range()));
        self.height = height + 1;
        if pieces.iter().all(|piece| matches!(piece, Piece::Literal { .. })) {
            let text: String = pieces
                .into_iter()
                .map(|piece| match piece {
                    Piece::Literal { text, .. } => text,
                    _ => String::new(),
                })
                .collect();
            return Ok(Expression { kind: ExpressionKind::String(normalised(&text)), span });
        }
        let mut pieces = pieces.into_iter();
        let (parts, stopped) = self.parts(&mut pieces)?;
        match stopped {
            None => Ok(Expression { kind: ExpressionKind::Template(parts), span }),
            Some(Piece::Else(place)) => Err(self.unpaired(place, "else", "if")),
            Some(Piece::EndIf(place)) => Err(self.unpaired(place, "endif", "if")),
            Some(Piece::EndFor(place)) => Err(self.unpaired(place, "endfor", "for")),
            Some(_) => Err(Failed),
        }
    }

    fn unpaired(&mut self, place: Span, word: &str, opener: &str) -> Failed {
        let diagnostic = Diagnostic::error("syntax", place, format!("`{word}` without `{opener}`")).help(format!(
            "begin with `%{{ {opener} ... }}`; to write a literal `%{{` double the percent sign: `%%{{`"
        ));
        self.fail(diagnostic)
    }

    fn pieces(&mut self, end: TokenKind) -> Parsed<(Vec<Piece>, usize)> {
        let mut pieces = Vec::new();
        let mut height = 0;
        let mut trim_next = false;
        loop {
            // Not `peek`: between pieces there are no blanks to skip.
            let token = self.token(self.position);
            let trim_start = std::mem::take(&mut trim_next);
            match token.kind {
                TokenKind::Literal => {
                    self.position += 1;
                    let is_quoted = end == TokenKind::QuoteClose;
                    let mut text = if is_quoted { self.unescape(token)? } else { undouble(self.text_of(token)) };
                    if trim_start {
                        text = text.trim_start().to_owned();
                    }
                    pieces.push(Piece::Literal { text, span: self.span(token.range()) });
                }
                TokenKind::InterpolationOpen | TokenKind::DirectiveOpen => {
                    self.position += 1;
                    if self.text_of(token).ends_with('~')
                        && let Some(Piece::Literal { text, .. }) = pieces.last_mut()
                    {
                        text.truncate(text.trim_end().len());
                    }
                    let (piece, close) = self.within(true, |parser| parser.sequence(token))?;
                    trim_next = self.text_of(close).starts_with('~');
                    pieces.push(piece);
                    height = height.max(self.height);
                }
                kind if kind == end => return Ok((pieces, height)),
                _ => {
                    let found = self.describe(token);
                    let diagnostic = self.error_at(token, format!("unexpected {found} in a text"));
                    return Err(self.fail(diagnostic));
                }
            }
        }
    }

    /// The inside of `${ }` or `%{ }` with its closing brace.
    fn sequence(&mut self, open: Token) -> Parsed<(Piece, Token)> {
        let piece = if open.kind == TokenKind::InterpolationOpen {
            if self.peek().kind == TokenKind::TemplateClose {
                let diagnostic = self
                    .error_at(open, "this interpolation is empty")
                    .help("write an expression between `${` and `}`; for a literal `${` write `$${`");
                return Err(self.fail(diagnostic));
            }
            Piece::Interpolation(self.expression()?)
        } else {
            self.directive(open)?
        };
        let next = self.peek();
        if next.kind != TokenKind::TemplateClose {
            return Err(self.sequence_goes_on(open, next));
        }
        let close = self.next();
        let whole = self.span(open.start..close.end);
        let piece = match piece {
            Piece::If { condition, .. } => Piece::If { condition, span: whole },
            Piece::Else(_) => Piece::Else(whole),
            Piece::EndIf(_) => Piece::EndIf(whole),
            Piece::EndFor(_) => Piece::EndFor(whole),
            Piece::For { key_name, value_name, collection, .. } => {
                Piece::For { key_name, value_name, collection, span: whole }
            }
            other => other,
        };
        Ok((piece, close))
    }

    fn sequence_goes_on(&mut self, open: Token, next: Token) -> Failed {
        let found = self.describe(next);
        let diagnostic = self
            .error_at(next, format!("expected `}}` behind the expression, found {found}"))
            .also(self.span(open.range()), "opened here");
        // `${VAR:-default}` and its like are shell.
        let is_shell = matches!(next.kind, TokenKind::Colon | TokenKind::Assign | TokenKind::Percent)
            && open.kind == TokenKind::InterpolationOpen;
        let diagnostic = if is_shell {
            let open = self.span(open.start..open.start + 1);
            diagnostic.fix(open, "$$", "to leave it to the shell, double the dollar")
        } else {
            diagnostic
        };
        self.fail(diagnostic)
    }

    fn directive(&mut self, open: Token) -> Parsed<Piece> {
        let token = self.peek();
        let span = self.span(token.range());
        self.height = 1;
        let word = if token.kind == TokenKind::Identifier { self.text_of(token) } else { "" };
        match word {
            "if" => {
                self.next();
                Ok(Piece::If { condition: self.expression()?, span })
            }
            "for" => {
                self.next();
                let (key_name, value_name, collection) = self.for_head()?;
                Ok(Piece::For { key_name, value_name, collection, span })
            }
            "else" => {
                self.next();
                Ok(Piece::Else(span))
            }
            "endif" => {
                self.next();
                Ok(Piece::EndIf(span))
            }
            "endfor" => {
                self.next();
                Ok(Piece::EndFor(span))
            }
            _ => {
                let found = self.describe(token);
                let percent = self.span(open.start..open.start + 1);
                let diagnostic = self
                    .error_at(token, format!("expected a directive behind `%{{`, found {found}"))
                    .note("directives are `if`, `else`, `endif`, `for` and `endfor`")
                    .fix(percent, "%%", "for a literal `%{` double the percent sign");
                Err(self.fail(diagnostic))
            }
        }
    }

    /// Pairs directives, up to the end or one that closes or divides an outer one.
    fn parts(&mut self, pieces: &mut std::vec::IntoIter<Piece>) -> Parsed<(Vec<TemplatePart>, Option<Piece>)> {
        let mut parts = Vec::new();
        while let Some(piece) = pieces.next() {
            match piece {
                Piece::Literal { text, span } => push_literal(&mut parts, &text, span),
                Piece::Interpolation(expression) => parts.push(TemplatePart::Interpolation(expression)),
                Piece::If { condition, span } => {
                    let part = self.deeper(|parser| parser.if_part(condition, span, pieces))?;
                    parts.push(part);
                }
                Piece::For { key_name, value_name, collection, span } => {
                    let (body, stopped) = self.deeper(|parser| parser.parts(pieces))?;
                    if !matches!(stopped, Some(Piece::EndFor(_))) {
                        return Err(self.unclosed_directive(span, "for", "endfor", stopped));
                    }
                    parts.push(TemplatePart::For { key_name, value_name, collection, body, span });
                }
                Piece::Else(_) | Piece::EndIf(_) | Piece::EndFor(_) => return Ok((parts, Some(piece))),
            }
        }
        Ok((parts, None))
    }

    fn if_part(
        &mut self,
        condition: Expression,
        span: Span,
        pieces: &mut std::vec::IntoIter<Piece>,
    ) -> Parsed<TemplatePart> {
        let (then, mut stopped) = self.parts(pieces)?;
        let mut otherwise = Vec::new();
        if let Some(Piece::Else(_)) = stopped {
            (otherwise, stopped) = self.parts(pieces)?;
        }
        match stopped {
            Some(Piece::EndIf(_)) => Ok(TemplatePart::If { condition, then, otherwise, span }),
            stopped => Err(self.unclosed_directive(span, "if", "endif", stopped)),
        }
    }

    fn unclosed_directive(&mut self, span: Span, word: &str, closer: &str, found: Option<Piece>) -> Failed {
        let mut diagnostic = Diagnostic::error("syntax", span, format!("this `{word}` has no `{closer}`"))
            .help(format!("close it with `%{{ {closer} }}`"));
        if let Some(Piece::Else(place) | Piece::EndIf(place) | Piece::EndFor(place)) = found {
            diagnostic = diagnostic.also(place, "found this instead");
        }
        self.fail(diagnostic)
    }

    /// Resolves the escapes of a quoted text.
    fn unescape(&mut self, token: Token) -> Parsed<String> {
        let text = self.text_of(token);
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            let offset = token.start + (text.len() - rest.len());
            if rest.starts_with("$${") || rest.starts_with("%%{") {
                out.push_str(&rest[1..3]);
                rest = &rest[3..];
                continue;
            }
            if first != '\\' {
                out.push(first);
                rest = &rest[first.len_utf8()..];
                continue;
            }
            let (character, length) = match escape(rest) {
                Ok(found) => found,
                Err(length) => return Err(self.bad_escape(offset, &rest[..length])),
            };
            out.push(character);
            rest = &rest[length..];
        }
        Ok(out)
    }

    fn bad_escape(&mut self, offset: usize, escape: &str) -> Failed {
        let span = self.span(offset..offset + escape.len());
        let error = Diagnostic::error("unknown-escape", span, format!("there is no escape `{escape}`"));
        let diagnostic = match escape.as_bytes() {
            [_, b'u' | b'U', ..] => {
                error.help("write `\\u` with four hexadecimal digits, `\\U` with eight, of a Unicode character")
            }
            [_, b'$' | b'%', ..] => error.help("to write a literal `${` double the dollar: `$${`"),
            _ => error
                .fix(span, format!("\\{escape}"), "for a backslash write two")
                .note("escapes are `\\n`, `\\r`, `\\t`, `\\\"`, `\\\\`, `\\uXXXX` and `\\UXXXXXXXX`"),
        };
        self.fail(diagnostic)
    }
}

/// The character of the escape at the head of a text and the escape's length; or the length of a wrong one.
fn escape(text: &str) -> Result<(char, usize), usize> {
    let Some(selector) = text[1..].chars().next() else { return Err(1) };
    let simple = match selector {
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        '"' => '"',
        '\\' => '\\',
        'u' | 'U' => {
            let wanted = if selector == 'u' { 4 } else { 8 };
            let digits: String = text[2..].chars().take(wanted).take_while(char::is_ascii_hexdigit).collect();
            let length = 2 + digits.len();
            let code = u32::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == wanted);
            return code.and_then(char::from_u32).map(|character| (character, length)).ok_or(length);
        }
        other => return Err(1 + other.len_utf8()),
    };
    Ok((simple, 2))
}

/// `$${` and `%%{` are all that is escaped outside of quotes.
fn undouble(text: &str) -> String {
    text.replace("$${", "${").replace("%%{", "%{")
}

/// Neighbouring literals become one.
fn push_literal(parts: &mut Vec<TemplatePart>, text: &str, span: Span) {
    let text = normalised(text);
    if let Some(TemplatePart::Literal(last, place)) = parts.last_mut() {
        last.push_str(&text);
        *place = place.to(span);
        return;
    }
    parts.push(TemplatePart::Literal(text, span));
}

/// Takes the indentation that all lines have in common from each. Lines of blanks alone do not count and keep theirs; a
/// line that begins with an interpolation or directive has none.
fn remove_indentation(pieces: &mut [Piece]) {
    let indentation = |text: &str| {
        let blanks = text.len() - text.trim_start().len();
        text[..blanks].graphemes(true).count()
    };
    let mut heads = Vec::new();
    let mut common = usize::MAX;
    let mut at_line_start = true;
    for (index, piece) in pieces.iter().enumerate() {
        let Piece::Literal { text, .. } = piece else {
            if std::mem::take(&mut at_line_start) {
                common = 0;
            }
            continue;
        };
        let is_blank_line = text.trim_start().is_empty() && text.ends_with('\n');
        if at_line_start && !is_blank_line {
            common = common.min(indentation(text));
            heads.push(index);
        }
        at_line_start = text.ends_with('\n');
    }
    for index in heads {
        if let Piece::Literal { text, .. } = &mut pieces[index] {
            let cut = text.grapheme_indices(true).nth(common).map_or(text.len(), |(offset, _)| offset);
            text.drain(..cut);
        }
    }
}
