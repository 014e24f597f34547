//! Every action that changes something, failing, losing its answer, or being the last before the user stops the build.

use serde_json::{Value, json};

use super::Run;
use crate::cloud::ErrorKind;
use crate::fake::{FakeCloud, Fault};

/// Sources that take different ways, and the actions of each.
fn ways() -> Vec<(Value, Vec<&'static str>)> {
    let policy = json!({"Statement": [{"Effect": "Allow", "Action": ["s3:*"], "Resource": ["*"]}]});
    vec![
        (
            json!({
                "ami_regions": ["us-east-1", "eu-west-1"],
                "ami_users": ["123456789012"],
                "temporary_iam_instance_profile_policy_document": policy,
                "launch_block_device_mappings": [{"device_name": "/dev/sdf", "volume_size": 8, "delete_on_termination": true}],
            }),
            vec![
                "ImportKeyPair",
                "CreateSecurityGroup",
                "AuthorizeSecurityGroupIngress",
                "CreateRole",
                "PutRolePolicy",
                "CreateInstanceProfile",
                "AddRoleToInstanceProfile",
                "RunInstances",
                "StopInstances",
                "CreateImage",
                "CopyImage",
                "ModifyImageAttribute",
            ],
        ),
        (json!({"spot_price": "0.1"}), vec!["CreateLaunchTemplate", "CreateFleet", "CreateImage"]),
        (json!({"encrypt_boot": true}), vec!["CreateImage", "CopyImage", "DeregisterImage"]),
    ]
}

fn kept(result: &Result<kiln_core::Artifact, kiln_core::Failure>) -> Vec<String> {
    let id = result.as_ref().map(|artifact| artifact.id.clone()).unwrap_or_default();
    id.split(',').filter_map(|part| part.split_once(':')).map(|(_, image)| image.to_owned()).collect()
}

#[tokio::test]
async fn an_action_that_fails_leaves_nothing() {
    for (more, actions) in ways() {
        for action in actions {
            let cloud = FakeCloud::new();
            cloud.fault(action, Fault::Fails(ErrorKind::Other, "InternalError", 1));
            let run = Run::new(&cloud, more.clone());
            let failure = run.build().await.expect_err(action);
            assert!(failure.chain().contains(action), "{action}: {}", failure.chain());
            assert_eq!(run.left(), Vec::<String>::new(), "{action}");
        }
    }
}

#[tokio::test]
async fn what_was_refused_is_not_looked_for() {
    for (more, actions) in ways() {
        for action in actions {
            // Those change what is there.
            if ["AuthorizeSecurityGroupIngress", "PutRolePolicy", "CreateInstanceProfile", "AddRoleToInstanceProfile"]
                .contains(&action)
                || ["StopInstances", "ModifyImageAttribute", "DeregisterImage"].contains(&action)
            {
                continue;
            }
            let cloud = FakeCloud::new();
            cloud.fault(action, Fault::Fails(ErrorKind::Unauthorized, "UnauthorizedOperation", 3));
            let run = Run::new(&cloud, more.clone());
            let machine = run.launch().await;
            if let Ok(machine) = &machine {
                assert!(machine.seal(&run.context).await.is_err(), "{action}");
            }
            let kind = match action {
                "ImportKeyPair" => "aws.key-pair",
                "CreateSecurityGroup" => "aws.security-group",
                "CreateRole" => "aws.instance-profile",
                "RunInstances" | "CreateFleet" => "aws.instance",
                "CreateLaunchTemplate" => "aws.launch-template",
                _ => "aws.image",
            };
            let open = run.context.journal.open();
            let left = open.iter().filter(|undo| undo.kind == kind).count();
            // The AMI that was to be copied is there.
            assert_eq!(left, usize::from(action == "CopyImage"), "{action}: {open:?}");
            run.undo().await;
            drop(machine);
            assert_eq!(run.left(), Vec::<String>::new(), "{action}");
        }
    }
}

