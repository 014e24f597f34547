//! Times as text: Go's reference layouts (`2006-01-02T15:04:05Z07:00`) and the verbs of Packer's `strftime`.

use std::time::SystemTime;

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

/// Go's `time.RFC3339`, the default of `isotime`.
pub const RFC3339: &str = "2006-01-02T15:04:05Z07:00";

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

/// A moment in UTC; one beyond the year 9999 is the Unix epoch.
pub fn utc(time: SystemTime) -> Zoned {
    Timestamp::try_from(time).unwrap_or(Timestamp::UNIX_EPOCH).to_zoned(TimeZone::UTC)
}

/// One piece of a layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Chunk {
    LongMonth,
    Month,
    NumberMonth,
    ZeroMonth,
    LongWeekDay,
    WeekDay,
    Day,
    UnderDay,
    ZeroDay,
    UnderYearDay,
    ZeroYearDay,
    Hour,
    Hour12,
    ZeroHour12,
    Minute,
    ZeroMinute,
    Second,
    ZeroSecond,
    LongYear,
    Year,
    UpperHalf,
    LowerHalf,
    ZoneName,
    /// `Z` for UTC, else the offset.
    ZuluOffset(OffsetStyle),
    Offset(OffsetStyle),
    /// `.000`: so many digits, zeros kept.
    FractionZeros(usize),
    /// `.999`: so many digits, trailing zeros dropped.
    FractionNines(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct OffsetStyle {
    colon: bool,
    minutes: bool,
    seconds: bool,
}

/// The offset forms behind `Z` or `-`, longest first where one is the start of another.
const OFFSETS: [(&str, OffsetStyle); 5] = [
    ("070000", OffsetStyle { colon: false, minutes: true, seconds: true }),
    ("07:00:00", OffsetStyle { colon: true, minutes: true, seconds: true }),
    ("0700", OffsetStyle { colon: false, minutes: true, seconds: false }),
    ("07:00", OffsetStyle { colon: true, minutes: true, seconds: false }),
    ("07", OffsetStyle { colon: false, minutes: false, seconds: false }),
];

/// Plain pieces, tried in this order: a longer one before its own start.
const PLAIN: [(&str, Chunk); 23] = [
    ("January", Chunk::LongMonth),
    ("Jan", Chunk::Month),
    ("Monday", Chunk::LongWeekDay),
    ("Mon", Chunk::WeekDay),
    ("MST", Chunk::ZoneName),
    ("002", Chunk::ZeroYearDay),
    ("01", Chunk::ZeroMonth),
    ("02", Chunk::ZeroDay),
    ("03", Chunk::ZeroHour12),
    ("04", Chunk::ZeroMinute),
    ("05", Chunk::ZeroSecond),
    ("06", Chunk::Year),
    ("15", Chunk::Hour),
    ("1", Chunk::NumberMonth),
    ("2006", Chunk::LongYear),
    ("2", Chunk::Day),
    ("__2", Chunk::UnderYearDay),
    ("_2", Chunk::UnderDay),
    ("3", Chunk::Hour12),
    ("4", Chunk::Minute),
    ("5", Chunk::Second),
    ("PM", Chunk::UpperHalf),
    ("pm", Chunk::LowerHalf),
];

/// The piece that `rest` starts with, and its length in bytes.
fn chunk(rest: &str) -> Option<(Chunk, usize)> {
    if let Some(signed) = rest.strip_prefix(['Z', '-']) {
        let (form, style) = OFFSETS.iter().find(|(form, _)| signed.starts_with(form))?;
        let chunk = if rest.starts_with('Z') { Chunk::ZuluOffset(*style) } else { Chunk::Offset(*style) };
        return Some((chunk, 1 + form.len()));
    }
    if rest.starts_with(['.', ',']) {
        return fraction(&rest[1..]);
    }
    // The year wins over the day: `_2006` is an underscore and a year.
    if rest.starts_with("_2006") {
        return None;
    }
    let (form, chunk) = PLAIN.iter().find(|(form, _)| rest.starts_with(form))?;
    let is_abbreviation = matches!(chunk, Chunk::Month | Chunk::WeekDay);
    if is_abbreviation && rest[form.len()..].starts_with(|c: char| c.is_ascii_lowercase()) {
        return None;
    }
    Some((*chunk, form.len()))
}

/// A run of one digit, `0` or `9`, that no other digit follows.
fn fraction(digits: &str) -> Option<(Chunk, usize)> {
    let first = digits.chars().next().filter(|digit| matches!(digit, '0' | '9'))?;
    let count = digits.chars().take_while(|digit| *digit == first).count();
    if digits[count..].starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let chunk = if first == '0' { Chunk::FractionZeros(count) } else { Chunk::FractionNines(count) };
    Some((chunk, 1 + count))
}

/// A time in one of Go's layouts (`time.Format`): the layout shows how the moment `Mon Jan 2 15:04:05 MST 2006` would
/// look; what is no piece of that moment is copied.
pub fn format_go_layout(time: &Zoned, layout: &str) -> String {
    let mut output = String::with_capacity(layout.len() + 8);
    let mut rest = layout;
    while let Some(first) = rest.chars().next() {
        match chunk(rest) {
            Some((chunk, length)) => {
                write_chunk(&mut output, time, chunk, &rest[..1]);
                rest = &rest[length..];
            }
            None => {
                output.push(first);
                rest = &rest[first.len_utf8()..];
            }
        }
    }
    output
}

fn write_chunk(output: &mut String, time: &Zoned, chunk: Chunk, lead: &str) {
    let text = match chunk {
        Chunk::LongMonth => month_name(time).to_owned(),
        Chunk::Month => month_name(time)[..3].to_owned(),
        Chunk::NumberMonth => time.month().to_string(),
        Chunk::ZeroMonth => format!("{:02}", time.month()),
        Chunk::LongWeekDay => day_name(time).to_owned(),
        Chunk::WeekDay => day_name(time)[..3].to_owned(),
        Chunk::Day => time.day().to_string(),
        Chunk::UnderDay => format!("{:2}", time.day()),
        Chunk::ZeroDay => format!("{:02}", time.day()),
        Chunk::UnderYearDay => format!("{:3}", time.day_of_year()),
        Chunk::ZeroYearDay => format!("{:03}", time.day_of_year()),
        Chunk::Hour => format!("{:02}", time.hour()),
        Chunk::Hour12 => hour12(time).to_string(),
        Chunk::ZeroHour12 => format!("{:02}", hour12(time)),
        Chunk::Minute => time.minute().to_string(),
        Chunk::ZeroMinute => format!("{:02}", time.minute()),
        Chunk::Second => time.second().to_string(),
        Chunk::ZeroSecond => format!("{:02}", time.second()),
        Chunk::LongYear => format!("{:04}", time.year()),
        Chunk::Year => format!("{:02}", time.year().rem_euclid(100)),
        Chunk::UpperHalf => half(time).to_owned(),
        Chunk::LowerHalf => half(time).to_lowercase(),
        Chunk::ZoneName => zone_name(time),
        Chunk::ZuluOffset(_) if time.offset().seconds() == 0 => "Z".to_owned(),
        Chunk::ZuluOffset(style) | Chunk::Offset(style) => offset(time, style),
        Chunk::FractionZeros(digits) => lead.to_owned() + &fraction_digits(time, digits),
        Chunk::FractionNines(digits) => {
            let digits = fraction_digits(time, digits);
            let digits = digits.trim_end_matches('0');
            if digits.is_empty() { String::new() } else { lead.to_owned() + digits }
        }
    };
    output.push_str(&text);
}

/// English name of the month; jiff's months are 1 to 12.
fn month_name(time: &Zoned) -> &'static str {
    MONTHS[usize::from(time.month().unsigned_abs()) - 1]
}

