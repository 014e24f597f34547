//! `.env` files.

use std::collections::BTreeMap;

use crate::interpolate::interpolate;

/// Reads the variables of a `.env` file; `outer` has those that count more, and that its values may use. What is wrong comes
/// back with its line.
pub(crate) fn read(text: &str, outer: &BTreeMap<String, String>) -> Result<BTreeMap<String, String>, (usize, String)> {
    let mut variables = BTreeMap::new();
    let mut rest = text.strip_prefix('\u{feff}').unwrap_or(text);
    while !rest.is_empty() {
        let line = text[..text.len() - rest.len()].lines().count() + 1;
        let (head, after) = rest.split_once('\n').unwrap_or((rest, ""));
        let trimmed = head.trim();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            rest = after;
            continue;
        }
        let entry = trimmed.strip_prefix("export ").unwrap_or(trimmed).trim_start();
        let Some((name, _)) = entry.split_once('=') else {
            // A name alone means what the environment says.
            rest = after;
            continue;
        };
        let name = name.trim();
        if name.is_empty() || name.contains(char::is_whitespace) {
            return Err((line, format!("`{name}` is no variable's name")));
        }
        // The value may go over several lines, in quotes.
        let start = rest.find('=').map_or(rest.len(), |at| at + 1);
        let value_text = rest[start..].trim_start_matches([' ', '\t']);
        let (raw, is_plain, after) = split_value(value_text).ok_or((line, "a quote is not closed".to_owned()))?;
        let lookup = |wanted: &str| outer.get(wanted).or_else(|| variables.get(wanted)).cloned();
        let value = match is_plain {
            true => raw,
            false => {
                interpolate(&raw, &lookup).map_err(|_| (line, format!("the value of `{name}` is not understood")))?.text
            }
        };
        variables.insert(name.to_owned(), value);
        rest = after;
    }
    Ok(variables)
}

/// A value, whether dollar signs in it are only that, and what comes after its line. `None` where a quote is not closed.
fn split_value(text: &str) -> Option<(String, bool, &str)> {
    let after_line = |text: &'_ str| text.find('\n').map_or(text.len(), |at| at + 1);
    if let Some(inner) = text.strip_prefix('\'') {
        let end = inner.find('\'')?;
        let rest = &inner[end + 1..];
        return Some((inner[..end].to_owned(), true, &rest[after_line(rest)..]));
    }
    if let Some(inner) = text.strip_prefix('"') {
        let mut value = String::new();
        let mut characters = inner.char_indices();
        while let Some((index, character)) = characters.next() {
            match character {
                '"' => {
                    let rest = &inner[index + 1..];
                    return Some((value, false, &rest[after_line(rest)..]));
                }
                '\\' => match characters.next()?.1 {
                    'n' => value.push('\n'),
                    'r' => value.push('\r'),
                    't' => value.push('\t'),
                    '$' => value.push_str("$$"),
                    other => value.push(other),
                },
                other => value.push(other),
            }
        }
        return None;
    }
    let (line, after) = text.split_at(after_line(text));
    // A comment begins after a blank.
    let value = line.split(" #").next().unwrap_or(line).trim();
    Some((value.to_owned(), false, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_in_and_out_of_quotes() {
        let text = "# a comment\nA=1 # one\nexport B = 'x # $A'\nC=\"two\\n${A}\"\n\nD=\"over\nlines\"\nE=$A-$OUT\nALONE\nF=\n";
        let outer = BTreeMap::from([("OUT".to_owned(), "o".to_owned())]);
        let found = read(text, &outer).unwrap();
        let expected = [("A", "1"), ("B", "x # $A"), ("C", "two\n1"), ("D", "over\nlines"), ("E", "1-o"), ("F", "")];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(found, BTreeMap::from(expected));
    }

    #[test]
    fn mistakes_have_their_line() {
        assert_eq!(read("A=1\nB='x\n", &BTreeMap::new()).unwrap_err().0, 2);
        assert_eq!(read("A B=1\n", &BTreeMap::new()).unwrap_err().0, 1);
    }
}
