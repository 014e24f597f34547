//! One pattern over paths with `/` between their components.

/// A pattern as `.dockerignore` and BuildKit's requests for files have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    tokens: Vec<Token>,
    /// The same, component by component, to tell what may lie below a directory.
    components: Vec<Vec<Token>>,
    /// The text, where it stands for itself alone.
    literal: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Character(char),
    /// `?`
    One,
    /// `*`
    Some,
    /// `**` before something else: any number of whole components.
    Components,
    /// `**` at the end: all that follows.
    Rest,
    Class {
        is_negated: bool,
        ranges: Vec<(char, char)>,
    },
}

impl Pattern {
    /// Reads a pattern; `None` where it speaks of nothing (`.`, an empty line).
    pub fn parse(text: &str) -> Option<Pattern> {
        let mut parts: Vec<&str> = Vec::new();
        for part in text.split('/') {
            match part {
                "" | "." => {}
                // One that leads out of the context matches nothing there.
                ".." if parts.last().is_none_or(|last| *last == "..") => parts.push(part),
                ".." => _ = parts.pop(),
                part => parts.push(part),
            }
        }
        if parts.is_empty() {
            return None;
        }
        let text = parts.join("/");
        let is_plain = !text.contains(['*', '?', '[', '\\']);
        Some(Pattern {
            tokens: tokens(&text),
            components: parts.iter().map(|part| tokens(part)).collect(),
            literal: is_plain.then_some(text),
        })
    }

    /// A path that stands for itself, whatever characters are in it.
    pub fn literal(path: &str) -> Pattern {
        Pattern {
            tokens: path.chars().map(Token::Character).collect(),
            components: path.split('/').map(|part| part.chars().map(Token::Character).collect()).collect(),
            literal: Some(path.to_owned()),
        }
    }

    /// The path that it stands for, where it has no wildcards.
    pub fn as_literal(&self) -> Option<&str> {
        self.literal.as_deref()
    }

    /// Whether the path itself matches.
    pub fn matches(&self, path: &str) -> bool {
        match &self.literal {
            Some(literal) => literal == path,
            None => matches(&self.tokens, path),
        }
    }

    /// Whether the path matches, or a directory that it lies in does.
    pub fn matches_or_holds(&self, path: &str) -> bool {
        if let Some(literal) = &self.literal {
            return path.strip_prefix(literal.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        }
        let ends = path.match_indices('/').map(|(index, _)| index).chain([path.len()]);
        ends.into_iter().any(|end| matches(&self.tokens, &path[..end]))
    }

    /// Whether something below a directory may match.
    pub fn may_match_below(&self, directory: &str) -> bool {
        let mut components = self.components.iter();
        for name in directory.split('/') {
            match components.next() {
                None => return true,
                Some(tokens) if tokens.iter().any(|token| matches!(token, Token::Components | Token::Rest)) => {
                    return true;
                }
                Some(tokens) if matches(tokens, name) => {}
                Some(_) => return false,
            }
        }
        true
    }
}

fn tokens(pattern: &str) -> Vec<Token> {
    let characters: Vec<char> = pattern.chars().collect();
    let mut tokens = Vec::new();
    let mut rest = characters.as_slice();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match first {
            '*' if rest.first() == Some(&'*') => {
                rest = &rest[1..];
                if rest.first() == Some(&'/') {
                    rest = &rest[1..];
                }
                tokens.push(if rest.is_empty() { Token::Rest } else { Token::Components });
            }
            '*' => tokens.push(Token::Some),
            '?' => tokens.push(Token::One),
            '\\' if !rest.is_empty() => {
                tokens.push(Token::Character(rest[0]));
                rest = &rest[1..];
            }
            '[' => match class(rest) {
                Some((token, after)) => {
                    tokens.push(token);
                    rest = after;
                }
                None => tokens.push(Token::Character('[')),
            },
            other => tokens.push(Token::Character(*other)),
        }
    }
    tokens
}

/// The class after `[`, and what follows its `]`; `None` for a class without an end.
fn class(mut pattern: &[char]) -> Option<(Token, &[char])> {
    let is_negated = pattern.first() == Some(&'^');
    if is_negated {
        pattern = &pattern[1..];
    }
    let mut ranges = Vec::new();
    loop {
        let (mut low, mut rest) = pattern.split_first()?;
        if *low == ']' && !ranges.is_empty() {
            return Some((Token::Class { is_negated, ranges }, rest));
        }
        if *low == '\\' {
            (low, rest) = rest.split_first()?;
        }
        let mut high = low;
        if rest.first() == Some(&'-') && rest.get(1).is_some_and(|next| *next != ']') {
            high = rest.get(1)?;
            rest = &rest[2..];
        }
        ranges.push((*low, *high));
        pattern = rest;
    }
}

fn matches(tokens: &[Token], path: &str) -> bool {
    let Some((first, after)) = tokens.split_first() else { return path.is_empty() };
    let mut characters = path.chars();
    let next = characters.next();
    let rest = characters.as_str();
    match first {
        Token::Character(wanted) => next == Some(*wanted) && matches(after, rest),
        Token::One => next.is_some_and(|next| next != '/') && matches(after, rest),
        Token::Class { is_negated, ranges } => {
            let is_in = |next| ranges.iter().any(|(low, high)| (*low..=*high).contains(&next)) != *is_negated;
            next.is_some_and(|next| next != '/' && is_in(next)) && matches(after, rest)
        }
        Token::Some => {
            let end = path.find('/').unwrap_or(path.len());
            let starts = path[..end].char_indices().map(|(index, _)| index).chain([end]);
            starts.into_iter().any(|start| matches(after, &path[start..]))
        }
        Token::Components => {
            let starts = path.match_indices('/').map(|(index, _)| index + 1);
            std::iter::once(0).chain(starts).any(|start| matches(after, &path[start..]))
        }
        Token::Rest => true,
    }
}
