//! From the arguments to a loaded template, alike for all commands.

use std::io::Read;
use std::sync::Arc;
use std::time::SystemTime;

use kiln_core::data::Done;
use kiln_core::{DataReader, DataSource, Diagnostics, Failure, FailureClass, Redactor};
use kiln_data::RuntimeReader;
use kiln_template::{ConfigType, DataOptions, LoadOptions, Loaded, UnknownKinds};
use tokio::runtime::Handle;

use crate::args::{self, TemplateArgs};
use crate::error::CliError;
use crate::kinds;
use crate::settings::Settings;
use crate::ui::{self, Format};

/// What a command wants of the template.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Wanted {
    /// Warn about undeclared variables in variable files.
    pub(crate) warn_undeclared: bool,
    /// A variable without value is no mistake, nor is a kind that kiln does not have.
    pub(crate) allow_unset: bool,
    /// Kinds that kiln does not have are worth a warning only.
    pub(crate) allow_unknown_kinds: bool,
    /// A template without any `build` block is worth a warning only.
    pub(crate) allow_no_builds: bool,
    /// Stop after the syntax.
    pub(crate) syntax_only: bool,
    /// What pushes is left out.
    pub(crate) no_push: bool,
}

/// Reads and evaluates the template. Its mistakes are in the result, not in the error. Data sources are not read.
pub(crate) fn load(arguments: &TemplateArgs, wanted: Wanted, settings: &Settings) -> Result<Loaded, CliError> {
    load_with(arguments, wanted, settings, None)
}

/// As [`load()`], and data sources that something needs are read; a long wait for them is told in the format. Runs in a
/// thread of its own, that may wait.
pub(crate) async fn load_with_data(
    arguments: &TemplateArgs,
    wanted: Wanted,
    settings: &Settings,
    format: Format,
) -> Result<Loaded, CliError> {
    let (arguments, settings) = (arguments.clone(), settings.clone());
    let reader: Arc<dyn DataReader> = Arc::new(TellingReader { inner: RuntimeReader::new(Handle::current()), format });
    let loading = tokio::task::spawn_blocking(move || load_with(&arguments, wanted, &settings, Some(reader)));
    match loading.await {
        Ok(loaded) => loaded,
        // It is never cancelled, so it panicked: go on doing so.
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// Tells the user what is waited for.
#[derive(Debug)]
struct TellingReader {
    inner: RuntimeReader,
    format: Format,
}

impl DataReader for TellingReader {
    fn start(&self, source: Arc<dyn DataSource>, done: Done) {
        self.inner.start(source, done);
    }

    fn waiting(&self, names: &[String]) {
        ui::show_message(self.format, &format!("waiting for {}", names.join(", ")));
    }
}

fn load_with(
    arguments: &TemplateArgs,
    wanted: Wanted,
    settings: &Settings,
    reader: Option<Arc<dyn DataReader>>,
) -> Result<Loaded, CliError> {
    let mut options = options(arguments, wanted, settings);
    if options.is_stdin() {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map_err(|error| Failure::environment(StdinError(error)))?;
        // Packer takes standard input for JSON; a legacy template is an object and nothing else.
        let is_json = text.trim_start_matches('\u{feff}').trim_start().starts_with('{');
        let form = if is_json { ConfigType::Json } else { ConfigType::Hcl2 };
        options.config_type = options.config_type.or(Some(form));
        options.stdin = Some(text);
    }
    options.data.reader = reader;
    Ok(kiln_template::load(&options))
}

/// What was asked for, and the surroundings. The text of a template on standard input is not read, nor are data sources.
pub(crate) fn options(arguments: &TemplateArgs, wanted: Wanted, settings: &Settings) -> LoadOptions {
    let mut options = LoadOptions::new(&arguments.template, &settings.working_dir);
    if let Some(form) = arguments.config_type {
        options.config_type = Some(match form {
            args::ConfigType::Json => ConfigType::Json,
            args::ConfigType::Hcl2 => ConfigType::Hcl2,
        });
    }
    options.variables.clone_from(&arguments.var);
    options.variable_files.clone_from(&arguments.var_file);
    options.environment.clone_from(&settings.environment);
    options.only.clone_from(&arguments.only);
    options.except.clone_from(&arguments.except);
    options.without_parents = arguments.no_deps;
    options.home.clone_from(&settings.home);
    options.modules_dir = Some(settings.cache_dir.join("modules"));
    options.host = settings.host;
    options.started = SystemTime::now();
    options.warn_undeclared = wanted.warn_undeclared;
    options.allow_unset = wanted.allow_unset;
    options.allow_no_builds = wanted.allow_no_builds;
    options.syntax_only = wanted.syntax_only;
    options.data = DataOptions {
        kinds: Arc::new(kinds::data_sources(settings)),
        reader: None,
        unknown_kinds: match (wanted.allow_unset, wanted.allow_unknown_kinds) {
            (true, _) => UnknownKinds::Accept,
            (_, true) => UnknownKinds::Warn,
            _ => UnknownKinds::Refuse,
        },
    };
    options
}

/// A redactor that knows the template's secrets.
pub(crate) fn redactor(loaded: &Loaded) -> Redactor {
    let redactor = Redactor::new();
    let planned = loaded.plan.iter().flat_map(|plan| &plan.secrets);
    for secret in loaded.secrets.iter().chain(planned) {
        redactor.add(secret);
    }
    redactor
}

/// Shows what was found, and stops at errors.
pub(crate) fn check(loaded: &Loaded, redactor: &Redactor, settings: &Settings) -> Result<(), CliError> {
    let format = Format::of_messages(settings);
    ui::show_diagnostics(format, &loaded.diagnostics, &loaded.sources, redactor, settings);
    if loaded.diagnostics.has_errors() {
        return Err(CliError::Reported(class_of(&loaded.diagnostics)));
    }
    Ok(())
}

/// What mistakes amount to: where nothing is wrong but that data sources cannot be read, it is not the template's fault.
pub(crate) fn class_of(diagnostics: &Diagnostics) -> FailureClass {
    let errors: Vec<_> = diagnostics.items.iter().filter(|item| item.is_error()).collect();
    let is_outside = !errors.is_empty() && errors.iter().all(|item| item.code == "data-source-failed");
    if is_outside { FailureClass::Environment } else { FailureClass::Template }
}

#[derive(Debug, thiserror::Error)]
#[error("cannot read the template from standard input")]
struct StdinError(#[source] std::io::Error);
