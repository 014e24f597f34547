//! Ways to log in.

use kiln_testkit::{FixedPrompt, SshAgent};

use super::*;

/// A key pair made by `ssh-keygen`, let in by the server.
fn key(sshd: &Sshd, name: &str, arguments: &[&str]) -> std::path::PathBuf {
    let path = sshd.file(name);
    let made = std::process::Command::new("ssh-keygen")
        .args(["-q", "-N", "", "-C", "", "-f"])
        .arg(&path)
        .args(arguments)
        .output();
    assert!(made.unwrap().status.success());
    sshd.authorize(&std::fs::read_to_string(path.with_extension("pub")).unwrap());
    path
}

#[tokio::test]
async fn keys_of_all_kinds_and_forms() {
    let Some(sshd) = Sshd::start() else { return };
    for (name, arguments) in [
        ("ed25519", &["-t", "ed25519"][..]),
        ("ecdsa256", &["-t", "ecdsa", "-b", "256"]),
        ("ecdsa521", &["-t", "ecdsa", "-b", "521"]),
        ("rsa", &["-t", "rsa", "-b", "2048"]),
        ("rsa-pem", &["-t", "rsa", "-b", "2048", "-m", "PEM"]),
        ("rsa-pkcs8", &["-t", "rsa", "-b", "2048", "-m", "PKCS8"]),
        ("ecdsa-pem", &["-t", "ecdsa", "-m", "PEM"]),
    ] {
        let path = key(&sshd, name, arguments);
        let context = context().build();
        let json = with(&sshd, json!({ "ssh_private_key_file": path }));
        let entered = enter(&json, &SshProcess::default(), &context).await;
        assert!(entered.is_ok(), "{name}: {}", entered.err().unwrap().chain());
    }
}

#[tokio::test]
async fn keys_that_kiln_makes() {
    let Some(sshd) = Sshd::start() else { return };
    for kind in [crate::KeyKind::Ed25519, crate::KeyKind::Ecdsa(384), crate::KeyKind::Ecdsa(521)] {
        let pair = crate::keys::generate(kind, "kiln").unwrap();
        sshd.authorize(&pair.public);
        let process = SshProcess::default();
        let options = options(&with(&sshd, json!({ "ssh_private_key_file": null })), &process);
        let endpoint = Endpoint { key: Some(pair.private), ..Endpoint::of_options(&options).unwrap() };
        let entered = establish(&options, &endpoint, &process, &context().build()).await;
        assert!(entered.is_ok(), "{kind:?}: {}", entered.err().unwrap().chain());
    }
}

#[tokio::test]
async fn a_key_as_text() {
    let Some(sshd) = Sshd::start() else { return };
    let text = std::fs::read_to_string(sshd.user_key()).unwrap();
    works(&with(&sshd, json!({ "ssh_private_key_file": null, "ssh_private_key": text }))).await;
}

#[tokio::test]
async fn a_passphrase_is_asked_for() {
    let Some(sshd) = Sshd::start() else { return };
    let path = key(&sshd, "locked", &["-t", "ed25519"]);
    let lock = std::process::Command::new("ssh-keygen")
        .args(["-q", "-p", "-P", "", "-N", "open sesame", "-f"])
        .arg(&path)
        .status();
    assert!(lock.unwrap().success());
    let json = with(&sshd, json!({ "ssh_private_key_file": path }));
    let context = context().prompt(FixedPrompt::answering(["open sesame"])).build();
    let (walker, _) =
        enter(&json, &SshProcess::default(), &context).await.unwrap_or_else(|failure| panic!("{}", failure.chain()));
    assert!(context.redactor.redact("open sesame").contains("<sensitive>"));
    let opened = walker.route.machine.identity.as_ref().unwrap().key.opened().unwrap();
    assert!(!crate::keys::inspect(opened.expose()).unwrap().is_encrypted);

    let context = kiln_testkit::context().prompt(FixedPrompt::answering(["open barley"])).build();
    let failure = enter(&json, &SshProcess::default(), &context).await.err().unwrap();
    assert!(failure.chain().contains("cannot use the private key"), "{}", failure.chain());

    let failure = fails(&json).await;
    assert!(failure.chain().ends_with("is protected by a passphrase, and nobody is there to type it"));
    assert_eq!(failure.hints, ["add the key to an agent, and set `ssh_agent_auth = true`"]);
}

#[tokio::test]
async fn a_certificate_for_the_key() {
    let Some(sshd) = Sshd::start() else { return };
    let authority = crate::keys::generate(crate::KeyKind::Ed25519, "").unwrap();
    let path = sshd.file("ca");
    std::fs::write(&path, authority.private.expose()).unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    sshd.authorize(&format!("cert-authority {}", authority.public));
    for kind in ["ed25519", "ecdsa", "rsa"] {
        let private = sshd.file(&format!("certified-{kind}"));
        let run = |arguments: &[&str], last: &std::path::Path| {
            let made = std::process::Command::new("ssh-keygen").arg("-q").args(arguments).arg(last).output().unwrap();
            assert!(made.status.success(), "{made:?}");
        };
        run(&["-t", kind, "-N", "", "-f"], &private);
        let json = with(&sshd, json!({ "ssh_private_key_file": private }));
        assert!(fails(&json).await.chain().contains("refused the login"));
        let sign = ["-s", path.to_str().unwrap(), "-I", "id", "-n", &sshd.user()];
        run(&sign, &private.with_extension("pub"));
        let certificate = sshd.file(&format!("certified-{kind}-cert.pub"));
        let json = with(&sshd, json!({ "ssh_private_key_file": private, "ssh_certificate_file": certificate }));
        let entered = enter(&json, &SshProcess::default(), &context().build()).await;
        assert!(entered.is_ok(), "{kind}: {}\n{}", entered.err().unwrap().chain(), sshd.log());
    }
}

