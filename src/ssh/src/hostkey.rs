//! The key that a machine shows, and how people name it.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use md5::Md5;
use sha2::{Digest, Sha256};

use crate::certificate::{self, Certificate};

/// A public key of a machine, as it travels in the key exchange.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostKey {
    /// What the blob calls itself: `ssh-ed25519`, `ssh-rsa`, `ssh-ed25519-cert-v01@openssh.com`.
    pub algorithm: String,
    /// The key in SSH's binary form.
    pub blob: Vec<u8>,
}

/// A text that is no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyTextError {
    /// No `TYPE BASE64`.
    #[error("this is not a public key; one looks like `ssh-ed25519 AAAA...`")]
    NotAKey,
    /// The two halves do not fit.
    #[error("the key is said to be of type `{said}`, but is of type `{is}`")]
    OtherType {
        /// What stands in front of it.
        said: String,
        /// What the key itself says.
        is: String,
    },
}

impl HostKey {
    /// From the binary form; `None` where that does not begin with a name.
    pub fn from_blob(blob: impl Into<Vec<u8>>) -> Option<HostKey> {
        let blob = blob.into();
        let (name, rest) = blob_string(&blob)?;
        let algorithm = std::str::from_utf8(name).ok().filter(|name| is_name(name))?.to_owned();
        (!rest.is_empty()).then_some(HostKey { algorithm, blob })
    }

    /// From `TYPE BASE64 [comment]`.
    ///
    /// # Errors
    /// It is something else.
    pub fn from_openssh(text: &str) -> Result<HostKey, KeyTextError> {
        let mut words = text.split_ascii_whitespace();
        let (Some(said), Some(encoded)) = (words.next(), words.next()) else { return Err(KeyTextError::NotAKey) };
        let blob = STANDARD.decode(encoded).or_else(|_| STANDARD_NO_PAD.decode(encoded));
        let key = blob.ok().and_then(HostKey::from_blob).ok_or(KeyTextError::NotAKey)?;
        if key.algorithm != said {
            return Err(KeyTextError::OtherType { said: said.to_owned(), is: key.algorithm });
        }
        Ok(key)
    }

    /// `TYPE BASE64`, as in `known_hosts` and `authorized_keys`.
    pub fn to_openssh(&self) -> String {
        format!("{} {}", self.algorithm, STANDARD.encode(&self.blob))
    }

    /// `SHA256:...`, as `ssh-keygen -l` shows it. Of a certificate: that of the key in it.
    pub fn fingerprint_sha256(&self) -> String {
        format!("SHA256:{}", STANDARD_NO_PAD.encode(Sha256::digest(self.plain_blob())))
    }

    /// `MD5:ab:cd:...`, as `ssh-keygen -l -E md5` shows it. Of a certificate: that of the key in it.
    pub fn fingerprint_md5(&self) -> String {
        let digest = Md5::digest(self.plain_blob());
        let bytes: Vec<String> = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("MD5:{}", bytes.join(":"))
    }

    /// Whether it is a certificate, which an authority has signed.
    pub fn is_certificate(&self) -> bool {
        self.algorithm.ends_with(certificate::SUFFIX)
    }

    /// The kind of key, for people: `ED25519`, `ECDSA`, `RSA`.
    pub fn kind(&self) -> String {
        let name = self.algorithm.trim_end_matches(certificate::SUFFIX);
        let name = name.trim_start_matches("sk-").trim_start_matches("ssh-").trim_end_matches("@openssh.com");
        let name = if name.starts_with("ecdsa-") { "ecdsa" } else { name };
        let name = if name == "dss" { "dsa" } else { name };
        name.to_ascii_uppercase()
    }

    /// The key without what certifies it.
    fn plain_blob(&self) -> Vec<u8> {
        if !self.is_certificate() {
            return self.blob.clone();
        }
        let plain = Certificate::read(self).map(|certificate| certificate.key.blob);
        plain.unwrap_or_else(|| self.blob.clone())
    }
}

impl std::fmt::Display for HostKey {
    /// `SHA256:... (ED25519)`.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} ({})", self.fingerprint_sha256(), self.kind())
    }
}

/// The first string of SSH's binary form, and what is behind it.
fn blob_string(blob: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = blob.split_first_chunk::<4>()?;
    rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)
}

/// Whether it can be the name of an algorithm.
fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= 64 && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',')
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ somebody@somewhere";

    #[test]
    fn a_key_is_read_and_written() {
        let key = HostKey::from_openssh(KEY).unwrap();
        assert_eq!(format!("{} somebody@somewhere", key.to_openssh()), KEY);
        assert_eq!(key.kind(), "ED25519");
        assert!(!key.is_certificate());
    }

    #[test]
    fn what_is_no_key_is_told() {
        for text in ["", "ssh-ed25519", "ssh-ed25519 AAAA", "ssh-ed25519 ????", "SHA256:abc def"] {
            assert_eq!(HostKey::from_openssh(text), Err(KeyTextError::NotAKey), "{text}");
        }
        let other = KEY.replacen("ssh-ed25519", "ssh-rsa", 1);
        assert!(matches!(HostKey::from_openssh(&other), Err(KeyTextError::OtherType { .. })));
    }

    #[test]
    fn kinds_are_named_as_people_do() {
        let kind = |algorithm: &str| HostKey { algorithm: algorithm.to_owned(), blob: Vec::new() }.kind();
        assert_eq!(kind("ecdsa-sha2-nistp256"), "ECDSA");
        assert_eq!(kind("ssh-rsa"), "RSA");
        assert_eq!(kind("ssh-dss"), "DSA");
        assert_eq!(kind("sk-ssh-ed25519@openssh.com"), "ED25519");
        assert_eq!(kind("ssh-ed25519-cert-v01@openssh.com"), "ED25519");
    }
}
