//! The body of a source, provisioner or post-processor, evaluated when it is asked for.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use kiln_core::config::{Attribute, Block, Body, Node, Value as Plain};
use kiln_core::{
    ComponentConfig, Diagnostic, Diagnostics, Facts, Field, FieldType, Parent, Platform, Schema, SourceMap, Span,
    TextScope,
};
use kiln_language::evaluate::{Reference, references};
use kiln_language::syntax::{self, Expression, Item};
use kiln_language::value::{Type, Value};

use super::advice;
use super::artifacts::{self, BuildNames};
use super::deferred::Known;
use super::dynamic::{Expanded, expand};
use super::graph::Roots;
use super::json_syntax;
use super::modules::Scope;
use super::platforms::Role;
use super::repetition::Element;
use super::scope::{Bindings, Overlay, Values};
use super::text::TextRenderer;
use super::to_config::{literal_entry, node};

/// Values of a machine that are secrets whatever the template says.
const SECRET_FACTS: [&str; 3] = ["Password", "SSHPrivateKey", "WinRMPassword"];

/// What all components of a template share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) values: Values,
    pub(crate) sources: SourceMap,
    pub(crate) text_scope: Arc<TextScope>,
    /// `module.NAME` from the outside in, of a module.
    pub(crate) path: String,
    /// The same without the keys of elements.
    family: String,
    /// For advice on mistakes, where there are any.
    names: OnceLock<advice::Names>,
    /// What each scope calls the builds, once they are read.
    builds: OnceLock<Arc<[BuildNames]>>,
}

impl Shared {
    pub(crate) fn new(values: Values, sources: SourceMap, text_scope: Arc<TextScope>, scope: &Scope) -> Shared {
        let (path, family) = (scope.path.clone(), scope.family.clone());
        Shared { values, sources, text_scope, path, family, names: OnceLock::new(), builds: OnceLock::new() }
    }

    /// A build's name with the modules that it is in.
    pub(crate) fn qualified(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// The same, and as all elements of a module with `for_each` are called together.
    pub(crate) fn all_qualified(&self, name: &str) -> Vec<String> {
        let family = if self.family.is_empty() { name.to_owned() } else { format!("{}.{name}", self.family) };
        let own = self.qualified(name);
        if family == own { vec![own] } else { vec![own, family] }
    }

    /// Notes what builds there are. Until then none is known.
    pub(crate) fn set_builds(&self, builds: Arc<[BuildNames]>) {
        _ = self.builds.set(builds);
    }

    fn builds(&self) -> Option<&BuildNames> {
        self.builds.get()?.get(self.values.scope_index())
    }

    /// The builds that references depend on, directly or through variables and outputs of modules.
    fn mentioned(&self, references: &[Reference], wanted: &Platform) -> Vec<Parent> {
        self.builds.get().map(|names| mentioned(&self.values, names, references, wanted)).unwrap_or_default()
    }

    /// `var`, `local` and `module` anew, where references depend on what builds left.
    fn with_artifacts(
        &self,
        references: &[Reference],
        facts: &Facts,
        wanted: &Platform,
        diagnostics: &mut Diagnostics,
    ) -> Option<Roots> {
        let (late, scope) = self.values.graph().filter(|_| !facts.artifacts.is_empty())?;
        let names = self.builds.get()?;
        for (scope, reference) in late.graph.artifacts_behind(scope, references) {
            names[scope].report_unknown(&[reference], Some(wanted), diagnostics);
        }
        let known = Known { artifacts: &facts.artifacts, names, wanted };
        late.with_artifacts((scope, references), known, diagnostics)
    }

    fn names(&self) -> &advice::Names {
        self.names.get_or_init(|| advice::Names::of(&self.values, &self.sources))
    }

    /// Notes a body that is evaluated later: what it refers to must have a value by then.
    pub(crate) fn note(&self, body: &syntax::Body) {
        let mut found = Vec::new();
        collect_references(body, &mut found);
        self.values.note(&found);
    }
}

/// The builds that references of a scope depend on; `names` are what each scope calls them.
pub(crate) fn mentioned(
    values: &Values,
    names: &[BuildNames],
    references: &[Reference],
    wanted: &Platform,
) -> Vec<Parent> {
    let scope = values.scope_index();
    let Some(own) = names.get(scope) else { return Vec::new() };
    let mut found = own.mentioned(references, wanted);
    if let Some((late, scope)) = values.graph() {
        for (scope, reference) in late.graph.artifacts_behind(scope, references) {
            found.extend(names[scope].mentioned(&[reference], wanted));
        }
    }
    found
}

/// The build that a component stands in.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// `source.type`.
    pub(crate) source_kind: String,
    /// `source.name`: the local name where there is one.
    pub(crate) source_name: String,
    /// The same without the key of an element: what `override` may call it too.
    pub(crate) source_family: String,
    /// `source.key` and `source.value`, where `for_each` made the source.
    pub(crate) element: Option<Element>,
    /// `build.name`: the name of the build block; empty where it has none.
    pub(crate) build_name: String,
    /// What it is among the builds of a source's `platforms`.
    pub(crate) role: Role,
    /// Where `platforms` stands, if the source has any.
    pub(crate) platforms: Option<Span>,
}

