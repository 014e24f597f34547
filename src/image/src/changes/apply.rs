//! What instructions mean for a config.

use serde_json::{Map, Value, json};

use super::words::{expand, split};
use super::{ChangeError, exec_form};
use crate::config::RunConfig;

type Outcome = Result<(), ChangeError>;

fn wrong(message: impl Into<String>) -> ChangeError {
    ChangeError { message: message.into(), help: None }
}

/// Applies one instruction, whose value is not empty.
pub(super) fn apply(instruction: &str, value: &str, config: &mut RunConfig) -> Outcome {
    let expanded = |text: &str| {
        expand(text, &|name| variable(config, name))
            .map_err(|problem| wrong(format!("`{instruction} {value}`: {problem}")))
    };
    match instruction {
        "CMD" => config.cmd = command(instruction, value, config)?,
        // Docker would take the base's CMD away; Packer puts it back.
        "ENTRYPOINT" => config.entrypoint = command(instruction, value, config)?,
        "ENV" => {
            for (name, value) in pairs(instruction, value, &expanded)? {
                set_variable(config, &name, &value);
            }
        }
        "LABEL" => {
            let pairs = pairs(instruction, value, &expanded)?;
            config.labels.get_or_insert_default().extend(pairs);
        }
        "EXPOSE" => {
            let ports = ports(&expanded(value)?)?;
            config.exposed_ports.get_or_insert_default().extend(ports.into_iter().map(|port| (port, json!({}))));
        }
        "VOLUME" => {
            let listed = exec_form(instruction, value)?;
            let words = listed.unwrap_or_else(|| split(value));
            let paths = words.iter().map(|word| expanded(word)).collect::<Result<Vec<_>, _>>()?;
            if paths.iter().any(|path| path.trim().is_empty()) {
                return Err(wrong("`VOLUME` names an empty path"));
            }
            let volumes = paths.iter().map(|path| (path.trim().to_owned(), json!({})));
            config.volumes.get_or_insert_default().extend(volumes);
        }
        "USER" => config.user = expanded(value)?,
        "WORKDIR" => config.working_dir = directory(&config.working_dir, &expanded(value)?),
        "STOPSIGNAL" => config.stop_signal = Some(signal(&expanded(value)?)?),
        "HEALTHCHECK" => drop(config.other.insert("Healthcheck".to_owned(), health_check(value)?)),
        "ONBUILD" => on_build(value, config)?,
        _ => return Err(wrong(format!("`{instruction}` cannot be applied to a finished image"))),
    }
    Ok(())
}

fn variable(config: &RunConfig, name: &str) -> Option<String> {
    let variables = config.env.as_deref().unwrap_or_default();
    let found = variables.iter().find_map(|variable| variable.strip_prefix(name)?.strip_prefix('='));
    found.map(str::to_owned)
}

fn set_variable(config: &mut RunConfig, name: &str, value: &str) {
    let variables = config.env.get_or_insert_default();
    let assignment = format!("{name}={value}");
    match variables.iter_mut().find(|variable| variable.split('=').next() == Some(name)) {
        Some(variable) => *variable = assignment,
        None => variables.push(assignment),
    }
}

/// The words of the exec form, or the shell with the line; nothing for an empty list.
fn command(instruction: &str, value: &str, config: &RunConfig) -> Result<Option<Vec<String>>, ChangeError> {
    Ok(match exec_form(instruction, value)? {
        Some(words) => Some(words).filter(|words| !words.is_empty()),
        None => Some(shell(config).into_iter().chain([value.to_owned()]).collect()),
    })
}

fn shell(config: &RunConfig) -> Vec<String> {
    let own = config.other.get("Shell").cloned().and_then(|shell| serde_json::from_value::<Vec<String>>(shell).ok());
    own.filter(|shell| !shell.is_empty()).unwrap_or_else(|| vec!["/bin/sh".to_owned(), "-c".to_owned()])
}

/// `name=value ...`, or the old `name value`.
fn pairs(
    instruction: &str,
    value: &str,
    expanded: &dyn Fn(&str) -> Result<String, ChangeError>,
) -> Result<Vec<(String, String)>, ChangeError> {
    let words = split(value);
    let is_old = words.first().is_some_and(|first| !first.contains('='));
    let texts: Vec<(String, String)> = if is_old {
        let (name, rest) = value.split_once(char::is_whitespace).unwrap_or((value, ""));
        if rest.trim().is_empty() {
            return Err(wrong(format!("`{instruction} {value}` has no value: write {instruction} {value}=...")));
        }
        vec![(name.to_owned(), rest.trim().to_owned())]
    } else {
        let pair = |word: &String| match word.split_once('=') {
            Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
            None => Err(wrong(format!("`{word}` in `{instruction} {value}` is not of the form name=value"))),
        };
        words.iter().map(pair).collect::<Result<_, _>>()?
    };
    let mut pairs = Vec::new();
    for (name, value) in texts {
        let name = expanded(&name)?;
        if name.is_empty() {
            return Err(wrong(format!("`{instruction}` has a value without a name")));
        }
        pairs.push((name, expanded(&value)?));
    }
    Ok(pairs)
}

