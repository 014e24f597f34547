//! A key that a template pins: a fingerprint, or the whole of it.

use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use crate::hostkey::HostKey;

/// What a machine's key is compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Pin {
    /// `SHA256:...`, without padding.
    Sha256(String),
    /// `MD5:ab:...`, lower case.
    Md5(String),
    /// The key.
    Key(HostKey),
}

/// A text that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is neither a fingerprint (`SHA256:...`) nor a public key (`ssh-ed25519 AAAA...`)")]
pub(crate) struct PinError(String);

impl FromStr for Pin {
    type Err = PinError;

    fn from_str(text: &str) -> Result<Pin, PinError> {
        let text = text.trim();
        let wrong = || PinError(text.to_owned());
        if let Some(encoded) = text.strip_prefix("SHA256:") {
            let encoded = encoded.trim_end_matches('=');
            let is_digest = STANDARD_NO_PAD.decode(encoded).is_ok_and(|digest| digest.len() == 32);
            return is_digest.then(|| Pin::Sha256(format!("SHA256:{encoded}"))).ok_or_else(wrong);
        }
        let bytes: Vec<&str> = text.strip_prefix("MD5:").unwrap_or(text).split(':').collect();
        let is_byte = |byte: &&str| byte.len() == 2 && byte.bytes().all(|digit| digit.is_ascii_hexdigit());
        if bytes.len() == 16 && bytes.iter().all(is_byte) {
            return Ok(Pin::Md5(format!("MD5:{}", bytes.join(":").to_ascii_lowercase())));
        }
        // A line of `ssh-keyscan` or `known_hosts` has the host in front.
        let key = HostKey::from_openssh(text).or_else(|error| {
            text.split_once(char::is_whitespace).map_or(Err(error), |(_, key)| HostKey::from_openssh(key))
        });
        key.map(Pin::Key).map_err(|_| wrong())
    }
}

impl Pin {
    /// Whether this is the key.
    pub(crate) fn fits(&self, key: &HostKey) -> bool {
        match self {
            Pin::Sha256(fingerprint) => *fingerprint == key.fingerprint_sha256(),
            Pin::Md5(fingerprint) => *fingerprint == key.fingerprint_md5(),
            Pin::Key(pinned) => pinned == key,
        }
    }

    /// The kind of key, where that is known.
    pub(crate) fn kind(&self) -> Option<&str> {
        match self {
            Pin::Key(key) => Some(&key.algorithm),
            Pin::Sha256(_) | Pin::Md5(_) => None,
        }
    }

    /// For people: the fingerprint.
    pub(crate) fn shown(&self) -> String {
        match self {
            Pin::Sha256(fingerprint) | Pin::Md5(fingerprint) => fingerprint.clone(),
            Pin::Key(key) => key.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";

    #[test]
    fn every_form_fits_its_key() {
        let key = HostKey::from_openssh(KEY).unwrap();
        let md5 = key.fingerprint_md5();
        let forms = [
            KEY.to_owned(),
            format!("{KEY} comment"),
            format!("example.com {KEY}"),
            key.fingerprint_sha256(),
            format!("{}=", key.fingerprint_sha256()),
            md5.clone(),
            md5.trim_start_matches("MD5:").to_uppercase(),
        ];
        for form in forms {
            assert!(form.parse::<Pin>().unwrap().fits(&key), "{form}");
        }
        let other = crate::keys::generate(crate::keys::KeyKind::Ed25519, "").unwrap();
        assert!(!other.public.parse::<Pin>().unwrap().fits(&key));
    }

    #[test]
    fn anything_else_is_refused() {
        for text in ["", "SHA256:", "SHA256:abc", "MD5:00:11", "example.com", "ssh-ed25519", "aa:bb"] {
            assert!(text.parse::<Pin>().is_err(), "{text}");
        }
    }
}