fn day_name(time: &Zoned) -> &'static str {
    DAYS[usize::from(time.weekday().to_monday_zero_offset().unsigned_abs())]
}

fn hour12(time: &Zoned) -> i8 {
    match time.hour() % 12 {
        0 => 12,
        hour => hour,
    }
}

fn half(time: &Zoned) -> &'static str {
    if time.hour() >= 12 { "PM" } else { "AM" }
}

fn zone_name(time: &Zoned) -> String {
    let name = time.strftime("%Z").to_string();
    // Zones without a name (`+05:30`) show as their offset, as in Go.
    if name.starts_with(['+', '-']) {
        let seconds = time.offset().seconds();
        return offset(time, OffsetStyle { colon: false, minutes: seconds % 3600 != 0, seconds: false });
    }
    name
}

fn offset(time: &Zoned, style: OffsetStyle) -> String {
    let seconds = time.offset().seconds();
    let (sign, seconds) = (if seconds < 0 { '-' } else { '+' }, seconds.unsigned_abs());
    let colon = if style.colon { ":" } else { "" };
    let mut text = format!("{sign}{:02}", seconds / 3600);
    if style.minutes {
        text += &format!("{colon}{:02}", seconds / 60 % 60);
    }
    if style.seconds {
        text += &format!("{colon}{:02}", seconds % 60);
    }
    text
}

/// The first digits of the second's fraction, cut off and not rounded.
fn fraction_digits(time: &Zoned, digits: usize) -> String {
    let nanoseconds = format!("{:09}", time.subsec_nanosecond());
    nanoseconds.chars().chain(std::iter::repeat('0')).take(digits).collect()
}

/// A time in Packer's `strftime`: `%a %A %b %B %d %H %I %j %L %m %M %p %S %y %Y %z %Z %%`. Any other verb is copied as it
/// stands (so does Packer); `%L` is the milliseconds with a leading point.
pub fn format_strftime(time: &Zoned, format: &str) -> String {
    let mut output = String::with_capacity(format.len() + 8);
    let mut characters = format.chars();
    while let Some(character) = characters.next() {
        if character != '%' {
            output.push(character);
            continue;
        }
        let Some(verb) = characters.next() else {
            output.push('%');
            break;
        };
        let layout = match verb {
            'a' => "Mon",
            'A' => "Monday",
            'b' => "Jan",
            'B' => "January",
            'd' => "02",
            'H' => "15",
            'I' => "03",
            'j' => "002",
            'L' => ".000",
            'm' => "01",
            'M' => "04",
            'p' => "PM",
            'S' => "05",
            'y' => "06",
            'Y' => "2006",
            'z' => "-0700",
            'Z' => "MST",
            '%' => "%",
            other => {
                output.push('%');
                output.push(other);
                continue;
            }
        };
        output.push_str(&format_go_layout(time, layout));
    }
    output
}
