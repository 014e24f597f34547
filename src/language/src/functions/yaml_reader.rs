//! YAML to values, as Packer reads it: with the words of YAML 1.1 (`yes`, `on`, `~`), and times in RFC 3339.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span, StrInput, Tag};

use super::MAX_NESTING;
use crate::value::{Value, parse_number};

/// How many values a document may have with all its aliases written out.
const MAX_VALUES: usize = 1_000_000;

/// How many tabs behind colons are looked after; each costs a look at the whole text.
const MAX_TABS: usize = 200;

/// Reads a YAML document.
///
/// # Errors
/// What is wrong, with line and column.
pub(super) fn read(text: &str) -> Result<Value, String> {
    check_directives(text)?;
    if text.contains(":\t") { read_document(&tabs_as_blanks(text)) } else { read_document(text) }
}

/// Tabs between a key's colon and its value, which the parser refuses, become blanks.
fn tabs_as_blanks(text: &str) -> String {
    let mut characters: Vec<char> = text.chars().collect();
    for _ in 0..MAX_TABS {
        let text: String = characters.iter().collect();
        let Some(Err(error)) = Parser::new_from_str(&text).find(Result::is_err) else { return text };
        let end = error.marker().index().min(characters.len());
        let Some(colon) = characters[..end].iter().rposition(|character| *character == ':') else { return text };
        let tabs = characters[colon + 1..].iter().take_while(|character| **character == '\t').count();
        if tabs == 0 {
            return text;
        }
        characters[colon + 1..=colon + tabs].fill(' ');
    }
    characters.into_iter().collect()
}

fn read_document(text: &str) -> Result<Value, String> {
    let mut reader = Reader {
        events: Parser::new_from_str(text),
        anchors: HashMap::new(),
        count: 0,
        depth: 0,
        length: text.chars().count(),
        ends_without_line: !text.ends_with('\n'),
    };
    loop {
        let (event, span) = reader.next()?;
        match event {
            Event::StreamStart | Event::DocumentStart(_) => {}
            Event::StreamEnd | Event::Nothing => return Err("there is no document in the text".to_owned()),
            event => {
                let value = reader.value(event, span)?;
                return reader.end().map(|()| value);
            }
        }
    }
}

/// Only YAML 1.1 is read, as by Packer: a document that says it is of another version may mean something else.
fn check_directives(text: &str) -> Result<(), String> {
    let head = text.lines().enumerate().take_while(|(_, line)| line.is_empty() || line.starts_with(['%', '#']));
    for (index, line) in head {
        let mut words = line.split_whitespace();
        match (words.next(), words.next()) {
            (None, _) | (Some("%TAG"), _) | (Some("%YAML"), Some("1.1")) => {}
            (Some("%YAML"), Some(version)) => {
                return Err(format!("only YAML 1.1 can be read, not {version}, at line {}", index + 1));
            }
            (Some(name), _) if name.starts_with('%') => {
                return Err(format!("there is no directive `{name}`, at line {}", index + 1));
            }
            _ => {}
        }
    }
    Ok(())
}

struct Reader<'t> {
    events: Parser<'t, StrInput<'t>>,
    /// Values by the number of their anchor, with how many values they are made of; `None` while they are read.
    anchors: HashMap<usize, Option<(Value, usize)>>,
    count: usize,
    depth: usize,
    /// Of the text, in characters.
    length: usize,
    ends_without_line: bool,
}

fn at(span: Span, what: &str) -> String {
    format!("{what}, at line {} column {}", span.start.line(), span.start.col() + 1)
}

fn scan_error(error: &ScanError) -> String {
    format!("{}, at line {} column {}", error.info(), error.marker().line(), error.marker().col() + 1)
}

