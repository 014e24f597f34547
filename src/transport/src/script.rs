//! What the `shell` and `shell-local` components have in common: where their scripts come from, the environment they
//! give them, how both are written into an `execute_command`, and what a wrong exit status is told as.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use kiln_core::{BuildContext, Decoded, Diagnostic, Diagnostics, ExitStatus, Failure, Redactor, suggest};
use kiln_gotemplate::{Data, RenderError, Rendered, Scope};

use kiln_core::lines::LineSink;

/// The interpreter of inline commands where the template names none.
pub const DEFAULT_SHEBANG: &str = "/bin/sh -e";

/// Packer's default for `env_var_format`.
pub const DEFAULT_VARIABLE_FORMAT: &str = "%s='%s' ";

/// Where the commands come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScriptSource {
    /// Lines of one script.
    Inline(Vec<String>),
    /// Files of this host, run one after the other; relative to the working directory of the process.
    Files(Vec<String>),
}

impl ScriptSource {
    /// Reads the one of `names` (a subset of `inline`, `command`, `script`, `scripts`) that is set; checks that it is one
    /// alone, not empty, and that files are there. A value that is not known yet gives an empty source.
    pub fn read(config: &Decoded, names: &[&str], title: &str, diagnostics: &mut Diagnostics) -> Option<ScriptSource> {
        // An empty text or list counts as absent, as for Packer: templates choose between two with a condition.
        let holds = |name: &&str| config.is_unknown(name) || !texts(config, name).is_empty();
        let set: Vec<&str> = names.iter().copied().filter(holds).collect();
        let choices = suggest::enumerate(names.iter().copied());
        let name = match set.as_slice() {
            [] => {
                let diagnostic = match names.iter().find(|name| config.is_set(name)) {
                    Some(name) => Diagnostic::error("empty-value", config.span(name), format!("`{name}` is empty")),
                    None => Diagnostic::error(
                        "missing-argument",
                        config.body_span(),
                        format!("{title} needs exactly one of {choices}"),
                    ),
                };
                let help = "write for example `inline = [\"apt-get update\"]` or `script = \"setup.sh\"`";
                diagnostics.push(diagnostic.help(help));
                return None;
            }
            [name] => *name,
            [first, second, ..] => {
                diagnostics.push(
                    Diagnostic::error(
                        "conflicting-arguments",
                        config.span(second),
                        format!("`{first}` and `{second}` are both set; {title} takes exactly one of {choices}"),
                    )
                    .also(config.span(first), "the other one"),
                );
                return None;
            }
        };
        let values = texts(config, name);
        if matches!(name, "inline" | "command") {
            return Some(ScriptSource::Inline(values));
        }
        let is_list = name == "scripts";
        for (index, path) in values.iter().enumerate() {
            let place = if is_list { format!("{name}[{index}]") } else { name.to_owned() };
            if !config.is_unknown(&place) {
                check_file(config, &place, path, diagnostics);
            }
        }
        Some(ScriptSource::Files(values))
    }

    /// In a few words, for a step's title; `adjective` is empty or ends in a space.
    pub fn title(&self, adjective: &str) -> String {
        match self {
            ScriptSource::Inline(commands) if commands.len() == 1 => format!("1 {adjective}command"),
            ScriptSource::Inline(commands) => format!("{} {adjective}commands", commands.len()),
            ScriptSource::Files(files) => match files.as_slice() {
                [] => format!("{adjective}script"),
                [file] => file.clone(),
                [first, rest @ ..] => format!("{first} and {} more", rest.len()),
            },
        }
    }

    /// The files, if it is files.
    pub fn files(&self) -> Vec<PathBuf> {
        match self {
            ScriptSource::Inline(_) => Vec::new(),
            ScriptSource::Files(files) => files.iter().map(PathBuf::from).collect(),
        }
    }
}

