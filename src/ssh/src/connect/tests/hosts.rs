//! Host keys, waiting, giving up.

use std::time::Instant;

use super::*;

#[tokio::test]
async fn a_pinned_key_lets_through_and_another_shows_both_fingerprints() {
    let Some(sshd) = Sshd::start() else { return };
    let context = works(&with(&sshd, json!({}))).await;
    let host = format!("127.0.0.1:{}", sshd.port());
    let messages = context.reporter.messages();
    assert_eq!(messages, [format!("waiting for SSH on {host}"), format!("connected to {host} as `{}`", sshd.user())]);
    assert_eq!(context.reporter.warnings(), [""; 0]);

    let other = crate::keys::generate(crate::KeyKind::Ed25519, "").unwrap();
    let before = sshd.log();
    let failure = fails(&with(&sshd, json!({ "ssh_host_key": [other.public] }))).await;
    assert_eq!(failure.class, FailureClass::Environment);
    let text = failure.chain();
    assert!(text.contains(&sshd.host_fingerprint()), "{text}");
    assert!(text.contains(&other.key().unwrap().fingerprint_sha256()), "{text}");
    assert!(!sshd.log()[before.len()..].contains("Accepted"), "nothing may be sent to a stranger");
}

#[tokio::test]
async fn known_hosts_are_looked_at_by_default() {
    let Some(sshd) = Sshd::builder().host_key("rsa").host_key("ed25519").start() else { return };
    // Only its RSA key is known, so that is what it is asked for.
    let line = format!("[127.0.0.1]:{} {}\n", sshd.port(), sshd.host_key());
    let (_home, process) = home(&[("known_hosts", &line)]);
    let context = context().build();
    let json = with(&sshd, json!({ "ssh_host_key": null }));
    let (_walker, arrived) = enter(&json, &process, &context).await.unwrap();
    assert_eq!(arrived.session.host_key().algorithm, "ssh-rsa");
    assert!(
        matches!(&arrived.key, crate::trust::Said::Checked(how) if how.starts_with("known by ")),
        "{:?}",
        arrived.key
    );

    let failure = fails(&json).await;
    assert!(failure.chain().contains("is not known; it shows SHA256:"), "{}", failure.chain());
    assert_eq!(failure.hints.len(), 2);
}

