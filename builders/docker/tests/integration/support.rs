//! What the tests share: sources from JSON, and an engine that is left as it was found.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use kiln_builder_docker::{DockerBuilderKind, DockerSettings};
use kiln_core::communicator::CaptureSink;
use kiln_core::{Builder, BuilderKind, Command, Diagnostics, Failure, Launched, Machine, RunOptions};
use kiln_docker::engine::{BuildRequest, ImageFilter};
use kiln_docker::{BollardEngine, Engine, ImageInfo};
use kiln_testkit::{Arguments, TestContext, context, prepare_context};

pub(crate) const BASE: &str = "debian:bookworm";

/// Prepares a source.
pub(crate) fn prepare(engine: Arc<dyn Engine>, arguments: &Arguments) -> (Option<Arc<dyn Builder>>, Diagnostics) {
    let kind = DockerBuilderKind::new(DockerSettings::new(engine));
    let (decoded, mut diagnostics) = arguments.decode(kind.schema());
    let builder = kind.prepare(&decoded, &prepare_context(), &mut diagnostics);
    (builder, diagnostics)
}

/// Prepares and launches a source that needs a machine.
pub(crate) async fn launch(
    engine: Arc<dyn Engine>,
    json: serde_json::Value,
    context: &TestContext,
) -> Result<Box<dyn Machine>, Failure> {
    let (builder, diagnostics) = prepare(engine, &Arguments::new(json));
    let builder = builder.unwrap_or_else(|| panic!("{diagnostics:?}"));
    match builder.launch(context).await? {
        Launched::Machine(machine) => Ok(machine),
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

/// A real engine, and a context with a run of its own. All that bears the run's label is removed with it.
pub(crate) struct World {
    pub(crate) engine: Arc<BollardEngine>,
    pub(crate) context: TestContext,
}

fn connect() -> BollardEngine {
    BollardEngine::connect(None, &std::env::vars().collect()).unwrap()
}

impl World {
    /// `None` where there is no engine and none is required.
    pub(crate) async fn new() -> Option<World> {
        World::with(RunOptions::default()).await
    }

    pub(crate) async fn with(options: RunOptions) -> Option<World> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let engine = Arc::new(connect());
        match engine.inspect_image(BASE).await {
            Ok(Some(_)) => {}
            missing if std::env::var_os("KILN_TEST_REQUIRE").is_some() => panic!("{BASE} is required: {missing:?}"),
            missing => {
                eprintln!("SKIPPED: no Docker engine with {BASE}: {missing:?}");
                return None;
            }
        }
        let mut context = context().options(options).build();
        // The container's name has the run's first eight characters.
        let run = format!("{:02x}{:06x}", COUNT.fetch_add(1, Ordering::Relaxed), std::process::id());
        context.context.run = run.into();
        Some(World { engine, context })
    }

    pub(crate) fn labels(&self) -> BTreeMap<String, String> {
        BTreeMap::from([("kiln.run".to_owned(), self.context.run.to_string())])
    }

    pub(crate) async fn launch(&self, json: serde_json::Value) -> Result<Box<dyn Machine>, Failure> {
        launch(self.engine.clone(), json, &self.context).await
    }

    /// Builds an image from a Dockerfile's text; it goes with the world.
    pub(crate) async fn image(&self, dockerfile: &str) -> String {
        let directory = self.context.scratch.join("base");
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("Dockerfile"), dockerfile).unwrap();
        let request = BuildRequest {
            dockerfile: directory.join("Dockerfile"),
            context: directory,
            labels: self.labels(),
            ..BuildRequest::default()
        };
        self.engine.build_image(&request, &|_| ()).await.unwrap()
    }

    /// Commits a container of this base with nothing done to it.
    pub(crate) async fn committed(&self, mut json: serde_json::Value) -> ImageInfo {
        json["commit"] = true.into();
        json["pull"] = false.into();
        let machine = self.launch(json).await.unwrap();
        let artifact = machine.seal(&self.context).await.unwrap();
        machine.destroy(&self.context).await.unwrap();
        self.engine.inspect_image(&artifact.id).await.unwrap().unwrap()
    }

    pub(crate) async fn containers(&self) -> Vec<String> {
        self.engine.find_containers(&self.labels()).await.unwrap()
    }

    pub(crate) async fn images(&self) -> Vec<String> {
        self.engine.find_images(&ImageFilter { labels: self.labels(), ..ImageFilter::default() }).await.unwrap()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let labels = self.labels();
        // A thread of its own: the test's runtime cannot be waited on from here.
        let cleaning = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let engine = connect();
                for id in engine.find_containers(&labels).await.unwrap() {
                    engine.remove_container(&id).await.unwrap();
                }
                let filter = ImageFilter { labels, ..ImageFilter::default() };
                // An image goes only after those made from it.
                for _ in 0..3 {
                    for id in engine.find_images(&filter).await.unwrap() {
                        let _ = engine.remove_image(&id, true).await;
                    }
                }
            });
        });
        cleaning.join().unwrap();
    }
}

pub(crate) fn path_text(path: &Path) -> String {
    path.display().to_string()
}
