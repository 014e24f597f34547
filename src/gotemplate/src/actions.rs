//! Finds the actions of a text and checks that they balance. The engine silently cuts its output at a stray `{{end}}`
//! and accepts an `{{if}}` without end, so this comes before it.

use std::ops::Range;

use crate::RenderError;

/// How deep blocks and parentheses may nest: the engine reads them by recursion, without a bound of its own.
const MAX_NESTING: usize = 100;

/// One `{{ ... }}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Action {
    /// With both delimiters.
    pub(crate) range: Range<usize>,
    /// The first word inside, empty for comments and for actions that start with anything but a letter.
    keyword: String,
    /// Whether an `else` has a condition of its own (`else if`, `else with`).
    has_condition: bool,
}

/// The byte ranges of all actions with their delimiters, comments included; an action that is not closed runs to the
/// end of the text. Empty for a text without actions.
pub fn action_ranges(text: &str) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    let mut offset = 0;
    while let Some(found) = text[offset..].find("{{") {
        let start = offset + found;
        let end = action_end(text, start).unwrap_or(text.len());
        ranges.push(start..end);
        offset = end;
    }
    ranges
}

/// Where the actions start that print a data field: `{{ .Vars }}`, `{{.Path | upper}}`, but not `{{.}}` or `{{if .Sudo}}`.
pub(crate) fn field_actions(text: &str) -> Vec<usize> {
    let prints_field = |range: &Range<usize>| {
        let name = text[range.start + 2..range.end].trim_start().strip_prefix('.');
        text[range.clone()].ends_with("}}")
            && name.is_some_and(|name| name.starts_with(|c: char| c.is_alphabetic() || c == '_'))
    };
    action_ranges(text).into_iter().filter(prints_field).map(|range| range.start).collect()
}

/// All actions, or the first mistake in how they are closed.
pub(crate) fn check(text: &str) -> Result<Vec<Action>, RenderError> {
    let mut actions = Vec::new();
    let mut offset = 0;
    while let Some(found) = text[offset..].find("{{") {
        let start = offset + found;
        let end =
            action_end(text, start).map_err(|message| RenderError::new(message, Some(first_line(text, start))))?;
        actions.push(action(text, start..end));
        offset = end;
    }
    balance(&actions)?;
    Ok(actions)
}

/// The action from its start to the end of its line: where an unclosed one is marked.
fn first_line(text: &str, start: usize) -> Range<usize> {
    start..text[start..].find('\n').map_or(text.len(), |newline| start + newline)
}

/// One past the closing braces of the action that starts at `start`.
fn action_end(text: &str, start: usize) -> Result<usize, &'static str> {
    let inside = start + 2;
    let after_trim = text[inside..].strip_prefix('-').map_or(inside, |rest| {
        if rest.starts_with([' ', '\t', '\r', '\n']) { text.len() - rest.trim_start().len() } else { inside }
    });
    if text[after_trim..].starts_with("/*") {
        let close = text[after_trim..].find("*/").ok_or("the comment is not closed; `*/}}` is missing")?;
        let after = after_trim + close + 2;
        let rest = text[after..].trim_start();
        let rest = rest.strip_prefix('-').unwrap_or(rest);
        let rest = rest.strip_prefix("}}").ok_or("a comment must be closed with `*/}}`")?;
        return Ok(text.len() - rest.len());
    }
    let bytes = text.as_bytes();
    let mut offset = inside;
    let mut nesting = 0_usize;
    while let Some(byte) = bytes.get(offset) {
        match byte {
            b'}' if bytes.get(offset + 1) == Some(&b'}') => return Ok(offset + 2),
            b'"' | b'\'' => offset = quoted_end(bytes, offset)?,
            b'`' => {
                let close = text[offset + 1..].find('`').ok_or("a text in backquotes is not closed")?;
                offset += close + 2;
            }
            b'(' if nesting == MAX_NESTING => return Err("the action has too many parentheses inside of each other"),
            byte => {
                nesting = match byte {
                    b'(' => nesting + 1,
                    b')' => nesting.saturating_sub(1),
                    _ => nesting,
                };
                offset += 1;
            }
        }
    }
    Err("the action is not closed; `}}` is missing")
}

/// One past the closing quote; a backslash takes the next byte along.
fn quoted_end(bytes: &[u8], start: usize) -> Result<usize, &'static str> {
    let mut offset = start + 1;
    while let Some(byte) = bytes.get(offset) {
        match byte {
            b'\\' => offset += 2,
            b'\n' => break,
            byte if *byte == bytes[start] => return Ok(offset + 1),
            _ => offset += 1,
        }
    }
    Err("a quoted text is not closed")
}

fn action(text: &str, range: Range<usize>) -> Action {
    let inside = text[range.start + 2..range.end - 2].trim_start_matches('-').trim();
    let word_end = inside.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(inside.len());
    let rest = inside[word_end..].trim_end_matches('-').trim();
    Action { range, keyword: inside[..word_end].to_owned(), has_condition: !rest.is_empty() }
}

/// A block that waits for its `end`.
struct Open<'a> {
    keyword: &'a str,
    range: Range<usize>,
    has_else: bool,
    /// Levels that it adds: each `else if` is one inside of the last.
    levels: usize,
}

fn balance(actions: &[Action]) -> Result<(), RenderError> {
    let mut open: Vec<Open<'_>> = Vec::new();
    let mut depth = 0;
    for action in actions {
        let place = || Some(action.range.clone());
        if depth > MAX_NESTING {
            let message = format!("the blocks of this text nest deeper than {MAX_NESTING} levels");
            return Err(RenderError::new(message, place()));
        }
        match action.keyword.as_str() {
            keyword @ ("if" | "range" | "with" | "block" | "define") => {
                open.push(Open { keyword, range: action.range.clone(), has_else: false, levels: 1 });
                depth += 1;
            }
            "end" => match open.pop() {
                Some(block) => depth -= block.levels,
                None => {
                    let message = "`{{end}}` ends nothing: no `if`, `range` or `with` is open here";
                    return Err(RenderError::new(message, place()));
                }
            },
            "else" => match open.last_mut() {
                Some(block) if matches!(block.keyword, "if" | "range" | "with") => {
                    if block.has_else {
                        let message = format!("the `{}` before has its `{{{{else}}}}` already", block.keyword);
                        return Err(RenderError::new(message, place()));
                    }
                    block.has_else = !action.has_condition;
                    block.levels += usize::from(action.has_condition);
                    depth += usize::from(action.has_condition);
                }
                _ => {
                    let message = "`{{else}}` belongs to nothing: no `if`, `range` or `with` is open here";
                    return Err(RenderError::new(message, place()));
                }
            },
            _ => {}
        }
    }
    match open.pop() {
        None => Ok(()),
        Some(block) => {
            let message = format!("the `{}` is not closed; `{{{{end}}}}` is missing", block.keyword);
            Err(RenderError::new(message, Some(block.range)))
        }
    }
}
