//! `$VARIABLE` and `${VARIABLE:-default}` in compose files.

/// What a text came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Interpolated {
    pub(crate) text: String,
    /// Variables without value and without default: compose takes them for empty.
    pub(crate) unset: Vec<String>,
}

/// Why a text has no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Problem {
    /// It is not written as it should be.
    Form(String),
    /// `${VARIABLE:?message}`, and it is not set.
    Required { name: String, message: String },
}

/// Looks a variable up.
pub(crate) type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Puts in the values of variables.
pub(crate) fn interpolate(text: &str, lookup: Lookup<'_>) -> Result<Interpolated, Problem> {
    let mut result = Interpolated::default();
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        result.text.push_str(&rest[..dollar]);
        rest = &rest[dollar + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            result.text.push('$');
            rest = after;
        } else if let Some(after) = rest.strip_prefix('{') {
            let end = closing(after).ok_or_else(|| Problem::Form("a `}` is missing".to_owned()))?;
            braced(&after[..end], lookup, &mut result)?;
            rest = &after[end + 1..];
        } else {
            let (name, after) = split_name(rest);
            if name.is_empty() {
                return Err(Problem::Form(
                    "after `$` comes a variable; a dollar sign itself is written `$$`".to_owned(),
                ));
            }
            plain(name, lookup, &mut result);
            rest = after;
        }
    }
    result.text.push_str(rest);
    Ok(result)
}

fn plain(name: &str, lookup: Lookup<'_>, result: &mut Interpolated) {
    match lookup(name) {
        Some(value) => result.text.push_str(&value),
        None => result.unset.push(name.to_owned()),
    }
}

/// What stands between braces: `NAME`, `NAME:-default`, `NAME-default`, `NAME:?message`, `NAME?message`, `NAME:+instead`,
/// `NAME+instead`.
fn braced(inner: &str, lookup: Lookup<'_>, result: &mut Interpolated) -> Result<(), Problem> {
    let (name, rest) = split_name(inner);
    if name.is_empty() {
        return Err(Problem::Form(format!("`${{{inner}}}` names no variable")));
    }
    let value = lookup(name);
    let (takes_empty, operator) = match rest.strip_prefix(':') {
        Some(operator) => (false, operator),
        None => (true, rest),
    };
    let is_there = value.as_deref().is_some_and(|value| takes_empty || !value.is_empty());
    let mut nested = |word: &str| -> Result<(), Problem> {
        let found = interpolate(word, lookup)?;
        result.text.push_str(&found.text);
        result.unset.extend(found.unset);
        Ok(())
    };
    match (operator.chars().next(), operator.get(1..).unwrap_or_default()) {
        (None, _) if takes_empty => plain(name, lookup, result),
        (Some('-'), word) if !is_there => nested(word)?,
        (Some('+'), word) if is_there => nested(word)?,
        (Some('+'), _) => {}
        (Some('?'), word) if !is_there => {
            let message = interpolate(word, lookup)?.text;
            return Err(Problem::Required { name: name.to_owned(), message });
        }
        (Some('-' | '?'), _) => result.text.push_str(&value.unwrap_or_default()),
        _ => return Err(Problem::Form(format!("`${{{inner}}}` is not understood"))),
    }
    Ok(())
}

/// A variable's name at the start of a text, and what comes after.
fn split_name(text: &str) -> (&str, &str) {
    let is_part = |(index, character): &(usize, char)| {
        character.is_ascii_alphabetic() || *character == '_' || (*index > 0 && character.is_ascii_digit())
    };
    let end = text.char_indices().take_while(is_part).count();
    text.split_at(end)
}

/// Where the brace closes that was opened before the text; braces of defaults nest.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0;
    let mut previous = '\0';
    for (index, character) in text.char_indices() {
        match character {
            '{' if previous == '$' => depth += 1,
            '}' if depth == 0 => return Some(index),
            '}' => depth -= 1,
            _ => {}
        }
        previous = character;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Result<Interpolated, Problem> {
        interpolate(text, &|name| match name {
            "TAG" => Some("1.2".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        })
    }

    #[test]
    fn all_forms_of_compose() {
        let text = |text: &str| value(text).unwrap().text;
        assert_eq!(text("a:$TAG-b"), "a:1.2-b");
        assert_eq!(text("${TAG}${TAG:-x}${TAG-x}${TAG:?x}${TAG?x}"), "1.21.21.21.21.2");
        assert_eq!(text("${NO:-x}${NO-x}${EMPTY:-x}(${EMPTY-x})"), "xxx()");
        assert_eq!(text("${TAG:+y}${TAG+y}${EMPTY:+y}${EMPTY+y}${NO+y}"), "yyy");
        assert_eq!(text("${NO:-${ALSO_NO:-r:${TAG}}}/x"), "r:1.2/x");
        assert_eq!(text("$$TAG $${TAG}"), "$TAG ${TAG}");
        assert_eq!(value("$NO ${EMPTY}").unwrap().unset, ["NO"]);
    }

    #[test]
    fn what_cannot_be_read_is_told() {
        let required = Problem::Required { name: "NO".to_owned(), message: "set it to 1.2".to_owned() };
        assert_eq!(value("${NO:?set it to $TAG}"), Err(required));
        assert!(matches!(value("${EMPTY:?}"), Err(Problem::Required { .. })));
        for wrong in ["${TAG", "$ ", "a$", "${}", "${1}", "${TAG!}", "${TAG:}", "${TAG:=x}"] {
            assert!(matches!(value(wrong), Err(Problem::Form(_))), "{wrong}");
        }
    }
}
