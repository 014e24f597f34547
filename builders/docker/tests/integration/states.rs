//! Which states of containers are kept, that they are found again, and what images made from them are like.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use kiln_builder_docker::{DockerBuilderKind, DockerSettings, states};
use kiln_cache::{Store, StoreOptions};
use kiln_core::{Builder, BuilderKind, Command, Kept, Key, Launched, Machine, RunOptions, StateInfo, Terminal};
use kiln_docker::fake::FakeEngine;
use kiln_docker::{Engine, EngineError, ImageInfo};
use kiln_testkit::{Arguments, TestContext, context, prepare_context};
use serde_json::json;

use crate::support::{BASE, World, output};

fn builder(engine: Arc<dyn Engine>, json: serde_json::Value, store: &Path) -> Arc<dyn Builder> {
    let kind = DockerBuilderKind::new(DockerSettings { store: Some(store.to_owned()), ..DockerSettings::new(engine) });
    let (decoded, mut diagnostics) = Arguments::new(json).decode(kind.schema());
    let builder = kind.prepare(&decoded, &prepare_context(), &mut diagnostics);
    builder.unwrap_or_else(|| panic!("{diagnostics:?}"))
}

fn machine(launched: Launched) -> Box<dyn Machine> {
    match launched {
        Launched::Machine(machine) => machine,
        Launched::Artifact(_) => panic!("no machine"),
    }
}

fn key(number: u8) -> Key {
    Key::from_digest([number; 32])
}

fn info(seconds: u64, is_checkpoint: bool) -> StateInfo {
    StateInfo {
        parent: None,
        title: "shell: apt.sh".to_owned(),
        build: "docker.worker".to_owned(),
        took: Duration::from_secs(seconds),
        created: SystemTime::now(),
        used_secrets: false,
        is_checkpoint,
    }
}

/// A fake engine with a base image, and a builder of it.
struct Fake {
    engine: Arc<FakeEngine>,
    store: tempfile::TempDir,
    context: TestContext,
}

impl Fake {
    fn new() -> Fake {
        let engine = Arc::new(FakeEngine::new());
        engine.add_image("base");
        Fake { engine, store: tempfile::tempdir().unwrap(), context: context().build() }
    }

    fn builder(&self, json: serde_json::Value) -> Arc<dyn Builder> {
        let mut arguments = json!({ "image": "base", "pull": false, "commit": true });
        arguments.as_object_mut().unwrap().extend(json.as_object().unwrap().clone());
        builder(self.engine.clone(), arguments, &self.store.path().join("0"))
    }

    async fn launch(&self, json: serde_json::Value) -> Box<dyn Machine> {
        machine(self.builder(json).launch(&self.context).await.unwrap())
    }

    /// What keeping came to, on a new machine.
    async fn kept(&self, json: serde_json::Value, info: &StateInfo) -> Result<(), &'static str> {
        let machine = self.launch(json).await;
        let kept = machine.keep(&key(1), info, &self.context).await.unwrap();
        machine.destroy(&self.context).await.unwrap();
        match kept {
            Kept::Kept { .. } => Ok(()),
            Kept::NotWorth(reason) => Err(reason),
        }
    }
}

#[tokio::test]
async fn only_what_pays_is_kept_unless_the_template_asks() {
    let fake = Fake::new();
    assert_eq!(fake.kept(json!({}), &info(9, false)).await, Err("it took too little time"));
    assert_eq!(fake.kept(json!({}), &info(9, true)).await, Ok(()));
    assert_eq!(fake.kept(json!({}), &info(11, false)).await, Ok(()));
    fake.engine.set_container_size(500 << 20);
    let too_dear = "keeping it would take more than a fifth of the time that it took";
    assert_eq!(fake.kept(json!({}), &info(11, false)).await, Err(too_dear));
    assert_eq!(fake.kept(json!({}), &info(60, false)).await, Ok(()));
    fake.engine.set_processes(&["postgres"]);
    let runs = "a process of its still runs, which no image holds";
    assert_eq!(fake.kept(json!({}), &info(60, false)).await, Err(runs));
    assert_eq!(fake.kept(json!({}), &info(60, true)).await, Ok(()));
    fake.engine.set_processes(&[]);
    let secret = StateInfo { used_secrets: true, ..info(60, false) };
    assert_eq!(fake.kept(json!({}), &secret).await, Err("a secret was at hand"));
    let other = json!({ "run_command": ["-d", "base"] });
    assert_eq!(fake.kept(other, &info(60, true)).await, Err("`run_command` names an image of its own"));
    assert!(fake.context.journal.open().is_empty(), "states belong to nobody's run");
}

