//! The shape of a template: which blocks it has, their labels and arguments, and that nothing is declared twice.

use std::collections::BTreeMap;
use std::sync::Arc;

use indexmap::IndexMap;
use kiln_core::{Diagnostic, Diagnostics, Schema, Span};
use kiln_language::syntax::{Attribute, Block, Body, Item, Name};

use crate::grammar;

use super::data::DataDeclaration;
use super::locals::LocalDeclaration;
use super::modules::ModuleDeclaration;
use super::outputs::OutputDeclaration;
use super::variables::VariableDeclaration;

const TOP_LEVEL: [&str; 12] = [
    "packer",
    "variable",
    "variables",
    "locals",
    "local",
    "source",
    "steps",
    "build",
    "module",
    "output",
    "data",
    "hcp_packer_registry",
];

/// A `source` block.
#[derive(Debug)]
pub(crate) struct SourceDeclaration {
    /// The builder's kind.
    pub(crate) kind: Name,
    /// Its name.
    pub(crate) name: Name,
    /// Where messages about it as a whole point.
    pub(crate) header: Span,
    /// Its arguments.
    pub(crate) body: Arc<Body>,
}

/// All blocks of a template, of all its files.
#[derive(Debug, Default)]
pub(crate) struct Declarations {
    pub(crate) packer: Vec<Block>,
    pub(crate) variables: Vec<VariableDeclaration>,
    pub(crate) locals: Vec<LocalDeclaration>,
    pub(crate) data: Vec<DataDeclaration>,
    /// By kind and name.
    pub(crate) sources: BTreeMap<(String, String), Arc<SourceDeclaration>>,
    /// `steps` blocks by their names.
    pub(crate) groups: BTreeMap<String, Block>,
    pub(crate) builds: Vec<Block>,
    /// By their names.
    pub(crate) modules: IndexMap<String, ModuleDeclaration>,
    /// By their names.
    pub(crate) outputs: BTreeMap<String, OutputDeclaration>,
}

/// Sorts the blocks of all files by what they declare. Every mistake of shape is told.
pub(crate) fn collect(files: Vec<Body>, diagnostics: &mut Diagnostics) -> Declarations {
    let mut declarations = Declarations::default();
    for item in files.into_iter().flat_map(|body| body.items) {
        match item {
            Item::Block(block) => declarations.add(block, diagnostics),
            Item::Attribute(attribute) => diagnostics.push(stray_attribute(&attribute)),
        }
    }
    report_duplicates(
        "variable",
        declarations.variables.iter().map(|variable| (variable.name.text.clone(), variable.name.span)),
        diagnostics,
    );
    report_duplicates(
        "local",
        declarations.locals.iter().map(|local| (local.name.text.clone(), local.name.span)),
        diagnostics,
    );
    report_duplicates(
        "data source",
        declarations.data.iter().map(|data| (format!("{}.{}", data.kind.text, data.name.text), data.header)),
        diagnostics,
    );
    declarations
}

fn stray_attribute(attribute: &Attribute) -> Diagnostic {
    let name = &attribute.name;
    let diagnostic =
        Diagnostic::error("stray-argument", name.span, format!("`{}` stands outside of any block", name.text));
    if TOP_LEVEL.contains(&name.text.as_str()) {
        return diagnostic.help(format!("`{0}` is a block: write `{0} {{ ... }}`, without `=`", name.text));
    }
    diagnostic.help("a template consists of blocks; values for variables stand in a var file (`*.pkrvars.hcl`)")
}

impl Declarations {
    fn add(&mut self, block: Block, diagnostics: &mut Diagnostics) {
        match block.kind.text.as_str() {
            "packer" => {
                if labels(&block, [], diagnostics).is_some() {
                    self.packer.push(block);
                }
            }
            "variable" => self.variables.extend(VariableDeclaration::read(block, diagnostics)),
            "variables" => self.variables.extend(VariableDeclaration::read_short(block, diagnostics)),
            "local" => self.locals.extend(LocalDeclaration::read(block, diagnostics)),
            "locals" => self.locals.extend(LocalDeclaration::read_short(block, diagnostics)),
            "data" => self.data.extend(DataDeclaration::read(block, diagnostics)),
            "source" => self.add_source(block, diagnostics),
            "steps" => self.add_group(block, diagnostics),
            "module" => self.add_module(block, diagnostics),
            "output" => self.add_output(&block, diagnostics),
            "build" => {
                labels(&block, [], diagnostics);
                self.builds.push(block);
            }
            "hcp_packer_registry" => diagnostics.push(registry_is_ignored(block.kind.span)),
            // Accepted by Packer, which never used it.
            "communicator" => {
                labels(&block, ["its type", "its name"], diagnostics);
            }
            _ => diagnostics.push(unknown_block(&block.kind, "a template", &TOP_LEVEL)),
        }
    }

