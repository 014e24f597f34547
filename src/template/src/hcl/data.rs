//! `data` blocks: their arguments, and what their outputs become in the language.

use std::sync::Arc;

use kiln_core::{DataOutputs, DataSource, DataSourceKind, FieldType, SourceMap, TextScope};
use kiln_core::{Diagnostic, Diagnostics, Severity, Span, suggest};
use kiln_language::convert::convert;
use kiln_language::evaluate::Reference;
use kiln_language::syntax::{Block, Body, Name};
use kiln_language::value::{Type, Value, parse_number};

use super::blocks::labels;
use super::component::{collect_references, evaluate_body};
use super::locals::report_build_names;
use super::scope::Values;
use super::text::TextRenderer;
use crate::load::{DataOptions, UnknownKinds};

/// Data sources of HashiCorp's and the best known other plug-ins that kiln does not have.
const PACKERS: &[&str] = &[
    "amazon-ami",
    "amazon-parameterstore",
    "amazon-secretsmanager",
    "digitalocean-image",
    "external",
    "external-raw",
    "git-commit",
    "git-repository",
    "git-tree",
    "googlecompute-image",
    "googlecompute-secretsmanager",
    "hcp-packer-artifact",
    "hcp-packer-image",
    "hcp-packer-iteration",
    "hcp-packer-version",
    "sops",
];

/// A `data` block.
#[derive(Debug, Clone)]
pub(crate) struct DataDeclaration {
    pub(crate) kind: Name,
    pub(crate) name: Name,
    pub(crate) header: Span,
    pub(crate) body: Arc<Body>,
}

/// What data sources are evaluated with.
pub(crate) struct DataWorld {
    pub(crate) options: DataOptions,
    pub(crate) sources: SourceMap,
    pub(crate) text_scope: Arc<TextScope>,
}

/// A data source whose arguments are checked.
pub(crate) struct Prepared {
    kind: Arc<dyn DataSourceKind>,
    /// `None` where an argument is unknown or wrong: then there is nothing to read.
    pub(crate) source: Option<Arc<dyn DataSource>>,
    /// Whether an argument is sensitive: then everything that comes back is.
    is_sensitive: bool,
}

impl DataDeclaration {
    /// Reads a `data` block.
    pub(crate) fn read(block: Block, diagnostics: &mut Diagnostics) -> Option<DataDeclaration> {
        let [kind, name] = labels(&block, ["its type", "its name"], diagnostics)?;
        Some(DataDeclaration { kind, name, header: block.header, body: Arc::new(block.body) })
    }

    /// Its name in expressions.
    pub(crate) fn label(&self) -> String {
        format!("data.{}.{}", self.kind.text, self.name.text)
    }

    /// What its arguments refer to.
    pub(crate) fn references(&self) -> Vec<Reference> {
        let mut found = Vec::new();
        collect_references(&self.body, &mut found);
        found
    }

    /// Evaluates and checks its arguments; what they refer to has a value in `values`. A value alone where there is nothing
    /// more to be had.
    pub(crate) fn prepare(
        &self,
        values: &Values,
        world: &DataWorld,
        diagnostics: &mut Diagnostics,
    ) -> Result<Prepared, Value> {
        let is_misplaced = report_build_names(&self.references(), "a data source", diagnostics);
        let kind = world.options.kinds.data_source(&self.kind.text).cloned();
        if kind.is_none() {
            diagnostics.extend(self.unknown_kind(world));
        }
        let renderer = TextRenderer {
            scope: kiln_gotemplate::Scope {
                text: &world.text_scope,
                build_name: None,
                build_type: None,
                build: None,
                allow_env: false,
            },
            sources: &world.sources,
        };
        let schema = kind.as_ref().map(|kind| kind.schema());
        let mut found = Diagnostics::new();
        let body = evaluate_body(&self.body, self.header, values, schema, &renderer, &mut found);
        let is_sensitive = body.any_sensitive();
        let Some(kind) = kind else {
            diagnostics.secrets.append(&mut found.secrets);
            // Its `source` and `build` were told.
            diagnostics.extend(found.into_iter().filter(|_| !is_misplaced));
            return Err(Value::unknown(Type::Any).marked(is_sensitive));
        };
        let decoded = kind.schema().decode(&body, &mut found);
        let source = kind.prepare(&decoded, &mut found);
        let is_ready = !is_misplaced && !found.has_errors() && !body.has_unknown();
        diagnostics.secrets.append(&mut found.secrets);
        if !is_misplaced {
            diagnostics.extend(found);
        }
        Ok(Prepared { kind, source: source.filter(|_| is_ready), is_sensitive })
    }