#[tokio::test]
async fn an_image_of_many_layers_gets_no_more() {
    let fake = Fake::new();
    let layers = (0..120).map(|number| format!("sha256:{number}")).collect();
    fake.engine.add_image_with("deep", ImageInfo { layers, ..ImageInfo::default() });
    let reason = fake.kept(json!({ "image": "deep" }), &info(60, false)).await;
    assert_eq!(reason, Err("its image would have too many layers"));
}

#[tokio::test]
async fn a_state_is_kept_though_old_ones_cannot_be_removed() {
    let fake = Fake::new();
    let error = EngineError::Refused { action: "list images".into(), message: "no".into(), status: Some(500) };
    fake.engine.fail_next("find_labelled", error);
    assert_eq!(fake.kept(json!({}), &info(60, false)).await, Ok(()));
}

#[tokio::test]
async fn what_a_build_found_is_not_removed_for_want_of_room() {
    for is_found in [false, true] {
        let fake = Fake::new();
        fake.engine.set_container_size(1000);
        assert_eq!(fake.kept(json!({}), &info(60, true)).await, Ok(()));
        let settings = DockerSettings {
            store: Some(fake.store.path().join("0")),
            states_size: Some(0),
            ..DockerSettings::new(fake.engine.clone())
        };
        let kind = DockerBuilderKind::new(settings);
        let arguments = json!({ "image": "base", "pull": false, "commit": true });
        let (decoded, mut diagnostics) = Arguments::new(arguments).decode(kind.schema());
        let builder = kind.prepare(&decoded, &prepare_context(), &mut diagnostics).unwrap();
        let snapshots = builder.snapshots().unwrap();
        if is_found {
            assert!(snapshots.find(&key(1)).await.unwrap().is_some());
        }
        let machine = machine(builder.launch(&fake.context).await.unwrap());
        machine.keep(&key(2), &info(60, true), &fake.context).await.unwrap();
        assert!(snapshots.find(&key(2)).await.unwrap().is_some());
        assert_eq!(snapshots.find(&key(1)).await.unwrap().is_some(), is_found);
    }
}

#[tokio::test]
async fn nothing_is_kept_after_a_step_that_failed() {
    let fake = Fake::new();
    let machine = fake.launch(json!({})).await;
    machine.leave_states();
    let kept = machine.keep(&key(1), &info(60, true), &fake.context).await.unwrap();
    assert_eq!(kept, Kept::NotWorth("a step before it failed"));
}

#[tokio::test]
async fn a_state_is_found_by_one_list_of_images_and_started_from() {
    let fake = Fake::new();
    let machine_of_base = fake.launch(json!({})).await;
    machine_of_base.keep(&key(1), &info(60, false), &fake.context).await.unwrap();
    machine_of_base.destroy(&fake.context).await.unwrap();
    let labels = fake.engine.commits()[0].config.labels.clone().unwrap();
    assert_eq!((labels["kiln.cache.key"].as_str(), labels["kiln.run"].as_str()), (key(1).as_str(), ""));
    let builder = fake.builder(json!({}));
    let snapshots = builder.snapshots().unwrap();
    let before = fake.engine.calls().len();
    snapshots.base(&fake.context).await.unwrap();
    assert_eq!(snapshots.find(&key(1)).await.unwrap().unwrap().title, "shell: apt.sh");
    assert_eq!(snapshots.find(&key(2)).await.unwrap(), None);
    assert_eq!(fake.engine.calls()[before..].iter().filter(|call| call.starts_with("find")).count(), 1);
    let restored = machine(snapshots.restore(&key(1), &fake.context).await.unwrap());
    let (container, spec) = fake.engine.containers().remove(0);
    let state = fake.engine.images().into_iter().find(|image| image.labels.contains_key("kiln.cache.key")).unwrap();
    assert_eq!(container.image, state.id);
    // What is made of it is not taken for the state.
    assert_eq!(spec.config.labels.unwrap()["kiln.cache.key"], "");
    restored.destroy(&fake.context).await.unwrap();
}

