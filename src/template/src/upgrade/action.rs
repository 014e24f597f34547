//! One Go template action, taken apart: what it calls with what.

use std::ops::Range;

/// A part of an action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    /// A function, a keyword, a field (`.Vars`) or a variable (`$x`).
    Word(String),
    /// A quoted text, decoded; `None` where its escapes are beyond us.
    Text(Option<String>),
    Number(String),
    Open,
    Close,
    Pipe,
    Other,
}

/// The parts of an action (its braces included in `range`), each with its bytes in the text.
pub(super) fn tokens(text: &str, range: Range<usize>) -> Vec<(Token, Range<usize>)> {
    let end = if text[range.clone()].ends_with("}}") { range.end - 2 } else { range.end };
    let mut position = (range.start + 2).min(end);
    let mut tokens = Vec::new();
    while let Some(first) = text.get(position..end).and_then(|rest| rest.chars().next()) {
        let rest = &text[position..end];
        let (token, length) = match first {
            '`' => {
                let inner = rest[1..].find('`').unwrap_or(rest.len() - 1);
                (Some(Token::Text(Some(rest[1..=inner].to_owned()))), (inner + 2).min(rest.len()))
            }
            '"' | '\'' => {
                let inner = quoted_length(&rest[1..], first);
                let decoded = if first == '"' { unquote(&rest[1..=inner]) } else { None };
                (Some(Token::Text(decoded)), (inner + 2).min(rest.len()))
            }
            '(' => (Some(Token::Open), 1),
            ')' => (Some(Token::Close), 1),
            '|' => (Some(Token::Pipe), 1),
            c if c.is_whitespace() => (None, c.len_utf8()),
            c if c.is_ascii_digit() || (c == '-' && rest[1..].starts_with(|c: char| c.is_ascii_digit())) => {
                let length = 1 + rest[1..].find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len() - 1);
                (Some(Token::Number(rest[..length].to_owned())), length)
            }
            c if is_word(c) => {
                let length = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
                (Some(Token::Word(rest[..length].to_owned())), length)
            }
            c => (Some(Token::Other), c.len_utf8()),
        };
        tokens.extend(token.map(|token| (token, position..position + length)));
        position += length;
    }
    tokens
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '.' | '$')
}

fn quoted_length(rest: &str, quote: char) -> usize {
    let mut is_escaped = false;
    for (position, character) in rest.char_indices() {
        match character {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            c if c == quote => return position,
            _ => {}
        }
    }
    rest.len()
}

/// The text of a Go string; `None` with an escape other than the usual ones.
fn unquote(inner: &str) -> Option<String> {
    let mut text = String::with_capacity(inner.len());
    let mut characters = inner.chars();
    while let Some(character) = characters.next() {
        text.push(match character {
            '\\' => match characters.next()? {
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                plain @ ('\\' | '"') => plain,
                _ => return None,
            },
            plain => plain,
        });
    }
    Some(text)
}

/// What an action computes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Expression {
    Call { name: String, arguments: Vec<Expression> },
    Text(String),
    Number(String),
}

/// The expression of an action: calls, texts, numbers, pipes and parentheses. `None` for all that is more than that.
pub(super) fn parse(tokens: &[(Token, Range<usize>)]) -> Option<Expression> {
    let mut parser = Parser { tokens, position: 0, depth: 0 };
    let found = parser.pipeline()?;
    (parser.position == tokens.len()).then_some(found)
}

struct Parser<'a> {
    tokens: &'a [(Token, Range<usize>)],
    position: usize,
    depth: usize,
}

/// Words that are no functions.
const KEYWORDS: [&str; 10] = ["if", "else", "end", "range", "with", "define", "block", "template", "break", "continue"];

/// How deep parentheses may be nested: a bound on the stack.
const MAXIMUM_DEPTH: usize = 50;

impl Parser<'_> {
    fn next(&mut self) -> Option<&Token> {
        let (token, _) = self.tokens.get(self.position)?;
        self.position += 1;
        Some(token)
    }

    fn is_at(&self, token: &Token) -> bool {
        self.tokens.get(self.position).is_some_and(|(found, _)| found == token)
    }

    fn pipeline(&mut self) -> Option<Expression> {
        let mut value = self.command()?;
        while self.is_at(&Token::Pipe) {
            self.position += 1;
            let Expression::Call { name, mut arguments } = self.command()? else { return None };
            arguments.push(value);
            value = Expression::Call { name, arguments };
        }
        Some(value)
    }

    fn command(&mut self) -> Option<Expression> {
        let first = self.operand()?;
        let mut operands = Vec::new();
        while !matches!(self.tokens.get(self.position), None | Some((Token::Pipe | Token::Close, _))) {
            operands.push(self.operand()?);
        }
        match first {
            Expression::Call { name, arguments } if arguments.is_empty() => {
                Some(Expression::Call { name, arguments: operands })
            }
            other if operands.is_empty() => Some(other),
            _ => None,
        }
    }

    fn operand(&mut self) -> Option<Expression> {
        match self.next()?.clone() {
            Token::Word(name) if KEYWORDS.contains(&name.as_str()) || name.contains(['.', '$']) => None,
            Token::Word(name) => Some(Expression::Call { name, arguments: Vec::new() }),
            Token::Text(text) => text.map(Expression::Text),
            Token::Number(digits) => Some(Expression::Number(digits)),
            Token::Open if self.depth < MAXIMUM_DEPTH => {
                self.depth += 1;
                let inner = self.pipeline()?;
                self.depth -= 1;
                matches!(self.next(), Some(Token::Close)).then_some(inner)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(name: &str, arguments: Vec<Expression>) -> Expression {
        Expression::Call { name: name.to_owned(), arguments }
    }

    fn text(text: &str) -> Expression {
        Expression::Text(text.to_owned())
    }

    fn parsed(action: &str) -> Option<Expression> {
        parse(&tokens(action, 0..action.len()))
    }

    #[test]
    fn calls_pipes_and_parentheses() {
        assert_eq!(parsed("{{user `a`}}"), Some(call("user", vec![text("a")])));
        assert_eq!(parsed("{{ `a` | user | upper }}"), Some(call("upper", vec![call("user", vec![text("a")])])));
        let split = call("split", vec![call("user", vec![text("a")]), text("\""), Expression::Number("-1".into())]);
        assert_eq!(parsed(r#"{{split (user `a`) "\"" -1}}"#), Some(split));
        assert_eq!(parsed("{{isotime}}"), Some(call("isotime", vec![])));
    }

    #[test]
    fn anything_else_is_left_alone() {
        for action in [
            "{{if user `a`}}",
            "{{end}}",
            "{{.Vars}}",
            "{{$x := 1}}",
            "{{`a` `b`}}",
            "{{user `a` |}}",
            "{{(user `a`}}",
            "{{\"\\x41\"}}",
            "{{- user `a`}}",
            "{{}}",
            "{{/* x */}}",
            "{{'a'}}",
        ] {
            assert_eq!(parsed(action), None, "{action}");
        }
        assert_eq!(parsed(&format!("{{{{{}", "(".repeat(100_000))), None);
    }
}
