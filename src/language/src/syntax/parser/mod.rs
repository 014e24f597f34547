//! Tokens to the tree, by recursive descent: the cursor and the bodies; expressions and templates have files of their
//! own. A mistake costs the item it is in; the next one is read again.

mod expression;
mod iteration;
mod poisoned;
mod template;

use std::collections::HashMap;
use std::ops::Range;

use kiln_core::{Diagnostic, Diagnostics, SourceId, Span};

use super::lexer::{Lexed, Token, TokenKind};
use super::tree::{Attribute, Block, Body, Expression, ExpressionKind, Item, Name};
use poisoned::Poisoned;

/// How deep brackets, operators and blocks may nest, and how high the tree of an expression may be: whoever walks the
/// tree by recursion relies on it.
pub(super) const MAXIMUM_DEPTH: usize = 100;

/// The mistake has been reported.
#[derive(Debug)]
pub(super) struct Failed;

type Parsed<T> = Result<T, Failed>;

pub(super) struct Parser<'a> {
    source: SourceId,
    text: &'a str,
    tokens: Vec<Token>,
    position: usize,
    /// Whether line ends are mere blanks, for each bracket around.
    newlines_are_blanks: Vec<bool>,
    depth: usize,
    /// The height of the expression read last.
    height: usize,
    poisoned: Poisoned,
    diagnostics: &'a mut Diagnostics,
}

