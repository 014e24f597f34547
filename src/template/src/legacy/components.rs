//! Builders, provisioners and post-processors: what stands around their arguments.

use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexMap;
use kiln_core::plan::{CacheRules, ComponentSpec, PostProcessorSpec, StepSpec};
use kiln_core::{Diagnostic, Diagnostics, Span, duration, suggest};

use super::ROOT_KEYS;
use super::config::LegacyConfig;
use super::json::{JsonNode, JsonObject, JsonValue};
use super::shape::{self, wrong_type};
use super::text::{Place, Texts};

const BUILDER_KEYS: &[&str] = &["type", "name"];
const PROVISIONER_KEYS: &[&str] = &["type", "only", "except", "override", "pause_before", "max_retries", "timeout"];
const POST_PROCESSOR_KEYS: &[&str] = &["type", "name", "only", "except", "keep_input_artifact"];

/// A kind and its arguments, before a build is known.
struct Component {
    kind: String,
    kind_span: Span,
    header: Span,
    members: Arc<JsonObject>,
}

impl Component {
    /// Reads `type`; `keys` are those that are no arguments.
    fn read(node: &JsonNode, keys: &[&str], what: &str, diagnostics: &mut Diagnostics) -> Option<Component> {
        let JsonValue::Object(object) = &node.value else {
            diagnostics.push(Diagnostic::error(
                "wrong-type",
                node.span,
                format!("{what} must be an object, and this is {}", node.value.type_name()),
            ));
            return None;
        };
        if object.get("type").is_none_or(|member| member.node.value.is_null()) {
            let brace = Span { end: node.span.start + 1, ..node.span };
            let example = "write for example `\"type\": \"docker\"`";
            let mistake = Diagnostic::error("missing-argument", brace, format!("{what} needs a `type`"));
            diagnostics.push(if what == "a builder" { mistake.help(example) } else { mistake });
            return None;
        }
        let (kind, member) = shape::string(object, "type", diagnostics)?;
        let kind_span = shape::unquoted(member.node.span);
        if kind.is_empty() {
            let title = format!("{what} needs a `type`, and this is empty");
            diagnostics.push(Diagnostic::error("missing-argument", member.node.span, title));
            return None;
        }
        if kind.contains("{{") {
            diagnostics.push(
                Diagnostic::error("text-template", member.node.span, "`type` cannot hold template actions")
                    .help("write one component for each type, and choose with `-only` or `only`"),
            );
            return None;
        }
        let members = object.iter().filter(|(name, _)| !keys.contains(&name.as_str()));
        Some(Component {
            kind: kind.to_owned(),
            kind_span,
            header: member.span(),
            members: Arc::new(members.map(|(name, member)| (name.clone(), member.clone())).collect()),
        })
    }

    fn spec(
        &self,
        name: Option<String>,
        overriding: Option<Arc<JsonObject>>,
        builder: &Builder,
        texts: &Arc<Texts>,
    ) -> ComponentSpec {
        ComponentSpec {
            kind: self.kind.clone(),
            kind_span: self.kind_span,
            span: self.header,
            name,
            config: Arc::new(LegacyConfig {
                members: Arc::clone(&self.members),
                overriding,
                header: self.header,
                texts: Arc::clone(texts),
                build_name: Arc::clone(&builder.name),
                build_type: builder.component.kind.as_str().into(),
            }),
        }
    }
}

/// One of `builders`.
pub(super) struct Builder {
    component: Component,
    /// Its name as written: what `only`, `except` and `override` of the template use.
    written_name: String,
    /// Its name, rendered.
    pub(super) name: Arc<str>,
    name_span: Span,
}

impl Builder {
    fn is_called(&self, name: &str) -> bool {
        self.written_name == name || *self.name == *name
    }

    pub(super) fn spec(&self, texts: &Arc<Texts>) -> ComponentSpec {
        self.component.spec(None, None, self, texts)
    }
}

/// All builders that could be read.
pub(super) struct Builders {
    pub(super) all: Vec<Builder>,
    /// Whether these are all that the template has: names of one that could not be read are no mistakes.
    is_complete: bool,
}