impl Place {
    /// What `override` may call the source; what is said under a later name goes over what is said under an earlier one: of
    /// the one over that of all its family, of one kind over that of all kinds with the name.
    fn override_names(&self) -> Vec<String> {
        let mut names = vec![self.source_family.clone(), self.source_name.clone()];
        names.dedup();
        let full: Vec<String> = names.iter().map(|name| format!("{}.{name}", self.source_kind)).collect();
        names.extend(full);
        names
    }

    /// `source`.
    pub(crate) fn source_value(&self) -> Value {
        self.source_value_with(match self.role.own() {
            Some(platform) => Value::string(platform.to_string()),
            None => Value::null_of(Type::String),
        })
    }

    fn source_value_with(&self, platform: Value) -> Value {
        let names =
            [("name", Value::string(self.source_name.as_str())), ("type", Value::string(self.source_kind.as_str()))];
        let element = self.element.iter();
        let element = element.flat_map(|element| [("key", element.key.clone()), ("value", element.value.clone())]);
        Value::object(names.into_iter().chain(element).chain([("platform", platform)]))
    }

    /// `source` alone.
    pub(crate) fn source_bindings(&self) -> Bindings {
        Bindings::default().with_iterator("source", self.source_value())
    }

    /// `source` and `build` before the machine runs: of `build`, the name and, of an unknown value each, what `found`
    /// refers to.
    pub(crate) fn bindings(&self, found: &[Reference]) -> Bindings {
        Bindings::of_build(self.source_value(), self.build_value(found, &Facts::default()))
    }

    fn build_value(&self, found: &[Reference], facts: &Facts) -> Value {
        let name = ("name".to_owned(), Value::string(self.build_name.as_str()));
        if let Some(values) = &facts.build {
            let values = values.iter().map(|(key, text)| {
                (key.clone(), Value::string(text.as_str()).marked(SECRET_FACTS.contains(&key.as_str())))
            });
            return Value::object(values.chain([name]));
        }
        if !facts.names.is_empty() {
            let unknown = facts.names.iter().map(|key| (key.clone(), Value::unknown(Type::String)));
            return Value::object(unknown.chain([name]));
        }
        let mut unknown: BTreeMap<String, Value> = BTreeMap::new();
        for reference in found.iter().filter(|reference| reference.root == "build") {
            match reference.path.first() {
                Some(key) => unknown.insert(key.text.clone(), Value::unknown(Type::String)),
                // `build` as a whole, or indexed by a value.
                None => return Value::unknown(Type::Any),
            };
        }
        Value::object(unknown.into_iter().chain([name]))
    }
}

/// One written body of a component.
#[derive(Debug, Clone)]
pub(crate) struct Layer {
    pub(crate) body: Arc<syntax::Body>,
    pub(crate) header: Span,
    /// Arguments that are not the component's but the template's: `only`, `pause_before`.
    pub(crate) skip: &'static [&'static str],
    /// Iterators of the `dynamic` blocks around it.
    pub(crate) bindings: Bindings,
}