/// A field that holds one text or a list of texts.
fn texts(config: &Decoded, name: &str) -> Vec<String> {
    match config.values().get(name) {
        Some(serde_json::Value::String(text)) if text.is_empty() => Vec::new(),
        Some(serde_json::Value::String(text)) => vec![text.clone()],
        Some(serde_json::Value::Array(items)) => {
            items.iter().map(|item| item.as_str().unwrap_or_default().to_owned()).collect()
        }
        _ => Vec::new(),
    }
}

/// Checks that a file named in a template can be read; tells of it at `place` (a path as for [`Decoded::span`]).
pub fn check_file(config: &Decoded, place: &str, path: &str, diagnostics: &mut Diagnostics) {
    let span = config.span(place);
    if path.is_empty() {
        diagnostics.push(Diagnostic::error("empty-value", span, format!("`{place}` is empty")));
        return;
    }
    let error = match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => {
            let title = format!("`{path}` is a directory, and `{place}` must be a file");
            diagnostics.push(Diagnostic::error("wrong-file-type", span, title));
            return;
        }
        // A named pipe is not opened: that would wait for its writer.
        Ok(metadata) if !metadata.is_file() => return,
        Ok(_) => std::fs::File::open(path).err(),
        Err(error) => Some(error),
    };
    if let Some(error) = error {
        diagnostics.push(unreadable(span, place, path, &error));
    }
}

/// "cannot read", with the nearest name in the same directory, or else where relative paths start.
pub fn unreadable(span: kiln_core::Span, place: &str, path: &str, error: &std::io::Error) -> Diagnostic {
    let diagnostic = if error.kind() == std::io::ErrorKind::NotFound {
        Diagnostic::error("missing-file", span, format!("`{place}`: there is no file `{path}`"))
    } else {
        Diagnostic::error("unreadable-file", span, format!("`{place}`: cannot read `{path}`: {error}"))
    };
    if let Some(nearest) = kiln_core::suggest::nearest_file(Path::new("."), path) {
        return diagnostic.value(span, format!("\"{nearest}\""), format!("did you mean `{nearest}`?"));
    }
    match std::env::current_dir() {
        Ok(directory) if Path::new(path).is_relative() => {
            diagnostic.note(format!("paths of arguments start at the working directory, `{}`", directory.display()))
        }
        _ => diagnostic,
    }
}

/// The script of inline commands: its shebang line and one line each. Commands that begin with a `#!` of their own keep
/// it unless the template sets `inline_shebang`.
pub fn inline_script(commands: &[String], shebang: Option<&str>) -> String {
    let mut script = String::new();
    let has_own = commands.first().is_some_and(|command| command.starts_with("#!"));
    if shebang.is_some() || !has_own {
        script.push_str("#!");
        script.push_str(shebang.unwrap_or(DEFAULT_SHEBANG));
        script.push('\n');
    }
    for command in commands {
        script.push_str(command);
        script.push('\n');
    }
    script
}

/// One variable for a script.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Variable {
    value: String,
    is_sensitive: bool,
}

/// The environment that the template asks for.
#[derive(Clone, Default)]
pub struct Environment {
    variables: BTreeMap<String, Variable>,
}

impl std::fmt::Debug for Environment {
    // The values may be secrets.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_list().entries(self.variables.keys()).finish()
    }
}