impl<'a> Parser<'a> {
    pub(super) fn new(source: SourceId, text: &'a str, lexed: Lexed, diagnostics: &'a mut Diagnostics) -> Parser<'a> {
        diagnostics.extend(lexed.diagnostics);
        Parser {
            source,
            text,
            tokens: lexed.tokens,
            position: 0,
            newlines_are_blanks: Vec::new(),
            depth: 0,
            height: 0,
            poisoned: Poisoned::new(lexed.poisoned),
            diagnostics,
        }
    }

    /// A whole file.
    pub(super) fn file(mut self) -> Body {
        let items = self.items();
        Body { items, span: self.span(0..self.text.len()) }
    }

    /// One expression and nothing else.
    pub(super) fn single_expression(mut self) -> Option<Expression> {
        self.newlines_are_blanks.push(true);
        let expression = self.expression().ok()?;
        let next = self.peek();
        if next.kind != TokenKind::End {
            let found = self.describe(next);
            self.report(self.error_at(next, format!("the expression ends before {found}")));
            return None;
        }
        Some(expression)
    }

    /// The content of a template file.
    pub(super) fn template_file(mut self) -> Option<Expression> {
        let whole = self.span(0..self.text.len());
        self.template(TokenKind::End, false, whole).ok()
    }

    // The cursor.

    fn span(&self, range: Range<usize>) -> Span {
        Span::new(self.source, range)
    }

    fn text_of(&self, token: Token) -> &'a str {
        &self.text[token.range()]
    }

    fn token(&self, index: usize) -> Token {
        let end = Token { kind: TokenKind::End, start: self.text.len(), end: self.text.len() };
        self.tokens.get(index).copied().unwrap_or(end)
    }

    fn is_blank(&self, kind: TokenKind) -> bool {
        kind == TokenKind::Comment
            || (kind == TokenKind::Newline && self.newlines_are_blanks.last().copied().unwrap_or(false))
    }

    /// The next token that counts.
    fn peek(&mut self) -> Token {
        while self.is_blank(self.token(self.position).kind) {
            self.position += 1;
        }
        self.token(self.position)
    }

    /// The one behind it.
    fn peek_second(&mut self) -> Token {
        self.peek();
        let mut index = self.position + 1;
        while self.is_blank(self.token(index).kind) {
            index += 1;
        }
        self.token(index)
    }

    fn next(&mut self) -> Token {
        let token = self.peek();
        self.position += 1;
        token
    }

    fn take(&mut self, kind: TokenKind) -> Option<Token> {
        if self.peek().kind == kind { Some(self.next()) } else { None }
    }

    fn peek_is_word(&mut self, word: &str) -> bool {
        let token = self.peek();
        token.kind == TokenKind::Identifier && self.text_of(token) == word
    }

    fn skip_newlines(&mut self) {
        while self.take(TokenKind::Newline).is_some() {}
    }

    fn name(&self, token: Token) -> Name {
        Name { text: super::normalised(self.text_of(token)), span: self.span(token.range()) }
    }

    /// Runs `read` with line ends being blanks or not, up to and with the closing token.
    fn within<T>(&mut self, newlines_are_blanks: bool, read: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        self.newlines_are_blanks.push(newlines_are_blanks);
        let result = read(self);
        self.newlines_are_blanks.pop();
        result
    }

    /// Runs `read` one level deeper.
    fn deeper<T>(&mut self, read: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        if self.depth >= MAXIMUM_DEPTH {
            return Err(self.too_deep());
        }
        self.depth += 1;
        let result = read(self);
        self.depth -= 1;
        result
    }

    fn too_deep(&mut self) -> Failed {
        let token = self.peek();
        self.fail(
            self.error_at(token, format!("this nests deeper than {MAXIMUM_DEPTH} levels"))
                .help("give inner parts names with `locals`"),
        )
    }

    // Mistakes.

    fn error_at(&self, token: Token, title: impl Into<String>) -> Diagnostic {
        // A line's end is shown behind the line's last character, as an empty place.
        let end = if token.kind == TokenKind::Newline { token.start } else { token.end };
        Diagnostic::error("syntax", self.span(token.start..end), title)
    }

    /// Reports, unless the lexer has said already that the text around, or the text that comes next, cannot be read.
    fn report(&mut self, diagnostic: Diagnostic) {
        let start = diagnostic.primary.as_ref().map_or(0, |label| label.span.range().start);
        if !self.poisoned.holds(start) && !self.poisoned.holds(self.token(self.position).start) {
            self.diagnostics.push(diagnostic);
        }
    }

    fn fail(&mut self, diagnostic: Diagnostic) -> Failed {
        self.report(diagnostic);
        Failed
    }

    /// What a message calls a token.
    fn describe(&self, token: Token) -> String {
        match token.kind {
            TokenKind::End => "the end of the text".to_owned(),
            TokenKind::Newline => "the line's end".to_owned(),
            TokenKind::QuoteOpen => "a quoted text".to_owned(),
            TokenKind::HeredocOpen => "a heredoc".to_owned(),
            _ => format!("`{}`", self.text_of(token)),
        }
    }

    /// Moves behind the item that began at the token `start`: to its line's end outside of brackets, or to the bracket
    /// that closes what holds it.
    fn recover(&mut self, start: usize) {
        let mut depth = 0_usize;
        for index in start..self.tokens.len() {
            let kind = self.tokens[index].kind;
            if index >= self.position
                && depth == 0
                && (kind == TokenKind::Newline || kind == TokenKind::End || kind.closes())
            {
                self.position = index;
                return;
            }
            if kind.opens() {
                depth += 1;
            } else if kind.closes() {
                depth = depth.saturating_sub(1);
            }
        }
        self.position = self.tokens.len();
    }

    // Bodies.

    /// Attributes and blocks up to a closing brace or the end.
    fn items(&mut self) -> Vec<Item> {
        let mut items: Vec<Item> = Vec::new();
        let mut arguments: HashMap<String, Span> = HashMap::new();
        loop {
            self.skip_newlines();
            let token = self.peek();
            if matches!(token.kind, TokenKind::End | TokenKind::BraceClose) {
                return items;
            }
            let start = self.position;
            match self.item() {
                Ok(item) => {
                    if self.is_new(&mut arguments, &item) {
                        items.push(item);
                    }
                    if self.item_end(items.last()).is_err() {
                        self.recover(self.position);
                    }
                }
                Err(Failed) => self.recover(start),
            }
            // Whatever happens, go on: a closer of another kind belongs to nobody.
            let next = self.peek();
            if next.kind.closes() && next.kind != TokenKind::BraceClose {
                self.position += 1;
            }
        }
    }

    /// Whether no argument of the name was set before; `arguments` holds those that were.
    fn is_new(&mut self, arguments: &mut HashMap<String, Span>, item: &Item) -> bool {
        let Item::Attribute(attribute) = item else { return true };
        let name = &attribute.name;
        let Some(earlier) = arguments.get(&name.text).copied() else {
            arguments.insert(name.text.clone(), name.span);
            return true;
        };
        let diagnostic = Diagnostic::error("duplicate-argument", name.span, format!("`{}` is set twice", name.text))
            .label("again here")
            .also(earlier, "first here");
        self.report(diagnostic);
        false
    }

    fn item(&mut self) -> Parsed<Item> {
        let head = self.peek();
        if head.kind != TokenKind::Identifier {
            return Err(self.bad_item_head(head));
        }
        self.next();
        let name = self.name(head);
        let next = self.peek();
        match next.kind {
            TokenKind::Assign => self.attribute(name),
            TokenKind::BraceOpen | TokenKind::QuoteOpen | TokenKind::Identifier => self.block(name),
            _ => Err(self.bad_attribute(&name, next)),
        }
    }

    fn bad_item_head(&mut self, head: Token) -> Failed {
        if head.kind == TokenKind::QuoteOpen {
            let start = self.position;
            if let Ok(Expression { kind: ExpressionKind::String(text), span }) = self.quoted()
                && self.peek().kind == TokenKind::Assign
                && !text.is_empty()
            {
                let diagnostic = Diagnostic::error("syntax", span, "an argument's name is not quoted here").fix(
                    span,
                    text,
                    "remove the quotes",
                );
                return self.fail(diagnostic);
            }
            self.position = start;
        }
        let found = self.describe(head);
        self.fail(
            self.error_at(head, format!("expected an argument or a block, found {found}"))
                .help("an argument is written `name = value`, a block `name { ... }`"),
        )
    }

    fn bad_attribute(&mut self, name: &Name, next: Token) -> Failed {
        if let Some(failed) = self.brace_on_its_own_line(name.span) {
            return failed;
        }
        let word = &name.text;
        let error = Diagnostic::error("syntax", name.span, format!("`{word}` lacks a value"));
        let place = self.span(next.range());
        let behind = Span { start: name.span.end, end: name.span.end, ..name.span };
        let diagnostic =
            match next.kind {
                TokenKind::Colon => self
                    .error_at(next, format!("an argument takes `=`: `{word}` is followed by `:`"))
                    .fix(place, " =", "write `=`"),
                TokenKind::Equal => {
                    self.error_at(next, "`==` compares; an argument takes `=`").fix(place, "=", "write `=`")
                }
                TokenKind::Newline | TokenKind::End | TokenKind::BraceClose => {
                    error.help(format!("write `{word} = value` for an argument, `{word} {{ ... }}` for a block"))
                }
                TokenKind::Dot | TokenKind::BracketOpen if next.start == name.span.range().end => self
                    .error_at(next, "a part of a value cannot be set on its own")
                    .help(format!("write the whole: `{word} = {{ ... }}`")),
                _ => error.label("`=` is missing behind this name").fix(behind, " =", "add it"),
            };
        self.fail(diagnostic)
    }

    fn attribute(&mut self, name: Name) -> Parsed<Item> {
        self.next();
        let next = self.peek();
        if matches!(next.kind, TokenKind::Newline | TokenKind::End | TokenKind::BraceClose) {
            let diagnostic = Diagnostic::error("syntax", name.span, format!("`{}` lacks a value", name.text))
                .label("no value follows on its line")
                .help("the value begins on the line of the `=`; write `null` for none");
            return Err(self.fail(diagnostic));
        }
        let value = self.expression()?;
        let span = name.span.to(value.span);
        Ok(Item::Attribute(Attribute { name, value, span }))
    }

    fn block(&mut self, kind: Name) -> Parsed<Item> {
        let mut labels: Vec<Name> = Vec::new();
        loop {
            let next = self.peek();
            match next.kind {
                TokenKind::BraceOpen => break,
                TokenKind::Identifier => {
                    self.next();
                    labels.push(self.name(next));
                }
                TokenKind::QuoteOpen => labels.push(self.label()?),
                _ => return Err(self.bad_block_head(&kind, &labels, next)),
            }
        }
        let header = labels.last().map_or(kind.span, |last| kind.span.to(last.span));
        let open = self.next();
        let items = self.within(false, |parser| parser.deeper(|parser| Ok(parser.block_items(open))))?;
        let close = self.next();
        let inside = self.span(open.end..close.start.max(open.end));
        Ok(Item::Block(Block {
            span: kind.span.to(self.span(close.range())),
            kind,
            labels,
            body: Body { items, span: inside },
            header,
        }))
    }

    /// What stands between a block's braces: items on lines of their own, or, all on one line, a single argument.
    fn block_items(&mut self, open: Token) -> Vec<Item> {
        let first = self.peek();
        let is_one_line = !matches!(first.kind, TokenKind::Newline | TokenKind::BraceClose);
        let items = self.items();
        let close = self.peek();
        let code = self.tokens[..self.position].iter().rev().find(|token| token.kind != TokenKind::Comment);
        let follows_line_end = code.is_some_and(|token| token.kind == TokenKind::Newline);
        let help = "a block on one line holds one argument; otherwise `{` ends its line and `}` begins one";
        if let (true, Some(Item::Block(inner))) = (is_one_line, items.first()) {
            let diagnostic = Diagnostic::error("syntax", inner.header, "a block on one line cannot hold a block");
            self.report(diagnostic.help(help));
        } else if is_one_line && (items.len() > 1 || follows_line_end) {
            let diagnostic = self.error_at(first, "a block's first argument stands on the line of its `{`");
            self.report(diagnostic.also(self.span(open.range()), "opened here").help(help));
        } else if !is_one_line && !items.is_empty() && !follows_line_end {
            let diagnostic = self.error_at(close, "a block's `}` stands on the line of its last argument");
            self.report(diagnostic.also(self.span(open.range()), "opened here").help(help));
        }
        items
    }

    fn label(&mut self) -> Parsed<Name> {
        let label = self.quoted()?;
        match label.kind {
            ExpressionKind::String(text) => Ok(Name { text, span: label.span }),
            _ => {
                let diagnostic = Diagnostic::error("syntax", label.span, "a block's label must be a fixed text")
                    .help("interpolation is possible in values only");
                Err(self.fail(diagnostic))
            }
        }
    }

    fn bad_block_head(&mut self, kind: &Name, labels: &[Name], next: Token) -> Failed {
        let last = labels.last().map_or(kind.span, |label| label.span);
        let behind = Span { start: kind.span.end, end: kind.span.end, ..kind.span };
        let word = &kind.text;
        let ends_line = matches!(next.kind, TokenKind::Newline | TokenKind::End | TokenKind::BraceClose);
        if let Some(failed) = self.brace_on_its_own_line(kind.span.to(last)) {
            return failed;
        }
        if labels.len() == 1 && (ends_line || next.kind == TokenKind::Comma) {
            let diagnostic =
                Diagnostic::error("syntax", kind.span, format!("`=` is missing between `{word}` and its value"))
                    .fix(behind, " =", "add it");
            return self.fail(diagnostic);
        }
        if next.kind == TokenKind::Assign && labels.len() == 1 {
            let diagnostic = Diagnostic::error("syntax", kind.span.to(last), "an argument's name is one word")
                .help("blanks cannot stand in a name; use `_`");
            return self.fail(diagnostic);
        }
        let found = self.describe(next);
        let diagnostic = self
            .error_at(next, format!("expected `{{` to open the block `{word}`, found {found}"))
            .help(format!("a block is written `{word} \"label\" {{ ... }}`, an argument `{word} = value`"));
        self.fail(diagnostic)
    }

    /// A line's end stands before a block's `{`. The whole block goes: recovery must not stop at this line's end.
    fn brace_on_its_own_line(&mut self, header: Span) -> Option<Failed> {
        let blank = |token: &Token| matches!(token.kind, TokenKind::Newline | TokenKind::Comment);
        let ahead = self.tokens.iter().skip(self.position).take_while(|token| blank(token)).count();
        let brace = self.token(self.position + ahead);
        if ahead == 0 || brace.kind != TokenKind::BraceOpen {
            return None;
        }
        self.position += ahead;
        let diagnostic =
            self.error_at(brace, "a block's `{` stands on the line of its name").also(header, "the block begins here");
        Some(self.fail(diagnostic))
    }

    /// What may follow an item: the line's end, or the brace that closes a block on one line.
    fn item_end(&mut self, item: Option<&Item>) -> Parsed<()> {
        let next = self.peek();
        if matches!(next.kind, TokenKind::Newline | TokenKind::End | TokenKind::BraceClose) {
            return Ok(());
        }
        let place = self.span(next.range());
        let diagnostic = match (next.kind, item) {
            (TokenKind::Comma, _) => {
                let behind = self.peek_second().kind;
                let ends_line = matches!(behind, TokenKind::Newline | TokenKind::End | TokenKind::BraceClose);
                let title = "arguments of a block are separated by line ends, not by commas";
                let diagnostic = self.error_at(next, title);
                if ends_line {
                    diagnostic.fix(place, "", "remove it")
                } else {
                    diagnostic.help("write each argument on a line of its own")
                }
            }
            (TokenKind::Assign, Some(Item::Attribute(_))) => {
                self.error_at(next, "a value cannot be set").fix(place, "==", "did you mean to compare?")
            }
            (_, Some(Item::Block(block))) => self
                .error_at(next, format!("a block ends its line: found {} behind its `}}`", self.describe(next)))
                .also(block.header, "the block"),
            (TokenKind::Identifier, Some(Item::Attribute(_))) => return Err(self.bad_word_behind_value(next)),
            (_, Some(Item::Attribute(attribute))) => {
                let title = format!("the value of `{}` ends before {}", attribute.name.text, self.describe(next));
                self.error_at(next, title).help(
                    "an expression of several lines or parts needs parentheses, an operator, or quotes around a text",
                )
            }
            (_, None) => self.error_at(next, format!("unexpected {}", self.describe(next))),
        };
        Err(self.fail(diagnostic))
    }

    fn bad_word_behind_value(&mut self, word: Token) -> Failed {
        let place = self.span(word.range());
        let text = self.text_of(word);
        let operator = match text {
            "and" => Some("&&"),
            "or" => Some("||"),
            "is" | "eq" => Some("=="),
            "mod" => Some("%"),
            _ => None,
        };
        let diagnostic = match operator {
            Some(operator) => self.error_at(word, format!("there is no operator `{text}`")).fix(
                place,
                operator,
                format!("write `{operator}`"),
            ),
            None => self
                .error_at(word, format!("expected the line's end, found `{text}`"))
                .help("each argument stands on a line of its own"),
        };
        self.fail(diagnostic)
    }
}
