//! A registry as far as the engine sees one: post-processors that name and push, and hooks that tell what they were told.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use kiln_core::{
    Artifact, BuildContext, Content, Decoded, Diagnostics, Failure, Field, Hook, HookKind, Image, Kinds, PostProcessor,
    PostProcessorKind, PrepareContext, Processed, Published, Schema,
};
use serde::Deserialize;

use super::fakes::World;

/// Adds them: `fake-tag`, `fake-push`, `fake-list` and the hooks.
pub(super) fn add(kinds: &mut Kinds, world: &Arc<World>) {
    kinds.add_post_processor(Arc::new(Kind { world: world.clone(), schema: &TAG }));
    kinds.add_post_processor(Arc::new(Kind { world: world.clone(), schema: &PUSH }));
    kinds.add_post_processor(Arc::new(Kind { world: world.clone(), schema: &LIST }));
    kinds.set_hook(Arc::new(FakeHookKind(world.clone())));
}

const fn schema(kind: &'static str, fields: &'static [Field]) -> Schema {
    Schema { kind, title: "a fake", doc: "", fields, example: "" }
}

static TAG: Schema = schema("fake-tag", &[Field::strings("names", "In full."), Field::string("name", "One more.")]);
static PUSH: Schema =
    schema("fake-push", &[Field::bool("skips", "Asks before."), Field::string("question", "Asks somebody.")]);
static LIST: Schema = schema("fake-list", &[Field::string("name", "One more.")]);
static HOOK: Schema = schema("hook", &[Field::string("name", "What it is called.").required()]);

#[derive(Default, Deserialize)]
#[serde(default)]
struct Arguments {
    names: Vec<String>,
    skips: bool,
    question: Option<String>,
    name: String,
}

struct Kind {
    world: Arc<World>,
    schema: &'static Schema,
}

impl PostProcessorKind for Kind {
    fn schema(&self) -> &'static Schema {
        self.schema
    }

    fn prepare(
        &self,
        config: &Decoded,
        _context: &PrepareContext,
        _diagnostics: &mut Diagnostics,
    ) -> Option<Arc<dyn PostProcessor>> {
        let arguments = config.read().unwrap();
        Some(Arc::new(Fake { world: self.world.clone(), kind: self.schema.kind, arguments }))
    }
}

struct Fake {
    world: Arc<World>,
    kind: &'static str,
    arguments: Arguments,
}

#[async_trait]
impl PostProcessor for Fake {
    fn names(&self) -> Vec<String> {
        let more = Some(self.arguments.name.clone()).filter(|name| !name.is_empty());
        self.arguments.names.iter().cloned().chain(more).collect()
    }

    fn pushes(&self) -> bool {
        self.kind == "fake-push"
    }

    fn sends(&self, artifact: &Artifact) -> Vec<String> {
        artifact.image().map(|image| image.tags.clone()).unwrap_or_default()
    }

    fn asks_before(&self) -> bool {
        self.arguments.skips
    }

    async fn published(&self, names: &[String], context: &BuildContext) -> Result<Option<Published>, Failure> {
        self.world.call(&format!("ask {}", names.join(" ")), Some(context)).await?;
        let things = self.world.things();
        let is_there = |name: &&String| things.contains(&format!("published {name}"));
        let (moving, fixed): (Vec<String>, Vec<String>) = names.iter().cloned().partition(|it| it.ends_with("latest"));
        let missing = moving.into_iter().filter(|name| !is_there(&name)).map(|name| (name, "digest".to_owned()));
        Ok(fixed.iter().all(|name| is_there(&name)).then(|| Published {
            artifact: image(names, "published"),
            reason: format!("{} is there", fixed.join(", ")),
            missing: missing.collect(),
        }))
    }

    async fn name_published(
        &self,
        names: &BTreeMap<String, String>,
        context: &BuildContext,
    ) -> Result<Vec<String>, Failure> {
        let names: Vec<String> = names.keys().cloned().collect();
        self.world.call(&format!("name {}", names.join(" ")), Some(context)).await?;
        Ok(names)
    }

    fn question(&self) -> Option<&str> {
        self.arguments.question.as_deref()
    }

    fn takes_note(&self) -> bool {
        self.kind == "fake-list"
    }

    async fn process(&self, input: &Artifact, context: &BuildContext) -> Result<Processed, Failure> {
        let mut tags = input.image().map(|image| image.tags.clone()).unwrap_or_default();
        tags.extend(self.names());
        self.world.call(&format!("{} {}", self.kind, tags.join(" ")), Some(context)).await?;
        let artifact = Artifact { owner: input.owner.clone(), ..image(&tags, &input.id) };
        Ok(Processed { artifact, keep_input: true, force_keep: true })
    }
}

fn image(tags: &[String], id: &str) -> Artifact {
    Artifact {
        builder_id: "fake".into(),
        id: id.into(),
        description: id.into(),
        content: Content::Image(Image { id: id.into(), tags: tags.to_vec(), ..Image::default() }),
        owner: None,
    }
}

struct FakeHookKind(Arc<World>);

impl HookKind for FakeHookKind {
    fn schema(&self) -> &'static Schema {
        &HOOK
    }

    fn prepare(
        &self,
        config: &Decoded,
        _context: &PrepareContext,
        _diagnostics: &mut Diagnostics,
    ) -> Option<Arc<dyn Hook>> {
        Some(Arc::new(FakeHook { world: self.0.clone(), arguments: config.read().unwrap() }))
    }
}

struct FakeHook {
    world: Arc<World>,
    arguments: Arguments,
}

#[async_trait]
impl Hook for FakeHook {
    async fn run(&self, facts: BTreeMap<String, String>, context: &BuildContext) -> Result<(), Failure> {
        assert!(context.scratch.is_dir());
        assert!(!context.cancel.is_cancelled());
        let shown = ["KILN_HOOK", "KILN_BUILD", "KILN_OUTCOME", "KILN_ERROR", "KILN_REASON", "KILN_IMAGE", "KILN_TAGS"];
        let told: Vec<&str> =
            shown.iter().map(|name| facts[*name].as_str()).filter(|value| !value.is_empty()).collect();
        context.events.message(told.join(" | "));
        self.world.call(&format!("hook {}", self.arguments.name), Some(context)).await
    }
}
