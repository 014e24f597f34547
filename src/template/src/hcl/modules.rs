//! `module` blocks: templates that other templates use, with values for their variables. A template with all its modules is a
//! tree of *scopes*: each has names, a directory and builds of its own.
//!
//! ```text
//!   module "worker" { source = "./images/worker" ... } ──► files of the directory ──► Declarations ──► Scope
//!                                                          (once for each directory)            (once for each block)
//! ```

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use kiln_core::{Diagnostic, Diagnostics, SourceMap, Span, suggest};
use kiln_language::functions::FunctionContext;
use kiln_language::syntax::{Attribute, Block, Body, Name};

use crate::load::LoadOptions;

use super::blocks::{Declarations, labels};
use super::builds;
use super::remote::{self, Remote, RemoteError};
use super::repetition::{self, Element};
use super::scope::{Bindings, constant_text};
use super::variables::check_name;
use super::{declarations_of, template_files};

/// Arguments of a `module` block that are no variables of the module.
pub(crate) const ARGUMENTS: [&str; 4] = ["source", "depends_on", "for_each", "enabled"];

/// Those that other tools have there.
const FOREIGN: [&str; 3] = ["count", "version", "providers"];

/// So many modules may a template have, those of modules included.
const MOST_SCOPES: usize = 1000;

/// A `module` block.
#[derive(Debug)]
pub(crate) struct ModuleDeclaration {
    pub(crate) name: Name,
    pub(crate) header: Span,
    pub(crate) body: Body,
}

impl ModuleDeclaration {
    /// Reads a `module` block.
    pub(crate) fn read(block: Block, diagnostics: &mut Diagnostics) -> Option<ModuleDeclaration> {
        let [name] = labels(&block, ["its name"], diagnostics)?;
        check_name(&name, "a module", diagnostics);
        for inner in block.body.blocks() {
            let title = "a `module` block takes arguments only: `source`, and values for the variables of the module";
            diagnostics.push(
                Diagnostic::error("unknown-block", inner.kind.span, title)
                    .help(format!("for a map write `{} = {{ ... }}`, with `=`", inner.kind.text)),
            );
        }
        Some(ModuleDeclaration { name, header: block.header, body: block.body })
    }

    /// Whether it stands for several uses of the module, as `NAME-KEY`, or for none.
    pub(crate) fn is_repeated(&self) -> bool {
        repetition::ARGUMENTS.iter().any(|name| self.body.attribute(name).is_some())
    }

    /// The values for variables of the module.
    fn variables(&self) -> impl Iterator<Item = &Attribute> {
        self.body.attributes().filter(|attribute| !ARGUMENTS.contains(&attribute.name.text.as_str()))
    }
}

/// A template, or one use of a module.
#[derive(Debug, Clone)]
pub(crate) struct Scope {
    /// The scope that uses it; the template itself, which comes first, has none.
    pub(crate) parent: Option<usize>,
    /// What that calls it: the name of its block, of one with `for_each` with the element's key, `NAME-KEY`.
    pub(crate) name: String,
    /// The element's key, where its block has `for_each`.
    pub(crate) key: Option<String>,
    /// `module.NAME` from the outside in; empty for the template itself.
    pub(crate) path: String,
    /// The same without the keys of elements.
    pub(crate) family: String,
    /// What it holds.
    pub(crate) declarations: Arc<Declarations>,
    /// Where its files lie, as the user gave it: `path.root`.
    pub(crate) directory: PathBuf,
    /// Names that its arguments know beside those of the scope around.
    pub(crate) bindings: Bindings,
    /// The block that uses it, by its place among the modules of the scope around.
    block: Option<String>,
    /// The scope around, for its blocks.
    around: Option<Arc<Declarations>>,
    /// The repository that was fetched for it, or for one around it: nothing leads out of that.
    repository: Option<PathBuf>,
    /// The canonical directories that led here, with the block that led to each.
    way: Vec<(PathBuf, Option<Span>)>,
}

impl Scope {
    /// The template itself.
    pub(crate) fn root(declarations: Arc<Declarations>, options: &LoadOptions) -> Scope {
        let directory = options.template_dir();
        let canonical = |path: &Path| options.resolve(path).canonicalize().unwrap_or_else(|_| path.to_path_buf());
        let start = options.is_directory().then(|| (canonical(&directory), None));
        Scope {
            parent: None,
            name: String::new(),
            key: None,
            path: String::new(),
            family: String::new(),
            declarations,
            directory,
            bindings: Bindings::default(),
            block: None,
            around: None,
            repository: None,
            way: start.into_iter().collect(),
        }
    }