impl Environment {
    /// Reads `environment_vars` (a list of `NAME=value`) and `env` (a map, which wins).
    pub fn read(config: &Decoded, diagnostics: &mut Diagnostics) -> Environment {
        let mut environment = Environment::default();
        let is_list_sensitive = config.is_sensitive("environment_vars");
        for (index, entry) in texts(config, "environment_vars").iter().enumerate() {
            let place = format!("environment_vars[{index}]");
            match entry.split_once('=') {
                _ if config.is_unknown(&place) => {}
                Some((name, value)) if !name.is_empty() => {
                    environment.insert(name, value, is_list_sensitive || config.is_sensitive(&place));
                }
                _ => diagnostics.push(
                    // The entry itself may be a secret that lost its name, so it is not repeated.
                    Diagnostic::error("wrong-value", config.span(&place), format!("`{place}` is not `NAME=value`"))
                        .help("write for example `environment_vars = [\"DEBIAN_FRONTEND=noninteractive\"]`"),
                ),
            }
        }
        let is_map_sensitive = config.is_sensitive("env");
        if let Some(serde_json::Value::Object(entries)) = config.values().get("env") {
            for (name, value) in entries {
                let place = format!("env.{name}");
                if name.is_empty() || name.contains('=') {
                    let title = format!("`{name}` cannot be the name of an environment variable");
                    diagnostics.push(Diagnostic::error("wrong-value", config.span(&place), title));
                    continue;
                }
                let is_sensitive = is_map_sensitive || config.is_sensitive(&place);
                environment.insert(name, value.as_str().unwrap_or_default(), is_sensitive);
            }
        }
        environment
    }

    fn insert(&mut self, name: &str, value: &str, is_sensitive: bool) {
        self.variables.insert(name.to_owned(), Variable { value: value.to_owned(), is_sensitive });
    }

    /// With what every script is told of its build, as far as the template does not say otherwise: `PACKER_BUILD_NAME`,
    /// `PACKER_BUILDER_TYPE`, the same with `KILN_`, `KILN_SECRETS` where the step has secrets,
    /// `PACKER_HTTP_*` where there is a server, and `more`.
    #[must_use]
    pub fn complete(&self, context: &BuildContext, more: &BTreeMap<String, String>) -> Environment {
        let mut complete = Environment::default();
        for prefix in ["PACKER", "KILN"] {
            complete.insert(&format!("{prefix}_BUILD_NAME"), &context.build_name, false);
            complete.insert(&format!("{prefix}_BUILDER_TYPE"), &context.builder_kind, false);
        }
        if let Some(directory) = &context.secrets {
            complete.insert("KILN_SECRETS", directory, false);
        }
        let http = [("Addr", "ADDR"), ("IP", "IP"), ("Port", "PORT")];
        for (fact, name) in http {
            let value = context.facts.build.as_ref().and_then(|facts| facts.get(&format!("PackerHTTP{fact}")));
            if let Some(value) = value.filter(|value| !value.is_empty() && !value.starts_with("ERR_")) {
                complete.insert(&format!("PACKER_HTTP_{name}"), value, false);
            }
        }
        for (name, value) in more {
            complete.insert(name, value, false);
        }
        complete.variables.extend(self.variables.clone());
        complete
    }

    /// Names and values, sorted by name: for [`kiln_core::Command::environment`].
    pub fn pairs(&self) -> Vec<(String, String)> {
        self.variables.iter().map(|(name, variable)| (name.clone(), variable.value.clone())).collect()
    }

    /// All of them in clear in this format: for a file that only its owner can read.
    pub fn in_clear(&self, format: &VariableFormat) -> String {
        self.variables.iter().map(|(name, variable)| format.assign(name, &variable.value)).collect()
    }

    /// `{{.Vars}}`: for a command line, so without secrets.
    pub fn assignments(&self, format: &VariableFormat, redactor: &Redactor) -> Assignments {
        let mut assignments = Assignments::default();
        for (name, variable) in &self.variables {
            let is_secret = variable.is_sensitive || matches!(redactor.redact(&variable.value), Cow::Owned(_));
            if is_secret {
                // What is no identifier cannot be referred to; the environment carries it all the same.
                if is_identifier(name) {
                    assignments.text.push_str(&format.refer(name));
                }
                assignments.beside.push((name.clone(), variable.value.clone()));
            } else {
                assignments.text.push_str(&format.assign(name, &variable.value));
            }
        }
        assignments
    }
}

