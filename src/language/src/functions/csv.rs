//! CSV to values.

use std::collections::BTreeSet;

use super::{FunctionContext, Outcome, fail_at, string_argument};
use crate::value::{Type, Value};

/// Every line but the first becomes an object with the names of the first as attributes.
pub(super) fn decode(arguments: &[Value], _: &FunctionContext) -> Outcome {
    let records = match records(string_argument(arguments, 0)) {
        Ok(records) => records,
        Err(message) => return fail_at(0, format!("the text is not valid CSV: {message}")),
    };
    let mut records = records.into_iter();
    let Some((_, names)) = records.next() else { return fail_at(0, "the header line is missing") };
    let mut seen = BTreeSet::new();
    if let Some(name) = names.iter().find(|name| !seen.insert(*name)) {
        return fail_at(0, format!("there are two columns `{name}`"));
    }
    let mut rows = Vec::new();
    for (line, fields) in records {
        if fields.len() != names.len() {
            let (wanted, found) = (names.len(), fields.len());
            return fail_at(0, format!("line {line} has {found} fields, and the header {wanted}"));
        }
        rows.push(Value::object(names.iter().zip(fields).map(|(name, field)| (name.as_str(), Value::string(field)))));
    }
    let kind = Type::object(names.iter().map(|name| (name.as_str(), Type::String)));
    Ok(Value::list(kind, rows))
}

/// The fields of all lines that are not empty, with the numbers of the lines.
fn records(text: &str) -> Result<Vec<(usize, Vec<String>)>, String> {
    let mut records = Vec::new();
    let mut line = 1;
    let mut rest = text;
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('\n').or_else(|| rest.strip_prefix("\r\n")) {
            rest = after;
            line += 1;
            continue;
        }
        let start = line;
        let mut fields = Vec::new();
        loop {
            let (field, after) = field(rest, &mut line)?;
            fields.push(field);
            match after.strip_prefix(',') {
                Some(after) => rest = after,
                None => {
                    rest = after.strip_prefix("\r\n").or_else(|| after.strip_prefix('\n')).unwrap_or(after);
                    line += 1;
                    break;
                }
            }
        }
        records.push((start, fields));
    }
    Ok(records)
}

/// One field and what is behind it: a comma, a line end or nothing.
fn field<'t>(text: &'t str, line: &mut usize) -> Result<(String, &'t str), String> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', '\n']).unwrap_or(text.len());
        // The carriage return belongs to the line end.
        let end = if text[end..].starts_with('\n') && text[..end].ends_with('\r') { end - 1 } else { end };
        if text[..end].contains('"') {
            return Err(format!("line {line}: a quote stands inside a field without quotes"));
        }
        return Ok((text[..end].to_owned(), &text[end..]));
    };
    let mut field = String::new();
    let mut rest = quoted;
    let start = *line;
    loop {
        let Some((part, after)) = rest.split_once('"') else {
            return Err(format!("line {start}: a field in quotes is not closed"));
        };
        *line += part.matches('\n').count();
        field.push_str(&part.replace("\r\n", "\n"));
        match after.strip_prefix('"') {
            Some(after) => {
                field.push('"');
                rest = after;
            }
            None if after.is_empty() || after.starts_with([',', '\n']) || after.starts_with("\r\n") => {
                return Ok((field, after));
            }
            None => return Err(format!("line {line}: something stands behind a field in quotes")),
        }
    }
}