    /// The block that uses it.
    pub(crate) fn module(&self) -> Option<&ModuleDeclaration> {
        self.around.as_ref()?.modules.get(self.block.as_ref()?)
    }

    /// Whether a name in the scope around means it: its own, or that of all elements of its block.
    pub(crate) fn is_called(&self, name: &str) -> bool {
        self.name == name || self.family_and_key().is_some_and(|(family, _)| family == name)
    }

    /// What all elements of its block are called together, and which it is, where that has `for_each`.
    pub(crate) fn family_and_key(&self) -> Option<(&str, &str)> {
        Some((self.block.as_deref()?, self.key.as_deref()?))
    }

    /// What its module block says of a variable.
    pub(crate) fn argument(&self, name: &str) -> Option<&Attribute> {
        self.module()?.variables().find(|argument| argument.name.text == name)
    }

    /// A name with the modules that it is in.
    pub(crate) fn qualified(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }
}

/// Finds out how often the blocks of a scope that have `for_each` or `enabled` are meant; the scopes found so far, and which.
pub(crate) type Repeat<'a> = &'a dyn Fn(&[Scope], usize, &ModuleDeclaration, &mut Diagnostics) -> Vec<Option<Element>>;

/// A template with its modules, and theirs: each after the one that uses it. Without `repeat`, each block is meant once.
pub(crate) fn scopes(
    root: Scope,
    options: &LoadOptions,
    functions: &FunctionContext,
    repeat: Option<Repeat<'_>>,
    sources: &mut SourceMap,
    diagnostics: &mut Diagnostics,
) -> Arc<[Scope]> {
    let mut reader =
        Reader { options, functions, sources, diagnostics, read: BTreeMap::new(), fetched: BTreeMap::new() };
    let mut scopes = vec![root];
    let mut next = 0;
    while let Some(scope) = scopes.get(next) {
        let mut children: Vec<Scope> = Vec::new();
        for (name, module) in &scope.declarations.modules {
            let elements = match repeat.filter(|_| module.is_repeated()) {
                Some(repeat) => repeat(&scopes, next, module, reader.diagnostics),
                None => vec![None],
            };
            for element in elements {
                children.extend(reader.child(scope, next, name, element.as_ref()));
            }
        }
        report_same_names(&children, reader.diagnostics);
        if scopes.len() + children.len() > MOST_SCOPES {
            let title = format!("the template has more than {MOST_SCOPES} modules");
            let span = children.first().and_then(Scope::module).map(|module| module.header);
            reader.diagnostics.extend(span.map(|span| Diagnostic::error("too-many-modules", span, title)));
            break;
        }
        scopes.extend(children);
        next += 1;
    }
    scopes.into()
}

/// A block may be called as an element of another one is.
fn report_same_names(children: &[Scope], diagnostics: &mut Diagnostics) {
    for (index, child) in children.iter().enumerate() {
        let other = children[..index].iter().find(|other| other.name == child.name && other.block != child.block);
        if let Some((module, other)) = child.module().zip(other.and_then(Scope::module)) {
            let title = format!("two modules are called `{}`", child.name);
            diagnostics
                .push(Diagnostic::error("duplicate-name", module.name.span, title).also(other.name.span, "and here"));
        }
    }
}

struct Reader<'a> {
    options: &'a LoadOptions,
    functions: &'a FunctionContext,
    sources: &'a mut SourceMap,
    diagnostics: &'a mut Diagnostics,
    /// By canonical directory; `None` where something is wrong with the files, which was told.
    read: BTreeMap<PathBuf, Option<Arc<Declarations>>>,
    /// By source: the directory and the root of its repository; `None` where it cannot be had, which was told.
    fetched: BTreeMap<String, Option<(PathBuf, PathBuf)>>,
}

/// Where the template of a module lies.
struct Place {
    directory: PathBuf,
    /// Where that is said.
    span: Span,
    /// What it must lie in.
    repository: Option<PathBuf>,
}

fn refused(error: &RemoteError, span: Span) -> Diagnostic {
    let diagnostic = Diagnostic::error("module-source", span, error.to_string());
    match error {
        RemoteError::NoRef => {
            diagnostic.help("add one: `?ref=v1.2`; a whole commit needs no network once it was fetched")
        }
        RemoteError::Git { .. } => {
            diagnostic.note("git fetches with your configuration, keys and helpers, and asks nothing")
        }
        _ => diagnostic,
    }
}