impl Builders {
    fn has(&self, name: &str) -> bool {
        !self.is_complete || self.all.iter().any(|builder| builder.is_called(name))
    }
}

/// Reads `builders`. Names must differ.
pub(super) fn builders(root: &JsonObject, root_span: Span, texts: &Texts, diagnostics: &mut Diagnostics) -> Builders {
    let items = shape::array(root, "builders", diagnostics);
    let is_list = root.get("builders").is_none_or(|member| matches!(member.node.value, JsonValue::Array(_)));
    // A misspelt `builders` was told as such.
    let is_misspelt = root.get("builders").is_none()
        && root
            .keys()
            .any(|key| !ROOT_KEYS.contains(&key.as_str()) && suggest::nearest(key, ROOT_KEYS) == Some("builders"));
    if items.is_empty() && is_list && !is_misspelt {
        let brace = Span { end: root_span.start + 1, ..root_span };
        let span = root.get("builders").map_or(brace, |member| member.name_span);
        diagnostics.push(Diagnostic::error("no-builders", span, "a template needs at least one builder").help(
            "write for example `\"builders\": [{ \"type\": \"docker\", \"image\": \"debian\", \"commit\": true }]`",
        ));
    }
    let mut builders: Vec<Builder> = Vec::with_capacity(items.len());
    let mut is_complete = !items.is_empty();
    for item in items {
        let Some(builder) = builder(item, texts, diagnostics) else {
            is_complete = false;
            continue;
        };
        match builders.iter().find(|other| other.name == builder.name) {
            Some(first) => diagnostics.push(
                Diagnostic::error(
                    "duplicate-builder",
                    builder.name_span,
                    format!("two builders are called `{}`", builder.name),
                )
                .also(first.name_span, "first here")
                .help("give one of them a `name` of its own; it defaults to the `type`"),
            ),
            None => builders.push(builder),
        }
    }
    Builders { all: builders, is_complete }
}

fn builder(item: &JsonNode, texts: &Texts, diagnostics: &mut Diagnostics) -> Option<Builder> {
    let component = Component::read(item, BUILDER_KEYS, "a builder", diagnostics)?;
    let JsonValue::Object(object) = &item.value else { return None };
    let (written_name, name_span) = match shape::string(object, "name", diagnostics) {
        Some((name, member)) if !name.is_empty() => (name.to_owned(), member.node.span),
        _ => (component.kind.clone(), component.header),
    };
    // A name that cannot be known yet (`inspect` without values) stays as it is written.
    let rendered = texts.render(&written_name, name_span, Place::default(), diagnostics)?.text;
    let name = rendered.unwrap_or_else(|| written_name.clone()).into();
    Some(Builder { component, written_name, name, name_span })
}

/// `only` and `except`: which builds a component belongs to.
struct Applies {
    only: Option<Vec<String>>,
    except: Vec<String>,
}

impl Applies {
    fn read(object: &JsonObject, builders: &Builders, diagnostics: &mut Diagnostics) -> Applies {
        let mut read = |key: &str| {
            let names = shape::strings(object, key, diagnostics)?;
            for (name, span) in &names {
                if !builders.has(name) {
                    diagnostics.push(unknown_builder(key, name, *span, builders));
                }
            }
            Some(names.into_iter().map(|(name, _)| name).collect::<Vec<String>>())
        };
        let (only, except) = (read("only"), read("except"));
        if let (Some(first), Some(second)) = (object.get("only"), object.get("except"))
            && only.is_some()
            && except.is_some()
        {
            diagnostics.push(
                Diagnostic::error("only-and-except", second.name_span, "`only` and `except` exclude each other")
                    .also(first.name_span, "`only` is here"),
            );
        }
        // An empty list is no condition in Packer.
        Applies { only: only.filter(|names| !names.is_empty()), except: except.unwrap_or_default() }
    }

    fn to(&self, builder: &Builder) -> bool {
        let lists = |names: &[String]| names.iter().any(|name| builder.is_called(name));
        self.only.as_ref().is_none_or(|names| lists(names)) && !lists(&self.except)
    }
}

fn unknown_builder(key: &str, name: &str, span: Span, builders: &Builders) -> Diagnostic {
    Diagnostic::error("unknown-builder-name", span, format!("`{key}` names the builder `{name}`, and there is none"))
        .did_you_mean(shape::unquoted(span), name, builders.all.iter().map(|builder| builder.written_name.as_str()))
}