impl<'t> Reader<'t> {
    fn next(&mut self) -> Result<(Event<'t>, Span), String> {
        match self.events.next() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => Err(scan_error(&error)),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    /// Nothing may follow the document.
    fn end(&mut self) -> Result<(), String> {
        loop {
            match self.next()? {
                (Event::DocumentEnd | Event::Nothing, _) => {}
                (Event::StreamEnd, _) => return Ok(()),
                (_, span) => return Err(at(span, "a second document begins; only one is read")),
            }
        }
    }

    fn value(&mut self, event: Event<'t>, span: Span) -> Result<Value, String> {
        self.count += 1;
        if self.count > MAX_VALUES {
            return Err(format!("there are more than {MAX_VALUES} values"));
        }
        let before = self.count;
        let (anchor, value) = match event {
            Event::Alias(anchor) => return self.alias(anchor, span),
            Event::Scalar(text, style, anchor, tag) => {
                let is_block = matches!(style, ScalarStyle::Literal | ScalarStyle::Folded);
                // A block has only the line ends that are there; the parser adds one at the end of the text.
                let is_cut = is_block && self.ends_without_line && span.end.index() >= self.length;
                let text = if is_cut { text.strip_suffix('\n').unwrap_or(&text).to_owned().into() } else { text };
                (anchor, scalar(&text, style, tag.as_deref()).map_err(|what| at(span, &what))?)
            }
            Event::SequenceStart(anchor, tag) => {
                self.start(anchor, tag, "seq", span)?;
                let elements = self.sequence()?;
                (anchor, Value::tuple(elements))
            }
            Event::MappingStart(anchor, tag) => {
                self.start(anchor, tag, "map", span)?;
                let entries = self.mapping()?;
                (anchor, Value::object(entries))
            }
            _ => return Err(at(span, "a value is expected")),
        };
        if anchor > 0 {
            self.anchors.insert(anchor, Some((value.clone(), self.count - before)));
        }
        Ok(value)
    }

    fn alias(&mut self, anchor: usize, span: Span) -> Result<Value, String> {
        match self.anchors.get(&anchor) {
            Some(Some((value, count))) => {
                self.count += count;
                Ok(value.clone())
            }
            Some(None) => Err(at(span, "a value cannot hold itself")),
            None => Err(at(span, "there is no such anchor")),
        }
    }

    fn start(&mut self, anchor: usize, tag: Option<Cow<'_, Tag>>, expected: &str, span: Span) -> Result<(), String> {
        if let Some(tag) = tag
            && core_tag(&tag) != Some(expected)
        {
            return Err(at(span, &format!("the tag {tag} does not fit here")));
        }
        self.depth += 1;
        if self.depth > MAX_NESTING {
            return Err(at(span, &format!("values are nested more than {MAX_NESTING} deep")));
        }
        if anchor > 0 {
            self.anchors.insert(anchor, None);
        }
        Ok(())
    }

    fn sequence(&mut self) -> Result<Vec<Value>, String> {
        let mut elements = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => break,
                (event, span) => elements.push(self.value(event, span)?),
            }
        }
        self.depth -= 1;
        Ok(elements)
    }

    /// Of a repeated key the last value counts, and `<<` puts in the entries of another mapping where it stands.
    fn mapping(&mut self) -> Result<BTreeMap<String, Value>, String> {
        let mut entries = BTreeMap::new();
        loop {
            let (event, span) = self.next()?;
            if event == Event::MappingEnd {
                break;
            }
            let key = self.value(event, span)?;
            let Some(key) = key.to_text() else { return Err(at(span, "a key must be a text")) };
            let (event, span) = self.next()?;
            let value = self.value(event, span)?;
            if key != "<<" {
                entries.insert(key, value);
                continue;
            }
            let Some(merged) = value.as_entries() else { return Err(at(span, "`<<` takes a mapping")) };
            entries.extend(merged.clone());
        }
        self.depth -= 1;
        Ok(entries)
    }
}

/// The short name of a tag of YAML itself: `str` of `!!str`.
fn core_tag(tag: &Tag) -> Option<&str> {
    let prefix = "tag:yaml.org,2002:";
    match tag.handle.as_str() {
        "!!" => Some(&tag.suffix),
        handle if handle == prefix => Some(&tag.suffix),
        "" => tag.suffix.strip_prefix(prefix),
        _ => None,
    }
}

fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Result<Value, String> {
    let is_plain = style == ScalarStyle::Plain;
    let resolved = || if is_plain { plain(text) } else { Ok(Value::string(text)) };
    let Some(tag) = tag else { return resolved() };
    let not_one = |what: &str| Err(format!("this is no {what}"));
    match core_tag(tag) {
        Some("str") => Ok(Value::string(text)),
        Some("null") if is_plain => Ok(Value::null()),
        Some("int" | "float") if is_plain && plain(text)?.as_number().is_none() => not_one("number"),
        Some("binary") if is_plain && STANDARD.decode(text.replace(['\n', ' '], "")).is_err() => not_one("base64"),
        Some("binary") => Ok(Value::string(text)),
        Some("null" | "bool" | "int" | "float" | "timestamp") => resolved(),
        _ => Err(format!("the tag {tag} is not known")),
    }
}

/// What a text without quotes stands for.
fn plain(text: &str) -> Result<Value, String> {
    Ok(match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::null(),
        "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" | "true" | "True" | "TRUE" => Value::bool(true),
        "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" | "false" | "False" | "FALSE" => Value::bool(false),
        ".nan" | ".NaN" | ".NAN" | ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" | "-.inf" | "-.Inf"
        | "-.INF" => return Err("the number is not finite".to_owned()),
        _ => match number(text) {
            Some(number) => number,
            None => Value::string(moment(text).unwrap_or_else(|| text.to_owned())),
        },
    })
}

/// A number in digits that may be grouped by `_`, or in binary digits behind `0b`.
fn number(text: &str) -> Option<Value> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if !unsigned.starts_with(|first: char| first.is_ascii_digit() || first == '.') {
        return None;
    }
    let digits = text.replace('_', "");
    if let Some(binary) = unsigned.strip_prefix("0b") {
        let magnitude = i64::from_str_radix(&binary.replace('_', ""), 2).ok().filter(|_| !binary.starts_with('-'))?;
        return Some(Value::number(if text.starts_with('-') { -magnitude } else { magnitude }));
    }
    parse_number(&digits).map(|number| Value::number(number.normalized()))
}

/// A date, or date and time, in RFC 3339 without fractions of seconds.
fn moment(text: &str) -> Option<String> {
    let (date, time) = match text.find(['T', 't', ' ']) {
        Some(mark) => (&text[..mark], Some((&text[mark..=mark], &text[mark + 1..]))),
        None => (text, None),
    };
    let mut parts = date.split('-');
    let (year, month, day) = (parts.next()?, digits(parts.next()?, 2)?, digits(parts.next()?, 2)?);
    if parts.next().is_some() || year.len() != 4 || digits(year, 4).is_none() {
        return None;
    }
    let year_number = digits(year, 4)?;
    jiff::civil::Date::new(i16::try_from(year_number).ok()?, i8::try_from(month).ok()?, i8::try_from(day).ok()?)
        .ok()?;
    let date = format!("{year}-{month:02}-{day:02}");
    let Some((mark, time)) = time else { return Some(format!("{date}T00:00:00Z")) };
    // Behind a blank there is no zone.
    let end = time.find(['Z', '+', '-']).unwrap_or(time.len());
    let (time, zone) = time.split_at(end);
    let zone = match (mark, zone) {
        (" ", "") => "Z",
        (" ", _) | (_, "") => return None,
        (_, zone) => zone_text(zone)?,
    };
    let (time, fraction) = time.split_once('.').map_or((time, None), |(time, fraction)| (time, Some(fraction)));
    if fraction.is_some_and(|fraction| digits(fraction, 9).is_none()) {
        return None;
    }
    let mut parts = time.split(':');
    let mut part = |limit: u32| digits(parts.next()?, 2).filter(|number| *number < limit);
    let (hour, minute, second) = (part(24)?, part(60)?, part(60)?);
    if parts.next().is_some() {
        return None;
    }
    Some(format!("{date}T{hour:02}:{minute:02}:{second:02}{zone}"))
}

fn zone_text(zone: &str) -> Option<&str> {
    if zone == "Z" {
        return Some(zone);
    }
    let (hours, minutes) = zone.get(1..)?.split_once(':')?;
    let fits = hours.len() == 2 && minutes.len() == 2 && digits(hours, 2)? < 24 && digits(minutes, 2)? < 60;
    if fits && digits(hours, 2)? + digits(minutes, 2)? == 0 { Some("Z") } else { fits.then_some(zone) }
}

/// Up to so many digits.
fn digits(text: &str, most: usize) -> Option<u32> {
    let fits = (1..=most).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    if fits { text.parse().ok() } else { None }
}
