//! Expressions.

use kiln_core::{Diagnostic, Span};

use super::{Failed, MAXIMUM_DEPTH, Parsed, Parser, Token, TokenKind};
use crate::syntax::tree::{BinaryOperator, Expression, ExpressionKind, Name, SplatStep, UnaryOperator};

/// The operator a token stands for and how strongly it binds.
fn binary_operator(kind: TokenKind) -> Option<(BinaryOperator, u8)> {
    Some(match kind {
        TokenKind::Or => (BinaryOperator::Or, 1),
        TokenKind::And => (BinaryOperator::And, 2),
        TokenKind::Equal => (BinaryOperator::Equal, 3),
        TokenKind::NotEqual => (BinaryOperator::NotEqual, 3),
        TokenKind::Less => (BinaryOperator::Less, 4),
        TokenKind::LessOrEqual => (BinaryOperator::LessOrEqual, 4),
        TokenKind::Greater => (BinaryOperator::Greater, 4),
        TokenKind::GreaterOrEqual => (BinaryOperator::GreaterOrEqual, 4),
        TokenKind::Plus => (BinaryOperator::Add, 5),
        TokenKind::Minus => (BinaryOperator::Subtract, 5),
        TokenKind::Star => (BinaryOperator::Multiply, 6),
        TokenKind::Slash => (BinaryOperator::Divide, 6),
        TokenKind::Percent => (BinaryOperator::Modulo, 6),
        _ => return None,
    })
}