#[tokio::test]
async fn any_key_is_taken_where_that_is_asked_for_and_said() {
    let Some(sshd) = Sshd::start() else { return };
    let context = works(&with(&sshd, json!({ "ssh_host_key": null, "ssh_accept_any_host_key": true }))).await;
    let expected =
        format!("the host key of 127.0.0.1:{} is not checked: {} (ED25519)", sshd.port(), sshd.host_fingerprint());
    assert_eq!(context.reporter.warnings(), [expected]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_comes_up_later_is_waited_for() {
    let Some(mut sshd) = Sshd::start() else { return };
    sshd.stop();
    let json = with(&sshd, json!({}));
    let context = context().build();
    let process = SshProcess::default();
    let started = Instant::now();
    let (entered, ()) = tokio::join!(enter(&json, &process, &context), async {
        tokio::time::sleep(Duration::from_millis(1500)).await;
        tokio::task::block_in_place(|| sshd.start_again());
    });
    entered.unwrap();
    assert!(started.elapsed() < Duration::from_secs(15));
    let messages = context.reporter.messages();
    let not_yet = format!("not yet: 127.0.0.1:{}: connection refused", sshd.port());
    assert_eq!(messages.iter().filter(|message| **message == not_yet).count(), 1, "{messages:?}");
}

#[tokio::test]
async fn patience_ends() {
    let Some(mut sshd) = Sshd::start() else { return };
    sshd.stop();
    let json = with(&sshd, json!({ "ssh_timeout": "1s" }));
    let failure = fails(&json).await;
    let host = format!("127.0.0.1:{}", sshd.port());
    assert_eq!(failure.chain(), format!("cannot log in to {host} within 1.0s: {host}: connection refused"));

    // One that takes connections and says nothing.
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let started = Instant::now();
    let failure = fails(&with(&sshd, json!({ "ssh_timeout": "1s", "ssh_port": port }))).await;
    assert!(failure.chain().contains("within 1.0s"), "{}", failure.chain());
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn cancelling_ends_the_wait() {
    let Some(mut sshd) = Sshd::start() else { return };
    sshd.stop();
    let context = context().build();
    context.cancel.cancel();
    let failure = enter(&with(&sshd, json!({})), &SshProcess::default(), &context).await.err().unwrap();
    assert!(failure.is_cancelled());
}

#[tokio::test]
async fn a_machine_taken_at_first_sight_has_to_stay_the_same() {
    let Some(mut sshd) = Sshd::start() else { return };
    let process = SshProcess::default();
    let options = options(&with(&sshd, json!({ "ssh_host_key": null })), &process);
    let mut endpoint = Endpoint::of_options(&options).unwrap();
    endpoint.host_keys = Some(HostKeyPolicy::FirstUse);
    let context = context().build();
    let (walker, arrived) = establish(&options, &endpoint, &process, &context).await.unwrap();
    assert!(context.reporter.warnings()[0].contains("taken as it is, and kept for this build"));
    arrived.session.close().await;
    walker.walk().await.unwrap();
    sshd.stop();
    sshd.new_host_keys();
    sshd.start_again();
    let error = walker.walk().await.err().unwrap();
    assert!(error.to_string().contains("it showed SHA256:"), "{error}");
    assert!(!error.may_pass());
}

#[tokio::test]
async fn pausing_before_connecting_connects_twice() {
    let Some(sshd) = Sshd::start() else { return };
    works(&with(&sshd, json!({ "pause_before_connecting": "100ms" }))).await;
    assert_eq!(sshd.log().matches("Accepted publickey").count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_counts_where_its_authority_is_known() {
    let directory = tempfile::tempdir().unwrap();
    let certificate = directory.path().join("host-cert.pub");
    let option = format!("HostCertificate {}", certificate.display());
    let Some(mut sshd) = Sshd::builder().option(&option).start() else { return };
    // Its key is there only now; the certificate counts from the next start on.
    let authority = crate::keys::generate(crate::KeyKind::Ed25519, "").unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        path
    };
    let (ca, public) = (file("ca", authority.private.expose()), file("host.pub", &sshd.host_key()));
    let mut sign = std::process::Command::new("ssh-keygen");
    sign.args(["-q", "-h", "-I", "id", "-n", "127.0.0.1", "-s"]).args([&ca, &public]);
    assert!(sign.status().unwrap().success());
    sshd.stop();
    sshd.start_again();

    let known = file("known_hosts", &format!("@cert-authority [127.0.0.1]:* {}\n", authority.public));
    let json = with(&sshd, json!({ "ssh_host_key": null, "ssh_known_hosts_file": known }));
    let context = context().build();
    let (walker, arrived) = enter(&json, &SshProcess::default(), &context).await.unwrap();
    assert!(arrived.session.host_key().is_certificate());
    let access = crate::communicator::Connector::access(&walker).await.unwrap().unwrap();
    assert!(std::fs::read_to_string(access.known_hosts).unwrap().starts_with("@cert-authority [127.0.0.1]:"));
    // Who knows the key alone is shown the key alone.
    works(&with(&sshd, json!({}))).await;
}

/// Refuses at first, and then says that the console agrees.
struct Judge(std::sync::atomic::AtomicUsize, String);

#[async_trait::async_trait]
impl crate::HostKeyJudge for Judge {
    async fn judge(&self, key: &crate::HostKey) -> crate::Verdict {
        match self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
            0 => crate::Verdict::NotYet("the console shows nothing".to_owned()),
            _ if key.to_openssh() == self.1 => crate::Verdict::Accepted(Some("the console agrees".to_owned())),
            _ => crate::Verdict::Refused(vec![self.1.clone()]),
        }
    }
}

#[tokio::test]
async fn a_judge_may_take_its_time_and_is_asked_once() {
    let Some(sshd) = Sshd::start() else { return };
    let process = SshProcess::default();
    let options = options(&with(&sshd, json!({ "ssh_host_key": null })), &process);
    let judge = |key: String| Endpoint {
        host_keys: Some(HostKeyPolicy::Judged(Arc::new(Judge(0.into(), key)))),
        ..Endpoint::of_options(&options).unwrap()
    };
    let context = context().build();
    let (walker, arrived) = establish(&options, &judge(sshd.host_key()), &process, &context).await.unwrap();
    assert!(context.reporter.messages().contains(&"the console agrees".to_owned()));
    arrived.session.close().await;
    assert!(matches!(walker.walk().await.unwrap().key, crate::trust::Said::Checked(_)));

    let other = crate::keys::generate(crate::KeyKind::Ed25519, "").unwrap().key().unwrap();
    let failure = establish(&options, &judge(other.to_openssh()), &process, &context).await.err().unwrap();
    assert!(failure.chain().contains(&other.fingerprint_sha256()), "{}", failure.chain());
}
