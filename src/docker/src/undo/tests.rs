use super::*;
use crate::engine::ContainerSpec;
use crate::fake::FakeEngine;

fn undoer(engine: &Arc<FakeEngine>) -> DockerUndoer {
    let engine = Arc::clone(engine);
    DockerUndoer::with(move |_| Ok(engine.clone()))
}

fn address() -> String {
    "fake://engine".to_owned()
}

/// Else what a killed run made would stay for ever.
#[tokio::test]
async fn every_entry_can_be_undone_by_a_later_run() {
    let undoer = undoer(&Arc::new(FakeEngine::new()));
    let file = FileUndo { path: "/nowhere/kiln".into(), ..FileUndo::default() };
    let entries = [
        ContainerUndo::default().entry(),
        NetworkUndo::default().entry(),
        ImageUndo::default().entry(),
        BaseUndo::default().entry(),
        TagUndo::default().entry(),
        LentNameUndo::default().entry(),
        file.entry(),
    ];
    for entry in &entries {
        assert!(undoer.kinds().contains(&entry.kind.as_str()), "{}", entry.kind);
        assert_eq!(undoer.undo(entry).await.unwrap(), UndoOutcome::AlreadyGone, "{}", entry.kind);
    }
    assert_eq!(entries.len(), undoer.kinds().len());
}

#[tokio::test]
async fn a_lent_name_goes_and_its_image_stays() {
    let engine = Arc::new(FakeEngine::new());
    let id = engine.add_image("kiln.local/lent:1");
    let entry =
        LentNameUndo { engine: address(), reference: "kiln.local/lent:1".into(), image: Some(id.clone()) }.entry();
    assert_eq!(undoer(&engine).undo(&entry).await.unwrap(), UndoOutcome::Removed);
    assert!(engine.inspect_image("kiln.local/lent:1").await.unwrap().is_none());
    assert!(engine.inspect_image(&id).await.unwrap().is_some());
    assert_eq!(engine.images().len(), 1, "what took the name over is still there");
    // An import under the name would take the image with it, in containerd's image store.
    assert!(!engine.calls().iter().any(|call| call.starts_with("import /dev/null kiln.local/lent:1 ")));
    assert_eq!(undoer(&engine).undo(&entry).await.unwrap(), UndoOutcome::AlreadyGone);
}

#[tokio::test]
async fn a_container_goes_once() {
    let engine = Arc::new(FakeEngine::new());
    engine.add_image("debian");
    let mut spec = ContainerSpec { name: "kiln-1".into(), ..ContainerSpec::default() };
    spec.config.image = Some("debian".into());
    engine.create_container(&spec).await.unwrap();
    let data = ContainerUndo {
        engine: address(),
        name: "kiln-1".into(),
        run: Some("r1".into()),
        at: seconds_since_epoch(),
        ..ContainerUndo::default()
    };
    assert_eq!(undoer(&engine).undo(&data.entry()).await.unwrap(), UndoOutcome::AlreadyGone, "not of this run");
    let entry = ContainerUndo { run: None, ..data }.entry();
    assert_eq!(entry.description, "container kiln-1");
    assert_eq!(undoer(&engine).undo(&entry).await.unwrap(), UndoOutcome::Removed);
    assert_eq!(undoer(&engine).undo(&entry).await.unwrap(), UndoOutcome::AlreadyGone);
}

#[tokio::test]
async fn an_image_goes_by_its_labels_and_never_by_nothing() {
    let engine = Arc::new(FakeEngine::new());
    let labels = BTreeMap::from([("kiln.run".to_owned(), "r1".to_owned())]);
    engine.add_image_with("", ImageInfo { labels: labels.clone(), ..ImageInfo::default() });
    let other = engine.add_image("other");
    let nothing = ImageUndo { engine: address(), ..ImageUndo::default() };
    assert_eq!(undoer(&engine).undo(&nothing.entry()).await.unwrap(), UndoOutcome::AlreadyGone);
    let entry = ImageUndo { labels, ..nothing }.entry();
    assert_eq!(undoer(&engine).undo(&entry).await.unwrap(), UndoOutcome::Removed);
    let left: Vec<String> = engine.images().into_iter().map(|image| image.id).collect();
    assert_eq!(left, [other]);
}

