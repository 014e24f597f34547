//! The one entry: which form a template has, and what loading it gives.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use kiln_core::{DataReader, Diagnostic, Diagnostics, Kinds, Plan, Severity, SourceId, SourceMap, suggest};

use crate::{hcl, legacy};

/// The form of a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigType {
    /// HCL2.
    Hcl2,
    /// Legacy JSON.
    Json,
}

/// What `host.*` tells of the machine that kiln runs on. Its system and architecture are known when kiln is compiled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Host {
    /// The user's number.
    pub uid: u32,
    /// The number of the user's group.
    pub gid: u32,
    /// Processors that kiln may use.
    pub cpus: usize,
}

/// What there is to know of data sources.
#[derive(Debug, Clone, Default)]
pub struct DataOptions {
    /// The kinds of data sources; other kinds are not looked at.
    pub kinds: Arc<Kinds>,
    /// Who reads those that something needs; [`load()`] waits for it, so it must not run on a thread that the reader needs.
    /// Without one, outputs are unknown values of their types.
    pub reader: Option<Arc<dyn DataReader>>,
    /// What is said of a kind that is not among [`DataOptions::kinds`].
    pub unknown_kinds: UnknownKinds,
}

/// What is said of an unknown kind of data source. Its outputs are unknown in any case.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum UnknownKinds {
    /// It is an error.
    #[default]
    Refuse,
    /// It is a warning.
    Warn,
    /// Nothing.
    Accept,
}

/// What to load, and everything from outside that it may depend on.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// A file, a directory, or `-` for [`LoadOptions::stdin`]; relative to [`LoadOptions::working_dir`].
    pub template: PathBuf,
    /// The template's text where [`LoadOptions::template`] is `-`.
    pub stdin: Option<String>,
    /// `-config-type`: the form, whatever the name says.
    pub config_type: Option<ConfigType>,
    /// `-var name=value`, in order, split at the first `=`.
    pub variables: Vec<(String, String)>,
    /// `-var-file`, in order; relative to [`LoadOptions::working_dir`].
    pub variable_files: Vec<PathBuf>,
    /// The process's environment: `PKR_VAR_x`, `KILN_VAR_x`, and `env()` in defaults.
    pub environment: BTreeMap<String, String>,
    /// `-only`, split at commas.
    pub only: Vec<String>,
    /// `-except`, split at commas.
    pub except: Vec<String>,
    /// `--no-deps`: what selected builds are built upon is taken as it was sealed before.
    pub without_parents: bool,
    /// The process's directory, absolute.
    pub working_dir: PathBuf,
    /// Where modules from git are kept; without it there are none.
    pub modules_dir: Option<PathBuf>,
    /// The user's home, for `pathexpand`.
    pub home: Option<PathBuf>,
    /// The machine that kiln runs on: `host.*`.
    pub host: Host,
    /// Data sources: which kinds there are, and whether they are read.
    pub data: DataOptions,
    /// When the run started; `{{timestamp}}` is frozen at it.
    pub started: SystemTime,
    /// Whether a var file's value for an undeclared variable is worth a warning.
    pub warn_undeclared: bool,
    /// Whether a variable without value is no mistake (`inspect`, `console`, `init`): its value is unknown then.
    pub allow_unset: bool,
    /// Whether a template without any `build` block is worth a warning only: files may be checked one by one.
    pub allow_no_builds: bool,
    /// Whether to stop after syntax and the shape of the blocks; the plan is empty then.
    pub syntax_only: bool,
}

impl LoadOptions {
    /// A template, and nothing else from outside.
    pub fn new(template: impl Into<PathBuf>, working_dir: impl Into<PathBuf>) -> LoadOptions {
        LoadOptions {
            template: template.into(),
            stdin: None,
            config_type: None,
            variables: Vec::new(),
            variable_files: Vec::new(),
            environment: BTreeMap::new(),
            only: Vec::new(),
            except: Vec::new(),
            without_parents: false,
            working_dir: working_dir.into(),
            modules_dir: None,
            home: None,
            host: Host::default(),
            data: DataOptions::default(),
            started: SystemTime::now(),
            warn_undeclared: false,
            allow_unset: false,
            allow_no_builds: false,
            syntax_only: false,
        }
    }

    /// The form of the template: HCL2 for directories, `*.pkr.hcl`, `*.kiln.hcl` and `*.pkr.json`, else legacy JSON;
    /// `-config-type` decides over all. Looks at the file system.
    pub fn form(&self) -> ConfigType {
        let name = self.template.to_string_lossy();
        let is_hcl = [".pkr.hcl", ".kiln.hcl", ".pkr.json"].iter().any(|ending| name.ends_with(ending));
        match self.config_type {
            Some(form) => form,
            None if is_hcl || self.is_directory() => ConfigType::Hcl2,
            None => ConfigType::Json,
        }
    }

    /// Whether the template is a directory.
    pub fn is_directory(&self) -> bool {
        !self.is_stdin() && self.resolve(&self.template).is_dir()
    }

    /// Whether the name promises HCL2 in a way that Packer's rule takes for legacy JSON: `worker.hcl`.
    fn is_misnamed(&self) -> bool {
        self.config_type.is_none() && self.template.extension().is_some_and(|ending| ending == "hcl")
    }

    /// Whether the template comes from standard input.
    pub fn is_stdin(&self) -> bool {
        self.template.as_os_str() == "-"
    }

    /// A path the user gave, against the working directory.
    pub fn resolve(&self, path: &Path) -> PathBuf {
        self.working_dir.join(path)
    }