impl Reader<'_> {
    /// A module of a scope; `None` where a mistake is told.
    fn child(&mut self, scope: &Scope, parent: usize, block: &str, element: Option<&Element>) -> Option<Scope> {
        let module = scope.declarations.modules.get(block)?;
        let Place { directory, span, repository } = self.place(scope, module)?;
        let full = self.options.resolve(&directory);
        let Some(canonical) = full.canonicalize().ok().filter(|full| full.is_dir()) else {
            let title = format!("there is no directory `{}`", directory.display());
            let diagnostic = Diagnostic::error("missing-module", span, title);
            let near = suggest::nearest_file(&self.options.working_dir, &directory.to_string_lossy());
            self.diagnostics.push(match near {
                Some(near) => diagnostic.help(format!("did you mean `{near}`?")),
                None => diagnostic.help("the directory is looked for beside the file that names it"),
            });
            return None;
        };
        if let Some(root) = repository.as_deref().filter(|root| !canonical.starts_with(root)) {
            let title = format!("`{}` lies outside of the repository that was fetched", directory.display());
            let diagnostic = Diagnostic::error("module-source", span, title);
            self.diagnostics.push(diagnostic.note(format!("it was fetched to {}", root.display())));
            return None;
        }
        if let Some(start) = scope.way.iter().position(|(known, _)| *known == canonical) {
            self.diagnostics.push(ring(&scope.way[start..], module, &self.options.working_dir));
            return None;
        }
        let declarations = self.declarations(&canonical, &directory, span)?;
        check_arguments(module, &declarations, self.options.allow_unset, self.diagnostics);
        let mut way = scope.way.clone();
        way.push((canonical, Some(module.header)));
        let family = &module.name.text;
        let name = element.map_or_else(|| family.clone(), |element| element.name_after(family));
        let within = |path: &str, name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        Some(Scope {
            parent: Some(parent),
            key: element.and_then(|element| element.key.to_text()),
            path: scope.qualified(&format!("module.{name}")),
            family: within(&scope.family, &format!("module.{family}")),
            name,
            declarations,
            directory,
            bindings: element.map(|element| element.bind(&Bindings::default())).unwrap_or_default(),
            block: Some(block.to_owned()),
            around: Some(Arc::clone(&scope.declarations)),
            repository,
            way,
        })
    }

    /// What `source` names, and where it does.
    fn place(&mut self, scope: &Scope, module: &ModuleDeclaration) -> Option<Place> {
        let Some(source) = module.body.attribute("source") else {
            let title = format!("the module `{}` needs `source`, the directory of its template", module.name.text);
            let diagnostic = Diagnostic::error("missing-argument", module.header, title);
            self.diagnostics.push(diagnostic.help("write for example `source = \"./images/worker\"`"));
            return None;
        };
        let span = source.value.span;
        let text = constant_text(&source.value, self.functions, "`source` of a module", self.diagnostics)?;
        if text.starts_with(remote::PREFIX) {
            return self.fetched(&text, span);
        }
        let path = Path::new(&text);
        let is_local =
            matches!(path.components().next(), Some(Component::CurDir | Component::ParentDir | Component::RootDir));
        if !is_local {
            let title = format!("`{text}` is not a directory of this host");
            let diagnostic = Diagnostic::error("module-source", span, title)
                .note("a module's source begins with `./`, `../` or `/`, or with `git::` for a repository");
            let beside = scope.directory.join(path);
            self.diagnostics.push(if self.options.resolve(&beside).is_dir() {
                diagnostic.value(span, format!("\"./{text}\""), "it lies beside the file: write")
            } else {
                diagnostic.help("for example `git::https://example.org/images.git//worker?ref=v1.2`")
            });
            return None;
        }
        // `a/./b` says no more than `a/b`.
        let directory = scope.directory.join(path).components().collect();
        Some(Place { directory, span, repository: scope.repository.clone() })
    }

    /// A directory of a repository, which is fetched unless its commit is here.
    fn fetched(&mut self, source: &str, span: Span) -> Option<Place> {
        if let Some(known) = self.fetched.get(source) {
            return known.clone().map(|(directory, root)| Place { directory, span, repository: Some(root) });
        }
        let environment = &self.functions.environment;
        let found = Remote::parse(source)
            .and_then(|remote| remote.fetch(self.options.modules_dir.as_deref(), environment))
            .map_err(|error| self.diagnostics.push(refused(&error, span)))
            .ok();
        self.fetched.insert(source.to_owned(), found.clone());
        found.map(|(directory, root)| Place { directory, span, repository: Some(root) })
    }

    /// What the files of a directory declare.
    fn declarations(&mut self, canonical: &Path, directory: &Path, span: Span) -> Option<Arc<Declarations>> {
        if let Some(known) = self.read.get(canonical) {
            return known.clone();
        }
        let mut found = Diagnostics::new();
        let files =
            template_files(&LoadOptions { template: directory.to_path_buf(), ..self.options.clone() }, &mut found);
        // That there are none is told where the module is used.
        for item in found.items.iter_mut().filter(|item| item.primary.is_none()) {
            let placed = Diagnostic::new(item.severity, item.code, Some(span), item.title.as_str());
            *item = Diagnostic { help: item.help.take(), ..placed };
        }
        let declared = declarations_of(&files.templates, self.options, self.sources, &mut found);
        if let Some(declared) = &declared {
            builds::check_shape(declared, &mut found);
        }
        let is_fine = !found.has_errors();
        self.diagnostics.extend(found);
        let declared = declared.filter(|_| is_fine).map(Arc::new);
        self.read.insert(canonical.to_path_buf(), declared.clone());
        declared
    }
}