    fn add_source(&mut self, block: Block, diagnostics: &mut Diagnostics) {
        let Some([kind, name]) = labels(&block, ["its type", "its name"], diagnostics) else { return };
        let key = (kind.text.clone(), name.text.clone());
        if let Some(first) = self.sources.get(&key) {
            let title = format!("the source `{}.{}` is declared twice", key.0, key.1);
            report_duplicate(block.header, first.header, title, diagnostics);
            return;
        }
        let source = SourceDeclaration { kind, name, header: block.header, body: Arc::new(block.body) };
        self.sources.insert(key, Arc::new(source));
    }

    fn add_group(&mut self, block: Block, diagnostics: &mut Diagnostics) {
        let Some([name]) = labels(&block, ["its name"], diagnostics) else { return };
        if let Some(first) = self.groups.get(&name.text) {
            let title = format!("the group of steps `{}` is declared twice", name.text);
            report_duplicate(block.header, first.header, title, diagnostics);
            return;
        }
        self.groups.insert(name.text, block);
    }

    fn add_module(&mut self, block: Block, diagnostics: &mut Diagnostics) {
        let Some(module) = ModuleDeclaration::read(block, diagnostics) else { return };
        let name = module.name.text.clone();
        if let Some(first) = self.modules.get(&name) {
            let title = format!("the module `{name}` is declared twice");
            report_duplicate(module.header, first.header, title, diagnostics);
            return;
        }
        self.modules.insert(name, module);
    }

    fn add_output(&mut self, block: &Block, diagnostics: &mut Diagnostics) {
        let Some(output) = OutputDeclaration::read(block, diagnostics) else { return };
        let name = output.name.text.clone();
        if let Some(first) = self.outputs.get(&name) {
            let title = format!("the output `{name}` is declared twice");
            report_duplicate(output.name.span, first.name.span, title, diagnostics);
            return;
        }
        self.outputs.insert(name, output);
    }

    /// `type.name` of every source, for messages.
    pub(crate) fn source_names(&self) -> Vec<String> {
        self.sources.keys().map(|(kind, name)| format!("{kind}.{name}")).collect()
    }
}

/// What is said of the registry of a service that kiln does not talk to.
pub(crate) fn registry_is_ignored(span: Span) -> Diagnostic {
    Diagnostic::warning("ignored-block", span, "`hcp_packer_registry` is ignored")
        .note("kiln publishes nothing to HCP Packer; the builds themselves are not affected")
}

fn report_duplicates(what: &str, names: impl Iterator<Item = (String, Span)>, diagnostics: &mut Diagnostics) {
    let mut first: BTreeMap<String, Span> = BTreeMap::new();
    for (name, span) in names {
        if let Some(first) = first.get(&name) {
            let title = format!("the {what} `{name}` is declared twice");
            report_duplicate(span, *first, title, diagnostics);
        } else {
            first.insert(name, span);
        }
    }
}

fn report_duplicate(span: Span, first: Span, title: String, diagnostics: &mut Diagnostics) {
    const CODE: &str = "duplicate-declaration";
    let diagnostic = Diagnostic::error(CODE, span, title).also(first, "first here");
    // A folder of templates that stand alone would say this many times over.
    let is_told = diagnostics.items.iter().any(|item| item.code == CODE && item.help.is_some());
    diagnostics.push(if span.source == first.source || is_told {
        diagnostic
    } else {
        diagnostic.help("all files of a directory are one template; a file on its own is loaded by its name")
    });
}