#[tokio::test]
async fn a_lost_answer_is_made_good_or_leaves_nothing() {
    let made_good = [
        "ImportKeyPair",
        "CreateSecurityGroup",
        "RunInstances",
        "CreateImage",
        "CopyImage",
        "CreateLaunchTemplate",
        "CreateFleet",
        "StopInstances",
    ];
    for (more, actions) in ways() {
        for action in actions {
            let cloud = FakeCloud::new();
            cloud.fault(action, Fault::LosesAnswer);
            let run = Run::new(&cloud, more.clone());
            let result = run.build().await;
            assert!(
                result.is_ok() || !made_good.contains(&action),
                "{action}: {:?}",
                result.err().map(|failure| failure.chain())
            );
            let kept = kept(&result);
            assert_eq!(
                cloud.left(&kept.iter().map(String::as_str).collect::<Vec<_>>()),
                Vec::<String>::new(),
                "{action}"
            );
        }
    }
}

#[tokio::test]
async fn a_stop_after_an_action_leaves_nothing() {
    for (more, actions) in ways() {
        for action in actions {
            let cloud = FakeCloud::new();
            let run = Run::new(&cloud, more.clone());
            cloud.fault(action, Fault::Stops(run.context.cancel.clone()));
            let failure = run.build().await.expect_err(action);
            assert!(failure.is_cancelled(), "{action}: {}", failure.chain());
            assert_eq!(run.left(), Vec::<String>::new(), "{action}");
        }
    }
}

/// What `kiln cleanup` finds after the process died between a call and its answer: the journal of before the call.
#[tokio::test]
async fn what_a_killed_run_left_is_found_without_its_ids() {
    for (more, _) in ways() {
        let cloud = FakeCloud::new();
        let run = Run::new(&cloud, more);
        let machine = run.launch().await.unwrap();
        machine.seal(&run.context).await.unwrap();
        std::mem::forget(machine);
        let undoer = run.kind.undoer();
        for mut undo in run.context.journal.open().into_iter().rev() {
            undo.data.as_object_mut().unwrap().remove("id");
            kiln_core::Undoer::undo(&undoer, &undo).await.unwrap();
        }
        assert_eq!(run.left(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_profile_whose_role_is_out_already_is_removed() {
    let cloud = FakeCloud::new();
    let run = Run::new(&cloud, ways().remove(0).0);
    let machine = run.launch().await.unwrap();
    cloud.here(|region| region.profiles.values_mut().for_each(|role| *role = None));
    cloud.fault("RemoveRoleFromInstanceProfile", Fault::Fails(ErrorKind::Other, "ServiceFailure", 1));
    machine.destroy(&run.context).await.unwrap();
    assert_eq!(run.left(), Vec::<String>::new());
}

#[tokio::test]
async fn a_group_is_not_waited_for_while_an_instance_lives_in_it() {
    let cloud = FakeCloud::new();
    let run = Run::new(&cloud, json!({}));
    let machine = run.launch().await.unwrap();
    std::mem::forget(machine);
    let undoer = run.kind.undoer();
    let entries = run.context.journal.open();
    let group = entries.iter().find(|undo| undo.kind == "aws.security-group").unwrap();
    let failure = kiln_core::Undoer::undo(&undoer, group).await.unwrap_err();
    assert!(failure.chain().contains(", which instance i-"), "{}", failure.chain());
}

#[tokio::test]
async fn somebody_elses_key_pair_of_the_name_stays() {
    let cloud = FakeCloud::new();
    let other = kiln_ssh::keys::generate(kiln_ssh::KeyKind::Ed25519, "").unwrap();
    crate::cloud::Cloud::import_key_pair(&*cloud, "mine", &other.public, &Default::default()).await.unwrap();
    let run = Run::new(&cloud, json!({"temporary_key_pair_name": "mine"}));
    let Err(failure) = run.launch().await else { panic!("launched") };
    assert!(failure.to_string().contains("another key pair with the name mine"), "{failure}");
    for undo in run.context.journal.history() {
        kiln_core::Undoer::undo(&run.kind.undoer(), &undo).await.unwrap();
    }
    assert_eq!(run.left(), ["eu-central-1:mine"]);
}