/// `80`, `53/udp`, `8000-8010/tcp`.
fn ports(value: &str) -> Result<Vec<String>, ChangeError> {
    let mut ports = Vec::new();
    for word in value.split_whitespace() {
        let invalid = || wrong(format!("`EXPOSE {word}` is no port, like 80, 53/udp or 8000-8010"));
        let (range, protocol) = word.split_once('/').unwrap_or((word, "tcp"));
        let protocol = protocol.to_ascii_lowercase();
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (Ok(first), Ok(last)) = (first.parse::<u16>(), last.parse::<u16>()) else { return Err(invalid()) };
        if first > last || !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
            return Err(invalid());
        }
        ports.extend((first..=last).map(|port| format!("{port}/{protocol}")));
    }
    Ok(ports)
}

/// As seen from the directory before. One that begins at the root stays as it is written, as the Docker engine has it.
fn directory(before: &str, value: &str) -> String {
    if value.starts_with('/') {
        return value.to_owned();
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in before.split('/').chain(value.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

fn signal(value: &str) -> Result<String, ChangeError> {
    let is_number = value.parse::<u8>().is_ok_and(|number| (1..=64).contains(&number));
    let is_name = value.starts_with(|first: char| first.is_ascii_alphabetic())
        && value.chars().all(|character| character.is_ascii_alphanumeric() || matches!(character, '+' | '-'));
    if is_number || is_name {
        return Ok(value.to_owned());
    }
    Err(wrong(format!("`STOPSIGNAL {value}` is no signal, like SIGTERM or 15")))
}

fn health_check(value: &str) -> Result<Value, ChangeError> {
    if value.eq_ignore_ascii_case("none") {
        return Ok(json!({"Test": ["NONE"]}));
    }
    let mut check = Map::new();
    let mut rest = value;
    while let Some(option) = rest.strip_prefix("--") {
        let (option, after) = option.split_once(char::is_whitespace).unwrap_or((option, ""));
        rest = after.trim_start();
        let (name, setting) = option.split_once('=').unwrap_or((option, ""));
        let key = match name {
            "interval" => "Interval",
            "timeout" => "Timeout",
            "start-period" => "StartPeriod",
            "start-interval" => "StartInterval",
            "retries" => "Retries",
            _ => return Err(wrong(format!("`HEALTHCHECK` has no option `--{name}`"))),
        };
        let parsed = if key == "Retries" { setting.parse().ok() } else { nanoseconds(setting) };
        let number = parsed.ok_or_else(|| {
            let example = if key == "Retries" { "3" } else { "30s" };
            wrong(format!("`HEALTHCHECK --{name}={setting}` is malformed: write --{name}={example}"))
        })?;
        check.insert(key.to_owned(), json!(number));
    }
    let (word, line) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let line = line.trim();
    if !word.eq_ignore_ascii_case("cmd") || line.is_empty() {
        return Err(wrong("`HEALTHCHECK` takes NONE, or options and CMD with a command"));
    }
    let test = match exec_form("HEALTHCHECK CMD", line)? {
        Some(words) => ["CMD".to_owned()].into_iter().chain(words).collect(),
        // The engine itself prepends the shell.
        None => vec!["CMD-SHELL".to_owned(), line.to_owned()],
    };
    check.insert("Test".to_owned(), json!(test));
    Ok(Value::Object(check))
}

/// Go's durations: `1m30s`, `500ms`, `1.5h`.
fn nanoseconds(text: &str) -> Option<u64> {
    let mut total = 0f64;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|character: char| !character.is_ascii_digit() && character != '.')?;
        let amount: f64 = rest[..digits].parse().ok()?;
        let unit_end = rest[digits..].find(|character: char| character.is_ascii_digit() || character == '.');
        let unit = &rest[digits..unit_end.map_or(rest.len(), |end| digits + end)];
        let nanoseconds = match unit {
            "ns" => 1.0,
            "us" | "µs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 6e10,
            "h" => 3.6e12,
            _ => return None,
        };
        total += amount * nanoseconds;
        rest = &rest[digits + unit.len()..];
    }
    // Up to 292 years, as Go has it; so the conversion is exact enough and cannot overflow.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    (!text.is_empty() && total < 9.2e18).then_some(total as u64)
}

fn on_build(value: &str, config: &mut RunConfig) -> Outcome {
    let word = value.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
    if matches!(word.as_str(), "ONBUILD" | "FROM" | "MAINTAINER") {
        return Err(wrong(format!("`{word}` is not allowed behind `ONBUILD`")));
    }
    let list = config.other.entry("OnBuild").or_insert_with(|| json!([]));
    if list.is_null() {
        *list = json!([]);
    }
    if let Some(list) = list.as_array_mut() {
        list.push(json!(value));
    }
    Ok(())
}
