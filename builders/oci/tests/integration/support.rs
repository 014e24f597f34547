//! What the tests share: sources from JSON, a store of their own, busybox as a base.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use kiln_builder_oci::{OciBuilderKind, OciSettings};
use kiln_core::communicator::CaptureSink;
use kiln_core::{
    Artifact, Builder, BuilderKind, Command, Diagnostics, Failure, Kept, Key, Launched, Machine, StateInfo,
};
use kiln_docker::fake::FakeEngine;
use kiln_image::{Digest, Layout};
use kiln_registry::CredentialSources;
use kiln_sandbox::{HELPER_ARGUMENT, HelperProgram};
use kiln_testkit::{Arguments, TestContext, context, prepare_context};
use serde_json::{Value, json};
use tempfile::TempDir;

/// This crate's helper program.
pub(crate) fn helper() -> HelperProgram {
    HelperProgram {
        path: PathBuf::from(env!("CARGO_BIN_EXE_kiln-oci-helper")),
        arguments: vec![HELPER_ARGUMENT.to_owned()],
    }
}

/// Whether machines can be made; says so loudly if not.
pub(crate) fn can_run() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if is_root && Path::new("/bin/busybox").exists() {
        return true;
    }
    assert!(std::env::var_os("KILN_TEST_REQUIRE").is_none(), "this test needs root and a static busybox");
    eprintln!("SKIPPED: this test needs root and a static busybox");
    false
}

/// A store of its own, and what is around it.
pub(crate) struct World {
    pub(crate) directory: TempDir,
    pub(crate) engine: Arc<FakeEngine>,
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) context: TestContext,
}

impl World {
    pub(crate) fn new() -> World {
        World {
            directory: tempfile::tempdir().unwrap(),
            engine: Arc::new(FakeEngine::new()),
            environment: BTreeMap::new(),
            context: context().build_called("oci.worker", "worker", "oci").build(),
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The kind, as a new process has it: what an earlier one found out is forgotten.
    pub(crate) fn kind(&self) -> OciBuilderKind {
        OciBuilderKind::new(OciSettings {
            cache: self.path("cache"),
            helper: helper(),
            credentials: CredentialSources { environment: self.environment.clone(), ..CredentialSources::default() },
            home: None,
            engine: self.engine.clone(),
        })
    }

    /// The store of root.
    pub(crate) fn layout(&self) -> Layout {
        Layout::create(self.path("cache/0")).unwrap()
    }

    pub(crate) fn builder(&self, arguments: Value) -> Arc<dyn Builder> {
        let (builder, diagnostics) = prepare(&self.kind(), &Arguments::new(arguments));
        builder.unwrap_or_else(|| panic!("{diagnostics:?}"))
    }

    pub(crate) async fn launch(&self, arguments: Value) -> Box<dyn Machine> {
        machine(self.builder(arguments).launch(&self.context).await)
    }

    /// All files of the topmost layer of an image, with what stands in those that are short; sorted.
    pub(crate) fn top_layer(&self, artifact: &Artifact) -> Vec<String> {
        let manifest = Digest::parse(artifact.image().unwrap().digest.as_deref().unwrap()).unwrap();
        let layout = self.layout();
        let image = kiln_image::Image::open(&layout, &manifest).unwrap();
        let blob = std::fs::File::open(layout.blob_path(&image.layers.last().unwrap().digest)).unwrap();
        let mut archive = tar::Archive::new(flate2::read::MultiGzDecoder::new(blob));
        let mut entries = Vec::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut text = String::new();
            let _ = std::io::Read::read_to_string(&mut entry, &mut text);
            let name = entry.path().unwrap().display().to_string();
            entries.push(if text.is_empty() { name } else { format!("{name}: {}", text.trim_end()) });
        }
        entries
    }

    pub(crate) fn config(&self, artifact: &Artifact) -> Value {
        let id = Digest::parse(&artifact.image().unwrap().id).unwrap();
        serde_json::from_slice(&self.layout().document(&id).unwrap()).unwrap()
    }

    /// What is left in the store of living builds.
    pub(crate) fn workspaces(&self) -> usize {
        std::fs::read_dir(self.path("cache/0/work")).unwrap().count()
    }
}

/// A source on busybox with these arguments.
pub(crate) fn busybox(more: Value) -> Value {
    let mut arguments = json!({ "from": { "busybox": "/bin/busybox" } });
    for (name, value) in more.as_object().unwrap() {
        arguments[name] = value.clone();
    }
    arguments
}

/// Prepares a source.
pub(crate) fn prepare(kind: &dyn BuilderKind, arguments: &Arguments) -> (Option<Arc<dyn Builder>>, Diagnostics) {
    let (decoded, mut diagnostics) = arguments.decode(kind.schema());
    let builder = kind.prepare(&decoded, &prepare_context(), &mut diagnostics);
    (builder, diagnostics)
}

pub(crate) fn machine(launched: Result<Launched, Failure>) -> Box<dyn Machine> {
    match launched.unwrap_or_else(|failure| panic!("{}", failure.chain())) {
        Launched::Machine(machine) => machine,
        Launched::Artifact(_) => panic!("no machine"),
    }
}

/// Runs a script and returns its output.
pub(crate) async fn output(machine: &dyn Machine, script: &str) -> String {
    let mut sink = CaptureSink::default();
    let status = machine.communicator().exec(&Command::shell(script), &mut sink).await.unwrap();
    assert!(status.is_success(), "{script}: {}", String::from_utf8_lossy(&sink.stderr));
    String::from_utf8(sink.stdout).unwrap().trim_end().to_owned()
}

pub(crate) fn key(number: u8) -> Key {
    Key::from_digest([number; 32])
}

/// What the engine says of a state.
pub(crate) fn info(parent: Option<Key>, title: &str) -> StateInfo {
    StateInfo {
        parent,
        title: title.to_owned(),
        build: "oci.worker".to_owned(),
        took: Duration::from_millis(10),
        created: SystemTime::now(),
        used_secrets: false,
        is_checkpoint: false,
    }
}

/// Keeps a state, and says its content.
pub(crate) async fn keep(machine: &dyn Machine, number: u8, world: &World) -> Option<String> {
    let parent = (number > 1).then(|| key(number - 1));
    match machine.keep(&key(number), &info(parent, "a step"), &world.context).await.unwrap() {
        Kept::Kept { content } => content,
        Kept::NotWorth(why) => panic!("{why}"),
    }
}
