//! Key pairs that kiln makes, and private keys that it is given.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kiln_core::Secret;
use ssh_key::private::{EcdsaKeypair, Ed25519Keypair, KeypairData, RsaKeypair};
use ssh_key::rand_core::OsRng;
use ssh_key::{EcdsaCurve, LineEnding, PrivateKey};

use crate::hostkey::HostKey;

/// What kind of key to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeyKind {
    /// Ed25519.
    #[default]
    Ed25519,
    /// On one of NIST's curves: 256, 384 or 521 bits.
    Ecdsa(u32),
    /// RSA of so many bits. Takes seconds to make: not for an async thread.
    Rsa(u32),
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// `temporary_key_pair_type` names a kind that is not made.
    #[error("no keys of the kind `{0}` are made; the kinds are `ed25519`, `ecdsa` and `rsa`")]
    Kind(String),
    /// `temporary_key_pair_bits` does not fit the kind.
    #[error("{kind} keys do not have {bits} bits; {fit}")]
    Bits {
        /// The kind.
        kind: &'static str,
        /// As asked for.
        bits: u32,
        /// What they have.
        fit: &'static str,
    },
    /// The file cannot be read.
    #[error("cannot read the private key {path}")]
    Read {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// It is no private key.
    #[error("this is not a private key that kiln can read")]
    NotAKey,
    /// It is a public key.
    #[error("this is a public key; the private one is needed")]
    Public,
    /// It is no certificate.
    #[error("this is not an OpenSSH certificate; one looks like `ssh-ed25519-cert-v01@openssh.com AAAA...`")]
    NotACertificate,
    /// The library refused.
    #[error("cannot make a key")]
    Make(#[source] ssh_key::Error),
}

impl KeyKind {
    /// From `temporary_key_pair_type` and `temporary_key_pair_bits`; ed25519 where nothing is said, and RSA where only bits
    /// are.
    ///
    /// # Errors
    /// No such kind, or not with these bits.
    pub fn from_options(kind: Option<&str>, bits: Option<u32>) -> Result<KeyKind, KeyError> {
        let bits = bits.filter(|bits| *bits != 0);
        match (kind.filter(|kind| !kind.is_empty()), bits) {
            (None, None) | (Some("ed25519"), _) => Ok(KeyKind::Ed25519),
            (None | Some("rsa"), bits) => match bits.unwrap_or(4096) {
                bits @ 2048..=16384 => Ok(KeyKind::Rsa(bits)),
                bits => Err(KeyError::Bits { kind: "RSA", bits, fit: "they have from 2048 to 16384" }),
            },
            (Some("ecdsa"), bits) => match bits.unwrap_or(521) {
                bits @ (256 | 384 | 521) => Ok(KeyKind::Ecdsa(bits)),
                bits => Err(KeyError::Bits { kind: "ECDSA", bits, fit: "they have 256, 384 or 521" }),
            },
            (Some(other), _) => Err(KeyError::Kind(other.to_owned())),
        }
    }
}

/// A private key with its public half.
#[derive(Debug, Clone)]
pub struct KeyPair {
    /// In OpenSSH's PEM form, without a passphrase.
    pub private: Secret,
    /// One line: `ssh-ed25519 AAAA... comment`.
    pub public: String,
}

impl KeyPair {
    /// The public half.
    pub fn key(&self) -> Option<HostKey> {
        HostKey::from_openssh(&self.public).ok()
    }
}

/// Makes a key pair.
///
/// # Errors
/// This host has no randomness.
pub fn generate(kind: KeyKind, comment: &str) -> Result<KeyPair, KeyError> {
    let data = match kind {
        KeyKind::Ed25519 => KeypairData::from(Ed25519Keypair::random(&mut OsRng)),
        KeyKind::Ecdsa(bits) => {
            let curve = match bits {
                256 => EcdsaCurve::NistP256,
                384 => EcdsaCurve::NistP384,
                _ => EcdsaCurve::NistP521,
            };
            KeypairData::from(EcdsaKeypair::random(&mut OsRng, curve).map_err(KeyError::Make)?)
        }
        KeyKind::Rsa(bits) => {
            let bits = usize::try_from(bits).unwrap_or(4096);
            KeypairData::from(RsaKeypair::random(&mut OsRng, bits).map_err(KeyError::Make)?)
        }
    };
    let private = PrivateKey::new(data, comment).map_err(KeyError::Make)?;
    let public = private.public_key().to_openssh().map_err(KeyError::Make)?;
    let text = private.to_openssh(LineEnding::LF).map_err(KeyError::Make)?;
    Ok(KeyPair { private: Secret::new(text.as_str()), public })
}

/// What a private key's text is, as far as that can be told without its passphrase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PrivateKeyInfo {
    /// Whether a passphrase is needed.
    pub is_encrypted: bool,
}

