//! `for`, in expressions and at the head of directives.

use super::{Parsed, Parser, Token, TokenKind};
use crate::syntax::tree::{Expression, ForExpression, Name};

impl Parser<'_> {
    /// Behind the opening bracket, up to and with the closing one.
    pub(super) fn for_expression(&mut self, open: Token, is_object: bool) -> Parsed<(ForExpression, Token)> {
        self.next();
        let (key_name, value_name, collection) = self.for_head()?;
        let mut height = self.height;
        let colon = self.peek();
        if colon.kind != TokenKind::Colon {
            let found = self.describe(colon);
            let diagnostic = self
                .error_at(colon, format!("expected `:` behind the collection, found {found}"))
                .help("a for expression is written `[for x in list : value]` or `{ for k, v in map : key => value }`");
            return Err(self.fail(diagnostic));
        }
        self.next();
        let first = self.expression()?;
        height = height.max(self.height);
        let (key, value) = if let Some(arrow) = self.take(TokenKind::Arrow) {
            if !is_object {
                let diagnostic = self
                    .error_at(arrow, "a list has no keys")
                    .help("use `{ for ... }` for an object, or leave `key =>` out");
                return Err(self.fail(diagnostic));
            }
            let value = self.expression()?;
            height = height.max(self.height);
            (Some(first), value)
        } else if is_object {
            let next = self.peek();
            let diagnostic = self
                .error_at(next, "`=>` is missing: an object needs a key and a value")
                .help("write `key => value`, or use `[for ...]` for a list");
            return Err(self.fail(diagnostic));
        } else {
            (None, first)
        };
        let ellipsis = self.take(TokenKind::Ellipsis);
        if let (Some(ellipsis), false) = (ellipsis, is_object) {
            let diagnostic = self.error_at(ellipsis, "values can be grouped by key in an object only");
            return Err(self.fail(diagnostic));
        }
        let condition = if self.peek_is_word("if") {
            self.next();
            let condition = self.expression()?;
            height = height.max(self.height);
            Some(condition)
        } else {
            None
        };
        let (kind, spelling) = if is_object { (TokenKind::BraceClose, "}") } else { (TokenKind::BracketClose, "]") };
        let close = self.expect_closer(kind, open, spelling)?;
        self.height = height;
        let group = ellipsis.is_some();
        Ok((ForExpression { key_name, value_name, collection, key, value, group, condition }, close))
    }

    /// Behind `for`: `name in collection` or `key, value in collection`.
    pub(super) fn for_head(&mut self) -> Parsed<(Option<Name>, Name, Expression)> {
        let first = self.for_name()?;
        let second = if self.take(TokenKind::Comma).is_some() { Some(self.for_name()?) } else { None };
        if !self.peek_is_word("in") {
            let next = self.peek();
            let found = self.describe(next);
            let diagnostic = self.error_at(next, format!("expected `in` and a collection, found {found}"));
            return Err(self.fail(diagnostic.help("write `for x in list` or `for key, value in map`")));
        }
        self.next();
        let collection = self.expression()?;
        Ok(match second {
            Some(second) => (Some(first), second, collection),
            None => (None, first, collection),
        })
    }

    fn for_name(&mut self) -> Parsed<Name> {
        let token = self.peek();
        if token.kind != TokenKind::Identifier {
            let found = self.describe(token);
            let diagnostic = self.error_at(token, format!("expected a name behind `for`, found {found}"));
            return Err(self.fail(diagnostic));
        }
        self.next();
        Ok(self.name(token))
    }
}
