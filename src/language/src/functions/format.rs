//! `format` and `formatlist`.

use bigdecimal::num_bigint::BigInt;
use bigdecimal::{BigDecimal, RoundingMode, Signed, Zero};
use unicode_segmentation::UnicodeSegmentation;

use super::{
    Function, FunctionContext, FunctionError, Outcome, any_or_null, define, fail_at, json, list_of_strings,
    string_argument, text,
};
use crate::convert::convert;
use crate::value::{Data, Type, Value, shown};

/// Bound on widths and precisions: a typing mistake must not fill the memory.
const MAX_WIDTH: usize = 10_000;

pub(super) fn functions() -> Vec<Function> {
    vec![
        define(
            "format",
            vec![text("format")],
            Type::String,
            "Fills values into a text: `%s` text, `%d` whole number, `%f` and `%g` number, `%v` any value, `%q` in quotes, \
             `%t` bool, `%x` hexadecimal, `%%` a percent sign; widths, precisions and `%[1]d` positions as in Go.",
            |arguments, _| format(string_argument(arguments, 0), &arguments[1..]).map(Value::string),
        )
        .variadic(any_or_null("arguments"))
        .example(r#"format("%s has %03d", "kiln", 7)"#, r#""kiln has 007""#),
        define(
            "formatlist",
            vec![text("format")],
            list_of_strings(),
            "Calls `format` for every element of the lists among its arguments.",
            formatlist,
        )
        .variadic(any_or_null("arguments"))
        .example(r#"formatlist("%s-%s", "a", ["b", "c"])"#, r#"["a-b", "a-c"]"#),
    ]
}

fn formatlist(arguments: &[Value], _: &FunctionContext) -> Outcome {
    let template = string_argument(arguments, 0);
    let values = &arguments[1..];
    let mut length: Option<(usize, usize)> = None;
    for (index, value) in values.iter().enumerate() {
        let Some(elements) = value.as_elements() else { continue };
        match length {
            Some((first, length)) if length != elements.len() => {
                let found = elements.len();
                let message = format!("this list has {found} elements, and the one in argument {first} has {length}");
                return fail_at(index + 1, message);
            }
            Some(_) => {}
            None => length = Some((index + 2, elements.len())),
        }
    }
    let rows = length.map_or(1, |(_, length)| length);
    let row = |row: usize| {
        let values: Vec<Value> =
            values.iter().map(|value| value.as_elements().map_or(value, |elements| &elements[row]).clone()).collect();
        format(template, &values)
    };
    Ok(Value::string_list((0..rows).map(row).collect::<Result<Vec<String>, FunctionError>>()?))
}

/// One `%...` of a format.
#[derive(Debug, Default, Clone)]
struct Verb {
    minus: bool,
    plus: bool,
    sharp: bool,
    zero: bool,
    space: bool,
    width: usize,
    precision: Option<usize>,
    /// `%[n]`, from 1.
    position: Option<usize>,
    letter: char,
    /// As written, for messages.
    text: String,
}

/// The formatted text. Unused values are an error, as they mostly are a mistake.
fn format(template: &str, values: &[Value]) -> Result<String, FunctionError> {
    let mut output = String::with_capacity(template.len());
    let (mut next, mut used) = (0, 0);
    let mut rest = template;
    while let Some(start) = rest.find('%') {
        output.push_str(&rest[..start]);
        rest = &rest[start + 1..];
        if let Some(after) = rest.strip_prefix('%') {
            output.push('%');
            rest = after;
            continue;
        }
        let verb;
        (verb, rest) = parse_verb(rest)?;
        let position = verb.position.map_or(next, |position| position - 1);
        let Some(value) = values.get(position) else {
            let (wanted, given) = (position + 1, values.len());
            return fail_at(0, format!("`{}` needs value {wanted}, and there are {given}", verb.text));
        };
        next = position + 1;
        used = used.max(next);
        output
            .push_str(&write(&verb, value).map_err(|message| FunctionError { argument: Some(position + 1), message })?);
    }
    output.push_str(rest);
    if used < values.len() {
        let message = match used {
            0 => "the format uses no values, and some are given".to_owned(),
            used => format!("too many values: the format uses only {used}"),
        };
        return fail_at(used + 1, message);
    }
    Ok(output)
}

/// Reads what follows a `%`; returns the rest of the template too.
fn parse_verb(source: &str) -> Result<(Verb, &str), FunctionError> {
    let mut verb = Verb::default();
    let flags = source.find(|c| !"-+#0 ".contains(c)).unwrap_or(source.len());
    for flag in source[..flags].chars() {
        match flag {
            '-' => verb.minus = true,
            '+' => verb.plus = true,
            '#' => verb.sharp = true,
            '0' => verb.zero = true,
            _ => verb.space = true,
        }
    }
    let (width, mut rest) = digits(&source[flags..]);
    verb.width = bounded(width)?;
    if let Some(after) = rest.strip_prefix('.') {
        let (precision, after) = digits(after);
        verb.precision = Some(bounded(precision)?);
        rest = after;
    }
    if let Some(after) = rest.strip_prefix('[') {
        let (position, after) = digits(after);
        let Some(after) = after.strip_prefix(']') else {
            return fail_at(0, "a position is written as in `%[1]d`, right before the letter");
        };
        match position.parse() {
            Ok(position @ 1..) => verb.position = Some(position),
            _ => return fail_at(0, "a position is a number from 1 on, as in `%[1]d`"),
        }
        rest = after;
    }
    let Some(letter) = rest.chars().next() else {
        return fail_at(0, "the format ends in the middle of a `%` verb; write `%%` for a percent sign");
    };
    let after = &rest[letter.len_utf8()..];
    verb.letter = letter;
    verb.text = format!("%{}", &source[..source.len() - after.len()]);
    if !"vtbodxXeEfgGsq".contains(letter) {
        let known = "%v %t %b %o %d %x %X %e %E %f %g %G %s %q";
        return fail_at(0, format!("there is no verb `{}`; known: {known}, and %% for a percent sign", verb.text));
    }
    Ok((verb, after))
}

fn digits(source: &str) -> (&str, &str) {
    source.split_at(source.find(|c: char| !c.is_ascii_digit()).unwrap_or(source.len()))
}

fn bounded(digits: &str) -> Result<usize, FunctionError> {
    match digits {
        "" => Ok(0),
        digits => match digits.parse() {
            Ok(number) if number <= MAX_WIDTH => Ok(number),
            _ => fail_at(0, format!("widths and precisions go up to {MAX_WIDTH}")),
        },
    }
}

fn write(verb: &Verb, value: &Value) -> Result<String, String> {
    if verb.letter == 'v' {
        return any_value(verb, value);
    }
    if value.is_null() {
        return Err(format!("`{}` cannot show null; `%v` can", verb.text));
    }
    let wanted = match verb.letter {
        't' => Type::Bool,
        's' | 'q' => Type::String,
        _ => Type::Number,
    };
    let converted = convert(value, &wanted).map_err(|error| format!("`{}`: {error}", verb.text))?;
    match (&converted.data, verb.letter) {
        (Data::Bool(value), _) => Ok(value.to_string()),
        (Data::String(text), 's') => Ok(pad(verb, cut(verb, text))),
        (Data::String(text), _) => Ok(pad(verb, &json::quote(cut(verb, text)))),
        (Data::Number(number), 'b' | 'o' | 'd' | 'x' | 'X') => integer(verb, number),
        (Data::Number(number), _) => Ok(float(verb, number)),
        _ => Err(format!("`{}` cannot show {}", verb.text, value.type_of().friendly())),
    }
}

/// `%v`: texts as they are, numbers as `%g`, all else as JSON; with `#` everything as JSON.
fn any_value(verb: &Verb, value: &Value) -> Result<String, String> {
    let text = match &value.data {
        Data::String(text) if !verb.sharp => text.clone(),
        // The flags for signs and the precision do not count here.
        Data::Number(number) if !verb.sharp => {
            let sign = if number.is_negative() { "-" } else { "" };
            format!("{sign}{}", general(&shown(&number.abs()), None))
        }
        _ => json::encode(value)?,
    };
    Ok(pad(verb, &text))
}

fn cut<'a>(verb: &Verb, text: &'a str) -> &'a str {
    let Some(precision @ 1..) = verb.precision else { return text };
    text.grapheme_indices(true).nth(precision).map_or(text, |(end, _)| &text[..end])
}