#[tokio::test]
async fn a_name_goes_back_to_whom_it_was_taken_from() {
    let engine = Arc::new(FakeEngine::new());
    let old = engine.add_image("app:1");
    let new = engine.add_image("scratch:1");
    engine.tag(&new, "app", "1").await.unwrap();
    let imported = engine.add_image("import:1");
    let undo = |reference: &str, previous: Option<&String>, image: &String| {
        let (previous, image) = (previous.cloned(), Some(image.clone()));
        TagUndo { engine: address(), reference: reference.into(), previous, image, ..TagUndo::default() }.entry()
    };
    let entry = undo("import:1", Some(&old), &imported);
    assert_eq!(undoer(&engine).undo(&entry).await.unwrap(), UndoOutcome::Removed);
    assert!(engine.inspect_image(&imported).await.unwrap().is_none(), "without names nobody finds it again");
    let entry = undo("app:1", Some(&old), &new);
    assert_eq!(undoer(&engine).undo(&entry).await.unwrap(), UndoOutcome::Removed);
    assert_eq!(engine.inspect_image("app:1").await.unwrap().unwrap().id, old);
    assert_eq!(undoer(&engine).undo(&entry).await.unwrap(), UndoOutcome::AlreadyGone);
    let entry = undo("scratch:1", None, &new);
    assert_eq!(undoer(&engine).undo(&entry).await.unwrap(), UndoOutcome::Removed);
    assert!(engine.inspect_image("scratch:1").await.unwrap().is_none());
}

#[tokio::test]
async fn a_name_that_went_to_another_image_since_stays_with_it() {
    let engine = Arc::new(FakeEngine::new());
    let old = engine.add_image("");
    let killed = engine.add_image("");
    let newer = engine.add_image_with("app:1", ImageInfo { created: Some(1000), ..ImageInfo::default() });
    let undo = TagUndo { engine: address(), reference: "app:1".into(), previous: Some(old), ..TagUndo::default() };
    for undo in [
        TagUndo { image: Some(killed), ..undo.clone() },
        TagUndo { created_since: Some(1001), ..undo.clone() },
        undo.clone(),
    ] {
        assert_eq!(undoer(&engine).undo(&undo.entry()).await.unwrap(), UndoOutcome::AlreadyGone);
        assert_eq!(engine.inspect_image("app:1").await.unwrap().unwrap().id, newer);
    }
    let before = serde_json::json!({ "engine": address(), "reference": "app:1", "previous": null });
    let entry = Undo { data: before, ..undo.entry() };
    assert_eq!(undoer(&engine).undo(&entry).await.unwrap(), UndoOutcome::AlreadyGone);
    let undo = TagUndo { created_since: Some(1000), ..undo };
    assert_eq!(undoer(&engine).undo(&undo.entry()).await.unwrap(), UndoOutcome::Removed);
    assert_ne!(engine.inspect_image("app:1").await.unwrap().unwrap().id, newer);
}

#[tokio::test]
async fn an_image_that_was_there_or_is_named_or_used_or_labelled_stays() {
    let engine = Arc::new(FakeEngine::new());
    let before = engine.add_image("");
    let named = engine.add_image("mine:1");
    let used = engine.add_image("");
    let labels = BTreeMap::from([("kiln.run".to_owned(), "other".to_owned())]);
    let other = engine.add_image_with("", ImageInfo { labels, ..ImageInfo::default() });
    engine.add_image("");
    let mut spec = ContainerSpec { name: "user".into(), ..ContainerSpec::default() };
    spec.config.image = Some(used.clone());
    engine.create_container(&spec).await.unwrap();
    let undo = ImageUndo {
        engine: address(),
        parent: Some("sha256:0".into()),
        comment: Some(String::new()),
        others: vec![before.clone()],
        ..ImageUndo::default()
    };
    assert_eq!(undoer(&engine).undo(&undo.entry()).await.unwrap(), UndoOutcome::Removed);
    let left: Vec<String> = engine.images().into_iter().map(|image| image.id).collect();
    assert_eq!(left, [before, named.clone(), used, other]);
    let undo = ImageUndo { id: Some(named), ..undo };
    assert_eq!(undoer(&engine).undo(&undo.entry()).await.unwrap(), UndoOutcome::AlreadyGone);
}

#[tokio::test]
async fn a_container_of_the_same_name_made_at_another_time_stays() {
    let engine = Arc::new(FakeEngine::new());
    engine.add_image("debian");
    let mut spec = ContainerSpec { name: "mine".into(), ..ContainerSpec::default() };
    spec.config.image = Some("debian".into());
    let id = engine.create_container(&spec).await.unwrap().id;
    engine.date_container("mine", 10_000);
    for at in [0, 10_000 - 301, 10_000 + 301] {
        let undo = ContainerUndo { engine: address(), name: "mine".into(), at, ..ContainerUndo::default() };
        assert_eq!(undoer(&engine).undo(&undo.entry()).await.unwrap(), UndoOutcome::AlreadyGone, "{at}");
        let undo = ContainerUndo { id: Some("another".into()), at: 10_000, ..undo };
        assert_eq!(undoer(&engine).undo(&undo.entry()).await.unwrap(), UndoOutcome::AlreadyGone, "{at}");
    }
    let undo = ContainerUndo { engine: address(), name: "x".into(), id: Some(id), ..ContainerUndo::default() };
    assert_eq!(undoer(&engine).undo(&undo.entry()).await.unwrap(), UndoOutcome::Removed);
}

