//! JSON as `packer fix` prints it: two blanks a level, keys in the order of their bytes, Go's numbers and escapes.

use crate::legacy::json::{JsonNode, JsonObject, JsonValue, Member, canonical_number};

/// A whole document. Two line ends follow, as Packer has it.
pub(super) fn document(root: &JsonNode) -> String {
    let mut text = String::new();
    value(&mut text, &root.value, 0);
    text.push_str("\n\n");
    text
}

fn value(text: &mut String, value: &JsonValue, level: usize) {
    match value {
        JsonValue::Null => text.push_str("null"),
        JsonValue::Bool(value) => text.push_str(if *value { "true" } else { "false" }),
        JsonValue::Number(written) => text.push_str(&number(written)),
        JsonValue::String(value) => string(text, value),
        JsonValue::Array(items) => array(text, items, level),
        JsonValue::Object(members) => object(text, members, level),
    }
}

fn array(text: &mut String, items: &[JsonNode], level: usize) {
    if items.is_empty() {
        return text.push_str("[]");
    }
    text.push('[');
    for (index, item) in items.iter().enumerate() {
        next(text, index, level + 1);
        value(text, &item.value, level + 1);
    }
    line(text, level);
    text.push(']');
}

fn object(text: &mut String, members: &JsonObject, level: usize) {
    if members.is_empty() {
        return text.push_str("{}");
    }
    let mut sorted: Vec<(&String, &Member)> = members.iter().collect();
    sorted.sort_by_key(|(name, _)| *name);
    text.push('{');
    for (index, (name, member)) in sorted.into_iter().enumerate() {
        next(text, index, level + 1);
        string(text, name);
        text.push_str(": ");
        value(text, &member.node.value, level + 1);
    }
    line(text, level);
    text.push('}');
}

fn next(text: &mut String, index: usize, level: usize) {
    if index > 0 {
        text.push(',');
    }
    line(text, level);
}

fn line(text: &mut String, level: usize) {
    text.push('\n');
    text.extend(std::iter::repeat_n("  ", level));
}

/// Go escapes `&`, `<` and `>` for HTML; Packer takes the last two back.
fn string(text: &mut String, value: &str) {
    text.push('"');
    for character in value.chars() {
        match character {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            '\u{0}'..='\u{1f}' | '&' | '\u{2028}' | '\u{2029}' => {
                text.push_str(&format!("\\u{:04x}", u32::from(character)));
            }
            other => text.push(other),
        }
    }
    text.push('"');
}

/// A number goes through Go's float64. One that would not come back as it was stays as it is written: nothing is lost.
fn number(written: &str) -> String {
    let Ok(number) = written.parse::<f64>() else { return written.to_owned() };
    if !number.is_finite() {
        return written.to_owned();
    }
    let size = number.abs();
    let printed = if size != 0.0 && !(1e-6..1e21).contains(&size) {
        // Go writes the sign of every exponent, and one digit where one is enough.
        let text = format!("{number:e}");
        match text.split_once('e') {
            Some((mantissa, exponent)) if !exponent.starts_with('-') => format!("{mantissa}e+{exponent}"),
            _ => text,
        }
    } else {
        format!("{number}")
    };
    if canonical_number(&printed) == canonical_number(written) { printed } else { written.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn numbers_are_written_as_go_does_unless_digits_would_be_lost() {
        let rows = [
            ("1.50", "1.5"),
            ("1e3", "1000"),
            ("-0", "-0"),
            ("0.000001", "0.000001"),
            ("0.0000001", "1e-7"),
            ("1e21", "1e+21"),
            ("2.5E30", "2.5e+30"),
            ("100000000000000000000", "100000000000000000000"),
            ("12345678901234567890", "12345678901234567890"),
            ("1e400", "1e400"),
        ];
        for (written, printed) in rows {
            assert_eq!(number(written), printed, "{written}");
        }
    }
}