fn pad(verb: &Verb, text: &str) -> String {
    let missing = verb.width.saturating_sub(text.graphemes(true).count());
    match (verb.minus, verb.zero) {
        (true, _) => text.to_owned() + &" ".repeat(missing),
        (false, true) => "0".repeat(missing) + text,
        (false, false) => " ".repeat(missing) + text,
    }
}

/// Puts the sign in front, and zeros between it and the digits where asked.
fn signed(verb: &Verb, negative: bool, prefix: &str, digits: &str, zero: bool) -> String {
    let sign = match (negative, verb.plus, verb.space) {
        (true, _, _) => "-",
        (false, true, _) => "+",
        (false, false, true) => " ",
        _ => "",
    };
    if zero && !verb.minus {
        let zeros = verb.width.saturating_sub(sign.len() + prefix.len() + digits.len());
        return format!("{sign}{prefix}{}{digits}", "0".repeat(zeros));
    }
    pad(&Verb { zero: false, ..verb.clone() }, &format!("{sign}{prefix}{digits}"))
}

fn integer(verb: &Verb, number: &BigDecimal) -> Result<String, String> {
    if !number.is_integer() {
        return Err(format!("`{}` takes whole numbers only", verb.text));
    }
    let (whole, _) = number.with_scale(0).into_bigint_and_scale();
    let magnitude: BigInt = whole.abs();
    let (radix, prefix) = match verb.letter {
        'b' => (2, "0b"),
        'o' => (8, "0"),
        'x' => (16, "0x"),
        'X' => (16, "0X"),
        _ => (10, ""),
    };
    let mut digits = magnitude.to_str_radix(radix);
    if verb.letter == 'X' {
        digits.make_ascii_uppercase();
    }
    if let Some(precision) = verb.precision {
        if precision == 0 && magnitude.is_zero() {
            digits.clear();
        }
        digits = "0".repeat(precision.saturating_sub(digits.len())) + &digits;
    }
    let prefix = if verb.sharp { prefix } else { "" };
    // A precision says how many digits there are, so zeros fill no further.
    Ok(signed(verb, whole.is_negative(), prefix, &digits, verb.zero && verb.precision.is_none()))
}