#[tokio::test]
async fn a_label_that_somebody_else_wrote_is_no_state() {
    let fake = Fake::new();
    let machine = fake.launch(json!({})).await;
    machine.keep(&key(1), &info(60, false), &fake.context).await.unwrap();
    let mut forged = fake.engine.images().pop().unwrap();
    forged.id = "sha256:f".to_owned();
    forged.labels.insert("kiln.cache.key".to_owned(), key(2).to_string());
    fake.engine.add_image_with("", forged);
    let builder = fake.builder(json!({}));
    assert!(builder.snapshots().unwrap().find(&key(2)).await.unwrap().is_none());
    assert!(builder.snapshots().unwrap().find(&key(1)).await.unwrap().is_some());
}

#[tokio::test]
async fn what_sealing_gave_is_given_again_as_long_as_it_is_there() {
    let fake = Fake::new();
    let machine = fake.launch(json!({ "changes": ["CMD [\"a\"]"] })).await;
    machine.keep(&key(1), &info(1, false), &fake.context).await.unwrap();
    let artifact = machine.seal(&fake.context).await.unwrap();
    let builder = fake.builder(json!({ "changes": ["CMD [\"a\"]"] }));
    let snapshots = builder.snapshots().unwrap();
    snapshots.base(&fake.context).await.unwrap();
    assert!(snapshots.is_sealed(&key(1)).await.unwrap());
    let sealed = snapshots.sealed(&key(1), &fake.context).await.unwrap().unwrap();
    assert_eq!((&sealed.artifact.id, &sealed.facts["ImageSha256"]), (&artifact.id, &artifact.id));
    assert!(!snapshots.is_sealed(&key(2)).await.unwrap());
    let other = fake.builder(json!({ "changes": ["CMD [\"b\"]"] }));
    other.snapshots().unwrap().base(&fake.context).await.unwrap();
    assert!(!other.snapshots().unwrap().is_sealed(&key(1)).await.unwrap(), "another image is asked for");
    fake.engine.remove_image(&artifact.id, true).await.unwrap();
    assert!(!snapshots.is_sealed(&key(1)).await.unwrap());
}

#[tokio::test]
async fn what_sealing_the_base_itself_gave_is_given_again() {
    let fake = Fake::new();
    let of_base = async |json: serde_json::Value| {
        let machine = fake.launch(json).await;
        machine.stands_at_base(&key(1));
        let artifact = machine.seal(&fake.context).await.unwrap();
        machine.destroy(&fake.context).await.unwrap();
        let builder = fake.builder(json!({}));
        builder.snapshots().unwrap().base(&fake.context).await.unwrap();
        let sealed = builder.snapshots().unwrap().sealed(&key(1), &fake.context).await.unwrap();
        (artifact.id, sealed.map(|sealed| sealed.artifact.id))
    };
    let (_, found) = of_base(json!({ "run_command": ["-d", "base"] })).await;
    assert_eq!(found, None, "`run_command` names an image of its own");
    let (made, found) = of_base(json!({})).await;
    assert_eq!(found, Some(made));
}

