//! `.dockerignore`: which files of a context are sent. The rules are those of docker's documentation: Go's
//! `filepath.Match` for each component, `**` for any number of components, `!` for exceptions, the last match decides, and
//! a match of a directory holds for all that is in it.

use std::path::Path;

/// The rules of one file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct IgnoreRules {
    rules: Vec<Rule>,
    has_exceptions: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    components: Vec<String>,
    is_exception: bool,
}

impl IgnoreRules {
    pub(crate) fn parse(text: &str) -> IgnoreRules {
        let lines = text.trim_start_matches('\u{feff}').lines();
        let rules: Vec<Rule> = lines.filter(|line| !line.starts_with('#')).filter_map(rule).collect();
        IgnoreRules { has_exceptions: rules.iter().any(|rule| rule.is_exception), rules }
    }

    /// Whether a path inside the context is sent. An ignored directory is entered all the same while an exception may
    /// lie in it; it is then an entry itself only by way of its files' parents, which does no harm.
    pub(crate) fn wants(&self, path: &Path, is_directory: bool) -> bool {
        if self.rules.is_empty() {
            return true;
        }
        let components: Vec<String> = path.iter().map(|part| part.to_string_lossy().into_owned()).collect();
        if !self.ignores(&components) {
            return true;
        }
        is_directory && self.has_exceptions && self.may_hold_exception(&components)
    }

    fn ignores(&self, path: &[String]) -> bool {
        let mut is_ignored = false;
        for rule in &self.rules {
            if rule.is_exception != is_ignored {
                continue;
            }
            // The path itself, or any directory it lies in.
            if (1..=path.len()).any(|length| matches(&rule.components, &path[..length])) {
                is_ignored = !rule.is_exception;
            }
        }
        is_ignored
    }

    fn may_hold_exception(&self, directory: &[String]) -> bool {
        self.rules.iter().filter(|rule| rule.is_exception).any(|rule| {
            let wild = rule.components.iter().position(|part| part == "**").unwrap_or(rule.components.len());
            let shared = wild.min(directory.len());
            rule.components[..shared].iter().zip(directory).all(|(pattern, name)| match_name(pattern, name))
        })
    }
}

fn rule(line: &str) -> Option<Rule> {
    let line = line.trim();
    let (is_exception, pattern) = match line.strip_prefix('!') {
        Some(rest) => (true, rest.trim()),
        None => (false, line),
    };
    let mut components: Vec<String> = Vec::new();
    for part in pattern.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                components.pop();
            }
            part => components.push(part.to_owned()),
        }
    }
    (!components.is_empty()).then_some(Rule { components, is_exception })
}

fn matches(pattern: &[String], path: &[String]) -> bool {
    match pattern.split_first() {
        None => path.is_empty(),
        Some((first, rest)) if first == "**" => (0..=path.len()).any(|skipped| matches(rest, &path[skipped..])),
        Some((first, rest)) => {
            path.split_first().is_some_and(|(name, below)| match_name(first, name) && matches(rest, below))
        }
    }
}

/// Go's `filepath.Match` on one component.
fn match_name(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    match_characters(&pattern, &name)
}

fn match_characters(pattern: &[char], name: &[char]) -> bool {
    match pattern.split_first() {
        None => name.is_empty(),
        Some(('*', rest)) => {
            let rest = &rest[rest.iter().take_while(|character| **character == '*').count()..];
            (0..=name.len()).any(|skipped| match_characters(rest, &name[skipped..]))
        }
        Some(('?', rest)) => !name.is_empty() && match_characters(rest, &name[1..]),
        Some(('[', rest)) => {
            let Some((first, below)) = name.split_first() else { return false };
            match_class(rest, *first).is_some_and(|(is_in, rest)| is_in && match_characters(rest, below))
        }
        Some(('\\', rest)) if !rest.is_empty() => {
            name.first() == rest.first() && match_characters(&rest[1..], &name[1..])
        }
        Some((literal, rest)) => name.first() == Some(literal) && match_characters(rest, &name[1..]),
    }
}

/// Whether a character is in the class after `[`, and the pattern behind its `]`; `None` for a class without an end.
fn match_class(mut pattern: &[char], character: char) -> Option<(bool, &[char])> {
    let is_negated = pattern.first() == Some(&'^');
    if is_negated {
        pattern = &pattern[1..];
    }
    let mut is_in = false;
    let mut is_first = true;
    loop {
        let (mut low, mut rest) = pattern.split_first()?;
        if *low == ']' && !is_first {
            return Some((is_in != is_negated, rest));
        }
        if *low == '\\' {
            (low, rest) = rest.split_first()?;
        }
        let mut high = low;
        if rest.first() == Some(&'-') && rest.get(1).is_some_and(|next| *next != ']') {
            high = rest.get(1)?;
            rest = &rest[2..];
        }
        is_in |= (*low..=*high).contains(&character);
        is_first = false;
        pattern = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(rules: &str, path: &str) -> bool {
        IgnoreRules::parse(rules).wants(Path::new(path), false)
    }

    #[test]
    fn patterns_match_as_documented() {
        for (rules, path, is_sent) in [
            ("", "a", true),
            ("# only words\n", "a", true),
            ("*/temp*", "somedir/temporary.txt", false),
            ("*/temp*", "a/b/temp", true),
            ("*/*/temp*", "somedir/subdir/temporary.txt", false),
            ("temp?", "tempa", false),
            ("temp?", "temp", true),
            ("**/*.go", "a/b/c.go", false),
            ("**/*.go", "c.go", false),
            ("/foo/bar/", "foo/bar/deep/file", false),
            ("./foo", "foo", false),
            ("*.md\n!README.md", "README.md", true),
            ("*.md\n!README*.md\nREADME-secret.md", "README-secret.md", false),
            ("*.md\nREADME-secret.md\n!README*.md", "README-secret.md", true),
            ("[a-c]x\n[^0-9]y", "bx", false),
            ("[^0-9]y", "1y", true),
            (r"\*star", "*star", false),
            ("node_modules", "node_modules/x/y", false),
            ("node_modules", "a/node_modules", true),
            ("**", "anything/at/all", false),
            ("a/**/z", "a/z", false),
        ] {
            assert_eq!(sent(rules, path), is_sent, "{rules:?} {path}");
        }
    }

    #[test]
    fn an_ignored_directory_is_entered_only_for_an_exception() {
        let rules = IgnoreRules::parse("vendor\n!vendor/keep/*.c");
        assert!(rules.wants(Path::new("vendor"), true));
        assert!(rules.wants(Path::new("vendor/keep"), true));
        assert!(!rules.wants(Path::new("vendor/other"), true));
        assert!(rules.wants(Path::new("vendor/keep/a.c"), false));
        assert!(!rules.wants(Path::new("vendor/keep/a.h"), false));
    }
}