/// A component of an HCL2 template.
#[derive(Debug)]
pub(crate) struct HclComponent {
    pub(crate) shared: Arc<Shared>,
    pub(crate) place: Place,
    /// Whether it is a source: then `build.*` never gets values, for nothing runs before it.
    pub(crate) is_source: bool,
    /// A source block and the block in the build that adds to it; else one.
    pub(crate) layers: Vec<Layer>,
    /// `override` of a provisioner, with the iterators around it.
    pub(crate) overrides: Option<(Expression, Bindings)>,
}

impl ComponentConfig for HclComponent {
    fn evaluate(&self, schema: &Schema, facts: &Facts, diagnostics: &mut Diagnostics) -> Body {
        let mut found = Diagnostics::new();
        let body = self.evaluated(schema, facts, &mut found);
        if !found.is_empty() {
            advice::refine(&mut found, &self.shared.sources, self.shared.names());
        }
        diagnostics.secrets.append(&mut found.secrets);
        diagnostics.extend(found);
        body
    }

    fn parents(&self) -> Vec<Parent> {
        if self.is_joining() {
            // Its images say all.
            return Vec::new();
        }
        let wanted = self.place.role.wanted();
        self.shared.mentioned(&self.references(), &wanted)
    }
}

impl HclComponent {
    /// Whether it is a source of which only the images for its platforms are joined. What differs between them has no
    /// value then.
    fn is_joining(&self) -> bool {
        self.is_source && matches!(self.place.role, Role::Index(_))
    }

    fn evaluated(&self, schema: &Schema, facts: &Facts, diagnostics: &mut Diagnostics) -> Body {
        let found = self.references();
        let wanted = self.place.role.wanted();
        if self.is_source {
            report_machine_values(&found, diagnostics);
        }
        let build = self.place.build_value(&found, facts);
        let source = match self.is_joining() {
            true => self.place.source_value_with(Value::unknown(Type::String)),
            false => self.place.source_value(),
        };
        let mut bindings = Bindings::of_build(source, build);
        if found.iter().any(|reference| reference.root == artifacts::ROOT)
            && let Some(builds) = self.shared.builds()
        {
            if self.is_joining() || builds.report_unknown(&found, Some(&wanted), diagnostics) {
                // Nothing more is said of them.
                bindings = bindings.with_iterator(artifacts::ROOT, Value::unknown(Type::Any));
            } else {
                bindings = bindings.with_iterator(artifacts::ROOT, builds.value(&facts.artifacts, &wanted));
            }
        }
        let anew =
            if self.is_joining() { None } else { self.shared.with_artifacts(&found, facts, &wanted, diagnostics) };
        for (root, value) in anew.into_iter().flatten() {
            bindings = bindings.with_iterator(root, value);
        }
        let renderer = TextRenderer {
            scope: kiln_gotemplate::Scope {
                text: &self.shared.text_scope,
                build_name: Some(&self.place.source_name),
                build_type: Some(&self.place.source_kind),
                build: facts.build.as_ref(),
                allow_env: false,
            },
            sources: &self.shared.sources,
        };
        let mut evaluation = Evaluation { values: &self.shared.values, renderer: &renderer, diagnostics };
        let header = self.layers.first().map_or_else(|| Span::new(kiln_core::SourceId(0), 0..0), |layer| layer.header);
        let mut merged = Body::empty(header, false);
        for layer in &self.layers {
            let bindings = bindings.under(&layer.bindings);
            let body = evaluation.body(&layer.body, layer.header, &bindings, Some(schema), layer.skip);
            // That both set one argument was told when the template was read.
            merged.attributes.extend(body.attributes);
            merged.blocks.extend(body.blocks);
        }
        if let Some((expression, own)) = &self.overrides {
            let bindings = bindings.under(own);
            for name in self.place.override_names() {
                evaluation.apply_override(expression, &bindings, &name, schema, &mut merged);
            }
        }
        if self.is_source
            && let Some(span) = self.place.platforms
        {
            self.set_platform(&mut merged, span, schema, evaluation.diagnostics);
        }
        for (name, attribute) in &merged.attributes {
            if let Some(field) = schema.field(name).filter(|field| field.deferred) {
                renderer.check_node(&attribute.node, field, facts, evaluation.diagnostics);
            }
        }
        merged
    }

