//! `%h` and the like in values.

use crate::process::SshProcess;

/// What the tokens stand for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tokens<'a> {
    /// `%h`: the host that is connected to.
    pub(crate) host: &'a str,
    /// `%n`: the host as it was written.
    pub(crate) name: &'a str,
    /// `%p`.
    pub(crate) port: u16,
    /// `%r`: the login.
    pub(crate) user: &'a str,
    /// For `%d`, `%u` and `${VARIABLE}`.
    pub(crate) process: &'a SshProcess,
}

/// A value with its tokens and variables resolved; what is unknown stays as it stands.
pub(crate) fn expand(value: &str, tokens: &Tokens<'_>) -> String {
    let mut text = String::new();
    let mut rest = value;
    while let Some(at) = rest.find(['%', '$']) {
        text.push_str(&rest[..at]);
        rest = &rest[at..];
        let (replacement, length) = if rest.starts_with('%') { token(rest, tokens) } else { variable(rest, tokens) };
        match replacement {
            Some(replacement) => text.push_str(&replacement),
            None => text.push_str(&rest[..length]),
        }
        rest = &rest[length..];
    }
    text + rest
}

/// What a `%` begins, and how many bytes it takes.
fn token(rest: &str, tokens: &Tokens<'_>) -> (Option<String>, usize) {
    let Some(letter) = rest[1..].chars().next() else { return (None, 1) };
    let replacement = match letter {
        '%' => Some("%".to_owned()),
        'h' => Some(tokens.host.to_owned()),
        'n' | 'k' => Some(tokens.name.to_owned()),
        'p' => Some(tokens.port.to_string()),
        'r' => Some(tokens.user.to_owned()),
        'u' => tokens.process.user().map(str::to_owned),
        'd' => tokens.process.home.as_ref().map(|home| home.display().to_string()),
        _ => None,
    };
    (replacement, 1 + letter.len_utf8())
}

/// What a `$` begins.
fn variable(rest: &str, tokens: &Tokens<'_>) -> (Option<String>, usize) {
    let Some(name) = rest.strip_prefix("${").and_then(|inner| inner.split_once('}')).map(|(name, _)| name) else {
        return (None, 1);
    };
    (tokens.process.environment.get(name).cloned(), name.len() + 3)
}
