//! HCL2 templates.
//!
//! ```text
//!   files ──► blocks (shape) ──► variables ──► locals, data ──► builds ──► Plan
//!                                   ▲                             │
//!            environment, var files, -var                component bodies, evaluated on demand
//! ```

pub(crate) mod advice;
mod ambient;
mod artifacts;
mod blocks;
mod builds;
mod caching;
mod component;
mod data;
mod deferred;
mod dynamic;
mod extensions;
mod graph;
mod groups;
mod habits;
mod hooks;
mod json_syntax;
mod locals;
mod modules;
mod order;
mod outline;
mod outputs;
mod platforms;
mod readings;
mod remote;
mod repetition;
mod run;
mod scope;
mod select;
mod settings;
mod sources;
mod steps;
mod tests_of_builds;
mod text;
mod to_config;
mod uses;
mod validation;
mod var_files;
mod variables;
mod written;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use kiln_core::{Diagnostic, Diagnostics, Plan, Severity, SourceMap, TextScope};
use kiln_language::functions::FunctionContext;
use kiln_language::syntax::{self, Body};

use crate::load::{DataOptions, LoadOptions, Outcome, UnknownKinds, read_template};
pub use ambient::{FACTS as GIT_FACTS, origin};
use component::Shared;
use data::DataWorld;
use graph::{Graph, Late};
use modules::{ModuleDeclaration, Scope};
use repetition::{Element, Purpose, Repetition};
pub use scope::Values;
use scope::{Bindings, Overlay};
use select::Selection;

/// Loads an HCL2 template: see [`crate::load()`].
pub fn load(options: &LoadOptions, sources: &mut SourceMap, diagnostics: &mut Diagnostics) -> Outcome {
    let files = template_files(options, diagnostics);
    let Some(declarations) = declarations_of(&files.templates, options, sources, diagnostics) else {
        return Outcome::default();
    };
    let is_well_formed = !diagnostics.has_errors();
    builds::check_shape(&declarations, diagnostics);
    let functions = FunctionContext {
        // Without the `.` of a bare file name, for messages.
        template_dir: options.resolve(&options.template_dir()).components().collect(),
        working_dir: options.working_dir.clone(),
        home: options.home.clone(),
        environment: options.environment.clone().into(),
        started: options.started,
        allow_env: false,
    };
    let before = declaration_errors(diagnostics);
    if !settings::check_version(&declarations.packer, &functions, diagnostics) {
        return Outcome::default();
    }
    let mut required_plugins = settings::required_plugins(&declarations.packer, &functions, diagnostics);
    let root = Scope::root(Arc::new(declarations), options);
    let mut inputs = Inputs::default();
    if !options.syntax_only {
        inputs = Inputs::read(&root, options, &files.variables, &functions, sources, diagnostics);
    }
    let own = declaration_errors(diagnostics) - inputs.errors;
    let known = sources.clone();
    let repeat = |scopes: &[Scope], index: usize, module: &ModuleDeclaration, diagnostics: &mut Diagnostics| {
        inputs.elements(scopes, index, module, options, &functions, &known, diagnostics)
    };
    let repeat: Option<modules::Repeat<'_>> = if options.syntax_only { None } else { Some(&repeat) };
    let scopes = modules::scopes(root, options, &functions, repeat, sources, diagnostics);
    required_plugins.extend(plugins_of_modules(&scopes, &functions, diagnostics));
    let is_well_formed = is_well_formed && own == before && declaration_errors(diagnostics) == own + inputs.errors;
    let plan = Plan { required_plugins, ..Plan::default() };
    if options.syntax_only {
        return Outcome { plan: Some(plan), ..Outcome::default() };
    }
    let mut outcome = evaluate(options, &scopes, functions, inputs, plan, sources, diagnostics);
    outcome.is_declared &= is_well_formed;
    outcome
}

/// The variables of the template itself, which have their values before all else.
#[derive(Default)]
struct Inputs {
    values: Option<Values>,
    resolved: Option<variables::Resolved>,
    /// How many mistakes were found.
    errors: usize,
}

