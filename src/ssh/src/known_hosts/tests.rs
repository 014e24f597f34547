//! Looking hosts up, with files that OpenSSH's tools wrote.

use std::path::Path;

use super::*;
use crate::keys::{KeyKind, generate};
use crate::test_support::keygen;

fn key() -> HostKey {
    generate(KeyKind::Ed25519, "").unwrap().key().unwrap()
}

fn known(text: &str) -> KnownHosts {
    let mut known = KnownHosts::default();
    known.add(text, Path::new("f"));
    known
}

fn host(host: &str) -> HostName {
    HostName::new(host, 22)
}

#[test]
fn names_patterns_and_ports() {
    let (one, two) = (key(), key());
    let known = known(&format!(
        "# a comment\n\na.example.com,10.0.0.1 {one} a comment\n[b.example.com]:2222 {two}\n*.org,!bad.org {one}\nnonsense\n\
         @future a.example.com {two}\n",
        one = one.to_openssh(),
        two = two.to_openssh(),
    ));
    assert_eq!(known.look_up(&host("a.example.com"), &one), Known::Yes("f:3".to_owned()));
    assert_eq!(known.look_up(&host("A.Example.COM."), &one), Known::Yes("f:3".to_owned()));
    assert_eq!(known.look_up(&host("10.0.0.1"), &one), Known::Yes("f:3".to_owned()));
    assert_eq!(known.look_up(&HostName::new("b.example.com", 2222), &two), Known::Yes("f:4".to_owned()));
    assert_eq!(known.look_up(&host("b.example.com"), &two), Known::No);
    assert_eq!(known.look_up(&host("good.org"), &one), Known::Yes("f:5".to_owned()));
    assert_eq!(known.look_up(&host("bad.org"), &one), Known::No);
    assert_eq!(known.look_up(&host("other.net"), &one), Known::No);
}

#[test]
fn another_key_shows_what_is_known() {
    let (one, two) = (key(), key());
    let known = known(&line(&host("a"), &one));
    assert_eq!(known.look_up(&host("a"), &two), Known::Other(vec![(one, "f:1".to_owned())]));
}

#[test]
fn at_another_port_the_usual_entry_proves_a_key_and_refuses_none() {
    let (one, two) = (key(), key());
    let known = known(&line(&host("a"), &one));
    let name = HostName::new("a", 2222);
    assert_eq!(known.look_up(&name, &one), Known::Yes("f:1".to_owned()));
    assert_eq!(known.look_up(&name, &two), Known::No);
    assert_eq!(known.kinds(&name), (vec!["ssh-ed25519".to_owned()], false));
}

#[test]
fn a_key_that_was_given_up_is_refused_wherever_else_it_stands() {
    let one = key();
    let known = known(&format!("{}@revoked * {}\n", line(&host("a"), &one), one.to_openssh()));
    assert_eq!(known.look_up(&host("a"), &one), Known::Revoked("f:2".to_owned()));
}

#[test]
fn hashed_names_are_found() {
    let directory = tempfile::tempdir().unwrap();
    let one = key();
    let file = directory.path().join("hosts");
    let text = line(&host("a.example.com"), &one) + &line(&HostName::new("b.example.com", 2222), &one);
    std::fs::write(&file, text).unwrap();
    let Some(_) = keygen(directory.path(), &["-q", "-H", "-f", "hosts"]) else { return };
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(!text.contains("example"), "{text}");
    let known = KnownHosts::read(&[file, directory.path().join("missing")]).unwrap();
    assert!(matches!(known.look_up(&host("a.example.com"), &one), Known::Yes(_)));
    assert!(matches!(known.look_up(&HostName::new("b.example.com", 2222), &one), Known::Yes(_)));
    assert_eq!(known.look_up(&host("c.example.com"), &one), Known::No);
}

/// A certificate made by `ssh-keygen` with these arguments, and the key of its authority.
fn certificate(arguments: &[&str]) -> Option<(HostKey, HostKey)> {
    let directory = tempfile::tempdir().unwrap();
    for (name, kind) in [("ca", KeyKind::Ecdsa(256)), ("host", KeyKind::Ed25519)] {
        let pair = generate(kind, "").unwrap();
        let private = directory.path().join(name);
        std::fs::write(&private, pair.private.expose()).unwrap();
        std::fs::set_permissions(&private, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        std::fs::write(private.with_extension("pub"), pair.public).unwrap();
    }
    keygen(directory.path(), &[&["-q", "-s", "ca", "-I", "id"], arguments, &["host.pub"]].concat())?;
    let read = |name| HostKey::from_openssh(&std::fs::read_to_string(directory.path().join(name)).unwrap()).unwrap();
    Some((read("host-cert.pub"), read("ca.pub")))
}

#[test]
fn a_certificate_counts_where_its_authority_is_known() {
    let Some((shown, authority)) = certificate(&["-h", "-n", "a.example.com"]) else { return };
    let known = known(&format!("@cert-authority *.example.com {}\n", authority.to_openssh()));
    assert_eq!(known.kinds(&host("a.example.com")), (vec![], true));
    assert_eq!(known.look_up(&host("a.example.com"), &shown), Known::Yes("f:1".to_owned()));
    assert_eq!(known.look_up(&HostName::new("a.example.com", 2222), &shown), Known::Yes("f:1".to_owned()));
    let why = "it is for a.example.com, not for b.example.com".to_owned();
    assert_eq!(known.look_up(&host("b.example.com"), &shown), Known::Certificate(why));
    assert_eq!(known.look_up(&host("a.example.org"), &shown), Known::No);
    let mut broken = shown.clone();
    let last = broken.blob.len() - 1;
    broken.blob[last] ^= 1;
    assert_ne!(known.look_up(&host("a.example.com"), &broken), Known::Yes("f:1".to_owned()));
}

#[test]
fn a_certificate_of_another_authority_does_not_count_but_its_key_may() {
    let Some((shown, _)) = certificate(&["-h", "-n", "a"]) else { return };
    let authority = format!("@cert-authority a {}\n", key().to_openssh());
    assert_eq!(known(&authority).look_up(&host("a"), &shown), Known::No);
    let plain = Certificate::read(&shown).unwrap().key;
    assert_eq!(known(&line(&host("a"), &plain)).look_up(&host("a"), &shown), Known::Yes("f:1".to_owned()));
    assert_eq!(plain.fingerprint_sha256(), shown.fingerprint_sha256());
}

#[test]
fn certificates_that_are_not_good_are_told() {
    for (arguments, why) in [
        (&["-n", "a"][..], "it is a user's certificate, not a host's"),
        (&["-h", "-n", "a", "-V", "20200101:20200102"], "it is not valid today"),
        (&["-h", "-n", "a", "-O", "critical:x=y"], "it demands `x`, which kiln does not know"),
    ] {
        let Some((shown, authority)) = certificate(arguments) else { return };
        let known = known(&format!("@cert-authority a {}\n", authority.to_openssh()));
        assert_eq!(known.look_up(&host("a"), &shown), Known::Certificate(why.to_owned()));
    }
    let Some((shown, authority)) = certificate(&["-h", "-n", "a"]) else { return };
    let text = format!("@cert-authority a {0}\n@revoked a {0}\n", authority.to_openssh());
    assert_eq!(known(&text).look_up(&host("a"), &shown), Known::Revoked("f:2".to_owned()));
}