#[tokio::test]
async fn a_plan_pulls_nothing() {
    let fake = Fake::new();
    let digest = format!("sha256:{}", "d".repeat(64));
    let remote = ImageInfo { digests: vec![format!("base@{digest}")], ..ImageInfo::default() };
    fake.engine.add_remote_image("base", remote);
    let looking = context().options(RunOptions { looks_only: true, ..RunOptions::default() }).build();
    let builder = fake.builder(json!({ "pull": true }));
    let seen = builder.snapshots().unwrap().base(&looking).await.unwrap();
    assert!(fake.engine.changes().is_empty(), "{:?}", fake.engine.changes());
    // The base is another one now, and the build sees the same once it has pulled.
    let before = fake.builder(json!({ "pull": false })).snapshots().unwrap().base(&looking).await.unwrap();
    assert_ne!(seen[0].digest, before[0].digest);
    assert_eq!(seen[1..], before[1..]);
    builder.launch(&fake.context).await.unwrap();
    assert!(fake.engine.calls().iter().any(|call| call == "pull base"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_from_a_state_is_as_if_all_steps_had_run() {
    let Some(world) = World::new().await else { return };
    let store = tempfile::tempdir().unwrap();
    let json = json!({ "image": BASE, "commit": true, "pull": false, "changes": ["CMD [\"serve\"]"] });
    let first = builder(world.engine.clone(), json.clone(), &store.path().join("0"));
    let launched = machine(first.launch(&world.context).await.unwrap());
    output(
        &*launched,
        "echo only-in-a-kept-state >/root/key; mkdir /opt/a; echo 1 >/opt/a/x; ln /opt/a/x /opt/y; chmod 700 /mnt",
    )
    .await;
    launched.keep(&key(1), &info(1, true), &world.context).await.unwrap();
    let rest = "rm -r /root/key /opt/a /etc/motd; echo 2 >/opt/z; mkdir -p /usr/share/doc/new";
    output(&*launched, rest).await;
    let whole = launched.seal(&world.context).await.unwrap();
    launched.destroy(&world.context).await.unwrap();

    let second = builder(world.engine.clone(), json, &store.path().join("0"));
    let launched = machine(second.snapshots().unwrap().restore(&key(1), &world.context).await.unwrap());
    assert_eq!(output(&*launched, "cat /root/key; stat -c %a /mnt").await, "only-in-a-kept-state\n700");
    output(&*launched, rest).await;
    let restored = launched.seal(&world.context).await.unwrap();
    launched.destroy(&world.context).await.unwrap();

    let inspect = async |id: &str| world.engine.inspect_image(id).await.unwrap().unwrap();
    let (whole, restored) = (inspect(&whole.id).await, inspect(&restored.id).await);
    let base = inspect(BASE).await;
    assert_eq!(restored.layers.len(), base.layers.len() + 1);
    assert_eq!(restored.layers[..base.layers.len()], base.layers);
    assert_eq!((&restored.config, &restored.labels), (&whole.config, &whole.labels));
    assert!(!contains(&world, &restored.id, b"only-in-a-kept-state").await, "what was removed is in no layer");
    let mut files = Vec::new();
    for image in [&whole.id, &restored.id] {
        let json = json!({ "image": image, "discard": true, "pull": false, "run_command": ["-d", "-it", "--entrypoint=/bin/sh", "{{.Image}}"] });
        let looked = world.launch(json).await.unwrap();
        let list = "cd /; find . -xdev -not -path './proc*' -not -path './sys*' -not -path './dev*' \
                    -not -path './etc/host*' -not -path './etc/resolv.conf' -printf '%p %y %m %U:%G %n %s %l\\n' \
                    | grep -v '^. d\\|^./etc d\\|^./opt d' | sort";
        files.push(output(&*looked, list).await);
        looked.destroy(&world.context).await.unwrap();
    }
    assert_eq!(files[0], files[1]);

    let records = Store::open(&store.path().join("0"), &StoreOptions::default()).unwrap();
    let kept = states::list(&*world.engine, &records).await.unwrap();
    assert_eq!(kept.len(), 1);
    assert_eq!(states::remove(&*world.engine, kept).await.unwrap().len(), 1, "no image needs it");
}

/// Whether an image's archive has these bytes.
async fn contains(world: &World, image: &str, bytes: &[u8]) -> bool {
    let path = world.context.scratch.join("looked-at.tar");
    world.engine.save(&[image.to_owned()], &path).await.unwrap();
    let archive = std::fs::read(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    archive.windows(bytes.len()).any(|part| part == bytes)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_sits_in_a_container() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let Some(world) = World::new().await else { return };
    let machine = world.launch(json!({ "image": BASE, "discard": true, "pull": false })).await.unwrap();
    let (resize, size) = tokio::sync::watch::channel((101, 33));
    let ((mut keyboard, input), (output, mut screen)) = (tokio::io::duplex(64), tokio::io::duplex(64 * 1024));
    let terminal = Terminal { input: Box::new(input), output: Box::new(output), size };
    let typing = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        keyboard.write_all(b"stty size; echo $HOW\n").await.unwrap();
        tokio::time::sleep(Duration::from_millis(500)).await;
        resize.send((80, 25)).unwrap();
        tokio::time::sleep(Duration::from_millis(500)).await;
        keyboard.write_all(b"stty size; exit 7\n").await.unwrap();
        keyboard
    };
    let command = Command {
        environment: vec![("HOW".to_owned(), "on-a-terminal".to_owned())],
        pty: true,
        ..Command::new(["/bin/sh"])
    };
    let (status, _keyboard) = tokio::join!(machine.communicator().interact(&command, terminal), typing);
    assert_eq!(status.unwrap().code(), 7);
    let mut shown = String::new();
    screen.read_to_string(&mut shown).await.unwrap();
    for text in ["33 101", "on-a-terminal", "25 80"] {
        assert!(shown.contains(text), "{text}: {shown}");
    }
    machine.destroy(&world.context).await.unwrap();
}