/// One of `provisioners`, or the `error-cleanup-provisioner`.
pub(super) struct Provisioner {
    component: Component,
    applies: Applies,
    overrides: IndexMap<String, Arc<JsonObject>>,
    pause_before: Duration,
    max_retries: u32,
    timeout: Option<Duration>,
}

impl Provisioner {
    /// The step for one build; `None` where `only` and `except` leave it out.
    pub(super) fn step(&self, builder: &Builder, texts: &Arc<Texts>) -> Option<StepSpec> {
        if !self.applies.to(builder) {
            return None;
        }
        let overriding = self.overrides.iter().find(|(name, _)| builder.is_called(name));
        Some(StepSpec {
            groups: Vec::new(),
            component: self.component.spec(None, overriding.map(|(_, members)| Arc::clone(members)), builder, texts),
            pause_before: self.pause_before,
            max_retries: self.max_retries,
            timeout: self.timeout,
            continue_on_error: false,
            cache: CacheRules::default(),
            is_checkpoint: false,
            secrets: Vec::new(),
        })
    }
}

/// Reads `provisioners`.
pub(super) fn provisioners(
    root: &JsonObject,
    builders: &Builders,
    texts: &Texts,
    diagnostics: &mut Diagnostics,
) -> Vec<Provisioner> {
    let items = shape::array(root, "provisioners", diagnostics);
    items.iter().filter_map(|item| provisioner(item, "a provisioner", builders, texts, diagnostics)).collect()
}

/// Reads `error-cleanup-provisioner`.
pub(super) fn error_cleanup(
    root: &JsonObject,
    builders: &Builders,
    texts: &Texts,
    diagnostics: &mut Diagnostics,
) -> Option<Provisioner> {
    let member = root.get("error-cleanup-provisioner").filter(|member| !member.node.value.is_null())?;
    provisioner(&member.node, "the error-cleanup-provisioner", builders, texts, diagnostics)
}

fn provisioner(
    item: &JsonNode,
    what: &str,
    builders: &Builders,
    texts: &Texts,
    diagnostics: &mut Diagnostics,
) -> Option<Provisioner> {
    let component = Component::read(item, PROVISIONER_KEYS, what, diagnostics)?;
    let JsonValue::Object(object) = &item.value else { return None };
    Some(Provisioner {
        component,
        applies: Applies::read(object, builders, diagnostics),
        overrides: overrides(object, builders, diagnostics),
        pause_before: time(object, "pause_before", texts, diagnostics).unwrap_or_default(),
        max_retries: retries(object, texts, diagnostics),
        timeout: time(object, "timeout", texts, diagnostics).filter(|timeout| !timeout.is_zero()),
    })
}

fn overrides(
    object: &JsonObject,
    builders: &Builders,
    diagnostics: &mut Diagnostics,
) -> IndexMap<String, Arc<JsonObject>> {
    let Some(overrides) = shape::object(object, "override", diagnostics) else { return IndexMap::new() };
    let mut found = IndexMap::new();
    for (name, member) in overrides {
        if !builders.has(name) {
            diagnostics.push(unknown_builder("override", name, member.name_span, builders));
        }
        match &member.node.value {
            JsonValue::Object(members) => {
                found.insert(name.clone(), Arc::new(members.clone()));
            }
            JsonValue::Null => {}
            _ => diagnostics.push(wrong_type(name, &member.node, "an object of arguments")),
        }
    }
    found
}

/// A number or a string that may hold actions, as text with its place. `None` where absent, or not to be known.
fn scalar(
    object: &JsonObject,
    name: &str,
    wanted: &str,
    texts: &Texts,
    diagnostics: &mut Diagnostics,
) -> Option<(String, Span)> {
    let node = &object.get(name)?.node;
    let text = match &node.value {
        JsonValue::Null => return None,
        JsonValue::Number(text) => text.clone(),
        JsonValue::String(text) => texts.render(text, node.span, Place::default(), diagnostics)?.text?,
        _ => {
            diagnostics.push(wrong_type(name, node, wanted));
            return None;
        }
    };
    Some((text, node.span))
}