/// Looks at a private key in PEM form: OpenSSH's, PKCS#1, SEC1 or PKCS#8.
///
/// # Errors
/// It is none.
pub fn inspect(text: &str) -> Result<PrivateKeyInfo, KeyError> {
    let Some(begin) = text.lines().map(str::trim).find(|line| line.starts_with("-----BEGIN ")) else {
        return Err(if HostKey::from_openssh(text).is_ok() { KeyError::Public } else { KeyError::NotAKey });
    };
    match begin {
        "-----BEGIN OPENSSH PRIVATE KEY-----" => {
            let cipher = openssh_cipher(text).ok_or(KeyError::NotAKey)?;
            Ok(PrivateKeyInfo { is_encrypted: cipher != "none" })
        }
        "-----BEGIN ENCRYPTED PRIVATE KEY-----" => Ok(PrivateKeyInfo { is_encrypted: true }),
        "-----BEGIN RSA PRIVATE KEY-----"
        | "-----BEGIN EC PRIVATE KEY-----"
        | "-----BEGIN DSA PRIVATE KEY-----"
        | "-----BEGIN PRIVATE KEY-----" => {
            Ok(PrivateKeyInfo { is_encrypted: text.lines().any(|line| line.starts_with("Proc-Type: 4,ENCRYPTED")) })
        }
        line if line.contains("PUBLIC KEY") => Err(KeyError::Public),
        _ => Err(KeyError::NotAKey),
    }
}

/// What a key in OpenSSH's form is encrypted with. Looked up by hand, as a key that a library does not know may be known to
/// libssh2.
fn openssh_cipher(text: &str) -> Option<String> {
    let lines = text.lines().map(str::trim).skip_while(|line| !line.starts_with("-----BEGIN "));
    let encoded: String = lines.skip(1).take_while(|line| !line.starts_with("-----END ")).collect();
    let bytes = STANDARD.decode(encoded).ok()?;
    let rest = bytes.strip_prefix(b"openssh-key-v1\0")?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (name, _) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
    String::from_utf8(name.to_vec()).ok()
}

/// Checks the text of a user's certificate.
///
/// # Errors
/// It is none.
pub fn check_certificate(text: &str) -> Result<(), KeyError> {
    let key = HostKey::from_openssh(text).map_err(|_| KeyError::NotACertificate)?;
    if key.is_certificate() { Ok(()) } else { Err(KeyError::NotACertificate) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::test_support::keygen;

    #[test]
    fn options_choose_the_kind() {
        let kind = |kind, bits| KeyKind::from_options(kind, bits);
        assert_eq!(kind(None, None).unwrap(), KeyKind::Ed25519);
        assert_eq!(kind(Some(""), Some(0)).unwrap(), KeyKind::Ed25519);
        assert_eq!(kind(None, Some(3072)).unwrap(), KeyKind::Rsa(3072));
        assert_eq!(kind(Some("rsa"), None).unwrap(), KeyKind::Rsa(4096));
        assert_eq!(kind(Some("ecdsa"), None).unwrap(), KeyKind::Ecdsa(521));
        assert_eq!(kind(Some("ed25519"), Some(4096)).unwrap(), KeyKind::Ed25519);
        assert!(matches!(kind(Some("dsa"), None), Err(KeyError::Kind(_))));
        assert!(matches!(kind(Some("rsa"), Some(512)), Err(KeyError::Bits { .. })));
        assert!(matches!(kind(Some("ecdsa"), Some(512)), Err(KeyError::Bits { .. })));
    }

    /// What `ssh-keygen` makes of a private key: its public half. `None` where there is no `ssh-keygen`, which is said.
    fn read_by_openssh(pair: &KeyPair) -> Option<String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        std::fs::write(&path, pair.private.expose()).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        keygen(directory.path(), &["-yf", "key"]).map(|public| public.trim().to_owned())
    }

    #[test]
    fn keys_are_read_by_openssh() {
        let kinds = [KeyKind::Ed25519, KeyKind::Ecdsa(256), KeyKind::Ecdsa(384), KeyKind::Ecdsa(521)];
        // Numbers that begin with zeros are rare, and written in another way.
        for kind in kinds.iter().cycle().take(100).chain([&KeyKind::Rsa(2048)]) {
            let pair = generate(*kind, "a comment").unwrap();
            assert_eq!(inspect(pair.private.expose()).unwrap(), PrivateKeyInfo { is_encrypted: false });
            let Some(public) = read_by_openssh(&pair) else { return };
            assert_eq!(public.trim_end_matches(" a comment"), pair.public.trim_end_matches(" a comment"), "{kind:?}");
        }
    }

    #[test]
    fn what_is_no_private_key_is_told() {
        let pair = generate(KeyKind::Ed25519, "").unwrap();
        assert!(matches!(inspect(&pair.public), Err(KeyError::Public)));
        for text in ["", "junk", "-----BEGIN CERTIFICATE-----\n", "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n"] {
            assert!(matches!(inspect(text), Err(KeyError::NotAKey)), "{text}");
        }
        assert!(inspect("-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n").unwrap().is_encrypted);
        assert!(check_certificate(&pair.public).is_err());
    }
}