    /// Gives a source the platform that it is built for.
    fn set_platform(&self, body: &mut Body, span: Span, schema: &Schema, diagnostics: &mut Diagnostics) {
        if schema.field("platform").is_none() {
            let is_typed = !schema.fields.is_empty();
            if is_typed {
                let title = format!("{} cannot be built for several `platforms`", schema.title);
                diagnostics.push(
                    Diagnostic::error("no-platforms", span, title)
                        .help("`for_each` makes several builds of a source, each with arguments of its own"),
                );
            }
            return;
        }
        if let Some(platform) = self.place.role.own() {
            let node = Node::new(Plain::String(platform.to_string()), span);
            body.attributes.insert("platform".to_owned(), Attribute { name_span: span, node });
        }
    }

    fn references(&self) -> Vec<Reference> {
        let mut found = Vec::new();
        for layer in &self.layers {
            collect_references(&layer.body, &mut found);
        }
        if let Some((expression, _)) = &self.overrides {
            found.extend(references(expression));
        }
        found
    }
}

/// All references in a body, in depth.
pub(crate) fn collect_references(body: &syntax::Body, found: &mut Vec<Reference>) {
    for item in &body.items {
        match item {
            Item::Attribute(attribute) => found.extend(references(&attribute.value)),
            Item::Block(block) => collect_references(&block.body, found),
        }
    }
}

fn report_machine_values(found: &[Reference], diagnostics: &mut Diagnostics) {
    let machine = |reference: &&Reference| {
        reference.root == "build" && reference.path.first().is_none_or(|name| name.text != "name")
    };
    for reference in found.iter().filter(machine) {
        diagnostics.push(
            Diagnostic::error(
                "build-value-outside",
                reference.span,
                "a source cannot use values of the machine that it is to start",
            )
            .help("`build.*` is for provisioners and post-processors"),
        );
    }
}

/// Evaluates a body that belongs to no build.
pub(crate) fn evaluate_body(
    body: &syntax::Body,
    header: Span,
    values: &Values,
    schema: Option<&Schema>,
    renderer: &TextRenderer<'_>,
    diagnostics: &mut Diagnostics,
) -> Body {
    Evaluation { values, renderer, diagnostics }.body(body, header, &Bindings::default(), schema, &[])
}

struct Evaluation<'a> {
    values: &'a Values,
    renderer: &'a TextRenderer<'a>,
    diagnostics: &'a mut Diagnostics,
}

impl<'a> Evaluation<'a> {
    fn body(
        &mut self,
        body: &syntax::Body,
        span: Span,
        bindings: &Bindings,
        schema: Option<&Schema>,
        skip: &[&str],
    ) -> Body {
        let mut result = Body::empty(span, false);
        for item in expand(body, self.values, bindings, self.diagnostics) {
            match item {
                Expanded::Attribute(attribute) if skip.contains(&attribute.name.text.as_str()) => {}
                Expanded::Attribute(attribute) => {
                    let field = schema.and_then(|schema| schema.field(&attribute.name.text));
                    let overlay = Overlay { values: self.values, bindings };
                    let value = overlay.evaluate(&attribute.value, self.diagnostics);
                    let node = node(&value, &attribute.value, self.renderer_for(field), self.diagnostics);
                    let is_block = field.is_some_and(|field| field.kind.block().is_some());
                    let name = &attribute.name;
                    if is_block && json_syntax::is_json(self.renderer.sources, name.span) {
                        result.blocks.extend(self.blocks_from_node(&name.text, name.span, node, schema));
                        continue;
                    }
                    let attribute_node = Attribute { name_span: name.span, node };
                    result.attributes.insert(name.text.clone(), attribute_node);
                }
                Expanded::Block(block) => {
                    let inner = schema.and_then(|schema| block_schema(schema, &block.kind.text));
                    result.blocks.push(Block {
                        kind: block.kind.text.clone(),
                        kind_span: block.kind.span,
                        labels: block.labels.iter().map(|label| label.text.clone()).collect(),
                        body: self.body(block.body, block.header, &block.bindings, inner, &[]),
                    });
                }
            }
        }
        result
    }

    /// Texts of deferred fields are the component's to render, those of unknown ones are a mistake anyway, and those of
    /// blocks written as maps follow when it is known which field each belongs to.
    fn renderer_for(&self, field: Option<&Field>) -> Option<&'a TextRenderer<'a>> {
        let is_rendered = |field: &&Field| !field.deferred && field.kind.block().is_none();
        field.filter(is_rendered).map(|_| self.renderer)
    }