/// An agent with the key of the server's user.
fn agent(sshd: &Sshd) -> (SshAgent, SshProcess) {
    let agent = SshAgent::start(&sshd.file("agent"), &sshd.user_key());
    let environment = [("SSH_AUTH_SOCK".to_owned(), agent.socket().display().to_string())].into();
    (agent, SshProcess { environment, ..SshProcess::default() })
}

#[tokio::test]
async fn the_keys_of_an_agent() {
    let Some(sshd) = Sshd::start() else { return };
    let (_agent, process) = agent(&sshd);
    let json = with(&sshd, json!({ "ssh_private_key_file": null, "ssh_agent_auth": true }));
    let entered = enter(&json, &process, &context().build()).await;
    assert!(entered.is_ok(), "{}", entered.err().unwrap().chain());
}

#[tokio::test]
async fn an_agent_that_is_gone_keeps_nobody_from_another_way_in() {
    let Some(sshd) = Sshd::builder().passwords().start() else { return };
    let (agent, process) = agent(&sshd);
    drop(agent);
    let json = json!({ "ssh_private_key_file": null, "ssh_agent_auth": true, "ssh_username": Sshd::ORDINARY_USER });
    let mut json = with(&sshd, json);
    let failure = enter(&json, &process, &context().build()).await.err().expect("it got in");
    let text = failure.chain();
    assert!(text.contains("the agent at ") && !text.contains("refused"), "{text}");
    json["ssh_password"] = json!(Sshd::PASSWORD);
    let entered = enter(&json, &process, &context().build()).await;
    assert!(entered.is_ok(), "{}", entered.err().unwrap().chain());
    json["ssh_password"] = json!("wrong");
    let text = enter(&json, &process, &context().build()).await.err().expect("it got in").chain();
    assert!(text.contains("tried the agent's keys (") && text.contains("), password"), "{text}");
}

#[tokio::test]
async fn passwords() {
    let Some(sshd) = Sshd::builder().passwords().start() else { return };
    let json = with(
        &sshd,
        json!({ "ssh_private_key_file": null, "ssh_password": Sshd::PASSWORD, "ssh_username": Sshd::ORDINARY_USER }),
    );
    works(&json).await;
    let mut wrong = json;
    wrong["ssh_password"] = json!("wrong");
    wrong["ssh_handshake_attempts"] = json!(2);
    let failure = fails(&wrong).await;
    let text = failure.chain();
    assert!(text.starts_with(&format!("cannot log in to 127.0.0.1:{} after 2 tries: ", sshd.port())), "{text}");
    assert!(text.contains("refused the login as `kilnuser`: tried password"), "{text}");
    assert!(!text.contains("wrong"), "{text}");
}

#[tokio::test]
async fn a_key_and_then_a_password() {
    let builder = Sshd::builder().passwords().option("AuthenticationMethods publickey,password");
    let Some(sshd) = builder.start() else { return };
    works(&with(&sshd, json!({ "ssh_password": Sshd::PASSWORD }))).await;
    let text = fails(&with(&sshd, json!({}))).await.chain();
    assert!(text.contains("(accepted, but not enough); it offers password"), "{text}");
}

#[tokio::test]
async fn what_was_tried_is_told() {
    let Some(sshd) = Sshd::start() else { return };
    let stranger = sshd.file("stranger");
    std::fs::write(&stranger, crate::keys::generate(crate::KeyKind::Ed25519, "").unwrap().private.expose()).unwrap();
    let text = fails(&with(&sshd, json!({ "ssh_private_key_file": stranger }))).await.chain();
    let expected =
        format!("refused the login as `{}`: tried key {}; it offers publickey", sshd.user(), stranger.display());
    assert!(text.contains(&expected), "{text}");
    let text = fails(&with(&sshd, json!({ "ssh_private_key_file": null, "ssh_password": "x" }))).await.chain();
    assert!(text.contains("tried nothing (there is password"), "{text}");
}

#[tokio::test]
async fn a_server_that_asks_in_its_own_words() {
    let builder = Sshd::builder().passwords();
    let builder =
        builder.option("PasswordAuthentication no").option("KbdInteractiveAuthentication yes").option("UsePAM yes");
    let Some(sshd) = builder.start() else { return };
    let user =
        json!({ "ssh_private_key_file": null, "ssh_username": Sshd::ORDINARY_USER, "ssh_password": Sshd::PASSWORD });
    works(&with(&sshd, user)).await;
}
