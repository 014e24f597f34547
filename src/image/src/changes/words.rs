//! Words of Dockerfile instructions: quotes, backslashes, variables.
//!
//! Source: Dockerfile reference, "Environment replacement".

/// Splits at spaces that are not quoted; quotes and backslashes stay.
pub(super) fn split(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match (quote, character) {
            (None, space) if space.is_whitespace() => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                continue;
            }
            (None, '\'' | '"') => quote = Some(character),
            (Some(open), close) if open == close => quote = None,
            (None | Some('"'), '\\') => {
                word.push(character);
                word.extend(characters.next());
                continue;
            }
            _ => {}
        }
        word.push(character);
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// Takes quotes and backslashes away and puts variables in.
pub(super) fn expand(text: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text.chars().peekable();
    let mut is_quoted = false;
    while let Some(character) = rest.next() {
        match character {
            '\'' if !is_quoted => loop {
                match rest.next() {
                    Some('\'') => break,
                    Some(character) => out.push(character),
                    None => return Err("a single quote is not closed".to_owned()),
                }
            },
            '"' => is_quoted = !is_quoted,
            '\\' => match rest.next() {
                Some(escaped) => {
                    if is_quoted && !matches!(escaped, '"' | '$' | '\\') {
                        out.push('\\');
                    }
                    out.push(escaped);
                }
                None => out.push('\\'),
            },
            '$' => out.push_str(&substitute(&mut rest, variable)?),
            other => out.push(other),
        }
    }
    if is_quoted { Err("a double quote is not closed".to_owned()) } else { Ok(out) }
}

type Characters<'a> = std::iter::Peekable<std::str::Chars<'a>>;

fn name(rest: &mut Characters<'_>) -> String {
    let mut name = String::new();
    while let Some(character) = rest.next_if(|next| next.is_ascii_alphanumeric() || *next == '_') {
        name.push(character);
    }
    name
}

/// Behind a `$`.
fn substitute(rest: &mut Characters<'_>, variable: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    if rest.next_if_eq(&'{').is_none() {
        let name = name(rest);
        return Ok(if name.is_empty() { "$".to_owned() } else { variable(&name).unwrap_or_default() });
    }
    let name = name(rest);
    if name.is_empty() {
        return Err("`${` is followed by no name".to_owned());
    }
    let value = variable(&name);
    let counts_empty = rest.next_if_eq(&':').is_some();
    let is_set = value.as_ref().is_some_and(|value| !(counts_empty && value.is_empty()));
    let operator = rest.next();
    if operator == Some('}') && !counts_empty {
        return Ok(value.unwrap_or_default());
    }
    let word = expand(&braced(rest, &name)?, variable)?;
    match operator {
        Some('-') => Ok(if is_set { value.unwrap_or_default() } else { word }),
        Some('+') => Ok(if is_set { word } else { String::new() }),
        Some('?') if is_set => Ok(value.unwrap_or_default()),
        Some('?') => Err(format!("{name}: {}", if word.is_empty() { "it is not set" } else { &word })),
        _ => Err(format!("`${{{name}...}}` has an operator that is none; there are `-`, `+` and `?`")),
    }
}

/// Up to the brace that closes, which is taken.
fn braced(rest: &mut Characters<'_>, name: &str) -> Result<String, String> {
    let mut word = String::new();
    let mut depth = 0;
    while let Some(character) = rest.next() {
        match character {
            '\\' => {
                word.push(character);
                word.extend(rest.next());
                continue;
            }
            '{' => depth += 1,
            '}' if depth == 0 => return Ok(word),
            '}' => depth -= 1,
            _ => {}
        }
        word.push(character);
    }
    Err(format!("`${{{name}` is not closed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(text: &str) -> Result<String, String> {
        expand(text, &|name| match name {
            "A" => Some("one".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        })
    }

    #[test]
    fn words_as_dockerfiles_have_them() {
        assert_eq!(split(r#"a="b c" d='e "f' g\ h i"#), [r#"a="b c""#, r#"d='e "f'"#, r"g\ h", "i"]);
        for (text, wanted) in [
            ("$A/${A}x", "one/onex"),
            (r"\$A '$A' $", "$A $A $"),
            (r#""a\n\"$A\"""#, r#"a\n"one""#),
            ("${NONE:-x$A}|${A:-x}|${EMPTY-x}|${EMPTY:-x}", "xone|one||x"),
            ("${A:+x}|${NONE:+x}|${EMPTY+x}", "x||x"),
            ("a$B.c", "a.c"),
            (r"c:\\x", r"c:\x"),
        ] {
            assert_eq!(expanded(text).as_deref(), Ok(wanted), "{text}");
        }
        for broken in ["'a", "\"a", "${A", "${}", "${A:x}", "${NONE:?}", "${A/x/y}"] {
            assert!(expanded(broken).is_err(), "{broken}");
        }
    }
}
