//! Which user variables a text names: ``{{user `x`}}``.

use std::ops::Range;

use kiln_gotemplate::action_ranges;

/// A literal use of a user variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reference {
    pub(super) name: String,
    /// The name in the text, without its quotes.
    pub(super) range: Range<usize>,
}

/// All literal uses, in the order written. Names that an expression computes are not found.
pub(super) fn references(text: &str) -> Vec<Reference> {
    if !text.contains("{{") {
        return Vec::new();
    }
    action_ranges(text).into_iter().flat_map(|action| in_action(text, action)).collect()
}

#[derive(Debug, PartialEq, Eq)]
enum Token {
    Word(Range<usize>),
    /// A quoted text, without its quotes.
    Literal(Range<usize>),
    Other(char),
}

fn in_action(text: &str, action: Range<usize>) -> Vec<Reference> {
    let tokens = tokens(text, action);
    let is_user = |token: Option<&Token>| matches!(token, Some(Token::Word(range)) if &text[range.clone()] == "user");
    let mut found = Vec::new();
    for (index, token) in tokens.iter().enumerate() {
        let Token::Literal(range) = token else { continue };
        let before = index.checked_sub(1).and_then(|index| tokens.get(index));
        let is_piped = tokens.get(index + 1) == Some(&Token::Other('|')) && is_user(tokens.get(index + 2));
        if is_user(before) || is_piped {
            found.push(Reference { name: text[range.clone()].to_owned(), range: range.clone() });
        }
    }
    found
}

fn tokens(text: &str, action: Range<usize>) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut position = action.start;
    while let Some(character) = text.get(position..action.end).and_then(|rest| rest.chars().next()) {
        let rest = &text[position..action.end];
        let length = match character {
            '`' | '"' => {
                let inner = literal_length(&rest[1..], character);
                tokens.push(Token::Literal(position + 1..position + 1 + inner));
                inner + 2
            }
            // A field or a variable (`.user`, `$user`) is one token that is not the function.
            c if c.is_alphanumeric() || matches!(c, '_' | '.' | '$') => {
                let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '$');
                let length = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
                tokens.push(Token::Word(position..position + length));
                length
            }
            c => {
                if !c.is_whitespace() {
                    tokens.push(Token::Other(c));
                }
                c.len_utf8()
            }
        };
        position += length;
    }
    tokens
}

fn literal_length(rest: &str, quote: char) -> usize {
    let mut is_escaped = false;
    for (position, character) in rest.char_indices() {
        match character {
            _ if is_escaped => is_escaped = false,
            '\\' if quote == '"' => is_escaped = true,
            c if c == quote => return position,
            _ => {}
        }
    }
    rest.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        references(text).into_iter().map(|reference| reference.name).collect()
    }

    #[test]
    fn finds_calls_and_pipes_in_actions_only() {
        assert_eq!(names("{{user `a`}} user `b` {{ user \"c\" | upper }} {{`d` | user}}"), ["a", "c", "d"]);
        assert_eq!(names("{{if user `a`}}x{{end}}{{(user `b`)}}"), ["a", "b"]);
    }

    #[test]
    fn texts_fields_and_other_words_are_no_uses() {
        assert_eq!(names("{{printf \"user `x`\"}} {{.user}} {{superuser `y`}} {{env `z`}}"), Vec::<String>::new());
    }

    #[test]
    fn the_range_covers_the_name() {
        let text = "é {{ user `naïve` }}";
        assert_eq!(&text[references(text)[0].range.clone()], "naïve");
    }

    #[test]
    fn an_unclosed_action_or_literal_is_survived() {
        assert!(names("{{user `a").len() <= 1);
        assert_eq!(names("{{"), Vec::<String>::new());
    }
}
