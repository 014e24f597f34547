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
    /// `**` in front of plain text: anything at all, as docker has it since 2022.
    Anything,
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
        let mut run = Run::new(&self.tokens);
        for character in path.chars() {
            if character == '/' && run.is_through() {
                return true;
            }
            run.take(character);
        }
        run.is_through()
    }

    /// Whether something below a directory may match.
    pub fn may_match_below(&self, directory: &str) -> bool {
        let mut components = self.components.iter();
        for name in directory.split('/') {
            match components.next() {
                None => return true,
                Some(tokens)
                    if tokens
                        .iter()
                        .any(|token| matches!(token, Token::Components | Token::Rest | Token::Anything)) =>
                {
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
    if let Some(suffix) = pattern.strip_prefix("**").filter(|suffix| !suffix.is_empty() && !suffix.starts_with('/'))
        && !suffix.contains(['*', '?', '[', '\\'])
    {
        tokens.push(Token::Anything);
        rest = &rest[2..];
    }
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

/// Whether the whole path matches.
fn matches(tokens: &[Token], path: &str) -> bool {
    let mut run = Run::new(tokens);
    path.chars().for_each(|character| run.take(character));
    run.is_through()
}

/// A pattern on its way through a path: all places in it that may come next, so that no pattern takes more than its length for
/// each character.
struct Run<'a> {
    tokens: &'a [Token],
    places: Vec<bool>,
}

impl<'a> Run<'a> {
    fn new(tokens: &'a [Token]) -> Run<'a> {
        let mut run = Run { tokens, places: vec![false; tokens.len() + 1] };
        enter(tokens, &mut run.places, 0);
        run
    }

    fn take(&mut self, character: char) {
        let mut next = vec![false; self.places.len()];
        for (place, token) in self.tokens.iter().enumerate().filter(|(place, _)| self.places[*place]) {
            match token {
                Token::Rest => next[place] = true,
                Token::Anything => enter(self.tokens, &mut next, place),
                // It ends with a component; what is in one may be its own.
                Token::Components if character == '/' => {
                    next[place] = true;
                    enter(self.tokens, &mut next, place + 1);
                }
                Token::Components => next[place] = true,
                Token::Some if character != '/' => enter(self.tokens, &mut next, place),
                Token::Some => {}
                token if token.is(character) => enter(self.tokens, &mut next, place + 1),
                _ => {}
            }
        }
        self.places = next;
    }

    fn is_through(&self) -> bool {
        let is_rest = |place: usize| self.tokens.get(place).is_none_or(|token| *token == Token::Rest);
        self.places.iter().enumerate().any(|(place, is_here)| *is_here && is_rest(place))
    }
}

/// Marks a place, and those after it that are reached without a character.
fn enter(tokens: &[Token], places: &mut [bool], mut place: usize) {
    loop {
        places[place] = true;
        if !matches!(tokens.get(place), Some(Token::Some | Token::Components | Token::Anything)) {
            return;
        }
        place += 1;
    }
}

impl Token {
    /// Whether this one of a single character stands for this one.
    fn is(&self, character: char) -> bool {
        match self {
            Token::Character(wanted) => character == *wanted,
            Token::One => character != '/',
            Token::Class { is_negated, ranges } => {
                let is_in = ranges.iter().any(|(low, high)| (*low..=*high).contains(&character));
                character != '/' && is_in != *is_negated
            }
            Token::Some | Token::Components | Token::Rest | Token::Anything => false,
        }
    }
}
