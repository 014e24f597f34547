//! The command line of `ansible-playbook`, without secrets on it.

use std::borrow::Cow;

use kiln_core::{BuildContext, Failure};

use crate::workspace::Workspace;

/// The variables that every playbook is told of its build, each as the word behind `-e`.
pub(crate) fn build_variables(context: &BuildContext) -> Vec<String> {
    let name = context.build_name.replace('\\', "\\\\").replace('"', "\\\"");
    let mut variables =
        vec![format!("packer_build_name=\"{name}\""), format!("packer_builder_type={}", context.builder_kind)];
    let facts = context.facts.build.as_ref();
    let address = facts.and_then(|facts| facts.get("PackerHTTPAddr"));
    if let Some(address) = address.filter(|address| !address.is_empty() && !address.starts_with("ERR_")) {
        variables.push(format!("packer_http_addr={address}"));
    }
    if let Some(directory) = &context.secrets {
        variables.push(format!("kiln_secrets={directory}"));
    }
    variables
}

/// The template's own arguments. Variables that hold a secret go into files that only the user can read.
pub(crate) fn extra(
    arguments: &[String],
    workspace: &Workspace,
    context: &BuildContext,
) -> Result<Vec<String>, Failure> {
    let is_secret = |text: &str| matches!(context.redactor.redact(text), Cow::Owned(_));
    let mut out: Vec<String> = Vec::with_capacity(arguments.len());
    let mut files = 0;
    for argument in arguments {
        let follows = matches!(out.last().map(String::as_str), Some("-e" | "--extra-vars"));
        let (option, value) = match argument {
            value if follows => ("", value.as_str()),
            argument => match (argument.strip_prefix("--extra-vars="), argument.strip_prefix("-e")) {
                (Some(value), _) => ("--extra-vars=", value),
                (None, Some(value)) if !value.is_empty() => ("-e", value),
                _ => {
                    if is_secret(argument) {
                        context.events.warn(
                            "`extra_arguments` puts a sensitive value on a command line, where all users of this host \
                             can see it; hand it over in `ansible_env_vars`, or as a variable with `-e`",
                        );
                    }
                    out.push(argument.clone());
                    continue;
                }
            },
        };
        if value.starts_with('@') || !is_secret(value) {
            out.push(argument.clone());
            continue;
        }
        files += 1;
        let path = workspace.write(&format!("variables-{files}.yml"), &variables(value))?;
        out.push(format!("{option}@{}", path.display()));
    }
    Ok(out)
}

/// Variables as a file holds them: YAML and JSON as they are, `a=1 b="two words"` as JSON.
fn variables(value: &str) -> String {
    if value.trim_start().starts_with(['{', '[']) {
        return value.to_owned();
    }
    let pairs: serde_json::Map<String, serde_json::Value> = words(value)
        .iter()
        .filter_map(|word| word.split_once('='))
        .map(|(name, value)| (name.trim().to_owned(), unquoted(&unescaped(value)).to_owned().into()))
        .collect();
    serde_json::Value::Object(pairs).to_string()
}

/// Splits at blanks outside of quotes and of Jinja's braces.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let (mut quote, mut depth, mut is_escaped) = (None, 0_usize, false);
    let mut previous = ' ';
    for character in text.chars() {
        let is_end = character.is_whitespace() && quote.is_none() && depth == 0;
        if is_end {
            if !word.is_empty() {
                words.push(std::mem::take(&mut word));
            }
            previous = character;
            continue;
        }
        match character {
            _ if is_escaped => {}
            '\'' | '"' if quote == Some(character) => quote = None,
            '\'' | '"' if quote.is_none() => quote = Some(character),
            '{' | '%' if previous == '{' => depth += 1,
            '}' if matches!(previous, '}' | '%') => depth = depth.saturating_sub(1),
            _ => {}
        }
        is_escaped = character == '\\' && !is_escaped;
        previous = character;
        word.push(character);
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// What a backslash stands for in such a word.
fn unescaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(character) = rest.next() {
        if character != '\\' {
            out.push(character);
            continue;
        }
        match rest.next() {
            Some('n') => out.push('\n'),
            Some('t') => out.push('\t'),
            Some('r') => out.push('\r'),
            Some(quoted @ ('\\' | '\'' | '"')) => out.push(quoted),
            Some(other) => out.extend(['\\', other]),
            None => out.push('\\'),
        }
    }
    out
}

fn unquoted(text: &str) -> &str {
    let text = text.trim();
    let within = |quote: char| text.strip_prefix(quote)?.strip_suffix(quote);
    within('"').or_else(|| within('\'')).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use kiln_testkit::context;

    use super::*;

    #[test]
    fn secrets_go_into_files() {
        let context = context().secret("hunter22").build();
        let workspace = Workspace::create(&context.scratch).unwrap();
        let given = [
            "-v",
            "-e",
            "a=1",
            "--extra-vars",
            "password=hunter22 name=\"two words\" jinja={{ x + 1 }}",
            "--extra-vars={\"p\": \"hunter22\"}",
            "-epassword='hunter22'",
            "--tags=hunter22",
        ];
        let out = extra(&given.map(str::to_owned), &workspace, &context).unwrap();
        assert_eq!(&out[..4], ["-v", "-e", "a=1", "--extra-vars"]);
        let read = |argument: &str| std::fs::read_to_string(argument.split_once('@').unwrap().1).unwrap();
        assert_eq!(read(&out[4]), r#"{"password":"hunter22","name":"two words","jinja":"{{ x + 1 }}"}"#);
        assert_eq!(read(&out[5]), r#"{"p": "hunter22"}"#);
        assert!(out[5].starts_with("--extra-vars=@") && out[6].starts_with("-e@"), "{out:?}");
        assert_eq!(read(&out[6]), r#"{"password":"hunter22"}"#);
        assert!(context.reporter.warnings()[0].contains("command line"), "{:?}", context.reporter.warnings());
        let mode = std::os::unix::fs::PermissionsExt::mode(
            &std::fs::metadata(workspace.path("variables-1.yml")).unwrap().permissions(),
        );
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn the_build_is_told_as_packer_tells_it() {
        let context = context().build_called("b", "my \"build\"", "docker").build();
        assert_eq!(build_variables(&context), [r#"packer_build_name="my \"build\"""#, "packer_builder_type=docker"]);
    }
}