impl Inputs {
    fn read(
        root: &Scope,
        options: &LoadOptions,
        auto_files: &[PathBuf],
        functions: &FunctionContext,
        sources: &mut SourceMap,
        diagnostics: &mut Diagnostics,
    ) -> Inputs {
        let before = declaration_errors(diagnostics);
        let declared = &root.declarations.variables;
        let assignments = var_files::collect(options, auto_files, declared, sources, diagnostics);
        let mut values = names_of(root, 0, options, functions);
        let resolved =
            variables::resolve(declared, assignments, options.allow_unset, &mut values, sources, diagnostics);
        let errors = declaration_errors(diagnostics) - before;
        Inputs { values: Some(values), resolved: Some(resolved), errors }
    }

    /// The names of all scopes, those of the template with the values of its variables.
    fn bases(&self, scopes: &[Scope], options: &LoadOptions, functions: &FunctionContext) -> Vec<Values> {
        let names = |(index, scope)| match &self.values {
            Some(values) if index == 0 => with_modules(values.clone(), scopes, index),
            _ => with_modules(names_of(scope, index, options, functions), scopes, index),
        };
        scopes.iter().enumerate().map(names).collect()
    }

    /// How often a `module` block is meant. What it depends on is evaluated without data sources, which are read once, later.
    #[allow(clippy::too_many_arguments)]
    fn elements(
        &self,
        scopes: &[Scope],
        index: usize,
        module: &ModuleDeclaration,
        options: &LoadOptions,
        functions: &FunctionContext,
        sources: &SourceMap,
        diagnostics: &mut Diagnostics,
    ) -> Vec<Option<Element>> {
        let scopes: Arc<[Scope]> = scopes.into();
        let bases = self.bases(&scopes, options, functions);
        let data = DataOptions { reader: None, ..options.data.clone() };
        let shared = share(&scopes, bases, &LoadOptions { data, ..options.clone() }, sources);
        let values = &shared[index].values;
        let overlay = Overlay { values, bindings: &Bindings::default() };
        let mut found = Diagnostics::new();
        let elements = match repetition::read(&module.body, &overlay, Purpose::Modules, &mut found) {
            Repetition::Never(_) => Vec::new(),
            Repetition::Once => vec![None],
            Repetition::Each { elements, .. } => elements.into_iter().map(Some).collect(),
        };
        let settled = values.settle(false);
        for item in &mut found.items {
            if item.code == "not-known-yet" {
                item.notes = vec!["modules are found before data sources are read".to_owned()];
                item.help = Some("write it as a variable, or repeat the sources in the module instead".to_owned());
            }
        }
        // What follows from a local that is wrong is left, as that is told.
        match settled.diagnostics.has_errors() && found.items.iter().all(|item| item.code == "not-known-yet") {
            true => diagnostics.extend(settled.diagnostics),
            false => diagnostics.extend(found),
        }
        elements
    }
}

/// Notes which modules a scope has.
fn with_modules(mut values: Values, scopes: &[Scope], index: usize) -> Values {
    let modules = scopes.iter().filter(|child| child.parent == Some(index)).filter_map(Scope::module);
    modules.for_each(|module| values.declare("module", &module.name));
    values
}

/// What files declare; `None` where one cannot be read or has a mistake of syntax: what follows from broken syntax would only
/// hide it.
fn declarations_of(
    files: &[PathBuf],
    options: &LoadOptions,
    sources: &mut SourceMap,
    diagnostics: &mut Diagnostics,
) -> Option<blocks::Declarations> {
    let mut bodies: Vec<Body> = Vec::new();
    for path in files {
        let Some(file) = read_template(options, path, sources, diagnostics) else { continue };
        if path.to_string_lossy().ends_with(".pkr.json") {
            bodies.extend(json_syntax::parse(&file, sources, diagnostics));
            continue;
        }
        bodies.push(syntax::parse_body(file.source, &file.text, diagnostics));
    }
    (!diagnostics.has_errors()).then(|| blocks::collect(bodies, diagnostics))
}