fn time(object: &JsonObject, name: &str, texts: &Texts, diagnostics: &mut Diagnostics) -> Option<Duration> {
    let (text, span) = scalar(object, name, "a duration", texts, diagnostics)?;
    match duration::parse(&text) {
        Ok(duration) => Some(duration),
        Err(error) => {
            diagnostics.push(duration::mistake(name, &text, span, &error));
            None
        }
    }
}

fn retries(object: &JsonObject, texts: &Texts, diagnostics: &mut Diagnostics) -> u32 {
    let name = "max_retries";
    let Some((text, span)) = scalar(object, name, "a whole number", texts, diagnostics) else { return 0 };
    if text.is_empty() {
        return 0;
    }
    text.trim().parse().unwrap_or_else(|_| {
        diagnostics.push(Diagnostic::error(
            "wrong-type",
            span,
            format!("`{name}` must be a whole number that is not negative, and this is `{text}`"),
        ));
        0
    })
}

/// One post-processor of a chain.
pub(super) struct PostProcessor {
    component: Component,
    name: Option<String>,
    applies: Applies,
    keep_input: Option<bool>,
}

impl PostProcessor {
    /// What `-except` matches: the name, which defaults to the type.
    pub(super) fn name(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.component.kind)
    }

    /// `None` where `only` and `except` leave it out of a build.
    pub(super) fn spec(&self, builder: &Builder, texts: &Arc<Texts>) -> Option<PostProcessorSpec> {
        self.applies.to(builder).then(|| PostProcessorSpec {
            component: self.component.spec(self.name.clone(), None, builder, texts),
            keep_input: self.keep_input,
            continue_on_error: false,
        })
    }
}

/// Reads `post-processors`: a list in it is a chain, anything else is a chain of its own.
pub(super) fn post_processors(
    root: &JsonObject,
    builders: &Builders,
    diagnostics: &mut Diagnostics,
) -> Vec<Vec<PostProcessor>> {
    let mut chains = Vec::new();
    for item in shape::array(root, "post-processors", diagnostics) {
        let links = match &item.value {
            JsonValue::Array(links) => links.as_slice(),
            _ => std::slice::from_ref(item),
        };
        chains.push(links.iter().filter_map(|link| post_processor(link, builders, diagnostics)).collect());
    }
    chains
}

fn post_processor(item: &JsonNode, builders: &Builders, diagnostics: &mut Diagnostics) -> Option<PostProcessor> {
    match &item.value {
        JsonValue::String(kind) => {
            let members = Arc::new(JsonObject::new());
            let kind_span = shape::unquoted(item.span);
            let component = Component { kind: kind.clone(), kind_span, header: item.span, members };
            let applies = Applies { only: None, except: Vec::new() };
            Some(PostProcessor { component, name: None, applies, keep_input: None })
        }
        JsonValue::Array(_) => {
            let bracket = Span { end: item.span.start + 1, ..item.span };
            diagnostics.push(
                Diagnostic::error("nested-chain", bracket, "a chain of post-processors cannot hold another one")
                    .help("a list in `post-processors` is a chain; put each chain directly into `post-processors`"),
            );
            None
        }
        _ => {
            let component = Component::read(item, POST_PROCESSOR_KEYS, "a post-processor", diagnostics)?;
            let JsonValue::Object(object) = &item.value else { return None };
            Some(PostProcessor {
                component,
                name: shape::string(object, "name", diagnostics).map(|(name, _)| name.to_owned()),
                applies: Applies::read(object, builders, diagnostics),
                keep_input: keep_input(object, diagnostics),
            })
        }
    }
}

fn keep_input(object: &JsonObject, diagnostics: &mut Diagnostics) -> Option<bool> {
    let name = "keep_input_artifact";
    let node = &object.get(name)?.node;
    match &node.value {
        JsonValue::Null => None,
        JsonValue::Bool(keep) => Some(*keep),
        JsonValue::String(text) if text == "true" => Some(true),
        JsonValue::String(text) if text == "false" => Some(false),
        _ => {
            diagnostics.push(wrong_type(name, node, "`true` or `false`"));
            None
        }
    }
}
