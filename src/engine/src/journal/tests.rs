use std::os::unix::fs::PermissionsExt;

use super::*;

fn undo(name: &str) -> Undo {
    Undo { kind: "fake.thing".into(), data: serde_json::json!({ "name": name }), description: name.into() }
}

fn create(directory: &Path) -> FileJournal {
    FileJournal::create(directory, &RunHeader::new("run-1", "a.pkr.hcl", Path::new("/tmp/kiln-run-1"))).unwrap()
}

fn names(journal: &FileJournal) -> Vec<String> {
    journal.open_entries(None).into_iter().map(|entry| entry.undo.description).collect()
}

#[test]
fn every_call_is_a_line_on_disk_and_survives_the_process() {
    let directory = tempfile::tempdir().unwrap();
    let journal = create(directory.path());
    let one = journal.record("a", undo("one")).unwrap();
    let two = journal.record("a", undo("two")).unwrap();
    journal.record("b", undo("three")).unwrap();
    journal.record("b", undo("four")).unwrap();
    journal.amend(two, undo("two, with its id")).unwrap();
    journal.strike(one).unwrap();
    journal.hand_over("b").unwrap();
    let path = journal.path().to_owned();
    assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 8);
    drop(journal);
    let Adopted::Dead(header, journal) = FileJournal::adopt(&path, false).unwrap() else { panic!("it is dead") };
    assert_eq!((header.run.as_str(), header.pid), ("run-1", std::process::id()));
    assert_eq!(names(&journal), ["two, with its id"]);
    // Ids go on, so that an old strike cannot hit a new entry.
    assert!(journal.record("a", undo("five")).unwrap() > EntryId(4));
}

#[test]
fn what_was_released_is_the_users() {
    let directory = tempfile::tempdir().unwrap();
    let journal = create(directory.path());
    let entries = ["one", "two", "three"].map(|name| journal.record("a", undo(name)).unwrap());
    journal.release(&[entries[0], entries[2], EntryId(99)]).unwrap();
    assert_eq!(names(&journal), ["two"]);
    let path = journal.path().to_owned();
    drop(journal);
    let Adopted::Dead(_, journal) = FileJournal::adopt(&path, false).unwrap() else { panic!("it is dead") };
    assert_eq!(names(&journal), ["two"]);
}

#[test]
fn only_its_owner_can_read_it() {
    let directory = tempfile::tempdir().unwrap();
    let state_dir = directory.path().join("state");
    let journal = create(&state_dir);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(journal.path()), 0o600);
    assert_eq!(mode(&runs_directory(&state_dir)), 0o700);
    assert_eq!(mode(&state_dir), 0o700);
}

#[test]
fn entries_come_the_latest_first_and_by_build() {
    let directory = tempfile::tempdir().unwrap();
    let journal = create(directory.path());
    for (build, name) in [("a", "one"), ("b", "two"), ("a", "three")] {
        journal.record(build, undo(name)).unwrap();
    }
    assert_eq!(names(&journal), ["three", "two", "one"]);
    assert_eq!(journal.open_entries(Some("a")).len(), 2);
}

#[test]
fn it_goes_when_nothing_is_open_and_takes_nothing_after() {
    let directory = tempfile::tempdir().unwrap();
    let journal = create(directory.path());
    let entry = journal.record("a", undo("one")).unwrap();
    assert!(!journal.close().unwrap());
    journal.strike(entry).unwrap();
    assert!(journal.close().unwrap());
    assert!(!journal.path().exists());
    assert!(journal.record("a", undo("two")).is_err());
}

#[test]
fn striking_twice_or_what_was_never_there_is_fine() {
    let directory = tempfile::tempdir().unwrap();
    let journal = create(directory.path());
    let entry = journal.record("a", undo("one")).unwrap();
    for entry in [entry, entry, EntryId(99)] {
        journal.strike(entry).unwrap();
        journal.amend(entry, undo("x")).unwrap();
    }
    journal.hand_over("nobody").unwrap();
    assert!(names(&journal).is_empty());
}

#[test]
fn a_run_of_the_same_id_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let _living = create(directory.path());
    let header = RunHeader::new("run-1", "b", Path::new("/tmp/x"));
    assert!(matches!(FileJournal::create(directory.path(), &header), Err(JournalError::Io { .. })));
}

#[test]
fn a_look_writes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let journal = create(directory.path());
    journal.record("a", undo("one")).unwrap();
    let path = journal.path().to_owned();
    drop(journal);
    let torn = std::fs::read_to_string(&path).unwrap() + "{\"record\":\"und";
    std::fs::write(&path, &torn).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o400)).unwrap();
    let Adopted::Dead(_, looking) = FileJournal::adopt(&path, true).unwrap() else { panic!("it is dead") };
    assert_eq!(names(&looking), ["one"]);
    assert!(matches!(FileJournal::adopt(&path, true).unwrap(), Adopted::Dead(..)), "two may look at a time");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), torn);
}
