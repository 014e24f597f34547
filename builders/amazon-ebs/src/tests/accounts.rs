//! Undoing with other credentials than those that made things.

use kiln_core::{Failure, FailureClass, Undo, UndoOutcome, Undoer};
use serde_json::json;

use super::{Run, kind};
use crate::fake::{FakeCloud, HOME};

/// A run that died, with an AMI and its copy.
async fn died() -> (Run, Vec<Undo>) {
    let cloud = FakeCloud::new();
    let policy = json!({"Statement": [{"Effect": "Allow", "Action": ["s3:*"], "Resource": ["*"]}]});
    let run = Run::new(
        &cloud,
        json!({"ami_regions": ["us-east-1"], "temporary_iam_instance_profile_policy_document": policy}),
    );
    let machine = run.launch().await.unwrap();
    machine.seal(&run.context).await.unwrap();
    std::mem::forget(machine);
    let mut entries = run.context.journal.open();
    entries.reverse();
    assert_eq!(entries.len(), 6);
    (run, entries)
}

/// What `kiln cleanup` does in another process.
async fn clean_up(cloud: &std::sync::Arc<FakeCloud>, entries: &[Undo]) -> Vec<Result<UndoOutcome, Failure>> {
    let undoer = kind(cloud).undoer();
    let mut results = Vec::new();
    for entry in entries {
        results.push(undoer.undo(entry).await);
    }
    results
}

fn asked(cloud: &FakeCloud, action: &str) -> usize {
    cloud.calls().iter().filter(|call| *call == action).count()
}

fn without(entries: &[Undo], field: &str) -> Vec<Undo> {
    let mut entries = entries.to_vec();
    for entry in &mut entries {
        entry.data["place"]["maker"].as_object_mut().unwrap().remove(field);
    }
    entries
}

#[tokio::test]
async fn entries_tell_who_made_them() {
    let (run, entries) = died().await;
    for entry in &entries {
        let maker = json!({"key": "AKIAFIRST", "account": "111111111111"});
        assert_eq!(entry.data["place"]["maker"], maker, "{}", entry.kind);
    }
    assert_eq!(asked(&run.cloud, "GetCallerIdentity") + asked(&run.cloud, "GetAccessKeyInfo"), 0);
}

#[tokio::test]
async fn another_account_believes_nothing_to_be_gone() {
    let (run, entries) = died().await;
    let other = FakeCloud::new();
    other.ask_as("AKIASECOND", "222222222222");
    for result in clean_up(&other, &entries).await {
        let failure = result.unwrap_err();
        assert_eq!(failure.class, FailureClass::Environment);
        let text = "it was made in account 111111111111, and these credentials are of account 222222222222";
        assert_eq!(failure.to_string(), text);
        assert_eq!(failure.hints, ["use the credentials and the profile of the run that made it"]);
    }
    assert_eq!((asked(&other, "GetCallerIdentity"), asked(&other, "GetAccessKeyInfo")), (1, 0));
    assert!(!run.left().is_empty());
    // With the right ones all goes, and nothing else is asked.
    for result in clean_up(&run.cloud, &entries).await {
        assert_eq!(result.unwrap(), UndoOutcome::Removed);
    }
    assert_eq!(run.left(), Vec::<String>::new());
    // And is gone the next time.
    let mut entries = entries;
    entries.iter_mut().for_each(|entry| entry.data["at"] = json!(1));
    run.cloud.here(|region| region.instances.clear());
    for result in clean_up(&run.cloud, &entries).await {
        assert_eq!(result.unwrap(), UndoOutcome::AlreadyGone);
    }
    assert_eq!(asked(&run.cloud, "GetCallerIdentity"), 0);
}

#[tokio::test]
async fn another_key_of_the_same_account_is_believed() {
    let (run, mut entries) = died().await;
    entries.iter_mut().for_each(|entry| entry.data["at"] = json!(1));
    let same = FakeCloud::new();
    same.ask_as("ASIATHIRD", "111111111111");
    for result in clean_up(&same, &entries).await {
        assert_eq!(result.unwrap(), UndoOutcome::AlreadyGone);
    }
    assert_eq!(asked(&same, "GetCallerIdentity"), 1);
    drop(run);
}

#[tokio::test]
async fn where_no_account_is_known_things_that_are_found_tell() {
    let (run, entries) = died().await;
    let entries = without(&entries, "account");
    // Nothing is found, and the key's account is not told.
    let other = FakeCloud::new();
    other.ask_as("AKIASECOND", "222222222222");
    for result in clean_up(&other, &entries).await {
        let failure = result.unwrap_err();
        assert!(failure.to_string().contains("another account than access key AKIAFIRST"), "{failure}");
    }
    assert_eq!((asked(&other, "GetCallerIdentity"), asked(&other, "GetAccessKeyInfo")), (0, 1));
    // It is told.
    let other = FakeCloud::new();
    other.ask_as("AKIASECOND", "222222222222");
    other.tell_keys();
    for result in clean_up(&other, &entries).await {
        assert!(result.unwrap_err().to_string().starts_with("it was made in account 111111111111"));
    }
    assert_eq!((asked(&other, "GetCallerIdentity"), asked(&other, "GetAccessKeyInfo")), (1, 1));
    // A new key finds all but the group, which somebody removed.
    run.cloud.ask_as("ASIATHIRD", "111111111111");
    run.cloud.at(HOME, |region| {
        region.groups.clear();
        region.instances.values_mut().for_each(|instance| instance.security_groups.clear());
    });
    for (entry, result) in entries.iter().zip(clean_up(&run.cloud, &entries).await) {
        let is_group = entry.kind == "aws.security-group";
        let expected = if is_group { UndoOutcome::AlreadyGone } else { UndoOutcome::Removed };
        assert_eq!(result.unwrap(), expected, "{}", entry.kind);
    }
    assert_eq!(asked(&run.cloud, "GetCallerIdentity") + asked(&run.cloud, "GetAccessKeyInfo"), 0);
    assert_eq!(run.left(), Vec::<String>::new());
}

#[tokio::test]
async fn undoing_in_the_same_process_asks_nobody_although_keys_change() {
    let (run, entries) = died().await;
    run.cloud.ask_as("ASIATHIRD", "111111111111");
    let undoer = run.kind.undoer();
    for _ in 0..2 {
        for entry in &entries {
            undoer.undo(entry).await.unwrap();
        }
    }
    assert_eq!(run.left(), Vec::<String>::new());
    assert_eq!(asked(&run.cloud, "GetCallerIdentity") + asked(&run.cloud, "GetAccessKeyInfo"), 0);
}

#[tokio::test]
async fn journals_of_older_versions_are_undone_as_before() {
    let (_run, entries) = died().await;
    let entries = without(&without(&entries, "key"), "account");
    let other = FakeCloud::new();
    other.ask_as("AKIASECOND", "222222222222");
    for (entry, result) in entries.iter().zip(clean_up(&other, &entries).await) {
        match entry.kind.as_str() {
            "aws.instance" => assert!(result.unwrap_err().to_string().contains("is not shown")),
            _ => assert_eq!(result.unwrap(), UndoOutcome::AlreadyGone),
        }
    }
    assert_eq!(asked(&other, "GetCallerIdentity") + asked(&other, "GetAccessKeyInfo"), 0);
}