/// The `packer` blocks of modules: each of a directory once.
fn plugins_of_modules(
    scopes: &[Scope],
    functions: &FunctionContext,
    diagnostics: &mut Diagnostics,
) -> Vec<(String, String, String)> {
    let mut plugins: Vec<(String, String, String)> = Vec::new();
    for scope in scopes.iter().skip(1) {
        settings::check_version(&scope.declarations.packer, functions, diagnostics);
        let found = settings::required_plugins(&scope.declarations.packer, functions, diagnostics);
        plugins.extend(found.into_iter().filter(|plugin| !plugins.contains(plugin)).collect::<Vec<_>>());
    }
    plugins
}

/// The names of a scope, without values but those of its surroundings.
fn names_of(scope: &Scope, index: usize, options: &LoadOptions, functions: &FunctionContext) -> Values {
    let functions =
        FunctionContext { template_dir: options.resolve(&scope.directory).components().collect(), ..functions.clone() };
    let mut values = Values::new(functions, &scope.directory.to_string_lossy());
    values.set_host(&options.host);
    values.lenient = options.allow_unset || options.data.unknown_kinds == UnknownKinds::Accept;
    for variable in scope.declarations.variables.iter().filter(|_| index > 0) {
        values.declare("var", &variable.name);
    }
    for local in &scope.declarations.locals {
        values.declare("local", &local.name);
    }
    values
}

/// From declarations to the plan.
fn evaluate(
    options: &LoadOptions,
    scopes: &Arc<[Scope]>,
    functions: FunctionContext,
    inputs: Inputs,
    mut plan: Plan,
    sources: &mut SourceMap,
    diagnostics: &mut Diagnostics,
) -> Outcome {
    let bases = inputs.bases(scopes, options, &functions);
    let is_declared = inputs.errors == 0;
    let mut resolved = inputs.resolved.unwrap_or_default();
    plan.variables = resolved.summaries;
    let shared = share(scopes, bases, options, sources);
    plan.text_scope = Arc::clone(&shared[0].text_scope);
    if !options.allow_unset {
        for (scope, shared) in scopes.iter().zip(&shared) {
            habits::check(&scope.declarations, &shared.values, diagnostics);
        }
    }
    let selection = Selection::new(&options.only, &options.except, diagnostics);
    let builds = builds::read(scopes, &shared, &selection, options.without_parents, diagnostics);
    if options.allow_no_builds {
        let of_empty = diagnostics.items.iter_mut().filter(|item| item.code == uses::NO_SOURCES);
        of_empty.for_each(|item| item.severity = Severity::Warning);
    }
    selection.finish(&builds.names(), builds.specs.len(), diagnostics);
    // What only deselected builds use is not evaluated; else all is, so that every mistake is found.
    let mut settled = shared[0].values.settle(options.allow_unset || selection.is_empty());
    plan.locals = settled.locals;
    resolved.secrets.append(&mut settled.secrets);
    resolved.secrets.append(&mut settled.diagnostics.secrets);
    diagnostics.extend(settled.diagnostics);
    check_builds(scopes, options, diagnostics);
    let (outline, mut secrets) = outline::outline(scopes, &shared);
    plan.outline = outline;
    resolved.secrets.append(&mut secrets);
    plan.extensions = extensions::used(scopes, sources);
    plan.description = builds.description;
    plan.builds = builds.specs;
    plan.unused_sources = builds.unused;
    Outcome {
        plan: Some(plan),
        is_declared,
        secrets: resolved.secrets,
        values: Some(Arc::new(shared[0].values.complete())),
    }
}

/// What the components of each scope share.
fn share(scopes: &Arc<[Scope]>, bases: Vec<Values>, options: &LoadOptions, sources: &SourceMap) -> Vec<Arc<Shared>> {
    let text_scopes: Vec<Arc<TextScope>> = scopes
        .iter()
        .map(|scope| {
            Arc::new(TextScope {
                user_variables: None,
                environment: bases[0].functions.environment.clone(),
                template_dir: scope.directory.clone(),
                working_dir: options.working_dir.clone(),
                started: options.started,
            })
        })
        .collect();
    let world = |text_scope: &Arc<TextScope>| DataWorld {
        options: options.data.clone(),
        sources: sources.clone(),
        text_scope: Arc::clone(text_scope),
    };
    let late = Arc::new(Late::new(Graph::new(scopes), bases, text_scopes.iter().map(world).collect()));
    let shared = scopes.iter().zip(text_scopes).enumerate().map(|(index, (scope, text_scope))| {
        let values = late.bases[index].with_graph(&late, index);
        Arc::new(Shared::new(values, sources.clone(), text_scope, scope))
    });
    shared.collect()
}