    /// Blocks written as maps, or as lists of maps: in an override, and in HCL's JSON syntax.
    fn blocks_from_node(&mut self, kind: &str, kind_span: Span, node: Node, schema: Option<&Schema>) -> Vec<Block> {
        let field = schema.and_then(|schema| schema.field(kind));
        let inner = field.and_then(|field| field.kind.block());
        match node.value {
            // The label that tells such blocks apart is the key.
            Plain::Map(entries) if matches!(field.map(|field| field.kind), Some(FieldType::NamedBlocks(_))) => {
                let mut named = Vec::new();
                for (label, node) in entries {
                    let blocks = self.unnamed_blocks(kind, node.span, node, inner);
                    named.extend(blocks.into_iter().map(|block| Block { labels: vec![label.clone()], ..block }));
                }
                named
            }
            Plain::List(nodes) => {
                let blocks = nodes.into_iter().flat_map(|node| self.blocks_from_node(kind, kind_span, node, schema));
                blocks.collect()
            }
            _ => self.unnamed_blocks(kind, kind_span, node, inner),
        }
    }

    fn unnamed_blocks(
        &mut self,
        kind: &str,
        kind_span: Span,
        node: Node,
        inner: Option<&'static Schema>,
    ) -> Vec<Block> {
        let span = node.span;
        let mut body = Body::empty(span, false);
        match node.value {
            Plain::Null => return Vec::new(),
            Plain::List(nodes) => {
                return nodes.into_iter().flat_map(|node| self.unnamed_blocks(kind, kind_span, node, inner)).collect();
            }
            Plain::Map(entries) => {
                for (name, mut node) in entries {
                    let name_span = node.span;
                    if inner.is_some_and(|inner| block_schema(inner, &name).is_some()) {
                        body.blocks.extend(self.blocks_from_node(&name, name_span, node, inner));
                        continue;
                    }
                    if let Some(renderer) = self.renderer_for(inner.and_then(|inner| inner.field(&name))) {
                        renderer.render_node(&mut node, self.diagnostics);
                    }
                    body.attributes.insert(name, Attribute { name_span, node });
                }
            }
            _ => {
                let title = format!("`{kind}` must be a map of arguments, and this is {}", node.value.type_name());
                self.diagnostics.push(Diagnostic::error("wrong-type", span, title));
                return Vec::new();
            }
        }
        vec![Block { kind: kind.to_owned(), kind_span, labels: Vec::new(), body }]
    }

    /// `override = { source_name = { argument = value } }`: the arguments given for this source replace the body's.
    fn apply_override(
        &mut self,
        expression: &Expression,
        bindings: &Bindings,
        source_name: &str,
        schema: &Schema,
        body: &mut Body,
    ) {
        let value = Overlay { values: self.values, bindings }.evaluate(expression, self.diagnostics);
        let Some(own) = value.as_entries().and_then(|entries| entries.get(source_name)) else { return };
        let written = literal_entry(Some(expression), source_name).map(|(_, written)| written);
        let Some(arguments) = own.as_entries() else {
            if !own.is_unknown() && !own.is_null() {
                let span = written.map_or(expression.span, |written| written.span);
                let title = format!("the override for `{source_name}` must be a map of arguments");
                self.diagnostics.push(Diagnostic::error("wrong-type", span, title));
            }
            return;
        };
        for (name, value) in arguments {
            let entry = literal_entry(written, name);
            let key_span = entry.map_or(expression.span, |(key, _)| key.span);
            let value_expression = entry.map_or(expression, |(_, written)| written);
            let field = schema.field(name);
            let value = value.clone().marked(own.sensitive);
            let node = node(&value, value_expression, self.renderer_for(field), self.diagnostics);
            if block_schema(schema, name).is_some() {
                body.blocks.retain(|block| block.kind != *name);
                body.blocks.extend(self.blocks_from_node(name, key_span, node, Some(schema)));
            } else {
                body.attributes.insert(name.clone(), Attribute { name_span: key_span, node });
            }
        }
    }
}

fn block_schema(schema: &Schema, kind: &str) -> Option<&'static Schema> {
    schema.field(kind)?.kind.block()
}