fn float(verb: &Verb, number: &BigDecimal) -> String {
    let magnitude = number.abs();
    let digits = match verb.letter {
        'f' => fixed(&magnitude, verb.precision.unwrap_or(6)),
        'e' | 'E' => scientific(&magnitude, verb.precision.unwrap_or(6)),
        _ => general(&magnitude, verb.precision),
    };
    let digits = if matches!(verb.letter, 'E' | 'G') { digits.to_uppercase() } else { digits };
    signed(verb, number.is_negative(), "", &digits, verb.zero)
}

fn fixed(number: &BigDecimal, precision: usize) -> String {
    let scale = i64::try_from(precision).unwrap_or(i64::MAX);
    number.with_scale_round(scale, RoundingMode::HalfEven).to_plain_string()
}

/// Significant digits without point, and the power of ten of the first of them. Zero has one digit.
fn significant(number: &BigDecimal, count: Option<usize>) -> (String, i64) {
    if number.is_zero() {
        return ("0".to_owned(), 0);
    }
    let rounded = match count.and_then(|count| std::num::NonZeroU64::new(u64::try_from(count).ok()?)) {
        Some(count) => number.with_precision_round(count, RoundingMode::HalfEven),
        None => number.clone(),
    };
    let (digits, exponent) = rounded.normalized().into_bigint_and_exponent();
    let digits = digits.to_string();
    let first = i64::try_from(digits.len()).unwrap_or(i64::MAX) - 1 - exponent;
    (digits, first)
}

fn with_exponent(digits: &str, exponent: i64) -> String {
    let (first, rest) = digits.split_at(1);
    let point = if rest.is_empty() { "" } else { "." };
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{first}{point}{rest}e{sign}{:02}", exponent.unsigned_abs())
}

fn scientific(number: &BigDecimal, precision: usize) -> String {
    let (mut digits, exponent) = significant(number, Some(precision + 1));
    digits.push_str(&"0".repeat((precision + 1).saturating_sub(digits.len())));
    with_exponent(&digits, exponent)
}

/// `%g`: the shortest exact digits, with an exponent where that is below -4 or at least the precision (6 by default).
fn general(number: &BigDecimal, precision: Option<usize>) -> String {
    let (digits, exponent) = significant(number, precision.map(|precision| precision.max(1)));
    let limit = match precision {
        None => 6,
        Some(precision) => {
            let (precision, count) = (precision.max(1), digits.len());
            let is_whole = i64::try_from(count).is_ok_and(|count| count > exponent);
            i64::try_from(if precision > count && is_whole { count } else { precision }).unwrap_or(i64::MAX)
        }
    };
    if exponent < -4 || exponent >= limit { with_exponent(&digits, exponent) } else { plain(&digits, exponent) }
}

/// A number with ten significant digits, as `%.10g` writes it.
pub(crate) fn short_number(number: &BigDecimal) -> String {
    let sign = if number.is_negative() { "-" } else { "" };
    format!("{sign}{}", general(&number.abs(), Some(10)))
}

fn plain(digits: &str, exponent: i64) -> String {
    let Ok(exponent) = usize::try_from(exponent) else {
        let zeros = usize::try_from(exponent.unsigned_abs()).unwrap_or(usize::MAX).saturating_sub(1);
        return format!("0.{}{digits}", "0".repeat(zeros));
    };
    if digits.len() <= exponent + 1 {
        return format!("{digits}{}", "0".repeat(exponent + 1 - digits.len()));
    }
    format!("{}.{}", &digits[..=exponent], &digits[exponent + 1..])
}