fn is_identifier(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit()) && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// What `{{.Vars}}` becomes.
#[derive(Clone, Default)]
pub struct Assignments {
    /// The text for the command line; a secret stands there as `NAME="$NAME" `.
    pub text: String,
    /// The secrets: they travel in the command's environment.
    pub beside: Vec<(String, String)>,
}

/// `env_var_format`: two `%s`, for the name and for the value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VariableFormat {
    before: String,
    between: String,
    after: String,
}

/// Why a text is no format for variables.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`env_var_format` must hold `%s` exactly twice, first for the name and then for the value")]
pub struct VariableFormatError;

impl VariableFormat {
    /// Reads the format; `%%` is a percent sign.
    pub fn parse(text: &str) -> Result<VariableFormat, VariableFormatError> {
        let mut parts = vec![String::new()];
        let mut characters = text.chars();
        while let Some(character) = characters.next() {
            let is_verb = character == '%' && {
                match characters.next() {
                    Some('s') => true,
                    Some('%') => false,
                    _ => return Err(VariableFormatError),
                }
            };
            match parts.last_mut() {
                Some(part) if !is_verb => part.push(character),
                _ => parts.push(String::new()),
            }
        }
        match <[String; 3]>::try_from(parts) {
            Ok([before, between, after]) => Ok(VariableFormat { before, between, after }),
            Err(_) => Err(VariableFormatError),
        }
    }

    /// Reads the field `env_var_format`, or takes `default`.
    pub fn read(config: &Decoded, default: &str, diagnostics: &mut Diagnostics) -> Option<VariableFormat> {
        let given = config.values().get("env_var_format").and_then(serde_json::Value::as_str);
        match VariableFormat::parse(given.unwrap_or(default)) {
            Ok(format) => Some(format),
            Err(error) => {
                let diagnostic = Diagnostic::error("wrong-value", config.span("env_var_format"), error.to_string());
                diagnostics.push(diagnostic.help("the default is `%s='%s' `"));
                None
            }
        }
    }

    /// One assignment; single quotes in the value end the quoted part, as Packer writes them (`'"'"'`).
    fn assign(&self, name: &str, value: &str) -> String {
        format!("{}{name}{}{}{}", self.before, self.between, value.replace('\'', "'\"'\"'"), self.after)
    }

    /// One assignment from the variable of the same name, in double quotes whatever the format's own quotes are.
    fn refer(&self, name: &str) -> String {
        let VariableFormat { before, between, after } = self;
        for quote in ['\'', '"'] {
            if let (Some(between), Some(after)) = (between.strip_suffix(quote), after.strip_prefix(quote)) {
                return format!("{before}{name}{between}\"${name}\"{after}");
            }
        }
        format!("{before}{name}{between}\"${name}\"{after}")
    }
}

/// Why a script could not be run, or ended badly.
#[derive(Debug, thiserror::Error)]
pub enum ScriptError {
    /// Its exit status is not an allowed one.
    #[error("{}", exit_text(script, *status, allowed, tail))]
    Exit {
        /// What ran.
        script: String,
        /// How it ended.
        status: ExitStatus,
        /// `valid_exit_codes`.
        allowed: Vec<i64>,
        /// The last lines of its output, without secrets.
        tail: Vec<String>,
    },
    /// A Go template in an argument.
    #[error("cannot render `{field}`")]
    Render {
        /// The argument.
        field: &'static str,
        /// Why.
        source: RenderError,
    },
    /// It uses a value of the machine that there is none of.
    #[error("`{field}` uses a value that this machine does not have")]
    Unknown {
        /// The argument.
        field: &'static str,
    },
}

fn exit_text(script: &str, status: ExitStatus, allowed: &[i64], tail: &[String]) -> String {
    let how = match status {
        ExitStatus::Exited(code) => format!("exited with status {code}"),
        ExitStatus::Signalled(signal) if script.ends_with("commands") => format!("were killed by signal {signal}"),
        ExitStatus::Signalled(signal) => format!("was killed by signal {signal}"),
    };
    let codes: Vec<String> = allowed.iter().map(i64::to_string).collect();
    let mut text = format!("{script} {how} (allowed: {})", codes.join(", "));
    if !tail.is_empty() {
        text.push_str("; the last lines of its output:");
        for line in tail {
            text.push_str("\n    ");
            text.push_str(line);
        }
    }
    text
}