/// Tells where there is no build block at all.
fn check_builds(scopes: &[Scope], options: &LoadOptions, diagnostics: &mut Diagnostics) {
    if diagnostics.items.iter().any(|item| item.code == "data-source-failed") {
        // What cannot be known without it follows from that.
        diagnostics.items.retain(|item| !matches!(item.code, "not-known-yet" | "no-builds"));
    }
    // A block that is called otherwise may be the one that is missing.
    let is_misspelt = diagnostics.items.iter().any(|item| item.code == "unknown-block");
    let has_none = scopes.iter().all(|scope| scope.declarations.builds.is_empty());
    if has_none && !options.allow_unset && !is_misspelt {
        let title = "the template has no `build` block, so there is nothing to build";
        let severity = if options.allow_no_builds { Severity::Warning } else { Severity::Error };
        diagnostics.push(Diagnostic::new(severity, "no-builds", None, title));
    }
}

/// Mistakes but those that a validation finds: a value that is not allowed is a value all the same.
fn declaration_errors(diagnostics: &Diagnostics) -> usize {
    diagnostics.items.iter().filter(|item| item.is_error() && item.code != "invalid-value").count()
}

/// The files of a template, in the order they are read.
#[derive(Default)]
struct TemplateFiles {
    templates: Vec<PathBuf>,
    /// `*.auto.pkrvars.hcl`, then `*.auto.pkrvars.json`; of a directory only, as in Packer.
    variables: Vec<PathBuf>,
}

fn template_files(options: &LoadOptions, diagnostics: &mut Diagnostics) -> TemplateFiles {
    if !options.is_directory() {
        return TemplateFiles { templates: vec![options.template.clone()], variables: Vec::new() };
    }
    let names = match names_in(&options.resolve(&options.template)) {
        Ok(names) => names,
        Err(error) => {
            let title = format!("cannot list `{}`: {error}", options.template.display());
            diagnostics.push(Diagnostic::new(Severity::Error, "cannot-read-file", None, title));
            return TemplateFiles::default();
        }
    };
    let ending = |endings: &[&str]| -> Vec<PathBuf> {
        let fitting = names.iter().filter(|name| endings.iter().any(|ending| name.ends_with(ending)));
        fitting.map(|name| options.template.join(name)).collect()
    };
    let mut templates = ending(&[".pkr.hcl", ".kiln.hcl"]);
    templates.extend(ending(&[".pkr.json"]));
    if templates.is_empty() {
        let title = format!("`{}` holds no template", options.template.display());
        let rule = "files of a template are named `*.pkr.hcl` or `*.kiln.hcl`";
        let legacy = names.iter().find(|name| name.ends_with(".json") && !name.ends_with(".pkrvars.json"));
        let misnamed = names.iter().find(|name| name.ends_with(".hcl") && !name.ends_with(".pkrvars.hcl"));
        let help = match (misnamed, legacy) {
            (Some(name), _) => format!("{rule}; is `{name}` one of them?"),
            (None, Some(name)) => {
                format!("{rule}; a legacy template is given by its name: `{}`", options.template.join(name).display())
            }
            (None, None) => rule.to_owned(),
        };
        diagnostics.push(Diagnostic::new(Severity::Error, "no-template", None, title).help(help));
    }
    let mut variables = ending(&[".auto.pkrvars.hcl"]);
    variables.extend(ending(&[".auto.pkrvars.json"]));
    TemplateFiles { templates, variables }
}

fn names_in(directory: &Path) -> std::io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if let Ok(name) = entry.file_name().into_string()
            && !entry.path().is_dir()
        {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}