    /// The template's directory as the user gave it (`path.root`): `.` for a bare file name and for standard input.
    pub fn template_dir(&self) -> PathBuf {
        let directory = if self.is_stdin() {
            Path::new(".")
        } else if self.is_directory() {
            self.template.as_path()
        } else {
            self.template.parent().unwrap_or(Path::new("."))
        };
        if directory.as_os_str().is_empty() { PathBuf::from(".") } else { directory.to_path_buf() }
    }
}

/// What loading gave.
#[derive(Debug)]
pub struct Loaded {
    /// All texts read; diagnostics point into them.
    pub sources: SourceMap,
    /// Mistakes and warnings, in the order of the text.
    pub diagnostics: Diagnostics,
    /// The plan; `None` when there are errors.
    pub plan: Option<Plan>,
    /// Where there are errors: what could be made of the template all the same, wrong parts left out or unknown. It cannot
    /// run, but preparing it finds the mistakes of the next stage too.
    pub partial: Option<Plan>,
    /// Texts that must not be shown, also when there is no plan: diagnostics quote source lines.
    pub secrets: Vec<String>,
    /// Whether the files, their declarations and the values of variables are fine. What else may be wrong concerns locals
    /// and builds, as far as they were read: `inspect` and `console` go on with the rest.
    pub is_declared: bool,
    /// What `console` evaluates in; `None` for JSON (see [`Plan::text_scope`] there) and unless [`Loaded::is_declared`].
    pub values: Option<Arc<hcl::Values>>,
}

/// What one form's loader gives; the diagnostics go elsewhere.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The plan; `None` only with at least one error in the diagnostics. With errors it is a [`Loaded::partial`] one.
    pub plan: Option<Plan>,
    /// As [`Loaded::is_declared`].
    pub is_declared: bool,
    /// As [`Loaded::secrets`].
    pub secrets: Vec<String>,
    /// As [`Loaded::values`].
    pub values: Option<Arc<hcl::Values>>,
}

/// A template's text, read.
#[derive(Debug, Clone)]
pub struct TemplateText {
    /// Its id in the source map.
    pub source: SourceId,
    /// The text as it was read, BOM included.
    pub text: Arc<str>,
}

/// Loads a template: reads files, finds the mistakes of all stages up to the plan, evaluates variables and locals.
/// Component bodies are evaluated later, through the plan.
pub fn load(options: &LoadOptions) -> Loaded {
    let mut sources = SourceMap::new();
    let mut diagnostics = Diagnostics::new();
    let mut outcome = match options.form() {
        ConfigType::Hcl2 => {
            let outcome = hcl::load(options, &mut sources, &mut diagnostics);
            let names =
                outcome.values.as_deref().map(|values| hcl::advice::Names::of(values, &sources)).unwrap_or_default();
            hcl::advice::refine(&mut diagnostics, &sources, &names);
            outcome
        }
        ConfigType::Json if options.is_misnamed() => {
            let title = format!("`{}` would be read as legacy JSON", options.template.display());
            let help =
                "HCL2 templates are named `*.pkr.hcl` or `*.kiln.hcl`; `-config-type=hcl2` decides whatever the name";
            diagnostics.push(Diagnostic::new(Severity::Error, "wrong-name", None, title).help(help));
            Outcome::default()
        }
        ConfigType::Json => match read_template(options, &options.template, &mut sources, &mut diagnostics) {
            Some(template) => legacy::load(&template, options, &mut sources, &mut diagnostics),
            None => Outcome::default(),
        },
    };
    outcome.secrets.append(&mut diagnostics.secrets);
    outcome.secrets.sort();
    outcome.secrets.dedup();
    if let Some(plan) = &mut outcome.plan {
        plan.secrets.clone_from(&outcome.secrets);
    }
    diagnostics.sort();
    let mut partial = None;
    if diagnostics.has_errors() {
        partial = outcome.plan.take();
    }
    let values = outcome.values.filter(|_| outcome.is_declared);
    let Outcome { plan, is_declared, secrets, .. } = outcome;
    Loaded { sources, diagnostics, plan, partial, is_declared, secrets, values }
}

/// Reads one file (or standard input, for `-`) into the source map; a failure is a diagnostic and `None`.
pub(crate) fn read_template(
    options: &LoadOptions,
    path: &Path,
    sources: &mut SourceMap,
    diagnostics: &mut Diagnostics,
) -> Option<TemplateText> {
    let (name, full, text) = if path.as_os_str() == "-" {
        ("<stdin>".to_owned(), None, Ok(options.stdin.clone().unwrap_or_default()))
    } else {
        let full = options.resolve(path);
        let text = read_text(&full);
        // `./` of a file in the working directory says nothing.
        (path.strip_prefix(".").unwrap_or(path).display().to_string(), Some(full), text)
    };
    match text {
        Ok(text) => {
            let text: Arc<str> = text.into();
            let source = sources.add(name, full.as_deref(), Arc::clone(&text));
            Some(TemplateText { source, text })
        }
        Err(reason) => {
            let is_missing = full.as_ref().is_some_and(|full| !full.exists());
            let title = match is_missing {
                true => format!("there is no file `{name}`"),
                false => format!("cannot read `{name}`: {reason}"),
            };
            let diagnostic = Diagnostic::new(Severity::Error, "cannot-read-file", None, title);
            diagnostics.push(match suggest::nearest_file(&options.working_dir, &name).filter(|_| is_missing) {
                Some(nearest) => diagnostic.help(format!("did you mean `{nearest}`?")),
                None => diagnostic,
            });
            None
        }
    }
}

fn read_text(path: &Path) -> Result<String, String> {
    let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err("it is UTF-16; save it as UTF-8".to_owned());
    }
    if bytes.contains(&0) {
        return Err("it is a binary file, not a text".to_owned());
    }
    kiln_language::syntax::decode(bytes).map(|decoded| decoded.text).map_err(|error| error.to_string())
}
