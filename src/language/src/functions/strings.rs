//! Texts.

use regex::Regex;
use unicode_segmentation::UnicodeSegmentation;

use super::{
    Function, Outcome, define, fail_at, integer_argument, list_of_strings, parameter, string_argument, text,
    texts_argument,
};
use crate::functions::number;
use crate::value::{Type, Value};

pub(super) fn functions() -> Vec<Function> {
    let mut functions = cases_and_trims();
    functions.extend(parts());
    functions.extend(patterns());
    functions
}

fn string(name: &'static str, doc: &'static str, call: super::Call) -> Function {
    define(name, vec![text("text")], Type::String, doc, call)
}

fn cases_and_trims() -> Vec<Function> {
    vec![
        string("chomp", "Removes the line ends at the end of a text.", |arguments, _| {
            Ok(Value::string(string_argument(arguments, 0).trim_end_matches(['\r', '\n'])))
        })
        .example(r#"chomp("kiln\n")"#, r#""kiln""#),
        define(
            "indent",
            vec![number("spaces"), text("text")],
            Type::String,
            "Puts so many spaces in front of every line but the first.",
            |arguments, _| {
                let Ok(spaces) = usize::try_from(integer_argument(arguments, 0)?) else {
                    return fail_at(0, "the number of spaces must not be negative");
                };
                if spaces > MAX_INDENT {
                    return fail_at(0, format!("at most {MAX_INDENT} spaces are possible"));
                }
                let line_end = format!("\n{}", " ".repeat(spaces));
                Ok(Value::string(string_argument(arguments, 1).replace('\n', &line_end)))
            },
        )
        .example(r#"indent(2, "a\nb")"#, r#""a\n  b""#),
        string("lower", "Makes all letters lower case.", |arguments, _| {
            Ok(Value::string(kiln_gotemplate::lower(string_argument(arguments, 0))))
        })
        .example(r#"lower("KILN")"#, r#""kiln""#),
        string(
            "slug",
            "A text as a tag of an image can hold it: lower case, every run of what is no letter from a to z, digit, `_` or `.` replaced by one `-`, none of `-` and `.` at the ends, at most 128 characters. Beyond Packer.",
            |arguments, _| {
                let slug = slug(string_argument(arguments, 0));
                if slug.is_empty() {
                    return fail_at(0, "nothing of this text can stand in a tag");
                }
                Ok(Value::string(slug))
            },
        )
        .example(r#"slug("feature/X y")"#, r#""feature-x-y""#),
        string("strrev", "Reverses the characters of a text.", |arguments, _| {
            Ok(Value::string(string_argument(arguments, 0).graphemes(true).rev().collect::<String>()))
        })
        .example(r#"strrev("kiln")"#, r#""nlik""#),
        string("title", "Makes the first letter of every word upper case.", |arguments, _| {
            Ok(Value::string(title(string_argument(arguments, 0))))
        })
        .example(r#"title("the kiln's fire")"#, r#""The Kiln'S Fire""#),
        define(
            "trim",
            vec![text("text"), text("characters")],
            Type::String,
            "Removes the given characters from both ends of a text.",
            |arguments, _| {
                let cut = string_argument(arguments, 1);
                Ok(Value::string(string_argument(arguments, 0).trim_matches(|c| cut.contains(c))))
            },
        )
        .example(r#"trim("?!kiln!?", "!?")"#, r#""kiln""#),
        define(
            "trimprefix",
            vec![text("text"), text("prefix")],
            Type::String,
            "Removes a prefix, once, if the text starts with it.",
            |arguments, _| {
                let source = string_argument(arguments, 0);
                Ok(Value::string(source.strip_prefix(string_argument(arguments, 1)).unwrap_or(source)))
            },
        )
        .example(r#"trimprefix("v1.2", "v")"#, r#""1.2""#),
        string("trimspace", "Removes white space from both ends of a text.", |arguments, _| {
            Ok(Value::string(string_argument(arguments, 0).trim()))
        })
        .example(r#"trimspace("  kiln\n")"#, r#""kiln""#),
        define(
            "trimsuffix",
            vec![text("text"), text("suffix")],
            Type::String,
            "Removes a suffix, once, if the text ends with it.",
            |arguments, _| {
                let source = string_argument(arguments, 0);
                Ok(Value::string(source.strip_suffix(string_argument(arguments, 1)).unwrap_or(source)))
            },
        )
        .example(r#"trimsuffix("a.log", ".log")"#, r#""a""#),
        string("upper", "Makes all letters upper case.", |arguments, _| {
            Ok(Value::string(kiln_gotemplate::upper(string_argument(arguments, 0))))
        })
        .example(r#"upper("kiln")"#, r#""KILN""#),
    ]
}

/// The longest tag that registries take.
const LONGEST_TAG: usize = 128;

/// A text as a tag: registries take letters, digits, `_`, `.` and `-`, and neither `.` nor `-` first.
fn slug(written: &str) -> String {
    let mut slug = String::new();
    for letter in written.chars().flat_map(char::to_lowercase) {
        if letter.is_ascii_lowercase() || letter.is_ascii_digit() || matches!(letter, '_' | '.') {
            slug.push(letter);
        } else if !slug.ends_with('-') {
            slug.push('-');
        }
    }
    let fitting: String = slug.trim_start_matches(['-', '.']).chars().take(LONGEST_TAG).collect();
    fitting.trim_end_matches(['-', '.']).to_owned()
}

/// Bound on `indent`, so that a misplaced argument cannot fill the memory.
const MAX_INDENT: usize = 10_000;

fn parts() -> Vec<Function> {
    vec![
        define(
            "endswith",
            vec![text("text"), text("suffix")],
            Type::Bool,
            "Whether a text ends with another.",
            |arguments, _| Ok(Value::bool(string_argument(arguments, 0).ends_with(string_argument(arguments, 1)))),
        )
        .example(r#"endswith("kiln", "ln")"#, "true"),
        define(
            "join",
            vec![text("separator")],
            Type::String,
            "Puts the strings of one or several lists together, with a separator between them.",
            join,
        )
        .variadic(parameter("lists", list_of_strings()))
        .example(r#"join(", ", ["a", "b"], ["c"])"#, r#""a, b, c""#),
        define(
            "split",
            vec![text("separator"), text("text")],
            list_of_strings(),
            "Cuts a text at a separator; an empty separator gives the characters.",
            |arguments, _| {
                let (separator, source) = (string_argument(arguments, 0), string_argument(arguments, 1));
                Ok(if separator.is_empty() {
                    Value::string_list(source.chars())
                } else {
                    Value::string_list(source.split(separator))
                })
            },
        )
        .example(r#"split(",", "a,b")"#, r#"["a", "b"]"#),
        define(
            "startswith",
            vec![text("text"), text("prefix")],
            Type::Bool,
            "Whether a text starts with another.",
            |arguments, _| Ok(Value::bool(string_argument(arguments, 0).starts_with(string_argument(arguments, 1)))),
        )
        .example(r#"startswith("kiln", "ki")"#, "true"),
        define(
            "strcontains",
            vec![text("text"), text("part")],
            Type::Bool,
            "Whether a text holds another.",
            |arguments, _| Ok(Value::bool(string_argument(arguments, 0).contains(string_argument(arguments, 1)))),
        )
        .example(r#"strcontains("kiln", "il")"#, "true"),
        define(
            "substr",
            vec![text("text"), number("offset"), number("length")],
            Type::String,
            "A part of a text: a negative offset counts from the end, a negative length means all the rest.",
            substr,
        )
        .example(r#"substr("kiln", 1, 2)"#, r#""il""#),
    ]
}

fn patterns() -> Vec<Function> {
    vec![
        define(
            "regex",
            vec![text("pattern"), text("text")],
            Type::Any,
            "The first match of a regular expression: the text, a list of its groups, or an object of its named groups.",
            |arguments, _| {
                let pattern = compile(arguments, 0)?;
                match pattern.captures(string_argument(arguments, 1)) {
                    Some(captures) => found(&pattern, &captures),
                    None => fail_at(1, "the pattern matches nothing in the text; `can(regex(...))` tests for a match"),
                }
            },
        )
        .example(r#"regex("[0-9]+", "v12")"#, r#""12""#),
        define(
            "regexall",
            vec![text("pattern"), text("text")],
            Type::Any,
            "All matches of a regular expression, each as `regex` gives it.",
            |arguments, _| {
                let pattern = compile(arguments, 0)?;
                let matches = pattern.captures_iter(string_argument(arguments, 1));
                let matches: Vec<Value> = matches.map(|captures| found(&pattern, &captures)).collect::<Result<_, _>>()?;
                let kind = matches.first().map_or_else(|| match_type(&pattern), Value::type_of);
                Ok(Value::list(kind, matches))
            },
        )
        .example(r#"regexall("[a-z]", "a1b")"#, r#"["a", "b"]"#),
        define(
            "regex_replace",
            vec![text("text"), text("pattern"), text("replacement")],
            Type::String,
            "Replaces all matches of a regular expression; `$1` and `${name}` stand for groups.",
            |arguments, _| {
                let pattern = compile(arguments, 1)?;
                Ok(Value::string(pattern.replace_all(string_argument(arguments, 0), string_argument(arguments, 2))))
            },
        )
        .example(r#"regex_replace("v1.2", "[^0-9]+", "-")"#, r#""-1-2""#),
        define(
            "replace",
            vec![text("text"), text("part"), text("replacement")],
            Type::String,
            "Replaces every occurrence of a literal text; for patterns there is `regex_replace`.",
            |arguments, _| {
                let [source, part, replacement] = [0, 1, 2].map(|index| string_argument(arguments, index));
                Ok(Value::string(source.replace(part, replacement)))
            },
        )
        .example(r#"replace("a.b", ".", "/")"#, r#""a/b""#),
    ]
}

/// Go's rule: a letter is a word's first unless a letter, a digit or an underscore stands before it; `'` does not count.
fn title(source: &str) -> String {
    let mut inside_word = false;
    source
        .chars()
        .map(|character| {
            let first = !inside_word;
            inside_word = !is_separator(character);
            if first { title_case(character) } else { character }
        })
        .collect()
}

fn is_separator(character: char) -> bool {
    if character.is_ascii() {
        !character.is_ascii_alphanumeric() && character != '_'
    } else {
        character.is_whitespace()
    }
}

/// The title case of a letter is its upper case, but for the few digraphs that have a case of their own.
fn title_case(character: char) -> char {
    match character {
        'Ǆ' | 'ǅ' | 'ǆ' => 'ǅ',
        'Ǉ' | 'ǈ' | 'ǉ' => 'ǈ',
        'Ǌ' | 'ǋ' | 'ǌ' => 'ǋ',
        'Ǳ' | 'ǲ' | 'ǳ' => 'ǲ',
        other => kiln_gotemplate::upper(other.encode_utf8(&mut [0; 4])).chars().next().unwrap_or(other),
    }
}

fn join(arguments: &[Value], _: &super::FunctionContext) -> Outcome {
    if arguments.len() < 2 {
        return super::fail("at least one list is required");
    }
    let mut all = Vec::new();
    for index in 1..arguments.len() {
        all.extend(texts_argument(arguments, index)?);
    }
    Ok(Value::string(all.join(string_argument(arguments, 0))))
}

fn substr(arguments: &[Value], _: &super::FunctionContext) -> Outcome {
    let characters: Vec<&str> = string_argument(arguments, 0).graphemes(true).collect();
    let (offset, length) = (integer_argument(arguments, 1)?, integer_argument(arguments, 2)?);
    let count = i64::try_from(characters.len()).unwrap_or(i64::MAX);
    let start = if offset < 0 { offset.saturating_add(count).max(0) } else { offset.min(count) };
    let end = if length < 0 { count } else { start.saturating_add(length).min(count) };
    let part =
        usize::try_from(start).ok().zip(usize::try_from(end).ok()).and_then(|(start, end)| characters.get(start..end));
    Ok(Value::string(part.unwrap_or_default().concat()))
}

fn compile(arguments: &[Value], index: usize) -> Result<Regex, super::FunctionError> {
    let translated = super::pattern::translated(string_argument(arguments, index));
    translated
        .and_then(|pattern| {
            Regex::new(&pattern).map_err(|error| {
                let message = error.to_string();
                message.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
            })
        })
        .or_else(|reason| fail_at(index, format!("the regular expression is wrong: {reason}")))
}

/// A match as a value. Groups that took no part are null.
fn found(pattern: &Regex, captures: &regex::Captures<'_>) -> Outcome {
    let group = |found: Option<regex::Match<'_>>| match found {
        Some(part) => Value::string(part.as_str()),
        None => Value::null_of(Type::String),
    };
    let names: Vec<&str> = pattern.capture_names().flatten().collect();
    let groups = captures.len() - 1;
    if groups == 0 {
        return Ok(group(captures.get(0)));
    }
    if names.is_empty() {
        return Ok(Value::tuple(captures.iter().skip(1).map(group)));
    }
    if names.len() != groups {
        return fail_at(0, "the groups of a pattern must all have names, or none of them");
    }
    Ok(Value::object(names.into_iter().map(|name| (name, group(captures.name(name))))))
}

fn match_type(pattern: &Regex) -> Type {
    let names: Vec<&str> = pattern.capture_names().flatten().collect();
    match pattern.captures_len() - 1 {
        0 => Type::String,
        groups if names.is_empty() => Type::Tuple(vec![Type::String; groups]),
        _ => Type::object(names.into_iter().map(|name| (name, Type::String))),
    }
}

#[cfg(test)]
mod slug_tests {
    use super::slug;

    #[test]
    fn slugs_are_tags() {
        for (written, expected) in [
            ("feature/X y", "feature-x-y"),
            ("v1.2.3", "v1.2.3"),
            ("--a//b__c..", "a-b__c"),
            (".hidden", "hidden"),
            ("größe", "gr-e"),
            ("///", ""),
        ] {
            assert_eq!(slug(written), expected);
        }
        assert_eq!(slug(&"a/".repeat(200)).len(), 127, "128 characters, and no `-` at the end");
    }
}