/// The last lines that a command printed, without secrets.
pub fn clean_tail(sink: &LineSink, redactor: &Redactor) -> Vec<String> {
    sink.tail().map(|line| redactor.redact(line).into_owned()).collect()
}

/// A failure unless the status is allowed. `script` names what ran, e.g. ``script `setup.sh` ``.
pub fn check_exit(
    script: &str,
    status: ExitStatus,
    allowed: &[i64],
    sink: &LineSink,
    redactor: &Redactor,
) -> Result<(), Failure> {
    let code = status.code();
    if allowed.contains(&code) {
        return Ok(());
    }
    let hint = match code {
        126 => "status 126: the script or its interpreter may not be executed; look at its mode and `#!` line, and at \
                whether its directory is mounted `noexec`"
            .to_owned(),
        127 => "status 127: a command, or the interpreter of the `#!` line, does not exist there".to_owned(),
        137 => "status 137: it was killed; often the memory was used up".to_owned(),
        _ => format!("if status {code} is fine here, add it to `valid_exit_codes`"),
    };
    let tail = clean_tail(sink, redactor);
    let error =
        ScriptError::Exit { script: redactor.redact(script).into_owned(), status, allowed: allowed.to_vec(), tail };
    Err(Failure::build(error).hint(hint))
}

/// Renders a deferred argument. `data` are its own fields (`Path`, `EnvVarFile`), `variables` is `{{.Vars}}`; the values
/// of `build.*` are there too, under their names.
pub fn render(
    field: &'static str,
    text: &str,
    context: &BuildContext,
    data: &BTreeMap<String, Data>,
    variables: &str,
) -> Result<String, Failure> {
    let mut all: BTreeMap<String, Data> = BTreeMap::new();
    if let Some(facts) = &context.facts.build {
        all.extend(facts.iter().map(|(name, value)| (name.clone(), Data::Text(value.clone()))));
    }
    all.insert("Vars".to_owned(), Data::Text(variables.to_owned()));
    all.extend(data.clone());
    let scope = Scope {
        text: &context.text_scope,
        build_name: Some(&context.build_name),
        build_type: Some(&context.builder_kind),
        build: context.facts.build.as_ref(),
        allow_env: false,
    };
    let report = kiln_gotemplate::render_with_report(text, &scope, &all)
        .map_err(|source| Failure::build(ScriptError::Render { field, source }))?;
    for missing in report.missing_fields {
        let nearest = missing.suggestion.map(|name| format!("; did you mean `{{{{{name}}}}}`?")).unwrap_or_default();
        context.events.warn(format!("`{field}`: there is no `{{{{{}}}}}`{nearest}", missing.path));
    }
    match report.rendered {
        Rendered::Text(rendered) => Ok(rendered),
        Rendered::Unknown => Err(Failure::build(ScriptError::Unknown { field })),
    }
}

/// Carries [`hidden`] commands.
const HIDDEN_VARIABLE: &str = "KILN_COMMAND";

/// A shell command that holds a secret, as everybody who lists processes would see: what the shell is given instead, and
/// the variable that carries the command. The shell takes the variable out of the environment of what it runs. `None` where
/// there is no secret in it.
pub fn hidden(command: &str, redactor: &Redactor) -> Option<(String, (String, String))> {
    matches!(redactor.redact(command), Cow::Owned(_)).then(|| {
        let name = HIDDEN_VARIABLE;
        let text = format!("kiln_command=${name}; unset {name}; eval \"$kiln_command\"");
        (text, (name.to_owned(), command.to_owned()))
    })
}

/// One word of a POSIX shell, whatever the text holds.
pub fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests;