impl Parser<'_> {
    pub(super) fn expression(&mut self) -> Parsed<Expression> {
        self.deeper(Parser::conditional)
    }

    /// A node above others of a height. Bounds the tree for those who walk it by recursion.
    fn node(&mut self, kind: ExpressionKind, span: Span, children: usize) -> Parsed<Expression> {
        self.height = children + 1;
        // Twice: brackets count once for the depth and once for what stands in them.
        if self.height > 2 * MAXIMUM_DEPTH {
            return Err(self.too_high(span));
        }
        Ok(Expression { kind, span })
    }

    #[inline(never)]
    fn too_high(&mut self, span: Span) -> Failed {
        let diagnostic = Diagnostic::error("syntax", span.start_point(), "this expression has too many parts in a row")
            .help("give parts of it names with `locals`");
        self.fail(diagnostic)
    }

    fn conditional(&mut self) -> Parsed<Expression> {
        let condition = self.binary(0)?;
        if self.take(TokenKind::Question).is_none() {
            return Ok(condition);
        }
        let mut height = self.height;
        let then = self.expression()?;
        height = height.max(self.height);
        if self.take(TokenKind::Colon).is_none() {
            return Err(self.missing_other_value(condition.span));
        }
        let otherwise = self.expression()?;
        height = height.max(self.height);
        let span = condition.span.to(otherwise.span);
        let kind = ExpressionKind::Conditional {
            condition: Box::new(condition),
            then: Box::new(then),
            otherwise: Box::new(otherwise),
        };
        self.node(kind, span, height)
    }

    // Messages are made in functions of their own: what calls itself by way of others keeps a small stack frame.

    #[inline(never)]
    fn missing_other_value(&mut self, condition: Span) -> Failed {
        let next = self.peek();
        let found = self.describe(next);
        let diagnostic = self
            .error_at(next, format!("expected `:` and the value for `false`, found {found}"))
            .also(condition, "the condition")
            .help("a conditional is written `condition ? value : other`");
        self.fail(diagnostic)
    }

    /// Operators that bind at least as strongly as `least`.
    fn binary(&mut self, least: u8) -> Parsed<Expression> {
        let mut left = self.unary()?;
        let mut height = self.height;
        // Of the operators that `left` is a row of; they bind ever more weakly.
        let mut strength_of_row = u8::MAX;
        while let Some((operator, strength)) = binary_operator(self.peek().kind) {
            if strength < least {
                break;
            }
            self.next();
            let right = self.binary(strength + 1)?;
            left = self.row(left, (operator, right), strength == strength_of_row, height)?;
            height = self.height;
            strength_of_row = strength;
        }
        self.height = height;
        Ok(left)
    }

    /// One more operator behind `left` of the height `height`, in the same row or around it.
    #[inline(never)]
    fn row(
        &mut self,
        mut left: Expression,
        last: (BinaryOperator, Expression),
        is_same: bool,
        height: usize,
    ) -> Parsed<Expression> {
        let span = left.span.to(last.1.span);
        if let (ExpressionKind::Binary(_, rest), true) = (&mut left.kind, is_same) {
            rest.push(last);
            left.span = span;
            self.height = height.max(self.height + 1);
            return Ok(left);
        }
        let below = height.max(self.height);
        self.node(ExpressionKind::Binary(Box::new(left), vec![last]), span, below)
    }

    fn unary(&mut self) -> Parsed<Expression> {
        let token = self.peek();
        let operator = match token.kind {
            TokenKind::Minus => UnaryOperator::Negate,
            TokenKind::Bang => UnaryOperator::Not,
            _ => return self.postfix(),
        };
        self.next();
        let operand = self.deeper(Parser::unary)?;
        let span = self.span(token.range()).to(operand.span);
        let height = self.height;
        self.node(ExpressionKind::Unary(operator, Box::new(operand)), span, height)
    }

    /// A term and the accesses behind it.
    fn postfix(&mut self) -> Parsed<Expression> {
        let mut left = self.term()?;
        loop {
            let below = self.height;
            let token = self.peek();
            let step = match token.kind {
                TokenKind::Dot => {
                    self.next();
                    if self.take(TokenKind::Star).is_some() {
                        SplatStep::Splat(self.attribute_splat_steps()?)
                    } else {
                        self.dotted_step()?
                    }
                }
                TokenKind::BracketOpen => {
                    self.next();
                    if self.full_splat_star() {
                        SplatStep::Splat(self.deeper(Parser::full_splat_steps)?)
                    } else {
                        SplatStep::Index(self.index_key(token)?)
                    }
                }
                _ => return Ok(left),
            };
            let end = self.token(self.position.saturating_sub(1));
            let span = left.span.to(self.span(end.range()));
            let left_box = Box::new(left);
            let kind = match step {
                SplatStep::Attribute(name) => ExpressionKind::Attribute { object: left_box, name },
                SplatStep::Index(key) => ExpressionKind::Index { collection: left_box, key: Box::new(key) },
                SplatStep::Splat(steps) => ExpressionKind::Splat { source: left_box, steps },
            };
            let below = below.max(self.height);
            left = self.node(kind, span, below)?;
        }
    }

    /// What stands behind a dot: a name, or digits (the legacy index).
    fn dotted_step(&mut self) -> Parsed<SplatStep> {
        let token = self.peek();
        match token.kind {
            TokenKind::Identifier => {
                self.next();
                Ok(SplatStep::Attribute(self.name(token)))
            }
            TokenKind::Number => {
                let text = self.text_of(token);
                if !text.bytes().all(|byte| byte.is_ascii_digit()) {
                    let brackets = text.split('.').map(|digits| format!("[{digits}]")).collect::<String>();
                    let diagnostic = self
                        .error_at(token, "two indices in a row cannot be written with dots")
                        .help(format!("write brackets: `{brackets}`"));
                    return Err(self.fail(diagnostic));
                }
                self.next();
                let kind = ExpressionKind::Number(text.to_owned());
                Ok(SplatStep::Index(Expression { kind, span: self.span(token.range()) }))
            }
            _ => {
                let found = self.describe(token);
                let diagnostic = self.error_at(token, format!("expected a name behind the dot, found {found}"));
                Err(self.fail(diagnostic.help("write a key that is no name in brackets: `[\"key\"]`")))
            }
        }
    }

    /// Behind `[`: takes `*]` if it is there.
    fn full_splat_star(&mut self) -> bool {
        let is_splat = self.peek().kind == TokenKind::Star && self.peek_second().kind == TokenKind::BracketClose;
        if is_splat {
            self.next();
            self.next();
        }
        is_splat
    }

    /// Behind `[`: the key and the closing bracket.
    fn index_key(&mut self, open: Token) -> Parsed<Expression> {
        self.within(true, |parser| {
            let key = parser.expression()?;
            parser.expect_closer(TokenKind::BracketClose, open, "]")?;
            Ok(key)
        })
    }

    pub(super) fn expect_closer(&mut self, kind: TokenKind, open: Token, spelling: &str) -> Parsed<Token> {
        let next = self.peek();
        if next.kind == kind {
            return Ok(self.next());
        }
        let found = self.describe(next);
        let diagnostic = self
            .error_at(next, format!("expected `{spelling}`, found {found}"))
            .also(self.span(open.range()), "opened here");
        Err(self.fail(diagnostic))
    }

    /// `.*` takes names and legacy indices only.
    fn attribute_splat_steps(&mut self) -> Parsed<Vec<SplatStep>> {
        let mut steps = Vec::new();
        while self.peek().kind == TokenKind::Dot {
            self.next();
            let next = self.peek();
            if next.kind == TokenKind::Star {
                let diagnostic = self.error_at(next, "`.*` cannot stand behind another `.*`").help("use `[*]`");
                return Err(self.fail(diagnostic));
            }
            steps.push(self.dotted_step()?);
        }
        Ok(steps)
    }

    /// `[*]` takes everything that follows, further splats included.
    fn full_splat_steps(&mut self) -> Parsed<Vec<SplatStep>> {
        let mut steps = Vec::new();
        loop {
            let token = self.peek();
            match token.kind {
                TokenKind::Dot => {
                    self.next();
                    if self.take(TokenKind::Star).is_some() {
                        let inner = self.attribute_splat_steps()?;
                        steps.push(SplatStep::Splat(inner));
                    } else {
                        steps.push(self.dotted_step()?);
                    }
                }
                TokenKind::BracketOpen => {
                    self.next();
                    if self.full_splat_star() {
                        let inner = self.deeper(Parser::full_splat_steps)?;
                        steps.push(SplatStep::Splat(inner));
                        return Ok(steps);
                    }
                    steps.push(SplatStep::Index(self.index_key(token)?));
                }
                _ => return Ok(steps),
            }
        }
    }

    fn term(&mut self) -> Parsed<Expression> {
        let token = self.peek();
        self.height = 1;
        match token.kind {
            TokenKind::Number => self.number(token),
            TokenKind::Identifier => self.word(token),
            TokenKind::QuoteOpen => self.quoted(),
            TokenKind::HeredocOpen => self.heredoc(),
            TokenKind::BracketOpen => self.tuple(),
            TokenKind::BraceOpen => self.object(),
            TokenKind::ParenthesisOpen => self.parenthesis(token),
            _ => Err(self.bad_term(token)),
        }
    }

    fn number(&mut self, token: Token) -> Parsed<Expression> {
        self.next();
        let text = self.text_of(token).to_owned();
        if crate::value::parse_number(&text).is_none() {
            return Err(self.bad_number(token));
        }
        Ok(Expression { kind: ExpressionKind::Number(text), span: self.span(token.range()) })
    }

    #[inline(never)]
    fn bad_number(&mut self, token: Token) -> Failed {
        let text = self.text_of(token);
        let diagnostic = if text.matches('.').count() > 1 || text.matches(['e', 'E']).count() > 1 {
            self.error_at(token, "this is no number").fix(
                self.span(token.range()),
                format!("\"{text}\""),
                "put quotes around a text, such as a version or an address",
            )
        } else {
            self.error_at(token, "this number is out of range")
        };
        self.fail(diagnostic)
    }

    fn parenthesis(&mut self, open: Token) -> Parsed<Expression> {
        self.next();
        let (inner, close) = self.within(true, |parser| {
            let inner = parser.expression()?;
            let close = parser.expect_closer(TokenKind::ParenthesisClose, open, ")")?;
            Ok((inner, close))
        })?;
        let span = self.span(open.start..close.end);
        let height = self.height;
        self.node(ExpressionKind::Parenthesis(Box::new(inner)), span, height)
    }

    #[inline(never)]
    fn bad_term(&mut self, token: Token) -> Failed {
        let found = self.describe(token);
        let error = self.error_at(token, format!("expected a value, found {found}"));
        let diagnostic = match token.kind {
            TokenKind::Newline => error.help("a value of several lines needs parentheses or brackets around it"),
            TokenKind::Colon | TokenKind::Assign | TokenKind::Slash | TokenKind::Dot => {
                error.help("put quotes around a text: `\"...\"`")
            }
            _ => error,
        };
        self.fail(diagnostic)
    }

    /// A keyword, a call or a name.
    fn word(&mut self, token: Token) -> Parsed<Expression> {
        self.next();
        let span = self.span(token.range());
        let name = self.name(token);
        if self.peek().kind == TokenKind::ParenthesisOpen {
            return self.call(name);
        }
        let kind = match name.text.as_str() {
            "true" => ExpressionKind::Bool(true),
            "false" => ExpressionKind::Bool(false),
            "null" => ExpressionKind::Null,
            _ => ExpressionKind::Variable(name.text),
        };
        Ok(Expression { kind, span })
    }

    fn call(&mut self, name: Name) -> Parsed<Expression> {
        let open = self.next();
        let mut arguments = Vec::new();
        let mut expand_last = false;
        let mut height = 0;
        let close = self.within(true, |parser| {
            loop {
                if let Some(close) = parser.take(TokenKind::ParenthesisClose) {
                    return Ok(close);
                }
                arguments.push(parser.expression()?);
                height = height.max(parser.height);
                if parser.take(TokenKind::Ellipsis).is_some() {
                    expand_last = true;
                    return parser.expect_closer(TokenKind::ParenthesisClose, open, ")");
                }
                if parser.take(TokenKind::Comma).is_none() {
                    if parser.peek().kind == TokenKind::ParenthesisClose {
                        continue;
                    }
                    return Err(parser.missing_separator("an argument", open, ")"));
                }
            }
        })?;
        let span = name.span.to(self.span(close.range()));
        self.node(ExpressionKind::Call { name, arguments, expand_last }, span, height)
    }

    /// Between the elements of a list or call stands something that is no comma.
    fn missing_separator(&mut self, what: &str, open: Token, closer: &str) -> Failed {
        let next = self.peek();
        let found = self.describe(next);
        let mut previous = self.position;
        while previous > 0 && matches!(self.token(previous - 1).kind, TokenKind::Newline | TokenKind::Comment) {
            previous -= 1;
        }
        let end = self.token(previous.saturating_sub(1)).end;
        let begins_value = matches!(
            next.kind,
            TokenKind::QuoteOpen
                | TokenKind::Identifier
                | TokenKind::Number
                | TokenKind::BraceOpen
                | TokenKind::HeredocOpen
        );
        let diagnostic = if begins_value {
            self.error_at(next, format!("`,` is missing before {found}")).fix(self.span(end..end), ",", "add it")
        } else {
            self.error_at(next, format!("expected `,` or `{closer}` behind {what}, found {found}"))
                .also(self.span(open.range()), "opened here")
        };
        self.fail(diagnostic)
    }

    fn begins_for(&mut self) -> bool {
        self.peek_is_word("for") && !matches!(self.peek_second().kind, TokenKind::Assign | TokenKind::Colon)
    }

    fn tuple(&mut self) -> Parsed<Expression> {
        let open = self.next();
        let mut elements = Vec::new();
        let mut height = 0;
        let start = self.span(open.range());
        let (for_expression, close) = self.within(true, |parser| {
            if parser.begins_for() && parser.peek_second().kind == TokenKind::Identifier {
                // A level of its own: it takes more of the stack than others.
                let (inner, close) = parser.deeper(|parser| parser.for_expression(open, false))?;
                return Ok((Some(inner), close));
            }
            loop {
                if let Some(close) = parser.take(TokenKind::BracketClose) {
                    return Ok((None, close));
                }
                elements.push(parser.expression()?);
                height = height.max(parser.height);
                if parser.take(TokenKind::Comma).is_none() && parser.peek().kind != TokenKind::BracketClose {
                    return Err(parser.missing_separator("an element", open, "]"));
                }
            }
        })?;
        let span = start.to(self.span(close.range()));
        match for_expression {
            Some(inner) => {
                let height = self.height;
                self.node(ExpressionKind::For(Box::new(inner)), span, height)
            }
            None => self.node(ExpressionKind::Tuple(elements), span, height),
        }
    }

    fn object(&mut self) -> Parsed<Expression> {
        let open = self.next();
        let start = self.span(open.range());
        let is_for = self.within(true, |parser| Ok(parser.begins_for()))?;
        if is_for {
            let (inner, close) =
                self.within(true, |parser| parser.deeper(|parser| parser.for_expression(open, true)))?;
            let height = self.height;
            return self.node(ExpressionKind::For(Box::new(inner)), start.to(self.span(close.range())), height);
        }
        let mut items = Vec::new();
        let mut height = 0;
        let close = self.within(false, |parser| {
            loop {
                parser.skip_newlines();
                if let Some(close) = parser.take(TokenKind::BraceClose) {
                    return Ok(close);
                }
                items.push(parser.object_item(&mut height)?);
                let next = parser.peek();
                match next.kind {
                    TokenKind::Comma | TokenKind::Newline => {
                        parser.next();
                    }
                    TokenKind::BraceClose => {}
                    _ => return Err(parser.missing_separator("an attribute", open, "}")),
                }
            }
        })?;
        self.node(ExpressionKind::Object(items), start.to(self.span(close.range())), height)
    }

    fn object_item(&mut self, height: &mut usize) -> Parsed<(Expression, Expression)> {
        let key = self.object_key()?;
        *height = (*height).max(self.height);
        let next = self.peek();
        if !matches!(next.kind, TokenKind::Assign | TokenKind::Colon) {
            return Err(self.bad_object_item(&key, next));
        }
        self.next();
        let value = self.expression()?;
        *height = (*height).max(self.height);
        Ok((key, value))
    }

    /// Any expression; a name that stands alone is a text.
    fn object_key(&mut self) -> Parsed<Expression> {
        let token = self.peek();
        let mut key = self.expression()?;
        let is_word = matches!(key.kind, ExpressionKind::Variable(_) | ExpressionKind::Bool(_) | ExpressionKind::Null);
        if is_word {
            key.kind = ExpressionKind::String(self.name(token).text);
        }
        Ok(key)
    }

    fn bad_object_item(&mut self, key: &Expression, next: Token) -> Failed {
        let found = self.describe(next);
        let word = &self.text[key.span.range()];
        let place = self.span(next.range());
        let end = Span { start: key.span.end, ..key.span };
        let diagnostic = match next.kind {
            TokenKind::BraceOpen => Diagnostic::error("syntax", key.span, format!("`=` is missing behind `{word}`"))
                .note("inside an object there are no blocks, only attributes")
                .fix(end, " =", "add it"),
            TokenKind::Equal | TokenKind::Arrow => {
                self.error_at(next, format!("an attribute takes `=`, not {found}")).fix(place, "=", "write `=`")
            }
            _ => self
                .error_at(next, format!("expected `=` behind the key `{word}`, found {found}"))
                .help("an object is written `{ key = value, other = value }`, a list `[value, value]`"),
        };
        self.fail(diagnostic)
    }
}