/// Whether a text is a bare name of HCL.
pub(crate) fn is_identifier(text: &str) -> bool {
    let is_start = |c: char| c.is_alphabetic() || c == '_';
    text.starts_with(is_start) && text.chars().all(|c| is_start(c) || c.is_alphanumeric() || c == '-')
}

/// The labels of a block, when it has as many as it takes; `meanings` names them for the message ("its type").
pub(crate) fn labels<const N: usize>(
    block: &Block,
    meanings: [&str; N],
    diagnostics: &mut Diagnostics,
) -> Option<[Name; N]> {
    let kind = &block.kind.text;
    if let Some(extra) = block.labels.get(N) {
        let takes = match N {
            0 => format!("a `{kind}` block takes no label"),
            1 => format!("a `{kind}` block takes one label, {}", meanings[0]),
            _ => format!("a `{kind}` block takes {N} labels: {}", meanings.join(" and ")),
        };
        let diagnostic = Diagnostic::error("extra-label", extra.span, takes).label("one label too many");
        diagnostics.push(if kind == "build" {
            diagnostic.help("give a build its name inside: `name = \"...\"`")
        } else {
            diagnostic
        });
        return None;
    }
    let given: Result<[Name; N], _> = block.labels.clone().try_into();
    match given {
        Ok(given) => Some(given),
        Err(_) => {
            let missing = meanings[block.labels.len()..].join(" and ");
            let have: String = block.labels.iter().map(|label| format!(" \"{}\"", label.text)).collect();
            let wanted: String = meanings[block.labels.len()..]
                .iter()
                .map(|meaning| format!(" \"{}\"", meaning.trim_start_matches("its ").to_uppercase()))
                .collect();
            diagnostics.push(
                Diagnostic::error("missing-label", block.header, format!("a `{kind}` block needs {missing} as label"))
                    .help(format!("write `{kind}{have}{wanted} {{ ... }}`")),
            );
            None
        }
    }
}

/// Tells the arguments and blocks that a block does not take. (That one is given twice, the parser tells.)
pub(crate) fn check_items(body: &Body, schema: &Schema, diagnostics: &mut Diagnostics) {
    let title = schema.title;
    let (attributes, blocks) = (&grammar::arguments(schema)[..], &grammar::nested(schema)[..]);
    for item in &body.items {
        match item {
            Item::Attribute(attribute) if !attributes.contains(&attribute.name.text.as_str()) => {
                diagnostics.push(unknown_attribute(&attribute.name, title, attributes, blocks));
            }
            Item::Block(block) if !blocks.contains(&block.kind.text.as_str()) => {
                let kind = &block.kind;
                if attributes.contains(&kind.text.as_str()) {
                    let message = format!("`{}` is an argument, not a block", kind.text);
                    diagnostics.push(
                        Diagnostic::error("argument-expected", kind.span, message)
                            .help(format!("write `{} = ...`", kind.text)),
                    );
                } else {
                    diagnostics.push(unknown_block(kind, title, blocks));
                }
            }
            _ => {}
        }
    }
}

fn unknown_attribute(name: &Name, title: &str, attributes: &[&str], blocks: &[&str]) -> Diagnostic {
    // `source = [...]` in a build means `sources`.
    let plural = format!("{}s", name.text);
    if attributes.contains(&plural.as_str()) {
        let title = format!("{title} has no argument `{}`", name.text);
        return Diagnostic::error("unknown-argument", name.span, title).fix(
            name.span,
            plural.as_str(),
            format!("did you mean `{plural}`?"),
        );
    }
    if blocks.contains(&name.text.as_str()) {
        return Diagnostic::error("block-expected", name.span, format!("`{}` is a block, not an argument", name.text))
            .help(format!("write `{} {{ ... }}`, without `=`", name.text));
    }
    let diagnostic =
        Diagnostic::error("unknown-argument", name.span, format!("{title} has no argument `{}`", name.text));
    diagnostic.did_you_mean(name.span, &name.text, attributes.iter().copied())
}

/// An unknown block in `title` ("a template", "a `build` block").
pub(crate) fn unknown_block(kind: &Name, title: &str, known: &[&str]) -> Diagnostic {
    Diagnostic::error("unknown-block", kind.span, format!("{title} has no block `{}`", kind.text)).did_you_mean(
        kind.span,
        &kind.text,
        known.iter().copied(),
    )
}
