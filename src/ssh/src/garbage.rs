//! Texts of files and bytes of peers that are nearly right: no panic, whatever is done to them.

use std::path::Path;

use crate::certificate::Certificate;
use crate::config_file::{ConfigFile, Tokens, expand};
use crate::hostkey::HostKey;
use crate::keys::{KeyKind, generate, inspect};
use crate::known_hosts::{HostName, KnownHosts, line};
use crate::pin::Pin;
use crate::process::SshProcess;
use crate::tunnel::Tunnel;

const ROUNDS: usize = 10_000;
/// Each of these takes a signature's time.
const CERTIFICATES: usize = 1_000;

/// Numbers that are the same in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound.max(1) as u64) as usize
    }

    /// A few changes: bytes that mean something, pieces doubled, taken away, cut.
    fn change(&mut self, bytes: &[u8]) -> Vec<u8> {
        const TELLING: &[u8] = b"\0\xff\n \t\"'\\#=%${}[]:,|*?!@-1\xc3\xa9";
        let mut bytes = bytes.to_vec();
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len() + 1);
            let end = (at + self.below(12)).min(bytes.len());
            match self.below(5) {
                0 => bytes.insert(at, TELLING[self.below(TELLING.len())]),
                1 if at < bytes.len() => bytes[at] = TELLING[self.below(TELLING.len())],
                2 => drop(bytes.drain(at..end)),
                3 => bytes.extend_from_within(at..end),
                _ => bytes.truncate(end),
            }
        }
        bytes
    }
}

#[test]
fn files_that_are_nearly_right() {
    let pair = generate(KeyKind::Ed25519, "").unwrap();
    let key = pair.key().unwrap();
    let (name, process) = (HostName::new("web", 2222), SshProcess::default());
    let hosts = format!(
        "{}@cert-authority *.a,!b {}\n@revoked * x\n|1|AAAA|AAAA {}\n",
        line(&name, &key),
        pair.public,
        pair.public
    );
    let config = "Host a !b *c\n HostName %h.${X}\n ProxyJump a@b:1,[::1]:2\nMatch host \"x y\" !user z\n Port=22\n";
    let mut random = Random(0x6b69_6c6e);
    for _ in 0..ROUNDS {
        let mut known = KnownHosts::default();
        known.add(&String::from_utf8_lossy(&random.change(hosts.as_bytes())), Path::new("f"));
        let _ = (known.look_up(&name, &key), known.kinds(&name));
        let text = random.change(config.as_bytes());
        if let Ok(config) = ConfigFile::parse(&String::from_utf8_lossy(&text)) {
            let host = config.host("a", None, Some("z"));
            let tokens = Tokens { host: "h", name: "a", port: 1, user: "u", process: &process };
            let _ = host.host_name.map(|text| expand(&text, &tokens));
            let jumps = host.proxy_jump.unwrap_or_default();
            let _ = jumps.split(',').map(crate::address::parse_jump).count();
        }
        let private = random.change(pair.private.expose().as_bytes());
        let _ = inspect(&String::from_utf8_lossy(&private));
        for text in ["SHA256:AAAA", "MD5:00:11", &pair.public, "80:[::1]:22"] {
            let text = random.change(text.as_bytes());
            let text = String::from_utf8_lossy(&text);
            let _ = (text.parse::<Pin>().is_ok(), text.parse::<Tunnel>().is_ok());
        }
    }
}

#[test]
fn certificates_that_are_nearly_right_do_not_hold() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["ca", "host"] {
        let arguments = ["-q", "-t", "ed25519", "-N", "", "-f", name];
        let Some(_) = crate::test_support::keygen(directory.path(), &arguments) else { return };
    }
    let sign = ["-q", "-h", "-s", "ca", "-I", "id", "-n", "web", "host.pub"];
    let Some(_) = crate::test_support::keygen(directory.path(), &sign) else { return };
    let text = std::fs::read_to_string(directory.path().join("host-cert.pub")).unwrap();
    let good = HostKey::from_openssh(&text).unwrap();
    assert_eq!(Certificate::read(&good).unwrap().check_host("web", 1), Ok(()));
    let mut random = Random(0x6b69_6c6e);
    for _ in 0..CERTIFICATES {
        let changed = random.change(&good.blob);
        if changed == good.blob {
            continue;
        }
        let Some(key) = HostKey::from_blob(changed) else { continue };
        let _ = key.to_string();
        if let Some(certificate) = Certificate::read(&key) {
            assert_ne!(certificate.check_host("web", 1), Ok(()), "{}", key.to_openssh());
        }
    }
}
