//! Times.

use std::time::SystemTime;

use jiff::civil::{DateTime, ISOWeekDate};
use jiff::tz::{Offset, TimeZone};
use jiff::{Timestamp, Zoned};
use kiln_gotemplate::layout::{RFC3339, format_go_layout, format_strftime, utc};

use super::{
    Function, FunctionContext, FunctionError, Outcome, define, fail, fail_at, integer_argument, number,
    string_argument, text,
};
use crate::value::{Type, Value};

pub(super) fn functions() -> Vec<Function> {
    let mut functions = formats();
    functions.extend(parts());
    functions
}

fn formats() -> Vec<Function> {
    vec![
        define(
            "formatdate",
            vec![text("format"), text("timestamp")],
            Type::String,
            "Writes a timestamp with letters for its parts: `YYYY` year, `MM` month, `DD` day, `hh` hour, `mm` minute, \
             `ss` second, `EEEE` day of the week, `AA` half of the day, `Z` zone, and texts in single quotes.",
            |arguments, _| {
                formatdate(string_argument(arguments, 0), &timestamp_argument(arguments, 1)?).map(Value::string)
            },
        )
        .example(r#"formatdate("YYYYMMDD-hhmm", "2026-03-01T09:05:00Z")"#, r#""20260301-0905""#),
        define(
            "legacy_isotime",
            vec![],
            Type::String,
            "When the run started, in UTC, in a layout of Go (`2006-01-02`), RFC 3339 by default.",
            |arguments, context| {
                let layout = match arguments {
                    [] => RFC3339,
                    [layout] => layout.as_str().unwrap_or_default(),
                    _ => return fail("at most one layout can be given"),
                };
                Ok(Value::string(format_go_layout(&utc(context.started), layout)))
            },
        )
        .variadic(text("layout"))
        .example(r#"length(legacy_isotime("2006-01-02"))"#, "10"),
        define(
            "legacy_strftime",
            vec![text("format")],
            Type::String,
            "When the run started, in UTC, in strftime's verbs.",
            |arguments, context| {
                Ok(Value::string(format_strftime(&utc(context.started), string_argument(arguments, 0))))
            },
        )
        .example(r#"length(legacy_strftime("%Y-%m-%d"))"#, "10"),
        define(
            "timeadd",
            vec![text("timestamp"), text("duration")],
            Type::String,
            "A timestamp moved by a duration such as `10m` or `-1h30m`.",
            timeadd,
        )
        .example(r#"timeadd("2017-11-22T00:00:00Z", "10m")"#, r#""2017-11-22T00:10:00Z""#),
        define(
            "timestamp",
            vec![],
            Type::String,
            "The present moment in RFC 3339; later calls give later moments (`legacy_isotime` stands still).",
            |_, _| Ok(Value::string(format_go_layout(&utc(SystemTime::now()), RFC3339))),
        )
        .example("length(timestamp())", "20"),
    ]
}

fn parts() -> Vec<Function> {
    vec![
        define(
            "rfc3339_parse",
            vec![text("timestamp")],
            Type::Any,
            "The parts of a timestamp: `year`, `month`, `month_name`, `day`, `weekday` (Sunday is 0), `weekday_name`, \
             `hour`, `minute`, `second`, `year_day`, `iso_year`, `iso_week` and `unix`.",
            |arguments, _| {
                let time = parse(string_argument(arguments, 0), true).or_else(|message| fail_at(0, message))?;
                Ok(parts_of(&time, ("unix", Value::number(time.timestamp().as_second()))))
            },
        )
        .example(r#"rfc3339_parse("2023-07-25T23:43:16Z").unix"#, "1690328596"),
        define(
            "unix_timestamp_parse",
            vec![number("seconds")],
            Type::Any,
            "The parts of a moment given in seconds since 1970, as `rfc3339_parse` gives them, with `rfc3339`.",
            |arguments, _| {
                let Ok(moment) = Timestamp::from_second(integer_argument(arguments, 0)?) else {
                    return fail_at(0, "the moment is too far away");
                };
                let time = moment.to_zoned(TimeZone::UTC);
                let text = Value::string(format_go_layout(&time, RFC3339));
                Ok(parts_of(&time, ("rfc3339", text)))
            },
        )
        .example("unix_timestamp_parse(1690328596).rfc3339", r#""2023-07-25T23:43:16Z""#),
    ]
}

fn parts_of(time: &Zoned, further: (&'static str, Value)) -> Value {
    let week: ISOWeekDate = time.date().iso_week_date();
    let named = |layout: &str| Value::string(format_go_layout(time, layout));
    Value::object([
        ("year", Value::number(i64::from(time.year()))),
        ("year_day", Value::number(i64::from(time.day_of_year()))),
        ("month", Value::number(i64::from(time.month()))),
        ("month_name", named("January")),
        ("day", Value::number(i64::from(time.day()))),
        ("weekday", Value::number(i64::from(time.weekday().to_sunday_zero_offset()))),
        ("weekday_name", named("Monday")),
        ("hour", Value::number(i64::from(time.hour()))),
        ("minute", Value::number(i64::from(time.minute()))),
        ("second", Value::number(i64::from(time.second()))),
        ("iso_year", Value::number(i64::from(week.year()))),
        ("iso_week", Value::number(i64::from(week.week()))),
        further,
    ])
}

fn timestamp_argument(arguments: &[Value], index: usize) -> Result<Zoned, FunctionError> {
    parse(string_argument(arguments, index), false).or_else(|message| fail_at(index, message))
}

/// Reads `2006-01-02T15:04:05[.999](Z|+07:00)`; with `blank` a space may stand for the `T`. A general reader would also
/// take dates without a time and zones by name.
fn parse(source: &str, blank: bool) -> Result<Zoned, String> {
    // The text may be a secret, so it is not told.
    let wrong = |reason: &str| {
        format!("this text is no RFC 3339 timestamp ({reason}); write for example `2026-01-31T12:00:00Z`")
    };
    let bytes = source.as_bytes();
    let number = |from: usize, length: usize| -> Option<i16> {
        let digits = source.get(from..from + length)?;
        digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
    };
    let two = |from: usize| number(from, 2).and_then(|number| i8::try_from(number).ok());
    let mark = |at: usize, mark: u8| bytes.get(at) == Some(&mark);
    let (Some(year), Some(month), Some(day), true, true) = (number(0, 4), two(5), two(8), mark(4, b'-'), mark(7, b'-'))
    else {
        return Err(wrong("the date is missing"));
    };
    let has_time = mark(10, b'T') || (blank && mark(10, b' '));
    if !has_time {
        return Err(wrong("the `T` before the time is missing"));
    }
    let (Some(hour), Some(minute), Some(second), true, true) =
        (two(11), two(14), two(17), mark(13, b':'), mark(16, b':'))
    else {
        return Err(wrong("the time is missing"));
    };
    let mut zone = &source[19..];
    let mut nanosecond = 0;
    if let Some(fraction) = zone.strip_prefix('.') {
        let length = fraction.bytes().take_while(u8::is_ascii_digit).count();
        if length == 0 {
            return Err(wrong("digits are missing behind the point"));
        }
        let digits: String = fraction[..length].chars().chain("000000000".chars()).take(9).collect();
        nanosecond = digits.parse().map_err(|_| wrong("the fraction is wrong"))?;
        zone = &fraction[length..];
    }
    let zone = offset(zone).ok_or_else(|| wrong("the zone must be `Z` or an offset such as `+01:00`"))?;
    let local = DateTime::new(year, month, day, hour, minute, second, nanosecond)
        .map_err(|_| wrong("a part of it is out of range"))?;
    local.to_zoned(TimeZone::fixed(zone)).map_err(|_| wrong("a part of it is out of range"))
}

fn offset(zone: &str) -> Option<Offset> {
    if zone == "Z" {
        return Some(Offset::UTC);
    }
    let negative = zone.starts_with('-');
    let (hours, minutes) = zone.strip_prefix(['+', '-'])?.split_once(':')?;
    let two = |digits: &str, limit: i32| -> Option<i32> {
        let is_number = digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse().ok().filter(|number| is_number && *number < limit)
    };
    // The bounds are Go's.
    let seconds = two(hours, 25)? * 3600 + two(minutes, 61)? * 60;
    Offset::from_seconds(if negative { -seconds } else { seconds }).ok()
}

fn timeadd(arguments: &[Value], _: &FunctionContext) -> Outcome {
    let time = timestamp_argument(arguments, 0)?;
    let source = string_argument(arguments, 1);
    let (negative, length) = match source.strip_prefix('-') {
        Some(length) => (true, length),
        None => (false, source),
    };
    // Elsewhere blanks around a duration do no harm; here Packer refuses them.
    if source.trim() != source {
        return fail_at(1, "there are blanks around the duration");
    }
    let duration = kiln_core::duration::parse(length).or_else(|error| fail_at(1, error.to_string()))?;
    // Go's durations are 64-bit numbers of nanoseconds.
    let fits = duration.as_nanos() <= if negative { 1 << 63 } else { (1 << 63) - 1 };
    let length = i128::try_from(duration.as_nanos()).ok().filter(|_| fits);
    let moved = length
        .map(|length| time.timestamp().as_nanosecond() + if negative { -length } else { length })
        .and_then(|moment| Timestamp::from_nanosecond(moment).ok())
        .map(|moment| moment.to_zoned(time.time_zone().clone()));
    match moved {
        Some(moved) => Ok(Value::string(format_go_layout(&moved, RFC3339))),
        None => fail("the moved moment is too far away"),
    }
}

/// Each run of one letter is a part; texts stand in single quotes, `''` is a quote inside and outside of them.
fn formatdate(format: &str, time: &Zoned) -> Result<String, FunctionError> {
    let mut output = String::new();
    let mut rest = format;
    while let Some(first) = rest.chars().next() {
        if let Some(after) = rest.strip_prefix("''") {
            output.push('\'');
            rest = after;
            continue;
        }
        if first == '\'' {
            rest = quoted(rest, &mut output)?;
            continue;
        }
        if !first.is_ascii_alphabetic() {
            output.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        }
        let length = rest.bytes().take_while(|byte| char::from(*byte) == first).count();
        output.push_str(&format_part(&rest[..length], time)?);
        rest = &rest[length..];
    }
    Ok(output)
}

/// Copies a quoted text and returns what is behind it.
fn quoted<'a>(source: &'a str, output: &mut String) -> Result<&'a str, FunctionError> {
    let mut rest = &source[1..];
    loop {
        let Some((literal, after)) = rest.split_once('\'') else {
            return fail_at(0, "a text in single quotes is not closed");
        };
        output.push_str(literal);
        match after.strip_prefix('\'') {
            Some(after) => {
                output.push('\'');
                rest = after;
            }
            None => return Ok(after),
        }
    }
}

fn format_part(part: &str, time: &Zoned) -> Result<String, FunctionError> {
    let is_utc = time.offset().seconds() == 0;
    let layout = match part {
        "YYYY" => "2006",
        "YY" => "06",
        "MMMM" => "January",
        "MMM" => "Jan",
        "MM" => "01",
        "M" => "1",
        "DD" => "02",
        "D" => "2",
        "EEEE" => "Monday",
        "EEE" => "Mon",
        "hh" => "15",
        "h" => return Ok(time.hour().to_string()),
        "HH" => "03",
        "H" => "3",
        "AA" => "PM",
        "aa" => "pm",
        "mm" => "04",
        "m" => "4",
        "ss" => "05",
        "s" => "5",
        "Z" => "Z07:00",
        "ZZZ" if is_utc => return Ok("UTC".to_owned()),
        "ZZZ" | "ZZZZ" => "-0700",
        "ZZZZZ" => "-07:00",
        other => {
            let known = match other.as_bytes().first() {
                Some(b'Y') => "`YY` or `YYYY`",
                Some(b'M') => "`M`, `MM`, `MMM` or `MMMM`",
                Some(b'D') => "`D` or `DD`",
                Some(b'E') => "`EEE` or `EEEE`",
                Some(b'h') => "`h` or `hh`",
                Some(b'H') => "`H` or `HH`",
                Some(b'A') => "`AA`",
                Some(b'a') => "`aa`",
                Some(b'm') => "`m` or `mm`",
                Some(b's') => "`s` or `ss`",
                Some(b'Z') => "`Z`, `ZZZ`, `ZZZZ` or `ZZZZZ`",
                _ => "a text in single quotes, if it is one",
            };
            return fail_at(0, format!("`{other}` is no part of a date; write {known}"));
        }
    };
    Ok(format_go_layout(time, layout))
}