    fn unknown_kind(&self, world: &DataWorld) -> Option<Diagnostic> {
        let severity = match world.options.unknown_kinds {
            UnknownKinds::Refuse => Severity::Error,
            UnknownKinds::Warn => Severity::Warning,
            UnknownKinds::Accept => return None,
        };
        let (kind, span) = (self.kind.text.as_str(), self.kind.span);
        let known = world.options.kinds.data_source_names();
        let list = match known.as_slice() {
            [] => "this kiln has no data sources at all".to_owned(),
            _ => format!("data sources that kiln has: {}", suggest::enumerate(known.iter().copied())),
        };
        if !PACKERS.contains(&kind) {
            let title = format!("there is no data source `{kind}`");
            let diagnostic = Diagnostic::new(severity, "unknown-kind", Some(span), title).note(list);
            return Some(match suggest::nearest(kind, known.iter().copied()) {
                Some(nearest) => diagnostic.rename(span, nearest, format!("did you mean `{nearest}`?")),
                None => diagnostic,
            });
        }
        let title = format!("kiln has no data source `{kind}` yet");
        let help = match kind {
            "git-commit" | "git-repository" | "git-tree" => {
                "kiln's own values may do: `git.commit`, `git.branch`, `git.tag`, `git.dirty`, ..."
            }
            _ => "find the value before the build and hand it over as a variable",
        };
        let diagnostic = Diagnostic::new(severity, "kind-not-supported", Some(span), title);
        Some(diagnostic.label("Packer's plug-ins have this data source, kiln does not").note(list).help(help))
    }
}

impl Prepared {
    /// The outputs while they are not known.
    pub(crate) fn unknown(&self) -> Value {
        let outputs = self.kind.outputs().iter().map(|output| {
            let value = Value::unknown(type_of(&output.kind));
            (output.name, value.marked(self.is_sensitive || output.sensitive))
        });
        Value::object(outputs)
    }

    /// The outputs as they were read.
    pub(crate) fn value(&self, outputs: &DataOutputs) -> Value {
        let outputs = self.kind.outputs().iter().map(|output| {
            let kind = type_of(&output.kind);
            let value = match outputs.get(output.name) {
                None => Value::null_of(kind),
                // A value of another type than announced is a fault of the kind; nothing false follows from it.
                Some(json) => convert(&from_json(json), &kind).unwrap_or_else(|_| Value::unknown(kind)),
            };
            (output.name, value.marked(self.is_sensitive || output.sensitive))
        });
        Value::object(outputs)
    }
}

/// The type of an output.
fn type_of(kind: &FieldType) -> Type {
    match kind {
        FieldType::String | FieldType::Duration | FieldType::OneOf(_) | FieldType::BoolOr(_) => Type::String,
        FieldType::Bool => Type::Bool,
        FieldType::Integer | FieldType::Number => Type::Number,
        FieldType::StringList => Type::list(Type::String),
        FieldType::IntegerList => Type::list(Type::Number),
        FieldType::StringMap => Type::map(Type::String),
        FieldType::Any | FieldType::Block(_) | FieldType::Blocks(_) | FieldType::NamedBlocks(_) => Type::Any,
    }
}

fn from_json(json: &serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::null(),
        serde_json::Value::Bool(truth) => Value::bool(*truth),
        serde_json::Value::Number(number) => {
            let text = number.to_string();
            parse_number(&text).map_or_else(|| Value::string(text), Value::number)
        }
        serde_json::Value::String(text) => Value::string(text.as_str()),
        serde_json::Value::Array(elements) => Value::tuple(elements.iter().map(from_json)),
        serde_json::Value::Object(entries) => {
            Value::object(entries.iter().map(|(name, value)| (name.as_str(), from_json(value))))
        }
    }
}