/// Tells variables that must be set and are not, and arguments that are no variables.
fn check_arguments(
    module: &ModuleDeclaration,
    declarations: &Declarations,
    allow_unset: bool,
    diagnostics: &mut Diagnostics,
) {
    let variables = || declarations.variables.iter().map(|variable| variable.name.text.as_str());
    let given: Vec<&str> = module.variables().map(|argument| argument.name.text.as_str()).collect();
    // Each of those that are misspelt stands for one that is missing.
    let mut meant = Vec::new();
    for argument in module.variables() {
        let name = &argument.name;
        if variables().any(|known| known == name.text) {
            continue;
        }
        let title = format!("the module `{}` has no variable `{}`", module.name.text, name.text);
        let diagnostic = Diagnostic::error("unknown-argument", name.span, title);
        let open: Vec<&str> = variables().filter(|known| !given.contains(known)).collect();
        let nearest = suggest::nearest(&name.text, open.iter().copied());
        let near = nearest.and_then(|near| declarations.variables.iter().find(|it| it.name.text == near));
        diagnostics.push(match near {
            Some(near) => {
                meant.push(near.name.text.as_str());
                let help = format!("did you mean `{}`?", near.name.text);
                let diagnostic = diagnostic.fix(name.span, near.name.text.as_str(), help);
                diagnostic.also(near.name.span, format!("`{}` is declared here", near.name.text))
            }
            None if FOREIGN.contains(&name.text.as_str()) => {
                diagnostic.help(format!("kiln's modules have no `{}`: write one block for each use", name.text))
            }
            None if open.is_empty() => diagnostic,
            None => diagnostic.help(format!("it also has {}", suggest::enumerate(open))),
        });
    }
    for variable in declarations.variables.iter().filter(|variable| !variable.has_default() && !allow_unset) {
        let name = variable.name.text.as_str();
        if !given.contains(&name) && !meant.contains(&name) {
            let title = format!("the module `{}` needs a value for `{name}`", module.name.text);
            diagnostics.push(
                Diagnostic::error("unset-variable", module.header, title)
                    .also(variable.header, "declared here, without a default")
                    .help(format!("write `{name} = ...` in the block")),
            );
        }
    }
}

/// Modules that use each other: the way from a directory back to it, closed by `last`.
fn ring(way: &[(PathBuf, Option<Span>)], last: &ModuleDeclaration, working_dir: &Path) -> Diagnostic {
    let base = working_dir.canonicalize().unwrap_or_else(|_| working_dir.to_path_buf());
    let shown = |path: &PathBuf| match path.strip_prefix(&base) {
        Ok(below) if below.as_os_str().is_empty() => "`.`".to_owned(),
        Ok(below) => format!("`{}`", below.display()),
        Err(_) => format!("`{}`", path.display()),
    };
    let names: Vec<String> = way.iter().map(|(path, _)| shown(path)).chain([shown(&way[0].0)]).collect();
    let title = match way.len() {
        1 => format!("the module {} uses itself", names[0]),
        _ => format!("these modules use each other: {}", names.join(" uses ")),
    };
    let first = Diagnostic::error("module-cycle", last.header, title);
    way.iter().skip(1).fold(first, |diagnostic, (path, used)| match used {
        Some(used) => diagnostic.also(*used, format!("{} is used here", shown(path))),
        None => diagnostic,
    })
}