#[tokio::test]
async fn a_finished_file_goes_only_if_it_is_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let (path, to) = (directory.path().join(".part"), directory.path().join("root.tar"));
    std::fs::write(&path, "one").unwrap();
    let finished = FinishedFile::new(&std::fs::metadata(&path).unwrap(), to.clone());
    let undo = FileUndo { path: path.clone(), finished: Some(finished) }.entry();
    let undoer = undoer(&Arc::new(FakeEngine::new()));
    std::fs::rename(&path, &to).unwrap();
    assert_eq!(undoer.undo(&undo).await.unwrap(), UndoOutcome::Removed);
    assert!(!to.exists());
    std::fs::write(&to, "other").unwrap();
    std::fs::write(&path, "one").unwrap();
    assert_eq!(undoer.undo(&undo).await.unwrap(), UndoOutcome::Removed);
    assert_eq!(undoer.undo(&undo).await.unwrap(), UndoOutcome::AlreadyGone);
    assert!(to.exists() && !path.exists());
}

#[tokio::test]
async fn of_a_base_goes_what_its_own_steps_made_and_nobody_named() {
    let engine = Arc::new(FakeEngine::new());
    let first = engine.add_image_with("", ImageInfo::default());
    let second = engine.add_image_with("", ImageInfo::default());
    let named = engine.add_image("mine:1");
    let images = vec![first.clone(), named.clone(), second.clone()];
    let steps = DockerfileSteps { images, ..DockerfileSteps::default() };
    let data = BaseUndo { engine: address(), steps, at: 0 };
    assert_eq!(undoer(&engine).undo(&data.entry()).await.unwrap(), UndoOutcome::Removed);
    let left: Vec<String> = engine.images().into_iter().map(|image| image.id).collect();
    assert_eq!(left, [named]);
    let removals: Vec<String> = engine.calls().into_iter().filter(|call| call.starts_with("remove")).collect();
    assert_eq!(removals, [format!("remove_image_alone {second}"), format!("remove_image_alone {first}")]);
    assert_eq!(undoer(&engine).undo(&data.entry()).await.unwrap(), UndoOutcome::AlreadyGone);
}

#[tokio::test(start_paused = true)]
async fn an_image_whose_commit_still_runs_is_waited_for() {
    let engine = Arc::new(FakeEngine::new());
    engine.add_image("debian");
    let mut spec = ContainerSpec { name: "kiln-1".into(), ..ContainerSpec::default() };
    spec.config.image = Some("debian".into());
    engine.create_container(&spec).await.unwrap();
    engine.pause("kiln-1", true);
    let labels = BTreeMap::from([("kiln.run".to_owned(), "r1".to_owned())]);
    let data = ImageUndo { labels: labels.clone(), container: Some("kiln-1".into()), ..ImageUndo::default() };
    let undoer = undoer(&engine);
    let commit = async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        engine.add_image_with("", ImageInfo { labels, ..ImageInfo::default() });
        engine.pause("kiln-1", false);
    };
    let entry = data.entry();
    let (undone, ()) = tokio::join!(undoer.undo(&entry), commit);
    assert_eq!(undone.unwrap(), UndoOutcome::Removed);
}

#[tokio::test(start_paused = true)]
async fn a_container_that_is_only_being_made_is_waited_for() {
    let engine = Arc::new(FakeEngine::new());
    engine.add_image("debian");
    let at = seconds_since_epoch();
    let data = ContainerUndo { engine: address(), name: "kiln-1".into(), at, ..ContainerUndo::default() };
    let undoer = undoer(&engine);
    let create = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let mut spec = ContainerSpec { name: "kiln-1".into(), ..ContainerSpec::default() };
        spec.config.image = Some("debian".into());
        engine.create_container(&spec).await.unwrap();
    };
    let entry = data.entry();
    let (undone, ()) = tokio::join!(undoer.undo(&entry), create);
    assert_eq!(undone.unwrap(), UndoOutcome::Removed);
}
